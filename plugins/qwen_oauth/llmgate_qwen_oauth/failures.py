"""What the provider's refusals mean, and which of them are waited out: pure functions."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from llmgate_core import ConnectorError, upstream_error

from .settings import QwenSettings

DAILY_QUOTA = "free allocated quota exceeded"
THROTTLED = (
    "current quota",
    "allocated quota",
    "requests rate limit",
    "increased too quickly",
    "requests list",
)

DEAD_TIER = (
    "the provider refuses a token that it has only just issued. Its free OAuth tier ended on 2026-04-15: logging in "
    "again will not help. Use an API key of Alibaba Cloud Model Studio with the connector `openai-compatible`."
)


def classify(status: int, headers: Mapping[str, str], body: bytes, now: float, *, just_issued: bool) -> ConnectorError:
    """The failure that a reply other than 2xx stands for.

    On this API `insufficient_quota` is mostly a limit of tokens per minute, which is over within a minute; only the
    text of the daily quota says that waiting is useless.

    Args:
        now: Unix time in seconds.
        just_issued: whether the rejected token came from a refresh a moment ago.
    """
    error = upstream_error(status, headers, body, now)
    text = error.message.lower()
    if status in (403, 429) and DAILY_QUOTA in text:
        error.kind = "quota"
        error.message += " (the free quota of the day is used up; it is renewed at 00:00 Beijing time)"
    elif status == 429 and (error.code == "insufficient_quota" or any(words in text for words in THROTTLED)):
        error.kind = "rate_limited"
    elif status == 401 and just_issued:
        error.message += f": {DEAD_TIER}"
    return error


@dataclass(frozen=True)
class InitialRateLimitRetry:
    """Holds a request's first recoverable rate limit and tries once more: never twice, never longer than the cap."""

    settings: QwenSettings
    random: random.Random

    def delay(self, error: ConnectorError, attempt: int) -> float | None:
        """Seconds to wait: what the provider asks for, else a random time; both capped. None: the caller is told."""
        settings = self.settings
        if not settings.enable_qwen_oauth_initial_rate_limit_retry or error.kind != "rate_limited" or attempt > 1:
            return None
        wait = error.retry_after
        if wait is None:
            wait = self.random.uniform(
                settings.qwen_oauth_initial_rate_limit_retry_random_min_seconds,
                settings.qwen_oauth_initial_rate_limit_retry_random_max_seconds,
            )
        return max(0.0, min(wait, settings.qwen_oauth_initial_rate_limit_retry_max_wait_seconds))
