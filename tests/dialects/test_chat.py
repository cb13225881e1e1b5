"""What a Chat Completions body means: requests, replies, errors, and streams that pass."""

from __future__ import annotations

import json
import time
import tracemalloc
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmgate_core.dialects import chat
from llmgate_core.dialects.spoken import ErrorAnswer
from llmgate_core.errors import (
    KINDS,
    ConfigError,
    ConnectorError,
    Kind,
    PluginError,
    Problem,
    RequestError,
    SelectorError,
)
from llmgate_core.wire import Body

MESSAGES = b'"messages":[{"role":"user","content":"hi"}]'

# --- requests --------------------------------------------------------------------------------------


def test_a_request_is_its_selector_and_its_own_bytes() -> None:
    data = b'{ "model": "a:b?top_k=5", "stream": true, %b, "n": 1e0 }\n' % MESSAGES
    request = chat.read_request(data)
    assert (request.selector, request.stream, request.body.bytes) == ("a:b?top_k=5", True, data)


@pytest.mark.parametrize("stream", [b"", b'"stream":false,', b'"stream":null,'])
def test_a_request_is_plain_unless_it_says_stream(stream: bytes) -> None:
    assert not chat.read_request(b'{"model":"m",%b%b}' % (stream, MESSAGES)).stream


@pytest.mark.parametrize(
    ("data", "param", "code", "message"),
    [
        (
            b'{"model": "m",\n  "messages": [{} {}]}',
            None,
            "invalid_json",
            "the request's body is not usable JSON: expected `,` or `]`, line 2, column 19",
        ),
        (
            b"[]",
            None,
            "invalid_json",
            "the request's body is not usable JSON: expected a JSON object, line 1, column 1",
        ),
        (b"{%b}" % MESSAGES, "model", "missing_required_parameter", "`model` is missing"),
        (b'{"model":7,%b}' % MESSAGES, "model", "invalid_type", "`model` must be a string"),
        (b'{"model":null,%b}' % MESSAGES, "model", "invalid_type", "`model` must be a string"),
        (b'{"model":" ",%b}' % MESSAGES, "model", "invalid_value", "`model` is empty; name a model"),
        (b'{"model":"m"}', "messages", "missing_required_parameter", "`messages` is missing"),
        (
            b'{"model":"m","messages":{}}',
            "messages",
            "invalid_type",
            "`messages` must be an array of objects",
        ),
        (
            b'{"model":"m","messages":[ ]}',
            "messages",
            "invalid_value",
            "`messages` is empty; send at least one",
        ),
        (
            b'{"model":"m","messages":[{},"hi"]}',
            "messages[1]",
            "invalid_type",
            "`messages[1]` must be an object",
        ),
        (
            b'{"model":"m","stream":1,%b}' % MESSAGES,
            "stream",
            "invalid_type",
            "`stream` must be `true` or `false`",
        ),
    ],
)
def test_a_wrong_request_is_refused_in_words(data: bytes, param: str | None, code: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        chat.read_request(data)
    error = caught.value
    assert (error.status, error.param, error.code, error.message) == (400, param, code, message)


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=40)
    | st.dictionaries(
        st.sampled_from(["model", "messages", "stream", "x"]),
        st.sampled_from(["m", "", 1, None, True, [], [{}], [1], {}]),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_body_is_a_request_or_a_400(data: bytes) -> None:
    try:
        request = chat.read_request(data)
    except RequestError as error:
        refused: RequestError | None = error
    else:
        refused = None
        assert request.body.data["model"] == request.selector
    assert refused is None or refused.status == 400


def test_params_are_what_the_caller_set() -> None:
    body = Body(b'{"temperature":0.5,"seed":7,"top_p":null,"stop":["x"],"max_completion_tokens":9,"user":"u"}')
    assert chat.params(body) == {"temperature": 0.5, "seed": 7, "max_tokens": 9}
    assert chat.params(body, also=("stop", "seed", "none")) == {
        "temperature": 0.5,
        "seed": 7,
        "max_tokens": 9,
        "stop": ["x"],
    }


def test_a_number_that_nobody_can_hold_is_refused() -> None:
    with pytest.raises(RequestError, match="`temperature`: number out of range") as caught:
        chat.params(Body(b'{"temperature": 1e999}'))
    assert caught.value.param == "temperature"


@pytest.mark.parametrize(
    ("name", "body", "expected"),
    [
        ("max_tokens", b"{}", "max_tokens"),
        ("max_tokens", b'{"max_completion_tokens":1}', "max_completion_tokens"),
        ("max_tokens", b'{"max_completion_tokens":1,"max_tokens":2}', "max_completion_tokens"),
        ("max_completion_tokens", b'{"max_tokens":1}', "max_tokens"),
        ("max_completion_tokens", b'{"max_completion_tokens":1,"max_tokens":2}', "max_completion_tokens"),
        ("temperature", b'{"max_completion_tokens":1}', "temperature"),
    ],
)
def test_placed_uses_the_callers_name_for_a_thing(name: str, body: bytes, expected: str) -> None:
    assert list(chat.placed({name: 1}, Body(body))) == [expected]


@pytest.mark.parametrize(
    ("name", "body", "refused", "expected"),
    [
        ("max_tokens", b"{}", ["max_tokens"], "max_completion_tokens"),
        ("max_tokens", b"{}", ["max_tokens", "max_completion_tokens"], "max_tokens"),
        ("max_tokens", b"{}", ["max_completion_tokens"], "max_tokens"),
        ("max_completion_tokens", b"{}", ["max_completion_tokens"], "max_tokens"),
        ("max_tokens", b'{"max_tokens":1}', ["max_tokens"], "max_tokens"),
        ("max_tokens", b'{"max_completion_tokens":1}', ["max_completion_tokens"], "max_completion_tokens"),
        ("temperature", b"{}", ["temperature"], "temperature"),
    ],
)
def test_placed_uses_the_name_that_the_model_takes_where_the_caller_has_none(
    name: str, body: bytes, refused: list[str], expected: str
) -> None:
    assert list(chat.placed({name: 1}, Body(body), refused)) == [expected]


def test_a_thing_is_refused_when_all_its_names_are() -> None:
    assert chat.is_refused("temperature", ["temperature"])
    assert not chat.is_refused("temperature", ["top_p"])
    assert not chat.is_refused("max_tokens", ["max_tokens"])
    assert chat.is_refused("max_tokens", ["max_tokens", "max_completion_tokens"])


# --- replies ---------------------------------------------------------------------------------------


def test_a_reply_tells_its_usage() -> None:
    assert chat.read_reply(b'{"choices":[{}],"usage":{"total_tokens":3}}') == {"total_tokens": 3}
    assert chat.read_reply(b'{"choices":[{}],"error":null}') is None
    assert chat.read_reply(b'{"choices":[{}],"usage":7}') is None


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (b" ", "protocol", "the upstream answered with an empty body"),
        (
            b'{"choices"',
            "protocol",
            "the upstream's answer is not usable JSON: unexpected end of the text, line 1, column 11",
        ),
        (
            b"[]",
            "protocol",
            "the upstream's answer is not usable JSON: expected a JSON object, line 1, column 1",
        ),
        (b"{}", "protocol", "the upstream answered without `choices`"),
        (b'{"choices":null}', "protocol", "the upstream answered without `choices`"),
        (b'{"choices":[ ]}', "protocol", "the upstream answered without `choices`"),
        (b'{"choices":[{}],"error":{"message":"busy","code":503}}', "unavailable", "busy"),
        (b'{"error":"broken"}', "protocol", "broken"),
    ],
)
def test_what_is_no_reply_is_a_failure(data: bytes, kind: str, message: str) -> None:
    with pytest.raises(ConnectorError) as caught:
        chat.read_reply(data)
    assert (caught.value.kind, caught.value.message) == (kind, message)


