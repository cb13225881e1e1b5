"""What a Messages request tells the model that it does not know yet: everything after its own last message.

Results of tools stand in messages of the user's. Claude Code also sends messages with the role `system` between the
others; they are neither the user's words nor a tool's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..wire import Body
from .turns import Turn, turn_in_messages


def read_turn(body: Body, is_worth_it: Callable[[bytes], bool]) -> Turn | None:
    """The news in a request's body; None if there are none that are worth the reading.

    What is not as Anthropic's API reference has it is left out: it is the upstream's to judge.

    Args:
        is_worth_it: as in `turn_in_messages`.
    """
    return turn_in_messages(body, is_worth_it, _answers, _calls, ("tools", "mcp_servers"))


def _answers(message: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    for block in _blocks(message, "tool_result") if message.get("role") == "user" else ():
        yield block.get("tool_use_id"), block.get("content")


def _calls(message: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for block in _blocks(message, "tool_use") if message.get("role") == "assistant" else ():
        if isinstance(block.get("id"), str) and isinstance(block.get("name"), str):
            yield block["id"], block["name"]


def _blocks(message: dict[str, Any], sort: str) -> list[dict[str, Any]]:
    content = message.get("content")
    blocks = content if isinstance(content, list) else []
    return [block for block in blocks if isinstance(block, dict) and block.get("type") == sort]
