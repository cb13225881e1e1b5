"""`hybrid:[...]` on sockets: one model thinks and is hung up on, another one answers, the caller hears both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest

from llmgate_core.observe import counted
from llmgate_core.request import RequestRecord
from llmgate_core.sections import FailureHandlingConfig, HybridConfig
from llmgate_core.sse import Parser
from llmgate_core.testing import Exchange, Script

if TYPE_CHECKING:
    from tests.conftest import GatewayFactory, RunningGateway

SELECTOR = "hybrid:[openai-compatible:thinker,openai-compatible:worker]"
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
USAGE = {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}
THOUGHT = ["先想", "一想，", "再回答。"]


def run(test: Coroutine[Any, Any, Any]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(20):
            return await test

    return asyncio.run(bounded())


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {"id": "up", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **more}


class Pair:
    """Two models behind one address.

    Args:
        thoughts: the chunks of the first model; then it waits until it is hung up on, or ends if `ends`.
    """

    def __init__(self, thoughts: list[Any] | None = None, *, ends: bool = False, status: int = 200) -> None:
        self.thoughts = [chunk({"reasoning_content": piece}) for piece in THOUGHT] if thoughts is None else thoughts
        self.ends = ends
        self.status = status
        self.asked: dict[str, Any] = {}
        self.hung_up = asyncio.Event()
        self.think: Script = self.thinks
        self.work: Script = self.answer

    async def __call__(self, exchange: Exchange) -> None:
        asked = exchange.request.json()
        self.asked[asked["model"]] = asked
        await (self.think(exchange) if asked["model"] == "thinker" else self.work(exchange))

    async def thinks(self, exchange: Exchange) -> None:
        if self.status != 200:
            await exchange.reply(self.status, {"error": {"message": "no thinking today"}})
            return
        await exchange.sse(chunk({"role": "assistant", "content": ""}), *self.thoughts)
        if not self.ends:
            await exchange.hung_up()
            self.hung_up.set()

    async def answer(self, exchange: Exchange) -> None:
        asked = exchange.request.json()
        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
        calls = [call] if asked.get("tools") else []
        finish = "tool_calls" if calls else "stop"
        said: dict[str, Any] = {"role": "assistant", "content": "答案", **({"tool_calls": calls} if calls else {})}
        if not asked.get("stream"):
            message = {"index": 0, "message": said, "finish_reason": finish}
            await exchange.reply(200, {"id": "up", "model": "m", "choices": [message], "usage": USAGE})
            return
        await exchange.sse(chunk(said), chunk({}, finish), chunk(usage=USAGE), "[DONE]")


ENDED = [
    *(chunk({"reasoning_content": piece}) for piece in THOUGHT),
    chunk({"content": "my own answer"}),
]
TAGGED = [chunk({"content": piece}) for piece in ("<thi", "nk>先想一想，再", "回答。</th", "ink>an answer")]
USED = [*(chunk({"reasoning_content": piece}) for piece in THOUGHT), chunk({}, "stop"), chunk(usage=USAGE), "[DONE]"]
CALLING = [
    chunk({"reasoning_content": "".join(THOUGHT)}),
    chunk({"tool_calls": [{"index": 0, "id": "x", "type": "function", "function": {"name": "f", "arguments": ""}}]}),
]


async def asked(running: RunningGateway, **members: Any) -> tuple[str, str, Any]:
    """Reasoning, text, and the whole answer, by openai-python."""
    stream = members.pop("stream", False)
    messages: Any = members.pop("messages", [{"role": "user", "content": "hi"}])
    model = members.pop("model", SELECTOR)
    async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="any", max_retries=0) as client:
        if stream:
            options: Any = {"include_usage": True}
            made = client.chat.completions.stream(model=model, messages=messages, stream_options=options, **members)
            async with made as events:
                said: Any = await events.get_final_completion()
        else:
            said = await client.chat.completions.create(model=model, messages=messages, **members)
    message = said.choices[0].message
    return getattr(message, "reasoning_content", None) or "", message.content, said


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("thoughts", [ENDED, TAGGED, CALLING], ids=["content", "tags", "call"])
def test_the_first_thinks_and_the_second_answers(gateway: GatewayFactory, thoughts: list[Any], stream: bool) -> None:
    async def test() -> None:
        pair = Pair(thoughts)
        async with gateway(pair) as running:
            reasoning, text, said = await asked(running, stream=stream, tools=TOOLS)
            assert (reasoning, text) == ("".join(THOUGHT), "答案")
            assert said.choices[0].message.role == "assistant"
            assert said.choices[0].finish_reason == "tool_calls"
            await pair.hung_up.wait()
            record = await running.finished()
            assert [attempt.model for attempt in record.attempts] == ["thinker", "worker"]
        thinker, worker = pair.asked["thinker"], pair.asked["worker"]
        assert (thinker["stream"], thinker["tool_choice"], thinker["tools"]) == (True, "none", TOOLS)
        assert "tool_choice" not in worker
        (told,) = worker["messages"]
        assert told["content"].startswith("hi\n\n")
        assert "".join(THOUGHT) in told["content"]

    run(test())


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_usage_is_the_sum_and_has_its_parts(gateway: GatewayFactory, stream: bool) -> None:
    async def test() -> None:
        async with gateway(Pair(USED, ends=True)) as running:
            *_, said = await asked(running, stream=stream)
            assert (said.usage.prompt_tokens, said.usage.completion_tokens, said.usage.total_tokens) == (18, 14, 32)
            headers = {"content-type": "application/json"}
            body = running.body(model=SELECTOR, stream=stream, stream_options={"include_usage": True})
            reply = await running.client.post(f"{running.url}/v1/chat/completions", json=body, headers=headers)
            assert reply.headers["x-llmgate-hybrid"] == "used"
            told = reply.json() if not stream else json.loads(Parser().feed(reply.content)[-2].data)
            assert told["llmgate"] == {"hybrid": "used", "usage_of": {"reasoning": USAGE, "execution": USAGE}}

    run(test())


def test_reasoning_comes_live_and_the_call_is_cancelled_before_the_second(gateway: GatewayFactory) -> None:
    async def test() -> None:
        pair, may_answer = Pair([chunk({"reasoning_content": "one"})]), asyncio.Event()

        async def think(exchange: Exchange) -> None:
            await exchange.sse(chunk({"reasoning_content": "one"}))
            await may_answer.wait()
            await exchange.sse(chunk({"content": "x"}))
            await exchange.hung_up()
            pair.hung_up.set()

        async def work(exchange: Exchange) -> None:
            await pair.hung_up.wait()
            await pair.answer(exchange)

        pair.think, pair.work = think, work
        async with gateway(pair) as running:
            reader, writer = await running.dial(model=SELECTOR, stream=True)
            await reader.readuntil(b'"one"')
            assert "worker" not in pair.asked
            may_answer.set()
            await reader.readuntil(b"[DONE]")
            writer.close()

    run(test())


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize(
    "pair",
    [
        lambda: Pair(status=500),
        lambda: Pair(status=429),
        lambda: Pair([chunk({"content": "no reasoning at all"})]),
        lambda: Pair([chunk({}, "stop"), "[DONE]"], ends=True),
        lambda: Pair([], ends=False),
    ],
    ids=["500", "429", "answers at once", "empty", "late"],
)
def test_without_reasoning_the_second_answers_alone(
    gateway: GatewayFactory, pair: Callable[[], Pair], stream: bool
) -> None:
    async def test() -> None:
        made = pair()
        async with gateway(made, hybrid=HybridConfig(reasoning_timeout_seconds=0.3)) as running:
            reply = await running.chat(model=SELECTOR, stream=stream)
            assert reply.status_code == 200
            assert reply.headers["x-llmgate-hybrid"] == "reasoning-failed"
            assert "答案" in reply.text
            assert made.asked["worker"]["messages"] == [{"role": "user", "content": "hi"}]

    run(test())


@pytest.mark.parametrize("ends", [True, False], ids=["cut off", "late"])
def test_reasoning_that_breaks_off_is_told_at_the_end(gateway: GatewayFactory, ends: bool) -> None:
    async def test() -> None:
        pair = Pair(ends=ends)
        async with gateway(pair, hybrid=HybridConfig(reasoning_timeout_seconds=0.4)) as running:
            reply = await running.chat(model=SELECTOR, stream=True)
            events = [json.loads(event.data) for event in Parser().feed(reply.content) if event.data != b"[DONE]"]
            finish = next(event for event in events if event["choices"] and event["choices"][0]["finish_reason"])
            assert finish["llmgate"] == {"hybrid": "reasoning-failed"}
            assert pair.asked["worker"]["messages"] == [{"role": "user", "content": "hi"}]

    run(test())


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_second_model_that_fails_leaves_it_to_the_next_branch(gateway: GatewayFactory, stream: bool) -> None:
    async def test() -> None:
        pair = Pair(ENDED)

        async def work(exchange: Exchange) -> None:
            if exchange.request.json()["model"] == "worker":
                await exchange.reply(500, {"error": {"message": "broken"}})
            else:
                await pair.answer(exchange)

        pair.work = work
        async with gateway(pair) as running:
            reasoning, text, _ = await asked(running, stream=stream, model=f"{SELECTOR}|openai-compatible:other")
            assert (reasoning, text) == ("".join(THOUGHT) if stream else "", "答案")
            assert pair.asked["other"]["messages"] == [{"role": "user", "content": "hi"}]
            alone = await running.chat(model=SELECTOR, stream=stream)
            assert "broken" in alone.text
            assert stream or "thinker: HTTP 200, fine: it has thought" in alone.text
            assert b"[DONE]" not in alone.content
            assert alone.status_code == (200 if stream else 502)

    run(test())


@pytest.mark.parametrize(
    ("config", "header"),
    [
        (HybridConfig(enabled=False), "off"),
        (HybridConfig(reasoning_probability=0.0), "reasoning-skipped"),
    ],
)
def test_it_can_be_switched_off(gateway: GatewayFactory, config: HybridConfig, header: str) -> None:
    async def test() -> None:
        pair = Pair()
        async with gateway(pair, hybrid=config) as running:
            for stream in (False, True):
                reply = await running.chat(model=SELECTOR, stream=stream)
                assert (reply.status_code, reply.headers["x-llmgate-hybrid"]) == (200, header)
            assert list(pair.asked) == ["worker"]

    run(test())


def test_a_caller_who_leaves_ends_both_phases(gateway: GatewayFactory, promptly: float) -> None:
    async def test(leaves_after: bytes, thoughts: list[Any]) -> RequestRecord:
        pair, gone = Pair(thoughts), asyncio.Event()

        async def work(exchange: Exchange) -> None:
            await exchange.sse(chunk({"content": "working"}))
            await exchange.hung_up()
            gone.set()

        pair.work = work
        async with gateway(pair) as running:
            reader, writer = await running.dial(model=SELECTOR, stream=True)
            await reader.readuntil(leaves_after)
            writer.close()
            async with asyncio.timeout(promptly):
                await pair.hung_up.wait()
                if leaves_after == b"working":
                    await gone.wait()
            return await running.finished()

    assert run(test("先想".encode(), Pair().thoughts)).outcome == "client_closed"
    assert run(test(b"working", ENDED)).outcome == "client_closed"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_callers_of_messages_see_thinking(gateway: GatewayFactory, stream: bool) -> None:
    async def test() -> None:
        pair = Pair(ENDED)
        tools: Any = [{"name": "weather", "input_schema": {"type": "object"}}]
        messages: Any = [{"role": "user", "content": "hi"}]
        async with (
            gateway(pair) as running,
            anthropic.AsyncAnthropic(base_url=running.url, api_key="any", max_retries=0) as client,
        ):
            if stream:
                made = client.messages.stream(model=SELECTOR, max_tokens=99, messages=messages, tools=tools)
                async with made as events:
                    said: Any = await events.get_final_message()
            else:
                said = await client.messages.create(model=SELECTOR, max_tokens=99, messages=messages, tools=tools)
            thinking, text, call = said.content
            assert (thinking.thinking, text.text, call.name) == ("".join(THOUGHT), "答案", "weather")
            assert said.stop_reason == "tool_use"
            assert (said.usage.input_tokens, said.usage.output_tokens) == (9, 7)

    run(test())


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_callers_of_responses_see_reasoning_and_can_go_on(gateway: GatewayFactory, stream: bool) -> None:
    async def test() -> None:
        pair = Pair(ENDED)
        async with (
            gateway(pair) as running,
            openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="any", max_retries=0) as client,
        ):
            if stream:
                async with client.responses.stream(model=SELECTOR, input="hi") as events:
                    said: Any = await events.get_final_response()
            else:
                said = await client.responses.create(model=SELECTOR, input="hi")
            reasoning, _ = said.output
            assert "".join(part.text for part in reasoning.summary) == "".join(THOUGHT)
            assert said.output_text == "答案"
            await client.responses.create(model=SELECTOR, input="more", previous_response_id=said.id)
            assert [message["role"] for message in pair.asked["thinker"]["messages"]] == ["user", "assistant", "user"]

    run(test())


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_it_may_win_a_race_and_lose_one(gateway: GatewayFactory, stream: bool) -> None:
    async def test() -> None:
        pair, gone = Pair(ENDED), asyncio.Event()

        async def work(exchange: Exchange) -> None:
            if exchange.request.json()["model"] == "silent":
                await exchange.hung_up()
                gone.set()
            else:
                await pair.answer(exchange)

        pair.work = work
        async with gateway(pair) as running:
            reasoning, text, _ = await asked(running, stream=stream, model=f"{SELECTOR}!openai-compatible:silent")
            assert (reasoning, text) == ("".join(THOUGHT), "答案")
            await gone.wait()
            pair.hung_up.clear()
            pair.thoughts = []
            reasoning, text, _ = await asked(
                running, stream=stream, model=f"[handicap=0.1]{SELECTOR}!openai-compatible:m"
            )
            assert (reasoning, text) == ("", "答案")
            await pair.hung_up.wait()

    run(test())


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_where_one_attempt_is_left_it_is_the_answers(gateway: GatewayFactory, stream: bool) -> None:
    async def test() -> None:
        pair = Pair(ENDED)
        async with gateway(pair, failure_handling=FailureHandlingConfig(max_attempts=1)) as running:
            reply = await running.chat(model=SELECTOR, stream=stream)
            assert (reply.status_code, reply.headers["x-llmgate-hybrid"]) == (200, "reasoning-failed")
            assert list(pair.asked) == ["worker"]

    run(test())


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_an_answer_is_owed_to_a_reasoning_that_took_its_time(gateway: GatewayFactory, stream: bool) -> None:
    async def test() -> None:
        pair = Pair(ENDED)

        async def think(exchange: Exchange) -> None:
            await asyncio.sleep(0.3)
            await pair.thinks(exchange)

        pair.think = think
        limits = FailureHandlingConfig(max_attempts=2, total_timeout_seconds=0.1)
        async with gateway(pair, failure_handling=limits) as running:
            assert (await asked(running, stream=stream))[:2] == ("".join(THOUGHT), "答案")

    run(test())


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_the_record_has_the_sum(gateway: GatewayFactory, stream: bool, path: str) -> None:
    async def test() -> None:
        async with gateway(Pair(USED, ends=True)) as running:
            said: dict[str, Any] = {"input": "hi"} if path.endswith("responses") else running.body(max_tokens=9)
            options = {"stream_options": {"include_usage": True}} if path.endswith("completions") else {}
            body = {**said, "model": SELECTOR, "stream": stream, **(options if stream else {})}
            assert (await running.client.post(running.url + path, json=body)).status_code == 200
            assert counted((await running.finished()).usage or {}) == (18, 14)

    run(test())


def test_a_first_model_that_keeps_failing_is_spared(gateway: GatewayFactory) -> None:
    async def test() -> None:
        pair, thinks = Pair([]), []

        async def think(exchange: Exchange) -> None:
            thinks.append(1)
            await exchange.hung_up()

        pair.think = think
        async with gateway(pair, hybrid=HybridConfig(reasoning_timeout_seconds=0.05)) as running:
            for _ in range(8):
                reply = await running.chat(model=SELECTOR)
                assert (reply.status_code, reply.headers["x-llmgate-hybrid"]) == (200, "reasoning-failed")
            assert len(thinks) == 5

    run(test())


@pytest.mark.parametrize("dies", ["error", "cut", "silence"])
def test_reasoning_of_the_second_is_no_answer_yet(gateway: GatewayFactory, dies: str) -> None:
    async def test() -> None:
        pair = Pair(ENDED)

        async def work(exchange: Exchange) -> None:
            if exchange.request.json()["model"] == "other":
                await pair.answer(exchange)
                return
            await exchange.sse(chunk({"role": "assistant", "reasoning_content": "hm"}))
            if dies == "error":
                await exchange.sse({"error": {"message": "broken"}})
            elif dies == "cut":
                exchange.cut()

        pair.work = work
        async with gateway(pair) as running:
            reasoning, text, _ = await asked(running, stream=True, model=f"{SELECTOR}|openai-compatible:other")
            assert (reasoning, text) == ("".join(THOUGHT) + "hm", "答案")
            reply = await running.chat(model=f"{SELECTOR}|openai-compatible:other", stream=True)
            assert '"llmgate":{"hybrid":"reasoning-unused"}' in reply.text
            alone = await running.chat(model=SELECTOR, stream=True)
            assert '"error"' in alone.text
            assert "[DONE]" not in alone.text

    run(test())


def test_claude_is_told_to_think(gateway: GatewayFactory) -> None:
    async def test(model: str, way: dict[str, Any]) -> None:
        pair = Pair()

        async def upstream(exchange: Exchange) -> None:
            if exchange.request.path == "/v1/messages":
                pair.asked["thinker"] = exchange.request.json()
                await exchange.reply(500, {"error": {"message": "enough"}})
            else:
                await pair(exchange)

        async with gateway(upstream, beside={"claude": "anthropic-compatible"}) as running:
            selector = f"hybrid:[claude:{model},openai-compatible:worker]"
            await running.chat(model=selector, reasoning_effort="low", max_tokens=50)
            sent = pair.asked["thinker"]
            assert {name: sent[name] for name in ("thinking", "output_config") if name in sent} == way

    run(test("claude-opus-4-7", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}))
    run(test("claude-sonnet-4-5", {"thinking": {"type": "enabled", "budget_tokens": 32_000}}))
