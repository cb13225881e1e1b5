"""What a 2xx reply is worth before the caller sees any of it: is it a stream, is it whole, is it an error?"""

from __future__ import annotations

from collections.abc import Mapping

from .connectors import UpstreamReply
from .dialects import chat, failures
from .errors import ConnectorError
from .mending import MAX_WHOLE_BYTES

MAX_EXPLAINED_BYTES = 256 * 1024
SSE = "text/event-stream"

PASSED = frozenset({"content-type", "retry-after", "retry-after-ms", "openai-processing-ms", "openai-version"})
PASSED_PREFIXES = ("x-ratelimit-", "ratelimit-", "anthropic-ratelimit-")
"""The upstream's headers that travel on to the caller."""


async def first_read(reply: UpstreamReply) -> bytes:
    """The first bytes of a stream, once they do not look like a failure.

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
    if failure := chat.first_event_error(first):
        raise failure
    return first


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
