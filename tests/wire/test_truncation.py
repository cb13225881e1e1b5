"""An answer that breaks off is never taken for a short one: cut at every byte, read by the real openai-python."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Coroutine, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import openai
import pytest
from openai import AsyncOpenAI

from llmgate_core.testing import Exchange, ScriptedUpstream

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam
    from tests.conftest import GatewayFactory

AT_ONCE = 64
ASKED: list[ChatCompletionMessageParam] = [{"role": "user", "content": "杭州天气如何？"}]
USAGE = {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}


# --- what was recorded -----------------------------------------------------------------------------------------


def chunk(delta: dict[str, Any] | None, finish: str | None = None, **members: Any) -> bytes:
    """One event of a stream; `delta` None makes the one that tells the usage."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    event = {"id": "c", "choices": choices, **members}
    return b"data: %b\n\n" % json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


def call(**members: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, **members}]}


STREAM = b"".join(
    [
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "我查，"}),
        chunk(call(id="call_1", type="function", function={"name": "weather", "arguments": ""})),
        chunk(call(function={"arguments": '{"city":"杭州"}'})),
        chunk({}, "tool_calls"),
        chunk(None, usage=USAGE),
        b"data: [DONE]\n\n",
    ]
)
COMPLETE = ("我查，", '{"city":"杭州"}', "tool_calls", 16)
"""Content, arguments, finish reason and tokens of the whole stream, and of the plain answer."""

TOOL_CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"杭州"}'}}
MESSAGE = {"role": "assistant", "content": "我查，", "tool_calls": [TOOL_CALL]}
PLAIN = json.dumps(
    {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "tool_calls"}],
        "usage": USAGE,
    },
    ensure_ascii=False,
    separators=(",", ":"),
).encode()


class Recording(NamedTuple):
    """An answer on the wire, head included.

    Attributes:
        enough: the first offset at which all that counts has arrived.
        seams: the offsets at which the head and each piece of the body end.
    """

    wire: bytes
    enough: int
    seams: tuple[int, ...]

    def cuts(self, framing: str, end: str) -> list[int]:
        """Every offset for chunks and a proper end; for the others every 29th, and all about the seams."""
        everything = range(1, len(self.wire) + 1)
        if (framing, end) == ("chunked", "FIN"):
            return list(everything)
        near = {seam + step for seam in self.seams for step in (-1, 0, 1)}
        return [offset for offset in everything if offset % 29 == 0 or offset in near or offset == len(self.wire)]


def recorded(pieces: Sequence[bytes], sort: str, framing: str, needed: bytes) -> Recording:
    body = b"".join(pieces)
    if framing == "content-length":
        head, framed = f"content-length: {len(body)}", [*pieces]
    else:
        head, framed = "transfer-encoding: chunked", [b"%x\r\n%b\r\n" % (len(p), p) for p in pieces] + [b"0\r\n\r\n"]
    parts = [f"HTTP/1.1 200 OK\r\ncontent-type: {sort}\r\n{head}\r\n\r\n".encode(), *framed]
    wire = b"".join(parts)
    return Recording(wire, wire.rindex(needed) + len(needed), tuple(accumulate(map(len, parts))))


