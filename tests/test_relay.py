"""What must not pass: credentials that an upstream echoes, broken ends that look whole, headers that cannot travel."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, cast

import httpx
import pytest

from llmgate_core.builtin import OpenAICompatibleConnector
from llmgate_core.connectors import UpstreamCall, UpstreamReply
from llmgate_core.errors import ConnectorError
from llmgate_core.retry import RetryPolicy
from llmgate_core.testing import Exchange

if TYPE_CHECKING:
    from tests.conftest import GatewayFactory

    from llmgate_core.request import RequestRecord


async def ok(exchange: Exchange) -> None:
    await exchange.reply(200, {"choices": [{}]})


LIVE = "sk-LIVE-0123456789abcdefghijklmnop"
HI = b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}\n\n'
ECHOES = {
    "message": (401, {"error": {"message": f"bad key {LIVE}"}}, {}),
    "code": (400, {"error": {"message": "bad", "code": LIVE}}, {}),
    "param": (400, {"error": {"message": "bad", "param": f"Bearer {LIVE}"}}, {}),
    "type": (400, {"error": {"message": "bad", "type": LIVE}}, {}),
    "cut off by the longest excerpt": (400, "y" * 278 + " " + LIVE + " tail" * 20, {}),
    "cut off by the longest message": (400, {"error": {"message": "y" * 7980 + " " + LIVE}}, {}),
    "request id": (429, {"error": {"message": "z"}}, {"x-request-id": LIVE}),
    "rate-limit header": (200, {"choices": [{}]}, {"x-ratelimit-key": LIVE}),
    "error in a 200": (200, {"error": {"message": f"key {LIVE}", "code": LIVE}}, {}),
}


@pytest.mark.parametrize("place", ECHOES)
def test_a_credential_that_the_upstream_echoes_goes_nowhere(gateway: GatewayFactory, place: str) -> None:
    async def echo(exchange: Exchange) -> None:
        await exchange.reply(*ECHOES[place])

    async def run() -> str:
        async with gateway(echo, extra={"api_key": LIVE}) as running:
            answer = await running.chat()
            return f"{answer.text} {dict(answer.headers)} {await running.finished()}"

    seen = asyncio.run(run())
    assert "sk-LIVE" not in seen


def test_a_credential_in_an_error_frame_goes_nowhere(gateway: GatewayFactory) -> None:
    async def echo(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "text/event-stream"})
        await exchange.chunk(HI)
        await asyncio.sleep(0.05)
        await exchange.chunk(b'data: {"error":{"message":"key %s expired"}}\n\n' % LIVE.encode())
        await exchange.end()

    async def run() -> str:
        async with gateway(echo, extra={"api_key": LIVE}) as running:
            return (await running.chat(stream=True)).text

    seen = asyncio.run(run())
    assert "expired" in seen
    assert "sk-LIVE" not in seen


def test_a_credential_in_the_first_read_goes_nowhere(gateway: GatewayFactory) -> None:
    async def echo(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "text/event-stream"})
        await exchange.chunk(HI + b'data: {"error":{"message":"key %s expired"}}\n\n' % LIVE.encode())
        await exchange.end()

    async def run() -> str:
        async with gateway(echo, extra={"api_key": LIVE}) as running:
            return (await running.chat(stream=True)).text

    seen = asyncio.run(run())
    assert "expired" in seen
    assert "sk-LIVE" not in seen


def test_a_caller_who_leaves_after_the_last_mark_has_been_served(gateway: GatewayFactory) -> None:
    """openai-python closes the connection when it has read `[DONE]`, whether the upstream has ended or not."""
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n'

    async def lingers(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "text/event-stream"})
        await exchange.chunk(HI.replace(b"null", b'"stop"') + usage + b"data: [DONE]\n\n")
        await exchange.hung_up()

    async def run() -> RequestRecord:
        async with gateway(lingers) as running:
            reader, writer = await running.dial(stream=True)
            await reader.readuntil(b"[DONE]")
            writer.close()
            return await running.finished()

    record = asyncio.run(run())
    assert (record.outcome, record.status, record.error) == ("ok", 200, "")
    assert record.usage == {"prompt_tokens": 3, "completion_tokens": 4}


def test_a_placeholder_for_a_key_garbles_no_words(gateway: GatewayFactory) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.reply(400, {"error": {"message": "ollama: no such option"}})

    async def run() -> str:
        async with gateway(refuse, extra={"api_key": "ollama"}) as running:
            message: str = (await running.chat()).json()["error"]["message"]
            return message

    assert asyncio.run(run()).startswith("ollama: no such option")


def test_a_retry_policy_that_raises_is_the_connectors_bug(gateway: GatewayFactory) -> None:
    class Raises:
        def delay(self, error: ConnectorError, attempt: int) -> float | None:
            raise KeyError("oops")

    class Wrong(OpenAICompatibleConnector):
        name = "wrong"

        def retry(self) -> RetryPolicy:
            return Raises()

    async def refuse(exchange: Exchange) -> None:
        await exchange.reply(429, {"error": {"message": "slow down"}})

    async def run() -> tuple[int, str]:
        async with gateway(refuse, connector=Wrong) as running:
            answer = await running.chat()
            return answer.status_code, answer.json()["error"]["code"]

    assert asyncio.run(run()) == (502, "connector_bug")


@pytest.mark.parametrize("after", [b"", b'data: {"choices":[],"usage":{"prompt_to'])
def test_a_stream_that_breaks_after_its_finish_reason_is_no_success(gateway: GatewayFactory, after: bytes) -> None:
    async def breaks(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "text/event-stream"})
        await exchange.chunk(HI.replace(b"null", b'"stop"') + after)
        await asyncio.sleep(0.05)
        exchange.reset()

    async def run() -> str:
        async with gateway(breaks) as running:
            with contextlib.suppress(httpx.RemoteProtocolError):
                await running.chat(stream=True)
            return (await running.finished()).outcome

    assert asyncio.run(run()) == "cut_off"


@pytest.mark.parametrize("value", ["grüß", "中文", "a\x7fb"])
def test_a_callers_header_that_cannot_travel_is_left_out(gateway: GatewayFactory, value: str) -> None:
    async def answer(exchange: Exchange) -> None:
        assert "x-session-id" not in exchange.request.headers
        await exchange.reply(200, {"choices": [{}]})

    async def run() -> int:
        async with gateway(answer) as running:
            return (await running.chat(headers={"x-session-id": value.encode()})).status_code  # type: ignore[dict-item]

    assert asyncio.run(run()) == 200


def test_the_wrong_place_is_told_with_its_address(gateway: GatewayFactory) -> None:
    async def nothing_here(exchange: Exchange) -> None:
        await exchange.reply(404, {"detail": "Not Found"})

    async def run() -> dict[str, str]:
        async with gateway(nothing_here) as running:
            told: dict[str, str] = (await running.chat()).json()["error"]
            assert f"{running.upstream.url}/v1/chat/completions" in told["message"]
            return told

    told = asyncio.run(run())
    assert told["message"].startswith("Not Found (at http://")
    assert told["code"] == "not_found"


def test_a_connector_that_returns_something_else_is_a_bug_in_words(
    gateway: GatewayFactory, caplog: pytest.LogCaptureFixture
) -> None:
    class Wrong(OpenAICompatibleConnector):
        name = "wrong"

        async def send(self, call: UpstreamCall) -> UpstreamReply:
            return cast(UpstreamReply, "hello")

    async def run() -> str:
        async with gateway(ok, connector=Wrong) as running:
            code: str = (await running.chat()).json()["error"]["code"]
            return code

    assert asyncio.run(run()) == "connector_bug"
    assert "`send()` returned a `str`, not an `UpstreamReply`" in caplog.text
