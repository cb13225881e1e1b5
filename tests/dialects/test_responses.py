"""What a Responses body means: requests, parameters, replies, errors, and streams that pass."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import ResponseErrorEvent

from llmgate_core.dialects import responses
from llmgate_core.errors import ConnectorError, RequestError
from llmgate_core.wire import Body

INPUT = b'"input":[{"role":"user","content":"hi"}]'

# --- requests --------------------------------------------------------------------------------------


def test_a_request_is_its_selector_and_its_own_bytes() -> None:
    data = b'{ "model": "a:b?top_k=5", "stream": true, %b, "n": 1e0 }\n' % INPUT
    request = responses.read_request(data)
    assert (request.selector, request.stream, request.body.bytes) == ("a:b?top_k=5", True, data)


@pytest.mark.parametrize("given_input", [b'"hi"', b"[]", b'[{"type":"nobody_knows_yet"}]'])
@pytest.mark.parametrize("stream", [b"", b'"stream":false,', b'"stream":null,'])
def test_input_is_a_text_or_items(given_input: bytes, stream: bytes) -> None:
    assert not responses.read_request(b'{"model":"m",%b"input":%b}' % (stream, given_input)).stream


@pytest.mark.parametrize(
    ("data", "param", "code", "message"),
    [
        (
            b'{"model": "m",\n  "input": [{} {}]}',
            None,
            "invalid_json",
            "the request's body is not usable JSON: expected `,` or `]`, line 2, column 16",
        ),
        (b"{%b}" % INPUT, "model", "missing_required_parameter", "`model` is missing"),
        (b'{"model":7,%b}' % INPUT, "model", "invalid_type", "`model` must be a string"),
        (b'{"model":" ",%b}' % INPUT, "model", "invalid_value", "`model` is empty; name a model"),
        (b'{"model":"m"}', "input", "missing_required_parameter", "`input` is missing"),
        (b'{"model":"m","input":{}}', "input", "invalid_type", "`input` must be a string or an array of objects"),
        (b'{"model":"m","input":null}', "input", "invalid_type", "`input` must be a string or an array of objects"),
        (b'{"model":"m","input":[{},"hi"]}', "input[1]", "invalid_type", "`input[1]` must be an object"),
        (b'{"model":"m","stream":1,%b}' % INPUT, "stream", "invalid_type", "`stream` must be `true` or `false`"),
    ],
)
def test_a_wrong_request_is_refused_in_words(data: bytes, param: str | None, code: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        responses.read_request(data)
    error = caught.value
    assert (error.status, error.param, error.code, error.message) == (400, param, code, message)


@pytest.mark.parametrize(
    ("value", "items"),
    [("hi", [{"type": "message", "role": "user", "content": "hi"}]), ([{"a": 1}, 2], [{"a": 1}]), (None, [])],
)
def test_input_as_items(value: Any, items: list[dict[str, Any]]) -> None:
    assert responses.input_items(value) == items


@pytest.mark.parametrize("name", ["previous_response_id", "conversation", "prompt"])
def test_input_may_come_from_elsewhere(name: str) -> None:
    assert responses.read_request(b'{"model":"m","%b":"x"}' % name.encode()).selector == "m"
    with pytest.raises(RequestError, match="`input` is missing"):
        responses.read_request(b'{"model":"m","%b":null}' % name.encode())


# --- parameters ------------------------------------------------------------------------------------


def test_params_are_what_the_caller_set_by_the_selectors_names() -> None:
    body = Body(
        b'{"temperature":0.5,"top_p":null,"max_output_tokens":9,"reasoning":{"effort":"low","summary":"auto"},'
        b'"text":{"verbosity":"high"},"truncation":"auto","seed":7}'
    )
    found = {"temperature": 0.5, "max_tokens": 9, "reasoning_effort": "low", "verbosity": "high"}
    assert responses.params(body) == found
    assert responses.params(body, also=("truncation", "none")) == {**found, "truncation": "auto"}


@pytest.mark.parametrize("body", [b"{}", b'{"reasoning":null,"text":"x"}', b'{"reasoning":{"effort":null},"text":[]}'])
def test_params_that_are_not_there(body: bytes) -> None:
    assert responses.params(Body(body)) == {}


def test_a_number_that_nobody_can_hold_is_refused() -> None:
    with pytest.raises(RequestError, match="`max_output_tokens`: number out of range") as caught:
        responses.params(Body(b'{"max_output_tokens": 1e999}'))
    assert caught.value.param == "max_output_tokens"


@pytest.mark.parametrize(
    ("body", "values", "changes"),
    [
        (b"{}", {"temperature": 1, "max_tokens": 5}, {"temperature": 1, "max_output_tokens": 5}),
        (b"{}", {"max_completion_tokens": 5}, {"max_output_tokens": 5}),
        (
            b'{"reasoning":{"summary":"auto","effort":"low"}}',
            {"reasoning_effort": "high"},
            {"reasoning": {"summary": "auto", "effort": "high"}},
        ),
        (
            b'{"text":{"format":{"type":"text"}}}',
            {"verbosity": "low"},
            {"text": {"format": {"type": "text"}, "verbosity": "low"}},
        ),
        (b'{"reasoning":null}', {"reasoning_effort": "high"}, {"reasoning": {"effort": "high"}}),
        (b'{"reasoning":"x"}', {"reasoning_effort": "high"}, {"reasoning": {"effort": "high"}}),
        (b"{}", {"enable_thinking": True}, {"enable_thinking": True}),
        (b"{}", {"seed": 1, "top_k": 1, "thinking_budget": 1, "presence_penalty": 1, "frequency_penalty": 1}, {}),
    ],
)
def test_parameters_are_placed(body: bytes, values: dict[str, Any], changes: dict[str, Any]) -> None:
    assert responses.placed(values, Body(body), refused=["temperature"]) == changes


VALUES = {
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0, 1),
    "max_tokens": st.integers(1, 10**6),
    "reasoning_effort": st.sampled_from(["low", "high"]),
    "verbosity": st.sampled_from(["low", "high"]),
}


@given(st.fixed_dictionaries({}, optional=VALUES))
def test_what_was_placed_is_read_again(values: dict[str, Any]) -> None:
    body = Body(b'{"model":"m","text":{"format":{"type":"text"}},"input":"hi"}')
    changed = body.splice(responses.placed(values, body))
    assert responses.params(changed) == values
    assert changed.data["text"]["format"] == {"type": "text"}
    assert set(responses.PARAMETERS) == VALUES.keys() | responses.has_no_place


# --- replies ---------------------------------------------------------------------------------------


def test_a_reply_tells_its_usage() -> None:
    data = b'{"status":"completed","error":null,"output":[],"usage":{"total_tokens":3}}'
    assert responses.read_reply(data) == {"total_tokens": 3}
    assert responses.read_reply(b'{"status":"incomplete","output":[{}],"usage":null}') is None


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (b" ", "protocol", "the upstream answered with an empty body"),
        (
            b"[]",
            "protocol",
            "the upstream's answer is not usable JSON: expected a JSON object, line 1, column 1",
        ),
        (b"{}", "protocol", "the upstream answered without `output`"),
        (b'{"output":null}', "protocol", "the upstream answered without `output`"),
        (b'{"status":"failed","output":[]}', "protocol", "the upstream reported an error without a message"),
        (
            b'{"status":"failed","output":[],"error":{"code":"rate_limit_exceeded","message":"slow"}}',
            "rate_limited",
            "slow",
        ),
        (b'{"error":{"message":"busy","code":503}}', "unavailable", "busy"),
        (b'{"error":{"message":"busy","code":"server_is_overloaded"}}', "unavailable", "busy"),
        (b'{"error":{"message":"no","code":"invalid_prompt"}}', "bad_request", "no"),
    ],
)
def test_what_is_no_reply_is_a_failure(data: bytes, kind: str, message: str) -> None:
    with pytest.raises(ConnectorError) as caught:
        responses.read_reply(data)
    assert (caught.value.kind, caught.value.message) == (kind, message)


# --- errors ----------------------------------------------------------------------------------------


def test_a_stream_that_is_passed_on_ends_with_a_flat_event() -> None:
    event = responses.error_event(ConnectorError("timeout", "silent"), context="x", sequence_number=7)
    name, data = event.decode().split("\n", 1)
    assert name == "event: error"
    told = ResponseErrorEvent.model_validate_json(data.removeprefix("data: "), strict=True)
    assert told.model_dump() == {
        "type": "error",
        "code": "upstream_timeout",
        "message": "silent [llmgate: x]",
        "param": None,
        "sequence_number": 7,
    }


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b'event: error\ndata: {"type":"error","code":"rate_limit_exceeded","message":"m"}\n\n', "rate_limited"),
        (b'data: {"type":"error","code":"insufficient_quota","message":"m"}\n\n', "quota"),
        (
            b'data: {"type":"response.failed","response":{"error":{"code":"server_error","message":"m"}}}\n\n',
            "unavailable",
        ),
        (b'data: {"error":{"message":"m","code":401}}\n\n', "auth"),
        (b"event: error\ndata: m\n\n", "protocol"),
        (b'{"error":{"message":"m","code":401}}', "auth"),
        (
            b'data: {"type":"response.created","response":{"error":null}}\n\n'
            b'data: {"type":"response.failed","response":{"error":{"code":"slow_down","message":"m"}}}\n\n',
            "rate_limited",
        ),
    ],
)
def test_a_stream_that_begins_with_an_error(data: bytes, kind: str) -> None:
    error = responses.first_event_error(data)
    assert error is not None
    assert (error.kind, error.message) == (kind, "m")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b": ping\n\n",
        b'data: {"type":"response.created","response":{"error":null,"metadata":{"type":"error"}}}\n\n',
        b'data: {"type":"response.output_text.delta","delta":"\\"error\\" response.failed"}\n\n',
        b'data: {"type":"response.output_text.delta","delta":"x"}\n\ndata: {"type":"error","message":"later"}\n\n',
        b'data: {"type":"error","message":"not yet compl',
        b'{"output":[],"error":null}',
    ],
)
def test_a_stream_that_begins_well(data: bytes) -> None:
    assert responses.first_event_error(data) is None


# --- a stream that passes --------------------------------------------------------------------------


def event(sort: str, **fields: Any) -> bytes:
    data = json.dumps({"type": sort, "sequence_number": 3, **fields}, ensure_ascii=False)
    return f"event: {sort}\ndata: {data}\n\n".encode()


def watch(*pieces: bytes) -> responses.StreamWatch:
    watcher = responses.StreamWatch()
    for piece in pieces:
        watcher.feed(piece)
    return watcher


def told(watcher: responses.StreamWatch) -> tuple[object, ...]:
    return (watcher.finished, watcher.done, watcher.error, watcher.meaningful, watcher.usage, watcher.at_boundary)


USAGE = {"input_tokens": 1, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 2, "total_tokens": 3}
TRICKS = st.sampled_from(
    [
        '"type":"response.completed"',
        '"type": "response.failed"',
        "response.completed",
        '"usage":{"total_tokens":9}',
        '"error": {"message": "x"}',
        'data: {"type":"error"}',
        "\n\n",
        "\r",
        "event: error\n",
        "data: [DONE]",
        "\\",
        '"',
        "好",
        "{",
        " ",
    ]
)
TRICKY = st.lists(TRICKS, max_size=8).map("".join)
PLACES = st.lists(st.integers(0, 4000), max_size=6)
ECHO = {
    "error": None,
    "tools": [{"parameters": {"properties": {"usage": {"type": "string"}}}}],
    "metadata": {"type": "response.completed", "usage": "x"},
}


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(at)]


@settings(max_examples=200, deadline=None)
@given(st.lists(TRICKY, max_size=3), PLACES)
def test_text_inside_strings_and_echoes_fool_nobody(texts: list[str], places: list[int]) -> None:
    stream = event("response.created", response=ECHO)
    stream += b"".join(event("response.output_text.delta", delta=text) for text in texts)
    watcher = watch(*cut(stream, places))
    assert told(watcher) == (False, False, False, any(text.strip() for text in texts), None, True)
    assert watcher.next_sequence_number == 4
    assert responses.first_event_error(stream) is None


@settings(max_examples=200, deadline=None)
@given(
    TRICKY,
    PLACES,
    st.sampled_from([None, "completed", "incomplete", "failed"]),
    st.booleans(),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.booleans(),
)
def test_what_passed_is_known_for_any_cut(
    text: str, places: list[int], end: str | None, error: bool, line_end: bytes, names: bool
) -> None:
    stream = event("response.created", response=ECHO) + event("response.output_text.delta", delta=text)
    if end:
        stream += event(f"response.{end}", response={"usage": USAGE, **ECHO})
    stream += event("error", message="x") if error else b": ping\n\n"
    if not names:
        stream = b"".join(line for line in stream.splitlines(keepends=True) if not line.startswith(b"event:"))
    watcher = watch(*cut(stream.replace(b"\n", line_end), places))
    finished, failed = end is not None, error or end == "failed"
    meaningful = finished or bool(text.strip())
    assert told(watcher) == (finished, finished, failed, meaningful, USAGE if end else None, True)


@pytest.mark.parametrize(
    ("passed", "finished", "done"),
    [
        (event("response.completed"), True, True),
        (b'data: {"sequence_number":1,"type" : "response.incomplete"}\n\n', True, True),
        (b"event: response.completed\n", False, False),
        (b'data: {"type":"response.completed"}', False, False),
        (b"data: [DONE]\n\n", False, True),
        (event("response.in_progress"), False, False),
    ],
)
def test_finished(passed: bytes, finished: bool, done: bool) -> None:
    watcher = watch(passed)
    assert (watcher.finished, watcher.done) == (finished, done)


@pytest.mark.parametrize(
    ("passed", "meaningful"),
    [
        (event("response.in_progress", response={"tools": [{"type": "function"}]}), False),
        (event("response.output_item.added", item={"type": "message", "content": []}), False),
        (event("response.output_text.delta", delta=" \n"), False),
        (event("response.output_text.delta", delta=" x"), True),
        (event("response.reasoning_summary_text.delta", delta="x"), True),
        (event("response.output_item.added", item={"type": "function_call"}), True),
        (event("response.output_item.added", item={"type": "web_search_call"}), True),
        (event("response.output_item.done", item={"type": "message"}), True),
        (event("response.failed"), True),
    ],
)
def test_meaningful(passed: bytes, meaningful: bool) -> None:
    assert watch(passed).meaningful is meaningful
    assert watch(passed[:-2]).meaningful is False  # the line has not ended


@pytest.mark.parametrize(
    ("passed", "error"),
    [
        (b"event: error\ndata: x\n\n", True),
        (b"event:error\r\ndata: {}\r\n\r\n", True),
        (b'data: {"type":"error"}\n\n', True),
        (b'data: {"type":"error","error":{"message":"x"}}\n\n', True),
        (event("response.failed", response={"error": None}), True),
        (event("response.in_progress", response={"error": None}), False),
        (b"event: errors\ndata: x\n\n", False),
    ],
)
def test_error_events(passed: bytes, error: bool) -> None:
    assert watch(passed).error is error


def test_usage_is_what_stands_at_the_end() -> None:
    echo = {"tools": [{"usage": {"tokens": 7}}]}
    created = event("response.created", response=echo)
    assert watch(created).usage is None
    assert watch(created, event("response.completed", response={**echo, "usage": USAGE})).usage == USAGE


def test_a_line_that_never_ends_is_not_kept_whole() -> None:
    watcher = watch(*[b"data: " + b"x" * 300_000] * 10)
    assert sum(map(len, watcher._line)) < 2 * 1024 * 1024
    assert not watcher.finished
    assert watch(event("response.completed", response={"output": ["x" * 3_000_000], "usage": USAGE})).usage == USAGE
