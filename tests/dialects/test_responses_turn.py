"""What is new in a Responses request: which items count, whose tool answered, and that the rest is not touched."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgate_core.dialects.responses_turn import read_turn
from llmgate_core.dialects.turns import ToolResult, Turn
from llmgate_core.wire import Body


def body_of(items: Any, **members: Any) -> Body:
    return Body.parse(json.dumps({"model": "m", "input": items, **members}).encode())


def turn(items: Any, **members: Any) -> Turn | None:
    return read_turn(body_of(items, **members), lambda _: True)


def user(*texts: str, role: str = "user") -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text} for text in texts]}


def said(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def call(id: Any, name: Any, sort: str = "function_call", **members: Any) -> dict[str, Any]:
    return {"type": sort, "id": f"item_{id}", "call_id": id, "name": name, "arguments": "{}", **members}


def output(id: Any, content: Any, sort: str = "function_call_output", **members: Any) -> dict[str, Any]:
    return {"type": sort, "call_id": id, "output": content, **members}


THOUGHT: dict[str, Any] = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"}
PATCH = "custom_tool_call"
TOOLS = [{"type": "function", "name": "shell"}]


def test_what_came_after_the_model_s_last_item() -> None:
    items = [
        user("Be exact.", role="developer"),
        user("first"),
        *(THOUGHT, call("old", "shell"), output("old", "old text")),
        *(THOUGHT, said("I"), said("try."), call("a", "apply_patch", PATCH), call("b", "shell")),
        output("b", [{"type": "input_text", "text": "line 1"}, {"type": "input_image"}, {"text": "line 2"}]),
        output("a", "failed", f"{PATCH}_output"),
        user("Mind the date.", role="developer"),
        user("second"),
        user("third", "fourth"),
    ]
    results = (ToolResult("shell", "line 1\nline 2"), ToolResult("apply_patch", "failed"))
    assert turn(items) == Turn(results, "third\nfourth", "I\ntry.")
    assert turn(items, tools=TOOLS) == Turn(results, None, "I\ntry.")


@pytest.mark.parametrize(
    ("made", "answer", "name"),
    [
        (call("a", "apply_patch"), output("a", "x"), "apply_patch"),
        (call("a", "apply_patch", PATCH), output("a", "x", f"{PATCH}_output"), "apply_patch"),
        (call("a", "apply_patch", PATCH), output("a", "x"), "apply_patch"),
        (call("a", "edit", namespace="mcp__files__"), output("a", "x"), "edit"),
        (call("a", "edit", PATCH, namespace="files"), output("a", "x", f"{PATCH}_output"), "edit"),
        (call("a", None, "local_shell_call"), output("a", "x"), "local_shell"),
        (call("a", None, "local_shell_call"), output("a", "x", "local_shell_call_output"), "local_shell"),
        (
            call("a", None, "local_shell_call"),
            {"type": "local_shell_call_output", "id": "a", "output": "x"},
            "local_shell",
        ),
        (
            call("a", None, "local_shell_call"),
            {"type": "local_shell_call_output", "id": "item_a", "output": "x"},
            "local_shell",
        ),
        (call("a", None, "apply_patch_call"), output("a", "x", "apply_patch_call_output"), "apply_patch"),
        (call("b", "shell"), output("a", "x", f"{PATCH}_output", name="apply_patch"), "apply_patch"),
        (call("a", "shell"), output("a", "x", name="apply_patch"), "shell"),
    ],
)
def test_whose_tool_answered(made: Any, answer: Any, name: str) -> None:
    assert turn([made, answer]) == Turn((ToolResult(name, "x"),), None, "")


@pytest.mark.parametrize(
    "after",
    [
        *(said("I see."), THOUGHT, call("b", "shell"), {"type": "web_search_call", "id": "ws"}),
        *({"role": "assistant", "content": "I see."}, {"type": "compaction", "encrypted_content": "x"}),
        *({"id": "msg_1"}, {"type": "item_reference", "id": "msg_1"}, {"type": "acme.own"}, {"type": 5}, {}),
    ],
)
def test_an_output_before_an_item_of_the_model_s_is_old(after: Any) -> None:
    assert turn([call("a", "shell"), output("a", "x"), after]) is None
    found = turn([call("a", "shell"), output("a", "x"), after, user("go on")], tools=TOOLS)
    assert found is not None
    assert found.results == ()


@pytest.mark.parametrize(
    "after",
    [
        *(
            user("go on"),
            user("Mind.", role="developer"),
            user("Mind.", role="system"),
            {"role": "user", "content": ""},
        ),
        *({"type": "additional_tools", "tools": []}, {"type": "tool_search_output", "tools": []}),
        *({"type": "mcp_approval_response", "approve": True}, {"type": "compaction_trigger"}),
    ],
)
def test_an_output_before_what_else_the_model_is_told_is_new(after: Any) -> None:
    found = turn([call("a", "shell"), output("a", "x"), after])
    assert found is not None
    assert found.results == (ToolResult("shell", "x"),)


def test_the_user_counts_only_where_no_tools_are_offered() -> None:
    items: list[Any] = [{"role": "assistant", "content": "a"}, {"role": "user", "content": "hi"}]
    assert turn(items) == turn(items, tools=[]) == turn(items, tools=None) == Turn((), "hi", "a")
    assert turn(items, tools=TOOLS) == Turn((), None, "a")
    assert turn([{"type": "additional_tools", "tools": TOOLS}, *items]) == Turn((), None, "a")
    asked = 'What is {"type": "additional_tools"}?'
    assert turn([items[0], user(asked)]) == Turn((), asked, "a")


def test_a_conversation_that_begins() -> None:
    assert turn("hi") == turn([user("hi")]) == Turn((), "hi", "")
    assert turn("hi", tools=TOOLS) == Turn((), None, "")
    assert read_turn(body_of("hi"), lambda _: False) is None


@pytest.mark.parametrize("items", [None, {}, 5, [], [call("a", "shell")], [output("a", "x"), call("a", "shell")]])
def test_no_news(items: Any) -> None:
    assert turn(items) is None
    assert read_turn(Body(b"{}"), lambda _: True) is None


@pytest.mark.parametrize("id", [None, "", 5, ["a"], "other"])
def test_an_output_whose_tool_is_not_known_is_left_out(id: Any) -> None:
    assert turn([call("a", "shell"), output(id, "x")]) == Turn((), None, "")
    assert turn([output(id, "x", name=5)], previous_response_id="resp_1") == Turn((), None, "")


@pytest.mark.parametrize(
    "made", [call("a", None), call("a", 1), call(None, "shell"), call("a", "shell", "mcp_list_tools")]
)
def test_calls_that_are_none(made: Any) -> None:
    assert turn([made, output("a", "x")]) == Turn((), None, "")


def test_an_id_that_was_used_again_belongs_to_the_newest_call() -> None:
    items = [call("a", "apply_patch"), output("a", "x"), call("a", "shell"), output("a", "y")]
    assert turn(items) == Turn((ToolResult("shell", "y"),), None, "")


def test_only_the_news_are_looked_at() -> None:
    seen: list[bytes] = []

    def is_worth_it(item: bytes) -> bool:
        seen.append(item)
        return False

    news = [output("a", "x"), user("y")]
    assert read_turn(body_of([user("old"), call("a", "shell"), *news]), is_worth_it) is None
    assert [json.loads(item) for item in seen] == news[::-1]


# --- properties -----------------------------------------------------------------------------------------------------

SORTS = ["message", "reasoning", "function_call", PATCH, "local_shell_call", "function_call_output", f"{PATCH}_output"]
ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["a", "assistant", "user", *SORTS]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
ITEM = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from([*SORTS, "local_shell_call_output"]) | ANY,
        "role": st.sampled_from(["user", "assistant", "developer"]) | ANY,
        **dict.fromkeys(("id", "call_id", "name", "content", "output"), ANY),
    },
)


@given(items=st.lists(ITEM | ANY, max_size=6) | ANY, tools=ANY)
def test_nothing_raises(items: Any, tools: Any) -> None:
    found = turn(items, tools=tools)
    assert found is None or all(isinstance(one.tool, str) and isinstance(one.text, str) for one in found.results)


@pytest.mark.parametrize("raw", [b'{"role": "user", "x": 1e999}', b'{"type": "x_output", "x": 1e999}'])
def test_an_item_that_cannot_be_decoded_is_left_out(raw: bytes) -> None:
    body = Body.parse(b'{"input": [%b, %b]}' % (json.dumps(call("a", "shell")).encode(), raw))
    assert read_turn(body, lambda _: True) == Turn((), None, "")


@pytest.mark.parametrize("raw", [b'{"type": 1e999}', b'"x"', b"[" * 500 + b"]" * 500])
def test_what_cannot_even_be_looked_at_is_not_news(raw: bytes) -> None:
    assert read_turn(Body(b'{"input": [%b]}' % raw), lambda _: True) is None


def seconds(count: int, *, alternate: bool, letter: str) -> float:
    """Of the processor, so that a busy machine counts less."""
    history = [call(f"c{number}", "shell") for number in range(count)]
    if alternate:
        history = [item for one in history for item in (one, output(one["call_id"], "x"))]
    body = body_of([*history, said("I try."), *(output(f"{letter}{number}", "x") for number in range(count))])
    taken = []
    for _ in range(3):
        started = time.process_time()
        assert read_turn(body, lambda _: True)
        taken.append(time.process_time() - started)
    return min(taken)


@pytest.mark.parametrize("alternate", [False, True])
@pytest.mark.parametrize("letter", ["c", "r"])
def test_time_grows_with_the_conversation_and_not_faster(alternate: bool, letter: str) -> None:
    small, large = (seconds(count, alternate=alternate, letter=letter) for count in (500, 16_000))
    assert large < 32 * 6 * small, f"32 times the items took {large / small:.0f} times as long"
