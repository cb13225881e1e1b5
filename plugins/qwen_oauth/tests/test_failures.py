"""What the provider's refusals mean, and which of them are waited out."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgate_core import Body, ConnectorError, Kind
from llmgate_qwen_oauth.failures import DEAD_TIER, InitialRateLimitRetry, Judge, classify
from llmgate_qwen_oauth.settings import QwenSettings

NOW = 1_700_000_000.0
RENEWED = " (the free quota of the day is used up; it is renewed at 00:00 Beijing time)"
DAILY = "Free allocated quota exceeded."
CURRENT = "You exceeded your current quota, please check your plan and billing details. https://x.example/#token-limit"
ALLOCATED = "Allocated quota exceeded, please increase your quota limit."
EXPIRED = "invalid access token or token expired"


def told(
    status: int, error: Any, headers: Mapping[str, str] | None = None, *, is_tier_dead: bool = False
) -> ConnectorError:
    """The failure that an answer stands for; `error` is the object in it, or a text in its place."""
    body = error if isinstance(error, bytes) else json.dumps({"error": error, "request_id": "r-1"}).encode()
    return classify(status, headers or {}, body, NOW, is_tier_dead=is_tier_dead)


def said(code: str | None, message: str) -> dict[str, Any]:
    return {"code": code, "message": message, "param": None, "type": "invalid_request_error"}


PER_MINUTE = "tokens per minute, over within about a minute"
REQUESTS = "requests per minute, over within about a minute"
PLAIN = ""

TABLE: list[tuple[int, Any, Kind, str]] = [
    # message shape, and models that OAuth tokens do not get
    (400, said("invalid_parameter_error", "bad request"), "bad_request", "refuses the request's shape"),
    # tokens
    (401, said("invalid_api_key", EXPIRED), "auth", PLAIN),
    # the quota of the day: no use in waiting, whatever the status and the code
    (429, said("insufficient_quota", DAILY), "quota", "00:00 Beijing time"),
    (403, said("insufficient_quota", DAILY), "quota", "00:00 Beijing time"),
    (429, said("quota_exceeded", DAILY), "quota", "00:00 Beijing time"),
    (403, said("quota_exceeded", DAILY.upper()), "quota", "00:00 Beijing time"),
    (429, DAILY, "quota", "00:00 Beijing time"),
    (403, said("insufficient_quota", "no more"), "quota", "quota is used up"),
    # tokens per minute
    (429, said("insufficient_quota", CURRENT), "rate_limited", PER_MINUTE),
    (403, said("insufficient_quota", CURRENT), "rate_limited", PER_MINUTE),
    (429, said("insufficient_quota", ALLOCATED), "rate_limited", PER_MINUTE),
    (429, said("Throttling.AllocationQuota", "Allocated quota exceeded."), "rate_limited", PER_MINUTE),
    (429, said("insufficient_quota", ""), "rate_limited", PLAIN),
    (503, said("insufficient_quota", "x"), "rate_limited", PLAIN),
    (429, said(None, CURRENT), "rate_limited", PER_MINUTE),
    # requests per minute
    (429, said("Throttling.RateQuota", "Requests rate limit exceeded, try again."), "rate_limited", REQUESTS),
    (429, said("limit_requests", "You exceeded your current requests list."), "rate_limited", REQUESTS),
    # bursts, and throttling that says no more
    (429, said("Throttling.BurstRate", "Request rate increased too quickly."), "rate_limited", "raise their number"),
    (429, said(None, "Request rate increased too quickly, please slow down."), "rate_limited", "raise their number"),
    (429, said("Throttling", "slow down"), "rate_limited", PLAIN),
    (400, said("Throttling", "slow down"), "rate_limited", PLAIN),
    (429, b"", "rate_limited", PLAIN),
    (429, b"<html>Too Many Requests</html>", "rate_limited", PLAIN),
    # what the documentation of the API lists besides
    (404, said("ModelNotFound", "The model does not exist."), "not_found", "`llmgate models`"),
    (400, said("DataInspectionFailed", "Input data may contain inappropriate content."), "bad_request", "moderation"),
    (400, said(None, "This model only support stream mode"), "bad_request", "`stream: true`"),
    (400, said(None, "current user api does not support http call"), "denied", "may not use the model"),
    (400, said("Arrearage", "Access denied, make sure your account is in good standing."), "quota", "settle its bill"),
    (403, said("Arrearage", "x"), "quota", "settle its bill"),
    (403, said(None, "see https://x.example/error-code#overdue-payment"), "quota", "settle its bill"),
    (400, said(None, "Access denied due to overdue payment."), "quota", "settle its bill"),
    (400, said(None, "the parameter `overdue_days` is unknown"), "bad_request", PLAIN),
    (403, said("AccessDenied", "Access denied."), "denied", "may not use the model"),
    (400, said("AccessDenied", "Access denied."), "denied", "may not use the model"),
    (400, said("InvalidParameter", "Range of input length should be [1, 1000]"), "context_length", "shorter"),
    (504, said(None, "stream timeout"), "timeout", "130,000 tokens"),
    (504, b"stream timeout", "timeout", "130,000 tokens"),
    (500, said("InternalError", "oops"), "unavailable", PLAIN),
    # the status decides: the texts of a limit on a plain 400 are no limit
    (400, said("insufficient_quota", CURRENT), "bad_request", PLAIN),
    (500, said("insufficient_quota", CURRENT), "unavailable", PLAIN),
]


@pytest.mark.parametrize(("status", "error", "kind", "advice"), TABLE)
def test_the_kind_of_every_refusal_that_is_known(status: int, error: Any, kind: Kind, advice: str) -> None:
    found = told(status, error)
    assert found.kind == kind
    words = error["message"] if isinstance(error, dict) else error
    assert isinstance(words, bytes) or found.message.startswith(words)
    assert advice in found.message
    assert advice or "(" not in found.message


def test_moderation_has_the_code_that_clients_know() -> None:
    assert told(400, said("DataInspectionFailed", "x")).code == "content_filter"


def test_the_providers_words_stay_at_the_beginning() -> None:
    error = told(403, said("insufficient_quota", DAILY))
    assert error.message == DAILY + RENEWED
    assert (error.status, error.code, error.type) == (403, "insufficient_quota", "invalid_request_error")


# --- failures inside a success --------------------------------------------------------------------------------------

FINE = b'{"choices":[{"index":0,"delta":{"content":"the word error_finish, \\"error\\" and null"}}],"error":null}'


def judged(data: Any, name: str = "") -> ConnectorError | None:
    body = Body(data if isinstance(data, bytes) else json.dumps(data).encode())
    try:
        assert Judge().event(body, name) is body
    except ConnectorError as error:
        return error
    return None


def finished(text: str | None, part: str = "delta") -> dict[str, Any]:
    return {"choices": [{"index": 0, part: {"content": text}, "finish_reason": "error_finish"}]}


@pytest.mark.parametrize("data", [FINE, b"[1]", b"not json", {"choices": [], "usage": {"total_tokens": 1}}])
def test_what_is_no_failure_passes(data: Any) -> None:
    try:
        assert judged(data) is None
    except ValueError:  # core leaves the bytes as they are
        assert data in (b"[1]", b"not json")


@pytest.mark.parametrize(
    ("data", "name", "kind"),
    [
        ({"error": said("Throttling.AllocationQuota", "Allocated quota exceeded.")}, "", "rate_limited"),
        ({"error": said("insufficient_quota", CURRENT)}, "", "rate_limited"),
        ({"error": said("insufficient_quota", DAILY)}, "", "quota"),
        ({"error": said("DataInspectionFailed", "inappropriate content")}, "", "bad_request"),
        ({"code": "Throttling.RateQuota", "message": "Requests rate limit exceeded"}, "error", "rate_limited"),
        ({"code": "Throttling.RateQuota", "message": "Requests rate limit exceeded"}, "", "rate_limited"),
        ({"code": "InternalError", "message": "oops", "request_id": "r"}, "error", "unavailable"),
        ({"anything": 1}, "error", "protocol"),
        (b"Too many requests", "error", "rate_limited"),
        (b"Too many requests", "error ", "rate_limited"),
        (b'"Requests rate limit exceeded"', "error", "rate_limited"),
        (b"Free allocated quota exceeded.", "error", "quota"),
        (b"<html>oops", "error", "protocol"),
        (b"[]", "error", "protocol"),
        (b"{}", "error", "protocol"),
        (b"", "error", "protocol"),
        (finished("Requests rate limit exceeded, please try again later."), "", "rate_limited"),
        (finished("Free allocated quota exceeded."), "", "quota"),
        (finished("something broke"), "", "unavailable"),
        (finished(None), "", "unavailable"),
        (finished("Allocated quota exceeded", "message"), "", "rate_limited"),
    ],
)
def test_failures_inside_a_success(data: Any, name: str, kind: Kind) -> None:
    error = judged(data, name)
    assert error is not None
    assert error.kind == kind
    assert error.message


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"[{}]", b"null"])
def test_an_error_frame_that_says_nothing_is_told_in_our_words(data: bytes) -> None:
    error = judged(data, "error")
    assert error is not None
    assert error.message == "the upstream reported an error without a message"


@pytest.mark.parametrize("choices", [True, 5, "x", {"a": 1}, [5], [{"delta": 5, "finish_reason": []}]])
def test_choices_of_another_shape_are_for_others_to_judge(choices: Any) -> None:
    assert judged({"choices": choices, "error": None}) is None
    assert judged({"choices": choices, "x": {"error": 1}}) is None


KEYS = st.sampled_from(["choices", "error", "code", "message", "delta", "content", "finish_reason", "type", "detail"])
LEAVES = st.sampled_from([None, True, 0, 10**30, 1.5, "", "error_finish", "x"])
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
OBJECTS = st.dictionaries(KEYS, JSON, max_size=5)


@given(OBJECTS | JSON, st.sampled_from(["", "error", "x"]))
@settings(deadline=None)
def test_no_json_makes_the_judge_stumble(value: Any, name: str) -> None:
    data = json.dumps(value).encode()
    for look in (lambda body: Judge().event(body, name), Judge().whole):
        try:
            assert look(Body(data)).bytes == data
        except ConnectorError:
            pass
        except ValueError:
            assert not isinstance(value, dict)


@given(st.binary(max_size=60), st.sampled_from(["", "error", "x"]))
@settings(deadline=None)
def test_no_bytes_make_the_judge_stumble(data: bytes, name: str) -> None:
    try:
        assert Judge().event(Body(data), name).bytes == data
    except ConnectorError:
        pass
    except ValueError:
        assert name != "error"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "30"}, 30.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT"}, 30.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
    ],
)
def test_retry_after_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert told(429, said("insufficient_quota", CURRENT), headers).retry_after == seconds


def test_a_refused_token_that_was_just_issued_is_the_dead_tier() -> None:
    assert told(401, said("invalid_api_key", EXPIRED)).message == EXPIRED
    error = told(401, said("invalid_api_key", EXPIRED), is_tier_dead=True)
    assert (error.kind, error.message) == ("auth", f"{EXPIRED}: {DEAD_TIER}")
    assert "will not help" in DEAD_TIER
    assert "`openai-compatible`" in DEAD_TIER


@pytest.mark.parametrize("status", [400, 403, 429, 500])
def test_other_refusals_of_a_token_that_was_just_issued_are_what_they_are(status: int) -> None:
    assert DEAD_TIER not in told(status, said(None, "x"), is_tier_dead=True).message


@given(st.integers(min_value=300, max_value=599), st.binary(max_size=60), st.booleans())
@settings(deadline=None)
def test_any_answer_has_a_kind_and_words(status: int, body: bytes, is_tier_dead: bool) -> None:
    error = classify(status, {}, body, NOW, is_tier_dead=is_tier_dead)
    assert error.status == status
    assert error.message


# --- the retry policy -----------------------------------------------------------------------------------------------

seconds = st.floats(min_value=0, max_value=1e6)
hints = st.none() | st.floats(min_value=0, allow_nan=False)
kinds = st.sampled_from(get_args(Kind))


@st.composite
def policies(draw: st.DrawFn, /, **fixed: Any) -> InitialRateLimitRetry:
    low, high = sorted((draw(seconds), draw(seconds)))
    chosen = {
        "enable_qwen_oauth_initial_rate_limit_retry": draw(st.booleans()),
        "qwen_oauth_initial_rate_limit_retry_max_wait_seconds": draw(seconds),
        "qwen_oauth_initial_rate_limit_retry_random_min_seconds": low,
        "qwen_oauth_initial_rate_limit_retry_random_max_seconds": high,
        **fixed,
    }
    return InitialRateLimitRetry(QwenSettings(**chosen), random.Random(draw(st.integers())))


on = policies(enable_qwen_oauth_initial_rate_limit_retry=True)
patient = policies(
    enable_qwen_oauth_initial_rate_limit_retry=True, qwen_oauth_initial_rate_limit_retry_max_wait_seconds=1e9
)
off = policies(enable_qwen_oauth_initial_rate_limit_retry=False)


def limited(retry_after: float | None = None) -> ConnectorError:
    return ConnectorError("rate_limited", "slow down", retry_after=retry_after)


@given(policies(), kinds, hints)
@settings(deadline=None)
def test_there_is_at_most_one_retry(policy: InitialRateLimitRetry, kind: Kind, hint: float | None) -> None:
    error = ConnectorError(kind, "x", retry_after=hint)
    waits = [policy.delay(error, attempt) for attempt in range(1, 20)]
    assert waits[1:] == [None] * 18


@given(on, hints)
@settings(deadline=None)
def test_the_wait_is_never_negative_and_never_above_the_cap(policy: InitialRateLimitRetry, hint: float | None) -> None:
    wait = policy.delay(limited(hint), 1)
    assert wait is not None
    assert 0 <= wait <= policy.settings.qwen_oauth_initial_rate_limit_retry_max_wait_seconds


@given(on, st.floats(min_value=0, allow_nan=False))
@settings(deadline=None)
def test_the_providers_hint_is_the_wait_as_far_as_the_cap_allows(policy: InitialRateLimitRetry, hint: float) -> None:
    cap = policy.settings.qwen_oauth_initial_rate_limit_retry_max_wait_seconds
    assert policy.delay(limited(hint), 1) == min(hint, cap)


@given(patient)
@settings(deadline=None)
def test_without_a_hint_the_wait_is_random_within_its_bounds(policy: InitialRateLimitRetry) -> None:
    low = policy.settings.qwen_oauth_initial_rate_limit_retry_random_min_seconds
    high = policy.settings.qwen_oauth_initial_rate_limit_retry_random_max_seconds
    wait = policy.delay(limited(), 1)
    assert wait is not None
    assert low <= wait <= high or wait == pytest.approx(high)  # uniform() may round up at its edge


def test_the_wait_without_a_hint_differs_from_time_to_time() -> None:
    policy = InitialRateLimitRetry(QwenSettings(), random.Random(1))
    waits = {policy.delay(limited(), 1) for _ in range(20)}
    assert len(waits) == 20
    assert all(wait is not None and 3 <= wait <= 10 for wait in waits)


@given(off, kinds, hints, st.integers(min_value=1, max_value=5))
@settings(deadline=None)
def test_switched_off_there_is_no_retry(
    policy: InitialRateLimitRetry, kind: Kind, hint: float | None, attempt: int
) -> None:
    assert policy.delay(ConnectorError(kind, "x", retry_after=hint), attempt) is None


@given(on, kinds.filter(lambda kind: kind != "rate_limited"), hints)
@settings(deadline=None)
def test_nothing_but_a_rate_limit_is_waited_out(policy: InitialRateLimitRetry, kind: Kind, hint: float | None) -> None:
    assert policy.delay(ConnectorError(kind, "x", retry_after=hint), 1) is None


def test_retry_after_zero_is_at_once_and_a_long_one_is_capped() -> None:
    policy = InitialRateLimitRetry(QwenSettings(), random.Random(1))
    assert policy.delay(limited(0.0), 1) == 0.0
    assert policy.delay(limited(999.0), 1) == 10.0
