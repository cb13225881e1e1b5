"""A gateway on a loopback port, of a configuration that is decoded already, and the records of what it has done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache

from ..app import Gateway, create_app
from ..backends import World
from ..config import GatewayConfig
from ..connectors import Connector
from ..plugins import Installed, Loaded, PluginSet, load
from ..request import RequestRecord
from .loopback import LoopbackServer

FINISHED_SECONDS = 10.0
"""How long a request may take to finish once its answer has been read."""


class Finished:
    """Listens to `llmgate_request_finished`.

    Attributes:
        records: what it was told, in order.
    """

    def __init__(self) -> None:
        self.records: list[RequestRecord] = []
        self._news = asyncio.Event()

    def __call__(self, record: RequestRecord) -> None:
        """The hook."""
        self.records.append(record)
        self._news.set()

    async def wait_for(self, count: int) -> RequestRecord:
        """The record of the request that was the `count`th to finish. Raises TimeoutError when it does not."""
        async with asyncio.timeout(FINISHED_SECONDS):
            while len(self.records) < count:
                self._news.clear()
                await self._news.wait()
        return self.records[count - 1]


@dataclass(frozen=True)
class Served:
    """A gateway that serves."""

    url: str
    app: Gateway
    finished: Finished


@asynccontextmanager
async def serve(
    config: GatewayConfig,
    world: World,
    connectors: Sequence[type[Connector]] = (),
    change: Callable[[Gateway, PluginSet], None] | None = None,
) -> AsyncIterator[Served]:
    """Serves a gateway until the block ends.

    Args:
        connectors: classes that no installed plugin need bring.
        change: called with the gateway before it serves.

    Raises:
        ConfigError, PluginError: everything that stands against a start.
    """
    finished = Finished()
    plugins = _plugins(config, connectors, finished)
    gateway = create_app(config, plugins=plugins, world=world)
    if change:
        change(gateway, plugins)
    async with LoopbackServer(gateway.app, refused=gateway.refused) as url:
        yield Served(url, gateway, finished)


def _plugins(config: GatewayConfig, connectors: Sequence[type[Connector]], finished: Finished) -> PluginSet:
    """What the configuration names, and a plugin that brings these."""
    builtin = _builtin()
    brought = {cls.name for cls in (*connectors, *(cls for one in builtin for cls in one.connectors))}
    named = [name for name in config.plugin_names() if name not in brought]
    plugin = Installed("tests", "the test's own", "", "tests")
    own = Loaded(plugin, connectors=tuple(connectors), listener=finished)
    return PluginSet((*(load(named).loaded if named else builtin), own))


@cache
def _builtin() -> tuple[Loaded, ...]:
    """The built-in plugin, looked for once: that reads the metadata of all that is installed."""
    return load(()).loaded
