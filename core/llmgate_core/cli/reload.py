"""SIGHUP: everything that `llmgate serve` read at its start is read again, checked whole, and swapped in or refused."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from . import EXIT_UNSAFE, EXIT_USAGE, StartRefused, configuration

if TYPE_CHECKING:
    from ..app import Gateway
    from ..changes import Changes
    from ..config import GatewayConfig
    from ..gateways import Gateways

logger = logging.getLogger("llmgate.reload")

NOT_IN_A_DEMO = "a demo has no configuration that could be read anew; stop it and start another"
STAYS = "the new configuration is refused: the running configuration stays, nothing has changed"


@dataclass(frozen=True)
class Successor:
    """A gateway that could take over, and what there is to say of it."""

    gateway: Gateway
    changes: Changes
    warnings: tuple[str, ...]


Read = Callable[["Gateway"], Successor]
"""Makes the successor of the gateway that runs; blocks, and is called in a thread."""


async def reload_when_asked(asked: asyncio.Event, gateways: Gateways, read: Read | None) -> None:
    """Reloads each time that `asked` is set, one after the other, for ever; what is asked meanwhile is done once more.

    Args:
        read: None for a demo, which has no files.
    """
    while True:
        await asked.wait()
        asked.clear()
        if read is None:
            logger.warning(NOT_IN_A_DEMO)
        else:
            await reload(gateways, read)


async def reload(gateways: Gateways, read: Read) -> None:
    """Swaps the new configuration in, or says why not. Streams go on meanwhile: what blocks is done in a thread."""
    from ..observe import configure

    try:
        # Safe in a thread: `llmgate check` does the same without any event loop, and nothing of it is in use yet.
        successor = await asyncio.to_thread(read, gateways.current)
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # whatever it is: the next reload must be heeded
        tell_refusal(error)
        return
    new = successor.gateway
    configure(new.config.logging.level, new.config.logging.format, new.redactor)
    gateways.swap(new)
    logger.info("configuration read anew: %s", successor.changes)
    for text in successor.warnings:
        logger.warning("%s", text)


def reader(ctx: click.Context, flags: Mapping[str, Any]) -> Read:
    """Reads what the command line means, as it is now."""
    return lambda running: read_anew(ctx, flags, running)


def read_anew(ctx: click.Context, flags: Mapping[str, Any], running: Gateway) -> Successor:
    """The successor of the gateway that runs, on its address, built from the files and the same command line.

    Raises:
        ConfigError, PluginError, StartRefused, UsageError: everything that would stand against a start, too.
    """
    from ..app import create_app
    from ..changes import changes, needs_restart, with_address

    importlib.invalidate_caches()  # or what has been installed in the last moments might not be seen
    prepared = configuration.prepare_to_serve(ctx, flags)
    if running.config.enabled_backends() and not prepared.config.enabled_backends():
        raise StartRefused("it has no backend any more; a file that was written half, perhaps", EXIT_USAGE)
    config = with_address(prepared.config, running.config)
    gateway = create_app(config, plugins=prepared.plugins, redactor=running.redactor)
    refuse_unsafe(prepared.config, config)
    found = changes(running.config, config, keys_differ=list(gateway.keys) != list(running.keys))
    restarts = needs_restart(running.config, running.plugins, prepared.config, prepared.plugins)
    return Successor(gateway, found, (*restarts, *not_ready(gateway, {*found.added, *found.changed})))


def refuse_unsafe(new: GatewayConfig, kept: GatewayConfig) -> None:
    """Raises StartRefused for a gateway that everybody could use, now or after a restart.

    Args:
        kept: `new` on the address that is listened on until then.
    """
    from .serve import is_unsafe, refuse_unsafe

    refuse_unsafe(new)
    if is_unsafe(kept):
        raise StartRefused(
            f"refusing to go on without keys: until a restart the gateway listens on {kept.server.host}, and anybody "
            "who reaches it could use your credentials. Keep `auth.api_keys` until then.",
            EXIT_UNSAFE,
        )


def not_ready(gateway: Gateway, names: set[str]) -> list[str]:
    """What the first lines of `serve` would say of these backends."""
    states = [(backend.name, backend.readiness()) for backend in gateway.backends if backend.name in names]
    return [f"backend {name} is not ready: {state.detail}" for name, state in states if not state.ready]


def tell_refusal(error: BaseException) -> None:
    """Logs why the new configuration cannot be used, each problem on a line of its own."""
    reasons = expected(error)
    for reason in reasons:
        logger.error("%s", " ".join(reason.split()))
    if not reasons:
        # With its traceback, whatever the level: the running one cannot be changed by a file that is refused.
        logger.error("reading it raised %s", type(error).__name__, exc_info=error)
    logger.error(STAYS)


def expected(error: BaseException) -> list[str]:
    """What the command line would say at a start; empty for what nobody raises on purpose."""
    from ..errors import ConfigError, GatewayError

    match error:
        case ConfigError():
            return [str(problem) for problem in error.problems]
        case StartRefused():
            return [error.message]
        case click.ClickException():
            return [error.format_message()]
        case GatewayError():
            return [str(error)]
    return []
