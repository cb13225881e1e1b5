"""Tasks that plugin code leaves behind: found when its backend closes, named, cancelled. Nobody else's are touched."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from llmgate_core.connectors import UpstreamCall, UpstreamReply
from llmgate_core.openai_compatible import OpenAICompatible
from llmgate_core.ownership import Owned, Tasks, unowned, watch_tasks
from llmgate_core.testing import Exchange

if TYPE_CHECKING:
    from tests.conftest import GatewayFactory


def watched(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        watch_tasks(asyncio.get_running_loop())
        await test()

    asyncio.run(run())


async def for_ever() -> None:
    await asyncio.Event().wait()


# --- who owns a task --------------------------------------------------------------------------------------------------


def test_tasks_of_the_block_are_owned_and_those_that_they_begin() -> None:
    async def test() -> None:
        tasks = Tasks()
        begun: list[asyncio.Task[None]] = []

        async def begins() -> None:
            begun.append(asyncio.create_task(for_ever()))
            await for_ever()

        with tasks.owning():
            begun.append(asyncio.create_task(begins()))
            with unowned():
                free = asyncio.create_task(for_ever())
        other = asyncio.create_task(for_ever())
        told = await tasks.end()
        assert [text.split("`")[1].rsplit(".", 1)[-1] for text in told] == ["for_ever", "begins"]
        assert all("test_ownership.py:" in text for text in told)
        assert [task.cancelled() for task in (*begun, free, other)] == [True, True, False, False]

    watched(test)


def test_what_has_ended_or_is_about_to_is_not_told() -> None:
    async def test() -> None:
        tasks = Tasks()
        with tasks.owning():
            ended = asyncio.create_task(asyncio.sleep(0))
            cancelled = asyncio.create_task(for_ever())
        await ended
        cancelled.cancel()
        assert await tasks.end() == []

    watched(test)


def test_one_that_does_not_end_when_cancelled_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmgate_core.ownership.CANCEL_SECONDS", 0.01)

    async def test() -> None:
        tasks, over = Tasks(), asyncio.Event()

        async def stubborn() -> None:
            while not over.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await over.wait()

        with tasks.owning():
            task = asyncio.create_task(stubborn())
        assert len(await tasks.end()) == 1
        over.set()
        await task

    watched(test)


def test_a_factory_that_was_there_before_still_makes_the_tasks() -> None:
    class Special(asyncio.Task[Any]):
        pass

    async def test() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(lambda loop, coroutine, **more: Special(coroutine, loop=loop, **more))
        watch_tasks(loop)
        tasks = Tasks()
        with tasks.owning():
            task = asyncio.create_task(for_ever())
        assert isinstance(task, Special)
        assert len(await tasks.end()) == 1

    asyncio.run(test())


def test_a_generator_owns_what_it_begins_and_not_what_its_reader_begins() -> None:
    async def test() -> None:
        tasks = Tasks()
        begun: list[asyncio.Task[None]] = []

        async def chunks() -> AsyncGenerator[bytes, None]:
            try:
                begun.append(asyncio.create_task(for_ever()))
                yield b"1"
                yield b"2"
            finally:
                begun.append(asyncio.create_task(for_ever()))

        owned = Owned(chunks(), tasks)
        assert await anext(owned) == b"1"
        readers = asyncio.create_task(for_ever())
        assert await owned.asend(None) == b"2"
        await owned.aclose()
        assert len(await tasks.end()) == 2
        assert [task.cancelled() for task in (*begun, readers)] == [True, True, False]
        readers.cancel()

    watched(test)


def test_a_generator_that_is_thrown_into() -> None:
    async def test() -> None:
        async def chunks() -> AsyncGenerator[bytes, None]:
            with contextlib.suppress(KeyError):
                yield b"1"
            yield b"2"

        owned = Owned(chunks(), Tasks())
        await anext(owned)
        assert await owned.athrow(KeyError()) == b"2"

    watched(test)


# --- in a gateway -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    base_url: str
    models: tuple[str, ...] = ()


class Leaking(OpenAICompatible):
    """Begins something with every request, and forgets it."""

    name: ClassVar[str] = "leaking"
    settings: Settings
    kept: ClassVar[list[asyncio.Task[None]]] = []

    async def poll(self) -> None:
        await asyncio.Event().wait()

    async def send(self, call: UpstreamCall) -> UpstreamReply:
        self.kept.append(asyncio.create_task(self.poll()))
        return await super().send(call)


async def fine(exchange: Exchange) -> None:
    await exchange.reply(200, {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]})


async def left_behind(gateway: GatewayFactory, connector: type[OpenAICompatible] | None) -> None:
    watch_tasks(asyncio.get_running_loop())
    async with gateway(fine, connector=connector) as running:
        assert (await running.chat()).status_code == 200


def test_a_leaked_task_is_named_with_its_connector(gateway: GatewayFactory, caplog: pytest.LogCaptureFixture) -> None:
    Leaking.kept.clear()
    with caplog.at_level(logging.WARNING, "llmgate"):
        asyncio.run(left_behind(gateway, Leaking))
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "backend leaking.default: connector `leaking` left a task behind, which was cancelled: `Leaking.poll` ("
    )
    assert record.getMessage().endswith("; a connector ends its tasks in `aclose()`")
    assert [task.cancelled() for task in Leaking.kept] == [True]


class Leaving(Leaking):
    name: ClassVar[str] = "leaving"

    async def poll(self) -> None:
        raise SystemExit(3)


def test_an_exit_in_a_task_of_a_connector_ends_that_task_only(gateway: GatewayFactory) -> None:
    Leaving.kept.clear()

    async def test() -> None:
        watch_tasks(asyncio.get_running_loop())
        async with gateway(fine, connector=Leaving) as running:
            for _ in range(2):
                assert (await running.chat()).status_code == 200

    asyncio.run(test())
    raised = [task.exception() for task in Leaving.kept]
    assert [str(error) for error in raised] == ["plugin code tried to end the process, with `SystemExit`"] * 2


def test_a_task_that_never_began_is_closed_without_a_warning() -> None:
    async def test() -> None:
        tasks = Tasks()
        with tasks.owning():
            task = asyncio.create_task(for_ever())
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    watched(test)


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_close_that_hangs_is_told_and_keeps_nobody_open(
    gateway: GatewayFactory, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, stubborn: bool
) -> None:
    monkeypatch.setattr("llmgate_core.backends.CLOSE_SECONDS", 0.05)

    class Hanging(OpenAICompatible):
        name = "hanging"
        settings: Settings

        async def aclose(self) -> None:
            try:
                await for_ever()
            except asyncio.CancelledError:
                if not stubborn:
                    raise

    with caplog.at_level(logging.WARNING, "llmgate"):
        asyncio.run(left_behind(gateway, Hanging))
    assert [record.getMessage() for record in caplog.records] == [
        "backend hanging.default: `aclose()` of connector `hanging` hung for 0.05 s, and was cancelled"
    ]


def test_one_that_leaks_nothing_is_not_named(gateway: GatewayFactory, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "llmgate"):
        asyncio.run(left_behind(gateway, None))
    assert not caplog.records
