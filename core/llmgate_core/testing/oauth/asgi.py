"""As much of ASGI as a simulator needs: one request read whole, one answer written whole."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class Request:
    """One request; names of headers are in lower case, `query` is without its `?`."""

    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """One answer; bytes and str go out as they are, any other body as JSON."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)

    async def write(self, send: Send) -> None:
        """Sends it, with a content type and a length unless `headers` has them."""
        data, content_type = _encoded(self.body)
        given = {name.lower(): value for name, value in self.headers.items()}
        headers = {"content-type": content_type, "content-length": str(len(data)), **given}
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": pairs})
        await send({"type": "http.response.body", "body": data, "more_body": False})


async def read(scope: dict[str, Any], receive: Receive) -> Request:
    """The whole request, of a scope of type `http`."""
    parts: list[bytes] = []
    more = True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    return Request(scope["query_string"].decode("latin-1"), headers, b"".join(parts))


def _encoded(body: Any) -> tuple[bytes, str]:
    if isinstance(body, str):
        body = body.encode()
    if isinstance(body, bytes):
        return body, "text/plain; charset=utf-8"
    return json.dumps(body, ensure_ascii=False).encode(), "application/json"
