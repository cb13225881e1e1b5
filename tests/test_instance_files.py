"""The instance files that the repository ships: switched off, and each works once it is enabled and has its key."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from llmgate_core.app import create_app
from llmgate_core.backends import World
from llmgate_core.config import BackendConfig, GatewayConfig, Places, load
from llmgate_core.testing import Exchange, LoopbackServer, ScriptedUpstream

FOLDER = Path(__file__).parent.parent / "config" / "backends" / "backend-instances"
SHIPPED = {backend.instance: backend for backend in load(Places(instances=FOLDER)).checked().backends}
BY_KEY = {name: backend for name, backend in SHIPPED.items() if backend.type == "openai-compatible"}
ADDRESSES = {
    "qwen-intl": "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
    "qwen-cn": "https://dashscope.aliyuncs.com/compatible-mode/v1",
    "qwen-us": "https://dashscope-us.aliyuncs.com/compatible-mode/v1",
    "qwen-hk": "https://cn-hongkong.dashscope.aliyuncs.com/compatible-mode/v1",
    "qwen-coding-intl": "https://coding-intl.dashscope.aliyuncs.com/v1",
    "qwen-coding-cn": "https://coding.dashscope.aliyuncs.com/v1",
    "qwen-token-intl": "https://token-plan.ap-southeast-1.maas.aliyuncs.com/compatible-mode/v1",
    "qwen-token-cn": "https://token-plan.cn-beijing.maas.aliyuncs.com/compatible-mode/v1",
}
"""Sources: Alibaba Cloud Model Studio, Coding Plan and Token Plan documentation, and the presets of the Qwen CLI."""

KEY = "sk-sp-of-this-test"
each = pytest.mark.parametrize("backend", BY_KEY.values(), ids=BY_KEY.keys())


def variable(backend: BackendConfig) -> str:
    return str(backend.extra["api_key"]).removeprefix("env:")


def served(backend: BackendConfig, environ: dict[str, str], **extra: Any) -> Any:
    enabled = replace(backend, enabled=True, extra={**backend.extra, **extra})
    world = World(lambda: 0.0, random.Random(1), environ, Path("/nowhere"))
    return create_app(GatewayConfig(backends=(enabled,)), world=world)


def test_every_address_is_the_providers() -> None:
    assert {name: backend.extra["base_url"] for name, backend in BY_KEY.items()} == ADDRESSES


def test_nothing_that_costs_money_is_on() -> None:
    assert not any(backend.enabled for backend in BY_KEY.values())


def test_files_of_one_provider_differ_by_region_and_key() -> None:
    """A key works only in its own region."""
    places = {name: SHIPPED[name] for name in ("global", "china")}
    assert [backend.extra["region"] for backend in places.values()] == ["global", "china"]
    assert len({variable(backend) for backend in places.values()}) == 2
    assert not any(backend.enabled for backend in places.values())


def test_claude_is_asked_at_its_own_path() -> None:
    claude = SHIPPED["claude"]
    assert not claude.enabled
    assert claude.extra == {"base_url": "https://api.anthropic.com", "api_key": "env:ANTHROPIC_API_KEY"}
    (one,) = served(claude, {"ANTHROPIC_API_KEY": KEY}).backends
    assert one.readiness().ready


@each
def test_without_its_key_it_says_which_to_set(backend: BackendConfig) -> None:
    (one,) = served(backend, {}).backends
    assert (one.readiness().ready, variable(backend) in one.readiness().detail) == (False, True)


@each
def test_with_its_key_it_is_asked_at_its_own_path(backend: BackendConfig) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.reply(200, {"choices": [{"message": {"content": "你好"}}]})

    async def test() -> None:
        async with ScriptedUpstream(answer) as upstream:
            path = urlsplit(backend.extra["base_url"]).path
            gateway = served(backend, {variable(backend): KEY}, base_url=upstream.url + path)
            async with LoopbackServer(gateway.app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
                body = {"model": f"{backend.name}:qwen3-coder-plus", "messages": [{"role": "user", "content": "?"}]}
                reply = await client.post("/v1/chat/completions", json=body)
                assert reply.json()["choices"][0]["message"]["content"] == "你好"
                if models := backend.extra.get("models"):
                    listed = (await client.get("/v1/models")).json()["data"]
                    assert {f"{backend.name}:{id}" for id in models} <= {model["id"] for model in listed}
            (request,) = upstream.requests
            assert (request.path, request.headers["authorization"]) == (f"{path}/chat/completions", f"Bearer {KEY}")
            assert request.json()["model"] == "qwen3-coder-plus"

    asyncio.run(asyncio.wait_for(test(), 20))


def test_the_file_says_what_to_do() -> None:
    for name, backend in BY_KEY.items():
        text = (FOLDER / f"openai-compatible.{name}.yaml").read_text(encoding="utf-8")
        assert f"Set {variable(backend)} and `enabled: true`" in text
        assert f"`{backend.name}:" in text
