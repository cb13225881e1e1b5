"""Edit precision between a real client socket and a real upstream socket: one request is changed, the next is not."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from llmgate_core.policies.edit_precision import EditPrecisionSettings
from llmgate_core.testing import Exchange

if TYPE_CHECKING:
    from tests.conftest import GatewayFactory, RunningGateway

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
