"""One JSON object a line, cut anywhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgate_core import ConnectorError, json_lines, ndjson

OBJECTS = [{"a": "Grüße\n"}, {}, {"世界": [1e2, None]}]
WIRE = b"\n \r\n".join(json.dumps(one, ensure_ascii=False).encode() for one in OBJECTS)


class Source:
    """Pieces that come one by one, and whether they were closed."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces = pieces
        self.closed = False

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        try:
            for piece in self.pieces:
                yield piece
        finally:
            self.closed = True


def read(source: Source) -> list[dict[str, Any]]:
    async def run() -> list[dict[str, Any]]:
        return [body.data async for body in json_lines(source.chunks())]

    return asyncio.run(run())


@given(st.lists(st.integers(0, len(WIRE)), max_size=12), st.sampled_from([b"", b"\n", b"\r\n\n"]))
def test_any_cut_gives_the_same(cuts: list[int], end: bytes) -> None:
    places = [0, *sorted(cuts), len(WIRE)]
    source = Source([*(WIRE[a:b] for a, b in pairwise(places)), end])
    assert read(source) == OBJECTS
    assert source.closed


def test_a_line_is_told_as_soon_as_it_ends() -> None:
    async def run() -> None:
        source = Source([b'{"a":1}\n{"b"', b":2}\n"])
        lines = json_lines(source.chunks())
        assert (await anext(lines)).bytes == b'{"a":1}'
        await lines.aclose()
        assert source.closed

    asyncio.run(run())


@pytest.mark.parametrize("bad", [b"[1]", b"{", b"\xff", b'{"a":1} {"b":2}'])
def test_what_is_no_object_is_a_failure(bad: bytes) -> None:
    source = Source([b"{}\n" + bad + b"\n"])
    with pytest.raises(ConnectorError, match="no JSON object") as failure:
        read(source)
    assert failure.value.kind == "protocol"
    assert source.closed


def test_a_line_without_end_is_not_held_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ndjson, "MAX_LINE_BYTES", 10)
    assert read(Source([b"{}\n" * 9, b'{"a":', b"1}"])) == [*[{}] * 9, {"a": 1}]
    with pytest.raises(ConnectorError, match="larger than 10 bytes"):
        read(Source([b"{}\n", b'{"a":"', b"12345", b'"}']))
