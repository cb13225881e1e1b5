"""The messages of a Messages request as the messages of Chat Completions.

What chat's order demands: each call is answered right behind the assistant's message that makes it, by messages of
their own. So results leave the user's message in which they came, and what stands beside them, or between a call and
its result, comes behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..dialects.requests import mistyped
from ..errors import RequestError
from ..wire import encode
from .late_system import with_one_system
from .losses import Losses, object_in, text_in
from .messages_over_chat_parts import (
    Part,
    blocks_of,
    collapsed,
    lose_options,
    part_of,
    parts_of,
    split,
    text_part,
)
from .messages_over_chat_rules import SIGNATURE

NO_RESULT = "No result was recorded for this call."
ELSEWHERE = "The result follows in the next message."
FAILED = "(The tool reported this as an error.)"

_ATTRIBUTION = "x-anthropic-billing-header"
_OUT_OF_PLACE = ("tool_use", "tool_result", "thinking", "redacted_thinking")

Blocks = list[tuple[str, dict[str, Any]]]


def messages_of(system: Any, messages: list[dict[str, Any]], losses: Losses) -> list[dict[str, Any]]:
    """The chat messages; `system` and system messages at the beginning become one, later ones the user's.

    Raises:
        RequestError: something in them is not as Anthropic's API reference has it, or cannot be said.
    """
    conversation = _Conversation(losses)
    if system is not None:
        conversation.system(blocks_of(system, "system"))
    last_turn = _last_turn(messages)
    for place, role, blocks in _joined(messages, losses):
        if role == "assistant":
            conversation.assistant(blocks, is_current=place > last_turn)
        elif role == "user":
            conversation.user(blocks)
        else:
            conversation.system(blocks)
    conversation.end()
    return with_one_system(conversation.messages, losses, "messages.system")


def _joined(messages: list[dict[str, Any]], losses: Losses) -> Iterator[tuple[int, str, Blocks]]:
    """Place, role and blocks of each message; messages of the assistant's that follow each other are one."""
    before: tuple[int, str, Blocks] | None = None
    for place, message in enumerate(messages):
        field = f"messages[{place}]"
        role = _role(message, field)
        lose_options(message, ("role", "content"), losses)
        blocks = blocks_of(message.get("content"), f"{field}.content")
        if before is not None and before[1] == role == "assistant":
            before[2].extend(blocks)
            continue
        if before is not None:
            yield before
        before = (place, role, blocks)
    if before is not None:
        yield before


def _role(message: Mapping[str, Any], field: str) -> str:
    role = text_in(message, "role", field)
    if role not in ("user", "assistant", "system"):
        message_text = f"`{field}.role` must be `user`, `assistant` or `system`"
        raise RequestError(message_text, code="invalid_value", param=f"{field}.role")
    return role


def _last_turn(messages: list[dict[str, Any]]) -> int:
    """Where the turn began that is going on: the user's last message that brings no result of a tool."""
    return max((place for place, message in enumerate(messages) if _begins_a_turn(message)), default=-1)


