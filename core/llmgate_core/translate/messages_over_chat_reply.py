"""An answer of Chat Completions as a message: its content blocks, its usage, and why it has ended.

Source: anthropic-python 2.14, types/message.py, types/usage.py, types/stop_reason.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..wire import JsonError, decode
from .chat_answers import arguments_of, calls_of, count_in, id_of, name_of, nameless, reasoning_of, reply_of, text_of
from .messages_over_chat_rules import SIGNATURE

Block = dict[str, Any]

INVALID_ARGUMENTS = "_invalid_arguments"
"""Holds arguments that are no JSON object: `input` must be one. The tool refuses them, and so the model hears of it."""

_STOP_REASONS = {"length": "max_tokens", "content_filter": "refusal"}
"""Why an answer has ended, by `finish_reason`. With any other one the model has ended it itself."""

CUT_OFF = "max_tokens"
"""What is told of an answer that broke off: of all reasons it is the one that says that something is missing."""


def message_of(data: bytes, model: str, new_id: Callable[[], str]) -> dict[str, Any]:
    """A plain answer as a message.

    Args:
        model: as the caller named it, and not as the upstream does: Claude Code drops the thinking of an answer by any
            other name than it asked for.
        new_id: something that nothing else is called.

    Raises:
        ConnectorError: it is no answer, the failure that it reports, or a call in it names no tool.
    """
    answer, said, finish = reply_of(data)
    content = _blocks(said, new_id)
    has_calls = any(block["type"] == "tool_use" for block in content)
    return {
        **opened(f"msg_{new_id()}", model),
        "content": content,
        "stop_reason": stop_reason_of(finish, has_calls=has_calls),
        "usage": usage_of(answer.get("usage")),
    }


def opened(id: str, model: str) -> dict[str, Any]:
    """A message of which nothing but its name is known."""
    return {
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage_of(None),
    }


def stop_reason_of(finish: str | None, *, has_calls: bool) -> str:
    """Why the model stopped. Whether at one of the caller's sequences, chat does not tell: that is `end_turn`, too.

    Some upstreams say `stop` where there are calls; clients would not run them.
    """
    return _STOP_REASONS.get(finish or "") or ("tool_use" if has_calls else "end_turn")


def usage_of(usage: Any) -> dict[str, Any]:
    """Chat's `usage` by Anthropic's names. Chat counts cached tokens as input; here they are counted beside it.

    Clients demand numbers, so what is not known is 0.
    """
    cached = count_in(usage, "prompt_tokens_details", "cached_tokens") or count_in(usage, "prompt_cache_hit_tokens")
    written = count_in(usage, "prompt_tokens_details", "cache_write_tokens")
    told: dict[str, Any] = {
        "input_tokens": max(0, count_in(usage, "prompt_tokens") - cached - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "output_tokens": count_in(usage, "completion_tokens"),
    }
    if thought := count_in(usage, "completion_tokens_details", "reasoning_tokens"):
        told["output_tokens_details"] = {"thinking_tokens": thought}
    return told


# --- content blocks -----------------------------------------------------------------------------------------


def thinking_block(text: str, signature: str = "") -> Block:
    """What the model thought; nobody has signed it."""
    return {"type": "thinking", "thinking": text, "signature": signature}


def text_block(text: str) -> Block:
    """What the model says."""
    return {"type": "text", "text": text}


def tool_use_block(id: str, name: str, given: Any) -> Block:
    """A call of a tool; `given` is its input."""
    return {"type": "tool_use", "id": id, "name": name, "input": given}


def _blocks(said: Mapping[str, Any], new_id: Callable[[], str]) -> list[Block]:
    """Thinking, then text, then calls. What is blank is left out: it could not be sent back."""
    thought, text = reasoning_of(said), text_of(said.get("content")) + text_of(said.get("refusal"))
    blocks = [thinking_block(thought, SIGNATURE)] if thought.strip() else []
    blocks += [text_block(text)] if text.strip() else []
    ids: set[str] = set()
    for call in calls_of(said):
        name, arguments = name_of(call), arguments_of(call)
        if not name and not arguments:
            continue
        if not name:
            raise nameless()
        id = id_of(call)
        id = f"toolu_{new_id()}" if not id or id in ids else id
        ids.add(id)
        blocks.append(tool_use_block(id, name, input_of(arguments)))
    return blocks


def input_of(arguments: str) -> dict[str, Any]:
    """A call's arguments as the object that Anthropic has in their place; no arguments are an empty one."""
    if not arguments.strip():
        return {}
    try:
        value = decode(arguments.encode())
    except (JsonError, UnicodeEncodeError):
        value = arguments
    if value is None:
        return {}
    return value if isinstance(value, dict) else {INVALID_ARGUMENTS: arguments}
