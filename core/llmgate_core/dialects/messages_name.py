"""The name of the model in an answer of Messages, as the caller asked for it.

Claude Code sends thinking back only where the answer's model is to the letter the one that it asked for, and a selector
is seldom what the upstream calls it. Upstreams want the thinking before a tool call back, unchanged. Seen in 2.1.197.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator

from ..wire import Body, JsonError

MAX_HELD_BYTES = 64 * 1024
"""How long a line may be that is held back until it is complete."""

_DATA = re.compile(rb"(?:^|[\r\n])data: ?([^\r\n]*)[\r\n]")


def named(data: bytes, model: str) -> bytes:
    """A plain answer by this name; what is no answer stays."""
    try:
        answer = Body.parse(data)
        return _called(answer, model).bytes if answer.get("type") == "message" else data
    except JsonError:
        return data


async def named_stream(chunks: AsyncGenerator[bytes, None], model: str) -> AsyncGenerator[bytes, None]:
    """A stream by this name, which is in its first event; every other byte passes. Closes `chunks` in the end."""
    held = b""
    try:
        async for chunk in chunks:
            held += chunk
            begun = _begun(held, model)
            if begun is not None or len(held) >= MAX_HELD_BYTES:
                yield begun or held
                held = b""
                break
            complete = max(held.rfind(b"\n"), held.rfind(b"\r")) + 1
            if complete:  # comments, and the event's own name
                yield held[:complete]
                held = held[complete:]
        async for chunk in chunks:
            yield chunk
        if held:
            yield held
    finally:
        await chunks.aclose()


def _begun(data: bytes, model: str) -> bytes | None:
    """The beginning of a stream by this name, None while its first event is not complete."""
    found = _DATA.search(data)
    if found is None:
        return None
    event = Body(found[1])
    try:
        message = event.raw("message") if event.get("type") == "message_start" else None
        if message is None:
            return data
        renamed = event.bytes.replace(message, _called(Body(message), model).bytes, 1)
    except JsonError:
        return data
    return data[: found.start(1)] + renamed + data[found.end(1) :]


def _called(message: Body, model: str) -> Body:
    return message if message.get("model") == model else message.splice({"model": model})
