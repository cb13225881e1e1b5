"""How a chat request wants its answer made, as Anthropic Messages has it: length, sampling, thinking.

With thinking, Messages refuses other temperatures than 1, `top_k`, a `top_p` below 0.95 and a demand for a call.
Who speaks of thinking by its budget gets the kind of thinking that has one, who speaks of effort the adaptive kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..connectors import ModelInfo
from ..dialects.requests import mistyped
from .losses import Losses

USUAL_TOKENS = 8192
"""How long an answer may be where neither the caller nor the model's facts say; every model of today can do it."""

MOST_TOKENS = 32_000
"""And where the facts do: as long as any file that an agent writes. Anthropic refuses a request whose `max_tokens` and
input exceed the window together, so that what a model can do at most would take room from the conversation."""

SMALLEST_BUDGET = 1024
"""Tokens; source: Anthropic's API reference, `thinking.budget_tokens`."""

ADAPTIVE = "adaptive_thinking"
"""What facts call the kind of thinking that has no budget, where a model refuses it."""

_BUDGETS = {"minimal": 1024, "low": 4096, "medium": 16_384, "high": 32_000, "xhigh": 48_000, "max": 60_000}
"""Tokens for an effort, where a model thinks by its budget only; the first three as `messages_over_chat` tells them."""

_EFFORTS = {name: name for name in ("low", "medium", "high", "xhigh", "max")} | {"minimal": "low"}
_LENGTHS = ("max_completion_tokens", "max_tokens")
_LEAST_TOP_P = 0.95


@dataclass(frozen=True)
class Situation:
    """What decides whether the model may think.

    Args:
        must_call: a tool has to be called.
        after_result: the model goes on after a tool's result.
    """

    must_call: bool
    after_result: bool


def sampling_of(data: Mapping[str, Any], situation: Situation, info: ModelInfo, losses: Losses) -> dict[str, Any]:
    """The members for length, sampling and thinking; `max_tokens` is always among them, as Messages wants it.

    Args:
        info: what is known of the model.

    Raises:
        RequestError: a value is of another type.
    """
    length = _length(data)
    data = _in_its_way(data, info, losses)
    effort = _effort(data)
    thinking = _thinking(data, situation, length, losses)
    budget = thinking.get("budget_tokens", 0)
    told: dict[str, Any] = {"max_tokens": _usual(info.max_output, budget) if length is None else length}
    if thinking:
        told["thinking"] = thinking
    if effort is not None:
        told["output_config"] = {"effort": effort}
    return {**told, **_draws(data, thinking.get("type") in ("enabled", "adaptive"), losses)}


def _in_its_way(data: Mapping[str, Any], info: ModelInfo, losses: Losses) -> Mapping[str, Any]:
    """The same wish to think, in the way that the model knows, of the two that there are."""
    effort, budget = data.get("reasoning_effort"), data.get("thinking_budget")
    if budget is None and isinstance(effort, str) and effort in _BUDGETS and ADAPTIVE in info.refuses:
        return {**data, "reasoning_effort": None, "thinking_budget": _BUDGETS[effort]}
    if isinstance(budget, int) and budget > 0 and "thinking_budget" in info.refuses:
        losses.add("thinking_budget")
        said = next(name for name, most in _BUDGETS.items() if budget <= most or name == "max")
        return {**data, "reasoning_effort": effort or said, "thinking_budget": None}
    return data


def _usual(max_output: int | None, budget: int) -> int:
    """The limit of who sets none: room for an answer behind the thinking, as far as the model can go."""
    if max_output is None:
        return USUAL_TOKENS + budget
    return max(min(MOST_TOKENS + budget, max_output), budget + 1)


def _length(data: Mapping[str, Any]) -> int | None:
    """The caller's limit; of two, the one that is not deprecated."""
    name = next((name for name in _LENGTHS if data.get(name) is not None), None)
    return None if name is None else _whole(data, name)


def _whole(data: Mapping[str, Any], name: str) -> int:
    value = data[name]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise mistyped(name, "a whole number")
    return value


def _effort(data: Mapping[str, Any]) -> str | None:
    value = data.get("reasoning_effort")
    if value is None or value == "none":
        return None
    if not isinstance(value, str) or value not in _EFFORTS:
        raise mistyped("reasoning_effort", f"`none`, {', '.join(f'`{name}`' for name in _EFFORTS)}")
    return _EFFORTS[value]


def _thinking(data: Mapping[str, Any], situation: Situation, length: int | None, losses: Losses) -> dict[str, Any]:
    if data.get("thinking_budget") is not None:
        return _by_budget(_whole(data, "thinking_budget"), situation, length, losses)
    if data.get("reasoning_effort") is None:
        return {}
    if data["reasoning_effort"] == "none":
        return {"type": "disabled"}
    losses.add_if(situation.must_call, "reasoning_effort")
    return {} if situation.must_call else {"type": "adaptive"}


def _by_budget(budget: int, situation: Situation, length: int | None, losses: Losses) -> dict[str, Any]:
    if budget <= 0:
        return {"type": "disabled"}
    most = max(budget, SMALLEST_BUDGET) if length is None else length - 1
    if situation.must_call or situation.after_result or most < SMALLEST_BUDGET:
        losses.add("thinking_budget")
        return {}
    fitting = max(SMALLEST_BUDGET, min(budget, most))
    losses.add_if(fitting != budget, "thinking_budget")
    return {"type": "enabled", "budget_tokens": fitting}


def _draws(data: Mapping[str, Any], thinks: bool, losses: Losses) -> dict[str, Any]:
    told = {name: _number(data, name) for name in ("temperature", "top_p", "top_k") if data.get(name) is not None}
    refused = [
        name
        for name, is_refused in (
            ("temperature", told.get("temperature") != 1),
            ("top_p", told.get("top_p", 1) < _LEAST_TOP_P),
            ("top_k", True),
        )
        if thinks and name in told and is_refused
    ]
    for name in refused:
        losses.add(name)
        del told[name]
    if told.get("temperature", 0) > 1:
        losses.add("temperature")
        told["temperature"] = 1
    return told


def _number(data: Mapping[str, Any], name: str) -> float:
    value = data[name]
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise mistyped(name, "a number")
    return value
