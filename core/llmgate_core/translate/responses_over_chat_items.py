"""The items of a Responses request as the messages of Chat Completions.

What chat's order demands: the calls of one turn stand together in one message of the assistant's, and each is answered
right behind it. So outputs are looked up by their `call_id` wherever they stand, calls that follow each other (or the
assistant's text) are joined, and whatever comes between a call and its output comes behind both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..dialects.requests import mistyped
from ..errors import RequestError
from ..wire import encode
from .late_system import with_one_system
from .losses import Losses, is_set, text_in
from .responses_over_chat_parts import IMAGE_URL, collapsed, parts_of, split, text_of_parts
from .responses_over_chat_tools import LOCAL_SHELL, TOOL_SEARCH, Toolbox, arguments_of_input

NO_OUTPUT = "No output was recorded for this call."
ELSEWHERE = "The output follows in the next message."

_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
"""`developer` is a word of OpenAI's only; `system` is known everywhere."""

_BOOKKEEPING = frozenset({"type", "id", "call_id", "status"})
_ANSWERS = frozenset({"function_call_output", "custom_tool_call_output", "local_shell_call_output"})
_BRING_TOOLS = frozenset({"additional_tools", "tool_search_output"})
_COMPACTED = frozenset({"compaction", "compaction_summary", "compaction_trigger"})
_HOSTED = frozenset({"mcp_list_tools", "mcp_approval_request", "mcp_approval_response"})


def offered_within(items: Sequence[dict[str, Any]], toolbox: Toolbox) -> None:
    """Offers the tools that items bring along: `additional_tools`, and what a tool search has found.

    Raises:
        RequestError: they are no tools.
    """
    for place, item in enumerate(items):
        if _type(item) in _BRING_TOOLS:
            toolbox.offer(item.get("tools"), f"input[{place}].tools")


def messages_of(
    instructions: str | None, items: Sequence[dict[str, Any]], toolbox: Toolbox, losses: Losses
) -> list[dict[str, Any]]:
    """The messages for these items; instructions and system messages at the beginning become one, later ones
    the user's.

    Raises:
        RequestError: an item is not as OpenAI's API reference has it, or answers no call; `param` names it.
    """
    conversation = _Conversation(items, toolbox, losses)
    for place, item in enumerate(items):
        conversation.add(item, f"input[{place}]", is_current=place > conversation.last_user)
    conversation.end()
    first = [{"role": "system", "content": instructions}] if instructions else []
    return with_one_system([*first, *conversation.messages], losses, "input.system")


def _type(item: Mapping[str, Any]) -> str:
    """An item's type; two may do without: messages and references."""
    sort = item.get("type")
    if sort is None:
        return "message" if "role" in item else "item_reference" if "id" in item else ""
    return str(sort)


def _call_id(item: Mapping[str, Any]) -> str | None:
    """The id that a call and its output share; a local shell's output has it as its own."""
    found = item.get("call_id")
    if found is None and _type(item) == "local_shell_call_output":
        found = item.get("id")
    return found if isinstance(found, str) and found else None


def _is_output(item: Mapping[str, Any]) -> bool:
    return _type(item).endswith("_output")


