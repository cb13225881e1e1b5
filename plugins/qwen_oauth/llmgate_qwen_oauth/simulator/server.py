"""The simulator's rim: the API beside the test kit's OAuth issuer on one port, and the controls of both."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llmgate_core import SimulatorSetup
from llmgate_core.testing import OAuthRefused, OAuthSimulator

from . import answers, shape
from .controls import IssuerAttribute, IssuerSeconds
from .issuer_rules import RULES
from .refusals import Refused, api_refusal

_Receive = Callable[[], Awaitable[dict[str, Any]]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]

_NOTES = (
    "The upstream is a simulator on this machine: no account, no network, nothing leaves the computer.",
    "The credential file starts with an expired token, so the first request refreshes it; tokens live 60 s.",
    "Ask in any language; offer tools and it calls one. It echoes, it does not think.",
)


@dataclass(frozen=True)
class SeenRequest:
    """One request that reached the API.

    Args:
        headers: lower-case names.
        body: the decoded JSON; None where it was not JSON.
        raw: the bytes of the body.
    """

    headers: Mapping[str, str]
    body: Any
    raw: bytes


@dataclass(frozen=True)
class _Canned:
    """A scripted answer, given instead of the real one."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Request:
    """What the rim needs of an ASGI scope and its body."""

    method: str
    path: str
    headers: Mapping[str, str]
    raw: bytes


