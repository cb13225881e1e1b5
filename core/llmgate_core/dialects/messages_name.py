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
    """A stream by this name, which is in its first event but for pings; every other byte passes. Closes `chunks`."""
    held, is_named = b"", False
    try:
        async for chunk in chunks:
            if is_named:
                yield chunk
                continue
            passed, held, is_named = _named(held + chunk, model)
            if len(held) >= MAX_HELD_BYTES:
                passed, held, is_named = passed + held, b"", True
            if passed:
                yield passed
        if held:
            yield held
    finally:
        await chunks.aclose()


def _named(data: bytes, model: str) -> tuple[bytes, bytes, bool]:
    """What may pass of a stream's beginning, what has to wait, and whether the event with the name is in the former."""
    at = 0
    while found := _DATA.search(data, at):
        event = Body(found[1])
        try:
            sort = event.get("type")
            message = event.raw("message") if sort == "message_start" else None
            if message is not None:
                renamed = event.bytes.replace(message, _called(Body(message), model).bytes, 1)
                return data[: found.start(1)] + renamed + data[found.end(1) :], b"", True
        except JsonError:
            sort = None
        if sort != "ping":
            return data, b"", True
        at = found.end() - 1  # the next line begins behind this line end
    complete = max(at, data.rfind(b"\n") + 1, data.rfind(b"\r") + 1)
    return data[:complete], data[complete:], False


def _called(message: Body, model: str) -> Body:
    return message if message.get("model") == model else message.splice({"model": model})
