"""Who may change the credential file: one program at a time, llmgate or Qwen CLI.

Two locks, always in this order. A process lock on a file of ours keeps llmgate's own processes apart, whatever
happens to them. Its holder alone deals with the Qwen CLI's lock file (`lock_file`), and notes in the process lock's
record what that file will hold before it makes it: so the next holder knows the lock of a process that has died from
the lock of one that lives, and need not wait until it is stale.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from llmgate_core import ConnectorError, Instance, ProcessLock

from .lock_file import LockFile, Seen, is_dead
from .refresh import REFRESH_TIMEOUT_SECONDS, unavailable

STALE_SECONDS = 35.0
"""The Qwen CLI's own, since 0.24; versions up to 0.15.10 had 10."""

FIRST_WAIT_SECONDS = 0.01
LONGEST_WAIT_SECONDS = 0.1
SETTLE_SECONDS = 0.1
YOUNG = 1 / 4
"""The part of the stale time within which no version of the CLI takes a lock for dead."""

T = TypeVar("T")


@dataclass(frozen=True)
class Obstacle:
    """What stands between us and the lock.

    Args:
        what: a clause for the error of who has waited in vain.
        at_least, at_most: bounds of the time until it is worth looking again, in seconds.
    """

    what: str
    at_least: float = 0.0
    at_most: float = LONGEST_WAIT_SECONDS


