"""Retry policies are pure, wait no longer than their cap, and end."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgate_core.errors import ConnectorError, Kind
from llmgate_core.retry import NoRetry, RetryAfter, RetryPolicy

kinds: st.SearchStrategy[Kind] = st.sampled_from(get_args(Kind))
hints = st.none() | st.floats(min_value=0, max_value=1e9)


def error(kind: Kind, retry_after: float | None) -> ConnectorError:
    return ConnectorError(kind, "x", retry_after=retry_after)


@given(kinds, hints, st.integers(1, 100))
@settings(max_examples=50, deadline=None)
def test_no_retry_never_retries(kind: Kind, hint: float | None, attempt: int) -> None:
    assert NoRetry().delay(error(kind, hint), attempt) is None


@given(kinds, hints, st.integers(1, 100), st.floats(0, 100), st.integers(0, 10))
@settings(max_examples=200, deadline=None)
def test_retry_after_waits_within_its_cap_and_ends(
    kind: Kind, hint: float | None, attempt: int, cap: float, retries: int
) -> None:
    wait = RetryAfter(cap, retries).delay(error(kind, hint), attempt)
    repeats = kind in ("rate_limited", "unavailable", "timeout") and attempt <= retries
    if repeats and hint is not None and hint <= cap:
        assert wait == hint
    else:
        assert wait is None


@pytest.mark.parametrize(
    ("kind", "hint", "attempt", "wait"),
    [
        ("rate_limited", 2.0, 1, 2.0),
        ("rate_limited", 0.0, 1, 0.0),
        ("rate_limited", 10.0, 1, 10.0),
        ("rate_limited", 10.5, 1, None),
        ("rate_limited", 2.0, 2, None),
        ("rate_limited", None, 1, None),
        ("unavailable", 2.0, 1, 2.0),
        ("timeout", 2.0, 1, 2.0),
        ("quota", 2.0, 1, None),
        ("bad_request", 2.0, 1, None),
    ],
)
def test_retry_after_by_default(kind: Kind, hint: float | None, attempt: int, wait: float | None) -> None:
    policy: RetryPolicy = RetryAfter()
    assert policy.delay(error(kind, hint), attempt) == wait
