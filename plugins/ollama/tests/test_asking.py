"""What a chat request becomes, and what is refused because Ollama has no words for it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmgate_core import Body, RequestError
from llmgate_ollama.asking import asked
from llmgate_ollama.simulator import check_request

USER = {"role": "user", "content": "Hi"}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"北京"}'}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


def request(num_ctx: int | None = None, keep_alive: str | None = None, **members: Any) -> dict[str, Any]:
    body = Body.of({"model": "qwen3:8b", "messages": [USER], **members})
    wanted = asked(body, stream=False, num_ctx=num_ctx, keep_alive=keep_alive).data
    check_request(wanted)
    return wanted


def messages(*given: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = request(messages=list(given))["messages"]
    return found


def test_a_plain_request() -> None:
    assert request() == {"model": "qwen3:8b", "messages": [USER], "stream": False}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"temperature": 0.2, "top_k": 5, "seed": None}, {"options": {"temperature": 0.2, "top_k": 5}}),
        ({"max_tokens": 7}, {"options": {"num_predict": 7}}),
        ({"max_completion_tokens": 8, "max_tokens": 7}, {"options": {"num_predict": 8}}),
        ({"num_predict": 99}, {"options": {"num_predict": 99}}),
        ({"max_tokens": 2, "num_predict": 99}, {"options": {"num_predict": 2}}),
        ({"max_tokens": 2, "options": {"num_predict": 99}}, {"options": {"num_predict": 2}}),
        ({"max_tokens": 2, "Options": {"num_predict": 99}}, {"options": {"num_predict": 2}}),
        ({"max_completion_tokens": 2, "num_predict": -1}, {"options": {"num_predict": 2}}),
        ({"max_tokens": 2, "options": {"num_predict": 0}}, {"options": {"num_predict": 2}}),
        ({"max_tokens": 2, "options": {"num_predict": "99"}}, {"options": {"num_predict": 2}}),
        ({"max_tokens": 99, "num_predict": 2}, {"options": {"num_predict": 2}}),
        ({"max_tokens": -1, "num_predict": 2}, {"options": {"num_predict": 2}}),
        ({"stop": "x"}, {"options": {"stop": ["x"]}}),
        ({"stop": ["x", "y"]}, {"options": {"stop": ["x", "y"]}}),
        (
            {"options": {"temperature": 1, "mirostat": 1}, "temperature": 0},
            {"options": {"temperature": 1, "mirostat": 1}},
        ),
        ({"response_format": {"type": "json_object"}}, {"format": "json"}),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}}, {"format": SCHEMA}),
        ({"response_format": {"type": "text"}}, {}),
        ({"reasoning_effort": "high"}, {"think": "high"}),
        ({"reasoning_effort": "none"}, {"think": False}),
        ({"reasoning_effort": "low", "think": True}, {"think": True}),
        ({"keep_alive": 0, "x_unknown": [1]}, {"keep_alive": 0, "x_unknown": [1]}),
        ({"stream_options": {"include_usage": True}, "n": 1, "tool_choice": "auto"}, {}),
        ({"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "none"}, {}),
    ],
)
def test_members(given: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert request(**given) == {"model": "qwen3:8b", "messages": [USER], "stream": False, **wanted}


def test_what_is_configured_gives_way_to_the_request() -> None:
    wanted = {**request(), "options": {"num_ctx": 8192}, "keep_alive": "5m"}
    assert request(num_ctx=8192, keep_alive="5m") == wanted
    own = asked(Body.of({"messages": [], "num_ctx": 1, "keep_alive": 0}), stream=True, num_ctx=2, keep_alive="5m").data
    assert (own["options"], own["keep_alive"], own["stream"]) == ({"num_ctx": 1}, 0, True)


def test_tools_get_a_schema() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
    bare = {"type": "function", "function": {"name": "g"}}
    found = request(tools=[tool, bare])["tools"]
    assert found[0] == tool
    assert found[1]["function"]["parameters"] == {"type": "object", "properties": {}}


def test_a_conversation_with_a_tool_and_thinking() -> None:
    turn = {"role": "assistant", "content": None, "reasoning_content": "想", "tool_calls": [CALL]}
    result = {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "22 °C"}]}
    assert messages({"role": "developer", "content": "Be brief."}, USER, turn, result) == [
        {"role": "system", "content": "Be brief."},
        USER,
        {
            "role": "assistant",
            "content": "",
            "thinking": "想",
            "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"city": "北京"}}}],
        },
        {"role": "tool", "content": "22 °C", "tool_name": "weather"},
    ]


def test_images_are_taken_from_data_urls() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}
    parts = [{"type": "text", "text": "a"}, image, {"type": "text", "text": "b"}]
    assert messages({"role": "user", "content": parts}) == [{"role": "user", "content": "a\nb", "images": ["QUJD"]}]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"n": 2}, "`n` must be 1"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"messages": None}, "array of objects"),
        ({"messages": ["a"]}, "array of objects"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "text and images"),
        ({"messages": [{"role": "user", "content": 7}]}, "text and images"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a/b"}}]}]},
            "data URL",
        ),
        *(
            (
                {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": bad}}]}]},
                "JSON",
            )
            for bad in ("{", "[1]", '{"a":NaN}', {"a": 1})
        ),
        ({"messages": [{"role": "assistant", "tool_calls": ["f"]}]}, "JSON"),
    ],
)
def test_what_cannot_be_said_is_refused(members: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words) as refused:
        asked(Body.of({"model": "m", "messages": [USER], **members}), stream=True)
    assert refused.value.status == 400


def test_a_number_that_no_float_holds_is_refused() -> None:
    with pytest.raises(RequestError, match="number out of range"):
        asked(Body.parse(b'{"messages":[],"temperature":1e999}'), stream=True)


def test_the_callers_body_stays_as_it_is() -> None:
    body = Body.of({"messages": [{"role": "assistant", "tool_calls": [CALL]}], "stop": "x"})
    before = json.dumps(body.data)
    asked(body, stream=True)
    assert json.dumps(body.data) == before
