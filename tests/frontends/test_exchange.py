"""Bodies in, answers out, and a caller who leaves: plain ASGI messages, no sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgate_core.dialects import chat
from llmgate_core.errors import ConnectorError, RequestError
from llmgate_core.executor import Answer
from llmgate_core.frontends.exchange import ClientGone, HangUp, read_body, relay
from llmgate_core.request import RequestRecord

Message = MutableMapping[str, Any]
DISCONNECT = {"type": "http.disconnect"}


def body_of(*parts: bytes) -> list[Message]:
    last = len(parts) - 1
    return [{"type": "http.request", "body": part, "more_body": n < last} for n, part in enumerate(parts)]


def receiver(messages: list[Message]) -> Callable[[], Awaitable[Message]]:
    """An ASGI `receive` that gives these, and then waits for ever."""
    queue = list(messages)

    async def receive() -> Message:
        if not queue:
            await asyncio.Event().wait()
        return queue.pop(0)

    return receive


def read(messages: list[Message], limit: int, headers: tuple[tuple[bytes, bytes], ...] = ()) -> bytes:
    return asyncio.run(read_body({"type": "http", "headers": list(headers)}, receiver(messages), limit))


# --- the body ------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=20), min_size=1, max_size=8), st.integers(0, 200))
def test_a_body_is_the_sum_of_its_parts_or_refused(parts: list[bytes], limit: int) -> None:
    whole = b"".join(parts)
    if len(whole) <= limit:
        assert read(body_of(*parts), limit) == whole
    else:
        with pytest.raises(RequestError) as caught:
            read(body_of(*parts), limit)
        assert caught.value.status == 413


def test_an_announced_body_is_refused_before_it_is_read() -> None:
    with pytest.raises(RequestError) as caught:
        read([], 10, ((b"content-length", b"11"),))
    assert (caught.value.status, caught.value.code) == (413, "request_too_large")


@pytest.mark.parametrize("announced", [b"10", b"", b"-5", b"x", "²".encode()])
def test_other_announcements_do_not_matter(announced: bytes) -> None:
    assert read(body_of(b"0123456789"), 10, ((b"content-length", announced),)) == b"0123456789"


def test_a_caller_who_leaves_while_sending() -> None:
    with pytest.raises(ClientGone):
        read([{"type": "http.request", "body": b"half", "more_body": True}, DISCONNECT], 100)


# --- hanging up ----------------------------------------------------------------------------------------------


def test_a_hang_up_cancels_what_is_under_way() -> None:
    async def run() -> None:
        left = asyncio.Event()
        story: list[str] = []

        async def receive() -> Message:
            await left.wait()
            return DISCONNECT

        async def handle() -> None:
            async with HangUp(receive):
                left.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    story.append("cleaned up")

        with pytest.raises(ClientGone):
            await handle()
        assert story == ["cleaned up"]
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)  # this task can go on

    asyncio.run(run())


def test_a_block_that_ends_by_itself_leaves_no_watcher() -> None:
    async def run() -> None:
        async with HangUp(receiver([])):
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


def test_a_hang_up_in_the_very_last_turn_is_still_told() -> None:
    async def run() -> None:
        with pytest.raises(ClientGone):
            async with HangUp(receiver([DISCONNECT])):
                await asyncio.sleep(0)  # the watcher has seen it, the cancellation is not yet delivered
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    asyncio.run(run())


def test_an_exception_of_the_block_comes_through() -> None:
    async def run() -> None:
        with pytest.raises(ConnectorError):
            async with HangUp(receiver([])):
                raise ConnectorError("unavailable", "down")

    asyncio.run(run())


def test_a_cancellation_from_outside_is_no_hang_up() -> None:
    async def run() -> None:
        inside = asyncio.Event()

        async def handle() -> None:
            async with HangUp(receiver([])):
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(handle())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


# --- relaying ------------------------------------------------------------------------------------------------

FINISHED = b'data: {"choices":[{"finish_reason":"stop"}]}\n\n'


def relayed(chunks: list[bytes | Exception], stream: bool = True) -> tuple[list[Message], RequestRecord]:
    record = RequestRecord("req_1", "POST", "/", 0.0)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def produce() -> AsyncGenerator[bytes, None]:
        for chunk in chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    async def aclose() -> None:
        pass

    asyncio.run(
        relay(Answer(200, {"content-type": "text/event-stream"}, produce(), aclose, stream), send, record, chat)
    )
    return sent, record


def bodies(sent: list[Message]) -> list[tuple[bytes, bool]]:
    return [(message["body"], message.get("more_body", False)) for message in sent[1:]]


def test_every_chunk_is_a_message_of_its_own() -> None:
    sent, record = relayed([b"data: a\n\n", b"data: b", b"\n\n", FINISHED])
    assert bodies(sent) == [
        (b"data: a\n\n", True),
        (b"data: b", True),
        (b"\n\n", True),
        (FINISHED, True),
        (b"", False),
    ]
    assert (record.outcome, record.error) == ("ok", "")


def test_a_failure_at_a_boundary_is_told_once() -> None:
    sent, record = relayed([b"data: {}\n\n", ConnectorError("timeout", "silent")])
    (_, _), (told, more), (end, last) = bodies(sent)
    assert told.startswith(b"data: ")
    assert told.endswith(b"\n\n")
    assert b'"upstream_timeout"' in told
    assert (more, end, last) == (True, b"", False)
    assert (record.outcome, record.error) == ("cut_off", "silent")


@pytest.mark.parametrize("rest", [b"data: {", b"data: {}\n", b"data: {}"])
def test_a_failure_inside_an_event_is_never_a_proper_end(rest: bytes) -> None:
    sent, record = relayed([b"data: {}\n\n", rest, ConnectorError("protocol", "cut")])
    assert bodies(sent) == [(b"data: {}\n\n", True), (rest, True)]
    assert record.outcome == "cut_off"


def test_a_failure_after_the_end_is_no_failure() -> None:
    done = b"data: [DONE]\n\n"
    sent, record = relayed([FINISHED, done, ConnectorError("protocol", "cut")])
    assert bodies(sent) == [(FINISHED, True), (done, True), (b"", False)]
    assert record.outcome == "ok"


def test_a_failure_before_the_last_mark_may_have_swallowed_something() -> None:
    """Usage, or another choice: a finish reason alone does not say that all of it has come."""
    sent, record = relayed([FINISHED, ConnectorError("protocol", "cut")])
    assert b"cut" in bodies(sent)[1][0]
    assert record.outcome == "cut_off"


def test_a_plain_answer_has_no_stream_headers() -> None:
    sent, _ = relayed([b"{}"], stream=False)
    assert dict(sent[0]["headers"]) == {b"content-type": b"text/event-stream"}
    assert bodies(sent) == [(b"{}", False)]


def test_a_fast_stream_lets_others_have_a_turn() -> None:
    async def run() -> int:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async def produce() -> AsyncGenerator[bytes, None]:
            for _ in range(1000):
                yield b": x\n\n"
            yield FINISHED

        async def send(message: Message) -> None:
            pass  # never yields, as hypercorn's after a disconnect

        async def aclose() -> None:
            pass

        busy = asyncio.create_task(other())
        await relay(Answer(200, {}, produce(), aclose, stream=True), send, RequestRecord("r", "POST", "/", 0.0), chat)
        busy.cancel()
        return turns

    assert asyncio.run(run()) >= 20
