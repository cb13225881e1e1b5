"""An HTTP/1.1 upstream whose every byte is scripted, on a real loopback socket: what to test against.

It writes raw bytes, so it can do what no well-behaved server does: cut a stream, reset a connection, lie in a
header, stop in the middle of a character.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import h11

from .threads import in_thread

Headers = Mapping[str, str] | Sequence[tuple[str, str]]
"""Response headers; pairs where one is to be repeated."""


@dataclass(frozen=True)
class ReceivedRequest:
    """One request as it arrived.

    Args:
        path: without the query.
        query: without its `?`; empty where there is none.
        headers: lower-case names; of a repeated header the values are joined by `, `.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The decoded body. Raises ValueError when it is not JSON."""
        return json.loads(self.body)


class Exchange:
    """One request and the pen to answer it with; what a script is given.

    Writing to a peer that has gone raises ConnectionError; a script may let that through, it is no failure.
    A script that returns in mid-answer ends the answer properly; to break it off, it says `cut()` or
    `reset()`. When it returns without any answer while the peer waits, the peer gets a 500.

    Args:
        number: counts the requests of this upstream from 0.
    """

    def __init__(
        self, request: ReceivedRequest, number: int, writer: asyncio.StreamWriter, gone: asyncio.Event
    ) -> None:
        self.request = request
        self.number = number
        self._writer = writer
        self._gone = gone
        self._started = False
        self._chunked = False

    async def reply(self, status: int, body: Any = b"", headers: Headers = ()) -> None:
        """A whole answer; a body that is neither bytes nor str is sent as JSON.

        `content-length` and `content-type` are added, unless `headers` says otherwise.
        """
        data, content_type = _encode(body)
        pairs = _pairs(headers)
        defaults = {"content-type": content_type, "content-length": str(len(data))}
        pairs += [(name, value) for name, value in defaults.items() if name not in dict(pairs)]
        await self.raw(_head(status, pairs) + data)

    async def head(self, status: int = 200, headers: Headers = ()) -> None:
        """Status line and headers; chunked, unless there is a `content-length` (then write with `raw`)."""
        pairs = _pairs(headers)
        self._chunked = "content-length" not in dict(pairs)
        if self._chunked:
            pairs.append(("transfer-encoding", "chunked"))
        await self.raw(_head(status, pairs))

    async def chunk(self, data: bytes) -> None:
        """One HTTP chunk. An empty one is left out: it would end the body."""
        if data:
            await self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    async def sse(self, *events: Any) -> None:
        """Server-sent events, a chunk each; sends the head of an event stream first if none was sent.

        bytes go out as they are, a str as one `data:` event, anything else as JSON in one `data:` event.
        """
        if not self._started:
            await self.head(200, {"content-type": "text/event-stream"})
        for event in events:
            await self.chunk(event if isinstance(event, bytes) else b"data: %b\n\n" % _encode(event)[0])

    async def raw(self, data: bytes) -> None:
        """Bytes on the socket, unframed."""
        self._started = True
        self._writer.write(data)
        await self._writer.drain()

    async def end(self) -> None:
        """Ends a chunked body properly; the connection stays open for the next request."""
        if self._chunked:
            self._chunked = False
            await self.raw(b"0\r\n\r\n")

    def cut(self) -> None:
        """Hangs up without a proper end (FIN), after what was written."""
        self._writer.close()

    def reset(self) -> None:
        """Resets the connection (RST), dropping what the peer has not read yet."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def hung_up(self) -> None:
        """Returns when the peer has closed its side, by EOF or reset."""
        await self._gone.wait()

    async def _finish(self) -> None:
        if self._writer.is_closing() or self._gone.is_set():
            return
        if not self._started:
            await self.reply(500, "the script of this upstream gave no answer")
        await self.end()


Script = Callable[[Exchange], Awaitable[None]]


