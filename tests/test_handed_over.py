"""Values of a wrong type or content that plugins hand over: told as theirs, and the next branch is asked."""

from __future__ import annotations

import asyncio
import io
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from starlette.routing import Route
from tests.test_misbehaving import Own, fine, named

from llmgate_core.app import Gateway, create_app
from llmgate_core.backends import World
from llmgate_core.config import BackendConfig, GatewayConfig
from llmgate_core.connectors import Connector, ModelInfo, UpstreamCall, UpstreamReply, Verdict
from llmgate_core.credentials import ApiKey
from llmgate_core.errors import ConnectorError, PluginError, RequestError
from llmgate_core.observe import Redactor, configure
from llmgate_core.plugins import Installed, Loaded, PluginSet, load
from llmgate_core.request import Params
from llmgate_core.retry import RetryAfter
from llmgate_core.secret import Secret
from llmgate_core.testing import Exchange

if TYPE_CHECKING:
    from tests.conftest import GatewayFactory, RunningGateway

BESIDE = {"other": "openai-compatible"}


def own(**members: Any) -> type[Connector]:
    """A connector with these members in the place of right ones."""
    return type("Own", (Own,), {"__module__": __name__, **members})


def sending(change: Callable[[UpstreamReply], UpstreamReply]) -> type[Connector]:
    """A connector whose reply is changed by the way."""

    async def send(self: Own, call: UpstreamCall) -> UpstreamReply:
        return change(await Own.send(self, call))

    return own(send=send)


def raising(error: Callable[[], BaseException]) -> type[Connector]:
    """A connector whose attempts fail in this way."""

    async def send(self: Own, call: UpstreamCall) -> UpstreamReply:
        raise error()

    return own(send=send)


async def it_is_told(running: RunningGateway, caplog: pytest.LogCaptureFixture, *words: str) -> None:
    """The caller hears who failed in a JSON error of both dialects, the log has it, and the next branch is asked."""
    for stream in (False, True):
        answer = await running.chat(model="own:m", stream=stream)
        assert answer.status_code == 502, answer.text
        error = answer.json()["error"]
        assert error["code"] == "connector_bug"
        assert all(word in error["message"] for word in ("`own.default`", *words)), error
    said = {"model": "own:m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    answer = await running.client.post(f"{running.url}/v1/messages", json=said)
    assert (answer.status_code, answer.json()["type"]) == (502, "error")
    assert any("own.default" in line for line in named(caplog)), named(caplog)
    answer = await running.chat(model="own:m|other:m")
    assert (answer.status_code, answer.headers["x-llmgate-backend"]) == (200, "openai-compatible.other")


# --- what a connector is given ----------------------------------------------------------------------------------------


def test_a_key_that_is_written_into_the_headers_of_a_call_stays_with_its_backend(gateway: GatewayFactory) -> None:
    async def send(self: Own, call: UpstreamCall) -> UpstreamReply:
        for headers in (call.headers, call.credential.headers):
            headers["x-api-key"] = "a-key-of-nobody"  # type: ignore[index]
        raise ConnectorError("unavailable", "down")

    seen: list[Mapping[str, str]] = []

    async def script(exchange: Exchange) -> None:
        seen.append(dict(exchange.request.headers))
        await fine(exchange)

    async def run() -> None:
        async with gateway(script, connector=own(send=send), beside=BESIDE) as running:
            assert (await running.chat(model="own:m|other:m", headers={"x-session-id": "1"})).status_code == 200
            found = await running.app.backends["own.default"].credentials.get()
            assert found.headers == {"authorization": "Bearer a-key-of-nobody"}

    asyncio.run(run())
    assert [headers for headers in seen if "x-api-key" in headers] == []


# --- a credential provider's status -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [None, "ready", {"ready": True}])
def test_a_status_of_another_type_is_not_ready(
    gateway: GatewayFactory, caplog: pytest.LogCaptureFixture, status: object
) -> None:
    provider = type("Provider", (ApiKey,), {"status": lambda _: status})
    connector = own(credentials=lambda _: provider(Secret("a-key-of-nobody"), {}))

    async def run() -> None:
        async with gateway(fine, connector=connector, beside=BESIDE) as running:
            assert (await running.client.get(f"{running.url}/readyz")).status_code == 200
            shown = (await running.client.get(f"{running.url}/llmgate/status")).json()
            detail = {backend["name"]: backend["detail"] for backend in shown["backends"]}["own.default"]
            told = f"`status()` returned a `{type(status).__name__}`, not a `CredentialStatus`"
            assert detail == f"its connector `own` is at fault: {told}"
            assert running.app.backends["own.default"].credential_facts() == {}

    asyncio.run(run())
    assert any("own.default" in line for line in named(caplog))


# --- a policy's verdict -----------------------------------------------------------------------------------------------


class Policy:
    """Says what it is given to say."""

    name: ClassVar[str] = "strict"
    settings: None

    def __init__(self, verdict: Callable[[Params], Any]) -> None:
        self.verdict = verdict

    def apply(self, _: Any, __: Any, params: Params) -> Any:
        return self.verdict(params)


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (lambda _: None, "`apply()` returned a `NoneType`, not a `Verdict`"),
        (lambda _: Verdict(None), "`params` of its `Verdict` is a `NoneType`"),  # type: ignore[arg-type]
        (lambda params: Verdict(params, headers={"x-n": 3}), "header `x-n`"),  # type: ignore[dict-item]
        (lambda params: Verdict(params, headers={"x-n": "a\r\nx: y"}), "header `x-n`"),
        (lambda params: Verdict(params, headers={"x n": "a"}), "name of a header"),
        (lambda params: Verdict(params, headers=None), "`headers`"),  # type: ignore[arg-type]
        (lambda params: Verdict(params, effects={"top_p": {"x-n": None}}), "header `x-n`"),  # type: ignore[dict-item]
        (lambda params: Verdict(params, effects={"top_p": None}), "`effects`"),  # type: ignore[dict-item]
        (lambda params: Verdict(params.with_layer("policy", {"top_p": object()})), "parameter `top_p`"),
        (lambda params: Verdict(params.with_layer("policy", {3: 1})), "name of a parameter"),
        (lambda _: Verdict(Params({"policy": None})), "`params`"),  # type: ignore[dict-item]
    ],
)
def test_a_verdict_that_is_none(
    gateway: GatewayFactory, caplog: pytest.LogCaptureFixture, verdict: Callable[[Params], Any], words: str
) -> None:
    async def script(exchange: Exchange) -> None:
        raise AssertionError("nothing may be sent")

    def change(app: Gateway, _: PluginSet) -> None:
        app.executor._policies = [Policy(verdict)]

    async def run() -> None:
        async with gateway(script, change=change) as running:
            answer = await running.chat()
            assert answer.status_code == 502
            message = answer.json()["error"]["message"]
            assert message.startswith("policy `strict` failed: ")
            assert words in message

    asyncio.run(run())
    assert any("policy `strict`" in line for line in named(caplog))


