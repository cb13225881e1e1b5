"""What a 2xx reply is worth before the caller sees any of it: is it a stream, is it whole, is it an error?"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from .connectors import UpstreamReply
from .dialects import failures
from .dialects.spoken import Spoken
from .errors import ConnectorError
from .mending import MAX_WHOLE_BYTES
from .wire import Body, JsonError

MAX_EXPLAINED_BYTES = 256 * 1024
MAX_HELD_BYTES = 64 * 1024

_FAILURE = re.compile(rb'\s*(?:event: ?error|data: ?\{\s*"error")')
_BLANK = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")
SSE = "text/event-stream"

PASSED = frozenset({"content-type", "retry-after", "retry-after-ms", "openai-processing-ms", "openai-version"})
PASSED_PREFIXES = ("x-ratelimit-", "ratelimit-", "anthropic-ratelimit-")
"""The upstream's headers that travel on to the caller."""


class Beginning:
    """A stream whose first bytes have been looked at, and perhaps a read that is under way behind them."""

    def __init__(self, reply: UpstreamReply, dialect: Spoken, first: bytes) -> None:
        self._reply = reply
        self._dialect = dialect
        self._held: list[bytes] = []
        self._size = 0
        self._has_event = False
        self._watch = dialect.StreamWatch()
        self._take(first)
        self._under_way: asyncio.Future[bytes | None] | None = None

    async def read_on(self, hold_seconds: float | None) -> None:
        """Reads on until there is something that a caller would miss, for so long at most; 0 is not at all.

        What begins like a failure is read to its end in any case: half of it would be told as a success.

        Raises:
            ConnectorError: a failure comes first, or the end.
        """
        now = asyncio.get_running_loop().time
        until = None if hold_seconds is None else now() + hold_seconds
        self._raise_failure()
        while self._size < MAX_HELD_BYTES and (
            self._is_half_a_failure or (hold_seconds != 0 and not self._says_something)
        ):
            self._under_way = asyncio.ensure_future(anext(self._reply.chunks, None))
            left = None if until is None or self._is_half_a_failure else max(0.0, until - now())
            await asyncio.wait({self._under_way}, timeout=left)
            if not self._under_way.done():
                return
            chunk, self._under_way = self._under_way.result(), None
            self._take(chunk)
            self._raise_failure(is_whole=chunk is None)
            if chunk is None:
                raise ConnectorError("protocol", "the upstream ended the stream before the answer had begun")

    @property
    def _says_something(self) -> bool:
        return self._watch.meaningful or self._watch.finished

    @property
    def _is_half_a_failure(self) -> bool:
        return not self._has_event and _FAILURE.match(b"".join(self._held)) is not None

    def _take(self, chunk: bytes | None) -> None:
        if chunk:
            self._held.append(chunk)
            self._size += len(chunk)
            self._watch.feed(chunk)
            # A blank line, which may have been cut in two.
            self._has_event = self._has_event or _BLANK.search(b"".join(self._held[-2:])) is not None

    def _raise_failure(self, *, is_whole: bool = False) -> None:
        """Raises ConnectorError if the stream begins with a failure; `is_whole` ends an event that lacks its end."""
        if failure := self._dialect.first_event_error(b"".join(self._held) + (b"\n\n" if is_whole else b"")):
            raise failure

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """All of the stream, from its first byte."""
        yield b"".join(self._held)
        if self._under_way is not None:
            chunk = await self._under_way
            self._under_way = None
            if chunk is None:
                return
            yield chunk
        async for chunk in self._reply.chunks:
            yield chunk

    async def aclose(self) -> None:
        """Gives up a read that is under way; the reply can be closed then. A cancellation meanwhile waits for that."""
        read, self._under_way = self._under_way, None
        if read is None:
            return
        cancelled: asyncio.CancelledError | None = None
        while not read.done():
            read.cancel()
            try:
                await asyncio.wait({read})
            except asyncio.CancelledError as error:
                cancelled = error
        if not read.cancelled():
            read.exception()  # nobody else will look at it
        if cancelled is not None:
            raise cancelled


