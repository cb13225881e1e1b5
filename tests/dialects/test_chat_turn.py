"""What is new in a chat request: which messages count, whose tool answered, and that the rest is not touched."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from llmgate_core.dialects.chat_turn import read_turn
from llmgate_core.dialects.turns import ToolResult, Turn
from llmgate_core.wire import Body


def body_of(messages: Any, **members: Any) -> Body:
    return Body.parse(json.dumps({"model": "m", "messages": messages, **members}).encode())


def turn(messages: Any, **members: Any) -> Turn | None:
    return read_turn(body_of(messages, **members), lambda _: True)


def calls(**tools: str) -> dict[str, Any]:
    made = [{"id": name, "type": "function", "function": {"name": tool}} for name, tool in tools.items()]
    return {"role": "assistant", "content": "I try.", "tool_calls": made}


def result(name: Any, content: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": name, "content": content}


def test_what_came_after_the_last_answer() -> None:
    messages = [
        {"role": "system", "content": "Be exact."},
        {"role": "user", "content": "first"},
        calls(old="Read"),
        result("old", "old text"),
        calls(a="Edit", b="Read"),
        result("b", "text"),
        result("a", [{"type": "text", "text": "line 1"}, {"type": "image_url", "image_url": {}}, {"text": "line 2"}]),
        {"role": "user", "content": "second"},
        {"role": "user", "content": "third"},
    ]
    assert turn(messages) == Turn((ToolResult("Read", "text"), ToolResult("Edit", "line 1\nline 2")), "third", "I try.")


def test_the_user_counts_only_where_no_tools_are_offered() -> None:
    messages = [{"role": "assistant", "content": ["a", "b"]}, {"role": "user", "content": "hi"}]
    assert turn(messages) == Turn((), "hi", "a\nb")
    for member in ("tools", "functions"):
        assert turn(messages, **{member: []}) == turn(messages, **{member: None}) == Turn((), "hi", "a\nb")
        assert turn(messages, **{member: [{"name": "f"}]}) == Turn((), None, "a\nb")


def test_a_conversation_that_begins() -> None:
    assert turn([{"role": "user", "content": "hi"}]) == Turn((), "hi", "")


@pytest.mark.parametrize("messages", [None, {}, "x", [], [calls(a="Edit")], [result("a", "x"), calls(a="Edit")]])
def test_no_news(messages: Any) -> None:
    assert turn(messages) is None
    assert read_turn(Body(b"{}"), lambda _: True) is None


@pytest.mark.parametrize("name", [None, "", 5, ["a"], "other"])
def test_a_result_whose_tool_is_not_known_is_left_out(name: Any) -> None:
    assert turn([calls(a="Edit"), result(name, "x")]) == Turn((), None, "I try.")


@pytest.mark.parametrize(
    "made",
    [None, {}, "x", [None], [{}], [{"id": "a"}], [{"id": "a", "function": []}], [{"id": "a", "function": {"name": 1}}]],
)
def test_calls_that_are_none(made: Any) -> None:
    messages = [{"role": "assistant", "tool_calls": made}, result("a", "x")]
    assert turn(messages) == Turn((), None, "")


def test_only_the_news_are_looked_at() -> None:
    seen: list[bytes] = []

    def is_worth_it(message: bytes) -> bool:
        seen.append(message)
        return False

    news = [result("a", "x"), {"role": "user", "content": "y"}]
    body = body_of([{"role": "user", "content": "old"}, calls(a="Edit"), *news])
    assert read_turn(body, is_worth_it) is None
    assert [json.loads(message) for message in seen] == news[::-1]


def one_call_each(count: int) -> list[str]:
    return [f"c{number}" for number in range(count)]


def strangers(count: int) -> list[str]:
    return [f"r{number}" for number in range(count)]


def all_but_one(count: int) -> list[str]:
    return [*one_call_each(count)[: count // 2], "nobody"]


def seconds(results: list[str], count: int) -> float:
    """Of the processor, so that a busy machine counts less; half of the calls are in the last message."""
    history = [calls(**{name: "Edit"}) for name in one_call_each(count)[count // 2 :]]
    last = calls(**dict.fromkeys(one_call_each(count)[: count // 2], "Edit"))
    body = body_of([*history, last, *(result(name, "x") for name in results)])
    taken = []
    for _ in range(3):
        started = time.process_time()
        assert read_turn(body, lambda _: True)
        taken.append(time.process_time() - started)
    return min(taken)


@pytest.mark.parametrize("made", [one_call_each, strangers, all_but_one])
def test_time_grows_with_the_conversation_and_not_faster(made: Callable[[int], list[str]]) -> None:
    small, large = seconds(made(500), 500), seconds(made(32_000), 32_000)
    assert large < 64 * 6 * small, f"64 times the messages took {large / small:.0f} times as long"
