"""What proves to an upstream who we are: values, where they come from, and one renewal for many callers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from .errors import ConnectorError
from .ownership import contained, contents_of
from .secret import MissingSecret, Secret, strike


@dataclass(frozen=True)
class Credential:
    """One usable proof, fetched anew for every attempt.

    Args:
        headers: request headers that carry it. Never shown in `repr()`.
        base_url: where it is valid, if the credential itself says so; else None.
        expires_at: Unix time in seconds, None when unknown.
        label: words for logs, such as the path of a file. Never the secret.
    """

    headers: Mapping[str, str] = field(repr=False)
    base_url: str | None = None
    expires_at: float | None = None
    label: str = ""

    def secrets(self) -> tuple[str, ...]:
        """The texts that must not leave: whole header values, and what follows a scheme such as `Bearer`."""
        values = [value for value in self.headers.values() if value]
        return tuple(values + [value.split(" ", 1)[1] for value in values if " " in value])

    def strike(self, data: bytes) -> bytes:
        """`data` without these texts: what an upstream says of a failure may echo them."""
        return strike(data, self.secrets())


@dataclass(frozen=True)
class CredentialStatus:
    """What is known of a credential without asking anybody: for start-up, `/readyz` and `llmgate auth status`.

    Args:
        ready: whether a request may be tried with it.
        detail: one sentence without secrets; when not ready, with the next step.
        facts: what `llmgate auth status` prints besides, label -> text, in this order. No secrets.
    """

    ready: bool
    detail: str
    facts: Mapping[str, str] = field(default_factory=dict)


class CredentialProvider(Protocol):
    """Where a backend's credentials come from. The core calls it from one task at a time.

    It may besides offer any of CanLogIn, CanRefresh and CanLogOut, by having the method: `llmgate auth` serves it then.
    """

    async def get(self) -> Credential:
        """The credential for the next attempt, refreshed if it is about to expire.

        Raises:
            ConnectorError: kind `auth` when there is none, with the next step in its message.
        """

    async def renew(self, rejected: Credential) -> Credential:
        """Another credential after the upstream refused `rejected`; raises like `get` when there is none."""

    def status(self) -> CredentialStatus:
        """What can be said at once, without network."""


class LoginScreen(Protocol):
    """Where somebody who logs in is told what to do; nothing that reaches it may be secret."""

    def say(self, text: str) -> None:
        """Shows a sentence or a paragraph."""

    def show_code(self, link: str, code: str, seconds: float) -> None:
        """Shows the link to open, the code that its page shows or asks for, and how long both are valid."""


@runtime_checkable
class CanLogIn(Protocol):
    """A credential provider for `llmgate auth login`."""

    async def login(self, screen: LoginScreen) -> str:
        """Logs in, with the user's help, and keeps the new credential.

        It may be cancelled (Ctrl-C) at any await, and must then leave everything as it was: change things in one
        step, at the end.

        Returns:
            What was done, in one sentence without secrets.

        Raises:
            ConnectorError: it did not work; with the reason and the next step.
        """


@runtime_checkable
class CanRefresh(Protocol):
    """A credential provider for `llmgate auth refresh`."""

    async def refresh(self) -> str:
        """Gets a new token now, whether or not the old one has ended; not cancelled half-way.

        Returns, raises: as `login`.
        """


@runtime_checkable
class CanLogOut(Protocol):
    """A credential provider for `llmgate auth logout`."""

    async def logout(self) -> str:
        """Removes the credential from this machine; that there is none is no failure.

        Returns, raises: as `login`.
        """


class NoCredential:
    """For upstreams that ask for none."""

    async def get(self) -> Credential:
        """A credential without headers."""
        return Credential(headers={}, label="no credential")

    async def renew(self, rejected: Credential) -> Credential:
        """There is nothing to renew."""
        raise ConnectorError(
            "auth", "the upstream asks for a credential, and none is configured: give the backend one in its `extra`"
        )

    def status(self) -> CredentialStatus:
        """Always ready."""
        return CredentialStatus(True, "needs no credential")


class ApiKey:
    """A key that does not change by itself, sent in one header.

    Args:
        secret: the key, or where it is (`env:NAME`, `file:PATH`).
        environ: the environment that `env:` refers to.
        header, scheme: `Authorization` and `Bearer` unless the upstream wants otherwise.
    """

    def __init__(
        self,
        secret: Secret,
        environ: Mapping[str, str],
        *,
        header: str = "authorization",
        scheme: str = "Bearer",
    ) -> None:
        self._secret = secret
        self._environ = environ
        self._header = header
        self._prefix = f"{scheme} " if scheme else ""

    async def get(self) -> Credential:
        """The key as it is now: a changed file or a rotated key needs no restart."""
        try:
            value = self._secret.reveal(self._environ)
        except MissingSecret as missing:
            raise ConnectorError("auth", str(missing)) from None
        if not (value.isascii() and value.isprintable()):
            raise ConnectorError("auth", f"the key from {self._secret.label} holds characters that no key has")
        return Credential({self._header: self._prefix + value}, label=self._secret.label)

    async def renew(self, rejected: Credential) -> Credential:
        """The key again if it has changed since; otherwise the upstream's refusal stands."""
        current = await self.get()
        if current.headers == rejected.headers:
            raise ConnectorError("auth", f"the upstream refuses the key from {self._secret.label}")
        return current

    def status(self) -> CredentialStatus:
        """Ready when the key can be found."""
        try:
            self._secret.reveal(self._environ)
        except MissingSecret as missing:
            return CredentialStatus(False, str(missing))
        return CredentialStatus(True, f"key from {self._secret.label}")


