"""Callers of three dialects before upstreams of all, read by the official SDKs: over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest
from tests.wire.callers import ASKED, CALLERS
from tests.wire.upstreams import MESSAGES, START, WHOLE, chat_upstream, event, messages_upstream

from llmgate_core.builtin import AnthropicCompatibleConnector
from llmgate_core.testing import Exchange

if TYPE_CHECKING:
    from tests.conftest import GatewayFactory


def run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test

    asyncio.run(bounded())


@pytest.mark.parametrize("caller", CALLERS)
def test_an_upstreams_refusal_is_typed_in_every_dialect(gateway: GatewayFactory, caller: str) -> None:
    async def limited(exchange: Exchange) -> None:
        await exchange.reply(429, {"error": {"message": "slow down, 请稍候"}}, {"retry-after": "7"})

    async def test() -> None:
        async with gateway(limited) as running:
            with pytest.raises((anthropic.RateLimitError, openai.RateLimitError)) as caught:
                await CALLERS[caller](running, stream=False)
            error: Any = caught.value
            assert error.response.headers["retry-after"] == "7"
            assert "slow down, 请稍候" in str(error)

    run(test())


def test_bytes_pass_where_the_upstream_speaks_the_callers_dialect(gateway: GatewayFactory) -> None:
    sent = b'{ "model":"m", "max_tokens":100, "messages":[{"role":"user","content":"hi"}], "x-unknown":[1.50] }'

    async def test() -> None:
        async with gateway(messages_upstream, connector=AnthropicCompatibleConnector) as running:
            headers = {"content-type": "application/json", "anthropic-beta": "a,b"}
            reply = await running.client.post(f"{running.url}/anthropic/v1/messages", content=sent, headers=headers)
            assert reply.content == json.dumps(WHOLE, ensure_ascii=False).encode() or reply.json() == WHOLE
            (request,) = running.upstream.requests
            assert request.body == sent
            assert request.headers["anthropic-beta"] == "a,b"
            assert "x-llmgate-lost" not in reply.headers

    run(test())


@pytest.mark.parametrize(
    ("selector", "name"),
    [
        ("anthropic-compatible:m", "anthropic-compatible:m"),
        ("m?temperature=0.5", "m?temperature=0.5"),
        ("m|m?temperature=0.5", "m"),
    ],
)
def test_an_answer_goes_by_the_name_that_was_asked_for(gateway: GatewayFactory, selector: str, name: str) -> None:
    """Claude Code drops the thinking of any other. Of several models, none may get what another has signed."""

    async def test() -> None:
        async with gateway(messages_upstream, connector=AnthropicCompatibleConnector) as running:
            body: dict[str, Any] = {"model": selector, "max_tokens": 9, "messages": ASKED}
            plain = await running.client.post(f"{running.url}/v1/messages", json=body)
            assert plain.json() == {**WHOLE, "model": name}
            stream = await running.client.post(f"{running.url}/v1/messages", json={**body, "stream": True})
            begun = event("message_start", message={**START, "model": name})
            assert stream.content == b"".join([begun, *MESSAGES[1:]])

    run(test())


def test_what_is_lost_is_told(gateway: GatewayFactory) -> None:
    async def test() -> None:
        async with gateway(chat_upstream) as running:
            content: Any = [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]
            body = {"model": "m?temperature=0.5", "max_tokens": 9, "messages": [{"role": "user", "content": content}]}
            reply = await running.client.post(f"{running.url}/v1/messages", json=body)
            assert reply.headers["x-llmgate-lost"] == "cache_control"
            asked = running.upstream.requests[0].json()
            assert (asked["temperature"], asked["model"]) == (0.5, "m")

    run(test())


def test_what_the_model_does_not_take_is_said_otherwise_or_lost(gateway: GatewayFactory) -> None:
    """An agent cannot know what stands behind a translation: Claude Code always sends `max_tokens`."""

    async def test() -> None:
        async with gateway(chat_upstream) as running:
            body = {"model": "gpt-5", "max_tokens": 9, "temperature": 0.5, "messages": ASKED}
            reply = await running.client.post(f"{running.url}/v1/messages", json=body)
            assert reply.status_code == 200
            assert reply.headers["x-llmgate-lost"] == "temperature"
            asked = running.upstream.requests[0].json()
            assert {"model", "messages", "max_completion_tokens"} == set(asked)
            plain = await running.chat(model="gpt-5", max_tokens=9, temperature=0.5)
            assert "x-llmgate-lost" not in plain.headers
            assert running.upstream.requests[1].json()["temperature"] == 0.5, "the caller's own words"

    run(test())


@pytest.mark.parametrize("operator", ["|", "^", "!"])
def test_what_one_branch_cannot_be_asked_another_is(gateway: GatewayFactory, operator: str) -> None:
    async def test() -> None:
        async with gateway(chat_upstream, beside={"claude": "anthropic-compatible"}) as running:
            reply = await running.chat(model=f"claude:m{operator}openai-compatible:m", n=2)
            assert (reply.status_code, reply.headers["x-llmgate-attempts"]) == (200, "1")
            assert [request.path for request in running.upstream.requests] == ["/v1/chat/completions"]
            alone = await running.chat(model="claude:m", n=2)
            both = await running.chat(model="claude:m|claude:m2", n=2)
            for refused in (alone, both):
                assert (refused.status_code, refused.json()["error"]["param"]) == (400, "n")

    run(test())


def test_a_failure_is_told_and_not_what_another_branch_could_not_be_asked(gateway: GatewayFactory) -> None:
    async def fails(exchange: Exchange) -> None:
        await exchange.reply(500, {"error": {"message": "broken"}})

    async def test() -> None:
        async with gateway(fails, beside={"claude": "anthropic-compatible"}) as running:
            reply = await running.chat(model="openai-compatible:m|claude:m", n=2)
            assert (reply.status_code, "broken" in reply.text) == (502, True)

    run(test())


@pytest.mark.parametrize(("caller", "path"), [("chat", "/v1/chat/completions"), ("responses", "/v1/responses")])
def test_an_answer_may_be_as_long_as_the_model_can_make_it(gateway: GatewayFactory, caller: str, path: str) -> None:
    """Codex sets no limit, and Messages must have one."""

    async def test() -> None:
        async with gateway(messages_upstream, connector=AnthropicCompatibleConnector) as running:
            said = {"messages": ASKED} if caller == "chat" else {"input": ASKED}
            for model in ("claude-sonnet-4-5", "unknown"):
                await running.client.post(running.url + path, json={"model": model, **said})
            asked = [request.json()["max_tokens"] for request in running.upstream.requests]
            assert asked == [32_000, 8192]

    run(test())


def test_thinking_that_nobody_has_signed_does_not_go_to_who_checks_signatures(gateway: GatewayFactory) -> None:
    async def test() -> None:
        unsigned = {"type": "thinking", "thinking": "想", "signature": "llmgate"}
        signed = {"type": "thinking", "thinking": "想", "signature": "sig"}
        said = [unsigned, signed, {"type": "text", "text": "好"}]
        history: Any = [*ASKED, {"role": "assistant", "content": said}, *ASKED]
        async with gateway(messages_upstream, connector=AnthropicCompatibleConnector) as running:
            body = {"model": "m", "max_tokens": 9, "messages": history}
            assert (await running.client.post(f"{running.url}/v1/messages", json=body)).status_code == 200
            (asked,) = running.upstream.requests
            assert asked.json()["messages"] == [*ASKED, {"role": "assistant", "content": said[1:]}, *ASKED]

    run(test())


def test_tokens_are_counted_by_the_upstream_or_estimated(gateway: GatewayFactory) -> None:
    async def counts(exchange: Exchange) -> None:
        assert exchange.request.path == "/v1/messages/count_tokens"
        assert set(exchange.request.json()) == {"model", "messages"}
        await exchange.reply(200, {"input_tokens": 1234})

    async def cannot(exchange: Exchange) -> None:
        await exchange.reply(404, {"error": {"message": "no such place"}})

    async def test() -> None:
        for script, connector, is_estimate in (
            (counts, AnthropicCompatibleConnector, False),
            (cannot, AnthropicCompatibleConnector, True),
            (chat_upstream, None, True),
        ):
            async with gateway(script, connector=connector) as running:
                reply = await running.client.post(
                    f"{running.url}/v1/messages/count_tokens?beta=true", json={"model": "m", "messages": ASKED}
                )
                assert reply.status_code == 200
                assert (reply.headers.get("x-llmgate-estimate") == "true") is is_estimate
                assert (reply.json()["input_tokens"] == 1234) is not is_estimate

    run(test())


def test_a_response_can_be_continued(gateway: GatewayFactory) -> None:
    async def test() -> None:
        async with gateway(chat_upstream) as running:
            async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="any", max_retries=0) as client:
                first = await client.responses.create(model="m", input="one", instructions="be brief")
                output: Any = [{"type": "function_call_output", "call_id": "call_1", "output": "sunny"}]
                await client.responses.create(model="m", input=output, previous_response_id=first.id)
                forgotten = await client.responses.create(model="m", input="x", store=False)
                with pytest.raises(openai.BadRequestError) as caught:
                    await client.responses.create(model="m", input="x", previous_response_id=forgotten.id)
            assert caught.value.code == "previous_response_not_found"
            roles = [message["role"] for message in running.upstream.requests[1].json()["messages"]]
            assert roles == ["user", "assistant", "tool"], "instructions are not carried over"

    run(test())


@pytest.mark.parametrize("previous", [5, [], {"a": 1}, True])
@pytest.mark.parametrize("extra", [None, {"responses": True}])
def test_an_id_that_is_none_is_refused(gateway: GatewayFactory, previous: Any, extra: dict[str, Any] | None) -> None:
    async def test() -> None:
        async with gateway(chat_upstream, extra=extra) as running:
            body = {"model": "m", "input": "hi", "previous_response_id": previous}
            reply = await running.client.post(f"{running.url}/v1/responses", json=body)
            assert (reply.status_code, reply.json()["error"]["param"]) == (400, "previous_response_id")

    run(test())


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_kept_response_can_be_fetched_and_deleted(gateway: GatewayFactory, stream: bool) -> None:
    async def test() -> None:
        async with (
            gateway(chat_upstream) as running,
            openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="any", max_retries=0) as client,
        ):
            if stream:
                async with client.responses.stream(model="m", input="one") as events:
                    said: Any = await events.get_final_response()
            else:
                said = await client.responses.create(model="m", input="one")
            again = await client.responses.retrieve(said.id)
            assert (again.output_text, again.status) == ("我查一下", "completed")
            assert [item.id for item in again.output] == [item.id for item in said.output]
            await client.responses.delete(said.id)
            for ask in (client.responses.retrieve, client.responses.delete):
                with pytest.raises(openai.NotFoundError) as caught:
                    await ask(said.id)
                assert caught.value.code == "response_not_found"

    run(test())


@pytest.mark.parametrize("operation", ["embeddings", "completions"])
def test_other_operations_are_passed_through(gateway: GatewayFactory, operation: str) -> None:
    answer = {"object": "list", "data": [], "usage": {"prompt_tokens": 3}}

    async def other(exchange: Exchange) -> None:
        assert exchange.request.path == f"/v1/{operation}"
        await exchange.reply(200, answer)

    async def test() -> None:
        async with gateway(other) as running:
            body = {"model": "openai-compatible:m", "input": "hi", "prompt": "hi", "temperature": 1}
            reply = await running.client.post(f"{running.url}/v1/{operation}", json=body)
            assert (reply.status_code, reply.json()) == (200, answer)
            assert running.upstream.requests[0].json() == {**body, "model": "m"}
            assert (await running.finished()).usage == {"prompt_tokens": 3}
        async with gateway(messages_upstream, connector=AnthropicCompatibleConnector) as running:
            reply = await running.client.post(f"{running.url}/v1/{operation}", json={"model": "m", "input": "hi"})
            assert reply.status_code == 404

    run(test())


@pytest.mark.parametrize(
    ("path", "shape"),
    [("/v1/messages/nowhere", "anthropic"), ("/anthropic/v1/x", "anthropic"), ("/v1/nowhere", "openai")],
)
def test_what_nobody_serves_is_answered_in_the_dialect_that_the_path_suggests(
    gateway: GatewayFactory, path: str, shape: str
) -> None:
    async def test() -> None:
        async with gateway(chat_upstream) as running:
            reply = await running.client.post(f"{running.url}{path}", json={})
            assert reply.status_code == 404
            told = reply.json()
            assert (told.get("type") == "error") is (shape == "anthropic")
            assert told.get("request_id", reply.headers["request-id"]) == reply.headers["request-id"]

    run(test())
