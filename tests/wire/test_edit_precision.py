"""Edit precision between a real client socket and a real upstream socket: one request is changed, the next is not."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.policies import failed_edits

from llmgate_core.builtin import AnthropicCompatibleConnector
from llmgate_core.policies.edit_precision import EditPrecisionSettings
from llmgate_core.testing import Exchange

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import GatewayFactory, RunningGateway

    from llmgate_core.connectors import Connector
    from llmgate_core.testing import ReceivedRequest

HEADER = "x-llmgate-edit-precision"
CALL = {"id": "call_1", "type": "function", "function": {"name": "edit", "arguments": "{}"}}
BEGINNING = [
    {"role": "user", "content": "Make the total include tax."},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
]
FAILURE = "Failed to edit, 0 occurrences found for old_string in cart.py. No edits made."
FAILED = [*BEGINNING, {"role": "tool", "tool_call_id": "call_1", "content": FAILURE}]
GONE_WELL = [*BEGINNING, {"role": "tool", "tool_call_id": "call_1", "content": "Edited cart.py."}]


async def answer(exchange: Exchange) -> None:
    if exchange.request.json().get("stream"):
        await exchange.sse({"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]})
        await exchange.sse("[DONE]")
    else:
        await exchange.reply(200, {"choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]})


async def sent(
    running: RunningGateway, messages: Any, headers: dict[str, str] | None = None, **members: Any
) -> tuple[bytes, str | None]:
    """The bytes that reach the upstream, and the header that comes back."""
    reply = await running.chat(headers=headers, messages=messages, **members)
    assert reply.status_code == 200
    return running.upstream.requests[-1].body, reply.headers.get(HEADER)


def test_the_request_after_a_failed_edit_gets_a_low_temperature_and_the_next_does_not(gateway: GatewayFactory) -> None:
    async def run() -> None:
        async with gateway(answer, edit_precision=EditPrecisionSettings(enabled=True)) as running:
            for stream in (False, True):
                asked = running.body(messages=FAILED, temperature=0.1, stream=stream)
                body, header = await sent(running, FAILED, temperature=0.9, stream=stream)
                assert (json.loads(body), header) == (asked, "qwen-code-not-found")
                body, header = await sent(running, GONE_WELL, temperature=0.9, stream=stream)
                asked = running.body(messages=GONE_WELL, temperature=0.9, stream=stream)
                assert (body, header) == (json.dumps(asked).encode(), None)

    asyncio.run(run())


def test_the_temperature_is_added_where_there_is_none_and_all_other_bytes_stay(gateway: GatewayFactory) -> None:
    async def run() -> None:
        async with gateway(answer, edit_precision=EditPrecisionSettings(enabled=True)) as running:
            body, header = await sent(running, FAILED)
            asked = json.dumps(running.body(messages=FAILED)).encode()
            assert (body, header) == (asked[:-1] + b',"temperature":0.1}', "qwen-code-not-found")

    asyncio.run(run())


def test_the_user_agent_is_the_caller_s_and_does_not_travel_on(gateway: GatewayFactory) -> None:
    settings = EditPrecisionSettings(enabled=True, exclude_agents_regex="^our-agent/")

    async def run() -> None:
        async with gateway(answer, edit_precision=settings) as running:
            assert (await sent(running, FAILED, {"user-agent": "our-agent/1"}))[1] is None
            assert (await sent(running, FAILED, {"user-agent": "opencode/1.18.33"}))[1] is None
            assert (await sent(running, FAILED, {"user-agent": "QwenCode/0.15.10"}))[1] == "qwen-code-not-found"
            assert "QwenCode" not in str(running.upstream.requests[-1].headers)

    asyncio.run(run())


def test_forced_parameters_and_the_selector_outrank_it(gateway: GatewayFactory) -> None:
    async def run() -> None:
        settings = EditPrecisionSettings(enabled=True)
        async with gateway(answer, edit_precision=settings, backend={"forced_params": {"temperature": 1.5}}) as running:
            body, header = await sent(running, FAILED)
            assert (json.loads(body)["temperature"], header) == (1.5, None)
        async with gateway(answer, edit_precision=settings) as running:
            body, header = await sent(running, FAILED, model="m?temperature=0.4")
            assert (json.loads(body)["temperature"], header) == (0.4, None)

    asyncio.run(run())


def test_it_is_off_unless_it_is_switched_on(gateway: GatewayFactory) -> None:
    async def run() -> None:
        async with gateway(answer) as running:
            body, header = await sent(running, FAILED)
            assert (body, header) == (json.dumps(running.body(messages=FAILED)).encode(), None)

    asyncio.run(run())


# --- in every dialect, natively and translated ------------------------------------------------------------------------

EDIT_TOOL = {"name": "Edit", "input_schema": {"type": "object"}}
PATCH_TOOL = {"type": "function", "name": "apply_patch", "parameters": {"type": "object"}, "strict": False}


def by_claude_code(content: str) -> dict[str, Any]:
    """A request as Claude Code sends it after an edit, shortened."""
    use = {"type": "tool_use", "id": "toolu_1", "name": "Edit", "input": {"file_path": "cart.py"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": True, "content": content}
    messages = [
        {"role": "user", "content": "Make the total include tax."},
        {"role": "assistant", "content": [{"type": "text", "text": "I edit it."}, use]},
        {"role": "user", "content": [result]},
        {"role": "system", "content": "The file cart.py was opened in the editor."},
    ]
    return {"model": "m", "max_tokens": 99, "messages": messages, "tools": [EDIT_TOOL]}


def by_codex(content: str) -> dict[str, Any]:
    """A request as Codex sends it after a patch, shortened."""
    items = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Include tax."}]},
        {"type": "function_call", "call_id": "call_1", "name": "apply_patch", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": content},
    ]
    return {"model": "m", "input": items, "tools": [PATCH_TOOL], "store": False}


CALLERS: dict[str, tuple[str, Callable[[str], dict[str, Any]], list[tuple[str, str]]]] = {
    "messages": (
        "/v1/messages",
        by_claude_code,
        [
            (f"<tool_use_error>{text}</tool_use_error>", f"claude-code-{name}")
            for name, text in failed_edits.CLAUDE_CODE.items()
        ],
    ),
    "responses": ("/v1/responses", by_codex, [(text, "codex-apply-patch") for text in failed_edits.CODEX]),
}
NATIVE: dict[str, tuple[type[Connector] | None, dict[str, Any]]] = {
    "messages": (AnthropicCompatibleConnector, {}),
    "responses": (None, {"responses": True}),
}
REPLIES: dict[str, dict[str, Any]] = {
    "/v1/messages": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "hi"}],
        "stop_reason": "end_turn",
    },
    "/v1/responses": {"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": []},
    "/v1/chat/completions": {"choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]},
}


async def any_dialect(exchange: Exchange) -> None:
    await exchange.reply(200, REPLIES[exchange.request.path])


async def posted(running: RunningGateway, path: str, body: dict[str, Any]) -> tuple[ReceivedRequest, str | None]:
    """What reaches the upstream, and the header that comes back."""
    reply = await running.client.post(f"{running.url}{path}", content=json.dumps(body).encode())
    assert reply.status_code == 200, reply.text
    return running.upstream.requests[-1], reply.headers.get(HEADER)


@pytest.mark.parametrize("caller", CALLERS)
def test_where_the_upstream_speaks_the_caller_s_dialect(gateway: GatewayFactory, caller: str) -> None:
    path, request_of, failures = CALLERS[caller]
    connector, extra = NATIVE[caller]

    async def run() -> None:
        settings = EditPrecisionSettings(enabled=True)
        async with gateway(any_dialect, connector=connector, extra=extra, edit_precision=settings) as running:
            for content, name in failures:
                asked = request_of(content)
                got, header = await posted(running, path, asked)
                assert (got.path, header) == (path, name)
                assert got.body == json.dumps(asked).encode()[:-1] + b',"temperature":0.1}'
                got, header = await posted(running, path, {"temperature": 0.9, **asked})
                assert (got.body, header) == (json.dumps({"temperature": 0.1, **asked}).encode(), name)
            asked = request_of("Done.")
            got, header = await posted(running, path, asked)
            assert (got.body, header) == (json.dumps(asked).encode(), None)

    asyncio.run(run())


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("connector", [None, AnthropicCompatibleConnector], ids=["chat", "messages"])
def test_where_the_request_is_translated(
    gateway: GatewayFactory, caller: str, connector: type[Connector] | None
) -> None:
    path, request_of, failures = CALLERS[caller]

    async def run() -> None:
        async with (
            gateway(any_dialect, connector=connector, edit_precision=EditPrecisionSettings(enabled=True)) as running,
            gateway(any_dialect, connector=connector) as without,
        ):
            for content, name in (*failures, ("Done.", None)):
                got, header = await posted(running, path, request_of(content))
                plain, _ = await posted(without, path, request_of(content))
                added = b',"temperature":0.1}' if name else b"}"
                assert (got.body, header) == (plain.body[:-1] + added, name)

    asyncio.run(run())


@pytest.mark.parametrize("connector", [None, AnthropicCompatibleConnector], ids=["chat", "messages"])
@pytest.mark.parametrize("namespace", ["functions", "mcp__" + "n" * 70])
def test_a_tool_of_a_namespace_is_known_by_its_own_name(
    gateway: GatewayFactory, connector: type[Connector] | None, namespace: str
) -> None:
    """Its name in the translation is another; in a long one, the tool's own is not even to be seen."""

    async def run() -> None:
        settings = EditPrecisionSettings(enabled=True)
        async with gateway(any_dialect, connector=connector, edit_precision=settings) as running:
            asked = by_codex(failed_edits.CODEX[0])
            asked["input"][1]["namespace"] = namespace
            asked["tools"] = [{"type": "namespace", "name": namespace, "description": "", "tools": [PATCH_TOOL]}]
            got, header = await posted(running, "/v1/responses", asked)
            assert (got.json()["temperature"], header) == (0.1, "codex-apply-patch")

    asyncio.run(run())