async def beginning(reply: UpstreamReply, dialect: Spoken, hold_seconds: float | None) -> Beginning:
    """The beginning of a stream, once it does not look like a failure.

    Args:
        hold_seconds: how long to wait for the first event that counts, None for ever; 0 where nothing could be tried
            again, so that what has come may pass at once.

    Raises:
        ConnectorError: an empty or non-SSE answer, or a stream that begins with an error frame.
    """
    first = b""
    async for first in reply.chunks:
        if first:
            break
    if not first:
        raise ConnectorError("protocol", "the upstream answered with an empty stream", status=reply.status)
    if not _may_begin_a_stream(first, says_so=is_sse(reply)):
        raise not_a_stream(reply, dialect, await read_beginning(reply, first))
    begun = Beginning(reply, dialect, first)
    try:
        await begun.read_on(hold_seconds)
    except BaseException:
        await begun.aclose()
        raise
    return begun


_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":", b"\xef\xbb\xbf")
"""How a line of an event stream may begin, and the mark that may stand before the first."""


def _may_begin_a_stream(first: bytes, *, says_so: bool) -> bool:
    """Whether these bytes are the beginning of an event stream; of one that says so, a part of a word is enough."""
    head = first.lstrip()
    return head.startswith(_FIELDS) or (says_so and any(field.startswith(head) for field in _FIELDS))


def not_a_stream(reply: UpstreamReply, dialect: Spoken, data: bytes) -> ConnectorError:
    """Why a streaming request got something else: an error in disguise, if it says so."""
    if failure := dialect.first_event_error(data):
        return failure
    sort = reply.headers.get("content-type", "no content type").split(";")[0][:60]
    return ConnectorError(
        "protocol",
        f"the upstream answered a streaming request with `{sort}` that is no stream",
        status=reply.status,
    )


async def read_beginning(reply: UpstreamReply, first: bytes) -> bytes:
    """As much of a reply as is needed to say what it is."""
    async for chunk in reply.chunks:
        first += chunk
        if len(first) > MAX_EXPLAINED_BYTES:
            break
    return first


async def read_plain(reply: UpstreamReply) -> bytes:
    """The whole of a plain answer: only what is complete may be shown as a success."""
    parts: list[bytes] = []
    size = 0
    async for chunk in reply.chunks:
        parts.append(chunk)
        size += len(chunk)
        if size > MAX_WHOLE_BYTES:
            raise ConnectorError("protocol", f"the upstream's answer is larger than {MAX_WHOLE_BYTES} bytes")
    return b"".join(parts)


def read_object(data: bytes) -> dict[str, Any] | None:
    """The `usage` of an answer that is no conversation.

    Raises:
        ConnectorError: it is an error in disguise (that error's kind), or no JSON object (kind `protocol`).
    """
    body = Body(data)
    try:
        usage, error = body.get("usage"), body.get("error")
    except JsonError as problem:
        raise ConnectorError("protocol", f"the upstream's answer is not usable JSON: {problem}") from None
    if error:
        raise failures.reported_error(data)
    return usage if isinstance(usage, dict) else None


def passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    """The upstream's headers that travel on to the caller: an allow-list, and request ids under a name of their own."""
    kept = {
        name: value
        for name, value in headers.items()
        if (name.startswith(PASSED_PREFIXES) or name in PASSED) and value.isprintable()
    }
    if found := failures.request_id(headers):
        kept["x-upstream-request-id"] = found
    return kept


async def close(reply: UpstreamReply) -> None:
    """Ends the reply wherever it stands; a generator that never began has nothing to end, hence the second step."""
    try:
        await reply.chunks.aclose()
    finally:
        await reply.aclose()


def is_sse(reply: UpstreamReply) -> bool:
    """Whether the reply says that it is an event stream."""
    return reply.headers.get("content-type", "").lower().startswith(SSE)
