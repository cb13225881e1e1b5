"""The composition root: what stands against a start, what routes where, and that all is closed at the end."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from llmgate_core.app import Gateway, create_app
from llmgate_core.backends import World
from llmgate_core.config import BackendConfig, GatewayConfig
from llmgate_core.connectors import Connector, ModelInfo
from llmgate_core.credentials import Credential
from llmgate_core.errors import ConfigError, ConnectorError, PluginError, SelectorError
from llmgate_core.openai_compatible import OpenAICompatible
from llmgate_core.plugins import Installed, Loaded, PluginSet, load
from llmgate_core.policies.rewrites import Rewrite
from llmgate_core.sections import AuthConfig, CallerKey, CallerSecret, PluginsConfig
from llmgate_core.testing import Exchange, LoopbackServer

if TYPE_CHECKING:
    from tests.conftest import GatewayFactory, RunningGateway


@dataclass(frozen=True)
class AcmeSettings:
    base_url: str = "http://127.0.0.1:9"


class Acme(OpenAICompatible):
    name: ClassVar[str] = "acme"
    settings: AcmeSettings
    closed: ClassVar[list[str]]

    async def models(self, credential: Callable[[], Awaitable[Credential]]) -> list[ModelInfo]:
        return [ModelInfo(f"model-of-{self.instance.name.partition('.')[2]}")]

    async def aclose(self) -> None:
        self.closed.append(self.instance.name)


def acme(**members: Any) -> type[Acme]:
    made: type[Acme] = type("AcmeOfThisTest", (Acme,), {"closed": [], **members})
    return made


def plugins_with(*connectors: type[Connector]) -> PluginSet:
    return PluginSet((*load(()).loaded, Loaded(Installed("acme", "x", "1", "x"), connectors=connectors)))


def build(
    *instances: str, cls: type[Acme] | None = None, environ: Mapping[str, str] | None = None, **sections: Any
) -> Gateway:
    """A gateway whose backends are these instances of `acme`."""
    backends = tuple(BackendConfig("acme", instance) for instance in instances)
    world = World(lambda: 0.0, random.Random(1), environ or {}, Path("/nowhere"))
    return create_app(GatewayConfig(backends=backends, **sections), plugins=plugins_with(cls or acme()), world=world)


# --- what stands against a start -----------------------------------------------------------------------------


def test_a_connector_that_nobody_brings() -> None:
    config = GatewayConfig(backends=(BackendConfig("acme"), BackendConfig("off", enabled=False)))
    with pytest.raises(ConfigError) as caught:
        create_app(config, plugins=load(("acme",)))
    (problem,) = caught.value.problems
    assert "`acme`" in problem.message


def test_a_plugin_that_is_to_be_loaded_and_cannot_be() -> None:
    config = GatewayConfig(plugins=PluginsConfig(load=("no-such-plugin",)))
    with pytest.raises(ConfigError, match="no-such-plugin"):
        create_app(config)


@pytest.mark.parametrize("selector", ["nowhere:m", "acme:m?["])
def test_a_forced_selector_that_can_never_route(selector: str) -> None:
    with pytest.raises(ConfigError, match="`force_model`"):
        build("default", "two", force_model=selector)


def test_all_settings_that_are_wrong_are_told_at_once() -> None:
    backends = (BackendConfig("acme", "a", extra={"base_url": 7}), BackendConfig("acme", "b", extra={"bas_url": "x"}))
    with pytest.raises(ConfigError) as caught:
        create_app(GatewayConfig(backends=backends), plugins=plugins_with(acme()))
    assert len(caught.value.problems) == 2
    assert "did you mean `base_url`?" in str(caught.value)


def test_a_callers_key_that_is_missing_does_not_leave_the_gateway_open() -> None:
    auth = AuthConfig((CallerKey("anna", CallerSecret("env:KEY_OF_ANNA")), CallerSecret("env:OTHER")))
    with pytest.raises(ConfigError) as caught:
        build("default", auth=auth)
    assert "`KEY_OF_ANNA`" in str(caught.value)
    assert "`OTHER`" in str(caught.value)


def test_a_connector_that_raises_when_constructed() -> None:
    def raises(self: Acme, instance: Any) -> None:
        raise ZeroDivisionError("inside")

    with pytest.raises(PluginError, match=r"backend `acme\.default`: connector `acme` raised ZeroDivisionError"):
        build("default", cls=acme(__init__=raises))


def test_a_gateway_without_backends_starts_and_says_what_to_do() -> None:
    gateway = build()
    with pytest.raises(SelectorError, match="add one to the configuration"):
        gateway.route("m")


# --- routing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "backend", "model"),
    [
        ("acme:m", "acme.default", "m"),
        ("acme.two:m", "acme.two", "m"),
        ("acme.two:org/m:free", "acme.two", "org/m:free"),
        ("m", "acme.two", "m"),
        ("default", "acme.two", "their-model"),
    ],
)
def test_a_selector_finds_its_backend(text: str, backend: str, model: str) -> None:
    (leaf,) = build("default", "two", default_backend="acme.two:their-model").route(text).leaves
    assert (leaf.backend, leaf.model) == (backend, model)


def test_force_model_outranks_the_caller() -> None:
    (leaf,) = build("default", "two", force_model="acme.two:forced").route("acme:m").leaves
    assert (leaf.backend, leaf.model) == ("acme.two", "forced")


@pytest.mark.parametrize("model", ["forced", "模型"])
def test_a_forced_model_is_told_in_a_header(gateway: GatewayFactory, model: str) -> None:
    async def answer(exchange: Exchange) -> None:
        assert exchange.request.json()["model"] == model
        await exchange.reply(200, {"choices": [{}]})

    async def run() -> None:
        async with gateway(answer, force_model=f"openai-compatible:{model}") as running:
            reply = await running.chat(model="what/ever")
            assert reply.status_code == 200
            header = dict(reply.headers.raw)[b"x-llmgate-selector"].decode()
            assert header == f"openai-compatible.default:{model}"

    asyncio.run(run())


REWRITES = (Rewrite("gpt-(.*)", r"openai-compatible:\1?seed=1"), Rewrite("to-route", "coder"))
ROUTES = {"coder": "openai-compatible:routed"}


@pytest.mark.parametrize(
    ("asked", "model", "header"),
    [
        ("gpt-4o", "4o", "openai-compatible.default:4o?seed=1"),
        ("coder", "routed", "openai-compatible.default:routed"),
        ("to-route", "routed", "openai-compatible.default:routed"),
        ("other", "other", None),
        ("openai-compatible:coder", "coder", None),
    ],
)
def test_rewrites_and_routes_are_told_in_a_header(
    gateway: GatewayFactory, asked: str, model: str, header: str | None
) -> None:
    async def answer(exchange: Exchange) -> None:
        assert exchange.request.json()["model"] == model
        await exchange.reply(200, {"choices": [{}]})

    async def run() -> None:
        async with gateway(answer, model_aliases=REWRITES, failover_routes=ROUTES) as running:
            reply = await running.chat(model=asked)
            assert (reply.status_code, reply.headers.get("x-llmgate-selector")) == (200, header)
            assert (await running.finished()).selector == asked

    asyncio.run(run())


def test_a_wrong_parameter_of_any_branch_is_refused_before_anybody_is_asked(gateway: GatewayFactory) -> None:
    async def fails(exchange: Exchange) -> None:
        await exchange.reply(503)

    async def run() -> None:
        async with gateway(fails) as running:
            reply = await running.chat(model="openai-compatible:a|openai-compatible:b?temprature=1")
            assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_parameter")
            assert running.upstream.requests == []

    asyncio.run(run())


def test_a_route_fails_over(gateway: GatewayFactory) -> None:
    async def answer(exchange: Exchange) -> None:
        if exchange.request.json()["model"] == "first":
            await exchange.reply(503, {"error": {"message": "overloaded"}})
        else:
            await exchange.reply(200, {"choices": [{"message": {"content": "你好"}}]})

    async def run() -> None:
        routes = {"coder": "openai-compatible:first|openai-compatible:second?seed=1"}
        async with gateway(answer, failover_routes=routes) as running:
            reply = await running.chat(model="coder")
            assert reply.json()["choices"][0]["message"]["content"] == "你好"
            plan = "openai-compatible.default:first|openai-compatible.default:second?seed=1"
            assert reply.headers["x-llmgate-selector"] == plan
            assert reply.headers["x-llmgate-attempts"] == "2"
            assert [request.json()["model"] for request in running.upstream.requests] == ["first", "second"]
            assert [request.json().get("seed") for request in running.upstream.requests] == [None, 1]

    asyncio.run(run())


HOSTILE = [
    "a",
    "|",
    "a|",
    "a^",
    "[weight=1]a^",
    "[",
    ",",
    "=",
    ":",
    "acme:",
    "acmf",
    "?a",
    "?a=1&",
    "&",
    "%41",
    "%",
    "é",
    "模",
    "\\",
    "(",
]


def seconds(gateway: Gateway, text: str) -> float:
    """The least time that it takes to route a model name, or to refuse it."""
    times = []
    for _ in range(5):
        began = time.perf_counter()
        with suppress(SelectorError):
            gateway.route(text)
        times.append(time.perf_counter() - began)
    return min(times)


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_hostile_model_name_takes_time_in_proportion_to_its_length(piece: str) -> None:
    """Rewrites, grammar and the search for what was meant, eight times as long: 64 times would be quadratic."""
    rules = tuple(Rewrite(pattern, "acme:m") for pattern in ("(a+)+b", "(.*)*b", r"(\w+\s?)*(b|c)"))
    gateway = build("default", "two", model_aliases=rules, default_backend="acme")
    small, large = ("m" + piece * (length // len(piece)) for length in (500, 4000))
    seconds(gateway, small)
    assert seconds(gateway, large) < 30 * max(seconds(gateway, small), 20e-6)


def test_what_a_rewrite_made_of_the_text_is_refused_as_a_selector_is() -> None:
    gateway = build("default", model_aliases=(Rewrite("(.*)!", r"acme:\1"),))
    with pytest.raises(SelectorError) as caught:
        gateway.route("!")
    assert (caught.value.text, caught.value.reason) == ("acme:", "the name of a model is missing")


def test_a_rewrite_that_cannot_work_stands_against_a_start() -> None:
    with pytest.raises(ConfigError, match=r"`model_aliases\[0\].pattern`: lookaheads are not supported"):
        build("default", model_aliases=(Rewrite("(?=a)a", "acme:m"),))


# --- models --------------------------------------------------------------------------------------------------


def test_bare_names_are_those_of_the_default_backend() -> None:
    listed = asyncio.run(build("default", "two", default_backend="acme.two").models())
    assert listed.missing == {}
    assert {id: one.backend for id, one in listed.models.items()} == {
        "acme:model-of-default": "acme.default",
        "acme.two:model-of-two": "acme.two",
        "model-of-two": "acme.two",
    }


def test_routes_are_listed_and_stand_before_models_of_their_name() -> None:
    routes = {"coder": "acme:m", "model-of-default": "acme:m"}
    listed = asyncio.run(build("default", failover_routes=routes).models())
    assert {id: one.backend for id, one in listed.models.items()} == {
        "acme:model-of-default": "acme.default",
        "model-of-default": "route",
        "coder": "route",
    }


def test_the_exact_names_of_rewrites_are_listed() -> None:
    rules = (Rewrite("gpt-4o", "acme:m"), Rewrite("claude-.*", "acme:m"))
    listed = asyncio.run(build("default", model_aliases=rules).models())
    assert {id: one.backend for id, one in listed.models.items() if "model" not in id} == {"gpt-4o": "rewrite"}


def test_without_a_default_backend_there_are_no_bare_names() -> None:
    listed = asyncio.run(build("default", "two").models())
    assert set(listed.models) == {"acme:model-of-default", "acme.two:model-of-two"}


@pytest.mark.parametrize("error", [ConnectorError("unavailable", "down"), ZeroDivisionError("inside"), TimeoutError()])
def test_a_backend_that_cannot_say_hides_no_other(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    async def models(self: Acme, credential: Any) -> list[ModelInfo]:
        if self.instance.name == "acme.two":
            raise error
        return [ModelInfo("m")]

    with caplog.at_level(logging.INFO, "llmgate"):
        listed = asyncio.run(build("default", "two", cls=acme(models=models)).models())
    assert set(listed.models) == {"acme:m"}
    assert set(listed.missing) == {"acme.two"}
    assert "acme.two" in caplog.text


# --- the end -------------------------------------------------------------------------------------------------


def test_the_end_of_the_lifespan_closes_all_in_reverse() -> None:
    cls = acme()

    async def run() -> None:
        async with LoopbackServer(build("a", "b", "c", cls=cls).app):
            assert cls.closed == []

    asyncio.run(run())
    assert cls.closed == ["acme.c", "acme.b", "acme.a"]


def test_one_that_fails_to_close_keeps_no_other_open(caplog: pytest.LogCaptureFixture) -> None:
    closed: list[str] = []

    async def aclose(self: Acme) -> None:
        if self.instance.name == "acme.b":
            raise ZeroDivisionError("inside")
        closed.append(self.instance.name)

    asyncio.run(build("a", "b", "c", cls=acme(aclose=aclose)).aclose())
    assert closed == ["acme.c", "acme.a"]
    assert "closing backend acme.b" in caplog.text


def test_the_connections_to_the_upstream_are_closed(gateway: GatewayFactory) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.reply(200, {"choices": [{}]})

    async def run(running: RunningGateway) -> None:
        await running.chat()
        assert running.upstream.open == 1
        await running.app.aclose()
        await asyncio.wait_for(running.upstream.all_closed(), 1)

    async def start() -> None:
        async with gateway(answer) as running:
            await run(running)

    asyncio.run(start())