# --- errors for the caller -------------------------------------------------------------------------


def fields(answer: ErrorAnswer) -> dict[str, Any]:
    body = json.loads(answer.body)
    assert list(body) == ["error"]
    assert list(body["error"]) == ["message", "type", "param", "code"]
    error: dict[str, Any] = body["error"]
    return error


@pytest.mark.parametrize(
    ("kind", "status", "sort", "code", "repeat"),
    [
        ("disabled", 403, "permission_error", "backend_disabled", False),
        ("denied", 403, "permission_error", "access_denied", False),
        ("auth", 502, "server_error", "upstream_auth", False),
        ("rate_limited", 429, "rate_limit_error", "rate_limit_exceeded", True),
        ("quota", 429, "insufficient_quota", "insufficient_quota", False),
        ("bad_request", 400, "invalid_request_error", "bad_request", False),
        ("context_length", 400, "invalid_request_error", "context_length_exceeded", False),
        ("not_found", 404, "not_found_error", "model_not_found", False),
        ("unavailable", 502, "server_error", "upstream_unavailable", True),
        ("timeout", 504, "server_error", "upstream_timeout", True),
        ("protocol", 502, "server_error", "upstream_protocol_error", True),
        ("bug", 502, "server_error", "connector_bug", False),
    ],
)
def test_each_kind_of_failure_has_its_answer(kind: Kind, status: int, sort: str, code: str, repeat: bool) -> None:
    answer = chat.error_answer(ConnectorError(kind, "words"))
    assert answer.status == status
    assert fields(answer) == {"message": "words", "type": sort, "param": None, "code": code}
    assert answer.headers == {"content-type": "application/json"} | ({} if repeat else {"x-should-retry": "false"})


