"""The yardstick: the shortest honest pass-through on the same stack, Starlette, Hypercorn and the same transport.

`python bare.py PORT UPSTREAM`. No routing, no checks, no log, no timeouts: what cannot be saved without another stack.
"""

from __future__ import annotations

import sys

import aiohttp
import httpx
import uvloop
from httpx_aiohttp import AiohttpTransport
from hypercorn.asyncio import serve
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

URL = httpx.URL(f"{sys.argv[2]}/v1/chat/completions")


def session() -> aiohttp.ClientSession:
    """As llmgate has it."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar())


transport = AiohttpTransport(client=session)


async def chat(request: Request) -> StreamingResponse:
    """The caller's body up, the upstream's bytes back."""
    headers = {"content-type": "application/json", "authorization": "Bearer key", "accept-encoding": "identity"}
    reply = await transport.handle_async_request(
        httpx.Request("POST", URL, headers=headers, content=await request.body())
    )
    kept = {"content-type": reply.headers["content-type"]}
    return StreamingResponse(reply.stream, reply.status_code, kept, background=BackgroundTask(reply.aclose))


async def main() -> None:
    """Serves until it is killed."""
    config = Config()
    config.bind = [f"127.0.0.1:{sys.argv[1]}"]
    config.accesslog = None
    config.keep_alive_max_requests = 1_000_000
    await serve(Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])]), config)  # type: ignore[arg-type]


if __name__ == "__main__":
    uvloop.run(main())
