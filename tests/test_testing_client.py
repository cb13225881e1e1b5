"""http_client: what connectors get in a gateway, for tests that reach sockets."""

from __future__ import annotations

import asyncio

import pytest

from llmgate_core import ConnectorError
from llmgate_core.testing import Exchange, ScriptedUpstream, http_client


def test_it_is_the_gateways_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")

    async def answer(exchange: Exchange) -> None:
        await exchange.reply(201, b"fine")

    async def run() -> None:
        async with ScriptedUpstream(answer) as upstream, http_client() as http:
            reply = await http.send("POST", f"{upstream.url}/a", headers={"x-mark": "1"}, content=b"body")
            assert (reply.status, await reply.read()) == (201, b"fine")
            [request] = upstream.requests
            assert (request.method, request.path, request.body) == ("POST", "/a", b"body")
            assert (request.headers["x-mark"], request.headers["user-agent"][:8]) == ("1", "llmgate/")

    asyncio.run(run())


def test_its_patience_has_an_end_and_its_connections_too() -> None:
    async def silence(exchange: Exchange) -> None:
        await exchange.hung_up()

    async def run() -> None:
        async with ScriptedUpstream(silence) as upstream:
            async with http_client(0.05) as http:
                with pytest.raises(ConnectorError) as error:
                    await http.send("GET", upstream.url)
            assert error.value.kind == "timeout"
            await asyncio.wait_for(upstream.all_closed(), 30)

    asyncio.run(run())
