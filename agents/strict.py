"""What strict upstreams refuse: a request has to be as the most demanding real ones want it.

Chat Completions as the chat templates of open models and the stricter hosts have it, Messages as Anthropic has it. The
functions give the first fault in words, None where there is none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Body = Mapping[str, Any]

ROLES = ("system", "user", "assistant", "tool")


def chat_fault(body: Body) -> str | None:
    """What is wrong with a request of Chat Completions."""
    return next(_chat_faults(body["messages"]), None)


def _chat_faults(messages: Sequence[Body]) -> Iterator[str]:
    open_calls: set[str] = set()
    for at, message in enumerate(messages):
        role = message.get("role")
        if role not in ROLES:
            yield f"messages[{at}]: unknown role {role!r}"
        if role == "system" and at:
            yield f"messages[{at}]: a system message must be at the beginning"
        if role == "tool":
            if message["tool_call_id"] not in open_calls:
                yield f"messages[{at}]: a tool result without a call"
            open_calls.discard(message["tool_call_id"])
            continue
        if open_calls:
            yield f"messages[{at}]: tool calls are not answered: {', '.join(sorted(open_calls))}"
        calls = message.get("tool_calls") or []
        open_calls = {call["id"] for call in calls}
        yield from (f"messages[{at}]: {fault}" for call in calls if (fault := _unparsable(call["function"])))
        if not calls and not message.get("content"):
            yield f"messages[{at}]: nothing in it"
    if open_calls:
        yield f"the last tool calls are not answered: {', '.join(sorted(open_calls))}"


def _unparsable(function: Body) -> str | None:
    try:
        good = isinstance(json.loads(function["arguments"]), dict)
    except ValueError:
        good = False
    return None if good else f"arguments of {function['name']} that are no JSON object"


def messages_fault(body: Body, thought: Body) -> str | None:
    """What is wrong with a request of Messages.

    Args:
        thought: the one thinking block of this upstream; every turn that called a tool began with it.
    """
    return next(_messages_faults(body["messages"], thought), None)


def _messages_faults(messages: Sequence[Body], thought: Body) -> Iterator[str]:
    open_calls: set[str] = set()
    for at, message in enumerate(messages):
        blocks = message["content"]
        if message["role"] == "system":  # Claude Code's own, between turns
            continue
        if message["role"] not in ("user", "assistant"):
            yield f"messages[{at}]: unknown role {message['role']!r}"
        if isinstance(blocks, str):
            blocks = [{"type": "text", "text": blocks}]
        results = {block["tool_use_id"] for block in blocks if block["type"] == "tool_result"}
        if results != open_calls:
            yield f"messages[{at}]: results of {sorted(results)} where {sorted(open_calls)} were called"
        open_calls = {block["id"] for block in blocks if block["type"] == "tool_use"}
        if open_calls and without_mark(blocks[0]) != thought:
            yield f"messages[{at}]: a turn with tool calls has to begin with its thinking, unchanged"
    if open_calls:
        yield f"the last tool calls are not answered: {', '.join(sorted(open_calls))}"


def without_mark(block: Body) -> Body:
    """The block without the mark for the prompt cache, which a client may put anywhere."""
    return {name: value for name, value in block.items() if name != "cache_control"}
