"""An answer that is looked at event by event: bytes stay where nothing is mended, for any cut."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgate_core import Body, ConnectorError, Mender
from llmgate_core.mending import MAX_EVENT_BYTES, MAX_WHOLE_BYTES, mended
from llmgate_core.sse import Parser


class Shout(Mender):
    """Writes every `say` in capitals, holds a `hold` back to the end, and refuses `fail`."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.held: Body | None = None

    def event(self, body: Body, name: str) -> Body:
        self.names.append(name)
        return self.whole(body)

    def whole(self, body: Body) -> Body:
        if "fail" in body:
            raise ConnectorError("quota", "it says no")
        if "hold" in body:
            self.held = body
            return Body(b"{}")
        said = body.get("say")
        return body.splice({"say": said.upper()}) if isinstance(said, str) else body

    def last(self) -> Body | None:
        return self.held


def shouted(parts: Sequence[bytes], *, stream: bool = True, mender: Mender | None = None) -> bytes:
    closed = False

    async def chunks() -> AsyncGenerator[bytes, None]:
        nonlocal closed
        try:
            for part in parts:
                yield part
        finally:
            closed = True

    async def read() -> bytes:
        out = mended(chunks(), mender or Shout(), stream=stream)
        try:
            return b"".join([chunk async for chunk in out])
        finally:
            assert closed

    return asyncio.run(read())


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(marks)]


SSE = (
    b': hello\n\ndata: {"x": 1.00}\n\nevent: noise\r\ndata: {"say":"a\xe4\xbd\xa0"}\r\n\r\n'
    b'id: 7\ndata:{"say":"b"}\rdata: not json\n\ndata: [1]\n\ndata: [DONE]\n\n'
)
WANTED = SSE.replace(b'"a', b'"A').replace(b'"b"', b'"B"')


@settings(max_examples=60, deadline=None)
@given(places=st.lists(st.integers(0, len(SSE)), max_size=30))
def test_only_what_is_mended_changes_for_any_cut(places: list[int]) -> None:
    assert shouted(cut(SSE, places)) == WANTED


@settings(max_examples=40, deadline=None)
@given(places=st.lists(st.integers(0, len(SSE)), max_size=30))
def test_a_mender_that_wants_nothing_touches_nothing(places: list[int]) -> None:
    assert shouted(cut(SSE, places), mender=Mender()) == SSE


def test_an_event_comes_with_its_name_and_the_next_without() -> None:
    shout = Shout()
    shouted([b'event: error\ndata: {"a":1}\n\nda', b'ta: {"a":2}\n\nevent:x\r\ndata: {"a":3}\r\n\r\n'], mender=shout)
    assert shout.names == ["error", "", "x"]


class Twice(Mender):
    """Says every event twice, the second time under another name, and drops `hush`."""

    def event(self, body: Body, name: str) -> Sequence[tuple[str, Body]]:
        return [] if "hush" in body else [(name, body), ("again", body)]


TWICE = b'event: a\ndata: {"x": 1.0}\n\nevent: hush\ndata: {"hush":1}\n\ndata: {"y":2}\n\n'


@settings(max_examples=40, deadline=None)
@given(places=st.lists(st.integers(0, len(TWICE)), max_size=30))
def test_an_event_may_become_several_or_none(places: list[int]) -> None:
    parser = Parser()
    told = [(event.event, event.data) for event in parser.feed(shouted(cut(TWICE, places), mender=Twice()))]
    one, two = b'{"x": 1.0}', b'{"y":2}'
    assert told == [("a", one), ("again", one), ("message", two), ("again", two)]
    assert parser.rest == b""


def test_nothing_is_left_of_an_event_that_is_dropped() -> None:
    assert (
        shouted([b'data: 1\n\nevent: x\ndata: {"hush":1}\n\n: comment\n\n'], mender=Twice())
        == b"data: 1\n\n: comment\n\n"
    )


def test_events_go_on_as_they_come() -> None:
    async def test() -> None:
        second_was_asked_for = asyncio.Event()

        async def chunks() -> AsyncGenerator[bytes, None]:
            yield b'data: {"say":"first"}\n\n'
            second_was_asked_for.set()
            yield b'data: {"say":"second"}\n\n'

        out = mended(chunks(), Shout(), stream=True)
        assert await anext(out) == b'data: {"say":"FIRST"}\n\n'
        assert not second_was_asked_for.is_set()
        await out.aclose()

    asyncio.run(test())


def test_what_was_held_back_comes_before_the_mark_of_the_end() -> None:
    told = shouted([b'data: {"hold":1}\n\ndata: [DONE]\n\n'])
    assert told == b'data: {}\n\ndata: {"hold":1}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize("data", [b'{"fail": 1}', b' \n{\n  "fail": 1\n}\n', b'data: {"fail": 1}\n\n'])
def test_a_failure_is_found_in_an_event_and_in_what_came_instead_of_a_stream(data: bytes) -> None:
    for parts in (cut(data, [3]), cut(data, list(range(len(data))))):
        with pytest.raises(ConnectorError, match="it says no"):
            shouted(parts)


@pytest.mark.parametrize("at_once", [True, False])
def test_what_came_before_a_failure_is_told_and_nothing_of_the_event_that_holds_it(at_once: bool) -> None:
    data = b'data: {"say":"a"}\n\nevent: error\nid: 1\ndata: {"fail":1}\n\ndata: {"say":"b"}\n\n'
    told = b""

    async def read() -> None:
        nonlocal told

        async def chunks() -> AsyncGenerator[bytes, None]:
            for part in [data] if at_once else cut(data, list(range(len(data)))):
                yield part

        async for chunk in mended(chunks(), Shout(), stream=True):
            told += chunk

    with pytest.raises(ConnectorError, match="it says no"):
        asyncio.run(read())
    assert told == b'data: {"say":"A"}\n\n'


def test_a_plain_answer_is_mended_as_a_whole() -> None:
    assert shouted([b'{"x":1.0, ', b'"say":"a"}'], stream=False) == b'{"x":1.0, "say":"A"}'
    assert shouted([b"<html>"], stream=False) == b"<html>"


@pytest.mark.parametrize(("stream", "limit"), [(True, MAX_EVENT_BYTES), (False, MAX_WHOLE_BYTES)])
def test_what_never_ends_is_refused(stream: bool, limit: int) -> None:
    with pytest.raises(ConnectorError, match="larger than") as caught:
        shouted([b"x" * limit, b"x"], stream=stream)
    assert caught.value.kind == "protocol"


def test_json_in_an_event_may_be_any() -> None:
    text = json.dumps({"say": 'quote " and \n break'})
    assert json.loads(shouted([f"data: {text}\n\n".encode()])[6:])["say"] == 'QUOTE " AND \n BREAK'
