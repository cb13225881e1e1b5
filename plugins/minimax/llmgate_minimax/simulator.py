"""A strict stand-in for MiniMax's chat endpoint, for `llmgate serve --demo` and for tests.

Written from the published behaviour alone, sharing no code with the connector, so that neither can hide the other's
mistakes. It offers every shape in which reasoning has been seen to arrive.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmgate_core import SimulatorSetup
from llmgate_core.testing import LoopbackServer

MODELS = ("MiniMax-M3", "MiniMax-M2.7", "MiniMax-M2.7-highspeed", "MiniMax-M2.5", "MiniMax-M2.1", "MiniMax-M2")
SHAPES = ("documented", "think", "doubled", "alternating", "snapshots", "details", "closing_tag", "none")
"""`documented` is as the request asks; the others are what has been met, whatever it asks."""

THOUGHT = "先看看用户说了什么，再决定怎么回答。The user wants an answer, so here is one."

_NOTES = (
    "The upstream is a simulator on this machine: no account, no network, nothing leaves the computer.",
    "Its reasoning arrives as `reasoning_content`, whichever way the upstream sends it.",
    "Ask in any language; offer tools and it calls one. It echoes, it does not think.",
)
_Receive = Callable[[], Awaitable[dict[str, Any]]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]


class Refused(Exception):  # noqa: N818 - it is an answer, not a fault
    """MiniMax would refuse this. `code` is its own, which stands only at the end of the message."""

    def __init__(self, status: int, kind: str, message: str, code: int) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"type": kind, "message": f"{message} ({code})", "http_code": str(status)}


def _require(condition: object, reason: str) -> None:
    if not condition:
        raise Refused(400, "bad_request_error", f"invalid params, {reason}", 2013)


@dataclass(frozen=True)
class SeenRequest:
    """One chat request that arrived; `body` is None where it was not JSON."""

    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True)
class _Canned:
    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


class MiniMaxSimulator:
    """MiniMax's chat completions on one loopback port.

    Attributes to set, at any time:
        shape: one of SHAPES.
        empty_role: deltas have `role: ""`, as some models send it.
        piece: characters in one delta.
        chunk_pause: seconds between the writes of a stream.
        said: what is answered; empty for an echo of the user.

    Attributes to read:
        url, key: where it is, and the only key that it takes.
        seen: every chat request, refused ones included.
    """

    def __init__(self) -> None:
        self.shape = "documented"
        self.empty_role = False
        self.piece = 12
        self.chunk_pause = 0.005
        self.said = ""
        self.url = ""
        self.key = f"sim-{secrets.token_hex(8)}"
        self.seen: list[SeenRequest] = []
        self._canned: deque[_Canned] = deque()
        self._faults: deque[tuple[int, str, int]] = deque()
        self._server = LoopbackServer(self._app)

    async def start(self, folder: Path) -> SimulatorSetup:
        """Listens; writes the key to `folder/key`."""
        self.url = await self._server.start()
        path = folder / "key"
        path.touch(mode=0o600)
        path.write_text(self.key)
        return SimulatorSetup({"api_key": f"file:{path}", "base_url": f"{self.url}/v1"}, "MiniMax-M3", _NOTES)

    async def aclose(self) -> None:
        """Stops; may be called twice."""
        await self._server.aclose()

    def fail_next(self, n: int, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        """The next `n` chat requests get this answer, whatever they ask. str goes out as it is, the rest as JSON."""
        self._canned.extend([_Canned(status, body, headers or {})] * n)

    def fault_next(self, code: int, words: str, after: int = 0) -> None:
        """The next chat request gets HTTP 200 with this code in `base_resp`; a stream, after `after` events."""
        self._faults.append((code, words, after))

    async def _app(self, scope: dict[str, Any], receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            return
        raw = await _read(receive)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        trace = secrets.token_hex(16)
        try:
            _require_key(headers, self.key)
            if (scope["method"], scope["path"]) == ("GET", "/v1/models"):
                listed = [{"id": name, "object": "model", "owned_by": "minimax"} for name in MODELS]
                await _answer(send, 200, {"object": "list", "data": listed}, trace)
            elif (scope["method"], scope["path"]) == ("POST", "/v1/chat/completions"):
                await self._chat(SeenRequest(headers, _decoded(raw)), trace, send)
            else:
                await _answer(send, 404, "404 page not found", trace)
        except Refused as refused:
            told = {"type": "error", "error": refused.error, "request_id": trace}
            await _answer(send, refused.status, told, trace)

    async def _chat(self, request: SeenRequest, trace: str, send: _Send) -> None:
        self.seen.append(request)
        if self._canned:
            canned = self._canned.popleft()
            await _answer(send, canned.status, canned.body, trace, canned.headers)
            return
        body = request.body
        check_request(body)
        answer = self._compose(body, trace)
        fault = self._faults.popleft() if self._faults else None
        if body.get("stream"):
            include = (body.get("stream_options") or {}).get("include_usage") is True
            await self._stream(send, answer, include, fault)
        elif fault:
            native = {"status_code": fault[0], "status_msg": fault[1]}
            await _answer(send, 200, {"id": trace, "choices": None, "base_resp": native}, trace)
        else:
            await _answer(send, 200, reply(answer), trace)

    def _compose(self, body: dict[str, Any], trace: str) -> Answer:
        last = body["messages"][-1]
        asked = _text_of(last.get("content"))
        calls = _calls(body) if last["role"] == "user" else []
        text = "" if calls else self.said or f"你好！这里是模拟的 MiniMax。你说：「{asked}」"
        documented = "split" if body.get("reasoning_split") is True else "think"
        shape = documented if self.shape == "documented" else self.shape
        role = "" if self.empty_role else "assistant"
        return Answer(trace, body["model"], shape, role, THOUGHT, text, calls, self.piece)

    async def _stream(self, send: _Send, answer: Answer, usage: bool, fault: tuple[int, str, int] | None) -> None:
        await send(_start(200, {"content-type": "text/event-stream", "trace-id": answer.id}))
        events = list(stream(answer, usage))
        if fault:
            native = {"status_code": fault[0], "status_msg": fault[1]}
            events = [*events[: fault[2]], _event({"id": answer.id, "choices": [], "base_resp": native})]
        for event in events:
            await send({"type": "http.response.body", "body": event, "more_body": True})
            await asyncio.sleep(self.chunk_pause)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


# --- what is refused ------------------------------------------------------------------------------------------------


def _require_key(headers: Mapping[str, str], key: str) -> None:
    if headers.get("authorization") != f"Bearer {key}":
        words = "login fail: Please carry the API secret key in the 'Authorization' field of the request header"
        raise Refused(401, "authorized_error", words, 1004)


def check_request(body: Any) -> None:
    """Raises Refused for what MiniMax is known to refuse."""
    _require(isinstance(body, dict), "the body is not a JSON object")
    _require(body.get("messages"), "binding: expr_path=messages, cause=missing required parameter")
    _require(body.get("model") in MODELS, f"unknown model '{body.get('model')}'")
    _require(isinstance(body.get("thinking", {}), dict), "thinking must be an object")
    _require(isinstance(body.get("reasoning_split", False), bool), "reasoning_split must be a boolean")
    _require(0 <= (body.get("temperature") or 0) <= 2, "temperature is out of range")
    for tool in body.get("tools") or []:
        _require(tool.get("function", {}).get("parameters"), "function parameters is empty")
    calls: set[str] = set()
    for message in body["messages"]:
        _check_message(message, calls)


def _check_message(message: dict[str, Any], calls: set[str]) -> None:
    _require(message.get("role") in ("system", "user", "assistant", "tool"), "a message has an unknown role")
    for call in message.get("tool_calls") or []:
        calls.add(call["id"])
        _require(
            _decoded(call["function"]["arguments"].encode()) is not None,
            f"invalid function arguments json string, tool_call_id: {call['id']}",
        )
    if message["role"] == "tool":
        wanted = message.get("tool_call_id")
        _require(wanted in calls, f"tool result's tool id({wanted}) not found")
    for part in message.get("reasoning_details") or []:
        right = part.get("type") == "reasoning.text" and isinstance(part.get("text"), str)
        _require(right and part.get("format") == "MiniMax-response-v1", "reasoning_details is malformed")


# --- what is answered -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What the model says, and the shape in which it says it; `split` is the documented one with `reasoning_split`."""

    id: str
    model: str
    shape: str
    role: str
    thought: str
    text: str
    calls: list[dict[str, Any]]
    piece: int

    @property
    def finish_reason(self) -> str:
        """`tool_calls` or `stop`."""
        return "tool_calls" if self.calls else "stop"


