"""What a request tells the model that it does not know yet, in words that are the same for every dialect.

The rooms `chat_turn`, `messages_turn` and `responses_turn` read it; here is what they share.
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


Reader = Callable[[Body, Callable[[bytes], bool]], Turn | None]
"""Reads a request of one dialect, like `chat_turn.read_turn`."""

Calls = Callable[[dict[str, Any]], Iterator[tuple[str, str]]]
"""The ids and the tools' names of the calls in one element of a conversation."""


Answers = Callable[[dict[str, Any]], Iterator[tuple[Any, Any]]]
"""The ids of the calls that a message answers, and what it answers to each."""


def turn_in_messages(
    body: Body, is_worth_it: Callable[[bytes], bool], answers: Answers, calls: Calls, tools: Iterable[str]
) -> Turn | None:
    """The news in `messages`, for dialects in which all that follows the assistant's last message is told to it.

    Only that much is decoded: a long session sends its whole history each time, and nearly all of it is old.

    Args:
        is_worth_it: told the JSON text of each new message; if all are refused, nothing is decoded.
        tools: the members that offer tools.
    """
    raw = body.raw("messages") or b""
    if not raw.startswith(b"["):
        return None
    news: list[bytes] = []
    last = b"{}"  # of the assistant's own
    earlier = last_first(raw)
    for message in earlier:
        if member(message, "role") == "assistant":
            last = message
            break
        news.append(message)
    if not any(map(is_worth_it, news)):
        return None
    told = decoded(reversed(news))
    said = [message for message in told if message.get("role") == "user"]
    found = [(call, content) for message in told for call, content in answers(message) if isinstance(call, str)]
    names = tool_names({call for call, _ in found}, chain([last], earlier), calls)
    (assistant,) = decoded([last]) or [{}]
    return Turn(
        tuple(ToolResult(names[call], text_of(content)) for call, content in found if call in names),
        None if has_any(body, *tools) or not said else text_of(said[-1].get("content")),
        text_of(assistant.get("content")),
    )


def tool_names(wanted: set[str], elements: Iterable[bytes], calls: Calls) -> dict[str, str]:
    """The tools' names by the ids of the calls, of the newest call where an id was used again.

    Args:
        wanted: the ids; when all are found, no more is decoded.
        elements: of the conversation, the last one first.
    """
    names: dict[str, str] = {}
    missing = set(wanted)
    left = iter(elements)
    while missing and (element := next(left, None)) is not None:
        for read in decoded([element]):
            for call, name in calls(read):
                if call in missing:
                    missing.discard(call)
                    names[call] = name
    return names


def text_of(content: Any) -> str:
    """The text of a content: itself, or its text parts as lines."""
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    return "\n".join(text for text in texts if isinstance(text, str))


def member(element: bytes, name: str) -> Any:
    """One member of an element that is not decoded otherwise, None where it cannot be read."""
    try:
        return Body(element).get(name)
    except JsonError:
        return None


def decoded(elements: Iterable[bytes]) -> list[dict[str, Any]]:
    """The elements that are objects and can be decoded."""
    found = []
    for element in elements:
        try:
            value = decode(element)
        except JsonError:  # such as a number that no float holds; it was not looked at before
            continue
        found += [value] if isinstance(value, dict) else []
    return found


def has_any(body: Body, *names: str) -> bool:
    """Whether one of these members holds something."""
    return any(body.raw(name) not in _NOTHING for name in names)