@dataclass
class _Connection:
    """A peer, and the bytes of it that no request has used yet."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    rest: bytes = b""

    async def listen(self) -> None:
        """Reads all the time, also while a script runs: that is how a hang-up is noticed."""
        try:
            while data := await self.reader.read(65536):
                self.arrived.put_nowait(data)
        except ConnectionError:
            pass
        self.gone.set()
        self.arrived.put_nowait(b"")

    async def next_request(self) -> ReceivedRequest:
        """The next request.

        Raises:
            ConnectionError: the peer has closed.
            h11.RemoteProtocolError: this is not HTTP.
        """
        parser = h11.Connection(h11.SERVER)  # a fresh one each time: we answer behind its back
        if self.rest:  # to h11 no bytes means EOF
            parser.receive_data(self.rest)
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                await self._feed(parser)
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                self.rest = parser.trailing_data[0]
                return _received(head, bytes(body))

    async def _feed(self, parser: h11.Connection) -> None:
        if parser.they_are_waiting_for_100_continue:
            self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not (data := await self.arrived.get()):
            raise ConnectionError("the peer has closed")
        parser.receive_data(data)


class ScriptedUpstream:
    """Runs `script(exchange)` for each request: `async with ScriptedUpstream(script) as upstream: ...`.

    Keeps connections alive, unless the peer says `connection: close`. `script` may be replaced at any time.
    An exception out of a script hangs up; leaving the `with` block raises the first of them again, so an
    assertion in a script counts.

    Attributes:
        url: `http://127.0.0.1:PORT`, once started.
        requests: every request that has arrived, in order.
        connections: how many connections were accepted.
        open: how many of them neither side has closed yet.
        errors: what scripts raised, and peers that did not speak HTTP.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.url = ""
        self.requests: list[ReceivedRequest] = []
        self.connections = 0
        self.open = 0
        self.errors: list[Exception] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._all_closed = asyncio.Event()
        self._all_closed.set()

    @classmethod
    @contextmanager
    def in_thread(cls, script: Script) -> Iterator[Self]:
        """An upstream with an event loop and a daemon thread of its own, for synchronous tests.

        Scripts run in that thread; the counters may be read from any.
        """
        upstream = cls(script)
        with in_thread(upstream, "scripted-upstream"):
            yield upstream

    async def start(self) -> Self:
        """Listens on an ephemeral loopback port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1024)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def aclose(self) -> None:
        """Stops at once: running scripts are cancelled. May be called twice."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await server.wait_closed()

    async def all_closed(self) -> None:
        """Returns when no connection is open any more."""
        await self._all_closed.wait()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine always runs in a task
        self._tasks.add(task)
        self._count(+1)
        connection = _Connection(reader, writer)
        listener = asyncio.create_task(connection.listen())
        listener.add_done_callback(lambda _: self._count(-1))
        try:
            await self._talk(connection)
            writer.close()
            await writer.wait_closed()  # a peer that reads slowly still gets what was written
        except (ConnectionError, asyncio.CancelledError):
            pass  # the peer has gone, or aclose() was called
        except Exception as error:
            self.errors.append(error)
        finally:
            writer.transport.abort()
            await listener
            self._tasks.discard(task)

    async def _talk(self, connection: _Connection) -> None:
        while not connection.writer.is_closing():
            request = await connection.next_request()
            self.requests.append(request)
            exchange = Exchange(request, len(self.requests) - 1, connection.writer, connection.gone)
            await self.script(exchange)
            await exchange._finish()
            if request.headers.get("connection", "").lower() == "close":
                return

    def _count(self, change: int) -> None:
        self.connections += max(change, 0)
        self.open += change
        if self.open:
            self._all_closed.clear()
        else:
            self._all_closed.set()

    def _raise_first_error(self) -> None:
        if self.errors:
            raise self.errors[0]

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
        if error is None:
            self._raise_first_error()


def _received(head: h11.Request, body: bytes) -> ReceivedRequest:
    headers: dict[str, str] = {}
    for raw_name, raw_value in head.headers:  # h11 gives lower-case names
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    path, _, query = head.target.decode("ascii").partition("?")
    return ReceivedRequest(head.method.decode("ascii"), path, query, headers, body)


def _pairs(headers: Headers) -> list[tuple[str, str]]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [(name.lower(), value) for name, value in pairs]


def _head(status: int, headers: Sequence[tuple[str, str]]) -> bytes:
    known = status in HTTPStatus._value2member_map_
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase if known else 'Scripted'}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _encode(body: Any) -> tuple[bytes, str]:
    if isinstance(body, bytes):
        return body, "application/octet-stream"
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8"
    return json.dumps(body, ensure_ascii=False).encode(), "application/json"
