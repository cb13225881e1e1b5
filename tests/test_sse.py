"""Framing of server-sent events: what we send can be read back, however the bytes are cut."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmgate_core.sse import KEEP_ALIVE, Event, Parser, join


def parse(*chunks: bytes) -> list[Event]:
    parser = Parser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(at)]


CUTS = st.lists(st.integers(0, 10_000), max_size=12)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.text(max_size=12), st.none() | st.text("abc.", min_size=1)), max_size=5),
    CUTS,
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
)
def test_what_is_joined_is_parsed_for_any_cut(
    sent: list[tuple[str, str | None]], places: list[int], line_end: bytes
) -> None:
    data = b"".join(KEEP_ALIVE + join(text, name) for text, name in sent).replace(b"\r", b"")
    expected = [Event(name or "message", re.sub("\r\n|\r|\n", "\n", text).encode()) for text, name in sent]
    assert parse(*cut(data.replace(b"\n", line_end), places)) == expected


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [b"data", b"event", b"id", b": ", b":", b"x", b"\r", b"\n", b"\r\n", b"\xc3\xa4", b"\xef\xbb\xbf"]
        )
    ).map(b"".join),
    CUTS,
)
@example(b"data:x\r\n\r\ndata:y\n\n", [7, 9])
@example(b"\xef\xbb\xbfdata:x\n\n", [1, 2])
def test_any_cut_gives_the_same_events_and_rest(data: bytes, places: list[int]) -> None:
    whole, pieces = Parser(), Parser()
    expected = whole.feed(data)
    assert [event for piece in cut(data, places) for event in pieces.feed(piece)] == expected
    assert pieces.rest == whole.rest


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\ndata: b\n\n", [Event("message", b"a\nb")]),
        (b"data:a\n\n", [Event("message", b"a")]),
        (b"data:  a\n\n", [Event("message", b" a")]),
        (b"data\n\n", [Event("message", b"")]),
        (b"event: error\ndata: {}\n\n", [Event("error", b"{}")]),
        (b"event: error\n\ndata: x\n\n", [Event("message", b"x")]),
        (b": ping\n\ndata: x\n: in between\n\n", [Event("message", b"x")]),
        (b"id: 7\ndata: x\n\ndata: y\n\n", [Event("message", b"x", "7"), Event("message", b"y", "7")]),
        (b"id: a\0b\ndata: x\n\n", [Event("message", b"x")]),
        (b"retry: 100\nother: 1\ndata: x\n\n", [Event("message", b"x")]),
        (b"\xef\xbb\xbfdata: x\n\n\xef\xbb\xbfdata: y\n\n", [Event("message", b"x")]),
        (b"data: x\r\r", [Event("message", b"x")]),
        (b"data: x\n", []),
        (b"", []),
    ],
)
def test_the_rules_of_the_standard(stream: bytes, expected: list[Event]) -> None:
    assert parse(stream) == expected
    assert parse(*(bytes([byte]) for byte in stream)) == expected


def test_an_event_without_its_blank_line_is_the_rest() -> None:
    parser = Parser()
    assert parser.feed(b"data: a\n\nevent: x\r\n: note\r\ndata: {") == [Event("message", b"a")]
    assert parser.rest == b"event: x\ndata: {"
    assert parser.feed(b"}\n\n") == [Event("x", b"{}")]
    assert parser.rest == b""


@pytest.mark.parametrize("endless", [b"x" * 10, b"data: x\n"])
def test_an_endless_event_is_refused(endless: bytes) -> None:
    parser = Parser(limit=100)
    for _ in range(50):
        parser.feed(b"data: 0123456789\n\n: a comment of some length that does not count\n")
    parser.feed(endless * (90 // len(endless)))
    with pytest.raises(ValueError, match="larger than 100 bytes"):
        parser.feed(endless * 5)


def test_join_writes_one_frame() -> None:
    assert join("ä") == "data: ä\n\n".encode()
    assert join(b"{}", "message_stop") == b"event: message_stop\ndata: {}\n\n"
    assert join("a\r\nb\n") == b"data: a\ndata: b\ndata: \n\n"
    with pytest.raises(ValueError, match="one line"):
        join("x", "a\nb")
