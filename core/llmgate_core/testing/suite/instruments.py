"""What the conformance suite works with: the upstream's good answers, a client that cuts, a watch on the log."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ...connectors import HttpClient, HttpReply
from ..scripted import Exchange, ReceivedRequest, Script

LOGGER = "llmgate.conformance"
"""The logger of the connector that is tried."""


def asks_for_stream(request: ReceivedRequest) -> bool:
    """As all dialects that llmgate knows say it."""
    return b'"stream":true' in request.body.replace(b" ", b"")


@dataclass(frozen=True)
class Speech:
    """What an upstream of one dialect, or of a form of its own, says that has nothing to complain of.

    Args:
        reply: a plain answer, written as no encoder writes it.
        events: a streamed answer, an HTTP chunk each; the second one has content.
        models: what it answers to every GET, a list of models.
        path: how the path ends on which that dialect is usually spoken; empty for a form of its own.
        streams: whether a request asks for a stream; by default its body has `"stream": true`.
    """

    reply: bytes
    events: tuple[bytes, ...]
    models: Mapping[str, Any] = field(
        default_factory=lambda: {"object": "list", "data": [{"id": "conformance-model", "object": "model"}]}
    )
    path: str = ""
    streams: Callable[[ReceivedRequest], bool] = asks_for_stream

    async def script(self, exchange: Exchange) -> None:
        """Answers every question well: a list of models, a stream, a plain reply."""
        if exchange.request.method == "GET":
            await exchange.reply(200, self.models)
        elif self.streams(exchange.request):
            await exchange.sse(*self.events)
        else:
            await exchange.reply(200, self.reply, {"content-type": "application/json"})


_CHUNK = 'data: {"id":"chat-1","object":"chat.completion.chunk","created":0, "model":"m","choices":[%s]}\n\n'
CHAT = Speech(
    (
        '{ "id":"chat-1", "object":"chat.completion","created":0,"model":"m",  "choices":[{"index":0,"message":'
        '{"role":"assistant","content":"Grüße, 世界 🙂"},"finish_reason":"stop"}],"usage":null, "n_1": 1e2 }\n'
    ).encode(),
    (
        (_CHUNK % '{"index":0,"delta":{"role":"assistant"},"finish_reason":null}').encode(),
        (_CHUNK % '{"index":0,"delta":{"content":"Grüße, 世界 🙂"},"finish_reason":null, "n_1": 1e2}').encode(),
        (_CHUNK % '{"index":0,"delta":{},"finish_reason":"stop"}').encode(),
        b"data: [DONE]\n\n",
    ),
    path="/chat/completions",
)


def _event(name: str, members: str) -> bytes:
    return f'event: {name}\ndata: {{"type":"{name}", {members}}}\n\n'.encode()


_MESSAGE = '"id":"msg_1", "type":"message","role":"assistant","model":"m"'
MESSAGES = Speech(
    (
        f'{{ {_MESSAGE},  "content":[{{"type":"text","text":"Grüße, 世界 🙂"}}],"stop_reason":"end_turn",'
        '"stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}, "n_1": 1e2 }\n'
    ).encode(),
    (
        _event(
            "message_start",
            f'"message":{{{_MESSAGE},"content":[],"stop_reason":null,"usage":{{"input_tokens":1,"output_tokens":1}}}}',
        )
        + _event("content_block_start", '"index":0,"content_block":{"type":"text","text":""}'),
        _event("content_block_delta", '"index":0, "delta":{"type":"text_delta","text":"Grüße, 世界 🙂"}, "n_1": 1e2'),
        _event("content_block_stop", '"index":0'),
        _event("message_delta", '"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":9}')
        + b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    ),
    path="/messages",
)

_RESPONSE = '"id":"resp_1", "object":"response","created_at":0,"model":"m"'
_ITEM = '"type":"message","id":"msg_1","role":"assistant"'
_TEXT = '{"type":"output_text","text":"Grüße, 世界 🙂","annotations":[]}'
RESPONSES = Speech(
    (
        f'{{ {_RESPONSE},  "status":"completed","output":[{{{_ITEM},"status":"completed","content":[{_TEXT}]}}],'
        '"usage":{"input_tokens":1,"output_tokens":1,"total_tokens":2}, "n_1": 1e2 }\n'
    ).encode(),
    (
        _event("response.created", f'"response":{{{_RESPONSE},"status":"in_progress","output":[]}}'),
        _event("response.output_text.delta", '"item_id":"msg_1", "delta":"Grüße, 世界 🙂", "n_1": 1e2'),
        _event("response.completed", f'"response":{{{_RESPONSE},"status":"completed","output":[]}}'),
    ),
    path="/responses",
)
SPEECHES = {"openai.chat": CHAT, "anthropic.messages": MESSAGES, "openai.responses": RESPONSES}
"""By dialect."""


def speaking(dialect: str) -> Script:
    """Answers in the dialect to which a path belongs, in `dialect` on paths that nobody knows."""

    async def script(exchange: Exchange) -> None:
        path = exchange.request.path
        speech = next((one for one in SPEECHES.values() if path.endswith(one.path)), SPEECHES[dialect])
        await speech.script(exchange)

    return script


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


class Untouchable:
    """An HttpClient that nobody may use."""

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, content: bytes = b""
    ) -> HttpReply:
        """Fails."""
        raise AssertionError("nothing may be sent here")


class LogWatch:
    """Collects every log record that is made while it is entered, whatever the levels are.

    It takes them where they are made: a handler does not get those of a logger that does not propagate.
    """

    def __init__(self) -> None:
        self.records: list[logging.LogRecord] = []
        self._make = logging.getLogRecordFactory()
        self._silent = logging.NullHandler()  # without any, logging writes warnings to standard error
        self._loggers = [logging.getLogger(), logging.getLogger(LOGGER)]
        self._levels = [one.level for one in self._loggers]

    def _keep(self, *given: Any, **named: Any) -> logging.LogRecord:
        record = self._make(*given, **named)
        self.records.append(record)
        return record

    def __enter__(self) -> list[logging.LogRecord]:
        logging.setLogRecordFactory(self._keep)
        for one in self._loggers:
            one.addHandler(self._silent)
            one.setLevel(logging.DEBUG)
        return self.records

    def __exit__(self, *_: object) -> None:
        logging.setLogRecordFactory(self._make)
        for one, level in zip(self._loggers, self._levels, strict=True):
            one.removeHandler(self._silent)
            one.setLevel(level)


@contextmanager
def far_from_greenwich() -> Iterator[None]:
    """Puts the process into another time zone than UTC, where the system can do that."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "CST-8"
    _heed_time_zone()
    try:
        yield
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        _heed_time_zone()


def _heed_time_zone() -> None:
    if sys.platform != "win32":
        time.tzset()
