"""Credentials from the Qwen CLI's file: loaded, refreshed ahead of their end, and healed by a new login.

The core calls this from one task at a time and lets a refresh finish even when its caller has left. Other programs may
change the file at any moment; whoever has logged in last is right. A refresh is one program's business at a time, see
`refresh_lock`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from functools import partial

from llmgate_core import ConnectorError, Credential, CredentialStatus, Instance, LoginScreen

from . import login, store
from .addresses import api_base
from .durations import words as _words
from .failures import DEAD_TIER
from .refresh import refreshed, unavailable
from .refresh_lock import STALE_SECONDS, RefreshLock, to_its_end
from .settings import QwenSettings
from .store import HalfWritten, Stored, Unusable
from .tier import Tier

EARLY_SECONDS = 30.0


class QwenCredentials:
    """The credential provider of one instance.

    Args:
        stale_seconds, monotonic: see RefreshLock.
    """

    def __init__(
        self,
        instance: Instance,
        settings: QwenSettings,
        *,
        stale_seconds: float = STALE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._instance = instance
        self._settings = settings
        configured = settings.credentials_path
        self.path = (
            store.expanded(configured, instance.home)
            if configured
            else store.default_path(instance.environ, instance.home)
        )
        self._lock = RefreshLock(self.path, instance, stale_seconds=stale_seconds, monotonic=monotonic)
        self._stored: Stored | None = None
        self._seen: tuple[int, ...] | None = None
        # The spent refresh token that the file still holds, while what was got for it cannot be written.
        self._unsaved: str | None = None
        self._torn = False
        self._dead: str | None = None
        self._issued: tuple[str, float] = ("", 0.0)
        self._tier = Tier(instance.clock)
        self._rejected = ""  # the access token that the API has refused last

    async def get(self) -> Credential:
        """What the file holds now, refreshed if it ends within 30 seconds.

        While it cannot be refreshed, a token is used to its very end.

        Raises:
            ConnectorError: `auth` when only a login can help, `unavailable` when the issuer cannot be reached.
        """
        current = self._load()
        if self._will_do(current):
            if self._unsaved is not None:
                await self._save_late()
            return self._credential(current)
        try:
            return self._credential(await self._refresh(current, urgent=self._left(current) <= 0))
        except ConnectorError as error:
            if error.kind == "auth":
                current = self._load()  # a file that is gone is a logout
            left = self._left(current)
            if error.kind not in ("auth", "unavailable") or left <= 0:
                raise
            self._instance.logger.warning("using the present token for another %s: %s", _words(left), error.message)
            return self._credential(current)

    async def renew(self, rejected: Credential) -> Credential:
        """Another token after a 401: the file's, if somebody has changed it, else a refreshed one."""
        self._seen = None
        self._rejected = _token(rejected)
        current = self._load()
        if self._credential(current).headers != rejected.headers and self._will_do(current):
            return self._credential(current)
        if self.is_tier_dead(rejected):
            raise ConnectorError("auth", DEAD_TIER, status=401)
        return self._credential(await self._refresh(current))

    def status(self) -> CredentialStatus:
        """Whether the file is usable, and for how long its token lasts; with what there is to know of it."""
        try:
            current: Stored | None = self._load()
        except ConnectorError:
            current = None
        facts = login.facts(self.path, current, self._settings.base_url, self._instance.clock())
        return dataclasses.replace(self._state(), facts=facts)

    def _state(self) -> CredentialStatus:
        try:
            current = self._load()
            self._credential(current)
            left = self._left(current)
            if left > 0 and current.access_token == self._rejected:
                self._check_alive(current)
            if left > 0:
                then = "" if self._is_refreshable(current) else ", and then a login is needed"
                return CredentialStatus(True, f"{self.path}, token valid for {_words(left)}{then}")
            self._check_alive(current)
        except ConnectorError as error:
            return CredentialStatus(False, error.message)
        if current.refresh_token is None:
            return CredentialStatus(False, self._login(f"the token in {self.path} has expired"))
        return CredentialStatus(True, f"{self.path}, token expired, will be refreshed with the next request")

    def accepted(self, credential: Credential) -> None:
        """The API has answered a request with this token, so a later refusal of it is no sign of a dead tier."""
        self._tier.accepted(_token(credential))

    def is_tier_dead(self, refused: Credential) -> bool:
        """Whether a 401 to this token means that no other would be accepted either; see Tier."""
        return self._tier.is_dead(_token(refused), refused.expires_at)

    # --- the file ------------------------------------------------------------------------------------------------

    def _load(self, *, patient: bool = True) -> Stored:
        """The file's credentials, read anew only when the file has changed; or those in memory, where they count.

        Those that could not be written hold as long as the file still has the refresh token that was spent for them.
        While somebody writes the file in place, those that were in it are used, if one is patient, to their end.
        """
        seen, current = store.fingerprint(self.path), self._stored
        if current is not None and seen is not None and seen == self._seen:
            return current
        try:
            found = store.read(self.path)
        except Unusable as reason:
            if seen is None:
                self._stored = None
            elif isinstance(reason, HalfWritten) and current is not None and self._left(current) > 0:
                return self._in_memory(current, reason, patient=patient)
            raise ConnectorError("auth", self._login(f"{self.path}: {reason}")) from None
        if current is None or self._unsaved is None or found.refresh_token != self._unsaved:
            current, self._unsaved = found, None
            if seen is not None:
                self._tier.issued(found.access_token, seen[0] / 1e9)
        self._stored, self._seen, self._torn = current, seen, False
        return current

    def _in_memory(self, current: Stored, reason: HalfWritten, *, patient: bool) -> Stored:
        if not patient:
            raise unavailable(f"{self.path}: {reason}")
        if not self._torn:
            self._torn = True
            self._instance.logger.warning("%s: %s; the token that was in it is used to its end", self.path, reason)
        return current

    def _replaced(self, current: Stored) -> Stored | None:
        """What somebody else, logging in or refreshing, has put in the place of `current`; None if nobody has."""
        self._seen = None
        try:
            found = self._load()
        except ConnectorError:
            return None
        return found if found.refresh_token != current.refresh_token else None

    async def _save(self, current: Stored, spent: str) -> None:
        """Makes `current` what holds, and writes it in the place of `spent`; where that fails, it holds in memory."""
        self._stored = current
        try:
            await to_its_end(partial(store.write, self.path, current))
        except OSError as error:
            if self._unsaved is None:
                self._unsaved = spent
                self._instance.logger.error(
                    "cannot write %s (%s): the refreshed token lives in memory only, and is lost when llmgate stops; "
                    "writing is tried again with each request",
                    self.path,
                    error.strerror,
                )
        else:
            self._unsaved = None
            self._seen = store.fingerprint(self.path)

    async def _save_late(self) -> None:
        """Tries once more to write what lives in memory only; not while another program is at work."""
        async with self._lock.held(unless=lambda: True) as locked:
            current = self._load()
            if locked and self._unsaved is not None:
                await self._save(current, self._unsaved)

    # --- the refresh ---------------------------------------------------------------------------------------------

    async def _refresh(self, current: Stored, *, urgent: bool = True) -> Stored:
        """New tokens for those of `current`, or those that others have brought; what others write comes first.

        Where it is not urgent and another program is at work, nobody waits: a token that has life left is used.
        """
        for _ in range(2):
            self._check_refreshable(current)
            async with self._lock.held(unless=partial(self._need_not_wait, current, urgent)) as locked:
                found = self._reread()
                if self._is_newer(found, current) or not (locked or urgent or self._left(found) <= 0):
                    return found
                if locked and (brought := await self._exchanged(found)) is not None:
                    return brought
            current = self._load()
            if self._fresh(current):
                return current
        raise unavailable(f"other programs keep changing {self.path}")

    async def _exchanged(self, current: Stored) -> Stored | None:
        """New tokens from the issuer, in memory and on disk; None where others have changed the file meanwhile."""
        self._check_refreshable(current)
        spent = current.refresh_token or ""
        brought = await refreshed(current, spent, self._settings.oauth_base_url, self._instance)
        if self._replaced(current) is not None:
            return None
        if brought is None:
            self._dead = spent
            raise self._no_longer_accepted()
        self._issued = (brought.access_token, self._instance.clock())
        self._tier.issued(*self._issued)
        await self._save(brought, spent)
        self._instance.logger.info("token refreshed, valid for %s", _words(self._left(brought)))
        return brought

    def _reread(self) -> Stored:
        """The file as it is now that nobody else may refresh it, whatever its time says; half a file is no ground."""
        self._seen = None
        return self._load(patient=False)

    def _need_not_wait(self, current: Stored, urgent: bool) -> bool:
        """Whether another program has brought a token, or the file is gone, or `current` will do for now."""
        try:
            return not urgent or self._is_newer(self._load(), current)
        except ConnectorError:
            return True

    def _is_newer(self, found: Stored, current: Stored) -> bool:
        return found.access_token != current.access_token and self._fresh(found)

    def _check_refreshable(self, current: Stored) -> None:
        self._check_alive(current)
        if current.refresh_token is None:
            raise ConnectorError("auth", self._login(f"{self.path} holds no `refresh_token`"))

    def _check_alive(self, current: Stored) -> None:
        """A refresh token that was refused is not tried again until the file holds another one."""
        if self._dead is not None and current.refresh_token == self._dead:
            raise self._no_longer_accepted()

    def _is_refreshable(self, current: Stored) -> bool:
        return current.refresh_token is not None and current.refresh_token != self._dead

    def _will_do(self, current: Stored) -> bool:
        """Whether the token is used as it is: it is fresh, or has life left and nothing to refresh it with."""
        return self._fresh(current) or (self._left(current) > 0 and not self._is_refreshable(current))

    def _fresh(self, current: Stored) -> bool:
        return self._left(current) > self._early(current)

    def _left(self, current: Stored) -> float:
        """Seconds of life."""
        return current.expires_at - self._instance.clock()

    def _early(self, current: Stored) -> float:
        """Seconds before its end at which a token is refreshed: never before half its life, where we know that."""
        token, when = self._issued
        return min(EARLY_SECONDS, (current.expires_at - when) / 2) if current.access_token == token else EARLY_SECONDS

    # --- in words and values -------------------------------------------------------------------------------------

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

    def _no_longer_accepted(self) -> ConnectorError:
        return ConnectorError("auth", self._login(f"the refresh token in {self.path} is no longer accepted"))

    def _login(self, what: str) -> str:
        command = f"llmgate auth login {self._instance.name.removesuffix('.default')}"
        return f"{what}; log in with `{command}`, or with the Qwen CLI (a running gateway notices)"

    # --- for `llmgate auth` --------------------------------------------------------------------------------------

    async def login(self, screen: LoginScreen) -> str:
        """Logs in and writes the file anew; nothing of an older one is kept. Until then nothing is changed.

        Raises:
            ConnectorError: it was not confirmed, or the file cannot be written.
        """
        brought = await login.logged_in(self._settings.oauth_base_url, self._instance, screen)
        await self._lock.alone(partial(login.keep, self.path, brought))
        return f"logged in: {self.status().detail}"

    async def refresh(self) -> str:
        """Refreshes the token now, however long it may still be valid.

        Raises:
            ConnectorError: as `get`; also when the new token cannot be written, as this process is about to end.
        """
        self._seen = None
        await self._refresh(self._load())
        if self._unsaved is not None:
            told = f"the token was refreshed, but {self.path} cannot be written: the new one is lost, the old one spent"
            raise ConnectorError("auth", self._login(f"{told}; make the file writable"))
        return f"refreshed: {self.status().detail}"

    async def logout(self) -> str:
        """Deletes the file, which nothing else in here does; raises ConnectorError when that fails."""
        if store.fingerprint(self.path) is None:  # nor is a folder made, only to hold a lock
            return login.removed(self.path)
        return await self._lock.alone(partial(login.removed, self.path))


def _token(credential: Credential) -> str:
    return credential.headers.get("authorization", "").removeprefix("Bearer ")
