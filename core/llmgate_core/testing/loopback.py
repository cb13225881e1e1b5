"""Serves an ASGI application on an ephemeral loopback port, in the running loop, for tests and simulators.

Real sockets, because in-process ASGI transports collect the body first: they can see neither streaming, nor
back pressure, nor a disconnect.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.lifespan import Lifespan
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI 3 application: `await app(scope, receive, send)`."""

_BACKLOG = 1024
_KEEP_ALIVE_SECONDS = 60.0


class LoopbackServer:
    """Serves one ASGI application, its lifespan included: `async with LoopbackServer(app) as url: ...`.

    It installs no signal handler and logs nothing but exceptions that the application let out (logger
    `llmgate.testing.loopback`). Closing takes at most about `grace`: what is idle is closed at once, what
    still streams is hung up on, even where a client has stopped reading.

    Args:
        app: the application.
        grace: seconds that running requests get to finish when the server closes.
    """

    def __init__(self, app: AsgiApp, *, grace: float = 0.05) -> None:
        self._app = ASGIWrapper(app)
        self._grace = grace
        self._config = _quiet_config()
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        """Starts the application's lifespan, then listens.

        Returns:
            The base URL, `http://127.0.0.1:PORT`.

        Raises:
            Exception: what the application's start-up failed with.
        """
        loop = asyncio.get_running_loop()
        self._context = WorkerContext(max_requests=None)
        self._state: dict[str, Any] = {}
        self._lifespan = Lifespan(self._app, self._config, loop, self._state)
        self._lifespan_task = loop.create_task(self._lifespan.handle_lifespan())
        await self._lifespan.wait_for_startup()
        if self._lifespan_task.done():  # either not supported by the application, or failed
            self._lifespan_task.result()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=_BACKLOG)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def aclose(self) -> None:
        """Stops listening, ends or hangs up every connection, ends the lifespan. May be called twice."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        await self._context.terminated.set()  # idle connections close themselves
        await self._end_connections()
        await server.wait_closed()
        await self._lifespan.wait_for_shutdown()
        await self._lifespan_task

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Not hypercorn's own serve(): that keeps its connections to itself, and does not end while a client
        # has stopped reading.
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine always runs in a task
        self._connections[task] = writer
        try:
            loop = asyncio.get_running_loop()
            await TCPServer(self._app, loop, self._config, self._context, self._state, reader, writer)
        except asyncio.CancelledError:
            pass  # only aclose() cancels; ending quietly keeps asyncio's stream callback from complaining
        finally:
            del self._connections[task]

    async def _end_connections(self) -> None:
        if self._connections:
            await asyncio.wait(list(self._connections), timeout=self._grace)
        remaining = dict(self._connections)
        for task, writer in remaining.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*remaining, return_exceptions=True)

    async def __aenter__(self) -> str:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _quiet_config() -> Config:
    logger = logging.getLogger("llmgate.testing.loopback")
    logger.setLevel(logging.ERROR)
    config = Config()
    config.errorlog = logger
    config.accesslog = None
    config.keep_alive_timeout = _KEEP_ALIVE_SECONDS
    return config
