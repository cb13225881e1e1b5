"""A chat request as Messages has it: every rule by an example, in tests/translate/golden/.

After a change that is meant: LLMGATE_UPDATE_GOLDEN=1 pytest tests/translate; then read the difference.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from llmgate_core.connectors import ModelInfo
from llmgate_core.errors import ConnectorError, RequestError
from llmgate_core.translate.chat_over_messages import LOSSES, translate
from llmgate_core.wire import Body, encode

GOLDEN = Path(__file__).parent / "golden" / "chat_over_messages.json"
UPDATE = "LLMGATE_UPDATE_GOLDEN"

HI = {"role": "user", "content": "hi"}
PNG = "data:image/png;base64,iVBORw0KGgo="
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": {}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "世界"}'}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}


def says(*messages: Any, **members: Any) -> dict[str, Any]:
    return {"model": "m", "messages": list(messages), **members}


def asks(**members: Any) -> dict[str, Any]:
    return says(HI, **members)


def shows(*parts: Any) -> dict[str, Any]:
    return says({"role": "user", "content": list(parts)})


def schema(**members: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "n", "strict": True, **members}}


REQUESTS: dict[str, dict[str, Any]] = {
    # the conversation
    "a system prompt of several messages": says(
        {"role": "system", "content": "A"}, {"role": "developer", "content": [{"type": "text", "text": "B"}]}, HI
    ),
    "a later system message": says(HI, {"role": "system", "content": "Be brief."}, HI),
    "nothing but a system prompt": says({"role": "system", "content": "A"}),
    "a name": says({**HI, "name": "ada"}),
    "several messages of one role": says(HI, HI, {"role": "assistant", "content": "a"}, {**HI, "role": "assistant"}),
    "it begins with the assistant": says({"role": "assistant", "content": "Hello!"}, HI),
    "white space alone": says({"role": "user", "content": " \n"}, HI, {"role": "assistant", "content": "So: "}),
    "nothing said": says(HI, {"role": "assistant", "content": ""}, HI),
    "parts of a text": shows({"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}),
    "an image": shows({"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}),
    "an image on the web": shows({"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}),
    "a PDF": shows(
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}}
    ),
    "a text file": shows({"type": "file", "file": {"file_data": "data:text/plain;charset=utf-8;base64,R3LDvMOfZQ=="}}),
    "a hint for the cache": shows({"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}}),
    "unknown members of a part": shows({"type": "text", "text": "a", "x_own": 1}),
    "cache control of a message": says({**HI, "cache_control": {"type": "ephemeral"}}),
    "an earlier refusal": says(HI, {"role": "assistant", "content": None, "refusal": "No."}, HI),
    "an earlier refusal as a part": says(
        HI, {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, HI
    ),
    "earlier reasoning": says(HI, {"role": "assistant", "content": "a", "reasoning_content": "Hm."}, HI),
    "an earlier spoken answer": says(HI, {"role": "assistant", "content": "a", "audio": {"id": "audio_1"}}, HI),
    # calls
    "a call and its result": says(HI, CALLED, RESULT, tools=[WEATHER]),
    "results after what the user says": says(
        HI,
        {**CALLED, "content": "Let me see.", "tool_calls": [CALL, {**CALL, "id": "call_2"}]},
        HI,
        {**RESULT, "tool_call_id": "call_2", "content": [{"type": "text", "text": "rain"}]},
        RESULT,
        tools=[WEATHER],
    ),
    "a call without a result": says(HI, CALLED, HI, tools=[WEATHER]),
    "a call at the end": says(HI, CALLED, tools=[WEATHER]),
    "a result in two messages": says(HI, CALLED, RESULT, RESULT, tools=[WEATHER]),
    "an empty result": says(HI, CALLED, {**RESULT, "content": ""}, tools=[WEATHER]),
    "ids that are unfit, and the same twice": says(
        HI,
        {**CALLED, "tool_calls": [{**CALL, "id": "f.x:0"}]},
        {**RESULT, "tool_call_id": "f.x:0"},
        {**CALLED, "tool_calls": [{**CALL, "id": "f.x:0"}]},
        {**RESULT, "tool_call_id": "f.x:0"},
        tools=[WEATHER],
    ),
    "arguments that are none": says(
        HI,
        {**CALLED, "tool_calls": [{**CALL, "function": {"name": "weather", "arguments": '{"city": '}}]},
        RESULT,
        tools=[WEATHER],
    ),
    "no arguments": says(
        HI, {**CALLED, "tool_calls": [{**CALL, "function": {"name": "weather", "arguments": ""}}]}, RESULT
    ),
    "a call of a custom tool": says(
        HI,
        {**CALLED, "tool_calls": [{"id": "call_1", "type": "custom", "custom": {"name": "p", "input": "x"}}]},
        RESULT,
    ),
    "calls where no tool is offered": says(HI, CALLED, RESULT),
    "functions, as before there were tools": says(
        HI,
        {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": "{}"}},
        {"role": "function", "name": "weather", "content": "sunny"},
        functions=[{"name": "weather"}],
        function_call={"name": "weather"},
    ),
    # tools
    "a tool": asks(tools=[WEATHER]),
    "a strict tool": asks(tools=[{"type": "function", "function": {"name": "f", "strict": True, "x_own": 1}}]),
    "a tool with cache control": asks(tools=[{**WEATHER, "cache_control": {"type": "ephemeral"}}]),
    "a tool of another type": asks(tools=[{"type": "web_search"}, WEATHER]),
    **{f"tool_choice {word}": asks(tools=[WEATHER], tool_choice=word) for word in ("auto", "none", "required")},
    "tool_choice of a function": asks(
        tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "weather"}}
    ),
    "tool_choice of allowed tools": asks(
        tools=[WEATHER, {"type": "function", "function": {"name": "other"}}],
        tool_choice={"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [WEATHER]}},
    ),
    "one call at a time": asks(tools=[WEATHER], parallel_tool_calls=False),
    # how the answer is made
    "a length": asks(max_tokens=5),
    "two lengths": asks(max_tokens=5, max_completion_tokens=6.0),
    "sampling": asks(temperature=0.3, top_p=0.5, top_k=7),
    "a temperature above 1": asks(temperature=1.6),
    "one stop": asks(stop="END"),
    "several stops": asks(stop=["a", "", "b"]),
    **{f"reasoning_effort {word}": asks(reasoning_effort=word) for word in ("none", "minimal", "high", "xhigh")},
    "ends": asks(stop=["\n", "", "END\n"]),
    "a call is demanded where there are no tools": asks(tool_choice="required"),
    "a tool is demanded that is not offered": asks(
        tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "news"}}
    ),
    "no tool is allowed": asks(
        tools=[WEATHER], tool_choice={"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": []}}
    ),
    "thinking and sampling": asks(reasoning_effort="low", temperature=0.3, top_p=0.5, top_k=7),
    "thinking and harmless sampling": asks(reasoning_effort="low", temperature=1, top_p=0.97),
    "effort where a tool has to be called": asks(
        reasoning_effort="low", tools=[WEATHER], tool_choice="required", temperature=0.3
    ),
    "a budget": asks(thinking_budget=2000),
    "no budget": asks(thinking_budget=0),
    "a small budget": asks(thinking_budget=5),
    "a budget above the length": asks(thinking_budget=5000, max_tokens=2000),
    "a budget where there is no room": asks(thinking_budget=5000, max_tokens=1024),
    "a budget after a result": says(HI, CALLED, RESULT, tools=[WEATHER], thinking_budget=2000),
    "a JSON schema": asks(response_format=schema(schema={"type": "object"}, description="d"), reasoning_effort="low"),
    "a JSON object": asks(response_format={"type": "json_object"}),
    "a text": asks(response_format={"type": "text"}),
    # the rest
    "a user": asks(user="u"),
    "two users": asks(user="u", safety_identifier="s"),
    "the tiers that both know": asks(service_tier="default"),
    "another tier": asks(service_tier="flex"),
    "a stream": asks(stream=True, stream_options={"include_usage": True, "include_obfuscation": True}),
    "what says nothing": asks(
        n=1, logprobs=False, top_logprobs=0, presence_penalty=0, store=False, modalities=["text"], stop=None, tools=[]
    ),
    **{
        name: asks(**{name: value})
        for name, value in {
            "audio": {"voice": "v"},
            "frequency_penalty": 1,
            "logit_bias": {"5": 1},
            "logprobs": True,
            "metadata": {"a": "b"},
            "moderation": {"model": "o"},
            "prediction": {"type": "content", "content": "x"},
            "presence_penalty": -1,
            "prompt_cache_key": "k",
            "seed": 0,
            "store": True,
            "verbosity": "low",
            "web_search_options": {"search_context_size": "low"},
            "x_unknown": 1,
        }.items()
    },
}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "several answers": (asks(n=2), "n"),
    "a spoken answer": (asks(modalities=["text", "audio"]), "modalities"),
    "a sound": (shows({"type": "input_audio", "input_audio": {}}), "messages[0].content[0].type"),
    "an image of no address": (
        shows({"type": "image_url", "image_url": "ftp://x"}),
        "messages[0].content[0].image_url.url",
    ),
    "a file at OpenAI": (shows({"type": "file", "file": {"file_id": "f"}}), "messages[0].content[0].file.file_id"),
    "a file of another type": (
        shows({"type": "file", "file": {"file_data": "data:video/mp4;base64,AA=="}}),
        "messages[0].content[0].file.file_data",
    ),
    "a text file that is none": (
        shows({"type": "file", "file": {"file_data": "data:text/plain;base64,/w=="}}),
        "messages[0].content[0].file.file_data",
    ),
    "a role": (says({"role": "narrator", "content": "x"}), "messages[0].role"),
    "a content": (says({"role": "user", "content": 5}), "messages[0].content"),
    "a result of no call": (says(HI, RESULT), "messages[1].tool_call_id"),
    "a legacy result of no call": (says(HI, {"role": "function", "name": "f", "content": ""}), "messages[1].name"),
    "a custom tool": (asks(tools=[{"type": "custom", "custom": {"name": "p"}}]), "tools[0].type"),
    "a tool without a name": (asks(tools=[{"type": "function", "function": {}}]), "tools[0].function.name"),
    "a choice": (asks(tools=[WEATHER], tool_choice="maybe"), "tool_choice"),
    "a choice of a custom tool": (asks(tools=[WEATHER], tool_choice={"type": "custom"}), "tool_choice.type"),
    "a format": (asks(response_format={"type": "grammar"}), "response_format.type"),
    "an effort": (asks(reasoning_effort="huge"), "reasoning_effort"),
    "an effort that is no text": (asks(reasoning_effort=["low"]), "reasoning_effort"),
    "a mode that is no text": (
        asks(tools=[WEATHER], tool_choice={"type": "allowed_tools", "allowed_tools": {"mode": [[]], "tools": []}}),
        "tool_choice.allowed_tools.mode",
    ),
    "a length": (asks(max_tokens="5"), "max_tokens"),
    "a temperature": (asks(temperature="hot"), "temperature"),
    "a stop": (asks(stop=[5]), "stop"),
    "nothing said": (says({"role": "user", "content": ""}), "messages"),
}


def told(request: dict[str, Any]) -> dict[str, Any]:
    found = translate(Body(encode(request)))
    assert found.lost == tuple(dict.fromkeys(found.lost))
    return {"request": request, "told": found.body.data, "lost": list(found.lost)}


def refusal(request: dict[str, Any]) -> RequestError:
    with pytest.raises(RequestError) as caught:
        translate(Body(encode(request)))
    return caught.value


def test_every_rule_is_as_it_was_read() -> None:
    wanted = {
        "requests": {name: told(request) for name, request in REQUESTS.items()},
        "refused": {name: refusal(request).message for name, (request, _) in REFUSED.items()},
    }
    text = json.dumps(wanted, indent=1, ensure_ascii=False) + "\n"
    if os.environ.get(UPDATE):
        GOLDEN.write_text(text, encoding="utf-8")
    assert GOLDEN.read_text(encoding="utf-8") == text, "renew it as this file's docstring says"


@pytest.mark.parametrize(("request_", "param"), REFUSED.values(), ids=REFUSED.keys())
def test_a_refusal_names_the_field(request_: dict[str, Any], param: str) -> None:
    error = refusal(request_)
    assert (error.status, error.param) == (400, param)
    assert f"`{param}`" in error.message


def test_every_loss_that_is_documented_happens() -> None:
    happened = {name for request in REQUESTS.values() for name in told(request)["lost"]}
    assert happened == set(LOSSES)
    assert all(text.endswith(".") for text in LOSSES.values())


@pytest.mark.parametrize(
    ("max_output", "budget", "length"),
    [
        (None, 0, 8192),
        (None, 2000, 10_192),
        (4096, 0, 4096),
        (64_000, 0, 32_000),
        (64_000, 20_000, 52_000),
        (64_000, 60_000, 64_000),
        (32_000, 40_000, 40_001),  # the upstream says better than we what is too much
    ],
)
def test_the_length_of_an_answer_is_always_told(max_output: int | None, budget: int, length: int) -> None:
    asked = asks(thinking_budget=budget) if budget else asks()
    info = ModelInfo("m", max_output=max_output)
    assert translate(Body(encode(asked)), info=info).body.data["max_tokens"] == length


@pytest.mark.parametrize(
    ("asked", "refuses", "told"),
    [
        ({"reasoning_effort": "high"}, (), {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
        (
            {"reasoning_effort": "high"},
            ("adaptive_thinking",),
            {"thinking": {"type": "enabled", "budget_tokens": 32_000}, "max_tokens": 8192 + 32_000},
        ),
        ({"reasoning_effort": "none"}, ("adaptive_thinking",), {"thinking": {"type": "disabled"}}),
        (
            {"thinking_budget": 9000},
            ("thinking_budget",),
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "medium"}},
        ),
        ({"thinking_budget": 0}, ("thinking_budget",), {"thinking": {"type": "disabled"}}),
        (
            {"thinking_budget": 99_000, "reasoning_effort": "low"},
            ("thinking_budget",),
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        ),
    ],
)
def test_a_model_is_asked_to_think_in_its_own_way(
    asked: dict[str, Any], refuses: tuple[str, ...], told: dict[str, Any]
) -> None:
    """Up to 4.5 Claude knows budgets only, from 4.7 on efforts only; Codex always sends an effort."""
    translation = translate(Body(encode(asks(**asked))), info=ModelInfo("m", refuses=refuses))
    said = translation.body.data
    assert {"max_tokens": 8192, **told} == {
        name: said[name] for name in ("max_tokens", "thinking", "output_config") if name in said
    }
    assert ("thinking_budget" in translation.lost) is (asked.get("thinking_budget", 0) > 0)


@pytest.mark.parametrize("text", [b'{"messages":[{"role":"user","content":"x"}],"seed":1e999}', b"[]", b"{"])
def test_json_that_cannot_be_used_is_the_callers_mistake(text: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        translate(Body(text))
    assert caught.value.code == "invalid_json"


# --- plain answers -------------------------------------------------------------------------------------------

TOOL_USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "世界"}}
USAGE = {"input_tokens": 3, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 7, "output_tokens": 11}


def answered(*content: Any, request: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    answer = {"id": "msg_1", "type": "message", "model": "claude", "content": content, "stop_reason": "end_turn"}
    translation = translate(Body(encode(request or asks())), new_id=lambda: "chatcmpl-1", clock=lambda: 17.9)
    found: dict[str, Any] = Body(translation.reply(encode({**answer, **members}))).data
    return found


def test_a_plain_answer() -> None:
    blocks = [
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "text", "text": "Grüße, ", "citations": [{}]},
        {"type": "text", "text": "世界"},
        TOOL_USE,
    ]
    details = {"thinking_tokens": 2}
    found = answered(*blocks, stop_reason="tool_use", usage={**USAGE, "output_tokens_details": details})
    call = {"id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"世界"}'}}
    message = {
        "role": "assistant",
        "content": "Grüße, 世界",
        "refusal": None,
        "reasoning_content": "Hm.",
        "tool_calls": [call],
    }
    assert found == {
        "id": "msg_1",
        "object": "chat.completion",
        "created": 17,
        "model": "claude",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls"}],
        "usage": {
            "prompt_tokens": 15,
            "completion_tokens": 11,
            "total_tokens": 26,
            "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 7},
            "completion_tokens_details": {"reasoning_tokens": 2},
        },
    }


@pytest.mark.parametrize(
    ("reason", "plain", "with_a_call"),
    [
        ("end_turn", "stop", "tool_calls"),
        ("stop_sequence", "stop", "tool_calls"),
        ("tool_use", "stop", "tool_calls"),
        ("max_tokens", "length", "length"),
        ("model_context_window_exceeded", "length", "length"),
        ("pause_turn", "length", "length"),
        ("refusal", "content_filter", "content_filter"),
        ("something_new", "stop", "tool_calls"),
        (None, "stop", "tool_calls"),
    ],
)
def test_the_reason_of_an_end(reason: Any, plain: str, with_a_call: str) -> None:
    assert answered(stop_reason=reason)["choices"][0]["finish_reason"] == plain
    assert answered(TOOL_USE, stop_reason=reason)["choices"][0]["finish_reason"] == with_a_call


def test_no_content_is_an_empty_text_unless_there_is_a_call() -> None:
    assert answered()["choices"][0]["message"]["content"] == ""
    assert answered(TOOL_USE)["choices"][0]["message"]["content"] is None


def test_who_speaks_of_functions_is_answered_so() -> None:
    (choice,) = answered(TOOL_USE, request=REQUESTS["functions, as before there were tools"])["choices"]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "weather", "arguments": '{"city":"世界"}'}
    assert "tool_calls" not in choice["message"]


def test_counts_below_zero_are_none() -> None:
    usage = answered(usage={"input_tokens": 3, "cache_read_input_tokens": -1, "output_tokens": -2})["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (3, 0, 3)


def test_an_answer_without_an_id_gets_one() -> None:
    assert answered(id=None)["id"] == "chatcmpl-1"


@pytest.mark.parametrize("id", [None, "", 7])
def test_a_call_without_an_id_gets_one(id: Any) -> None:
    (call,) = answered({**TOOL_USE, "id": id})["choices"][0]["message"]["tool_calls"]
    assert call["id"] == "call_1"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "protocol"),
        (b"<html>", "protocol"),
        (b"[]", "protocol"),
        (b"{}", "protocol"),
        (b'{"content": "x"}', "protocol"),
        (b'{"content": [{"type": "tool_use", "id": "a", "input": {}}]}', "protocol"),
        (b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', "unavailable"),
    ],
)
def test_what_is_no_answer(data: bytes, kind: str) -> None:
    with pytest.raises(ConnectorError) as caught:
        translate(Body(encode(asks()))).reply(data)
    assert caught.value.kind == kind
