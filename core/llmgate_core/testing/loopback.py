"""Serves an ASGI application on an ephemeral loopback port, in the running loop, for tests and simulators.

Real sockets, because in-process ASGI transports collect the body first: they can see neither streaming, nor
back pressure, nor a disconnect.
"""

from __future__ import annotations

import logging
import socket
from types import TracebackType

from ..faults import Refused
from ..server import AsgiApp, Server


class LoopbackServer:
    """Serves one ASGI application, its lifespan included: `async with LoopbackServer(app) as url: ...`.

    It installs no signal handler and logs nothing but exceptions that the application let out (logger
    `llmgate.testing.loopback`). Closing takes little more than `grace`: what is idle is closed at once, what
    still streams is hung up on, even where a client has stopped reading.

    Args:
        app: the application.
        grace: seconds that running requests get to finish when the server closes.
        refused: answers what is no request; a gateway's is `gateway.refused`.
    """

    def __init__(self, app: AsgiApp, *, grace: float = 0.05, refused: Refused | None = None) -> None:
        self._server = Server(app, logging.getLogger("llmgate.testing.loopback"), refused)
        self._grace = grace

    async def start(self) -> str:
        """Starts the application's lifespan, then listens.

        Returns:
            The base URL, `http://127.0.0.1:PORT`.

        Raises:
            Exception: what the application's start-up failed with.
        """
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        try:
            await self._server.start(listener)
        except BaseException:
            listener.close()
            raise
        return f"http://127.0.0.1:{port}"

    async def aclose(self) -> None:
        """Stops listening, ends or hangs up every connection, ends the lifespan. May be called twice."""
        await self._server.aclose(self._grace)

    async def __aenter__(self) -> str:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
