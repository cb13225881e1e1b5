"""Every code of MiniMax, in either envelope, is the failure that the documentation says it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmgate_core import ConnectorError
from llmgate_minimax.failures import CODES, classify, reported

NOW = 1_780_000_000.0  # 2026-05-28T20:26:40Z
LIMIT = "usage limit exceeded, 5-hour usage limit reached for Token Plan Plus (100/100 used), resets at {} (2056)"
UNKNOWN = {"error": {"message": "what (4711)", "code": "invalid_api_key"}}

KINDS = {
    1000: "unavailable",
    1001: "timeout",
    1002: "rate_limited",
    1004: "auth",
    1008: "quota",
    1013: "unavailable",
    1024: "unavailable",
    1026: "bad_request",
    1027: "bad_request",
    1028: "quota",
    1030: "quota",
    1033: "unavailable",
    1039: "rate_limited",
    1041: "rate_limited",
    1042: "bad_request",
    2013: "bad_request",
    2045: "rate_limited",
    2046: "rate_limited",
    2047: "rate_limited",
    2049: "auth",
    2056: "quota",
    2061: "denied",
    2067: "quota",
}


def refused(status: int, message: str, headers: dict[str, str] | None = None, **members: Any) -> ConnectorError:
    error = {"type": "some_error", "message": message, "http_code": str(status)}
    body = {"type": "error", "error": error, "request_id": "body-id", **members}
    return classify(status, headers or {}, json.dumps(body).encode(), NOW)


def native(code: Any, words: str = "words") -> ConnectorError | None:
    return reported({"choices": None, "base_resp": {"status_code": code, "status_msg": words}}, NOW)


def test_the_table_is_whole() -> None:
    assert CODES.keys() == KINDS.keys()


@pytest.mark.parametrize(("code", "kind"), KINDS.items())
@pytest.mark.parametrize("status", [400, 429, 500])
def test_the_code_at_the_end_of_a_message(code: int, kind: str, status: int) -> None:
    error = refused(status, f"what happened ({code})")
    assert (error.kind, error.status) == (kind, status)
    assert error.message.startswith(f"what happened ({code})")


@pytest.mark.parametrize(("code", "kind"), KINDS.items())
def test_the_code_in_base_resp(code: int, kind: str) -> None:
    for spelt in (code, str(code)):
        error = native(spelt)
        assert error is not None
        assert (error.kind, error.status) == (kind, None)  # nobody has answered with a status of that kind
        assert error.type  # and yet it is an answer, which the last failure of several branches would hide otherwise
        assert error.message.startswith(f"words ({code})")
    outside = classify(400, {}, json.dumps({"base_resp": {"status_code": code}}).encode(), NOW)
    assert outside.kind == kind


@pytest.mark.parametrize("code", [0, "0", None, "", True])
def test_no_code_is_no_failure(code: Any) -> None:
    assert native(code, "Invalid parameters detected, json: unknown field (2013)") is None


def test_a_code_that_nobody_knows() -> None:
    inside = native(4711)
    assert inside is not None
    assert (inside.kind, inside.message) == ("protocol", "words (4711)")
    assert refused(403, "what (4711)").kind == "denied"


@pytest.mark.parametrize(
    "told", [{}, {"error": None}, {"error": {"message": "plain"}}, {"error": {"message": 7}}, UNKNOWN]
)
def test_what_is_not_of_this_upstream_is_left_to_core(told: dict[str, Any]) -> None:
    assert reported(told, NOW) is None


@pytest.mark.parametrize(
    ("members", "sort"), [({"type": "rate_limit_error"}, "rate_limit_error"), ({}, "error"), ({"type": [1]}, "error")]
)
def test_an_error_frame_in_a_success(members: dict[str, Any], sort: str) -> None:
    error = reported({"type": "error", "error": {"message": "busy (1002)", **members}, "request_id": "r"}, NOW)
    assert error is not None
    assert (error.kind, error.status, error.type) == ("rate_limited", None, sort)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("invalid params, unknown model 'x' (2013)", "not_found"),
        ("invalid params, context window exceeds limit (2013)", "context_length"),
        ("invalid params, tool result's tool id(1) not found (2013)", "bad_request"),
    ],
)
def test_invalid_parameters_are_told_apart_by_their_words(words: str, kind: str) -> None:
    assert refused(400, words).kind == kind
    error = native(2013, words)
    assert error is not None
    assert (error.kind, error.message) == (kind, words)


@pytest.mark.parametrize("message", ["High traffic detected", "server cluster is under high load (1002)"])
def test_overload(message: str) -> None:
    assert refused(529, message).kind == "unavailable"


def test_sensitive_content_has_the_word_that_clients_know() -> None:
    error = refused(422, "input sensitive (1026)")
    assert (error.kind, error.status, error.code) == ("bad_request", 422, "content_filter")


def test_a_key_of_another_region_is_explained() -> None:
    error = refused(401, "invalid api key (2049)")
    assert error.status == 401
    assert error.message.startswith("invalid api key (2049): a key works only in its own region")
    assert "`region`" in error.message


@pytest.mark.parametrize(
    ("when", "seconds"),
    [
        ("2026-05-28T20:36:40Z", 600.0),
        ("2026-05-29T04:36:40+08:00", 600.0),
        ("2026-05-29 04:36:40 +0800", 600.0),
        ("2026-05-28T20:36:40", 600.0),
        ("2026-05-28T20:36:40.500Z", 600.5),
        ("2026-05-28T20:00:00Z", 0.0),
        ("2026-99-28T20:00:00Z", None),
        ("midnight", None),
    ],
)
def test_the_end_of_the_plans_window_is_when_to_come_back(when: str, seconds: float | None) -> None:
    assert refused(429, LIMIT.format(when)).retry_after == seconds
    error = native(2056, LIMIT.format(when))
    assert error is not None
    assert (error.kind, error.retry_after) == ("quota", seconds)


def test_a_header_comes_before_the_words() -> None:
    assert refused(429, LIMIT.format("2026-05-28T20:36:40Z"), {"retry-after": "7"}).retry_after == 7


def test_a_plan_without_any_of_it_says_so() -> None:
    assert "waiting does not help" in refused(429, "usage limit exceeded (0/0 used) (2056)").message


@pytest.mark.parametrize("body", [b"", b"<html>busy</html>", b"[1]", b'"text"', b'{"error": "text"}'])
def test_other_bodies_are_read_as_core_reads_them(body: bytes) -> None:
    assert classify(503, {}, body, NOW).kind == "unavailable"
