"""A Messages request as a Chat Completions request: every member is mapped, refused, or lost under a name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..dialects.requests import mistyped
from ..errors import RequestError
from .losses import Losses, is_set, object_in, objects_in, text_in, unsupported
from .messages_over_chat_tools import tools_of
from .messages_over_chat_turns import messages_of

_SAME = ("temperature", "top_p", "top_k", "max_tokens")
"""Members that chat has under the same name, or that its backends take beyond OpenAI's."""

_OWN = frozenset(
    {
        *("model", "messages", "system", "tools", "tool_choice", "stream", "stop_sequences", "thinking"),
        *("output_config", "output_format", "inference_geo"),
        *_SAME,
    }
)
"""Members that are mapped or refused."""

_LOST = {
    "cache_control": "cache_control",
    "container": "container",
    "context_management": "context_management",
    "diagnostics": "diagnostics",
    "mcp_servers": "mcp_servers",
    "metadata": "metadata",
    "service_tier": "service_tier",
    "speed": "speed",
}

_SAYS_NOTHING: Mapping[str, tuple[Any, ...]] = {"service_tier": ("auto",), "speed": ("standard",)}
"""Values that ask for what happens anyway."""

_EFFORTS = ((4096, "low"), (16384, "medium"))
"""Up to how many tokens of thinking are which effort; more is `high`."""


def request_of(data: Mapping[str, Any], losses: Losses) -> dict[str, Any]:
    """The members of the chat request.

    Raises:
        RequestError: something in it cannot be said and must not be left out; `param` names it.
    """
    if data.get("inference_geo") not in (None, "", "global"):
        raise unsupported("inference_geo", "cannot be promised: this backend computes where it does")
    messages = messages_of(data.get("system"), objects_in(data.get("messages"), "messages"), losses)
    if all(message["role"] == "system" for message in messages):
        raise RequestError("`messages` holds nothing that can be sent", code="invalid_value", param="messages")
    if messages[-1]["role"] == "assistant":
        losses.add("prefill")
    told = {
        "model": data.get("model"),
        "messages": messages,
        **tools_of(data, losses),
        **{name: data[name] for name in _SAME if data.get(name) is not None},
        **_stop(data.get("stop_sequences")),
        **_effort(data, losses),
        **_format(data, losses),
        **_stream(data),
    }
    _lose(data, losses)
    return told


def _stop(value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, list):
        raise mistyped("stop_sequences", "an array of strings")
    return {"stop": value} if value else {}


def _effort(data: Mapping[str, Any], losses: Losses) -> dict[str, Any]:
    """How much to think: the effort that is asked for, else the one that a budget stands for."""
    effort = object_in(data, "output_config", "").get("effort")
    thinking = object_in(data, "thinking", "")
    budget = _budget(thinking, losses) if thinking else None
    if budget is not None:
        losses.add("thinking.budget")
    if effort is not None:
        return {"reasoning_effort": effort}
    if budget is None:
        return {}
    return {"reasoning_effort": next((word for most, word in _EFFORTS if budget <= most), "high")}


def _budget(thinking: Mapping[str, Any], losses: Losses) -> int | None:
    """The tokens that thinking may cost, None where it is not told; `adaptive` is what models do anyway."""
    sort = text_in(thinking, "type", "thinking")
    if sort == "disabled":
        losses.add("thinking.disabled")
    known = ("type", "budget_tokens") if sort == "enabled" else ("type",)
    if sort not in ("enabled", "disabled", "adaptive") or any(
        is_set(value) and (name, value) != ("display", "summarized")
        for name, value in thinking.items()
        if name not in known
    ):
        losses.add("thinking.options")
    if sort != "enabled":
        return None
    budget = thinking.get("budget_tokens")
    if not isinstance(budget, int) or isinstance(budget, bool):
        raise mistyped("thinking.budget_tokens", "a whole number")
    return budget


def _format(data: Mapping[str, Any], losses: Losses) -> dict[str, Any]:
    """The schema of the answer; `output_format` is where it stood in the beta."""
    config = object_in(data, "output_config", "")
    if any(is_set(value) for name, value in config.items() if name not in ("effort", "format")):
        losses.add("output_config.options")
    place = "output_config.format" if is_set(config.get("format")) else "output_format"
    form = object_in(config, "format", "output_config") or object_in(data, "output_format", "")
    if not form:
        return {}
    if form.get("type") != "json_schema":
        raise unsupported(f"{place}.type", "must be `json_schema`")
    if not isinstance(form.get("schema"), dict):
        raise mistyped(f"{place}.schema", "an object")
    if any(is_set(value) for name, value in form.items() if name not in ("type", "schema")):
        losses.add("output_config.options")
    schema = {"name": "answer", "schema": form["schema"], "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _stream(data: Mapping[str, Any]) -> dict[str, Any]:
    """A stream always asks for its usage: `message_delta` has to tell it."""
    return {"stream": True, "stream_options": {"include_usage": True}} if data.get("stream") is True else {}


def _lose(data: Mapping[str, Any], losses: Losses) -> None:
    for name, value in data.items():
        if name not in _OWN and is_set(value) and value not in _SAYS_NOTHING.get(name, ()):
            losses.add(_LOST.get(name, "members"))
