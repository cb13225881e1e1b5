"""What an upstream's failure means, whatever its dialect: its kind, its own words, and when to come back."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from ..errors import KINDS, ConnectorError, Kind
from ..wire import JsonError, decode, encode

MAX_MESSAGE = 8000
"""Characters of an upstream's message that are kept."""

MAX_EXCERPT = 300
"""Characters that are shown of an error page or text."""


@dataclass(frozen=True)
class Told:
    """What an upstream's error body says; `message` is empty where it says nothing.

    Args:
        status: an HTTP status that the body itself names, None where it names none.
        request_id: the upstream's own id of the request, if the body tells.
    """

    message: str = ""
    type: str | None = None
    code: str | None = None
    param: str | None = None
    status: int | None = None
    request_id: str | None = None


def upstream_error(status: int, headers: Mapping[str, str], body: bytes, now: float | None = None) -> ConnectorError:
    """An upstream's answer other than 2xx as the failure that it is; the status decides, the body refines.

    Args:
        headers: lower-case names.
        now: Unix time in seconds, for a `Retry-After` that is a date; without it the `Date` header counts.
    """
    told = read_error(body)
    return ConnectorError(
        refined(kind_of(status), status, told),
        told.message or f"the upstream answered {status} without a message",
        status=status,
        retry_after=retry_after(headers, now),
        code=told.code,
        type=told.type,
        param=told.param,
        upstream_request_id=request_id(headers) or told.request_id,
    )


def reported_error(body: bytes) -> ConnectorError:
    """The failure that an upstream reports inside a 200, in a frame of a stream or as a whole answer.

    The status that the report names or implies decides; without one the kind is `protocol`. An implied one goes no
    further: nobody has answered with it.
    """
    told = read_error(body)
    status = told.status or _implied_status(told)
    return ConnectorError(
        refined(kind_of(status), status, told) if status else "protocol",
        told.message or "the upstream reported an error without a message",
        status=told.status,
        code=told.code,
        type=told.type,
        param=told.param,
        upstream_request_id=told.request_id,
    )


# --- the kind -----------------------------------------------------------------------------------------------

_KINDS_BY_STATUS: dict[int, Kind] = {
    401: "auth",
    402: "quota",
    403: "denied",
    404: "not_found",
    407: "unavailable",
    408: "timeout",
    429: "rate_limited",
    504: "timeout",
}

_OVERFLOW = re.compile(
    r"context[_ ]length[_ ]exceeded|maximum context length|exceeds the context window"
    r"|context window exceeds limit|exceeds the available context size|greater than the context length"
    r"|prompt is too long|input is too long for|maximum prompt length is|exceeded model token limit"
    r"|input token count.{0,40}exceeds the maximum|reduce the length of the messages"
    r"|range of input length should be|`?max_tokens`? exceed context limit",
    re.IGNORECASE,
)
_NO_CREDIT = re.compile(
    r"exceeded your current quota|check your plan and billing|insufficient[_ ](balance|credits|funds)"
    r"|(credit balance is|balance is) too low|billing hard limit",
    re.IGNORECASE,
)
# What Anthropic says of a prepaid account that is empty: as a bad request.
_NO_CREDIT_400 = re.compile(r"your credit balance is too low", re.IGNORECASE)
# A limit of tokens per minute, in the words and with the code of a balance that is gone; only its link tells.
_PER_MINUTE = re.compile(r"#token-limit\b", re.IGNORECASE)
_NO_CREDIT_CODES = frozenset(
    {
        "insufficient_quota",
        "quota_exceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
        "insufficient_balance",
        "insufficient_balance_error",
        "insufficient_credits",
    }
)

_STATUS_BY_NAME = {
    "invalid_request_error": 400,
    "bad_request": 400,
    "bad_request_error": 400,
    "context_length_exceeded": 400,
    "content_filter": 400,
    "invalid_prompt": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "request_too_large": 413,
    "timeout_error": 504,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "slow_down": 429,
    "overloaded_error": 529,
    "server_is_overloaded": 503,
    "server_error": 500,
    "internal_server_error": 500,
    "internal_error": 500,
    "api_error": 500,
    "service_unavailable": 503,
}


def kind_of(status: int) -> Kind:
    """The kind of failure that an HTTP status stands for, before anybody has looked at the body."""
    if status in _KINDS_BY_STATUS:
        return _KINDS_BY_STATUS[status]
    if status >= 500:
        return "unavailable"
    return "bad_request" if status >= 400 else "protocol"


def refined(kind: Kind, status: int, told: Told) -> Kind:
    """The kind once the body has been heard: a bad request or a rate limit may be something more exact."""
    names = {told.code, told.type}
    if kind == "bad_request" and "model_not_found" in names:
        return "not_found"
    if kind == "bad_request" and ("context_length_exceeded" in names or _OVERFLOW.search(told.message)):
        return "context_length"
    if status == 400 and _NO_CREDIT_400.search(told.message):
        return "quota"
    if status == 429 and _PER_MINUTE.search(told.message):
        return "rate_limited"
    if status == 429 and (names & _NO_CREDIT_CODES or _NO_CREDIT.search(told.message)):
        return "quota"
    return kind


