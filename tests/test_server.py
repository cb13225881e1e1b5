"""The server: connections that end with their clients, and an end of its own that nobody can hold up."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Mapping
from typing import Any

import pytest

from llmgate_core import server as module
from llmgate_core.errors import RequestError
from llmgate_core.server import Server

GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers everything."""
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


def refused(error: RequestError, client: str, method: str, path: str) -> tuple[Mapping[str, str], bytes]:
    return {}, error.message.encode()


async def started(app: Any) -> tuple[Server, int]:
    server = Server(app, logging.getLogger("llmgate.testing.server"), refused)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    await server.start(listener)
    return server, port


def test_a_client_that_has_gone_keeps_no_connection() -> None:
    async def run() -> None:
        server, port = await started(hello)
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GET)
            await reader.readuntil(b"hi")
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(2):
            await asyncio.gather(*server._connections)
        assert not server._connections
        await server.aclose(0)

    asyncio.run(run())


def test_idle_connections_stay_for_the_next_request() -> None:
    async def run() -> None:
        server, port = await started(hello)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            writer.write(GET)
            await reader.readuntil(b"hi")
        assert len(server._connections) == 1
        began = time.monotonic()
        await server.aclose(10)
        assert time.monotonic() - began < 2
        assert await reader.read() == b""
        writer.close()

    asyncio.run(run())


@pytest.mark.parametrize("obeys", [True, False])
def test_what_still_runs_after_the_grace_is_interrupted_and_then_hung_up_on(obeys: bool) -> None:
    async def run() -> None:
        told = asyncio.Event()

        async def waits(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                await hello(scope, receive, send)
                return
            await (told if obeys else asyncio.Event()).wait()
            await hello(scope, receive, send)

        server, port = await started(waits)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        await asyncio.sleep(0.05)
        bystander = asyncio.create_task(asyncio.sleep(60))
        began = time.monotonic()
        await server.aclose(0.1, told.set)
        assert time.monotonic() - began < 3
        assert not bystander.cancelling()
        bystander.cancel()
        try:
            answer = await reader.read()
        except ConnectionError:
            answer = b""
        assert answer.endswith(b"hi") if obeys else answer == b""
        writer.close()

    asyncio.run(run())


def test_a_client_that_closed_its_side_is_hung_up_on_after_its_answer() -> None:
    async def run() -> None:
        server, port = await started(hello)
        for _ in range(100):  # whether the end arrives before or after the answer is chance
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GET)
            writer.write_eof()
            async with asyncio.timeout(2):
                await reader.read()
            writer.close()
        async with asyncio.timeout(2):
            await asyncio.gather(*server._connections)
        await server.aclose(0)

    asyncio.run(run())


@pytest.mark.parametrize("ends_by", ["the client", "giving up", "shutting down"])
def test_a_refused_client_is_waited_for_but_not_for_ever(monkeypatch: pytest.MonkeyPatch, ends_by: str) -> None:
    monkeypatch.setattr(module, "LEFTOVER_SECONDS", 0.05 if ends_by == "giving up" else 60)

    async def run() -> None:
        server, port = await started(hello)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"what is this\r\n\r\n")
        async with asyncio.timeout(10):
            assert b"line 1 of the request" in await reader.read()
            assert len(server._connections) == 1
            if ends_by == "the client":
                writer.close()
            if ends_by != "shutting down":
                await asyncio.gather(*server._connections)
            await server.aclose(30)
        assert not server._connections
        writer.close()

    asyncio.run(run())


def test_a_broken_body_holds_nobody_up_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """The request still runs when the server hangs up on it."""

    async def run() -> None:
        begun = asyncio.Event()

        async def waits(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                await hello(scope, receive, send)
                return
            while (await receive())["type"] != "http.disconnect":
                pass
            begun.set()
            await asyncio.Event().wait()

        server, port = await started(waits)
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n")
        async with asyncio.timeout(10):
            await begun.wait()
            await server.aclose(0)
        assert not server._connections
        writer.close()

    asyncio.run(run())
    assert caplog.records == []
