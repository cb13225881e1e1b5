"""A Responses request as a Chat Completions request: every member is mapped, refused, or lost under a name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..dialects.requests import mistyped
from ..dialects.responses import input_items
from ..errors import RequestError
from ..wire import Body
from .losses import Losses, is_set, text_in, unsupported
from .responses_over_chat_items import messages_of, offered_within
from .responses_over_chat_tools import Toolbox

_SAME = ("temperature", "top_p", "user")
"""Members that chat has under the same name."""

_OWN = frozenset(
    {
        *("model", "input", "instructions", "stream", "store", "previous_response_id", "max_output_tokens"),
        *("tools", "tool_choice", "parallel_tool_calls", "reasoning", "text", "service_tier", "background"),
        *_SAME,
    }
)
"""Members that are mapped, or the gateway's own business."""

_LOST = {
    "client_metadata": "client_metadata",
    "context_management": "context_management",
    "include": "include",
    "max_tool_calls": "max_tool_calls",
    "metadata": "metadata",
    "moderation": "moderation",
    "prompt_cache_key": "prompt_cache",
    "prompt_cache_options": "prompt_cache",
    "prompt_cache_retention": "prompt_cache",
    "safety_identifier": "safety_identifier",
    "stream_options": "stream_options",
    "top_logprobs": "top_logprobs",
    "truncation": "truncation",
}

_SAYS_NOTHING: Mapping[str, tuple[Any, ...]] = {
    "stream_options": ({"include_obfuscation": False},),
    "top_logprobs": (0,),
    "truncation": ("disabled",),
}
"""Values that ask for what happens anyway."""

_REFUSED = {
    "background": "is not available here: the gateway keeps nothing running when a request has ended",
    "conversation": "is kept at OpenAI, and this backend is another; send the conversation in `input`",
    "prompt": "is kept at OpenAI, and this backend is another; send its text in `instructions` or `input`",
}


def request_of(body: Body, toolbox: Toolbox, losses: Losses) -> dict[str, Any]:
    """The members of the chat request.

    Raises:
        RequestError: something in it cannot be said and must not be left out; `param` names it.
    """
    data = body.data
    _refuse(data)
    items = input_items(data.get("input"))
    toolbox.offer(data.get("tools"), "tools")
    offered_within(items, toolbox)
    choice = toolbox.choice(data.get("tool_choice"))
    messages = messages_of(_instructions(data), items, toolbox, losses)
    if not messages:
        raise RequestError("`input` holds nothing that can be sent", code="invalid_value", param="input")
    told = {
        "model": data.get("model"),
        "messages": messages,
        **_tools(data, toolbox, choice),
        **_parameters(data, losses),
        **_text(data.get("text"), losses),
        **_reasoning(data.get("reasoning"), losses),
        **_stream(data),
    }
    _lose(data, losses)
    return told


def _refuse(data: Mapping[str, Any]) -> None:
    for name, why in _REFUSED.items():
        if is_set(data.get(name)) and data[name] is not False:
            raise unsupported(name, why)


def _instructions(data: Mapping[str, Any]) -> str | None:
    value = data.get("instructions")
    if value is not None and not isinstance(value, str):
        raise mistyped("instructions", "a string")
    return value


def _tools(data: Mapping[str, Any], toolbox: Toolbox, choice: Any) -> dict[str, Any]:
    """The tools, and how to use them; chat refuses the latter where there are none."""
    if not toolbox.definitions:
        return {}
    told: dict[str, Any] = {"tools": toolbox.definitions}
    if choice is not None:
        told["tool_choice"] = choice
    if data.get("parallel_tool_calls") is False:  # `true` is what chat does anyway, and not every backend knows it
        told["parallel_tool_calls"] = False
    return told


def _parameters(data: Mapping[str, Any], losses: Losses) -> dict[str, Any]:
    told = {name: data[name] for name in _SAME if data.get(name) is not None}
    if data.get("max_output_tokens") is not None:
        told["max_tokens"] = data["max_output_tokens"]
    if data.get("service_tier") not in (None, "auto", "default"):
        told["service_tier"] = data["service_tier"]
    return told


def _text(value: Any, losses: Losses) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise mistyped("text", "an object")
    if any(is_set(said) for name, said in value.items() if name not in ("format", "verbosity")):
        losses.add("text.options")
    told = {"verbosity": value["verbosity"]} if value.get("verbosity") is not None else {}
    form = _format(value.get("format"))
    return {**told, "response_format": form} if form else told


def _format(value: Any) -> dict[str, Any] | None:
    """`text.format` as `response_format`: the same, with the members of a schema one level deeper."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise mistyped("text.format", "an object")
    sort = text_in(value, "type", "text.format")
    if sort == "text":
        return None
    if sort == "json_object":
        return {"type": "json_object"}
    if sort == "json_schema":
        return {"type": sort, sort: {name: said for name, said in value.items() if name != "type" and said is not None}}
    raise unsupported("text.format.type", "must be `text`, `json_object` or `json_schema`")


def _reasoning(value: Any, losses: Losses) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise mistyped("reasoning", "an object")
    if is_set(value.get("summary")) or is_set(value.get("generate_summary")):
        losses.add("reasoning.summary")
    if any(is_set(said) for name, said in value.items() if name not in ("effort", "summary", "generate_summary")):
        losses.add("reasoning.options")
    return {"reasoning_effort": value["effort"]} if value.get("effort") is not None else {}


def _stream(data: Mapping[str, Any]) -> dict[str, Any]:
    """A stream always asks for its usage: `response.completed` has to tell it."""
    return {"stream": True, "stream_options": {"include_usage": True}} if data.get("stream") is True else {}


def _lose(data: Mapping[str, Any], losses: Losses) -> None:
    for name, value in data.items():
        if name in _OWN or not is_set(value) or value in _SAYS_NOTHING.get(name, ()):
            continue
        if name not in _REFUSED:
            losses.add(_LOST.get(name, "members"))
