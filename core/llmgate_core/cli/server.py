"""Hypercorn, in this process, bounded from outside: its own shutdown waits for clients that have stopped reading."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import Any, cast

from hypercorn.asyncio import serve
from hypercorn.config import Config
from hypercorn.utils import LifespanFailureError

KEEP_ALIVE_SECONDS = 75.0
"""Idle connections of callers: longer than the pools of usual clients keep them, so that they, not we, hang up."""

HEADERS_BYTES = 64 * 1024
LAST_WORDS_SECONDS = 1.0


async def serve_until(app: Any, listener: socket.socket, stop: asyncio.Event, grace: float) -> None:
    """Serves `app` until `stop` is set and running requests have ended; for those it waits `grace` seconds at most."""
    server = asyncio.create_task(serve(app, _config(listener, grace), shutdown_trigger=stop.wait))
    told = asyncio.create_task(stop.wait())
    await asyncio.wait({server, told}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    asyncio.get_running_loop().set_exception_handler(_no_news)
    await asyncio.wait({server}, timeout=grace + LAST_WORDS_SECONDS)
    if server.done():
        server.result()
    else:
        await _cut_off(server)


async def _cut_off(server: asyncio.Task[None]) -> None:
    """Cancels what a client keeps alive; where even that is not heard, ends the process."""
    mine = asyncio.current_task()
    for task in asyncio.all_tasks() - {mine}:
        task.cancel()
    await asyncio.wait(asyncio.all_tasks() - {mine}, timeout=LAST_WORDS_SECONDS)
    if not server.done():
        logging.shutdown()
        os._exit(0)
    if not server.cancelled():
        server.exception()  # hypercorn stumbles when its wait is cancelled (InvalidStateError); we have ended anyway


def _no_news(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Keeps quiet about connections that were cut at the end of the grace period.

    Python 3.11's streams report a cancelled connection as an exception in a callback, hypercorn a cancelled lifespan
    as a failure; the access log has told of the request already.
    """
    if not isinstance(context.get("exception"), asyncio.CancelledError | LifespanFailureError):
        loop.default_exception_handler(context)


def _config(listener: socket.socket, grace: float) -> Config:
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.graceful_timeout = grace
    config.keep_alive_timeout = KEEP_ALIVE_SECONDS
    config.keep_alive_max_requests = 1_000_000
    config.h11_max_incomplete_size = HEADERS_BYTES
    config.backlog = 1024
    config.include_server_header = False
    config.accesslog = None
    quiet = logging.getLogger("llmgate.server")
    quiet.setLevel(logging.WARNING)
    config.errorlog = cast(Any, quiet)
    return config
