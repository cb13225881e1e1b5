"""An answer of Messages goes by the name that the caller asked by; all its other bytes pass."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgate_core.dialects.messages_name import MAX_HELD_BYTES, named, named_stream

NAME = "acme:m|b"
HEAD = ': hello\n\nevent: message_start\ndata: {"type":"message_start", "message":{"id":"好","model" : '
TAIL = (
    ' ,"n":1e2}}\n\nevent: ping\ndata: {"type": "ping", "model":"m"}\n\n'
    'data: {"type":"message_start","message":{"model":"m"}}\n\n'
)
STREAM = f'{HEAD}"m"{TAIL}'.encode()
WANTED = f'{HEAD}"{NAME}"{TAIL}'.encode()


def told(chunks: Sequence[bytes]) -> list[bytes]:
    """What comes out, a chunk each."""

    async def given() -> AsyncGenerator[bytes, None]:
        for chunk in chunks:
            yield chunk

    async def collect() -> list[bytes]:
        return [chunk async for chunk in named_stream(given(), NAME)]

    return asyncio.run(collect())


PINGS = b'event: ping\ndata: {"type": "ping"}\n\ndata:{"type":"ping"}\r\n\r\n'


@given(places=st.lists(st.integers(0, len(STREAM + PINGS)), max_size=8).map(sorted), pings=st.booleans())
def test_a_stream_cut_anywhere(places: list[int], pings: bool) -> None:
    given_, wanted = (PINGS + STREAM, PINGS + WANTED) if pings else (STREAM, WANTED)
    cuts = [0, *(place for place in places if place <= len(given_)), len(given_)]
    pieces = [given_[start:end] for start, end in pairwise(cuts)]
    assert b"".join(told(pieces)) == wanted


def test_nothing_waits_behind_the_first_event() -> None:
    first, _, rest = STREAM.partition(b"event: ping")
    pieces = [first, *(bytes([one]) for one in rest)]
    assert told(pieces)[1:] == pieces[1:]


@pytest.mark.parametrize(
    "stream",
    [
        WANTED,
        b'event: error\ndata: {"type":"error","error":{"model":"m"}}\n\n',
        b'data: {"type":"message_start","message":{"model":"m"',
        b'data: {"type":"message_start","message":3}\n\n',
        b'data: {"type":"message_start"}\n\n',
        b"data: 17\n\n",
        b"data: {\n\n",
        b"",
    ],
)
def test_what_has_no_other_name_or_is_no_answer_passes(stream: bytes) -> None:
    assert b"".join(told([stream])) == stream


def test_what_comes_before_the_first_event_does_not_wait_for_it() -> None:
    assert told([b": one\n", b": two", b"\n\n"]) == [b": one\n", b": two\n\n"]


def test_little_is_held_back() -> None:
    pieces = [b"data: {", *[b"x" * 1024] * (2 * MAX_HELD_BYTES // 1024)]
    said = told(pieces)
    assert len(said[0]) < MAX_HELD_BYTES + 1024
    assert b"".join(said) == b"".join(pieces)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (b'{"type":"message","model": "m","n":1e2}', b'{"type":"message","model": "acme:m|b","n":1e2}'),
        (b'{"type":"message", "model":"acme:m|b" }', b'{"type":"message", "model":"acme:m|b" }'),
        (b'{"type":"error","model":"m"}', b'{"type":"error","model":"m"}'),
        (b"[1]", b"[1]"),
        (b"", b""),
    ],
)
def test_a_plain_answer(given: bytes, wanted: bytes) -> None:
    assert named(given, NAME) == wanted
