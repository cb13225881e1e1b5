"""Reasoning reaches the client once, in one field, whatever shape it arrives in and wherever its bytes are cut."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmgate_core import Body, ConnectorError
from llmgate_core.mending import mended as mended_by_core
from llmgate_minimax.asking import asked_in_chat as asked
from llmgate_minimax.mending import Answer as Mending
from llmgate_minimax.reasoning import Pieces
from llmgate_minimax.simulator import SHAPES, THOUGHT, Answer, reply, stream

CALL = {"id": "call_function_1_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
DETAILS = [
    {
        "type": "reasoning.text",
        "id": "reasoning-text-1",
        "format": "MiniMax-response-v1",
        "index": 0,
        "text": "想",
    }
]
TEXTS = st.text(min_size=1, max_size=60).filter(lambda text: not text[0].isspace() and not text.startswith("<"))


def answer(shape: str, text: str = "你好！", piece: int = 12, **members: Any) -> Answer:
    given: dict[str, Any] = {"role": "assistant", "thought": THOUGHT, "calls": [], **members}
    return Answer(id="1", model="MiniMax-M3", shape=shape, text=text, piece=piece, **given)


def mended(data: bytes, cuts: list[int] | None = None, *, split: bool = True, stream: bool = True) -> bytes:
    places = [0, *sorted(min(cut, len(data)) for cut in cuts or []), len(data)]

    async def pieces() -> AsyncGenerator[bytes, None]:
        for start, end in pairwise(places):
            yield data[start:end]

    async def read() -> bytes:
        out = mended_by_core(pieces(), Mending(split, now=0.0), stream=stream)
        return b"".join([chunk async for chunk in out])

    return asyncio.run(read())


def deltas(data: bytes) -> list[dict[str, Any]]:
    *events, done, rest = data.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    choices = [choice for event in events for choice in json.loads(event.removeprefix("data: "))["choices"]]
    return [choice["delta"] for choice in choices]


def told(data: bytes) -> tuple[str, str]:
    """Reasoning and text, as a client joins them that knows `reasoning_content` and nothing else."""
    found = deltas(data)
    assert not [delta for delta in found if delta.keys() & {"reasoning", "reasoning_details"}]
    joined = ["".join(delta.get(name) or "" for delta in found) for name in ("reasoning_content", "content")]
    return joined[0], joined[1]


def sse(*found: dict[str, Any], finish: str | None = "stop") -> bytes:
    events = [{"id": "1", "choices": [{"index": 0, "delta": delta}]} for delta in found]
    if finish:
        events.append({"id": "1", "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    return b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events) + b"data: [DONE]\n\n"


def pieces(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


# --- streams --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["split", *SHAPES[1:]])
@settings(max_examples=60, deadline=None)
@given(text=TEXTS, piece=st.integers(1, 50), cuts=st.lists(st.integers(0, 20_000), max_size=30), called=st.booleans())
def test_any_shape_cut_anywhere_is_told_alike(shape: str, text: str, piece: int, cuts: list[int], called: bool) -> None:
    calls = [CALL] if called else []
    data = b"".join(stream(answer(shape, text, piece, calls=calls, role=""), include_usage=True))
    out = mended(data, cuts)
    assert told(out) == ("" if shape == "none" else THOUGHT, text)
    assert [delta["tool_calls"] for delta in deltas(out) if "tool_calls" in delta] == [[{"index": 0, **CALL}]] * called
    assert not [delta for delta in deltas(out) if delta.get("role") == ""]
    assert b'"prompt_tokens": 9' in out


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, 20_000), max_size=30), piece=st.integers(1, 50))
def test_what_needs_no_mending_keeps_its_bytes(cuts: list[int], piece: int) -> None:
    plain = sse(
        {"role": "assistant", "content": ""}, *({"content": part} for part in pieces("1 < 2\n\n<b> 你好", piece))
    )
    assert mended(plain, cuts) == plain
    thinking = sse({"role": "assistant", "content": ""}, {"reasoning_content": "\n a"}, {"reasoning_content": "b "})
    assert mended(thinking, cuts) == thinking


@pytest.mark.parametrize(
    "data",
    [b": comment\n\n", b"event: ping\ndata: 1e400\n\n", b"data: [1]\r\n\r\n", b"data: {half", b'{"detail": 1}', b"\n"],
)
def test_what_is_no_event_of_this_api_passes(data: bytes) -> None:
    assert mended(data) == data


def test_line_ends_of_windows() -> None:
    data = sse({"reasoning": "想", "role": ""}).replace(b"\n", b"\r\n")
    assert told(mended(data, list(range(len(data)))).replace(b"\r\n", b"\n")) == ("想", "")


def test_a_role_is_told_once() -> None:
    """The SDK of OpenAI joins whatever comes twice."""
    found = sse({"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": ""})
    assert deltas(mended(found)) == [{"role": "assistant", "content": "a"}, {"content": "b"}, {}, {}]


def test_numbers_beside_the_choices_keep_their_spelling() -> None:
    data = b'data: {"x":1.00, "choices":[{"index":0,"delta":{"role":""}}]}\n\n'
    assert mended(data) == b'data: {"x":1.00, "choices":[{"index":0,"delta":{}}]}\n\n'


def test_fields_that_take_turns_with_new_text_lose_nothing() -> None:
    assert (
        told(mended(sse({"reasoning_content": "一"}, {"reasoning": "二"}, {"reasoning_content": "三"})))[0] == "一二三"
    )


def test_a_copy_may_lag_behind_or_run_ahead() -> None:
    found = sse({"reasoning_content": "ab"}, {"reasoning": "a"}, {"reasoning": "bcd"}, {"reasoning_content": "cd"})
    assert told(mended(found))[0] == "abcd"


def test_a_closing_tag_that_is_not_the_end_is_text() -> None:
    found = sse({"reasoning_content": "the tag </thi"}, {"reasoning_content": "nk> ends"}, {"reasoning_content": " it"})
    assert told(mended(found))[0] == "the tag </think> ends it"


def test_reasoning_that_was_held_back_comes_before_the_text() -> None:
    found = deltas(mended(sse({"reasoning_content": "1 <"}, {"content": "x"}, {"content": "y"})))
    assert found == [{"reasoning_content": "1 "}, {"content": "x", "reasoning_content": "<"}, {"content": "y"}, {}]


@pytest.mark.parametrize(
    ("contents", "wanted"),
    [
        (["<", "b> bold"], ("", "<b> bold")),
        (["<thi"], ("", "<thi")),
        (["<think>never closed </thi"], ("never closed </thi", "")),
        (["<think>", "</think>", "x <think>y</think>"], ("", "x <think>y</think>")),
        (["a </th"], ("", "a </th")),
    ],
)
@pytest.mark.parametrize("finish", ["length", None])
def test_tags_that_are_none(contents: list[str], wanted: tuple[str, str], finish: str | None) -> None:
    assert told(mended(sse(*({"content": content} for content in contents), finish=finish))) == wanted


def test_inline_leaves_the_tag_and_drops_the_copy() -> None:
    data = b"".join(stream(answer("doubled"), include_usage=False))
    assert told(mended(data, split=False)) == ("", f"<think>{THOUGHT}</think>\n\n你好！")


def test_every_choice_is_mended_by_itself() -> None:
    choices = [{"index": index, "delta": {"reasoning": f"r{index}"}} for index in (0, 1)]
    data = b"data: " + json.dumps({"choices": choices}).encode() + b"\n\ndata: [DONE]\n\n"
    assert [delta["reasoning_content"] for delta in deltas(mended(data))] == ["r0", "r1"]


LONG = "0123456789abcdef"


@pytest.mark.parametrize(
    ("values", "new"),
    [
        ([LONG, f"{LONG}g", f"{LONG}g", f"{LONG}gh"], [LONG, "g", "", "h", ""]),
        (["", "01234567", "", "0123456789", "01234567890"], ["", "01234567", "", "", "890", ""]),
        (["ab", "abc", "abcd", "x"], ["ab", "", "", "abcabcdx", ""]),
        (["ab", "abc", "abc"], ["ab", "", "", "abcabc"]),
        (["ab", "c", "abc"], ["ab", "c", "abc", ""]),
        ([LONG[:10], LONG[10:], f"{LONG}g"], [LONG[:10], LONG[10:], f"{LONG}g", ""]),
        (["哈", "哈", "哈哈"], ["哈", "哈", "哈哈", ""]),
    ],
)
def test_snapshots_are_told_from_increments(values: list[str], new: list[str]) -> None:
    pieces = Pieces()
    assert [*map(pieces.add, values), pieces.settle()] == new


SHORT = st.lists(st.text("哈a", min_size=1, max_size=3), min_size=1, max_size=6)
"""Pieces of which fewer than 16 characters can come again, in whatever way they resemble each other."""


@given(
    thoughts=SHORT,
    contents=SHORT,
    fields=st.lists(
        st.sampled_from(["reasoning_content", "reasoning", "reasoning_details"]), min_size=1, max_size=3, unique=True
    ),
)
@example(thoughts=["a", "aa"], contents=["哈", "哈哈"], fields=["reasoning_content"])
@example(thoughts=["a", "aa", "aa"], contents=["a", "aa", "aaa", "哈"], fields=["reasoning", "reasoning_details"])
def test_short_pieces_that_resemble_snapshots_lose_nothing(
    thoughts: list[str], contents: list[str], fields: list[str]
) -> None:
    def thought(text: str) -> dict[str, Any]:
        details = [{"type": "reasoning.text", "text": text}]
        return {field: details if field == "reasoning_details" else text for field in fields}

    found = [*map(thought, thoughts), *({"content": content} for content in contents)]
    assert told(mended(sse(*found))) == ("".join(thoughts), "".join(contents))
    assert told(mended(sse(*found, finish=None))) == ("".join(thoughts), "".join(contents))


@given(text=st.text("哈ab", min_size=1, max_size=40), piece=st.integers(1, 20), copies=st.integers(1, 2))
def test_snapshots_are_told_once_as_soon_as_enough_has_come_again(text: str, piece: int, copies: int) -> None:
    whole = f"{LONG}{text}"
    ends = range(len(LONG), len(whole) + piece, piece)
    found = [{"reasoning_content": whole[:end]} for end in ends for _ in range(copies if end > len(LONG) else 1)]
    found += [{"content": whole[:end]} for end in ends]
    assert told(mended(sse(*found))) == (whole, whole)


def test_what_is_held_comes_before_a_tool_call() -> None:
    held = [{"reasoning_content": "a"}, {"reasoning_content": "aa"}, {"content": "b"}, {"content": "bb"}]
    *_, called, end = deltas(mended(sse(*held, {"tool_calls": [{"index": 0, **CALL}]})))
    assert (called, end) == ({"content": "bb", "tool_calls": [{"index": 0, **CALL}]}, {})
    *_, called, end = deltas(mended(sse(*held[:2], {"tool_calls": [{"index": 0, **CALL}]})))
    assert (called, end) == ({"reasoning_content": "aa", "tool_calls": [{"index": 0, **CALL}]}, {})


def test_text_comes_in_snapshots_where_reasoning_did_or_much_of_it_comes_again() -> None:
    thoughts = [{"reasoning_content": THOUGHT[:16]}, {"reasoning_content": THOUGHT[:24]}]
    assert told(mended(sse(*thoughts, {"content": "a"}, {"content": "ab"}))) == (THOUGHT[:24], "ab")
    assert told(mended(sse({"content": LONG}, {"content": f"{LONG}g"})))[1] == f"{LONG}g"


NUMBERS = st.integers(-(10**400), 10**400) | st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 3000)
WORDS = st.sampled_from(
    ["", "a", "aa", "<think>", "</think>", "assistant", "x (2013)", "resets at 0001-01-01T00:00+14:00"]
)
NAMES = st.sampled_from(
    ["index", "delta", "message", "content", "reasoning", "reasoning_content", "reasoning_details", "text", "role",
     "tool_calls", "finish_reason", "error", "status_code", "status_msg"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=12,
)
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "choices": JSON | st.lists(st.dictionaries(NAMES, JSON, max_size=5), max_size=3),
        "base_resp": JSON,
        "error": JSON,
    },
)


@settings(max_examples=200, deadline=None)
@given(events=st.lists(EVENTS | JSON, max_size=4), stream=st.booleans())
def test_no_json_is_a_mistake_of_ours(events: list[Any], stream: bool) -> None:
    texts = [json.dumps(event).encode() for event in events]
    data = b"".join(b"data: %b\n\n" % text for text in texts) + b"data: [DONE]\n\n" if stream else b"".join(texts)
    with contextlib.suppress(ConnectorError):
        mended(data, stream=stream)


@pytest.mark.parametrize("index", ["[]", "{}", "[[0]]", "1e999", "1" * 400, "null", '"0"', "0.5"])
def test_a_choice_with_any_index_is_mended(index: str) -> None:
    data = b'data: {"choices":[{"index":%b,"delta":{"role":"","content":"a"}}]}\n\n' % index.encode()
    assert mended(data) == (data if index == "1e999" else data.replace(b'"role":"",', b""))


def test_details_in_details_in_details_are_no_text() -> None:
    deep = '[{"text":' * 400 + '"a"' + "}]" * 400
    data = b'data: {"choices":[{"index":0,"delta":{"reasoning_details":%b,"content":"x"}}]}\n\n' % deep.encode()
    assert told(mended(data + b"data: [DONE]\n\n")) == ("", "x")


# --- old models -----------------------------------------------------------------------------------------------------


def closed(*found: dict[str, Any], message: dict[str, Any]) -> bytes:
    """A stream with the whole message in its last chunk."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    last = b"data: " + json.dumps({"object": "chat.completion", "choices": [choice]}).encode()
    return sse(*found, finish=None).replace(b"data: [DONE]", last + b"\n\ndata: [DONE]")


