"""An answer of Anthropic Messages as a chat completion: message, reason of its end, usage.

An answer loses what chat has no place for: signatures and encrypted thinking, citations, which stop sequence it was,
why it was refused, and the blocks of tools that the upstream runs itself, which no chat request can ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..dialects.failures import reported_error
from ..errors import ConnectorError
from ..wire import Body, JsonError, encode
from .chat_answers import nameless

_FINISHES = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",
    "refusal": "content_filter",
}
"""Reasons of an end. A turn that is paused is as incomplete as one that is too long; other reasons are `stop`."""


@dataclass(frozen=True)
class Manner:
    """How the caller wants to be answered.

    Args:
        with_usage: a stream tells its usage.
        legacy: calls are `function_call`, of which there is one.
        new_id: an id for an answer that has none.
        clock: Unix time in seconds.
    """

    with_usage: bool
    legacy: bool
    new_id: Callable[[], str]
    clock: Callable[[], float]

    def envelope(self, answer: Mapping[str, Any], sort: str) -> dict[str, Any]:
        """The members that every object of an answer begins with; `answer` is a Messages `message`."""
        id, model = answer.get("id"), answer.get("model")
        return {
            "id": id if isinstance(id, str) and id else self.new_id(),
            "object": sort,
            "created": int(self.clock()),
            "model": model if isinstance(model, str) else "",
        }


def completion_of(data: bytes, manner: Manner) -> bytes:
    """The chat completion for a plain answer.

    Raises:
        ConnectorError: it is no answer (kind `protocol`), or reports a failure.
    """
    answer = _answer(data)
    blocks = [block for block in answer["content"] if isinstance(block, dict)]
    calls = [block for block in blocks if block.get("type") == "tool_use"]
    finish = finish_of(answer.get("stop_reason"), bool(calls), manner)
    choice = {"index": 0, "message": _message(blocks, calls, manner), "logprobs": None, "finish_reason": finish}
    usage = usage_of(answer.get("usage"))
    return encode({**manner.envelope(answer, "chat.completion"), "choices": [choice], "usage": usage})


def _answer(data: bytes) -> dict[str, Any]:
    if not data.strip():
        raise ConnectorError("protocol", "the upstream answered with an empty body")
    try:
        answer = Body(data).data
    except JsonError as error:
        raise ConnectorError("protocol", f"the upstream's answer is not usable JSON: {error}") from None
    if answer.get("type") == "error" or answer.get("error"):
        raise reported_error(data)
    if not isinstance(answer.get("content"), list):
        raise ConnectorError("protocol", "the upstream answered without `content`")
    return answer


def _message(blocks: list[dict[str, Any]], calls: list[dict[str, Any]], manner: Manner) -> dict[str, Any]:
    text = _joined(blocks, "text", "text")
    message: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None, "refusal": None}
    if thought := _joined(blocks, "thinking", "thinking"):
        message["reasoning_content"] = thought
    if calls and manner.legacy:
        message["function_call"] = _function(calls[0])
    elif calls:
        message["tool_calls"] = [
            {"id": called_id(call, manner), "type": "function", "function": _function(call)} for call in calls
        ]
    return message


def _joined(blocks: Iterable[Mapping[str, Any]], sort: str, member: str) -> str:
    return "".join(text_in(block, member) for block in blocks if block.get("type") == sort)


def text_in(holder: Mapping[str, Any], name: str) -> str:
    """A member that is text; empty where it is none."""
    value = holder.get(name)
    return value if isinstance(value, str) else ""


def _function(call: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": called_name(call), "arguments": arguments_of(call.get("input"))}


def called_name(call: Mapping[str, Any]) -> str:
    """Which tool a `tool_use` calls.

    Raises:
        ConnectorError: it does not say.
    """
    name = text_in(call, "name")
    if not name.strip():
        raise nameless()
    return name


def called_id(call: Mapping[str, Any], manner: Manner) -> str:
    """By which id a call is answered; some upstreams give none, and a caller could not answer without."""
    return text_in(call, "id") or f"call_{manner.new_id().rpartition('-')[2]}"


def arguments_of(given: Any) -> str:
    """The input of a call as JSON text; `{}` where it is none."""
    return encode(given if isinstance(given, dict) else {}).decode()


def finish_of(reason: Any, has_calls: bool, manner: Manner) -> str:
    """Chat's word for a `stop_reason`. Agents go on by it, so it says `tool_calls` exactly where there are some."""
    finish = _FINISHES.get(reason, "stop") if isinstance(reason, str) else "stop"
    if finish in ("stop", "tool_calls"):
        finish = "tool_calls" if has_calls else "stop"
    return "function_call" if finish == "tool_calls" and manner.legacy else finish


def usage_of(value: Any) -> dict[str, Any]:
    """Chat's `usage`, whose prompt includes what was read from a cache or written to it; Anthropic's does not."""
    usage = value if isinstance(value, dict) else {}
    read, written = _count(usage, "cache_read_input_tokens"), _count(usage, "cache_creation_input_tokens")
    prompt, completion = _count(usage, "input_tokens") + read + written, _count(usage, "output_tokens")
    told: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
    }
    details = usage.get("output_tokens_details")
    if isinstance(details, dict):
        told["completion_tokens_details"] = {"reasoning_tokens": _count(details, "thinking_tokens")}
    return told


def _count(holder: Mapping[str, Any], name: str) -> int:
    value = holder.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
