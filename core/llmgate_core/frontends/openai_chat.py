"""`POST /v1/chat/completions`: the OpenAI Chat Completions API, streamed and not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from starlette.routing import Route

from ..dialects import chat
from ..errors import RequestError
from ..request import GatewayRequest, RequestRecord
from .early import relay_early
from .exchange import HangUp, Receive, Scope, Send, read_body, relay
from .rim import RECORD

if TYPE_CHECKING:
    from ..app import Gateway

PASSED_PREFIXES = ("anthropic-", "openai-", "x-session-", "x-claude-code-")
PASSED = frozenset({"session_id", "session-id", "conversation_id"})
"""The caller's headers that travel on: what agents use to name a session, and API options. Never a credential."""


class OpenAIChat:
    """The front end of the dialect `openai.chat`."""

    name: ClassVar[str] = "openai-chat"
    dialect: ClassVar[str] = chat.DIALECT
    settings: None

    def __init__(self, settings: Any = None) -> None:
        self.settings = settings

    def routes(self, gateway: Gateway) -> Sequence[Route]:
        """One path."""
        return [Route("/v1/chat/completions", ChatCompletions(gateway), methods=["POST"])]


class ChatCompletions:
    """The ASGI endpoint; a class, so that Starlette hands it the raw connection."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request from its first byte to its last."""
        record: RequestRecord = scope[RECORD]
        headers: Mapping[str, str] = scope["llmgate.headers"]
        check_content_type(headers)
        data = await read_body(scope, receive, self._gateway.config.server.max_body_bytes)
        record.bytes_in = len(data)
        read = chat.read_request(data)
        record.selector, record.stream = read.selector, read.stream
        request = GatewayRequest(
            id=record.id,
            dialect=chat.DIALECT,
            operation="generate",
            selector=read.selector,
            body=read.body,
            stream=read.stream,
            headers=travelling(headers),
            caller=record.caller,
            user_agent=headers.get("user-agent", ""),
        )
        streaming = self._gateway.config.streaming
        async with HangUp(receive):
            answering = self._gateway.answer(request, record)
            if read.stream and streaming.keepalive == "early":
                await relay_early(answering, send, record, chat, streaming.keepalive_interval_seconds)
                return
            answer = await answering
            try:
                await relay(answer, send, record)
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
