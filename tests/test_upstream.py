"""The HTTP client over real sockets: one test for each fact that made us call the transport directly."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from pathlib import Path

import aiohttp
import httpx
import pytest
from tests.ports import closed_port

from llmgate_core.connectors import HttpReply
from llmgate_core.errors import ConnectorError
from llmgate_core.testing import Exchange, Script, ScriptedUpstream
from llmgate_core.upstream import USER_AGENT, Client, Timeouts, Upstream, explain, trouble

Test = Callable[[ScriptedUpstream, Client], Awaitable[None]]


def with_client(
    script: Script,
    test: Test,
    timeouts: Timeouts | None = None,
    environ: Mapping[str, str] | None = None,
    connections: int = 0,
) -> None:
    async def run() -> None:
        async with asyncio.timeout(30), ScriptedUpstream(script) as upstream:
            http = Upstream(environ or {}, connections=connections)
            try:
                await test(upstream, http.client(timeouts or Timeouts()))
            finally:
                await http.aclose()

    asyncio.run(run())


def failure(script: Script, timeouts: Timeouts | None = None) -> ConnectorError:
    """How a request fails whose answer is read to its end."""
    found: list[ConnectorError] = []

    async def test(upstream: ScriptedUpstream, client: Client) -> None:
        with pytest.raises(ConnectorError) as caught:
            await (await client.send("POST", upstream.url, content=b"x")).read()
        found.append(caught.value)

    with_client(script, test, timeouts)
    return found[0]


def failure_at(url: str, timeouts: Timeouts | None = None) -> ConnectorError:
    """How a request to `url` fails before there is an answer."""

    async def run() -> ConnectorError:
        http = Upstream({})
        try:
            with pytest.raises(ConnectorError) as caught:
                await http.client(timeouts or Timeouts()).send("POST", url)
            return caught.value
        finally:
            await http.aclose()

    return asyncio.run(run())


async def pong(exchange: Exchange) -> None:
    await exchange.reply(200, b"pong")


async def forever(exchange: Exchange) -> None:
    await exchange.sse("one")
    await exchange.hung_up()


# --- what goes wrong on the way ------------------------------------------------------------------------------


def test_a_refused_connection() -> None:
    with closed_port() as port:
        error = failure_at(f"http://127.0.0.1:{port}/v1")
    assert error.kind == "unavailable"
    assert str(port) in error.message
    assert "refused" in error.message
    assert "is it running?" in error.message


def test_no_such_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = failure_at("http://no-such-host.invalid/v1")
    assert (error.kind, error.message) == (
        "unavailable",
        "no-such-host.invalid:80: no such host; check the base URL and the network",
    )


def test_tls_where_nobody_speaks_it() -> None:
    async def answer_in_plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()

    error = asyncio.run(at_bare_server(answer_in_plain, "https"))
    assert error.kind == "unavailable"
    assert "TLS failed" in error.message


async def at_bare_server(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    scheme: str,
    timeouts: Timeouts | None = None,
) -> ConnectorError:
    served = asyncio.Event()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve(reader, writer)
        writer.close()
        served.set()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    http = Upstream({})
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectorError) as caught:
            await http.client(timeouts or Timeouts()).send("POST", f"{scheme}://127.0.0.1:{port}/v1")
        await http.aclose()
        await served.wait()
    return caught.value


def test_a_server_that_closes_before_it_answers() -> None:
    async def close(exchange: Exchange) -> None:
        exchange.cut()

    error = failure(close)
    assert error.kind == "unavailable"
    assert "closed the connection without answering" in error.message


def test_a_server_that_resets_before_it_answers() -> None:
    async def reset(exchange: Exchange) -> None:
        exchange.reset()

    error = failure(reset)
    assert error.kind == "unavailable"
    assert "closed the connection without answering" in error.message


def test_a_server_that_takes_no_connection() -> None:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        callers = [socket.socket() for _ in range(3)]  # they fill the queue, so that the next one hangs
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(listener.getsockname())
        port = listener.getsockname()[1]
        error = failure_at(f"http://127.0.0.1:{port}/v1", Timeouts(connect=0.2))
        for caller in callers:
            caller.close()
    assert error.kind == "timeout"
    assert error.message == f"127.0.0.1:{port}: no connection within 0.2 s (`connect_seconds`)"


def test_the_connect_timeout_includes_tls() -> None:
    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    error = asyncio.run(at_bare_server(keep_silent, "https", Timeouts(connect=0.2)))
    assert error.kind == "timeout"
    assert "`connect_seconds`" in error.message


@pytest.mark.parametrize("url", ["http://[::1", "http://127.0.0.1:99999/v1", "http:///v1"])
def test_an_unusable_base_url(url: str) -> None:
    error = failure_at(url)
    assert error.kind == "unavailable"
    assert "base URL" in error.message


def test_an_answer_that_is_not_http() -> None:
    async def babble(exchange: Exchange) -> None:
        await exchange.raw(b"SMTP ready\r\n\r\n")
        exchange.cut()

    error = failure(babble)
    assert error.kind == "protocol"
    assert "is not HTTP" in error.message


# --- what goes out, what comes back --------------------------------------------------------------------------


def test_names_itself_and_asks_for_plain_bytes() -> None:
    async def test(upstream: ScriptedUpstream, client: Client) -> None:
        await (await client.send("POST", upstream.url, headers={"x-a": "b"}, content=b"body")).read()
        (request,) = upstream.requests
        assert (request.method, request.body) == ("POST", b"body")
        assert request.headers["user-agent"] == USER_AGENT
        assert USER_AGENT.startswith("llmgate/")
        assert request.headers["accept-encoding"] == "identity"
        assert request.headers["x-a"] == "b"
        assert request.headers["content-length"] == "4"
        assert "transfer-encoding" not in request.headers

    with_client(pong, test)


def test_an_upstreams_cookie_is_not_sent_with_the_next_request() -> None:
    async def set_cookie(exchange: Exchange) -> None:
        await exchange.reply(200, b"", {"set-cookie": "session=of-one-caller; Path=/"})

    async def test(upstream: ScriptedUpstream, client: Client) -> None:
        url = upstream.url.replace("127.0.0.1", "localhost")  # a cookie jar takes none from an address
        for _ in range(2):
            await (await client.send("GET", url)).read()
        assert len(upstream.requests) == 2
        assert all("cookie" not in request.headers for request in upstream.requests)

    with_client(set_cookie, test)


def test_repeated_headers_are_joined() -> None:
    async def twice(exchange: Exchange) -> None:
        await exchange.reply(200, b"", [("X-Limit", "a"), ("X-Limit", "b")])

    async def test(upstream: ScriptedUpstream, client: Client) -> None:
        reply = await client.send("GET", upstream.url)
        await reply.aclose()
        assert reply.headers["x-limit"] == "a, b"

    with_client(twice, test)


def test_a_redirect_is_an_answer_like_any_other() -> None:
    async def redirect(exchange: Exchange) -> None:
        await exchange.reply(302, b"", {"location": "/elsewhere"})

    async def test(upstream: ScriptedUpstream, client: Client) -> None:
        reply = await client.send("GET", upstream.url)
        await reply.aclose()
        assert reply.status == 302
        assert len(upstream.requests) == 1

    with_client(redirect, test)


def test_a_connection_is_used_again() -> None:
    async def test(upstream: ScriptedUpstream, client: Client) -> None:
        for _ in range(5):
            assert await (await client.send("GET", upstream.url)).read() == b"pong"
        assert upstream.connections == 1

    with_client(pong, test)


def test_a_connection_that_went_stale_while_idle_is_replaced() -> None:
    async def second_time_gone(exchange: Exchange) -> None:
        if exchange.number == 1:
            exchange.cut()
        else:
            await exchange.reply(200, b"pong")

    async def test(upstream: ScriptedUpstream, client: Client) -> None:
        for _ in range(2):
            assert await (await client.send("POST", upstream.url, content=b"x")).read() == b"pong"
        assert upstream.connections == 2

    with_client(second_time_gone, test)


def test_a_fresh_connection_that_is_closed_is_no_reason_to_repeat() -> None:
    async def close(exchange: Exchange) -> None:
        exchange.cut()

    async def test(upstream: ScriptedUpstream, client: Client) -> None:
        with pytest.raises(ConnectorError):
            await client.send("POST", upstream.url, content=b"x")
        assert len(upstream.requests) == 1

    with_client(close, test)


def test_more_than_a_hundred_connections_at_once() -> None:
    everybody = asyncio.Barrier(150)

    async def together(exchange: Exchange) -> None:
        await everybody.wait()
        await exchange.reply(200, b"ok")

    async def test(upstream: ScriptedUpstream, client: Client) -> None:
        replies = await asyncio.gather(*(client.send("GET", upstream.url) for _ in range(150)))
        assert [await reply.read() for reply in replies] == [b"ok"] * 150

    with_client(together, test)


# --- compressed although asked not to ------------------------------------------------------------------------

TEXT = "你好, world. ".encode() * 5000


def read_encoded(encoding: str, data: bytes, cut: int = 1000) -> tuple[bytes, Mapping[str, str]]:
    found: list[tuple[bytes, Mapping[str, str]]] = []

    async def compressed(exchange: Exchange) -> None:
        await exchange.head(200, {"content-encoding": encoding})
        for start in range(0, len(data), cut):
            await exchange.chunk(data[start : start + cut])

    async def test(upstream: ScriptedUpstream, client: Client) -> None:
        reply = await client.send("GET", upstream.url)
        found.append((await reply.read(), reply.headers))

    with_client(compressed, test)
    return found[0]


@pytest.mark.parametrize(
    ("encoding", "data"),
    [("gzip", gzip.compress(TEXT)), ("GZIP", gzip.compress(TEXT)), ("deflate", zlib.compress(TEXT))],
)
def test_compressed_bodies_are_decompressed(encoding: str, data: bytes) -> None:
    body, headers = read_encoded(encoding, data, cut=7)
    assert body == TEXT
    assert "content-encoding" not in headers


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"not compressed at all", id="plain"),
        pytest.param(gzip.compress(TEXT)[:-20], id="its end is missing"),
        pytest.param(gzip.compress(TEXT)[:-6] + b"\0" * 6, id="wrong checksum"),
    ],
)
def test_broken_compressed_data_is_a_failure(data: bytes) -> None:
    with pytest.raises(ConnectorError, match="broken compressed data") as caught:
        read_encoded("gzip", data)
    assert caught.value.kind == "protocol"


def test_an_empty_body_needs_no_compressed_data() -> None:
    assert read_encoded("gzip", b"")[0] == b""


def test_an_unknown_encoding_is_a_failure() -> None:
    with pytest.raises(ConnectorError, match="`br`, which was not asked for") as caught:
        read_encoded("br", b"\x00")
    assert caught.value.kind == "protocol"


def test_a_decompressed_chunk_has_a_bound() -> None:
    bomb = gzip.compress(bytes(64 * 1024 * 1024))

    async def compressed(exchange: Exchange) -> None:
        await exchange.reply(200, bomb, {"content-encoding": "gzip"})

    async def test(upstream: ScriptedUpstream, client: Client) -> None:
        reply = await client.send("GET", upstream.url)
        sizes = [len(chunk) async for chunk in reply.chunks]
        await reply.aclose()
        assert sum(sizes) == 64 * 1024 * 1024
        assert max(sizes) <= 1024 * 1024

    with_client(compressed, test)


# --- proxies and credentials of the environment --------------------------------------------------------------


def seen_by_proxy(url: str, no_proxy: str = "", name: str = "HTTP_PROXY") -> list[str]:
    """The targets that a proxy was asked for, when `url` is asked for."""
    seen: list[str] = []

    async def test(proxy: ScriptedUpstream, client: Client) -> None:
        environ = {name: proxy.url, "NO_PROXY": no_proxy}
        http = Upstream(environ)
        try:
            reply = await http.client(Timeouts(connect=0.5)).send("GET", url)
            await reply.aclose()
        except ConnectorError:
            pass  # went past the proxy, to where nobody is
        finally:
            await http.aclose()
        seen.extend(request.path for request in proxy.requests)

    with_client(pong, test)
    return seen


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_the_environments_proxy_is_used(name: str) -> None:
    assert seen_by_proxy("http://api.example.invalid/v1/x", name=name) == ["http://api.example.invalid/v1/x"]


def test_a_proxy_for_https_is_not_used_for_http() -> None:
    assert seen_by_proxy("http://api.example.invalid/v1", name="HTTPS_PROXY") == []


@pytest.mark.parametrize(
    "no_proxy",
    ["*", "api.example.invalid", "example.invalid", ".example.invalid", "*.example.invalid", "a, EXAMPLE.invalid ,b"],
)
def test_no_proxy_exempts_a_host(no_proxy: str) -> None:
    assert seen_by_proxy("http://api.example.invalid/v1", no_proxy) == []


@pytest.mark.parametrize("no_proxy", ["", "other.invalid", "ple.invalid", "api.example", ","])
def test_no_proxy_exempts_no_other_host(no_proxy: str) -> None:
    assert len(seen_by_proxy("http://api.example.invalid/v1", no_proxy)) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_loopback_needs_no_proxy(host: str) -> None:
    assert seen_by_proxy(f"http://{host}:9/v1") == []


def test_netrc_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("default login somebody password of-the-netrc\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))

    async def test(upstream: ScriptedUpstream, client: Client) -> None:
        await (await client.send("GET", upstream.url)).read()
        assert "authorization" not in upstream.requests[0].headers

    with_client(pong, test)


# --- timeouts ------------------------------------------------------------------------------------------------


async def keep_silent(exchange: Exchange) -> None:
    await exchange.hung_up()


async def only_headers(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.hung_up()


async def drip(exchange: Exchange) -> None:
    await exchange.head()
    while True:
        await exchange.chunk(b".")
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("script", "timeouts", "says"),
    [
        (keep_silent, Timeouts(first_byte=0.2), "no answer within 0.2 s (`first_byte_seconds`)"),
        (only_headers, Timeouts(first_byte=0.2), "no answer within 0.2 s (`first_byte_seconds`)"),
        (forever, Timeouts(idle=0.2), "silent for 0.2 s (`idle_seconds`)"),
        (keep_silent, Timeouts(first_byte=None, total=0.2), "not done within 0.2 s (`total_seconds`)"),
        (forever, Timeouts(idle=None, total=0.2), "not done within 0.2 s (`total_seconds`)"),
        (drip, Timeouts(total=0.2), "not done within 0.2 s (`total_seconds`)"),
    ],
)
def test_each_timeout_names_itself(script: Script, timeouts: Timeouts, says: str) -> None:
    started = time.monotonic()
    error = failure(script, timeouts)
    assert error.kind == "timeout"
    assert error.message.startswith("127.0.0.1:")
    assert error.message.endswith(f": {says}")
    assert 0.15 < time.monotonic() - started < 5


def test_a_stream_may_last_longer_than_its_idle_and_first_byte_timeouts() -> None:
    async def slow(exchange: Exchange) -> None:
        for _ in range(8):
            await exchange.sse("x")
            await asyncio.sleep(0.05)

    async def test(upstream: ScriptedUpstream, client: Client) -> None:
        reply = await client.send("GET", upstream.url)
        assert (await reply.read()).count(b"data: x") == 8

    with_client(slow, test, Timeouts(first_byte=0.25, idle=0.25))


# --- the end of an answer ------------------------------------------------------------------------------------


async def short_of_its_length(exchange: Exchange) -> None:
    await exchange.head(200, {"content-length": "100"})
    await exchange.raw(b"only this")
    exchange.cut()


async def chunked_without_end(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.chunk(b"only this")
    exchange.cut()


async def reset_midway(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.chunk(b"only this")
    exchange.reset()


@pytest.mark.parametrize("script", [short_of_its_length, chunked_without_end, reset_midway])
def test_an_answer_that_is_cut_off_never_looks_complete(script: Script) -> None:
    error = failure(script)
    assert error.kind == "protocol"
    assert error.message.startswith("127.0.0.1:")
    assert error.message.endswith(": cut the answer off")


def test_garbage_in_place_of_a_chunk() -> None:
    async def garbage_midway(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.chunk(b"only this")
        await exchange.raw(b"no size of a chunk\r\n")
        await exchange.hung_up()

    assert failure(garbage_midway).kind == "protocol"


def test_aclose_hangs_up_at_once(promptly: float) -> None:
    hung_up = asyncio.Event()

    async def endless(exchange: Exchange) -> None:
        await forever(exchange)
        hung_up.set()

    async def test(upstream: ScriptedUpstream, client: Client) -> None:
        reply = await client.send("GET", upstream.url)
        assert await anext(reply.chunks) == b"data: one\n\n"
        await reply.aclose()
        await asyncio.wait_for(hung_up.wait(), promptly)
        await reply.aclose()  # twice does no harm

    with_client(endless, test)


def test_aclose_hangs_up_although_nothing_was_read(promptly: float) -> None:
    async def test(upstream: ScriptedUpstream, client: Client) -> None:
        reply = await client.send("GET", upstream.url)
        await reply.chunks.aclose()  # never started, so it has nothing to clean up by itself
        await reply.aclose()
        await asyncio.wait_for(upstream.all_closed(), promptly)

    with_client(forever, test)


def test_cancelling_send_hangs_up(promptly: float) -> None:
    arrived = asyncio.Event()

    async def silent(exchange: Exchange) -> None:
        arrived.set()
        await exchange.hung_up()

    async def test(upstream: ScriptedUpstream, client: Client) -> None:
        sending = asyncio.create_task(client.send("GET", upstream.url))
        await arrived.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await asyncio.wait_for(upstream.all_closed(), promptly)

    with_client(silent, test)


def test_cancelling_a_read_hangs_up(promptly: float) -> None:
    async def test(upstream: ScriptedUpstream, client: Client) -> None:
        first = asyncio.Event()

        async def read() -> None:
            async for _ in (await client.send("GET", upstream.url)).chunks:
                first.set()

        reading = asyncio.create_task(read())
        await first.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await asyncio.wait_for(upstream.all_closed(), promptly)

    with_client(forever, test)


def test_reading_stops_at_its_limit() -> None:
    async def much(exchange: Exchange) -> None:
        await exchange.reply(200, bytes(100_000))

    async def test(upstream: ScriptedUpstream, client: Client) -> None:
        assert len(await (await client.send("GET", upstream.url)).read(1000)) == 1000

    with_client(much, test)


STREAMS = 3600


def test_cancelled_streams_do_not_leak() -> None:
    """httpx's own pool serves none of the twenty after this (encode/httpcore#1093)."""

    async def three_events(exchange: Exchange) -> None:
        if exchange.request.path == "/plain":
            await exchange.reply(200, b"served")
        elif exchange.request.path == "/kept":
            await exchange.sse("one", "two")
        else:
            await forever(exchange)

    async def stream(client: Client, url: str, number: int) -> None:
        kept = number % 5 == 0
        reply = await client.send("GET", f"{url}/{'kept' if kept else 'left'}")
        if kept:
            await reply.read()
        elif number % 5 < 3:
            await leave(reply)
        else:
            await anext(reply.chunks)
            await reply.aclose()

    async def leave(reply: HttpReply) -> None:
        """Goes away as a cancelled task does, in the middle of waiting for the next chunk."""

        async def read() -> None:
            async for _ in reply.chunks:
                pass

        reading = asyncio.create_task(read())
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await reply.aclose()

    async def test(upstream: ScriptedUpstream, client: Client) -> None:
        numbers = iter(range(STREAMS))

        async def worker() -> None:
            for number in numbers:
                await stream(client, upstream.url, number)

        await asyncio.gather(*(worker() for _ in range(30)))
        assert len(upstream.requests) == STREAMS
        replies = [await (await client.send("GET", f"{upstream.url}/plain")).read() for _ in range(20)]
        assert replies == [b"served"] * 20

    with_client(three_events, test, connections=10)


