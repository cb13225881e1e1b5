"""An answer looked at on its way to the caller, event by event or as a whole; what needs nothing keeps its bytes."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterable, Sequence

from .errors import ConnectorError
from .sse import join
from .wire import Body, JsonError

MAX_WHOLE_BYTES = 64 * 1024 * 1024
MAX_EVENT_BYTES = 8 * 1024 * 1024


class Mender:
    """Says what one answer should have been; a connector makes one for each call, and overrides what it needs.

    A method that returns the body it was given leaves the bytes as they are. What raises `ValueError` because the
    JSON cannot be read leaves them too: whether they are an answer is for others to say.
    """

    def event(self, body: Body, name: str) -> Body | Sequence[tuple[str, Body]]:
        """One event of a stream, as the caller should have it.

        Args:
            body: the JSON in its `data:`, not decoded yet.
            name: what its `event:` line says; empty where there is none.

        Returns:
            What its `data:` should hold; or the events that take its place, each with its name, none to drop it.

        Raises:
            ConnectorError: it reports a failure.
        """
        return body

    def last(self) -> Body | None:
        """What has to be said before `[DONE]`, if anything was held back."""
        return None

    def whole(self, body: Body) -> Body:
        """A plain answer, or what came instead of a stream; raises like `event`."""
        return body


async def mended(chunks: AsyncGenerator[bytes, None], mender: Mender, *, stream: bool) -> AsyncGenerator[bytes, None]:
    """The bytes of `chunks`, cut anywhere, as `mender` wants them; closes `chunks` in the end.

    Raises:
        ConnectorError: what `mender` or `chunks` raise, or kind `protocol` for more than can be held.
    """
    answer = _Stream(mender) if stream else _Whole(mender)
    try:
        async for chunk in chunks:
            if isinstance(answer, _Stream) and answer.is_none(chunk):
                answer = _Whole(mender)
            if data := answer.feed(chunk):
                yield data
            if answer.failure is not None:  # what came before it has been said
                raise answer.failure
        if rest := answer.end():
            yield rest
        if answer.failure is not None:
            raise answer.failure
    finally:
        await chunks.aclose()


_DATA = re.compile(rb"(data: ?)([^\r\n]*)([\r\n]*)")
_NAME = re.compile(rb"event: ?([^\r\n]*)[\r\n]*")


class _Stream:
    """Server-sent events, a line at a time; each `data:` line of a chat stream is one JSON object."""

    def __init__(self, mender: Mender) -> None:
        self._mender = mender
        self.failure: ConnectorError | None = None
        self._begun = False
        self._line = bytearray()  # the one that has not ended yet
        self._head: list[bytes] = []  # lines before the next `data:`, so that an event is told whole or not at all
        self._head_size = 0
        self._name = ""
        self._dropped = False  # the last line was a `data:` that nobody gets; nor does its blank line go on

    def is_none(self, chunk: bytes) -> bool:
        """Whether the beginning shows that this is no event stream but one JSON object."""
        first = not self._begun and chunk.lstrip()[:1]
        self._begun = self._begun or bool(first)
        return first == b"{"

    def feed(self, chunk: bytes) -> bytes:
        end = max(chunk.rfind(b"\n"), chunk.rfind(b"\r")) + 1
        self._line += chunk[:end] if end else chunk
        if not end:
            if len(self._line) > MAX_EVENT_BYTES:
                raise ConnectorError("protocol", f"an event of the stream is larger than {MAX_EVENT_BYTES} bytes")
            return b""
        lines, self._line = bytes(self._line), bytearray(chunk[end:])
        return self._mended(lines.splitlines(keepends=True))

    def end(self) -> bytes:
        """The beginning of an event, if the stream was cut off in one."""
        return self._mended([bytes(self._line)]) + b"".join(self._head)

    def _mended(self, lines: Iterable[bytes]) -> bytes:
        said = []
        try:
            for line in lines:
                said.append(self._mended_line(line))  # noqa: PERF401 - what came before a failure stays
        except ConnectorError as failure:
            self.failure = failure
        return b"".join(said)

    def _mended_line(self, line: bytes) -> bytes:
        dropped, self._dropped = self._dropped, False
        if dropped and not line.strip(b"\r\n"):
            return b""
        found = _DATA.fullmatch(line)
        if not found and line.strip(b"\r\n") and not (line.startswith(b":") and not self._head):
            if named := _NAME.fullmatch(line):
                self._name = named[1].decode(errors="replace")
            self._hold(line)
            return b""
        head, name = b"".join(self._head), self._name
        self._head, self._head_size, self._name = [], 0, ""
        return self._mended_data(head, found, name) if found else head + line

    def _hold(self, line: bytes) -> None:
        self._head.append(line)
        self._head_size += len(line)
        if self._head_size > MAX_EVENT_BYTES:
            raise ConnectorError("protocol", f"an event of the stream is larger than {MAX_EVENT_BYTES} bytes")

    def _mended_data(self, head: bytes, line: re.Match[bytes], name: str) -> bytes:
        field, data, line_end = line.groups()
        if data.strip() == b"[DONE]":
            held = self._mender.last()
            return head + (b"data: %b\n\n" % held.bytes if held else b"") + line[0]
        given = Body(data)
        try:
            wanted = self._mender.event(given, name)
        except JsonError:
            return head + line[0]
        if not isinstance(wanted, Body):
            events = b"".join(join(body.bytes, name or None) for name, body in wanted)
            self._dropped = not events
            return events and events.removesuffix(b"\n\n") + line_end  # the blank line comes as a line of its own
        return head + (line[0] if wanted is given else field + wanted.bytes + line_end)


class _Whole:
    """A plain answer, held until it is whole, as the gateway holds it too."""

    def __init__(self, mender: Mender) -> None:
        self._mender = mender
        self.failure: ConnectorError | None = None
        self._data = bytearray()

    def feed(self, chunk: bytes) -> bytes:
        self._data += chunk
        if len(self._data) > MAX_WHOLE_BYTES:
            raise ConnectorError("protocol", f"the upstream's answer is larger than {MAX_WHOLE_BYTES} bytes")
        return b""

    def end(self) -> bytes:
        given = Body(bytes(self._data))
        try:
            return self._mender.whole(given).bytes
        except JsonError:
            return given.bytes
