"""Notices that the event loop stands still, because some code blocks it, and says in the log whose code that is.

A thread asks the loop a few times a second for a sign of life. Where none comes, it looks at what the loop's thread is
running: while a coroutine runs, the frames of all that await it lie below its own. So nothing is spent on requests.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TypeVar

from .attempts import Errand
from .backends import Backend
from .request import RequestRecord

T = TypeVar("T")

POLICIES = "llmgate_core.policies"
LIMIT_SECONDS = 1.0
LOOKS = 4
"""How often within the limit: a stall is told at the latest when it has lasted a quarter longer."""

logger = logging.getLogger("llmgate.stalls")


@dataclass(frozen=True)
class Seen:
    """What a loop was running.

    Args:
        where: file, line and function of the code, nearest to the plugin.
        request, backend, connector: whose attempt it was, empty where it was none.
    """

    where: str
    request: str = ""
    backend: str = ""
    connector: str = ""

    def __str__(self) -> str:
        asked = f", for request {self.request}" if self.request else ""
        if not self.backend:
            return f"code at {self.where}{asked}"
        return f"connector `{self.connector}` of backend {self.backend}{asked}, at {self.where}"


def look_at(innermost: FrameType | None) -> Seen | None:
    """What these frames tell; None where the loop runs nothing, but waits, or has no turn on a busy machine."""
    frames = list(_of_task(innermost))
    if not frames:
        return None
    errand, record = _local(frames, "errand", Errand), _local(frames, "record", RequestRecord)
    request = errand.request.id if errand else record.id if record else ""
    backend = errand.backend if errand else _local(frames, "backend", Backend)
    if backend is None:
        return Seen(_place(frames, ""), request)
    if any(frame.f_globals.get("__name__") == POLICIES for frame in frames):
        return Seen(_place(frames, ""), request)  # a policy decides for this backend, whose own code does not run
    package = type(backend.connector).__module__.partition(".")[0]
    return Seen(_place(frames, package), request, backend.name, backend.connector.name)


@dataclass(frozen=True)
class Standing:
    """Where a thread stands.

    Args:
        where: file, line and function: the innermost of a package, else the innermost of all but Python's own library.
        turn: the outermost frame of what the thread's loop has called, else of the thread; while that is the same,
            nothing else has had a turn.
    """

    where: str
    turn: FrameType


def standing(thread: int, package: str) -> Standing | None:
    """Where a thread stands; None where it has ended, or its loop runs nothing, but waits."""
    frames = list(_of_task(sys._current_frames().get(thread)))
    return Standing(_place(frames, package), frames[-1]) if frames else None


def _of_task(innermost: FrameType | None) -> Iterator[FrameType]:
    """From the code that runs outwards to where the loop called it; nothing if that is the loop itself."""
    frames: list[FrameType] = []
    frame = innermost
    while frame is not None and frame.f_globals.get("__name__") not in ("asyncio.base_events", "asyncio.runners"):
        frames.append(frame)
        frame = frame.f_back
    if any(_is_own(frame) for frame in frames):
        yield from frames


def _local(frames: list[FrameType], name: str, sort: type[T]) -> T | None:
    found = (frame.f_locals.get(name) for frame in frames if _package(frame) == "llmgate_core")
    return next((one for one in found if isinstance(one, sort)), None)


def _place(frames: list[FrameType], package: str) -> str:
    """The innermost line of `package`, else the innermost that is not Python's own library."""
    ours = [frame for frame in frames if _is_own(frame)]
    frame = next((frame for frame in frames if package and _package(frame) == package), ours[0])
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in `{frame.f_code.co_name}`"


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]


_LIBRARY = sysconfig.get_path("stdlib")


def _is_own(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return "site-packages" in file or not file.startswith((_LIBRARY, "<frozen"))


class Watch:
    """Asks one loop for signs of life, from a thread.

    Args:
        thread: in which the loop runs.
        monotonic: seconds.
        cpu: seconds that this process has computed.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        thread: int,
        *,
        limit: float = LIMIT_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._loop = loop
        self._thread = thread
        self._limit = limit
        self._now = monotonic
        self._cpu = cpu
        self.stopped = threading.Event()

    def run(self) -> None:
        """Until `stopped` is set, or the loop is closed."""
        alive, worked = self._now(), self._cpu()
        while not self.stopped.wait(self._limit / LOOKS):
            answered = threading.Event()
            asked = self._now()
            try:
                self._loop.call_soon_threadsafe(answered.set)
            except RuntimeError:
                return
            if not self._comes(answered, asked):
                self._tell(answered, asked)
            elif (seconds := self._now() - alive) >= self._limit + self._limit / LOOKS:
                self._tell_unseen(seconds, self._cpu() - worked)
            alive, worked = self._now(), self._cpu()

    def _comes(self, answered: threading.Event, began: float) -> bool:
        """Whether the sign came in time."""
        while not answered.wait(self._limit / LOOKS):
            if self._now() - began >= self._limit or self.stopped.is_set():
                return False
        return True

    def _tell_unseen(self, seconds: float, worked: float) -> None:
        """This thread had no turn either: somebody kept the interpreter, or the machine had no time for any of us."""
        if worked < seconds / 4:
            logger.debug("nothing has run for %.1f s; the machine is busy, or was suspended", seconds)
        else:
            logger.warning(
                "nothing else has run for %.1f s: code that keeps the interpreter to itself, such as a regular "
                "expression or a C library, blocked the event loop, and could not be seen. The access log has a "
                "request that took as long",
                seconds,
            )

    def _tell(self, answered: threading.Event, began: float) -> None:
        if self.stopped.is_set():
            return
        seen = look_at(sys._current_frames().get(self._thread))
        if seen is None:
            logger.debug("the event loop has had no turn for %.1f s; the machine is busy", self._now() - began)
        else:
            logger.warning(
                "nothing else has run for %.1f s: the event loop is blocked by %s. Code that blocks holds up every "
                "request: its author must await, or use `asyncio.to_thread`",
                self._now() - began,
                seen,
            )
        while not answered.wait(self._limit) and not self.stopped.is_set():
            pass
        if seen is not None and answered.is_set():
            logger.warning("the event loop goes on, after %.1f s (%s)", self._now() - began, seen)


@contextmanager
def watched(limit: float = LIMIT_SECONDS) -> Iterator[None]:
    """Watches the running loop until the end of the block."""
    watch = Watch(asyncio.get_running_loop(), threading.get_ident(), limit=limit)
    thread = threading.Thread(target=watch.run, name="llmgate-stalls", daemon=True)
    thread.start()
    try:
        yield
    finally:
        watch.stopped.set()
