"""One question to the issuer: new tokens for a refresh token.

Protocol: RFC 6749, section 6, with the provider's deviations.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from llmgate_core import ConnectorError, HttpClient, HttpReply, Instance

from .store import Stored, Unusable

CLIENT_ID = "f0304373b74a44d2b584a3fb70ca9e56"
"""The provider's published public client id; there is no secret to it."""

REFRESH_TIMEOUT_SECONDS = 30.0


async def refreshed(current: Stored, refresh_token: str, issuer: str, instance: Instance) -> Stored | None:
    """`current` with new tokens, or None where the issuer refuses `refresh_token` (400, 401).

    Args:
        issuer: its address, without the path.

    Raises:
        ConnectorError: `unavailable` for every other failure: one failure on the way to the issuer is no logout.
    """
    reply, body = await _ask(instance.http, issuer, refresh_token)
    if reply.status in (400, 401):
        return None
    try:
        return current.refreshed(_token_reply(reply.status, body), instance.clock())
    except Unusable as reason:
        raise unavailable(f"the issuer's answer cannot be used: {reason}", reply.status) from None


def unavailable(why: str, status: int | None = None) -> ConnectorError:
    """The token could not be refreshed this time."""
    return ConnectorError("unavailable", f"the token could not be refreshed: {why}; try again", status=status)


async def _ask(http: HttpClient, issuer: str, refresh_token: str) -> tuple[HttpReply, bytes]:
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": CLIENT_ID}
    headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
    url = f"{issuer.rstrip('/')}/api/v1/oauth2/token"
    try:
        async with asyncio.timeout(REFRESH_TIMEOUT_SECONDS):
            reply = await http.send("POST", url, headers=headers, content=urlencode(form).encode())
            return reply, await reply.read(64 * 1024)
    except TimeoutError:
        raise unavailable(f"no answer within {REFRESH_TIMEOUT_SECONDS:g} s") from None
    except ConnectorError as error:
        raise unavailable(error.message, error.status) from None


def _token_reply(status: int, body: bytes) -> Mapping[str, Any]:
    """The members of a good token reply; raises Unusable for anything else. Its content is never repeated."""
    if not 200 <= status < 300:
        raise Unusable(f"HTTP {status}")
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        raise Unusable("it is not JSON") from None
    if not isinstance(reply, dict) or reply.get("error"):
        raise Unusable("it reports an error")
    return reply
