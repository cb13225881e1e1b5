"""Streams that are kept alive while their answer is awaited, and those that are not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import pytest

from llmgate_core.builtin import OpenAICompatibleConnector
from llmgate_core.config import StreamingConfig
from llmgate_core.retry import RetryAfter, RetryPolicy
from llmgate_core.testing import Exchange

if TYPE_CHECKING:
    from tests.conftest import GatewayFactory

EARLY = StreamingConfig(keepalive="early", keepalive_interval_seconds=0.05)
COMMENT = b": keep-alive\n\n"
ANSWER = {"choices": [{"index": 0, "delta": {"content": "你好"}, "finish_reason": "stop"}]}


def run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test

    asyncio.run(bounded())


class Patient(OpenAICompatibleConnector):
    """Waits as long as it is told."""

    name = "patient"

    def retry(self) -> RetryPolicy:
        return RetryAfter(max_wait=600, retries=3)


def test_comments_come_while_the_upstream_is_silent_and_then_the_answer_untouched(gateway: GatewayFactory) -> None:
    may_answer = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        await may_answer.wait()
        await exchange.sse(ANSWER, "[DONE]")

    async def test() -> None:
        async with gateway(answer, streaming=EARLY) as running:
            body = json.dumps(running.body(stream=True)).encode()
            sent = {"content-type": "application/json"}
            url = f"{running.url}/v1/chat/completions"
            async with running.client.stream("POST", url, content=body, headers=sent) as reply:
                assert reply.status_code == 200
                assert reply.headers["content-type"].startswith("text/event-stream")
                assert reply.headers["x-accel-buffering"] == "no"
                seen = b""
                async for chunk in reply.aiter_raw():
                    seen += chunk
                    if seen == 2 * COMMENT:
                        may_answer.set()
            comments, _, rest = seen.rpartition(COMMENT)
            assert comments.replace(COMMENT, b"") == b""
            assert rest.count(b"data: ") == 2
            assert "你好".encode() in rest or b"\\u4f60" in rest
            record = await running.finished()
            assert (record.outcome, record.status) == ("ok", 200)

    run(test())


@pytest.mark.parametrize("streaming", [EARLY, StreamingConfig()])
def test_what_fails_at_once_has_its_status(gateway: GatewayFactory, streaming: StreamingConfig) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.reply(404, {"error": {"message": "no such model"}})

    async def test() -> None:
        patient = StreamingConfig(streaming.keepalive, 5.0)
        async with gateway(answer, streaming=patient) as running:
            reply = await running.chat(stream=True)
            assert reply.status_code == 404
            assert reply.json()["error"]["code"] == "model_not_found"

    run(test())


def test_what_fails_after_a_comment_is_told_in_the_stream(gateway: GatewayFactory) -> None:
    async def answer(exchange: Exchange) -> None:
        await asyncio.sleep(0.2)
        await exchange.reply(404, {"error": {"message": "no such model"}})

    async def test() -> None:
        async with gateway(answer, streaming=EARLY) as running:
            reply = await running.chat(stream=True)
            assert reply.status_code == 200
            comments, event = reply.content.split(b"data: ")
            assert comments.replace(COMMENT, b"") == b""
            error = json.loads(event)["error"]
            assert error["code"] == "model_not_found"
            assert "no such model" in error["message"]
            assert "openai-compatible.default" in error["message"]
            record = await running.finished()
            assert (record.outcome, record.status) == ("cut_off", 200)
            assert "no such model" in record.error

    run(test())


def test_plain_requests_and_the_default_wait_in_silence(gateway: GatewayFactory) -> None:
    async def answer(exchange: Exchange) -> None:
        await asyncio.sleep(0.2)
        await exchange.reply(503, {"error": {"message": "overloaded"}})

    async def test() -> None:
        async with gateway(answer, streaming=EARLY) as running:
            assert (await running.chat()).status_code == 503
        async with gateway(answer, streaming=StreamingConfig("never", 0.05)) as running:
            assert (await running.chat(stream=True)).status_code == 503

    run(test())


def test_a_caller_that_leaves_between_comments_ends_the_upstream_call(gateway: GatewayFactory) -> None:
    has_ended = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        await exchange.hung_up()
        has_ended.set()

    async def test() -> None:
        async with gateway(answer, streaming=EARLY) as running:
            reader, writer = await running.dial(stream=True)
            await reader.readuntil(COMMENT)
            writer.close()
            await has_ended.wait()
            record = await running.finished()
            assert (record.outcome, record.status) == ("client_closed", 200)

    run(test())


def test_a_gateway_that_shuts_down_says_so_between_comments(gateway: GatewayFactory) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.hung_up()

    async def test() -> None:
        async with gateway(answer, streaming=EARLY) as running:
            reader, writer = await running.dial(stream=True)
            await reader.readuntil(COMMENT)
            running.app.interrupt()
            assert b"shutting_down" in await reader.readuntil(b"}}\n\n")
            writer.close()
            assert (await running.finished()).outcome == "cut_off"

    run(test())


def test_waiting_for_a_rate_limit_is_bridged_too(gateway: GatewayFactory) -> None:
    async def answer(exchange: Exchange) -> None:
        if len(asked) == 0:
            asked.append(1)
            await exchange.reply(429, {"error": {"message": "slow down"}}, [("retry-after", "1")])
        else:
            await exchange.sse(ANSWER, "[DONE]")

    asked: list[int] = []

    async def test() -> None:
        async with gateway(answer, connector=Patient, streaming=EARLY) as running:
            reply = await running.chat(stream=True)
            assert reply.content.startswith(COMMENT)
            assert reply.content.rstrip().endswith(b"[DONE]")

    run(test())
