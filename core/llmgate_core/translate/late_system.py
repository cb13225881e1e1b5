"""What a system message is made of that does not stand at the beginning.

Claude Code puts `role: "system"` behind the user's turn. The chat templates of many open models, as vLLM and llama.cpp
run them, refuse a system message anywhere but in the first place, and older models of Anthropic's know no such role at
all. So it is told at its place in the user's message, in the tags that coding agents use for such reminders.
"""

from __future__ import annotations

from typing import Any

from .losses import Losses


def reminder(text: str) -> str:
    """The text as it stands in a message of the user's."""
    return f"<system-reminder>\n{text}\n</system-reminder>"


def with_one_system(messages: list[dict[str, Any]], losses: Losses, name: str) -> list[dict[str, Any]]:
    """Chat messages with one system message at most, and that the first.

    Args:
        name: the loss that is told if one has to speak as the user.
    """
    count = 0
    while count < len(messages) and messages[count]["role"] == "system" and isinstance(messages[count]["content"], str):
        count += 1
    said: list[dict[str, Any]] = []
    after_reminder = False
    if count:
        said.append({"role": "system", "content": "\n\n".join(message["content"] for message in messages[:count])})
    for message in messages[count:]:
        is_late = message["role"] == "system"
        told = {"role": "user", "content": _reminders(message["content"])} if is_late else message
        if is_late:
            losses.add(name)
        joins = is_late or after_reminder
        if joins and told["role"] == "user" and said and said[-1]["role"] == "user":
            said[-1] = {**said[-1], "content": _joined(said[-1]["content"], told["content"])}
        else:
            said.append(told)
        after_reminder = is_late
    return said


def _reminders(content: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return reminder(content)
    return [{**part, "text": reminder(part["text"])} if part["type"] == "text" else part for part in content]


def _joined(before: str | list[dict[str, Any]], content: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    if isinstance(before, str) and isinstance(content, str):
        return f"{before}\n\n{content}"
    return [*_parts(before), *_parts(content)]


def _parts(content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
