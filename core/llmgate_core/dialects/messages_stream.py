"""What an Anthropic Messages stream says while its bytes pass: is it finished, what did it cost, did it fail.

Only the events that begin and end a message are decoded, never what the model says (see `passing`).
"""

from __future__ import annotations

import re
from typing import Any

from ..wire import Body, JsonError
from .passing import DATA, ERROR_NAME, PassingLines, begins_a_line

_MILESTONE = re.compile(rb'"type"\s*+:\s*+"message_(?:start|delta|stop)"')

MEANINGFUL = re.compile(
    rb'"(?:text|thinking)"\s*+:\s*+"(?:[ ]|\\[nrt])*+[^"]'
    rb'|"type"\s*+:\s*+"(?:[a-z_]*tool_use|[a-z_]*tool_result|redacted_thinking)"'
    rb'|"stop_reason"\s*+:\s*+"[^"]'
)
"""Matches what a caller would miss: text that is not blank, a call of a tool, an end."""


class StreamWatch(PassingLines):
    """Watches a stream that passes; `feed` it every chunk, cut anywhere.

    Everything is told as of the last complete line.

    Attributes:
        finished: the answer has come to its end: a `stop_reason`, or `message_stop`.
        done: `message_stop` has passed, after which nothing counts.
        error: an error event has passed.
        meaningful: text, thinking, a call of a tool or the end has passed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.finished = False
        self.done = False
        self.error = False
        self.meaningful = False
        self._start: bytes | None = None  # the events that tell the usage, the last of each
        self._delta: bytes | None = None

    @property
    def usage(self) -> dict[str, Any] | None:
        """What `message_start` and `message_delta` have told, the later number where both tell; None if neither did."""
        first = _usage(_member(self._start, "message"))
        last = _usage(_object(self._delta))
        return {**first, **{name: value for name, value in last.items() if value is not None}} or None

    def look(self, lines: bytes) -> None:
        """See `PassingLines`."""
        if not self.meaningful:
            self.meaningful = MEANINGFUL.search(lines) is not None
        if _MILESTONE.search(lines):
            for data in DATA.findall(lines):
                if _MILESTONE.search(data):
                    self._note(data)
        if not self.error:
            self.error = _has_error(lines)

    def _note(self, data: bytes) -> None:
        """What looks like a milestone may be inside of another event: only its type at the top level counts."""
        sort = _member(data, "type")
        if sort == "message_start":
            self._start = data
        elif sort == "message_delta":
            self._delta = data if b'"usage"' in data else self._delta
            delta = _member(data, "delta")
            self.finished = self.finished or (isinstance(delta, dict) and bool(delta.get("stop_reason")))
        elif sort == "message_stop":
            self.done = self.finished = self.meaningful = True


def _has_error(lines: bytes) -> bool:
    if begins_a_line(ERROR_NAME, lines):
        return True
    return b'"error"' in lines and any(is_error(data) for data in DATA.findall(lines) if b'"error"' in data)


def is_error(data: bytes) -> bool:
    """Whether an event's data, or a whole answer, reports a failure: Anthropic's shape, or a top-level `error`."""
    return _member(data, "type") == "error" or bool(_member(data, "error"))


def _usage(holder: Any) -> dict[str, Any]:
    found = holder.get("usage") if isinstance(holder, dict) else None
    return found if isinstance(found, dict) else {}


def _object(data: bytes | None) -> Any:
    try:
        return Body(data).data if data is not None else None
    except JsonError:
        return None


def _member(data: bytes | None, name: str) -> Any:
    try:
        return Body(data).get(name) if data is not None else None
    except JsonError:
        return None
