"""The OAuth issuer as a state machine: device codes, refresh tokens, access tokens. No clock, no I/O."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from .demands import challenge_of, check_client, check_narrower, check_verifier, granted_scope
from .rules import OAuthRefused, OAuthRequest, OAuthRules


@dataclass(frozen=True)
class OAuthTokens:
    """A pair of fresh tokens; `expires_at` is the access token's end, Unix time in seconds."""

    access: str
    refresh: str
    expires_at: float


@dataclass(eq=False)
class _Grant:
    """One login: all refresh tokens that follow one another belong to it. A scope of None is everything."""

    scope: frozenset[str] | None


@dataclass
class _Device:
    code: str
    user_code: str
    scope: frozenset[str] | None
    challenge: str | None
    expires_at: float
    state: Literal["pending", "approved", "denied"] = "pending"
    polled_at: float | None = None
    slowed_down: float = 0.0


class Issuer:
    """Knows every token that it has issued.

    Args:
        rules: the provider's; may be replaced at any time.
        realm: goes into every token, so that one simulator's tokens are unknown to another.

    Attributes:
        issued: access tokens issued so far.
        refreshes: refresh requests granted so far.
        reused: refresh tokens that came again after they were spent, in order.
    """

    def __init__(self, rules: OAuthRules, realm: str) -> None:
        self.rules = rules
        self.issued = 0
        self.refreshes = 0
        self.reused: list[str] = []
        self._realm = realm
        self._serial = 0
        self._access: dict[str, float] = {}
        self._alive: dict[str, _Grant] = {}
        self._spent: dict[str, _Grant] = {}
        self._devices: list[_Device] = []

    def issue(self, now: float, seconds: float) -> OAuthTokens:
        """A new login, without further ado; its scope is all that there is."""
        return self._tokens(_Grant(granted_scope(self.rules.scope or "", self.rules)), now, seconds)

    def check(self, authorization: str, now: float) -> None:
        """Raises OAuthRefused unless the header carries an access token that is alive (RFC 6750, section 2.1)."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise OAuthRefused(self.rules.dead_access, "no bearer token")
        if self._access.get(token, now) <= now:
            raise OAuthRefused(self.rules.dead_access, "expired or revoked" if token in self._access else "unknown")

    def revoke_access(self) -> None:
        """Ends every access token that is alive; refresh tokens stay."""
        self._access = dict.fromkeys(self._access, float("-inf"))

    def revoke_refresh(self) -> None:
        """Ends every refresh token that is alive; access tokens stay."""
        self._alive.clear()

    def decide(self, user_code: str, approve: bool, now: float) -> None:
        """What the user says in the browser. Raises KeyError when no device shows this code, or not any more."""
        for device in self._devices:
            if device.user_code == user_code and now < device.expires_at:
                device.state = "approved" if approve else "denied"
                return
        raise KeyError(user_code)

    def device_code(self, asked: OAuthRequest, now: float) -> dict[str, Any]:
        """Answers the device authorization request (RFC 8628, section 3.1). Raises OAuthRefused."""
        rules, form = self.rules, asked.form
        check_client(form, rules, rules.wrong_client)
        scope, challenge = granted_scope(form.get("scope", ""), rules), challenge_of(form, rules)
        code, user_code = self._name("device"), f"USER-{self._serial:04d}"
        self._devices.append(_Device(code, user_code, scope, challenge, now + rules.device_seconds))
        page = f"{asked.url}{rules.page_path}"
        reply = {
            "device_code": code,
            "user_code": user_code,
            "verification_uri": page,
            "verification_uri_complete": f"{page}?user_code={user_code}",
            "expires_in": int(rules.device_seconds),
        }
        if rules.tell_interval:
            reply["interval"] = math.ceil(rules.poll_seconds)
        return rules.device_reply(reply, asked)

    def token(self, asked: OAuthRequest, now: float, omit: Collection[str] = ()) -> dict[str, Any]:
        """Answers the token endpoint, both grants. Raises OAuthRefused.

        Args:
            omit: members that a refresh reply leaves out.
        """
        grant = asked.form.get("grant_type")
        if grant == self.rules.device_grant:
            return self._device_grant(asked, now)
        if grant == "refresh_token":
            return self._refresh_grant(asked, now, omit)
        raise OAuthRefused(self.rules.wrong_grant, "grant_type is missing or not supported.")

    def _refresh_grant(self, asked: OAuthRequest, now: float, omit: Collection[str]) -> dict[str, Any]:
        rules = self.rules
        check_client(asked.form, rules, rules.wrong_client_on_refresh)
        old = asked.form.get("refresh_token", "")
        grant = self._grant_of(old)
        check_narrower(asked.form.get("scope", ""), grant.scope, rules)
        self.refreshes += 1
        if "refresh_token" in omit:  # no successor is told, so the old one stays good
            expires_at = now + rules.token_seconds
            tokens = OAuthTokens(self._new_access(expires_at), old, expires_at)
        else:
            self._spent[old] = self._alive.pop(old)
            tokens = self._tokens(grant, now, rules.token_seconds)
        reply = self._token_reply(tokens, asked)
        return {name: value for name, value in reply.items() if name not in omit}

    def _grant_of(self, refresh: str) -> _Grant:
        """The login that a live refresh token belongs to (RFC 6749, section 6)."""
        if refresh in self._alive:
            return self._alive[refresh]
        if refresh not in self._spent:
            raise OAuthRefused(self.rules.dead_refresh, "The refresh token is missing, unknown or revoked.")
        self.reused.append(refresh)
        if self.rules.reuse_ends_grant:
            ended = self._spent[refresh]
            self._alive = {token: grant for token, grant in self._alive.items() if grant is not ended}
        raise OAuthRefused(self.rules.dead_refresh, "The refresh token has been spent.")

    def _device_grant(self, asked: OAuthRequest, now: float) -> dict[str, Any]:
        rules = self.rules
        check_client(asked.form, rules, rules.wrong_client)
        device = self._device(asked.form.get(rules.poll_field, ""))
        check_verifier(asked.form, device.challenge, rules)
        self._check_state(device, now)
        self._devices.remove(device)
        return self._token_reply(self._tokens(_Grant(device.scope), now, rules.token_seconds), asked)

    def _device(self, code: str) -> _Device:
        by_user_code = self.rules.poll_field == "user_code"
        for device in self._devices:
            if code == (device.user_code if by_user_code else device.code):
                return device
        raise OAuthRefused(self.rules.unknown_device, "The device code is missing, unknown or used.")

    def _check_state(self, device: _Device, now: float) -> None:
        """RFC 8628, section 3.5: what a poll learns, unless the user has said yes."""
        rules = self.rules
        waited = float("inf") if device.polled_at is None else now - device.polled_at
        device.polled_at = now
        if now >= device.expires_at:
            raise OAuthRefused(rules.expired_device, "The device code has expired.")
        if waited < rules.poll_seconds + device.slowed_down:
            device.slowed_down += rules.slow_down_seconds
            raise OAuthRefused(rules.slow_down, "Polling too fast.")
        if device.state == "denied":
            raise OAuthRefused(rules.denied, "The user said no.")
        if device.state == "pending":
            raise OAuthRefused(rules.pending, "The user has not decided yet.")

    def _tokens(self, grant: _Grant, now: float, seconds: float) -> OAuthTokens:
        tokens = OAuthTokens(self._new_access(now + seconds), self._name("refresh"), now + seconds)
        self._alive[tokens.refresh] = grant
        return tokens

    def _token_reply(self, tokens: OAuthTokens, asked: OAuthRequest) -> dict[str, Any]:
        """RFC 6749, section 5.1."""
        reply = {
            "access_token": tokens.access,
            "token_type": "Bearer",
            "expires_in": int(self.rules.token_seconds),
            "refresh_token": tokens.refresh,
        }
        return self.rules.token_reply(reply, asked)

    def _new_access(self, expires_at: float) -> str:
        self.issued += 1
        token = self._name("access")
        self._access[token] = expires_at
        return token

    def _name(self, kind: str) -> str:
        self._serial += 1
        return f"simulated-{kind}-{self._realm}-{self._serial}"
