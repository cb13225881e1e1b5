"""Credentials from the Qwen CLI's file: loaded, refreshed ahead of their end, and healed by a new login.

The core calls this from one task at a time and lets a refresh finish even when its caller has left. Protocol: RFC 6749,
section 6, with the provider's deviations.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from llmgate_core import ConnectorError, Credential, CredentialStatus, HttpReply, Instance

from . import store
from .failures import DEAD_TIER
from .settings import QwenSettings
from .store import Stored, Unusable

CLIENT_ID = "f0304373b74a44d2b584a3fb70ca9e56"
"""The provider's published public client id; there is no secret to it."""

DEFAULT_RESOURCE = "portal.qwen.ai"
EARLY_SECONDS = 30.0
REFRESH_TIMEOUT_SECONDS = 30.0
JUST_ISSUED_SECONDS = 60.0
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class QwenCredentials:
    """The credential provider of one instance."""

    def __init__(self, instance: Instance, settings: QwenSettings) -> None:
        self._instance = instance
        self._settings = settings
        configured = settings.credentials_path
        self.path = (
            store.expanded(configured, instance.home)
            if configured
            else store.default_path(instance.environ, instance.home)
        )
        self._stored: Stored | None = None
        self._seen: tuple[int, ...] | None = None
        self._dead: str | None = None
        self._issued: tuple[str, float] = ("", 0.0)

    async def get(self) -> Credential:
        """What the file holds now, refreshed if it ends within 30 seconds.

        Raises:
            ConnectorError: `auth` when only a login can help, `unavailable` when the issuer cannot be reached.
        """
        current = self._load()
        if not self._fresh(current):
            current = await self._refresh(current)
        return self._credential(current)

    async def renew(self, rejected: Credential) -> Credential:
        """Another token after a 401: the file's, if somebody has changed it, else a refreshed one."""
        self._seen = None
        current = self._load()
        if self._credential(current).headers != rejected.headers and self._fresh(current):
            return self._credential(current)
        if self.just_issued(rejected):
            raise ConnectorError("auth", DEAD_TIER, status=401)
        return self._credential(await self._refresh(current))

    def status(self) -> CredentialStatus:
        """Whether the file is usable, and for how long its token lasts."""
        try:
            current = self._load()
            self._check_alive(current)
            self._credential(current)
        except ConnectorError as error:
            return CredentialStatus(False, error.message)
        left = current.expires_at - self._instance.clock()
        if left > EARLY_SECONDS:
            return CredentialStatus(True, f"{self.path}, token valid for {_words(left)}")
        if current.refresh_token is None:
            return CredentialStatus(False, self._login(f"the token in {self.path} has expired"))
        return CredentialStatus(True, f"{self.path}, token expired, will be refreshed with the next request")

    def just_issued(self, credential: Credential) -> bool:
        """Whether this token came out of a refresh a moment ago, so that it cannot have expired."""
        token, when = self._issued
        recent = self._instance.clock() - when < JUST_ISSUED_SECONDS
        return bool(token) and recent and credential.headers.get("authorization") == f"Bearer {token}"

    # --- the file ------------------------------------------------------------------------------------------------

    def _load(self) -> Stored:
        """The file's credentials; read anew only when the file has changed."""
        seen = _fingerprint(self.path)
        if self._stored is None or seen is None or seen != self._seen:
            try:
                self._stored = store.read(self.path)
            except Unusable as reason:
                raise ConnectorError("auth", self._login(f"{self.path}: {reason}")) from None
            self._seen = seen
        return self._stored

    async def _keep(self, refreshed: Stored) -> None:
        """Writes what a refresh brought. It stays in memory if that fails: the old refresh token is spent."""
        self._stored = refreshed
        self._issued = (refreshed.access_token, self._instance.clock())
        try:
            await asyncio.to_thread(store.write, self.path, refreshed)
        except OSError as error:
            self._instance.logger.error(
                "cannot write %s (%s): the refreshed token lives in memory only, and is lost when llmgate stops",
                self.path,
                error.strerror,
            )
        self._seen = _fingerprint(self.path)

    # --- the refresh ---------------------------------------------------------------------------------------------

    async def _refresh(self, current: Stored) -> Stored:
        self._check_alive(current)
        if current.refresh_token is None:
            raise ConnectorError("auth", self._login(f"{self.path} holds no `refresh_token`"))
        reply, body = await self._ask(current.refresh_token)
        if reply.status in (400, 401):
            self._dead = current.refresh_token
            self._check_alive(current)
        try:
            refreshed = current.refreshed(_token_reply(reply.status, body), self._instance.clock())
        except Unusable as reason:
            raise self._unavailable(f"the issuer's answer cannot be used: {reason}", reply.status) from None
        await self._keep(refreshed)
        self._instance.logger.info("token refreshed, valid for %s", _words(refreshed.expires_at - self._issued[1]))
        return refreshed

    async def _ask(self, refresh_token: str) -> tuple[HttpReply, bytes]:
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": CLIENT_ID}
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        url = f"{self._settings.oauth_base_url.rstrip('/')}/api/v1/oauth2/token"
        try:
            async with asyncio.timeout(REFRESH_TIMEOUT_SECONDS):
                reply = await self._instance.http.send("POST", url, headers=headers, content=urlencode(form).encode())
                return reply, await reply.read(64 * 1024)
        except TimeoutError:
            raise self._unavailable(f"no answer within {REFRESH_TIMEOUT_SECONDS:g} s", None) from None
        except ConnectorError as error:
            raise self._unavailable(error.message, error.status) from None

    def _check_alive(self, current: Stored) -> None:
        """A refresh token that was refused is not tried again until the file holds another one."""
        if self._dead is not None and current.refresh_token == self._dead:
            raise ConnectorError("auth", self._login(f"the refresh token in {self.path} is no longer accepted"))

    def _unavailable(self, why: str, status: int | None) -> ConnectorError:
        """One failure on the way to the issuer is no logout."""
        return ConnectorError("unavailable", f"the token could not be refreshed: {why}; try again", status=status)

    # --- in words and values -------------------------------------------------------------------------------------

    def _fresh(self, current: Stored) -> bool:
        return self._instance.clock() < current.expires_at - EARLY_SECONDS

    def _credential(self, current: Stored) -> Credential:
        try:
            base_url = self._settings.base_url or api_base(current.resource_url)
        except Unusable as reason:
            raise ConnectorError("auth", self._login(f"{self.path}: {reason}")) from None
        return Credential(
            {"authorization": f"Bearer {current.access_token}"},
            base_url=base_url,
            expires_at=current.expires_at,
            label=str(self.path),
        )

    def _login(self, what: str) -> str:
        return f"{what}; log in with the Qwen CLI, which writes this file (a running gateway notices)"


def api_base(resource_url: str | None) -> str:
    """Where a token is valid: the file's `resource_url` with a scheme and exactly one `/v1`.

    Raises:
        Unusable: it is no address, or would send the token unencrypted to another machine.
    """
    text = (resource_url or DEFAULT_RESOURCE).strip()
    if "://" not in text:
        text = f"https://{text}"
    text = text.rstrip("/")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme.lower() not in ("http", "https") or not text.isprintable():
        raise Unusable("its `resource_url` is not the address of a server")
    if parts.scheme.lower() == "http" and host not in LOOPBACK:
        raise Unusable("its `resource_url` is not https, so the token is not sent there")
    return text if text.endswith("/v1") else f"{text}/v1"


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


def _fingerprint(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _words(seconds: float) -> str:
    """A duration for people."""
    if seconds < 120:
        return f"{max(0, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 7200 else f"{round(seconds / 3600)} h"
