"""A chat conversation as Anthropic Messages has it: a system prompt, and turns that alternate.

Messages wants the results of all calls at once, first in the user's turn that follows them. So what stands between
two assistant messages becomes one turn: results in the order of their calls, then everything else in its own order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import RequestError
from .chat_over_messages_calls import CallIds, calls_of
from .chat_over_messages_parts import Block, blocks_of, cached, text_blocks
from .chat_over_messages_rules import is_set, lose_beside
from .late_system import reminder
from .losses import Losses, objects_in, text_in, unsupported

BEGIN = "(conversation begins)"
NO_RESULT = "(no result)"

_SYSTEM = ("system", "developer")
_MEMBERS = frozenset({"role", "content", "name", "cache_control"})
_ANSWER_MEMBERS = _MEMBERS | {
    *("tool_calls", "function_call", "refusal", "audio", "reasoning_content", "reasoning", "reasoning_details"),
    "thinking_blocks",
}
_RESULT_MEMBERS = _MEMBERS | {"tool_call_id"}
_REASONING = ("reasoning_content", "reasoning", "reasoning_details", "thinking_blocks")


@dataclass(frozen=True)
class Conversation:
    """What becomes of `messages`.

    Args:
        system: the blocks of the system prompt.
        called: the names of all tools that were called, each once.
    """

    system: list[Block]
    messages: list[dict[str, Any]]
    called: tuple[str, ...]

    @property
    def ends_with_result(self) -> bool:
        """Whether the model is to go on after a tool's result."""
        last = self.messages[-1]["content"] if self.messages else []
        return any(block["type"] == "tool_result" for block in last)


def conversation_of(value: Any, losses: Losses) -> Conversation:
    """The conversation in a chat request's `messages`.

    Raises:
        RequestError: something in it cannot be said and must not be left out; `param` names it.
    """
    messages = objects_in(value, "messages")
    count = next((place for place, one in enumerate(messages) if one.get("role") not in _SYSTEM), len(messages))
    system = [block for place in range(count) for block in _content(messages[place], f"messages[{place}]", losses)]
    turns = _Turns(losses)
    for place, message in enumerate(messages[count:], count):
        turns.add(message, f"messages[{place}]")
    turns.end()
    if not turns.done and system:
        losses.add("messages.system")
        system, turns.done = [], [_turn("user", system)]
    if not turns.done:
        raise RequestError("`messages` holds nothing that can be sent", code="invalid_value", param="messages")
    return Conversation(system, turns.done, tuple(turns.called))


def _content(message: Mapping[str, Any], where: str, losses: Losses) -> list[Block]:
    """What a user or the system says."""
    losses.add_if(is_set(message.get("name")), "messages.name")
    lose_beside(losses, message, _MEMBERS, "messages.options")
    return cached(blocks_of(message.get("content"), f"{where}.content", losses), message, losses)


def _turn(role: str, blocks: list[Block]) -> dict[str, Any]:
    return {"role": role, "content": blocks}


