"""What is new in a Messages request: which messages count, whose tool answered, and that the rest is not touched."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgate_core.dialects.messages_turn import read_turn
from llmgate_core.dialects.turns import ToolResult, Turn
from llmgate_core.wire import Body


def body_of(messages: Any, **members: Any) -> Body:
    return Body.parse(json.dumps({"model": "m", "max_tokens": 9, "messages": messages, **members}).encode())


def turn(messages: Any, **members: Any) -> Turn | None:
    return read_turn(body_of(messages, **members), lambda _: True)


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": [text(block) if isinstance(block, str) else block for block in blocks]}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def calls(**tools: str) -> dict[str, Any]:
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    made = [{"type": "tool_use", "id": id, "name": tool, "input": {}} for id, tool in tools.items()]
    return {"role": "assistant", "content": [thought, text("I try."), *made]}


def result(id: Any, content: Any, **members: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id, "content": content, **members}


def test_what_came_after_the_last_answer() -> None:
    picture = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    messages = [
        {"role": "user", "content": "first"},
        calls(old="Read"),
        user(result("old", "old text")),
        calls(a="Edit", b="Read"),
        user(result("b", "text"), result("a", [text("line 1"), picture, text("line 2")]), "beside"),
        user("second", picture, "third"),
    ]
    results = (ToolResult("Read", "text"), ToolResult("Edit", "line 1\nline 2"))
    assert turn(messages) == Turn(results, "second\nthird", "I try.")
    assert turn(messages, tools=[{"name": "Edit"}]) == Turn(results, None, "I try.")


@pytest.mark.parametrize("is_error", [True, False, None, "yes"])
def test_it_does_not_matter_whether_a_result_is_said_to_be_an_error(is_error: Any) -> None:
    found = turn([calls(a="Edit"), user(result("a", "x", is_error=is_error))])
    assert found is not None
    assert found.results == (ToolResult("Edit", "x"),)


def test_the_system_speaks_between_the_others() -> None:
    """Claude Code 2.1 sends such messages, before and behind results."""
    system = {"role": "system", "content": "The date has changed."}
    results = (ToolResult("Edit", "x"),)
    said = [calls(a="Edit"), system, user(result("a", "x")), system]
    assert turn(said, tools=[{"name": "Edit"}]) == Turn(results, None, "I try.")
    assert turn([calls(a="Edit"), system]) == Turn((), None, "I try.")
    fake = {"role": "system", "content": [result("a", "x")]}
    assert turn([calls(a="Edit"), fake]) == Turn((), None, "I try.")


def test_results_of_one_turn_in_several_messages() -> None:
    messages = [calls(a="Edit"), calls(b="Read"), user(result("a", "x")), user(result("b", "y"))]
    found = turn(messages)
    assert found is not None
    assert found.results == (ToolResult("Edit", "x"), ToolResult("Read", "y"))


def test_the_user_counts_only_where_no_tools_are_offered() -> None:
    messages = [{"role": "assistant", "content": "a"}, {"role": "user", "content": "hi"}]
    for member in ("tools", "mcp_servers"):
        assert turn(messages, **{member: []}) == turn(messages, **{member: None}) == Turn((), "hi", "a")
        assert turn(messages, **{member: [{"name": "f"}]}) == Turn((), None, "a")


def test_a_conversation_that_begins() -> None:
    assert turn([{"role": "user", "content": "hi"}]) == Turn((), "hi", "")
    assert turn([user()]) == Turn((), "", "")


@pytest.mark.parametrize("messages", [None, {}, "x", [], [calls(a="Edit")], [user(result("a", "x")), calls(a="Edit")]])
def test_no_news(messages: Any) -> None:
    assert turn(messages) is None
    assert read_turn(Body(b"{}"), lambda _: True) is None


@pytest.mark.parametrize("id", [None, "", 5, ["a"], "other"])
def test_a_result_whose_tool_is_not_known_is_left_out(id: Any) -> None:
    assert turn([calls(a="Edit"), user(result(id, "x"))]) == Turn((), "", "I try.")


USE = {"type": "tool_use", "id": "a", "name": "Edit"}


@pytest.mark.parametrize(
    "made",
    [
        *(None, {}, "x", [None], [{}], [{**USE, "name": 1}], [{**USE, "id": None}]),
        *([{**USE, "type": sort}] for sort in (None, "server_tool_use", ["tool_use"])),
    ],
)
def test_calls_that_are_none(made: Any) -> None:
    assert turn([{"role": "assistant", "content": made}, user(result("a", "z"))], tools=[{}]) == Turn(
        (), None, "x" if made == "x" else ""
    )


def test_a_call_that_the_user_has_faked() -> None:
    assert turn([calls(), user(USE, result("a", "x"))]) == Turn((), "", "I try.")


def test_an_id_that_was_used_again_belongs_to_the_newest_call() -> None:
    found = turn([calls(a="Edit"), user(result("a", "x")), calls(a="Read"), user(result("a", "y"))])
    assert found is not None
    assert found.results == (ToolResult("Read", "y"),)


def test_only_the_news_are_looked_at() -> None:
    seen: list[bytes] = []

    def is_worth_it(message: bytes) -> bool:
        seen.append(message)
        return False

    news = [user(result("a", "x")), user("y")]
    assert read_turn(body_of([user("old"), calls(a="Edit"), *news]), is_worth_it) is None
    assert [json.loads(message) for message in seen] == news[::-1]


# --- properties -----------------------------------------------------------------------------------------------------

ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["a", "assistant", "user", "text", "tool_use"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
BLOCK = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["tool_use", "tool_result", "text"]) | ANY,
        **dict.fromkeys(("id", "tool_use_id", "name", "content", "text"), ANY),
    },
)
MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "assistant", "system"]) | ANY,
        "content": st.lists(BLOCK | ANY, max_size=4) | ANY,
    },
)


@given(messages=st.lists(MESSAGE | ANY, max_size=5) | ANY, tools=ANY)
def test_nothing_raises(messages: Any, tools: Any) -> None:
    found = turn(messages, tools=tools)
    assert found is None or all(isinstance(one.text, str) for one in found.results)


@pytest.mark.parametrize("raw", [b'{"role": 1e999}', b'"x"', b"[" * 500 + b"]" * 500, b'{"role": "user", "x": 1e999}'])
def test_a_message_that_cannot_be_decoded_is_left_out(raw: bytes) -> None:
    body = Body.parse(b'{"messages": [%b, %b]}' % (json.dumps(calls(a="Edit")).encode(), raw))
    assert read_turn(body, lambda _: True) == Turn((), None, "I try.")


def seconds(ids: list[str], count: int) -> float:
    """Of the processor, so that a busy machine counts less; half of the calls are in the last message."""
    made = [f"c{number}" for number in range(count)]
    history = [calls(**{id: "Edit"}) for id in made[count // 2 :]]
    body = body_of(
        [*history, calls(**dict.fromkeys(made[: count // 2], "Edit")), user(*(result(id, "x") for id in ids))]
    )
    taken = []
    for _ in range(3):
        started = time.process_time()
        assert read_turn(body, lambda _: True)
        taken.append(time.process_time() - started)
    return min(taken)


@pytest.mark.parametrize("letter", ["c", "r"])
def test_time_grows_with_the_conversation_and_not_faster(letter: str) -> None:
    small, large = (seconds([f"{letter}{number}" for number in range(count)], count) for count in (500, 16_000))
    assert large < 32 * 6 * small, f"32 times the messages took {large / small:.0f} times as long"
