"""The lock with a clock of our own: what is dead, who waits how long, and that no step is the wrong one to die at."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import random
import threading
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgate_core import ConnectorError, HttpReply, Instance, ProcessLock
from llmgate_qwen_oauth import refresh_lock
from llmgate_qwen_oauth.lock_file import LockFile, Seen, is_dead, look
from llmgate_qwen_oauth.refresh_lock import STALE_SECONDS, RefreshLock, to_its_end
from llmgate_qwen_oauth.settings import QwenSettings

NOW = 1_700_000_000.0
CLI, OTHER, THIRD = b"the lock of a CLI", b"the lock of another", b"the lock of a third"
SECONDS = 20.0


def nothing() -> None:
    """Nothing happens."""


class NoHttp:
    async def send(self, *args: Any, **options: Any) -> HttpReply:
        raise AssertionError("a lock asks nobody")


@dataclass
class World:
    """A folder, and a clock that only sleeping moves; `meanwhile` happens in each sleep."""

    folder: Path
    now: float = NOW
    slept: list[float] = field(default_factory=list)
    meanwhile: Callable[[], None] = nothing

    @property
    def path(self) -> Path:
        return self.folder / "oauth_creds.json"

    @property
    def cli_lock(self) -> Path:
        return self.folder / "oauth_creds.lock"

    @property
    def own_lock(self) -> Path:
        return self.folder / "oauth_creds.llmgate.lock"

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.now += seconds
        self.meanwhile()
        await asyncio.sleep(0)

    def lock(self, path: Path | None = None) -> RefreshLock:
        instance = Instance(
            name="qwen-oauth.default",
            settings=QwenSettings(),
            http=NoHttp(),
            clock=lambda: self.now,
            random=random.Random(1),
            environ={},
            home=self.folder,
            logger=logging.getLogger("llmgate.backend.qwen-oauth.default"),
            sleep=self.sleep,
        )
        return RefreshLock(path or self.path, instance, monotonic=lambda: self.now - NOW)

    def put(self, content: bytes, *, age: float = 0.0) -> None:
        """Another program's lock file, made that many seconds ago."""
        put(self.cli_lock, content, self.now - age)

    def names(self) -> set[str]:
        return {entry.name for entry in self.folder.iterdir()}


def put(path: Path, content: bytes, when: float = NOW) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    os.utime(path, (when, when))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, SECONDS))


def held_once(world: World) -> None:
    """Takes the lock and gives it back; raises what taking it raises."""

    async def test() -> None:
        async with world.lock().held() as locked:
            assert locked
            assert world.cli_lock.exists()

    run(test())


# --- judging --------------------------------------------------------------------------------------------------------

contents = st.binary(max_size=4)


@given(contents, contents, st.floats(-1e3, 1e3), st.floats(0, 100))
def test_dead_is_what_is_too_old_or_what_a_dead_llmgate_had_noted(
    content: bytes, left_behind: bytes, seconds: float, stale: float
) -> None:
    known = content == left_behind and content != b""
    dead = is_dead(Seen(1, 2, content), left_behind=left_behind, seconds=seconds, stale_seconds=stale)
    assert dead == (seconds > stale or known)


def test_no_lock_shows_whose_it_is_in_its_repr() -> None:
    assert "the lock" not in repr(Seen(1, 2, CLI))


# --- the file, step by step -----------------------------------------------------------------------------------------


@pytest.fixture
def file(world: World) -> LockFile:
    return LockFile(world.cli_lock, world.own_lock)