@dataclass
class _Turns:
    """Collects messages into turns."""

    losses: Losses
    done: list[dict[str, Any]] = field(default_factory=list)
    called: dict[str, None] = field(default_factory=dict)
    _ids: CallIds = field(default_factory=CallIds)
    _open: dict[str, Block] = field(default_factory=dict)  # the last turn's calls by id
    _results: dict[str, Block] = field(default_factory=dict)
    _said: list[Block] = field(default_factory=list)  # by the user since then

    def add(self, message: Mapping[str, Any], where: str) -> None:
        """One more message."""
        role = message.get("role")
        if role == "assistant":
            self._answer(message, where)
        elif role in ("tool", "function"):
            self._result(message, where)
        elif role == "user":
            self._said += _content(message, where, self.losses)
        elif role in _SYSTEM:
            self._late_system(message, where)
        else:
            raise unsupported(
                f"{where}.role", "must be `system`, `developer`, `user`, `assistant`, `tool` or `function`"
            )

    def end(self) -> None:
        """No more messages."""
        if self._results or self._said or self._open:
            self._end_turn()
        if self.done and self.done[-1]["role"] == "assistant":
            self._trim(self.done[-1]["content"])

    def _late_system(self, message: Mapping[str, Any], where: str) -> None:
        blocks = _content(message, where, self.losses)
        self.losses.add_if(bool(blocks), "messages.system")
        for block in blocks:
            is_text = block["type"] == "text"
            self._said.append({**block, "text": reminder(block["text"])} if is_text else block)

    def _answer(self, message: Mapping[str, Any], where: str) -> None:
        losses = self.losses
        losses.add_if(is_set(message.get("name")), "messages.name")
        losses.add_if(is_set(message.get("audio")), "messages.audio")
        losses.add_if(any(is_set(message.get(name)) for name in _REASONING), "messages.reasoning")
        lose_beside(losses, message, _ANSWER_MEMBERS, "messages.options")
        blocks = blocks_of(message.get("content"), f"{where}.content", losses)
        if is_set(message.get("refusal")):
            blocks += text_blocks(text_in(message, "refusal", where), losses)
        calls = calls_of(message, where, self._ids, losses)
        said = cached([*blocks, *calls], message, losses)
        if not said:
            return
        if self._results or self._said:
            self._end_turn()
        self._append_answer(said)
        self._open.update({call["id"]: call for call in calls})
        self.called.update({call["name"]: None for call in calls})

    def _append_answer(self, blocks: list[Block]) -> None:
        """Begins a turn, or goes on with the model's own; the conversation itself begins with the user."""
        if self.done and self.done[-1]["role"] == "assistant":
            self.done[-1]["content"] += blocks
            return
        if not self.done:
            self.losses.add("messages.begin")
            self.done.append(_turn("user", text_blocks(BEGIN, self.losses)))
        self.done.append(_turn("assistant", blocks))

    def _result(self, message: Mapping[str, Any], where: str) -> None:
        lose_beside(self.losses, message, _RESULT_MEMBERS, "messages.options")
        id = self._answered(message, where)
        result = self._results.setdefault(id, {"type": "tool_result", "tool_use_id": id})
        if blocks := blocks_of(message.get("content"), f"{where}.content", self.losses):
            result["content"] = [*result.get("content", []), *blocks]
        if is_set(wanted := message.get("cache_control")):
            result["cache_control"] = wanted

    def _answered(self, message: Mapping[str, Any], where: str) -> str:
        """The id of the call that a result answers; a legacy result names the function."""
        name = "tool_call_id" if message["role"] == "tool" else "name"
        value = text_in(message, name, where)
        found = self._ids.of_result(value) if name == "tool_call_id" else self._called(value)
        if found not in self._open:
            text = f"`{where}.{name}` answers no call of the assistant message before it"
            raise RequestError(text, code="invalid_value", param=f"{where}.{name}")
        return found

    def _called(self, function: str) -> str | None:
        """The first call of a function, if possible one that nothing has answered."""
        found = [id for id, call in self._open.items() if call["name"] == function]
        return next((id for id in found if id not in self._results), found[0] if found else None)

    def _end_turn(self) -> None:
        """The user's turn. A call without a result is given one."""
        for id in self._open:
            if id not in self._results:
                self.losses.add("messages.unanswered_call")
                told = text_blocks(NO_RESULT, self.losses)
                self._results[id] = {"type": "tool_result", "tool_use_id": id, "content": told}
        self.done.append(_turn("user", [*(self._results[id] for id in self._open), *self._said]))
        self._open, self._results, self._said = {}, {}, []

    def _trim(self, blocks: list[Block]) -> None:
        """Messages goes on with an assistant message that is the last, and refuses white space at its end."""
        last = blocks[-1]
        if last["type"] == "text" and last["text"] != (trimmed := last["text"].rstrip()):
            self.losses.add("messages.blank")
            blocks[-1] = {**last, "text": trimmed}
