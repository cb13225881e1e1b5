"""How long the conformance suite waits for one call of a connector, and what it says of one that does not end."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ...stalls import standing

T = TypeVar("T")

CALL_SECONDS = 5.0
"""How long one awaited call may take: nothing here is further away than the loopback interface."""
CLOSING_SECONDS = 1.0
"""How long a check waits for the connector that it leaves behind; whether closing ends is for other checks to say."""
BLOCKED_SECONDS = 20.0
"""How long a whole check may take that no other limit ends, because the connector keeps its thread to itself."""


class Hung(BaseException):
    """A call that did not come to its end. No Exception, so that no check takes it for what the connector raised."""


async def in_time(call: Awaitable[T], what: str, seconds: float | None = None) -> T:
    """What a call gives.

    Args:
        what: names the call, for the message.
        seconds: how long it may take, `CALL_SECONDS` unless given.

    Raises:
        Hung: it took longer.
    """
    allowed = CALL_SECONDS if seconds is None else seconds
    limit = asyncio.timeout(allowed)
    try:
        async with limit:
            return await call
    except TimeoutError:
        if not limit.expired():
            raise  # the connector's own
        raise Hung(f"{what} must come to its end, and hung for {allowed:g} s") from None


class BlockedError(Exception):
    """A check that did not give its thread back. The message says where the thread stands."""


def unblocked(check: Callable[[], T], package: str) -> T:
    """What a check gives. It runs in a thread that can be left behind, as nothing else ends code that blocks.

    Args:
        package: the connector's, for the place.

    Raises:
        BlockedError: it took longer than `BLOCKED_SECONDS`.
    """
    found = queue.SimpleQueue[T]()
    thread = threading.Thread(target=lambda: found.put(check()), daemon=True)
    thread.start()
    try:
        return found.get(timeout=BLOCKED_SECONDS)
    except queue.Empty:
        raise BlockedError(standing(thread.ident or 0, package)) from None
