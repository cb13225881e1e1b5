"""Server-sent events: framing for what we send, and a parser that does not care where the bytes were cut.

Source: WHATWG HTML, "Server-sent events", sections "Parsing" and "Interpreting an event stream".
"""

from __future__ import annotations

import re
from typing import NamedTuple

KEEP_ALIVE = b": keep-alive\n\n"
"""A comment: keeps a connection from looking idle, and every client ignores it."""

DEFAULT_LIMIT = 8 * 1024 * 1024

_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\n|\r")


def join(data: bytes | str, event: str | None = None) -> bytes:
    """One event frame; each line of `data` becomes a `data:` line of its own.

    Raises:
        ValueError: a line break in `event`.
    """
    if event is not None and ("\n" in event or "\r" in event):
        raise ValueError("an event's name is one line")
    text = data.encode() if isinstance(data, str) else data
    head = b"" if event is None else b"event: %b\n" % event.encode()
    if b"\n" not in text and b"\r" not in text:
        return b"%bdata: %b\n\n" % (head, text)
    return head + b"".join(b"data: %b\n" % line for line in _LINE_END.split(text)) + b"\n"


class Event(NamedTuple):
    """One event as a browser would dispatch it: `id` is the last one that the stream has set, if any."""

    event: str
    data: bytes
    id: str | None = None


class Parser:
    """Turns bytes, cut anywhere, into events.

    Args:
        limit: bytes that one event may have; more is refused.
    """

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self._limit = limit
        self._lines: list[bytes] = []  # of the event that no blank line has ended yet
        self._line: list[bytes] = []  # pieces of the line that has not ended yet
        self._size = 0  # bytes in both
        self._at_start = True
        self._after_cr = False
        self._last_id: str | None = None

    @property
    def rest(self) -> bytes:
        """What is left of an event that has not ended, with `\\n` as line end and without comments."""
        return b"".join([*(line + b"\n" for line in self._lines), *self._line])

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete.

        Raises:
            ValueError: an event is larger than the limit.
        """
        data = self._without_bom(self._without_half_crlf(data))
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if not end:
            self._keep(data)
            return []
        self._after_cr = data.endswith(b"\r")
        *lines, _ = _LINE_END.split(b"".join([*self._line, data[:end]]))
        self._line.clear()
        self._size = sum(map(len, self._lines))
        events = [event for line in lines if (event := self._end_line(line)) is not None]
        self._keep(data[end:])
        return events

    def _without_half_crlf(self, data: bytes) -> bytes:
        if not self._after_cr or not data:
            return data
        self._after_cr = False
        return data.removeprefix(b"\n")

    def _without_bom(self, data: bytes) -> bytes:
        if not self._at_start:
            return data
        data = b"".join([*self._line, data])
        self._line.clear()
        self._size = 0
        self._at_start = len(data) < len(_BOM) and _BOM.startswith(data)
        return data.removeprefix(_BOM)

    def _keep(self, piece: bytes) -> None:
        if piece:
            self._line.append(piece)
            self._size += len(piece)
        self._check_size()

    def _check_size(self) -> None:
        if self._size > self._limit:
            raise ValueError(f"an event of the stream is larger than {self._limit} bytes")

    def _end_line(self, line: bytes) -> Event | None:
        if not line:
            return self._dispatch()
        if not line.startswith(b":"):
            self._lines.append(line)
            self._size += len(line)
            self._check_size()
        return None

    def _dispatch(self) -> Event | None:
        name, data = "", []
        for line in self._lines:
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                data.append(value)
            elif field == b"event":
                name = value.decode(errors="replace")
            elif field == b"id" and b"\0" not in value:
                self._last_id = value.decode(errors="replace")
        self._lines.clear()
        self._size = 0
        return Event(name or "message", b"\n".join(data), self._last_id) if data else None
