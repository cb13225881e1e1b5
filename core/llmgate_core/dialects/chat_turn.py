"""What a Chat Completions request tells the model that it does not know yet: everything after its own last message.

Only that much is decoded: a long session sends its whole history each time, and nearly all of it is old.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from ..wire import Body, last_first
from .turns import ToolResult, Turn, decoded, has_any, member, text_of, tool_names


def read_turn(body: Body, is_worth_it: Callable[[bytes], bool]) -> Turn | None:
    """The news in a request's body; None if there are none that are worth the reading.

    What is not as OpenAI's API reference has it is left out: it is the upstream's to judge.

    Args:
        is_worth_it: told the JSON text of each new message; if all are refused, nothing is decoded.
    """
    raw = body.raw("messages") or b""
    if not raw.startswith(b"["):
        return None
    news: list[bytes] = []
    answered = b"{}"
    earlier = last_first(raw)
    for message in earlier:
        if member(message, "role") == "assistant":
            answered = message
            break
        news.append(message)
    if not any(map(is_worth_it, news)):
        return None
    return _turn(decoded(reversed(news)), answered, earlier, has_tools=has_any(body, "tools", "functions"))


def _turn(news: list[dict[str, Any]], answered: bytes, earlier: Iterator[bytes], *, has_tools: bool) -> Turn:
    answers = [(message.get("tool_call_id"), message) for message in news if message.get("role") == "tool"]
    said = [message for message in news if message.get("role") == "user"]
    wanted = {call for call, _ in answers if isinstance(call, str)}
    names = tool_names(wanted, chain([answered], earlier), _calls)
    (assistant,) = decoded([answered]) or [{}]
    return Turn(
        tuple(
            ToolResult(names[call], text_of(message.get("content")))
            for call, message in answers
            if isinstance(call, str) and call in names
        ),
        None if has_tools or not said else text_of(said[-1].get("content")),
        text_of(assistant.get("content")),
    )


def _calls(message: dict[str, Any]) -> Iterator[tuple[str, str]]:
    calls = message.get("tool_calls") if message.get("role") == "assistant" else None
    for call in calls if isinstance(calls, list) else []:
        # `custom` is a tool whose input is plain text, such as a patch.
        called = (call.get("function") or call.get("custom")) if isinstance(call, dict) else None
        if isinstance(called, dict) and isinstance(call.get("id"), str) and isinstance(called.get("name"), str):
            yield call["id"], called["name"]
