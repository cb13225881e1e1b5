"""Branches in parallel, on sockets: the first token comes from the faster one, and the others are hung up on."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import pytest

from llmgate_core.testing import Exchange

if TYPE_CHECKING:
    from tests.conftest import GatewayFactory, RunningGateway

FAST_SECONDS = 0.1
SLOW_SECONDS = 10 * FAST_SECONDS
ROUNDS = 5
PATIENCE = 20.0


def run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await test

    asyncio.run(bounded())


class Legs:
    """An upstream whose models differ in how long they think; notes which of them have been hung up on."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[str] = asyncio.Queue()
        self.gone: list[str] = []
        self.news = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        asked = exchange.request.json()
        model, stream = asked["model"], asked.get("stream", False)
        self.asked.put_nowait(model)
        if stream:
            await exchange.sse({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        gone = asyncio.ensure_future(exchange.hung_up())
        wait = {"fast": FAST_SECONDS, "slow": SLOW_SECONDS, "endless": None, "broken": 0.0}[model]
        await asyncio.wait({gone}, timeout=wait)
        if gone.done():
            self.gone.append(model)
            self.news.set()
            return
        gone.cancel()
        if model == "broken":
            exchange.cut()
        elif stream:
            await exchange.sse(
                {"choices": [{"index": 0, "delta": {"content": model}, "finish_reason": "stop"}]}, "[DONE]"
            )
        else:
            choice = {"index": 0, "message": {"content": model}, "finish_reason": "stop"}
            await exchange.reply(200, {"choices": [choice]})

    async def hung_up_on(self, *models: str) -> None:
        while sorted(self.gone) != sorted(models):
            self.news.clear()
            await self.news.wait()


async def first_token(running: RunningGateway, selector: str) -> float:
    """Seconds until the first content of a stream, which is read to its end."""
    body = json.dumps(running.body(model=selector, stream=True)).encode()
    headers, began, first = {"content-type": "application/json"}, time.perf_counter(), 0.0
    url = f"{running.url}/v1/chat/completions"
    async with running.client.stream("POST", url, content=body, headers=headers) as reply:
        async for piece in reply.aiter_raw():
            if not first and (b'"fast"' in piece or b'"slow"' in piece):
                first = time.perf_counter() - began
    return first


def test_the_first_token_comes_when_the_faster_leg_has_it(gateway: GatewayFactory) -> None:
    async def test() -> None:
        async with gateway(Legs()) as running:
            alone = [await first_token(running, "fast") for _ in range(ROUNDS)]
            raced = [await first_token(running, "slow!fast") for _ in range(ROUNDS)]
            # The slower one takes ten times as long; what is left between them is noise.
            assert FAST_SECONDS <= statistics.median(raced) < 2 * statistics.median(alone) < SLOW_SECONDS

    run(test())


@pytest.mark.parametrize("stream", [True, False])
def test_losers_are_hung_up_on_as_soon_as_somebody_has_won(gateway: GatewayFactory, stream: bool) -> None:
    legs = Legs()

    async def test() -> None:
        async with gateway(legs) as running:
            reply = await running.chat(model="endless!fast!endless?seed=1", stream=stream)
            assert '"fast"' in reply.text
            assert reply.headers["x-llmgate-attempts"] == "3"
            await legs.hung_up_on("endless", "endless")

    run(test())


def test_a_leg_that_fails_starts_the_one_that_waits(gateway: GatewayFactory) -> None:
    async def test() -> None:
        async with gateway(Legs()) as running:
            began = time.perf_counter()
            reply = await running.chat(model=f"[handicap={PATIENCE:g}]broken!fast", stream=True)
            assert '"fast"' in reply.text
            assert time.perf_counter() - began < PATIENCE / 2

    run(test())


@pytest.mark.parametrize("stream", [True, False])
def test_a_caller_that_leaves_ends_every_leg(gateway: GatewayFactory, stream: bool) -> None:
    legs = Legs()

    async def test() -> None:
        async with gateway(legs) as running:
            _, writer = await running.dial(model="endless!endless?seed=1", stream=stream)
            assert [await legs.asked.get() for _ in range(2)] == ["endless", "endless"]
            writer.close()
            await legs.hung_up_on("endless", "endless")
            assert (await running.finished()).outcome == "client_closed"

    run(test())
