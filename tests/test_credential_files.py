"""Credential files: a write leaves them whole and private, whatever happens; a process lock has one holder, then none.

The locks between processes are tried with real processes, which are killed.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmgate_core import ProcessLock, write_private_file

OLD, NEW = b"what was there", b"what is there now"
SECONDS = 30.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "credentials.json"
    path.write_bytes(OLD)
    return path


# --- writing --------------------------------------------------------------------------------------------------------


def failing(number: int = errno.ENOSPC) -> Callable[..., Any]:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


def half_a_write(descriptor: int, mode: str) -> Any:
    os.write(descriptor, NEW[:5])
    os.close(descriptor)
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("name", "replacement"),
    [
        ("open", failing(errno.EACCES)),
        ("fdopen", half_a_write),
        ("fsync", failing(errno.EIO)),
        ("replace", failing(errno.EACCES)),
    ],
)
def test_a_write_that_fails_at_any_step_leaves_the_old_file_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str, replacement: Callable[..., Any]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, name, replacement)
        with pytest.raises(OSError, match=r"denied|space|error"):
            write_private_file(path, NEW)
    assert path.read_bytes() == OLD
    assert list(path.parent.iterdir()) == [path]


def test_an_interrupt_in_the_middle_leaves_the_old_file_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_private_file(path, NEW)
    assert path.read_bytes() == OLD
    assert list(path.parent.iterdir()) == [path]


def test_the_new_file_is_flushed_to_disk_before_it_takes_the_old_ones_place(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor: int) -> None:
        steps.append(f"fsync of {os.fstat(descriptor).st_size}")
        fsync(descriptor)

    def note_replace(source: Path, target: Path) -> None:
        steps.append("replace")
        assert source.read_bytes() == NEW
        assert source.parent == target.parent
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    write_private_file(path, NEW)
    assert steps == [f"fsync of {len(NEW)}", "replace"]
    assert path.read_bytes() == NEW


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_mode_is_0600_whatever_the_old_mode_and_the_umask_were(path: Path, umask: int) -> None:
    path.chmod(0o644)
    old = os.umask(umask)
    try:
        write_private_file(path, NEW)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_missing_folder_is_made_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "credentials.json"
    write_private_file(path, NEW)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.read_bytes() == NEW


@pytest.mark.parametrize("relative", [False, True])
def test_a_link_stays_a_link(path: Path, relative: bool) -> None:
    (path.parent / "elsewhere").mkdir()
    link = path.parent / "elsewhere" / "link.json"
    link.symlink_to(Path("..") / path.name if relative else path)
    write_private_file(link, NEW)
    assert link.is_symlink()
    assert not path.is_symlink()
    assert path.read_bytes() == NEW


# --- the lock -------------------------------------------------------------------------------------------------------

HOLDER = """
import sys
from pathlib import Path
from llmgate_core import ProcessLock
lock = ProcessLock(Path(sys.argv[1]))
print(lock.try_acquire(), flush=True)
lock.note(b"of another process")
print("noted", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def lock_path(tmp_path: Path) -> Path:
    return tmp_path / "credentials.lock"


def test_one_holder_at_a_time_in_one_process_too(lock_path: Path) -> None:
    one, other = ProcessLock(lock_path), ProcessLock(lock_path)
    assert one.try_acquire()
    assert (one.held, other.try_acquire(), other.held) == (True, False, False)
    one.release()
    assert (one.held, other.try_acquire()) == (False, True)
    other.release()
    other.release()
    assert one.try_acquire()
    one.release()


def test_a_holder_does_not_take_it_twice(lock_path: Path) -> None:
    lock = ProcessLock(lock_path)
    lock.try_acquire()
    with pytest.raises(RuntimeError, match=r"is held already$"):
        lock.try_acquire()
    lock.release()


def test_the_file_is_private_and_stays(lock_path: Path) -> None:
    lock = ProcessLock(lock_path)
    lock.try_acquire()
    lock.release()
    assert stat.S_IMODE(lock_path.stat().st_mode) == 0o600


def test_a_process_that_is_killed_leaves_the_lock_free_and_its_record_readable(lock_path: Path) -> None:
    lock = ProcessLock(lock_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert [holder.stdout.readline() for _ in range(2)] == [b"True\n", b"noted\n"]
        assert not lock.try_acquire()
        holder.kill()
        holder.wait(SECONDS)
        assert lock.try_acquire()
    assert lock.record() == b"of another process"
    lock.release()


def test_a_record_is_replaced_whole_and_only_by_the_holder(lock_path: Path) -> None:
    lock = ProcessLock(lock_path)
    for use in (lock.record, lambda: lock.note(b"x")):
        with pytest.raises(RuntimeError, match=r"is not held$"):
            use()
    lock.try_acquire()
    assert lock.record() == b""
    for record in (b"a long record", b"short", b""):
        lock.note(record)
        assert lock.record() == record
    lock.release()


def test_a_file_that_was_deleted_while_it_was_opened_is_no_lock(
    lock_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise two holders would have locked two files of one name."""
    opened = os.open

    def open_and_lose(path: Path, flags: int, mode: int) -> int:
        descriptor = opened(path, flags, mode)
        path.unlink()
        return descriptor

    lock = ProcessLock(lock_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", open_and_lose)
        assert not lock.try_acquire()
    assert lock.try_acquire()
    lock.release()


def test_a_child_process_that_has_inherited_the_file_does_not_keep_the_lock(lock_path: Path) -> None:
    lock = ProcessLock(lock_path)
    lock.try_acquire()
    inherited = os.dup(lock._held_descriptor())
    lock.release()
    again = ProcessLock(lock_path)
    assert again.try_acquire()
    again.release()
    os.close(inherited)


def test_where_no_file_can_be_made_it_says_so(tmp_path: Path) -> None:
    lock = ProcessLock(tmp_path / "missing" / "credentials.lock")
    with pytest.raises(FileNotFoundError):
        lock.try_acquire()
    assert not lock.held
