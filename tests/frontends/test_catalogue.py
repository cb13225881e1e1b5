"""Models, health, readiness and probes, over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from llmgate_core.model_facts import Facts
from llmgate_core.sections import AuthConfig, CallerKey, CallerSecret
from llmgate_core.testing import Exchange

if TYPE_CHECKING:
    from tests.conftest import GatewayFactory, RunningGateway

IDS = ["plain", "org/name", "name:free", "org/name:free", "用"]


async def unused(exchange: Exchange) -> None:
    raise AssertionError("nobody should have asked")


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


def test_models_are_listed_by_backend_and_bare(gateway: GatewayFactory) -> None:
    async def test(running: RunningGateway) -> None:
        listed = (await running.client.get(f"{running.url}/v1/models")).json()
        assert listed["object"] == "list"
        assert {model["id"] for model in listed["data"]} == {*IDS, *(f"openai-compatible:{id}" for id in IDS)}
        assert {model["owned_by"] for model in listed["data"]} == {"openai-compatible.default"}
        assert all(model["object"] == "model" and isinstance(model["created"], int) for model in listed["data"])

    with_gateway(gateway, test, extra={"models": IDS})


def test_anthropics_clients_get_anthropics_list(gateway: GatewayFactory) -> None:
    async def test(running: RunningGateway) -> None:
        headers = {"anthropic-version": "2023-06-01"}
        listed = (await running.client.get(f"{running.url}/v1/models?limit=1000", headers=headers)).json()
        assert (listed["has_more"], listed["first_id"], listed["last_id"]) == (False, "openai-compatible:m", "m")
        assert [(one["type"], one["id"], one["display_name"]) for one in listed["data"]] == [
            ("model", "openai-compatible:m", "openai-compatible:m"),
            ("model", "m", "m"),
        ]
        one = (await running.client.get(f"{running.url}/v1/models/m", headers=headers)).json()
        assert (one["type"], one["id"]) == ("model", "m")

    with_gateway(gateway, test, extra={"models": ["m"]})


def test_what_is_known_of_a_model_is_told_in_openrouters_names(gateway: GatewayFactory) -> None:
    facts = {
        "m": Facts(context=1000, max_output=50, input=("text", "image"), refuses=("seed",)),
        "small": Facts(context=10),
    }

    async def test(running: RunningGateway) -> None:
        usual = {"object": "model", "created": 0, "owned_by": "openai-compatible.default"}
        listed = (await running.client.get(f"{running.url}/v1/models")).json()["data"]
        assert listed[3:] == [
            {
                "id": "m",
                **usual,
                "context_length": 1000,
                "architecture": {"input_modalities": ["text", "image"]},
                "top_provider": {"context_length": 1000, "max_completion_tokens": 50},
            },
            {"id": "small", **usual, "context_length": 10},
            {"id": "unknown", **usual},
        ]
        one = (await running.client.get(f"{running.url}/v1/models/openai-compatible:m")).json()
        assert one == {**listed[3], "id": "openai-compatible:m"}

    with_gateway(gateway, test, extra={"models": ["m", "small", "unknown"]}, backend={"model_facts": facts})


@pytest.mark.parametrize("id", [*IDS, *(f"openai-compatible:{id}" for id in IDS)])
@pytest.mark.parametrize("quoted", [False, True])
def test_one_model_is_found_by_its_id(gateway: GatewayFactory, id: str, quoted: bool) -> None:
    async def test(running: RunningGateway) -> None:
        path = id.replace("/", "%2F").replace(":", "%3A") if quoted else id
        reply = await running.client.get(f"{running.url}/v1/models/{path}")
        assert (reply.status_code, reply.json()["id"]) == (200, id)

    with_gateway(gateway, test, extra={"models": IDS})


def test_an_unknown_model_is_a_404(gateway: GatewayFactory) -> None:
    async def test(running: RunningGateway) -> None:
        reply = await running.client.get(f"{running.url}/v1/models/org/unknown")
        error = reply.json()["error"]
        assert (reply.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
        assert "`org/unknown`" in error["message"]

    with_gateway(gateway, test)


def test_an_upstream_that_lists_its_models_is_asked(gateway: GatewayFactory) -> None:
    async def lists(exchange: Exchange) -> None:
        assert exchange.request.path == "/v1/models"
        assert exchange.request.headers["authorization"] == "Bearer sk-12345678"
        await exchange.reply(200, {"data": [{"id": "theirs"}]})

    async def test(running: RunningGateway) -> None:
        listed = (await running.client.get(f"{running.url}/v1/models")).json()
        assert [model["id"] for model in listed["data"]] == ["openai-compatible:theirs", "theirs"]

    with_gateway(gateway, test, lists, extra={"models": None, "api_key": "sk-12345678"})


@pytest.mark.parametrize("answer", [(500, b"down"), (200, b"<html>"), (200, b'{"data": [1]}'), (200, b"[]")])
def test_an_upstream_that_cannot_list_leaves_the_list_empty(gateway: GatewayFactory, answer: tuple[int, bytes]) -> None:
    async def fails(exchange: Exchange) -> None:
        await exchange.reply(*answer)

    async def test(running: RunningGateway) -> None:
        reply = await running.client.get(f"{running.url}/v1/models")
        assert (reply.status_code, reply.json()) == (200, {"object": "list", "data": []})

    with_gateway(gateway, test, fails, extra={"models": None})


def test_alive_and_ready(gateway: GatewayFactory) -> None:
    async def test(running: RunningGateway) -> None:
        alive = await running.client.get(f"{running.url}/healthz")
        ready = await running.client.get(f"{running.url}/readyz")
        assert (alive.status_code, alive.json()) == (200, {"status": "ok"})
        assert (ready.status_code, ready.json()) == (
            200,
            {"status": "ready", "backends": {"openai-compatible.default": "ready"}},
        )

    with_gateway(gateway, test)


def test_not_ready_without_a_usable_backend_and_without_saying_why_to_strangers(gateway: GatewayFactory) -> None:
    async def test(running: RunningGateway) -> None:
        ready = await running.client.get(f"{running.url}/readyz")
        assert ready.status_code == 503
        assert ready.json() == {"status": "not_ready", "backends": {"openai-compatible.default": "not_ready"}}
        assert (await running.client.get(f"{running.url}/healthz")).status_code == 200

    with_gateway(gateway, test, extra={"api_key": "env:MISSING_KEY"})


@pytest.mark.parametrize("path", ["/", "/api/hello", "/healthz", "/readyz", "/v1/models", "/v1/models/m"])
def test_head_probes_get_a_200_without_a_body(gateway: GatewayFactory, path: str) -> None:
    async def test(running: RunningGateway) -> None:
        for _ in range(3):  # one connection: a body would be taken for the next answer
            reply = await running.client.head(running.url + path)
            assert (reply.status_code, reply.content) == (200, b"")
            assert reply.headers["x-request-id"]
        assert (await running.client.get(f"{running.url}/healthz")).json() == {"status": "ok"}

    with_gateway(gateway, test)


def test_head_of_what_is_not_there_has_no_body_either(gateway: GatewayFactory) -> None:
    async def test(running: RunningGateway) -> None:
        for _ in range(3):
            reply = await running.client.head(f"{running.url}/nothing")
            assert (reply.status_code, reply.content) == (404, b"")

    with_gateway(gateway, test)


def test_models_need_a_key_and_health_does_not(gateway: GatewayFactory) -> None:
    auth = AuthConfig((CallerKey("anna", CallerSecret("key-of-anna")),))

    async def test(running: RunningGateway) -> None:
        for path, status in (("/v1/models", 401), ("/", 200), ("/healthz", 200), ("/readyz", 200)):
            assert (await running.client.get(running.url + path)).status_code == status
        keyed = await running.client.get(f"{running.url}/v1/models", headers={"x-api-key": "key-of-anna"})
        assert keyed.status_code == 200
        assert (await running.finished(5)).caller == "anna"

    with_gateway(gateway, test, auth=auth)
