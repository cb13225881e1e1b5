"""How a gateway ends: at once when idle, after the running requests when not, and never later than it promised."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest
from tests.e2e.conftest import LLMGATE, PATIENCE

if TYPE_CHECKING:
    from tests.e2e.conftest import OpenUpstream, Process, Shell

    from llmgate_core.testing import Exchange

SIGNALS = [signal.SIGTERM, signal.SIGINT]
PROMPT_SECONDS = 2.0
SLACK_SECONDS = 3.0


def event(**delta: Any) -> dict[str, Any]:
    finish = None if delta else "stop"
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


class Storyteller:
    """An upstream that begins a stream, and ends it when the test says so."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.left = threading.Event()

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.sse(event(content="从前"))
        gone = asyncio.create_task(exchange.hung_up())
        while not self.go_on.is_set():
            await asyncio.wait({gone}, timeout=0.01)
            if gone.done():
                self.left.set()
                return
        gone.cancel()
        await exchange.sse(event(content="有座山"), event(), "[DONE]")


@pytest.fixture
def storyteller() -> Storyteller:
    return Storyteller()


async def flood(exchange: Exchange) -> None:
    """Never stops by itself."""
    while True:
        await exchange.sse(event(content="水" * 10_000))


def serve(shell: Shell, url: str = "http://127.0.0.1:9", grace: float = 30) -> Process:
    config = shell.config(
        server={"shutdown_grace_seconds": grace},
        backends={"up": {"type": "openai-compatible", "extra": {"base_url": f"{url}/v1", "models": ["m"]}}},
    )
    process = shell.serve("--config", config)
    assert process.url
    return process


