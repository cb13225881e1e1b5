"""What MiniMax answers over Messages, as clients of that API understand it: reasoning in thinking blocks. Pure, no I/O.

Thinking blocks pass with their signatures, byte for byte. But M2.x has been seen to put `reasoning_content` into the
stream, as chat has it: in chunks with `choices`, or in the `delta` of an event. That becomes a thinking block, before
the text that it leads to, and once, also where the same is told in a block of MiniMax's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmgate_core import Body, Mender

from . import failures
from .reasoning import REASONING, Reasoning, words

Events = list[tuple[str, Body]]

THINKING = "thinking"


class Message(Mender):
    """One message, streamed or plain.

    Args:
        now: Unix time in seconds, for failures that name the time of their end.
    """

    def __init__(self, now: float) -> None:
        self._now = now
        self._leaks = Leaks()

    def event(self, body: Body, name: str) -> Body | Sequence[tuple[str, Body]]:
        """One event: a failure is raised, `usage: null` becomes numbers, reasoning goes where it belongs."""
        told = body.data
        if failure := failures.reported(told, self._now):
            raise failure
        return self._leaks.event(_with_usage(body), name)

    def whole(self, body: Body) -> Body:
        """A plain answer, the same in one piece."""
        told = body.data
        if failure := failures.reported(told, self._now):
            raise failure
        return _with_usage(_with_thinking(body, told))


def _with_usage(body: Body) -> Body:
    """The SDKs look into `usage` without asking whether it is there."""
    told = body.data
    if told.get("type") == "message_start" and isinstance(message := told.get("message"), dict):
        wanted = {**message, "usage": _NO_USAGE}
        return body.splice({"message": wanted}) if message.get("usage", ...) is None else body
    is_one = told.get("type") in ("message", "message_delta")
    return body.splice({"usage": _NO_USAGE}) if is_one and told.get("usage", ...) is None else body


_NO_USAGE = {"input_tokens": 0, "output_tokens": 0}


def _with_thinking(body: Body, told: Mapping[str, Any]) -> Body:
    """A plain message whose leaked reasoning is its first block, unless it thinks in blocks already."""
    content = told.get("content")
    leaked = [name for name in REASONING if name in told]
    if not leaked or not isinstance(content, list):
        return body
    thought = _joined(told)
    has_own = any(isinstance(block, dict) and block.get("type") == THINKING for block in content)
    block = {"type": THINKING, "thinking": thought, "signature": ""}
    changes = {} if has_own or not thought else {"content": [block, *content]}
    return body.splice(changes, remove=leaked)


def _joined(holder: Mapping[str, Any]) -> str:
    reasoning = Reasoning()
    return "".join(reasoning.add(name, words(holder.get(name))) for name in REASONING) + reasoning.end()


# --- a stream -------------------------------------------------------------------------------------------------------


class Leaks:
    """The blocks of one streamed message, and the thinking block that has to be made of what leaks.

    The start of a block of text is held until its first word: reasoning may still have to go before it.
    """

    def __init__(self) -> None:
        self._reasoning = Reasoning()
        self._leaked = False
        self._next = 0  # the index of the next block, as the client counts
        self._shift = 0  # how much further the client has counted than MiniMax
        self._kind = ""  # of the block that is open at the client, if one is
        self._ours = False  # whether it is ours, not MiniMax's
        self._late = ""  # reasoning that came in the middle of another block
        self._held: tuple[str, Body] | None = None

    def event(self, body: Body, name: str) -> Body | Events:
        """One event as the client should have it; the same body where nothing is wrong with it."""
        found = _leaked(body)
        said: Events = []
        rest: Body | None = body
        if found is not None:
            fields, rest = found
            self._leaked = True
            said = self._think("".join(self._reasoning.add(field, words(value)) for field, value in fields.items()))
        if rest is not None:
            said += self._native(rest, name)
        return body if len(said) == 1 and said[0][1] is body else said

    def _native(self, body: Body, name: str) -> Events:
        """An event of MiniMax's own without reasoning that does not belong there."""
        sort = body.data.get("type")
        if sort == "content_block_start":
            return self._start(body, name)
        if sort == "content_block_delta":
            return [*self._release(), *self._delta(body, name)]
        if sort == "content_block_stop":
            told = [*self._release(), *self._tail(), (name, self._shifted(body))]
            self._kind, late, self._late = "", self._late, ""
            return [*told, *self._think(late)]
        if sort in ("message_delta", "message_stop"):
            return [*self._release(), *self._think(self._reasoning.end()), *self._close(), (name, body)]
        return [(name, body)]

    def _start(self, body: Body, name: str) -> Events:
        told, block = self._release(), _object(body, "content_block")
        kind = block.get("type")
        if self._ours and kind == THINKING:  # the same block, begun by both: it is MiniMax's, signature and all
            self._ours, self._shift = False, self._shift - 1
            return told
        if kind == "text" and not block.get("text"):
            self._held = (name, body)
            return told
        return [*told, *self._close(), self._begun(body, name)]

    def _release(self) -> Events:
        """The start that was held."""
        if self._held is None:
            return []
        (name, body), self._held = self._held, None
        return [*self._close(), self._begun(body, name)]

    def _begun(self, body: Body, name: str) -> tuple[str, Body]:
        moved = self._shifted(body)
        index, kind = moved.data.get("index"), _object(body, "content_block").get("type")
        self._next = index + 1 if isinstance(index, int) else self._next + 1
        self._kind = kind if isinstance(kind, str) else "?"
        return name, moved

    def _delta(self, body: Body, name: str) -> Events:
        delta = _object(body, "delta")
        text = delta.get("thinking")
        if delta.get("type") != "thinking_delta" or not isinstance(text, str):
            return [*self._tail(), (name, self._shifted(body))]
        if not self._leaked:
            self._reasoning.was_told(THINKING, text)
            return [(name, body)]
        new = self._reasoning.add(THINKING, text)
        wanted = body if new == text else body.splice({"delta": {**delta, "thinking": new}})
        return [(name, self._shifted(wanted))] if new else []

    def _think(self, text: str) -> Events:
        """Reasoning in the thinking block that is open, else in one of ours, as soon as there can be one."""
        if not text:
            return []
        if self._kind == THINKING:
            return [_thinking_delta(self._next - 1, text)]
        if self._kind:
            self._late += text
            return []
        self._kind, self._ours = THINKING, True
        self._next, self._shift = self._next + 1, self._shift + 1
        block = {"type": THINKING, "thinking": "", "signature": ""}
        index = self._next - 1
        return [_event("content_block_start", index=index, content_block=block), _thinking_delta(index, text)]

    def _tail(self) -> Events:
        """What of the reasoning was held back, as its block comes to its end."""
        return self._think(self._reasoning.end()) if self._leaked and self._kind == THINKING else []

    def _close(self) -> Events:
        """The end of our own block."""
        if not self._ours:
            return []
        told = [*self._tail(), _event("content_block_stop", index=self._next - 1)]
        self._kind, self._ours = "", False
        return told

    def _shifted(self, body: Body) -> Body:
        index = body.data.get("index")
        return body.splice({"index": index + self._shift}) if self._shift and isinstance(index, int) else body


