"""What MiniMax answers, as clients understand it: one clean stream of reasoning, apart from the text. Pure, no I/O.

Reasoning arrives in up to four places at once, whole or in pieces or as ever longer snapshots; clients get it once,
as increments of `reasoning_content`. What needs no mending keeps its bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from llmgate_core import Body, ConnectorError

OPEN, CLOSE = "<think>", "</think>"
REASONING = ("reasoning_content", "reasoning", "reasoning_details")
MAX_BYTES = 64 * 1024 * 1024
MAX_EVENT_BYTES = 8 * 1024 * 1024

Check = Callable[[dict[str, Any]], None]
"""Raises ConnectorError when a decoded answer, or one event of it, is a failure."""


# --- one text out of many pieces ------------------------------------------------------------------------------------


class Pieces:
    """A text that arrives as increments, or as snapshots of all that there is so far.

    What starts with all that came before and is longer is a snapshot, until something else has been seen.

    Args:
        snapshots: None where it is not known.
    """

    def __init__(self, snapshots: bool | None = None) -> None:
        self.text = ""
        self._snapshots = snapshots

    def add(self, value: str) -> str:
        """What is new in `value`."""
        if self.text and value and self._snapshots is not False:
            if value.startswith(self.text) and (self._snapshots or len(value) > len(self.text)):
                new = value[len(self.text) :]
                self._snapshots, self.text = True, value
                return new
            self._snapshots = self._snapshots or False
        self.text += value
        return value


class Reasoning:
    """One stream of reasoning, whichever fields carry it; a copy in another field adds nothing."""

    def __init__(self) -> None:
        self._fields: dict[str, Pieces] = {"think": Pieces(snapshots=False)}
        self._told = ""
        self._held = ""  # may turn out to be a closing tag at the very end, which is not part of the text

    def add(self, name: str, value: str) -> str:
        """What of `value`, found in field `name`, has to be told."""
        if not value:
            return ""
        field = self._fields.setdefault(name, Pieces())
        new = field.add(value)
        told, text = self._told.lstrip(), field.text.lstrip()
        if not told:
            new = new.lstrip() if name == "think" else new
        elif text.startswith(told):
            new = text[len(told) :]
        elif told.startswith(text):
            new = ""
        self._told += new
        return self._without_tail(new)

    def end(self) -> str:
        """What was held back, once no more is expected."""
        held, self._held = self._held, ""
        return "" if held.rstrip() == CLOSE else held

    def _without_tail(self, new: str) -> str:
        text = self._held + new
        at = _tail(text)
        self._held = text[at:]
        return text[:at]


class Content:
    """The text of an answer, parted from the reasoning in `<think>` with which it may begin."""

    def __init__(self) -> None:
        self._state = "start"
        self._held = ""

    def add(self, text: str) -> tuple[str, str]:
        """Reasoning and content in the next piece."""
        text, self._held = self._held + text, ""
        if self._state == "start":
            begun = text.lstrip()
            if begun.startswith(OPEN):
                self._state, text = "inside", begun[len(OPEN) :]
            elif OPEN.startswith(begun):
                self._held = text
                return "", ""
            else:
                self._state = "after"
        if self._state == "inside":
            return self._inside(text)
        if self._state == "closed":
            text = text.lstrip()
            self._state = "after" if text else "closed"
        return "", text

    def _inside(self, text: str) -> tuple[str, str]:
        thought, close, rest = text.partition(CLOSE)
        if close:
            self._state = "closed"
            return thought, self.add(rest)[1]
        at = _tail(text)
        self._held = text[at:]
        return text[:at], ""

    def end(self) -> tuple[str, str]:
        """Reasoning and content that were held back, once no more is expected."""
        held, self._held = self._held, ""
        return (held, "") if self._state == "inside" else ("", held)


def _tail(text: str) -> int:
    """Where a closing tag begins with which `text` ends, or may be about to end; its length if there is none."""
    at = text.rfind("<")
    return at if at >= 0 and (CLOSE.startswith(text[at:]) or text[at:].rstrip() == CLOSE) else len(text)


# --- answers --------------------------------------------------------------------------------------------------------


class Choice:
    """One choice of an answer, from its first delta to its last, or its one message.

    Args:
        split: whether `<think>` in the content is reasoning, and leaves it.
    """

    def __init__(self, split: bool) -> None:
        self._split = split
        self._raw = Pieces()
        self._content = Content()
        self._reasoning = Reasoning()

    def mended(self, delta: dict[str, Any], last: bool) -> dict[str, Any]:
        """The delta as the client should have it; equal to the given one if nothing is wrong with it."""
        reasoning = "".join(self._reasoning.add(name, words(delta.get(name))) for name in REASONING)
        thought, text = self._read(words(delta.get("content")), last)
        reasoning += self._reasoning.add("think", thought)
        if last or text or delta.get("tool_calls"):
            reasoning += self._reasoning.end()
        if not self._split and self._raw.text.lstrip().startswith(OPEN):
            reasoning = ""  # it is in the content, where it was asked for
        wanted = {name: value for name, value in delta.items() if name not in REASONING}
        if wanted.get("role") == "":
            del wanted["role"]
        if text or isinstance(delta.get("content"), str):
            wanted["content"] = text
        if reasoning or delta.get("reasoning_content", ...) in ("", None):
            wanted["reasoning_content"] = reasoning or delta["reasoning_content"]
        return wanted

    def _read(self, content: str, last: bool) -> tuple[str, str]:
        new = self._raw.add(content)
        if not self._split:
            return "", new
        thought, text = self._content.add(new)
        if last:
            more_thought, more_text = self._content.end()
            return thought + more_thought, text + more_text
        return thought, text


def words(value: Any) -> str:
    """The text in a field, also in a list of `reasoning_details`."""
    if isinstance(value, list):
        return "".join(words(part.get("text")) for part in value if isinstance(part, dict))
    return value if isinstance(value, str) else ""


class Stream:
    """Mends a stream that is fed to it, cut anywhere. Raises ConnectorError from `feed` when `check` does."""

    def __init__(self, split: bool, check: Check) -> None:
        self._split = split
        self._check = check
        self._choices: dict[Any, Choice] = {}
        self._last: Body | None = None
        self._line = bytearray()  # the one that has not ended yet

    def feed(self, chunk: bytes) -> bytes:
        """What can go on to the client."""
        end = max(chunk.rfind(b"\n"), chunk.rfind(b"\r")) + 1
        self._line += chunk[:end] if end else chunk
        if not end:
            if len(self._line) > MAX_EVENT_BYTES:
                raise ConnectorError("protocol", f"an event of the stream is larger than {MAX_EVENT_BYTES} bytes")
            return b""
        lines, self._line = bytes(self._line), bytearray(chunk[end:])
        return b"".join(map(self._mended, lines.splitlines(keepends=True)))

    def end(self) -> bytes:
        """What is left: the beginning of a line, if the stream was cut off in one."""
        return self._mended(bytes(self._line))

    def _mended(self, line: bytes) -> bytes:
        found = _DATA.fullmatch(line)
        if not found:
            return line
        head, data, line_end = found.groups()
        if data.strip() == b"[DONE]":
            return self._held_back() + line
        body = Body(data)
        try:
            value = body.data
        except ValueError:
            return line
        self._check(value)
        choices = value.get("choices")
        if not isinstance(choices, list) or not choices:
            return line
        self._last = body
        mended = [self._of(choice) for choice in choices]
        return line if mended == choices else head + body.splice({"choices": mended}).bytes + line_end

    def _of(self, choice: Any) -> Any:
        if not isinstance(choice, dict):
            return choice
        delta = choice.get("delta")
        state = self._choices.setdefault(choice.get("index"), Choice(self._split))
        given = delta if isinstance(delta, dict) else {}
        mended = state.mended(given, last=bool(choice.get("finish_reason")))
        return choice if mended == given else {**choice, "delta": mended}

    def _held_back(self) -> bytes:
        """An event with what a stream without `finish_reason` still owes; nothing after an orderly one."""
        owed = [
            {"index": index, "delta": delta, "finish_reason": None}
            for index, state in self._choices.items()
            if (delta := state.mended({}, last=True))
        ]
        if not owed or self._last is None:
            return b""
        return b"data: %b\n\n" % self._last.splice({"choices": owed}).bytes


_DATA = re.compile(rb"(data: ?|(?=\{))([^\r\n]*)([\r\n]*)")


class Plain:
    """Mends a plain answer. It is held until it is whole, as core holds it too."""

    def __init__(self, split: bool, check: Check) -> None:
        self._split = split
        self._check = check
        self._data = bytearray()

    def feed(self, chunk: bytes) -> bytes:
        """Nothing yet."""
        self._data += chunk
        if len(self._data) > MAX_BYTES:
            raise ConnectorError("protocol", f"the upstream's answer is larger than {MAX_BYTES} bytes")
        return b""

    def end(self) -> bytes:
        """The answer. Raises ConnectorError when `check` does."""
        body = Body(bytes(self._data))
        try:
            value = body.data
        except ValueError:
            return body.bytes
        self._check(value)
        choices = value.get("choices")
        mended = [self._of(choice) for choice in choices] if isinstance(choices, list) else choices
        return body.bytes if mended == choices else body.splice({"choices": mended}).bytes

    def _of(self, choice: Any) -> Any:
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(message, dict):
            return choice
        mended = Choice(self._split).mended(message, last=True)
        return {**choice, "message": mended if "role" in mended else {"role": "assistant", **mended}}
