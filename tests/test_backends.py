"""Backends: decoded, constructed, asked whether they are ready, and closed in reverse."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from llmgate_core.backends import MAX_MODELS, Backend, Backends, Readiness, Remembered, World
from llmgate_core.backoff import BackoffRules
from llmgate_core.config import BackendConfig, FailureHandlingConfig, GatewayConfig, Origin, TimeoutsConfig
from llmgate_core.connectors import Connector, Instance, ModelInfo
from llmgate_core.construction import build
from llmgate_core.credentials import Credential, CredentialStatus
from llmgate_core.errors import ConfigError, ConnectorError, PluginError
from llmgate_core.model_facts import Facts
from llmgate_core.openai_compatible import OpenAICompatible
from llmgate_core.plugins import Installed, Loaded, PluginSet
from llmgate_core.secret import Secret
from llmgate_core.upstream import Client, Timeouts, Upstream

WORLD = World(clock=lambda: 1_800_000_000.0, random=random.Random(1), environ={"NAME": "value"}, home=Path("/nowhere"))


@dataclass(frozen=True)
class AcmeSettings:
    base_url: str = "http://127.0.0.1:9"
    wait: float = 1.0


class Acme(OpenAICompatible):
    """Tells `happened` what happens to it."""

    name: ClassVar[str] = "acme"
    settings: AcmeSettings
    happened: ClassVar[list[str]] = []

    async def aclose(self) -> None:
        self.happened.append(f"closed {self.instance.name}")


class Recording(Upstream):
    """Keeps the timeouts that each backend asked for."""

    def __init__(self) -> None:
        super().__init__({})
        self.timeouts: list[Timeouts] = []

    def client(self, timeouts: Timeouts) -> Client:
        self.timeouts.append(timeouts)
        return super().client(timeouts)


def made(
    *backends: BackendConfig, connector: type[Connector] = Acme, upstream: Upstream | None = None, **sections: Any
) -> Backends:
    plugins = PluginSet((Loaded(Installed("acme", "llmgate-acme", "1", "acme"), connectors=(connector,)),))
    return build(GatewayConfig(backends=backends, **sections), plugins, upstream or Recording(), WORLD)


def acme(instance: str = "default", **more: Any) -> BackendConfig:
    return BackendConfig("acme", instance, **more)


@pytest.fixture(autouse=True)
def events() -> list[str]:
    Acme.happened.clear()
    return Acme.happened


# --- building --------------------------------------------------------------------------------------------------------


def test_a_connector_gets_its_part_of_the_world() -> None:
    backends = made(acme("one", extra={"wait": 3}))
    connector = backends["acme.one"].connector
    assert isinstance(connector, Acme)
    instance: Instance = connector.instance
    assert instance.name == "acme.one"
    assert instance.settings == AcmeSettings(wait=3.0)
    assert (instance.clock, instance.random, instance.environ, instance.home) == (
        WORLD.clock,
        WORLD.random,
        WORLD.environ,
        WORLD.home,
    )
    assert instance.logger.name == "llmgate.backend.acme.one"


def test_instances_of_one_connector_share_nothing() -> None:
    backends = made(acme("one", default_params={"seed": 1}), acme("two", forced_params={"seed": 2}))
    one, two = backends
    assert (one.name, two.name, len(backends)) == ("acme.one", "acme.two", 2)
    assert one.connector is not two.connector
    assert one.credentials is not two.credentials
    assert (one.default_params, one.forced_params) == ({"seed": 1}, {})
    assert (two.default_params, two.forced_params) == ({}, {"seed": 2})


def test_a_backend_that_is_switched_off_is_not_built_but_known_by_name() -> None:
    backends = made(acme("one"), acme("two", enabled=False, extra={"nonsense": 1}))
    assert [backend.name for backend in backends] == ["acme.one"]
    assert backends.names.disabled == ("acme.two",)
    with pytest.raises(KeyError):
        backends["acme.two"]


def test_every_mistake_of_every_extra_is_told_at_once() -> None:
    def origin(line: int) -> Origin:
        return Origin("config.yaml", line, {("extra",): line + 1, ("extra", "wait"): line + 2})

    with pytest.raises(ConfigError) as caught:
        made(
            acme("two", extra={"wait": "long", "colour": "red"}, origin=origin(20)),
            acme("one", extra={"wait": []}, origin=origin(10)),
        )
    assert [str(problem) for problem in caught.value.problems] == [
        "config.yaml:12: `extra.wait`: expected `float`, got `list`.",
        "config.yaml:21: unknown key `extra.colour`; known here: `base_url`, `wait`",
        "config.yaml:22: `extra.wait`: expected `float`, got `str`.",
    ]


def test_nothing_is_constructed_when_a_setting_is_wrong(events: list[str]) -> None:
    class Loud(Acme):
        def __init__(self, instance: Instance) -> None:
            super().__init__(instance)
            self.happened.append("constructed")

    with pytest.raises(ConfigError):
        made(acme("one"), acme("two", extra={"wait": "long"}), connector=Loud)
    assert events == []


@pytest.mark.parametrize("method", ["__init__", "credentials", "retry"])
def test_a_connector_that_raises_when_constructed_is_named(method: str) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no licence")

    connector = type("Broken", (Acme,), {method: broken})
    with pytest.raises(PluginError) as caught:
        made(acme("one"), connector=connector)
    line = broken.__code__.co_firstlineno + 1
    assert str(caught.value) == (
        f"backend `acme.one`: connector `acme` raised RuntimeError when constructed: no licence ({__file__}:{line})"
    )


def test_what_core_raises_is_told_at_the_line_of_the_plugin_that_led_there() -> None:
    def credentials(_: Any) -> Any:
        return Secret("env:")

    with pytest.raises(PluginError) as caught:
        made(acme("one"), connector=type("Broken", (Acme,), {"credentials": credentials}))
    assert str(caught.value).endswith(f"({__file__}:{credentials.__code__.co_firstlineno + 1})")


def test_a_backoff_that_is_none_is_told_in_words_and_need_not_be_offered() -> None:
    with pytest.raises(PluginError, match=r"its `backoff\(\)` returned a `float`, not `BackoffRules` or None"):
        made(acme("one"), connector=type("Broken", (Acme,), {"backoff": lambda _: 1.0}))
    rules = BackoffRules(max_wait=3.0)
    (backend,) = made(acme("one"), connector=type("Patient", (Acme,), {"backoff": lambda _: rules}))
    shared = backend.backoff("one")
    assert shared is not None
    assert (shared.rules, backend.backoff("two") is shared) == (rules, True)


def test_without_rules_of_the_connector_each_model_has_a_deadline_of_its_own() -> None:
    handling = FailureHandlingConfig(max_silent_wait_seconds=7.0, min_retry_wait_seconds=2.0, max_cooldown_seconds=60.0)
    (backend,) = made(acme("one"), failure_handling=handling)
    one, two = backend.backoff("one"), backend.backoff("two")
    assert one is not None
    assert one is backend.backoff("one")
    assert one is not two
    assert (one.rules.max_wait, one.rules.unhinted, one.rules.longest) == (7.0, 2.0, 60.0)
    (careless,) = made(acme("one"), failure_handling=FailureHandlingConfig(enabled=False))
    assert careless.backoff("one") is None


def test_of_many_models_those_are_forgotten_that_tell_nothing() -> None:
    """A caller may ask for any name, and must not wipe out what is known of others."""
    (backend,) = made(acme("one"))
    failing = backend.circuit("failing")
    ask(backend, "failing", ConnectorError("unavailable", "down"))
    limited = backend.backoff("limited")
    assert limited is not None
    limited.record(60.0, None, sent=0.0, now=0.0)
    idle = backend.circuit("idle")
    for number in range(2 * MAX_MODELS):
        backend.circuit(str(number))
        backend.backoff(str(number))
    assert backend.circuit("failing") is failing
    assert backend.backoff("limited") is limited
    assert backend.circuit("idle") is not idle


def ask(backend: Backend, model: str, failure: ConnectorError | None = None) -> None:
    """One attempt, at the 100th second."""
    with (
        suppress(ConnectorError),
        backend.circuit(model).watching(lambda: 100.0, lambda: failure.kind if failure else None),
    ):
        if failure is not None:
            raise failure


def test_what_is_remembered_is_told_for_each_moment() -> None:
    (backend,) = made(acme("one"))
    assert (backend.remembered(0.0), backend.worst_circuit(0.0), backend.shared_backoff(0.0)) == ([], "closed", None)
    for _ in range(5):
        ask(backend, "fails", ConnectorError("unavailable", "down"))
    ask(backend, "works")
    limited = backend.backoff("limited")
    assert limited is not None
    limited.record(8.0, None, sent=100.0, now=100.0)
    assert backend.remembered(101.0) == [
        Remembered("fails", "open", 5, 29.0, None),
        Remembered("works", "closed", 0, None, None),
        Remembered("limited", "closed", 0, None, 7.0),
    ]
    assert backend.worst_circuit(101.0) == "open"
    assert backend.remembered(131.0)[0] == Remembered("fails", "half-open", 5, 0.0, None)
    assert backend.remembered(131.0)[2].backoff == 0.0  # one may go first; the others wait for what becomes of it
    assert backend.worst_circuit(131.0) == "half-open"
    ask(backend, "fails")
    limited.succeeded(sent=131.0)
    assert backend.worst_circuit(131.0) == "closed"
    assert all((one.failures, one.tried_in, one.backoff) == (0, None, None) for one in backend.remembered(131.0))


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ("credentials", "its `credentials()` returned a `NoneType`, which has no method `get`"),
        ("retry", "its `retry()` returned a `NoneType`, which has no method `delay`"),
    ],
)
def test_a_seam_that_returns_nothing_usable_is_told_in_words(method: str, told: str) -> None:
    with pytest.raises(PluginError) as caught:
        made(acme("one"), connector=type("Broken", (Acme,), {method: lambda _: None}))
    assert str(caught.value) == f"backend `acme.one`: connector `acme`: {told}"


def test_timeouts_are_the_common_ones_unless_a_backend_has_its_own() -> None:
    upstream = Recording()
    made(
        acme("one"),
        acme("two", timeouts={"idle_seconds": 600.0, "first_byte_seconds": None}),
        upstream=upstream,
        timeouts=TimeoutsConfig(connect_seconds=3.0),
    )
    assert upstream.timeouts == [Timeouts(3.0, 600.0, 300.0, None), Timeouts(3.0, None, 600.0, None)]


# --- readiness -------------------------------------------------------------------------------------------------------


class FakeCredentials:
    """A provider whose answers are given."""

    def __init__(
        self,
        status: Callable[[], CredentialStatus] = lambda: CredentialStatus(True, "fine"),
        get: Callable[[], Awaitable[Credential]] | None = None,
    ) -> None:
        self.status = status
        self._get = get

    async def get(self) -> Credential:
        return await self._get() if self._get else Credential({})

    async def renew(self, rejected: Credential) -> Credential:
        return rejected


def with_credentials(provider: FakeCredentials, **methods: Any) -> type[Connector]:
    return type("Fake", (Acme,), {"credentials": lambda _: provider, **methods})


def readiness(connector: type[Connector]) -> Readiness:
    return made(acme(), connector=connector)["acme.default"].readiness()


def test_readiness_is_what_the_credentials_say() -> None:
    assert readiness(with_credentials(FakeCredentials())) == Readiness(True, "fine")
    unready = FakeCredentials(lambda: CredentialStatus(False, "log in"))
    assert readiness(with_credentials(unready)) == Readiness(False, "log in")


def test_a_connector_that_refuses_use_is_not_ready_whatever_its_credentials() -> None:
    def check(_: Any) -> None:
        raise ConnectorError("disabled", "it is switched off")

    assert readiness(with_credentials(FakeCredentials(), check=check)) == Readiness(False, "it is switched off")


def test_a_bug_in_a_connector_is_not_ready_and_its_text_goes_to_the_log_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def status() -> CredentialStatus:
        raise RuntimeError("sk-MARKER")

    with caplog.at_level(logging.ERROR, logger="llmgate.backends"):
        found = readiness(with_credentials(FakeCredentials(status)))
    assert found == Readiness(False, "its connector raised RuntimeError; see the log")
    (said,) = caplog.records
    assert said.getMessage() == "connector of backend acme.default"
    assert said.exc_info is not None


# --- models and closing ----------------------------------------------------------------------------------------------


def test_models_come_from_the_connector() -> None:
    @dataclass(frozen=True)
    class Listed(AcmeSettings):
        models: tuple[str, ...] = ("small", "large")

    connector = type("WithModels", (Acme,), {"__annotations__": {"settings": Listed}})
    learnt: list[str] = []
    found = asyncio.run(made(acme(), connector=connector)["acme.default"].models(learnt.extend))
    assert [model.id for model in found] == ["small", "large"]
    assert learnt == [], "no credential was needed"


def test_a_credential_is_told_before_an_upstream_is_asked_for_models() -> None:
    learnt: list[str] = []

    async def models(_: Any, credential: Callable[[], Awaitable[Credential]]) -> list[ModelInfo]:
        await credential()
        return [ModelInfo(secret) for secret in learnt]

    async def key() -> Credential:
        return Credential({"authorization": "Bearer sk-MARKER"})

    backends = made(acme(), connector=with_credentials(FakeCredentials(get=key), models=models))
    found = asyncio.run(backends["acme.default"].models(learnt.extend))
    assert [model.id for model in found] == ["Bearer sk-MARKER", "sk-MARKER"]


def facts_of(connector: type[Connector], model: str = "m", **more: Any) -> ModelInfo | None:
    return made(acme(**more), connector=connector)["acme.default"].facts(model)


def knowing(answer: Any) -> type[Acme]:
    def facts(_: Any, model: str) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return type("Knowing", (Acme,), {"facts": facts})


def test_facts_are_the_operators_over_the_connectors() -> None:
    connector = knowing(ModelInfo("m", context=10, refuses=("seed",), source="a page"))
    assert facts_of(connector) == ModelInfo("m", context=10, refuses=("seed",), source="a page")
    said = facts_of(connector, model_facts={"m": Facts(context=5)})
    assert said == ModelInfo("m", context=5, refuses=("seed",), source="configuration; a page")


def test_nothing_is_known_of_a_model_of_which_nobody_says_anything() -> None:
    assert facts_of(Acme) is None
    assert facts_of(Acme, model_facts={"other": Facts(context=5)}) is None
    assert facts_of(Acme, model_facts={"*": Facts(context=5)}) == ModelInfo("m", context=5, source="configuration")


def test_a_connector_need_not_know_anything() -> None:
    class Bare:
        name: ClassVar[str] = "acme"
        settings: AcmeSettings
        dialects: ClassVar[frozenset[str]] = frozenset({"openai.chat"})

        def __init__(self, instance: Instance) -> None:
            self.credentials = Acme(instance).credentials
            self.retry = Acme(instance).retry

    assert facts_of(Bare) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "words"),
    [(ZeroDivisionError("inside"), "ZeroDivisionError"), ({"context": 5}, "`facts()` returned a `dict`")],
    ids=["raises", "another type"],
)
def test_facts_that_cannot_be_had_stop_nobody(answer: Any, words: str, caplog: pytest.LogCaptureFixture) -> None:
    found = facts_of(knowing(answer), model_facts={"m": Facts(max_output=5)})
    assert found == ModelInfo("m", max_output=5, source="configuration")
    assert words in caplog.text


def test_listed_models_come_with_the_operators_facts() -> None:
    @dataclass(frozen=True)
    class Listed(AcmeSettings):
        models: tuple[str, ...] = ("m", "o3")

    connector = type("WithModels", (Acme,), {"__annotations__": {"settings": Listed}})
    backend = made(acme(model_facts={"*": Facts(context=5)}), connector=connector)["acme.default"]
    small, family = asyncio.run(backend.models())
    assert small == ModelInfo("m", context=5, source="configuration")
    assert (family.context, family.max_output) == (5, 100_000)


def test_the_last_that_was_opened_is_closed_first(events: list[str]) -> None:
    asyncio.run(made(acme("one"), acme("two"), acme("three")).aclose())
    assert events == ["closed acme.three", "closed acme.two", "closed acme.one"]


def test_one_that_cannot_be_closed_keeps_nobody_open(events: list[str], caplog: pytest.LogCaptureFixture) -> None:
    class Stuck(Acme):
        async def aclose(self) -> None:
            await super().aclose()
            if self.instance.name == "acme.two":
                raise OSError("stuck")

    with caplog.at_level(logging.ERROR, logger="llmgate.backends"):
        asyncio.run(made(acme("one"), acme("two"), acme("three"), connector=Stuck).aclose())
    assert events == ["closed acme.three", "closed acme.two", "closed acme.one"]
    assert [said.getMessage() for said in caplog.records] == ["closing backend acme.two"]


def test_closing_lets_a_refresh_finish_first(events: list[str]) -> None:
    """A refresh token that has been spent upstream must reach the disk."""

    async def scenario() -> None:
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def refresh() -> Credential:
            asked.set()
            await go_on.wait()
            events.append("refreshed")
            return Credential({})

        backends = made(acme(), connector=with_credentials(FakeCredentials(get=refresh)))
        caller = asyncio.create_task(backends["acme.default"].credentials.get())
        await asked.wait()
        caller.cancel()
        closing = asyncio.create_task(backends.aclose())
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.wait_for(closing, 10)
        await asyncio.gather(caller, return_exceptions=True)

    asyncio.run(scenario())
    assert events == ["refreshed", "closed acme.default"]
