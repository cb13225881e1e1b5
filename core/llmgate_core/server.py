"""Hypercorn's protocol on connections of our own: an ASGI application on a socket, and an end that nobody can hold up.

Not hypercorn's own `serve()`: that keeps its connections to itself, waits for clients that have stopped reading, and
keeps the socket of a client that has gone until the keep-alive time is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.lifespan import Lifespan
from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from .faults import Refused
from .http1 import Protocol

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI 3 application: `await app(scope, receive, send)`."""

BACKLOG = 1024
HEADERS_BYTES = 64 * 1024
READ_BYTES = 64 * 1024
KEEP_ALIVE_SECONDS = 75.0
"""Idle connections of callers: longer than the pools of usual clients keep them, so that they, not we, hang up."""

LAST_WORDS_SECONDS = 1.0
"""What a request gets to say that it was cut off."""

LEFTOVER_SECONDS = 10.0
"""How long a client that was refused may go on sending, so that it reads why."""


class Server:
    """One ASGI application on one listening socket, in the running loop; its lifespan included.

    Installs no signal handler. Logs nothing but exceptions that the application let out.

    Args:
        refused: answers what is no request, see `http1.Protocol`; the application must know `faults.FAULT` then.
    """

    def __init__(self, app: AsgiApp, logger: logging.Logger, refused: Refused | None = None) -> None:
        self._app = ASGIWrapper(app)
        self._refused = refused
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
            served = Connection(self._app, loop, self._config, self._context, self._state, reader, writer)
            served.refused = self._refused
            await served
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
    """One connection; it ends when its client has gone, not when the keep-alive time is over.

    Attributes:
        refused: answers what is no request.
    """

    protocol: Protocol  # type: ignore[assignment] # hypercorn's wrapper changes to HTTP/2; nothing else needs it
    refused: Refused | None = None
    _client_gone = False

    async def run(self) -> None:
        """Serves the client until one side has closed the connection."""
        try:
            async with TaskGroup(self.loop) as self._task_group:
                self.protocol = self._protocol()
                await self.idle_task.restart(self._task_group, self._idle_timeout)
                await self._read_data()
        except OSError:
            pass  # the client's doing
        finally:
            await self._close()

    def _protocol(self) -> Protocol:
        sock = self.writer.get_extra_info("socket")
        client, server = (parse_socket_addr(sock.family, end()) for end in (sock.getpeername, sock.getsockname))
        state = ConnectionState(self.state)
        return Protocol(
            self.app,
            self.config,
            self.context,
            self._task_group,
            state,
            (client, server),
            self.protocol_send,
            self.refused,
        )

    async def protocol_send(self, event: Event) -> None:
        """Writes to the client, or closes; after a refusal the client may first finish what it is sending."""
        if isinstance(event, Closed) and self.protocol.done and not self._client_gone:
            await self._close_slowly()
        else:
            await super().protocol_send(event)

    async def _close_slowly(self) -> None:
        # To close while the client's bytes arrive is a reset, which destroys the refusal on its way to it (RFC 9112,
        # section 9.6). `_read_data` goes on reading, for nobody, until the client closes or this gives up.
        with contextlib.suppress(OSError, RuntimeError):
            self.writer.write_eof()
        await self.idle_task.restart(self._task_group, self._give_up)

    async def _give_up(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.context.terminated.wait(), LEFTOVER_SECONDS)
        self.writer.transport.abort()

    async def _read_data(self) -> None:
        try:
            while data := await self.reader.read(READ_BYTES):
                await self.protocol.handle(RawData(data))
            await self.protocol.handle(RawData(b""))  # the end: what has begun will not be completed
        except OSError:
            pass  # reset by the client
        finally:
            self._client_gone = True
            await self.idle_task.stop()
        await self.protocol.handle(Closed())

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