def test_no_secret_of_a_request_is_in_an_error() -> None:
    async def close(exchange: Exchange) -> None:
        exchange.cut()

    async def test(upstream: ScriptedUpstream, client: Client) -> None:
        with pytest.raises(ConnectorError) as caught:
            await client.send("POST", upstream.url, headers={"authorization": "Bearer sk-secret-1234"}, content=b"{}")
        told = json.dumps([str(caught.value), repr(caught.value), str(caught.value.__cause__)])
        assert "sk-secret-1234" not in told

    with_client(close, test)


def test_every_stale_connection_is_replaced() -> None:
    """Five that the upstream closes as soon as they are used again, as after a restart behind a balancer."""
    together = asyncio.Barrier(5)

    async def once_each(exchange: Exchange) -> None:
        if exchange.number < 5:
            await together.wait()  # so that five connections are needed
            await exchange.reply(200, b"first")
        elif upstream_of[0].connections == 5:
            exchange.cut()
        else:
            await exchange.reply(200, b"again")

    upstream_of: list[ScriptedUpstream] = []

    async def test(upstream: ScriptedUpstream, client: Client) -> None:
        upstream_of.append(upstream)

        async def ask() -> bytes:
            return await (await client.send("POST", upstream.url, content=b"x")).read()

        assert await asyncio.gather(*(ask() for _ in range(5))) == [b"first"] * 5
        assert await ask() == b"again"

    with_client(once_each, test)


