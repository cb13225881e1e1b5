"""The outermost layer: an id and a record for every request, admission, and a decent answer to whatever is raised."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

from starlette.exceptions import HTTPException

from .. import handed_over
from ..errors import PLUGIN_FAULTS, ConnectorError, RequestError
from ..faults import FAULT
from ..observe import Redactor
from ..ownership import contained
from ..request import Attempt, RequestRecord
from .access import Access, Refused
from .dialect_of import dialect_of
from .exchange import SHUTTING_DOWN, ClientGone, Message, Receive, Scope, Send, raw_headers

logger = logging.getLogger("llmgate.frontends")

RECORD = "llmgate.record"
CLIENT_CLOSED = 499
LEFTOVER_SECONDS = 10.0
OTHER_APIS = ("/v1/audio/", "/v1/images/", "/v1/files", "/v1/batches", "/v1/assistants", "/v1/threads", "/v1beta/")

App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Rim:
    """ASGI middleware around all front ends.

    Not Starlette's own stack: its error middleware answers in plain text, and decisions here are made on
    `scope["path"]`, never on a URL that is put together from headers.

    Args:
        finished: told of every request's record when it has ended.
    """

    def __init__(
        self,
        app: App,
        access: Access,
        redactor: Redactor,
        finished: Callable[[RequestRecord], None],
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._app = app
        self._access = access
        self._redactor = redactor
        self._finished = finished
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._running: dict[asyncio.Task[None], RequestRecord] = {}

    def running(self) -> Sequence[RequestRecord]:
        """The records of the requests that have not ended."""
        return tuple(self._running.values())

    def interrupt(self) -> None:
        """Ends what is still running, and lets each caller know: the gateway is shutting down."""
        for task, record in self._running.items():
            record.outcome, record.error = "cut_off", SHUTTING_DOWN.message
            task.cancel()

    def refused(self, error: RequestError, client: str, method: str, path: str) -> tuple[Mapping[str, str], bytes]:
        """Answers what the server could not read as a request, and records it; see `faults.Refused`."""
        record = RequestRecord(
            id=_new_id(),
            method=method,
            path=path,
            started=self._clock(),
            client=client,
            status=error.status,
            outcome="rejected",
            error=self._redactor.strike(error.message),
        )
        answer = dialect_of(path).error_answer(error, request_id=record.id)
        record.bytes_out = len(answer.body)
        self._finished(record)
        return {**answer.headers, "x-request-id": record.id, "request-id": record.id}, answer.body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one HTTP request; lifespan events go on to the app, WebSockets are refused."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client") or ("", 0)
        record = RequestRecord(
            id=_new_id(),
            method=scope["method"],
            path=scope["path"],
            started=self._clock(),
            client=client[0],
        )
        scope[RECORD] = record
        # Starlette's routes raise HTTPException for a wrong method only inside an "app".
        scope["app"] = self
        started = self._monotonic()
        receiver = Receiver(receive)
        sender = Sender(send, receiver, record, started, self._monotonic)
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._running[task] = record
        try:
            with contained():
                await self._admit(scope, record)
                await self._app(scope, receiver, sender)
        except ClientGone:
            if receiver.fault:
                await self._answer(receiver.fault, record, sender)
            else:
                record.outcome = "client_closed"
                record.status = record.status or CLIENT_CLOSED
        except PLUGIN_FAULTS as error:
            await self._answer(error, record, sender)
        except asyncio.CancelledError:
            if record.error != SHUTTING_DOWN.message:
                record.outcome, record.error = "cut_off", "the connection was taken down"
                raise
            task.uncancel()
            await self._answer(SHUTTING_DOWN, record, sender)
        finally:
            del self._running[task]
            record.seconds = self._monotonic() - started
            self._finished(record)

    async def _admit(self, scope: Scope, record: RequestRecord) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        scope["llmgate.headers"] = headers
        try:
            record.caller = self._access.admit(scope["path"], headers, record.client)
        except Refused as refused:
            if refused.hold:
                await self._sleep(refused.hold)
            raise refused.error from None

    async def _answer(self, error: BaseException, record: RequestRecord, sender: Sender) -> None:
        """Tells the caller what was raised, in its own dialect, if nothing has been said yet."""
        headers: dict[str, str] = {}
        if isinstance(error, HTTPException):
            headers["allow"] = (error.headers or {}).get("Allow", "")  # RFC 9110, section 15.5.6, asks for it
            error = wrong_method(record, error)
        expected = isinstance(error, RequestError | ConnectorError)
        error = self._as_declared(error, record)
        if not expected:
            logger.exception("%s %s %s", record.id, record.method, record.path, exc_info=error)
        record.error = self._redactor.strike(str(error)) if expected else type(error).__name__
        if sender.started:
            record.outcome = "cut_off"
            return
        record.outcome = "rejected" if isinstance(error, RequestError) and error.status < 500 else "failed"
        answer = dialect_of(record.path).error_answer(error, context=context(record), request_id=record.id)
        headers |= {**answer.headers, "content-length": str(len(answer.body)), **attempt_headers(record)}
        await sender(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": raw_headers(headers),
            }
        )
        await sender({"type": "http.response.body", "body": answer.body})

    @staticmethod
    def _as_declared(error: BaseException, record: RequestRecord) -> BaseException:
        """The error with fields of the right types: a plugin's front end may have raised it. Ours is a 503 at times."""
        wrong: Sequence[str] = ()
        told = error
        if isinstance(error, RequestError):
            told, wrong = handed_over.refusal(error, most=599)
        elif isinstance(error, ConnectorError):
            told, wrong = handed_over.failure(error)
        if wrong:
            fields = handed_over.named(wrong)
            logger.error("%s %s: an error with a wrong %s", record.id, record.path, fields, exc_info=error)
        return told