def _leaked(body: Body) -> tuple[Mapping[str, Any], Body | None] | None:
    """Reasoning where none belongs, by its field, and what else the event says; None where there is none."""
    choices = body.data.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        delta = _object_in(choices[0], "delta")
        found = {name: delta[name] for name in REASONING if name in delta}
        says_more = any(delta.get(name) for name in ("content", "tool_calls"))
        return (found, body if says_more else None) if found else None
    delta = _object(body, "delta")
    found = {name: delta[name] for name in REASONING if name in delta}
    if not found:
        return None
    kept = {name: value for name, value in delta.items() if name not in REASONING}
    is_bare = body.data.get("type") in (None, "content_block_delta")
    says_more = any(value for name, value in kept.items() if name != "type")
    return found, None if is_bare and not says_more else body.splice({"delta": kept})


def _object(body: Body, name: str) -> dict[str, Any]:
    return _object_in(body.data, name)


def _object_in(holder: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = holder.get(name)
    return value if isinstance(value, dict) else {}


def _thinking_delta(index: int, text: str) -> tuple[str, Body]:
    return _event("content_block_delta", index=index, delta={"type": "thinking_delta", "thinking": text})


def _event(sort: str, **members: Any) -> tuple[str, Body]:
    return sort, Body(b"{}").splice({"type": sort, **members})
