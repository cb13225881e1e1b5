"""A Chat Completions request as an Anthropic Messages request: each member is mapped, refused, or lost under a name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..connectors import ModelInfo
from ..dialects.requests import mistyped
from ..wire import Body
from .chat_over_messages_rules import is_set, lose_beside
from .chat_over_messages_sampling import Situation, sampling_of
from .chat_over_messages_tools import is_legacy, must_call, tools_of
from .chat_over_messages_turns import Conversation, conversation_of
from .losses import Losses, object_of, text_in, unsupported

JSON_OBJECT = "Answer with one JSON object and nothing else."

_MAPPED = frozenset(
    {
        *("model", "messages", "stream", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k"),
        *("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call", "response_format"),
        *("reasoning_effort", "thinking_budget", "user", "safety_identifier", "service_tier", "stream_options"),
        *("stop", "n", "modalities"),
    }
)

_LOST = {
    "logprobs": "logprobs",
    "top_logprobs": "logprobs",
    "prompt_cache_key": "prompt_cache",
    "prompt_cache_options": "prompt_cache",
    "prompt_cache_retention": "prompt_cache",
    **{name: name for name in ("audio", "frequency_penalty", "logit_bias", "metadata", "moderation", "prediction")},
    **{name: name for name in ("presence_penalty", "seed", "store", "verbosity", "web_search_options")},
}

_SAYS_NOTHING: Mapping[str, Any] = {"frequency_penalty": 0, "presence_penalty": 0, "top_logprobs": 0}
"""Values that ask for what happens anyway."""

_TIERS = {"auto": "auto", "default": "standard_only"}


def request_of(body: Body, info: ModelInfo, losses: Losses) -> dict[str, Any]:
    """The members of the Messages request.

    Args:
        info: what is known of the model.

    Raises:
        RequestError: something in it cannot be said and must not be left out; `param` names it.
    """
    data = body.data
    _refuse(data)
    conversation = conversation_of(data.get("messages"), losses)
    tools = tools_of(data, conversation.called, losses)
    situation = Situation(must_call(tools), conversation.ends_with_result)
    sampling = sampling_of(data, situation, info, losses)
    told = {"model": data.get("model"), **_said(conversation), **tools, **sampling, **_ends(data, losses)}
    _set_format(told, data.get("response_format"), losses)
    told.update(_service(data, losses))
    if data.get("stream") is True:
        told["stream"] = True
        _check_stream_options(data, losses)
    _lose(data, losses)
    return told


def asks_for_usage(data: Mapping[str, Any]) -> bool:
    """Whether the caller wants to be told at the end of a stream what it has cost."""
    options = data.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def wants_legacy(data: Mapping[str, Any]) -> bool:
    """Whether a call is to be told as `function_call`."""
    return is_legacy(data)


def _refuse(data: Mapping[str, Any]) -> None:
    if data.get("n") not in (None, 1):
        raise unsupported("n", "must be 1: this backend gives one answer")
    modalities = data.get("modalities")
    if is_set(modalities) and modalities != ["text"]:
        raise unsupported("modalities", 'must be `["text"]`: this backend answers in text')


def _said(conversation: Conversation) -> dict[str, Any]:
    system = {"system": conversation.system} if conversation.system else {}
    return {**system, "messages": conversation.messages}


def _ends(data: Mapping[str, Any], losses: Losses) -> dict[str, Any]:
    stop = data.get("stop")
    texts = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise mistyped("stop", "a string or an array of strings")
    ends = [text for text in texts if text.strip()]
    losses.add_if(len(ends) < len(texts), "stop")
    return {"stop_sequences": ends} if ends else {}


def _set_format(told: dict[str, Any], value: Any, losses: Losses) -> None:
    """A schema is demanded; that it should be JSON can only be asked for, at the end of the system prompt."""
    form = object_of(value, "response_format")
    sort = text_in(form, "type", "response_format") if form else "text"
    if sort == "text":
        return
    if sort not in ("json_object", "json_schema"):
        raise unsupported("response_format.type", "must be `text`, `json_object` or `json_schema`")
    described = object_of(form.get("json_schema"), "response_format.json_schema") if sort == "json_schema" else {}
    if not is_set(described.get("schema")):
        losses.add("response_format.json_object")
        told["system"] = [*told.get("system", []), {"type": "text", "text": JSON_OBJECT}]
        return
    schema = object_of(described["schema"], "response_format.json_schema.schema")
    losses.add_if(
        any(is_set(one) for name, one in described.items() if name not in ("name", "schema", "strict")),
        "response_format.options",
    )
    told["output_config"] = {**told.get("output_config", {}), "format": {"type": sort, "schema": schema}}


def _service(data: Mapping[str, Any], losses: Losses) -> dict[str, Any]:
    """Who asks, and at what price."""
    told: dict[str, Any] = {}
    users = [data[name] for name in ("safety_identifier", "user") if is_set(data.get(name))]
    if users:
        losses.add_if(users[0] != users[-1], "user")
        told["metadata"] = {"user_id": users[0]}
    tier = data.get("service_tier")
    if isinstance(tier, str) and tier in _TIERS:
        told["service_tier"] = _TIERS[tier]
    else:
        losses.add_if(is_set(tier), "service_tier")
    return told


def _check_stream_options(data: Mapping[str, Any], losses: Losses) -> None:
    options = object_of(data.get("stream_options"), "stream_options")
    lose_beside(losses, options, frozenset({"include_usage"}), "stream_options")


def _lose(data: Mapping[str, Any], losses: Losses) -> None:
    for name, value in data.items():
        if name not in _MAPPED and is_set(value) and value != _SAYS_NOTHING.get(name, ...):
            losses.add(_LOST.get(name, "members"))
