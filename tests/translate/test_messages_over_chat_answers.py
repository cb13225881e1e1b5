"""Answers of chat as messages: plain ones, streams, and what is told when an upstream fails.

They are written down in golden/messages_over_chat.replies.json and golden/messages_over_chat.streams.txt. To renew:

    LLMGATE_UPDATE_GOLDEN=1 pytest tests/translate
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from anthropic.types import Message

from llmgate_core.dialects import messages
from llmgate_core.errors import ConnectorError, Kind, RequestError
from llmgate_core.sse import Event, Parser
from llmgate_core.translate import StreamTranslation
from llmgate_core.translate.messages_over_chat import MessagesOverChat, translate
from llmgate_core.translate.messages_over_chat_queue import MAX_WAITING
from llmgate_core.translate.messages_over_chat_reply import INVALID_ARGUMENTS
from llmgate_core.wire import Body

HERE = Path(__file__).parent / "golden"
REPLIES = HERE / "messages_over_chat.replies.json"
STREAMS = HERE / "messages_over_chat.streams.txt"
UPDATE = "LLMGATE_UPDATE_GOLDEN"


def way() -> MessagesOverChat:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    numbers = itertools.count(1)
    return translate(Body(json.dumps(body).encode()), new_id=lambda: str(next(numbers)))


def tool_call(name: Any = "f", arguments: Any = "{}", **more: Any) -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def answer(message: dict[str, Any], finish: str | None = "stop", **more: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return json.dumps({"id": "chatcmpl-1", "model": "m-2026", "choices": [choice], **more}).encode()


USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "total_tokens": 15,
    "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1},
    "completion_tokens_details": {"reasoning_tokens": 3},
}


def check(golden: Path, text: str) -> None:
    if os.environ.get(UPDATE):
        golden.write_text(text, encoding="utf-8")
    expected = golden.read_text(encoding="utf-8").splitlines()
    assert text.splitlines() == expected, f"if that is meant, run with {UPDATE}=1"


# --- plain answers ---------------------------------------------------------------------------------

PLAIN: dict[str, bytes] = {
    "a text": answer({"content": "hello"}, usage=USAGE),
    "reasoning, a text and a call": answer(
        {"content": "well", "reasoning_content": "hm", "tool_calls": [tool_call(arguments='{"a":1}')]}, "tool_calls"
    ),
    "the other name of reasoning, and a refusal": answer({"content": None, "reasoning": "hm", "refusal": "no"}),
    "a text in parts": answer({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, 1]}),
    "blanks": answer({"content": "\n\n", "reasoning_content": " ", "tool_calls": [tool_call()]}),
    "cut off": answer({"content": "hel"}, "length", usage={"prompt_tokens": 1, "completion_tokens": 2}),
    "cut off in a call": answer({"tool_calls": [tool_call(arguments='{"a":')]}, "length"),
    "filtered": answer({"content": ""}, "content_filter"),
    "arguments that are no object": answer(
        {
            "tool_calls": [
                tool_call(arguments="", id="a"),
                tool_call(arguments="null", id="b"),
                tool_call(arguments={"x": 1}, id="c"),
                tool_call(arguments="[1]", id="d"),
                tool_call(arguments="ls -l", id="e"),
            ]
        },
        "tool_calls",
    ),
    "calls without ids, with one id, without anything": answer(
        {"tool_calls": [tool_call(id=None), tool_call(), tool_call("g"), {"function": {"name": " ", "arguments": ""}}]}
    ),
    "the old way to call": answer({"function_call": {"name": "f", "arguments": "{}"}}, "function_call"),
    "an end that nobody knows": answer({"content": "x"}, "eos"),
    "calls that are announced and do not come": answer({"content": "x"}, "tool_calls"),
    "another way to count what was cached": answer(
        {"content": "x"}, usage={"prompt_tokens": 3, "prompt_cache_hit_tokens": 2, "completion_tokens": None}
    ),
    "more cached than read": answer(
        {"content": "x"}, usage={"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 9}}
    ),
    "nothing": answer({"content": None}, None, model=None),
}


def test_plain_answers_are_translated_as_written_down() -> None:
    found = {}
    for name, data in PLAIN.items():
        reply = json.loads(way().reply(data))
        Message.model_validate_json(json.dumps(reply), strict=True)
        assert messages.read_reply(json.dumps(reply).encode()) == reply["usage"]
        found[name] = {"chat": json.loads(data), "message": reply}
    check(REPLIES, json.dumps(found, indent=1) + "\n")


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (b"", "protocol", "empty body"),
        (b'{"error":{"message":"busy","code":503}}', "unavailable", "busy"),
        (b'{"choices":[{}]}', "protocol", "without a `message`"),
        (b'{"choices":[1]}', "protocol", "without a `message`"),
        (answer({"content": "x"}, "error"), "protocol", "`finish_reason` `error`"),
        (answer({"tool_calls": [tool_call(None, "{}")]}), "protocol", "a tool without a name"),
    ],
)
def test_what_is_no_answer_is_a_failure(data: bytes, kind: Kind, words: str) -> None:
    with pytest.raises(ConnectorError, match=words) as caught:
        way().reply(data)
    assert caught.value.kind == kind


@pytest.mark.parametrize("depth", [100, *range(960, 1005), 5000])
def test_deep_arguments_pass_as_they_are_or_as_a_text(depth: int) -> None:
    """What was decoded has to be encoded again, deeper inside of something else."""
    arguments = '{"x":' + "[" * depth + "]" * depth + "}"
    (block,) = json.loads(way().reply(answer({"tool_calls": [tool_call(arguments=arguments)]})))["content"]
    assert set(block["input"]) in ({"x"}, {INVALID_ARGUMENTS})


# --- streams ---------------------------------------------------------------------------------------


def chunk(finish: str | None = None, **delta: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return json.dumps({"model": "m-2026", "choices": [choice]}).encode()


def piece(index: int | None = None, arguments: str = "", **more: Any) -> bytes:
    named = {"name": more.pop("name")} if "name" in more else {}
    indexed = {} if index is None else {"index": index}
    return chunk(tool_calls=[{**indexed, **more, "function": {**named, "arguments": arguments}}])


TOTAL = json.dumps({"choices": [], "usage": USAGE}).encode()
DONE = b"[DONE]"

FLOWS: dict[str, list[bytes]] = {
    "a text": [
        chunk(role="assistant", content=""),
        chunk(content="hel"),
        chunk(content="lo"),
        chunk("stop"),
        TOTAL,
        DONE,
    ],
    "reasoning, a text, reasoning, a text": [
        *(chunk(reasoning_content="hm"), chunk(content="well"), chunk(reasoning="so"), chunk(content="yes")),
        chunk("stop"),
    ],
    "reasoning and text in one chunk, a refusal": [
        chunk(content="a", reasoning_content="b"),
        chunk("stop", refusal="c"),
    ],
    "blanks": [
        *(chunk(reasoning_content=" "), chunk(content="\n\n"), chunk(content="x"), chunk(content=" ")),
        *(chunk(reasoning_content=" "), piece(0, "{}", id="a", name="f"), chunk(content="\n"), chunk("tool_calls")),
    ],
    "calls one after the other": [
        *(chunk(content="x"), piece(0, id="a", name="f"), piece(0, '{"x"'), piece(0, ":1}")),
        *(piece(1, id="b", name="g"), piece(1, "{}"), chunk("tool_calls"), TOTAL),
    ],
    "calls that are mixed": [
        *(piece(0, '{"x":', id="a", name="f"), piece(1, '{"y":', id="b", name="g"), piece(2, "{}", id="c", name="h")),
        *(piece(1, "2}"), piece(0, "1"), chunk(content="so"), piece(0, "}"), chunk(content=" be it")),
        chunk("tool_calls"),
    ],
    "calls without arguments": [piece(0, id="a", name="f"), piece(1, id="b", name="g"), chunk("tool_calls")],
    "calls without index": [
        *(piece(None, '{"x":', id="a", name="f"), piece(None, "1}"), piece(None, "{", id="b", name="f")),
        *(piece(None, "}", id="b"), chunk("stop")),
    ],
    "calls without index and id": [
        *(piece(None, '{"x":', name="f"), piece(None, "1}"), piece(None, "{}", name="f"), piece(None, "{}", name="g")),
        chunk("stop"),
    ],
    "calls of one index": [piece(0, "{}", id="a", name="f"), piece(0, "{}", id="b", name="g"), chunk("tool_calls")],
    "an id and a name in every piece": [
        *(piece(0, "{", id="a", name="f"), piece(0, "}", id="a", name="f"), chunk("tool_calls")),
    ],
    "a name that comes late": [
        *(piece(0, "{", id="a"), piece(1, "{}", id="b", name="g"), piece(0, "}", name="f"), piece(2)),
        chunk("tool_calls"),
    ],
    "the old way to call": [
        *(chunk(function_call={"name": "f", "arguments": "{"}), chunk(function_call={"arguments": "}"})),
        chunk("function_call"),
    ],
    "a whole call in one piece, blanks behind it": [
        piece(0, '{"x":"}{\\"\\\\"}', id="a", name="f"),
        *(piece(1, "{}", id="b", name="g"), piece(0, " \n"), chunk("tool_calls")),
    ],
    "cut off": [chunk(content="hel"), chunk("length")],
    "cut off in a call": [piece(0, '{"x":', id="a", name="f"), piece(1, '{"y"', id="b", name="g"), chunk("length")],
    "filtered": [chunk("content_filter")],
    "usage with the end": [
        chunk(content="x"),
        json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": USAGE}).encode(),
        chunk(content="too late"),
    ],
    "usage all the time": [
        json.dumps({"choices": [{"delta": {"content": "x"}}], "usage": {"prompt_tokens": 1}}).encode(),
        *(chunk("stop"), TOTAL),
    ],
    "more behind the end": [chunk("stop", content="x"), chunk(content="y"), chunk("stop"), DONE],
    "events that say nothing": [b"", b" ", chunk("stop", content="x")],
    "no end but [DONE]": [chunk(content="x"), DONE],
    "nothing": [DONE],
    "other choices, other things": [
        json.dumps({"choices": [{"index": 1, "delta": {"content": "no"}}, {"index": 0, "delta": None}]}).encode(),
        *(b'{"choices":null}', b"{}", chunk("eos", role="", content=None)),
    ],
}


def told(stream: StreamTranslation, flow: list[bytes], *, is_whole: bool = True) -> bytes:
    said = b"".join(stream.feed(Event("message", data)) for data in flow)
    return said + stream.end() if is_whole else said


def lines(said: bytes) -> list[str]:
    """Each event as a line: its name, and the rest of its data."""
    found = []
    for event in Parser().feed(said):
        data = json.loads(event.data)
        assert data.pop("type") == event.event
        found.append(f"> {event.event} {json.dumps(data)}")
    return found


def test_streams_are_translated_as_written_down() -> None:
    found = [f"(Written by a test. To renew: {UPDATE}=1 pytest tests/translate)"]
    for name, flow in FLOWS.items():
        found += ["", f"===== {name} =====", "", *(f"< data: {data.decode()}" for data in flow)]
        found += lines(told(way().stream(), flow))
    for name, (flow, error) in FAILURES.items():
        stream = way().stream()
        said = told(stream, flow, is_whole=False) + stream.failed(error, context="acme.default", request_id="req_1")
        found += ["", f"===== {name} =====", "", *(f"< data: {data.decode()}" for data in flow), *lines(said)]
    check(STREAMS, "\n".join(found) + "\n")


FAILURES: dict[str, tuple[list[bytes], Exception]] = {
    "a failure before anything": ([], ConnectorError("rate_limited", "Slow down", status=429)),
    "a failure in a text": ([chunk(content="hel")], ConnectorError("protocol", "cut off")),
    "a failure while calls wait": (
        [piece(0, '{"x":', id="a", name="f"), piece(1, "{}", id="b", name="g")],
        ConnectorError("unavailable", "Overloaded", status=529),
    ),
    "a failure before the usage": ([chunk("stop", content="x")], ConnectorError("timeout", "silent")),
    "a failure of ours": ([chunk(content="x")], ZeroDivisionError("secret")),
    "a refusal": ([chunk(reasoning_content="x")], RequestError("no", status=403)),
}


@pytest.mark.parametrize(
    ("flow", "kind", "words"),
    [
        ([b'{"error":{"message":"busy","code":503}}'], "unavailable", "busy"),
        ([b'{"choices":['], "protocol", "unusable JSON"),
        ([b"[1]"], "protocol", "no object"),
        ([chunk("error")], "protocol", "`finish_reason` `error`"),
        ([piece(0, "{}", id="a"), chunk("tool_calls")], "protocol", "a tool without a name"),
        (
            [piece(0, "{}", id="a", name="f"), piece(1, id="b", name="g"), piece(0, "{}")],
            "protocol",
            "went on with a tool call that was complete",
        ),
    ],
)
def test_what_is_no_stream_is_a_failure(flow: list[bytes], kind: Kind, words: str) -> None:
    stream = way().stream()
    with pytest.raises(ConnectorError, match=words) as caught:
        told(stream, flow)
    assert caught.value.kind == kind
    names = [line.split()[1] for line in lines(stream.failed(caught.value))]
    assert "error" in names


def test_what_was_said_before_a_failure_in_the_same_chunk_is_not_lost() -> None:
    stream = way().stream()
    with pytest.raises(ConnectorError) as caught:
        stream.feed(Event("message", chunk("error", content="x")))
    names = [line.split()[1] for line in lines(stream.failed(caught.value))]
    start, *rest = ["message_start", "content_block_start", "content_block_delta"], *names
    assert rest[:3] == start[:3]
    assert rest[3:] == ["error", "content_block_stop", "message_delta", "message_stop"]


def test_an_error_event_is_a_failure_whatever_its_data() -> None:
    for data in (b"busy", b'{"message":"busy"}'):
        with pytest.raises(ConnectorError, match="busy"):
            way().stream().feed(Event("error", data))


def test_a_stream_that_ends_too_early_was_cut_off() -> None:
    stream = way().stream()
    stream.feed(Event("message", chunk(content="x")))
    with pytest.raises(ConnectorError, match="before the answer was complete"):
        stream.end()


def test_nothing_follows_the_last_word() -> None:
    ends: list[Callable[[StreamTranslation], bytes]] = [
        lambda stream: stream.end(),
        lambda stream: stream.failed(ConnectorError("timeout", "x")),
    ]
    for last in ends:
        stream = way().stream()
        said = told(stream, [chunk("stop")], is_whole=False) + last(stream)
        assert said.count(b"event: message_stop") == 1
        assert stream.feed(Event("message", chunk(content="x"))) == b""
        assert stream.end() == stream.failed(ConnectorError("timeout", "x")) == b""


def test_each_piece_is_told_at_once() -> None:
    """Also of the second call: it does not wait for the end of the answer."""
    stream = way().stream()
    for data in FLOWS["calls one after the other"][:-2]:
        said = stream.feed(Event("message", data))
        assert said
    assert b'"partial_json":"{}"' in said


def test_what_waits_is_bounded() -> None:
    stream = way().stream()
    stream.feed(Event("message", piece(0, "{", id="a", name="f")))
    big = "x" * (MAX_WAITING // 4)
    with pytest.raises(ConnectorError, match="mixes more than can be held"):  # noqa: PT012 - the fifth is too much
        for _ in range(5):
            assert stream.feed(Event("message", piece(1, big, id="b", name="g"))) == b""


def test_many_small_pieces_take_linear_time() -> None:
    stream = way().stream()
    flow = [piece(0, "{", id="a", name="f"), piece(1, "{", id="b", name="g"), *[piece(1, "{}")] * 30_000]
    began = time.monotonic()
    told(stream, flow, is_whole=False)
    assert time.monotonic() - began < 5
