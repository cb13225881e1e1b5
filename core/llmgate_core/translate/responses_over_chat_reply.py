"""An answer of Chat Completions as a response: its items, its usage, its state, and what it repeats of the request.

Source: openai-python 3.54, types/responses/; what Codex reads of it: codex-rs/codex-api/src/sse/responses.rs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..dialects import chat
from ..errors import KINDS, ConnectorError, RequestError
from ..wire import decode
from .chat_answers import arguments_of, calls_of, count_in, id_of, name_of, nameless, reasoning_of, text_of
from .responses_over_chat_tools import Tool, Toolbox, action_of_arguments, input_of_arguments, object_of_arguments

Item = dict[str, Any]
Status = Literal["in_progress", "completed", "incomplete"]

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Why an answer is not whole, by `finish_reason`. With any other one it is."""


@dataclass(frozen=True)
class Envelope:
    """What a response says about itself from its beginning to its end.

    Args:
        request: the caller's request; what is repeated of it is as the SDKs' types demand.
    """

    id: str
    created_at: int
    model: str
    request: Mapping[str, Any]

    def response(self, status: str, output: list[Item], **more: Any) -> dict[str, Any]:
        """The whole object; `more` holds `usage`, `error`, `incomplete_details`, `completed_at` where there are any."""
        request = self.request
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created_at,
            "status": status,
            "background": False,
            "completed_at": None,
            "error": None,
            "incomplete_details": None,
            "instructions": request.get("instructions"),
            "max_output_tokens": request.get("max_output_tokens"),
            "max_tool_calls": request.get("max_tool_calls"),
            "metadata": request.get("metadata") or {},
            "model": self.model,
            "output": output,
            "parallel_tool_calls": request.get("parallel_tool_calls") is not False,
            "previous_response_id": request.get("previous_response_id"),
            "prompt_cache_key": request.get("prompt_cache_key"),
            "reasoning": {"effort": None, "summary": None, **(request.get("reasoning") or {})},
            "safety_identifier": request.get("safety_identifier"),
            "service_tier": request.get("service_tier"),
            "store": request.get("store") is not False,
            "temperature": request.get("temperature"),
            "text": {"format": {"type": "text"}, **(request.get("text") or {})},
            "tool_choice": request.get("tool_choice") or "auto",
            "tools": request.get("tools") or [],
            "top_logprobs": request.get("top_logprobs"),
            "top_p": request.get("top_p"),
            "truncation": request.get("truncation") or "disabled",
            "usage": None,
            "user": request.get("user"),
            **more,
        }


def ended(envelope: Envelope, finish: str | None, output: list[Item], usage: Any, now: float) -> dict[str, Any]:
    """The response at its end: `completed`, or `incomplete` with the reason."""
    told = usage_of(usage)
    if reason := _INCOMPLETE.get(finish or ""):
        return envelope.response("incomplete", output, usage=told, incomplete_details={"reason": reason})
    return envelope.response("completed", output, usage=told, completed_at=int(now))


def status_at(finish: str | None) -> Status:
    """The status of an item that the end of the answer finds open."""
    return "incomplete" if finish in _INCOMPLETE else "completed"


def usage_of(usage: Any) -> dict[str, Any] | None:
    """Chat's `usage` by the names of Responses, None where there is none. Both count cached tokens as input."""
    if not isinstance(usage, dict):
        return None
    read, written = count_in(usage, "prompt_tokens"), count_in(usage, "completion_tokens")
    prompt, completion = "prompt_tokens_details", "completion_tokens_details"
    return {
        "input_tokens": read,
        "input_tokens_details": {
            "cached_tokens": count_in(usage, prompt, "cached_tokens") or count_in(usage, "prompt_cache_hit_tokens"),
            "cache_write_tokens": count_in(usage, prompt, "cache_write_tokens"),
        },
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": count_in(usage, completion, "reasoning_tokens")},
        "total_tokens": count_in(usage, "total_tokens") or read + written,
    }


# --- items --------------------------------------------------------------------------------------------------


def reasoning_item(id: str, text: str) -> Item:
    """What the model thought, as a summary: that is what clients show, and what Codex sends back."""
    return {"id": id, "type": "reasoning", "summary": [summary_part(text)]}