def connect(process: Process) -> socket.socket:
    host, _, port = process.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def ask(connection: socket.socket) -> None:
    body = json.dumps({"model": "up:m", "stream": True, "messages": [{"role": "user", "content": "讲个故事"}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)


def read_until(connection: socket.socket, text: str) -> bytes:
    got = b""
    while text.encode() not in got:
        data = connection.recv(65536)
        assert data, f"closed before `{text}`: {got!r}"
        got += data
    return got


def read_all(connection: socket.socket) -> bytes:
    got = b""
    try:
        while data := connection.recv(65536):
            got += data
    except ConnectionError:
        pass
    return got


@pytest.fixture
def connections() -> Iterator[list[socket.socket]]:
    opened: list[socket.socket] = []
    yield opened
    for connection in opened:
        connection.close()


# --- idle -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", SIGNALS)
def test_idle_clients_hold_nobody(shell: Shell, connections: list[socket.socket], sign: signal.Signals) -> None:
    process = serve(shell)
    connections += [connect(process), connect(process), connect(process)]
    silent, half, kept_alive = connections
    half.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: loc")
    kept_alive.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
    read_until(kept_alive, '{"status":"ok"}')
    began = time.monotonic()
    process.signal(sign)
    assert process.wait() == 0
    assert time.monotonic() - began < PROMPT_SECONDS
    assert "finishing running requests" in process.output
    assert read_all(silent) == b""


def test_a_signal_right_after_the_banner(shell: Shell) -> None:
    process = serve(shell)
    process.signal(signal.SIGTERM)
    assert process.wait() == 0


# --- running requests -------------------------------------------------------------------------------------------------


def test_a_running_stream_is_finished(shell: Shell, upstream: OpenUpstream, storyteller: Storyteller) -> None:
    process = serve(shell, upstream(storyteller).url)
    with closing(connect(process)) as connection:
        ask(connection)
        got = read_until(connection, "从前")
        process.signal(signal.SIGTERM)
        process.wait_for("finishing running requests")
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:  # the listening socket closes a moment after the signal
            try:
                connect(process).close()
            except ConnectionResetError:
                continue  # it stood in the queue when the socket was closed
            except ConnectionRefusedError:
                break
        else:
            pytest.fail("new connections are still taken")
        storyteller.go_on.set()
        got += read_all(connection)
    assert "有座山" in got.decode()
    assert got.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    began = time.monotonic()
    assert process.wait() == 0
    assert time.monotonic() - began < PROMPT_SECONDS
    assert "outcome=ok" in process.output


def test_a_stream_that_outlives_the_grace_is_cut(
    shell: Shell, upstream: OpenUpstream, storyteller: Storyteller
) -> None:
    grace = 0.5
    process = serve(shell, upstream(storyteller).url, grace)
    with closing(connect(process)) as connection:
        ask(connection)
        got = read_until(connection, "从前")
        began = time.monotonic()
        process.signal(signal.SIGTERM)
        got += read_all(connection)
        assert process.wait() == 0
        assert grace <= time.monotonic() - began < grace + SLACK_SECONDS
    assert b"[DONE]" not in got
    assert b'"finish_reason": "stop"' not in got
    assert not got.endswith(b"\r\n0\r\n\r\n") or b'"error"' in got, "a cut stream must not look like a short one"
    assert storyteller.left.wait(5)
    assert "outcome=cut_off" in process.output


def test_a_client_that_has_stopped_reading_holds_nobody(
    shell: Shell, upstream: OpenUpstream, connections: list[socket.socket]
) -> None:
    grace = 1.0
    flooding = upstream(flood)
    process = serve(shell, flooding.url, grace)
    connection = connect(process)
    connections.append(connection)
    ask(connection)
    read_until(connection, "水")
    began = time.monotonic()
    process.signal(signal.SIGTERM)
    assert process.wait() == 0
    assert time.monotonic() - began < grace + SLACK_SECONDS


def test_a_second_signal_ends_at_once(shell: Shell, upstream: OpenUpstream, storyteller: Storyteller) -> None:
    process = serve(shell, upstream(storyteller).url)
    with closing(connect(process)) as connection:
        ask(connection)
        read_until(connection, "从前")
        process.signal(signal.SIGINT)
        process.wait_for("again to stop at once")
        began = time.monotonic()
        process.signal(signal.SIGINT)
        assert process.wait() == 1
        assert time.monotonic() - began < PROMPT_SECONDS
    assert "stopped at once" in process.output


@pytest.mark.parametrize("sign", SIGNALS)
def test_a_reader_of_its_words_that_has_gone_holds_nobody(
    shell: Shell, upstream: OpenUpstream, storyteller: Storyteller, sign: signal.Signals
) -> None:
    process = serve(shell, upstream(storyteller).url)
    process.deafen()
    for _ in range(3):  # each with a line in the log
        with closing(connect(process)) as connection:
            connection.sendall(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            assert b" 200 " in read_all(connection)
    with closing(connect(process)) as connection:
        ask(connection)
        read_until(connection, "从前")
        process.signal(sign)
        storyteller.go_on.set()
        assert read_all(connection).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert process.wait(SLACK_SECONDS) == 0


def test_nobody_who_reads_the_banner_is_no_reason_not_to_serve(shell: Shell) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    reader, writer = os.pipe()
    os.close(reader)
    arguments = [LLMGATE, "serve", "--config", shell.config(server={"port": port})]
    process = subprocess.Popen(arguments, stdout=writer, stderr=writer, cwd=shell.folder, env=shell.environ)
    os.close(writer)
    try:
        until = time.monotonic() + PATIENCE
        while True:
            assert process.poll() is None
            with suppress(OSError), closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as connection:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                assert b" 200 " in read_all(connection)
                break
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SLACK_SECONDS) == 0
    finally:
        process.kill()
        process.wait()


def test_a_second_signal_ends_at_once_unheard(shell: Shell, upstream: OpenUpstream, storyteller: Storyteller) -> None:
    process = serve(shell, upstream(storyteller).url)
    process.deafen()
    with closing(connect(process)) as connection:
        ask(connection)
        read_until(connection, "从前")
        process.signal(signal.SIGTERM)
        time.sleep(0.3)  # or the two would be one
        process.signal(signal.SIGTERM)
        assert process.wait(SLACK_SECONDS) == 1


def test_the_demo_cleans_up(shell: Shell) -> None:
    process = shell.serve("--demo", "--port", "0")
    process.wait_for("Ctrl-C stops it")
    assert list((shell.folder / "tmp").iterdir())
    process.signal(signal.SIGINT)
    assert process.wait() == 0
    assert list((shell.folder / "tmp").iterdir()) == []
