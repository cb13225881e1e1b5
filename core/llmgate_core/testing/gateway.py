"""A whole gateway on a real loopback socket, around the connector that is tested: what a caller of it would see."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypedDict, Unpack

from ..backends import World
from ..config import GatewayConfig, Override, Places, load
from ..connectors import Connector, HttpClient
from ..plugins import load as load_plugins
from ..plugins import settings_type
from ..request import RequestRecord
from ..sse import Parser
from ..wire import decode, encode
from .client import http_client
from .scripted import ReceivedRequest, Script, ScriptedUpstream
from .serving import Served, serve
from .threads import Run, in_thread


class GatewayOptions(TypedDict, total=False):
    """What may be said of a gateway beside its connector and its upstream.

    Attributes:
        extra: the connector's settings, as under `extra:` in a configuration; or a function that makes them of the
            upstream's base URL, a script's ends in `/v1`. Without a function a setting `base_url` is set to it,
            unless it is given.
        config: more of the main file as plain values, such as `{"failure_handling": {"max_attempts": 1}}`. Under
            `backends`, what stands there for the connector's own name is added to its one backend.
        environ: the environment that connectors see, empty unless given.
        home: the home folder that connectors see; the fixture gives the test's `tmp_path`.
        clock: what connectors read as Unix time in seconds, the real one unless given.
    """

    extra: Mapping[str, Any] | Callable[[str], Mapping[str, Any]]
    config: Mapping[str, Any]
    environ: Mapping[str, str]
    home: Path
    clock: Callable[[], float]


@dataclass(frozen=True)
class GatewayAnswer:
    """What the gateway answered, read to its end.

    Args:
        headers: lower-case names.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The decoded body. Raises ValueError when it is not JSON."""
        return decode(self.body)

    def events(self) -> list[Any]:
        """The data of the server-sent events, decoded; a str where it is not JSON, such as `[DONE]`."""
        return [_event(event.data) for event in Parser().feed(self.body)]


def _event(data: bytes) -> Any:
    try:
        return decode(data)
    except ValueError:
        return data.decode()


class LoopbackGateway:
    """A gateway with one backend: `async with LoopbackGateway(Acme, script) as gateway: ...`.

    Everything is real but the upstream: sockets, front ends, policies, retries, the configuration's decoding. The
    backend is the connector's `default` instance, and gets what names no backend. Leaving the block closes all of it
    and raises what the upstream's script raised first.

    Args:
        connector: a class, or the name of a connector that is installed.
        upstream: a script, which then answers in the upstream's place; or the base URL of an upstream that runs
            elsewhere; or None where `extra` says all.
        options: see GatewayOptions.

    Attributes:
        url: `http://127.0.0.1:PORT`, once started.
        http: the gateway's own HTTP client, for answers that are to be read chunk by chunk.
        records: of the requests that have finished, in order.
    """

    url: str
    http: HttpClient
    records: list[RequestRecord]

    def __init__(
        self, connector: type[Connector] | str, upstream: Script | str | None = None, **options: Unpack[GatewayOptions]
    ) -> None:
        self._connector = connector
        self._address = upstream if isinstance(upstream, str) else None
        self._upstream = None if upstream is None or isinstance(upstream, str) else ScriptedUpstream(upstream)
        self._options = options
        self._running = AsyncExitStack()
        self._served: Served

    @classmethod
    @contextmanager
    def in_thread(
        cls, connector: type[Connector] | str, upstream: Script | str | None = None, **options: Unpack[GatewayOptions]
    ) -> Iterator[GatewayInThread]:
        """The same with an event loop and a thread of its own, in which the script runs too."""
        with in_thread(cls(connector, upstream, **options), "loopback-gateway") as (gateway, run):
            yield GatewayInThread(gateway, run)

    @property
    def upstream(self) -> ScriptedUpstream:
        """The scripted upstream. Raises RuntimeError where there is none."""
        if self._upstream is None:
            raise RuntimeError("this gateway has no scripted upstream; give it a script")
        return self._upstream

    @property
    def requests(self) -> list[ReceivedRequest]:
        """What the scripted upstream has received, in order."""
        return self.upstream.requests

    async def request(
        self, method: str, path: str, body: Any = b"", headers: Mapping[str, str] | None = None
    ) -> GatewayAnswer:
        """Sends one request and reads the whole answer, whatever its status.

        Args:
            path: with its query, such as `/v1/models`.
            body: bytes go out as they are, a str as UTF-8, anything else as JSON.

        Raises:
            ConnectorError: the gateway cannot be reached, or hung up in the middle of its answer.
        """
        content = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else encode(body)
        sent = {"content-type": "application/json", **(headers or {})}
        reply = await self.http.send(method, f"{self.url}{path}", headers=sent, content=content)
        return GatewayAnswer(reply.status, reply.headers, await reply.read())

    async def chat(self, **members: Any) -> GatewayAnswer:
        """Asks over OpenAI's Chat Completions; `members` are added to a short request, or replace what is there."""
        said = {"model": "some-model", "messages": [{"role": "user", "content": "Hello"}]}
        return await self.request("POST", "/v1/chat/completions", {**said, **members})

    async def finished(self, count: int = 1) -> RequestRecord:
        """The record of the request that was the `count`th to finish; it may come a moment after its answer."""
        return await self._served.finished.wait_for(count)

    async def start(self) -> Self:
        """Starts the upstream and the gateway before it.

        Raises:
            ConfigError, PluginError: what stands against a start, such as a mistake in `extra`.
        """
        async with AsyncExitStack() as started:
            if self._upstream:
                await started.enter_async_context(self._upstream)
                self._address = f"{self._upstream.url}/v1"
            config = _configuration(self._connector, self._address, self._options)
            classes = [self._connector] if isinstance(self._connector, type) else []
            self._served = await started.enter_async_context(serve(config, _world(self._options), classes))
            self.http = await started.enter_async_context(http_client())
            self.url, self.records = self._served.url, self._served.finished.records
            self._running = started.pop_all()
        return self

    async def aclose(self) -> None:
        """Closes everything. May be called twice; raises what the script raised first."""
        await self._running.aclose()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._running.__aexit__(kind, error, trace)


