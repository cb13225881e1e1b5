"""Which models take a temperature, by their names."""

from __future__ import annotations

import pytest

from llmgate_core.policies.model_limits import takes_temperature


@pytest.mark.parametrize(
    "model",
    [
        "o1",
        "o3-mini",
        "openai/o4-mini:high",
        "gpt-5",
        "GPT-5.1-codex",
        "openai/gpt-5-mini-2025-08-07",
        "gpt-6",
        "claude-opus-4-7",
        "anthropic/claude-opus-4.8",
        "claude-opus-4-7-20260416",
        "claude-opus-5",
        "claude-sonnet-5",
    ],
)
def test_models_that_refuse_one(model: str) -> None:
    assert not takes_temperature(model, ())


@pytest.mark.parametrize(
    "model",
    [
        "gpt-4o",
        "gpt-4.1-mini",
        "gpt-3.5-turbo",
        "gpt-oss-120b",
        "gpt-5-chat-latest",
        "gpt-5.1-chat-latest",
        "chatgpt-4o-latest",
        "claude-opus-4-1",
        "claude-opus-4-6",
        "claude-opus-4-20250514",
        "claude-sonnet-4-5-20250929",
        "claude-3-7-sonnet-latest",
        "claude-haiku-4-5",
        "deepseek-r1",
        "some-coder-480b",
        "yolo1-7b",
        "",
    ],
)
def test_models_that_take_one(model: str) -> None:
    assert takes_temperature(model, ())


@pytest.mark.parametrize("name", ["top_p", "thinking", "reasoning", "reasoning_effort", "thinking_budget"])
def test_what_does_not_go_with_it(name: str) -> None:
    assert not takes_temperature("claude-sonnet-4-5", {"max_tokens", name})
    assert takes_temperature("claude-sonnet-4-5", {"max_tokens", "top_k"})
    assert takes_temperature("gpt-4.1", {name})
