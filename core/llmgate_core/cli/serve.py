"""`llmgate serve`: configuration, plugins, sockets, signals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import click

from . import EXIT_FAILED, EXIT_UNSAFE, EXIT_USAGE, StartRefused, configuration
from .configuration import CommaSeparated

if TYPE_CHECKING:
    from ..app import Gateway
    from ..config import GatewayConfig
    from ..plugins import PluginSet
    from ..settings import Flag

BACKLOG = 1024


class ServeCommand(click.Command):
    """Keeps the flags that it does not know: they may belong to a plugin that the configuration names."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Our own flags, then those of all installed plugins."""
        super().format_options(ctx, formatter)
        from ..plugins import load_all

        for connector, flags in plugin_flags(load_all(block=configuration.blocked(None))).items():
            with formatter.section(f"Options of connector {connector}"):
                formatter.write_dl([(flag.name, flag.description) for flag in flags])


@click.command("serve", cls=ServeCommand, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@configuration.options
@click.option("--host", envvar="LLMGATE_HOST", help="Address to listen on (default 127.0.0.1).")
@click.option("--port", type=int, envvar="LLMGATE_PORT", help="Port to listen on (default 8000); 0 takes a free one.")
@click.option(
    "--api-key",
    multiple=True,
    type=CommaSeparated(),
    envvar="LLMGATE_API_KEYS",
    help="A key that callers must show: env:NAME, file:PATH, sha256:HEX or the key. Repeatable.",
)
@click.option("--demo", is_flag=True, envvar="LLMGATE_DEMO", help="No account, no network: plugins' simulators.")
@click.option("--log-level", envvar="LLMGATE_LOG_LEVEL", metavar="LEVEL", help="debug, info, warning or error.")
@click.option("--log-format", envvar="LLMGATE_LOG_FORMAT", metavar="FORMAT", help="text or json.")
@click.pass_context
def command(ctx: click.Context, /, **flags: Any) -> None:
    """Run the gateway."""
    with contextlib.suppress(KeyboardInterrupt):
        run(serve(ctx, flags))


async def serve(ctx: click.Context, flags: Mapping[str, Any]) -> None:
    """From flags to the end of the last request."""
    from ..observe import Redactor, configure

    redactor = Redactor()
    async with demo_or_configured(ctx, flags) as (config, plugins, notes):
        configure(config.logging.level, config.logging.format, redactor)
        from ..app import create_app

        gateway = create_app(config, plugins=plugins, redactor=redactor)
        refuse_unsafe(gateway)
        listener = listen(config.server.host, config.server.port)
        stop = asyncio.Event()
        on_signals(stop)  # before anybody reads that we listen: who reads it may tell us to stop
        announce(gateway, listener, notes)
        await listen_until_told(gateway, listener, stop)


@asynccontextmanager
async def demo_or_configured(
    ctx: click.Context, flags: Mapping[str, Any]
) -> AsyncIterator[tuple[GatewayConfig, PluginSet, Sequence[Any]]]:
    """The configuration, its plugins, and what a demo wants to tell."""
    if flags["demo"]:
        from .demo import simulated

        async with simulated(ctx, flags) as found:
            no_more_flags(ctx.args, {})
            yield found
        return
    prepared = configuration.prepare(ctx, flags, lambda config, plugins: apply_plugin_flags(config, plugins, ctx.args))
    yield prepared.config, prepared.plugins, ()


# --- flags that plugins declare --------------------------------------------------------------------------------------


def plugin_flags(plugins: PluginSet) -> dict[str, list[Flag]]:
    """The flags that connectors' settings declare, by connector."""
    from ..plugins import settings_type
    from ..settings import flags

    found = {}
    for name, cls in plugins.connectors.items():
        settings = settings_type(cls)
        if settings is not None and (declared := flags(settings)):
            found[name] = declared
    return found


def apply_plugin_flags(config: GatewayConfig, plugins: PluginSet, arguments: Sequence[str]) -> GatewayConfig:
    """The configuration with what the rest of the command line sets for all instances of a connector."""
    from ..settings import Secret

    declared = plugin_flags(plugins)
    named = {backend.type for backend in config.backends}
    declared = {connector: flags for connector, flags in declared.items() if connector in named}
    no_more_flags(arguments, declared)
    parser = click.Command("serve", params=[_option(flag) for flags in declared.values() for flag in flags])
    values = parser.make_context("serve", list(arguments)).params
    for connector, flags in declared.items():
        for flag in flags:
            value = values[_variable(flag)]
            if value is None:
                continue
            plain = str(value) if flag.type is Secret else value
            config = config.override_extra(connector, {flag.field: plain}, flag.name)
    return config


def no_more_flags(arguments: Sequence[str], declared: Mapping[str, Sequence[Flag]]) -> None:
    """Raises UsageError for a flag that nobody offers, with what to do."""
    from ..settings import did_you_mean

    known = {flag.name for flags in declared.values() for flag in flags}
    known |= {f"--no-{name.removeprefix('--')}" for name in known}
    own = [name for option in command.params for name in option.opts]
    for argument in arguments:
        name = argument.partition("=")[0]
        if name.startswith("--") and name not in known:
            close = did_you_mean(name, [*known, *own])
            raise click.UsageError(
                f"no installed plugin offers `{name}` to this configuration; "
                + (f"did you mean `{close}`?" if close else "see `llmgate plugins`")
            )
    if arguments and not any(argument.startswith("--") for argument in arguments):
        raise click.UsageError("`llmgate serve` takes flags only; see `llmgate serve --help`")


def _option(flag: Flag) -> click.Option:
    stem = flag.name.removeprefix("--")
    variable = f"LLMGATE_{stem.upper().replace('-', '_')}"
    if flag.type is bool:
        names = [f"--{stem}/--no-{stem}", _variable(flag)]
        return click.Option(names, default=None, envvar=variable)
    kind = flag.type if flag.type in (int, float) else str
    return click.Option([flag.name, _variable(flag)], type=kind, default=None, envvar=variable)


def _variable(flag: Flag) -> str:
    return flag.name.removeprefix("--").replace("-", "_")


# --- listening --------------------------------------------------------------------------------------------------------


def refuse_unsafe(gateway: Gateway) -> None:
    """Raises StartRefused (status 3) for a gateway that everybody could use."""
    from ..frontends.access import is_loopback

    host = gateway.config.server.host
    if gateway.config.auth.callers() or is_loopback(host):
        return
    raise StartRefused(
        f"refusing to listen on {host} without keys: anybody who reaches it could use your credentials. "
        "Set `auth.api_keys`, `--api-key` or LLMGATE_API_KEYS, or listen on 127.0.0.1.",
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
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        import errno

        if error.errno == errno.EADDRINUSE:
            text = f"port {port} on {host} is already in use; stop what runs there, or choose another with `--port`"
            raise StartRefused(text, EXIT_FAILED) from None
        reason = (error.strerror or "it failed").lower()
        raise StartRefused(f"cannot listen on {host}:{port}: {reason}", EXIT_USAGE) from None
    return listener


def announce(gateway: Gateway, listener: socket.socket, notes: Sequence[Any]) -> None:
    """Says where the gateway listens and which backends can be used."""
    from ..report import print_banner

    print_banner(gateway, listener.getsockname(), notes)


async def listen_until_told(gateway: Gateway, listener: socket.socket, stop: asyncio.Event) -> None:
    """Serves until `stop` is set; running requests get the grace period."""
    from .server import serve_until

    await serve_until(gateway.app, listener, stop, gateway.config.server.shutdown_grace_seconds)
    await gateway.aclose()


def on_signals(stop: asyncio.Event) -> None:
    """Sets `stop` at the first SIGTERM or SIGINT; the second ends the process."""
    import signal

    def told() -> None:
        if stop.is_set():
            click.echo("llmgate: stopped at once", err=True)
            os._exit(EXIT_FAILED)
        click.echo("llmgate: finishing running requests; again to stop at once", err=True)
        stop.set()

    loop = asyncio.get_running_loop()
    for sort in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(sort, told)
        except NotImplementedError:  # Windows
            signal.signal(sort, lambda *_: loop.call_soon_threadsafe(told))


def run(main: Any) -> None:
    """Runs a coroutine on uvloop where there is one."""
    factory = None
    if sys.platform != "win32":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)
