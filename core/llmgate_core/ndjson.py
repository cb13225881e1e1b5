"""Streams that have one JSON object a line (NDJSON), as some upstreams send instead of server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from .errors import ConnectorError
from .wire import Body, JsonError

MAX_LINE_BYTES = 8 * 1024 * 1024


async def json_lines(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[Body, None]:
    """The objects of an NDJSON stream, each as soon as its line has ended, wherever the bytes were cut.

    Blank lines are skipped; a last line need not be ended. Closes `chunks` in the end, also when it is closed itself.

    Raises:
        ConnectorError: what `chunks` raise; kind `protocol` for a line that is no JSON object, or too long to hold.
    """
    held: list[bytes] = []  # pieces of the line that has not ended yet
    size = 0
    try:
        async for chunk in chunks:
            first, *others = chunk.split(b"\n")
            held.append(first)
            size += len(first)
            for piece in others:
                if (line := b"".join(held)).strip():
                    yield _object(line)
                held, size = [piece], len(piece)
            if size > MAX_LINE_BYTES:
                raise ConnectorError("protocol", f"a line of the stream is larger than {MAX_LINE_BYTES} bytes")
        if (line := b"".join(held)).strip():
            yield _object(line)
    finally:
        await chunks.aclose()


def _object(line: bytes) -> Body:
    try:
        return Body.parse(line)
    except JsonError as error:
        raise ConnectorError("protocol", f"a line of the stream is no JSON object: {error.message}") from None
