"""The simulator's side of HTTP, as ASGI has it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def read(receive: Receive) -> bytes:
    """The whole body of a request."""
    parts: list[bytes] = []
    more = True
    while more:
        part = await receive()
        parts.append(part.get("body", b""))
        more = part.get("more_body", False)
    return b"".join(parts)


def decoded(raw: bytes) -> Any:
    """Its JSON, None where it is none."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def head(status: int, headers: Mapping[str, str]) -> dict[str, Any]:
    """The beginning of an answer."""
    pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": pairs}


async def whole(send: Send, status: int, body: Any, trace: str, headers: Mapping[str, str] | None = None) -> None:
    """A whole answer: str as it is, anything else as JSON."""
    data = body.encode() if isinstance(body, str) else json.dumps(body, ensure_ascii=False).encode()
    kind = "text/plain" if isinstance(body, str) else "application/json"
    own = {"content-type": kind, "content-length": str(len(data)), "trace-id": trace}
    await send(head(status, {**own, **(headers or {})}))
    await send({"type": "http.response.body", "body": data, "more_body": False})
