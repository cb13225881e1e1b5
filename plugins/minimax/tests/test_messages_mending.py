"""Over Messages, reasoning reaches the client in thinking blocks, once, in whatever shape it comes and is cut."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
from collections.abc import AsyncGenerator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgate_core import Body, ConnectorError, Credential, Instance, UpstreamCall
from llmgate_core.sse import Parser
from llmgate_minimax import MiniMax, MiniMaxSettings
from llmgate_minimax.asking import asked_in_messages
from llmgate_minimax.simulator import MESSAGES_SHAPES, THOUGHT, Answer
from llmgate_minimax.simulator.messages import events, message
from llmgate_minimax.simulator.said import signature_of

CALL = {"id": "call_function_1_1", "type": "function", "function": {"name": "f", "arguments": '{"city": "杭州"}'}}
TEXTS = st.text(min_size=1, max_size=60)
CUTS = st.lists(st.integers(0, 20_000), max_size=30)


def answer(shape: str, text: str = "你好！", piece: int = 12, calls: Any = ()) -> Answer:
    thought = "" if shape == "none" else THOUGHT
    return Answer("1", "MiniMax-M2.7", shape, "", thought, text, [*calls], piece)


def mended(data: bytes, cuts: list[int] | None = None, *, stream: bool = True) -> bytes:
    """What the connector makes of an upstream's bytes, cut at these places."""
    http: Any = None
    instance = Instance(
        "minimax.t", MiniMaxSettings(), http, lambda: 0.0, random.Random(1), {}, Path("/"), logging.getLogger("t")
    )
    call = UpstreamCall("generate", "anthropic.messages", "m", stream, Body(b"{}"), Credential({}), {}, "req_1")
    places = [0, *sorted(min(cut, len(data)) for cut in cuts or []), len(data)]

    async def pieces() -> AsyncGenerator[bytes, None]:
        for start, end in pairwise(places):
            yield data[start:end]

    async def read() -> bytes:
        return b"".join([chunk async for chunk in MiniMax(instance).events(call, pieces())])

    return asyncio.run(read())


def told(data: bytes) -> list[dict[str, Any]]:
    """The content that a strict client puts together; each event must be where Anthropic's reference has it."""
    parser = Parser()
    content: list[dict[str, Any]] = []
    is_open, names = False, []
    for event in parser.feed(data):
        value = json.loads(event.data)
        assert value["type"] == event.event
        assert "reasoning_content" not in event.data.decode()
        names.append(event.event)
        if event.event == "content_block_start":
            assert (is_open, value["index"]) == (False, len(content))
            content.append(dict(value["content_block"]))
            is_open = True
        elif event.event == "content_block_delta":
            assert (is_open, value["index"]) == (True, len(content) - 1)
            _add(content[-1], value["delta"])
        elif event.event == "content_block_stop":
            assert (is_open, value["index"]) == (True, len(content) - 1)
            is_open = False
    assert (names[0], names[-2:], is_open) == ("message_start", ["message_delta", "message_stop"], False)
    assert parser.rest == b""
    return content


def _add(block: dict[str, Any], delta: dict[str, Any]) -> None:
    sort = delta["type"]
    if sort == "input_json_delta":
        block["json"] = block.get("json", "") + delta["partial_json"]
        return
    name = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}[sort]
    block[name] += delta[name]


def stream_of(said: Answer) -> bytes:
    return b"".join(events(said))


# --- streams --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", MESSAGES_SHAPES)
@settings(max_examples=40, deadline=None)
@given(text=TEXTS, piece=st.integers(1, 50), cuts=CUTS, called=st.booleans())
def test_any_shape_cut_anywhere_is_told_alike(shape: str, text: str, piece: int, cuts: list[int], called: bool) -> None:
    out = mended(stream_of(answer(shape, text, piece, [CALL] * called)), cuts)
    thinking, *rest = told(out) if shape != "none" else [{}, *told(out)]
    if shape != "none":
        signed = not shape.startswith("leaked") or shape in ("leaked_twice", "leaked_ahead")
        signature = signature_of(THOUGHT) if signed else ""
        assert thinking == {"type": "thinking", "thinking": THOUGHT, "signature": signature}
    assert rest[0] == {"type": "text", "text": text}
    called_with = {"type": "tool_use", "id": CALL["id"], "name": "f", "input": {}, "json": '{"city": "杭州"}'}
    assert rest[1:] == [called_with] * called
    assert b'"usage":null' not in out.replace(b" ", b"")


@settings(max_examples=40, deadline=None)
@given(cuts=CUTS, piece=st.integers(1, 50), shape=st.sampled_from(["documented", "none"]))
def test_what_needs_no_mending_keeps_its_bytes(cuts: list[int], piece: int, shape: str) -> None:
    plain = stream_of(answer(shape, "1 < 2 </think> 你好", piece, [CALL]))
    assert mended(plain, cuts) == plain


def test_reasoning_in_the_middle_of_a_text_follows_it() -> None:
    said = stream_of(answer("documented", "abc")).split(b"\n\n")
    at = next(place for place, one in enumerate(said) if b"text_delta" in one) + 1
    leak = b'data: {"delta":{"reasoning_content":"late"}}'
    content = told(mended(b"\n\n".join([*said[:at], leak, *said[at:]])))
    assert [block.get("text") or block["thinking"] for block in content] == [THOUGHT, "abc", "late"]


