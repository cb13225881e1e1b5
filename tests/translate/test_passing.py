"""Translated streams on their way: whatever the cuts, told once, and ended in the caller's dialect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgate_core import sse
from llmgate_core.errors import ConnectorError
from llmgate_core.sse import Event
from llmgate_core.translate.passing import translated


class Shouting:
    """Says every event in capitals, with a full stop at the end."""

    def __init__(self) -> None:
        self.ended = False

    def feed(self, event: Event) -> bytes:
        if event.data == b"fail":
            raise ConnectorError("unavailable", "it failed")
        if event.data == b"silent":
            return b""
        return event.data.upper() + b" "

    def end(self) -> bytes:
        self.ended = True
        return b"."

    def failed(self, error: Exception, *, context: str = "", request_id: str = "") -> bytes:
        return f"<{error} {context} {request_id}>".encode()


def run(pieces: Sequence[bytes], failure: Exception | None = None) -> tuple[list[bytes], Exception | None, bool]:
    """What was said, what was raised, and whether the upstream was closed."""
    closed = False

    async def chunks() -> AsyncGenerator[bytes, None]:
        nonlocal closed
        try:
            for piece in pieces:
                yield piece
            if failure is not None:
                raise failure
        finally:
            closed = True

    async def collect() -> tuple[list[bytes], Exception | None]:
        said: list[bytes] = []
        try:
            async for piece in translated(chunks(), Shouting(), context="of b", request_id="req_1"):
                said.append(piece)  # noqa: PERF401 - what came before a failure stays
        except ConnectorError as error:
            return said, error
        return said, None

    said, raised = asyncio.run(collect())
    return said, raised, closed


STREAM = b"".join(sse.join(word) for word in ("one", "silent", "zwei", "三"))


@given(st.lists(st.integers(0, len(STREAM))))
def test_cuts_make_no_difference(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[begin:end] for begin, end in pairwise(edges)]
    said, raised, closed = run(pieces)
    assert (b"".join(said), raised, closed) == ("ONE ZWEI 三 .".encode(), None, True)
    assert all(said)


def test_the_events_of_one_chunk_are_said_together_and_nothing_waits_for_the_next() -> None:
    said, *_ = run([STREAM, sse.join("more")])
    assert said == ["ONE ZWEI 三 ".encode(), b"MORE ", b"."]


@pytest.mark.parametrize(
    "pieces", [[b"".join(map(sse.join, ("one", "fail", "two")))], [sse.join("one"), sse.join("fail")]]
)
def test_a_failure_in_the_stream_comes_after_what_was_before_it(pieces: list[bytes]) -> None:
    said, raised, closed = run(pieces)
    assert (b"".join(said), str(raised), closed) == (b"ONE <it failed of b req_1>", "it failed", True)


def test_a_failure_of_the_connection_is_told_and_raised() -> None:
    said, raised, closed = run([sse.join("one"), b"data: hal"], ConnectorError("protocol", "cut off"))
    assert (b"".join(said), str(raised), closed) == (b"ONE <cut off of b req_1>", "cut off", True)


def test_an_event_that_is_too_large_is_a_failure() -> None:
    said, raised, closed = run([b"data: " + b"x" * (9 * 1024 * 1024)])
    assert isinstance(raised, ConnectorError)
    assert raised.kind == "protocol"
    assert said == [f"<{raised} of b req_1>".encode()]
    assert closed


def test_a_caller_that_leaves_closes_the_upstream() -> None:
    closed = False

    async def chunks() -> AsyncGenerator[bytes, None]:
        nonlocal closed
        try:
            while True:
                yield sse.join("one")
        finally:
            closed = True

    async def leave() -> None:
        stream = translated(chunks(), Shouting())
        assert await anext(stream) == b"ONE "
        await stream.aclose()

    asyncio.run(leave())
    assert closed
