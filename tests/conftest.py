"""Fixtures that several test modules share: a gateway on a real socket, before an upstream whose bytes are scripted.

Modules import the classes below for their annotations only (`if TYPE_CHECKING`); what they need comes by fixture.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from tests.sites import Site, installed

from llmgate_core.app import Gateway
from llmgate_core.backends import World
from llmgate_core.config import BackendConfig, GatewayConfig
from llmgate_core.connectors import Connector
from llmgate_core.plugins import PluginSet
from llmgate_core.request import RequestRecord
from llmgate_core.testing import Script, ScriptedUpstream
from llmgate_core.testing.serving import Finished, serve

PROMPTLY = 1.0
"""Seconds within which a hang-up must have reached the upstream."""


class RunningGateway:
    """A gateway that serves, the upstream behind it, and a client before it.

    Attributes:
        records: what `llmgate_request_finished` was told, in order.
    """

    def __init__(
        self, url: str, app: Gateway, upstream: ScriptedUpstream, client: httpx.AsyncClient, finished: Finished
    ) -> None:
        self.url = url
        self.app = app
        self.upstream = upstream
        self.client = client
        self.records = finished.records
        self._finished = finished

    def body(self, **members: Any) -> dict[str, Any]:
        """A chat request; `members` are added, or replace what is there."""
        return {"model": "m", "messages": [{"role": "user", "content": "hi"}], **members}

    async def chat(
        self, content: bytes | None = None, headers: Mapping[str, str] | None = None, **members: Any
    ) -> httpx.Response:
        """Posts a chat request, its bytes given or its members, and reads the whole answer."""
        data = json.dumps(self.body(**members)).encode() if content is None else content
        sent = {"content-type": "application/json", **(headers or {})}
        return await self.client.post(f"{self.url}/v1/chat/completions", content=data, headers=sent)

    async def dial(self, **members: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A chat request on a bare socket, sent; for clients that hang up or stop reading."""
        reader, writer = await asyncio.open_connection("127.0.0.1", int(self.url.rsplit(":", 1)[1]), limit=4096)
        data = json.dumps(self.body(**members)).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
        await writer.drain()
        return reader, writer

    async def finished(self, count: int = 1) -> RequestRecord:
        """The record of the request that was the `count`th to finish."""
        return await self._finished.wait_for(count)


class GatewayFactory(Protocol):
    """What the fixture `gateway` gives."""

    def __call__(
        self,
        script: Script,
        *,
        connector: type[Connector] | None = None,
        extra: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
        change: Callable[[Gateway, PluginSet], None] | None = None,
        backend: Mapping[str, Any] | None = None,
        beside: Mapping[str, str] | None = None,
        **sections: Any,
    ) -> AbstractAsyncContextManager[RunningGateway]:
        """Starts upstream and gateway; ends them, and raises what a script of the upstream raised.

        Args:
            connector: of the only backend, `openai-compatible` by default.
            extra: its settings beside `base_url`.
            change: called with the gateway before it serves.
            backend: more of the backend's section, such as `forced_params`.
            beside: more backends before the same upstream, by alias: the names of their connectors.
            sections: of the configuration, such as `server`.
        """


def settings_of(url: str, extra: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"base_url": f"{url}/v1", "models": ["m"], **(extra or {})}


@pytest.fixture
def gateway() -> GatewayFactory:
    @asynccontextmanager
    async def start(
        script: Script,
        *,
        connector: type[Connector] | None = None,
        extra: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
        change: Callable[[Gateway, PluginSet], None] | None = None,
        backend: Mapping[str, Any] | None = None,
        beside: Mapping[str, str] | None = None,
        **sections: Any,
    ) -> AsyncIterator[RunningGateway]:
        async with ScriptedUpstream(script) as upstream:
            name = connector.name if connector else "openai-compatible"
            one = BackendConfig(name, extra=settings_of(upstream.url, extra), **(backend or {}))
            world = World(lambda: 1_800_000_000.0, random.Random(1), environ or {}, Path("/nowhere"))
            others = [
                BackendConfig(kind, alias, alias=alias, extra=settings_of(upstream.url, None))
                for alias, kind in (beside or {}).items()
            ]
            config = GatewayConfig(backends=(one, *others), **sections)
            gateway = serve(config, world, [connector] if connector else [], change)
            async with gateway as served, http_client() as client:
                yield RunningGateway(served.url, served.app, upstream, client, served.finished)

    return start


def http_client() -> httpx.AsyncClient:
    """A client for addresses of this machine: without the authorities of TLS, whose loading takes 20 ms each time."""
    return httpx.AsyncClient(trust_env=False, timeout=10, verify=False)


@pytest.fixture
def promptly() -> float:
    return PROMPTLY


@pytest.fixture
def llmgate_logging() -> Iterator[logging.Logger]:
    """The logger `llmgate`, and the root's, as they were before the test that calls `observe.configure`."""
    loggers = [logging.getLogger("llmgate"), logging.getLogger()]
    before = [(one, one.handlers, one.level, one.propagate) for one in loggers]
    yield loggers[0]
    for one, handlers, level, propagate in before:
        one.handlers, one.propagate = handlers, propagate
        one.setLevel(level)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with installed(tmp_path / "site") as found:
        yield found
