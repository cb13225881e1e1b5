"""Messages, said in chat, said in Messages again: what both can say comes back, of requests, answers and streams."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgate_core.errors import ConnectorError
from llmgate_core.sse import Event, Parser
from llmgate_core.translate import chat_over_messages, messages_over_chat
from llmgate_core.translate.messages_over_chat import SIGNATURE
from llmgate_core.translate.relayed import Relayed
from llmgate_core.wire import Body, encode

Members = Mapping[str, Any]

TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).map(lambda text: f"{text}x")
"""Never blank, and no white space at the end: Messages refuses such."""

NAMES = ("get_weather", "edit", "mcp__files__read")
ARGUMENTS = st.dictionaries(st.text(max_size=4), st.text(max_size=4) | st.integers(-(2**53), 2**53), max_size=3)

# --- the normal form --------------------------------------------------------------------------------------------------


def normal(request: Members) -> dict[str, Any]:
    """A Messages request in the one form that all requests share which say the same.

    - A content that is a string is one block of text, also in a tool's result; an empty result is none.
    - Texts of the assistant's are one, joined by nothing, or by a blank line where a call stood between them; so are
      texts of the system by a blank line, and those in a tool's result by a line break.
    - Messages of one role that follow each other are one.
    - In an answer text comes before calls; the results of a user's message come first, in the order of the calls.
    - Unsigned thinking is left out: no chat request takes it to Messages, which would refuse it (and
      `messages.reasoning` tells so).
    - `tool_choice` `auto` is no choice, without tools there is none, and `disable_parallel_tool_use` counts where true.
    - A tool has no `type`, and its schema one: `object`.
    """
    told: dict[str, Any] = {name: value for name, value in request.items() if value is not False}
    if "system" in told:
        told["system"] = "\n\n".join(block["text"] for block in blocks_of(told["system"]))
    told["messages"] = turns_of(told["messages"])
    told["tools"] = [tool_of(tool) for tool in told.get("tools", [])]
    told["tool_choice"] = choice_of(told) if told["tools"] else None
    return told


def blocks_of(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def turns_of(messages: Iterable[Members]) -> list[dict[str, Any]]:
    joined: list[dict[str, Any]] = []
    for message in messages:
        blocks = [block for block in blocks_of(message["content"]) if block["type"] != "thinking"]
        if joined and joined[-1]["role"] == message["role"]:
            joined[-1]["content"] += blocks
        elif blocks:
            joined.append({"role": message["role"], "content": blocks})
    calls: list[str] = []
    for turn in joined:
        ordered = answer_of if turn["role"] == "assistant" else results_first(calls)
        turn["content"] = ordered(turn["content"])
        calls = [block["id"] for block in turn["content"] if block["type"] == "tool_use"]
    return joined


def answer_of(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    text, calls, after_call = "", [], False
    for block in blocks:
        if block["type"] == "tool_use":
            calls.append(block)
            after_call = True
        else:
            text += ("\n\n" if text and after_call else "") + block["text"]
            after_call = False
    return [*([{"type": "text", "text": text}] if text else []), *calls]


def results_first(calls: list[str]) -> Any:
    def ordered(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
        results = [result_of(block) for block in blocks if block["type"] == "tool_result"]
        results.sort(key=lambda result: calls.index(result["tool_use_id"]))
        return [*results, *(block for block in blocks if block["type"] != "tool_result")]

    return ordered


def result_of(block: Members) -> dict[str, Any]:
    text = "\n".join(part["text"] for part in blocks_of(block.get("content", [])))
    return {"type": "tool_result", "tool_use_id": block["tool_use_id"], "content": text}


def tool_of(tool: Members) -> dict[str, Any]:
    schema = {"type": "object", **tool["input_schema"]}
    return {**{name: value for name, value in tool.items() if name != "type"}, "input_schema": schema}


def choice_of(request: Members) -> dict[str, Any] | None:
    said = request.get("tool_choice") or {"type": "auto"}
    choice = {name: value for name, value in said.items() if value is not False}
    return None if choice == {"type": "auto"} else choice


# --- requests ---------------------------------------------------------------------------------------------------------


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """A Messages request that says only what chat can say, too."""
    numbers = count()

    def maybe(name: str, value: st.SearchStrategy[Any]) -> dict[str, Any]:
        return {name: draw(value)} if draw(st.booleans()) else {}

    def text() -> dict[str, Any]:
        return {"type": "text", "text": draw(TEXTS)}

    def said() -> list[dict[str, Any]]:
        return [text() if draw(st.booleans()) else draw(FILES) for _ in range(draw(st.integers(1, 3)))]

    def user() -> list[dict[str, Any]]:
        return [{"role": "user", "content": draw(TEXTS) if draw(st.booleans()) else said()}]

    def answer() -> list[dict[str, Any]]:
        if draw(st.booleans()):
            return [{"role": "assistant", "content": draw(TEXTS)}]
        return [{"role": "assistant", "content": [text() for _ in range(draw(st.integers(1, 2)))]}]

    def call() -> list[dict[str, Any]]:
        made = [
            {"type": "tool_use", "id": f"toolu_{next(numbers)}", "name": draw(st.sampled_from(NAMES)), "input": one}
            for one in draw(st.lists(ARGUMENTS, min_size=1, max_size=3))
        ]
        spoken = [text() for _ in range(draw(st.integers(0, 2)))]
        content = draw(st.permutations([*made, *spoken]))
        if draw(st.booleans()):
            content = [{"type": "thinking", "thinking": draw(TEXTS), "signature": SIGNATURE}, *content]
        results = [
            {"type": "tool_result", "tool_use_id": one["id"], **maybe("content", TEXTS | st.builds(list, TEXT_LISTS))}
            for one in draw(st.permutations(made))
        ]
        cut = draw(st.integers(0, len(results)))  # in one message, or in two
        told = [part for part in (results[:cut], results[cut:]) if part]
        told[-1] = [*told[-1], *(said() if draw(st.booleans()) else [])]
        return [{"role": "assistant", "content": content}, *({"role": "user", "content": part} for part in told)]

    turns = [user(), *(draw(st.sampled_from([user, answer, call]))() for _ in range(draw(st.integers(0, 4))))]
    messages = [message for turn in turns for message in turn]
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1 if len(list(numbers_used(messages))) else 0, unique=True))
    tools = [{"name": name, "input_schema": draw(SCHEMAS), **maybe("description", TEXTS)} for name in names]
    return {
        "model": "m",
        "max_tokens": draw(st.integers(1, 9999)),
        "messages": messages,
        **maybe("system", TEXTS | TEXT_LISTS),
        **({"tools": tools, **maybe("tool_choice", choices(names))} if tools else {}),
        **maybe("stop_sequences", st.lists(TEXTS, min_size=1, max_size=3)),
        **maybe("temperature", st.floats(0, 1)),
        **maybe("top_p", st.floats(0, 1)),
        **maybe("top_k", st.integers(1, 99)),
        **maybe("stream", st.booleans()),
        **maybe("output_config", SCHEMAS.map(lambda schema: {"format": {"type": "json_schema", "schema": schema}})),
    }


TEXT_LISTS = st.lists(TEXTS.map(lambda text: {"type": "text", "text": text}), min_size=1, max_size=3)
FILES = st.sampled_from(
    [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
            "title": "a.pdf",
        },
    ]
)
SCHEMAS = st.sampled_from(
    [
        {"type": "object"},
        {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        {"properties": {}},
    ]
)


def numbers_used(messages: list[dict[str, Any]]) -> Iterable[str]:
    return (
        block["id"] for message in messages for block in blocks_of(message["content"]) if block["type"] == "tool_use"
    )


def choices(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    alone = st.sampled_from([{}, {"disable_parallel_tool_use": True}, {"disable_parallel_tool_use": False}])
    sorts = st.sampled_from([{"type": "auto"}, {"type": "any"}, *({"type": "tool", "name": name} for name in names)])
    return st.builds(lambda sort, more: {**sort, **more}, sorts, alone) | st.just({"type": "none"})


TOLD = {"thinking.earlier", "messages.reasoning", "prefill"}
"""What the two ways say of thinking that is unsigned, and of an answer that is to be gone on with."""


@settings(max_examples=150, deadline=None)
@given(requests())
def test_a_request_there_and_back(request_: dict[str, Any]) -> None:
    there = messages_over_chat.translate(Body(encode(request_)))
    back = chat_over_messages.translate(there.body)
    assert normal(back.body.data) == normal(request_)
    assert {*there.lost, *back.lost} <= TOLD
    has_reasoning = any("reasoning_content" in message for message in there.body.data["messages"])
    assert ("messages.reasoning" in back.lost) is has_reasoning


@pytest.mark.parametrize("effort", ["low", "medium", "high", "xhigh", "max"])
def test_adaptive_thinking_there_and_back(effort: str) -> None:
    said = [{"role": "user", "content": "hi"}]
    request_ = {"model": "m", "max_tokens": 9, "messages": said, "thinking": {"type": "adaptive"}}
    request_["output_config"] = {"effort": effort}
    there = messages_over_chat.translate(Body(encode(request_)))
    back = chat_over_messages.translate(there.body)
    assert (normal(back.body.data), there.lost, back.lost) == (normal(request_), (), ())


@settings(max_examples=50, deadline=None)
@given(requests())
def test_a_second_time_changes_nothing(request_: dict[str, Any]) -> None:
    def trip(body: Body) -> Body:
        return chat_over_messages.translate(messages_over_chat.translate(body).body).body

    once = trip(Body(encode(request_)))
    assert trip(once).data == once.data


# --- answers ----------------------------------------------------------------------------------------------------------

STOP_REASONS = {
    **{"end_turn": "end_turn", "stop_sequence": "end_turn", "max_tokens": "max_tokens", "refusal": "refusal"},
    **{"pause_turn": "max_tokens", "model_context_window_exceeded": "max_tokens", "tool_use": "tool_use"},
}
"""Why an answer has ended, and what is left of that in chat."""

USAGE = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
ASKED = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    """A message of Anthropic's, with thinking, texts and calls in any order."""
    calls = [
        {"type": "tool_use", "id": f"toolu_{number}", "name": draw(st.sampled_from(NAMES)), "input": draw(ARGUMENTS)}
        for number in range(draw(st.integers(0, 3)))
    ]
    texts = [{"type": "text", "text": draw(TEXTS)} for _ in range(draw(st.integers(0, 2)))]
    thoughts = [{"type": "thinking", "thinking": draw(TEXTS), "signature": "sig"}] * draw(st.integers(0, 1))
    others = [reason for reason in STOP_REASONS if reason != "tool_use"]
    cut_off = ["max_tokens", "refusal", "pause_turn"]
    usage = {name: draw(st.integers(0, 999)) for name in USAGE}
    return {
        **{"id": "msg_1", "type": "message", "role": "assistant", "model": "m-2026", "stop_sequence": None},
        "content": [*thoughts, *draw(st.permutations([*calls, *texts]))],
        "stop_reason": draw(st.sampled_from(["tool_use", *cut_off] if calls else others)),
        "usage": {**usage, "output_tokens_details": {"thinking_tokens": draw(st.integers(1, 99))}},
    }


