"""What a Messages request tells the model that it does not know yet: everything after its own last message.

Results of tools stand in messages of the user's. Claude Code also sends messages with the role `system` between the
others; they are neither the user's words nor a tool's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from ..wire import Body, last_first
from .turns import ToolResult, Turn, decoded, has_any, member, text_of, tool_names


def read_turn(body: Body, is_worth_it: Callable[[bytes], bool]) -> Turn | None:
    """The news in a request's body; None if there are none that are worth the reading.

    What is not as Anthropic's API reference has it is left out: it is the upstream's to judge.

    Args:
        is_worth_it: told the JSON text of each new message; if all are refused, nothing is decoded.
    """
    raw = body.raw("messages") or b""
    if not raw.startswith(b"["):
        return None
    news: list[bytes] = []
    answered = b"{}"
    earlier = last_first(raw)
    for message in earlier:
        if member(message, "role") == "assistant":
            answered = message
            break
        news.append(message)
    if not any(map(is_worth_it, news)):
        return None
    return _turn(decoded(reversed(news)), answered, earlier, has_tools=has_any(body, "tools", "mcp_servers"))


def _turn(news: list[dict[str, Any]], answered: bytes, earlier: Iterator[bytes], *, has_tools: bool) -> Turn:
    said = [message for message in news if message.get("role") == "user"]
    answers = [(block.get("tool_use_id"), block) for message in said for block in _blocks(message, "tool_result")]
    wanted = {call for call, _ in answers if isinstance(call, str)}
    names = tool_names(wanted, chain([answered], earlier), _calls)
    (assistant,) = decoded([answered]) or [{}]
    return Turn(
        tuple(
            ToolResult(names[call], text_of(block.get("content")))
            for call, block in answers
            if isinstance(call, str) and call in names
        ),
        None if has_tools or not said else text_of(said[-1].get("content")),
        text_of(assistant.get("content")),
    )


def _calls(message: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for block in _blocks(message, "tool_use") if message.get("role") == "assistant" else ():
        if isinstance(block.get("id"), str) and isinstance(block.get("name"), str):
            yield block["id"], block["name"]


def _blocks(message: dict[str, Any], sort: str) -> list[dict[str, Any]]:
    content = message.get("content")
    blocks = content if isinstance(content, list) else []
    return [block for block in blocks if isinstance(block, dict) and block.get("type") == sort]
