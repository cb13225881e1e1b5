"""Answers of chat as responses: plain ones, streams, and what is told when an upstream fails.

They are written down in golden/responses_over_chat.replies.json and golden/responses_over_chat.streams.txt. To renew:

    LLMGATE_UPDATE_GOLDEN=1 pytest tests/translate
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openai.types.responses import Response

from llmgate_core.dialects import responses
from llmgate_core.errors import ConnectorError, Kind, RequestError
from llmgate_core.sse import Event, Parser
from llmgate_core.translate import Translation
from llmgate_core.translate.responses_over_chat import ResponsesOverChat, translate
from llmgate_core.wire import Body

HERE = Path(__file__).parent / "golden"
REPLIES = HERE / "responses_over_chat.replies.json"
STREAMS = HERE / "responses_over_chat.streams.txt"
UPDATE = "LLMGATE_UPDATE_GOLDEN"

TOOLS = [
    {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True},
    {"type": "custom", "name": "apply_patch"},
    {"type": "local_shell"},
    {"type": "tool_search", "execution": "client", "description": "Finds.", "parameters": {"type": "object"}},
    {"type": "namespace", "name": "crm", "description": "Customers.", "tools": [{"type": "function", "name": "find"}]},
]


def way(**members: Any) -> ResponsesOverChat:
    body = {"model": "m", "input": "hi", "tools": TOOLS, **members}
    numbers = itertools.count(1)
    return translate(Body(json.dumps(body).encode()), new_id=lambda: str(next(numbers)), clock=lambda: 1000.5)


def tool_call(name: str, arguments: Any = "{}", **more: Any) -> dict[str, Any]:
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

# --- plain answers ---------------------------------------------------------------------------------

PLAIN: dict[str, bytes] = {
    "a text": answer({"content": "hello"}, usage=USAGE),
    "reasoning, a text and a call": answer(
        {"content": "well", "reasoning_content": "hm", "tool_calls": [tool_call("f", '{"a":1}')]}, "tool_calls"
    ),
    "the other name of reasoning, and a refusal": answer({"content": None, "reasoning": "hm", "refusal": "no"}),
    "a text in parts": answer({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, 1]}),
    "cut off": answer({"content": "hel"}, "length", usage={"prompt_tokens": 1, "completion_tokens": 2}),
    "filtered": answer({"content": ""}, "content_filter"),
    "calls of each kind": answer(
        {
            "tool_calls": [
                tool_call("crm__find", {"id": 1}),
                tool_call("apply_patch", '{"input":"*** x"}', id="call_2"),
                tool_call("apply_patch", "*** not asked for", id="call_3"),
                tool_call("apply_patch", '["neither"]', id="call_4"),
                tool_call("apply_patch", '{"patch":"*** y"}', id="call_8"),
                tool_call("apply_patch", '{"input":"*** z","why":"x"}', id="call_9"),
                tool_call("local_shell", '{"command":["ls"],"timeout_ms":5,"env":{"A":1}}', id="call_5"),
                tool_call("local_shell", "ls", id=None),
                tool_call("tool_search", '{"query":"x"}', id="call_10"),
                tool_call("tool_search", "x", id="call_11"),
                tool_call("tool_search", "[]", id="call_12"),
                tool_call("nobody_offered", "", id="call_6"),
                {"function": {"name": " ", "arguments": ""}},
            ]
        },
        "tool_calls",
    ),
    "the old way to call": answer({"function_call": {"name": "f", "arguments": "{}"}}, "function_call"),
    "another way to count what was cached": answer(
        {"content": "x"}, usage={"prompt_tokens": 3, "prompt_cache_hit_tokens": 2, "completion_tokens": None}
    ),
    "nothing": answer({"content": None}, None, model=None),
}


def test_plain_answers_are_translated_as_written_down() -> None:
    found = {}
    for name, data in PLAIN.items():
        translation = way(temperature=0.5, metadata={"a": "b"}, store=False)
        reply = json.loads(translation.reply(data))
        Response.model_validate_json(json.dumps(reply), strict=True)
        assert list(translation.output) == reply["output"]
        assert translation.response_id == reply["id"]
        assert responses.read_reply(json.dumps(reply).encode()) == reply["usage"]
        found[name] = {"chat": json.loads(data), "responses": without_echo(reply)}
    check(REPLIES, json.dumps(found, indent=1) + "\n")


def without_echo(reply: dict[str, Any]) -> dict[str, Any]:
    told = ("id", "created_at", "completed_at", "status", "incomplete_details", "model", "output", "usage", "error")
    return {name: reply[name] for name in told}


def check(golden: Path, text: str) -> None:
    if os.environ.get(UPDATE):
        golden.write_text(text, encoding="utf-8")
    expected = golden.read_text(encoding="utf-8").splitlines()
    assert text.splitlines() == expected, f"if that is meant, run with {UPDATE}=1"


def test_what_the_request_said_is_repeated() -> None:
    asked = {
        "instructions": "i",
        "max_output_tokens": 7,
        "max_tool_calls": 3,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "previous_response_id": "resp_0",
        "prompt_cache_key": "k",
        "reasoning": {"effort": "low", "summary": "auto"},
        "safety_identifier": "s",
        "service_tier": "flex",
        "store": False,
        "temperature": 0.5,
        "text": {"format": {"type": "json_object"}, "verbosity": "low"},
        "tool_choice": {"type": "function", "name": "f"},
        "tools": TOOLS,
        "top_logprobs": 2,
        "top_p": 0.5,
        "truncation": "auto",
        "user": "u",
    }
    reply = json.loads(way(**asked).reply(PLAIN["a text"]))
    assert {name: reply[name] for name in asked} == asked
    bare = json.loads(way(tools=None, text=None).reply(PLAIN["a text"]))
    assert {name: bare[name] for name in ("tools", "tool_choice", "store", "text", "metadata")} == {
        "tools": [],
        "tool_choice": "auto",
        "store": True,
        "text": {"format": {"type": "text"}},
        "metadata": {},
    }


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (b"", "protocol", "the upstream answered with an empty body"),
        (b'{"error":{"message":"busy","code":503}}', "unavailable", "busy"),
        (b'{"choices":[1]}', "protocol", "the upstream answered without a `message`"),
        (b'{"choices":[{"message":null}]}', "protocol", "the upstream answered without a `message`"),
        (answer({"content": "x"}, "error"), "protocol", "the upstream ended the answer with `finish_reason` `error`"),
        (
            answer({"tool_calls": [{"function": {"arguments": "{}"}}]}),
            "protocol",
            "the upstream called a tool without a name",
        ),
    ],
)
def test_what_is_no_answer_is_a_failure(data: bytes, kind: str, message: str) -> None:
    with pytest.raises(ConnectorError) as caught:
        way().reply(data)
    assert (caught.value.kind, caught.value.message) == (kind, message)


# --- streams ---------------------------------------------------------------------------------------


def delta(finish: str | None = None, **fields: Any) -> bytes:
    choice = {"index": 0, "delta": fields, "finish_reason": finish}
    return b"data: %b\n\n" % json.dumps({"model": "m-2026", "choices": [choice]}).encode()


def piece(index: int | None, name: str | None = None, arguments: str | None = None, id: str | None = None) -> bytes:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    found: dict[str, Any] = {"function": function}
    found |= {key: value for key, value in (("index", index), ("id", id)) if value is not None}
    return delta(tool_calls=[found])


DONE = b"data: [DONE]\n\n"
COUNTED = b"data: %b\n\n" % json.dumps({"choices": [], "usage": USAGE}).encode()

STREAM: dict[str, bytes] = {
    "a text": delta(role="assistant", content="")
    + delta(content="hel")
    + delta(content="lo")
    + delta("stop")
    + COUNTED
    + DONE,
    "reasoning, a text, reasoning, a text": delta(reasoning_content="hm")
    + delta(content="well")
    + delta(reasoning="so")
    + delta(content="yes")
    + delta("stop"),
    "a text and a refusal": delta(content="I ") + delta(refusal="cannot") + delta("stop") + DONE,
    "parallel calls side by side": delta(content="well")
    + piece(0, "f", "", "call_a")
    + piece(1, "crm__find", "", "call_b")
    + piece(0, arguments='{"a"')
    + piece(1, arguments="{}")
    + piece(0, arguments=":1}")
    + delta("tool_calls")
    + COUNTED
    + DONE,
    "a text between the pieces of a call": piece(0, "f", "{", "call_a")
    + delta(content="!")
    + piece(0, arguments="}")
    + delta("tool_calls"),
    "calls of custom tools and of the shell": piece(0, "apply_patch", '{"input":', "call_a")
    + piece(0, arguments='"*** x"}')
    + piece(1, "local_shell", '{"command":["ls"]}', "call_b")
    + piece(2, "tool_search", '{"query":"x"}', "call_c")
    + delta("tool_calls")
    + DONE,
    "cut off": piece(0, "f", '{"a', "call_a") + delta("length") + COUNTED + DONE,
    "nothing but an end": delta("stop") + DONE,
    "`[DONE]` and no end": delta(content="hello") + DONE,
}


def told(data: bytes, translation: ResponsesOverChat | None = None) -> bytes:
    stream = (translation or way()).stream()
    return b"".join(map(stream.feed, Parser().feed(data))) + stream.end()


def test_streams_are_translated_as_written_down() -> None:
    lines = [f"(Written by a test. To renew: {UPDATE}=1 pytest tests/translate)", ""]
    for name, data in STREAM.items():
        lines += [f"===== {name} =====", ""]
        lines += [f"< {line}" for line in data.decode().splitlines() if line]
        lines += [f"> {shown(event)}" for event in Parser().feed(told(data))]
        lines.append("")
    check(STREAMS, "\n".join(lines) + "\n")


def shown(event: Event) -> str:
    data = json.loads(event.data)
    assert data.pop("type") == event.event
    if "response" in data:
        data["response"] = without_echo(data["response"])
    return f"{event.event} {json.dumps(data)}"


def test_the_items_of_a_stream_are_there_to_go_on_from() -> None:
    translation = way()
    last = Parser().feed(told(STREAM["parallel calls side by side"], translation))[-1]
    assert list(translation.output) == json.loads(last.data)["response"]["output"]
    items = [{"type": "message", "role": "user", "content": "hi"}, *translation.output]
    outputs = [{"type": "function_call_output", "call_id": id, "output": "ok"} for id in ("call_a", "call_b")]
    again = way(input=[*items, *outputs]).body.data["messages"]
    assert [message["role"] for message in again] == ["user", "assistant", "tool", "tool"]
    assert [call["function"]["name"] for call in again[1]["tool_calls"]] == ["f", "crm__find"]


def calls(data: bytes) -> list[tuple[str, str, str]]:
    events = [json.loads(event.data) for event in Parser().feed(told(data + delta("tool_calls")))]
    output = events[-1]["response"]["output"]
    assert all(
        events[-1]["response"]["output"][e["output_index"]] == e["item"]
        for e in events
        if "item" in e and e["type"].endswith("done")
    )
    return [(item["call_id"], item["name"], item["arguments"]) for item in output]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (piece(0, "f", "{", "a") + piece(0, None, "}", "a"), [("a", "f", "{}")]),
        (piece(0, "f", "{", "a") + piece(0, "f", "}", "a"), [("a", "f", "{}")]),
        (piece(None, "f", "{", "a") + piece(None, None, "}"), [("a", "f", "{}")]),
        (
            piece(None, "f", "1", "a") + piece(None, "f", "2", "b") + piece(None, None, "3"),
            [("a", "f", "1"), ("b", "f", "23")],
        ),
        (piece(0, "f", "1", "a") + piece(0, "f", "2", "b") + piece(0, None, "3"), [("a", "f", "1"), ("b", "f", "23")]),
        (piece(0, "f", "1", "a") + piece(0, None, "2", "new-each-time"), [("a", "f", "12")]),
        (piece(0, None, "1", "a") + piece(0, "f", "2"), [("a", "f", "12")]),
        (piece(0, "f", "1"), [("call_3", "f", "1")]),
        (piece(1, "f", "1", "a") + piece(7, "f", "2", "b"), [("a", "f", "1"), ("b", "f", "2")]),
        (piece(0, "", "", "a") + piece(1, "f", "", "b"), [("b", "f", "{}")]),
        (
            delta(function_call={"name": "f", "arguments": "{"}) + delta(function_call={"arguments": "}"}),
            [("call_3", "f", "{}")],
        ),
    ],
)
def test_pieces_find_their_call_however_they_are_numbered(data: bytes, expected: list[tuple[str, str, str]]) -> None:
    assert calls(data) == expected


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (b'data: {"error":{"message":"busy","code":503}}\n\n', "unavailable", "busy"),
        (b'event: error\ndata: {"message":"m"}\n\n', "protocol", "m"),
        (
            b"data: {\n\n",
            "protocol",
            "the upstream's stream holds unusable JSON: unexpected end of the text, line 1, column 2",
        ),
        (b"data: []\n\n", "protocol", "the upstream's stream holds an event that is no object"),
        (delta(content="x"), "protocol", "the upstream ended the stream before the answer was complete"),
        (COUNTED, "protocol", "the upstream ended the stream before the answer was complete"),
        (delta("error"), "protocol", "the upstream ended the answer with `finish_reason` `error`"),
        (piece(0, None, "{}") + delta("stop"), "protocol", "the upstream called a tool without a name"),
    ],
)
def test_what_is_no_stream_is_a_failure(data: bytes, kind: str, message: str) -> None:
    stream = way().stream()
    with pytest.raises(ConnectorError) as caught:
        b"".join([*map(stream.feed, Parser().feed(data)), stream.end()])
    assert (caught.value.kind, caught.value.message) == (kind, message)
    assert b"response.failed" in stream.failed(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"data: {}\n\n",
        b'data: {"choices":null}\n\n',
        b'data: {"choices":[{"index":1,"delta":{"content":"no"}}]}\n\n',
        b'data: {"choices":[{"delta":null}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"tool_calls":[7],"content":5}}]}\n\n',
    ],
)
def test_what_says_nothing_is_passed_over(data: bytes) -> None:
    assert told(data + delta("stop")).count(b"\nevent:") + 1 == 3


def test_nothing_counts_after_done() -> None:
    stream = way().stream()
    said = b"".join(map(stream.feed, Parser().feed(STREAM["a text"])))
    assert said.count(b"event: response.completed") == 1
    later = delta(content="more") + b'data: {"error":{"message":"late"}}\n\n' + b"data: <\n\n" + DONE
    assert b"".join(map(stream.feed, Parser().feed(later))) == stream.end() == b""


CONTRACT: Callable[[Body], Translation] = translate
"""For mypy: this is what core puts in its table."""


# --- failures --------------------------------------------------------------------------------------


def failure(error: Exception, *before: bytes, context: str = "") -> tuple[list[str], dict[str, Any]]:
    stream = way().stream()
    said = b"".join(map(stream.feed, Parser().feed(b"".join(before))))
    said += stream.failed(error, context=context)
    assert stream.failed(error) == b""
    assert stream.feed(Event("message", b"[DONE]")) == b""
    events = Parser().feed(said)
    watch = responses.StreamWatch()
    watch.feed(said)
    assert (watch.finished, watch.error, watch.at_boundary) == (True, True, True)
    return [event.event for event in events], json.loads(events[-1].data)["response"]


def test_a_failure_is_told_in_the_response_and_what_is_open_stays_so() -> None:
    names, response = failure(
        ConnectorError("timeout", "silent"), delta(content="x"), piece(0, "f", "{", "a"), context="c"
    )
    assert names == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.failed",
    ]
    assert response["status"] == "failed"
    assert response["error"] == {"code": "server_error", "message": "silent [llmgate: c]"}
    assert [item["type"] for item in response["output"]] == ["message"]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (
            ConnectorError("rate_limited", "slow down", retry_after=2.5),
            "rate_limit_exceeded",
            "slow down (try again in 3s)",
        ),
        (
            ConnectorError("rate_limited", "Please try again in 1.5s.", retry_after=9),
            "rate_limit_exceeded",
            "Please try again in 1.5s.",
        ),
        (ConnectorError("rate_limited", "slow down"), "rate_limit_exceeded", "slow down"),
        (ConnectorError("quota", "gone", retry_after=9), "insufficient_quota", "gone"),
        (ConnectorError("context_length", "too long", code="x"), "context_length_exceeded", "too long"),
        (ConnectorError("unavailable", "busy", status=503), "server_is_overloaded", "busy"),
        (ConnectorError("unavailable", "busy", status=500), "server_error", "busy"),
        (ConnectorError("bad_request", "no", status=422), "invalid_prompt", "no"),
        (RequestError("no"), "invalid_prompt", "no"),
        (RequestError("slow", status=429, retry_after=1), "rate_limit_exceeded", "slow (try again in 1s)"),
        (ZeroDivisionError("secret"), "server_error", "internal error of the gateway; its log has the details"),
    ],
)
def test_codes_by_which_codex_decides(error: Exception, code: str, message: str) -> None:
    names, response = failure(error)
    assert names == ["response.created", "response.in_progress", "response.failed"]
    assert response["error"] == {"code": code, "message": message}


@pytest.mark.parametrize("kind", ["denied", "disabled", "auth", "not_found"])
def test_codex_does_not_repeat_what_repeating_cannot_help(kind: Kind) -> None:
    assert failure(ConnectorError(kind, "no"))[1]["error"]["code"] == "invalid_prompt"


@pytest.mark.parametrize("kind", ["timeout", "protocol", "bug"])
def test_codex_tries_again_what_may_pass(kind: Kind) -> None:
    assert failure(ConnectorError(kind, "no"))[1]["error"]["code"] == "server_error"
