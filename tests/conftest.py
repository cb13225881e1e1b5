"""Fixtures that several test modules share: a gateway on a real socket, before an upstream whose bytes are scripted.

Modules import the classes below for their annotations only (`if TYPE_CHECKING`); what they need comes by fixture.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from tests.sites import Site

from llmgate_core import plugins as plugin_loading
from llmgate_core.app import Gateway, create_app
from llmgate_core.backends import World
from llmgate_core.config import BackendConfig, GatewayConfig
from llmgate_core.connectors import Connector
from llmgate_core.plugins import Installed, PluginSet
from llmgate_core.request import RequestRecord
from llmgate_core.testing import LoopbackServer, Script, ScriptedUpstream

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
        async with asyncio.timeout(10):
            await self._finished.wait_for(count)
        return self.records[count - 1]


class Finished:
    """Listens to `llmgate_request_finished`."""

    def __init__(self) -> None:
        self.records: list[RequestRecord] = []
        self._news = asyncio.Condition()

    def __call__(self, record: RequestRecord) -> None:
        self.records.append(record)
        self._tell = asyncio.create_task(self._notify())

    async def _notify(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def wait_for(self, count: int) -> None:
        async with self._news:
            await self._news.wait_for(lambda: len(self.records) >= count)


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
            finished = Finished()
            plugins = with_plugin(finished, [connector] if connector else [])
            world = World(lambda: 1_800_000_000.0, random.Random(1), environ or {}, Path("/nowhere"))
            others = [
                BackendConfig(kind, alias, alias=alias, extra=settings_of(upstream.url, None))
                for alias, kind in (beside or {}).items()
            ]
            app = create_app(GatewayConfig(backends=(one, *others), **sections), plugins=plugins, world=world)
            if change:
                change(app, plugins)
            server = LoopbackServer(app.app, refused=app.refused)
            async with server as url, httpx.AsyncClient(trust_env=False, timeout=10) as client:
                yield RunningGateway(url, app, upstream, client, finished)

    return start


def with_plugin(listener: Callable[[RequestRecord], None], connectors: Sequence[type[Connector]]) -> PluginSet:
    """The built-in plugin, and one that brings these."""
    added = plugin_loading.Loaded(
        Installed("tests", "llmgate-tests", "1", "tests"), connectors=tuple(connectors), listener=listener
    )
    return PluginSet((*plugin_loading.load(()).loaded, added))


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
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield Site(folder)
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(tmp_path)):
            del sys.modules[name]
