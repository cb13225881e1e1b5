"""Files that hold credentials and are shared with other processes: written whole and private, guarded by a lock.

Everything here is synchronous. Writing waits for the disk, so call it in a thread; the lock never waits.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path


def write_private_file(path: Path, content: bytes) -> None:
    """Replaces a file in one step: whoever reads it, and a crash at any point, finds it whole, old or new.

    A temporary file beside it, mode 0600, is flushed to disk and renamed. A missing folder is made, mode 0700; where
    `path` is a symbolic link, the file that it leads to is replaced.

    Raises:
        OSError: it could not be written; the old file is untouched.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.tmp.{os.getpid()}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


RECORD_BYTES = 4096


class ProcessLock:
    """Excludes every other holder of the same file, in this process and in others, until it is released.

    It is the kernel's lock (flock; on Windows, a locked byte), so a process that dies, however, frees it at that
    moment. One object is one holder. The file stays for ever: if it were removed, two holders could have a lock each.

    A short record lies in the file, for the next holder to know what the last one was about when it died.

    Args:
        path: the file that is locked; made, mode 0600, when it is missing. Its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def try_acquire(self) -> bool:
        """Takes the lock if it is free, without waiting; False where somebody holds it.

        Raises:
            OSError: the file cannot be made, opened or locked (no permission, a file system without locks).
            RuntimeError: this object holds it already.
        """
        if self.held:
            raise RuntimeError(f"{self.path} is held already")
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            taken = _try_lock(descriptor) and _is_at(self.path, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        if taken:
            self._descriptor = descriptor
        else:
            os.close(descriptor)
        return taken

    def release(self) -> None:
        """Frees the lock; does nothing where it is not held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            try:
                # Closing alone would not free it while a child process has the same descriptor.
                _unlock(descriptor)
            finally:
                os.close(descriptor)

    def record(self) -> bytes:
        """What has been noted last, by whichever holder; empty at first. Raises RuntimeError unless it is held."""
        descriptor = self._held_descriptor()
        os.lseek(descriptor, 0, os.SEEK_SET)
        return os.read(descriptor, RECORD_BYTES)

    def note(self, record: bytes) -> None:
        """Notes at most 4096 bytes, which outlive this process; one of the old length is replaced at once.

        Raises:
            OSError: it could not be written.
            RuntimeError: the lock is not held.
        """
        descriptor = self._held_descriptor()
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, record)
        os.ftruncate(descriptor, len(record))

    def _held_descriptor(self) -> int:
        if self._descriptor is None:
            raise RuntimeError(f"{self.path} is not held")
        return self._descriptor


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the open file is still the one at `path`: somebody may have deleted it while we opened it."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
