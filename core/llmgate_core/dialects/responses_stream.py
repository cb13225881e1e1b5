"""What a Responses stream says while its bytes pass: is it finished, what did it cost, did it fail.

Nearly nothing is decoded on the way. A quotation mark inside a JSON string is always escaped, so the bytes `"type":`
can only be a member's name, never part of what a model wrote. But they may be a member of what the request holds and
the response repeats (a tool's schema, metadata): so what looks like the end is asked for its type at the top level.
"""

from __future__ import annotations

import re
from typing import Any

from ..errors import ConnectorError
from ..wire import Body, JsonError, decode, encode, value_end
from .failures import reported_error
from .passing import DATA, DONE, ERROR_NAME, PassingLines, begins_a_line

_END = rb'"type"\s*+:\s*+"response\.(?:completed|incomplete|failed)"'
_FINISH = re.compile(_END)
_FINISH_FIRST = re.compile(rb"data: ?\{\s*+" + _END)
_USAGE = re.compile(rb'"usage"\s*+:\s*+(?=\{\s*+"[a-z_]*tokens)')
_SEQUENCE = re.compile(rb'"sequence_number"\s*+:\s*+([0-9]{1,15})')

MEANINGFUL = re.compile(
    rb'"delta"\s*+:\s*+"(?:[ ]|\\[nrt])*+[^"]'
    rb'|"type"\s*+:\s*+"(?:response\.output_item\.done|[a-z_]*_call)"'
)
"""Matches what a caller would miss: text that is not blank, a call of a tool, an item that is complete."""


class StreamWatch(PassingLines):
    """Watches a stream that passes; `feed` it every chunk, cut anywhere.

    Everything is told as of the last complete line.

    Attributes:
        finished: the answer has come to its end: `response.completed`, `response.incomplete` or `response.failed`.
        done: the same, or `[DONE]`: nothing counts after it.
        error: an error event or `response.failed` has passed.
        meaningful: content, reasoning, a tool call or the end has passed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.finished = False
        self.done = False
        self.error = False
        self.meaningful = False
        self._sequence_text = b""
        self._usage_text: bytes | None = None
        self._usage: dict[str, Any] | None = None

    @property
    def usage(self) -> dict[str, Any] | None:
        """The last `usage` object that passed, None if there was none."""
        if self._usage_text is not None:
            text, self._usage_text = self._usage_text, None
            self._usage = _object(text) or self._usage
        return self._usage

    @property
    def next_sequence_number(self) -> int:
        """What an event that is appended has to count; 0 if no number has passed."""
        found = _SEQUENCE.findall(self._sequence_text)
        return int(found[-1]) + 1 if found else 0

    def look(self, lines: bytes) -> None:
        """See `PassingLines`."""
        if not self.finished:
            self.finished = self.done = _has_end(lines)
        if not self.meaningful:
            self.meaningful = self.finished or MEANINGFUL.search(lines) is not None
        if not self.done and b"[DONE]" in lines:
            self.done = begins_a_line(DONE, lines)
        if b'"sequence_number"' in lines:
            self._sequence_text = lines
        if self.finished:
            self._look_for_usage(lines)
        if not self.error:
            self.error = _has_error(lines)

    def _look_for_usage(self, lines: bytes) -> None:
        at = lines.rfind(b'"usage"')
        while at >= 0:
            if found := _USAGE.match(lines, at):
                self._usage_text = lines[found.end() :]
                return
            at = lines.rfind(b'"usage"', 0, at)


def _has_end(lines: bytes) -> bool:
    if not any(word in lines for word in _END_WORDS) or not _FINISH.search(lines):
        return False
    return begins_a_line(_FINISH_FIRST, lines) or any(
        _type(data) in _ENDS for data in DATA.findall(lines) if _FINISH.search(data)
    )


_ENDS = ("response.completed", "response.incomplete", "response.failed")
_END_WORDS = tuple(f'{end}"'.encode() for end in _ENDS)


def _type(data: bytes) -> Any:
    try:
        return Body(data).get("type")
    except JsonError:
        return None


def _has_error(lines: bytes) -> bool:
    if begins_a_line(ERROR_NAME, lines):
        return True
    if not _may_fail(lines):
        return False
    return any(failure_in("message", data) for data in DATA.findall(lines) if _may_fail(data))


def _may_fail(text: bytes) -> bool:
    return b'"error"' in text or b'"response.failed"' in text


def failure_in(name: str, data: bytes) -> ConnectorError | None:
    """The failure that an event reports, None if it reports none.

    Three shapes are met: the flat event `error`, `response.failed` with the error inside of the response, and a frame
    with a top-level `error` as in Chat Completions.

    Args:
        name: the event's name, `message` where it has none.
    """
    try:
        body = Body(data)
        sort = body.get("type")
        if sort == "response.failed":
            response = body.get("response")
            return reported(response.get("error") if isinstance(response, dict) else None)
        if name == "error" or sort == "error" or body.get("error"):
            return reported_error(data)
    except JsonError:
        return reported_error(data) if name == "error" else None
    return None


def reported(error: Any) -> ConnectorError:
    """The failure of a response that failed: what its member `error` says, if it says something."""
    return reported_error(encode({"error": error}) if error else b"{}")


def _object(text: bytes) -> dict[str, Any] | None:
    """The JSON object with which `text` begins."""
    try:
        value = decode(text[: value_end(text, 0)])
    except JsonError:
        return None
    return value if isinstance(value, dict) else None