CLOSE_SECONDS = 30.0
"""How long the end of the gateway waits for a renewal that is under way."""


class SingleFlight:
    """One provider, many requests: what is under way is shared, and a renewal happens once.

    The work runs in tasks of its own, so that a caller who leaves does not take a half-done token refresh down with
    him: a refresh token that has been spent upstream must reach the disk. A lock keeps them apart, and fair.
    """

    def __init__(self, provider: CredentialProvider) -> None:
        self.provider = provider
        self._latest: Credential | None = None
        self._lock = asyncio.Lock()
        self._getting: asyncio.Task[Credential] | None = None
        self._renewing: asyncio.Task[Credential] | None = None
        self._rejected: Credential | None = None

    async def get(self) -> Credential:
        """The provider's credential; concurrent callers share one call, and wait for a renewal that is under way."""
        if self._renewing is not None and not self._renewing.done():
            return await asyncio.shield(self._renewing)
        if self._getting is None or self._getting.done():
            self._getting = self._fly(self.provider.get)
        return await asyncio.shield(self._getting)

    async def renew(self, rejected: Credential) -> Credential:
        """A credential other than `rejected`: of many callers with one rejected token, one renews."""
        same = self._rejected is not None and self._rejected.headers == rejected.headers
        if self._renewing is None or self._renewing.done() or not same:
            self._rejected = rejected
            self._renewing = self._fly(lambda: self._another_than(rejected))
        return await asyncio.shield(self._renewing)

    async def aclose(self) -> None:
        """Lets what is under way finish, so that nothing half-written stays behind."""
        under_way = {task for task in (self._getting, self._renewing) if task is not None and not task.done()}
        if under_way:
            await asyncio.wait(under_way, timeout=CLOSE_SECONDS)

    async def _another_than(self, rejected: Credential) -> Credential:
        if self._latest is not None and self._latest.headers != rejected.headers:
            return self._latest
        return await self.provider.renew(rejected)

    def _fly(self, start: Callable[[], Coroutine[Any, Any, Credential]]) -> asyncio.Task[Credential]:
        async def flight() -> Credential:
            async with self._lock:
                try:
                    with contained():
                        self._latest = await start()
                except (SystemExit, KeyboardInterrupt) as error:  # out of a task they would end the loop
                    raise contents_of(error) from error
                return self._latest

        task = asyncio.create_task(flight())
        # Where every caller has left, nobody else will look at its failure.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task
