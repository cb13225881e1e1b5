"""What a 2xx reply is worth before the caller sees any of it: is it a stream, is it whole, is it an error?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping

from .connectors import UpstreamReply
from .dialects import chat, failures
from .errors import ConnectorError
from .mending import MAX_WHOLE_BYTES

MAX_EXPLAINED_BYTES = 256 * 1024
MAX_HELD_BYTES = 64 * 1024
SSE = "text/event-stream"

PASSED = frozenset({"content-type", "retry-after", "retry-after-ms", "openai-processing-ms", "openai-version"})
PASSED_PREFIXES = ("x-ratelimit-", "ratelimit-", "anthropic-ratelimit-")
"""The upstream's headers that travel on to the caller."""


class Beginning:
    """A stream whose first bytes have been looked at, and perhaps a read that is under way behind them."""

    def __init__(self, reply: UpstreamReply, first: bytes) -> None:
        self._reply = reply
        self._held = [first]
        self._watch = chat.StreamWatch()
        self._watch.feed(first)
        self._under_way: asyncio.Future[bytes | None] | None = None

    def raise_failure(self) -> None:
        """Raises ConnectorError if the stream begins with a failure."""
        if failure := chat.first_event_error(b"".join(self._held)):
            raise failure

    async def hold(self, seconds: float | None) -> None:
        """Reads on until something comes that a caller would miss, for so long at most; None is for ever.

        Raises:
            ConnectorError: a failure comes first, or the end.
        """
        now = asyncio.get_running_loop().time
        until, size = None if seconds is None else now() + seconds, 0
        while not (self._watch.meaningful or self._watch.finished) and size < MAX_HELD_BYTES:
            self._under_way = asyncio.ensure_future(anext(self._reply.chunks, None))
            await asyncio.wait({self._under_way}, timeout=None if until is None else max(0.0, until - now()))
            if not self._under_way.done():
                return
            chunk, self._under_way = self._under_way.result(), None
            if chunk is None:
                raise ConnectorError("protocol", "the upstream ended the stream before the answer had begun")
            self._held.append(chunk)
            self._watch.feed(chunk)
            size += len(chunk)
            self.raise_failure()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """All of the stream, from its first byte."""
        yield b"".join(self._held)
        if self._under_way is not None:
            chunk = await self._under_way
            if chunk is None:
                return
            yield chunk
        async for chunk in self._reply.chunks:
            yield chunk

    async def aclose(self) -> None:
        """Gives up a read that is under way; the reply can be closed then."""
        if self._under_way is not None and not self._under_way.done():
            self._under_way.cancel()
            await asyncio.wait({self._under_way})


async def beginning(reply: UpstreamReply, hold_seconds: float | None) -> Beginning:
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
    if not is_sse(reply) and not first.lstrip().startswith((b"data:", b"event:", b"id:", b":")):
        raise not_a_stream(reply, await read_beginning(reply, first))
    begun = Beginning(reply, first)
    begun.raise_failure()
    if hold_seconds != 0:
        try:
            await begun.hold(hold_seconds)
        except BaseException:
            await begun.aclose()
            raise
    return begun


def not_a_stream(reply: UpstreamReply, data: bytes) -> ConnectorError:
    """Why a streaming request got something else: an error in disguise, if it says so."""
    if failure := chat.first_event_error(data):
        return failure
    sort = reply.headers.get("content-type", "no content type").split(";")[0][:60]
    return ConnectorError(
        "protocol",
        f"the upstream answered a streaming request with `{sort}`, not with a stream",
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
