"""Callers that hang up: the upstream's socket sees it at once, and nothing of the request stays behind."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

import pytest

from llmgate_core.builtin import OpenAICompatibleConnector
from llmgate_core.config import FailureHandlingConfig
from llmgate_core.retry import RetryAfter, RetryPolicy
from llmgate_core.testing import Exchange

if TYPE_CHECKING:
    from tests.conftest import GatewayFactory, RunningGateway

    from llmgate_core.app import Gateway
    from llmgate_core.plugins import PluginSet

PATIENCE = 20.0
"""Seconds after which an event that was waited for is taken for one that will never come."""

AT_ONCE = 20
ANSWER = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"hi"}}]}'
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n'
MORE = b'data: {"choices":[{"index":0,"delta":{"content":"more"}}]}\n\n'
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


def run(test: Coroutine[Any, Any, None], patience: float = PATIENCE) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(patience):
            await test

    asyncio.run(bounded())


class Patient(OpenAICompatibleConnector):
    """Waits as long as it is told."""

    name = "patient"

    def retry(self) -> RetryPolicy:
        return RetryAfter(max_wait=600, retries=3)


# --- what the upstream does, and when the caller leaves --------------------------------------------------------


class Asked:
    """An upstream's script that notes when it was asked, and when its socket saw the end."""

    def __init__(self, script: Callable[[Exchange], Awaitable[None]]) -> None:
        self._script = script
        self.asked: asyncio.Queue[int] = asyncio.Queue()
        self.hung_up: asyncio.Queue[int] = asyncio.Queue()

    async def __call__(self, exchange: Exchange) -> None:
        self.asked.put_nowait(exchange.number)
        try:
            await self._script(exchange)
        finally:
            await exchange.hung_up()
            self.hung_up.put_nowait(exchange.number)


async def silent(exchange: Exchange) -> None:
    await exchange.hung_up()


async def half_an_answer(exchange: Exchange) -> None:
    await exchange.head(200, {"content-type": "application/json", "content-length": str(len(ANSWER))})
    await exchange.raw(ANSWER[:20])


async def begins(exchange: Exchange) -> None:
    await exchange.sse(MORE)


async def begins_without_saying_anything(exchange: Exchange) -> None:
    await exchange.sse(ROLE)


async def begins_with_half_an_event(exchange: Exchange) -> None:
    await exchange.sse(MORE, MORE[:9])


async def never_stops(exchange: Exchange) -> None:
    while True:
        await exchange.sse(MORE)
        await asyncio.sleep(0)  # writing need not yield, and all of this runs in one loop


async def come_back_later(exchange: Exchange) -> None:
    await exchange.reply(429, {"error": {"message": "slow down"}}, {"retry-after": "60", "connection": "close"})
    exchange.cut()


CASES = {
    "before the first byte": (silent, True, None, 499),
    "while the beginning is held back": (begins_without_saying_anything, True, None, 499),
    "in mid-stream": (begins, True, b'"more"', 200),
    "in the middle of an event": (begins_with_half_an_event, True, b'data: {"c\r\n', 200),
    "while events pour in": (never_stops, True, b'"more"', 200),
    "in a plain request": (silent, False, None, 499),
    "while a plain answer is collected": (half_an_answer, False, None, 499),
    "during a retry wait of a stream": (come_back_later, True, None, 499),
    "during a retry wait": (come_back_later, False, None, 499),
}
"""Script, streamed or not, what the caller reads before it leaves, and the status in the record."""


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def tasks() -> set[asyncio.Task[Any]]:
    """Those that run, but for the fixture's own news and the coroutine that asks."""
    return {task for task in asyncio.all_tasks() if "Finished" not in str(task)}


