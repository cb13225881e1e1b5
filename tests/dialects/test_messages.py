"""What an Anthropic Messages body means: requests, parameters, replies, errors, and the first event of a stream."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgate_core.dialects import chat, messages
from llmgate_core.dialects.spoken import ErrorAnswer
from llmgate_core.errors import KINDS, ConfigError, ConnectorError, Kind, PluginError, Problem, RequestError
from llmgate_core.wire import Body

MESSAGES = b'"max_tokens":9,"messages":[{"role":"user","content":"hi"}]'

# --- requests --------------------------------------------------------------------------------------


def test_a_request_is_its_selector_and_its_own_bytes() -> None:
    data = b'{ "model": "a:b?top_k=5", "stream": true, %b, "temperature": 1e0 }\n' % MESSAGES
    request = messages.read_request(data)
    assert (request.selector, request.stream, request.body.bytes) == ("a:b?top_k=5", True, data)


@pytest.mark.parametrize(
    ("data", "param", "code", "message"),
    [
        (
            b"[]",
            None,
            "invalid_json",
            "the request's body is not usable JSON: expected a JSON object, line 1, column 1",
        ),
        (b"{%b}" % MESSAGES, "model", "missing_required_parameter", "`model` is missing"),
        (b'{"model":7,%b}' % MESSAGES, "model", "invalid_type", "`model` must be a string"),
        (b'{"model":" ",%b}' % MESSAGES, "model", "invalid_value", "`model` is empty; name a model"),
        (b'{"model":"m"}', "messages", "missing_required_parameter", "`messages` is missing"),
        (
            b'{"model":"m","messages":"hi"}',
            "messages",
            "invalid_type",
            "`messages` must be an array of objects",
        ),
        (b'{"model":"m","messages":[]}', "messages", "invalid_value", "`messages` is empty; send at least one"),
        (
            b'{"model":"m","messages":[{},"hi"]}',
            "messages[1]",
            "invalid_type",
            "`messages[1]` must be an object",
        ),
        (
            b'{"model":"m","messages":[{}]}',
            "max_tokens",
            "missing_required_parameter",
            "max_tokens: Field required",
        ),
        (
            b'{"model":"m","messages":[{}],"max_tokens":"9"}',
            "max_tokens",
            "invalid_type",
            "max_tokens: Input should be a valid integer",
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
        messages.read_request(data)
    error = caught.value
    assert (error.status, error.param, error.code, error.message) == (400, param, code, message)


def test_a_request_that_only_counts_needs_no_max_tokens() -> None:
    data = b'{"model":"m","messages":[{}]}'
    assert messages.read_request(data, counts=True).selector == "m"


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=40)
    | st.dictionaries(
        st.sampled_from(["model", "messages", "stream", "max_tokens", "x"]),
        st.sampled_from(["m", "", 1, None, True, [], [{}], [1], {}]),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_body_is_a_request_or_a_400(data: bytes) -> None:
    try:
        request = messages.read_request(data)
    except RequestError as error:
        refused: RequestError | None = error
    else:
        refused = None
        assert request.body.data["model"] == request.selector
    assert refused is None or refused.status == 400


# --- parameters ------------------------------------------------------------------------------------

BODY = {
    "temperature": 0.5,
    "top_p": None,
    "max_tokens": 9,
    "thinking": {"type": "enabled", "budget_tokens": 2048},
    "output_config": {"effort": "high", "format": {"type": "json_schema"}},
    "seed": 7,
}


def body(members: Any) -> Body:
    return Body(json.dumps(members).encode())


def test_params_are_what_the_caller_set() -> None:
    expected = {"temperature": 0.5, "max_tokens": 9, "thinking_budget": 2048, "reasoning_effort": "high"}
    assert messages.params(body(BODY)) == expected
    also = {"max_completion_tokens": 9, "model": "m"}
    assert messages.params(body({**BODY, "model": "m"}), also=("seed", *also)) == {**expected, **also}


@pytest.mark.parametrize(
    ("thinking", "budget"),
    [
        ({"type": "disabled"}, {"thinking_budget": 0}),
        ({"type": "adaptive"}, {}),
        ("wrong", {}),
        (None, {}),
    ],
)
def test_a_budget_is_what_thinking_says(thinking: Any, budget: dict[str, Any]) -> None:
    assert messages.params(body({"thinking": thinking})) == budget


def test_a_number_that_nobody_can_hold_is_refused() -> None:
    with pytest.raises(RequestError, match="`thinking`: number out of range") as caught:
        messages.params(Body(b'{"thinking": {"budget_tokens": 1e999}}'))
    assert caught.value.param == "thinking"


@pytest.mark.parametrize(
    ("values", "before", "changes"),
    [
        ({"temperature": 0, "top_k": 5, "top_p": 1}, {}, {"temperature": 0, "top_k": 5, "top_p": 1}),
        ({"max_tokens": 5}, {}, {"max_tokens": 5}),
        ({"max_completion_tokens": 5}, {}, {"max_tokens": 5}),
        ({"seed": 1, "presence_penalty": 1, "frequency_penalty": 1, "verbosity": "low"}, {}, {}),
        ({"thinking_budget": 2000}, {}, {"thinking": {"type": "enabled", "budget_tokens": 2000}}),
        (
            {"thinking_budget": 2000},
            {"thinking": {"type": "adaptive", "display": "omitted"}},
            {"thinking": {"type": "enabled", "display": "omitted", "budget_tokens": 2000}},
        ),
        (
            {"thinking_budget": 0},
            {"thinking": {"type": "adaptive", "display": "x"}},
            {"thinking": {"type": "disabled"}},
        ),
        ({"reasoning_effort": "max"}, {}, {"output_config": {"effort": "max"}}),
        (
            {"reasoning_effort": "minimal"},
            {"output_config": {"effort": "high", "format": {}}},
            {"output_config": {"effort": "low", "format": {}}},
        ),
        ({"reasoning_effort": "none"}, {}, {"thinking": {"type": "disabled"}}),
        (
            {"reasoning_effort": "none", "thinking_budget": 5},
            {},
            {"thinking": {"type": "enabled", "budget_tokens": 5}},
        ),
        ({"thinking_budget": 5}, {"thinking": "wrong"}, {"thinking": {"type": "enabled", "budget_tokens": 5}}),
        ({"speed": "fast"}, {}, {"speed": "fast"}),
    ],
)
def test_parameters_are_placed_where_anthropic_has_them(
    values: dict[str, Any], before: dict[str, Any], changes: dict[str, Any]
) -> None:
    assert messages.placed(values, body(before)) == changes


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "temperature": st.floats(0, 1),
            "top_k": st.integers(1, 99),
            "max_tokens": st.integers(1, 99),
            "thinking_budget": st.integers(0, 99),
            "reasoning_effort": st.sampled_from(["low", "medium", "high", "xhigh", "max"]),
        },
    )
)
def test_what_was_placed_is_found_again(values: dict[str, Any]) -> None:
    before = body({"output_config": {"format": {}}, "thinking": {"type": "adaptive"}})
    assert messages.params(before.splice(messages.placed(values, before))) == values


def test_every_parameter_has_a_place_or_none() -> None:
    assert set(messages.PARAMETERS) | messages.has_no_place == set(chat.PARAMETERS)
    assert not set(messages.PARAMETERS) & messages.has_no_place


# --- replies ---------------------------------------------------------------------------------------


def test_a_reply_tells_its_usage() -> None:
    assert messages.read_reply(b'{"type":"message","content":[],"usage":{"input_tokens":3}}') == {"input_tokens": 3}
    assert messages.read_reply(b'{"content":[{}],"usage":7,"error":null}') is None


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (b" ", "protocol", "the upstream answered with an empty body"),
        (
            b'{"content"',
            "protocol",
            "the upstream's answer is not usable JSON: unexpected end of the text, line 1, column 11",
        ),
        (b"{}", "protocol", "the upstream answered with something else than a message"),
        (
            b'{"type":"completion","content":[]}',
            "protocol",
            "the upstream answered with something else than a message",
        ),
        (b'{"type":"error","error":{"type":"overloaded_error","message":"busy"}}', "unavailable", "busy"),
        (b'{"type":"error","error":{"type":"request_too_large","message":"big"}}', "bad_request", "big"),
        (b'{"type":"error","error":{"type":"billing_error","message":"pay"}}', "quota", "pay"),
        (b'{"error":"broken"}', "protocol", "broken"),
    ],
)
def test_what_is_no_reply_is_a_failure(data: bytes, kind: str, message: str) -> None:
    with pytest.raises(ConnectorError) as caught:
        messages.read_reply(data)
    assert (caught.value.kind, caught.value.message) == (kind, message)


@pytest.mark.parametrize(
    ("status", "sort", "words", "kind"),
    [
        (529, "overloaded_error", "Overloaded", "unavailable"),
        (500, "api_error", "Internal server error", "unavailable"),
        (413, "request_too_large", "too large", "bad_request"),
        (400, "invalid_request_error", "prompt is too long: 205000 tokens > 200000 maximum", "context_length"),
        (400, "invalid_request_error", "Your credit balance is too low", "quota"),
        (429, "rate_limit_error", "This request would exceed your rate limit", "rate_limited"),
        (401, "authentication_error", "invalid x-api-key", "auth"),
        (404, "not_found_error", "model: x", "not_found"),
    ],
)
def test_anthropics_errors_have_their_kinds(status: int, sort: str, words: str, kind: str) -> None:
    data = {"type": "error", "error": {"type": sort, "message": words}, "request_id": "req_011"}
    error = messages.upstream_error(status, {"retry-after": "7"}, json.dumps(data).encode())
    assert (error.kind, error.message, error.type, error.retry_after) == (kind, words, sort, 7)
    assert error.upstream_request_id == "req_011"
    answer = messages.error_answer(error)
    if kind not in ("auth", "quota"):  # that credential, and its account, are ours, not the caller's
        assert fields(answer) == {"type": sort, "message": words}
        assert answer.status == (status if status != 500 else 502)


# --- errors for the caller -------------------------------------------------------------------------


def fields(answer: ErrorAnswer) -> dict[str, Any]:
    told = json.loads(answer.body)
    assert list(told) == ["type", "error", "request_id"]
    assert (told["type"], list(told["error"])) == ("error", ["type", "message"])
    error: dict[str, Any] = told["error"]
    return error


@pytest.mark.parametrize(
    ("kind", "status", "sort", "repeat"),
    [
        ("disabled", 403, "permission_error", False),
        ("denied", 403, "permission_error", False),
        ("auth", 502, "api_error", False),
        ("rate_limited", 429, "rate_limit_error", True),
        ("quota", 429, "rate_limit_error", False),
        ("bad_request", 400, "invalid_request_error", False),
        ("context_length", 400, "invalid_request_error", False),
        ("not_found", 404, "not_found_error", False),
        ("unavailable", 502, "api_error", True),
        ("timeout", 504, "timeout_error", True),
        ("protocol", 502, "api_error", True),
        ("bug", 502, "api_error", False),
    ],
)
def test_each_kind_of_failure_has_its_answer(kind: Kind, status: int, sort: str, repeat: bool) -> None:
    answer = messages.error_answer(ConnectorError(kind, "words"))
    message = "words (prompt is too long)" if kind == "context_length" else "words"
    assert (answer.status, fields(answer)) == (status, {"type": sort, "message": message})
    assert answer.headers == {"content-type": "application/json"} | ({} if repeat else {"x-should-retry": "false"})


def test_every_kind_is_in_the_table_above() -> None:
    assert len(KINDS) == 12


def test_the_upstreams_own_words_are_kept() -> None:
    error = ConnectorError("bad_request", "Bad \n ünit", status=422, type="validation", retry_after=1.2)
    answer = messages.error_answer(error, context="acme.default, attempt 2", request_id="req_1")
    assert (answer.status, answer.headers["retry-after"]) == (422, "2")
    assert json.loads(answer.body) == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "Bad \n ünit [llmgate: acme.default, attempt 2]"},
        "request_id": "req_1",
    }


def test_the_type_of_another_status_is_not_kept() -> None:
    error = ConnectorError("auth", "invalid x-api-key", status=401, type="authentication_error")
    assert fields(messages.error_answer(error)) == {"type": "api_error", "message": "invalid x-api-key"}
    error = ConnectorError("bad_request", "m", status=422, type="request_too_large")
    assert fields(messages.error_answer(error))["type"] == "request_too_large"


@pytest.mark.parametrize(("status", "sort"), [(503, "overloaded_error"), (529, "overloaded_error"), (500, "api_error")])
def test_an_upstream_with_too_much_to_do(status: int, sort: str) -> None:
    answer = messages.error_answer(ConnectorError("unavailable", "m", status=status))
    assert (answer.status, fields(answer)["type"]) == (502 if status == 500 else status, sort)
    assert "x-should-retry" not in answer.headers


@pytest.mark.parametrize(
    ("error", "status", "sort", "retry"),
    [
        (RequestError("m", param="model"), 400, "invalid_request_error", False),
        (RequestError("m", status=401), 401, "authentication_error", False),
        (RequestError("m", status=403), 403, "permission_error", False),
        (RequestError("m", status=404), 404, "not_found_error", False),
        (RequestError("m", status=405), 405, "invalid_request_error", False),
        (RequestError("m", status=413), 413, "request_too_large", False),
        (RequestError("m", status=429, retry_after=3), 429, "rate_limit_error", True),
    ],
)
def test_a_refused_request(error: RequestError, status: int, sort: str, retry: bool) -> None:
    answer = messages.error_answer(error)
    assert (answer.status, fields(answer)) == (status, {"type": sort, "message": "m"})
    assert ("x-should-retry" not in answer.headers) is retry
    assert answer.headers.get("retry-after") == ("3" if error.retry_after else None)


@pytest.mark.parametrize(
    "error", [ConfigError([Problem("secret.yaml", 3, "secret")]), PluginError("secret"), ZeroDivisionError("secret")]
)
def test_failures_of_our_own_tell_no_details(error: Exception) -> None:
    answer = messages.error_answer(error)
    assert (answer.status, fields(answer)["type"]) == (500, "api_error")
    assert b"secret" not in answer.body
    assert answer.headers["x-should-retry"] == "false"


def test_a_stream_that_has_begun_is_told_in_an_event_with_a_name() -> None:
    event = messages.error_event(ConnectorError("timeout", "silent"), context="x", request_id="req_1")
    assert event == (
        b'event: error\ndata: {"type":"error","error":{"type":"timeout_error","message":"silent [llmgate: x]"},'
        b'"request_id":"req_1"}\n\n'
    )


# --- the first event of a stream -------------------------------------------------------------------

START = b'event: message_start\ndata: {"type":"message_start","message":{"content":[],"stop_reason":null}}\n\n'


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (
            b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"m"}}\n\n',
            "unavailable",
        ),
        (b'data: {"type":"error","error":{"type":"rate_limit_error","message":"m"}}\n\n', "rate_limited"),
        (START + b'event: error\ndata: {"type":"error","error":{"message":"m"}}\n\n', "protocol"),
        (b": hello\n\nevent: error\ndata: m\n\n", "protocol"),
        (b'{"type":"error","error":{"type":"authentication_error","message":"m"}}', "auth"),
        (b'data: {"error":{"message":"m","code":429}}\n\n', "rate_limited"),
    ],
)
def test_a_stream_that_begins_with_an_error(data: bytes, kind: str) -> None:
    error = messages.first_event_error(data)
    assert error is not None
    assert (error.kind, error.message) == (kind, "m")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        START,
        b'event: ping\ndata: {"type":"ping"}\n\n',
        b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"\\"error\\""}}\n\n',
        b'data: {"delta":{"text":"x"}}\n\nevent: error\ndata: {"type":"error"}\n\n',
        b'data: {"type":"error","error":{"message":"not yet compl',
        b"event: error",
    ],
)
def test_a_stream_that_begins_well(data: bytes) -> None:
    assert messages.first_event_error(data) is None


@pytest.mark.parametrize("thinking", [{"type": "adaptive"}, {"type": "enabled", "budget_tokens": 2000}])
def test_thinking_is_told_under_its_own_name_to_who_asks_for_it(thinking: dict[str, Any]) -> None:
    """Facts about Claude say `thinking` where it excludes a temperature."""
    body = Body.parse(json.dumps({"thinking": thinking}).encode())
    assert messages.params(body, ["thinking", "temperature"])["thinking"] == thinking
    assert "thinking" not in messages.params(body)
    assert "thinking" not in messages.params(Body(b'{"thinking": null}'), ["thinking"])
