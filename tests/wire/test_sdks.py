"""What the official SDKs make of the gateway, in all dialects, passed on and translated: answers, retries, failures."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest
from tests.wire.callers import ASKED, CALLERS, TOLD, to_openai
from tests.wire.upstreams import BACKENDS, SCRIPTS, STREAMS

from llmgate_core.sections import AuthConfig, CallerSecret
from llmgate_core.testing import Exchange

if TYPE_CHECKING:
    from tests.conftest import GatewayFactory

PAIRS = [
    *((dialect, dialect) for dialect in SCRIPTS),
    *(("chat", "messages"), ("messages", "chat"), ("responses", "chat"), ("responses", "messages")),
]
"""Caller and upstream."""

pairs = pytest.mark.parametrize(("caller", "upstream"), PAIRS, ids=[f"{one}-over-{other}" for one, other in PAIRS])


def run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test

    asyncio.run(bounded())


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pairs
def test_every_caller_hears_the_same_of_every_upstream(
    gateway: GatewayFactory, caller: str, upstream: str, stream: bool
) -> None:
    async def test() -> None:
        async with gateway(SCRIPTS[upstream], **BACKENDS[upstream]) as running:
            assert await CALLERS[caller](running, stream=stream) == TOLD
            assert (await running.finished()).outcome == "ok"

    run(test())


# --- an upstream that dies --------------------------------------------------------------------------------------------

ENDS = {"chat": "'finish_reason': 'tool_calls'", "messages": "message_delta", "responses": "response.completed"}
LAST = {
    name: next(place for place, event in enumerate(STREAMS[name]) if end in str(event)) for name, end in ENDS.items()
}
"""So many events come before the one that says why the answer has ended."""

RAISED: dict[str, tuple[type[Exception], ...]] = {
    "chat": (openai.APIError,),
    "messages": (anthropic.APIStatusError,),
    # The SDK hands an `error` event and `response.failed` to who reads events; who wants the answer hears this.
    "responses": (openai.APIError, RuntimeError),
}


@pairs
def test_a_death_in_mid_stream_is_never_a_short_answer(gateway: GatewayFactory, caller: str, upstream: str) -> None:
    events, last = STREAMS[upstream], LAST[upstream]
    if caller == upstream == "messages":
        last = len(events) - 1  # the reason of the end has come, and its last word has not
    told = iter([1, last // 2, last])

    async def dies(exchange: Exchange) -> None:
        await exchange.sse(*events[: next(told)])
        exchange.cut()

    async def test() -> None:
        async with gateway(dies, **BACKENDS[upstream]) as running:
            for count in (1, 2, 3):
                with pytest.raises(RAISED[caller]):
                    await CALLERS[caller](running, stream=True)
                assert (await running.finished(count)).outcome in ("cut_off", "failed")

    run(test())


@pytest.mark.parametrize(("upstream", "end"), [("chat", "response.failed"), ("responses", "error")])
def test_who_reads_events_of_responses_is_told_of_the_death(gateway: GatewayFactory, upstream: str, end: str) -> None:
    async def dies(exchange: Exchange) -> None:
        await exchange.sse(*STREAMS[upstream][: LAST[upstream]])
        exchange.cut()

    async def test() -> None:
        async with gateway(dies, **BACKENDS[upstream]) as running:
            async with to_openai(running) as client:
                stream = await client.responses.create(model="m", input=ASKED, stream=True)
                events: list[Any] = [event async for event in stream]
            assert [event.type for event in events if event.type in ("error", "response.completed")] == (
                ["error"] if end == "error" else []
            )
            assert events[-1].type == end
            message = events[-1].message if end == "error" else events[-1].response.error.message
            assert "[llmgate: backend " in message

    run(test())


# --- an upstream that refuses -----------------------------------------------------------------------------------------


@pairs
def test_a_rate_limit_is_waited_for_by_the_sdk(gateway: GatewayFactory, caller: str, upstream: str) -> None:
    async def second_time_good(exchange: Exchange) -> None:
        if len(running_upstream[0].requests) == 1:
            await exchange.reply(429, {"error": {"message": "slow down"}}, {"retry-after-ms": "1"})
        else:
            await SCRIPTS[upstream](exchange)

    running_upstream: list[Any] = []

    async def test() -> None:
        async with gateway(second_time_good, **BACKENDS[upstream]) as running:
            running_upstream.append(running.upstream)
            assert await CALLERS[caller](running, stream=True, max_retries=1) == TOLD
            await running.finished(2)
            assert [record.status for record in running.records] == [429, 200]

    run(test())


@pairs
def test_an_upstream_s_dead_key_is_no_matter_of_the_caller_s(
    gateway: GatewayFactory, caller: str, upstream: str
) -> None:
    async def refuses(exchange: Exchange) -> None:
        await exchange.reply(401, {"error": {"message": "invalid x-api-key"}})

    async def test() -> None:
        async with gateway(refuses, **BACKENDS[upstream]) as running:
            with pytest.raises((anthropic.InternalServerError, openai.InternalServerError)) as caught:
                await CALLERS[caller](running, stream=True, max_retries=2)
            assert len(running.upstream.requests) == 1, "the SDK has tried again"
            error: Any = caught.value
            assert error.status_code == 502
            assert error.response.headers["x-should-retry"] == "false"
            assert "invalid x-api-key" in str(error)
            if isinstance(error, openai.APIError):
                assert error.code == "upstream_auth"

    run(test())


@pytest.mark.parametrize("caller", CALLERS)
def test_a_bad_key_of_the_caller_s(gateway: GatewayFactory, caller: str) -> None:
    async def test() -> None:
        async with gateway(SCRIPTS["chat"], auth=AuthConfig((CallerSecret("sk-the-right-one"),))) as running:
            assert await CALLERS[caller](running, stream=True, api_key="sk-the-right-one") == TOLD
            with pytest.raises((anthropic.AuthenticationError, openai.AuthenticationError)) as caught:
                await CALLERS[caller](running, stream=True, api_key="sk-another-one", max_retries=2)
            assert len(running.upstream.requests) == 1
            assert len(running.records) == 2, "the SDK has tried again"
            assert "check the key that your client is set up with" in str(caught.value)
            assert "sk-another-one" not in str(caught.value)

    run(test())
