"""What the portal demands of a chat request body. Pure: a decoded body passes, or Refused is raised."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn

from .refusals import api_refusal

MODELS = frozenset(
    {
        "coder-model",
        "vision-model",
        "qwen3-coder-plus",
        "qwen3-coder-flash",
        "qwen-turbo",
        "qwen-plus",
        "qwen-max",
    }
)
_NOT_WITH_OAUTH = frozenset({"qwen3.5-plus"})


def read_chat(data: bytes, content_type: str) -> dict[str, Any]:
    """Decodes and checks the body of `POST /v1/chat/completions`.

    Raises:
        Refused: 400 for anything malformed, 404 for a model that is not served.
    """
    if content_type.partition(";")[0].strip().lower() != "application/json":
        _bad("the content type is not application/json")
    body = _decode(data)
    _check_fields(body)
    _check_messages(body["messages"])
    _check_model(body["model"])
    return body


def _bad(reason: str) -> NoReturn:
    raise api_refusal(400, "invalid_parameter_error", "bad request", reason)


def _require(condition: bool, reason: str) -> None:
    if not condition:
        _bad(reason)


def _decode(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data.decode(), parse_constant=_bad)  # NaN and Infinity are not JSON
    except (ValueError, RecursionError):
        _bad("the body is not JSON")
    if not isinstance(body, dict):
        _bad("the body is not an object")
    return body


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is(*types: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, types)


# Optional fields; null counts as absent, fields that are not listed pass.
_OPTIONAL: dict[str, Callable[[Any], bool]] = {
    "stream": _is(bool),
    "stream_options": _is(dict),
    "temperature": _is_number,
    "top_p": _is_number,
    "top_k": _is_integer,
    "presence_penalty": _is_number,
    "max_tokens": _is_integer,
    "max_completion_tokens": _is_integer,
    "n": _is_integer,
    "seed": _is_integer,
    "stop": _is(str, list),
    "tools": _is(list),
    "tool_choice": _is(str, dict),
    "parallel_tool_calls": _is(bool),
    "response_format": _is(dict),
    "metadata": _is(dict),
    "enable_thinking": _is(bool),
    "thinking_budget": _is_integer,
    "reasoning_effort": _is(str),
    "preserve_thinking": _is(bool),
    "vl_high_resolution_images": _is(bool),
}


def _check_fields(body: dict[str, Any]) -> None:
    _require(isinstance(body.get("model"), str) and body["model"] != "", "`model` is not a string")
    _require(isinstance(body.get("messages"), list), "`messages` is not an array")
    for name, fits in _OPTIONAL.items():
        _require(body.get(name) is None or fits(body[name]), f"`{name}` has the wrong type")
    include = (body.get("stream_options") or {}).get("include_usage")
    _require(include is None or isinstance(include, bool), "`include_usage` is not a boolean")
    for tool in body.get("tools") or []:
        _check_tool(tool)


def _check_tool(tool: Any) -> None:
    _require(isinstance(tool, dict) and tool.get("type") == "function", "a tool is not a function")
    function = tool.get("function")
    _require(isinstance(function, dict) and _is_text(function.get("name")), "a tool has no name")
    _require(isinstance(function.get("parameters", {}), dict), "`parameters` of a tool is not an object")


def _check_model(model: str) -> None:
    if model in _NOT_WITH_OAUTH:
        _bad("this model is not served for OAuth tokens")
    if model not in MODELS:
        message = f"The model `{model}` does not exist or you do not have access to it."
        raise api_refusal(404, "ModelNotFound", message)


def _check_messages(messages: list[Any]) -> None:
    """One system message, the first, with a cache mark; then well-formed turns."""
    _require(all(isinstance(message, dict) for message in messages), "a message is not an object")
    roles = [message.get("role") for message in messages]
    _require(roles[:1] == ["system"], "the first message is not a system message")
    _require(roles.count("system") == 1, "there is more than one system message")
    _require(_has_cache_mark(messages[0].get("content")), "no `ephemeral` cache_control in the system message")
    _require(len(messages) > 1, "there is nothing but a system message")
    calls: set[str] = set()
    for message in messages:
        _check_message(message, calls)


def _has_cache_mark(content: Any) -> bool:
    parts = content if isinstance(content, list) else []
    return any(isinstance(p, dict) and p.get("cache_control") == {"type": "ephemeral"} for p in parts)


def _check_message(message: dict[str, Any], calls: set[str]) -> None:
    """`calls` holds the ids of the tool calls so far, and is added to."""
    role, content = message.get("role"), message.get("content")
    _require(role in ("system", "user", "assistant", "tool"), "a message has an unknown role")
    if role == "assistant":
        calls |= {_call_id(call) for call in message.get("tool_calls") or []}
        _require(content is None or _is_content(content), "an assistant message has malformed content")
        _require(content is not None or bool(message.get("tool_calls")), "an assistant message is empty")
        return
    _require(_is_content(content), f"a {role} message has malformed content")
    if role == "tool":
        _require(message.get("tool_call_id") in calls, "a tool message answers no tool call")


def _call_id(call: Any) -> str:
    _require(isinstance(call, dict) and call.get("type") == "function", "a tool call is malformed")
    function = call.get("function")
    if not isinstance(function, dict):
        _bad("a tool call names no function")
    _require(_is_text(call.get("id")) and _is_text(function.get("name")), "a tool call has no id or name")
    _require(isinstance(function.get("arguments"), str), "the arguments of a tool call are not a string")
    return str(call["id"])


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_content(content: Any) -> bool:
    return isinstance(content, str) or (isinstance(content, list) and all(map(_is_part, content)))


def _is_part(part: Any) -> bool:
    if not isinstance(part, dict):
        return False
    if part.get("type") == "text":
        return isinstance(part.get("text"), str)
    if part.get("type") == "image_url":
        return isinstance(part.get("image_url"), dict) and _is_text(part["image_url"].get("url"))
    return _is_text(part.get("type"))