@pytest.mark.parametrize(
    "found", [[], [{"content": "ab"}], [{"content": "abc"}], [{"content": "a"}, {"content": "ab"}]]
)
def test_a_whole_message_at_the_end_adds_only_what_is_new(found: list[dict[str, Any]]) -> None:
    thoughts = [{"reasoning_content": "想"}] if found else []
    out = mended(closed(*thoughts, *found, message={"content": "abc", "reasoning_content": "想"}))
    assert told(out) == ("想", "abc")
    assert b'"message"' not in out
    assert b'"chat.completion.chunk"' in out


def test_a_whole_message_that_is_another_text_adds_nothing() -> None:
    assert told(mended(closed({"content": "ab"}, message={"content": "xy"}))) == ("", "ab")


def test_a_whole_message_tells_no_call_twice() -> None:
    other = {**CALL, "id": "call_function_1_2"}
    found = deltas(
        mended(closed({"tool_calls": [CALL]}, {"tool_calls": [other]}, message={"tool_calls": [CALL, other]}))
    )
    assert [delta.get("tool_calls") for delta in found] == [[{"index": 0, **CALL}], [{"index": 1, **other}], None]


def test_the_rest_of_a_call_belongs_to_the_last() -> None:
    rest = {"function": {"arguments": "}"}}
    found = deltas(mended(sse({"tool_calls": [CALL, {**CALL, "id": "2"}]}, {"tool_calls": [rest]})))
    assert [[call["index"] for call in delta.get("tool_calls", [])] for delta in found] == [[0, 1], [1], []]


