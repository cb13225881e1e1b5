"""Translated bytes on their way to the caller."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable

from ..errors import ConnectorError
from ..sse import Event, Parser
from . import StreamTranslation


async def translated(
    chunks: AsyncGenerator[bytes, None], way: StreamTranslation, *, context: str = "", request_id: str = ""
) -> AsyncGenerator[bytes, None]:
    """The caller's events for the upstream's `chunks`, cut anywhere; closes `chunks` in the end.

    Args:
        context, request_id: for a failure, as in `StreamTranslation.failed`.

    Raises:
        ConnectorError: the upstream's failure, after the caller has been told of it in the stream.
    """
    parser = Parser()
    try:
        async for chunk in chunks:
            for said in _told(parser.feed(chunk), way):
                if said:
                    yield said
        if rest := way.end():
            yield rest
    except ConnectorError as error:
        yield way.failed(error, context=context, request_id=request_id)
        raise
    except ValueError as error:  # an event that is larger than can be held
        failure = ConnectorError("protocol", str(error))
        yield way.failed(failure, context=context, request_id=request_id)
        raise failure from None
    finally:
        await chunks.aclose()


def _told(events: Iterable[Event], way: StreamTranslation) -> Iterable[bytes]:
    """What the caller is told of some events: at once, or up to the one that reports a failure."""
    said: list[bytes] = []
    try:
        for event in events:
            said.append(way.feed(event))  # noqa: PERF401 - what came before a failure stays
    except ConnectorError:
        yield b"".join(said)
        raise
    yield b"".join(said)
