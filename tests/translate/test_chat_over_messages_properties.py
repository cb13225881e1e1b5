"""Any chat request is said in Messages, or refused with the field's name; and nothing is lost without a word."""

from __future__ import annotations

import json
import re
from itertools import count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from llmgate_core.errors import RequestError
from llmgate_core.translate.chat_over_messages import LOSSES, ChatOverMessages, translate
from llmgate_core.wire import Body, encode

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
ROLES = ["system", "developer", "user", "assistant", "tool", "function"]
MEMBERS = (
    *("model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p"),
    *("top_k", "stop", "n", "modalities", "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"),
    *("response_format", "reasoning_effort", "thinking_budget", "user", "safety_identifier", "service_tier", "seed"),
)
OF_A_MESSAGE = (
    "role",
    "content",
    "name",
    "tool_calls",
    "tool_call_id",
    "function_call",
    "refusal",
    "reasoning_content",
)


def attempted(request: dict[str, Any]) -> ChatOverMessages | RequestError:
    try:
        return translate(Body(encode(request)))
    except RequestError as error:
        return error


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from(MEMBERS), ANYTHING, max_size=6),
    st.lists(st.dictionaries(st.sampled_from(OF_A_MESSAGE), st.sampled_from(ROLES) | ANYTHING, max_size=5), max_size=4),
)
def test_any_json_is_translated_or_refused(members: dict[str, Any], messages: list[dict[str, Any]]) -> None:
    found = attempted({"messages": messages, **members})
    if isinstance(found, RequestError):
        assert (found.status, bool(found.param)) == (400, True)
    else:
        assert set(found.lost) <= set(LOSSES)
        assert found.body.data["messages"]


# --- requests as they should be -----------------------------------------------------------------------------------

MARK = re.compile(r"mark-\d+-[a-z._]*-")
"""A text that stands nowhere else, so that one can see whether it has arrived; with the loss that it may fall under."""


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """A request that OpenAI would take, with a mark in every text that means anything."""
    numbers = count()

    def mark(loss: str = "") -> str:
        return f"mark-{next(numbers)}-{loss}-{draw(st.text(st.characters(codec='utf-8'), max_size=3))}"

    def maybe(name: str, value: Any) -> dict[str, Any]:
        return {name: value} if draw(st.booleans()) else {}

    def text_part() -> dict[str, Any]:
        return {
            "type": "text",
            "text": mark(),
            **maybe("cache_control", {"type": mark()}),
            **maybe("x_own", mark("messages.options")),
        }

    def image() -> dict[str, Any]:
        return {
            "type": "image_url",
            "image_url": {"url": f"https://{mark()}", **maybe("detail", mark("messages.image_detail"))},
        }

    def content(*sorts: Any) -> Any:
        if draw(st.booleans()):
            return mark()
        return [draw(st.sampled_from(sorts))() for _ in range(draw(st.integers(0, 3)))]

    def user() -> list[dict[str, Any]]:
        return [{"role": "user", "content": content(text_part, image), **maybe("name", mark("messages.name"))}]

    def system() -> list[dict[str, Any]]:
        return [{"role": draw(st.sampled_from(ROLES[:2])), "content": content(text_part)}]

    def answer() -> list[dict[str, Any]]:
        calls = [
            {
                "id": f"mark-{next(numbers)}--",
                "type": "function",
                "function": {"name": mark(), "arguments": json.dumps({mark(): mark()})},
            }
            for _ in range(draw(st.integers(0, 2)))
        ]
        said = {
            "role": "assistant",
            "content": content(text_part),
            **maybe("reasoning_content", mark("messages.reasoning")),
        }
        results = [{"role": "tool", "tool_call_id": call["id"], "content": content(text_part)} for call in calls]
        extra = {"refusal": mark()} if draw(st.booleans()) else {}
        return [{**said, **extra, **({"tool_calls": calls} if calls else {})}, *draw(st.permutations(results))]

    turns = [draw(st.sampled_from([user, system, answer]))() for _ in range(draw(st.integers(1, 6)))]
    function = {"name": mark(), "description": mark(), "parameters": {"type": "object", "title": mark()}}
    return {
        "model": mark(),
        "messages": [{"role": "user", "content": mark()}, *(message for turn in turns for message in turn)],
        **maybe("tools", [{"type": "function", "function": {**function, **maybe("strict", True)}}]),
        **maybe("stop", [mark()]),
        **maybe("user", mark("user")),
        **maybe("safety_identifier", mark()),
        **maybe("x_unknown", mark("members")),
        **maybe("metadata", {"a": mark("metadata")}),
        **maybe("service_tier", mark("service_tier")),
        **maybe("response_format", {"type": "json_schema", "json_schema": {"name": "n", "schema": {"title": mark()}}}),
    }


def marks(value: Any) -> set[str]:
    return set(MARK.findall(json.dumps(value, ensure_ascii=False)))


@settings(max_examples=150, deadline=None)
@given(requests())
def test_nothing_is_lost_without_a_word(request_: dict[str, Any]) -> None:
    found = translate(Body(encode(request_)))
    missing = marks(request_) - marks(found.body.data)
    assert {mark.split("-")[2] for mark in missing} <= set(found.lost)


@settings(max_examples=150, deadline=None)
@given(requests())
def test_the_conversation_is_as_messages_wants_it(request_: dict[str, Any]) -> None:
    messages = translate(Body(encode(request_))).body.data["messages"]
    roles = [message["role"] for message in messages]
    assert roles == [("user", "assistant")[place % 2] for place in range(len(roles))]
    calls: list[str] = []
    for message in messages:
        sorts = [block["type"] for block in message["content"]]
        assert sorts
        results = [block["tool_use_id"] for block in message["content"] if block["type"] == "tool_result"]
        assert results == calls
        assert sorts[: len(results)] == ["tool_result"] * len(results)
        calls = [block["id"] for block in message["content"] if block["type"] == "tool_use"]
        assert all(block["text"].strip() for block in message["content"] if block["type"] == "text")
    assert not calls


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(MEMBERS), ANYTHING)
def test_any_value_of_any_member_is_translated_or_refused(name: str, value: Any) -> None:
    """Beside a conversation that is fit, which a random one hardly ever is."""
    tool = {"type": "function", "function": {"name": "f"}}
    found = attempted({"messages": [{"role": "user", "content": "hi"}], "tools": [tool], name: value})
    if isinstance(found, RequestError):
        assert (found.status, bool(found.param)) == (400, True)
