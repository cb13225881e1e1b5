"""How the simulated API says no: the provider's error format, as an exception."""

from __future__ import annotations

from typing import Any


class Refused(Exception):  # noqa: N818 - it is an answer, not a fault
    """The API would refuse this.

    Args:
        status: the HTTP status.
        body: the JSON object that is answered.
        reason: why, in words, for whoever debugs a test; the provider itself is often less helpful.
    """

    def __init__(self, status: int, body: dict[str, Any], reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.body = body
        self.reason = reason


def api_refusal(status: int, code: str, message: str, reason: str = "") -> Refused:
    """An answer of the API; the server adds `request_id` beside `error`."""
    error = {"code": code, "message": message, "param": None, "type": "invalid_request_error"}
    return Refused(status, {"error": error}, f"{code}: {reason or message}")
