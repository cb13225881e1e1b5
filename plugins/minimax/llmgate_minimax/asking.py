"""What MiniMax wants of a request beside what the caller wrote; above all its own reasoning back. Pure, no I/O.

Source: platform.minimax.io, "Text Generation (OpenAI compatible)": `reasoning_split`, and "Interleaved thinking".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from llmgate_core import Body

from .mending import CLOSE, OPEN, words


def asked(body: Body, split: bool) -> Body:
    """The request as MiniMax wants it; the same body if it is so already.

    Args:
        split: whether reasoning shall come, and is sent back, apart from the content.
    """
    changes: dict[str, Any] = {}
    if split and "reasoning_split" not in body:
        changes["reasoning_split"] = True
    if _REPLAY.search(body.raw("messages") or b""):
        changes |= _each(body, "messages", lambda message: _replayed(message, split))
    changes |= _each(body, "tools", _with_parameters)
    return body.splice(changes)


_REPLAY = re.compile(rb'think|"reasoning')


def _each(body: Body, name: str, mend: Callable[[Any], Any]) -> dict[str, Any]:
    """The member `name` with every item mended, for a splice; empty where nothing needs it."""
    try:
        given = body.get(name)
    except ValueError:  # a number in it that no float holds: the API's to judge
        return {}
    wanted = [mend(item) for item in given] if isinstance(given, list) else given
    return {} if wanted == given else {name: wanted}


def _replayed(message: Any, split: bool) -> Any:
    """An assistant's turn with its reasoning where MiniMax looks for it, so that it goes on from there."""
    if not isinstance(message, dict) or message.get("role") != "assistant":
        return message
    content = message.get("content")
    thought, text = _parted(content) if split and isinstance(content, str) else ("", content)
    said = words(message.get("reasoning_content")) or words(message.get("reasoning")) or thought
    kept = {name: value for name, value in message.items() if name not in ("reasoning_content", "reasoning")}
    if not said:
        return message
    if not message.get("reasoning_details"):
        kept["reasoning_details"] = [
            {
                "type": "reasoning.text",
                "id": "reasoning-text-1",
                "format": "MiniMax-response-v1",
                "index": 0,
                "text": said,
            }
        ]
    return {**kept, "content": text} if "content" in message else kept


def _parted(content: str) -> tuple[str, str]:
    """Reasoning and text; a tag that is not closed is text."""
    begun = content.lstrip()
    thought, close, rest = begun.removeprefix(OPEN).partition(CLOSE)
    return (thought.strip(), rest.lstrip()) if begun.startswith(OPEN) and close else ("", content)


def _with_parameters(tool: Any) -> Any:
    """A function without parameters would be refused: "function parameters is empty (2013)"."""
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or function.get("parameters"):
        return tool
    return {**tool, "function": {**function, "parameters": {"type": "object", "properties": {}}}}