class QwenSimulator:
    """The Qwen portal and its OAuth issuer on one loopback port, strict about everything that is documented.

    Attributes to set, at any time:
        now: the clock, Unix time in seconds.
        token_seconds: how long access tokens issued from now on live.
        refresh_delay: seconds between granting a refresh (the old token is spent) and answering it; polls wait too.
        chunk_pause: seconds between the writes of a stream.
        poll_seconds: a device that polls sooner than this is told to slow down; 0 allows everything.
        device_seconds: how long new device codes live.
        omit_on_refresh: fields left out of refresh replies, of `resource_url` and `refresh_token`.
        script: which tool the model calls, a function of the request; None leaves it to the simulator.
        dead_tier: tokens are issued, but the API answers 401 to all of them, as it does since 2026-04-15.

    Attributes to read:
        url: `http://127.0.0.1:PORT`, once started.
        issuer: the OAuth issuer, as the test kit has it.
        chats: chat requests that were answered by the model, not refused.
        issued: access tokens issued so far, those of `write_credentials` included.
        token_requests: requests to the token endpoint, refused ones included.
        refreshes: refresh requests granted so far.
        seen: every request to the API, in order, refused ones included.
        refusals: why requests were refused, in words.
        reused: refresh tokens that were presented again after they had been spent.
    """

    now = IssuerAttribute[Callable[[], float]]()
    refresh_delay = IssuerAttribute[float]()
    omit_on_refresh = IssuerAttribute[set[str]]()
    token_seconds = IssuerSeconds()
    poll_seconds = IssuerSeconds()
    device_seconds = IssuerSeconds()
    url = IssuerAttribute[str]()
    issued = IssuerAttribute[int]()
    token_requests = IssuerAttribute[int]()
    refreshes = IssuerAttribute[int]()
    reused = IssuerAttribute[list[str]]()
    refusals = IssuerAttribute[list[str]]()

    def __init__(self, *, token_seconds: float = 60.0, now: Callable[[], float] = time.time) -> None:
        self.chunk_pause = 0.005
        self.dead_tier = False
        self.script: answers.Script | None = None
        self.chats = 0
        self.seen: list[SeenRequest] = []
        self.issuer = OAuthSimulator(replace(RULES, token_seconds=token_seconds), api=self._app, now=now)
        self._failures: deque[_Canned] = deque()

    async def start(self, folder: Path) -> SimulatorSetup:
        """Listens; writes `folder/oauth_creds.json` with an expired access token and a live refresh token."""
        await self.issuer.start()
        path = folder / "oauth_creds.json"
        self.write_credentials(path, expired=True)
        extra = {
            "enable_qwen_oauth_backend_debugging_override": True,
            "credentials_path": str(path),
            "oauth_base_url": self.url,
        }
        return SimulatorSetup(extra=extra, model="qwen3-coder-plus", notes=_NOTES)

    async def aclose(self) -> None:
        """Stops; may be called twice."""
        await self.issuer.aclose()

    def write_credentials(self, path: Path, *, expired: bool = False) -> None:
        """Logs in behind everybody's back: writes a credential file as the Qwen CLI does, mode 0600.

        `expired` makes the access token one that has expired a minute ago; the refresh token is live.
        """
        tokens = self.issuer.issue(-60.0 if expired else None)
        content = {
            "access_token": tokens.access,
            "refresh_token": tokens.refresh,
            "token_type": "Bearer",
            "resource_url": self.url,
            "expiry_date": int(tokens.expires_at * 1000),
        }
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.tmp.{secrets.token_hex(8)}")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(json.dumps(content, indent=2))
        temporary.replace(path)

    def fail_next(self, n: int, status: int, body: Any = b"", headers: Mapping[str, str] | None = None) -> None:
        """The next `n` chat requests get this answer, whatever they ask. bytes and str go out as they are."""
        self._failures.extend([_Canned(status, body, headers or {})] * n)

    def fail_refresh_next(self, n: int, status: int, body: Any = b"", headers: Mapping[str, str] | None = None) -> None:
        """The next `n` requests to the token endpoint (refreshes and polls) get this answer."""
        self.issuer.fail_next(n, status, body, headers)

    def revoke_access(self) -> None:
        """Makes every access token that is alive invalid at once."""
        self.issuer.revoke_access()

    def approve(self, user_code: str) -> None:
        """The user says yes in the browser. Raises KeyError when no device shows this code."""
        self.issuer.approve(user_code)

    def deny(self, user_code: str) -> None:
        """The user says no in the browser. Raises KeyError when no device shows this code."""
        self.issuer.deny(user_code)

    async def _app(self, scope: dict[str, Any], receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            return
        request = await _read(scope, receive)
        try:
            await self._route(request, send)
        except Refused as refused:
            self.refusals.append(refused.reason)
            await _answer(send, refused.status, {**refused.body, "request_id": secrets.token_hex(16)})

    async def _route(self, request: _Request, send: _Send) -> None:
        if (request.method, request.path) != ("POST", "/v1/chat/completions"):
            raise api_refusal(404, "NotFound", "Not Found", f"no route {request.method} {request.path}")
        await self._chat(request, send)

    async def _chat(self, request: _Request, send: _Send) -> None:
        self.seen.append(SeenRequest(request.headers, _decoded(request.raw), request.raw))
        if self._failures:
            canned = self._failures.popleft()
            await _answer(send, canned.status, canned.body, canned.headers)
            return
        self._check(request.headers.get("authorization", ""))
        body = shape.read_chat(request.raw, request.headers.get("content-type", ""))
        self.chats += 1
        answer = answers.compose(body, self.chats, self.now(), self.script)
        if body.get("stream"):
            await self._stream(send, answer, (body.get("stream_options") or {}).get("include_usage") is True)
        else:
            await _answer(send, 200, answers.reply(answer))

    def _check(self, authorization: str) -> None:
        message = "invalid access token or token expired"
        try:
            self.issuer.check(authorization)
        except OAuthRefused as refused:
            raise api_refusal(401, "invalid_api_key", message, refused.reason) from None
        if self.dead_tier:
            raise api_refusal(401, "invalid_api_key", message, "the free tier is dead")

    async def _stream(self, send: _Send, answer: answers.Answer, include_usage: bool) -> None:
        await send(_start(200, {"content-type": "text/event-stream; charset=utf-8"}))
        for data in answers.stream(answer, include_usage):
            await send({"type": "http.response.body", "body": data, "more_body": True})
            await asyncio.sleep(self.chunk_pause)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _read(scope: dict[str, Any], receive: _Receive) -> _Request:
    parts: list[bytes] = []
    more = True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    return _Request(scope["method"], scope["path"], headers, b"".join(parts))


def _decoded(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _start(status: int, headers: Mapping[str, str]) -> dict[str, Any]:
    pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": pairs}


async def _answer(send: _Send, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
    """A whole answer: bytes and str as they are, anything else as JSON."""
    if isinstance(body, str):
        body = body.encode()
    if isinstance(body, bytes):
        content_type = "text/plain; charset=utf-8"
    else:
        body, content_type = json.dumps(body, ensure_ascii=False).encode(), "application/json"
    given = {name.lower(): value for name, value in (headers or {}).items()}
    await send(_start(status, {"content-type": content_type, "content-length": str(len(body)), **given}))
    await send({"type": "http.response.body", "body": body, "more_body": False})
