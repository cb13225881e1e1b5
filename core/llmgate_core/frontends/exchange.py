"""Bytes in and bytes out: reading a body, relaying an answer, and noticing that the caller has gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping
from types import TracebackType
from typing import Any

from ..dialects.spoken import Spoken, Watch
from ..errors import ConnectorError, GatewayError, RequestError
from ..executor import Answer
from ..request import RequestRecord

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# After this many chunks the loop gets a turn: the server's `send` need not yield, and a fast upstream would starve
# everybody else, the watcher for the caller's disconnect included.
CHUNKS_PER_TURN = 32


STREAM_HEADERS = {"x-accel-buffering": "no", "cache-control": "no-cache"}
"""Reverse proxies such as nginx collect a stream otherwise."""

SHUTTING_DOWN = RequestError(
    "the gateway is shutting down; send the request again", status=503, code="shutting_down", retry_after=1
)
"""What a request is told that outlives the grace period; its record holds the message from the moment on."""


class ClientGone(Exception):  # noqa: N818 - a fact, not an error
    """The caller hung up."""


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole request body.

    Raises:
        RequestError: 413 when it is larger than `limit` bytes, announced or not.
        ClientGone: the caller left before its end.
    """
    announced = dict(scope["headers"]).get(b"content-length", b"0")
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        if part := message.get("body", b""):
            parts.append(part)
            size += len(part)
            if size > limit:
                raise _too_large(limit)
        if not message.get("more_body", False):
            return b"".join(parts)


class HangUp:
    """Cancels the block inside as soon as the caller hangs up, and raises ClientGone in its place.

    `async with HangUp(receive): ...` may be entered once the request's body has been read.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._gone = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        self._task = task
        self._cancelling = task.cancelling()
        self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watcher.cancel()
        if not self._gone:
            return
        if kind is None:
            # The block ended in the very turn in which the caller left: take delivery of the cancellation here.
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                kind = asyncio.CancelledError
        if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise ClientGone from None


def whole(data: bytes) -> Answer:
    """A JSON answer of the gateway's own."""

    async def one() -> AsyncGenerator[bytes, None]:
        yield data

    chunks = one()
    headers = {"content-type": "application/json", "content-length": str(len(data))}
    return Answer(200, headers, chunks, chunks.aclose, stream=False)


async def relay(answer: Answer, send: Send, record: RequestRecord, dialect: Spoken) -> None:
    """Sends an answer as it comes. A stream that breaks off is told as one, never as a success."""
    headers = answer.headers | STREAM_HEADERS if answer.stream else answer.headers
    await send(
        {
            "type": "http.response.start",
            "status": answer.status,
            "headers": raw_headers(headers),
        }
    )
    if answer.stream:
        await relay_stream(answer, send, record, dialect)
        return
    async for chunk in answer.chunks:
        await send({"type": "http.response.body", "body": chunk})


async def relay_stream(answer: Answer, send: Send, record: RequestRecord, dialect: Spoken) -> None:
    """The body of a stream whose head has been sent."""
    watch = dialect.StreamWatch()
    failure: GatewayError | None = None
    passed = 0
    try:
        async for chunk in answer.chunks:
            watch.feed(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            passed += 1
            if passed % CHUNKS_PER_TURN == 0:
                await asyncio.sleep(0)
    except ConnectorError as error:
        failure = error
    except asyncio.CancelledError:
        if not watch.done:
            await last_words(watch, send, record, dialect)
            raise
        # SDKs hang up when they have read `[DONE]`: that is no broken answer, and only the upstream's end is missing.
        record.outcome, record.error = "ok", ""
    record.usage = watch.usage or record.usage
    if watch.error:
        told = str(failure) if failure else "the upstream reported an error in its stream"
        record.outcome, record.error = "cut_off", told
    elif not watch.finished or (not watch.done and (failure or not watch.at_boundary)):
        failure = failure or ConnectorError("protocol", "the upstream ended the stream before the answer was complete")
        record.outcome, record.error = "cut_off", str(failure)
        if not watch.at_boundary:
            # Half an event is on its way already: anything added to it would be garbage. Without a proper end the
            # server closes the connection, and every client takes that for the failure it is.
            return
        await send({"type": "http.response.body", "body": _told(failure, watch, record, dialect), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def last_words(watch: Watch, send: Send, record: RequestRecord, dialect: Spoken) -> None:
    """Tells a caller that the gateway is shutting down; one who has gone himself is told nothing."""
    if record.error == SHUTTING_DOWN.message and watch.at_boundary and not watch.finished:
        await send(
            {"type": "http.response.body", "body": _told(SHUTTING_DOWN, watch, record, dialect), "more_body": True}
        )
        await send({"type": "http.response.body", "body": b""})


def _told(error: GatewayError, watch: Watch, record: RequestRecord, dialect: Spoken) -> bytes:
    """The event that ends a stream which has begun."""
    context = f"backend {record.served_by.backend}" if record.served_by else ""
    return dialect.error_event(error, context=context, request_id=record.id, sequence_number=watch.next_sequence_number)


def raw_headers(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI wants them; a model's name, and so a header, may be Chinese."""
    return [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in headers.items()]


def _too_large(limit: int) -> RequestError:
    return RequestError(
        f"the request's body is larger than {limit} bytes (`server.max_body_bytes`)",
        status=413,
        code="request_too_large",
    )
