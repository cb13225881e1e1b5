"""What MiniMax wants of a request beside what the caller wrote; above all its own reasoning back. Pure, no I/O.

Sources: platform.minimax.io, "Text Generation (OpenAI compatible)" (`reasoning_split`, "Interleaved thinking") and
"Text Generation (Anthropic compatible)" (`thinking`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from llmgate_core import Body

from .reasoning import CLOSE, OPEN, words


def asked_in_chat(body: Body, split: bool) -> Body:
    """A chat request as MiniMax wants it; the same body if it is so already.

    Args:
        split: whether reasoning shall come, and is sent back, apart from the content.
    """
    changes: dict[str, Any] = {}
    if split and "reasoning_split" not in body:
        changes["reasoning_split"] = True
    if _REPLAY.search(body.raw("messages") or b""):
        changes |= _each(body, "messages", lambda message: _replayed(message, split))
    changes |= _each(body, "tools", _with_parameters)
    effort, budget = _member(body, "reasoning_effort"), _member(body, "thinking_budget")
    changes |= _switched(_member(body, "thinking"), effort if budget is None else budget)
    return body.splice(changes, remove=("reasoning_effort", "thinking_budget"))


def asked_in_messages(body: Body) -> Body:
    """A Messages request as MiniMax wants it; the same body if it is so already. Thinking goes back as it came."""
    changes = _each(body, "tools", _with_schema)
    if _SYSTEM.search(body.raw("messages") or b""):
        changes |= _each(body, "messages", _without_system)
    thinking, config = _member(body, "thinking"), _member(body, "output_config")
    effort = config.get("effort") if isinstance(config, dict) and thinking is None else None
    return body.splice(changes | _switched(thinking, effort))


_REPLAY = re.compile(rb'think|"reasoning')
_SYSTEM = re.compile(rb'"system"')


def _each(body: Body, name: str, mend: Callable[[Any], Any]) -> dict[str, Any]:
    """The member `name` with every item mended, for a splice; empty where nothing needs it."""
    given = _member(body, name)
    wanted = [mend(item) for item in given] if isinstance(given, list) else given
    return {} if wanted == given else {name: wanted}


def _member(body: Body, name: str) -> Any:
    """A member's value; None where a number in it is one that no float holds: the API's to judge."""
    try:
        return body.get(name)
    except ValueError:
        return None


# --- thinking -------------------------------------------------------------------------------------------------------


_OFF = ("none", "disabled", 0)


def _switched(thinking: Any, wish: Any) -> dict[str, Any]:
    """MiniMax knows thinking as on (`adaptive`) and off alone: any effort or budget but none switches it on.

    Args:
        thinking: what stands in the request; of other APIs it may be `enabled`, with a budget.
        wish: an effort or a budget; it is the selector's where there is one, and so comes first.
    """
    if wish is not None:
        return {"thinking": {"type": "disabled" if wish in _OFF else "adaptive"}}
    enabled = isinstance(thinking, dict) and thinking.get("type") == "enabled"
    return {"thinking": {"type": "adaptive"}} if enabled else {}


def _replayed(message: Any, split: bool) -> Any:
    """An assistant's turn with its reasoning where MiniMax looks for it, so that it goes on from there."""
    if not isinstance(message, dict) or message.get("role") != "assistant":
        return message
    content = message.get("content")
    thought, text = _parted(content) if split and isinstance(content, str) else ("", content)
    said = words(message.get("reasoning_content")) or words(message.get("reasoning")) or thought
    if not said:
        return message
    kept = {name: value for name, value in message.items() if name not in ("reasoning_content", "reasoning")}
    if not message.get("reasoning_details"):
        kept["reasoning_details"] = [{**_SEGMENT, "text": said}]
    return {**kept, "content": text} if "content" in message else kept


_SEGMENT = {"type": "reasoning.text", "id": "reasoning-text-1", "format": "MiniMax-response-v1", "index": 0}


def _parted(content: str) -> tuple[str, str]:
    """Reasoning and text; a tag that is not closed is text."""
    begun = content.lstrip()
    thought, close, rest = begun.removeprefix(OPEN).partition(CLOSE)
    return (thought.strip(), rest.lstrip()) if begun.startswith(OPEN) and close else ("", content)


# --- messages and tools ---------------------------------------------------------------------------------------------


def _without_system(message: Any) -> Any:
    """A message of the system's between the others as a reminder in the user's name: the API names no such role.

    Claude Code sends them, behind the user's turn.
    """
    if not isinstance(message, dict) or message.get("role") != "system":
        return message
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "role": "user", "content": _reminder(content)}
    blocks = [_reminding(block) for block in content] if isinstance(content, list) else content
    return {**message, "role": "user", "content": blocks}


def _reminding(block: Any) -> Any:
    text = block.get("text") if isinstance(block, dict) else None
    return {**block, "text": _reminder(text)} if isinstance(text, str) else block


def _reminder(text: str) -> str:
    return f"<system-reminder>\n{text}\n</system-reminder>"


_NOTHING: Mapping[str, Any] = {"type": "object", "properties": {}}


def _with_parameters(tool: Any) -> Any:
    """A function without parameters would be refused: "function parameters is empty (2013)"."""
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or function.get("parameters"):
        return tool
    return {**tool, "function": {**function, "parameters": _NOTHING}}


def _with_schema(tool: Any) -> Any:
    """The same over Messages; tools of a `type` of their own have no schema."""
    if not isinstance(tool, dict) or tool.get("type") not in (None, "custom") or tool.get("input_schema"):
        return tool
    return {**tool, "input_schema": _NOTHING}