def test_a_caller_of_chat_before_an_upstream_of_messages(gateway: GatewayFactory) -> None:
    settings = EditPrecisionSettings(enabled=True)

    async def run() -> None:
        async with gateway(any_dialect, connector=AnthropicCompatibleConnector, edit_precision=settings) as running:
            body, header = await sent(running, FAILED, max_tokens=9)
            assert (json.loads(body)["temperature"], header) == (0.1, "qwen-code-not-found")
            body, header = await sent(running, GONE_WELL, max_tokens=9)
            assert ("temperature" in json.loads(body), header) == (False, None)

    asyncio.run(run())


@pytest.mark.parametrize("thinking", [{"type": "adaptive"}, {"type": "enabled", "budget_tokens": 2000}])
def test_nothing_is_added_while_claude_thinks(gateway: GatewayFactory, thinking: dict[str, Any]) -> None:
    settings = EditPrecisionSettings(enabled=True)
    content = failed_edits.CLAUDE_CODE["not-found"]
    asked = {**by_claude_code(content), "model": "claude-sonnet-4-5", "thinking": thinking}

    async def run() -> None:
        async with gateway(
            any_dialect,
            connector=AnthropicCompatibleConnector,
            extra={"models": ["claude-sonnet-4-5"]},
            edit_precision=settings,
        ) as running:
            got, header = await posted(running, "/v1/messages", asked)
            assert (got.body, header) == (json.dumps(asked).encode(), None)
            del asked["thinking"]
            got, header = await posted(running, "/v1/messages", asked)
            assert (json.loads(got.body), header) == ({**asked, "temperature": 0.2}, "claude-code-not-found")

    asyncio.run(run())
