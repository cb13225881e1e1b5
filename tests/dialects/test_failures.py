"""An upstream's failure: status to kind, its words out of many envelopes, and `Retry-After`."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgate_core.dialects.failures import (
    answer_status,
    excerpt,
    read_error,
    reported_error,
    retry_after,
    upstream_error,
)
from llmgate_core.errors import KINDS

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, "protocol"),
        (400, "bad_request"),
        (401, "auth"),
        (402, "quota"),
        (403, "denied"),
        (404, "not_found"),
        (408, "timeout"),
        (409, "bad_request"),
        (413, "bad_request"),
        (422, "bad_request"),
        (429, "rate_limited"),
        (500, "unavailable"),
        (503, "unavailable"),
        (504, "timeout"),
        (529, "unavailable"),
    ],
)
def test_the_status_decides(status: int, kind: str) -> None:
    assert upstream_error(status, {}, b"").kind == kind
    overflow = b'{"error": {"message": "exceeds the context window", "code": "insufficient_quota"}}'
    expected = {"bad_request": "context_length", "rate_limited": "quota"}.get(kind, kind)
    assert upstream_error(status, {}, overflow).kind == expected


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, {"message": "x", "code": "context_length_exceeded"}, "context_length"),
        (400, {"message": "This model's maximum context length is 8192 tokens."}, "context_length"),
        (400, {"message": "invalid params, context window exceeds limit (2013)"}, "context_length"),
        (413, {"message": "prompt is too long: 210000 tokens > 200000 maximum"}, "context_length"),
        (400, {"message": "temperature is too long"}, "bad_request"),
        (400, {"message": "x", "code": "model_not_found"}, "not_found"),
        (429, {"message": "x", "code": "insufficient_quota"}, "quota"),
        (
            429,
            {"message": "over your quota, see https://x.example/#token-limit", "code": "insufficient_quota"},
            "rate_limited",
        ),
        (400, {"message": "Range of input length should be [1, 1000]", "code": "InvalidParameter"}, "context_length"),
        (429, {"message": "x", "type": "insufficient_quota"}, "quota"),
        (429, {"message": "You exceeded your current quota, please check your plan"}, "quota"),
        (429, {"message": "insufficient balance (1008)"}, "quota"),
        (429, {"message": "Rate limit reached for requests"}, "rate_limited"),
        (
            400,
            {"message": "input length and `max_tokens` exceed context limit: 178959 + 64000 > 200000, decrease them"},
            "context_length",
        ),
        (400, {"message": "max_tokens must be within the limit"}, "bad_request"),
        (
            400,
            {
                "type": "invalid_request_error",
                "message": "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing.",
            },
            "quota",
        ),
        (400, {"message": "the word `credit balance` is not allowed"}, "bad_request"),
    ],
)
def test_the_body_refines(status: int, error: dict[str, Any], kind: str) -> None:
    assert upstream_error(status, {}, json.dumps({"error": error}).encode()).kind == kind


@pytest.mark.parametrize(
    ("status", "type", "message", "kind"),
    [
        (400, "invalid_request_error", "messages: at least one message is required", "bad_request"),
        (400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum", "context_length"),
        (401, "authentication_error", "invalid x-api-key", "auth"),
        (402, "billing_error", "there is an issue with your billing", "quota"),
        (403, "permission_error", "not for this key", "denied"),
        (404, "not_found_error", "model: m", "not_found"),
        (413, "request_too_large", "Request exceeds the maximum size", "bad_request"),
        (429, "rate_limit_error", "Number of request tokens has exceeded your per-minute limit", "rate_limited"),
        (500, "api_error", "Internal server error", "unavailable"),
        (504, "timeout_error", "Request timed out", "timeout"),
        (529, "overloaded_error", "Overloaded", "unavailable"),
    ],
)
def test_anthropics_errors(status: int, type: str, message: str, kind: str) -> None:
    body = {"type": "error", "error": {"type": type, "message": message}, "request_id": "req_up"}
    error = upstream_error(status, {}, json.dumps(body).encode())
    assert (error.kind, error.status, error.message, error.type) == (kind, status, message, type)
    assert (error.code, error.param, error.upstream_request_id) == (None, None, "req_up")


@pytest.mark.parametrize(
    ("body", "message", "fields"),
    [
        (
            b'{"error":{"message":"No.","type":"invalid_request_error","param":"model","code":"bad"}}',
            "No.",
            {"type": "invalid_request_error", "param": "model", "code": "bad"},
        ),
        (b'{"error":{"message":"m","code":429,"param":null}}', "m", {"code": "429", "status": 429}),
        (b'{"error":{"code":5}}', '{"code":5}', {"code": "5"}),
        (b'{"error":{"message":{"a":1}}}', '{"a":1}', {}),
        (b'{"error":"just text"}', "just text", {}),
        (
            b'{"error":"invalid_grant","error_description":"spent"}',
            "spent",
            {"code": "invalid_grant"},
        ),
        (b'{"detail":"Not Found"}', "Not Found", {}),
        (
            b'{"detail":[{"loc":["body","top_k"],"msg":"extra field"},{"msg":"no place"},"odd"]}',
            "body.top_k: extra field; no place; odd",
            {},
        ),
        (b'{"detail":{"error":{"message":"deep","code":"c"}}}', "deep", {"code": "c"}),
        (b'{"message":"flat","code":"InvalidParameter"}', "flat", {"code": "InvalidParameter"}),
        (
            b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"r"}',
            "Overloaded",
            {"type": "overloaded_error"},
        ),
        (
            b'[{"error":{"code":400,"message":"in a list","status":"INVALID_ARGUMENT"}}]',
            "in a list",
            {"code": "400", "status": 400},
        ),
        (
            b'{"error":{"type":"bad_request_error","message":"invalid params (2013)","http_code":"400"}}',
            "invalid params (2013)",
            {"type": "bad_request_error", "status": 400},
        ),
        (b'"a text"', "a text", {}),
        (b"plain\n text", "plain text", {}),
        (
            b"<html><style>p {}</style><title>502 Bad Gateway</title><!-- x --><p>a &amp; b</html>",
            "502 Bad Gateway a & b",
            {},
        ),
        (b"", "", {}),
        (b"{}", "", {}),
        (b"null", "", {}),
    ],
)
def test_words_are_found_in_any_envelope(body: bytes, message: str, fields: dict[str, Any]) -> None:
    told = read_error(body)
    assert told.message == message
    names = ("type", "param", "code", "status")
    assert {name: getattr(told, name) for name in names if getattr(told, name) is not None} == fields


@settings(max_examples=150, deadline=None)
@given(
    st.integers(100, 599),
    st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["error", "message", "detail", "code", "type", "msg", "loc", "param"]),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=10,
        ).map(lambda value: json.dumps(value).encode()),
    ),
)
def test_any_answer_is_a_failure_with_words(status: int, body: bytes) -> None:
    for error in (upstream_error(status, {}, body), reported_error(body)):
        assert error.message.strip() or body.strip()
        assert error.kind in KINDS
        assert all(value is None or isinstance(value, str) for value in (error.code, error.type, error.param))
        assert 400 <= answer_status(error) <= 599


def test_what_else_an_upstream_tells() -> None:
    error = upstream_error(
        429,
        {"retry-after": "1.5", "x-request-id": "up-1"},
        b'{"error":{"message":"slow","code":"c","param":"p"}}',
    )
    assert (error.message, error.status, error.retry_after, error.upstream_request_id) == (
        "slow",
        429,
        1.5,
        "up-1",
    )
    assert (error.code, error.param) == ("c", "p")
    assert upstream_error(500, {"request-id": "up-2"}, b"").upstream_request_id == "up-2"
    assert str(upstream_error(502, {}, b" \n")) == "the upstream answered 502 without a message"


def test_long_texts_are_cut_and_hostile_pages_take_no_time() -> None:
    assert len(excerpt(b"word " * 10_000)) <= 300
    assert excerpt(b"word " * 10_000).endswith("...")
    assert excerpt(b"<script" * 1_000_000) is not None
    assert excerpt(b"a\x00\x1b[31mb") == "a [31mb"
    assert len(read_error(json.dumps({"message": "x" * 100_000}).encode()).message) == 8000


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b'{"error":{"message":"m","code":503}}', "unavailable", 503),
        (b'{"error":{"message":"m","status":"401"}}', "auth", 401),
        (b'{"error":{"message":"m","type":"rate_limit_error"}}', "rate_limited", None),
        (b'{"error":{"message":"m","code":"insufficient_quota"}}', "quota", None),
        (b'{"error":{"message":"m","code":"context_length_exceeded"}}', "context_length", None),
        (b'{"error":{"message":"m","type":"overloaded_error"}}', "unavailable", None),
        (b'{"type":"error","error":{"type":"overloaded_error","message":"m"}}', "unavailable", None),
        (b'{"type":"error","error":{"type":"billing_error","message":"m"}}', "quota", None),
        (b'{"type":"error","error":{"type":"request_too_large","message":"m"}}', "bad_request", None),
        (b'{"error":"m"}', "protocol", None),
        (b"m", "protocol", None),
    ],
)
def test_an_error_inside_a_200(body: bytes, kind: str, status: int | None) -> None:
    error = reported_error(body)
    assert (error.kind, error.status, error.message) == (kind, status, "m")


def test_an_error_inside_a_200_without_words() -> None:
    assert str(reported_error(b"")) == "the upstream reported an error without a message"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "30"}, 30.0),
        ({"retry-after": " 0.25 "}, 0.25),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "30"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "30"}, 30.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT"}, 30.0),
        ({"retry-after": "Tuesday, 14-Nov-23 22:13:50 GMT"}, 30.0),
        ({"retry-after": "Tue Nov 14 22:13:50 2023"}, 30.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:00 GMT"}, 0.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e309"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "Tue, 99 Nov 2023 22:13:00 GMT"}, None),
        ({"retry-after": "tomorrow"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds


def test_without_a_clock_a_date_counts_from_the_answers_own() -> None:
    later = "Tue, 14 Nov 2023 22:14:00 GMT"
    assert retry_after({"retry-after": later, "date": "Tue, 14 Nov 2023 22:13:50 GMT"}) == 10.0
    assert retry_after({"retry-after": later}) is None


@settings(max_examples=150, deadline=None)
@given(st.text("0159.-+einfaEN _", max_size=8), st.text("0159.-+einfaEN _", max_size=8))
def test_retry_after_is_never_an_odd_number(first: str, second: str) -> None:
    found = retry_after({"retry-after-ms": first, "retry-after": second}, NOW)
    assert found is None or (found >= 0 and math.isfinite(found))