def test_every_kind_is_in_the_table_above() -> None:
    assert len(KINDS) == 12


def test_the_upstreams_own_words_are_kept() -> None:
    error = ConnectorError(
        "bad_request", "Bad \n ünit", status=422, type="validation", code="c7", param="top_k", retry_after=1.2
    )
    answer = chat.error_answer(error, context="acme.default, attempt 2")
    assert answer.status == 422
    assert answer.headers["retry-after"] == "2"
    assert fields(answer) == {
        "message": "Bad \n ünit [llmgate: acme.default, attempt 2]",
        "type": "validation",
        "param": "top_k",
        "code": "c7",
    }


def test_the_type_of_another_status_is_not_kept() -> None:
    error = ConnectorError("auth", "expired", status=401, type="authentication_error", code="invalid_api_key")
    assert fields(chat.error_answer(error)) == {
        "message": "expired",
        "type": "server_error",
        "param": None,
        "code": "upstream_auth",
    }


@pytest.mark.parametrize(
    ("kind", "status", "sort"),
    [
        ("rate_limited", 429, "theirs"),
        ("quota", 429, "theirs"),
        ("quota", 402, "insufficient_quota"),
        ("quota", None, "insufficient_quota"),
        ("denied", 403, "theirs"),
        ("denied", 401, "permission_error"),
        ("not_found", 400, "not_found_error"),
        ("rate_limited", None, "rate_limit_error"),
        ("unavailable", 503, "theirs"),
        ("unavailable", 500, "server_error"),
        ("bad_request", 422, "theirs"),
        ("bad_request", None, "invalid_request_error"),
    ],
)
def test_the_upstreams_type_is_told_where_its_status_is_ours(kind: Kind, status: int | None, sort: str) -> None:
    error = ConnectorError(kind, "words", status=status, type="theirs")
    assert fields(chat.error_answer(error))["type"] == sort
    assert json.loads(chat.error_event(error).removeprefix(b"data: "))["error"]["type"] == sort


@pytest.mark.parametrize(
    ("error", "status", "sort", "code", "retry"),
    [
        (RequestError("m", param="model"), 400, "invalid_request_error", "invalid_request", False),
        (
            RequestError("m", status=401, code="invalid_api_key"),
            401,
            "authentication_error",
            "invalid_api_key",
            False,
        ),
        (RequestError("m", status=403), 403, "permission_error", "invalid_request", False),
        (RequestError("m", status=413, code="too_large"), 413, "invalid_request_error", "too_large", False),
        (RequestError("m", status=429, retry_after=3), 429, "rate_limit_error", "invalid_request", True),
        (SelectorError("m", "a|b", 1, status=404), 404, "not_found_error", "invalid_selector", False),
    ],
)
def test_a_refused_request(error: RequestError, status: int, sort: str, code: str, retry: bool) -> None:
    answer = chat.error_answer(error)
    assert answer.status == status
    assert fields(answer) == {"message": error.message, "type": sort, "param": error.param, "code": code}
    assert ("x-should-retry" not in answer.headers) is retry
    assert answer.headers.get("retry-after") == ("3" if error.retry_after else None)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError([Problem("secret.yaml", 3, "secret")]), "configuration_error"),
        (PluginError("secret"), "plugin_error"),
        (ZeroDivisionError("secret"), "internal_error"),
    ],
)
def test_failures_of_our_own_tell_no_details(error: Exception, code: str) -> None:
    answer = chat.error_answer(error)
    assert answer.status == 500
    assert (fields(answer)["type"], fields(answer)["code"]) == ("server_error", code)
    assert b"secret" not in answer.body
    assert answer.headers["x-should-retry"] == "false"


def test_a_stream_that_has_begun_is_told_in_an_event() -> None:
    event = chat.error_event(ConnectorError("timeout", "silent"), context="x")
    assert event == (
        b'data: {"error":{"message":"silent [llmgate: x]","type":"server_error","param":null,'
        b'"code":"upstream_timeout"}}\n\n'
    )


