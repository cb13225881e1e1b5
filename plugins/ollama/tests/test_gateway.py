"""The connector in a whole gateway, on real sockets, before the strict simulator of an Ollama."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai

from llmgate_core.app import create_app
from llmgate_core.backends import World
from llmgate_core.config import BackendConfig, GatewayConfig
from llmgate_core.plugins import Installed, Loaded, PluginSet, load
from llmgate_core.testing import LoopbackServer
from llmgate_ollama import Ollama
from llmgate_ollama.simulator import MODELS, THOUGHT, OllamaSimulator

MODEL = "ollama:qwen3:8b"
USER = {"role": "user", "content": "你好"}
SAID = "Hello to you, and 你好."
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}


@dataclass
class Desk:
    """A gateway with one ollama backend, the simulator behind it, and a client before it."""

    simulator: OllamaSimulator
    url: str
    http: httpx.AsyncClient

    async def chat(self, **members: Any) -> httpx.Response:
        return await self.http.post("/v1/chat/completions", json={"model": MODEL, "messages": [USER], **members})


def at_desk(folder: Path, test: Callable[[Desk], Awaitable[None]], **extra: Any) -> None:
    async def run() -> None:
        simulator = OllamaSimulator()
        simulator.chunk_pause, simulator.said = 0, SAID
        setup = await simulator.start(folder)
        plugin = Loaded(Installed("tests", "tests", "1", "tests"), connectors=(Ollama,))
        backend = BackendConfig(type="ollama", extra={**setup.extra, **extra})
        world = World(clock=lambda: 1_800_000_000.0, random=random.Random(1), environ={}, home=folder)
        plugins = PluginSet((*load(()).loaded, plugin))
        gateway = create_app(GatewayConfig(backends=(backend,)), plugins=plugins, world=world)
        try:
            async with LoopbackServer(gateway.app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
                await test(Desk(simulator, url, http))
        finally:
            await simulator.aclose()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_the_openai_sdk_hears_thinking_and_answer(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        async with openai.AsyncOpenAI(base_url=f"{desk.url}/v1", api_key="caller", max_retries=0) as client:
            messages: Any = [{"role": "user", "content": "?"}]
            stream = await client.chat.completions.create(
                model=MODEL, messages=messages, stream=True, stream_options={"include_usage": True}
            )
            chunks = [chunk async for chunk in stream]
            found = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
            assert "".join(delta.content or "" for delta in found) == SAID
            assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in found) == THOUGHT
            assert chunks[-1].usage is not None
            assert chunks[-1].usage.prompt_tokens == 26
            whole = await client.chat.completions.create(model=MODEL, messages=messages, max_tokens=1)
            assert whole.choices[0].finish_reason == "length"
            assert SAID.startswith(whole.choices[0].message.content or "-")
        assert desk.simulator.seen[-1]["options"] == {"num_ctx": 8192, "num_predict": 1}

    at_desk(tmp_path, test)


def test_a_tool_is_called_and_answered(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        turn = (await desk.chat(tools=[TOOL])).json()["choices"][0]["message"]
        result = {"role": "tool", "tool_call_id": turn["tool_calls"][0]["id"], "content": "22 °C"}
        answer = await desk.chat(messages=[USER, turn, result], tools=[TOOL])
        assert answer.json()["choices"][0]["message"]["content"] == SAID
        _, assistant, tool = desk.simulator.seen[-1]["messages"]
        assert assistant["thinking"] == THOUGHT
        assert tool["tool_name"] == "weather"
        # A hybrid and agents speak behind the result, and a loop must end all the same.
        answer = await desk.chat(messages=[USER, turn, result, USER], tools=[TOOL])
        assert answer.json()["choices"][0]["message"]["content"] == SAID
        said = {"role": "assistant", "content": SAID}
        again = await desk.chat(messages=[USER, turn, result, said, USER], tools=[TOOL])
        assert again.json()["choices"][0]["finish_reason"] == "tool_calls"

    at_desk(tmp_path, test)


def test_another_dialect_comes_over_chat(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        asked = {"model": MODEL, "max_tokens": 64, "messages": [USER], "stream": True}
        answer = await desk.http.post("/v1/messages", json=asked)
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
        assert "thinking_delta" in answer.text
        assert answer.text.rstrip().endswith('{"type":"message_stop"}')

    at_desk(tmp_path, test)


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        for model, told in (("mistral:7b", "`ollama pull mistral:7b`"), ("a b; c", "`ollama pull MODEL`")):
            answer = await desk.chat(model=f"ollama:{model}")
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (404, "model_not_found")
            assert error["message"].startswith(f"model '{model}' not found; get it with {told}")
        desk.simulator.fail_next(404, "404 page not found")
        error = (await desk.chat()).json()["error"]
        assert error["message"].startswith("404 page not found (at ")
        assert "is `base_url` the address of an Ollama?)" in error["message"]

    at_desk(tmp_path, test)


def test_refusals(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        answer = await desk.chat(model="ollama:llama3.2:latest", reasoning_effort="high")
        assert answer.status_code == 400
        assert answer.json()["error"]["message"].startswith('"llama3.2:latest" does not support thinking')
        assert (await desk.chat(n=2)).status_code == 400
        desk.simulator.fail_next(500, {"error": "model runner has unexpectedly stopped"})
        assert (await desk.chat()).json()["error"]["code"] == "upstream_unavailable"

    at_desk(tmp_path, test)


def test_an_error_in_a_stream_is_no_success(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        desk.simulator.break_after = 0
        assert (await desk.chat(stream=True)).status_code == 502
        desk.simulator.break_after = 3
        answer = await desk.chat(stream=True)
        assert answer.status_code == 200
        assert "an error was encountered while running the model" in answer.text
        assert "[DONE]" not in answer.text

    at_desk(tmp_path, test)


def test_the_models_and_the_context_that_is_set(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        listed = (await desk.http.get("/v1/models")).json()["data"]
        assert [one["id"] for one in listed if one["id"].startswith("ollama")] == [f"ollama:{name}" for name in MODELS]
        await desk.chat(num_ctx=2048)
        assert desk.simulator.seen[-1]["options"] == {"num_ctx": 2048}

    at_desk(tmp_path, test)
