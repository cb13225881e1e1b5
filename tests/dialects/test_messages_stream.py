"""A Messages stream that passes: what is noted of it, wherever it is cut."""

from __future__ import annotations

import json
import tracemalloc
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgate_core.dialects.messages import StreamWatch
from llmgate_core.dialects.passing import MAX_LINE

USAGE = {"input_tokens": 5, "cache_read_input_tokens": 3, "output_tokens": 1, "tricky": {"}": "]"}}


def event(sort: str, **more: Any) -> bytes:
    data = json.dumps({"type": sort, **more}, ensure_ascii=False).encode()
    return b"event: %b\ndata: %b\n\n" % (sort.encode(), data)


def delta(**fields: Any) -> bytes:
    return event("content_block_delta", index=0, delta=fields)


START = event("message_start", message={"content": [], "stop_reason": None, "usage": USAGE})
BLOCK = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
STOP = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 7, "input_tokens": None})
END = event("message_stop")


def watch(*pieces: bytes) -> StreamWatch:
    watcher = StreamWatch()
    for piece in pieces:
        watcher.feed(piece)
    return watcher


def told(watcher: StreamWatch) -> tuple[object, ...]:
    return (watcher.finished, watcher.done, watcher.error, watcher.meaningful, watcher.at_boundary)


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"", (False, False, False, False, True)),
        (START + BLOCK, (False, False, False, False, True)),
        (START + delta(type="text_delta", text=" \n"), (False, False, False, False, True)),
        (START + delta(type="text_delta", text="x"), (False, False, False, True, True)),
        (START + delta(type="thinking_delta", thinking="x"), (False, False, False, True, True)),
        (
            START + event("content_block_start", index=0, content_block={"type": "tool_use", "input": {}}),
            (False, False, False, True, True),
        ),
        (START + STOP, (True, False, False, True, True)),
        (START + event("message_delta", delta={"stop_reason": None}), (False, False, False, False, True)),
        (START + STOP + END, (True, True, False, True, True)),
        (START + END[:-1], (True, True, False, True, False)),
        (event("error", error={"type": "api_error", "message": "m"}), (False, False, True, False, True)),
        (b'data: {"type":"error","error":{}}\n\n', (False, False, True, False, True)),
        (b'data: {"error":{"message":"m"}}\n\n', (False, False, True, False, True)),
        (b"event: error\n", (False, False, True, False, False)),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_what_has_passed(stream: bytes, expected: tuple[object, ...], size: int) -> None:
    assert told(watch(*(stream[at : at + size] for at in range(0, len(stream), size)))) == expected


def test_usage_is_what_the_beginning_and_the_end_tell() -> None:
    assert watch(BLOCK).usage is None
    assert watch(START).usage == USAGE
    assert watch(START, STOP).usage == {**USAGE, "output_tokens": 7}
    assert watch(START, STOP, event("message_delta", delta={})).usage == {**USAGE, "output_tokens": 7}
    assert watch(event("message_start", message="?"), event("message_delta", usage=1)).usage is None


TRICKS = st.sampled_from(
    [
        *('"stop_reason": "end_turn"', '{"type":"message_stop"}', '"type":"message_delta"', '"usage":{"a":9}'),
        *('"error": {"message": "x"}', 'data: {"type":"error"}', "event: error\n", "event: message_stop\n"),
        *("\n\n", "\r", "\\", '"', "好", ": ", ",", "{", " "),
    ]
)
TRICKY = st.lists(TRICKS, max_size=8).map("".join)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(at)]


@settings(max_examples=300, deadline=None)
@given(st.lists(TRICKY, max_size=3), st.lists(st.integers(0, 2000), max_size=6))
def test_text_inside_strings_fools_nobody(texts: list[str], places: list[int]) -> None:
    inside = {"type": "message_stop", "stop_reason": "x", "delta": {"stop_reason": "x"}, "error": "x"}
    call = event("content_block_start", index=0, content_block={"type": "tool_use", "input": inside})
    stream = b"".join(delta(type="input_json_delta", partial_json=text) for text in texts) + call
    watcher = watch(*cut(stream, places))
    assert (watcher.finished, watcher.done, watcher.error, watcher.usage) == (False, False, False, None)
    watcher = watch(*cut(START + stream + STOP + END, places))
    assert told(watcher) == (True, True, False, True, True)
    assert watcher.usage == {**USAGE, "output_tokens": 7}


def test_memory_is_bounded_for_a_line_that_never_ends() -> None:
    watcher = StreamWatch()
    tracemalloc.start()
    try:
        watcher.feed(b"data: ")
        for _ in range(200):
            watcher.feed(b"x" * 65536)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
    watcher.feed(b"\n\n" + END)
    assert watcher.done


def test_the_middle_of_a_long_line_is_not_its_beginning() -> None:
    tail = b"event: error"
    watcher = watch(b"data: " + b"x" * MAX_LINE + tail + b" " * (64 - len(tail)), b"\n\n")
    assert not watcher.error
