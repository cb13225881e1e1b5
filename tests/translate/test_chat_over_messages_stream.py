"""Streams of Messages as chat chunks: one by heart, and any by the official SDK's own accumulator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState

from llmgate_core.errors import ConnectorError
from llmgate_core.sse import Parser, join
from llmgate_core.translate.chat_over_messages import translate
from llmgate_core.wire import Body, encode

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
WITH_USAGE = {**REQUEST, "stream_options": {"include_usage": True}}
LEGACY = {**REQUEST, "functions": [{"name": "f"}]}

START = {
    "type": "message_start",
    "message": {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": [],
                "usage": {"input_tokens": 3, "cache_read_input_tokens": 5, "output_tokens": 1}},
}  # fmt: skip
STOP = {"type": "message_stop"}


def delta(index: int, sort: str, **members: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": sort, **members}}


def block(index: int, begin: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    start = {"type": "content_block_start", "index": index, "content_block": begin}
    return [start, *deltas, {"type": "content_block_stop", "index": index}]


def ended(reason: str = "end_turn", **usage: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage}


def call(index: int, name: str, *pieces: str, input: Any = None) -> list[dict[str, Any]]:
    begin = {"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": input or {}}
    return block(index, begin, *(delta(index, "input_json_delta", partial_json=piece) for piece in pieces))


def written(events: list[dict[str, Any]]) -> bytes:
    return b"".join(join(encode(event), event["type"]) for event in events)


def told(data: bytes, request: dict[str, Any] = REQUEST, cuts: Iterator[int] | None = None) -> bytes:
    """The whole stream for a caller, of bytes that arrive in pieces."""
    stream = translate(Body(encode(request)), new_id=lambda: "chatcmpl-1", clock=lambda: 17.9).stream()
    parser, out, at = Parser(), b"", 0
    while at < len(data):
        size = next(cuts, len(data)) if cuts else len(data)
        out += b"".join(map(stream.feed, parser.feed(data[at : at + size])))
        at += size
    return out + stream.end()


def chunks(data: bytes) -> list[Any]:
    """The JSON of each event; `[DONE]` as it is."""
    found = [event.data.decode() for event in Parser().feed(data)]
    return [one if one == "[DONE]" else json.loads(one) for one in found]


def test_a_stream() -> None:
    events: list[dict[str, Any]] = [
        START,
        {"type": "ping"},
        *block(
            0,
            {"type": "thinking", "thinking": "", "signature": ""},
            delta(0, "thinking_delta", thinking="Hm."),
            delta(0, "signature_delta", signature="s"),
        ),
        *block(1, {"type": "text", "text": ""}, delta(1, "text_delta", text="世界"), delta(1, "text_delta", text="!")),
        *call(2, "f", "", '{"a":', "1}"),
        *call(3, "g"),
        ended("tool_use", output_tokens=11),
        STOP,
    ]
    head = {"id": "msg_1", "object": "chat.completion.chunk", "created": 17, "model": "claude"}

    def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": None}

    def calls(index: int, **members: Any) -> dict[str, Any]:
        return chunk(tool_calls=[{"index": index, **members}])

    usage = {
        "prompt_tokens": 8,
        "completion_tokens": 11,
        "total_tokens": 19,
        "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 0},
    }
    assert chunks(told(written(events), WITH_USAGE)) == [
        chunk(role="assistant", content=""),
        chunk(reasoning_content="Hm."),
        chunk(content="世界"),
        chunk(content="!"),
        calls(0, id="toolu_2", type="function", function={"name": "f", "arguments": ""}),
        calls(0, function={"arguments": '{"a":'}),
        calls(0, function={"arguments": "1}"}),
        calls(1, id="toolu_3", type="function", function={"name": "g", "arguments": ""}),
        calls(1, function={"arguments": "{}"}),
        chunk("tool_calls"),
        {**head, "choices": [], "usage": usage},
        "[DONE]",
    ]


def test_usage_is_told_only_on_request() -> None:
    found = chunks(told(written([START, ended(output_tokens=1), STOP])))
    assert not any("usage" in one for one in found[:-1])


def test_input_that_comes_with_the_beginning_of_a_call_is_told() -> None:
    found = chunks(told(written([START, *call(0, "f", input={"a": 1})[:-1], ended("tool_use"), STOP])))
    assert found[2]["choices"][0]["delta"] == {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":1}'}}]}
    assert found[3]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_call_without_an_id_gets_one() -> None:
    begin = {"type": "tool_use", "name": "f", "input": {}}
    found = chunks(told(written([START, *block(0, begin), ended("tool_use"), STOP])))
    assert found[1]["choices"][0]["delta"]["tool_calls"][0]["id"] == "call_1"


def test_who_speaks_of_functions_is_told_one_call_so() -> None:
    events = [START, *call(0, "f", "{}"), *call(1, "g", "{}"), ended("tool_use"), STOP]
    deltas = [one["choices"][0]["delta"] for one in chunks(told(written(events), LEGACY))[1:-2]]
    assert deltas == [{"function_call": {"name": "f", "arguments": ""}}, {"function_call": {"arguments": "{}"}}]


def test_a_reason_is_an_end_without_message_stop_too() -> None:
    events = [START, *call(0, "f", input={"a": 1})[:-1], ended("tool_use", output_tokens=11)]
    assert told(written(events), WITH_USAGE) == told(written([*events, STOP]), WITH_USAGE)


def test_what_comes_after_the_end_does_not_count() -> None:
    whole = written([START, ended(), STOP])
    assert told(whole + b"data: [DONE]\n\n" + whole) == told(whole)


def test_what_nobody_knows_is_passed_over() -> None:
    news = [{"type": "news"}, *block(0, {"type": "news"}, delta(0, "news_delta"))]
    assert told(written([START, *news, ended(), STOP])) == told(written([START, ended(), STOP]))


def test_text_that_is_none_is_passed_over() -> None:
    odd = block(
        0, {"type": "text", "text": 5}, delta(0, "text_delta", text=["x"]), delta(0, "thinking_delta", thinking=1)
    )
    assert told(written([START, *odd, ended(), STOP])) == told(written([START, ended(), STOP]))


def test_input_of_a_tool_that_the_upstream_runs_itself_is_passed_over() -> None:
    search = block(
        0,
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
        delta(0, "input_json_delta", partial_json='{"query":"x"}'),
    )
    assert told(written([START, *search, ended(), STOP])) == told(written([START, ended(), STOP]))


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (written([START, *call(0, " ")]), "protocol", "without a name"),
        (written([START, *block(0, {"type": "tool_use", "id": "a"})]), "protocol", "without a name"),
        (
            written(
                [
                    START,
                    *block(0, {"type": "tool_use", "name": "f"}, delta(0, "input_json_delta", partial_json={"a": 1})),
                ]
            ),
            "protocol",
            "input that is no text",
        ),
        (b"", "protocol", "ended before the answer was complete"),
        (written([START, *call(0, "f", "{")]), "protocol", "ended before the answer was complete"),
        (written([START, START]), "protocol", "a second message"),
        (written([ended()]), "protocol", "begins with `message_delta`"),
        (written([START, delta(0, "input_json_delta", partial_json="{")]), "protocol", "a block that is no call"),
        (b"data: [1]\n\n", "protocol", "not usable JSON"),
        (
            written([START, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}]),
            "unavailable",
            "Overloaded",
        ),
        (
            b'event: error\ndata: {"error": {"message": "Slow down", "type": "rate_limit_error"}}\n\n',
            "rate_limited",
            "Slow",
        ),
    ],
)
def test_a_stream_that_fails(data: bytes, kind: str, message: str) -> None:
    with pytest.raises(ConnectorError, match=message) as caught:
        told(data)
    assert caught.value.kind == kind


# --- any stream -----------------------------------------------------------------------------------------------

TEXTS = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8), max_size=4)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
NAMES = st.from_regex(r"[a-zA-Z0-9_-]{1,8}", fullmatch=True)


@st.composite
def blocks(draw: st.DrawFn) -> tuple[list[list[dict[str, Any]]], list[dict[str, Any]]]:
    """The events of each block, and the blocks of the plain answer that says the same."""
    streamed, plain = [], []
    for index in range(draw(st.integers(0, 5))):
        sort = draw(st.sampled_from(["text", "thinking", "tool_use", "redacted_thinking"]))
        if sort == "tool_use":
            given_input, name = draw(st.dictionaries(st.text(max_size=3), JSON, max_size=2)), draw(NAMES)
            text = json.dumps(given_input, ensure_ascii=draw(st.booleans())) if given_input else ""
            at = draw(st.integers(0, len(text)))
            streamed.append(call(index, name, text[:at], text[at:]))
            plain.append({"type": sort, "id": f"toolu_{index}", "name": name, "input": given_input})
        elif sort == "redacted_thinking":
            plain.append({"type": sort, "data": "opaque"})
            streamed.append(block(index, plain[-1]))
        else:
            pieces = draw(TEXTS)
            more = [delta(index, "signature_delta", signature="s")] if sort == "thinking" else []
            deltas = [delta(index, f"{sort}_delta", **{sort: piece}) for piece in pieces]
            streamed.append(block(index, {"type": sort, sort: ""}, *deltas, *more))
            plain.append({"type": sort, sort: "".join(pieces)})
    return streamed, plain


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A stream's events with pings among them, and the plain answer that says the same."""
    streamed, plain = draw(blocks())
    counts = st.integers(0, 10**6)
    usage = {"input_tokens": draw(counts), "cache_read_input_tokens": draw(st.none() | counts), "output_tokens": 1}
    reason = draw(st.sampled_from(["end_turn", "max_tokens", "tool_use", "stop_sequence", "refusal", "pause_turn"]))
    total = {**usage, "output_tokens": draw(counts)}
    start = {**START, "message": {**START["message"], "usage": usage}}  # type: ignore[dict-item]
    events: list[dict[str, Any]] = [start]
    for one in [event for events_of_one in streamed for event in events_of_one]:
        events += [{"type": "ping"}] * draw(st.integers(0, 1)) + [one]
    events += [ended(reason, output_tokens=total["output_tokens"]), STOP]
    answer = {**START["message"], "content": plain, "stop_reason": reason, "usage": total}  # type: ignore[dict-item]
    return events, answer


