"""Plugins that raise wherever they are called: named where their author or operator looks, and nobody else suffers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from tests.sites import CONNECTOR, Site

from llmgate_core.app import Gateway
from llmgate_core.connectors import Connector, UpstreamCall, UpstreamReply
from llmgate_core.credentials import ApiKey
from llmgate_core.errors import PluginError
from llmgate_core.openai_compatible import OpenAICompatible
from llmgate_core.plugins import PluginSet, load, load_all
from llmgate_core.retry import RetryAfter
from llmgate_core.secret import Secret
from llmgate_core.testing import Exchange

if TYPE_CHECKING:
    from tests.conftest import GatewayFactory, RunningGateway


class UnprintableError(Exception):
    """Cannot even say what is wrong."""

    def __str__(self) -> str:
        raise ValueError("no words")


@dataclass(frozen=True)
class Settings:
    base_url: str
    models: tuple[str, ...] | None = None


class Own(OpenAICompatible):
    """Right, with credentials and a retry policy of its own, which tests break."""

    name: ClassVar[str] = "own"
    settings: Settings

    def credentials(self) -> ApiKey:
        return ApiKey(Secret("a-key-of-nobody"), {})

    def retry(self) -> RetryAfter:
        return RetryAfter(max_wait=0.0)


def broken(owner: type[Any], method: str, error: type[BaseException]) -> type[Any]:
    """The same class, one method of which raises when it is called."""

    def raises(*_: Any, **__: Any) -> Any:
        raise error("of the plugin")

    return type(owner.__name__, (owner,), {method: raises, "__module__": __name__})


def with_broken(part: str, method: str, error: type[BaseException]) -> type[Connector]:
    """A connector whose credential provider or retry policy is broken."""
    made = {"credentials": broken(ApiKey, method, error), "retry": broken(RetryAfter, method, error)}[part]
    arguments: tuple[Any, ...] = {"credentials": (Secret("a-key-of-nobody"), {}), "retry": ()}[part]
    return type("Own", (Own,), {part: lambda _: made(*arguments), "__module__": __name__})


async def fine(exchange: Exchange) -> None:
    answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}
    await exchange.reply(200, answer)


async def streamed(exchange: Exchange) -> None:
    await exchange.sse({"choices": [{"index": 0, "delta": {"content": "hi"}}]})
    await exchange.sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    await exchange.sse("[DONE]")


async def down(exchange: Exchange) -> None:
    await exchange.reply(503 if "authorization" in exchange.request.headers else 200, {"choices": [{"message": {}}]})


def told_as(error: type[BaseException]) -> str:
    return "RuntimeError" if error is OfNoKindError else error.__name__


def named(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


class OfNoKindError(BaseException):
    """Such as what test runners skip tests with."""


SORTS = [KeyError, SystemExit, KeyboardInterrupt, UnprintableError, OfNoKindError, asyncio.TimeoutError]
ERRORS = pytest.mark.parametrize("error", SORTS)
IN_A_TASK = pytest.mark.parametrize("error", [*SORTS, asyncio.CancelledError])
"""Where core awaits: there a plugin may let out what it hears of an inner task that was cancelled."""


# --- a connector ------------------------------------------------------------------------------------------------------


@IN_A_TASK
@pytest.mark.parametrize("method", ["check", "send", "url", "headers", "body", "events", "mender", "base_url"])
def test_a_connector_that_raises_for_a_request(
    gateway: GatewayFactory, caplog: pytest.LogCaptureFixture, method: str, error: type[BaseException]
) -> None:
    async def run() -> None:
        async with gateway(
            fine, connector=broken(Own, method, error), beside={"other": "openai-compatible"}
        ) as running:
            await it_is_blamed(running, caplog, error)

    asyncio.run(run())


@IN_A_TASK
@pytest.mark.parametrize(
    ("part", "method", "script"), [("credentials", "get", fine), ("retry", "delay", down)], ids=["get", "delay"]
)
def test_a_part_of_it_that_raises(
    gateway: GatewayFactory,
    caplog: pytest.LogCaptureFixture,
    part: str,
    method: str,
    script: Any,
    error: type[BaseException],
) -> None:
    connector = with_broken(part, method, error)

    async def run() -> None:
        async with gateway(script, connector=connector, beside={"other": "openai-compatible"}) as running:
            await it_is_blamed(running, caplog, error)

    asyncio.run(run())


@IN_A_TASK
def test_a_connector_that_raises_when_it_classifies(
    gateway: GatewayFactory, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    async def run() -> None:
        connector = broken(Own, "classify", error)
        async with gateway(down, connector=connector, beside={"other": "openai-compatible"}) as running:
            await it_is_blamed(running, caplog, error)

    asyncio.run(run())


@IN_A_TASK
@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_whose_close_raises_was_a_good_answer(
    gateway: GatewayFactory, caplog: pytest.LogCaptureFixture, stream: bool, error: type[BaseException]
) -> None:
    class Closes(Own):
        async def send(self, call: UpstreamCall) -> UpstreamReply:
            reply = await super().send(call)

            async def aclose() -> None:
                await reply.aclose()
                raise error("of the plugin")

            return replace(reply, aclose=aclose)

    async def run() -> None:
        async with gateway(streamed if stream else fine, connector=Closes) as running:
            answer = await running.chat(stream=stream)
            assert answer.status_code == 200
            assert ("[DONE]" if stream else '"hi"') in answer.text
            assert [record.outcome for record in running.records] == ["ok"]

    asyncio.run(run())
    assert any("connector of backend own.default raised" in line for line in named(caplog))


@IN_A_TASK
def test_a_stream_that_raises_is_told_as_broken_off(
    gateway: GatewayFactory, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    class Raises(Own):
        async def events(self, call: UpstreamCall, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
            first = await anext(chunks)
            yield first[: first.index(b"\n\n") + 2]
            raise error("of the plugin")

    async def run() -> None:
        async with gateway(streamed, connector=Raises) as running:
            answer = await running.chat(stream=True)
            assert "the connector of backend `own.default` failed" in answer.text
            assert "[DONE]" not in answer.text

    asyncio.run(run())
    assert any("connector of backend own.default raised" in line for line in named(caplog))


async def it_is_blamed(running: RunningGateway, caplog: pytest.LogCaptureFixture, error: type[BaseException]) -> None:
    """The caller hears who failed, the log has the story, and the other backend answers before and after."""
    assert (await running.chat(model="other:m")).status_code == 200
    answer = await running.chat(model="own:m")
    assert answer.status_code == 502
    names = [
        error.__name__,
        *(["RuntimeError"] if not issubclass(error, Exception) else []),
    ]  # what leaves a task is another
    assert any(f"the connector of backend `own.default` failed ({name})" in answer.text for name in names)
    assert answer.headers["x-should-retry"] == "false"
    assert "of the plugin" not in answer.text
    assert any("connector of backend own.default raised" in line for line in named(caplog))
    assert (await running.chat(model="other:m")).status_code == 200


@ERRORS
def test_facts_that_raise_are_as_none(
    gateway: GatewayFactory, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    async def run() -> None:
        async with gateway(fine, connector=broken(Own, "facts", error)) as running:
            assert (await running.chat()).status_code == 200

    asyncio.run(run())
    assert any("what the connector of backend own.default knows" in line for line in named(caplog))


@IN_A_TASK
def test_models_that_raise_leave_the_others_listed(
    gateway: GatewayFactory, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    async def run() -> None:
        connector = broken(Own, "models", error)
        async with gateway(fine, connector=connector, beside={"other": "openai-compatible"}) as running:
            listed = (await running.client.get(f"{running.url}/v1/models")).json()
            assert "other:m" in [model["id"] for model in listed["data"]]
            if error is not asyncio.TimeoutError:  # which says that there was no answer
                assert named(caplog) == ["models of backend own.default"]

    asyncio.run(run())


@ERRORS
def test_a_status_that_raises_is_not_ready(
    gateway: GatewayFactory, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    async def run() -> None:
        connector = with_broken("credentials", "status", error)
        async with gateway(fine, connector=connector, beside={"other": "openai-compatible"}) as running:
            assert (await running.client.get(f"{running.url}/readyz")).status_code == 200
            status = (await running.client.get(f"{running.url}/llmgate/status")).json()
            details = {backend["name"]: backend["detail"] for backend in status["backends"]}
            assert details["own.default"] == f"its connector raised {told_as(error)}; see the log"

    asyncio.run(run())
    assert "connector of backend own.default" in named(caplog)


@IN_A_TASK
def test_a_close_that_raises_keeps_nobody_open(
    gateway: GatewayFactory, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    closed: list[str] = []

    def change(app: Gateway, _: PluginSet) -> None:
        async def aclose() -> None:
            closed.append("other")

        app.backends["openai-compatible.other"].connector.aclose = aclose  # type: ignore[method-assign]

    async def run() -> None:
        connector = broken(Own, "aclose", error)
        async with gateway(fine, connector=connector, beside={"other": "openai-compatible"}, change=change) as running:
            assert (await running.chat(model="own:m")).status_code == 200

    asyncio.run(run())
    assert closed == ["other"]
    assert "closing backend own.default" in named(caplog)


@ERRORS
@pytest.mark.parametrize("method", ["__init__", "credentials", "retry", "backoff"])
def test_a_connector_that_raises_before_anything_is_served(
    gateway: GatewayFactory, method: str, error: type[BaseException]
) -> None:
    async def run() -> None:
        async with gateway(fine, connector=broken(Own, method, error)):
            pass

    with pytest.raises(PluginError) as caught:
        asyncio.run(run())
    assert str(caught.value).startswith(
        f"backend `own.default`: connector `own` raised {told_as(error)} when constructed: "
    )
    assert __file__ in str(caught.value)


# --- the hooks --------------------------------------------------------------------------------------------------------

HOOKS = ["llmgate_register_connectors", "llmgate_register_policies", "llmgate_register_frontends"]


@pytest.mark.parametrize("error", ["KeyError('x')", "SystemExit('x')", "BaseException('x')", "UnprintableError()"])
@pytest.mark.parametrize("hook", HOOKS)
def test_each_registering_hook(site: Site, hook: str, error: str) -> None:
    source = CONNECTOR.replace("llmgate_register_connectors", hook).replace("return Acme", f"raise {error}")
    words = (
        "    class UnprintableError(Exception):\n        def __str__(self):\n            raise ValueError('no words')\n"
    )
    site.plugin(source + words)
    site.plugin(CONNECTOR.replace('"acme"', '"other"'), name="other")
    plugins = load_all()
    assert list(plugins.problems) == ["acme"]
    told = error.partition("(")[0].replace("BaseException", "RuntimeError")
    assert f"{told} while loading: " in plugins.problems["acme"]
    assert "llmgate_site_acme.py:" in plugins.problems["acme"]
    assert "other" in plugins.connectors


@pytest.mark.parametrize("error", ["KeyError('x')", "SystemExit('x')", "KeyboardInterrupt()", "BaseException('x')"])
def test_the_listener(site: Site, gateway: GatewayFactory, caplog: pytest.LogCaptureFixture, error: str) -> None:
    site.plugin(
        "from llmgate_core import hookimpl\nLLMGATE_PLUGIN_API = 1\n"
        f"@hookimpl\ndef llmgate_request_finished(record):\n    raise {error}\n"
    )
    (listener,) = (one for one in load(["acme"]).loaded if one.plugin.name == "acme")

    async def run() -> None:
        def change(app: Gateway, _: PluginSet) -> None:
            app.app._finished = PluginSet((listener,)).request_finished  # type: ignore[attr-defined]

        async with gateway(fine, change=change) as running:
            assert (await running.chat()).status_code == 200
            assert (await running.chat()).status_code == 200

    asyncio.run(run())
    assert [line.split(" raised in ")[0] for line in named(caplog)] == [
        "plugin `acme` of distribution `llmgate-acme` 1.2 (llmgate_site_acme)"
    ] * 2


# --- a policy ---------------------------------------------------------------------------------------------------------


class Policy:
    """Decides nothing."""

    name: ClassVar[str] = "strict"
    settings: None

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def apply(self, *_: Any) -> Any:
        raise self.error("of the plugin")


@pytest.mark.parametrize(
    ("policy", "error"),
    [(Policy, error) for error in SORTS],
)
def test_a_policy_that_raises_is_named(
    gateway: GatewayFactory,
    caplog: pytest.LogCaptureFixture,
    policy: Callable[[type[BaseException]], Policy],
    error: type[BaseException],
) -> None:
    def change(app: Gateway, _: PluginSet) -> None:
        app.executor._policies = [policy(error)]

    async def run() -> str:
        async with gateway(fine, change=change) as running:
            answer = await running.chat()
            assert answer.status_code == 502
            assert answer.headers["x-should-retry"] == "false"
            assert (await running.client.get(f"{running.url}/healthz")).status_code == 200
            return answer.text

    told = asyncio.run(run())
    assert f"policy `strict` failed ({told_as(error)}); the gateway's log has the details under req_" in told
    assert [line.partition(": ")[2] for line in named(caplog)] == ["policy `strict` raised"]


# --- one that hangs ---------------------------------------------------------------------------------------------------


async def never(*_: Any) -> Any:
    await asyncio.Event().wait()


class SendsNever(Own):
    send: ClassVar[Any] = never


class GivesNever(Own):
    def credentials(self) -> ApiKey:
        provider = ApiKey(Secret("a-key-of-nobody"), {})
        provider.get = never  # type: ignore[method-assign]
        return provider


@pytest.mark.parametrize(("connector", "what"), [(SendsNever, "its `send()`"), (GivesNever, "its credential provider")])
def test_a_connector_that_hangs_ends_in_a_timeout_of_its_own(
    gateway: GatewayFactory, connector: type[Connector], what: str
) -> None:
    def change(app: Gateway, _: PluginSet) -> None:
        app.backends["own.default"].answer_seconds = 0.05

    async def run() -> None:
        beside = {"other": "openai-compatible"}
        async with gateway(fine, connector=connector, beside=beside, change=change) as running:
            answer = await running.chat(model="own:m")
            assert answer.status_code == 504
            told = f"the connector of backend `own.default` hangs: {what} took longer than 0.05 s"
            assert answer.json()["error"]["message"].startswith(told)
            assert (await running.chat(model="own:m|other:m")).status_code == 200

    asyncio.run(run())