def reply(answer: Answer) -> dict[str, Any]:
    """The body of a plain answer."""
    thought = answer.thought + ("</think>" if answer.shape == "closing_tag" else "")
    message: dict[str, Any] = {"role": answer.role, "name": "MiniMax AI", "content": answer.text}
    if answer.shape in ("think", "doubled"):
        message["content"] = f"<think>\n{answer.thought}</think>\n\n{answer.text}"
    if answer.shape in ("split", "doubled", "alternating", "closing_tag"):
        message["reasoning_content"] = thought
    if answer.shape == "alternating":
        message["reasoning"] = thought
    if answer.shape in ("split", "snapshots", "details"):
        message["reasoning_details"] = [_segment(thought)]
    if answer.calls:
        message["tool_calls"] = answer.calls
    choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
    ok = {"status_code": 0, "status_msg": ""}
    return {**_envelope(answer, "chat.completion"), "choices": [choice], "usage": _usage(answer), "base_resp": ok}


def stream(answer: Answer, include_usage: bool) -> Iterator[bytes]:
    """The events of a streamed answer."""
    envelope = _envelope(answer, "chat.completion.chunk")
    for delta in _deltas(answer):
        choice = {"index": 0, "delta": {"role": answer.role, **delta}}
        yield _event({**envelope, "choices": [choice], "usage": None, "input_sensitive": False})
    last = {"index": 0, "delta": {"role": answer.role}, "finish_reason": answer.finish_reason}
    yield _event({**envelope, "choices": [last], "usage": None, "base_resp": {"status_code": 0, "status_msg": ""}})
    if include_usage:
        yield _event({**envelope, "choices": [], "usage": _usage(answer)})
    yield b"data: [DONE]\n\n"


