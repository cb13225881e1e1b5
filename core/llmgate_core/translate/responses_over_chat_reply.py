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
from ..wire import decode, encode
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
    read = _count(usage, "prompt_tokens")
    written = _count(usage, "completion_tokens")
    cached = _count(_details(usage, "prompt"), "cached_tokens") or _count(usage, "prompt_cache_hit_tokens")
    return {
        "input_tokens": read,
        "input_tokens_details": {
            "cached_tokens": cached,
            "cache_write_tokens": _count(_details(usage, "prompt"), "cache_write_tokens"),
        },
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": _count(_details(usage, "completion"), "reasoning_tokens")},
        "total_tokens": _count(usage, "total_tokens") or read + written,
    }


def _details(usage: Mapping[str, Any], of: str) -> Mapping[str, Any]:
    found = usage.get(f"{of}_tokens_details")
    return found if isinstance(found, dict) else {}


def _count(holder: Mapping[str, Any], name: str) -> int:
    value = holder.get(name)
    return int(value) if isinstance(value, (int, float)) and value > 0 else 0


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


def reply_of(data: bytes) -> tuple[dict[str, Any], Mapping[str, Any], str | None]:
    """A plain answer's whole object, its first message and its `finish_reason`.

    Raises:
        ConnectorError: it is no answer, or the failure that it reports.
    """
    chat.read_reply(data)
    answer: dict[str, Any] = decode(data)
    choice = answer["choices"][0]
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise ConnectorError("protocol", "the upstream answered without a `message`")
    return answer, message, finish_of(choice)


def finish_of(choice: Mapping[str, Any]) -> str | None:
    """Why the answer has ended, None if it has not.

    Raises:
        ConnectorError: kind `protocol`, it has ended with an error that nobody has told.
    """
    finish = choice.get("finish_reason")
    if finish == "error":
        raise ConnectorError("protocol", "the upstream ended the answer with `finish_reason` `error`")
    return finish if isinstance(finish, str) and finish else None


def items_of(message: Mapping[str, Any], finish: str | None, toolbox: Toolbox, new_id: Any) -> list[Item]:
    """The items of a chat message: reasoning, then text, then calls; what comes last may be cut off.

    Raises:
        ConnectorError: kind `protocol`, a call names no tool.
    """
    calls = [call for call in calls_of(message) if name_of(call) or arguments_of(call)]
    text, refusal = text_in(message.get("content")), text_in(message.get("refusal"))
    items = []
    if thought := reasoning_of(message):
        items.append(reasoning_item(f"rs_{new_id()}", thought))
    parts = [text_part(sort, said) for sort, said in (("output_text", text), ("refusal", refusal)) if said]
    if parts:
        items.append(message_item(f"msg_{new_id()}", parts, "completed" if calls else status_at(finish)))
    for call in calls:
        tool, call_id = toolbox.known(checked_name(name_of(call))), call.get("id") or f"call_{new_id()}"
        id = f"{PREFIXES[tool.kind]}{new_id()}"
        items.append(call_item(id, tool, str(call_id), arguments_of(call), status_at(finish)))
    return items


def reasoning_of(said: Mapping[str, Any]) -> str:
    """The reasoning in a message or delta, under either of the names that are met."""
    return text_in(said.get("reasoning_content")) or text_in(said.get("reasoning"))


def text_in(content: Any) -> str:
    """A content's text; some upstreams send it in parts."""
    if isinstance(content, list):
        return "".join(text_in(part.get("text")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def calls_of(said: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The calls in a message or delta; `function_call` is what they were called once."""
    calls = said.get("tool_calls")
    if isinstance(calls, list):
        return [call for call in calls if isinstance(call, dict)]
    function = said.get("function_call")
    return [{"index": 0, "function": function}] if isinstance(function, dict) else []


def name_of(call: Mapping[str, Any]) -> str:
    """The name in a call or a piece of one, empty if there is none."""
    function = call.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    return name.strip() if isinstance(name, str) else ""


def arguments_of(call: Mapping[str, Any]) -> str:
    """The arguments in a call or a piece of one; where they are no text, they become one."""
    function = call.get("function")
    arguments = function.get("arguments") if isinstance(function, dict) else None
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return encode(arguments).decode()


def checked_name(name: str) -> str:
    """The name of a call.

    Raises:
        ConnectorError: kind `protocol`, it has none.
    """
    if not name:
        raise ConnectorError("protocol", "the upstream called a tool without a name")
    return name


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
