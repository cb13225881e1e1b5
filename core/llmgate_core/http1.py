"""HTTP/1.1 on one connection: hypercorn's protocol, with refusals that say what is wrong, and nothing but HTTP/1.1.

No HTTP/2 and no WebSockets: a request to upgrade is answered in HTTP/1.1, as RFC 9110, section 7.8, allows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import h11
from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.typing import AppWrapper, ConnectionState

from .errors import RequestError
from .faults import FAULT, Refused, body_fault, head_fault, origin_form, request_line, version_fault

Address = tuple[str, int] | None


class Unreadable(Exception):  # noqa: N818 - a fact about what was sent
    """What came is no request, or no body. `head` is what there was of the head."""

    def __init__(self, error: RequestError, head: bytes = b"") -> None:
        super().__init__(error.message)
        self.error = error
        self.head = head


class Requests(h11.Connection):
    """Reads requests: h11, with its mistakes told in our words, and without changes of protocol."""

    def __init__(self, head_limit: int) -> None:
        super().__init__(h11.SERVER, head_limit)
        self._head_limit = head_limit

    def receive_data(self, data: bytes) -> None:
        """Takes bytes in; `b""` is the end. What comes after a last request is dropped."""
        if not data or self.their_state is not h11.MUST_CLOSE:
            super().receive_data(data)

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """The next event of the request.

        Raises:
            Unreadable: there can be none; nor any further ones.
        """
        if self.their_state is h11.IDLE:
            return self._head_event()
        if self.their_state is h11.SEND_BODY:
            return self._body_event()
        # h11 would complain of bytes behind a last request, and pause after one that asks for an upgrade. To be asked
        # for more instead is how a caller that leaves is noticed.
        unread = bool(self.trailing_data[0])
        if self.their_state is h11.MUST_CLOSE and unread:
            return h11.NEED_DATA
        event = super().next_event()
        return h11.NEED_DATA if event is h11.PAUSED and not unread else event

    def _head_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        head = self.trailing_data[0]
        try:
            event = super().next_event()
        except h11.RemoteProtocolError as error:
            raise Unreadable(head_fault(str(error), head, self._head_limit), head) from None
        if not isinstance(event, h11.Request):
            return event
        if not event.http_version.startswith(b"1."):
            raise Unreadable(version_fault(event.http_version.decode()), head)
        if wrong := _wrong_with(event):
            raise Unreadable(head_fault(wrong, head, self._head_limit), head)
        return _as_meant(event)

    def _body_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            return super().next_event()
        except h11.RemoteProtocolError as error:
            if self.trailing_data[1]:  # the caller has left
                return h11.ConnectionClosed()
            raise Unreadable(body_fault(str(error))) from None


class Protocol(H11Protocol):
    """One connection's requests, each given to the application; and refusals of what is none.

    Args:
        send: takes bytes for the client, and `Closed`.
        refused: makes the answer to a bad head. With it, the application must understand `http.disconnect` with a
            FAULT, and answer that. Without, hypercorn's bare statuses are sent.

    Attributes:
        done: something was refused, and nothing more is read.
    """

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        task_group: TaskGroup,
        state: ConnectionState,
        addresses: tuple[Address, Address],
        send: Callable[[Event], Awaitable[None]],
        refused: Refused | None,
    ) -> None:
        client, server = addresses
        super().__init__(app, config, context, task_group, state, False, client, server, send)
        self.connection = Requests(config.h11_max_incomplete_size)
        self.done = False
        self._refused = refused

    async def handle(self, event: Event) -> None:
        """Takes in bytes, or the news that the client has gone."""
        if self.done and isinstance(event, RawData):
            return
        await super().handle(event)

    async def _handle_events(self) -> None:
        try:
            await super()._handle_events()
        except Unreadable as fault:
            self.done = True
            await self._refuse(fault)
            await self.send(Closed())

    async def _check_protocol(self, event: h11.Request) -> None:
        """Hypercorn's place to change to HTTP/2; what Requests lets through has no reason to."""

    async def _refuse(self, fault: Unreadable) -> None:
        unanswered = self.connection.our_state in (h11.IDLE, h11.SEND_RESPONSE)
        if self._refused and isinstance(self.stream, HTTPStream):
            await self._tell(self.stream, fault.error)
        elif self._refused and unanswered:
            await self.send(RawData(self._answer(self._refused, fault)))
        elif unanswered:
            await self._send_error_response(fault.error.status)
            await super().handle(Closed())

    def _answer(self, refused: Refused, fault: Unreadable) -> bytes:
        method, path = request_line(fault.head)
        headers, body = refused(fault.error, self.client[0] if self.client else "", method, path)
        fields = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        fields += [(b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        fields += self.config.response_headers("h11")
        # A connection of its own writes it: what state ours is in after a mistake does not matter then.
        head = h11.Connection(h11.SERVER).send(h11.Response(status_code=fault.error.status, headers=fields)) or b""
        return head if method == "HEAD" else head + body

    async def _tell(self, stream: HTTPStream, error: RequestError) -> None:
        """Leaves the answer to the application that is reading the body, and waits until it has ended."""
        await self.can_read.clear()
        await stream.app_put({"type": "http.disconnect", FAULT: error})  # type: ignore[arg-type]
        await self.can_read.wait()


def _wrong_with(request: h11.Request) -> str | None:
    """What h11 lets pass, and we do not, as h11 might have put it."""
    names = {name for name, _ in request.headers}
    if {b"content-length", b"transfer-encoding"} <= names:
        # Whoever stands before us may go by the other one, and take the body's end for a request (RFC 9112, 6.1).
        return "both lengths"
    return "illegal target" if origin_form(request.target.decode("ascii"))[0] == "" else None


def _as_meant(request: h11.Request) -> h11.Request:
    """Without the wish to upgrade, and with a whole address taken apart: its host counts, not the header's."""
    host, target = origin_form(request.target.decode("ascii"))
    headers = [(name, value) for name, value in request.headers if name != b"upgrade"]
    if host is not None:
        headers = [(b"host", host.encode()), *(header for header in headers if header[0] != b"host")]
    elif len(headers) == len(request.headers):
        return request
    return h11.Request(method=request.method, target=target, headers=headers, http_version=request.http_version)
