"""A strict stand-in for an Ollama, written from its published API alone; it shares no code with the connector.

Sources: docs/openapi.yaml, docs/api.md and docs/api/errors.mdx in github.com/ollama/ollama. It is stricter than an
Ollama in one thing: types that the API does not have are refused where a real one may overlook them.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llmgate_core import SimulatorSetup
from llmgate_core.testing import Exchange, ScriptedUpstream

MODELS = ("qwen3:8b", "llama3.2:latest")
THINKERS = ("qwen3:8b",)
THOUGHT = "The user greets me, so I greet back. 你好 would do."
ROLES = ("system", "user", "assistant", "tool")
INTEGERS = ("seed", "top_k", "num_ctx", "num_predict")
NUMBERS = ("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty")
_NOTES = ("an Ollama that thinks about every greeting, on this machine.",)


class Refused(Exception):  # noqa: N818 - it is an answer, not a fault
    """A request is answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class OllamaSimulator:
    """Listens on a loopback port.

    Attributes:
        seen: the bodies of chat requests, the last at the end.
        said: what the model answers, a greeting by default.
        break_after: objects after which the next stream tells an error; None for none.
    """

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.said = ""
        self.break_after: int | None = None
        self.chunk_pause = 0.005
        self.url = ""
        self._canned: deque[tuple[int, Any]] = deque()
        self._server = ScriptedUpstream(self._answer)

    async def start(self, folder: Path) -> SimulatorSetup:
        """Listens; there is no key."""
        await self._server.start()
        self.url = self._server.url
        return SimulatorSetup({"base_url": self.url, "num_ctx": 8192}, MODELS[0], _NOTES)

    async def aclose(self) -> None:
        """Stops; may be called twice."""
        await self._server.aclose()

    def fail_next(self, status: int, body: Any) -> None:
        """The next chat request gets this answer; a str goes out as text, anything else as JSON."""
        self._canned.append((status, body))

    async def _answer(self, exchange: Exchange) -> None:
        try:
            match exchange.request.method, exchange.request.path:
                case "GET", "/api/tags":
                    models = [{"name": name, "model": name, "size": 1} for name in MODELS]
                    await exchange.reply(200, {"models": models})
                case "POST", "/api/chat":
                    await self._chat(exchange)
                case _:
                    await exchange.reply(404, "404 page not found")
        except Refused as refused:
            await exchange.reply(refused.status, {"error": str(refused)})

    async def _chat(self, exchange: Exchange) -> None:
        body = _decoded(exchange.request.body)
        self.seen.append(body)
        if self._canned:
            await exchange.reply(*self._canned.popleft())
            return
        check_request(body)
        events = list(self._events(body))
        if body.get("stream", True):
            await self._stream(exchange, events)
        else:
            await exchange.reply(200, _joined(events))

    def _events(self, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        common = {"model": body["model"], "created_at": "2026-11-28T08:00:00.385406455Z"}
        thinks = body["model"] in THINKERS and body.get("think", True) is not False
        calls = _calls(body)
        text = "" if calls else self.said or f"Hello from a simulated Ollama. You said: {_last(body)}"
        limit = body.get("options", {}).get("num_predict", -1)
        pieces = _pieces(text) if limit < 0 else _pieces(text)[:limit]
        for piece in _pieces(THOUGHT) if thinks else []:
            yield {**common, "message": {"role": "assistant", "content": "", "thinking": piece}, "done": False}
        for piece in pieces:
            yield {**common, "message": {"role": "assistant", "content": piece}, "done": False}
        if calls:
            yield {**common, "message": {"role": "assistant", "content": "", "tool_calls": calls}, "done": False}
        reason = "length" if len(pieces) < len(_pieces(text)) else "stop"
        counts = {"prompt_eval_count": 26, "eval_count": len(pieces) or 1, "total_duration": 4_883_583_458}
        yield {**common, "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": reason, **counts}

    async def _stream(self, exchange: Exchange, events: list[dict[str, Any]]) -> None:
        if self.break_after is not None:
            events = [*events[: self.break_after], {"error": "an error was encountered while running the model"}]
            self.break_after = None
        await exchange.head(200, {"content-type": "application/x-ndjson"})
        for event in events:
            await exchange.chunk(json.dumps(event, ensure_ascii=False).encode() + b"\n")
            await asyncio.sleep(self.chunk_pause)


# --- what is refused ------------------------------------------------------------------------------------------------


def check_request(body: Any) -> None:
    """Raises Refused for what the API does not have."""
    _require(isinstance(body, dict), "invalid JSON")
    _require(isinstance(body.get("model"), str) and body["model"], "model is required")
    if body["model"] not in MODELS:
        raise Refused(404, f"model '{body['model']}' not found")
    _require(isinstance(body.get("stream", True), bool), "stream must be a boolean")
    _require(body.get("format", "json") == "json" or isinstance(body["format"], dict), "invalid format")
    _require(isinstance(body.get("think", True), bool | str), "think must be a boolean or string")
    if body.get("think") and body["model"] not in THINKERS:
        raise Refused(400, f'"{body["model"]}" does not support thinking')
    _require(isinstance(body.get("keep_alive", ""), str | int | float), "invalid keep_alive")
    _check_options(body.get("options", {}))
    for tool in body.get("tools", []):
        _require(tool.get("type") == "function" and tool["function"].get("name"), "invalid tool")
        _require(isinstance(tool["function"].get("parameters"), dict), "a tool has no parameters")
    _require(isinstance(body.get("messages"), list), "messages is required")
    for message in body["messages"]:
        _check_message(message)


def _check_options(options: Any) -> None:
    _require(isinstance(options, dict), "options must be an object")
    for name in INTEGERS:
        _require(type(options.get(name, 0)) is int, f'option "{name}" must be of type integer')
    for name in NUMBERS:
        _require(type(options.get(name, 0)) in (int, float), f'option "{name}" must be of type float32')
    stop = options.get("stop", [])
    _require(
        isinstance(stop, list) and all(isinstance(one, str) for one in stop), 'option "stop" must be of type array'
    )


def _check_message(message: Any) -> None:
    _require(isinstance(message, dict) and message.get("role") in ROLES, "a message has an unknown role")
    _require(isinstance(message.get("content"), str), "content must be a string")
    _require(isinstance(message.get("thinking", ""), str), "thinking must be a string")
    for image in message.get("images", []):
        try:
            base64.b64decode(image, validate=True)
        except (TypeError, ValueError):
            raise Refused(400, "illegal base64 data") from None
    for call in message.get("tool_calls", []):
        function = call.get("function", {})
        right = isinstance(function.get("name"), str) and isinstance(function.get("arguments"), dict)
        _require(right, "a tool call's arguments must be an object")
    if message["role"] == "tool":
        _require(isinstance(message.get("tool_name"), str), "a tool's result has no tool_name")


def _require(kept: Any, words: str) -> None:
    if not kept:
        raise Refused(400, words)


# --- what is answered -----------------------------------------------------------------------------------------------


def _last(body: Mapping[str, Any]) -> str:
    return str(body["messages"][-1]["content"]) if body["messages"] else ""


def _calls(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    if not body.get("tools") or not _may_call(body["messages"]):
        return []
    function = body["tools"][0]["function"]
    properties = function["parameters"].get("properties", {})
    arguments = {name: "北京" for name, schema in properties.items() if schema.get("type") == "string"}
    return [{"function": {"index": 0, "name": function["name"], "arguments": arguments}}]


def _may_call(messages: list[dict[str, Any]]) -> bool:
    """A user's turn without a tool's result since the model has spoken, as a hybrid and agents speak behind results."""
    spoke = next((one["role"] for one in reversed(messages) if one["role"] in ("tool", "assistant")), "")
    return bool(messages) and messages[-1]["role"] == "user" and spoke != "tool"


def _joined(events: list[dict[str, Any]]) -> dict[str, Any]:
    """What a plain answer has: the texts of all events in one message."""
    messages = [event["message"] for event in events]
    message: dict[str, Any] = {"role": "assistant", "content": "".join(one["content"] for one in messages)}
    if thought := "".join(one.get("thinking", "") for one in messages):
        message["thinking"] = thought
    if calls := [call for one in messages for call in one.get("tool_calls", [])]:
        message["tool_calls"] = calls
    return {**events[-1], "message": message}


def _pieces(text: str) -> list[str]:
    return [text[at : at + 8] for at in range(0, len(text), 8)]


def _decoded(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None
