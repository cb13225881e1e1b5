"""The shape that the API demands of a conversation: met always, and nothing else is touched."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgate_core import Body
from llmgate_qwen_oauth.messages import reshape, shaped

MARK = {"type": "ephemeral"}
EMPTY = {"role": "system", "content": [{"type": "text", "text": "", "cache_control": MARK}]}
ONE = {"type": "text", "text": "one"}
WORDS = {"type": "text", "text": "你好"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}

texts = st.text(max_size=12)
text_parts = st.fixed_dictionaries(
    {"type": st.just("text"), "text": texts},
    optional={"cache_control": st.sampled_from([MARK, {"type": "other"}, None])},
)
parts = text_parts | st.just(IMAGE)
contents = st.none() | texts | st.lists(parts, max_size=3)
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool"])},
    optional={
        "content": contents,
        "name": texts,
        "tool_call_id": texts,
        "tool_calls": st.just([{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]),
        "reasoning_content": texts,
        "不认识": st.integers(),
    },
)
conversations = st.lists(messages, max_size=6)


def is_system(message: dict[str, Any]) -> bool:
    return message["role"] in ("system", "developer")


def meaning(content: Any) -> list[Any]:
    """What a content says, whichever way it is written; cache marks say nothing."""
    if not isinstance(content, list):
        return [{"type": "text", "text": content}] if content else []
    bare = [{key: value for key, value in part.items() if key != "cache_control"} for part in content]
    return [part for part in bare if part != {"type": "text", "text": ""}]


def meanings(conversation: list[dict[str, Any]]) -> list[Any]:
    return [{**message, "content": meaning(message.get("content"))} for message in conversation]


def body_of(conversation: Any, **more: Any) -> Body:
    return Body.parse(json.dumps({"model": "m", "messages": conversation, **more}).encode())


# --- properties -----------------------------------------------------------------------------------------------------


@given(conversations)
@settings(deadline=None)
def test_there_is_exactly_one_system_message_in_front_and_it_is_marked(conversation: list[dict[str, Any]]) -> None:
    first, *others = reshape(conversation)
    assert first["role"] == "system"
    assert not any(is_system(message) for message in others)
    assert isinstance(first["content"], list)
    assert any(part.get("cache_control") == MARK for part in first["content"])


@given(conversations)
@settings(deadline=None)
def test_the_system_messages_keep_their_words_and_their_order(conversation: list[dict[str, Any]]) -> None:
    said = [part for message in conversation if is_system(message) for part in meaning(message.get("content"))]
    assert meaning(reshape(conversation)[0]["content"]) == said


@given(conversations)
@settings(deadline=None)
def test_all_other_messages_keep_their_order_and_their_meaning(conversation: list[dict[str, Any]]) -> None:
    others = [message for message in conversation if not is_system(message)]
    assert meanings(reshape(conversation)[1:]) == meanings(others)


@given(conversations)
@settings(deadline=None)
def test_what_is_not_a_users_single_text_stays_as_it_is_written(conversation: list[dict[str, Any]]) -> None:
    others = [message for message in conversation if not is_system(message)]
    for before, after in zip(others, reshape(conversation)[1:], strict=True):
        if before["role"] != "user" or not isinstance(before.get("content"), list) or len(before["content"]) != 1:
            assert after == before


@given(conversations)
@settings(deadline=None)
def test_twice_is_once(conversation: list[dict[str, Any]]) -> None:
    once = shaped(body_of(conversation))
    assert shaped(once) is once


@given(conversations)
@settings(deadline=None)
def test_the_callers_own_values_are_not_changed(conversation: list[dict[str, Any]]) -> None:
    before = json.dumps(conversation)
    reshape(conversation)
    assert json.dumps(conversation) == before


# --- single cases ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conversation", "wanted"),
    [
        ([{"role": "user", "content": "hi"}], [EMPTY, {"role": "user", "content": "hi"}]),
        ([{"role": "system", "content": ""}], [EMPTY]),
        ([{"role": "system"}], [EMPTY]),
        ([{"role": "system", "content": []}], [EMPTY]),
        (
            [{"role": "developer", "content": "be brief", "name": "dev"}],
            [
                {
                    "role": "system",
                    "content": [{"type": "text", "text": "be brief", "cache_control": MARK}],
                    "name": "dev",
                }
            ],
        ),
        (
            [
                {"role": "system", "content": "one"},
                {"role": "user", "content": [WORDS]},
                {"role": "system", "content": [{"type": "text", "text": "two"}]},
                {"role": "user", "content": [WORDS, IMAGE]},
            ],
            [
                {
                    "role": "system",
                    "content": [ONE, {"type": "text", "text": "two", "cache_control": MARK}],
                },
                {"role": "user", "content": "你好"},
                {"role": "user", "content": [WORDS, IMAGE]},
            ],
        ),
        (
            [{"role": "system", "content": [{**WORDS, "cache_control": MARK}, {"type": "text", "text": "tail"}]}],
            [{"role": "system", "content": [{**WORDS, "cache_control": MARK}, {"type": "text", "text": "tail"}]}],
        ),
        (
            [{"role": "user", "content": [{**WORDS, "cache_control": MARK}]}],
            [EMPTY, {"role": "user", "content": [{**WORDS, "cache_control": MARK}]}],
        ),
    ],
    ids=lambda value: str(len(value)),
)
def test_the_shape(conversation: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    assert reshape(conversation) == wanted


def test_bytes_outside_of_the_messages_are_untouched() -> None:
    before = '{ "top_p":1e0,"messages" : [{"role":"user","content":"\\u4f60好"}] , "x":1.50, "x":{"a" :1e2}}'
    after = shaped(Body.parse(before.encode())).bytes.decode()
    head, tail = before.split('[{"role":"user","content":"\\u4f60好"}]')
    assert after.startswith(head)
    assert after.endswith(tail)
    assert json.loads(after)["messages"] == [EMPTY, {"role": "user", "content": "你好"}]


@pytest.mark.parametrize("spaces", ["", " ", "\n\t"])
def test_a_body_that_is_right_already_is_returned_as_it_is(spaces: str) -> None:
    right = json.dumps({"messages": [EMPTY, {"role": "user", "content": "hi"}]}, separators=(f",{spaces}", ":"))
    body = Body.parse(right.encode())
    assert shaped(body) is body


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b'{"messages":null}',
        b'{"messages":{}}',
        b'{"messages":["hi"]}',
        b'{"messages":[{"role":"user","content":"hi","x":1e999}]}',
    ],
)
def test_what_is_no_conversation_is_the_providers_to_refuse(data: bytes) -> None:
    body = Body.parse(data)
    assert shaped(body) is body