def test_what_was_held_of_a_leak_stays_in_its_block() -> None:
    unsigned = b"\n\n".join(
        one for one in stream_of(answer("documented", "abc")).split(b"\n\n") if b"signature_delta" not in one
    )
    stop = b'event: content_block_stop\ndata: {"type": "content_block_stop", "index": 0}'
    leak = b'data: {"choices":[{"delta":{"reasoning_content":"%b <"}}]}\n\n' % THOUGHT.encode()
    assert [block.get("thinking") for block in told(mended(unsigned.replace(stop, leak + stop)))] == [
        f"{THOUGHT} <",
        None,
    ]


def test_an_event_that_says_more_than_reasoning_goes_on_without_it() -> None:
    data = stream_of(answer("none", "abc")).replace(b'"text": "abc"}}', b'"text": "abc", "reasoning_content": "why"}}')
    content = told(mended(data))
    assert [block["type"] for block in content] == ["thinking", "text"]
    assert (content[0]["thinking"], content[1]["text"]) == ("why", "abc")


def test_a_failure_inside_the_stream_is_one() -> None:
    data = stream_of(answer("documented")) + b'data: {"choices":[],"base_resp":{"status_code":2056}}\n\n'
    with pytest.raises(ConnectorError, match="2056") as caught:
        mended(data)
    assert caught.value.kind == "quota"
    error = b'event: error\ndata: {"type":"error","error":{"type":"rate_limit_error","message":"slow (1002)"}}\n\n'
    with pytest.raises(ConnectorError, match="slow"):
        mended(error)


NAMES = st.sampled_from(
    ["type", "index", "delta", "content_block", "message", "usage", "choices", "reasoning_content", "text", "thinking"]
)
WORDS = st.sampled_from(
    ["content_block_start", "content_block_delta", "content_block_stop", "message_delta", "thinking", "text", "", "a"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=12,
)
EVENTS = st.fixed_dictionaries(
    {"type": WORDS}, optional={"index": JSON, "delta": JSON, "content_block": JSON, "choices": JSON, "usage": JSON}
)


@settings(max_examples=150, deadline=None)
@given(said=st.lists(EVENTS | JSON, max_size=5), stream=st.booleans())
def test_no_json_is_a_mistake_of_ours(said: list[Any], stream: bool) -> None:
    texts = [json.dumps(one).encode() for one in said]
    with contextlib.suppress(ConnectorError):
        mended(b"".join(b"data: %b\n\n" % text for text in texts) if stream else b"".join(texts), stream=stream)


# --- plain answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", MESSAGES_SHAPES)
def test_a_plain_answer_of_any_shape(shape: str) -> None:
    data = json.dumps(message(answer(shape, calls=[CALL]))).encode()
    found = json.loads(mended(data, stream=False))
    assert "reasoning_content" not in found
    assert isinstance(found["usage"]["output_tokens"], int)
    thoughts = [block["thinking"] for block in found["content"] if block["type"] == "thinking"]
    assert thoughts == ([] if shape == "none" else [THOUGHT])
    assert [block["type"] for block in found["content"]][len(thoughts) :] == ["text", "tool_use"]
    if shape == "documented":
        assert mended(data, stream=False) == data


# --- requests -------------------------------------------------------------------------------------------------------


def request(**members: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(asked_in_messages(Body.parse(json.dumps(members).encode())).bytes)
    return body


@pytest.mark.parametrize(
    ("sent", "wanted"),
    [
        ({}, None),
        ({"thinking": {"type": "adaptive"}}, {"type": "adaptive"}),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}, {"type": "disabled"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, {"type": "adaptive"}),
        ({"output_config": {"effort": "low"}}, {"type": "adaptive"}),
        ({"output_config": {"format": {}}}, None),
    ],
)
def test_thinking_is_switched_in_words_that_minimax_knows(sent: dict[str, Any], wanted: Any) -> None:
    assert request(**sent).get("thinking") == wanted


def test_a_tool_without_a_schema_gets_an_empty_one_and_no_other_does() -> None:
    own = {"type": "web_search_20250305", "name": "web_search"}
    full = {"name": "g", "input_schema": {"type": "object"}}
    tools = request(tools=[{"name": "f"}, own, full])["tools"]
    assert tools == [{"name": "f", "input_schema": {"type": "object", "properties": {}}}, own, full]


def test_what_the_system_says_between_the_others_is_a_reminder() -> None:
    said = [{"role": "system", "content": "a"}, {"role": "system", "content": [{"type": "text", "text": "b"}, 1]}]
    first, second = request(messages=said)["messages"]
    assert first == {"role": "user", "content": "<system-reminder>\na\n</system-reminder>"}
    assert second["role"] == "user"
    assert second["content"] == [{"type": "text", "text": "<system-reminder>\nb\n</system-reminder>"}, 1]


def test_a_request_that_needs_nothing_keeps_its_bytes() -> None:
    thinking = '{"type":"thinking","thinking":"想","signature":"0a"}'
    data = f'{{"max_tokens": 1e1, "messages": [{{"role":"assistant","content":[{thinking}]}}], "x":1.00}}'.encode()
    assert asked_in_messages(Body.parse(data)).bytes == data
