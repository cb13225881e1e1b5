"""`llmgate auth`: log in to backends, refresh tokens, log out, and show what credentials there are.

Any connector is served whose credential provider has the method: see `CanLogIn` and its neighbours.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..credentials import ApiKey, CanLogIn, CanLogOut, CanRefresh, LoginScreen, NoCredential
from ..errors import PLUGIN_FAULTS, ConnectorError
from . import EXIT_FAILED, EXIT_USAGE, StartRefused, SuggestingGroup, configuration
from .plugin_flags import BackendCommand, apply_plugin_flags

if TYPE_CHECKING:
    from ..backends import Backend, Backends
    from ..config import GatewayConfig
    from ..plugins import PluginSet
    from ..selector import Names

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Offer:
    """Something that a credential provider may be able to do.

    Args:
        name: the sub-command.
        protocol: what the provider implements then.
        words: how `there is nothing to ...` ends.
        call: does it, and returns what is told to the user.
        asks_provider: whether something is sent, which a backend that is switched off must not do.
        interruptible: whether Ctrl-C may end it half-way.
    """

    name: str
    protocol: type[Any]
    words: str
    call: Callable[[Any, LoginScreen], Awaitable[str]]
    asks_provider: bool = True
    interruptible: bool = True


LOGIN = Offer("login", CanLogIn, "log in to", lambda provider, screen: provider.login(screen))
REFRESH = Offer("refresh", CanRefresh, "refresh", lambda provider, _: provider.refresh(), interruptible=False)
LOGOUT = Offer("logout", CanLogOut, "log out of", lambda provider, _: provider.logout(), asks_provider=False)
OFFERS = (LOGIN, REFRESH, LOGOUT)


@click.group("auth", cls=SuggestingGroup)
def command() -> None:
    """Log in to backends and out, and show what credentials there are.

    BACKEND is a connector, a backend's full name or an alias. A connector's defaults need no configuration file.
    """


def sub_command(name: str) -> Callable[[Callable[..., None]], click.Command]:
    """A sub-command with the flags that decide about the configuration, those of plugins, and BACKEND."""

    def decorate(function: Callable[..., None]) -> click.Command:
        made = click.command(name, cls=BackendCommand, context_settings=BackendCommand.SETTINGS)
        found = made(configuration.options(click.pass_context(function)))
        command.add_command(found)
        return found

    return decorate


@sub_command("login")
def login(ctx: click.Context, /, **flags: Any) -> None:
    """Log in to a backend, such as in a browser."""
    carry_out(ctx, flags, LOGIN)


@sub_command("status")
@click.option("--json", "as_json", is_flag=True, help="One JSON array instead of text.")
def status(ctx: click.Context, /, as_json: bool, **flags: Any) -> None:
    """Show the credentials of a backend, or of all; without secrets, and without asking anybody."""
    from ..report import print_credentials

    rows: list[dict[str, Any]] = []

    async def look(backends: Backends) -> None:
        names = [one(ctx, backends, flags["backend"])] if flags["backend"] else [found.name for found in backends]
        rows.extend(row(backends[name]) for name in names)

    on_backends(ctx, flags, look)
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    print_credentials(rows)


@sub_command("refresh")
def refresh(ctx: click.Context, /, **flags: Any) -> None:
    """Get a new token now, whether or not the old one has ended."""
    carry_out(ctx, flags, REFRESH)


@sub_command("logout")
def logout(ctx: click.Context, /, **flags: Any) -> None:
    """Remove a backend's credentials from this machine."""
    carry_out(ctx, flags, LOGOUT)


# --- carrying out -----------------------------------------------------------------------------------------------------


def carry_out(ctx: click.Context, flags: Mapping[str, Any], offer: Offer) -> None:
    """Does what one backend offers, and tells it; at Ctrl-C, with status 1, tells that it did not happen."""
    told: list[str] = []

    async def act(backends: Backends) -> None:
        backend = backends[choose(ctx, backends, flags["backend"], offer)]
        told.append(f"{backend.name}: {await fenced(backend, offer)}")

    try:
        on_backends(ctx, flags, act)
    except KeyboardInterrupt:
        if not told:
            now = "nothing was changed" if offer.interruptible else "`llmgate auth status` shows what there is now"
            click.echo(f"llmgate: interrupted; {now}", err=True)
            ctx.exit(EXIT_FAILED)
    for line in told:
        click.echo(line)


def on_backends(ctx: click.Context, flags: Mapping[str, Any], act: Callable[[Backends], Awaitable[None]]) -> None:
    """Runs `act` with the backends of the configuration that is meant, BACKEND among them."""
    from ..app import open_backends
    from .serve import run

    prepared = prepare(ctx, flags)

    async def opened() -> None:
        async with open_backends(prepared.config, prepared.plugins) as backends:
            await act(backends)

    run(opened())


def prepare(ctx: click.Context, flags: Mapping[str, Any]) -> configuration.Prepared:
    """As other commands do; the backend that is named needs no file."""
    named = flags["backend"]
    if named is None and not flags["default_backend"] and configuration.finds_nothing(flags):
        told = f"no configuration found, so name a backend: `{ctx.command_path} BACKEND`"
        raise StartRefused(f"{told}; `llmgate plugins` shows which connectors there are", EXIT_USAGE)

    def adjust(config: GatewayConfig, plugins: PluginSet) -> GatewayConfig:
        if named:
            refuse_misspelt(ctx, named, config, plugins)
        return apply_plugin_flags(config, plugins, ctx)

    return configuration.prepare(ctx, flags, adjust, backend=named)


