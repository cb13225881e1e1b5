"""Code that blocks the event loop: noticed while it does, and named. It blocks until the log has told: none waits."""

from __future__ import annotations

import asyncio
import itertools
import logging
import queue
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from llmgate_core.app import Gateway
from llmgate_core.connectors import UpstreamCall, UpstreamReply, Verdict
from llmgate_core.openai_compatible import OpenAICompatible
from llmgate_core.plugins import PluginSet
from llmgate_core.request import GatewayRequest, Params
from llmgate_core.selector import Leaf
from llmgate_core.stalls import Seen, Watch, look_at, watched
from llmgate_core.testing import Exchange

if TYPE_CHECKING:
    from tests.conftest import GatewayFactory

PATIENCE = 10.0


class Told(logging.Handler):
    """Keeps what is logged with a word in it, and lets go of whoever waits for it.

    On a busy machine other code may be told of, too: the limits here are short.
    """

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.word = ""
        self.lines: queue.Queue[str] = queue.Queue()
        self.heard = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{record.levelname} {record.getMessage()}"
        if self.word in line:
            self.lines.put(line)
            self.heard.set()

    def line(self) -> str:
        return self.lines.get(timeout=PATIENCE)


@pytest.fixture
def told() -> Iterator[Told]:
    found, logger = Told(), logging.getLogger("llmgate.stalls")
    level = logger.level
    logger.addHandler(found)
    logger.setLevel(logging.DEBUG)
    yield found
    logger.removeHandler(found)
    logger.setLevel(level)


@dataclass(frozen=True)
class Settings:
    base_url: str
    models: tuple[str, ...] = ()


class Blocking(OpenAICompatible):
    """Waits without awaiting, in the way that each test sets."""

    name: ClassVar[str] = "blocking"
    settings: Settings
    heard: ClassVar[threading.Event]

    async def send(self, call: UpstreamCall) -> UpstreamReply:
        assert self.heard.wait(PATIENCE)
        return await super().send(call)


async def fine(exchange: Exchange) -> None:
    await exchange.reply(200, {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]})


def test_a_connector_that_blocks_is_named_while_it_does(gateway: GatewayFactory, told: Told) -> None:
    Blocking.heard, told.word = told.heard, "connector `blocking`"

    async def run() -> str:
        async with gateway(fine, connector=Blocking) as running:
            with watched(limit=0.05):
                answer = await running.chat()
                assert answer.status_code == 200
                # Before the loop is left: it must have gone on.
                await asyncio.to_thread(lambda: lines.extend([told.line(), told.line()]))
            return answer.headers["x-request-id"]

    lines: list[str] = []
    request_id = asyncio.run(run())
    whose = f"connector `blocking` of backend blocking.default, for request {request_id}, at {__file__}:"
    assert lines[0].startswith("WARNING nothing else has run for ")
    assert f"the event loop is blocked by {whose}" in lines[0]
    assert "in `send`. Code that blocks holds up every request" in lines[0]
    assert lines[1].startswith("WARNING the event loop goes on, after ")
    assert whose in lines[1]


def test_a_connector_that_blocks_when_it_lists_its_models_is_named(gateway: GatewayFactory, told: Told) -> None:
    class Lists(Blocking):
        async def models(self, credential: Any) -> Any:
            assert told.heard.wait(PATIENCE)
            return ()

    told.word = "connector `blocking`"
    lines: list[str] = []

    async def run() -> None:
        async with gateway(fine, connector=Lists) as running:
            with watched(limit=0.05):
                assert (await running.client.get(f"{running.url}/v1/models")).status_code == 200
                await asyncio.to_thread(lambda: lines.append(told.line()))

    asyncio.run(run())
    assert f"the event loop is blocked by connector `blocking` of backend blocking.default, at {__file__}:" in lines[0]


def test_a_policy_that_blocks_is_told_by_its_place_and_no_connector_blamed(gateway: GatewayFactory, told: Told) -> None:
    class Waits:
        name = "waits"

        def apply(self, request: GatewayRequest, leaf: Leaf, params: Params) -> Verdict:
            assert told.heard.wait(PATIENCE)
            return Verdict(params)

    told.word = "in `apply`"
    lines: list[str] = []

    def change(app: Gateway, _: PluginSet) -> None:
        app.executor._policies = [Waits()]  # type: ignore[list-item]

    async def run() -> None:
        async with gateway(fine, change=change) as running:
            with watched(limit=0.05):
                assert (await running.chat()).status_code == 200
                await asyncio.to_thread(lambda: lines.append(told.line()))

    asyncio.run(run())
    assert "the event loop is blocked by code at" in lines[0]
    assert ", for request req_" in lines[0]


