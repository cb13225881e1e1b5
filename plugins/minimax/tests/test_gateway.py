"""The connector in a whole gateway, on real sockets, before the strict simulator of its provider."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from llmgate_core import Body, ConnectorError, Credential, Instance, UpstreamCall
from llmgate_core.settings import decode
from llmgate_core.testing import LoopbackGateway
from llmgate_minimax import FACTS, MiniMax, MiniMaxSettings
from llmgate_minimax.simulator import MESSAGES_SHAPES, SHAPES, THOUGHT, MiniMaxSimulator

MODEL = "minimax:MiniMax-M3"
USER = {"role": "user", "content": "今天好吗"}
BARE = {"type": "function", "function": {"name": "get_time"}}
SAID = "你好！今天很好。"
NOW = 1_780_000_000.0  # 2026-05-28T20:26:40Z


@dataclass
class Desk:
    """A gateway with one minimax backend, the simulator behind it, and a client before it."""

    simulator: MiniMaxSimulator
    gateway: LoopbackGateway
    http: httpx.AsyncClient

    @property
    def url(self) -> str:
        return self.gateway.url

    async def chat(self, **members: Any) -> httpx.Response:
        return await self.http.post("/v1/chat/completions", json={"model": MODEL, "messages": [USER], **members})

    def last(self) -> dict[str, Any]:
        """The body that reached the API last."""
        body: dict[str, Any] = self.simulator.seen[-1].body
        return body


def at_desk(folder: Path, test: Callable[[Desk], Awaitable[None]], **extra: Any) -> None:
    async def run() -> None:
        simulator = MiniMaxSimulator()
        simulator.chunk_pause, simulator.said = 0, SAID
        setup = await simulator.start(folder)
        gateway = LoopbackGateway(MiniMax, extra={**setup.extra, **extra}, clock=lambda: NOW, home=folder)
        try:
            async with gateway, httpx.AsyncClient(base_url=gateway.url, trust_env=False, verify=False) as http:
                await test(Desk(simulator, gateway, http))
        finally:
            await simulator.aclose()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_every_shape_through_the_openai_sdk(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        async with openai.AsyncOpenAI(base_url=f"{desk.url}/v1", api_key="caller", max_retries=0) as client:
            for shape in SHAPES:
                desk.simulator.shape, desk.simulator.empty_role = shape, True
                stream = await client.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": "?"}], stream=True
                )
                deltas = [chunk.choices[0].delta async for chunk in stream if chunk.choices]
                thought = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
                assert "".join(delta.content or "" for delta in deltas) == SAID
                assert thought == ("" if shape == "none" else THOUGHT), shape
                answer = await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "?"}])
                message = answer.choices[0].message
                assert (message.role, message.content) == ("assistant", SAID)
                assert getattr(message, "reasoning_content", "") == thought

    at_desk(tmp_path, test)


def test_thinking_goes_on_after_a_tool_call(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        turn = (await desk.chat(tools=[BARE])).json()["choices"][0]["message"]
        assert turn["reasoning_content"] == THOUGHT
        assert desk.last()["tools"][0]["function"]["parameters"] == {"type": "object", "properties": {}}
        result = {"role": "tool", "tool_call_id": turn["tool_calls"][0]["id"], "content": "12:00"}
        answer = await desk.chat(messages=[USER, turn, result], tools=[BARE])
        assert answer.json()["choices"][0]["message"]["content"] == SAID
        replayed = desk.last()["messages"][1]
        assert [part["text"] for part in replayed["reasoning_details"]] == [THOUGHT]
        assert "reasoning_content" not in replayed

    at_desk(tmp_path, test)


def test_inline_leaves_reasoning_in_the_content(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        answer = await desk.chat()
        assert answer.json()["choices"][0]["message"]["content"].startswith("<think>")
        assert "reasoning_split" not in desk.last()
        split = await desk.chat(reasoning_split=True)
        assert split.json()["choices"][0]["message"]["reasoning_content"] == THOUGHT

    at_desk(tmp_path, test, reasoning="inline")


def test_a_caller_may_ask_for_reasoning_in_the_content(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        answer = await desk.chat(reasoning_split=False)
        assert answer.json()["choices"][0]["message"]["content"].startswith("<think>")
        assert desk.last()["reasoning_split"] is False

    at_desk(tmp_path, test)


@pytest.mark.parametrize("stream", [False, True])
def test_a_code_in_a_success_is_a_failure(tmp_path: Path, stream: bool) -> None:
    wanted = {1002: 429, 1004: 502, 1008: 429, 1026: 400, 1033: 502, 2013: 400, 2049: 502, 2056: 429, 2061: 403}

    async def test(desk: Desk) -> None:
        for code, status in wanted.items():
            desk.simulator.fault_next(code, "what happened")
            if code in (1004, 2049):  # a key may have changed, so core looks again
                assert (await desk.chat(stream=stream)).status_code == status
                continue
            answer = await desk.chat(stream=stream)
            assert answer.status_code == status, code
            message = answer.json()["error"]["message"]
            assert message.startswith(f"what happened ({code})")
            assert "answered HTTP" not in message  # it has answered 200
            assert len(answer.headers["x-upstream-request-id"]) == 32
        assert (await desk.chat(stream=stream)).status_code == 200

    at_desk(tmp_path, test)


def test_a_stream_that_fails_later_is_no_success(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        desk.simulator.fault_next(1027, "output sensitive", after=3)
        answer = await desk.chat(stream=True)
        assert answer.status_code == 200
        assert "output sensitive (1027)" in answer.text
        assert '"content_filter"' in answer.text
        assert "[DONE]" not in answer.text

    at_desk(tmp_path, test)


def test_the_plans_window_becomes_retry_after(tmp_path: Path) -> None:
    words = "usage limit exceeded, 5-hour usage limit reached for Token Plan Plus (9/9 used), resets at {} (2056)"
    error = {"type": "rate_limit_error", "message": words.format("2026-05-28T20:36:40Z"), "http_code": "429"}

    async def test(desk: Desk) -> None:
        desk.simulator.fail_next(1, 429, {"type": "error", "error": error, "request_id": "r"})
        answer = await desk.chat()
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "600")
        assert answer.headers["x-should-retry"] == "false"
        assert answer.json()["error"]["code"] == "insufficient_quota"

    at_desk(tmp_path, test)


def test_overload_and_a_wrong_model(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        desk.simulator.fail_next(1, 529, "High traffic detected.")
        assert (await desk.chat()).json()["error"]["code"] == "upstream_unavailable"
        answer = await desk.chat(model="minimax:MiniMax-M9")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")

    at_desk(tmp_path, test)


def test_a_wrong_key_is_explained_and_not_shown(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        error = {"type": "authorized_error", "message": "invalid api key (2049)", "http_code": "401"}
        desk.simulator.fail_next(1, 401, {"type": "error", "error": error})
        answer = await desk.chat()
        assert answer.status_code == 502
        message = answer.json()["error"]["message"]
        assert message.startswith("invalid api key (2049): a key works only in its own region")
        assert "refuses the key from file" in message
        assert desk.simulator.key not in answer.text

    at_desk(tmp_path, test)


def test_the_trace_id_is_the_upstreams_request_id(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        answer = await desk.chat()
        assert answer.headers["x-upstream-request-id"] == answer.json()["id"]
        record = await desk.gateway.finished()
        assert record.attempts[0].upstream_request_id == answer.json()["id"]

    at_desk(tmp_path, test)


def test_the_catalogue_needs_no_network(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        listed = [one["id"] for one in (await desk.http.get("/v1/models")).json()["data"]]
        assert {f"minimax:{id}" for id in FACTS.ids} <= set(listed)

    at_desk(tmp_path, test)


# --- Messages -------------------------------------------------------------------------------------------------------

SCHEMALESS = {"name": "get_time"}
ASKED = {"model": MODEL, "max_tokens": 100, "messages": [USER]}


def test_every_shape_through_the_anthropic_sdk(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        async with anthropic.AsyncAnthropic(base_url=desk.url, api_key="caller", max_retries=0) as client:
            for shape in MESSAGES_SHAPES:
                desk.simulator.shape = shape
                asked: Any = {**ASKED, "thinking": {"type": "adaptive"}}
                async with client.messages.stream(**asked) as stream:
                    streamed: Any = (await stream.get_final_message()).content
                plain: Any = (await client.messages.create(**asked)).content
                for content in (streamed, plain):
                    thoughts = [block.thinking for block in content if block.type == "thinking"]
                    assert thoughts == ([] if shape == "none" else [THOUGHT]), shape
                    assert [block.text for block in content if block.type == "text"] == [SAID]

    at_desk(tmp_path, test)


def test_over_messages_thinking_goes_back_as_it_came(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        said: list[dict[str, Any]] = [USER]
        for _ in range(2):  # turns with a tool, and each thinks
            asked = {**ASKED, "messages": said, "tools": [SCHEMALESS], "thinking": {"type": "adaptive"}}
            turn = (await desk.http.post("/v1/messages", json=asked)).json()
            assert [block["type"] for block in turn["content"]] == ["thinking", "tool_use"]
            assert turn["content"][0]["signature"]
            result = {"type": "tool_result", "tool_use_id": turn["content"][1]["id"], "content": "12:00"}
            late = {"role": "system", "content": "Be brief."}
            said = [*said, {"role": "assistant", "content": turn["content"]}, {"role": "user", "content": [result]}]
            answer = await desk.http.post("/v1/messages", json={**asked, "messages": [*said, late]})
            assert answer.status_code == 200
            assert desk.last()["messages"][: len(said)] == said
            said = [*said, {"role": "assistant", "content": SAID}, USER]
        assert desk.last()["tools"][0]["input_schema"] == {"type": "object", "properties": {}}
        assert desk.simulator.seen[-1].path == "/anthropic/v1/messages"

    at_desk(tmp_path, test)


def test_over_messages_bytes_pass(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        answer = await desk.http.post("/v1/messages", json={**ASKED, "stream": True})
        assert "x-llmgate-lost" not in answer.headers
        assert answer.text.startswith('event: message_start\ndata: {"type": "message_start", "message": {"id": ')

    at_desk(tmp_path, test)


@pytest.mark.parametrize("stream", [False, True])
def test_over_messages_a_code_in_a_success_is_a_failure_too(tmp_path: Path, stream: bool) -> None:
    async def test(desk: Desk) -> None:
        for code, status in {1002: 429, 1008: 429, 1026: 400, 2013: 400, 2061: 403}.items():
            desk.simulator.fault_next(code, "what happened")
            answer = await desk.http.post("/v1/messages", json={**ASKED, "stream": stream})
            assert (answer.status_code, answer.json()["type"]) == (status, "error")
            assert answer.json()["error"]["message"].startswith(f"what happened ({code})")
            assert len(answer.headers["x-upstream-request-id"]) == 32
        desk.simulator.fault_next(1027, "output sensitive", after=5)
        answer = await desk.http.post("/v1/messages", json={**ASKED, "stream": True})
        assert "event: error" in answer.text
        assert "message_stop" not in answer.text

    at_desk(tmp_path, test)


def test_over_messages_overload_and_the_plans_window(tmp_path: Path) -> None:
    words = "usage limit exceeded, 5-hour usage limit reached for Token Plan Plus (9/9 used), resets at {} (2056)"
    error = {"type": "rate_limit_error", "message": words.format("2026-05-28T20:36:40Z"), "http_code": "429"}

    async def test(desk: Desk) -> None:
        desk.simulator.fail_next(1, 529, "High traffic detected.")
        answer = await desk.http.post("/v1/messages", json=ASKED)
        assert (answer.status_code, answer.json()["error"]["type"]) == (529, "overloaded_error")
        desk.simulator.fail_next(1, 429, {"type": "error", "error": error, "request_id": "r"})
        answer = await desk.http.post("/v1/messages", json=ASKED)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "600")

    at_desk(tmp_path, test)


def test_tokens_are_counted_upstream_or_estimated(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        path = "/v1/messages/count_tokens"
        counted = await desk.http.post(path, json={"model": MODEL, "messages": [USER]})
        assert (counted.json()["input_tokens"] > 0, counted.headers.get("x-llmgate-estimate")) == (True, None)
        estimated = await desk.http.post(path, json={"model": "minimax:MiniMax-M2.7", "messages": [USER]})
        assert estimated.headers["x-llmgate-estimate"] == "true"
        assert len(desk.simulator.seen) == 1  # nobody was asked about M2.7

    at_desk(tmp_path, test)


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [("reasoning_effort=none", "disabled"), ("reasoning_effort=high", "adaptive"), ("thinking_budget=0", "disabled"),
     ("thinking_budget=2048", "adaptive")],
)  # fmt: skip
def test_a_selector_switches_thinking_in_both_dialects(tmp_path: Path, asked: str, wanted: str) -> None:
    async def test(desk: Desk) -> None:
        model = f"{MODEL}?{asked}"
        assert (await desk.chat(model=model)).status_code == 200
        assert desk.last()["thinking"] == {"type": wanted}
        assert not desk.last().keys() & {"reasoning_effort", "thinking_budget"}
        answer = await desk.http.post("/v1/messages", json={**ASKED, "model": model})
        assert desk.last()["thinking"] == {"type": wanted}
        thinks = [block["type"] for block in answer.json()["content"]] == ["thinking", "text"]
        assert thinks == (wanted == "adaptive")

    at_desk(tmp_path, test)


def test_with_one_address_of_ones_own_the_key_goes_nowhere_else(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        answer = await desk.http.post("/v1/messages", json=ASKED)
        assert answer.json()["content"][-1]["text"] == SAID
        assert desk.simulator.seen[-1].path == "/v1/chat/completions"

    at_desk(tmp_path, test, messages_base_url=None)


# --- settings -------------------------------------------------------------------------------------------------------


def connector(**members: Any) -> MiniMax:
    logger = logging.getLogger("test")
    http: Any = None
    settings = MiniMaxSettings(**members)
    return MiniMax(Instance("minimax.default", settings, http, lambda: 0.0, random.Random(1), {}, Path("/"), logger))


@pytest.mark.parametrize(
    ("members", "address"),
    [
        ({}, "https://api.minimax.io/v1"),
        ({"region": "china"}, "https://api.minimax.cn/v1"),
        ({"region": "china", "base_url": "https://mirror.example/v1/"}, "https://mirror.example/v1"),
    ],
)
def test_where_the_api_is(members: dict[str, Any], address: str) -> None:
    assert connector(**members).base_url(Credential({})) == address


@pytest.mark.parametrize(
    ("members", "dialects", "address"),
    [
        ({}, {"openai.chat", "anthropic.messages"}, "https://api.minimax.io/anthropic/v1"),
        ({"region": "china"}, {"openai.chat", "anthropic.messages"}, "https://api.minimax.cn/anthropic/v1"),
        ({"base_url": "https://a"}, {"openai.chat"}, None),
        ({"messages_base_url": "https://a/v1"}, {"anthropic.messages"}, "https://a/v1"),
        ({"base_url": "https://a", "messages_base_url": "https://b/"}, {"openai.chat", "anthropic.messages"},
         "https://b/v1"),
    ],
)  # fmt: skip
def test_where_messages_is_and_whether(members: dict[str, Any], dialects: set[str], address: str | None) -> None:
    found = connector(**members)
    assert found.dialects == dialects
    for dialect in ("openai.chat", "anthropic.messages"):
        call = UpstreamCall("generate", dialect, "MiniMax-M3", False, Body(b"{}"), Credential({}), {}, "req_1")
        if dialect not in dialects:
            with pytest.raises(ConnectorError, match="no address for"):
                found.url(call)
        elif dialect == "anthropic.messages":
            assert found.url(call) == f"{address}/messages"


def test_the_key_comes_from_the_environment() -> None:
    assert "MINIMAX_API_KEY" in connector().credentials().status().detail


@pytest.mark.parametrize(
    "address",
    ["http://api.minimax.io/v1", "https://a@b/v1", "https://a/v1?x", "http://localhost.evil/v1", "http://localhost@b"],
)
def test_a_key_is_not_sent_anywhere(address: str) -> None:
    for name in ("base_url", "messages_base_url"):
        wrong: Any = {name: address}
        with pytest.raises(ValueError, match=f"`{name}` must be an https address") as caught:
            MiniMaxSettings(**wrong)
        assert address not in str(caught.value)


@pytest.mark.parametrize("address", ["http://localhost", "http://127.0.0.1:8000/v1", "http://[::1]:80", "https://a"])
def test_this_machine_needs_no_encryption(address: str) -> None:
    assert MiniMaxSettings(base_url=address).base_url == address


def test_sizes_are_known_for_the_catalogue_alone() -> None:
    async def credential() -> Credential:
        return Credential({})

    m3, other = asyncio.run(connector(models=("MiniMax-M3", "other")).models(credential))
    assert (m3.context, m3.max_output) == (1_000_000, 524_288)
    assert (other.id, other.context) == ("other", None)


@pytest.mark.parametrize("model", [*MiniMaxSettings().models, "MiniMax-M3.1-Flash-Preview"])
def test_the_facts_of_every_listed_model_are_known(model: str) -> None:
    found = connector().facts(model)
    assert found is not None
    assert found.context
    assert found.max_output
    assert found.thinking == ("optional" if model == "MiniMax-M3" else "always")
    assert found.source


def test_nothing_is_known_of_a_model_that_does_not_exist() -> None:
    assert connector().facts("MiniMax-M3-highspeed") is None


def test_what_minimax_ignores_is_not_added(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        reply = await desk.chat(model=f"{MODEL}?presence_penalty=1&top_p=0.5")
        assert reply.headers["x-llmgate-warning"] == "left out: `presence_penalty`: model `MiniMax-M3` does not take it"
        assert ("presence_penalty" in desk.last(), desk.last()["top_p"]) == (False, 0.5)
        await desk.chat(presence_penalty=1)
        assert desk.last()["presence_penalty"] == 1

    at_desk(tmp_path, test)


def test_the_upstreams_body_is_closed_with_ours() -> None:
    closed = []

    async def chunks() -> AsyncGenerator[bytes, None]:
        try:
            yield b"data: 1\n\n"
            yield b"data: 2\n\n"
        finally:
            closed.append(True)

    async def run() -> None:
        call = UpstreamCall("generate", "openai.chat", "m", True, Body(b"{}"), Credential({}), {}, "req_1")
        events = connector().events(call, upstream := chunks())
        assert await anext(events) == b"data: 1\n\n"
        await events.aclose()
        assert closed
        await upstream.aclose()

    asyncio.run(run())


def test_a_wrong_region_is_told_with_its_choices() -> None:
    problems = decode(MiniMaxSettings, {"region": "moon"})[1]
    assert "global" in str(problems[0])
