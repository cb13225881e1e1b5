"""The outermost layer: ids, records, decent answers to whatever is raised, and the refusals of access."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

import pytest

from llmgate_core.errors import ConfigError, ConnectorError, Problem, RequestError
from llmgate_core.frontends.access import Access, BadKeys, KnownKey
from llmgate_core.frontends.exchange import ClientGone, Scope
from llmgate_core.frontends.rim import RECORD, App, Receiver, Rim
from llmgate_core.observe import Redactor
from llmgate_core.request import Attempt, RequestRecord
from llmgate_core.sections import AuthConfig, CallerKey, CallerSecret, ServerConfig
from llmgate_core.testing import Exchange

if TYPE_CHECKING:
    from tests.conftest import GatewayFactory, RunningGateway

Message = MutableMapping[str, Any]
KEY = KnownKey("anna", hashlib.sha256(b"good-key").digest())


class Call:
    """One request through a Rim, in process.

    Attributes:
        sent: what the app and the rim sent.
        slept: the seconds for which a refusal was held.
    """

    def __init__(self, app: App, *, keys: tuple[KnownKey, ...] = (), redactor: Redactor | None = None) -> None:
        self.sent: list[Message] = []
        self.slept: list[float] = []
        self.records: list[RequestRecord] = []
        self._ticks = iter(range(1000))
        access = Access(keys, (), (), BadKeys(lambda: 0.0))
        self.rim = Rim(
            app,
            access,
            redactor or Redactor(),
            self.records.append,
            clock=lambda: 1_800_000_000.0,
            monotonic=lambda: float(next(self._ticks)),
            sleep=self._sleep,
        )

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def __call__(self, path: str = "/v1/x", method: str = "GET", **headers: str) -> dict[str, Any]:
        """The status, headers and body of the answer."""
        self.sent.clear()
        raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
        scope = {"type": "http", "method": method, "path": path, "headers": raw, "client": ("10.0.0.9", 1)}
        asyncio.run(self._run(scope))
        if not self.sent:
            return {}
        body = b"".join(message["body"] for message in self.sent[1:])
        names = {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}
        return {"status": self.sent[0]["status"], "headers": names, "body": body}

    async def _run(self, scope: Scope) -> None:
        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            self.sent.append(message)

        await self.rim(scope, receive, send)


def raising(error: Exception) -> App:
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        raise error

    return app


async def fine(scope: Scope, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"fine"})


async def breaks_midway(scope: Scope, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"fi", "more_body": True})
    raise RuntimeError("sk-secret-12345")


# --- the record and the id -----------------------------------------------------------------------------------


def test_every_request_has_a_record_and_an_id() -> None:
    call = Call(fine)
    answer = call("/v1/x", method="POST")
    (record,) = call.records
    assert answer["headers"] == {"x-request-id": record.id, "request-id": record.id}
    assert record.id.startswith("req_")
    assert (record.method, record.path, record.client, record.status) == ("POST", "/v1/x", "10.0.0.9", 200)
    assert (record.outcome, record.started, record.bytes_out) == ("ok", 1_800_000_000.0, 4)
    assert record.first_byte_seconds is not None
    assert 0 < record.first_byte_seconds < record.seconds


def test_a_callers_own_id_is_not_taken_over() -> None:
    assert Call(fine)(x_request_id="forged")["headers"]["x-request-id"] != "forged"


def test_a_named_caller_is_in_the_record() -> None:
    call = Call(fine, keys=(KEY,))
    call(authorization="Bearer good-key")
    assert call.records[0].caller == "anna"


def test_lifespan_goes_through_and_websockets_are_refused() -> None:
    seen: list[str] = []
    sent: list[Message] = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("there is nothing to receive")

    async def run() -> None:
        call = Call(app)
        for sort in ("lifespan", "websocket"):
            await call.rim({"type": sort}, receive, send)
        assert call.records == []

    asyncio.run(run())
    assert seen == ["lifespan"]
    assert [message["type"] for message in sent] == ["websocket.close"]


# --- what is raised ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "code", "outcome"),
    [
        (RequestError("no", code="odd"), 400, "odd", "rejected"),
        (ConnectorError("unavailable", "down"), 502, "upstream_unavailable", "failed"),
        (RuntimeError("sk-secret-12345"), 500, "internal_error", "failed"),
        (ConfigError([Problem("/home/me/secret.yaml", 3, "wrong")]), 500, "configuration_error", "failed"),
    ],
)
def test_whatever_is_raised_is_answered(error: Exception, status: int, code: str, outcome: str) -> None:
    call = Call(raising(error))
    answer = call()
    assert (answer["status"], json.loads(answer["body"])["error"]["code"]) == (status, code)
    assert answer["headers"]["content-length"] == str(len(answer["body"]))
    assert (call.records[0].status, call.records[0].outcome) == (status, outcome)
    assert b"secret" not in answer["body"]
    assert "secret" not in call.records[0].error


def test_a_traceback_is_for_the_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    answer = Call(raising(RuntimeError("the reason")))()
    assert b"the reason" not in answer["body"]
    assert "the reason" in caplog.text
    assert "Traceback" in caplog.text


def test_expected_failures_leave_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        Call(raising(ConnectorError("unavailable", "down")))()
    assert "Traceback" not in caplog.text


def test_a_failure_after_the_start_sends_nothing_more() -> None:
    call = Call(breaks_midway)
    assert call()["body"] == b"fi"
    assert call.sent[-1]["more_body"]
    assert (call.records[0].status, call.records[0].outcome) == (200, "cut_off")
    assert "secret" not in call.records[0].error


def test_a_caller_who_left_is_nobodys_failure() -> None:
    call = Call(raising(ClientGone()))
    assert call() == {}
    assert (call.records[0].status, call.records[0].outcome, call.records[0].error) == (499, "client_closed", "")


def test_a_connection_that_is_taken_down_is_told_in_the_record() -> None:
    async def run() -> RequestRecord:
        inside = asyncio.Event()

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            inside.set()
            await asyncio.Event().wait()

        call = Call(app)
        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        task = asyncio.create_task(call._run(scope))
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return call.records[0]

    record = asyncio.run(run())
    assert (record.outcome, record.error) == ("cut_off", "the connection was taken down")


def test_an_interrupted_request_is_told_that_the_gateway_is_shutting_down() -> None:
    async def run() -> Call:
        inside = asyncio.Event()

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            inside.set()
            await asyncio.Event().wait()

        call = Call(app)
        task = asyncio.create_task(call._run({"type": "http", "method": "GET", "path": "/", "headers": []}))
        await inside.wait()
        call.rim.interrupt()
        await task
        return call

    call = asyncio.run(run())
    assert call.sent[0]["status"] == 503
    assert (b"retry-after", b"1") in call.sent[0]["headers"]
    told = json.loads(b"".join(message["body"] for message in call.sent[1:]))["error"]
    assert told["message"] == "the gateway is shutting down; send the request again"
    assert (call.records[0].status, call.records[0].error) == (503, told["message"])


def test_a_body_that_an_endpoint_does_not_read_holds_nobody(gateway: GatewayFactory) -> None:
    async def run() -> None:
        async with gateway(unused) as running:
            for path in ("/v1/models", "/healthz", "/readyz", "/v1/nope"):
                answer = await running.client.request("GET", f"{running.url}{path}", content=b"x" * 8_000_000)
                assert answer.status_code == (404 if path.endswith("nope") else 200)

    asyncio.run(run())


def test_a_stream_that_is_interrupted_ends_with_an_error_event(gateway: GatewayFactory) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "text/event-stream"})
        await exchange.chunk(b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}\n\n')
        await exchange.hung_up()

    async def run() -> str:
        async with gateway(endless) as running:
            reader, writer = await running.dial(stream=True)
            await reader.readuntil(b"hi")
            running.app.interrupt()
            async with asyncio.timeout(2):
                rest = await reader.readuntil(b"\r\n0\r\n\r\n")
            writer.close()
            return rest.decode()

    rest = asyncio.run(run())
    assert "the gateway is shutting down" in rest
    assert "[DONE]" not in rest


def test_a_secret_in_an_error_is_struck_out_of_the_record() -> None:
    redactor = Redactor()
    redactor.learn(["sk-secret-12345"])
    call = Call(raising(ConnectorError("denied", "bad key sk-secret-12345")), redactor=redactor)
    call()
    assert call.records[0].error == "bad key [secret]"


def test_an_error_tells_who_was_asked_and_how_often() -> None:
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        attempts = [Attempt("a.default", "m", status=429), Attempt("a.default", "m", status=503)]
        scope[RECORD].attempts += attempts
        raise ConnectorError("unavailable", "down", status=503)

    answer = Call(app)()
    assert answer["headers"]["x-llmgate-backend"] == "a.default"
    assert answer["headers"]["x-llmgate-attempts"] == "2"
    message = json.loads(answer["body"])["error"]["message"]
    assert message == "down [llmgate: backend a.default answered HTTP 503, 2 attempts]"


# --- refusals ------------------------------------------------------------------------------------------------


def test_repeated_bad_keys_are_held_and_a_good_one_is_not() -> None:
    call = Call(fine, keys=(KEY,))
    for _ in range(5):
        assert call(x_api_key="bad")["status"] == 401
    assert call.slept == [0.5, 1.5]
    assert call(x_api_key="good-key")["status"] == 200
    assert call.slept == [0.5, 1.5]


def test_a_refused_request_does_not_reach_the_app() -> None:
    reached: list[str] = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        reached.append(scope["path"])

    call = Call(app, keys=(KEY,))
    assert call(host="evil.example")["status"] == 403
    assert call()["status"] == 401
    assert reached == []
    assert [record.outcome for record in call.records] == ["rejected", "rejected"]


# --- over a real socket --------------------------------------------------------------------------------------


async def unused(exchange: Exchange) -> None:
    raise AssertionError("nobody should have asked")


def with_gateway(gateway: GatewayFactory, test: Callable[[RunningGateway], Awaitable[None]], **sections: Any) -> None:
    async def run() -> None:
        async with asyncio.timeout(20), gateway(unused, **sections) as running:
            await test(running)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("OPTIONS", "/v1/chat/completions", 405, "method_not_allowed"),
        ("POST", "/v1/chat/completions/", 404, "not_found"),
        ("POST", "/chat/completions", 404, "not_found"),
        ("GET", "/v1//models", 404, "not_found"),
        ("GET", "/%0d%0aX-Evil:%20yes", 404, "not_found"),
        ("BREW", "/v1/models", 405, "method_not_allowed"),
    ],
)
def test_wrong_paths_and_methods(gateway: GatewayFactory, method: str, path: str, status: int, code: str) -> None:
    async def test(running: RunningGateway) -> None:
        reply = await running.client.request(method, running.url + path)
        assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
        assert "x-evil" not in reply.headers
        assert ("allow" in reply.headers) == (status == 405)  # RFC 9110, section 15.5.6
        assert (await running.finished()).status == status

    with_gateway(gateway, test)


KEYS = AuthConfig((CallerKey("anna", CallerSecret("key-of-anna")), CallerSecret("sha256:" + "0" * 64)))


def test_a_refusal_is_read_by_a_client_that_is_still_sending(gateway: GatewayFactory) -> None:
    async def test(running: RunningGateway) -> None:
        for headers in ({"x-api-key": "bad"}, {}):
            reply = await running.client.post(
                f"{running.url}/v1/chat/completions", content=b"x" * 24_000_000, headers=headers
            )
            assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_api_key")
        assert (await running.finished(2)).bytes_in == 0

    with_gateway(gateway, test, auth=KEYS)


def test_a_key_that_is_known_by_its_hash(gateway: GatewayFactory) -> None:
    digest = hashlib.sha256(b"only-anna-knows").hexdigest()
    auth = AuthConfig((CallerKey("anna", CallerSecret(f"sha256:{digest}")),))

    async def test(running: RunningGateway) -> None:
        for shown, status in (("only-anna-knows", 200), (digest, 401), (f"sha256:{digest}", 401)):
            reply = await running.client.get(f"{running.url}/v1/models", headers={"authorization": f"Bearer {shown}"})
            assert reply.status_code == status

    with_gateway(gateway, test, auth=auth)


def test_a_key_in_the_url_is_no_key(gateway: GatewayFactory) -> None:
    async def test(running: RunningGateway) -> None:
        reply = await running.client.get(f"{running.url}/v1/models?key=key-of-anna&api_key=key-of-anna")
        assert reply.status_code == 401

    with_gateway(gateway, test, auth=KEYS)


def test_a_page_of_an_allowed_origin_may_call(gateway: GatewayFactory) -> None:
    page = {"origin": "https://chat.example"}

    async def test(running: RunningGateway) -> None:
        url = f"{running.url}/v1/models"
        asked = {**page, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
        preflight = await running.client.options(url, headers=asked)
        assert preflight.status_code == 200  # without a key: browsers send none with a preflight
        assert preflight.headers["access-control-allow-origin"] == "https://chat.example"
        assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
        reply = await running.client.get(url, headers={**page, "x-api-key": "key-of-anna"})
        assert reply.status_code == 200
        assert reply.headers["access-control-allow-origin"] == "https://chat.example"
        refused = await running.client.get(url, headers=page)
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "https://chat.example"

    with_gateway(gateway, test, auth=KEYS, server=ServerConfig(allowed_origins=("https://chat.example",)))


def test_a_page_of_another_origin_may_not(gateway: GatewayFactory) -> None:
    page = {"origin": "https://evil.example"}

    async def test(running: RunningGateway) -> None:
        url = f"{running.url}/v1/models"
        preflight = await running.client.options(url, headers={**page, "access-control-request-method": "POST"})
        assert preflight.status_code == 400
        assert "access-control-allow-origin" not in preflight.headers
        assert (await running.client.get(url, headers=page)).status_code == 403

    with_gateway(gateway, test, server=ServerConfig(allowed_origins=("https://chat.example",)))


def test_without_allowed_origins_there_is_no_cors(gateway: GatewayFactory) -> None:
    async def test(running: RunningGateway) -> None:
        reply = await running.client.get(f"{running.url}/v1/models", headers={"origin": "https://chat.example"})
        assert reply.status_code == 403
        assert not [name for name in reply.headers if name.startswith("access-control")]

    with_gateway(gateway, test)


def test_a_last_word_that_is_never_said_is_never_begun() -> None:
    async def silence() -> Message:
        return await asyncio.Future()

    begun: list[bool] = []

    async def say() -> None:
        begun.append(True)

    async def test() -> None:
        waiting = asyncio.create_task(Receiver(silence).use_up(60, then=say))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert waiting.cancelled()
        await Receiver(silence).use_up(0, then=say)

    asyncio.run(test())
    assert begun == [True]
