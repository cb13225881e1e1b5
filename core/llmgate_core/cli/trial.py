"""One request as an agent would make it, with one tool, and what its answer holds, in each dialect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

TOOL = "get_weather"
PROMPT = f"Call the tool {TOOL} for the city Hangzhou. Do not answer in words."

_DESCRIPTION = "Tells the weather of a city"
_SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_FUNCTION = {"name": TOOL, "description": _DESCRIPTION, "parameters": _SCHEMA}
MAX_TOKENS = 4000
"""Room for a model that thinks first."""


@dataclass
class Seen:
    """What has come back so far.

    Args:
        calls: name and arguments of each tool call, by its place in the answer.
        error: what failed inside the stream.
        ended: the stream was ended as its dialect wants, not cut off.
    """

    calls: dict[Any, list[str]] = field(default_factory=dict)
    text: str = ""
    error: str | None = None
    ended: bool = False


class Trial(NamedTuple):
    """How one dialect asks, and how its events are read."""

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    read: Callable[[Seen, Any], None]


def _read_chat(seen: Seen, event: Any) -> None:
    if "error" in event:
        seen.error = str(event["error"]["message"])
    for choice in event.get("choices", ()):
        delta = choice.get("delta") or {}
        seen.text += delta.get("content") or ""
        for call in delta.get("tool_calls") or ():
            function = call.get("function") or {}
            known = seen.calls.setdefault(call["index"], ["", ""])
            known[0] += function.get("name") or ""
            known[1] += function.get("arguments") or ""
        seen.ended |= bool(choice.get("finish_reason"))


def _read_messages(seen: Seen, event: Any) -> None:
    match event["type"]:
        case "content_block_start" if event["content_block"]["type"] == "tool_use":
            seen.calls[event["index"]] = [event["content_block"]["name"], ""]
        case "content_block_delta":
            delta = event["delta"]
            seen.text += delta.get("text", "")
            if "partial_json" in delta:
                seen.calls[event["index"]][1] += delta["partial_json"]
        case "message_stop":
            seen.ended = True
        case "error":
            seen.error = str(event["error"]["message"])


def _read_responses(seen: Seen, event: Any) -> None:
    match event["type"]:
        case "response.output_text.delta":
            seen.text += event["delta"]
        case "response.output_item.done" if event["item"]["type"] == "function_call":
            seen.calls[event["output_index"]] = [event["item"]["name"], event["item"]["arguments"]]
        case "response.completed":
            seen.ended = True
        case "response.incomplete":
            seen.error = f"the answer is incomplete: {event['response']['incomplete_details']['reason']}"
        case "response.failed":
            seen.error = str(event["response"]["error"]["message"])
        case "error":
            seen.error = str(event["message"])


TRIALS = {
    "chat": Trial(
        "/v1/chat/completions",
        {},
        {
            "max_tokens": MAX_TOKENS,
            "stream": True,
            "stream_options": {"include_usage": True},
            "messages": [{"role": "user", "content": PROMPT}],
            "tools": [{"type": "function", "function": _FUNCTION}],
        },
        _read_chat,
    ),
    "messages": Trial(
        "/v1/messages?beta=true",
        {"anthropic-version": "2023-06-01"},
        {
            "max_tokens": MAX_TOKENS,
            "stream": True,
            "messages": [{"role": "user", "content": [{"type": "text", "text": PROMPT}]}],
            "tools": [{"name": TOOL, "description": _DESCRIPTION, "input_schema": _SCHEMA}],
        },
        _read_messages,
    ),
    "responses": Trial(
        "/v1/responses",
        {},
        {
            "stream": True,
            "store": False,
            "include": ["reasoning.encrypted_content"],
            "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": PROMPT}]}],
            "tools": [{"type": "function", **_FUNCTION, "strict": False}],
            "tool_choice": "auto",
            "parallel_tool_calls": True,
        },
        _read_responses,
    ),
}
