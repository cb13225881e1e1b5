"""The upstream of the benchmark: answers at next to no cost, so that what is measured is the gateway.

`python stub.py PORT`. A plain request gets one small JSON answer; `"stream":true` gets CHUNKS events, PAUSE seconds
apart, or all at once when the body says `"burst":true`.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

CHUNKS = 50
PAUSE = 0.002
ANSWER = (
    b'{"id":"c1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
)
EVENT = (
    b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    b'{"content":"' + b"a few words of an answer " * 5 + b'"},"finish_reason":null}]}\n\n'
)
END = EVENT.replace(b'"finish_reason":null', b'"finish_reason":"stop"') + b"data: [DONE]\n\n"
PLAIN_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Upstream(asyncio.Protocol):
    """One connection; requests with a content-length, one after the other."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        self.transport = cast(asyncio.WriteTransport, transport)
        self.received = b""

    def data_received(self, data: bytes) -> None:
        """Answers every request that is complete."""
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            head = self.received[:end].lower()
            _, found, rest = head.partition(b"content-length:")
            size = int(rest.split(b"\r\n")[0]) if found else 0
            if len(self.received) < end + 4 + size:
                return
            body, self.received = self.received[end + 4 : end + 4 + size], self.received[end + 4 + size :]
            self.answer(body)

    def answer(self, body: bytes) -> None:
        """Plain, paced or in a burst."""
        if b'"stream":true' not in body:
            self.write(PLAIN_HEAD + ANSWER)
        elif b'"burst":true' in body:
            self.write(STREAM_HEAD + framed(EVENT) * CHUNKS + framed(END) + b"0\r\n\r\n")
        else:
            self.pacing = asyncio.ensure_future(self.pace())

    async def pace(self) -> None:
        """Event after event."""
        self.write(STREAM_HEAD)
        for _ in range(CHUNKS):
            self.write(framed(EVENT))
            await asyncio.sleep(PAUSE)
        self.write(framed(END) + b"0\r\n\r\n")

    def write(self, data: bytes) -> None:
        """Onto the wire."""
        self.transport.write(data)


def framed(data: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


async def main() -> None:
    """Serves until it is killed."""
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
