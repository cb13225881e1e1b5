"""What MiniMax's refusals mean: its codes as kinds, whichever envelope and HTTP status they come in. Pure functions.

Sources: platform.minimax.io, "Error Codes"; the replies that its users have published, where the page is silent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from llmgate_core import Body, ConnectorError, Kind, upstream_error

OVERLOADED = 529


@dataclass(frozen=True)
class Meaning:
    """What one code stands for.

    Args:
        code: the word that clients know; None leaves it to the kind.
        advice: what to do next, where the upstream does not say.
    """

    kind: Kind
    code: str | None = None
    advice: str = ""


FAULT = Meaning("unavailable")
TOO_FAST = Meaning("rate_limited")
PLAN_USED_UP = Meaning("quota")
FILTERED = Meaning("bad_request", "content_filter")

CODES = {
    1000: FAULT,
    1001: Meaning("timeout"),
    1002: TOO_FAST,
    1004: Meaning("auth"),
    1008: Meaning("quota", advice="top up the account's balance"),
    1013: FAULT,
    1024: FAULT,
    1026: FILTERED,
    1027: FILTERED,
    1028: PLAN_USED_UP,
    1030: PLAN_USED_UP,
    1033: FAULT,
    1039: TOO_FAST,  # tokens per minute, says the documentation; others have met it as the size of one request
    1041: TOO_FAST,
    1042: Meaning("bad_request"),
    2013: Meaning("bad_request"),
    2045: TOO_FAST,
    2046: TOO_FAST,
    2047: TOO_FAST,
    2049: Meaning(
        "auth",
        advice="a key works only in its own region: either `region` in the backend's `extra` is not the key's, "
        "or the key is wrong",
    ),
    2056: PLAN_USED_UP,
    2061: Meaning("denied", advice="the plan does not include this model"),
    2067: PLAN_USED_UP,
}

_CODE_AT_END = re.compile(r"\((\d{4})\)\s*\Z")
_RESET = re.compile(r"resets at (\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z| ?[+-]\d\d:?\d\d)?)")


def classify(status: int, headers: Mapping[str, str], body: bytes, now: float) -> ConnectorError:
    """The failure that a reply other than 2xx stands for.

    Args:
        headers: lower-case names.
        now: Unix time in seconds.
    """
    error = upstream_error(status, headers, body, now)
    try:
        told = Body(body).data
    except ValueError:
        told = {}
    return _explained(error, *_said(told), now)


def reported(told: Mapping[str, Any], now: float) -> ConnectorError | None:
    """The failure that an answer with status 200, or one event of its stream, holds; None if none of MiniMax's.

    A code other than 0 in `base_resp` is always one, whatever else is there. The failure has no HTTP status, as nobody
    has answered with one; that the upstream has answered all the same shows in its `type`.
    """
    code, words = _said(told)
    if not code or ("base_resp" not in told and code not in CODES):
        return None
    error = told.get("error")
    sort = error.get("type") if isinstance(error, dict) else None
    failure = ConnectorError("protocol", words, type=sort if sort and isinstance(sort, str) else "error")
    return _explained(failure, code, words, now)


def _said(told: Mapping[str, Any]) -> tuple[int, str]:
    """Code and words of either envelope; code 0 where there is none. The words end with the code in brackets."""
    native = told.get("base_resp")
    if isinstance(native, dict) and (code := _number(native.get("status_code"))):
        words = str(native.get("status_msg") or "the upstream gave a code without words")[:8000]
        return code, words if _CODE_AT_END.search(words) else f"{words} ({code})"
    error = told.get("error")
    message = error.get("message") if isinstance(error, dict) else None
    found = _CODE_AT_END.search(message) if isinstance(message, str) else None
    return (int(found[1]), str(message)[:8000]) if found else (0, "")


def _number(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,9}", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _explained(error: ConnectorError, code: int, words: str, now: float) -> ConnectorError:
    """The failure, once its code has been looked up; one that nobody knows leaves it as it is."""
    error.message = words or error.message
    meaning = CODES.get(code)
    if meaning is None or error.status == OVERLOADED:
        return error
    error.kind, error.code = meaning.kind, meaning.code
    advice = meaning.advice
    if code == 2013:
        error.kind = _invalid(words)
    if code == 2056:
        error.retry_after = _until_reset(words, now) if error.retry_after is None else error.retry_after
        advice = "the plan has nothing of this, waiting does not help" if "(0/0 used)" in words else ""
    if advice:
        error.message += f": {advice}"
    return error


def _invalid(words: str) -> Kind:
    """Code 2013 covers whatever is wrong with a request; only the words tell it apart."""
    if "context window exceeds limit" in words:
        return "context_length"
    return "not_found" if "unknown model" in words else "bad_request"


def _until_reset(words: str, now: float) -> float | None:
    """Seconds until the plan's window begins anew, None where the words do not say; a time without a zone is UTC."""
    found = _RESET.search(words)
    if not found:
        return None
    try:
        then = datetime.fromisoformat(found[1].replace(" +", "+").replace(" -", "-"))
    except ValueError:
        return None
    return max(0.0, (then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp() - now)