def _begins_a_turn(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    blocks = content if isinstance(content, list) else []
    has_result = any(isinstance(block, dict) and block.get("type") == "tool_result" for block in blocks)
    return message.get("role") == "user" and not has_result


class _Conversation:
    """Takes messages one after another, and puts them in chat's order."""

    def __init__(self, losses: Losses) -> None:
        self.messages: list[dict[str, Any]] = []
        self._losses = losses
        self._unanswered: dict[str, None] = {}  # ids of calls, in their order
        self._behind: list[dict[str, Any]] = []  # what has to wait for their results

    def system(self, blocks: Blocks) -> None:
        """Takes a system prompt or message: texts only."""
        texts: list[str] = []
        for field, block in blocks:
            if str(block.get("text")).startswith(_ATTRIBUTION):
                self._losses.add("system.attribution")
                continue
            said, others = split(self._parts(block, field))
            texts += filter(None, said)
            if others:
                self._losses.add("content.misplaced")
        if texts:
            self._add({"role": "system", "content": "\n\n".join(texts)})

    def user(self, blocks: Blocks) -> None:
        """Takes a message of the user's: results of tools, and what else there is."""
        beside: list[Part] = []
        for field, block in blocks:
            if block.get("type") == "tool_result":
                beside += self._result(block, field)
        for field, block in blocks:
            if block.get("type") != "tool_result":
                beside += self._parts(block, field)
        if beside:
            self._add({"role": "user", "content": collapsed(beside)})
        elif not self._unanswered:
            self._let_go()

    def assistant(self, blocks: Blocks, *, is_current: bool) -> None:
        """Takes a message of the assistant's."""
        self.end()
        turn = _AssistantTurn(self._losses, is_current=is_current)
        for field, block in blocks:
            turn.add(block, field)
        if (message := turn.message()) is not None:
            self.messages.append(message)
            self._unanswered = dict.fromkeys(call["id"] for call in turn.calls)

    def end(self) -> None:
        """What has to be said before the assistant speaks again, or at the end."""
        for id in self._unanswered:
            self._losses.add("messages.unanswered_call")
            self.messages.append({"role": "tool", "tool_call_id": id, "content": NO_RESULT})
        self._unanswered = {}
        self._let_go()

    def _add(self, message: dict[str, Any]) -> None:
        self._behind.append(message)
        if not self._unanswered:
            self._let_go()

    def _let_go(self) -> None:
        self.messages += self._behind
        self._behind = []

    def _parts(self, block: dict[str, Any], field: str) -> list[Part]:
        if block.get("type") in _OUT_OF_PLACE:
            self._losses.add("content.misplaced")
            return []
        return part_of(block, field, self._losses)

    def _result(self, block: dict[str, Any], field: str) -> list[Part]:
        """Adds the message that a result is; what is no text in it, and a result of no call, is for the user to say."""
        lose_options(block, ("tool_use_id", "content", "is_error"), self._losses)
        id = text_in(block, "tool_use_id", field)
        content = block.get("content")
        parts = [] if content is None else parts_of(content, f"{field}.content", self._losses)
        if block.get("is_error") is True:
            parts.append(text_part(FAILED))
        if id not in self._unanswered:
            self._losses.add("messages.orphaned_result")
            return [text_part(f"Result of call {id}:"), *parts]
        del self._unanswered[id]
        texts, others = split(parts)
        text = "\n".join(texts) or (ELSEWHERE if others else "")
        self.messages.append({"role": "tool", "tool_call_id": id, "content": text})
        return [text_part(f"Result of call {id}:"), *others] if others else []


class _AssistantTurn:
    """Takes the blocks of one message of the assistant's.

    Args:
        is_current: the turn is going on, so that its reasoning may be sent back.
    """

    def __init__(self, losses: Losses, *, is_current: bool) -> None:
        self.calls: list[dict[str, Any]] = []
        self._losses = losses
        self._is_current = is_current
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._after_call = False  # in chat all text comes before the calls; what stood apart stays apart

    def add(self, block: dict[str, Any], field: str) -> None:
        """Takes the next block."""
        sort = block.get("type")
        if sort == "tool_use":
            self._call(block, field)
        elif sort == "thinking":
            self._thinking(block, field)
        elif sort == "redacted_thinking":
            self._losses.add("thinking.redacted")
        elif sort in ("tool_result", "image", "document"):
            self._losses.add("content.misplaced")
        else:
            texts, others = split(part_of(block, field, self._losses))
            self._texts += ["\n\n", *texts] if texts and self._texts and self._after_call else texts
            self._after_call = False
            if others:
                self._losses.add("content.misplaced")

    def message(self) -> dict[str, Any] | None:
        """The whole message, None where nothing of it is left."""
        thought = "\n\n".join(self._thoughts)
        if not self._texts and not self.calls:
            if thought:
                self._losses.add("thinking.earlier")
            return None
        text = "".join(self._texts)
        message: dict[str, Any] = {"role": "assistant", "content": None if self.calls and not text else text}
        if thought:
            message["reasoning_content"] = thought
        if self.calls:
            message["tool_calls"] = self.calls
        return message

    def _call(self, block: dict[str, Any], field: str) -> None:
        lose_options(block, ("id", "name", "input"), self._losses)
        arguments = encode(object_in(block, "input", field)).decode()
        function = {"name": text_in(block, "name", field), "arguments": arguments}
        id = text_in(block, "id", field)
        if any(call["id"] == id for call in self.calls):
            raise mistyped(f"{field}.id", "unlike the ids of the other calls in this message")
        self._after_call = True
        self.calls.append({"id": id, "type": "function", "function": function})

    def _thinking(self, block: dict[str, Any], field: str) -> None:
        """Thinking goes to another provider only if nobody has signed it, and only in the turn that it belongs to."""
        if block.get("signature") not in (None, "", SIGNATURE):
            self._losses.add("thinking.signature")
            return
        lose_options(block, ("thinking", "signature"), self._losses)
        text = text_in(block, "thinking", field)
        if self._is_current:
            self._thoughts += [text] if text else []
        elif text:
            self._losses.add("thinking.earlier")