class GatewayInThread:
    """A LoopbackGateway that runs in a thread of its own, for tests without a loop, or with one that may block."""

    def __init__(self, gateway: LoopbackGateway, run: Run) -> None:
        self._gateway = gateway
        self._run = run

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return self._gateway.url

    @property
    def records(self) -> list[RequestRecord]:
        """Of the requests that have finished, in order."""
        return self._gateway.records

    @property
    def upstream(self) -> ScriptedUpstream:
        """The scripted upstream; its counters may be read, its coroutines belong to the other thread."""
        return self._gateway.upstream

    @property
    def requests(self) -> list[ReceivedRequest]:
        """What the scripted upstream has received, in order."""
        return self._gateway.requests

    def request(
        self, method: str, path: str, body: Any = b"", headers: Mapping[str, str] | None = None
    ) -> GatewayAnswer:
        """See LoopbackGateway.request."""
        answer: GatewayAnswer = self._run(self._gateway.request(method, path, body, headers))
        return answer

    def chat(self, **members: Any) -> GatewayAnswer:
        """See LoopbackGateway.chat."""
        answer: GatewayAnswer = self._run(self._gateway.chat(**members))
        return answer

    def finished(self, count: int = 1) -> RequestRecord:
        """See LoopbackGateway.finished."""
        record: RequestRecord = self._run(self._gateway.finished(count))
        return record


class GatewayFactory(Protocol):
    """What the fixture `llmgate_gateway` is: call it for a gateway that runs until the test ends."""

    def __call__(
        self, connector: type[Connector] | str, upstream: Script | str | None = None, **options: Unpack[GatewayOptions]
    ) -> GatewayInThread:
        """Starts a gateway; the arguments are those of LoopbackGateway."""


def _world(options: GatewayOptions) -> World:
    return World(
        options.get("clock", time.time),
        random.Random(1),  # noqa: S311 - the same in every run
        options.get("environ", {}),
        options.get("home", Path("/nowhere")),
    )


def _configuration(connector: type[Connector] | str, address: str | None, options: GatewayOptions) -> GatewayConfig:
    """What an operator's file would say, read as one is. Raises ConfigError."""
    name = connector if isinstance(connector, str) else connector.name
    sections = {"default_backend": name, **options.get("config", {})}
    backends = sections.get("backends", {})
    own = backends.get(name, {})
    extra = {**_extra(connector, address, options), **own.get("extra", {})}
    sections["backends"] = {**backends, name: {"type": name, **own, "extra": extra}}
    return load(Places(), {(key,): Override(value, "the configuration") for key, value in sections.items()}).checked()


def _extra(connector: type[Connector] | str, address: str | None, options: GatewayOptions) -> Mapping[str, Any]:
    given = options.get("extra", {})
    if callable(given):
        return given(address or "")
    if address is None or not _has_base_url(connector):
        return given
    return {"base_url": address, **given}


def _has_base_url(connector: type[Connector] | str) -> bool:
    # A name that nobody brings has no settings here; the gateway will refuse it with the right words.
    cls = load_plugins([connector]).connectors.get(connector) if isinstance(connector, str) else connector
    kind = settings_type(cls) if cls else None
    return is_dataclass(kind) and "base_url" in {entry.name for entry in fields(kind)}
