"""What a Chat Completions stream says while its bytes pass: is it finished, what did it cost, did it fail.

Nothing is decoded on the way: the bytes `"finish_reason":` can only be a member's name (see `passing`).
"""

from __future__ import annotations

import re
from typing import Any

from ..wire import Body, JsonError, decode, value_end
from .passing import DATA, DONE, ERROR_NAME, PassingLines, begins_a_line

_FINISH = re.compile(rb'"finish_reason"\s*+:\s*+"[^"]')
_USAGE = re.compile(rb'"usage"\s*+:\s*+(?=\{)')
_ERROR = re.compile(rb'"error"\s*+:\s*+(?!null)')

MEANINGFUL = re.compile(
    rb'"(?:content|reasoning_content|reasoning|refusal)"\s*+:\s*+"(?:[ ]|\\[nrt])*+[^"]'
    rb'|"(?:tool_calls|images|reasoning_details)"\s*+:\s*+\[\s*+[^\]\s]'
    rb'|"(?:function_call|audio)"\s*+:\s*+\{\s*+"'
    rb'|"finish_reason"\s*+:\s*+"[^"]'
)
"""Matches what a caller would miss: text that is not blank, a tool call, an end."""


class StreamWatch(PassingLines):
    """Watches a stream that passes; `feed` it every chunk, cut anywhere.

    Everything is told as of the last complete line.

    Attributes:
        finished: the answer has come to its end: a `finish_reason`, or `[DONE]`.
        done: `[DONE]` has passed, after which nothing counts.
        error: an error frame has passed.
        meaningful: content, reasoning, a tool call or the end has passed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.finished = False
        self.done = False
        self.error = False
        self.meaningful = False
        self._usage_text: bytes | None = None
        self._usage: dict[str, Any] | None = None

    @property
    def usage(self) -> dict[str, Any] | None:
        """The last `usage` object that passed, None if there was none."""
        if self._usage_text is not None:
            text, self._usage_text = self._usage_text, None
            self._usage = _object(text) or self._usage
        return self._usage

    def look(self, lines: bytes) -> None:
        """See `PassingLines`."""
        if not self.meaningful:
            self.meaningful = MEANINGFUL.search(lines) is not None
        if b"[DONE]" in lines and begins_a_line(DONE, lines):
            self.done = self.finished = True
        elif not self.finished:
            self.finished = _FINISH.search(lines) is not None
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


def _has_error(lines: bytes) -> bool:
    if begins_a_line(ERROR_NAME, lines):
        return True
    if b'"error"' not in lines or not _ERROR.search(lines):
        return False
    return any(is_error(data) for data in DATA.findall(lines) if b'"error"' in data)


def _object(text: bytes) -> dict[str, Any] | None:
    """The JSON object with which `text` begins."""
    try:
        value = decode(text[: value_end(text, 0)])
    except JsonError:
        return None
    return value if isinstance(value, dict) else None


def is_error(data: bytes) -> bool:
    """Whether an event's data is an error frame: a top-level `error` that says something."""
    try:
        return bool(Body(data).get("error"))
    except JsonError:
        return False
