"""What MiniMax refuses, in its own words: keys, models, parameters, tools, the history of a conversation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from .said import MESSAGES_SHAPES, SHAPE_PREFIX, SHAPES, signature_of

MODELS = ("MiniMax-M3", "MiniMax-M2.7", "MiniMax-M2.7-highspeed", "MiniMax-M2.5", "MiniMax-M2.1", "MiniMax-M2")
COUNTED = "MiniMax-M3"


class Refused(Exception):  # noqa: N818 - it is an answer, not a fault
    """MiniMax would refuse this. `code` is its own, which stands only at the end of the message."""

    def __init__(self, status: int, kind: str, message: str, code: int) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"type": kind, "message": f"{message} ({code})", "http_code": str(status)}


def require(condition: object, reason: str) -> None:
    """Raises Refused, 400 and code 2013."""
    if not condition:
        raise Refused(400, "bad_request_error", f"invalid params, {reason}", 2013)


def require_key(given: str, key: str, key_of_other_region: str) -> None:
    """Raises Refused for any key but this."""
    if given == key_of_other_region:
        raise Refused(401, "authorized_error", "invalid api key", 2049)
    if given != key:
        words = "login fail: Please carry the API secret key in the 'Authorization' field of the request header"
        raise Refused(401, "authorized_error", words, 1004)


def check_chat(body: Any) -> None:
    """Raises Refused for what the chat endpoint is known to refuse."""
    _check_common(body)
    require(isinstance(body.get("reasoning_split", False), bool), "reasoning_split must be a boolean")
    for tool in body.get("tools") or []:
        require(tool.get("function", {}).get("parameters"), "function parameters is empty")
    called: set[str] = set()
    before = ""
    for message in body["messages"]:
        _check_chat_message(message, before, called)
        before = "call" if message.get("tool_calls") else message["role"]


def _check_common(body: Any) -> None:
    require(isinstance(body, dict), "the body is not a JSON object")
    require(body.get("messages"), "binding: expr_path=messages, cause=missing required parameter")
    model = str(body.get("model"))
    shape = model.removeprefix(SHAPE_PREFIX) if model.startswith(SHAPE_PREFIX) else ""
    require(model in MODELS or shape in SHAPES + MESSAGES_SHAPES, f"unknown model '{model}'")
    thinking = body.get("thinking", {"type": "adaptive"})
    require(isinstance(thinking, dict), "thinking must be an object")
    require(thinking.get("type") in ("adaptive", "disabled"), "thinking.type must be adaptive or disabled")
    require(0 <= (body.get("temperature") or 0) <= 2, "temperature is out of range")


def _check_chat_message(message: Mapping[str, Any], before: str, called: set[str]) -> None:
    require(message.get("role") in ("system", "user", "assistant", "tool"), "a message has an unknown role")
    for call in message.get("tool_calls") or []:
        called.add(call["id"])
        words = f"invalid function arguments json string, tool_call_id: {call['id']}"
        require(_is_json(call["function"]["arguments"]), words)
    if message["role"] == "tool":
        wanted = message.get("tool_call_id")
        require(wanted in called, f"tool result's tool id({wanted}) not found")
        require(before in ("call", "tool"), "tool call result does not follow tool call")
    for part in message.get("reasoning_details") or []:
        right = part.get("type") == "reasoning.text" and isinstance(part.get("text"), str)
        require(right and part.get("format") == "MiniMax-response-v1", "reasoning_details is malformed")


def check_messages(body: Any, headers: Mapping[str, str], *, counts: bool = False) -> None:
    """Raises Refused for what the Messages endpoint is known or bound to refuse."""
    _check_common(body)
    require(headers.get("anthropic-version"), "anthropic-version is missing")
    require(counts or isinstance(body.get("max_tokens"), int), "max_tokens is required")
    for tool in body.get("tools") or []:
        require(isinstance(tool.get("input_schema"), dict) and tool["input_schema"], "function parameters is empty")
    called: set[str] = set()
    for message in body["messages"]:
        require(message.get("role") in ("user", "assistant"), f"role {message.get('role')} is unknown")
        for block in _blocks(message):
            _check_block(block, message["role"], called)
        called |= {block["id"] for block in _blocks(message) if block["type"] == "tool_use"}


def _blocks(message: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    content = message.get("content")
    yield from content if isinstance(content, list) else ()


_BLOCKS = {
    "user": ("text", "tool_result", "image", "video"),
    "assistant": ("text", "tool_use", "thinking"),
}


def _check_block(block: Mapping[str, Any], role: str, called: set[str]) -> None:
    require(block.get("type") in _BLOCKS[role], f"content type {block.get('type')} is not supported")
    if block["type"] == "tool_result":
        wanted = block.get("tool_use_id")
        require(wanted in called, f"tool result's tool id({wanted}) not found")
    if block["type"] == "thinking" and block.get("signature"):
        require(block["signature"] == signature_of(block["thinking"]), "a thinking block was changed")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
