"""The shape that the API demands of a conversation, met without changing what the caller meant.

It wants one system message, in front, whose content is a list of parts, one of them marked `ephemeral`; and it takes
user messages best as plain strings. Anything else is answered by 400 `invalid_parameter_error`.
"""

from __future__ import annotations

from typing import Any

from llmgate_core import Body

SYSTEM_ROLES = ("system", "developer")
EPHEMERAL = {"type": "ephemeral"}


def shaped(body: Body) -> Body:
    """The body with its `messages` as the API wants them; the same body if they are so already."""
    try:
        messages = body.get("messages")
    except ValueError:  # a number in it that no float holds: the API's to judge
        return body
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        return body
    wanted = reshape(messages)
    return body if wanted == messages else body.splice({"messages": wanted})


def reshape(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One system message in front, made of all system and developer messages in their order; texts as strings."""
    system = [message for message in messages if message.get("role") in SYSTEM_ROLES]
    others = [message for message in messages if message.get("role") not in SYSTEM_ROLES]
    parts = [part for message in system for part in _parts(message.get("content"))]
    first = {**(system[0] if system else {}), "role": "system", "content": _marked(parts)}
    return [first, *map(_plain, others)]


def _parts(content: Any) -> list[Any]:
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}] if isinstance(content, str) and content else []


def _marked(parts: list[Any]) -> list[Any]:
    if any(isinstance(part, dict) and part.get("cache_control") == EPHEMERAL for part in parts):
        return parts
    *rest, last = parts or [{"type": "text", "text": ""}]
    return [*rest, {**last, "cache_control": EPHEMERAL}] if isinstance(last, dict) else parts


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    """A user message that is one bare text part becomes that text; everything richer stays as it is."""
    content = message.get("content")
    if message.get("role") != "user" or not isinstance(content, list) or len(content) != 1:
        return message
    part = content[0]
    if isinstance(part, dict) and part.keys() == {"type", "text"} and part["type"] == "text":
        return {**message, "content": part["text"]}
    return message