def accumulated(data: bytes) -> dict[str, Any]:
    """What openai-python makes of a stream."""
    reply = httpx2.Response(200, content=data, headers={"content-type": "text/event-stream"})
    with httpx2.Client(transport=httpx2.MockTransport(lambda _: reply)) as http:
        client = openai.OpenAI(base_url="http://x", api_key="k", http_client=http, max_retries=0)
        state = ChatCompletionStreamState()
        for chunk in client.chat.completions.create(model="m", messages=[], stream=True):
            state.handle_chunk(chunk)
        # Not `get_final_completion`, which raises for what is too long or filtered.
        found: dict[str, Any] = state.current_completion_snapshot.to_dict()
        return found


def essence(completion: dict[str, Any]) -> dict[str, Any]:
    """What is said, whatever the form."""
    (choice,) = completion["choices"]
    message = choice["message"]
    calls = [
        (one["id"], one["function"]["name"], json.loads(one["function"]["arguments"]))
        for one in message.get("tool_calls") or []
    ]
    said = {name: message.get(name) or "" for name in ("content", "reasoning_content")}
    return {**said, "calls": calls, "finish": choice["finish_reason"], "usage": completion.get("usage")}


@settings(max_examples=75, deadline=None)
@given(answers(), st.lists(st.integers(1, 40), max_size=30), st.booleans())
def test_any_stream_says_what_the_plain_answer_says(
    answer: tuple[list[dict[str, Any]], dict[str, Any]], sizes: list[int], with_usage: bool
) -> None:
    events, plain = answer
    request = WITH_USAGE if with_usage else REQUEST
    found = essence(accumulated(told(written(events), request, iter(sizes))))
    wanted = essence(Body(translate(Body(encode(request))).reply(encode(plain))).data)
    assert found == (wanted if with_usage else {**wanted, "usage": None})
    calls = [(one["id"], one["name"], one["input"]) for one in plain["content"] if one["type"] == "tool_use"]
    assert wanted["calls"] == calls
    assert wanted["content"] == "".join(one["text"] for one in plain["content"] if one["type"] == "text")