def _deltas(answer: Answer) -> Iterator[dict[str, Any]]:
    yield from _thoughts(answer)
    if answer.shape == "doubled":
        tagged = _pieces(f"</think>\n\n{answer.text}", answer.piece)
    elif answer.shape == "think":
        tagged = _pieces(f"<think>\n{answer.thought}</think>\n\n{answer.text}", answer.piece)
    else:
        tagged = _pieces(answer.text, answer.piece)
    said = ""
    for piece in tagged:
        said += piece
        yield {"content": said if answer.shape == "snapshots" else piece}
    for index, call in enumerate(answer.calls):
        yield {"tool_calls": [{"index": index, **call}]}


def _thoughts(answer: Answer) -> Iterator[dict[str, Any]]:
    told = ""
    for number, piece in enumerate(_pieces(answer.thought, answer.piece)):
        told += piece
        if answer.shape == "split":
            yield {"content": "", "reasoning_content": piece, "reasoning_details": [_segment(piece)]}
        elif answer.shape == "doubled":
            yield {"content": piece if number else f"<think>{piece}", "reasoning_content": piece}
        elif answer.shape == "alternating":
            yield {"reasoning_content": piece}
            yield {"reasoning": piece}
        elif answer.shape == "snapshots":
            yield {"reasoning_details": [_segment(told)]}
        elif answer.shape == "details":
            yield {"reasoning_details": [_segment(piece)]}
        elif answer.shape == "closing_tag":
            yield {"reasoning_content": piece}
    if answer.shape == "closing_tag":
        yield {"reasoning_content": "</th"}
        yield {"reasoning_content": "ink>"}


def _segment(text: str) -> dict[str, Any]:
    place = {"type": "reasoning.text", "id": "reasoning-text-1", "format": "MiniMax-response-v1", "index": 0}
    return {**place, "text": text}


def _envelope(answer: Answer, kind: str) -> dict[str, Any]:
    return {"id": answer.id, "object": kind, "created": 1_780_000_000, "model": answer.model}


def _usage(answer: Answer) -> dict[str, int]:
    said = len(answer.thought + answer.text) // 2 + 1
    return {"prompt_tokens": 9, "completion_tokens": said, "total_tokens": 9 + said, "total_characters": 0}


def _calls(body: dict[str, Any]) -> list[dict[str, Any]]:
    if body.get("tool_choice") == "none" or not body.get("tools"):
        return []
    function = body["tools"][0]["function"]
    properties = function["parameters"].get("properties") or {}
    arguments = {name: "杭州" for name, schema in properties.items() if schema.get("type") == "string"}
    called = {"name": function["name"], "arguments": json.dumps(arguments, ensure_ascii=False)}
    return [{"id": f"call_function_{secrets.token_hex(6)}_1", "type": "function", "function": called}]


def _text_of(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content)
    return content or ""


def _pieces(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


# --- the wire -------------------------------------------------------------------------------------------------------


async def _read(receive: _Receive) -> bytes:
    parts: list[bytes] = []
    more = True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def _decoded(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _start(status: int, headers: Mapping[str, str]) -> dict[str, Any]:
    pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": pairs}


async def _answer(send: _Send, status: int, body: Any, trace: str, headers: Mapping[str, str] | None = None) -> None:
    """A whole answer: str as it is, anything else as JSON."""
    data = body.encode() if isinstance(body, str) else json.dumps(body, ensure_ascii=False).encode()
    kind = "text/plain" if isinstance(body, str) else "application/json"
    own = {"content-type": kind, "content-length": str(len(data)), "trace-id": trace}
    await send(_start(status, {**own, **(headers or {})}))
    await send({"type": "http.response.body", "body": data, "more_body": False})
