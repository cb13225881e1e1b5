"""Calls of tools in a conversation: from an assistant's `tool_calls` to `tool_use`, and their ids."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..wire import JsonError, decode
from .chat_over_messages_parts import Block
from .chat_over_messages_rules import is_set, lose_beside
from .losses import Losses, object_of, objects_in, text_in, unsupported

_UNFIT = re.compile(r"[^a-zA-Z0-9_-]")
_CALL_MEMBERS = frozenset({"id", "type", "function", "custom", "index"})
_CALLED_MEMBERS = frozenset({"name", "arguments", "input"})


class CallIds:
    """The ids of calls as Messages takes them: letters, digits, `_` and `-`, and none twice in a conversation.

    An id that is fit stays as it is.
    """

    def __init__(self) -> None:
        self._latest: dict[str, str] = {}
        self._taken: set[str] = set()

    def of_call(self, id: str) -> str:
        """The id to send for one more call."""
        base = _UNFIT.sub("_", id) or "call"
        found, number = base, 1
        while found in self._taken:
            number += 1
            found = f"{base}_{number}"
        self._taken.add(found)
        self._latest[id] = found
        return found

    def of_result(self, id: str) -> str | None:
        """The id that the latest call of this id got; None where there was no such call."""
        return self._latest.get(id)


def calls_of(message: Mapping[str, Any], field: str, ids: CallIds, losses: Losses) -> list[Block]:
    """The `tool_use` blocks of an assistant's message; a legacy `function_call` is one whose id is its field.

    Raises:
        RequestError: a call is none.
    """
    blocks = []
    for place, call in enumerate(objects_in(message.get("tool_calls"), f"{field}.tool_calls")):
        where = f"{field}.tool_calls[{place}]"
        lose_beside(losses, call, _CALL_MEMBERS, "messages.options")
        blocks.append(_call(call, where, ids.of_call(text_in(call, "id", where)), losses))
    if is_set(legacy := message.get("function_call")):
        where = f"{field}.function_call"
        blocks.append(_called(object_of(legacy, where), where, ids.of_call(where), losses))
    return blocks


def _call(call: Mapping[str, Any], field: str, id: str, losses: Losses) -> Block:
    sort = call.get("type", "function")
    if sort == "custom":
        custom = object_of(call.get("custom"), f"{field}.custom")
        lose_beside(losses, custom, _CALLED_MEMBERS, "messages.options")
        name = text_in(custom, "name", f"{field}.custom")
        return {"type": "tool_use", "id": id, "name": name, "input": {"input": custom.get("input")}}
    if sort != "function":
        raise unsupported(f"{field}.type", "must be `function` or `custom`")
    return _called(object_of(call.get("function"), f"{field}.function"), f"{field}.function", id, losses)


def _called(function: Mapping[str, Any], field: str, id: str, losses: Losses) -> Block:
    lose_beside(losses, function, _CALLED_MEMBERS, "messages.options")
    name = text_in(function, "name", field)
    return {"type": "tool_use", "id": id, "name": name, "input": _input(function.get("arguments"), losses)}


def _input(arguments: Any, losses: Losses) -> dict[str, Any]:
    """What a call was made with. Models write arguments, so they may be no JSON: then the next one shall see it."""
    if isinstance(arguments, dict):  # not OpenAI's, and met
        return arguments
    text = arguments if isinstance(arguments, str) else ""
    if not text.strip():
        return {}
    try:
        value = decode(text.encode())
    except JsonError:
        value = None
    if isinstance(value, dict):
        return value
    losses.add("messages.arguments")
    return {"arguments": text}