def test_code_that_belongs_to_no_attempt_is_told_by_its_place(told: Told) -> None:
    told.word = "in_the_background"

    async def in_the_background() -> None:
        assert told.heard.wait(PATIENCE)

    async def run() -> None:
        with watched(limit=0.05):
            await asyncio.create_task(in_the_background())
            await asyncio.to_thread(lambda: lines.extend([told.line(), told.line()]))

    lines: list[str] = []
    asyncio.run(run())
    line, _ = lines
    assert f"blocked by code at {__file__}:" in line
    assert "in `in_the_background`" in line


def test_a_loop_that_waits_is_not_accused(told: Told) -> None:
    """It gives no sign of life here because it was never run; on a busy machine, because it has no turn."""
    loop = asyncio.new_event_loop()
    resting = threading.Event()
    told.word = "no turn"
    thread = threading.Thread(target=resting.wait, args=(PATIENCE,))
    thread.start()
    watch = Watch(loop, thread.ident or 0, limit=0.01)
    watching = threading.Thread(target=watch.run)
    watching.start()
    line = told.line()
    watch.stopped.set()
    resting.set()
    watching.join(PATIENCE)
    thread.join(PATIENCE)
    loop.close()
    assert not watching.is_alive()
    assert line.startswith("DEBUG the event loop has had no turn")


def test_the_time_is_that_of_the_clock_given(told: Told) -> None:
    clock = itertools.count(0, 7)
    told.word = "14.0 s"

    async def run() -> None:
        watch = Watch(asyncio.get_running_loop(), threading.get_ident(), limit=0.01, monotonic=lambda: next(clock))
        thread = threading.Thread(target=watch.run)
        thread.start()
        assert told.heard.wait(PATIENCE)
        watch.stopped.set()
        await asyncio.to_thread(thread.join, PATIENCE)

    asyncio.run(run())
    assert told.line().startswith("WARNING nothing else has run for 14.0 s")


@pytest.mark.parametrize(
    ("worked", "line"),
    [
        (
            8.0,
            "WARNING nothing else has run for 14.0 s: code that keeps the interpreter to itself, such as",
        ),
        (1.0, "DEBUG nothing has run for 14.0 s; the machine is busy, or was suspended"),
    ],
)
def test_a_sign_that_comes_late_and_unseen(told: Told, worked: float, line: str) -> None:
    """The clock leaps between the question and the answer, although the loop is quick."""
    leaps = itertools.count(0, 7)
    works = itertools.count(0, worked)

    async def run() -> None:
        watch = Watch(
            asyncio.get_running_loop(),
            threading.get_ident(),
            limit=PATIENCE / 2,
            monotonic=lambda: next(leaps),
            cpu=lambda: next(works),
        )
        watch.stopped.wait = lambda timeout=None: False  # type: ignore[method-assign] # it asks at once
        thread = threading.Thread(target=watch.run)
        thread.start()
        await asyncio.to_thread(told.heard.wait, PATIENCE)
        del watch.stopped.wait
        watch.stopped.set()
        await asyncio.to_thread(thread.join, PATIENCE)

    asyncio.run(run())
    assert told.line().startswith(line)


def test_a_closed_loop_ends_the_watch() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    thread = threading.Thread(target=Watch(loop, 0, limit=0.001).run)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_loop_that_goes_on_is_left_in_peace(told: Told) -> None:
    async def run() -> None:
        with watched(limit=PATIENCE):
            for _ in range(100):
                await asyncio.sleep(0)

    asyncio.run(run())
    assert told.lines.empty()


def test_no_frames_tell_nothing() -> None:
    assert look_at(None) is None


def test_our_own_code_is_told_where_no_plugin_runs() -> None:
    seen = look_at(sys._getframe())
    assert seen is not None
    assert seen.where.endswith("in `test_our_own_code_is_told_where_no_plugin_runs`")
    assert str(Seen("x.py:1 in `f`")) == "code at x.py:1 in `f`"
    assert str(Seen("x.py:1 in `f`", "req_1")) == "code at x.py:1 in `f`, for request req_1"