def test_a_verdict_that_is_right(gateway: GatewayFactory) -> None:
    def verdict(params: Params) -> Verdict:
        return Verdict(params.with_layer("policy", {"top_p": 0.5}), {"x-n": "é, 模"}, {"top_p": {"x-m": "a"}})

    def change(app: Gateway, _: PluginSet) -> None:
        app.executor._policies = [Policy(verdict)]

    async def run() -> None:
        async with gateway(fine, change=change) as running:
            answer = await running.chat()
            assert (answer.status_code, answer.headers["x-m"]) == (200, "a")

    asyncio.run(run())


# --- what is known of models ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "facts",
    [
        ModelInfo("m", excludes=None),  # type: ignore[arg-type]
        ModelInfo("m", refuses=None),  # type: ignore[arg-type]
        ModelInfo("m", refuses="top_p"),  # type: ignore[arg-type]
        ModelInfo("m", excludes=("top_p",)),  # type: ignore[arg-type]
        ModelInfo("m", context="128k"),  # type: ignore[arg-type]
        ModelInfo(None),  # type: ignore[arg-type]
        {"context": 1},
    ],
)
def test_facts_that_are_wrong_are_as_none_and_told_once(
    gateway: GatewayFactory, caplog: pytest.LogCaptureFixture, facts: Any
) -> None:
    async def run() -> None:
        async with gateway(fine, connector=own(facts=lambda *_: facts)) as running:
            for _ in range(2):
                assert (await running.chat(model="own:m?top_p=1")).status_code == 200

    asyncio.run(run())
    (line,) = named(caplog)
    assert line.startswith("connector of backend own.default is at fault: ")
    assert line.endswith("; it counts as knowing nothing of the model")


@pytest.mark.parametrize("listed", [["m"], [ModelInfo("m", context=object())], [ModelInfo(3)]])  # type: ignore[arg-type]
def test_listed_models_that_are_wrong_leave_the_others_listed(
    gateway: GatewayFactory, caplog: pytest.LogCaptureFixture, listed: Any
) -> None:
    async def models(*_: Any) -> Any:
        return listed

    async def run() -> None:
        async with gateway(fine, connector=own(models=models), beside=BESIDE) as running:
            answer = await running.client.get(f"{running.url}/v1/models")
            assert [model["id"] for model in answer.json()["data"]] == ["other:m"]
            missing = (await running.app.models()).missing["own.default"]
            assert missing.startswith("its connector is at fault: `")

    asyncio.run(run())
    assert named(caplog)[0] == "models of backend own.default"