def said_in(message: Members) -> dict[str, Any]:
    """What an answer says, however its blocks are ordered and cut."""
    texts: dict[str, str] = {
        sort: "".join(block[sort] for block in message["content"] if block["type"] == sort)
        for sort in ("text", "thinking")
    }
    calls = [block for block in message["content"] if block["type"] == "tool_use"]
    return {**texts, "calls": calls, **{name: message[name] for name in ("role", "stop_reason", "usage")}}


def expected_of(message: Members) -> dict[str, Any]:
    return {**said_in(message), "stop_reason": STOP_REASONS[message["stop_reason"]]}


def way(**members: Any) -> Relayed:
    return Relayed(messages_over_chat.translate(Body(encode({**ASKED, **members}))), chat_over_messages.translate)


@settings(max_examples=150, deadline=None)
@given(answers())
def test_an_answer_there_and_back(message: dict[str, Any]) -> None:
    assert said_in(json.loads(way().reply(encode(message)))) == expected_of(message)


# --- streams ----------------------------------------------------------------------------------------------------------


@st.composite
def streams(draw: st.DrawFn) -> tuple[dict[str, Any], list[Event]]:
    """An answer, and its stream, in which each text and each input is cut anywhere."""
    message = draw(answers())

    def pieces(text: str) -> list[str]:
        cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
        return [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]

    opened = {**message, "content": [], "stop_reason": None, "usage": {**message["usage"], "output_tokens": 1}}
    told: list[dict[str, Any]] = [{"type": "message_start", "message": opened}]
    for index, block in enumerate(message["content"]):
        start, sort, name, text = STARTS[block["type"]](block)
        told += [
            {"type": "content_block_start", "index": index, "content_block": start},
            *(
                {"type": "content_block_delta", "index": index, "delta": {"type": sort, name: one}}
                for one in pieces(text)
            ),
            *([{"type": "ping"}] if draw(st.booleans()) else []),
            {"type": "content_block_stop", "index": index},
        ]
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    told += [{"type": "message_delta", "delta": delta, "usage": message["usage"]}, {"type": "message_stop"}]
    return message, [Event(str(one["type"]), encode(one)) for one in told]


