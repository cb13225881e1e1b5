"""Attempts, renewals, waits, the budget, and the fence around plugin code, before an upstream on a real socket."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from llmgate_core.app import Gateway, make_policies
from llmgate_core.connectors import UpstreamCall
from llmgate_core.credentials import Credential, CredentialProvider, CredentialStatus
from llmgate_core.errors import ConnectorError, Kind, RequestError
from llmgate_core.executor import Budget, Executor
from llmgate_core.observe import configure
from llmgate_core.openai_compatible import OpenAICompatible
from llmgate_core.plugins import PluginSet
from llmgate_core.replies import passed_on
from llmgate_core.request import Params
from llmgate_core.retry import NoRetry, RetryAfter, RetryPolicy
from llmgate_core.settings import MissingSecret
from llmgate_core.testing import Exchange, Script

if TYPE_CHECKING:
    from tests.conftest import GatewayFactory, RunningGateway

ANSWER = {"choices": [{"message": {"content": "hi"}}]}


def run(test: Awaitable[None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test

    asyncio.run(bounded())


# --- a connector whose parts can be chosen ---------------------------------------------------------------------


class Tokens:
    """token-1, after a renewal token-2, and so on."""

    def __init__(self) -> None:
        self.number = 1

    async def get(self) -> Credential:
        return Credential({"authorization": f"Bearer token-number-{self.number}"})

    async def renew(self, rejected: Credential) -> Credential:
        self.number += 1
        return await self.get()

    def status(self) -> CredentialStatus:
        return CredentialStatus(True, "")


@dataclass(frozen=True)
class AcmeSettings:
    base_url: str
    models: tuple[str, ...] = ()


class Acme(OpenAICompatible):
    name: ClassVar[str] = "acme"
    settings: AcmeSettings
    policy: ClassVar[RetryPolicy] = NoRetry()

    def credentials(self) -> CredentialProvider:
        return Tokens()

    def retry(self) -> RetryPolicy:
        return self.policy


@dataclass(frozen=True)
class Always:
    """Waits the same time for ever: only the budget ends it."""

    seconds: float

    def delay(self, error: ConnectorError, attempt: int) -> float | None:
        return self.seconds


def acme(policy: RetryPolicy, **members: Any) -> type[Acme]:
    return type("AcmeOfThisTest", (Acme,), {"policy": policy, **members})


class Night:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def installed(self, budget: Budget) -> Callable[[Gateway, PluginSet], None]:
        def change(app: Gateway, plugins: PluginSet) -> None:
            policies = make_policies(app.config, plugins)
            app.executor = Executor(
                app.backends, policies, app.redactor, budget=budget, sleep=self.sleep, monotonic=lambda: self.now
            )

        return change


def in_turn(*answers: tuple[int, Any, Mapping[str, str]]) -> Script:
    """Gives these answers, the last one again and again."""

    async def script(exchange: Exchange) -> None:
        await exchange.reply(*answers[min(exchange.number, len(answers) - 1)])

    return script


OK = (200, ANSWER, {"content-type": "application/json"})


def refused(status: int, **headers: str) -> tuple[int, Any, Mapping[str, str]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, {"error": {"message": f"their {status}"}}, named


# --- credentials -----------------------------------------------------------------------------------------------


def test_a_rejected_credential_is_renewed_once_and_the_request_sent_again(gateway: GatewayFactory) -> None:
    async def test() -> None:
        async with gateway(in_turn(refused(401), OK), connector=Acme) as running:
            reply = await running.chat()
            assert (reply.status_code, reply.headers["x-llmgate-attempts"]) == (200, "2")
            sent = [request.headers["authorization"] for request in running.upstream.requests]
            assert sent == ["Bearer token-number-1", "Bearer token-number-2"]
            first, second = running.upstream.requests
            assert first.body == second.body
            attempts = (await running.finished()).attempts
            assert [(one.kind, one.status) for one in attempts] == [("auth", 401), (None, 200)]

    run(test())


def test_a_second_rejection_is_final(gateway: GatewayFactory) -> None:
    async def test() -> None:
        async with gateway(in_turn(refused(401)), connector=Acme) as running:
            reply = await running.chat()
            assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_auth")
            assert reply.json()["error"]["message"].startswith("their 401")
            assert reply.headers["x-should-retry"] == "false"
            assert len(running.upstream.requests) == 2

    run(test())


@pytest.mark.parametrize(
    ("kind", "status", "is_renewed"),
    [
        ("auth", 401, True),
        ("auth", None, True),  # it was told inside a success
        ("auth", 400, False),
        ("auth", 403, False),
        ("auth", 500, False),
        ("denied", 401, False),
        ("denied", None, False),
    ],
)
def test_another_credential_is_asked_for_where_this_one_was_refused(
    gateway: GatewayFactory, kind: Kind, status: int | None, is_renewed: bool
) -> None:
    used: list[str] = []

    async def send(self: Acme, call: UpstreamCall) -> Any:
        used.append(call.credential.headers["authorization"])
        raise ConnectorError(kind, "no", status=status)

    async def test() -> None:
        async with gateway(in_turn(OK), connector=acme(NoRetry(), send=send)) as running:
            assert (await running.chat()).status_code >= 400

    run(test())
    assert used == ["Bearer token-number-1", "Bearer token-number-2"][: 1 + is_renewed]


def test_a_key_that_cannot_be_renewed_is_not_sent_twice(gateway: GatewayFactory) -> None:
    async def test() -> None:
        async with gateway(in_turn(refused(401)), extra={"api_key": "sk-12345678"}) as running:
            reply = await running.chat()
            assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_auth")
            assert reply.headers["x-should-retry"] == "false"
            assert len(running.upstream.requests) == 1

    run(test())


def test_a_renewal_leaves_the_retry_policy_its_tries(gateway: GatewayFactory) -> None:
    night = Night()

    async def test() -> None:
        async with gateway(
            in_turn(refused(401), refused(429, retry_after="3"), OK),
            connector=acme(RetryAfter(retries=1)),
            change=night.installed(Budget()),
        ) as running:
            assert (await running.chat()).status_code == 200

    run(test())
    assert night.slept == [3.0]


# --- waiting ---------------------------------------------------------------------------------------------------


def test_the_policys_wait_is_slept_and_then_the_same_is_sent_again(gateway: GatewayFactory) -> None:
    night = Night()

    async def test() -> None:
        async with gateway(
            in_turn(refused(429, retry_after="2"), OK),
            connector=acme(RetryAfter(max_wait=5)),
            change=night.installed(Budget()),
        ) as running:
            reply = await running.chat(temperature=0.5)
            assert (reply.status_code, reply.headers["x-llmgate-attempts"]) == (200, "2")
            assert running.upstream.requests[0].body == running.upstream.requests[1].body
            kinds = [one.kind for one in (await running.finished()).attempts]
            assert kinds == ["rate_limited", None]

    run(test())
    assert night.slept == [2.0]


def test_without_a_policy_nobody_waits_and_the_hint_is_handed_on(gateway: GatewayFactory) -> None:
    night = Night()

    async def test() -> None:
        async with gateway(
            in_turn(refused(429, retry_after="2")), connector=Acme, change=night.installed(Budget())
        ) as running:
            reply = await running.chat()
            assert (reply.status_code, reply.headers["retry-after"]) == (429, "2")
            assert len(running.upstream.requests) == 1

    run(test())
    assert night.slept == []


def test_a_stream_that_begins_with_an_error_is_tried_again(gateway: GatewayFactory) -> None:
    async def script(exchange: Exchange) -> None:
        if exchange.number == 0:
            await exchange.sse({"error": {"message": "slow down", "code": "rate_limit_exceeded"}})
        else:
            await exchange.sse({"choices": [{"finish_reason": "stop"}]})

    night = Night()

    async def test() -> None:
        async with gateway(script, connector=acme(Always(1.0)), change=night.installed(Budget())) as running:
            reply = await running.chat(stream=True)
            assert reply.status_code == 200
            assert b"slow down" not in reply.content

    run(test())
    assert night.slept == [1.0]


ROLE = {"choices": [{"delta": {"role": "assistant", "content": ""}}]}
BUSY = {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}
HI = {"choices": [{"delta": {"content": "hi"}}]}
STOP = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
HALF = b'data: {"er', b'ror": {"message": "slow down", "code": "rate_limit_exceeded"}}\n\n'


@pytest.mark.parametrize("begun", [[ROLE, BUSY], [ROLE, ROLE, BUSY], [b": hello\n\n", BUSY], [ROLE, *HALF], HALF])
def test_until_something_is_said_everything_may_be_tried_again(gateway: GatewayFactory, begun: list[Any]) -> None:
    async def script(exchange: Exchange) -> None:
        for event in (HI, STOP) if exchange.number else begun:
            await exchange.sse(event)
            await asyncio.sleep(0.01)  # each in a read of its own

    night = Night()

    async def test() -> None:
        async with gateway(script, connector=acme(Always(1.0)), change=night.installed(Budget())) as running:
            reply = await running.chat(stream=True)
            assert b"slow down" not in reply.content
            assert reply.content.startswith(b'data: {"choices": [{"delta": {"content": "hi"}}]}')

    run(test())
    assert night.slept == [1.0]


def test_a_stream_that_ends_before_anything_is_said_is_a_failure(gateway: GatewayFactory) -> None:
    """While it is held it is one that may be tried again; the last one passes, and is told as cut off."""

    async def script(exchange: Exchange) -> None:
        await exchange.sse(ROLE)

    async def test() -> None:
        async with gateway(script, connector=acme(Always(1.0)), change=Night().installed(Budget(2))) as running:
            reply = await running.chat(stream=True)
            assert (reply.status_code, reply.headers["x-llmgate-attempts"]) == (200, "2")
            role, error, _ = reply.content.split(b"\n\n")
            assert b"assistant" in role
            assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "upstream_protocol_error"
            record = await running.finished()
            assert ([one.kind for one in record.attempts], record.outcome) == (["protocol", None], "cut_off")

    run(test())


async def silent_after_the_role(exchange: Exchange) -> None:
    await exchange.sse(ROLE)
    await exchange.hung_up()


def holding(seconds: float) -> Callable[[Gateway, PluginSet], None]:
    def change(app: Gateway, _: PluginSet) -> None:
        app.executor._hold_seconds = seconds

    return change


@pytest.mark.parametrize(("policy", "hold"), [(NoRetry(), 3600.0), (Always(1.0), 0.05)])
def test_the_beginning_passes_where_nothing_can_be_tried_again_or_after_a_while(
    gateway: GatewayFactory, policy: RetryPolicy, hold: float
) -> None:
    async def test() -> None:
        async with gateway(silent_after_the_role, connector=acme(policy), change=holding(hold)) as running:
            reader, writer = await running.dial(stream=True)
            assert b'"role": "assistant"' in await asyncio.wait_for(reader.readuntil(b"}]}"), 10)
            writer.close()
            await running.finished()

    run(test())


def test_what_comes_after_a_held_beginning_follows_it(gateway: GatewayFactory) -> None:
    """The read that is under way when the wait is over must not be lost."""
    goes_on = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.sse(ROLE)
        await goes_on.wait()
        await exchange.sse(HI, STOP, "[DONE]")

    async def test() -> None:
        async with gateway(script, connector=acme(Always(1.0)), change=holding(0.05)) as running:
            reader, writer = await running.dial(stream=True)
            whole = await reader.readuntil(b"}]}")
            goes_on.set()
            whole += await reader.readuntil(b"[DONE]")
            assert whole.count(b"data:") == 4
            writer.close()

    run(test())


def test_after_the_first_bytes_nothing_is_tried_again(gateway: GatewayFactory) -> None:
    async def cut(exchange: Exchange) -> None:
        await exchange.sse({"choices": [{"delta": {"content": "hi"}}]})
        exchange.cut()

    night = Night()

    async def test() -> None:
        async with gateway(cut, connector=acme(Always(1.0)), change=night.installed(Budget())) as running:
            await running.chat(stream=True)
            assert len(running.upstream.requests) == 1

    run(test())
    assert night.slept == []


@pytest.mark.parametrize(
    ("budget", "attempts", "slept"),
    [
        (Budget(max_attempts=3, total_seconds=1000), 3, [40, 40]),
        (Budget(max_attempts=1, total_seconds=1000), 1, []),
        (Budget(max_attempts=50, total_seconds=90), 3, [40, 40]),
        (Budget(max_attempts=50, total_seconds=80), 3, [40, 40]),
        (Budget(max_attempts=50, total_seconds=39), 1, []),
    ],
)
def test_the_budget_ends_what_a_policy_does_not(
    gateway: GatewayFactory, budget: Budget, attempts: int, slept: list[float]
) -> None:
    night = Night()

    async def test() -> None:
        async with gateway(
            in_turn(refused(503)), connector=acme(Always(40.0)), change=night.installed(budget)
        ) as running:
            reply = await running.chat()
            assert (reply.status_code, reply.headers["x-llmgate-attempts"]) == (503, str(attempts))
            assert len(running.upstream.requests) == attempts

    run(test())
    assert night.slept == slept


def test_a_client_that_leaves_during_a_wait_ends_it(gateway: GatewayFactory) -> None:
    async def test() -> None:
        waiting, cancelled = asyncio.Event(), asyncio.Event()

        async def sleep(seconds: float) -> None:
            waiting.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        night = Night()
        night.sleep = sleep  # type: ignore[method-assign]
        async with gateway(
            in_turn(refused(503)), connector=acme(Always(1.0)), change=night.installed(Budget())
        ) as running:
            _, writer = await running.dial()
            await waiting.wait()
            writer.close()
            await asyncio.wait_for(cancelled.wait(), 1)
            record = await running.finished()
            assert (record.outcome, record.status, len(record.attempts)) == ("client_closed", 499, 1)
            assert len(running.upstream.requests) == 1

    run(test())


# --- the fence ---------------------------------------------------------------------------------------------------

REASON = "a reason for the log alone"


class RaisesInSend(Acme):
    async def send(self, call: UpstreamCall) -> Any:
        raise KeyError(REASON)


class RaisesInCheck(Acme):
    def check(self) -> None:
        raise ZeroDivisionError(REASON)


class RaisesMissingSecret(Acme):
    async def send(self, call: UpstreamCall) -> Any:
        raise MissingSecret(REASON)


class NoTokens(Tokens):
    async def get(self) -> Credential:
        raise OSError(REASON)


class RaisesInCredentials(Acme):
    def credentials(self) -> CredentialProvider:
        return NoTokens()


class RaisesInEvents(Acme):
    async def events(self, call: UpstreamCall, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        if await anext(chunks):
            raise ValueError(REASON)
        yield b""


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "connector", [RaisesInSend, RaisesInCheck, RaisesInCredentials, RaisesInEvents, RaisesMissingSecret]
)
def test_a_connector_that_raises_is_a_502_that_names_it(
    gateway: GatewayFactory, connector: type[Acme], stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with gateway(in_turn(OK), connector=connector) as running:
            reply = await running.chat(stream=stream)
            error = reply.json()["error"]
            assert (reply.status_code, error["code"]) == (502, "connector_bug")
            assert reply.headers["x-should-retry"] == "false"
            assert "acme.default" in error["message"]
            assert reply.headers["x-request-id"] in error["message"]
            assert REASON not in reply.text
            assert REASON in caplog.text
            assert "Traceback" in caplog.text
            assert reply.headers["x-request-id"] in caplog.text
            record = await running.finished()
            assert (record.outcome, record.attempts[-1].kind) == ("failed", "bug")
            if running.upstream.requests:
                assert running.upstream.open <= 1

    run(test())


class RaisesMidway(Acme):
    async def events(self, call: UpstreamCall, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for chunk in chunks:
            yield chunk
            raise ValueError(REASON)


def test_a_connector_that_raises_in_mid_stream_is_told_in_the_stream(
    gateway: GatewayFactory, promptly: float, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.sse({"choices": [{"delta": {"content": "hi"}}]})
        await exchange.hung_up()

    async def test() -> None:
        async with gateway(script, connector=RaisesMidway) as running:
            reply = await running.chat(stream=True)
            _, last, _ = reply.content.split(b"\n\n")
            assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "connector_bug"
            assert REASON not in reply.text
            assert REASON in caplog.text
            await asyncio.wait_for(running.upstream.all_closed(), promptly)

    run(test())


class SwitchedOff(Acme):
    def check(self) -> None:
        raise ConnectorError("disabled", "switched off; set `extra.enable`")


def test_a_backend_that_may_not_be_used_is_a_403_and_nobody_is_asked(gateway: GatewayFactory) -> None:
    async def test() -> None:
        async with gateway(in_turn(OK), connector=SwitchedOff) as running:
            reply = await running.chat()
            assert (reply.status_code, reply.json()["error"]["code"]) == (403, "backend_disabled")
            assert reply.json()["error"]["message"].startswith("switched off; set `extra.enable`")
            assert running.upstream.requests == []

    run(test())


class HasNoWordsFor(Acme):
    def lost(self, call: UpstreamCall) -> list[str]:
        return ["seed"] if call.body.get("seed") is not None else []

    def body(self, call: UpstreamCall) -> bytes:
        if call.body.get("n") == 2:
            raise RequestError("acme gives one answer", param="n")
        return call.body.bytes


def test_a_connector_may_have_no_words_for_a_request(gateway: GatewayFactory) -> None:
    """Then another branch is asked; what it leaves out is told."""

    async def test() -> None:
        async with gateway(
            in_turn((200, ANSWER, {})), connector=HasNoWordsFor, beside={"b": "openai-compatible"}
        ) as running:
            reply = await running.chat(model="acme:m|b:m", n=2)
            assert (reply.status_code, reply.headers["x-llmgate-backend"]) == (200, "openai-compatible.b")
            alone = await running.chat(model="acme:m", n=2)
            assert (alone.status_code, alone.json()["error"]["param"]) == (400, "n")
            assert len(running.upstream.requests) == 1
            told = await running.chat(model="acme:m", seed=1)
            assert (told.status_code, told.headers["x-llmgate-lost"]) == (200, "seed")

    run(test())


class SpeaksSomethingElse(Acme):
    dialects = frozenset({"acme.own"})


def test_a_backend_of_another_dialect(gateway: GatewayFactory) -> None:
    async def test() -> None:
        async with gateway(in_turn(OK), connector=SpeaksSomethingElse) as running:
            reply = await running.chat()
            assert reply.status_code == 404
            assert "does not speak `openai.chat`" in reply.json()["error"]["message"]

    run(test())


# --- secrets -----------------------------------------------------------------------------------------------------

SECRET = "sk-of-the-gateway-1"


@pytest.mark.usefixtures("llmgate_logging")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_an_echoed_credential_is_struck_out_everywhere(gateway: GatewayFactory, status: int, stream: bool) -> None:
    log = io.StringIO()

    async def echo(exchange: Exchange) -> None:
        message = f"bad key: {exchange.request.headers['authorization']} ({SECRET})"
        await exchange.reply(status, {"error": {"message": message, "code": "x"}})

    async def test() -> None:
        async with gateway(echo, extra={"api_key": "env:KEY"}, environ={"KEY": SECRET}) as running:
            configure("debug", "text", running.app.redactor, log)
            reply = await running.chat(stream=stream)
            assert reply.status_code >= 400
            assert "bad key: [secret] ([secret])" in reply.text
            record = await running.finished()
            assert SECRET not in reply.text + str(reply.headers) + repr(record)

    run(test())
    assert "bad key" in log.getvalue()
    assert SECRET not in log.getvalue()


@pytest.mark.usefixtures("llmgate_logging")
def test_an_upstream_that_echoes_the_key_when_asked_for_its_models(gateway: GatewayFactory) -> None:
    log = io.StringIO()

    async def echo(exchange: Exchange) -> None:
        await exchange.reply(401, {"error": {"message": f"bad key: {SECRET}"}})

    async def test() -> None:
        async with gateway(echo, extra={"api_key": "env:KEY", "models": None}, environ={"KEY": SECRET}) as running:
            configure("debug", "text", running.app.redactor, log)
            assert (await running.client.get(f"{running.url}/v1/models")).status_code == 200

    run(test())
    assert "bad key" in log.getvalue()
    assert SECRET not in log.getvalue()


# --- pure parts --------------------------------------------------------------------------------------------------


def test_only_listed_headers_pass_on() -> None:
    headers = {
        "content-type": "a/b",
        "retry-after": "1",
        "x-ratelimit-limit": "2",
        "anthropic-ratelimit-x": "3",
        "request-id": "up",
        "set-cookie": "no",
        "content-length": "9",
        "transfer-encoding": "chunked",
        "connection": "close",
        "server": "x",
        "date": "x",
    }
    assert passed_on(headers) == {
        "content-type": "a/b",
        "retry-after": "1",
        "x-ratelimit-limit": "2",
        "anthropic-ratelimit-x": "3",
        "x-upstream-request-id": "up",
    }


def test_parameters_are_described_with_what_they_hide() -> None:
    params = Params({"default": {"top_p": 1}, "client": {"temperature": 0.9}, "uri": {"temperature": 0.2}})
    assert str(params) == "top_p=1 (default) temperature=0.2 (uri, over client 0.9)"


def test_what_was_refused_leaves_no_connection_behind(gateway: GatewayFactory, promptly: float) -> None:
    async def hangs_on(exchange: Exchange) -> None:
        await exchange.sse({"error": {"message": "no"}})
        await exchange.hung_up()

    async def test() -> None:
        async with gateway(hangs_on) as running:
            await ask_three_times(running)
            await asyncio.wait_for(running.upstream.all_closed(), promptly)

    run(test())


async def ask_three_times(running: RunningGateway) -> None:
    for _ in range(3):
        assert (await running.chat(stream=True)).status_code == 502


@pytest.fixture(autouse=True)
def log_of_llmgate(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "llmgate")