def test_usage_without_numbers_is_left_out() -> None:
    data = b'data: {"choices":[],"usage":%b}\n\n'
    for usage in (b"null", b'{"total_tokens":0,"total_characters":0}'):
        assert mended(data % usage) == b'data: {"choices":[]}\n\n'
    for usage in (b'{"prompt_tokens":0}', b'{"total_tokens":7}'):
        assert mended(data % usage) == data % usage


# --- plain answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["split", *SHAPES[1:]])
@settings(max_examples=20, deadline=None)
@given(text=TEXTS)
def test_a_plain_answer_of_any_shape(shape: str, text: str) -> None:
    data = json.dumps(reply(answer(shape, text, role="", calls=[CALL]))).encode()
    message = json.loads(mended(data, stream=False))["choices"][0]["message"]
    thought = {} if shape == "none" else {"reasoning_content": THOUGHT}
    assert message == {
        "role": "assistant",
        "name": "MiniMax AI",
        "content": text,
        "tool_calls": [CALL],
        **thought,
    }


@pytest.mark.parametrize("data", [b"", b"<html>", b"[]", b'{"choices": null}', b'{"choices": [1, {"message": 2}]}'])
def test_a_plain_answer_that_is_none_is_left_to_core(data: bytes) -> None:
    assert mended(data, stream=False) == data


