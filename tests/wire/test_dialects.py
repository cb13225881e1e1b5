"""Callers of three dialects before upstreams of two, read by the official SDKs: over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest

from llmgate_core.builtin import AnthropicCompatibleConnector
from llmgate_core.testing import Exchange, Script

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.conftest import GatewayFactory, RunningGateway

WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CITY = '{"city":"杭州"}'
ASKED: Any = [{"role": "user", "content": "杭州天气如何？"}]


def run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test

    asyncio.run(bounded())


# --- upstreams --------------------------------------------------------------------------------------------------------


def delta(members: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": members, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def named(**function: str) -> dict[str, Any]:
    first = {"id": "call_1", "type": "function"} if "name" in function else {}
    return {"tool_calls": [{"index": 0, **first, "function": function}]}


USAGE = {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}
CHAT = [
    delta({"role": "assistant", "content": ""}),
    delta({"reasoning_content": "想一想"}),
    delta({"content": "我查"}),
    delta({"content": "一下"}),
    delta(named(name="weather", arguments="")),
    delta(named(arguments=CITY[:6])),
    delta(named(arguments=CITY[6:])),
    delta({}, "tool_calls"),
    {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": USAGE},
    "[DONE]",
]
MESSAGE = {
    "role": "assistant",
    "content": "我查一下",
    "reasoning_content": "想一想",
    "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": CITY}}],
}
COMPLETION = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "tool_calls"}],
    "usage": USAGE,
}


async def chat_upstream(exchange: Exchange) -> None:
    assert exchange.request.path == "/v1/chat/completions"
    if exchange.request.json().get("stream"):
        await exchange.sse(*CHAT)
    else:
        await exchange.reply(200, COMPLETION)


def event(sort: str, **members: Any) -> bytes:
    return f"event: {sort}\ndata: {json.dumps({'type': sort, **members}, ensure_ascii=False)}\n\n".encode()


def block(index: int, start: Mapping[str, Any], *deltas: Mapping[str, Any]) -> list[bytes]:
    return [
        event("content_block_start", index=index, content_block=start),
        *(event("content_block_delta", index=index, delta=one) for one in deltas),
        event("content_block_stop", index=index),
    ]


HEAD: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None}
START: dict[str, Any] = {**HEAD, "content": [], "stop_reason": None, "usage": {"input_tokens": 9, "output_tokens": 1}}
SAID: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "想一想", "signature": "sig"},
    {"type": "text", "text": "我查一下"},
    {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "杭州"}},
]
MESSAGES = [
    event("message_start", message=START),
    *block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "想一想"},
        {"type": "signature_delta", "signature": "sig"},
    ),
    *block(
        1, {"type": "text", "text": ""}, {"type": "text_delta", "text": "我查"}, {"type": "text_delta", "text": "一下"}
    ),
    *block(2, {**SAID[2], "input": {}}, {"type": "input_json_delta", "partial_json": CITY}),
    event("message_delta", delta={"stop_reason": "tool_use", "stop_sequence": None}, usage={"output_tokens": 7}),
    event("message_stop"),
]
WHOLE = {**HEAD, "content": SAID, "stop_reason": "tool_use", "usage": {"input_tokens": 9, "output_tokens": 7}}


async def messages_upstream(exchange: Exchange) -> None:
    assert exchange.request.path == "/v1/messages"
    assert exchange.request.headers["anthropic-version"]
    if exchange.request.json().get("stream"):
        await exchange.sse(*MESSAGES)
    else:
        await exchange.reply(200, WHOLE)


UPSTREAMS: dict[str, tuple[Script, Any]] = {
    "chat": (chat_upstream, None),
    "messages": (messages_upstream, AnthropicCompatibleConnector),
}

# --- callers ----------------------------------------------------------------------------------------------------------

Heard = tuple[str, str, str, Any, int, int]
"""Reasoning, text, the tool's name and input, tokens in and out."""
TOLD: Heard = ("想一想", "我查一下", "weather", {"city": "杭州"}, 9, 7)


async def by_messages(running: RunningGateway, *, stream: bool) -> Heard:
    tools: Any = [{"name": "weather", "input_schema": WEATHER}]
    async with anthropic.AsyncAnthropic(base_url=running.url, api_key="any", max_retries=0) as client:
        if stream:
            async with client.messages.stream(model="m", max_tokens=99, messages=ASKED, tools=tools) as events:
                said: Any = await events.get_final_message()
        else:
            said = await client.messages.create(model="m", max_tokens=99, messages=ASKED, tools=tools)
    assert said.stop_reason == "tool_use"
    thinking, text, call = said.content
    assert (thinking.type, text.type, call.type) == ("thinking", "text", "tool_use")
    tokens = (said.usage.input_tokens, said.usage.output_tokens)
    return (thinking.thinking, text.text, call.name, call.input, *tokens)


async def by_responses(running: RunningGateway, *, stream: bool) -> Heard:
    tools: Any = [{"type": "function", "name": "weather", "parameters": WEATHER, "strict": False}]
    async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="any", max_retries=0) as client:
        if stream:
            async with client.responses.stream(model="m", input=ASKED, tools=tools) as events:
                said: Any = await events.get_final_response()
        else:
            said = await client.responses.create(model="m", input=ASKED, tools=tools)
    reasoning, message, call = said.output
    assert (reasoning.type, message.type, call.type) == ("reasoning", "message", "function_call")
    assert said.usage is not None
    thought = "".join(part.text for part in reasoning.summary)
    tokens = (said.usage.input_tokens, said.usage.output_tokens)
    return (thought, said.output_text, call.name, json.loads(call.arguments), *tokens)


async def by_chat(running: RunningGateway, *, stream: bool) -> Heard:
    tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]
    async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="any", max_retries=0) as client:
        if stream:
            options: Any = {"include_usage": True}
            asked = client.chat.completions.stream(model="m", messages=ASKED, tools=tools, stream_options=options)
            async with asked as events:
                said: Any = await events.get_final_completion()
        else:
            said = await client.chat.completions.create(model="m", messages=ASKED, tools=tools)
    message = said.choices[0].message
    assert said.choices[0].finish_reason == "tool_calls"
    call = message.tool_calls[0].function
    tokens = (said.usage.prompt_tokens, said.usage.completion_tokens)
    return (message.reasoning_content, message.content, call.name, json.loads(call.arguments), *tokens)


CALLERS = {"messages": by_messages, "responses": by_responses, "chat": by_chat}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("caller", CALLERS)
def test_every_caller_hears_the_same_of_every_upstream(
    gateway: GatewayFactory, caller: str, upstream: str, stream: bool
) -> None:
    script, connector = UPSTREAMS[upstream]

    async def test() -> None:
        async with gateway(script, connector=connector) as running:
            assert await CALLERS[caller](running, stream=stream) == TOLD
            assert (await running.finished()).outcome == "ok"

    run(test())


@pytest.mark.parametrize("caller", ["messages", "responses"])
def test_a_stream_that_breaks_off_is_raised_by_the_sdk(gateway: GatewayFactory, caller: str) -> None:
    async def breaks(exchange: Exchange) -> None:
        await exchange.sse(*CHAT[:3])
        exchange.cut()

    async def test() -> None:
        async with gateway(breaks) as running:
            with pytest.raises((anthropic.APIStatusError, openai.APIError, RuntimeError)):
                await CALLERS[caller](running, stream=True)
            assert (await running.finished()).outcome == "cut_off"

    run(test())


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
