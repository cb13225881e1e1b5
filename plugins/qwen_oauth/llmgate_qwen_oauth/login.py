"""Logging in, logging out, and what there is to know of a credential file.

Protocol: RFC 8628 with PKCE, with the provider's deviations; what is written is the Qwen CLI's own format.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from llmgate_core import ConnectorError, DeviceFlow, Instance, LoginScreen, SlowDown, device_login

from . import store
from .addresses import api_base
from .durations import moment, words
from .refresh import CLIENT_ID
from .store import Stored, Unusable

SCOPE = "openid profile email model.completion"

BEFORE = (
    "Logging in uses the OAuth device flow with the provider's published public client id.",
    "This connector is for llmgate's developers, contributors and maintainers, to debug and maintain compatibility; "
    "others must not use it. llmgate is not affiliated with, endorsed or authorised by Alibaba Cloud or the Qwen team, "
    "and you answer for your own compliance with the provider's terms and the law.",
    "Since 2026-04-15, when the provider ended its free OAuth tier, logging in still succeeds, but the API answers 401 "
    "to the tokens. For Qwen models, use an API key.",
)
"""Said before anything is sent."""

NOBODY = Stored(access_token="", refresh_token=None, expires_at=0.0, resource_url=None, fields={"token_type": "Bearer"})
"""What a login starts from: nothing of an older file is kept. The CLI wants `token_type`, whatever the reply says."""


def device_flow(issuer: str, request_id: str) -> DeviceFlow:
    """The provider's device flow. `request_id` goes with the device-code request, and with no other."""
    base = f"{issuer.rstrip('/')}/api/v1/oauth2"
    return DeviceFlow(
        device_url=f"{base}/device/code",
        token_url=f"{base}/token",
        client_id=CLIENT_ID,
        scope=SCOPE,
        interval=2.0,
        slow_down=SlowDown(factor=1.5, seconds=0.0, cap=10.0),
        headers={"x-request-id": request_id},
        outlasts_errors=True,  # as the provider's own client does
    )


async def logged_in(issuer: str, instance: Instance, screen: LoginScreen) -> Stored:
    """New credentials, once the user has confirmed; nothing is written.

    Raises:
        ConnectorError: see `device_login`; `protocol` when the tokens cannot be used.
    """
    for text in BEFORE:
        screen.say(text)
    reply = await device_login(device_flow(issuer, str(uuid.uuid4())), instance, screen)
    try:
        return NOBODY.refreshed(reply, instance.clock())
    except Unusable as reason:
        raise ConnectorError("protocol", f"the issuer's answer cannot be used: {reason}; try again later") from None


def keep(path: Path, credentials: Stored) -> None:
    """Puts new credentials in the place of the file's, whatever that held.

    Raises:
        ConnectorError: they cannot be written; the old file is untouched.
    """
    try:
        store.write(path, credentials)
    except OSError as error:
        told = f"cannot write {path} ({_reason(error)}), so the login is lost"
        raise ConnectorError("auth", f"{told}; make it writable, then log in again") from None


def removed(path: Path) -> str:
    """Deletes the file, and says so. Through a link it is the file that goes, for that holds the tokens.

    Raises:
        ConnectorError: it cannot be deleted.
    """
    try:
        Path(os.path.realpath(path)).unlink()
    except FileNotFoundError:
        return f"nothing to remove, as there is no {path}"
    except OSError as error:
        raise ConnectorError("auth", f"cannot remove {path} ({_reason(error)}); remove it yourself") from None
    told = "the provider has no way known to us to revoke tokens, so a copy of them stays valid until they end"
    return f"removed {path}; {told}"


def _reason(error: OSError) -> str:
    return (error.strerror or "it failed").lower()


# --- what there is to know --------------------------------------------------------------------------------------------


def facts(path: Path, current: Stored | None, own_base_url: str | None, now: float) -> dict[str, str]:
    """What `llmgate auth status` shows of a file beside its state; no secrets.

    Args:
        current: what was read from it; None when that cannot be used.
        own_base_url: the configured address that takes the place of the file's.
        now: Unix time in seconds.
    """
    found = {"file": str(path)}
    if current is not None:
        found["token"] = _token(current, now)
        found["endpoint"] = own_base_url or _endpoint(current)
    try:
        status = path.stat()
    except OSError:
        return found
    found["last login or refresh"] = f"{words(now - status.st_mtime)} ago, at {moment(status.st_mtime)}"
    if os.name == "posix" and status.st_mode & 0o077:
        found["problem"] = f"others may use the file; run `chmod 600 {path}`"
    return found


def _token(current: Stored, now: float) -> str:
    left = current.expires_at - now
    life = f"valid for {words(left)}, until" if left > 0 else f"expired {words(-left)} ago, at"
    kept = "with a refresh token" if current.refresh_token else "without a refresh token"
    return f"{life} {moment(current.expires_at)}; {kept}"


def _endpoint(current: Stored) -> str:
    try:
        return api_base(current.resource_url)
    except Unusable:
        return "none that can be used"
