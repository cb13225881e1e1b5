"""HTTP/1.1 on one connection, without a socket: what is read, what is refused, and what is left alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import h11
import pytest
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.typing import ConnectionState
from hypothesis import given
from hypothesis import strategies as st

from llmgate_core.errors import RequestError
from llmgate_core.faults import FAULT, Refused
from llmgate_core.http1 import Protocol, Requests, Unreadable

MARKER = b"sk-MARKER"
"""Stands wherever a client might have put a key; no refusal may repeat it."""

LIMIT = 64 * 1024
POST = b"POST /p HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"


# --- reading ---------------------------------------------------------------------------------------------------------


def events(*sent: bytes) -> list[Any]:
    """The kinds of events in what was sent, and the last thing that was said."""
    requests = Requests(LIMIT)
    found: list[Any] = []
    for data in sent:
        requests.receive_data(data)
        while (event := requests.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            found.append(type(event))
            if isinstance(event, h11.ConnectionClosed):
                return found
        found.append(event)
    return found


def test_a_request_is_read_as_h11_reads_it() -> None:
    whole = POST + b"2\r\nhi\r\n0\r\n\r\n"
    assert events(whole) == [h11.Request, h11.Data, h11.EndOfMessage, h11.NEED_DATA]
    assert events(whole + b"GET") == [h11.Request, h11.Data, h11.EndOfMessage, h11.PAUSED]
    assert events(b"GET / HTTP/1.0\r\n\r\n", b"") == [
        h11.Request,
        h11.EndOfMessage,
        h11.NEED_DATA,
        h11.ConnectionClosed,
    ]


def test_a_caller_that_leaves_in_mid_body_has_made_no_mistake() -> None:
    assert events(POST + b"2\r\nh", b"")[-1] is h11.ConnectionClosed
    assert events(POST + b"2", b"")[-1] is h11.ConnectionClosed


def test_what_follows_a_last_request_is_neither_a_mistake_nor_kept() -> None:
    requests = Requests(LIMIT)
    requests.receive_data(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n\r\n")
    for data in [b"x" * 1000] * 100:
        while requests.next_event() is not h11.NEED_DATA:
            pass
        requests.receive_data(data)
    assert len(requests.trailing_data[0]) < 10


def test_a_wish_to_upgrade_is_not_passed_on() -> None:
    requests = Requests(LIMIT)
    requests.receive_data(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nUpgrade: websocket\r\nx: y\r\n\r\n")
    request = requests.next_event()
    assert isinstance(request, h11.Request)
    assert list(request.headers) == [(b"host", b"x"), (b"connection", b"upgrade"), (b"x", b"y")]


FIRST = [b"GET /%b HTTP/1.1", b"GET / %b", b"%b", b"\x16%b", b"PRI %b HTTP/2.0", b"GET / HTTP/9.9%b", b" %b"]
LINES = [
    b"host: %b",
    b"content-length: %b",
    b"transfer-encoding: %b",
    b"x: %b\x00",
    b"%b",
    b"%b : x",
    b"%b(: x",
    b" %b",
]
ENDS = [b"\r\n\r\n", b"\n\n", b"\r\n", b""]


def refusal_of(head: bytes) -> RequestError | None:
    requests = Requests(LIMIT)
    requests.receive_data(head)
    requests.receive_data(b"")
    try:
        requests.next_event()
    except Unreadable as fault:
        return fault.error
    return None


@given(st.sampled_from(FIRST), st.lists(st.sampled_from(LINES), max_size=5), st.sampled_from(ENDS))
def test_no_refusal_repeats_what_was_sent(first: bytes, lines: list[bytes], end: bytes) -> None:
    head = b"\r\n".join([first, *lines]) + end
    if error := refusal_of(head.replace(b"%b", MARKER)):
        assert MARKER.decode() not in error.message
        assert error.message.isprintable()
        assert error.status == 400


def test_most_of_those_heads_are_refused() -> None:
    """Or the test above would say nothing."""
    wrong = [line for line in LINES if refusal_of(b"GET / HTTP/1.1\r\nx: y\r\n%b\r\n\r\n" % line)]
    assert len(wrong) >= len(LINES) - 2  # a Host and a header that goes on are fine


# --- refusing --------------------------------------------------------------------------------------------------------


class Line:
    """One connection without a socket.

    Attributes:
        sent: what went to the client.
        refusals: what `refused` was asked.
    """

    def __init__(self, *, refuses: bool = True) -> None:
        self.sent = b""
        self.closed = False
        self.refusals: list[tuple[str, str, str, str]] = []
        self._refuses = refuses

    async def feed(self, app: Any, *data: bytes) -> None:
        """Feeds the protocol, lets the application end in between, and at last lets the client go."""
        config, context, loop = Config(), WorkerContext(None), asyncio.get_running_loop()
        config.include_date_header = config.include_server_header = False
        config.errorlog = logging.getLogger("llmgate.testing.http1")
        config.h11_max_incomplete_size = LIMIT
        refused: Refused | None = self._refused if self._refuses else None
        async with TaskGroup(loop) as tasks:
            peers = (("10.0.0.9", 1), None)
            self.protocol = Protocol(
                ASGIWrapper(app), config, context, tasks, ConnectionState({}), peers, self._send, refused
            )
            for one in data:
                await self.protocol.handle(RawData(one))
                while self.protocol.stream:  # noqa: ASYNC110 - nothing tells when the application has ended
                    await asyncio.sleep(0)
            await self.protocol.handle(Closed())

    async def _send(self, event: Event) -> None:
        if isinstance(event, RawData):
            assert not self.closed
            self.sent += event.data
        self.closed = self.closed or isinstance(event, Closed)

    def _refused(self, error: RequestError, client: str, method: str, path: str) -> tuple[Mapping[str, str], bytes]:
        self.refusals.append((error.message, client, method, path))
        return {"x-id": "7"}, b"no"


def talk(app: Any, *data: bytes, refuses: bool = True) -> Line:
    line = Line(refuses=refuses)
    asyncio.run(line.feed(app, *data))
    return line


async def never(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("nothing was asked")


async def fine(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


async def says_what_it_got(scope: Any, receive: Any, send: Any) -> None:
    while (message := await receive())["type"] != "http.disconnect":
        pass
    said = str(message.get(FAULT)).encode()
    await send({"type": "http.response.start", "status": 400, "headers": [(b"content-length", b"%d" % len(said))]})
    await send({"type": "http.response.body", "body": said})


def test_a_bad_head_is_answered_once_and_the_rest_forgotten() -> None:
    line = talk(never, b"BREW /pot?sugar=1 HTTP/1.1\r\nx\r\n\r\n", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"x" * 100_000)
    assert line.sent == b"HTTP/1.1 400 \r\nx-id: 7\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"
    ((message, *rest),) = line.refusals
    assert "line 2" in message
    assert rest == ["10.0.0.9", "BREW", "/pot"]
    assert line.closed
    assert len(line.protocol.connection.trailing_data[0]) < 100


def test_a_refused_head_request_gets_no_body() -> None:
    line = talk(never, b"HEAD / HTTP/1.1\r\nx\r\n\r\n")
    assert line.sent.endswith(b"content-length: 2\r\nconnection: close\r\n\r\n")


def test_a_body_that_cannot_be_read_is_the_applications_to_answer() -> None:
    line = talk(says_what_it_got, POST + b"zz\r\n")
    assert line.sent.endswith(b"\r\n\r\nthe body cannot be read: a chunk does not begin with a line that is its size "
                              b"in hexadecimal digits")  # fmt: skip
    assert line.sent.count(b"HTTP/1.1") == 1
    assert (line.refusals, line.closed) == ([], True)


def test_a_body_that_breaks_after_the_answer_gets_no_second_one() -> None:
    line = talk(fine, POST, b"zz\r\n")
    assert line.sent.count(b"HTTP/1.1") == 1
    assert line.sent.endswith(b"hi")
    assert (line.refusals, line.closed) == ([], True)


@pytest.mark.parametrize("sent", [b"x\r\n\r\n", POST + b"zz\r\n"], ids=["head", "body"])
def test_without_words_of_the_applications_a_bare_status_is_sent(sent: bytes) -> None:
    line = talk(says_what_it_got, sent, refuses=False)
    assert line.sent == b"HTTP/1.1 400 \r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    assert line.closed
