"""The real openai-python, sync and async, against a spawned gateway."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from llmgate_core.testing import ScriptedUpstream

if TYPE_CHECKING:
    from openai.types.chat import (
        ChatCompletionChunk,
        ChatCompletionFunctionToolParam,
        ChatCompletionMessageParam,
        ChatCompletionToolMessageParam,
    )
    from tests.e2e.conftest import Portal, Process, Shell

    from llmgate_core.testing import Exchange

KEY = "sk-e2e-caller"
UPSTREAM_KEY = "sk-e2e-upstream"
QWEN = "qwen-oauth:qwen3-coder-plus"
ASKED: list[ChatCompletionMessageParam] = [{"role": "user", "content": "杭州天气如何？"}]
ERRORS: dict[int, tuple[int, type[openai.APIStatusError]]] = {
    400: (400, openai.BadRequestError),
    401: (502, openai.InternalServerError),  # the caller's own key was good: what is wrong is the gateway's
    402: (429, openai.RateLimitError),
    403: (403, openai.PermissionDeniedError),
    404: (404, openai.NotFoundError),
    413: (413, openai.APIStatusError),
    422: (422, openai.UnprocessableEntityError),
    429: (429, openai.RateLimitError),
    500: (502, openai.InternalServerError),
    503: (503, openai.InternalServerError),
    504: (504, openai.InternalServerError),
    529: (503, openai.InternalServerError),
}
HEADERS = {"retry-after": "7", "x-request-id": "up-1", "set-cookie": "a=b"}
PIECES = ["春眠不", "觉晓，", "处处闻", "啼鸟。"]


def tool(name: str, field: str) -> ChatCompletionFunctionToolParam:
    parameters: dict[str, object] = {"type": "object", "properties": {field: {"type": "string"}}, "required": [field]}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [tool("get_weather", "city"), tool("send_mail", "email")]
ARGUMENTS = {"get_weather": {"city": "杭州"}, "send_mail": {"email": "someone@example.com"}}


# --- the upstream -----------------------------------------------------------------------------------------------------


def chunk(**delta: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": [choice]}


class Upstream:
    """Does what the model's name says: a status, or one of the ways in which a stream can end."""

    def __init__(self) -> None:
        self.left = threading.Event()
        self.failures = 0

    async def __call__(self, exchange: Exchange) -> None:
        if exchange.request.method == "GET":
            await exchange.reply(200, {"object": "list", "data": [{"id": "listed/a:b"}, {"id": "listed-2"}]})
            return
        model = exchange.request.json()["model"]
        if model.startswith("status-"):
            status = int(model.split("-")[1])
            error = {"message": f"原话: {status} {UPSTREAM_KEY}", "type": "t", "param": "p", "code": "c"}
            await exchange.reply(status, {"error": error}, HEADERS)
        elif model == "second-time-good":
            await self.second_time_good(exchange)
        elif model == "silent":
            await exchange.hung_up()
            self.left.set()
        else:
            await self.stream(exchange, model.removeprefix("stream-"))

    async def second_time_good(self, exchange: Exchange) -> None:
        self.failures += 1
        if self.failures == 1:
            await exchange.reply(503, {"error": {"message": "busy"}}, {"retry-after": "0"})
            return
        choice = {"index": 0, "message": {"role": "assistant", "content": "好"}, "finish_reason": "stop"}
        await exchange.reply(200, {**chunk(), "object": "chat.completion", "choices": [choice]})

    async def stream(self, exchange: Exchange, end: str) -> None:
        await exchange.sse(chunk(role="assistant", content=""), *[chunk(content=piece) for piece in PIECES[:2]])
        await asyncio.sleep(0.02)  # so that the gateway has committed to this answer
        if end == "reset":
            exchange.reset()
        elif end == "cut":
            exchange.cut()
        elif end == "half-an-event":
            await exchange.sse(b'data: {"id":"c1","choices":[{"index":0,"delta":{"content":"\xe5\xa4')
            exchange.cut()
        elif end == "reported":
            await exchange.sse({"error": {"message": "原话: 炉火灭了", "type": "server_error", "code": "c"}}, "[DONE]")
        elif end == "stalled":
            await exchange.hung_up()
            self.left.set()
        else:
            assert end == "short"  # a proper end, without a finish_reason


