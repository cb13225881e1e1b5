"""The Qwen CLI's lock file, one step at a time: created, looked at, judged, taken away. No waiting, no clock.

Its protocol: whoever creates the file holds the lock, and deletes it at the end; one that is older than the stale
time is dead. The CLI breaks a dead lock by renaming whatever lies there by then. Here only the very file that was
judged is taken away, and another one that got into our hands is put back.

Every step may be the last one of its process. So the steps are of one holder of a process lock at a time, the two
names that they work under are fixed, and `recover` is the first step of the next holder.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

CONTENT_BYTES = 256


@dataclass(frozen=True)
class Seen:
    """A lock file as it was at one moment. Two that are equal are the same lock of the same holder.

    `modified` is Unix time in nanoseconds; `content` names the holder, and is empty where it may not be read.
    """

    inode: int
    modified: int
    content: bytes = field(repr=False)


def look(path: Path) -> Seen | None:
    """What lies at `path` now, None for nothing. Raises OSError for what is no file."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            return Seen(status.st_ino, status.st_mtime_ns, file.read(CONTENT_BYTES))
    except FileNotFoundError:
        return None
    except PermissionError:
        status = path.stat()
        return Seen(status.st_ino, status.st_mtime_ns, b"")


def is_dead(seen: Seen, *, left_behind: bytes, seconds: float, stale_seconds: float) -> bool:
    """Whether nobody holds this lock any more.

    Args:
        left_behind: what the last llmgate that was at work here had noted as its lock's content. It is not at work
            any more, for we hold the process lock. Empty when there is none; a lock that is just being made is too.
        seconds: how old the lock is, or how long it has been seen unchanged, whichever is more.
    """
    return seconds > stale_seconds or (left_behind != b"" and seen.content == left_behind)


class LockFile:
    """One lock file. To be used under a process lock only: see the module's text.

    Args:
        path: the CLI's lock file.
        beside: our own file, whose name with an ending is used for what is being made or taken away.
    """

    def __init__(self, path: Path, beside: Path) -> None:
        self.path = path
        self._new = beside.with_name(f"{beside.name}.new")
        self._taken = beside.with_name(f"{beside.name}.taken")

    def look(self) -> Seen | None:
        """The lock as it is now; None when it is free."""
        return look(self.path)

    def create(self, content: bytes) -> bool:
        """Takes the lock if it is free; False if it is not. The file has its content from the first moment on.

        Raises:
            OSError: no file can be made there.
        """
        self._new.unlink(missing_ok=True)
        _write(self._new, content)
        try:
            return _link(self._new, self.path)
        finally:
            self._new.unlink(missing_ok=True)

    def take_away(self, seen: Seen) -> bool:
        """Removes the lock, if it still is the one that was seen; False if it is not, and it stays.

        Between a look and a rename another lock can come. It is put back, unless a third one has come by then.

        Raises:
            OSError: nothing may be removed there.
        """
        if look(self.path) != seen:
            return False
        try:
            os.rename(self.path, self._taken)
        except FileNotFoundError:
            return False
        if look(self._taken) == seen:
            self._taken.unlink()
            return True
        self._put_back()
        return False

    def recover(self, dead: Callable[[Seen], bool]) -> None:
        """Ends what a process left half-done when it died: a lock that it had in its hands is put back unless dead."""
        self._new.unlink(missing_ok=True)
        taken = look(self._taken)
        if taken is not None and not dead(taken):
            self._put_back()
        else:
            self._taken.unlink(missing_ok=True)

    def _put_back(self) -> None:
        _link(self._taken, self.path)
        self._taken.unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    """A new file; raises FileExistsError where there is one."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def _link(source: Path, target: Path) -> bool:
    """Gives the file a second name, unless something has that name already: then False."""
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    except OSError:
        return _copy(source, target)
    return True


def _copy(source: Path, target: Path) -> bool:
    """The same on file systems without links. For a moment the file is there and empty, as with the CLI itself."""
    try:
        _write(target, source.read_bytes())
    except FileExistsError:
        return False
    status = source.stat()
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    return True