class _Conversation:
    """Takes items one after another, and makes messages of them."""

    def __init__(self, items: Sequence[dict[str, Any]], toolbox: Toolbox, losses: Losses) -> None:
        self.messages: list[dict[str, Any]] = []
        self.last_user = max((place for place, item in enumerate(items) if item.get("role") == "user"), default=-1)
        self._toolbox = toolbox
        self._losses = losses
        self._called = {_call_id(item) for item in items if _type(item).endswith("_call")}
        self._outputs = self._index(items)
        self._open: dict[str, Any] | None = None  # the assistant's message that calls may still join
        self._reasoning: list[str] = []  # what the next message of the assistant's was thought out with

    def _index(self, items: Sequence[dict[str, Any]]) -> dict[str, tuple[str, dict[str, Any]]]:
        found: dict[str, tuple[str, dict[str, Any]]] = {}
        for place, item in enumerate(items):
            call_id = _call_id(item) if _is_output(item) else None
            if call_id is None:
                continue
            if call_id in found:
                where = f"input[{place}]"
                message = f"`{where}` is a second output for call_id {call_id[:100]}"
                raise RequestError(message, code="invalid_value", param=where)
            found[call_id] = (f"input[{place}]", item)
        return found

    def add(self, item: dict[str, Any], field: str, *, is_current: bool) -> None:
        """Takes the next item.

        Args:
            field: how the caller knows it.
            is_current: it belongs to the turn that goes on: no message of the user's follows.
        """
        sort = _type(item)
        if sort == "message":
            self._add_message(item, field)
        elif sort == "reasoning":
            self._add_reasoning(item, is_current)
        elif _is_output(item):
            self._check_output(item, field)
        elif sort.endswith("_call"):
            self._add_call(item, sort, field)
        elif sort not in _BRING_TOOLS:
            self._losses.add(_loss(sort))

    # --- messages and reasoning ---------------------------------------------------------------------------

    def _add_message(self, item: dict[str, Any], field: str) -> None:
        role = _ROLES.get(text_in(item, "role", field))
        if role is None:
            message = f"`{field}.role` must be `user`, `assistant`, `system` or `developer`"
            raise RequestError(message, code="invalid_value", param=f"{field}.role")
        self._lose_options(item, ("role", "content"))
        parts = parts_of(item.get("content"), f"{field}.content", self._losses)
        self.close()
        if role == "assistant":
            self._add_answer(parts)
        else:
            self._drop_reasoning()
            separator = "\n\n" if role == "system" else None
            self.messages.append({"role": role, "content": collapsed(parts, separator)})

    def _add_answer(self, parts: list[dict[str, Any]]) -> None:
        message: dict[str, Any] = {"role": "assistant", "content": text_of_parts(parts)}
        if refusal := "".join(part["refusal"] for part in parts if part["type"] == "refusal"):
            message["refusal"] = refusal
        if any(part["type"] not in ("text", "refusal") for part in parts):
            self._losses.add("input.content")
        self._begin(message)

    def _add_reasoning(self, item: dict[str, Any], is_current: bool) -> None:
        self.close()
        self._lose_options(item, ("summary", "content", "encrypted_content"))
        if is_set(item.get("encrypted_content")):
            self._losses.add("reasoning.encrypted_content")
        text = _reasoning_text(item)
        if text and is_current:
            self._reasoning.append(text)
        elif text:
            self._losses.add("input.reasoning")

    def _drop_reasoning(self) -> None:
        if self._reasoning:
            self._losses.add("input.reasoning")
            self._reasoning.clear()

    def _begin(self, message: dict[str, Any]) -> dict[str, Any]:
        if self._reasoning:
            message["reasoning_content"] = "\n\n".join(self._reasoning)
            self._reasoning.clear()
        self.messages.append(message)
        self._open = message
        return message

    # --- calls and their outputs --------------------------------------------------------------------------

    def _add_call(self, item: dict[str, Any], sort: str, field: str) -> None:
        call_id = _call_id(item)
        if call_id is None:
            if sort in ("function_call", "custom_tool_call", "local_shell_call"):
                raise mistyped(f"{field}.call_id", "a string that is not empty")
            self._losses.add("input.hosted_call")
            return
        name, arguments = self._called_with(item, sort, field)
        call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
        message = self._open or self._begin({"role": "assistant", "content": None})
        message.setdefault("tool_calls", []).append(call)

    def _called_with(self, item: dict[str, Any], sort: str, field: str) -> tuple[str, str]:
        """Name and arguments of a call. One of a type that chat does not have is told with all its members."""
        namespace = item.get("namespace")
        namespace = namespace if isinstance(namespace, str) else None
        if sort == "function_call":
            self._lose_options(item, ("name", "namespace", "arguments"))
            return self._toolbox.spelt(text_in(item, "name", field), namespace), text_in(item, "arguments", field)
        if sort == "custom_tool_call":
            self._lose_options(item, ("name", "namespace", "input"))
            text = arguments_of_input(text_in(item, "input", field))
            return self._toolbox.spelt(text_in(item, "name", field), namespace), text
        if sort == "local_shell_call":
            self._lose_options(item, ("action",))
            action = item.get("action")
            told = {key: value for key, value in action.items() if key != "type"} if isinstance(action, dict) else {}
            return self._toolbox.spelt(LOCAL_SHELL, None), encode(told).decode()
        if sort == "tool_search_call":
            self._lose_options(item, ("arguments", "execution"))
            return self._toolbox.spelt(TOOL_SEARCH, None), encode(item.get("arguments") or {}).decode()
        told = {key: value for key, value in item.items() if key not in _BOOKKEEPING}
        return self._toolbox.spelt(sort.removesuffix("_call"), None), encode(told).decode()

    def _check_output(self, item: dict[str, Any], field: str) -> None:
        """An output is told behind its call, and ends the turn; one without a call is refused in OpenAI's words."""
        call_id = _call_id(item)
        if call_id is not None and call_id in self._called:
            self.close()
            return
        if _type(item) not in _ANSWERS:
            self._losses.add_if(_type(item) not in _BRING_TOOLS, "input.unknown")
            return
        if call_id is None:
            raise mistyped(f"{field}.call_id", "a string that is not empty")
        message = f"No tool call found for function call output with call_id {call_id[:100]}."
        raise RequestError(message, code="invalid_value", param=field)

    def end(self) -> None:
        """There are no more items."""
        self.close()
        self._drop_reasoning()

    def close(self) -> None:
        """Answers the calls of the assistant's last message; nothing joins it any more."""
        message, self._open = self._open, None
        media: list[dict[str, Any]] = []
        for call in message.get("tool_calls", ()) if message else ():
            media += self._answer(call["id"])
        if media:
            self.messages.append({"role": "user", "content": media})

    def _answer(self, call_id: str) -> list[dict[str, Any]]:
        """Appends a call's output, of which chat takes only text; returns the rest, for a message of the user's."""
        field, item = self._outputs.pop(call_id, ("", {}))
        if item:
            text, media = self._told(item, field)
        else:
            self._losses.add("input.unanswered_call")
            text, media = NO_OUTPUT, []
        self.messages.append({"role": "tool", "tool_call_id": call_id, "content": text or (ELSEWHERE if media else "")})
        return [{"type": "text", "text": f"Output of call {call_id}:"}, *media] if media else []

    def _told(self, item: dict[str, Any], field: str) -> tuple[str, list[dict[str, Any]]]:
        if _type(item) in _BRING_TOOLS:
            return f"Found: {', '.join(self._toolbox.names(item.get('tools'))) or 'nothing'}.", []
        output = item.get("output")
        if isinstance(output, str):
            self._lose_options(item, ("output", "name", "namespace"))
            return output, []
        if isinstance(output, dict) and isinstance(output.get(IMAGE_URL), str):  # a screenshot
            output = [{"type": "input_image", IMAGE_URL: output[IMAGE_URL]}]
        if isinstance(output, list) and all(isinstance(part, dict) and "type" in part for part in output):
            self._lose_options(item, ("output", "name", "namespace"))
            return split(parts_of(output, f"{field}.output", self._losses))
        told = {key: value for key, value in item.items() if key not in _BOOKKEEPING}
        return encode(output if told.keys() == {"output"} else told).decode(), []

    def _lose_options(self, item: Mapping[str, Any], told: Iterable[str]) -> None:
        known = _BOOKKEEPING.union(told)
        if any(is_set(value) for key, value in item.items() if key not in known):
            self._losses.add("input.options")


def _loss(sort: str) -> str:
    if sort == "item_reference":
        return "input.item_reference"
    if sort in _COMPACTED:
        return "input.compaction"
    return "input.hosted_call" if sort in _HOSTED else "input.unknown"


def _reasoning_text(item: Mapping[str, Any]) -> str:
    """What was thought, in full where that is known, else its summary."""
    for name in ("content", "summary"):
        parts = item.get(name)
        texts = [part.get("text") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
        if text := "\n\n".join(text for text in texts if isinstance(text, str) and text):
            return text
    return ""
