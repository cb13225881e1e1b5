"""What one model thinks, found in its stream however it is cut; what the other one is asked; one answer of both."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgate_core.errors import ConnectorError
from llmgate_core.hybrid import (
    MAX_REASONING,
    ReasoningReader,
    Told,
    execution_request,
    thinking_request,
    whole,
)
from llmgate_core.sse import Parser
from llmgate_core.wire import Body, encode

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def body(**members: Any) -> Body:
    return Body(json.dumps({**CHAT, **members}).encode())


def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def read(*chunks: dict[str, Any]) -> tuple[ReasoningReader, str]:
    """The reader after these chunks, and all that it has told."""
    reader = ReasoningReader()
    return reader, "".join(reader.feed(one) for one in chunks)


# --- the reasoning ----------------------------------------------------------------------------------------------------

TEXT = st.text(alphabet="ab <>/think学习\n", min_size=1, max_size=40)


@settings(max_examples=150, deadline=None)
@given(TEXT, st.sampled_from(["think", "thinking"]), st.text(max_size=9), st.lists(st.integers(1, 9)), st.booleans())
def test_reasoning_between_tags_is_found_however_it_is_cut(
    thought: str, tag: str, rest: str, sizes: list[int], closes: bool
) -> None:
    close = f"</{tag}>"
    thought = thought.replace(close, "")
    content = f"<{tag}>{thought}{close}{rest}" if closes else f"<{tag}>{thought}"
    pieces, at = [], 0
    for size in [*sizes, len(content)]:
        pieces.append(content[at : at + size])
        at += size
    reader, told = read(*(chunk(content=piece) for piece in pieces))
    if closes:
        assert (told, reader.complete) == (thought, True)
    else:
        assert thought.startswith(told)
        assert close.startswith(thought[len(told) :])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["reasoning_content", "reasoning"]), TEXT)), TEXT)
def test_reasoning_in_its_own_field_ends_at_the_first_word_of_the_answer(
    pieces: list[tuple[str, str]], answer: str
) -> None:
    reader, told = read(*(chunk(**{name: piece}) for name, piece in pieces))
    assert told == "".join(piece for _, piece in pieces)
    assert (reader.complete, reader.text) == (False, told.strip())
    assert reader.feed(chunk(content=f"x{answer}")) == ""
    assert reader.complete


@pytest.mark.parametrize(
    "last",
    [
        chunk(content="an answer"),
        chunk(finish="stop"),
        chunk(finish="length", content=""),
        chunk(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": ""}}]),
        chunk(reasoning_content="more", content="and an answer"),
    ],
)
def test_what_ends_the_reasoning(last: dict[str, Any]) -> None:
    reader, _ = read(chunk(role="assistant", content=""), chunk(reasoning_content="hm"), chunk(content=" \n"))
    before = reader.complete
    reader.feed(last)
    assert (before, reader.complete) == (False, True)
    assert reader.feed(chunk(reasoning_content="late")) == ""


def test_too_much_is_cut_off() -> None:
    reader, told = read(chunk(reasoning_content="x" * (MAX_REASONING - 1)), chunk(reasoning_content="yyy"))
    assert (len(told), told[-1], reader.complete) == (MAX_REASONING, "y", True)


# --- the requests -----------------------------------------------------------------------------------------------------


def test_the_first_model_is_asked_to_think_and_not_to_act() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    asked = thinking_request(body(tools=tools, tool_choice="required", n=2, temperature=0.5, stream=False)).data
    assert asked == {
        **CHAT,
        "tools": tools,
        "tool_choice": "none",
        "temperature": 0.5,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert "tool_choice" not in thinking_request(body(tool_choice="auto", tools=[])).data, "nothing to choose from"
    legacy = thinking_request(body(functions=[{"name": "f"}], function_call="auto")).data
    assert legacy["function_call"] == "none"


def test_what_is_demanded_of_the_answer_is_no_matter_of_the_first() -> None:
    given = body(max_tokens=5, stop=["x"], response_format={"type": "json_object"}, logprobs=True, store=True, seed=1)
    asked = thinking_request(given).data
    assert asked == {**CHAT, "seed": 1, "stream": True, "stream_options": {"include_usage": True}}


def test_efforts_are_asked_for_where_they_are_known() -> None:
    given = body(reasoning_effort="low", thinking={"type": "disabled"})
    assert thinking_request(given).data["reasoning_effort"] == "low"
    told = thinking_request(given, wants_effort=True).data
    assert (told["reasoning_effort"], "thinking" in told) == ("high", False)
    assert execution_request(given, "", can_rest=True).data == {**CHAT, "reasoning_effort": "none"}


USER = {"role": "user", "content": "hi"}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]}
RESULT = {"role": "tool", "tool_call_id": "a", "content": "result"}
PREFILL = {"role": "assistant", "content": "Well,"}


@pytest.mark.parametrize(
    ("messages", "place", "is_new"),
    [
        ([USER], 0, False),
        ([{"role": "user", "content": [{"type": "text", "text": "hi"}]}], 0, False),
        ([{"role": "system", "content": "s"}, USER, CALL, RESULT], 4, True),
        ([USER, CALL, RESULT, USER], 3, False),
        ([USER, PREFILL], 0, False),
        ([{"role": "system", "content": "s"}], 1, True),
        ([{"role": "system", "content": "s"}, PREFILL], 1, True),
        ([{"role": "user", "content": None}], 0, False),
        ([PREFILL], 0, True),
    ],
)
def test_the_reasoning_stands_behind_all_that_the_user_says(
    messages: list[dict[str, Any]], place: int, is_new: bool
) -> None:
    told = execution_request(body(messages=messages), "THOUGHT").data["messages"]
    assert len(told) == len(messages) + is_new
    assert "THOUGHT" in json.dumps(told[place])
    assert told[place]["role"] == "user"
    others = [one for at, one in enumerate(told) if at != place]
    assert others == [one for at, one in enumerate(messages) if is_new or at != place]


def test_how_much_the_caller_wants_to_be_thought_is_no_matter_of_the_second() -> None:
    given = body(reasoning_effort="high", thinking={"type": "enabled"}, enable_thinking=True, thinking_budget=9, seed=1)
    assert execution_request(given, "").data == {**CHAT, "seed": 1}


# --- the answer -------------------------------------------------------------------------------------------------------

USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 2}}
SUM = {"prompt_tokens": 2, "completion_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 4}}


def test_a_stream_is_one_answer() -> None:
    told = Told("ours", 7, "worker")
    first, second = (json.loads(event.data) for event in Parser().feed(told.reasoning("a") + told.reasoning("b")))
    assert first["choices"][0]["delta"] == {"role": "assistant", "reasoning_content": "a"}
    assert second["choices"][0]["delta"] == {"reasoning_content": "b"}
    told.thought = USAGE
    said = [
        told.event(Body(encode({"id": "theirs", **one})), "").data
        for one in (chunk(role="assistant", content="c"), chunk(finish="stop"), {"choices": [], "usage": USAGE})
    ]
    assert {(one["id"], one["created"], one["model"]) for one in (first, second, *said)} == {("ours", 7, "worker")}
    assert told.has_answered
    assert said[0]["choices"][0]["delta"] == {"content": "c"}
    assert said[1]["llmgate"] == {"hybrid": "used"}
    assert said[2]["usage"] == SUM
    assert said[2]["llmgate"]["usage_of"] == {"reasoning": USAGE, "execution": USAGE}


def test_what_is_no_chunk_passes() -> None:
    told, odd = Told("ours", 7, "worker"), Body(b'{"error":{"message":"broken"}}')
    with pytest.raises(ConnectorError, match="broken"):
        told.event(odd, "")
    told.event(Body(encode(chunk(content="a word"))), "")
    assert told.event(odd, "") is odd


def test_a_plain_answer_has_the_reasoning_of_both() -> None:
    reader, _ = read(chunk(reasoning_content=" first "))
    choices = [{"index": 0, "message": {"role": "assistant", "content": "c", "reasoning_content": "own"}}]
    told = json.loads(whole(encode({"choices": choices, "usage": USAGE}), reader, "used"))
    assert told["choices"][0]["message"]["reasoning_content"] == "first\n\nown"
    assert told["usage"] == USAGE, "the first model was cut off before it told its usage"
    assert told["llmgate"]["usage_of"]["reasoning"] is None