@pytest.fixture(scope="module")
def scripted() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream.in_thread(Upstream()) as opened:
        yield opened


@pytest.fixture
def model(scripted: ScriptedUpstream) -> Upstream:
    """The upstream's script, as good as new."""
    scripted.script = script = Upstream()
    scripted.requests.clear()
    return script


# --- the gateway and its clients --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gateway(module_shell: Shell, module_portal: Portal, scripted: ScriptedUpstream) -> Process:
    key = {"api_key": "env:UPSTREAM_KEY"}
    config = module_shell.config(
        auth={"api_keys": ["env:CALLER_KEY"]},
        default_backend="qwen-oauth",
        timeouts={"idle_seconds": 0.5},
        backends={
            "qwen-oauth": {"extra": module_portal.extra},
            "qwen-oauth.off": {"extra": {}},
            "up": {"type": "openai-compatible", "extra": {"base_url": f"{scripted.url}/v1", **key}},
        },
    )
    return module_shell.serve("--config", config, CALLER_KEY=KEY, UPSTREAM_KEY=UPSTREAM_KEY)


@pytest.fixture(scope="module")
def module_client(gateway: Process) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0, timeout=20) as opened:
        yield opened


@pytest.fixture
def client(module_client: OpenAI, portal: Portal) -> OpenAI:
    """The client, and the portal as good as new."""
    return module_client


@pytest.fixture
def later(gateway: Process, portal: Portal) -> AsyncOpenAI:
    """The asynchronous client; the test closes it (`async with later:`)."""
    return AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0, timeout=20)


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


# --- what works -------------------------------------------------------------------------------------------------------


def test_chat(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model=QWEN, messages=ASKED, temperature=0.1)
    reply = raw.parse()
    assert "杭州天气如何？" in (reply.choices[0].message.content or "")
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.total_tokens > 0
    assert raw.headers["x-llmgate-backend"] == "qwen-oauth.default"
    assert raw.headers["x-request-id"].startswith("req_")
    assert reply._request_id == raw.headers["x-request-id"]


