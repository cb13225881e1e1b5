"""`llmgate serve`: configuration, plugins, sockets, signals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TextIO

import click

from . import EXIT_FAILED, EXIT_UNSAFE, EXIT_USAGE, StartRefused, configuration
from .plugin_flags import PluginFlagsCommand, refuse_unknown
from .signals import Told, end_within, say

if TYPE_CHECKING:
    from ..app import Gateway
    from ..config import GatewayConfig
    from ..gateways import Gateways
    from ..plugins import PluginSet
    from .reload import Read


SERVES = "llmgate.serves"
"""Key in click's memory: whether the gateway listens, so that nothing of ours ends the loop."""
EXIT_SECONDS = 5.0
"""What the interpreter may take to end when all is closed."""


@click.command("serve", cls=PluginFlagsCommand, context_settings=PluginFlagsCommand.SETTINGS)
@configuration.options
@configuration.serving_options
@click.option(
    "--demo", is_flag=True, envvar="LLMGATE_DEMO", show_envvar=True, help="No account, no network: plugins' simulators."
)
@click.pass_context
def command(ctx: click.Context, /, **flags: Any) -> None:
    """Run the gateway."""
    try:
        run(serve(ctx, flags))
    except (KeyboardInterrupt, SystemExit, RuntimeError) as error:
        if ctx.meta.get(SERVES):
            from ..plugins import place

            what = f"the event loop was ended by `{type(error).__name__}`{place(error)}"
            say(f"{what}; code of a plugin must not do that, a callback neither")
            ctx.exit(EXIT_FAILED)
        if not isinstance(error, KeyboardInterrupt):
            raise
    finally:
        for stream in (sys.stdout, sys.stderr):
            let_go(stream)


def let_go(stream: TextIO) -> None:
    """What nobody reads is not written again when the interpreter ends: that would make a failure of a clean exit."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


async def serve(ctx: click.Context, flags: Mapping[str, Any]) -> None:
    """From flags to the end of the last request."""
    from ..observe import Redactor, configure
    from ..ownership import watch_tasks

    watch_tasks(asyncio.get_running_loop())
    told = Told()
    told.heed_hang_up()  # before all else: it would end the process
    redactor = Redactor()
    async with demo_or_configured(ctx, flags) as (config, plugins, notes):
        configure(config.logging.level, config.logging.format, redactor)
        threading.excepthook = log_of_threads
        from ..app import create_app
        from ..gateways import Gateways
        from .reload import reader

        gateways = Gateways(create_app(config, plugins=plugins, redactor=redactor))
        read = None if flags["demo"] else reader(ctx, flags)
        try:
            refuse_unsafe(config)
            listener = listen(config.server.host, config.server.port)
            ctx.meta[SERVES] = True
            told.grace = lambda: gateways.current.config.server.shutdown_grace_seconds
            await serve_until_told(gateways, listener, notes, told, read)
        finally:
            await gateways.aclose()
    ctx.meta[SERVES] = False
    end_within(EXIT_SECONDS)


def log_of_threads(raised: threading.ExceptHookArgs) -> None:
    """What a thread raises goes to the log, where secrets are struck out, and not to the terminal as it is."""
    name = raised.thread.name if raised.thread else "that is gone"
    told = (raised.exc_type, raised.exc_value or raised.exc_type(), raised.exc_traceback)
    logging.getLogger("llmgate.server").error("thread %s raised", name, exc_info=told)


@asynccontextmanager
async def demo_or_configured(
    ctx: click.Context, flags: Mapping[str, Any]
) -> AsyncIterator[tuple[GatewayConfig, PluginSet, Sequence[Any]]]:
    """The configuration, its plugins, and what a demo wants to tell."""
    if flags["demo"]:
        from .demo import simulated

        async with simulated(ctx, flags) as found:
            refuse_unknown(ctx, {})
            yield found
        return
    prepared = configuration.prepare_to_serve(ctx, flags)
    yield prepared.config, prepared.plugins, ()


# --- listening --------------------------------------------------------------------------------------------------------


async def serve_until_told(
    gateways: Gateways, listener: socket.socket, notes: Sequence[str], told: Told, read: Read | None
) -> None:
    """Serves until SIGTERM or Ctrl-C; running requests get the grace period; a second signal ends at once.

    Args:
        read: what SIGHUP makes anew; None for a demo.
    """
    from ..server import Server
    from ..stalls import watched
    from .reload import reload_when_asked

    address = listener.getsockname()
    told.heed_stop()  # before anybody reads that we listen: who reads it may tell us to stop
    server = Server(gateways, logging.getLogger("llmgate.server"), gateways.refused)
    await server.start(listener)
    # Nobody reads it: no reason not to serve. Rich would end the program.
    with contextlib.suppress(OSError, SystemExit):
        announce(gateways.current, address, notes)
    with watched():
        reloading = asyncio.create_task(reload_when_asked(told.reload, gateways, read))
        await told.stop.wait()
        reloading.cancel()
        await server.aclose(gateways.current.config.server.shutdown_grace_seconds, gateways.interrupt)


def is_unsafe(config: GatewayConfig) -> bool:
    """Whether everybody who can reach the gateway could use it, and not only from this machine."""
    from ..frontends.access import is_loopback

    return not config.auth.callers() and not is_loopback(config.server.host)


def refuse_unsafe(config: GatewayConfig) -> None:
    """Raises StartRefused (status 3) for a gateway that everybody could use."""
    if is_unsafe(config):
        raise StartRefused(
            f"refusing to listen on {config.server.host} without keys: anybody who reaches it could use your "
            "credentials. Set `auth.api_keys`, `--api-key` or LLMGATE_API_KEYS, or listen on 127.0.0.1.",
            EXIT_UNSAFE,
        )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; raises StartRefused for an address that cannot be had (status 2) or is taken (1)."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, proto, _, address = found[0]
        listener = socket.socket(family, kind, proto)
    except OSError:
        raise StartRefused(f"cannot listen on `{host}`: not an address of this machine", EXIT_USAGE) from None
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        import errno

        if error.errno == errno.EADDRINUSE:
            text = f"port {port} on {host} is already in use; stop what runs there, or choose another"
            raise StartRefused(f"{text} (`--port`, LLMGATE_PORT)", EXIT_FAILED) from None
        reason = (error.strerror or "it failed").lower()
        raise StartRefused(f"cannot listen on {host}:{port}: {reason}", EXIT_USAGE) from None
    return listener


def announce(gateway: Gateway, address: Sequence[Any], notes: Sequence[str]) -> None:
    """Says where the gateway listens and which backends can be used."""
    from ..report import print_banner

    print_banner(gateway, address, notes)


def run(main: Any) -> None:
    """Runs a coroutine on uvloop where there is one."""
    factory = None
    if sys.platform != "win32":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)