@pytest.mark.parametrize("error", [ConnectorError("unavailable", None), ConnectorError("overloaded", "down")])  # type: ignore[arg-type]
@pytest.mark.parametrize("method", ["models", "check"])
def test_a_wrong_failure_to_list_models_leaves_the_others_listed(
    gateway: GatewayFactory, caplog: pytest.LogCaptureFixture, method: str, error: ConnectorError
) -> None:
    def check(*_: Any) -> None:
        raise error

    async def models(*_: Any) -> None:
        raise error

    async def run() -> None:
        connector = own(models=models) if method == "models" else own(check=check)
        async with gateway(fine, connector=connector, beside=BESIDE) as running:
            answer = await running.client.get(f"{running.url}/v1/models")
            assert [model["id"] for model in answer.json()["data"]] == ["other:m"]
            assert (await running.client.get(f"{running.url}/readyz")).status_code == 200

    asyncio.run(run())
    assert any("own.default" in line for line in named(caplog))


# --- a ConnectorError -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["overloaded", None, ["unavailable"]])
def test_a_failure_of_a_kind_that_there_is_not(
    gateway: GatewayFactory, caplog: pytest.LogCaptureFixture, kind: Any
) -> None:
    async def run() -> None:
        connector = raising(lambda: ConnectorError(kind, "too much to do"))
        async with gateway(fine, connector=connector, beside=BESIDE) as running:
            await it_is_told(running, caplog, "`kind`", "too much to do")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("retry_after", "7"),
        ("retry_after", float("nan")),
        ("retry_after", float("inf")),
        ("retry_after", -1),
        ("code", 7),
        ("code", ["a"]),
        ("type", object()),
        ("param", b"x"),
        ("status", "503"),
        ("upstream_request_id", "a\r\nx: y"),
        ("message", None),
        ("message", "\ud800"),
    ],
)
def test_a_failure_with_a_wrong_field_is_that_failure(
    gateway: GatewayFactory, caplog: pytest.LogCaptureFixture, field: str, value: Any
) -> None:
    def error() -> ConnectorError:
        made = ConnectorError("unavailable", "down")
        setattr(made, field, value)
        return made

    async def run() -> None:
        async with gateway(fine, connector=raising(error), beside=BESIDE) as running:
            for stream in (False, True):
                answer = await running.chat(model="own:m", stream=stream)
                assert answer.status_code == 502
                assert answer.json()["error"]["message"]
                assert "retry-after" not in answer.headers
            assert (await running.chat(model="own:m|other:m")).status_code == 200

    asyncio.run(run())
    assert any("own.default" in line and f"`{field}`" in line for line in named(caplog)), named(caplog)


def test_a_failure_that_is_right_stays_the_object_that_it_is(gateway: GatewayFactory) -> None:
    class MineError(ConnectorError):
        """A retry policy of the same plugin may know it."""

    asked: list[ConnectorError] = []

    class Retry:
        def delay(self, error: ConnectorError, attempt: int) -> float | None:
            asked.append(error)
            return None

    async def send(self: Own, call: UpstreamCall) -> UpstreamReply:
        raise MineError("unavailable", "down", retry_after=3)

    async def run() -> None:
        async with gateway(fine, connector=own(send=send, retry=lambda _: Retry())) as running:
            answer = await running.chat()
            assert (answer.status_code, answer.headers["retry-after"]) == (502, "3")

    asyncio.run(run())
    assert isinstance(asked[-1], MineError)


# --- an UpstreamReply -------------------------------------------------------------------------------------------------


