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

USER = {"role": "user", "content": "今天好吗"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
Test = Callable[[MiniMaxSimulator, httpx.AsyncClient], Awaitable[None]]


def simulated(folder: Path, test: Test) -> None:
    async def run() -> None:
        simulator = MiniMaxSimulator()
        simulator.chunk_pause = 0
        setup = await simulator.start(folder)
        assert setup.extra == {"api_key": f"file:{folder / 'key'}", "base_url": f"{simulator.url}/v1"}
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
