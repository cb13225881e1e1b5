"""How long the conformance suite waits for one call of a connector, and what it says of one that does not end."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeVar

from ...stalls import standing

T = TypeVar("T")

CALL_SECONDS = 5.0
"""How long one awaited call may take: nothing here is further away than the loopback interface."""
CLOSING_SECONDS = 1.0
"""How long a check waits for the connector that it leaves behind; whether closing ends is for other checks to say."""
BLOCKED_SECONDS = 20.0
"""How long a check may take before it is looked at where its thread stands: no other limit ends code that blocks."""
LOOKS, LOOK_SECONDS = 12, 0.25
"""How often in a row a thread must be found in the same turn to be blocked, and how long after each other."""
TURN_SECONDS, TURN_LOOKS = 0.5, 8
"""How long one turn of a loop may take, and how often it must be seen in it to have taken that long."""
END_SECONDS = 90.0
"""How long a check may take, with all that it leaves behind, whether or not it blocks."""


class Hung(BaseException):
    """A call that did not come to its end. No Exception, so that no check takes it for what the connector raised."""


class HungError(AssertionError):
    """The same for who runs a check."""


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


def run(main: Coroutine[Any, Any, None]) -> None:
    """Runs a check. Threads in which something still runs when it fails are left behind: `asyncio.run` would wait.

    Raises:
        HungError: a call hung.
    """
    __tracebackhide__ = True
    with asyncio.Runner() as runner:
        try:
            runner.run(main)
        except BaseException as error:
            runner.get_loop().set_default_executor(ThreadPoolExecutor(1))
            if isinstance(error, Hung):
                raise HungError(str(error)) from None
            raise


class BlockedError(Exception):
    """A check that did not give its thread back. The message says where the thread stands; empty where it waits."""


class Lookout:
    """Looks, from a thread of its own, whether one turn of this thread's loop takes `TURN_SECONDS` and longer.

    Who blocks is looked at all the time; where the machine has no time for either thread, there are few looks, and
    nothing is told.

    Attributes:
        where: the place where the loop stood; empty where it went on.
    """

    def __init__(self, package: str) -> None:
        self.where = ""
        self._package = package
        self._watched = threading.get_ident()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        begun = standing(self._watched, self._package)
        since, looks = time.monotonic(), 0
        while not self._stopped.wait(TURN_SECONDS / (2 * TURN_LOOKS)):
            seen = standing(self._watched, self._package)
            if seen is None or begun is None or seen.turn is not begun.turn:
                begun, since, looks = seen, time.monotonic(), 0
                continue
            looks += 1
            if looks >= TURN_LOOKS and time.monotonic() - since >= TURN_SECONDS:
                self.where = seen.where

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()


def unblocked(check: Callable[[], T], package: str) -> T:
    """What a check gives. It runs in a thread that can be left behind, as nothing else ends code that blocks.

    Args:
        package: the connector's, for the place.

    Raises:
        BlockedError: it stands in the same place after `BLOCKED_SECONDS`, or goes on after `END_SECONDS`.
    """
    found = queue.SimpleQueue[T]()
    thread = threading.Thread(target=lambda: found.put(check()), daemon=True)
    thread.start()
    with contextlib.suppress(queue.Empty):
        return found.get(timeout=BLOCKED_SECONDS)
    before, looks, end = None, 0, time.monotonic() + END_SECONDS - BLOCKED_SECONDS
    while time.monotonic() < end:
        seen = standing(thread.ident or 0, package)
        looks = looks + 1 if seen and before and seen.turn is before.turn else 1
        if seen and looks == LOOKS:
            raise BlockedError(seen.where)
        before = seen
        with contextlib.suppress(queue.Empty):
            return found.get(timeout=LOOK_SECONDS)
    raise BlockedError