class Closing:
    """Counts the replies that were closed."""

    def __init__(self) -> None:
        self.closed = 0

    def __call__(self, reply: UpstreamReply) -> UpstreamReply:
        async def aclose() -> None:
            self.closed += 1
            await reply.aclose()

        return replace(reply, aclose=aclose)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"status": 99}, "`status`"),
        ({"status": 204}, "`status`"),
        ({"status": 205}, "`status`"),
        ({"status": 404}, "`status`"),
        ({"status": "299"}, "`status`"),
        ({"status": True}, "`status`"),
        ({"headers": None}, "`headers`"),
        ({"headers": {"content-type": 3}}, "header `content-type`"),
        ({"headers": {b"content-type": "text/plain"}}, "name of a header"),
        ({"headers": {"x-ratelimit-a b": "1"}}, "name of a header"),
        ({"lost": ["a\r\nx: 1"]}, "`lost`"),
        ({"lost": [3]}, "`lost`"),
        ({"lost": "top_p"}, "`lost`"),
        ({"lost": None}, "`lost`"),
        ({"chunks": [b"{}"]}, "`chunks`"),
    ],
)
def test_a_reply_that_cannot_be_passed_on(
    gateway: GatewayFactory, caplog: pytest.LogCaptureFixture, fields: Mapping[str, Any], words: str
) -> None:
    closing = Closing()

    async def run() -> None:
        connector = sending(lambda reply: replace(closing(reply), **fields))
        async with gateway(fine, connector=connector, beside=BESIDE) as running:
            await it_is_told(running, caplog, words)

    asyncio.run(run())
    assert closing.closed >= 4


@pytest.mark.parametrize("name", ["content-type", "x-ratelimit-a", "x-request-id"])
def test_a_line_break_in_a_header_of_a_reply_is_not_passed_on(gateway: GatewayFactory, name: str) -> None:
    async def run() -> None:
        connector = sending(lambda reply: replace(reply, headers={**reply.headers, name: "a\r\nx-evil: 1"}))
        async with gateway(fine, connector=connector) as running:
            answer = await running.chat()
            assert answer.status_code == 200
            assert "x-evil" not in answer.headers

    asyncio.run(run())


def test_a_send_that_is_no_coroutine(gateway: GatewayFactory, caplog: pytest.LogCaptureFixture) -> None:
    def send(self: Own, call: UpstreamCall) -> None:
        return None

    async def run() -> None:
        async with gateway(fine, connector=own(send=send), beside=BESIDE) as running:
            await it_is_told(running, caplog, "`send()`", "`async def`")

    asyncio.run(run())


# --- a RequestError ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 302, 500, 99, "400", None])
@pytest.mark.parametrize("raised_by", ["connector", "policy"])
def test_a_refusal_with_a_status_that_is_none(
    gateway: GatewayFactory, caplog: pytest.LogCaptureFixture, raised_by: str, status: Any
) -> None:
    def refuse(_: Params) -> Any:
        raise RequestError("not like this", status=status)

    def change(app: Gateway, _: PluginSet) -> None:
        app.executor._policies = [Policy(refuse)] if raised_by == "policy" else []

    connector = raising(lambda: RequestError("not like this", status=status)) if raised_by == "connector" else Own

    async def run() -> None:
        async with gateway(fine, connector=connector, change=change) as running:
            answer = await running.chat()
            assert answer.status_code == 400
            assert "not like this" in answer.json()["error"]["message"]

    asyncio.run(run())
    name = "policy `strict`" if raised_by == "policy" else "own.default"
    assert any(name in line and "`status`" in line for line in named(caplog)), named(caplog)


# --- dialects ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dialects", [None, "openai.chat", ("openai.chat",), frozenset({3}), frozenset(), property(lambda _: 1 / 0)]
)
def test_dialects_that_are_none_refuse_the_start(gateway: GatewayFactory, dialects: Any) -> None:
    async def run() -> None:
        async with gateway(fine, connector=own(dialects=dialects)):
            pass

    with pytest.raises(PluginError) as caught:
        asyncio.run(run())
    assert str(caught.value).startswith("backend `own.default`: connector `own`")
    assert "dialects" in str(caught.value) or "ZeroDivisionError" in str(caught.value)


# --- a retry policy ---------------------------------------------------------------------------------------------------


async def eventually() -> float:
    return 1.0


@pytest.mark.parametrize(
    "delay",
    ["1", float("nan"), float("inf"), -1, True, eventually],
    ids=lambda delay: getattr(delay, "__name__", repr(delay)),
)
def test_a_delay_that_is_none_ends_the_retries_and_is_told_once(
    gateway: GatewayFactory, caplog: pytest.LogCaptureFixture, delay: Any
) -> None:
    class Retry:
        def delay(self, error: ConnectorError, attempt: int) -> Any:
            return delay() if callable(delay) else delay

    async def run() -> None:
        connector = raising(lambda: ConnectorError("unavailable", "down"))
        connector = type("Own", (connector,), {"retry": lambda _: Retry(), "__module__": __name__})
        async with gateway(fine, connector=connector, beside=BESIDE) as running:
            for _ in range(2):
                answer = await running.chat(model="own:m")
                assert (answer.status_code, answer.headers["x-llmgate-attempts"]) == (502, "1")
                assert "down" in answer.text
            assert (await running.chat(model="own:m|other:m")).status_code == 200

    asyncio.run(run())
    (line,) = named(caplog)
    assert "own.default" in line
    assert "delay()" in line