def _implied_status(told: Told) -> int | None:
    for name in (told.code, told.type):
        if name in _NO_CREDIT_CODES:
            return 429
        if name in _STATUS_BY_NAME:
            return _STATUS_BY_NAME[name]
    return None


_OVERLOADED = (503, 529)
"""Statuses of an upstream that has too much to do; 529 is Anthropic's, which few clients know."""


def answer_status(error: ConnectorError) -> int:
    """The HTTP status with which the caller is told: the kind's, or for a bad request the upstream's 4xx."""
    if error.kind == "unavailable" and error.status in _OVERLOADED:
        return 503
    fixed = KINDS[error.kind].status
    if fixed is not None:
        return fixed
    return error.status if error.status is not None and 400 <= error.status < 500 else 400


# --- its words ----------------------------------------------------------------------------------------------


def read_error(body: bytes) -> Told:
    """What an error body says, in any shape that is met: JSON of many makes, HTML, plain text, nothing."""
    try:
        value = decode(body)
    except JsonError:
        return Told(excerpt(body))
    if isinstance(value, list) and value:  # Google's OpenAI-compatible endpoint wraps its error in an array
        value = value[0]
    if value in (None, {}, []):
        return Told()
    if isinstance(value, str):
        return Told(value[:MAX_MESSAGE])
    if not isinstance(value, dict):
        return Told(excerpt(body))
    return replace(_from_object(value), request_id=_id(_label(value.get("request_id"))))


def _from_object(value: dict[str, Any]) -> Told:
    error = value.get("error")
    if isinstance(error, dict) and error:
        return _told(error, _first_text(error, "message", "msg", "detail") or _text(error))
    said = _first_text(value, "message", "error_description", "msg")
    if isinstance(error, str) and error:
        return _told({"code": error, **value} if said else value, said or error)
    detail = value.get("detail")
    if isinstance(detail, dict) and detail:
        return _from_object(detail)
    return _told(value, _detail(detail) or said or _text(value))


def _told(fields: dict[str, Any], message: str) -> Told:
    named = (fields.get(name) for name in ("status", "status_code", "http_code", "code"))
    return Told(
        message[:MAX_MESSAGE],
        type=_label(fields.get("type")),
        code=_label(fields.get("code")),
        param=_label(fields.get("param")),
        status=next((status for value in named if (status := _status(value))), None),
    )


def _first_text(fields: dict[str, Any], *names: str) -> str:
    for name in names:
        if value := fields.get(name):
            return _text(value)
    return ""


def _detail(detail: Any) -> str:
    """FastAPI's `detail`: a text, or the list of what failed validation."""
    if not isinstance(detail, list):
        return _text(detail) if detail else ""
    said = []
    for item in detail:
        if isinstance(item, dict) and isinstance(item.get("msg"), str):
            place = item.get("loc")
            where = ".".join(map(str, place)) + ": " if isinstance(place, list) and place else ""
            said.append(where + item["msg"])
        else:
            said.append(_text(item))
    return "; ".join(said)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else encode(value).decode()


def _label(value: Any) -> str | None:
    """A short name as text; some upstreams send numbers."""
    if isinstance(value, str):
        return value[:MAX_EXCERPT] or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _status(value: Any) -> int | None:
    text = _label(value) or ""
    return int(text) if re.fullmatch(r"[45][0-9][0-9]", text) else None


_MARKUP = re.compile(r"<(script|style)\b.*?</\1\s*>|<!--.*?-->|<[^<>]*>", re.IGNORECASE | re.DOTALL)
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f]+")


def excerpt(body: bytes) -> str:
    """The beginning of an error page or text: no tags, one line, at most MAX_EXCERPT characters."""
    text = body[:8000].decode(errors="replace")
    if "<" in text:
        text = html.unescape(_MARKUP.sub(" ", text))
    text = _UNPRINTABLE.sub(" ", text).strip()
    return text if len(text) <= MAX_EXCERPT else text[: MAX_EXCERPT - 3].rstrip() + "..."


def request_id(headers: Mapping[str, str]) -> str | None:
    """The upstream's own id of the request, if its headers (lower-case names) tell."""
    return _id(headers.get("x-request-id") or headers.get("request-id"))


def _id(found: str | None) -> str | None:
    """An id that can go into a header of ours."""
    return found[:200] if found and found.isprintable() else None


# --- when to come back --------------------------------------------------------------------------------------

_PLAIN_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]*)?")


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds that the upstream asks to wait, None when it does not say; finite and never negative.

    `retry-after-ms` (a habit of OpenAI) comes before `retry-after`, which is a number of seconds or a date
    (RFC 9110, section 10.2.3).

    Args:
        headers: lower-case names.
        now: Unix time in seconds; without it a date is compared with the `Date` header.
    """
    milliseconds = headers.get("retry-after-ms", "").strip()
    if _PLAIN_NUMBER.fullmatch(milliseconds):
        return float(milliseconds) / 1000
    value = headers.get("retry-after", "").strip()
    if _PLAIN_NUMBER.fullmatch(value):
        return float(value)
    then = _http_date(value)
    if now is None:
        now = _http_date(headers.get("date", ""))
    return None if then is None or now is None else max(0.0, then - now)


def _http_date(text: str) -> float | None:
    if not text or len(text) > 100:
        return None
    try:
        parsed: datetime = parsedate_to_datetime(text)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
