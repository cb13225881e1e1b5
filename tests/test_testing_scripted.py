"""ScriptedUpstream: what it writes, byte by byte, and what it notices."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest

from llmgate_core.testing import Exchange, Script, ScriptedUpstream

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


async def pong(exchange: Exchange) -> None:
    await exchange.reply(200, b"pong")


async def dial(upstream: ScriptedUpstream) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", int(upstream.url.rsplit(":", 1)[1]))


def bytes_of(script: Script, request: bytes = GET) -> bytes:
    """All that a peer reads until the upstream hangs up."""

    async def run() -> bytes:
        async with ScriptedUpstream(script) as upstream:
            reader, writer = await dial(upstream)
            writer.write(request)
            received = await reader.read()
            writer.close()
            return received

    return asyncio.run(run())


def with_upstream(script: Script, test: Callable[[ScriptedUpstream], Awaitable[None]]) -> None:
    async def run() -> None:
        async with ScriptedUpstream(script) as upstream:
            await test(upstream)

    asyncio.run(run())


def test_records_what_arrived() -> None:
    async def test(upstream: ScriptedUpstream) -> None:
        async with httpx.AsyncClient() as client:
            await client.post(f"{upstream.url}/v1/chat?a=1&b=2", json={"x": "你好"}, headers={"X-Thing": "Yes"})
        (request,) = upstream.requests
        assert (request.method, request.path, request.query) == ("POST", "/v1/chat", "a=1&b=2")
        assert request.headers["x-thing"] == "Yes"
        assert request.json() == {"x": "你好"}
        assert b'"x"' in request.body

    with_upstream(pong, test)


def test_reads_chunked_and_repeated_headers_and_expect() -> None:
    async def test(upstream: ScriptedUpstream) -> None:
        reader, writer = await dial(upstream)
        writer.write(
            b"POST /p HTTP/1.1\r\nhost: x\r\nA: 1\r\na: 2\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        await reader.readuntil(b"pong")
        writer.close()
        assert upstream.requests[0].body == b"abcde"
        assert upstream.requests[0].headers["a"] == "1, 2"

    with_upstream(pong, test)


def test_keeps_connections_alive_and_serves_pipelined_requests() -> None:
    async def count(exchange: Exchange) -> None:
        await exchange.reply(200, str(exchange.number))

    async def test(upstream: ScriptedUpstream) -> None:
        async with httpx.AsyncClient() as client:
            assert [(await client.get(upstream.url)).text for _ in range(3)] == ["0", "1", "2"]
        assert upstream.connections == 1
        reader, writer = await dial(upstream)
        writer.write(GET + GET)
        await reader.readuntil(b"\r\n\r\n3")
        await reader.readuntil(b"\r\n\r\n4")
        writer.close()
        assert upstream.connections == 2

    with_upstream(count, test)


def test_a_reply_is_whole_and_close_is_honoured() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.reply(429, {"é": 1}, [("Retry-After", "7"), ("set-cookie", "a"), ("set-cookie", "b")])

    assert bytes_of(script, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n") == (
        b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\nset-cookie: a\r\nset-cookie: b\r\n"
        b'content-type: application/json\r\ncontent-length: 9\r\n\r\n{"\xc3\xa9": 1}'
    )


def test_a_header_may_lie() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.reply(299, "short", {"Content-Length": "99", "content-type": "text/html"})
        exchange.cut()

    assert bytes_of(script) == (b"HTTP/1.1 299 Scripted\r\ncontent-length: 99\r\ncontent-type: text/html\r\n\r\nshort")


def test_chunks_sse_and_a_proper_end() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.sse("hello", b": note\n\n", {"a": [1]})
        await exchange.chunk(b"")
        await exchange.end()
        exchange.cut()

    assert bytes_of(script) == (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        b"d\r\ndata: hello\n\n\r\n8\r\n: note\n\n\r\n12\r\n" + b'data: {"a": [1]}\n\n' + b"\r\n0\r\n\r\n"
    )


def test_a_script_that_stops_in_mid_answer_ends_it() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head(200)
        await exchange.chunk(b"abc")

    async def test(upstream: ScriptedUpstream) -> None:
        async with httpx.AsyncClient() as client:
            assert (await client.get(upstream.url)).text == "abc"

    with_upstream(script, test)


def test_a_script_that_says_nothing_is_a_500() -> None:
    async def script(exchange: Exchange) -> None:
        return

    async def test(upstream: ScriptedUpstream) -> None:
        async with httpx.AsyncClient() as client:
            reply = await client.get(upstream.url)
        assert (reply.status_code, reply.text) == (500, "the script of this upstream gave no answer")

    with_upstream(script, test)


def test_the_first_chunk_arrives_before_the_second_is_sent() -> None:
    async def run() -> None:
        go_on = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            await exchange.sse("one")
            await go_on.wait()
            await exchange.sse("two")

        async with (
            ScriptedUpstream(script) as upstream,
            httpx.AsyncClient() as client,
            client.stream("GET", upstream.url) as reply,
        ):
            chunks = reply.aiter_bytes()
            assert await anext(chunks) == b"data: one\n\n"
            go_on.set()
            assert await anext(chunks) == b"data: two\n\n"

    asyncio.run(run())


def test_cut_is_a_clean_close_without_an_end() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.sse("one")
        exchange.cut()

    received = bytes_of(script)
    assert received.endswith(b"data: one\n\n\r\n")


def test_cut_still_delivers_what_was_written() -> None:
    size = 20_000_000

    async def script(exchange: Exchange) -> None:
        writing = asyncio.create_task(exchange.raw(b"x" * size))  # past every buffer
        await asyncio.sleep(0)  # written, and not yet drained
        exchange.cut()
        await writing

    assert len(bytes_of(script)) == size


def test_reset_is_a_reset() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.sse("one")
        exchange.reset()

    with pytest.raises(ConnectionResetError):
        bytes_of(script)


@pytest.mark.parametrize("how", ["eof", "reset"])
def test_notices_a_hang_up_while_the_script_runs(how: str) -> None:
    async def run() -> None:
        noticed = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            await exchange.sse("one")
            await exchange.hung_up()
            noticed.set()

        async with ScriptedUpstream(script) as upstream:
            reader, writer = await dial(upstream)
            writer.write(GET)
            await reader.readuntil(b"one\n\n")
            assert (upstream.open, noticed.is_set()) == (1, False)
            if how == "eof":
                writer.close()
            else:
                writer.transport.abort()
            await asyncio.wait_for(noticed.wait(), 10)
            await asyncio.wait_for(upstream.all_closed(), 10)
            assert (upstream.open, upstream.connections) == (0, 1)

    asyncio.run(run())


def test_writing_to_a_peer_that_has_gone_ends_the_script_quietly() -> None:
    async def run() -> None:
        ended = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            try:
                while True:
                    await exchange.sse("more")
                    await asyncio.sleep(0)
            except ConnectionError:
                ended.set()
                raise

        async with ScriptedUpstream(script) as upstream:
            reader, writer = await dial(upstream)
            writer.write(GET)
            await reader.readuntil(b"more")
            writer.transport.abort()
            await asyncio.wait_for(upstream.all_closed(), 10)
            await asyncio.wait_for(ended.wait(), 10)
        assert upstream.errors == []

    asyncio.run(run())


def test_the_script_may_be_replaced() -> None:
    async def other(exchange: Exchange) -> None:
        await exchange.reply(503)

    async def test(upstream: ScriptedUpstream) -> None:
        async with httpx.AsyncClient() as client:
            assert (await client.get(upstream.url)).status_code == 200
            upstream.script = other
            assert (await client.get(upstream.url)).status_code == 503

    with_upstream(pong, test)


def test_an_assertion_in_a_script_fails_the_test() -> None:
    async def script(exchange: Exchange) -> None:
        raise AssertionError("the body is wrong")

    with pytest.raises(AssertionError, match="the body is wrong"):
        bytes_of(script)


def test_a_peer_that_does_not_speak_http_is_an_error() -> None:
    with pytest.raises(Exception, match="illegal request line"):
        bytes_of(pong, b"\x16\x03\x01 not http\r\n\r\n")


def test_closing_cancels_scripts_that_hang_although_the_peer_does_not_read() -> None:
    async def run() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.raw(b"x" * 50_000_000)

        upstream = await ScriptedUpstream(script).start()
        reader, writer = await dial(upstream)
        writer.write(GET)
        await reader.readexactly(1)
        await asyncio.wait_for(upstream.aclose(), 10)
        await upstream.aclose()
        assert upstream.open == 0
        writer.close()

    asyncio.run(run())


def test_in_thread_serves_synchronous_clients() -> None:
    with ScriptedUpstream.in_thread(pong) as upstream:
        with httpx.Client() as client:
            assert client.get(upstream.url).text == "pong"
            assert client.get(upstream.url).text == "pong"
        assert (len(upstream.requests), upstream.connections) == (2, 1)
    with pytest.raises(httpx.ConnectError):
        httpx.get(upstream.url)


def test_in_thread_raises_what_a_script_raised() -> None:
    async def script(exchange: Exchange) -> None:
        raise AssertionError("told at the end")

    with (
        pytest.raises(AssertionError, match="told at the end"),
        ScriptedUpstream.in_thread(script) as upstream,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        httpx.get(upstream.url)
