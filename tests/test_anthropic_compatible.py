"""Connectors for upstreams that speak Anthropic Messages: where they post, with which headers, what failures mean."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from llmgate_core import AnthropicCompatible, Connector, ConnectorError, Instance, ModelInfo, UpstreamCall
from llmgate_core.builtin import AnthropicCompatibleConnector, AnthropicCompatibleSettings, OpenAICompatibleConnector
from llmgate_core.builtin import OpenAICompatibleSettings as ChatSettings
from llmgate_core.credentials import Credential
from llmgate_core.settings import decode
from llmgate_core.testing import Exchange, Script, ScriptedUpstream
from llmgate_core.upstream import Timeouts, Upstream
from llmgate_core.wire import Body

BODY = b'{"model": "m", "max_tokens": 5, "messages": [{}], "n_1": 1e2}'
KEY = "sk-ant-12345678"


def call(operation: str = "generate", *, headers: Mapping[str, str] | None = None) -> UpstreamCall:
    return UpstreamCall(
        operation, "anthropic.messages", "m", False, Body.parse(BODY), Credential({}), headers or {}, request_id="req_1"
    )


@dataclass
class Used:
    """A connector and the upstream that it was used with."""

    connector: AnthropicCompatibleConnector
    upstream: ScriptedUpstream

    async def credential(self) -> Credential:
        return await self.connector.credentials().get()

    async def post(self, one: UpstreamCall) -> bytes:
        """The answer to a call with the connector's own credential."""
        reply = await self.connector.send(replace(one, credential=await self.credential()))
        return b"".join([chunk async for chunk in reply.chunks])


def use(script: Script, test: Callable[[Used], Awaitable[None]], path: str = "", **extra: Any) -> None:
    async def run() -> None:
        async with asyncio.timeout(20), ScriptedUpstream(script) as upstream:
            given = {"base_url": f"{upstream.url}{path}", "api_key": "env:ACME_KEY", **extra}
            settings, faults = decode(AnthropicCompatibleSettings, given)
            assert not faults
            http = Upstream({})
            try:
                await test(Used(AnthropicCompatibleConnector(instance(settings, http)), upstream))
            finally:
                await http.aclose()

    asyncio.run(run())


def instance(settings: Any, http: Upstream) -> Instance:
    return Instance(
        name="acme.default",
        settings=settings,
        http=http.client(Timeouts()),
        clock=lambda: 1_800_000_000.0,
        random=random.Random(1),
        environ={"ACME_KEY": KEY},
        home=Path("/nowhere"),
        logger=logging.getLogger("llmgate.tests"),
    )


async def fine(exchange: Exchange) -> None:
    await exchange.reply(200, b" {answer} ", {"content-type": "application/json"})


def test_it_speaks_messages_alone() -> None:
    async def test(used: Used) -> None:
        connector: Connector = used.connector
        assert connector.dialects == {"anthropic.messages"}

    use(fine, test)


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/anthropic", "/anthropic/v1"])
@pytest.mark.parametrize(
    ("operation", "end"), [("generate", "/v1/messages"), ("count_tokens", "/v1/messages/count_tokens")]
)
def test_the_address_may_be_written_with_its_version_or_without(path: str, operation: str, end: str) -> None:
    async def test(used: Used) -> None:
        assert await used.post(call(operation)) == b" {answer} "
        (request,) = used.upstream.requests
        start = "/anthropic" if "anthropic" in path else ""
        assert (request.method, request.path, request.body) == ("POST", start + end, BODY)

    use(fine, test, path)


@pytest.mark.parametrize(
    ("auth", "header", "value"), [("x-api-key", "x-api-key", KEY), ("bearer", "authorization", f"Bearer {KEY}")]
)
def test_the_key_is_sent_as_the_upstream_wants_it(auth: str, header: str, value: str) -> None:
    async def test(used: Used) -> None:
        await used.post(call())
        (request,) = used.upstream.requests
        assert request.headers[header] == value
        assert len({"x-api-key", "authorization"} & set(request.headers)) == 1

    use(fine, test, auth=auth)


@pytest.mark.parametrize(
    ("sent", "extra", "arrives"),
    [
        ({}, {}, {"anthropic-version": "2023-06-01"}),
        ({}, {"anthropic_version": "2099-01-01"}, {"anthropic-version": "2099-01-01"}),
        ({"anthropic-version": "2024-01-01"}, {}, {"anthropic-version": "2024-01-01"}),
        ({"anthropic-beta": "a,b"}, {}, {"anthropic-beta": "a,b", "anthropic-version": "2023-06-01"}),
        ({"x-own": "theirs"}, {"headers": {"X-Own": "ours"}}, {"x-own": "ours"}),
    ],
)
def test_headers(sent: Mapping[str, str], extra: dict[str, Any], arrives: Mapping[str, str]) -> None:
    async def test(used: Used) -> None:
        await used.post(call(headers=sent))
        assert {name: used.upstream.requests[0].headers.get(name) for name in arrives} == arrives

    use(fine, test, **extra)


