"""What the simulated model says, and in which of the shapes that MiniMax has been seen to say it."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SHAPES = (
    "documented", "think", "doubled", "alternating", "snapshots", "details", "closing_tag", "none", "old",
)  # fmt: skip
"""Of chat. `documented` is as the request asks; the others are what has been met, whatever it asks."""

MESSAGES_SHAPES = (
    "documented", "leaked", "leaked_chunks", "leaked_ahead", "leaked_twice", "leaked_tag", "null_usage", "none",
)  # fmt: skip
"""Of Messages."""

SHAPE_PREFIX = "shape-"
"""`shape-snapshots` is a model of the simulator alone: it answers in that shape, for people who want to see it."""

THOUGHT = "先看看用户说了什么，再决定怎么回答。The user wants an answer, so here is one."


@dataclass(frozen=True)
class Answer:
    """What the model says, and the shape in which it says it; `split` is chat's documented one with `reasoning_split`.

    Args:
        calls: of tools, as chat has them.
        piece: characters in one delta.
    """

    id: str
    model: str
    shape: str
    role: str
    thought: str
    text: str
    calls: list[dict[str, Any]]
    piece: int

    @property
    def finish_reason(self) -> str:
        """`tool_calls` or `stop`."""
        return "tool_calls" if self.calls else "stop"


def calls_of(functions: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A call of the first of these functions, which have `name` and `parameters`; every text is a city."""
    if not functions:
        return []
    properties = functions[0]["parameters"].get("properties") or {}
    arguments = {name: "杭州" for name, schema in properties.items() if schema.get("type") == "string"}
    called = {"name": functions[0]["name"], "arguments": json.dumps(arguments, ensure_ascii=False)}
    return [{"id": f"call_function_{secrets.token_hex(6)}_1", "type": "function", "function": called}]


def greeting(content: Any) -> str:
    """An echo of the user's words."""
    return f"你好！这里是模拟的 MiniMax。你说：「{text_of(content)}」"


def text_of(content: Any) -> str:
    """The text in a message's content."""
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content)
    return content or ""


def signature_of(thought: str) -> str:
    """The hex text with which a thinking block is signed."""
    return hashlib.sha256(f"simulated {thought}".encode()).hexdigest()


def pieces(text: str, size: int) -> list[str]:
    """The text in deltas."""
    return [text[at : at + size] for at in range(0, len(text), size)]


def event(value: Mapping[str, Any], name: str = "") -> bytes:
    """One event of a stream."""
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"
