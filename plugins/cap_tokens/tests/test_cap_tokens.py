"""The policy alone, and in a gateway that loads it by its entry point."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmgate_cap_tokens import CapTokens, CapTokensSettings
from llmgate_core import Body, GatewayRequest, Leaf, Params, Policy
from llmgate_core.app import create_app
from llmgate_core.config import Places, load
from llmgate_core.plugins import load as load_plugins
from llmgate_core.testing import Exchange, LoopbackServer, ScriptedUpstream

POLICY: Policy = CapTokens(CapTokensSettings(100, {"batch": 10}))
LEAF = Leaf("acme.default", "small")


def request(caller: str | None = None) -> GatewayRequest:
    return GatewayRequest("req_1", "openai.chat", "generate", "small", Body(b"{}"), False, {}, caller)


def capped(caller: str | None = None, **layers: Any) -> tuple[Any, str]:
    params = Params({layer: {"max_tokens": value} for layer, value in layers.items()})  # type: ignore[misc]
    found = POLICY.apply(request(caller), LEAF, params).params.effective()["max_tokens"]
    return found.value, found.layer


@pytest.mark.parametrize(
    ("caller", "layers", "wanted"),
    [
        (None, {}, (100, "policy")),
        (None, {"client": 99}, (99, "client")),
        (None, {"client": 101}, (100, "policy")),
        (None, {"default": 5, "client": 500}, (100, "policy")),
        (None, {"uri": 500}, (100, "policy")),
        (None, {"uri": 50, "client": 500}, (50, "uri")),
        (None, {"forced": 500, "client": 1}, (500, "forced")),
        (None, {"client": "many"}, (100, "policy")),
        (None, {"client": True}, (100, "policy")),
        (None, {"client": -1}, (100, "policy")),
        (None, {"client": 0}, (100, "policy")),
        (None, {"uri": 50, "client": -1}, (50, "uri")),
        ("alice", {"client": 50}, (50, "client")),
        ("batch", {"client": 50}, (10, "policy")),
    ],
)
def test_the_lower_one_counts(caller: str | None, layers: dict[str, Any], wanted: tuple[Any, str]) -> None:
    assert capped(caller, **layers) == wanted


def test_a_response_tells_that_it_was_capped() -> None:
    verdict = POLICY.apply(request(), LEAF, Params())
    assert verdict.told(verdict.params) == {"x-llmgate-capped": "max_tokens=100"}
    untouched = POLICY.apply(request(), LEAF, Params({"client": {"max_tokens": 1}}))
    assert untouched.told(untouched.params) == {}


def test_a_gateway_loads_it_by_its_entry_point(tmp_path: Path) -> None:
    async def answer(exchange: Exchange) -> None:
        choice = {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}
        await exchange.reply(200, {"id": "1", "object": "chat.completion", "choices": [choice]})

    async def run() -> None:
        async with ScriptedUpstream(answer) as upstream:
            path = tmp_path / "config.yaml"
            path.write_text(
                f"backends: {{openai-compatible: {{extra: {{base_url: '{upstream.url}/v1'}}}}}}\n"
                "plugins: {load: [cap-tokens], settings: {cap-tokens: {limit: 7}}}\n"
            )
            config = load(Places(path)).checked()
            plugins = load_plugins(config.plugin_names())
            assert plugins.problems == {}
            asked = {"model": "m?max_tokens=50", "max_tokens": 9, "messages": [{"role": "user", "content": "?"}]}
            app = create_app(config, plugins=plugins).app
            async with LoopbackServer(app) as url, httpx.AsyncClient(trust_env=False) as http:
                reply = await http.post(f"{url}/v1/chat/completions", json=asked)
            assert (reply.status_code, reply.headers["x-llmgate-capped"]) == (200, "max_tokens=7")
            assert upstream.requests[0].json()["max_tokens"] == 7

    asyncio.run(asyncio.wait_for(run(), 30))
