"""The OAuth issuer as a state machine: device codes, refresh tokens, access tokens. No clock, no I/O.

Sources: RFC 8628 (device flow), RFC 7636 (PKCE), and the provider's habits where they differ: a dead refresh
token is `invalid_request`, `slow_down` comes with status 429, a dead device code with 401.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .refusals import Refused, api_refusal, oauth_refusal

CLIENT_ID = "f0304373b74a44d2b584a3fb70ca9e56"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
SCOPE = "openid profile email model.completion"

_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True)
class Terms:
    """What holds at the moment of one request.

    Args:
        now: Unix time in seconds.
        token_seconds: how long a new access token will live.
        url: the simulator's own base URL.
        omit: fields that a refresh reply leaves out.
        poll_seconds: a device that polls sooner than this after its last poll is told to slow down.
        device_seconds: how long a device code lives.
    """

    now: float
    token_seconds: float
    url: str
    omit: Collection[str] = ()
    poll_seconds: float = 0.0
    device_seconds: float = 900.0


@dataclass
class _Device:
    user_code: str
    challenge: str
    expires_at: float
    state: Literal["pending", "approved", "denied"] = "pending"
    polled_at: float | None = None


@dataclass(frozen=True)
class Tokens:
    """A pair of fresh tokens; `expires_at` is the access token's, Unix time in seconds."""

    access: str
    refresh: str
    expires_at: float


class Issuer:
    """Knows every token that it has issued.

    Args:
        realm: goes into every token, so that one simulator's tokens are unknown to another.

    Attributes:
        issued: access tokens issued so far.
        refreshes: refresh requests granted so far.
    """

    def __init__(self, realm: str) -> None:
        self.issued = 0
        self.refreshes = 0
        self._realm = realm
        self._serial = 0
        self._access: dict[str, float] = {}
        self._refresh: set[str] = set()
        self._devices: dict[str, _Device] = {}

    def issue(self, now: float, seconds: float) -> Tokens:
        """A new pair, without further ado."""
        tokens = Tokens(self._fresh_access(now, seconds), self._fresh_name("refresh"), now + seconds)
        self._refresh.add(tokens.refresh)
        return tokens

    def check(self, authorization: str, now: float) -> None:
        """Raises Refused (401) unless the header carries an access token that is alive."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "bearer" and self._access.get(token, now) > now:
            return
        reason = "expired or revoked" if token in self._access else "unknown"
        raise api_refusal(401, "invalid_api_key", "invalid access token or token expired", reason)

    def revoke_access(self) -> None:
        """Ends every access token that is alive; refresh tokens stay."""
        self._access = dict.fromkeys(self._access, float("-inf"))

    def device_code(self, form: Mapping[str, str], terms: Terms) -> dict[str, Any]:
        """Answers the device authorization request. Raises Refused."""
        _check_client(form)
        if not set(form.get("scope", "").split()) <= set(SCOPE.split()) or not form.get("scope"):
            raise oauth_refusal(400, "invalid_scope", "The requested scope is invalid.")
        if form.get("code_challenge_method") != "S256":
            raise oauth_refusal(400, "invalid_request", "code_challenge_method must be S256.")
        if not _CHALLENGE.fullmatch(form.get("code_challenge", "")):
            raise oauth_refusal(400, "invalid_request", "code_challenge is missing or malformed.")
        code, user_code = self._fresh_name("device"), f"QWEN-{self._serial:04d}"
        expires_at = terms.now + terms.device_seconds
        self._devices[code] = _Device(user_code, form["code_challenge"], expires_at)
        page = f"{terms.url}/authorize"
        return {
            "device_code": code,
            "user_code": user_code,
            "verification_uri": page,
            "verification_uri_complete": f"{page}?user_code={user_code}&client=qwen-code",
            "expires_in": int(terms.device_seconds),
        }

    def decide(self, user_code: str, approve: bool) -> None:
        """What the user says in the browser. Raises KeyError when no device shows this code."""
        for device in self._devices.values():
            if device.user_code == user_code:
                device.state = "approved" if approve else "denied"
                return
        raise KeyError(user_code)

    def token(self, form: Mapping[str, str], terms: Terms) -> dict[str, Any]:
        """Answers the token endpoint, both grants. Raises Refused."""
        grants = {"refresh_token": self._refresh_grant, DEVICE_GRANT: self._device_grant}
        grant = grants.get(form.get("grant_type", ""))
        if grant is None:
            raise oauth_refusal(400, "unsupported_grant_type", "grant_type is missing or not supported.")
        return grant(form, terms)

    def _refresh_grant(self, form: Mapping[str, str], terms: Terms) -> dict[str, Any]:
        old = form.get("refresh_token", "")
        if form.get("client_id") != CLIENT_ID or old not in self._refresh:
            raise oauth_refusal(400, "invalid_request", "Invalid refresh token or client_id")
        self.refreshes += 1
        if "refresh_token" in terms.omit:  # no successor is told, so the old one stays good
            reply = _token_reply(self._fresh_access(terms.now, terms.token_seconds), old, terms)
        else:
            self._refresh.discard(old)
            tokens = self.issue(terms.now, terms.token_seconds)
            reply = _token_reply(tokens.access, tokens.refresh, terms)
        return {name: value for name, value in reply.items() if name not in terms.omit}

    def _device_grant(self, form: Mapping[str, str], terms: Terms) -> dict[str, Any]:
        _check_client(form)
        code = form.get("device_code", "")
        device = self._devices.get(code)
        if device is None:
            raise oauth_refusal(401, "invalid_request", "Invalid device code.")
        _check_verifier(form.get("code_verifier", ""), device.challenge)
        refusal = _not_yet(device, terms)
        device.polled_at = terms.now
        if refusal is not None:
            raise refusal
        del self._devices[code]
        tokens = self.issue(terms.now, terms.token_seconds)
        return _token_reply(tokens.access, tokens.refresh, terms)

    def _fresh_access(self, now: float, seconds: float) -> str:
        self.issued += 1
        token = self._fresh_name("access")
        self._access[token] = now + seconds
        return token

    def _fresh_name(self, kind: str) -> str:
        self._serial += 1
        return f"simulated-{kind}-{self._realm}-{self._serial}"


def _check_client(form: Mapping[str, str]) -> None:
    if form.get("client_id") != CLIENT_ID:
        raise oauth_refusal(400, "invalid_client", "The client_id is missing or unknown.")


def _check_verifier(verifier: str, challenge: str) -> None:
    """RFC 7636, section 4.6. Checked on every poll, so that a missing verifier shows at once."""
    digest = hashlib.sha256(verifier.encode()).digest()
    expected = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    if not _VERIFIER.fullmatch(verifier) or expected != challenge:
        raise oauth_refusal(400, "invalid_request", "code_verifier is missing or does not match.")


def _not_yet(device: _Device, terms: Terms) -> Refused | None:
    if terms.now >= device.expires_at:
        return oauth_refusal(401, "expired_token", "The device code has expired.")
    if device.polled_at is not None and terms.now - device.polled_at < terms.poll_seconds:
        return oauth_refusal(429, "slow_down", "Polling too fast.")
    if device.state == "denied":
        return oauth_refusal(400, "access_denied", "The user said no.")
    if device.state == "pending":
        return oauth_refusal(400, "authorization_pending", "The user has not decided yet.")
    return None


def _token_reply(access: str, refresh: str, terms: Terms) -> dict[str, Any]:
    return {
        "access_token": access,
        "refresh_token": refresh,
        "token_type": "Bearer",
        "expires_in": int(terms.token_seconds),
        "resource_url": terms.url,
    }
