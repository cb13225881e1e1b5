"""How a stream that breaks off ends on the wire, in each dialect, passed on and translated."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from llmgate_core.builtin import AnthropicCompatibleConnector
from llmgate_core.sse import Parser
from llmgate_core.testing import Exchange

if TYPE_CHECKING:
    from tests.conftest import GatewayFactory

PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses"}
ASKED: dict[str, Any] = {
    "chat": {"messages": [{"role": "user", "content": "hi"}]},
    "messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9},
    "responses": {"input": "hi"},
}
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": {}}
RESPONSE = {"id": "resp_1", "object": "response", "status": "in_progress", "output": []}
BEGINNINGS: dict[str, list[tuple[str | None, dict[str, Any]]]] = {
    "chat": [(None, {"id": "c", "choices": [{"index": 0, "delta": {"content": "one"}, "finish_reason": None}]})],
    "messages": [
        ("message_start", {"type": "message_start", "message": MESSAGE}),
        (
            "content_block_start",
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        ),
        (
            "content_block_delta",
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "one"}},
        ),
    ],
    "responses": [
        ("response.created", {"type": "response.created", "sequence_number": 0, "response": RESPONSE}),
        (
            "response.output_text.delta",
            {
                "type": "response.output_text.delta",
                "sequence_number": 1,
                "item_id": "i",
                "output_index": 0,
                "content_index": 0,
                "delta": "one",
            },
        ),
    ],
}
UPSTREAMS: dict[str, dict[str, Any]] = {
    "chat": {},
    "messages": {"connector": AnthropicCompatibleConnector},
    "responses": {"extra": {"responses": True}},
}


def told(gateway: GatewayFactory, caller: str, upstream: str) -> tuple[list[tuple[str, Any]], str]:
    """Names and data of the events that the caller got, and the gateway's id of the request."""

    async def breaks(exchange: Exchange) -> None:
        for name, data in BEGINNINGS[upstream]:
            head = f"event: {name}\n" if name else ""
            await exchange.sse(f"{head}data: {json.dumps(data)}\n\n".encode())
        exchange.cut()

    async def ask() -> tuple[list[tuple[str, Any]], str]:
        async with asyncio.timeout(20), gateway(breaks, **UPSTREAMS[upstream]) as running:
            body = {"model": "m", "stream": True, **ASKED[caller]}
            reply = await running.client.post(running.url + PATHS[caller], json=body)
            assert reply.status_code == 200
            events = [(event.event, json.loads(event.data)) for event in Parser().feed(reply.content)]
            return events, reply.headers["request-id"]

    return asyncio.run(ask())


@pytest.mark.parametrize("upstream", ["chat", "messages"])
def test_chat_ends_with_an_error_frame(gateway: GatewayFactory, upstream: str) -> None:
    events, _ = told(gateway, "chat", upstream)
    assert events[-1][1]["error"]["code"] == "upstream_protocol_error"
    assert "[llmgate: backend " in events[-1][1]["error"]["message"]


@pytest.mark.parametrize("upstream", ["chat", "messages"])
def test_messages_names_the_request_in_the_error(gateway: GatewayFactory, upstream: str) -> None:
    events, request_id = told(gateway, "messages", upstream)
    (error,) = [data for name, data in events if name == "error"]
    assert error["request_id"] == request_id
    assert error["error"]["type"] == "api_error"
    assert "[llmgate: backend " in error["error"]["message"]


@pytest.mark.parametrize("upstream", ["chat", "messages", "responses"])
def test_responses_counts_on(gateway: GatewayFactory, upstream: str) -> None:
    events, _ = told(gateway, "responses", upstream)
    assert [data["sequence_number"] for _, data in events] == list(range(len(events)))
    last = events[-1][1]
    assert last["type"] == ("error" if upstream == "responses" else "response.failed")
    assert "[llmgate: backend " in (last if upstream == "responses" else last["response"]["error"])["message"]