STARTS: Mapping[str, Callable[[Members], tuple[dict[str, Any], str, str, str]]] = {
    "text": lambda block: ({"type": "text", "text": ""}, "text_delta", "text", block["text"]),
    "thinking": lambda block: (
        *({"type": "thinking", "thinking": "", "signature": ""}, "thinking_delta"),
        *("thinking", block["thinking"]),
    ),
    "tool_use": lambda block: (
        *({**block, "input": {}}, "input_json_delta"),
        *("partial_json", json.dumps(block["input"], ensure_ascii=False)),
    ),
}
"""How a block begins, the type of what follows, its member, and all of that."""


def gathered(data: bytes) -> dict[str, Any]:
    """The message that a stream tells."""
    message: dict[str, Any] = {}
    inputs: dict[int, str] = {}
    for event in Parser().feed(data):
        told = json.loads(event.data)
        if told["type"] == "message_start":
            message = told["message"]
        elif told["type"] == "content_block_start":
            message["content"].append(told["content_block"])
        elif told["type"] == "content_block_delta":
            block, delta = message["content"][told["index"]], told["delta"]
            if delta["type"] == "input_json_delta":
                inputs[told["index"]] = inputs.get(told["index"], "") + delta["partial_json"]
            elif delta["type"] != "signature_delta":
                block[block["type"]] += delta[block["type"]]
        elif told["type"] == "message_delta":
            message |= {**told["delta"], "usage": told["usage"]}
    for index, text in inputs.items():
        message["content"][index]["input"] = json.loads(text)
    assert told["type"] == "message_stop"
    return message


@settings(max_examples=150, deadline=None)
@given(streams())
def test_a_stream_there_and_back(told: tuple[dict[str, Any], list[Event]]) -> None:
    message, events = told
    stream = way(stream=True).stream()
    said = b"".join(map(stream.feed, events)) + stream.end()
    assert said_in(gathered(said)) == expected_of(message)


@settings(max_examples=40, deadline=None)
@given(streams(), st.data())
def test_a_stream_that_breaks_off_has_no_end_after_the_way_there_and_back(
    told: tuple[dict[str, Any], list[Event]], data: st.DataObject
) -> None:
    _, events = told
    end = next(place for place, event in enumerate(events) if event.event == "message_delta")
    stream = way(stream=True).stream()
    for event in events[: data.draw(st.integers(0, end))]:
        stream.feed(event)
    with pytest.raises(ConnectorError):
        stream.end()
