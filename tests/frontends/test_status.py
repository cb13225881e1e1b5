"""`GET /llmgate/status` and what `/readyz` tells of circuits: over a real socket, but for the peer's address."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

import httpx
import pytest

from llmgate_core.backoff import BackoffRules
from llmgate_core.builtin import OpenAICompatibleConnector
from llmgate_core.sections import AuthConfig, CallerKey, CallerSecret, ServerConfig
from llmgate_core.testing import Exchange

if TYPE_CHECKING:
    from tests.conftest import GatewayFactory, RunningGateway

NAME = "openai-compatible.default"
ANNA = AuthConfig((CallerKey("anna", CallerSecret("key-of-anna")),))
GOOD = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}
STRANGER = "192.0.2.1"


class Together(OpenAICompatibleConnector):
    """Its models share one rate limit."""

    name: ClassVar[str] = "together"

    def backoff(self) -> BackoffRules:
        return BackoffRules(max_wait=0.0, unhinted=60.0)


async def unused(exchange: Exchange) -> None:
    raise AssertionError("nobody should have asked")


def answers(status: int, **headers: str) -> Callable[[Exchange], Awaitable[None]]:
    async def script(exchange: Exchange) -> None:
        await exchange.reply(status, GOOD, {name.replace("_", "-"): value for name, value in headers.items()})

    return script


def with_gateway(
    gateway: GatewayFactory,
    test: Callable[[RunningGateway], Awaitable[None]],
    script: Callable[[Exchange], Awaitable[None]] = unused,
    **options: Any,
) -> None:
    async def run() -> None:
        async with asyncio.timeout(20), gateway(script, **options) as running:
            await test(running)

    asyncio.run(run())


async def status(running: RunningGateway) -> dict[str, Any]:
    reply = await running.client.get(f"{running.url}/llmgate/status")
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


async def only_backend(running: RunningGateway) -> dict[str, Any]:
    (backend,) = (await status(running))["backends"]
    found: dict[str, Any] = backend
    return found


async def models(running: RunningGateway) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await only_backend(running))["models"]
    return found


# --- what it tells -------------------------------------------------------------------------------------------


def test_a_gateway_that_nobody_has_asked_yet(gateway: GatewayFactory) -> None:
    async def test(running: RunningGateway) -> None:
        told = await status(running)
        started = datetime.fromisoformat(told.pop("started"))
        assert abs((datetime.now(UTC) - started).total_seconds()) < 20
        assert 0 <= told.pop("uptime_seconds") < 20
        assert told == {
            "version": version("llmgate-core"),
            "in_flight": 0,
            "default_backend": None,
            "force_model": None,
            "backends": [
                {
                    "name": NAME,
                    "connector": "openai-compatible",
                    "ready": True,
                    "detail": "needs no credential",
                    "in_flight": 0,
                    "backoff_seconds": None,
                    "models": [],
                }
            ],
        }

    with_gateway(gateway, test)


def test_reasons_and_what_every_request_is_sent_to(gateway: GatewayFactory) -> None:
    async def test(running: RunningGateway) -> None:
        told = await status(running)
        assert (told["default_backend"], told["force_model"]) == ("openai-compatible:m", "openai-compatible:n")
        assert told["backends"][0]["ready"] is False
        assert "MISSING_KEY" in told["backends"][0]["detail"]

    with_gateway(
        gateway,
        test,
        extra={"api_key": "env:MISSING_KEY"},
        default_backend="openai-compatible:m",
        force_model="openai-compatible:n",
    )


def test_a_model_that_works(gateway: GatewayFactory) -> None:
    async def test(running: RunningGateway) -> None:
        assert (await running.chat(model="openai-compatible:m")).status_code == 200
        assert await models(running) == [
            {
                "model": "m",
                "circuit": "closed",
                "failures": 0,
                "tried_again_in_seconds": None,
                "backoff_seconds": None,
            }
        ]

    with_gateway(gateway, test, answers(200))


def test_a_circuit_opens_after_five_failures_and_readyz_tells_it_without_the_model(gateway: GatewayFactory) -> None:
    async def test(running: RunningGateway) -> None:
        for failures in range(1, 6):
            ready = await running.client.get(f"{running.url}/readyz")
            assert ready.json() == {"status": "ready", "backends": {NAME: "ready"}}
            assert (await running.chat(model="openai-compatible:secretive")).status_code == 502
            (model,) = await models(running)
            assert (model["model"], model["failures"]) == ("secretive", failures)
        assert model["circuit"] == "open"
        assert 0 < model["tried_again_in_seconds"] <= 30
        ready = await running.client.get(f"{running.url}/readyz")
        assert ready.status_code == 200
        assert ready.json() == {"status": "ready", "backends": {NAME: "ready"}, "circuits": {NAME: "open"}}

    with_gateway(gateway, test, answers(401))


def test_each_model_has_a_rate_limit_of_its_own(gateway: GatewayFactory) -> None:
    async def test(running: RunningGateway) -> None:
        assert (await running.chat(model="openai-compatible:m")).status_code == 429
        backend = await only_backend(running)
        (model,) = backend["models"]
        assert backend["backoff_seconds"] is None
        assert 0 < model["backoff_seconds"] <= 100
        assert (model["circuit"], model["failures"]) == ("closed", 0)

    with_gateway(gateway, test, answers(429, retry_after="100"))


def test_a_rate_limit_of_all_models_together_is_told_of_the_backend(gateway: GatewayFactory) -> None:
    async def test(running: RunningGateway) -> None:
        assert (await running.chat(model="together:m")).status_code == 429
        backend = await only_backend(running)
        assert 0 < backend["backoff_seconds"] <= 100
        assert [model["backoff_seconds"] for model in backend["models"]] == [None]

    with_gateway(gateway, test, answers(429, retry_after="100"), connector=Together)


def test_secrets_are_struck_out_of_what_callers_have_asked_for(gateway: GatewayFactory) -> None:
    async def test(running: RunningGateway) -> None:
        key = {"x-api-key": "key-of-anna"}
        await running.chat(model="openai-compatible:key-of-anna", headers=key)
        reply = await running.client.get(f"{running.url}/llmgate/status", headers=key)
        assert reply.json()["backends"][0]["models"][0]["model"] == "[secret]"
        assert "key-of-anna" not in reply.text

    with_gateway(gateway, test, answers(200), auth=ANNA)


@pytest.mark.parametrize("stream", [False, True])
def test_requests_in_flight_and_whose_they_are(gateway: GatewayFactory, stream: bool) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def waits(exchange: Exchange) -> None:
        arrived.set()
        await go_on.wait()
        await exchange.reply(200, GOOD)

    async def streams(exchange: Exchange) -> None:
        await exchange.sse({"choices": [{"index": 0, "delta": {"content": "hi"}}]})
        arrived.set()
        await go_on.wait()
        await exchange.sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, "[DONE]")

    async def test(running: RunningGateway) -> None:
        asked = asyncio.create_task(running.chat(model="openai-compatible:m", stream=stream))
        await arrived.wait()
        told = await status(running)
        assert (told["in_flight"], told["backends"][0]["in_flight"]) == (1, 1)
        go_on.set()
        assert (await asked).status_code == 200
        await running.finished(2)
        told = await status(running)
        assert (told["in_flight"], told["backends"][0]["in_flight"]) == (0, 0)

    with_gateway(gateway, test, streams if stream else waits)


def test_a_request_that_waits_for_the_end_of_a_rate_limit_occupies_no_backend(gateway: GatewayFactory) -> None:
    async def test(running: RunningGateway) -> None:
        assert (await running.chat(model="openai-compatible:m")).status_code == 429
        waiting = asyncio.create_task(running.chat(model="openai-compatible:m"))
        while (told := await status(running))["in_flight"] == 0:
            pass
        assert told["backends"][0]["in_flight"] == 0
        waiting.cancel()

    with_gateway(gateway, test, answers(429, retry_after="20"))


# --- who may ask ---------------------------------------------------------------------------------------------


def test_a_key_is_needed_where_the_gateway_has_keys(gateway: GatewayFactory) -> None:
    async def test(running: RunningGateway) -> None:
        url = f"{running.url}/llmgate/status"
        assert (await running.client.get(url)).status_code == 401
        assert (await running.client.get(url, headers={"x-api-key": "key-of-ben"})).status_code == 401
        reply = await running.client.get(url, headers={"authorization": "Bearer key-of-anna"})
        assert (reply.status_code, reply.headers["cache-control"]) == (200, "no-store")

    with_gateway(gateway, test, auth=ANNA)


async def asked_from(running: RunningGateway, address: str, headers: dict[str, str]) -> httpx.Response:
    transport = httpx.ASGITransport(app=running.app.app, client=(address, 50000))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        return await client.get("/llmgate/status", headers=headers)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_the_gateways_own_machine_may_ask(gateway: GatewayFactory, address: str) -> None:
    async def test(running: RunningGateway) -> None:
        assert (await asked_from(running, address, {})).status_code == 200

    with_gateway(gateway, test)


@pytest.mark.parametrize("address", [STRANGER, "2001:db8::1", "::ffff:192.0.2.1", "0.0.0.0", "::", ""])
def test_other_machines_may_not_even_with_a_key(gateway: GatewayFactory, address: str) -> None:
    async def test(running: RunningGateway) -> None:
        headers = {"x-api-key": "key-of-anna", "x-forwarded-for": "127.0.0.1", "forwarded": "for=127.0.0.1"}
        reply = await asked_from(running, address, headers)
        error = reply.json()["error"]
        assert (reply.status_code, error["code"]) == (403, "status_not_allowed")
        assert "`server.status_from: anywhere`" in error["message"]

    with_gateway(gateway, test, auth=ANNA)


def test_other_machines_may_where_the_operator_says_so_and_keys_count_all_the_same(gateway: GatewayFactory) -> None:
    async def test(running: RunningGateway) -> None:
        assert (await asked_from(running, STRANGER, {})).status_code == 401
        assert (await asked_from(running, STRANGER, {"x-api-key": "key-of-anna"})).status_code == 200

    with_gateway(gateway, test, auth=ANNA, server=ServerConfig(status_from="anywhere"))


def test_it_is_only_read(gateway: GatewayFactory) -> None:
    async def test(running: RunningGateway) -> None:
        url = f"{running.url}/llmgate/status"
        head = await running.client.head(url)
        assert (head.status_code, head.content) == (200, b"")
        assert (await running.client.post(url)).status_code == 405

    with_gateway(gateway, test)
