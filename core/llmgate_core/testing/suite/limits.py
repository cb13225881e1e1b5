"""How long the conformance suite waits for one call of a connector, and what it says of one that does not end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")

CALL_SECONDS = 5.0
"""How long one awaited call may take: nothing here is further away than the loopback interface."""
CLOSING_SECONDS = 1.0
"""How long a check waits for the connector that it leaves behind; whether closing ends is for other checks to say."""


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
