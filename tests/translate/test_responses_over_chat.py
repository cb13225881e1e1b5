"""A Responses request said in chat: what is mapped, what is lost under which name, and what is refused.

Every mapping is written down in golden/responses_over_chat.requests.json, to be read in review. To renew it:

    LLMGATE_UPDATE_GOLDEN=1 pytest tests/translate
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from llmgate_core.errors import RequestError
from llmgate_core.translate.responses_over_chat import LOSSES, ResponsesOverChat, translate
from llmgate_core.wire import Body

GOLDEN = Path(__file__).parent / "golden" / "responses_over_chat.requests.json"
UPDATE = "LLMGATE_UPDATE_GOLDEN"


def translated(**members: Any) -> ResponsesOverChat:
    body = {"model": "m", "input": "hi", **members}
    return translate(Body(json.dumps(body).encode()), new_id=lambda: "1", clock=lambda: 1.0)


def messages(*items: dict[str, Any], **members: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = translated(input=list(items), **members).body.data["messages"]
    return found


def user(text: str = "hi") -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def text(said: str) -> dict[str, Any]:
    return {"type": "input_text", "text": said}


def call(id: str, name: str = "f", arguments: str = "{}", **more: Any) -> dict[str, Any]:
    return {"type": "function_call", "id": f"fc_{id}", "call_id": id, "name": name, "arguments": arguments, **more}


def output(id: str, text: Any = "done") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": id, "output": text}


def thought(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": text}], **more}


def said(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def function(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "function", "name": name, "parameters": {"type": "object", "properties": {}}, **more}


def parts(*found: dict[str, Any], role: str = "user") -> list[dict[str, Any]]:
    return [{"role": role, "content": list(found)}]


PATCH = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edits files.",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: patch"},
}
CRM = {
    "type": "namespace",
    "name": "crm",
    "description": "Customers.",
    "tools": [function("find"), {**PATCH, "name": "edit"}],
}
SHELL_CALL = {
    "type": "local_shell_call",
    "call_id": "s1",
    "status": "completed",
    "action": {"type": "exec", "command": ["ls", "-l"], "env": {}},
}
SEARCH = {"type": "tool_search", "execution": "client", "description": "Finds.", "parameters": {"type": "object"}}
SCHEMA = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True, "description": None}

CASES: dict[str, dict[str, Any]] = {
    "a text": {},
    "a stream asks for its usage": {"stream": True},
    "instructions": {"instructions": "Be brief."},
    "instructions and developer messages at the beginning": {
        "instructions": "Be brief.",
        "input": [
            {"type": "message", "role": "developer", "content": [text("Be kind."), text("Be wise.")]},
            {"role": "system", "content": "x"},
            user(),
        ],
    },
    "a developer message later on": {"input": [user(), {"role": "developer", "content": "Be kind."}, user("so")]},
    "one text, several texts, none": {
        "input": [user(), *parts({"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}), *parts()]
    },
    "images and files": {
        "input": parts(
            {"type": "input_image", "image_url": "data:image/png;base64,eA==", "detail": "low"},
            {"type": "input_image", "image_url": "https://x.example/a.png", "file_id": None},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,eA=="},
            {"type": "input_file", "file_id": "file-1"},
            {"type": "input_audio", "input_audio": {"data": "eA==", "format": "wav"}},
        )
    },
    "parts nobody knows": {"input": parts({"type": "input_video", "url": "x"}, {"type": "novel", "text": "read me"})},
    "what the assistant said and refused": {
        "input": [
            user(),
            *parts(
                {"type": "output_text", "text": "a", "annotations": []},
                {"type": "output_text", "text": "b", "annotations": [{"type": "url_citation", "url": "x"}]},
                {"type": "refusal", "refusal": "no"},
                {"type": "input_image", "image_url": "data:x"},
                role="assistant",
            ),
            user("why"),
        ]
    },
    "parallel calls": {
        "input": [user(), said("well"), call("a"), call("b"), output("b", "B"), output("a", "A"), user("so")]
    },
    "calls one after another": {"input": [user(), call("a"), output("a"), call("b"), output("b")]},
    "what comes between a call and its output": {"input": [user(), call("a"), user("wait"), output("a")]},
    "a call without an output": {"input": [user(), call("a"), user("so")]},
    "an output in parts": {
        "input": [
            user(),
            call("a"),
            call("b"),
            output("a", [{"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": "data:x"}]),
            output("b", [{"type": "input_image", "image_url": "data:y"}]),
        ]
    },
    "an output that is no text": {"input": [user(), call("a"), output("a", {"ok": True})]},
    "reasoning of this turn": {
        "input": [user(), thought("hm", encrypted_content="gAAA"), call("a"), output("a"), thought("so"), said("ok")]
    },
    "reasoning in full": {
        "input": [
            user(),
            thought("short", content=[{"type": "reasoning_text", "text": "long"}]),
            call("a"),
            output("a"),
        ]
    },
    "reasoning of an earlier turn": {"input": [user(), thought("hm"), said("ok"), user("so")]},
    "reasoning without an answer": {"input": [user(), thought("hm")]},
    "custom tools": {
        "tools": [PATCH, {"type": "custom", "name": "free", "format": {"type": "text"}}],
        "input": [
            user(),
            {"type": "custom_tool_call", "call_id": "p", "name": "apply_patch", "input": '*** "x"\n'},
            {"type": "custom_tool_call_output", "call_id": "p", "output": "ok"},
        ],
    },
    "a namespace": {
        "tools": [function("find"), CRM, {**CRM, "name": "mcp__a__", "description": "", "tools": [function("find")]}],
        "input": [user(), call("a", "find", namespace="crm"), output("a"), call("b", "find"), output("b")],
    },
    "names that collide, do not fit or are too long": {
        "tools": [
            function("crm__find"),
            function("crm__find", description="offered twice"),
            {"type": "namespace", "name": "crm", "tools": [function("find")]},
            {"type": "namespace", "name": "a.b", "tools": [function("c d")]},
            {"type": "namespace", "name": "n" * 60, "tools": [function("find"), function("fine"), function("find")]},
        ]
    },
    "the local shell": {
        "tools": [{"type": "local_shell"}],
        "input": [user(), SHELL_CALL, {"type": "local_shell_call_output", "id": "s1", "output": "a.txt"}],
    },
    "calls of client-run tools that chat does not have": {
        "input": [
            user(),
            {"type": "shell_call", "call_id": "a", "action": {"commands": ["ls"]}, "status": "completed"},
            {"type": "shell_call_output", "call_id": "a", "output": [{"stdout": "x", "outcome": {"type": "exit"}}]},
            {"type": "computer_call", "call_id": "b", "action": {"type": "screenshot"}},
            {
                "type": "computer_call_output",
                "call_id": "b",
                "output": {"type": "computer_screenshot", "image_url": "data:x"},
            },
            {"type": "novel_call", "call_id": "c", "what": 1},
            {"type": "novel_call_output", "call_id": "c", "result": 2},
        ]
    },
    "tools that OpenAI runs, and those that nobody knows": {
        "tools": [
            {"type": "web_search"},
            {"type": "web_search_preview_2025_03_11"},
            {"type": "mcp", "server_label": "x"},
            {"type": "image_generation"},
            {"type": "novel"},
            function("f"),
        ],
        "input": [user(), {"type": "web_search_call", "id": "ws_1", "status": "completed"}, {"type": "mcp_list_tools"}],
    },
    "options of a tool": {"tools": [function("f", strict=True, defer_loading=True), function("g", strict=None)]},
    "tools that come with the items": {
        "tools": [function("f"), SEARCH, {"type": "tool_search"}],
        "input": [
            {"type": "additional_tools", "role": "developer", "tools": [function("f"), function("g")]},
            user(),
            {"type": "tool_search_call", "call_id": "t", "arguments": {"query": "h"}},
            {"type": "tool_search_output", "call_id": "t", "tools": [function("h"), CRM, {"type": "mcp", "name": []}]},
            {"type": "tool_search_call", "call_id": "u", "arguments": {"query": "x"}},
            {"type": "tool_search_output", "call_id": "u", "tools": []},
            {"type": "tool_search_output", "call_id": None, "tools": [function("i")]},
        ],
    },
    "items that cannot be said": {
        "input": [
            user(),
            {"type": "item_reference", "id": "msg_1"},
            {"id": "msg_2"},
            {"type": "compaction", "encrypted_content": "gAAA"},
            {"type": "compaction_trigger"},
            {"type": "novel"},
            {"type": "novel_output", "call_id": "x"},
            {**said("ok"), "phase": "commentary"},
        ]
    },
    "a tool is demanded": {"tools": [function("f")], "tool_choice": {"type": "function", "name": "f"}},
    "a custom tool is demanded": {"tools": [PATCH], "tool_choice": {"type": "custom", "name": "apply_patch"}},
    "some tool is demanded": {"tools": [function("f")], "tool_choice": "required", "parallel_tool_calls": True},
    "some tools are allowed": {
        "tools": [function("f"), function("g"), PATCH],
        "tool_choice": {
            "type": "allowed_tools",
            "mode": "required",
            "tools": [{"type": "function", "name": "g"}, {"type": "mcp", "server_label": "x"}],
        },
        "parallel_tool_calls": False,
    },
    "a tool is demanded that is not offered": {
        "tools": [{"type": "file_search"}, function("f")],
        "tool_choice": {"type": "file_search"},
    },
    "tools are demanded and there are none": {"tool_choice": "required", "parallel_tool_calls": False},
    "parameters": {
        "temperature": 0,
        "top_p": 0.5,
        "max_output_tokens": 7,
        "user": "u",
        "service_tier": "flex",
        "reasoning": {"effort": "low", "summary": "auto", "mode": "pro"},
        "text": {"format": {"type": "text"}, "verbosity": "high", "novel": 1},
    },
    "JSON": {"text": {"format": {"type": "json_object"}}},
    "a schema": {"text": {"format": SCHEMA}},
    "what asks for what happens anyway": {
        "background": False,
        "conversation": None,
        "include": [],
        "metadata": {},
        "parallel_tool_calls": True,
        "previous_response_id": "resp_0",
        "service_tier": "auto",
        "store": True,
        "stream_options": {"include_obfuscation": False},
        "temperature": None,
        "top_logprobs": 0,
        "truncation": "disabled",
    },
    "what concerns OpenAI only": {
        "client_metadata": {"a": "b"},
        "context_management": [{"type": "compaction"}],
        "include": ["reasoning.encrypted_content"],
        "max_tool_calls": 3,
        "metadata": {"a": "b"},
        "moderation": {"model": "x"},
        "novel": 1,
        "prompt_cache_key": "k",
        "prompt_cache_retention": "24h",
        "safety_identifier": "s",
        "stream_options": {"include_obfuscation": True},
        "top_logprobs": 3,
        "truncation": "auto",
    },
}


def test_requests_are_translated_as_written_down() -> None:
    found = {}
    for name, members in CASES.items():
        way = translated(**members)
        found[name] = {"responses": members, "chat": way.body.data, "lost": list(way.lost)}
    text = json.dumps(found, indent=1) + "\n"
    if os.environ.get(UPDATE):
        GOLDEN.write_text(text, encoding="utf-8")
    assert json.loads(text) == json.loads(GOLDEN.read_text(encoding="utf-8")), f"if that is meant, run with {UPDATE}=1"


def test_every_loss_is_written_down() -> None:
    lost = {name for members in CASES.values() for name in translated(**members).lost}
    assert lost == set(LOSSES)
    assert list(LOSSES) == sorted(LOSSES)
    assert all(sentence.endswith(".") for sentence in LOSSES.values())


@pytest.mark.parametrize(
    ("members", "param", "code", "words"),
    [
        ({"background": True}, "background", "unsupported_parameter", "is not available here"),
        ({"conversation": "conv_1"}, "conversation", "unsupported_parameter", "send the conversation in `input`"),
        ({"prompt": {"id": "p"}}, "prompt", "unsupported_parameter", "is kept at OpenAI"),
        ({"instructions": 1}, "instructions", "invalid_type", "must be a string"),
        ({"input": []}, "input", "invalid_value", "holds nothing that can be sent"),
        ({"input": [{"type": "novel"}]}, "input", "invalid_value", "holds nothing that can be sent"),
        ({"input": [{"role": "critic", "content": "x"}]}, "input[0].role", "invalid_value", "must be `user`, "),
        ({"input": [{"role": 1}]}, "input[0].role", "invalid_type", "must be a string"),
        ({"input": [{"role": "user", "content": 1}]}, "input[0].content", "invalid_type", "a string or an array"),
        ({"input": [{"role": "user", "content": [1]}]}, "input[0].content[0]", "invalid_type", "must be an object"),
        ({"input": parts({"type": "input_text"})}, "input[0].content[0].text", "invalid_type", "must be a string"),
        (
            {"input": parts({"type": "input_image", "file_id": "f"})},
            "input[0].content[0].file_id",
            "unsupported_parameter",
            "send it as `image_url`",
        ),
        (
            {"input": parts({"type": "input_file", "file_url": "f"})},
            "input[0].content[0].file_url",
            "unsupported_parameter",
            "send the file as `file_data`",
        ),
        ({"input": parts({"type": "input_file"})}, "input[0].content[0].file_data", "invalid_type", "a string"),
        ({"input": [call("")]}, "input[0].call_id", "invalid_type", "a string that is not empty"),
        ({"input": [call("a", name=1)]}, "input[0].name", "invalid_type", "must be a string"),  # type: ignore[arg-type]
        ({"input": [{**call("a"), "arguments": {}}]}, "input[0].arguments", "invalid_type", "must be a string"),
        (
            {"input": [user(), output("a")]},
            "input[1]",
            "invalid_value",
            "No tool call found for function call output with call_id a.",
        ),
        ({"input": [user(), output("")]}, "input[1].call_id", "invalid_type", "not empty"),
        ({"input": [call("a"), output("a"), output("a")]}, "input[2]", "invalid_value", "is a second output"),
        ({"tools": {}}, "tools", "invalid_type", "must be an array of objects"),
        ({"tools": [1]}, "tools[0]", "invalid_type", "must be an object"),
        ({"tools": [{"type": "function"}]}, "tools[0].name", "invalid_type", "must be a string"),
        (
            {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "custom"}]}]},
            "tools[0].tools[0].name",
            "invalid_type",
            "must be a string",
        ),
        (
            {"input": [user(), {"type": "additional_tools", "tools": 1}]},
            "input[1].tools",
            "invalid_type",
            "must be an array of objects",
        ),
        ({"tool_choice": 1}, "tool_choice", "invalid_type", "a string or an object"),
        ({"tool_choice": "any"}, "tool_choice", "unsupported_parameter", "must be `auto`, `none`, `required`"),
        ({"text": 1}, "text", "invalid_type", "must be an object"),
        ({"text": {"format": "json"}}, "text.format", "invalid_type", "must be an object"),
        ({"text": {"format": {}}}, "text.format.type", "invalid_type", "must be a string"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type", "unsupported_parameter", "`json_schema`"),
        ({"reasoning": "high"}, "reasoning", "invalid_type", "must be an object"),
    ],
)
def test_what_must_not_be_left_out_is_refused(members: dict[str, Any], param: str, code: str, words: str) -> None:
    with pytest.raises(RequestError) as caught:
        translated(**members)
    error = caught.value
    assert (error.status, error.param, error.code) == (400, param, code)
    assert words in error.message


NESTS = {
    "metadata": b'{"model":"m","input":"hi","metadata":%b%b}',
    "a tool": b'{"model":"m","input":"hi","tools":[{"type":"function","name":"f","parameters":%b%b}]}',
    "an item": b'{"model":"m","input":[{"role":"user","content":"hi"},{"type":"novel_call","call_id":"a","x":%b%b}]}',
}


@pytest.mark.parametrize(
    "data", [b'{"model":"m","input":"hi","metadata":{"a":1e999}}', NESTS["metadata"] % (b"[" * 5000, b"]" * 5000)]
)
def test_what_nobody_can_hold_is_a_400(data: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        translate(Body(data))
    assert caught.value.code == "invalid_json"


@pytest.mark.parametrize("data", NESTS.values(), ids=NESTS)
def test_what_is_taken_can_be_repeated_even_from_a_deeper_stack(data: bytes) -> None:
    def answered(frames: int) -> bytes:
        return answered(frames - 1) if frames else way.stream().failed(ValueError())

    for depth in range(1000, 0, -1):
        try:
            way = translate(Body(data % (b"[" * depth, b"]" * depth)))
        except RequestError:
            continue
        break
    assert depth > 100
    assert b"response.failed" in answered(100)