@pytest.mark.parametrize(("part", "method"), [("credentials", "status"), ("retry", "delay")])
def test_a_part_of_it_whose_method_would_never_run_refuses_the_start(
    gateway: GatewayFactory, part: str, method: str
) -> None:
    async def never(*_: Any) -> None:
        raise AssertionError("nobody awaits it")

    made = {"credentials": ApiKey(Secret("a-key-of-nobody"), {}), "retry": RetryAfter()}[part]
    broken = type("Broken", (type(made),), {method: never})
    broken_part = broken(Secret("a-key-of-nobody"), {}) if part == "credentials" else broken()

    async def run() -> None:
        async with gateway(fine, connector=own(**{part: lambda _: broken_part})):
            pass

    with pytest.raises(PluginError, match=f"`own`: its `{part}.*`{method}` is an `async def`"):
        asyncio.run(run())


# --- front ends -------------------------------------------------------------------------------------------------------


async def coroutine(*_: Any) -> list[Any]:
    return []


@pytest.mark.parametrize(
    "routes", [lambda *_: None, lambda *_: ["/v1/x"], lambda *_: "/v1/x", lambda *_: {"/": 1}, coroutine]
)
def test_routes_that_are_none_refuse_the_start(routes: Callable[..., Any]) -> None:
    cls: Any = type("Acme", (), {"name": "acme", "__init__": lambda *_: None, "routes": routes})
    plugin = Loaded(Installed("acme", "llmgate-acme", "1", "acme"), frontends=(cls,))
    plugins = PluginSet((*load(()).loaded, plugin))
    with pytest.raises(
        PluginError, match=r"^front end `acme`: its `routes\(\)` returned .*, not a list of Starlette's routes"
    ):
        create_app(GatewayConfig(), plugins=plugins)


NOTHING: Any = None
NEW: Any = "new"


@pytest.mark.parametrize(
    "error", [RequestError("not so", status=200), RequestError(NOTHING), ConnectorError(NEW, "down")], ids=str
)
def test_a_front_end_whose_error_is_wrong_answers_with_an_error(
    gateway: GatewayFactory, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    async def endpoint(_: Any) -> None:
        raise error

    def change(app: Gateway, _: PluginSet) -> None:
        app.app._app.routes.append(Route("/acme", endpoint))  # type: ignore[attr-defined]

    async def run() -> None:
        async with gateway(fine, change=change) as running:
            answer = await running.client.get(f"{running.url}/acme")
            assert answer.status_code == (400 if isinstance(error, RequestError) else 502)
            assert answer.json()["error"]["message"]

    asyncio.run(run())
    assert any("/acme" in line for line in named(caplog))


# --- what is secret ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Keys:
    base_url: str
    models: tuple[str, ...] | None = None
    key: Secret | None = None
    more: tuple[Secret, ...] = ()
    named: dict[str, Secret] = field(default_factory=dict)
    absent: Secret | None = None


def test_a_configured_secret_is_known_before_the_connector_is_made(
    gateway: GatewayFactory, llmgate_logging: logging.Logger, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text("secret-of-a-file\n")
    extra = {
        "key": "env:KEY",
        "more": ["secret-in-a-list", f"file:{file}"],
        "named": {"a": "secret-in-a-mapping"},
        "absent": "env:ABSENT",
    }

    def credentials(self: Own) -> ApiKey:
        values = [self.settings.key, *self.settings.more, *self.settings.named.values()]  # type: ignore[attr-defined]
        self.instance.logger.warning("keys: %s", [one.reveal(self.instance.environ) for one in values])
        return ApiKey(Secret("a-key-of-nobody"), {})

    stream, redactors = io.StringIO(), Redactor()
    configure("info", "text", redactors, stream)
    connector = own(credentials=credentials, __annotations__={"settings": Keys})
    config = GatewayConfig(backends=(BackendConfig("own", extra={"base_url": "http://127.0.0.1:9", **extra}),))
    plugin = Loaded(Installed("own", "llmgate-own", "1", "own"), connectors=(connector,))
    environ = {"KEY": "secret-of-the-environment"}
    world = World(lambda: 0.0, random.Random(1), environ, tmp_path)

    async def run() -> None:
        made = create_app(config, plugins=PluginSet((plugin,)), world=world, redactor=redactors)
        await made.aclose()

    asyncio.run(run())
    assert stream.getvalue().count("[secret]") == 4
    assert "secret-" not in stream.getvalue()
