"""What the provider's refusals mean, and which of them are waited out."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgate_core import ConnectorError, Kind
from llmgate_qwen_oauth.failures import DEAD_TIER, InitialRateLimitRetry, classify
from llmgate_qwen_oauth.settings import QwenSettings

NOW = 1_700_000_000.0
RENEWED = " (the free quota of the day is used up; it is renewed at 00:00 Beijing time)"
DAILY = "Free allocated quota exceeded."
CURRENT = "You exceeded your current quota, please check your plan and billing details. https://x.example/#token-limit"
EXPIRED = "invalid access token or token expired"


def told(
    status: int, error: Any, headers: Mapping[str, str] | None = None, *, just_issued: bool = False
) -> ConnectorError:
    """The failure that an answer stands for; `error` is the object in it, or a text in its place."""
    body = error if isinstance(error, bytes) else json.dumps({"error": error, "request_id": "r-1"}).encode()
    return classify(status, headers or {}, body, NOW, just_issued=just_issued)


def said(code: str | None, message: str) -> dict[str, Any]:
    return {"code": code, "message": message, "param": None, "type": "invalid_request_error"}


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, said("invalid_parameter_error", "bad request"), "bad_request"),
        (400, said("DataInspectionFailed", "Input data may contain inappropriate content."), "bad_request"),
        (400, said(None, "This model only support stream mode"), "bad_request"),
        (401, said("invalid_api_key", EXPIRED), "auth"),
        (403, said("AccessDenied", "Access denied."), "denied"),
        (404, said("ModelNotFound", "The model does not exist."), "not_found"),
        (504, said(None, "stream timeout"), "timeout"),
        (504, b"stream timeout", "timeout"),
        (500, said("InternalError", "oops"), "unavailable"),
        # the quota of the day: no use in waiting, whatever the status and the code
        (429, said("insufficient_quota", DAILY), "quota"),
        (403, said("insufficient_quota", DAILY), "quota"),
        (429, said("quota_exceeded", DAILY), "quota"),
        (403, said("quota_exceeded", DAILY.upper()), "quota"),
        (429, DAILY, "quota"),
        # tokens or requests per minute, bursts: over within a minute
        (429, said("insufficient_quota", CURRENT), "rate_limited"),
        (
            429,
            said("insufficient_quota", "Allocated quota exceeded, please increase your quota limit."),
            "rate_limited",
        ),
        (429, said("Throttling.AllocationQuota", "Allocated quota exceeded."), "rate_limited"),
        (429, said("insufficient_quota", ""), "rate_limited"),
        (429, said(None, CURRENT), "rate_limited"),
        (429, said("Throttling.RateQuota", "Requests rate limit exceeded, please try again later."), "rate_limited"),
        (429, said("limit_requests", "You exceeded your current requests list."), "rate_limited"),
        (429, said("Throttling.BurstRate", "Request rate increased too quickly."), "rate_limited"),
        (429, said("Throttling", "slow down"), "rate_limited"),
        (429, b"", "rate_limited"),
        (429, b"<html>Too Many Requests</html>", "rate_limited"),
        # the texts of a rate limit on another status are no rate limit
        (400, said("insufficient_quota", CURRENT), "bad_request"),
        (403, said("insufficient_quota", CURRENT), "denied"),
    ],
)
def test_the_kind_of_every_refusal_that_is_known(status: int, error: Any, kind: Kind) -> None:
    assert told(status, error).kind == kind


def test_the_providers_words_stay_at_the_beginning() -> None:
    error = told(403, said("insufficient_quota", DAILY))
    assert error.message == DAILY + RENEWED
    assert (error.status, error.code, error.type) == (403, "insufficient_quota", "invalid_request_error")
    assert told(429, said("insufficient_quota", CURRENT)).message == CURRENT


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
    error = told(401, said("invalid_api_key", EXPIRED), just_issued=True)
    assert (error.kind, error.message) == ("auth", f"{EXPIRED}: {DEAD_TIER}")
    assert "will not help" in DEAD_TIER
    assert "`openai-compatible`" in DEAD_TIER


@pytest.mark.parametrize("status", [400, 403, 429, 500])
def test_other_refusals_of_a_token_that_was_just_issued_are_what_they_are(status: int) -> None:
    assert DEAD_TIER not in told(status, said(None, "x"), just_issued=True).message


@given(st.integers(min_value=300, max_value=599), st.binary(max_size=60), st.booleans())
@settings(deadline=None)
def test_any_answer_has_a_kind_and_words(status: int, body: bytes, just_issued: bool) -> None:
    error = classify(status, {}, body, NOW, just_issued=just_issued)
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
