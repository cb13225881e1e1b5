"""A strict stand-in for MiniMax's chat and Messages endpoints, for `llmgate serve --demo` and for tests.

Written from the published behaviour alone, sharing no code with the connector, so that neither can hide the other's
mistakes. It offers every shape in which reasoning has been seen to arrive.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmgate_core import SimulatorSetup
from llmgate_core.testing import LoopbackServer

from .chat import reply, stream
from .messages import events, message
from .rules import COUNTED, MODELS, Refused, check_chat, check_messages, require_key
from .said import (
    MESSAGES_SHAPES,
    SHAPE_PREFIX,
    SHAPES,
    THOUGHT,
    Answer,
    calls_of,
    event,
    greeting,
)
from .wire import Receive, Send, decoded, head, read, whole

__all__ = ["MESSAGES_SHAPES", "SHAPES", "THOUGHT", "Answer", "MiniMaxSimulator", "SeenRequest", "reply", "stream"]

_NOTES = (
    "The upstream is a simulator on this machine: no account, no network, nothing leaves the computer.",
    "Its reasoning arrives as `reasoning_content`, or as thinking over Messages, whichever way the upstream sends it:",
    f"ask for `{SHAPE_PREFIX}snapshots`, `{SHAPE_PREFIX}doubled` or `{SHAPE_PREFIX}leaked` to see it cope.",
    "Ask in any language; offer tools and it calls one. It echoes, it does not think.",
)
_Fault = tuple[int, str, int]


@dataclass(frozen=True)
class SeenRequest:
    """One request for an answer that arrived; `body` is None where it was not JSON."""

    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True)
class _Canned:
    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


class MiniMaxSimulator:
    """MiniMax's two APIs on one loopback port.

    Attributes to set, at any time:
        shape: one of SHAPES or MESSAGES_SHAPES; where the other API is asked, `documented` counts.
        empty_role: deltas of chat have `role: ""`, as some models send it.
        piece: characters in one delta.
        chunk_pause: seconds between the writes of a stream.
        said: what is answered; empty for an echo of the user.

    Attributes to read:
        url, key: where it is, and the only key that it takes.
        key_of_other_region: a key that is refused as MiniMax refuses those.
        seen: every request for an answer, refused ones included.
    """

    def __init__(self) -> None:
        self.shape = "documented"
        self.empty_role = False
        self.piece = 12
        self.chunk_pause = 0.005
        self.said = ""
        self.url = ""
        self.key = f"sim-{secrets.token_hex(8)}"
        self.key_of_other_region = f"sim-elsewhere-{secrets.token_hex(8)}"
        self.seen: list[SeenRequest] = []
        self._canned: deque[_Canned] = deque()
        self._faults: deque[_Fault] = deque()
        self._server = LoopbackServer(self._app)

    async def start(self, folder: Path) -> SimulatorSetup:
        """Listens; writes the key to `folder/key`."""
        self.url = await self._server.start()
        path = folder / "key"
        path.touch(mode=0o600)
        path.write_text(self.key)
        places = {"base_url": f"{self.url}/v1", "messages_base_url": f"{self.url}/anthropic"}
        return SimulatorSetup({"api_key": f"file:{path}", **places}, "MiniMax-M3", _NOTES)

    async def aclose(self) -> None:
        """Stops; may be called twice."""
        await self._server.aclose()

    def fail_next(self, n: int, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        """The next `n` requests get this answer, whatever they ask. str goes out as it is, the rest as JSON."""
        self._canned.extend([_Canned(status, body, headers or {})] * n)

    def fault_next(self, code: int, words: str, after: int = 0) -> None:
        """The next request gets HTTP 200 with this code in `base_resp`; a stream, after `after` events."""
        self._faults.append((code, words, after))

    async def _app(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        raw = await read(receive)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        trace = secrets.token_hex(16)
        method, path = scope["method"], scope["path"]
        try:
            is_messages = path.startswith("/anthropic/")
            bearer = headers.get("authorization", "").removeprefix("Bearer ")
            given = (is_messages and headers.get("x-api-key")) or bearer
            require_key(given, self.key, self.key_of_other_region)
            if (method, path) == ("GET", "/v1/models"):
                listed = [{"id": name, "object": "model", "owned_by": "minimax"} for name in MODELS]
                await whole(send, 200, {"object": "list", "data": listed}, trace)
            elif method == "POST" and path in _OPERATIONS:
                request = SeenRequest(path, headers, decoded(raw))
                self.seen.append(request)
                await self._answered(request, _OPERATIONS[path], trace, send)
            else:
                await whole(send, 404, "404 page not found", trace)
        except Refused as refused:
            told = {"type": "error", "error": refused.error, "request_id": trace}
            await whole(send, refused.status, told, trace)

    async def _answered(self, request: SeenRequest, operation: str, trace: str, send: Send) -> None:
        if self._canned:
            canned = self._canned.popleft()
            await whole(send, canned.status, canned.body, trace, canned.headers)
            return
        body = request.body
        if operation == "chat":
            check_chat(body)
        else:
            check_messages(body, request.headers, counts=operation == "count")
        if operation == "count":
            counts = body["model"] == COUNTED
            told = {"input_tokens": len(str(body["messages"])) // 3} if counts else "404 page not found"
            await whole(send, 200 if counts else 404, told, trace)
            return
        answer = self._compose(body, operation, trace)
        fault = self._faults.popleft() if self._faults else None
        if body.get("stream"):
            include = (body.get("stream_options") or {}).get("include_usage") is True
            said = stream(answer, include) if operation == "chat" else events(answer)
            await self._stream(send, list(said), fault, trace)
        elif fault:
            await whole(send, 200, {"id": trace, "choices": None, "base_resp": _native(fault)}, trace)
        else:
            await whole(send, 200, reply(answer) if operation == "chat" else message(answer), trace)

    def _compose(self, body: dict[str, Any], operation: str, trace: str) -> Answer:
        wanted = body["model"].removeprefix(SHAPE_PREFIX) if body["model"].startswith(SHAPE_PREFIX) else self.shape
        shape = wanted if wanted in (SHAPES if operation == "chat" else MESSAGES_SHAPES) else "documented"
        if not _thinks(body, operation) or shape == "none":
            shape, thought = "none", ""
        else:
            thought = THOUGHT
        if shape == "documented" and operation == "chat":
            shape = "split" if body.get("reasoning_split") is True else "think"
        calls = calls_of(_functions(body, operation)) if _may_call(body["messages"]) else []
        text = "" if calls else self.said or greeting(body["messages"][-1].get("content"))
        role = "" if self.empty_role else "assistant"
        return Answer(trace, body["model"], shape, role, thought, text, calls, self.piece)

    async def _stream(self, send: Send, told: list[bytes], fault: _Fault | None, trace: str) -> None:
        await send(head(200, {"content-type": "text/event-stream", "trace-id": trace}))
        if fault:
            told = [*told[: fault[2]], event({"id": trace, "choices": [], "base_resp": _native(fault)})]
        for one in told:
            await send({"type": "http.response.body", "body": one, "more_body": True})
            await asyncio.sleep(self.chunk_pause)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


_OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/anthropic/v1/messages": "messages",
    "/anthropic/v1/messages/count_tokens": "count",
}


def _thinks(body: Mapping[str, Any], operation: str) -> bool:
    """M3 can be told; when it is not, it thinks over chat and does not over Messages. All others always think."""
    if body["model"] != "MiniMax-M3":
        return True
    return bool(body.get("thinking", {"type": "adaptive" if operation == "chat" else "disabled"})["type"] == "adaptive")


def _may_call(messages: list[Mapping[str, Any]]) -> bool:
    """A user's turn without a tool's result since the model has spoken, as a hybrid and agents speak behind results."""
    for one in reversed(messages):
        if one["role"] == "tool" or _has_result(one.get("content")):
            return False
        if one["role"] == "assistant":
            break
    return bool(messages[-1]["role"] == "user")


def _has_result(content: Any) -> bool:
    return isinstance(content, list) and any(part.get("type") == "tool_result" for part in content)


def _functions(body: Mapping[str, Any], operation: str) -> list[Mapping[str, Any]]:
    """The tools that may be called, in chat's words."""
    choice, tools = body.get("tool_choice"), body.get("tools") or []
    if choice in ("none", {"type": "none"}):
        return []
    if operation == "chat":
        return [tool["function"] for tool in tools]
    return [{"name": tool["name"], "parameters": tool["input_schema"]} for tool in tools]


def _native(fault: _Fault) -> dict[str, Any]:
    return {"status_code": fault[0], "status_msg": fault[1]}