EVENTS = [event + b"\n\n" for event in STREAM.split(b"\n\n") if event]
HALVES = [PLAIN[: len(PLAIN) // 2], PLAIN[len(PLAIN) // 2 :]]
FRAMINGS = ("content-length", "chunked")
STREAMS = {framing: recorded(EVENTS, "text/event-stream", framing, b"[DONE]\n") for framing in FRAMINGS}
PLAINS = {framing: recorded(HALVES, "application/json", framing, PLAIN[-9:]) for framing in FRAMINGS}


# --- what the SDK makes of it ----------------------------------------------------------------------------------

Read = tuple[str, str, str | None, int]


async def read_stream(client: AsyncOpenAI, model: str) -> Read:
    content, arguments, finish, tokens = "", "", None, 0
    stream = await client.chat.completions.create(model=model, messages=ASKED, stream=True)
    async for event in stream:
        tokens = event.usage.total_tokens if event.usage else tokens
        for choice in event.choices:
            content += choice.delta.content or ""
            finish = choice.finish_reason or finish
            for part in choice.delta.tool_calls or []:
                arguments += (part.function and part.function.arguments) or ""
    return content, arguments, finish, tokens


async def read_plain(client: AsyncOpenAI, model: str) -> Read:
    answer = await client.chat.completions.create(model=model, messages=ASKED)
    choice = answer.choices[0]
    called = choice.message.tool_calls or []
    arguments = "".join(one.function.arguments for one in called if one.type == "function")
    return (
        choice.message.content or "",
        arguments,
        choice.finish_reason,
        answer.usage.total_tokens if answer.usage else 0,
    )


async def read_all(client: AsyncOpenAI, answers: set[bytes], *, stream: bool) -> dict[bytes, Read | openai.APIError]:
    """What the SDK makes of each answer; it says by `model` which one it is to get. Other errors fail the test."""
    read: dict[bytes, Read | openai.APIError] = {}

    async def one(number: int, answer: bytes) -> None:
        try:
            read[answer] = await (read_stream if stream else read_plain)(client, str(number))
        except openai.APIError as error:
            read[answer] = error

    await side_by_side([one(number, answer) for number, answer in enumerate(sorted(answers))])
    return read


# --- what the gateway makes of it ------------------------------------------------------------------------------

OWN = re.compile(rb"date: [^\r]*\r\n|req_[0-9a-f]{24}")
"""What differs from answer to answer."""


async def side_by_side(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    turns = asyncio.Semaphore(AT_ONCE)

    async def in_turn(one: Coroutine[Any, Any, None]) -> None:
        async with turns:
            await one

    await asyncio.gather(*map(in_turn, work))


async def answers_to_cuts(
    gateway: GatewayFactory, recording: Recording, offsets: Sequence[int], end: str, *, stream: bool
) -> dict[int, bytes]:
    """The gateway's answers on the wire, by the offset at which the upstream's was cut."""
    found: dict[int, bytes] = {}

    async def cut(exchange: Exchange) -> None:
        await exchange.raw(recording.wire[: int(exchange.request.json()["model"])])
        exchange.cut() if end == "FIN" else exchange.reset()

    async def ask(port: int, offset: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = json.dumps({"model": str(offset), "messages": ASKED, "stream": stream}).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: "
        writer.write(b"%b%d\r\n\r\n%b" % (head.encode(), len(body), body))
        found[offset] = OWN.sub(b"", await reader.read())
        writer.close()

    async with gateway(cut) as running:
        port = int(running.url.rsplit(":", 1)[1])
        await side_by_side([ask(port, offset) for offset in offsets])
    return found


async def outcomes(
    gateway: GatewayFactory, recordings: Mapping[str, Recording], *, stream: bool
) -> dict[tuple[str, str, int], Read | openai.APIError]:
    """What the SDK makes of each cut. Equal answers, of which there are many, it reads once."""
    answers: dict[tuple[str, str, int], bytes] = {}
    for framing, recording in recordings.items():
        for end in ("FIN", "RST"):
            offsets = recording.cuts(framing, end)
            found = await answers_to_cuts(gateway, recording, offsets, end, stream=stream)
            answers |= {(framing, end, offset): answer for offset, answer in found.items()}
    distinct = sorted(set(answers.values()))

    async def replay(exchange: Exchange) -> None:
        await exchange.raw(distinct[int(exchange.request.json()["model"])])
        exchange.cut()

    async with (
        ScriptedUpstream(replay) as as_the_gateway,
        AsyncOpenAI(base_url=f"{as_the_gateway.url}/v1", api_key="none", max_retries=0) as client,
    ):
        read = await read_all(client, set(distinct), stream=stream)
    return {cut: read[answer] for cut, answer in answers.items()}


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
def test_an_answer_cut_at_any_byte_is_an_error_or_complete(gateway: GatewayFactory, stream: bool) -> None:
    recordings = STREAMS if stream else PLAINS
    found = asyncio.run(outcomes(gateway, recordings, stream=stream))
    assert sum(cut[:2] == ("chunked", "FIN") for cut in found) == len(recordings["chunked"].wire)
    taken = {cut: read for cut, read in found.items() if not isinstance(read, openai.APIError)}
    assert {cut: read for cut, read in taken.items() if read != COMPLETE} == {}
    assert [cut for cut in taken if cut[2] < recordings[cut[0]].enough] == []
    for framing, recording in recordings.items():
        assert found[framing, "FIN", len(recording.wire)] == COMPLETE
    # APIConnectionError: the connection broke; InternalServerError: a 502 before the first byte; APIError itself:
    # an error event in mid-stream. Nothing is garbage (that would be an APIResponseValidationError).
    raised = {type(read) for read in found.values() if isinstance(read, openai.APIError)}
    mid_stream = {openai.APIError, openai.APIConnectionError}
    assert raised == ({openai.InternalServerError} | mid_stream if stream else {openai.InternalServerError})