def test_work_that_dies_late_is_not_asked_for_twice() -> None:
    async def dies_late(exchange: Exchange) -> None:
        if exchange.number == 0:
            await exchange.reply(200, b"ok")
        else:
            await asyncio.sleep(0.7)
            exchange.cut()

    async def test(upstream: ScriptedUpstream, client: Client) -> None:
        await (await client.send("POST", upstream.url, content=b"x")).read()
        with pytest.raises(ConnectorError, match="closed the connection without answering"):
            await client.send("POST", upstream.url, content=b"x")
        assert len(upstream.requests) == 2

    with_client(dies_late, test)


def test_a_connection_that_is_reset_before_the_request_is_written_is_closed() -> None:
    """aiohttp has a class of its own for it, which is none of its other classes for a connection that is gone."""
    cause = aiohttp.ClientConnectionResetError("Cannot write to closing transport")
    error = explain(cause, httpx.URL("http://x"), Timeouts())
    assert (error.kind, error.message) == ("unavailable", "x:80: closed the connection without answering")
    error.__cause__ = cause
    assert trouble(error) == "closed"


def test_what_nobody_knows_the_cause_of() -> None:
    assert trouble(ConnectorError("unavailable", "a plugin's own client")) == "other"
    assert trouble(ConnectorError("timeout", "too late")) == "timeout"