def test_stream(client: OpenAI, portal: Portal) -> None:
    with client.chat.completions.create(
        model="qwen-max", messages=ASKED, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    whole = client.chat.completions.create(model="qwen-max", messages=ASKED).choices[0].message.content
    assert text_of(chunks) == whole
    assert chunks[-1].usage is not None
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "stop"
    assert portal.simulator.seen[-2].body["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("parallel", [False, True])
def test_tools_there_and_back(client: OpenAI, parallel: bool) -> None:
    asked = list(ASKED)
    reply = client.chat.completions.create(model=QWEN, messages=asked, tools=TOOLS, parallel_tool_calls=parallel)
    message = reply.choices[0].message
    assert reply.choices[0].finish_reason == "tool_calls"
    calls = [call for call in message.tool_calls or [] if call.type == "function"]
    assert [call.function.name for call in calls] == ["get_weather", "send_mail"][: 1 + parallel]
    assert len({call.id for call in calls}) == len(calls)
    for call in calls:
        assert json.loads(call.function.arguments) == ARGUMENTS[call.function.name]

    results: list[ChatCompletionToolMessageParam] = [
        {"role": "tool", "tool_call_id": call.id, "content": f"结果：{call.function.name}"} for call in calls
    ]
    history: Any = [*asked, message.model_dump(exclude_none=True), *results]
    answer = client.chat.completions.create(model=QWEN, messages=history, tools=TOOLS)
    assert f"结果：{calls[-1].function.name}" in (answer.choices[0].message.content or "")


def test_streamed_parallel_tool_calls(client: OpenAI) -> None:
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    with client.chat.completions.create(
        model=QWEN, messages=ASKED, tools=TOOLS, parallel_tool_calls=True, stream=True
    ) as stream:
        for part in stream:
            for call in part.choices[0].delta.tool_calls or []:
                assert call.function is not None
                names[call.index] = call.function.name or names[call.index]
                arguments[call.index] = arguments.get(call.index, "") + (call.function.arguments or "")
    assert names == {0: "get_weather", 1: "send_mail"}
    assert {names[index]: json.loads(text) for index, text in arguments.items()} == ARGUMENTS


def test_the_sdks_own_accumulator(client: OpenAI) -> None:
    with client.chat.completions.stream(model=QWEN, messages=ASKED, tools=TOOLS) as stream:
        final = stream.get_final_completion()
    calls = final.choices[0].message.tool_calls or []
    assert [json.loads(call.function.arguments) for call in calls] == [ARGUMENTS["get_weather"]]


def test_models(client: OpenAI, model: Upstream) -> None:
    listed = {found.id: found.owned_by for found in client.models.list()}
    assert listed["qwen-oauth:qwen3-coder-plus"] == "qwen-oauth.default"
    assert listed["qwen3-coder-plus"] == "qwen-oauth.default"
    (by_upstream,) = [id for id in listed if id.endswith(":listed/a:b")]
    for id in ("qwen3-coder-plus", "qwen-oauth:qwen-max", by_upstream):
        assert client.models.retrieve(id).id == id
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("no-such-model")
    assert caught.value.code == "model_not_found"


def test_async_chat_stream_tools_and_errors(later: AsyncOpenAI, model: Upstream) -> None:
    async def run() -> None:
        async with later:
            reply = await later.chat.completions.create(model=QWEN, messages=ASKED)
            stream = await later.chat.completions.create(model=QWEN, messages=ASKED, stream=True)
            assert text_of([part async for part in stream]) == reply.choices[0].message.content
            called = await later.chat.completions.create(
                model=QWEN, messages=ASKED, tools=TOOLS, parallel_tool_calls=True
            )
            assert len(called.choices[0].message.tool_calls or []) == 2
            assert len([found async for found in later.models.list()]) > 5
            assert (await later.models.retrieve("qwen-max")).id == "qwen-max"
            for status, (told, error) in ERRORS.items():
                with pytest.raises(error) as caught:
                    await later.chat.completions.create(model=f"up:status-{status}", messages=ASKED)
                assert caught.value.status_code == told
            broken = await later.chat.completions.create(model="up:stream-cut", messages=ASKED, stream=True)
            with pytest.raises(openai.APIError):
                _ = [part async for part in broken]

    asyncio.run(run())


def test_async_streams_side_by_side(later: AsyncOpenAI) -> None:
    async def one(number: int) -> str:
        asked: list[ChatCompletionMessageParam] = [{"role": "user", "content": f"第{number}个"}]
        stream = await later.chat.completions.create(model=QWEN, messages=asked, stream=True)
        return text_of([part async for part in stream])

    async def run() -> None:
        async with later:
            answers = await asyncio.gather(*(one(number) for number in range(20)))
        for number, answer in enumerate(answers):
            assert f"「第{number}个」" in answer

    asyncio.run(run())


# --- what fails -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", ERRORS)
def test_an_upstreams_refusal_is_typed(
    client: OpenAI, model: Upstream, status: int, stream: Literal[True, False]
) -> None:
    told, error = ERRORS[status]
    # A model of its own for each: who asks again for one that is rate limited waits, or is told to come later.
    model_name = f"up:status-{status}-{'streamed' if stream else 'plain'}"
    with pytest.raises(error) as caught:
        client.chat.completions.create(model=model_name, messages=ASKED, stream=stream)
    failure = caught.value
    assert failure.status_code == told
    error_object = failure.response.json()["error"]
    assert error_object["message"].startswith(f"原话: {status} [secret]")
    assert "原话" in failure.message
    assert UPSTREAM_KEY not in failure.response.text
    assert failure.param == "p"
    if status == told:  # else the upstream's words for its status would contradict ours
        assert (failure.type, failure.code) == ("t", "c")
    assert failure.request_id is not None
    assert failure.request_id.startswith("req_")
    headers = failure.response.headers
    assert headers["x-upstream-request-id"] == "up-1"
    assert "set-cookie" not in headers
    if status in (429, 503):
        assert headers["retry-after"] == "7"
    assert headers.get("x-should-retry") == ("false" if status in (401, 402, 400, 403, 404, 413, 422) else None)


def test_bad_keys_and_forbidden_backends(client: OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as refused:
        client.with_options(api_key="sk-e2e-wrong").models.list()
    assert refused.value.code == "invalid_api_key"
    with pytest.raises(openai.PermissionDeniedError) as disabled:
        client.chat.completions.create(model="qwen-oauth.off:qwen-max", messages=ASKED)
    assert disabled.value.code == "backend_disabled"
    assert "--enable-qwen-oauth-backend-debugging-override" in disabled.value.message
    assert disabled.value.response.headers["x-should-retry"] == "false"


def test_the_callers_own_mistakes(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as empty:
        client.chat.completions.create(model=QWEN, messages=[])
    assert empty.value.param == "messages"
    with pytest.raises(openai.NotFoundError) as misspelt:
        client.chat.completions.create(model="qwen-oath:qwen-max", messages=ASKED)
    assert "did you mean `qwen-oauth`" in misspelt.value.message
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="qwen-oauth:no-such-model", messages=ASKED)
    assert unknown.value.code == "ModelNotFound"
    with pytest.raises(openai.NotFoundError):
        client.post("/nonsense", cast_to=object)


def test_the_sdk_repeats_what_may_succeed_and_nothing_else(
    client: OpenAI, scripted: ScriptedUpstream, model: Upstream
) -> None:
    patient = client.with_options(max_retries=2)
    answer = patient.chat.completions.create(model="up:second-time-good", messages=ASKED)
    assert answer.choices[0].message.content == "好"
    assert len(scripted.requests) == 2
    scripted.requests.clear()
    with pytest.raises(openai.InternalServerError):
        patient.chat.completions.create(model="up:status-401", messages=ASKED)
    assert len(scripted.requests) == 1


@pytest.mark.parametrize("end", ["reset", "cut", "half-an-event", "reported", "short", "stalled"])
def test_a_stream_that_breaks_off_is_never_taken_for_a_short_answer(client: OpenAI, model: Upstream, end: str) -> None:
    parts: list[ChatCompletionChunk] = []
    with (
        client.chat.completions.create(model=f"up:stream-{end}", messages=ASKED, stream=True) as stream,
        pytest.raises(openai.APIError) as caught,
    ):
        parts.extend(stream)
    assert text_of(parts) == "".join(PIECES[:2])
    assert all(part.choices[0].finish_reason is None for part in parts)
    if end == "half-an-event":
        assert isinstance(caught.value, openai.APIConnectionError)
    if end == "reported":
        assert caught.value.message == "原话: 炉火灭了"
    if end == "stalled":
        assert "idle_seconds" in caught.value.message
        assert model.left.wait(5)


def test_a_client_that_loses_patience(client: OpenAI, model: Upstream) -> None:
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.2).chat.completions.create(model="up:silent", messages=ASKED)
    assert model.left.wait(5), "the upstream was not hung up on"


def test_a_gateway_that_dies_in_mid_stream(shell: Shell, model: Upstream, scripted: ScriptedUpstream) -> None:
    backends = {"up": {"type": "openai-compatible", "extra": {"base_url": f"{scripted.url}/v1"}}}
    process = shell.serve("--config", shell.config(backends=backends))
    with ExitStack() as stack:
        client = stack.enter_context(OpenAI(base_url=f"{process.url}/v1", api_key="none needed", max_retries=0))
        stream = stack.enter_context(
            client.chat.completions.create(model="up:stream-stalled", messages=ASKED, stream=True)
        )
        next(iter(stream))
        process.kill()
        with pytest.raises(openai.APIConnectionError):
            list(stream)
        with pytest.raises(openai.APIConnectionError):
            client.models.list()


def test_threads_share_one_client(client: OpenAI) -> None:
    def ask(number: int) -> str | None:
        asked: list[ChatCompletionMessageParam] = [{"role": "user", "content": f"第{number}个"}]
        return client.chat.completions.create(model=QWEN, messages=asked).choices[0].message.content

    with ThreadPoolExecutor(10) as pool:
        for number, answer in enumerate(pool.map(ask, range(20))):
            assert f"「第{number}个」" in (answer or "")
