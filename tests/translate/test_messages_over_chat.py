"""A Messages request said in chat: what is mapped, what is lost under which name, and what is refused.

Every mapping is written down in golden/messages_over_chat.requests.json, to be read in review. To renew it:

    LLMGATE_UPDATE_GOLDEN=1 pytest tests/translate
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from llmgate_core.dialects import chat
from llmgate_core.errors import RequestError
from llmgate_core.translate import Translation
from llmgate_core.translate.messages_over_chat import LOSSES, SIGNATURE, MessagesOverChat, translate
from llmgate_core.wire import Body

GOLDEN = Path(__file__).parent / "golden" / "messages_over_chat.requests.json"
UPDATE = "LLMGATE_UPDATE_GOLDEN"

Member = dict[str, Any]


def translated(**members: Any) -> MessagesOverChat:
    body = {"model": "m", "max_tokens": 9, "messages": [user("hi")], **members}
    return translate(Body(json.dumps(body).encode()), new_id=lambda: "1")


def user(*blocks: Any) -> Member:
    return {"role": "user", "content": blocks[0] if len(blocks) == 1 and isinstance(blocks[0], str) else list(blocks)}


def assistant(*blocks: Any) -> Member:
    return {**user(*blocks), "role": "assistant"}


def text(said: str, **more: Any) -> Member:
    return {"type": "text", "text": said, **more}


def use(id: str, name: str = "f", given: Any = None, **more: Any) -> Member:
    return {"type": "tool_use", "id": id, "name": name, "input": {} if given is None else given, **more}


def result(id: str, content: Any = "done", **more: Any) -> Member:
    return {"type": "tool_result", "tool_use_id": id, "content": content, **more}


def thought(said: str, signature: Any = SIGNATURE) -> Member:
    return {"type": "thinking", "thinking": said, "signature": signature}


def base64(data: str = "eA==", media_type: str = "image/png") -> Member:
    return {"type": "base64", "media_type": media_type, "data": data}


def image(**source: Any) -> Member:
    return {"type": "image", "source": source or base64()}


def document(source: Member, **more: Any) -> Member:
    return {"type": "document", "source": source, **more}


def tool(name: str = "f", **more: Any) -> Member:
    return {"name": name, "input_schema": {"type": "object", "properties": {}}, **more}


EPHEMERAL = {"type": "ephemeral"}
PDF = base64(media_type="application/pdf")
SCHEMA = {"type": "json_schema", "schema": {"type": "object", "properties": {"a": {"type": "string"}}}}

CLAUDE_CODE = {
    "system": [
        text("x-anthropic-billing-header: cc_version=2.1"),
        text("You are Claude Code.", cache_control=EPHEMERAL),
        text("Be brief.", cache_control=EPHEMERAL),
    ],
    "messages": [
        user(text("<system-reminder>a</system-reminder>"), text("fix it", cache_control=EPHEMERAL)),
        {"role": "system", "content": "Today is Monday."},
        assistant(thought("signed", "EpAB"), text("Let me look."), use("toolu_1", "Read", {"file": "a"})),
        user(result("toolu_1", [text("1: x")]), text("<system-reminder>b</system-reminder>")),
    ],
    "tools": [tool("Read", description="Reads."), {"type": "web_search_20250305", "name": "web_search"}],
    "thinking": {"type": "adaptive"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015"}]},
    "output_config": {"effort": "medium"},
    "metadata": {"user_id": '{"session_id":"x"}'},
    "stream": True,
    "max_tokens": 32000,
}

CASES: dict[str, Member] = {
    "a text": {},
    "a stream asks for its usage": {"stream": True},
    "what Claude Code sends": CLAUDE_CODE,
    "parameters": {"temperature": 0.5, "top_p": 0.9, "top_k": 5, "stop_sequences": ["END"]},
    "what asks for nothing": {
        "stop_sequences": [],
        "service_tier": "auto",
        "speed": "standard",
        "inference_geo": "global",
        "metadata": {},
        "thinking": None,
        "temperature": None,
        "tools": [],
        "system": "",
    },
    "members that stay behind": {
        "cache_control": EPHEMERAL,
        "container": "c",
        "diagnostics": {"previous_message_id": "msg_1"},
        "mcp_servers": [{"type": "url", "url": "x", "name": "n"}],
        "metadata": {"user_id": "u"},
        "service_tier": "standard_only",
        "speed": "fast",
        "novel": 1,
    },
    "a system prompt": {"system": "Be brief."},
    "a system prompt in blocks": {"system": [text("Be brief."), text("Be kind.", citations={"enabled": False})]},
    "a system prompt with an image": {"system": [text("a"), image()]},
    "system messages at the beginning": {
        "system": "a",
        "messages": [{"role": "system", "content": [text("b")]}, user("hi")],
    },
    "a system message later on": {"messages": [user("a"), {"role": "system", "content": "b"}, user("c")]},
    "one text, several texts, none": {"messages": [user(text("a")), user(text("b"), text("c")), user(), user("")]},
    "images": {"messages": [user(image(), image(type="url", url="https://x.example/a.png"), text("what is it"))]},
    "options of images": {
        "messages": [user({**image(), "transformations": {"x": 1}}), user(image(**base64(), novel=1))]
    },
    "documents": {
        "messages": [
            user(
                document(PDF, title="a.pdf", context="Old."),
                document(PDF),
                document({"type": "text", "media_type": "text/plain", "data": "words"}, title="T", context="C"),
                document({"type": "content", "content": [text("a"), image()]}, title="T"),
                document({"type": "content", "content": "b"}, citations={"enabled": True}),
            )
        ]
    },
    "a search result": {
        "messages": [user({"type": "search_result", "title": "T", "source": "https://x", "content": [text("a")]})]
    },
    "blocks nobody knows": {"messages": [user({"type": "novel", "x": 1}, {"type": "newer", "text": "read", "x": 1})]},
    "compacted conversations": {
        "messages": [
            assistant({"type": "compaction", "content": "They talked."}),
            user({"type": "compaction", "content": None, "encrypted": "x"}, text("go on")),
        ]
    },
    "calls and results": {
        "messages": [
            user("hi"),
            assistant(text("well"), use("a", given={"x": [1]}), use("b"), text("so")),
            user(result("b", [text("B1"), text("B2")]), text("quick"), result("a", cache_control=EPHEMERAL)),
        ]
    },
    "results that are images, errors, nothing": {
        "messages": [
            user("hi"),
            assistant(use("a"), use("b"), use("c"), use("d")),
            user(
                result("a", [text("see"), image()]),
                result("b", [image()]),
                result("c", "broke", is_error=True),
                {"type": "tool_result", "tool_use_id": "d"},
                text("so?"),
            ),
        ]
    },
    "a tool that a search has found": {
        "messages": [
            user("hi"),
            assistant(use("a", "ToolSearch")),
            user(result("a", [{"type": "tool_reference", "tool_name": "Read"}])),
        ]
    },
    "results in several messages, a system message between": {
        "messages": [
            user("hi"),
            assistant(use("a")),
            assistant(use("b")),
            {"role": "system", "content": "hurry"},
            user(result("a")),
            user("wait"),
            user(result("b")),
        ]
    },
    "a call without a result": {"messages": [user("hi"), assistant(use("a")), user("so")]},
    "a result without a call": {"messages": [user(result("a", "A")), user(text("so"))]},
    "options of calls and messages": {
        "messages": [
            user("hi"),
            {**assistant(use("a", caller={"type": "direct"}), use("b", toolset_name="t")), "id": "msg_1"},
            user(result("a"), result("b")),
        ]
    },
    "thinking of this turn": {
        "messages": [
            user("hi"),
            assistant(thought("hm"), use("a")),
            user(result("a"), text("<system-reminder>")),
            assistant(thought("so", ""), thought("yes", None), text("ok")),
            {"role": "system", "content": "b"},
        ]
    },
    "thinking of an earlier turn": {"messages": [user("hi"), assistant(thought("hm"), text("ok")), user("so")]},
    "thinking alone": {"messages": [user("hi"), assistant(thought("hm"))]},
    "thinking of others": {
        "messages": [
            user("hi"),
            assistant(thought("hm", "EpAB"), {"type": "redacted_thinking", "data": "gAAA"}, text("ok"), use("a")),
            user(result("a")),
        ]
    },
    "tools that Anthropic ran": {
        "messages": [
            user("hi"),
            assistant(
                {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}},
                {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
                {"type": "mcp_tool_use", "id": "t", "name": "x", "server_name": "y", "input": {}},
                text("found", citations=[{"type": "web_search_result_location", "url": "x"}]),
            ),
            user("thanks", *[]),
        ]
    },
    "blocks out of place": {
        "messages": [user(use("a"), text("hi")), assistant(image(), result("b"), text("ok")), user("so")]
    },
    "an answer that is begun": {"messages": [user("hi"), assistant("{")]},
    "tools": {
        "tools": [
            tool(description="Does.", strict=True, cache_control=EPHEMERAL),
            tool("g", type="custom", strict=False, defer_loading=True, input_examples=[{}], description=None),
        ]
    },
    "tools that are Anthropic's": {
        "tools": [
            tool(),
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 1},
            {"type": "mcp_toolset", "mcp_server_name": "n"},
            {"type": "bash_20250124", "name": "bash"},
            {"type": "novel_20990101", "name": "n"},
        ]
    },
    "no tool that can be offered": {
        "tools": [{"type": "bash_20250124", "name": "bash"}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    },
    "tool choice auto": {"tools": [tool()], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
    "tool choice any": {"tools": [tool()], "tool_choice": {"type": "any", "disable_parallel_tool_use": False}},
    "tool choice none": {"tools": [tool()], "tool_choice": {"type": "none"}},
    "tool choice tool": {"tools": [tool()], "tool_choice": {"type": "tool", "name": "f", "novel": 1}},
    "a choice that is not offered": {"tools": [tool()], "tool_choice": {"type": "tool", "name": "g"}},
    "thinking up to 4096": {"thinking": {"type": "enabled", "budget_tokens": 4096}},
    "thinking up to 16384": {"thinking": {"type": "enabled", "budget_tokens": 10000, "display": "summarized"}},
    "thinking beyond": {"thinking": {"type": "enabled", "budget_tokens": 31999}},
    "thinking and effort": {
        "thinking": {"type": "enabled", "budget_tokens": 31999, "display": "omitted"},
        "output_config": {"effort": "low"},
    },
    "no thinking": {"thinking": {"type": "disabled"}},
    "thinking between tools": {"thinking": {"type": "between_tools"}},
    "a format": {"output_config": {"format": SCHEMA, "task_budget": {"type": "tokens"}}},
    "a format as it was in the beta": {"output_format": SCHEMA},
}


def test_requests_are_translated_as_written_down() -> None:
    found = {}
    for name, members in CASES.items():
        translation = translated(**members)
        told = translation.body.data
        chat.read_request(translation.body.bytes)
        assert not translation.lost or set(translation.lost) <= set(LOSSES)
        request = {"messages": [user("hi")], **members}
        found[name] = {"messages": request, "chat": told, "lost": list(translation.lost)}
    text = json.dumps(found, indent=1) + "\n"
    if os.environ.get(UPDATE):
        GOLDEN.write_text(text, encoding="utf-8")
    assert json.loads(text) == json.loads(GOLDEN.read_text(encoding="utf-8")), f"if that is meant, run with {UPDATE}=1"


def test_every_loss_is_written_down() -> None:
    lost = {name for members in CASES.values() for name in translated(**members).lost}
    assert lost == set(LOSSES)
    assert list(LOSSES) == sorted(LOSSES)
    assert all(sentence.endswith(".") for sentence in LOSSES.values())


def test_it_is_a_translation() -> None:
    translation: Translation = translated()
    assert translation.lost == ()


def test_thinking_that_another_has_signed_goes_nowhere() -> None:
    translation = translated(messages=[user("hi"), assistant(thought("SECRET", "EpAB"), use("a")), user(result("a"))])
    assert b"SECRET" not in translation.body.bytes
    assert translation.lost == ("thinking.signature",)


@pytest.mark.parametrize(
    ("members", "param", "code", "words"),
    [
        ({"inference_geo": "eu"}, "inference_geo", "unsupported_parameter", "cannot be promised"),
        ({"system": 1}, "system", "invalid_type", "a string or an array of objects"),
        ({"messages": [assistant()]}, "messages", "invalid_value", "nothing that can be sent"),
        ({"messages": [user({"type": "novel"})]}, "messages", "invalid_value", "nothing that can be sent"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "invalid_type", "a string"),
        ({"messages": [{"role": "critic", "content": "x"}]}, "messages[0].role", "invalid_value", "`user`, "),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "invalid_type", "a string or an array"),
        ({"messages": [user(1)]}, "messages[0].content[0]", "invalid_type", "an object"),
        ({"messages": [user({"type": "text"})]}, "messages[0].content[0].text", "invalid_type", "a string"),
        (
            {"messages": [user("a"), user(image(type="file", file_id="f"))]},
            "messages[1].content[0].source.type",
            "unsupported_parameter",
            "cannot read files kept elsewhere",
        ),
        (
            {"messages": [user(document({"type": "url", "url": "x"}))]},
            "messages[0].content[0].source.type",
            "unsupported_parameter",
            "cannot fetch the document",
        ),
        (
            {"messages": [user(image(type="base64", media_type="x"))]},
            "messages[0].content[0].source.data",
            "invalid_type",
            "a string",
        ),
        ({"messages": [assistant(use("a", given=[1]))]}, "messages[0].content[0].input", "invalid_type", "an object"),
        ({"messages": [assistant(use("a"), use("a"))]}, "messages[0].content[1].id", "invalid_type", "unlike the ids"),
        (
            {"messages": [user({"type": "tool_result"})]},
            "messages[0].content[0].tool_use_id",
            "invalid_type",
            "a string",
        ),
        ({"tools": {}}, "tools", "invalid_type", "an array of objects"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema", "invalid_type", "an object"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name", "invalid_type", "a string"),
        ({"tool_choice": "auto"}, "tool_choice", "invalid_type", "an object"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type", "invalid_value", "must be `auto`, `any`"),
        ({"stop_sequences": "END"}, "stop_sequences", "invalid_type", "an array of strings"),
        ({"thinking": "yes"}, "thinking", "invalid_type", "an object"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens", "invalid_type", "a whole number"),
        ({"output_config": 1}, "output_config", "invalid_type", "an object"),
        ({"output_config": {"format": 1}}, "output_config.format", "invalid_type", "an object"),
        (
            {"output_config": {"format": {"type": "grammar"}}},
            "output_config.format.type",
            "unsupported_parameter",
            "must be `json_schema`",
        ),
        ({"output_format": {"type": "json_schema"}}, "output_format.schema", "invalid_type", "an object"),
    ],
)
def test_what_must_not_be_left_out_is_refused(members: Member, param: str, code: str, words: str) -> None:
    with pytest.raises(RequestError) as caught:
        translated(**members)
    error = caught.value
    assert (error.status, error.param, error.code) == (400, param, code)
    assert words in error.message


NESTS = {
    "an input": b'{"model":"m","messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f",'
    b'"input":{"x":%b%b}}]}]}',
    "a schema": b'{"model":"m","messages":[{"role":"user","content":"x"}],'
    b'"tools":[{"name":"f","input_schema":{"x":%b%b}}]}',
}


@pytest.mark.parametrize("nest", NESTS.values(), ids=NESTS)
@pytest.mark.parametrize("depth", [500, 900, 1000, 2000, 50_000])
def test_deep_nesting_passes_or_is_a_400(nest: bytes, depth: int) -> None:
    try:
        translation = translate(Body(nest % (b"[" * depth, b"]" * depth)))
    except RequestError as error:
        refused: RequestError | None = error
    else:
        refused = None
        assert translation.body.data["messages"]
    assert refused is None or refused.code == "invalid_json"


def test_nested_documents_are_no_trap() -> None:
    source: Member = {"type": "content", "content": "x"}
    for _ in range(100):
        source = {"type": "content", "content": [document(source)]}
    assert translated(messages=[user(document(source))]).body.data["messages"] == [{"role": "user", "content": "x"}]


def test_a_number_that_nobody_can_hold_is_refused() -> None:
    with pytest.raises(RequestError, match="number out of range"):
        translate(Body(b'{"model":"m","messages":[{"role":"user","content":"x"}],"x":1e999}'))
