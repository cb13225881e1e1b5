"""Whose code is running, so that tasks which it leaves behind have a name. An owner is known by its tasks alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast
from weakref import WeakSet

from .errors import PLUGIN_FAULTS

CANCEL_SECONDS = 1.0
"""What a task that was left behind gets to end itself when it is cancelled."""


LET_OUT = "plugin code raised `CancelledError`, though nobody had cancelled it"


class Tasks:
    """The tasks that began in one owner's code and have not ended; of those that they began, too."""

    def __init__(self) -> None:
        self._tasks: WeakSet[asyncio.Task[Any]] = WeakSet()

    def add(self, task: asyncio.Task[Any]) -> None:
        """One more."""
        self._tasks.add(task)

    @contextmanager
    def owning(self) -> Iterator[None]:
        """What begins within the block belongs to this owner."""
        token = _OWNER.set(self)
        try:
            yield
        finally:
            _OWNER.reset(token)

    async def end(self) -> list[str]:
        """Cancels those that still run, waits for them for a moment, and says what they are."""
        await asyncio.sleep(0)  # what has just been cancelled ends in the next round of the loop
        left = [task for task in self._tasks if not task.done() and task is not asyncio.current_task()]
        told = {task: described(task) for task in left if not task.cancelling()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=CANCEL_SECONDS)
        return sorted(words if task.done() else f"{words}, which goes on nevertheless" for task, words in told.items())


_OWNER: ContextVar[Tasks | None] = ContextVar("owner", default=None)


@contextmanager
def unowned() -> Iterator[None]:
    """What begins within the block is nobody's: what core does while an owner's code waits, such as to connect."""
    token = _OWNER.set(None)
    try:
        yield
    finally:
        _OWNER.reset(token)


def described(task: asyncio.Task[Any]) -> str:
    """What a task runs, and where that is written."""
    coroutine: Any = task.get_coro()
    coroutine = getattr(coroutine, "inner", coroutine)
    name = getattr(coroutine, "__qualname__", type(coroutine).__name__)
    code = getattr(coroutine, "cr_code", None) or getattr(coroutine, "ag_code", None)
    return f"`{name}` ({code.co_filename}:{code.co_firstlineno})" if code else f"`{name}`"


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


@contextmanager
def contained() -> Iterator[None]:
    """Out of the block come `PLUGIN_FAULTS`, and nothing that would pass by whoever catches these.

    A CancelledError passes where somebody has told this task to end. Who awaits an inner task that was cancelled, and
    does not catch what comes of it, lets one out too; passed on, it would end the request as if its caller had left.
    """
    try:
        yield
    except (*PLUGIN_FAULTS, GeneratorExit):  # the latter is how generators are closed
        raise
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError) and _is_cancelled():
            raise
        raise contents_of(error) from error


def contents_of(error: BaseException) -> RuntimeError:
    """What is told, at the same place, of an error that would end more than it should."""
    match error:
        case asyncio.CancelledError():
            told = LET_OUT
        case SystemExit() | KeyboardInterrupt():
            told = f"plugin code tried to end the process, with `{type(error).__name__}`"
        case _:
            told = f"plugin code raised `{type(error).__name__}`, which is no `Exception`"
    return RuntimeError(told).with_traceback(error.__traceback__)


class Contained(Coroutine[Any, Any, Any]):
    """A coroutine of an owner's that runs in a task of its own, where `sys.exit()` would end the event loop.

    Attributes:
        inner: the coroutine.
    """

    def __init__(self, inner: Coroutine[Any, Any, Any]) -> None:
        self.inner = inner
        self.__name__ = getattr(inner, "__name__", type(inner).__name__)  # for who shows the task
        self.__qualname__ = getattr(inner, "__qualname__", self.__name__)

    def send(self, value: Any) -> Any:
        """As of any coroutine."""
        try:
            return self.inner.send(value)
        except (SystemExit, KeyboardInterrupt) as error:
            raise contents_of(error) from error

    def throw(self, *error: Any) -> Any:
        """As of any coroutine."""
        try:
            return self.inner.throw(*error)
        except (SystemExit, KeyboardInterrupt) as raised:
            raise contents_of(raised) from raised

    def close(self) -> None:
        """As of any coroutine."""
        self.inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        """As of any coroutine."""
        return self.inner.__await__()


def watch_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """From now on the tasks of this loop are noted by their owners; without it nobody owns any."""
    before: Callable[..., Any] | None = loop.get_task_factory()

    def make(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **more: Any) -> asyncio.Task[Any]:
        context = more.get("context")
        owner = _OWNER.get() if context is None else context.get(_OWNER)
        if owner is not None:
            coroutine = Contained(coroutine)
        task: asyncio.Task[Any]
        task = before(loop, coroutine, **more) if before else asyncio.Task(coroutine, loop=loop, **more)
        if owner is not None:
            owner.add(task)
        return task

    loop.set_task_factory(cast("Any", make))  # typeshed's protocol names an argument that no loop passes by name


class Owned(AsyncGenerator[bytes, None]):
    """A generator of an owner's, whoever asks it for more. A block in a generator would leak into the asker's code."""

    def __init__(self, chunks: AsyncGenerator[bytes, None], owner: Tasks) -> None:
        self._chunks = chunks
        self._owner = owner

    async def __anext__(self) -> bytes:
        """The next chunk."""
        token = _OWNER.set(self._owner)  # not `owning`: this is on the way of every chunk
        try:
            return await self._chunks.__anext__()
        except (Exception, GeneratorExit):
            raise
        except BaseException as error:
            # As in `contained`, and `sys.exit()` too: who reads may be a task, out of which that would end the loop.
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            raise contents_of(error) from error
        finally:
            _OWNER.reset(token)

    async def asend(self, value: None) -> bytes:
        """As of any generator."""
        with self._owner.owning():
            return await self._chunks.asend(value)

    async def athrow(self, *error: Any) -> bytes:
        """As of any generator."""
        with self._owner.owning():
            return await self._chunks.athrow(*error)

    async def aclose(self) -> None:
        """Closes the generator, also one that never began."""
        with self._owner.owning():
            await self._chunks.aclose()