# --- the first event of a stream -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b'data: {"error":{"message":"m","code":429}}\n\n', "rate_limited"),
        (b'data: {"error":{"message":"m","type":"overloaded_error"}}\n\n', "unavailable"),
        (b': hello\n\nevent: error\ndata: {"message":"m"}\n\n', "protocol"),
        (b"event: error\ndata: m\n\n", "protocol"),
        (b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\ndata: {"error":"m"}\n\n', "protocol"),
        (b'{"error":{"message":"m","code":401}}', "auth"),
        (b'data: {"error":{"message":"m","code":401}}\n\n', "auth"),
    ],
)
def test_a_stream_that_begins_with_an_error(data: bytes, kind: str) -> None:
    error = chat.first_event_error(data)
    assert error is not None
    assert (error.kind, error.message) == (kind, "m")


@pytest.mark.parametrize(
    "data",
    [
        b'data: {"choices":[{"delta":{"content":"half\n\n',
        b'data: {"choices":[{"delta":{"content":"half\r\n\r\ndata: [DONE]\r\n\r\n',
        b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\ndata: once upon a time\n\n',
    ],
)
def test_a_stream_that_begins_with_something_unreadable(data: bytes) -> None:
    error = chat.first_event_error(data)
    assert error is not None
    assert (error.kind, error.message) == (
        "protocol",
        "the upstream's stream begins with an event that is not usable JSON",
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b": ping\n\n",
        b"data:\n\n",
        b"data: [DONE]\n\n",
        b"event: ping\ndata: now\n\n",
        b'data: {"choices":[{"delta":{"content":"x"}}]}\n\ndata: {"choices":[{"del\n\n',
        b'data: {"choices":[{"delta":{"role":"assistant"}}],"error":null}\n\n',
        b'data: {"choices":[{"delta":{"content":"\\"error\\""}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"x"}}]}\n\ndata: {"error":"later"}\n\n',
        b'data: {"error":{"message":"not yet compl',
        b'data: {"error":{"message":"its end may go on","code":401}}',
        b'{"choices":[],"error":null}',
        b"event: error",
    ],
)
def test_a_stream_that_begins_well(data: bytes) -> None:
    assert chat.first_event_error(data) is None


# --- a stream that passes --------------------------------------------------------------------------


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    choices = [{"index": 0, "delta": delta or {}, "finish_reason": finish}]
    return b"data: %b\n\n" % json.dumps({"id": "c", "choices": choices, **more}, ensure_ascii=False).encode()


def watch(*pieces: bytes) -> chat.StreamWatch:
    watcher = chat.StreamWatch()
    for piece in pieces:
        watcher.feed(piece)
    return watcher


def told(watcher: chat.StreamWatch) -> tuple[object, ...]:
    return (watcher.finished, watcher.error, watcher.meaningful, watcher.usage, watcher.at_boundary)


USAGE = {"prompt_tokens": 1, "details": {"cached": 0, "}": "]"}, "completion_tokens": 2}
TRICKS = st.sampled_from(
    [
        '"finish_reason": "stop"',
        '"finish_reason":"stop"',
        "finish_reason",
        '"usage":{"total_tokens":9}',
        '"error": {"message": "x"}',
        'data: {"error": "x"}',
        "\n\n",
        "\r",
        "event: error\n",
        "data: [DONE]",
        "[DONE]",
        "\\",
        '"',
        "好",
        "content",
        ": ",
        ",",
        "{",
        " ",
    ]
)
TRICKY = st.lists(TRICKS, max_size=8).map("".join)
PLACES = st.lists(st.integers(0, 2000), max_size=6)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(at)]


@settings(max_examples=300, deadline=None)
@given(st.lists(TRICKY, max_size=3), PLACES)
@example(['data: [DONE]\n\n"finish_reason":"stop","error":{"a":1},"usage":{}'], [])
def test_text_inside_strings_fools_nobody(texts: list[str], places: list[int]) -> None:
    stream = b"".join(chunk({"content": text, "tool_calls": [{"function": {"arguments": text}}]}) for text in texts)
    watcher = watch(*cut(stream, places))
    assert told(watcher) == (False, False, bool(texts), None, True)
    assert chat.first_event_error(stream) is None