class Receiver:
    """ASGI `receive` that knows whether the caller's body has come to its end.

    Attributes:
        fault: why the rest of the body cannot be read, if that is so: its caller has not gone, and wants to know.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.ended = False
        self.fault: RequestError | None = None

    async def __call__(self) -> Message:
        """The next message."""
        message = await self._receive()
        self.ended = self.ended or not message.get("more_body", False)
        self.fault = self.fault or message.get(FAULT)
        return message

    async def use_up(self, seconds: float, *, then: Callable[[], Awaitable[None]]) -> None:
        """Takes what the caller is still sending, `seconds` at most, and goes on taking while `then()` is awaited.

        A refusal can be said before the body has arrived. A client that is still writing would not read it, and
        hypercorn's last `send` would wait for ever for room in a queue that nobody empties.
        """
        leftover = asyncio.create_task(self._discard())
        try:
            await asyncio.wait({leftover}, timeout=seconds)
            await then()
        finally:
            leftover.cancel()

    async def _discard(self) -> None:
        while not self.ended:
            await self()


class Sender:
    """ASGI `send` that counts, and names the request to the caller."""

    def __init__(
        self,
        send: Send,
        receiver: Receiver,
        record: RequestRecord,
        started: float,
        monotonic: Callable[[], float],
    ) -> None:
        self._send = send
        self._receiver = receiver
        self._record = record
        self._started = started
        self._monotonic = monotonic
        self.started = False

    async def __call__(self, message: Message) -> None:
        """Passes a message on."""
        if message["type"] == "http.response.start":
            self.started = True
            self._record.status = message["status"]
            own = self._record.id.encode()
            message["headers"] = [*message["headers"], (b"x-request-id", own), (b"request-id", own)]
        elif body := message.get("body"):
            if self._record.first_byte_seconds is None:
                self._record.first_byte_seconds = self._monotonic() - self._started
            self._record.bytes_out += len(body)
        if self._receiver.ended or message["type"] != "http.response.body" or message.get("more_body", False):
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        last = {"type": "http.response.body", "body": b""}
        await self._receiver.use_up(LEFTOVER_SECONDS, then=lambda: self._send(last))


def _new_id() -> str:
    return f"req_{secrets.token_hex(12)}"


def attempt_headers(record: RequestRecord) -> dict[str, str]:
    """Who was asked, how often, and under which id of its own, for an answer that is a failure."""
    if not record.attempts:
        return {}
    last = record.attempts[-1]
    headers = {"x-llmgate-backend": last.backend, "x-llmgate-attempts": str(len(record.attempts))}
    if last.upstream_request_id:
        headers["x-upstream-request-id"] = last.upstream_request_id
    return headers


def context(record: RequestRecord) -> str:
    """What the gateway adds behind an upstream's words: which backend, what it said, how often it was asked."""
    if not record.attempts:
        return ""
    last = record.attempts[-1]
    if len({(attempt.backend, attempt.model) for attempt in record.attempts}) > 1:
        return "\n".join([f"{len(record.attempts)} attempts failed:", *map(_told, record.attempts)])
    said = f"backend {last.backend}" + (f" answered HTTP {last.status}" if last.status else "")
    return said + (f", {len(record.attempts)} attempts" if len(record.attempts) > 1 else "")


def _told(attempt: Attempt) -> str:
    answered = f"HTTP {attempt.status}, " if attempt.status else ""
    outcome = attempt.kind or ("given up" if not attempt.message else "fine")
    return f"  {attempt.backend}:{attempt.model}: {answered}{outcome}: {attempt.message[:200]}"


def wrong_method(record: RequestRecord, error: HTTPException) -> RequestError:
    """Starlette's 405, in our words."""
    allowed = (error.headers or {}).get("Allow", "")
    return RequestError(
        f"`{record.method}` is not allowed on {record.path}; it takes {allowed}",
        status=error.status_code,
        code="method_not_allowed",
    )


async def not_found(scope: Scope, receive: Receive, send: Send) -> Any:
    """The answer to every path that no front end serves."""
    path = scope["path"][:200]
    raise RequestError(f"there is nothing at {path}; {_way_out(path)}", status=404, code="not_found")


def _way_out(path: str) -> str:
    if path.startswith("/v1/v1/"):
        return "the client's base URL has `/v1` twice"
    if path.startswith(OTHER_APIS):
        return (
            "this version speaks OpenAI's Chat Completions (`POST /v1/chat/completions`), Responses (`/v1/responses`) "
            "and Anthropic's Messages (`/v1/messages`)"
        )
    return "an OpenAI client's base URL ends in `/v1`, an Anthropic client's does not"
