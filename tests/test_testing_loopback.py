"""LoopbackServer: real sockets, the lifespan, quick and quiet shutdown."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from llmgate_core.testing import LoopbackServer

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def echo(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"  # no lifespan: it must be served all the same
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-seen", scope["path"].encode())]})
    await send({"type": "http.response.body", "body": message["body"]})


async def endless(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        await asyncio.sleep(0)


async def first_bytes(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that has asked, seen the status line, and then stops reading."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]), limit=1024)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    assert await reader.readline() == b"HTTP/1.1 200 \r\n"
    return reader, writer


def test_serves_any_asgi_app_on_a_loopback_port() -> None:
    async def run() -> None:
        async with LoopbackServer(echo) as url, httpx.AsyncClient() as client:
            assert url.startswith("http://127.0.0.1:")
            reply = await client.post(f"{url}/a/b", content="你好")
            assert (reply.status_code, reply.headers["x-seen"], reply.text) == (200, "/a/b", "你好")

    asyncio.run(run())


def test_two_servers_get_two_ports() -> None:
    async def run() -> None:
        async with LoopbackServer(echo) as one, LoopbackServer(echo) as two:
            assert one != two

    asyncio.run(run())


def test_runs_the_lifespan_around_the_requests() -> None:
    events: list[str] = []

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            events.append(f"request with {scope['state']['door']}")
            return await echo(scope, receive, send)
        while True:
            message = await receive()
            events.append(message["type"])
            scope["state"]["door"] = "open"
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return None

    async def run() -> None:
        async with LoopbackServer(app) as url, httpx.AsyncClient() as client:
            await client.get(url)

    asyncio.run(run())
    assert events == ["lifespan.startup", "request with open", "lifespan.shutdown"]


def test_a_failed_startup_is_raised() -> None:
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(Exception, match="no database"):
        asyncio.run(LoopbackServer(app).start())


def test_streams_as_it_is_sent() -> None:
    async def run() -> None:
        go_on = asyncio.Event()

        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            assert scope["type"] == "http"
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"one", "more_body": True})
            await go_on.wait()
            await send({"type": "http.response.body", "body": b"two"})

        async with (
            LoopbackServer(app) as url,
            httpx.AsyncClient() as client,
            client.stream("GET", url) as reply,
        ):
            chunks = reply.aiter_bytes()
            assert await anext(chunks) == b"one"
            go_on.set()
            assert await anext(chunks) == b"two"

    asyncio.run(run())


def test_closes_at_once_with_an_idle_connection() -> None:
    async def run() -> float:
        server = LoopbackServer(echo, grace=30)
        url = await server.start()
        async with httpx.AsyncClient() as client:
            await client.get(url)
            begun = time.monotonic()
            await server.aclose()
            return time.monotonic() - begun

    assert asyncio.run(run()) < 5


def test_closes_although_a_client_has_stopped_reading() -> None:
    async def run() -> float:
        server = LoopbackServer(endless)
        _, writer = await first_bytes(await server.start())
        begun = time.monotonic()
        await server.aclose()
        elapsed = time.monotonic() - begun
        writer.close()
        return elapsed

    assert asyncio.run(run()) < 5


def test_closes_although_an_application_never_ends() -> None:
    cancelled: list[bool] = []

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    async def run() -> None:
        server = LoopbackServer(app)
        _, writer = await first_bytes(await server.start())
        await server.aclose()
        assert len(asyncio.all_tasks()) == 1, "nothing may run on after aclose()"
        writer.close()

    asyncio.run(run())
    assert cancelled == [True]


def test_a_running_request_may_finish_within_the_grace() -> None:
    async def run() -> bytes:
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            assert scope["type"] == "http"
            asked.set()
            await go_on.wait()
            await echo(scope, receive, send)

        server = LoopbackServer(app, grace=30)
        url = await server.start()
        async with httpx.AsyncClient() as client:
            reply = asyncio.create_task(client.post(url, content=b"late"))
            await asked.wait()
            closing = asyncio.create_task(server.aclose())
            await asyncio.sleep(0)
            go_on.set()
            await closing
            return (await reply).content

    assert asyncio.run(run()) == b"late"


def test_may_be_closed_twice_and_refuses_afterwards() -> None:
    async def run() -> None:
        server = LoopbackServer(echo)
        url = await server.start()
        await server.aclose()
        await server.aclose()
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(url)

    asyncio.run(run())


def test_logs_only_what_the_application_let_out(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        if scope["path"] == "/bad":
            raise ZeroDivisionError("let out")
        await echo(scope, receive, send)

    async def run() -> int:
        async with LoopbackServer(app) as url, httpx.AsyncClient() as client:
            await client.get(url)
            assert [r for r in caplog.records if r.name.startswith(("hypercorn", "llmgate"))] == []
            return (await client.get(f"{url}/bad")).status_code

    caplog.set_level(logging.DEBUG)
    assert asyncio.run(run()) == 500
    assert [r.levelname for r in caplog.records if r.name == "llmgate.testing.loopback"] == ["ERROR"]


def test_importing_the_kit_imports_nothing_heavy() -> None:
    heavy = {"h11", "hypercorn", "httpx", "msgspec"}
    code = f"import sys, llmgate_core.testing; print(*({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_kit_has_no_other_names() -> None:
    import llmgate_core.testing as kit

    assert all(hasattr(kit, name) and name in dir(kit) for name in kit.__all__)
    with pytest.raises(AttributeError, match="`Nothing`"):
        _ = kit.Nothing
