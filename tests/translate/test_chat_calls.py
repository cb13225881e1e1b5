"""Which call a piece of a chat stream belongs to, and when a call is complete."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmgate_core.errors import ConnectorError
from llmgate_core.translate.chat_calls import Call, Calls

TEXTS = st.text('ab{}[]"\\', max_size=5)
OBJECTS = st.dictionaries(
    TEXTS,
    st.recursive(TEXTS | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=5),
)


@given(OBJECTS, st.lists(st.integers(0, 200)))
@example({"a": '\\"}'}, list(range(20)))
def test_a_call_is_complete_with_its_last_bracket(arguments: dict[str, Any], places: list[int]) -> None:
    text = json.dumps(arguments)
    cuts = sorted(place % (len(text) + 1) for place in places)
    pieces = [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]
    call, told = Call(), ""
    for piece in pieces:
        assert call.is_complete == (told == text)
        call.follow(piece)
        told += piece
    assert call.is_complete


def piece(arguments: str = "", name: str = "", **more: Any) -> dict[str, Any]:
    return {**more, "function": {"arguments": arguments, "name": name}}


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([piece(name="f", id="a", index=0), piece("{", index=0), piece("}", index=0)], [("f", "{}")]),
        (
            [piece(name="f", id="a", index=0), piece(name="g", id="b", index=1), piece("{}", index=0)],
            [("f", "{}"), ("g", "")],
        ),
        ([piece("{", "f", id="a"), piece("}", id="a")], [("f", "{}")]),
        ([piece("{", "f", id="a"), piece("[", "g", id="b"), piece("}", id="a")], [("f", "{}"), ("g", "[")]),
        ([piece("{", "f", id="a", index=0), piece("[", "g", id="b", index=0)], [("f", "{"), ("g", "[")]),
        ([piece("{", "f", id="a", index=0), piece("}", "f", id="a", index=1)], [("f", "{}")]),
        ([piece("{", "f"), piece("}")], [("f", "{}")]),
        ([piece("{", "f"), piece("}", "f")], [("f", "{}")]),
        ([piece("{}", "f", index=0), piece(" ", "f", index=0)], [("f", "{} ")]),
        ([piece("{}", "f"), piece("{}", "f")], [("f", "{}"), ("f", "{}")]),
        ([piece("{", id="a", index=0), piece("}", "f", index=0)], [("f", "{}")]),
    ],
)
def test_pieces_find_their_calls(pieces: list[dict[str, Any]], expected: list[tuple[str, str]]) -> None:
    calls, found = Calls(), dict[Call, str]()
    for one in pieces:
        call, text = calls.route(one)
        found[call] = found.get(call, "") + text
    calls.check()
    assert [(call.name, text) for call, text in found.items()] == expected


def test_a_call_needs_a_name_if_it_has_arguments() -> None:
    calls = Calls()
    calls.route(piece(id="a"))
    calls.check()
    calls.route(piece("{}", id="a"))
    with pytest.raises(ConnectorError, match="without a name"):
        calls.check()