async def fenced(backend: Backend, offer: Offer) -> str:
    """Calls the provider; raises ConnectorError for everything that goes wrong, of kind `bug` for a connector's own."""
    from ..plugins import place
    from ..report import TerminalScreen

    try:
        if offer.asks_provider:
            backend.connector.check()
        call = offer.call(backend.credentials.provider, TerminalScreen())
        return await (call if offer.interruptible else to_its_end(call))
    except ConnectorError as error:
        raise ConnectorError(error.kind, f"backend `{backend.name}`: {error.message}") from None
    except KeyboardInterrupt:
        raise
    except PLUGIN_FAULTS as error:
        # Not its text, which may hold what it was about.
        what = f"its connector raised {type(error).__name__} in `{offer.name}`"
        where = place(error, type(backend.connector).__module__)
        raise ConnectorError("bug", f"backend `{backend.name}`: {what}{where}") from None


async def to_its_end(call: Awaitable[T]) -> T:
    """Lets a first Ctrl-C pass: a refresh token may be spent, and what came for it must not be lost."""
    running = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError, ValueError):  # nobody may be there to read it, and it counts all the same
            click.echo("llmgate: finishing first, as the old token may be spent; again to stop at once", err=True)
        return await running


# --- which backend ----------------------------------------------------------------------------------------------------


def refuse_misspelt(ctx: click.Context, named: str, config: GatewayConfig, plugins: PluginSet) -> None:
    """Raises UsageError where `named` is no connector, and looks like a backend that is configured."""
    from ..selector import nearest_backend

    written = tuple(backend for backend in config.backends if backend.origin.source != configuration.COMMAND_LINE)
    names = dataclasses.replace(config, backends=written).names()
    if named in names.candidates or named.removesuffix(".default") in plugins.connectors:
        return
    if nearest_backend(named, names):
        raise no_such_backend(ctx, named, names)


def no_such_backend(ctx: click.Context, named: str, names: Names) -> click.UsageError:
    """What to say of a name that no backend has."""
    from ..selector import nearest_backend

    near = nearest_backend(named, names)
    hint = f"did you mean `{near}`?" if near else f"backends: {', '.join(names.listed) or 'none'}"
    return click.UsageError(f"there is no backend `{named}`; {hint}", ctx)


def one(ctx: click.Context, backends: Backends, named: str) -> str:
    """The full name of the enabled backend that is meant; raises UsageError where it is none or several."""
    found = backends.names.candidates.get(named, ())
    if len(found) > 1:
        raise click.UsageError(f"`{named}` has several instances; say which: `{'`, `'.join(found)}`", ctx)
    if not found:
        raise no_such_backend(ctx, named, backends.names)
    if found[0] in backends.names.disabled:
        raise click.UsageError(f"backend `{named}` is switched off by `enabled: false` in its configuration", ctx)
    return found[0]


def choose(ctx: click.Context, backends: Backends, named: str | None, offer: Offer) -> str:
    """The backend that is named, or the only one that offers it; raises UsageError with the way out."""
    if named:
        found = one(ctx, backends, named)
        if not isinstance(backends[found].credentials.provider, offer.protocol):
            raise click.UsageError(why_not(backends[found], offer), ctx)
        return found
    offering = [backend.name for backend in backends if isinstance(backend.credentials.provider, offer.protocol)]
    if len(offering) == 1:
        return offering[0]
    if not offering:
        told = f"no backend offers `{offer.name}`; `llmgate auth status` shows what they have"
        raise click.UsageError(told, ctx)
    ways = ", ".join(f"`{ctx.command_path} {backends.names.short[name]}`" for name in offering)
    raise click.UsageError(f"several backends offer `{offer.name}`; say which: {ways}", ctx)


def why_not(backend: Backend, offer: Offer) -> str:
    """What to say of a backend that does not offer it."""
    provider, detail = backend.credentials.provider, credential_row(backend)["detail"]
    nothing = f"there is nothing to {offer.words}"
    if isinstance(provider, ApiKey):
        return f"backend `{backend.name}` uses an API key: {nothing}; {detail}"
    if isinstance(provider, NoCredential):
        return f"backend `{backend.name}` needs no credential: {nothing}"
    others = [f"`{other.name}`" for other in OFFERS if isinstance(provider, other.protocol)]
    has = f"it offers {', '.join(others)}" if others else detail
    return f"backend `{backend.name}` offers no `{offer.name}`; {has}"


# --- status -----------------------------------------------------------------------------------------------------------


def row(backend: Backend) -> dict[str, Any]:
    """What is known of one backend's credentials; `refused` says why requests do not reach it, else null."""
    provider = backend.credentials.provider
    offers = [offer.name for offer in OFFERS if isinstance(provider, offer.protocol)]
    return {"backend": backend.name, **credential_row(backend), "offers": offers, "refused": refused(backend)}


def credential_row(backend: Backend) -> dict[str, Any]:
    """The provider's own words, fenced."""
    try:
        found = backend.credentials.provider.status()
        facts = {str(label): str(text) for label, text in found.facts.items()}
        return {"ready": bool(found.ready), "detail": str(found.detail), "facts": facts}
    except Exception as error:
        return {"ready": False, "detail": f"its connector raised {type(error).__name__} in `status`", "facts": {}}


def refused(backend: Backend) -> str | None:
    """Why the connector lets no request through, as its configuration is."""
    try:
        backend.connector.check()
    except ConnectorError as error:
        return error.message
    except Exception as error:
        return f"its connector raised {type(error).__name__} in `check`"
    return None