# --- requests -------------------------------------------------------------------------------------------------------


def request(split: bool = True, **members: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(asked(Body.parse(json.dumps(members).encode()), split).bytes)
    return body


@pytest.mark.parametrize(
    ("sent", "wanted"),
    [
        ({"reasoning_content": "想", "content": "x"}, {"content": "x", "reasoning_details": DETAILS}),
        ({"reasoning": "想", "content": None}, {"content": None, "reasoning_details": DETAILS}),
        ({"content": "<think>\n想\n</think>\n\nx"}, {"content": "x", "reasoning_details": DETAILS}),
        ({"content": "<think>想</think>x", "reasoning_content": "想"}, {"content": "x", "reasoning_details": DETAILS}),
        ({"reasoning_content": "y", "reasoning_details": DETAILS}, {"reasoning_details": DETAILS}),
        ({"content": "<think>not closed"}, {"content": "<think>not closed"}),
        ({"content": "I think so"}, {"content": "I think so"}),
        ({"reasoning_content": None, "content": "x"}, {"reasoning_content": None, "content": "x"}),
    ],
)
def test_reasoning_goes_back_as_the_upstream_wants_it(sent: dict[str, Any], wanted: dict[str, Any]) -> None:
    turn = {"role": "assistant", "tool_calls": [CALL]}
    assert request(messages=[{**turn, **sent}])["messages"] == [{**turn, **wanted}]


def test_a_user_may_write_what_he_likes() -> None:
    messages = [{"role": "user", "content": "<think>a</think>", "reasoning_content": "b"}, "nonsense"]
    assert request(messages=messages)["messages"] == messages


def test_inline_sends_the_tag_back_as_it_is() -> None:
    messages = [{"role": "assistant", "content": "<think>a</think>b"}]
    assert request(split=False, messages=messages) == {"messages": messages}


def test_split_is_asked_for_unless_the_caller_has_said() -> None:
    assert request(messages=[])["reasoning_split"] is True
    assert request(messages=[], reasoning_split=False)["reasoning_split"] is False


@pytest.mark.parametrize("given", [{}, {"parameters": None}, {"parameters": {}}])
def test_tools_without_parameters_get_an_empty_schema(given: dict[str, Any]) -> None:
    tool = {"type": "function", "function": {"name": "f", **given}}
    function = request(tools=[tool])["tools"][0]["function"]
    assert function == {"name": "f", "parameters": {"type": "object", "properties": {}}}


@pytest.mark.parametrize(
    ("sent", "wanted"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, "adaptive"),
        ({"thinking": {"type": "disabled"}}, "disabled"),
        ({"thinking": {"type": "disabled"}, "reasoning_effort": "low"}, "adaptive"),
        ({"reasoning_effort": "none"}, "disabled"),
        ({"reasoning_effort": "high", "thinking_budget": 0}, "disabled"),
        ({"thinking_budget": 100}, "adaptive"),
    ],
)
def test_thinking_is_switched_in_words_that_minimax_knows(sent: dict[str, Any], wanted: str) -> None:
    found = request(**sent)
    assert found["thinking"] == {"type": wanted}
    assert not found.keys() & {"reasoning_effort", "thinking_budget"}
    assert "thinking" not in request()


def test_every_turn_of_a_conversation_with_tools_keeps_its_reasoning() -> None:
    turns = [{"role": "assistant", "content": "", "reasoning_content": text, "tool_calls": [CALL]} for text in "想思"]
    result = {"role": "tool", "tool_call_id": CALL["id"], "content": "1"}
    first, _, second, _ = request(messages=[turns[0], result, turns[1], result])["messages"]
    assert [first["reasoning_details"][0]["text"], second["reasoning_details"][0]["text"]] == ["想", "思"]
    assert (first["tool_calls"], first["content"]) == ([CALL], "")


def test_a_request_that_needs_nothing_keeps_its_bytes() -> None:
    data = b'{"reasoning_split": true, "temperature": 1e0, "messages": [{"role":"user","content":"think 1.00"}]}'
    assert asked(Body.parse(data), True).bytes == data


def test_a_number_that_no_float_holds_is_the_upstreams_to_judge() -> None:
    data = b'{"reasoning_split":true,"messages":[{"role":"assistant","reasoning":"a","x":1e999}],"tools":[1e999]}'
    assert asked(Body.parse(data), True).bytes == data
