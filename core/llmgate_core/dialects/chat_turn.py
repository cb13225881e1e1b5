"""What a Chat Completions request tells the model that it does not know yet: everything after its own last message."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..wire import Body
from .turns import Turn, turn_in_messages


def read_turn(body: Body, is_worth_it: Callable[[bytes], bool]) -> Turn | None:
    """The news in a request's body; None if there are none that are worth the reading.

    What is not as OpenAI's API reference has it is left out: it is the upstream's to judge.

    Args:
        is_worth_it: as in `turn_in_messages`.
    """
    return turn_in_messages(body, is_worth_it, _answers, _calls, ("tools", "functions"))


def _answers(message: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    if message.get("role") == "tool":
        yield message.get("tool_call_id"), message.get("content")


def _calls(message: dict[str, Any]) -> Iterator[tuple[str, str]]:
    calls = message.get("tool_calls") if message.get("role") == "assistant" else None
    for call in calls if isinstance(calls, list) else []:
        # `custom` is a tool whose input is plain text, such as a patch.
        called = (call.get("function") or call.get("custom")) if isinstance(call, dict) else None
        if isinstance(called, dict) and isinstance(call.get("id"), str) and isinstance(called.get("name"), str):
            yield call["id"], called["name"]