@settings(max_examples=200, deadline=None)
@given(TRICKY, PLACES, st.booleans(), st.booleans(), st.booleans(), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_what_passed_is_known_for_any_cut(
    text: str, places: list[int], finish: bool, usage: bool, error: bool, line_end: bytes
) -> None:
    stream = chunk({"role": "assistant", "content": ""}, usage=None, error=None)
    stream += chunk({"content": text})
    stream += chunk(finish="length" if finish else None)
    stream += chunk(usage=USAGE) + chunk(usage=None) if usage else b": ping\n\n"
    stream += b'data: {"id": 1, "error": {"message": "x"}}\n\n' if error else b""
    watcher = watch(*cut(stream.replace(b"\n", line_end), places))
    meaningful = finish or bool(text.strip())
    assert told(watcher) == (finish, error, meaningful, USAGE if usage else None, True)


@pytest.mark.parametrize(
    ("event", "finished"),
    [
        (chunk(finish="stop"), True),
        (chunk(finish="tool_calls"), True),
        (b'data: {"choices":[{"finish_reason" :\t"stop"}]}\n\n', True),
        (b"data: [DONE]\n\n", True),
        (b"data:[DONE]\n\n", True),
        (chunk(finish=None), False),
        (chunk(finish=""), False),
        (b": data: [DONE]\n\n", False),
        (b'data: {"choices":[{"finish_reason":"stop"}]}', False),
    ],
)
def test_finished(event: bytes, finished: bool) -> None:
    assert watch(chunk({"content": "x"}), event).finished is finished


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (b'data: {"error":{"message":"x"}}\n\n', True),
        (b'data:{"choices":[],"error":"x"}\r\n\r\n', True),
        (b"event: error\ndata: x\n\n", True),
        (b"event:error\ndata: x\n\n", True),
        (b'data: {"error":null}\n\n', False),
        (b'data: {"error":{}}\n\n', False),
        (b'data: {"choices":[{"delta":{"error":"x"}}]}\n\n', False),
        (b"event: errors\ndata: x\n\n", False),
        (b'data: "error": nonsense\n\n', False),
    ],
)
def test_error_frames(event: bytes, error: bool) -> None:
    assert watch(chunk(), event).error is error
    assert watch(event).error is error


@pytest.mark.parametrize(
    ("delta", "meaningful"),
    [
        ({"role": "assistant"}, False),
        ({"content": ""}, False),
        ({"content": None}, False),
        ({"content": " \n"}, False),
        ({"tool_calls": []}, False),
        ({"content": "x"}, True),
        ({"content": " \n\\"}, True),
        ({"content": '"'}, True),
        ({"reasoning_content": "x"}, True),
        ({"reasoning": "x"}, True),
        ({"refusal": "no"}, True),
        ({"tool_calls": [{"index": 0}]}, True),
        ({"function_call": {"name": "f"}}, True),
    ],
)
def test_meaningful(delta: dict[str, Any], meaningful: bool) -> None:
    assert watch(chunk(delta)).meaningful is meaningful
    assert watch(chunk(delta)[:-2]).meaningful is False  # the line has not ended


def test_the_last_usage_counts_wherever_it_stands() -> None:
    assert watch(chunk(usage={"n": 1}), chunk(usage={"n": 2}), chunk(usage=None)).usage == {"n": 2}
    assert watch(chunk(usage={"n": 1}) + chunk(usage=None)).usage == {"n": 1}
    assert watch(chunk(x_groq={"usage": {"n": 3}})).usage == {"n": 3}
    assert watch(chunk(usage=None)).usage is None
    watcher = watch(chunk(usage={"n": 1}))
    assert watcher.usage == watcher.usage == {"n": 1}
    watcher.feed(chunk(usage={"n": 2}))
    assert watcher.usage == {"n": 2}


@pytest.mark.parametrize(
    ("pieces", "boundary"),
    [
        ([], True),
        ([b"data: x\n\n"], True),
        ([b"data: x\r\n\r\n"], True),
        ([b"data: x\r\r"], True),
        ([b"data: x\r\n", b"\r", b"\n"], True),
        ([b"data: x\n", b"", b"\n"], True),
        ([b"data: x\r\n"], False),
        ([b"data: x\r", b"\n"], False),
        ([b"data: x\n\n", b"d"], False),
        ([b"data: x\n\n", b"data: y\n"], False),
        ([b"\n"], True),
    ],
)
def test_at_boundary(pieces: list[bytes], boundary: bool) -> None:
    assert watch(*pieces).at_boundary is boundary


def test_an_enormous_line_is_watched_in_bounded_memory() -> None:
    start, end = chunk({"image": "@"}, finish="stop").split(b"@")
    watcher = watch(start)
    tracemalloc.start()
    for _ in range(1000):
        watcher.feed(b"x" * 10_000 + b" data: [DONE]")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 1024 * 1024
    assert not watcher.finished
    watcher.feed(end)
    assert (watcher.finished, watcher.error, watcher.at_boundary) == (True, False, True)


def test_a_line_in_tiny_pieces_costs_linear_time() -> None:
    stream = chunk({"content": "x" * 300_000})
    started = time.perf_counter()
    watcher = watch(*(stream[at : at + 3] for at in range(0, len(stream), 3)))
    assert watcher.meaningful
    assert time.perf_counter() - started < 5