@pytest.mark.parametrize(
    ("status", "sort", "kind"),
    [
        (400, "invalid_request_error", "bad_request"),
        (401, "authentication_error", "auth"),
        (403, "permission_error", "denied"),
        (404, "not_found_error", "not_found"),
        (413, "request_too_large", "bad_request"),
        (429, "rate_limit_error", "rate_limited"),
        (500, "api_error", "unavailable"),
        (529, "overloaded_error", "unavailable"),
    ],
)
def test_what_a_failure_means(status: int, sort: str, kind: str) -> None:
    async def refuse(exchange: Exchange) -> None:
        said = {"type": "error", "error": {"type": sort, "message": "The model says no."}, "request_id": "req_body"}
        await exchange.reply(status, said, {"request-id": "req_up", "retry-after": "7"})

    async def test(used: Used) -> None:
        with pytest.raises(ConnectorError) as caught:
            await used.post(call())
        error = caught.value
        assert (error.kind, error.status, error.type, error.message) == (kind, status, sort, "The model says no.")
        assert (error.retry_after, error.upstream_request_id) == (7, "req_up")

    use(refuse, test)


def test_a_prompt_that_is_too_long_is_told_as_such() -> None:
    async def refuse(exchange: Exchange) -> None:
        error = {"type": "invalid_request_error", "message": "prompt is too long: 210000 tokens > 200000 maximum"}
        await exchange.reply(400, {"type": "error", "error": error})

    async def test(used: Used) -> None:
        with pytest.raises(ConnectorError) as caught:
            await used.post(call())
        assert caught.value.kind == "context_length"

    use(refuse, test)


def test_an_operation_that_the_api_has_not_is_not_sent() -> None:
    async def test(used: Used) -> None:
        with pytest.raises(ConnectorError, match="no operation `embeddings`") as caught:
            await used.post(call("embeddings"))
        assert (caught.value.kind, used.upstream.requests) == ("not_found", [])

    use(fine, test)


# --- models ----------------------------------------------------------------------------------------------------


def test_models_are_listed_page_by_page() -> None:
    async def pages(exchange: Exchange) -> None:
        assert exchange.request.headers["x-api-key"] == KEY
        assert exchange.request.headers["anthropic-version"] == "2023-06-01"
        if exchange.number == 0:
            first = [{"type": "model", "id": "a&1", "display_name": "A"}]
            await exchange.reply(200, {"data": first, "has_more": True, "first_id": "a&1", "last_id": "a&1"})
        else:
            await exchange.reply(200, {"data": [{"id": "b"}], "has_more": False, "last_id": "b"})

    async def test(used: Used) -> None:
        assert await used.connector.models(used.credential) == [ModelInfo("a&1"), ModelInfo("b")]
        asked = [(request.path, request.query) for request in used.upstream.requests]
        assert asked == [("/v1/models", "limit=1000"), ("/v1/models", "limit=1000&after_id=a%261")]

    use(pages, test)


@pytest.mark.parametrize("last", ["a", None, 5])
def test_a_list_that_goes_on_for_ever_is_left(last: Any) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.reply(200, {"data": [{"id": "a"}], "has_more": True, "last_id": last})

    async def test(used: Used) -> None:
        assert set(await used.connector.models(used.credential)) == {ModelInfo("a")}
        assert len(used.upstream.requests) <= 2

    use(endless, test)


def test_configured_models_are_told_without_asking_anybody() -> None:
    async def test(used: Used) -> None:
        assert await used.connector.models(used.credential) == [ModelInfo("x")]
        assert used.upstream.requests == []

    use(fine, test, models=["x"])


# --- settings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"base_url": "https://x/v1/messages"}, "ends in `/messages`"),
        ({"base_url": "https://u:p@x"}, "holds a user or a password"),
        ({"base_url": "https://x?a=b"}, "ends in a query"),
        ({"base_url": "https://x", "headers": {"a b": "c"}}, "`headers` holds a name or a value"),
        ({"base_url": "https://x", "headers": {"a": "b\r\nc: d"}}, "`headers` holds a name or a value"),
        ({"base_url": "https://x", "auth": "basic"}, "auth"),
    ],
)
def test_settings_that_can_only_be_wrong(extra: dict[str, Any], words: str) -> None:
    _, faults = decode(AnthropicCompatibleSettings, extra)
    assert words in " ".join(f"{path} {message}" for path, message in faults)


def test_openai_compatible_speaks_responses_where_it_is_told_so() -> None:
    http = Upstream({})
    plain, both = (
        OpenAICompatibleConnector(instance(ChatSettings("http://x/v1", responses=wanted), http))
        for wanted in (False, True)
    )
    assert plain.dialects == {"openai.chat"}
    assert both.dialects == {"openai.chat", "openai.responses"}
    asyncio.run(http.aclose())


# --- as a plugin -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AcmeSettings:
    base_url: str


class Acme(AnthropicCompatible):
    name: ClassVar[str] = "acme"
    settings: AcmeSettings


def test_a_plugin_needs_a_name_and_settings() -> None:
    async def test() -> None:
        async with asyncio.timeout(20), ScriptedUpstream(fine) as upstream:
            http = Upstream({})
            connector = Acme(instance(AcmeSettings(upstream.url), http))
            await (await connector.send(call())).aclose()
            await http.aclose()
            assert upstream.requests[0].headers["anthropic-version"] == "2023-06-01"

    asyncio.run(test())
