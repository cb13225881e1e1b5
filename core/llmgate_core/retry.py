"""Whether the same backend is asked again, and after how long: pure decisions, no clock and no sleep.

The executor asks the policy of the backend after each failed attempt, and it alone sleeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .errors import ConnectorError


class RetryPolicy(Protocol):
    """Decides about another attempt at the same backend.

    An implementation holds no clock, does no I/O, and gets its randomness injected. It must end: for
    every error there is an attempt number from which on it answers None.
    """

    def delay(self, error: ConnectorError, attempt: int) -> float | None:
        """Seconds to wait before the next attempt, or None when there shall be none.

        Args:
            error: how the last attempt failed.
            attempt: how many attempts this backend has had for this request, from 1.
        """


class NoRetry:
    """Never again: the caller sees the first failure, and its own SDK decides."""

    def delay(self, error: ConnectorError, attempt: int) -> float | None:
        """None, always."""
        return None


@dataclass(frozen=True)
class RetryAfter:
    """Waits as long as the upstream asked, when that is short enough, up to `retries` times.

    Only rate limits, outages and timeouts are repeated, and only where the upstream named a time.

    Args:
        max_wait: seconds; a longer hint is not waited for.
        retries: attempts after the first.
    """

    max_wait: float = 10.0
    retries: int = 1

    def delay(self, error: ConnectorError, attempt: int) -> float | None:
        """The upstream's own hint, or None."""
        if error.kind not in ("rate_limited", "unavailable", "timeout") or attempt > self.retries:
            return None
        if error.retry_after is None or error.retry_after > self.max_wait:
            return None
        return max(0.0, error.retry_after)