def summary_part(text: str) -> Item:
    """A summary's only part."""
    return {"type": "summary_text", "text": text}


def message_item(id: str, parts: list[Item], status: Status) -> Item:
    """What the model says."""
    return {"id": id, "type": "message", "status": status, "role": "assistant", "content": parts}


def text_part(sort: str, text: str) -> Item:
    """A part of a message: `output_text` or `refusal`."""
    if sort == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


PREFIXES = {"function": "fc_", "custom": "ctc_", "local_shell": "lsh_", "tool_search": "tsc_"}
"""How the ids of calls begin, by the kind of tool."""


def call_item(id: str, tool: Tool, call_id: str, arguments: str, status: Status) -> Item:
    """A call, as the caller knows the tool. No arguments at all are an empty object: clients parse them as JSON."""
    if tool.kind == "local_shell":
        action = action_of_arguments(arguments)
        return {"id": id, "type": "local_shell_call", "status": status, "call_id": call_id, "action": action}
    if tool.kind == "tool_search":
        asked = {"execution": "client", "arguments": object_of_arguments(arguments)}
        return {"id": id, "type": "tool_search_call", "status": status, "call_id": call_id, **asked}
    named = {"name": tool.name} if tool.namespace is None else {"name": tool.name, "namespace": tool.namespace}
    if tool.kind == "custom":
        text = input_of_arguments(arguments) if arguments else ""
        return {"id": id, "type": "custom_tool_call", "status": status, "call_id": call_id, **named, "input": text}
    if not arguments and status == "completed":
        arguments = "{}"
    return {"id": id, "type": "function_call", "status": status, "call_id": call_id, **named, "arguments": arguments}


# --- a plain answer -----------------------------------------------------------------------------------------


def items_of(message: Mapping[str, Any], finish: str | None, toolbox: Toolbox, new_id: Any) -> list[Item]:
    """The items of a chat message: reasoning, then text, then calls; what comes last may be cut off.

    Raises:
        ConnectorError: kind `protocol`, a call names no tool.
    """
    calls = [call for call in calls_of(message) if name_of(call) or arguments_of(call)]
    text, refusal = text_of(message.get("content")), text_of(message.get("refusal"))
    items = []
    if thought := reasoning_of(message):
        items.append(reasoning_item(f"rs_{new_id()}", thought))
    parts = [text_part(sort, said) for sort, said in (("output_text", text), ("refusal", refusal)) if said]
    if parts:
        items.append(message_item(f"msg_{new_id()}", parts, "completed" if calls else status_at(finish)))
    for call in calls:
        if not (name := name_of(call)):
            raise nameless()
        tool, call_id = toolbox.known(name), id_of(call) or f"call_{new_id()}"
        id = f"{PREFIXES[tool.kind]}{new_id()}"
        items.append(call_item(id, tool, call_id, arguments_of(call), status_at(finish)))
    return items


# --- a failure ----------------------------------------------------------------------------------------------

_FINAL = ("bad_request", "denied", "disabled", "auth", "not_found")
"""Kinds that repeating does not help. Of all codes only `invalid_prompt` keeps Codex from trying again and shows the
message; the message says what it really was."""


def response_error(error: BaseException, context: str) -> dict[str, Any]:
    """What stands in a failed response: a message, and a code by which Codex decides whether to try again."""
    message = decode(chat.error_answer(error, context=context).body)["error"]["message"]
    code = _code(error)
    wait = error.retry_after if isinstance(error, (RequestError, ConnectorError)) else None
    if code == "rate_limit_exceeded" and wait is not None and "try again in" not in message.lower():
        message = f"{message} (try again in {max(0, math.ceil(wait))}s)"
    return {"code": code, "message": message}


def _code(error: BaseException) -> str:
    if isinstance(error, RequestError):
        return "rate_limit_exceeded" if error.status == 429 else "invalid_prompt"
    if not isinstance(error, ConnectorError):
        return "server_error"
    if error.kind in ("rate_limited", "quota", "context_length"):
        return KINDS[error.kind].code
    if error.kind == "unavailable" and error.status in (503, 529):
        return "server_is_overloaded"
    return "invalid_prompt" if error.kind in _FINAL else "server_error"
