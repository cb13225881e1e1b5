"""The simulator is as strict as MiniMax is documented to be, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmgate_minimax.simulator import THOUGHT, MiniMaxSimulator
from llmgate_minimax.simulator.said import signature_of

USER = {"role": "user", "content": "今天好吗"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": ""}
Test = Callable[[MiniMaxSimulator, httpx.AsyncClient], Awaitable[None]]


def simulated(folder: Path, test: Test) -> None:
    async def run() -> None:
        simulator = MiniMaxSimulator()
        simulator.chunk_pause = 0
        setup = await simulator.start(folder)
        assert setup.extra == {
            "api_key": f"file:{folder / 'key'}",
            "base_url": f"{simulator.url}/v1",
            "messages_base_url": f"{simulator.url}/anthropic",
        }
        headers = {"authorization": f"Bearer {(folder / 'key').read_text()}"}
        try:
            async with httpx.AsyncClient(base_url=simulator.url, headers=headers, trust_env=False) as http:
                await test(simulator, http)
        finally:
            await simulator.aclose()

    asyncio.run(asyncio.wait_for(run(), 20))


def body(**members: Any) -> dict[str, Any]:
    return {"model": "MiniMax-M3", "messages": [USER], **members}


def test_the_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    async def test(simulator: MiniMaxSimulator, http: httpx.AsyncClient) -> None:
        assert simulator.url.startswith("http://127.0.0.1:")
        assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
        answer = await http.post("/v1/chat/completions", json=body(), headers={"authorization": "Bearer x"})
        assert answer.status_code == 401
        assert answer.json()["error"]["type"] == "authorized_error"
        assert answer.json()["error"]["message"].endswith("(1004)")
        assert answer.json()["request_id"] == answer.headers["trace-id"]
        elsewhere = {"authorization": f"Bearer {simulator.key_of_other_region}"}
        answer = await http.post("/v1/chat/completions", json=body(), headers=elsewhere)
        assert (answer.status_code, answer.json()["error"]["message"]) == (401, "invalid api key (2049)")
        answer = await http.post("/anthropic/v1/messages", json={}, headers={"x-api-key": "x"})
        assert answer.status_code == 401
        assert simulator.seen == []

    simulated(tmp_path, test)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"messages": []}, "expr_path=messages"),
        ({"model": "MiniMax-M3-highspeed"}, "unknown model"),
        ({"thinking": True}, "thinking"),
        ({"reasoning_split": 1}, "reasoning_split"),
        ({"temperature": 2.5}, "temperature"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "function parameters is empty"),
        ({"messages": [USER, {"role": "tool", "tool_call_id": "c1", "content": ""}]}, "not found"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{**CALL, "function": {"arguments": "{"}}]}]},
            "invalid function arguments",
        ),
        ({"messages": [{"role": "assistant", "reasoning_details": [{"type": "text"}]}]}, "reasoning_details"),
        ({"messages": [{"role": "developer", "content": ""}]}, "role"),
        ({"messages": [{"role": "assistant", "tool_calls": [CALL]}, USER, RESULT]}, "does not follow tool call"),
        ({"thinking": {"type": "enabled"}}, "thinking.type"),
        ({"model": "shape-moon"}, "unknown model"),
    ],
)
def test_what_is_refused(tmp_path: Path, members: dict[str, Any], words: str) -> None:
    async def test(simulator: MiniMaxSimulator, http: httpx.AsyncClient) -> None:
        answer = await http.post("/v1/chat/completions", json=body(**members))
        error = answer.json()["error"]
        assert (answer.status_code, error["type"], error["http_code"]) == (400, "bad_request_error", "400")
        assert words in error["message"]
        assert error["message"].endswith("(2013)")

    simulated(tmp_path, test)


def test_reasoning_is_where_the_request_asks_for_it(tmp_path: Path) -> None:
    async def test(simulator: MiniMaxSimulator, http: httpx.AsyncClient) -> None:
        inline = (await http.post("/v1/chat/completions", json=body())).json()["choices"][0]["message"]
        assert inline["content"].startswith(f"<think>\n{THOUGHT}</think>")
        assert "reasoning_content" not in inline
        answer = await http.post("/v1/chat/completions", json=body(reasoning_split=True))
        split = answer.json()["choices"][0]["message"]
        assert "think" not in split["content"]
        assert split["reasoning_content"] == split["reasoning_details"][0]["text"] == THOUGHT
        assert answer.json()["base_resp"]["status_code"] == 0

    simulated(tmp_path, test)


def test_a_tools_result_is_answered_with_words_whoever_speaks_behind_it(tmp_path: Path) -> None:
    """A hybrid and agents put words of the user behind a result; the loop must end."""

    async def test(simulator: MiniMaxSimulator, http: httpx.AsyncClient) -> None:
        async def finish(*messages: dict[str, Any]) -> str:
            answer = await http.post("/v1/chat/completions", json=body(messages=[USER, *messages], tools=[TOOL]))
            return str(answer.json()["choices"][0]["finish_reason"])

        turn = {"role": "assistant", "content": "", "tool_calls": [CALL]}
        assert await finish() == "tool_calls"
        assert await finish(turn, RESULT) == await finish(turn, RESULT, USER, USER) == "stop"
        assert await finish(turn, RESULT, {"role": "assistant", "content": "a"}, USER) == "tool_calls"

        async def stop(*messages: dict[str, Any]) -> str:
            tool = {"name": "f", "input_schema": {"type": "object"}}
            asked = body(max_tokens=9, messages=[USER, *messages], tools=[tool])
            answer = await http.post("/anthropic/v1/messages", json=asked, headers=VERSION)
            return str(answer.json()["stop_reason"])

        use = {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "f", "input": {}}]}
        result = {"type": "tool_result", "tool_use_id": "c1", "content": "a"}
        reminder = {"type": "text", "text": "<system-reminder>"}
        both = {"role": "user", "content": [result, reminder]}
        assert await stop() == "tool_use"
        assert await stop(use, both) == await stop(use, {"role": "user", "content": [result]}, USER) == "end_turn"
        assert await stop(use, both, {"role": "assistant", "content": "a"}, USER) == "tool_use"

    simulated(tmp_path, test)


def test_a_stream_ends_as_documented(tmp_path: Path) -> None:
    async def test(simulator: MiniMaxSimulator, http: httpx.AsyncClient) -> None:
        options = {"stream": True, "stream_options": {"include_usage": True}}
        answer = await http.post("/v1/chat/completions", json=body(tools=[TOOL], **options))
        *events, done, rest = answer.text.split("\n\n")
        assert (done, rest) == ("data: [DONE]", "")
        chunks = [json.loads(event.removeprefix("data: ")) for event in events]
        assert chunks[-1]["choices"] == []
        assert chunks[-1]["usage"]["total_characters"] == 0
        assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"
        assert chunks[-3]["choices"][0]["delta"]["tool_calls"][0]["id"].startswith("call_function_")

    simulated(tmp_path, test)


def test_faults_come_inside_a_success(tmp_path: Path) -> None:
    async def test(simulator: MiniMaxSimulator, http: httpx.AsyncClient) -> None:
        simulator.fault_next(1008, "insufficient balance")
        answer = await http.post("/v1/chat/completions", json=body())
        assert (answer.status_code, answer.json()["choices"]) == (200, None)
        assert answer.json()["base_resp"] == {"status_code": 1008, "status_msg": "insufficient balance"}
        simulator.fault_next(1002, "rate limit", after=2)
        answer = await http.post("/v1/chat/completions", json=body(stream=True))
        assert [event.count("base_resp") for event in answer.text.split("\n\n")] == [0, 0, 1, 0]
        simulator.fail_next(1, 529, "High traffic detected.", {"retry-after": "1"})
        answer = await http.post("/v1/chat/completions", json=body())
        assert (answer.status_code, answer.text, answer.headers["retry-after"]) == (529, "High traffic detected.", "1")
        assert (await http.post("/v1/chat/completions", json=body())).status_code == 200

    simulated(tmp_path, test)


def test_models_and_nothing_else(tmp_path: Path) -> None:
    async def test(simulator: MiniMaxSimulator, http: httpx.AsyncClient) -> None:
        assert "MiniMax-M3" in [one["id"] for one in (await http.get("/v1/models")).json()["data"]]
        assert (await http.post("/v1/responses", json={})).status_code == 404

    simulated(tmp_path, test)


# --- Messages -------------------------------------------------------------------------------------------------------

VERSION = {"anthropic-version": "2023-06-01"}
THOUGHTS = {"type": "thinking", "thinking": THOUGHT, "signature": signature_of(THOUGHT)}


def message(**members: Any) -> dict[str, Any]:
    return body(max_tokens=100, **members)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"model": "MiniMax-M9"}, "unknown model"),
        ({"tools": [{"name": "f"}]}, "function parameters is empty"),
        ({"messages": [{"role": "system", "content": "x"}]}, "role"),
        ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "content type document"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c"}]}]}, "not found"),
        ({"messages": [{"role": "assistant", "content": [{**THOUGHTS, "thinking": "other"}]}]}, "was changed"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking.type"),
    ],
)
def test_what_messages_refuses(tmp_path: Path, members: dict[str, Any], words: str) -> None:
    async def test(simulator: MiniMaxSimulator, http: httpx.AsyncClient) -> None:
        answer = await http.post("/anthropic/v1/messages", json={**message(), **members}, headers=VERSION)
        assert answer.status_code == 400
        assert words in answer.json()["error"]["message"]
        assert answer.json()["error"]["message"].endswith("(2013)")
        assert (await http.post("/anthropic/v1/messages", json=message())).status_code == 400  # no version

    simulated(tmp_path, test)


def test_over_messages_m3_thinks_when_it_is_told_to_and_others_always_do(tmp_path: Path) -> None:
    async def test(simulator: MiniMaxSimulator, http: httpx.AsyncClient) -> None:
        async def kinds(**members: Any) -> list[str]:
            answer = await http.post("/anthropic/v1/messages", json=message(**members), headers=VERSION)
            return [block["type"] for block in answer.json()["content"]]

        off = {"type": "disabled"}
        assert await kinds() == await kinds(thinking=off) == ["text"]
        assert await kinds(thinking={"type": "adaptive"}) == ["thinking", "text"]
        assert await kinds(model="MiniMax-M2.7", thinking=off) == ["thinking", "text"]
        plain = (await http.post("/v1/chat/completions", json=body(thinking=off))).json()
        assert "think" not in plain["choices"][0]["message"]["content"]

    simulated(tmp_path, test)


def test_tokens_are_counted_for_m3_alone(tmp_path: Path) -> None:
    async def test(simulator: MiniMaxSimulator, http: httpx.AsyncClient) -> None:
        path = "/anthropic/v1/messages/count_tokens"
        assert (await http.post(path, json=body(), headers=VERSION)).json()["input_tokens"] > 0
        assert (await http.post(path, json=body(model="MiniMax-M2"), headers=VERSION)).status_code == 404

    simulated(tmp_path, test)


def test_a_shape_can_be_asked_for_by_the_models_name(tmp_path: Path) -> None:
    async def test(simulator: MiniMaxSimulator, http: httpx.AsyncClient) -> None:
        old = await http.post("/v1/chat/completions", json=body(model="shape-old", stream=True))
        *_, last, done, _ = old.text.split("\n\n")
        whole = json.loads(last.removeprefix("data: "))
        assert (whole["object"], done) == ("chat.completion", "data: [DONE]")
        assert whole["choices"][0]["message"]["reasoning_content"] == THOUGHT
        asked = message(model="shape-leaked_chunks", stream=True)
        leaked = await http.post("/anthropic/v1/messages", json=asked, headers=VERSION)
        assert '"reasoning_content"' in leaked.text

    simulated(tmp_path, test)
