"""A hybrid of both plugins before their simulators, driven by the real openai-python: MiniMax thinks, Qwen answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from openai import OpenAI
from tests.e2e.conftest import open_minimax

from llmgate_minimax.simulator import THOUGHT, MiniMaxSimulator

if TYPE_CHECKING:
    from tests.e2e.conftest import Portal, Process, Shell

PAIR = "hybrid:[minimax:MiniMax-M2,qwen-oauth:qwen3-coder-plus]"
ASKED: Any = [{"role": "user", "content": "请用中文打个招呼"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


Thinker = tuple[MiniMaxSimulator, dict[str, Any]]


@pytest.fixture(scope="module")
def module_thinker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Thinker]:
    with open_minimax(tmp_path_factory.mktemp("minimax")) as opened:
        yield opened


@pytest.fixture
def thinker(module_thinker: Thinker) -> MiniMaxSimulator:
    """The simulator, with nothing seen."""
    module_thinker[0].seen.clear()
    module_thinker[0].shape = "documented"
    return module_thinker[0]


@pytest.fixture(scope="module")
def gateway(module_shell: Shell, module_portal: Portal, module_thinker: Thinker) -> Process:
    backends = {"minimax": {"extra": module_thinker[1]}, "qwen-oauth": {"extra": module_portal.extra}}
    return module_shell.serve("--config", module_shell.config(backends=backends))


@pytest.fixture(scope="module")
def client(gateway: Process) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key="none needed", max_retries=0, timeout=20) as opened:
        yield opened


def asked_of(portal: Portal) -> list[dict[str, Any]]:
    """The conversation that Qwen was asked last, without the system message that its plugin adds."""
    messages: list[dict[str, Any]] = portal.simulator.seen[-1].body["messages"]
    return [one for one in messages if one["role"] != "system"]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("shape", ["documented", "think", "doubled", "snapshots", "closing_tag"])
def test_one_thinks_and_the_other_answers(
    client: OpenAI, portal: Portal, thinker: MiniMaxSimulator, shape: str, stream: bool
) -> None:
    thinker.shape = shape
    if stream:
        with client.chat.completions.stream(model=PAIR, messages=ASKED, tools=[WEATHER]) as events:
            said: Any = events.get_final_completion()
    else:
        said = client.chat.completions.create(model=PAIR, messages=ASKED, tools=[WEATHER])
    message = said.choices[0].message
    assert message.reasoning_content == THOUGHT
    assert message.tool_calls[0].function.name == "get_weather"
    assert said.choices[0].finish_reason == "tool_calls"
    (thinking,) = thinker.seen
    assert (thinking.body["tool_choice"], thinking.body["stream"]) == ("none", True)
    (told,) = asked_of(portal)
    assert THOUGHT in str(told["content"])


def test_the_tools_result_is_thought_about_too(client: OpenAI, portal: Portal, thinker: MiniMaxSimulator) -> None:
    first = client.chat.completions.create(model=PAIR, messages=ASKED, tools=[WEATHER]).choices[0].message
    assert first.tool_calls
    result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "12 度"}
    messages: Any = [*ASKED, first.to_dict(), result]
    second = client.chat.completions.create(model=PAIR, messages=messages, tools=[WEATHER]).choices[0].message
    assert getattr(second, "reasoning_content", None) == THOUGHT
    told = asked_of(portal)
    assert [one["role"] for one in told] == ["user", "assistant", "tool", "user"]
    assert told[2]["content"] == "12 度"
    assert THOUGHT in str(told[3]["content"])


def test_without_the_thinker_the_other_answers_alone(client: OpenAI, portal: Portal, thinker: MiniMaxSimulator) -> None:
    thinker.fail_next(1, 529, {"error": {"message": "High traffic detected."}})
    raw = client.chat.completions.with_raw_response.create(model=PAIR, messages=ASKED)
    assert raw.headers["x-llmgate-hybrid"] == "reasoning-failed"
    answer = raw.parse().choices[0].message.content
    assert answer is not None
    assert answer.startswith("你好！这里是模拟的通义千问")