@settings(max_examples=50, deadline=None)
@given(answers())
def test_every_chunk_keeps_the_rules(answer: tuple[list[dict[str, Any]], dict[str, Any]]) -> None:
    *found, last = chunks(told(written(answer[0]), WITH_USAGE))
    assert last == "[DONE]"
    assert len({(one["id"], one["object"], one["created"], one["model"]) for one in found}) == 1
    *choices, usage = [one["choices"] for one in found]
    assert usage == []
    assert [one["delta"].get("role") for (one,) in choices] == ["assistant", *[None] * (len(choices) - 1)]
    assert [bool(one["finish_reason"]) for (one,) in choices] == [*[False] * (len(choices) - 1), True]
    begun = [part for (one,) in choices for part in one["delta"].get("tool_calls", []) if "id" in part]
    assert [part["index"] for part in begun] == list(range(len(begun)))
    assert all(set(part) == {"index", "id", "type", "function"} for part in begun)


@settings(max_examples=60, deadline=None)
@given(answers(), st.data())
def test_a_stream_that_breaks_off_is_never_taken_for_whole(
    answer: tuple[list[dict[str, Any]], dict[str, Any]], data: st.DataObject
) -> None:
    events = answer[0][: data.draw(st.integers(0, len(answer[0]) - 2))]  # `message_delta` is an end
    stream = translate(Body(encode(REQUEST))).stream()
    out = b"".join(map(stream.feed, Parser().feed(written(events))))
    with pytest.raises(ConnectorError) as caught:
        stream.end()
    out += stream.failed(caught.value, context="request req_1")
    assert b"[DONE]" not in out
    with pytest.raises(openai.APIError, match="req_1"):
        accumulated(out)
