"""An event loop in a thread of its own, so that synchronous tests can have asynchronous servers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

Run = Callable[[Coroutine[Any, Any, Any]], Any]
"""Runs a coroutine in the other thread, and returns its result or raises what it raised."""

THREAD_SECONDS = 60.0
"""How long a coroutine may take there, so that one that hangs does not stop the test run."""


@contextmanager
def in_thread(manager: AbstractAsyncContextManager[T], name: str) -> Iterator[tuple[T, Run]]:
    """Enters `manager` in a thread called `name`, leaves it there at the end, and ends the thread."""
    with _loop_in_thread(name) as run:
        entered = run(_entered(manager))
        try:
            yield entered, run
        except BaseException as error:
            run(_left(manager, error))
            raise
        run(_left(manager, None))


async def _entered(manager: AbstractAsyncContextManager[T]) -> T:
    return await manager.__aenter__()


async def _left(manager: AbstractAsyncContextManager[Any], error: BaseException | None) -> None:
    await manager.__aexit__(type(error) if error else None, error, error.__traceback__ if error else None)


@contextmanager
def _loop_in_thread(name: str) -> Iterator[Run]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name=name, daemon=True)
    thread.start()
    try:
        yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(THREAD_SECONDS)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
