"""Scripted upstreams that run the errand: one speaks Chat Completions, one speaks Messages. Both are strict.

Each serves one test, and keeps what it has seen; `faults` are what it had to refuse.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from llmgate_core.testing import Exchange

from . import errand, strict

MODEL = "scripted"
PIECE = 17
"""Signs of a tool call's arguments in one event; few, so that a death comes in the middle."""

THOUGHT = {"type": "thinking", "thinking": "我先想一想。", "signature": "c2lnbmVkIGJ5IHRoZSB1cHN0cmVhbQ=="}


@dataclass
class Trouble:
    """What goes wrong, once.

    Args:
        limited: the first request that offers tools gets a 429, `Retry-After: 1`.
        dies_in: the upstream resets the connection in the middle of the first tool call's arguments, or of the text
            that follows the last call.
    """

    limited: bool = False
    dies_in: Literal["arguments", "text"] | None = None


class Chat:
    """An upstream of Chat Completions.

    Attributes:
        requests: those that offered tools, whatever became of them.
        faults: what was refused.
        troubles: how often something went wrong as scripted.
        returned: how many messages of one request held what the model had thought.
    """

    def __init__(self, path: Path, trouble: Trouble) -> None:
        self.requests: list[Mapping[str, Any]] = []
        self.faults: list[str] = []
        self.troubles = 0
        self.returned = 0
        self._path = str(path)
        self._trouble = trouble
        self._sent: set[str] = set()

    async def __call__(self, exchange: Exchange) -> None:
        """Answers one request."""
        if exchange.request.method != "POST":
            await exchange.reply(200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})
            return
        body = exchange.request.json()
        if body.get("tools"):
            self.requests.append(body)
            if self._trouble.limited and not self.troubles:
                self.troubles += 1
                await exchange.reply(429, {"error": {"message": "slow down", "code": None}}, {"retry-after": "1"})
                return
        if (fault := strict.chat_fault(body)) is not None:
            await self._refuse(exchange, fault)
            return
        try:
            call = errand.next_call(self._done(body), offered(body), self._path)
        except LookupError as error:
            await self._refuse(exchange, str(error))
            return
        thoughts = [message.get("reasoning_content") for message in body["messages"]]
        self.returned = max(self.returned, thoughts.count(THOUGHT["thinking"]))
        await self._answer(exchange, body, call)

    async def _refuse(self, exchange: Exchange, fault: str) -> None:
        self.faults.append(fault)
        await exchange.reply(400, {"error": {"message": fault, "type": "invalid_request_error", "code": None}})

    def _done(self, body: Mapping[str, Any]) -> int:
        """Calls with a result. One that died half-way does not count, though its client may tell of a failure."""
        return sum(message.get("tool_call_id") in self._sent for message in body["messages"])

    async def _answer(self, exchange: Exchange, body: Mapping[str, Any], call: errand.Call | None) -> None:
        head = {"id": f"chatcmpl-{exchange.number}", "created": 1_800_000_000, "model": body["model"]}
        usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
        call_id = f"call_{exchange.number}"
        if not body.get("stream"):
            message, reason = _message(call_id, call)
            choice = {"index": 0, "message": message, "finish_reason": reason}
            self._sent.add(call_id)
            await exchange.reply(200, {**head, "object": "chat.completion", "choices": [choice], "usage": usage})
            return
        head["object"] = "chat.completion.chunk"
        dies_at = self._dies_at(body, call)
        for count, (delta, finish) in enumerate(_deltas(call_id, call)):
            if count == dies_at:
                self.troubles += 1
                exchange.reset()
                return
            await exchange.sse({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        if (body.get("stream_options") or {}).get("include_usage"):
            await exchange.sse({**head, "choices": [], "usage": usage})
        self._sent.add(call_id)
        await exchange.sse("[DONE]")

    def _dies_at(self, body: Mapping[str, Any], call: errand.Call | None) -> int | None:
        """Before which event the connection is reset."""
        wanted = "arguments" if call else "text"
        return 6 if body.get("tools") and wanted == self._trouble.dies_in and not self.troubles else None


def offered(body: Mapping[str, Any]) -> dict[str, list[str]]:
    """The tools, and the names of each one's arguments."""
    functions = [tool["function"] for tool in body.get("tools") or ()]
    return {one["name"]: list(one.get("parameters", {}).get("properties", ())) for one in functions}


def _message(call_id: str, call: errand.Call | None) -> tuple[dict[str, Any], str]:
    """A whole answer, and its `finish_reason`."""
    if call is None:
        return {"role": "assistant", "reasoning_content": THOUGHT["thinking"], "content": errand.DONE}, "stop"
    function = {"name": call[0], "arguments": _json(call[1])}
    calls = [{"id": call_id, "type": "function", "function": function}]
    message = {"role": "assistant", "reasoning_content": THOUGHT["thinking"], "content": None, "tool_calls": calls}
    return message, "tool_calls"


def _deltas(call_id: str, call: errand.Call | None) -> Iterator[tuple[dict[str, Any], str | None]]:
    """The same in pieces, each with its `finish_reason`."""
    yield {"role": "assistant", "content": ""}, None
    yield {"reasoning_content": THOUGHT["thinking"]}, None
    if call is None:
        yield from (({"content": sign}, None) for sign in errand.DONE)
        yield {}, "stop"
        return
    yield {"content": "好的，"}, None
    opening = {"index": 0, "id": call_id, "type": "function", "function": {"name": call[0], "arguments": ""}}
    yield {"tool_calls": [opening]}, None
    for piece in _pieces(_json(call[1])):
        yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}, None
    yield {}, "tool_calls"


def _json(arguments: errand.Arguments) -> str:
    return json.dumps(arguments, ensure_ascii=False)


def _pieces(text: str) -> list[str]:
    return [text[at : at + PIECE] for at in range(0, len(text), PIECE)]


class Messages:
    """An upstream of Messages that thinks, and signs what it thought.

    Attributes:
        requests: those that offered tools.
        faults: what was refused.
        returned: thinking blocks that came back, all unchanged.
    """

    def __init__(self, path: Path) -> None:
        self.requests: list[Mapping[str, Any]] = []
        self.faults: list[str] = []
        self.returned = 0
        self._path = str(path)

    async def __call__(self, exchange: Exchange) -> None:
        """Answers one request."""
        if exchange.request.method != "POST":
            await exchange.reply(200, {"data": [{"id": MODEL, "type": "model"}], "has_more": False})
            return
        body = exchange.request.json()
        if body.get("tools"):
            self.requests.append(body)
        blocks = [block for message in body["messages"] for block in message["content"] if isinstance(block, dict)]
        fault = strict.messages_fault(body, THOUGHT)
        done = sum(block["type"] == "tool_result" for block in blocks)
        tools = {tool["name"]: list(tool["input_schema"].get("properties", ())) for tool in body.get("tools", ())}
        try:
            call = errand.next_call(done, tools, self._path)
        except LookupError as lacking:
            fault = fault or str(lacking)
        if fault is not None:
            self.faults.append(fault)
            error = {"type": "invalid_request_error", "message": fault}
            await exchange.reply(400, {"type": "error", "error": error})
            return
        self.returned = max(self.returned, sum(strict.without_mark(block) == THOUGHT for block in blocks))
        await self._answer(exchange, body, call)

    async def _answer(self, exchange: Exchange, body: Mapping[str, Any], call: errand.Call | None) -> None:
        content = _content(f"toolu_{exchange.number}", call)
        reason = "tool_use" if call else "end_turn"
        usage = {"input_tokens": 100, "output_tokens": 20}
        message = {"id": f"msg_{exchange.number}", "type": "message", "role": "assistant", "model": body["model"]}
        ending = {"stop_reason": reason, "stop_sequence": None}
        if not body.get("stream"):
            await exchange.reply(200, {**message, "content": content, **ending, "usage": usage})
            return
        started = {**message, "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        events: list[dict[str, Any]] = [{"type": "message_start", "message": started}]
        for index, block in enumerate(content):
            events += _block_events(index, block)
        events += [{"type": "message_delta", "delta": ending, "usage": usage}, {"type": "message_stop"}]
        await exchange.sse(*(f"event: {event['type']}\ndata: {_json(event)}\n\n".encode() for event in events))


def _content(call_id: str, call: errand.Call | None) -> list[dict[str, Any]]:
    """An answer's blocks; the model thinks before each call."""
    if call is None:
        return [{"type": "text", "text": errand.DONE}]
    return [THOUGHT, {"type": "tool_use", "id": call_id, "name": call[0], "input": dict(call[1])}]


def _block_events(index: int, block: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A block in pieces."""
    empty: dict[str, Any]
    deltas: list[dict[str, Any]]
    if block["type"] == "thinking":
        empty = {"thinking": "", "signature": ""}
        deltas = [{"type": "thinking_delta", "thinking": sign} for sign in block["thinking"]]
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
    elif block["type"] == "tool_use":
        empty = {"input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in _pieces(_json(block["input"]))]
    else:
        empty = {"text": ""}
        deltas = [{"type": "text_delta", "text": block["text"]}]
    yield {"type": "content_block_start", "index": index, "content_block": {**block, **empty}}
    yield from ({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas)
    yield {"type": "content_block_stop", "index": index}
