"""The simulator's rim: the two endpoints and the login page on a loopback port, and what a test sets and reads."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qs

from ...server import AsgiApp
from ..loopback import LoopbackServer
from .asgi import Receive, Reply, Request, Send, read
from .demands import read_form
from .issuer import Issuer, OAuthTokens
from .rules import OAuthRefused, OAuthRequest, OAuthRules

_NOT_STORED = {"cache-control": "no-store"}  # RFC 6749, section 5.1


class OAuthSimulator:
    """An OAuth issuer for tests, on a real socket: `async with OAuthSimulator(rules) as issuer: ...`.

    It knows the device flow, refreshes with rotation, and bearer tokens; it is strict, and says why it refuses.

    Args:
        rules: what the provider demands and how it answers; see OAuthRules.
        api: an ASGI application for all other paths, such as the API that the tokens are for. It may let
            OAuthRefused out of `check` pass, which is answered here. Its lifespan is run.
        now: the clock, Unix time in seconds.
        sleep: waits that many seconds; for `refresh_delay`.

    Attributes to set, at any time:
        rules: another value changes what comes after; `dataclasses.replace` makes one.
        now: as above.
        refresh_delay: seconds between deciding about a token request (a refresh token is spent then) and answering.
        omit_on_refresh: members that refresh replies leave out. Without `refresh_token` the old one stays good.

    Attributes to read:
        url: `http://127.0.0.1:PORT`, once started.
        token_requests: requests to the token endpoint, refused ones and those of `fail_next` included.
        refusals: why requests were refused, in words, each after the `error` that the client was told.
    """

    def __init__(
        self,
        rules: OAuthRules,
        *,
        api: AsgiApp | None = None,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.now = now
        self.refresh_delay = 0.0
        self.omit_on_refresh: set[str] = set()
        self.url = ""
        self.token_requests = 0
        self.refusals: list[str] = []
        self._api = api
        self._sleep = sleep
        self._issuer = Issuer(rules, secrets.token_hex(4))
        self._failures: dict[str, deque[Reply]] = {"token": deque(), "device": deque()}
        self._server = LoopbackServer(self._app)

    @property
    def rules(self) -> OAuthRules:
        """What the provider demands and how it answers."""
        return self._issuer.rules

    @rules.setter
    def rules(self, rules: OAuthRules) -> None:
        self._issuer.rules = rules

    @property
    def issued(self) -> int:
        """Access tokens issued so far, those of `issue` included."""
        return self._issuer.issued

    @property
    def refreshes(self) -> int:
        """Refresh requests granted so far."""
        return self._issuer.refreshes

    @property
    def reused(self) -> list[str]:
        """Refresh tokens that were presented again after they had been spent: what never happens to a good client."""
        return self._issuer.reused

    async def start(self) -> Self:
        """Listens on an ephemeral loopback port."""
        self.url = await self._server.start()
        return self

    async def aclose(self) -> None:
        """Stops; may be called twice."""
        await self._server.aclose()

    def issue(self, seconds: float | None = None) -> OAuthTokens:
        """Logs in behind everybody's back.

        Args:
            seconds: how long the access token lives; below zero it has expired. As the rules say when None.
        """
        return self._issuer.issue(self.now(), self.rules.token_seconds if seconds is None else seconds)

    def approve(self, user_code: str) -> None:
        """The user says yes in the browser. Raises KeyError when no device shows this code, or not any more."""
        self._issuer.decide(user_code, True, self.now())

    def deny(self, user_code: str) -> None:
        """The user says no in the browser. Raises KeyError when no device shows this code, or not any more."""
        self._issuer.decide(user_code, False, self.now())

    def revoke_access(self) -> None:
        """Makes every access token that is alive invalid at once; refresh tokens stay."""
        self._issuer.revoke_access()

    def revoke_refresh(self) -> None:
        """Makes every refresh token that is alive invalid at once, as when the user logs out everywhere."""
        self._issuer.revoke_refresh()

    def check(self, authorization: str) -> None:
        """For the API that the tokens are for: whether an `Authorization` header carries a live access token.

        Raises:
            OAuthRefused: it does not. `api` may let it pass: then the answer is `rules.dead_access`.
        """
        self._issuer.check(authorization, self.now())

    def fail_next(
        self,
        n: int,
        status: int,
        body: Any = b"",
        headers: Mapping[str, str] | None = None,
        *,
        endpoint: Literal["token", "device"] = "token",
    ) -> None:
        """The next `n` requests to an endpoint get this answer, whatever they ask, and change nothing.

        bytes and str go out as they are, any other body as JSON.
        """
        self._failures[endpoint].extend([Reply(status, body, headers or {})] * n)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _app(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if self._api is not None:
                await self._api(scope, receive, send)
            return
        handlers = {
            ("POST", self.rules.device_path): self._device,
            ("POST", self.rules.token_path): self._token,
            ("GET", self.rules.page_path): self._page,
        }
        handler = handlers.get((scope["method"], scope["path"]))
        if handler is None:
            await self._elsewhere(scope, receive, send)
        else:
            reply = await handler(await read(scope, receive))
            await reply.write(send)

    async def _device(self, request: Request) -> Reply:
        if self._failures["device"]:
            return self._failures["device"].popleft()
        return self._asked(request, lambda asked: self._issuer.device_code(asked, self.now()))

    async def _token(self, request: Request) -> Reply:
        self.token_requests += 1
        if self._failures["token"]:
            reply = self._failures["token"].popleft()
        else:
            reply = self._asked(request, lambda asked: self._issuer.token(asked, self.now(), self.omit_on_refresh))
        await self._sleep(self.refresh_delay)
        return reply

    def _asked(self, request: Request, answer: Callable[[OAuthRequest], dict[str, Any]]) -> Reply:
        asked = OAuthRequest({}, self.url)
        try:
            form = read_form(request.headers.get("content-type", ""), request.body, self.rules)
            asked = OAuthRequest(form, self.url)
            return Reply(200, answer(asked), _NOT_STORED)
        except OAuthRefused as refused:
            self.refusals.append(str(refused))
            body = self.rules.refusal_reply(refused.answer.body(refused.reason), asked)
            return Reply(refused.answer.status, body, _NOT_STORED)

    async def _page(self, request: Request) -> Reply:
        """Where the login link leads: opening it is saying yes."""
        user_code = parse_qs(request.query).get("user_code", [""])[0]
        try:
            self.approve(user_code)
        except KeyError:
            return Reply(404, "No device shows this code.")
        return Reply(200, "Approved. You can close this page.")

    async def _elsewhere(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if self._api is None:
            self.refusals.append(f"not_found: no route {scope['method']} {scope['path']}")
            await Reply(404, {"error": "not_found"}).write(send)
            return
        try:
            await self._api(scope, receive, send)
        except OAuthRefused as refused:
            self.refusals.append(str(refused))
            bearer = {"www-authenticate": f'Bearer error="{refused.answer.error}"'}  # RFC 6750, section 3
            await Reply(refused.answer.status, refused.answer.body(refused.reason), bearer).write(send)