def no_links(*args: Any, **options: Any) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("links", [True, False])
def test_it_is_made_only_where_there_is_none(
    world: World, file: LockFile, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    assert file.create(b"one")
    assert not file.create(b"two")
    assert world.cli_lock.read_bytes() == b"one"
    assert world.names() == {"oauth_creds.lock"}


def test_nobody_ever_sees_it_empty(world: World, file: LockFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty one could not be known for ours after our death."""
    seen = []
    link = os.link

    def watched(source: Path, target: Path) -> None:
        seen.append((look(world.cli_lock), source.read_bytes()))
        link(source, target)

    monkeypatch.setattr(os, "link", watched)
    file.create(b"one")
    assert seen == [(None, b"one")]


def test_what_was_seen_is_taken_away(world: World, file: LockFile) -> None:
    world.put(CLI)
    seen = file.look()
    assert seen is not None
    assert file.take_away(seen)
    assert world.names() == set()
    assert not file.take_away(seen)


@pytest.mark.parametrize(
    "change",
    [
        lambda world: world.put(OTHER),
        lambda world: world.put(CLI, age=1),
        lambda world: os.utime(world.cli_lock, (NOW + 1, NOW + 1)),
        lambda world: world.cli_lock.write_bytes(OTHER),
    ],
    ids=["another", "the same words, older", "touched", "written to"],
)
@pytest.mark.parametrize("when", ["before", "between look and rename"])
def test_what_has_changed_since_stays_and_counts_as_live(
    world: World, file: LockFile, change: Callable[[World], None], when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put(CLI)
    seen, rename = file.look(), os.rename
    assert seen is not None

    def late(source: Path, target: Path) -> None:
        change(world)
        rename(source, target)

    if when == "before":
        change(world)
    else:
        monkeypatch.setattr(os, "rename", late)
    assert not file.take_away(seen)
    assert file.look() not in (seen, None)
    assert world.names() == {"oauth_creds.lock"}


@pytest.mark.parametrize("links", [True, False])
def test_a_lock_is_put_back_as_it_was_and_only_where_there_is_none(
    world: World, file: LockFile, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    taken = world.own_lock.with_name(f"{world.own_lock.name}.taken")
    put(taken, OTHER, NOW - 5)
    file.recover(lambda seen: False)
    back = file.look()
    assert back is not None
    assert (back.content, back.modified) == (OTHER, int((NOW - 5) * 1e9))

    put(taken, THIRD)
    file.recover(lambda seen: False)
    assert file.look() == back
    assert world.names() == {"oauth_creds.lock"}


def test_a_third_lock_that_came_meanwhile_is_not_overwritten(
    world: World, file: LockFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put(CLI)
    seen, rename = file.look(), os.rename
    assert seen is not None

    def late(source: Path, target: Path) -> None:
        world.put(OTHER)
        rename(source, target)
        world.put(THIRD)

    monkeypatch.setattr(os, "rename", late)
    assert not file.take_away(seen)
    assert world.cli_lock.read_bytes() == THIRD


# --- held, and given back -------------------------------------------------------------------------------------------


def test_held_it_is_the_clis_lock_and_ours_and_afterwards_neither(world: World) -> None:
    async def test() -> None:
        async with world.lock().held() as locked:
            assert locked
            assert str(uuid.UUID(world.cli_lock.read_text())) == world.cli_lock.read_text()
            assert not ProcessLock(world.own_lock).try_acquire()
            assert world.names() == {"oauth_creds.lock", "oauth_creds.llmgate.lock"}
        assert world.names() == {"oauth_creds.llmgate.lock"}
        assert world.slept == []

    run(test())
    held_once(world)


def test_it_is_given_back_when_the_body_fails(world: World) -> None:
    async def test() -> None:
        async with world.lock().held():
            raise ValueError("the body's")

    with pytest.raises(ValueError, match="the body's"):
        run(test())
    assert world.names() == {"oauth_creds.llmgate.lock"}
    held_once(world)


@pytest.mark.parametrize("there", [OTHER, None])
def test_only_its_owner_gives_it_back(world: World, there: bytes | None) -> None:
    """A CLI that was thought dead deletes our lock without looking, and the next one makes its own."""

    async def test() -> None:
        async with world.lock().held():
            world.cli_lock.unlink()
            if there is not None:
                world.put(there)

    run(test())
    seen = look(world.cli_lock)
    assert (seen.content if seen else None) == there


def test_a_missing_folder_is_made(world: World) -> None:
    async def test() -> None:
        async with world.lock(world.folder / "new" / "oauth_creds.json").held() as locked:
            assert locked
            assert (world.folder / "new" / "oauth_creds.lock").exists()

    run(test())


def test_all_who_share_a_file_through_links_share_our_lock(world: World) -> None:
    async def test() -> None:
        (world.folder / "real").mkdir()
        world.path.symlink_to(world.folder / "real" / "store.json")
        async with world.lock().held():
            assert world.names() == {"oauth_creds.json", "oauth_creds.lock", "real"}
            assert not ProcessLock(world.folder / "real" / "store.llmgate.lock").try_acquire()

    run(test())


@pytest.mark.parametrize("name", ["x.lock", "x", "x.llmgate.lock", "x.json"])
def test_no_credential_file_is_its_own_lock(world: World, name: str) -> None:
    async def test() -> None:
        path = world.folder / name
        put(path, b"credentials", NOW - 1000)
        async with world.lock(path).held() as locked:
            assert locked
            assert path.read_bytes() == b"credentials"
        assert path.read_bytes() == b"credentials"

    run(test())


# --- waiting --------------------------------------------------------------------------------------------------------


def test_one_llmgate_waits_for_another_and_no_longer(world: World) -> None:
    async def test() -> None:
        async with world.lock().held():
            fifth = asyncio.Event()
            world.meanwhile = lambda: fifth.set() if len(world.slept) == 5 else None
            waiting = asyncio.create_task(second())
            await fifth.wait()
            assert not waiting.done()
        await waiting

    async def second() -> None:
        async with world.lock().held() as locked:
            assert locked

    run(test())
    assert world.slept[:3] == [0.01, 0.015, 0.0225]
    assert max(world.slept) <= 0.1


def test_a_living_cli_is_waited_for(world: World) -> None:
    world.put(CLI)
    world.meanwhile = lambda: world.cli_lock.unlink(missing_ok=True) if world.now > NOW + 20 else None
    held_once(world)
    assert NOW + 20 < world.now < NOW + 20.2


@pytest.mark.parametrize("age", [0.0, 34.0, 34.999, 35.0])
def test_a_dead_cli_is_waited_for_until_its_lock_is_stale_and_no_longer(world: World, age: float) -> None:
    world.put(CLI, age=age)
    held_once(world)
    waited = world.now - NOW
    assert STALE_SECONDS - age < waited < STALE_SECONDS - age + refresh_lock.SETTLE_SECONDS + 0.02


def test_a_stale_lock_costs_the_settling_only(world: World) -> None:
    world.put(CLI, age=35.1)
    held_once(world)
    assert world.slept == [refresh_lock.SETTLE_SECONDS]


def test_a_lock_from_the_future_is_waited_for_no_longer_than_the_stale_time(world: World) -> None:
    world.put(CLI, age=-86400)
    held_once(world)
    assert STALE_SECONDS < world.now - NOW < STALE_SECONDS + 0.2


def test_a_cli_that_takes_ours_for_the_dead_one_is_noticed_while_settling(world: World) -> None:
    """It had judged the same dead lock, and renamed what lay there by then: ours. Now it holds the lock; we wait."""

    def take_over() -> None:
        if len(world.slept) == 1:
            world.put(OTHER)
        elif len(world.slept) == 4:
            world.cli_lock.unlink()

    world.put(CLI, age=40)
    world.meanwhile = take_over
    held_once(world)
    assert len(world.slept) == 4


def test_locks_that_change_hands_all_the_time_are_given_up_with_name_age_and_advice(world: World) -> None:
    world.put(CLI)
    world.meanwhile = lambda: world.put(uuid.uuid4().bytes, age=12)
    with pytest.raises(ConnectorError) as error:
        held_once(world)
    assert error.value.kind == "unavailable"
    assert error.value.message == (
        f"the token could not be refreshed: another program holds {world.cli_lock}, which is 12 s old; "
        "if neither the Qwen CLI nor llmgate is at work, delete it; try again"
    )
    assert world.now - NOW == pytest.approx(STALE_SECONDS + 30)
    assert not [name for name in world.names() if name.endswith((".new", ".taken"))]


def test_an_llmgate_that_hangs_is_given_up_with_name_time_and_advice(world: World) -> None:
    other = ProcessLock(world.own_lock)
    other.try_acquire()
    with pytest.raises(ConnectorError) as error:
        held_once(world)
    other.release()
    assert error.value.kind == "unavailable"
    assert error.value.message == (
        f"the token could not be refreshed: another llmgate has held {world.own_lock} for 65 s; "
        "see whether one hangs, and end it; try again"
    )
    assert not world.cli_lock.exists()


@pytest.mark.parametrize("holder", ["cli", "llmgate"])
def test_waiting_ends_when_there_is_nothing_left_to_wait_for(world: World, holder: str) -> None:
    async def test() -> None:
        async with world.lock().held(unless=lambda: len(world.slept) == 3) as locked:
            assert not locked

    other = ProcessLock(world.own_lock)
    if holder == "cli":
        world.put(CLI)
    else:
        other.try_acquire()
    run(test())
    assert len(world.slept) == 3
    other.release()
    assert ProcessLock(world.own_lock).try_acquire()


def test_who_leaves_while_waiting_leaves_nothing_behind(world: World) -> None:
    async def waiting() -> None:
        async with world.lock().held():
            raise AssertionError("it is another's")

    async def test() -> None:
        slept = asyncio.Event()
        world.meanwhile = slept.set
        task = asyncio.create_task(waiting())
        await slept.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert world.cli_lock.read_bytes() == CLI
        assert ProcessLock(world.own_lock).try_acquire()

    world.put(CLI)
    run(test())


def test_a_step_in_a_thread_is_waited_for_however_often_it_is_cancelled() -> None:
    begun, finish, ended = threading.Event(), threading.Event(), threading.Event()

    def step() -> None:
        begun.set()
        finish.wait(SECONDS)
        ended.set()

    async def test() -> None:
        task = asyncio.create_task(to_its_end(step))
        await asyncio.to_thread(begun.wait, SECONDS)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        finish.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()

    run(test())


# --- where there can be no lock -------------------------------------------------------------------------------------


def test_in_a_read_only_folder_the_body_runs_and_the_log_says_so_once(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def read_only(path: Path, *args: Any) -> int:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    async def test() -> None:
        lock = world.lock()
        for _ in range(3):
            async with lock.held() as locked:
                assert locked

    monkeypatch.setattr(os, "open", read_only)
    run(test())
    (record,) = caplog.records
    assert record.getMessage().startswith(f"cannot lock {world.own_lock} (Read-only file system): ")
    assert world.names() == set()


def test_where_only_the_clis_lock_cannot_be_made_ours_is_held_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def only_there(path: Path, flags: int, mode: int = 0o777) -> int:
        if Path(path) == world.own_lock:
            return opened(path, flags, mode)
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    async def test() -> None:
        async with world.lock().held() as locked:
            assert locked
            other = ProcessLock(world.own_lock)
            assert not other.try_acquire()
        assert other.try_acquire()
        other.release()

    monkeypatch.setattr(os, "open", only_there)
    run(test())


# --- dying ----------------------------------------------------------------------------------------------------------

STEPS = ("open", "write", "ftruncate", "rename", "link")


class Killed(BaseException):
    """The process ends here: nothing after this happens any more."""


def killed_at(number: int, before: bool, patch: pytest.MonkeyPatch) -> list[str]:
    """Ends the process at the `number`th system call that changes something; what then unwinds changes nothing."""
    done: list[str] = []

    def wrapped(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **options: Any) -> Any:
            if len(done) > number:
                raise Killed
            done.append(name)
            if len(done) > number and before:
                raise Killed
            result = call(*args, **options)
            if len(done) > number:
                if name == "open":
                    os.close(result)
                raise Killed
            return result

        return step

    for name in STEPS:
        patch.setattr(os, name, wrapped(name, getattr(os, name)))
    patch.setattr(Path, "unlink", wrapped("unlink", Path.unlink))
    return done


def dies(world: World, number: int, before: bool) -> bool:
    """An llmgate that takes the lock and gives it back, and is killed over it; False where it has survived."""
    with pytest.MonkeyPatch.context() as patch:
        killed_at(number, before, patch)
        hold = refresh_lock._Hold(world.path, STALE_SECONDS, lambda: world.now, lambda: world.now - NOW)
        try:
            for _ in range(10):
                if hold.attempt() is None:
                    break
                world.now += refresh_lock.SETTLE_SECONDS
            hold.release()
        except Killed:
            patch.undo()
            hold._process_lock.release()  # the kernel does that
            return True
    return False


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("there", [None, "stale", "a dead llmgate's"])
def test_whenever_an_llmgate_dies_the_next_one_does_not_wait_for_it(
    tmp_path: Path, before: bool, there: str | None
) -> None:
    """Killed before or after any system call: the next takes the lock at once, and leaves the folder clean."""
    survived = False
    for number in range(60):
        (tmp_path / str(number)).mkdir()
        world = World(tmp_path / str(number))
        if there == "stale":
            world.put(CLI, age=36)
        elif there is not None:
            world.put(CLI)
            world.own_lock.write_bytes(CLI)
        survived = not dies(world, number, before)
        held_once(world)
        assert sum(world.slept) <= refresh_lock.SETTLE_SECONDS, f"killed at step {number}"
        assert world.names() == {"oauth_creds.llmgate.lock"}
        if survived:
            break
    assert survived
    assert number > 5


@pytest.mark.parametrize("number", range(8))
def test_a_living_lock_survives_an_llmgate_that_dies_with_it_in_its_hands(world: World, number: int) -> None:
    """It had come between the look and the rename; the next llmgate puts it back, and waits for it."""
    rename = os.rename

    def late(source: Path, target: Path) -> None:
        world.put(OTHER)
        rename(source, target)

    world.put(CLI, age=36)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", late)
        dies(world, number, before=False)
    world.meanwhile = lambda: world.cli_lock.unlink(missing_ok=True) if len(world.slept) == 3 else None
    held_once(world)
    assert world.names() == {"oauth_creds.llmgate.lock"}