async def settles(reached: Callable[[], bool], seconds: float) -> bool:
    """Whether a condition comes true in time; what is asked for here makes no event."""
    try:
        async with asyncio.timeout(seconds):
            while not reached():  # noqa: ASYNC110 - neither a descriptor nor a task tells when it has gone
                await asyncio.sleep(0.005)
    except TimeoutError:
        return False
    return True


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted in Linux's /proc")
@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize(("script", "stream", "until", "status"), CASES.values(), ids=CASES.keys())
def test_a_caller_that_leaves_leaves_nothing_behind(
    gateway: GatewayFactory,
    promptly: float,
    script: Callable[[Exchange], Awaitable[None]],
    stream: bool,
    until: bytes | None,
    status: int,
    reset: bool,
) -> None:
    asked = Asked(script)

    async def come_and_go(running: RunningGateway) -> None:
        reader, writer = await running.dial(stream=stream)
        await asked.asked.get()
        if until:
            await reader.readuntil(until)
        if script is come_back_later:
            await asked.hung_up.get()  # the refusal has been delivered: from now on the gateway waits
        writer.transport.abort() if reset else writer.close()
        if script is not come_back_later:
            await asyncio.wait_for(asked.hung_up.get(), promptly)

    async def test() -> None:
        alone = FailureHandlingConfig(enabled=False)  # every request meets the limit itself
        async with gateway(asked, connector=Patient, failure_handling=alone) as running:
            before, running_tasks = descriptors(), tasks()
            await asyncio.gather(*(come_and_go(running) for _ in range(AT_ONCE)))
            await running.finished(AT_ONCE)
            assert await settles(lambda: running.upstream.open == 0, promptly)
            assert await settles(lambda: descriptors() == before, promptly), (before, descriptors())
            assert await settles(lambda: tasks() == running_tasks, promptly), tasks() - running_tasks
            assert {(record.outcome, record.status, record.error) for record in running.records} == {
                ("client_closed", status, "")
            }
            assert len(running.upstream.requests) == AT_ONCE  # nobody is asked again for a caller who has gone

    run(test())


# --- very many of them -----------------------------------------------------------------------------------------

STREAMS = 1000
CANCELLED = 0.8
UPSTREAM_CONNECTIONS = 10
CLIENTS = 40


def test_cancelled_streams_use_up_no_upstream_connection(gateway: GatewayFactory, promptly: float) -> None:
    """httpx's own pool dies of it (encode/httpcore#1093): hence a limit of connections. `test_upstream` has 3,600."""
    draw = random.Random(8)
    most_open = 0
    left: list[int] = []

    def few_connections(app: Gateway, _: PluginSet) -> None:
        app.upstream._connections = UPSTREAM_CONNECTIONS

    async def streams(exchange: Exchange) -> None:
        nonlocal most_open
        most_open = max(most_open, running_gateway[0].upstream.open)
        if not exchange.request.json().get("stream"):
            await exchange.reply(200, ANSWER, {"content-type": "application/json"})
            return
        await exchange.sse(MORE)
        if exchange.request.json()["leave"]:
            await exchange.hung_up()
        else:
            await exchange.sse(END)

    async def one(running: RunningGateway, kind: str) -> None:
        reader, writer = await running.dial(stream=True, leave=kind != "stay")
        try:
            if kind != "leave at once":
                await reader.readuntil(b"\r\n\r\n")
                assert b"more" in await reader.readuntil(b"}]}")
            if kind == "stay":
                await reader.readuntil(b"[DONE]")
                left.append(1)
        finally:
            writer.transport.abort()

    async def client(running: RunningGateway, kinds: list[str]) -> None:
        while kinds:
            await one(running, kinds.pop())

    running_gateway: list[RunningGateway] = []

    async def test() -> None:
        kinds = ["stay"] * round(STREAMS * (1 - CANCELLED))
        kinds += draw.choices(["leave in mid-stream", "leave at once"], k=STREAMS - len(kinds))
        draw.shuffle(kinds)
        stayed = kinds.count("stay")
        async with gateway(streams, change=few_connections) as running:
            running_gateway.append(running)
            await asyncio.gather(*(client(running, kinds) for _ in range(CLIENTS)))
            assert len(left) == stayed
            await running.finished(STREAMS)
            assert await settles(lambda: running.upstream.open <= UPSTREAM_CONNECTIONS, promptly)
            later = await asyncio.gather(*(running.chat() for _ in range(4 * UPSTREAM_CONNECTIONS)))
            assert {answer.status_code for answer in later} == {200}
            outcomes = [record.outcome for record in running.records[:STREAMS]]
            assert (outcomes.count("ok"), outcomes.count("client_closed")) == (stayed, STREAMS - stayed)
        assert most_open <= 2 * UPSTREAM_CONNECTIONS  # the upstream hears of a closed one a little late
        assert json.loads(later[0].content)["choices"]

    run(test(), 10 * PATIENCE)
