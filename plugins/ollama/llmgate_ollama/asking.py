"""A Chat Completions request in the words of Ollama's `/api/chat`. Pure, no I/O.

Sources, all in github.com/ollama/ollama: docs/openapi.yaml (ChatRequest, ChatMessage, ModelOptions), docs/api.md
("Generate a chat completion"), docs/capabilities/thinking.mdx and tool-calling.mdx, openai/openai.go (how Ollama's own
`/v1` reads such a request).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from llmgate_core import Body, RequestError

OPTIONS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "repeat_penalty",
    "repeat_last_n",
    "num_ctx",
    "num_predict",
    "num_keep",
)
"""What a caller may write at the top level, and Ollama wants below `options`."""

READ = {"messages", "tools", "stop", "max_tokens", "max_completion_tokens", "response_format", "reasoning_effort"}
WITHOUT_EQUAL = {"stream", "stream_options", "n", "tool_choice", "parallel_tool_calls"}

EFFORTS: Mapping[str, str | bool] = {"none": False, "minimal": "low", "xhigh": "high"}
"""Levels that Ollama has another word for."""

_EMPTY_SCHEMA = {"type": "object", "properties": {}}


def asked(body: Body, *, stream: bool, num_ctx: int | None = None, keep_alive: str | None = None) -> Body:
    """The request as Ollama wants it; what this module has not heard of goes along as it is.

    Args:
        num_ctx, keep_alive: what is configured; the request's own come first.

    Raises:
        RequestError: Ollama has no words for it.
    """
    try:
        given = body.data
    except ValueError as error:
        raise refused(f"the request cannot be read: {error}") from None
    _refuse_what_cannot_be(given)
    translated = {*OPTIONS, *READ, *WITHOUT_EQUAL, "options"}
    # Ollama reads members whatever their case: `Options` behind `options` would outrank what is said here.
    wanted = {name: value for name, value in given.items() if name.casefold() not in translated}
    wanted |= {"messages": _messages(given.get("messages")), "stream": stream}
    if given.get("tools") and given.get("tool_choice") != "none":
        wanted["tools"] = [_tool(tool) for tool in given["tools"]]
    if options := _options(given, num_ctx):
        wanted["options"] = options
    if keep_alive is not None:
        wanted.setdefault("keep_alive", keep_alive)
    if (form := _format(given.get("response_format"))) is not None:
        wanted.setdefault("format", form)
    if effort := given.get("reasoning_effort"):
        wanted.setdefault("think", EFFORTS.get(effort, effort) if isinstance(effort, str) else effort)
    return Body.of(wanted)


def wants_usage(body: Body) -> bool:
    """Whether a stream shall end with its usage."""
    try:
        options = body.get("stream_options")
    except ValueError:
        return False
    return isinstance(options, dict) and options.get("include_usage") is True


def lost(body: Body) -> list[str]:
    """What a request may say and Ollama has no place for."""
    try:
        return [name for name in ("parallel_tool_calls",) if body.get(name) is not None]
    except ValueError:
        return []


def refused(text: str) -> RequestError:
    """Why a request is not sent."""
    return RequestError(text)


def _refuse_what_cannot_be(given: Mapping[str, Any]) -> None:
    if given.get("n") not in (None, 1):
        raise refused("Ollama gives one answer: `n` must be 1")
    choice = given.get("tool_choice")
    if choice not in (None, "auto", "none"):
        raise refused("Ollama cannot be made to call a tool: `tool_choice` must be `auto` or `none`")


def _options(given: Mapping[str, Any], num_ctx: int | None) -> dict[str, Any]:
    """From the lowest to the highest: what is configured, the caller's chat parameters, the caller's `options`.

    But no `num_predict` is above `max_tokens`, which may be what the operator or a policy allows.
    """
    options: dict[str, Any] = {} if num_ctx is None else {"num_ctx": num_ctx}
    if given.get("stop") is not None:
        options["stop"] = [given["stop"]] if isinstance(given["stop"], str) else given["stop"]
    options |= {name: given[name] for name in OPTIONS if given.get(name) is not None}
    if isinstance(own := given.get("options"), dict):
        options |= own
    limits = [given[name] for name in ("max_completion_tokens", "max_tokens") if given.get(name) is not None]
    if limits:
        options["num_predict"] = min(limits[0], options.get("num_predict"), key=_length)
    return options


def _length(limit: Any) -> float:
    """How long an answer may become; to Ollama, whatever is below 1 is no limit."""
    return limit if type(limit) is int and limit > 0 else math.inf


def _format(wanted: Any) -> Any:
    """`response_format` as `format`: the word `json`, a schema, or nothing."""
    sort = wanted.get("type") if isinstance(wanted, dict) else None
    if sort == "json_object":
        return "json"
    schema = wanted.get("json_schema") if sort == "json_schema" else None
    return schema.get("schema") if isinstance(schema, dict) else None


def _tool(tool: Any) -> Any:
    """Ollama wants `parameters` of every function."""
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or function.get("parameters"):
        return tool
    return {**tool, "function": {**function, "parameters": _EMPTY_SCHEMA}}


# --- messages -------------------------------------------------------------------------------------------------------


def _messages(given: Any) -> list[dict[str, Any]]:
    if not isinstance(given, list) or not all(isinstance(message, dict) for message in given):
        raise refused("`messages` must be an array of objects")
    called: dict[Any, str] = {}  # Ollama knows a tool's result by the tool's name, chat by the call's id
    return [_message(message, called) for message in given]


def _message(given: Mapping[str, Any], called: dict[Any, str]) -> dict[str, Any]:
    role = "system" if given.get("role") == "developer" else given.get("role")
    text, images = _content(given.get("content"))
    wanted: dict[str, Any] = {"role": role, "content": text}
    if images:
        wanted["images"] = images
    if role == "assistant":
        if thought := given.get("reasoning_content") or given.get("reasoning"):
            wanted["thinking"] = thought
        if calls := given.get("tool_calls"):
            wanted["tool_calls"] = [_call(call, called) for call in calls]
    if role == "tool" and (name := called.get(given.get("tool_call_id")) or given.get("name")):
        wanted["tool_name"] = name
    return wanted


def _content(given: Any) -> tuple[str, list[str]]:
    """Text and images, each in their order."""
    if given is None or isinstance(given, str):
        return given or "", []
    texts, images = [], []
    for part in given if isinstance(given, list) else [given]:
        sort = part.get("type") if isinstance(part, dict) else None
        if sort == "text":
            texts.append(str(part.get("text", "")))
        elif sort == "image_url":
            images.append(_image(part.get("image_url")))
        else:
            raise refused("Ollama takes text and images: a message has a part of another type")
    return "\n".join(texts), images


def _image(given: Any) -> str:
    url = given.get("url") if isinstance(given, dict) else given
    head, comma, data = url.partition(",") if isinstance(url, str) else ("", "", "")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise refused(
            "Ollama fetches no images: an `image_url` must be a data URL in base64 (`data:image/png;base64,`)"
        )
    return str(data)


def _call(given: Any, called: dict[Any, str]) -> dict[str, Any]:
    try:
        name, text = given["function"]["name"], given["function"].get("arguments") or "{}"
        arguments = Body.parse(text.encode()).data
    except (AttributeError, KeyError, TypeError, ValueError):
        raise refused("the `arguments` of a tool call in `messages` are no JSON object") from None
    called[given.get("id")] = name
    return {"type": "function", "function": {"name": name, "arguments": arguments}}
