"""Keep-alives while a stream's answer is still awaited, for clients and proxies that give up on a silent connection.

The first one commits the status: what fails after it is told in the stream, and the answer's own headers are lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from .. import sse
from ..dialects.spoken import Spoken
from ..executor import Answer
from ..replies import SSE
from ..request import RequestRecord
from .exchange import STREAM_HEADERS, Send, last_words, raw_headers, relay, relay_stream
from .rim import context


async def relay_early(
    answering: Coroutine[Any, Any, Answer], send: Send, record: RequestRecord, dialect: Spoken, interval: float
) -> None:
    """Sends a stream as it comes, and a comment each time that nothing has come of it for `interval` seconds.

    Raises:
        Exception: what `answering` raised; the caller has been told, where the status had been sent.
    """
    task = asyncio.create_task(answering)
    try:
        if await _is_ready(task, interval):
            await relay(task.result(), send, record, dialect)
        else:
            await _relay_after_comments(task, send, record, dialect, interval)
    finally:
        await _end(task)


async def _relay_after_comments(
    task: asyncio.Task[Answer], send: Send, record: RequestRecord, dialect: Spoken, interval: float
) -> None:
    headers = {"content-type": SSE, **STREAM_HEADERS}
    await send({"type": "http.response.start", "status": 200, "headers": raw_headers(headers)})
    try:
        is_ready = False
        while not is_ready:
            await send({"type": "http.response.body", "body": sse.KEEP_ALIVE, "more_body": True})
            is_ready = await _is_ready(task, interval)
        answer = task.result()
    except asyncio.CancelledError:
        await last_words(dialect.StreamWatch(), send, record, dialect)
        raise
    except Exception as error:
        event = dialect.error_event(error, context=context(record), request_id=record.id)
        await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        raise
    await relay_stream(answer, send, record, dialect)


async def _is_ready(task: asyncio.Task[Answer], seconds: float) -> bool:
    return bool((await asyncio.wait({task}, timeout=seconds))[0])


async def _end(task: asyncio.Task[Answer]) -> None:
    """Gives up what nobody waits for any longer, and closes the answer, if there is one."""
    if not task.done():  # after the end of an answer the server reports a hang-up, as soon as the loop gets a turn
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled() and task.exception() is None:
        await task.result().aclose()