class RefreshLock:
    """Guards one credential file. Made without I/O.

    Args:
        path: the credential file. The CLI's lock file lies beside it; ours lies beside the real file, where `path` is
            a link, so that all who share that file share the lock.
        stale_seconds: how old a lock file is when its holder counts as dead.
        monotonic: seconds that only ever grow.
    """

    def __init__(
        self,
        path: Path,
        instance: Instance,
        *,
        stale_seconds: float = STALE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._instance = instance
        self._stale_seconds = stale_seconds
        self._monotonic = monotonic
        self._warned = False

    @asynccontextmanager
    async def held(self, unless: Callable[[], bool] = lambda: False) -> AsyncIterator[bool]:
        """Holds the lock in the block's body, and says whether it does.

        It waits for other holders: at most the stale time, and on top of it as long as a refresh may take. Where no
        lock can be had at all (a read-only folder), that is told in the log once, and the body runs as if it were
        held: there is nobody to agree with.

        Args:
            unless: asked whenever it would have to wait; True ends the waiting, and the body runs without the lock.

        Raises:
            ConnectorError: `unavailable`, others held the lock all the time; it names the file.
        """
        hold = _Hold(self._path, self._stale_seconds, self._instance.clock, self._monotonic)
        try:
            yield await self._taken(hold, unless)
        finally:
            await to_its_end(hold.release)

    async def alone(self, change: Callable[[], T]) -> T:
        """Makes a short change that a person has asked for, if possible while no other program refreshes.

        `change` runs on the event loop, unlike the steps of the lock: nothing can come between the change and the
        knowledge that it was made, and everything else waits for it.

        It is made at once where the lock cannot be had. Cancelling ends the waiting; what has been done is done, and
        is not taken for cancelled.
        """
        done: list[T] = []
        began = False
        try:
            async with self.held():
                began = True
                done.append(change())
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not done or task is None:
                raise
            task.uncancel()
        except ConnectorError:
            if began:
                raise
        return done[0] if done else change()

    async def _taken(self, hold: _Hold, unless: Callable[[], bool]) -> bool:
        deadline = self._monotonic() + self._stale_seconds + REFRESH_TIMEOUT_SECONDS
        wait = FIRST_WAIT_SECONDS
        while (obstacle := await self._attempt(hold)) is not None:
            if unless():
                return False
            left = deadline - self._monotonic()
            if left <= 0:
                raise unavailable(obstacle.what)
            await self._instance.sleep(max(obstacle.at_least, min(wait, obstacle.at_most, left)))
            wait = min(wait * 1.5, LONGEST_WAIT_SECONDS)
        return True

    async def _attempt(self, hold: _Hold) -> Obstacle | None:
        try:
            return await to_its_end(hold.attempt)
        except OSError as error:
            if not self._warned:
                self._warned = True
                self._instance.logger.warning(
                    "cannot lock %s (%s): tokens are refreshed without regard to other programs that use this file; "
                    "make its folder writable, or let nobody else refresh it",
                    error.filename or self._path,
                    error.strerror,
                )
            return None


class _Hold:
    """One time of holding both locks, or of trying to. Its steps run in threads, one after the other."""

    def __init__(
        self, path: Path, stale_seconds: float, clock: Callable[[], float], monotonic: Callable[[], float]
    ) -> None:
        real = Path(os.path.realpath(path))
        self._process_lock = ProcessLock(real.with_name(f"{real.name.removesuffix('.json')}.llmgate.lock"))
        self._file = LockFile(path.with_name(f"{path.name.removesuffix('.json')}.lock"), self._process_lock.path)
        self._folder = path.parent
        self._stale_seconds = stale_seconds
        self._clock = clock
        self._monotonic = monotonic
        self._began = monotonic()
        self._content = str(uuid.uuid4()).encode()
        self._left_behind = b""
        self._watched: tuple[Seen, float] | None = None
        self._made = False

    def attempt(self) -> Obstacle | None:
        """The next step towards holding both locks; None when they are held. Raises OSError where none can be made."""
        if not self._process_lock.held and not self._acquire():
            return self._another_llmgate()
        seen = self._file.look()
        if self._made and self._is_ours(seen):
            return None
        if seen is not None and not (self._is_dead(seen) and self._file.take_away(seen)):
            return self._another_program(seen)
        self._process_lock.note(self._content)
        self._made = self._file.create(self._content)
        if not self._made:
            return self._changing()
        return None if seen is None or self._age(seen) < self._stale_seconds * YOUNG else self._settling()

    def release(self) -> None:
        """Gives back what is held: the lock file only if it is still ours."""
        try:
            seen = self._file.look() if self._made else None
            if seen is not None and self._is_ours(seen):
                self._file.take_away(seen)
        except OSError:
            pass  # It stays behind; the next llmgate knows it by the record.
        finally:
            self._process_lock.release()

    def _acquire(self) -> bool:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._process_lock.try_acquire():
            return False
        self._left_behind = self._process_lock.record()
        self._file.recover(self._is_dead)
        return True

    def _is_ours(self, seen: Seen | None) -> bool:
        return seen is not None and seen.content == self._content

    def _is_dead(self, seen: Seen) -> bool:
        return is_dead(seen, left_behind=self._left_behind, seconds=self._age(seen), stale_seconds=self._stale_seconds)

    def _age(self, seen: Seen) -> float:
        """Seconds since the lock was made, by its own time or by ours: a time in the future must not make it live."""
        if self._watched is None or self._watched[0] != seen:
            self._watched = (seen, self._monotonic())
        return max(self._clock() - seen.modified / 1e9, self._monotonic() - self._watched[1])

    # --- what is in the way --------------------------------------------------------------------------------------

    def _another_llmgate(self) -> Obstacle:
        seconds = self._monotonic() - self._began
        return Obstacle(
            f"another llmgate has held {self._process_lock.path} for {seconds:.0f} s; see whether one hangs, and end it"
        )

    def _another_program(self, seen: Seen) -> Obstacle:
        age = self._age(seen)
        return Obstacle(
            f"another program holds {self._file.path}, which is {age:.0f} s old; "
            "if neither the Qwen CLI nor llmgate is at work, delete it",
            at_most=max(self._stale_seconds - age, 0.0) + 0.001,
        )

    def _settling(self) -> Obstacle:
        """A CLI that has judged the same dead lock may take ours for it: we look again before we rely on it."""
        return self._changing(at_least=min(SETTLE_SECONDS, self._stale_seconds / 20))

    def _changing(self, at_least: float = 0.0) -> Obstacle:
        return Obstacle(f"{self._file.path} changes hands all the time", at_least=at_least)


async def to_its_end(step: Callable[[], T]) -> T:
    """Runs `step` in a thread. Whoever cancels it waits for its end, so that nobody undoes what is still being done."""
    running = asyncio.get_running_loop().run_in_executor(None, step)
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        running.exception()  # looked at, so that nobody complains that nobody did
        raise cancelled
    return running.result()
