"""The base class of connectors: where it posts, with what, and the seams that a subclass overrides."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from llmgate_core.connectors import Connector, Instance, ModelInfo, UpstreamCall
from llmgate_core.credentials import Credential, NoCredential
from llmgate_core.errors import ConnectorError
from llmgate_core.http_connector import listed_models
from llmgate_core.mending import Mender
from llmgate_core.openai_compatible import OpenAICompatible
from llmgate_core.retry import NoRetry
from llmgate_core.testing import Exchange, Script, ScriptedUpstream
from llmgate_core.upstream import Timeouts, Upstream
from llmgate_core.wire import Body

BODY = b'{"model": "m", "messages": [{}], "n_1": 1e2}'
KEY = Credential({"authorization": "Bearer sk-12345678"})


@dataclass(frozen=True)
class AcmeSettings:
    base_url: str = ""
    models: tuple[str, ...] | None = None


class Acme(OpenAICompatible):
    name: ClassVar[str] = "acme"
    settings: AcmeSettings


def call(
    *, stream: bool = False, credential: Credential = KEY, headers: Mapping[str, str] | None = None
) -> UpstreamCall:
    return UpstreamCall(
        "generate", "openai.chat", "m", stream, Body.parse(BODY), credential, headers or {}, request_id="req_1"
    )


@dataclass
class Used:
    """A connector and the upstream that it was used with."""

    connector: Acme
    upstream: ScriptedUpstream


def use(script: Script, test: Callable[[Used], Awaitable[None]], connector: type[Acme] = Acme, **settings: Any) -> None:
    async def run() -> None:
        async with asyncio.timeout(20), ScriptedUpstream(script) as upstream:
            http = Upstream({})
            instance = Instance(
                name="acme.default",
                settings=AcmeSettings(f"{upstream.url}/v1/", **settings),
                http=http.client(Timeouts()),
                clock=lambda: 1_800_000_000.0,
                random=random.Random(1),
                environ={},
                home=Path("/nowhere"),
                logger=logging.getLogger("llmgate.tests"),
            )
            try:
                await test(Used(connector(instance), upstream))
            finally:
                await http.aclose()

    asyncio.run(run())


async def body_of(chunks: AsyncGenerator[bytes, None]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def fine(exchange: Exchange) -> None:
    await exchange.reply(200, b" {answer} ", {"content-type": "application/json"})


def test_it_is_a_connector_with_harmless_defaults() -> None:
    async def test(used: Used) -> None:
        connector: Connector = used.connector
        connector.check()
        assert isinstance(connector.credentials(), NoCredential)
        assert isinstance(connector.retry(), NoRetry)
        assert connector.dialects == {"openai.chat"}
        await connector.aclose()

    use(fine, test)


@pytest.mark.parametrize(("stream", "accept"), [(False, "application/json"), (True, "text/event-stream")])
def test_posts_the_callers_bytes_with_the_credential(stream: bool, accept: str) -> None:
    async def test(used: Used) -> None:
        reply = await used.connector.send(call(stream=stream, headers={"x-session-id": "s"}))
        assert (reply.status, await body_of(reply.chunks)) == (200, b" {answer} ")
        (request,) = used.upstream.requests
        assert (request.method, request.path, request.body) == ("POST", "/v1/chat/completions", BODY)
        assert (request.headers["accept"], request.headers["content-type"]) == (accept, "application/json")
        assert request.headers["authorization"] == "Bearer sk-12345678"
        assert request.headers["x-session-id"] == "s"

    use(fine, test)


def test_no_header_of_the_caller_takes_the_place_of_ours() -> None:
    async def test(used: Used) -> None:
        await (await used.connector.send(call(headers={"authorization": "theirs", "accept": "x/y"}))).aclose()
        (request,) = used.upstream.requests
        assert request.headers["authorization"] == "Bearer sk-12345678"
        assert request.headers["accept"] == "application/json"

    use(fine, test)


def test_a_credential_that_says_where_it_is_valid_is_used_there() -> None:
    async def test(used: Used) -> None:
        elsewhere = Credential(KEY.headers, base_url=f"{used.upstream.url}/elsewhere/")
        await (await used.connector.send(call(credential=elsewhere))).aclose()
        assert used.upstream.requests[0].path == "/elsewhere/chat/completions"

    use(fine, test)


def test_an_error_is_classified_with_its_words() -> None:
    async def limited(exchange: Exchange) -> None:
        answer = {"error": {"message": "slow down", "code": "odd", "type": "their_type", "param": "model"}}
        await exchange.reply(429, answer, {"retry-after": "7", "x-request-id": "up-1"})

    async def test(used: Used) -> None:
        with pytest.raises(ConnectorError) as caught:
            await used.connector.send(call())
        error = caught.value
        assert (error.kind, error.status, error.message, error.retry_after) == ("rate_limited", 429, "slow down", 7)
        assert (error.code, error.type, error.param) == ("odd", "their_type", "model")
        assert error.upstream_request_id == "up-1"

    use(limited, test)


def test_an_error_whose_body_is_cut_off_keeps_its_status(promptly: float) -> None:
    async def cut(exchange: Exchange) -> None:
        await exchange.head(403, {"content-length": "100"})
        await exchange.raw(b'{"error": ')
        exchange.cut()

    async def test(used: Used) -> None:
        with pytest.raises(ConnectorError) as caught:
            await used.connector.send(call())
        assert (caught.value.kind, caught.value.status) == ("denied", 403)
        await asyncio.wait_for(used.upstream.all_closed(), promptly)

    use(cut, test)


def test_an_endless_error_is_read_up_to_a_bound(promptly: float) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.head(500)
        while True:
            await exchange.chunk(b"x" * 10_000)

    async def test(used: Used) -> None:
        with pytest.raises(ConnectorError) as caught:
            await used.connector.send(call())
        assert caught.value.kind == "unavailable"
        await asyncio.wait_for(used.upstream.all_closed(), promptly)

    use(endless, test)


def test_send_returns_at_the_headers(promptly: float) -> None:
    async def hold(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "text/event-stream"})
        await exchange.hung_up()

    async def test(used: Used) -> None:
        reply = await used.connector.send(call(stream=True))
        assert reply.headers["content-type"] == "text/event-stream"
        await reply.aclose()
        await asyncio.wait_for(used.upstream.all_closed(), promptly)

    use(hold, test)


class Speaks(Acme):
    def __init__(self, instance: Instance) -> None:
        super().__init__(instance)
        self.dialects = self.dialects | {"openai.responses"}


@pytest.mark.parametrize(
    ("operation", "dialect", "path"),
    [
        ("generate", "openai.chat", "/v1/chat/completions"),
        ("generate", "openai.responses", "/v1/responses"),
        ("embeddings", "openai.chat", "/v1/embeddings"),
        ("completions", "openai.chat", "/v1/completions"),
    ],
)
def test_each_operation_has_its_path(operation: str, dialect: str, path: str) -> None:
    async def test(used: Used) -> None:
        assert used.connector.dialects == {"openai.chat", "openai.responses"}
        assert Acme.dialects == {"openai.chat"}
        await (await used.connector.send(replace(call(), operation=operation, dialect=dialect))).aclose()
        assert used.upstream.requests[0].path == path

    use(fine, test, Speaks)


def test_an_operation_that_the_api_has_not_is_not_sent() -> None:
    async def test(used: Used) -> None:
        with pytest.raises(ConnectorError, match="no operation `paint`") as caught:
            await used.connector.send(replace(call(), operation="paint"))
        assert (caught.value.kind, used.upstream.requests) == ("not_found", [])

    use(fine, test)


class Mended(Acme):
    """Overrides every seam."""

    def url(self, call: UpstreamCall) -> str:
        return f"{self.base_url(call.credential)}/own/path"

    def headers(self, call: UpstreamCall) -> dict[str, str]:
        return {**super().headers(call), "x-own": "yes"}

    def body(self, call: UpstreamCall) -> bytes:
        return call.body.splice({"own": True}).bytes

    def classify(self, call: UpstreamCall, status: int, headers: Mapping[str, str], body: bytes) -> ConnectorError:
        return ConnectorError("quota", body.decode(), status=status)

    def reply_headers(self, call: UpstreamCall, headers: Mapping[str, str]) -> Mapping[str, str]:
        return {**headers, "content-type": "text/loud"}

    async def events(self, call: UpstreamCall, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for chunk in chunks:
            yield chunk.upper()


def test_every_seam_can_be_overridden() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.reply(200 if exchange.number == 0 else 400, b"answer")

    async def test(used: Used) -> None:
        reply = await used.connector.send(call())
        assert await body_of(reply.chunks) == b"ANSWER"
        assert reply.headers["content-type"] == "text/loud"
        (request,) = used.upstream.requests
        assert (request.path, request.headers["x-own"], request.json()["own"]) == ("/v1/own/path", "yes", True)
        with pytest.raises(ConnectorError) as caught:
            await used.connector.send(call())
        assert (caught.value.kind, caught.value.message) == ("quota", "answer")

    use(script, test, Mended)


class Traced(Acme):
    request_id_headers: ClassVar[tuple[str, ...]] = ("trace-id", "acme-id")


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({"trace-id": "t", "acme-id": "a", "x-request-id": "x"}, "t"),
        ({"acme-id": "a", "x-request-id": "x"}, "a"),
        ({"x-request-id": "x"}, "x"),
        ({}, None),
    ],
)
def test_the_upstreams_own_name_of_a_request(status: int, headers: dict[str, str], wanted: str | None) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.reply(status, b"{}", headers)

    async def test(used: Used) -> None:
        if status == 200:
            reply = await used.connector.send(call())
            assert reply.headers.get("x-request-id") == wanted
            await reply.aclose()
            return
        with pytest.raises(ConnectorError) as caught:
            await used.connector.send(call())
        assert caught.value.upstream_request_id == wanted

    use(script, test, Traced)


class Refuses(Mender):
    def event(self, body: Body, name: str) -> Body:
        raise ConnectorError("quota", body.get("said"))

    def whole(self, body: Body) -> Body:
        return body.splice({"mended": True})


class Minded(Acme):
    def mender(self, call: UpstreamCall) -> Mender:
        return Refuses()


def test_a_mender_is_asked_about_every_answer() -> None:
    async def script(exchange: Exchange) -> None:
        await (exchange.sse({"said": "no"}) if exchange.number == 0 else exchange.reply(200, b'{"a":1.0}'))

    async def test(used: Used) -> None:
        reply = await used.connector.send(call(stream=True))
        with pytest.raises(ConnectorError, match="no"):
            await body_of(reply.chunks)
        plain = await used.connector.send(call())
        assert await body_of(plain.chunks) == b'{"a":1.0,"mended":true}'

    use(script, test, Minded)


# --- models --------------------------------------------------------------------------------------------------


async def credential() -> Credential:
    return KEY


async def no_credential() -> Credential:
    raise AssertionError("nobody needs a credential here")


def test_configured_models_are_told_without_asking_anybody() -> None:
    async def test(used: Used) -> None:
        assert await used.connector.models(no_credential) == [ModelInfo("a"), ModelInfo("b")]
        assert used.upstream.requests == []

    use(fine, test, models=("a", "b"))


def test_otherwise_the_upstream_lists_them() -> None:
    async def lists(exchange: Exchange) -> None:
        assert exchange.request.method == "GET"
        assert exchange.request.path == "/v1/models"
        assert exchange.request.headers["authorization"] == "Bearer sk-12345678"
        await exchange.reply(200, {"data": [{"id": "a"}, {"id": "b", "more": 1}, {"id": 7}]})

    async def test(used: Used) -> None:
        assert await used.connector.models(credential) == [ModelInfo("a"), ModelInfo("b")]

    use(lists, test)


def test_an_upstream_without_a_list_is_a_failure() -> None:
    async def missing(exchange: Exchange) -> None:
        await exchange.reply(404, b"nothing here")

    async def test(used: Used) -> None:
        with pytest.raises(ConnectorError) as caught:
            await used.connector.models(credential)
        assert caught.value.kind == "not_found"

    use(missing, test)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"data": 1}', b'{"data": [1]}', b'{"data": [{}]}'])
def test_what_is_no_list_of_models(body: bytes) -> None:
    with pytest.raises(ConnectorError, match="list of models") as caught:
        listed_models(body)
    assert caught.value.kind == "protocol"
