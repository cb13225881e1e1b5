"""What the conformance suite works with: the upstream's good answers, a client that cuts, a watch on the log."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping

from ...connectors import HttpClient, HttpReply
from ..scripted import Exchange

LOGGER = "llmgate.conformance"
"""The logger of the connector that is tried."""

REPLY = (
    '{ "id":"chat-1", "object":"chat.completion","created":0,"model":"m",  "choices":[{"index":0,"message":'
    '{"role":"assistant","content":"Grüße, 世界 🙂"},"finish_reason":"stop"}],"usage":null, "n_1": 1e2 }\n'
).encode()
"""A plain answer, written as no encoder writes it."""

_CHUNK = 'data: {"id":"chat-1","object":"chat.completion.chunk","created":0, "model":"m","choices":[%s]}\n\n'
EVENTS = (
    (_CHUNK % '{"index":0,"delta":{"role":"assistant"},"finish_reason":null}').encode(),
    (_CHUNK % '{"index":0,"delta":{"content":"Grüße, 世界 🙂"},"finish_reason":null, "n_1": 1e2}').encode(),
    (_CHUNK % '{"index":0,"delta":{},"finish_reason":"stop"}').encode(),
    b"data: [DONE]\n\n",
)
"""A streamed answer, an HTTP chunk each."""


async def fine(exchange: Exchange) -> None:
    """Answers every question well: a list of models, a stream, a plain reply."""
    if exchange.request.method == "GET":
        await exchange.reply(200, {"object": "list", "data": [{"id": "conformance-model", "object": "model"}]})
    elif b'"stream":true' in exchange.request.body.replace(b" ", b""):
        await exchange.sse(*EVENTS)
    else:
        await exchange.reply(200, REPLY, {"content-type": "application/json"})


class CuttingClient:
    """An HttpClient that cuts the bodies of answers anew, as networks do.

    Attributes:
        size: bytes of a piece; None leaves the pieces as they arrive.
    """

    def __init__(self, inner: HttpClient) -> None:
        self.inner = inner
        self.size: int | None = None
        self._replies: list[HttpReply] = []

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, content: bytes = b""
    ) -> HttpReply:
        """Sends one request; see HttpClient."""
        reply = await self.inner.send(method, url, headers=headers, content=content)
        self._replies.append(reply)
        if self.size is not None:
            reply.chunks = _cut(reply.chunks, self.size)
        return reply

    async def aclose(self) -> None:
        """Closes every answer that was left open."""
        for reply in self._replies:
            await reply.aclose()


async def _cut(chunks: AsyncGenerator[bytes, None], size: int) -> AsyncGenerator[bytes, None]:
    try:
        async for chunk in chunks:
            for start in range(0, len(chunk), size):
                yield chunk[start : start + size]
    finally:
        await chunks.aclose()


class LogWatch(logging.Handler):
    """Collects every log record of the process while it is entered, whatever the levels are."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        # The connector's logger gets the handler too, because logging may be configured not to propagate.
        self._loggers = [logging.getLogger(), logging.getLogger(LOGGER)]
        self._levels = [one.level for one in self._loggers]

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps a record."""
        self.records.append(record)

    def __enter__(self) -> list[logging.LogRecord]:
        for one in self._loggers:
            one.addHandler(self)
            one.setLevel(logging.DEBUG)
        return self.records

    def __exit__(self, *_: object) -> None:
        for one, level in zip(self._loggers, self._levels, strict=True):
            one.removeHandler(self)
            one.setLevel(level)
