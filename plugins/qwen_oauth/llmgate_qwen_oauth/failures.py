"""What the provider's refusals mean, and which of them are waited out: a table, and pure functions.

Sources: Alibaba Cloud Model Studio, "Error codes", "Rate limiting"; the answers of the OAuth portal that its users have
published, where those pages are silent.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from llmgate_core import Body, ConnectorError, Kind, Mender, reported_error, upstream_error

from .settings import QwenSettings

DEAD_TIER = (
    "the provider refuses a token that it has only just issued. Its free OAuth tier ended on 2026-04-15: logging in "
    "again will not help. Use an API key of Alibaba Cloud Model Studio with the connector `openai-compatible`."
)


@dataclass(frozen=True)
class Rule:
    """What some refusals have in common, and what they mean.

    Args:
        statuses: the HTTP statuses on which it is looked for; the text alone decides nothing.
        codes: beginnings of the upstream's `code`, in lower case.
        words: parts of its message, in lower case; one of `codes` and `words` suffices.
        advice: what is added to the upstream's own words.
        code: takes the place of the upstream's, where clients know a word for it.
    """

    kind: Kind
    statuses: frozenset[int]
    codes: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    advice: str = ""
    code: str | None = None

    def fits(self, error: ConnectorError) -> bool:
        """Whether it is one of these."""
        code, text = (error.code or "").lower(), error.message.lower()
        said = any(code.startswith(one) for one in self.codes) or any(words in text for words in self.words)
        return said and (error.status is None or error.status in self.statuses)


LIMITS = frozenset({403, 429, 503})
REFUSALS = frozenset({400, 403, 429})

RULES = (
    Rule(
        "quota",
        frozenset({403, 429}),
        words=("free allocated quota exceeded",),
        advice="the free quota of the day is used up; it is renewed at 00:00 Beijing time",
    ),
    Rule(
        "rate_limited",
        LIMITS | {400},
        codes=("throttling.burstrate",),
        words=("increased too quickly",),
        advice="requests came too suddenly; raise their number slowly",
    ),
    # On this API `insufficient_quota` is mostly a limit of tokens per minute; only the daily quota's text says more.
    Rule(
        "rate_limited",
        LIMITS,
        codes=("throttling.allocationquota",),
        words=("allocated quota exceeded", "current quota", "#token-limit"),
        advice="tokens per minute, over within about a minute; send less at once",
    ),
    Rule(
        "rate_limited",
        LIMITS,
        codes=("throttling.ratequota", "limit_requests"),
        words=("requests rate limit", "requests list"),
        advice="requests per minute, over within about a minute; send fewer at once",
    ),
    Rule("rate_limited", LIMITS | {400}, codes=("throttling",)),
    # What a gateway before the API says, in a frame without a code.
    Rule("rate_limited", frozenset({429, 503}), words=("too many requests",)),
    Rule("rate_limited", frozenset({429, 503}), codes=("insufficient_quota",)),
    Rule(
        "quota",
        frozenset({403}),
        codes=("insufficient_quota", "quota_exceeded"),
        advice="the account's quota is used up; a free one is renewed at 00:00 Beijing time",
    ),
    Rule(
        "quota",
        REFUSALS,
        codes=("arrearage",),
        words=("in good standing", "overdue payment", "overdue-payment"),
        advice="the account is overdue; settle its bill in the provider's console",
    ),
    Rule(
        "denied",
        frozenset({400, 403}),
        codes=("accessdenied", "access_denied", "model.accessdenied"),
        words=("does not support http call",),
        advice="this account may not use the model; ask for another",
    ),
    Rule(
        "bad_request",
        frozenset({400}),
        codes=("datainspectionfailed", "data_inspection_failed"),
        words=("inappropriate content",),
        advice="the provider's moderation; ask otherwise",
        code="content_filter",
    ),
    Rule(
        "bad_request",
        frozenset({400}),
        words=("only support stream mode",),
        advice="send `stream: true`",
    ),
    Rule(
        "context_length",
        frozenset({400}),
        words=("range of input length should be",),
        advice="send a shorter conversation",
    ),
    Rule(
        "bad_request",
        frozenset({400}),
        codes=("invalid_parameter_error",),
        words=("invalid_parameter_error",),
        advice="the API refuses the request's shape, or does not serve this model to OAuth tokens",
    ),
    Rule(
        "not_found",
        frozenset({404}),
        codes=("modelnotfound", "model_not_found"),
        advice="`llmgate models` lists what usually can be asked for with OAuth tokens",
    ),
    Rule("unavailable", frozenset({500}), codes=("internalerror",)),
    Rule(
        "timeout",
        frozenset({504}),
        words=("stream timeout",),
        advice="seen with prompts of more than some 130,000 tokens; send a shorter one",
    ),
)
"""The first that fits counts."""


def classify(status: int, headers: Mapping[str, str], body: bytes, now: float, *, is_tier_dead: bool) -> ConnectorError:
    """The failure that a reply other than 2xx stands for.

    Args:
        now: Unix time in seconds.
        is_tier_dead: whether a 401 means that no other token would be accepted either.
    """
    error = refined(upstream_error(status, headers, body, now))
    if status == 401 and is_tier_dead:
        error.message += f": {DEAD_TIER}"
    return error


def refined(error: ConnectorError) -> ConnectorError:
    """The failure, once the table has been asked; the upstream's own words stay at the beginning of the message."""
    rule = next((rule for rule in RULES if rule.fits(error)), None)
    if rule is not None:
        error.kind = rule.kind
        error.code = rule.code or error.code
        error.message += f" ({rule.advice})" if rule.advice else ""
    return error


# --- failures inside a success --------------------------------------------------------------------------------------


class Judge(Mender):
    """Finds the failures in answers of status 200: error frames, `error_finish`, a body that is an error alone."""

    def event(self, body: Body, name: str) -> Body:
        """One event; nothing is decoded unless its bytes look like a failure."""
        if name.strip() == "error":  # whatever it holds: a text and an empty object are failures too
            raise refined(reported_error(body.bytes))
        if b'"error' in body.bytes or b'"choices"' not in body.bytes:
            _raise_failure(body)
        return body

    def whole(self, body: Body) -> Body:
        """A plain answer, or what came instead of a stream."""
        return self.event(body, "")


def _raise_failure(body: Body) -> None:
    bare = "choices" not in body and "code" in body and "message" in body
    if bare or body.get("error"):
        raise refined(reported_error(body.bytes))
    choices = body.get("choices")
    for choice in choices if isinstance(choices, list) else []:
        if isinstance(choice, dict) and choice.get("finish_reason") == "error_finish":
            said = choice.get("delta") or choice.get("message")
            text = said.get("content") if isinstance(said, dict) else None
            raise refined(ConnectorError("unavailable", str(text or "the upstream ended the answer with an error")))


# --- waiting --------------------------------------------------------------------------------------------------------


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
