"""One request in a dialect, from its first byte to its last; what all front ends for conversations have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ..dialects.spoken import ReadRequest, Spoken
from ..errors import RequestError
from ..executor import Answer
from ..request import GatewayRequest, Operation, RequestRecord
from .early import relay_early
from .exchange import HangUp, Receive, Scope, Send, read_body, relay
from .rim import RECORD

if TYPE_CHECKING:
    from ..app import Gateway

PASSED_PREFIXES = ("anthropic-", "openai-", "x-session-", "x-claude-code-")
PASSED = frozenset({"session_id", "session-id", "conversation_id"})
"""The caller's headers that travel on: what agents use to name a session, and API options. Never a credential."""


class Endpoint:
    """The ASGI endpoint of one operation; a class, so that Starlette hands it the raw connection.

    Args:
        read: makes a request of a body; raises RequestError.
    """

    def __init__(
        self,
        gateway: Gateway,
        dialect: Spoken,
        read: Callable[[bytes], ReadRequest],
        operation: Operation = "generate",
    ) -> None:
        self._gateway = gateway
        self._dialect = dialect
        self._read = read
        self._operation = operation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reads, asks, relays; a caller that hangs up cancels all of it."""
        request = await self.request(scope, receive)
        async with HangUp(receive):
            await self.serve(request, scope[RECORD], send)

    async def request(self, scope: Scope, receive: Receive) -> GatewayRequest:
        """The request in this connection; raises RequestError, or ClientGone."""
        record: RequestRecord = scope[RECORD]
        headers: Mapping[str, str] = scope["llmgate.headers"]
        check_content_type(headers)
        data = await read_body(scope, receive, self._gateway.config.server.max_body_bytes)
        record.bytes_in = len(data)
        read = self._read(data)
        record.selector, record.stream = read.selector, read.stream
        return GatewayRequest(
            id=record.id,
            dialect=self._dialect.DIALECT,
            operation=self._operation,
            selector=read.selector,
            body=read.body,
            stream=read.stream,
            headers=travelling(headers),
            caller=record.caller,
            user_agent=headers.get("user-agent", ""),
        )

    async def answer(self, request: GatewayRequest, record: RequestRecord) -> Answer:
        """The answer to a request; for front ends that do something with it on its way."""
        return await self._gateway.answer(request, record)

    async def serve(self, request: GatewayRequest, record: RequestRecord, send: Send) -> None:
        """Gets the answer, and relays it."""
        streaming = self._gateway.config.streaming
        answering = self.answer(request, record)
        if request.stream and streaming.keepalive == "early":
            await relay_early(answering, send, record, self._dialect, streaming.keepalive_interval_seconds)
            return
        answer = await answering
        try:
            await relay(answer, send, record, self._dialect)
        finally:
            await answer.aclose()


def check_content_type(headers: Mapping[str, str]) -> None:
    """Raises RequestError (415) for a body that says that it is not JSON; one that says nothing is taken for JSON."""
    sort = headers.get("content-type", "").partition(";")[0].strip().lower()
    if sort and sort != "application/json" and not sort.endswith("+json"):
        raise RequestError(
            "the body is not announced as JSON; send the header `Content-Type: application/json`",
            status=415,
            code="unsupported_media_type",
        )


def travelling(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a caller that go upstream."""
    return {
        name: value
        for name, value in headers.items()
        if (name in PASSED or name.startswith(PASSED_PREFIXES)) and value.isascii() and value.isprintable()
    }
