"""What a Chat Completions request tells the model that it does not know yet: everything after its own last message.

Only that much is decoded: a long session sends its whole history each time, and nearly all of it is old.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from ..wire import Body, JsonError, decode, last_first

_NOTHING = (None, b"null", b"[]")


@dataclass(frozen=True)
class ToolResult:
    """What a tool answered, and the name under which the model had called it."""

    tool: str
    text: str


@dataclass(frozen=True)
class Turn:
    """The news of one request.

    Args:
        results: of tools whose names are known; in their order.
        user: the user's last message, None if there is none, or if the request offers tools: then what its tools
            say is in `results`.
        answered: the text of the model's own last message, to which all of it is the answer.
    """

    results: tuple[ToolResult, ...] = ()
    user: str | None = None
    answered: str = ""


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
        if _role(message) == "assistant":
            answered = message
            break
        news.append(message)
    if not any(map(is_worth_it, news)):
        return None
    return _turn(_decoded(reversed(news)), answered, earlier, has_tools=_has_tools(body))


def _turn(news: list[dict[str, Any]], answered: bytes, earlier: Iterator[bytes], *, has_tools: bool) -> Turn:
    answers = [(message.get("tool_call_id"), message) for message in news if message.get("role") == "tool"]
    said = [message for message in news if message.get("role") == "user"]
    wanted = {call for call, _ in answers if isinstance(call, str)}
    names = _tool_names(wanted, chain([answered], earlier))
    (assistant,) = _decoded([answered]) or [{}]
    return Turn(
        tuple(
            ToolResult(names[call], _text(message.get("content")))
            for call, message in answers
            if isinstance(call, str) and call in names
        ),
        None if has_tools or not said else _text(said[-1].get("content")),
        _text(assistant.get("content")),
    )


def _tool_names(wanted: set[str], messages: Iterator[bytes]) -> dict[str, str]:
    """The tools' names by the ids of the calls, of the newest call where an id was used again."""
    names: dict[str, str] = {}
    missing = set(wanted)
    while missing and (message := next(messages, None)) is not None:
        for read in _decoded([message]):
            for call, name in _calls(read):
                if call in missing:
                    missing.discard(call)
                    names[call] = name
    return names


def _calls(message: dict[str, Any]) -> Iterator[tuple[str, str]]:
    calls = message.get("tool_calls") if message.get("role") == "assistant" else None
    for call in calls if isinstance(calls, list) else []:
        # `custom` is a tool whose input is plain text, such as a patch.
        called = (call.get("function") or call.get("custom")) if isinstance(call, dict) else None
        if isinstance(called, dict) and isinstance(call.get("id"), str) and isinstance(called.get("name"), str):
            yield call["id"], called["name"]


def _text(content: Any) -> str:
    """The text of a message's content: itself, or its text parts as lines."""
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    return "\n".join(text for text in texts if isinstance(text, str))


def _role(message: bytes) -> Any:
    try:
        return Body(message).get("role")
    except JsonError:
        return None


def _decoded(messages: Iterable[bytes]) -> list[dict[str, Any]]:
    found = []
    for message in messages:
        try:
            value = decode(message)
        except JsonError:  # such as a number that no float holds; it was not looked at before
            continue
        found += [value] if isinstance(value, dict) else []
    return found


def _has_tools(body: Body) -> bool:
    return any(body.raw(name) not in _NOTHING for name in ("tools", "functions"))
