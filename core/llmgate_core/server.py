"""Hypercorn's protocol on connections of our own: an ASGI application on a socket, and an end that nobody can hold up.

Not hypercorn's own `serve()`: that keeps its connections to itself, waits for clients that have stopped reading, and
keeps the socket of a client that has gone until the keep-alive time is over.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.lifespan import Lifespan
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI 3 application: `await app(scope, receive, send)`."""

BACKLOG = 1024
HEADERS_BYTES = 64 * 1024
KEEP_ALIVE_SECONDS = 75.0
"""Idle connections of callers: longer than the pools of usual clients keep them, so that they, not we, hang up."""

LAST_WORDS_SECONDS = 1.0
"""What a request gets to say that it was cut off."""


class Server:
    """One ASGI application on one listening socket, in the running loop; its lifespan included.

    Installs no signal handler. Logs nothing but exceptions that the application let out.
    """

    def __init__(self, app: AsgiApp, logger: logging.Logger) -> None:
        self._app = ASGIWrapper(app)
        self._config = _config(logger)
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        """Starts the application's lifespan, then accepts connections; the socket is the server's from now on.

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
        # asyncio does this only for sockets that name their protocol, and `socket.create_server` makes none such.
        # Without it an answer's last bytes wait for the client's delayed acknowledgement: 40 ms on a kept connection.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it
        self._server = await asyncio.start_server(self._connected, sock=listener, backlog=BACKLOG)

    async def aclose(self, grace: float, interrupt: Callable[[], None] | None = None) -> None:
        """Stops listening, lets running requests end, ends the lifespan. May be called twice.

        Args:
            grace: seconds for running requests. Idle connections close at once.
            interrupt: called when they are over, to let what still runs say so; then it is hung up on.
        """
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        await self._context.terminated.set()
        await self._settled(grace)
        if self._connections and interrupt:
            interrupt()
            await self._settled(LAST_WORDS_SECONDS)
        await self._hang_up()
        await server.wait_closed()
        await self._lifespan.wait_for_shutdown()
        await self._lifespan_task

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine always runs in a task
        self._connections[task] = writer
        try:
            loop = asyncio.get_running_loop()
            await Connection(self._app, loop, self._config, self._context, self._state, reader, writer)
        except asyncio.CancelledError:
            pass  # only aclose() cancels; ending quietly keeps asyncio's stream callback from complaining
        finally:
            del self._connections[task]

    async def _settled(self, seconds: float) -> None:
        if self._connections:
            await asyncio.wait(list(self._connections), timeout=seconds)

    async def _hang_up(self) -> None:
        remaining = dict(self._connections)
        for task, writer in remaining.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*remaining, return_exceptions=True)


class Connection(TCPServer):
    """One connection; it ends when its client has gone, not when the keep-alive time is over."""

    _client_gone = False

    async def _read_data(self) -> None:
        try:
            await super()._read_data()
        finally:
            self._client_gone = True
            await self.idle_task.stop()

    async def _idle_timeout(self) -> None:
        if self._client_gone:  # an answer that ends after its caller has gone would begin to wait again
            await asyncio.shield(self._initiate_server_close())
        else:
            await super()._idle_timeout()


def _config(logger: logging.Logger) -> Config:
    logger.setLevel(logging.ERROR)
    config = Config()
    config.errorlog = logger
    config.accesslog = None
    config.keep_alive_timeout = KEEP_ALIVE_SECONDS
    config.keep_alive_max_requests = 1_000_000
    config.h11_max_incomplete_size = HEADERS_BYTES
    config.include_server_header = False
    return config
