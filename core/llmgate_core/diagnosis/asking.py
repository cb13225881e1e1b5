"""Asks one upstream for its list of models, as cheaply and as harmlessly as can be, and notes what happened."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from ..backends import Backend, World
from ..config import BackendConfig, GatewayConfig
from ..connectors import HttpReply
from ..construction import build
from ..credentials import CanLogIn, Credential
from ..errors import ConnectorError
from ..http_connector import HttpConnector
from ..plugins import PluginSet
from ..upstream import Client, Timeouts, Upstream

CONNECT_SECONDS = 5.0
SECONDS = 8.0
"""How long one backend may take altogether, refreshing a token included."""

Learn = Callable[[Iterable[str]], None]


@dataclass(frozen=True)
class Asked:
    """What one backend's upstream answered.

    Args:
        ready, detail: as `llmgate check` has them.
        facts: texts that its credential provider tells of itself; files may be among them.
        off: why its connector lets no request through, None where it does.
        missing: why there is no credential, None where there is one; it was asked without, then.
        address: where it was asked; empty where it was not.
        error: why there is no list of models.
        models: the ids that it lists, None without a list, or where the configuration says them.
        own_list: whether its models stand in the configuration or the plugin.
        can_log_in: whether `llmgate auth login` serves it.
        skew: seconds by which this machine's clock is ahead of the upstream's, None where that is not known.
    """

    name: str
    ready: bool = False
    detail: str = ""
    facts: tuple[str, ...] = ()
    off: str | None = None
    missing: str | None = None
    address: str = ""
    error: ConnectorError | None = None
    models: tuple[str, ...] | None = None
    own_list: bool = False
    can_log_in: bool = False
    seconds: float = 0.0
    skew: float | None = None


async def ask(
    config: GatewayConfig, backend: BackendConfig, plugins: PluginSet, world: World, learn: Learn, *, offline: bool
) -> Asked:
    """Asks one backend; with `offline`, nobody.

    Raises:
        ConfigError, PluginError: it cannot be made.
    """
    watching = Watching(world.environ, world.clock)
    alone = dataclasses.replace(config, backends=(backend,))
    [made] = build(alone, plugins, watching, world)
    try:
        return await _ask(made, watching, learn, offline=offline)
    finally:
        await made.aclose()
        await watching.aclose()


async def _ask(backend: Backend, watching: Watching, learn: Learn, *, offline: bool) -> Asked:
    state = backend.readiness()
    provider = backend.credentials.provider
    found = Asked(
        backend.name,
        state.ready,
        state.detail,
        tuple(str(text) for text in backend.credential_facts().values()),
        own_list=getattr(backend.connector.settings, "models", None) is not None,
        can_log_in=isinstance(provider, CanLogIn),
    )
    try:
        backend.connector.check()
    except ConnectorError as error:
        return dataclasses.replace(found, off=error.message)
    if offline:
        return found
    began, asking = time.monotonic(), Asking(backend, learn)
    failure: ConnectorError | None = None
    try:
        async with asyncio.timeout(SECONDS):
            await asking.list()
    except ConnectorError as error:
        failure = error
    except TimeoutError:
        failure = ConnectorError("timeout", f"no answer within {SECONDS:g} s")
    return dataclasses.replace(
        found,
        missing=asking.missing,
        address=watching.address,
        error=failure,
        models=asking.models,
        seconds=time.monotonic() - began,
        skew=watching.skew,
    )


class Asking:
    """One question, and how far it came."""

    def __init__(self, backend: Backend, learn: Learn) -> None:
        self._backend = backend
        self._learn = learn
        self.missing: str | None = None
        self.models: tuple[str, ...] | None = None

    async def list(self) -> None:
        """Asks for the models; raises ConnectorError where there is no list."""
        connector = self._backend.connector
        try:
            credential = await self._credential()
        except ConnectorError as error:
            self.missing = error.message
            if not isinstance(connector, HttpConnector):
                return
            # Whether the upstream can be reached at all is worth knowing; that it refuses, is not.
            credential = Credential(headers={})
        # The list that a plugin or the configuration brings would say nothing of the upstream.
        if not isinstance(connector, HttpConnector):
            self.models = tuple(model.id for model in await connector.models(self._credential))
        elif connector.base_url(credential).startswith(("http://", "https://")):
            self.models = tuple(model.id for model in await connector.list_models(credential))

    async def _credential(self) -> Credential:
        found = await self._backend.credentials.get()
        self._learn(found.secrets())
        return found


# --- the client -------------------------------------------------------------------------------------------------------


class Watching(Upstream):
    """The one HTTP client, with timeouts for somebody who waits; it remembers where it asked, and the other's clock."""

    def __init__(self, environ: Mapping[str, str], clock: Callable[[], float]) -> None:
        super().__init__(environ)
        self._clock = clock
        self.address = ""
        self.skew: float | None = None

    def client(self, timeouts: Timeouts) -> Client:
        """A view that waits for seconds where the gateway waits for minutes."""
        return _Watched(self, Timeouts(CONNECT_SECONDS, SECONDS, SECONDS, SECONDS))

    def note(self, reply: HttpReply) -> None:
        """Remembers what the answer says of the time."""
        self.skew = skew(reply.headers.get("date", ""), self._clock())


class _Watched(Client):
    def __init__(self, watching: Watching, timeouts: Timeouts) -> None:
        super().__init__(watching, timeouts)
        self._watching = watching

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, content: bytes = b""
    ) -> HttpReply:
        self._watching.address = shown(url)
        reply = await super().send(method, url, headers=headers, content=content)
        self._watching.note(reply)
        return reply


def shown(url: str) -> str:
    """An address without what may be secret in it: no user, no query."""
    try:
        parts = urlsplit(url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an address that cannot be read"
    return f"{parts.scheme}://{host}{port}{parts.path}"


def skew(date: str, now: float) -> float | None:
    """Seconds by which `now` is ahead of a `Date` header; None for one that cannot be read."""
    try:
        return now - parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
