"""Everything that an upstream can do wrong, against every strategy: what the caller gets, and what it costs."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tests.ports import closed_port

from llmgate_core import plugins as plugin_loading
from llmgate_core.app import create_app
from llmgate_core.backends import World
from llmgate_core.config import BackendConfig, GatewayConfig, TimeoutsConfig
from llmgate_core.plugins import PluginSet
from llmgate_core.testing import Exchange, LoopbackServer, Script, ScriptedUpstream

FIRST_BYTE_SECONDS = 1.6
HANDICAP_SECONDS = 0.8
"""Far enough from each other and from nothing that a busy machine does not blur them."""

PATIENCE_SECONDS = 5.0

TEXT = "从前有座山"
ANSWER = {"id": "c", "choices": [{"index": 0, "message": {"content": TEXT}, "finish_reason": "stop"}]}
PLAIN = json.dumps(ANSWER).encode()
SSE = {"content-type": "text/event-stream"}


def event(delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


ROLE = event({"role": "assistant", "content": ""})
STORY = [ROLE, event({"content": TEXT[:2]}), event({"content": TEXT[2:]}), event({}, "stop"), "[DONE]"]


async def good(exchange: Exchange) -> None:
    if exchange.request.json().get("stream"):
        await exchange.sse(*STORY)
    else:
        await exchange.reply(200, PLAIN)


# --- what can go wrong ------------------------------------------------------------------------------------------------


def answering(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.reply(status, body, headers or {})

    return script


def failing(status: int, **headers: str) -> Script:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return answering(status, {"error": {"message": f"words of the upstream for {status}"}}, named)


def by_kind(plain: Script, stream: Script) -> Script:
    async def script(exchange: Exchange) -> None:
        await (stream if exchange.request.json().get("stream") else plain)(exchange)

    return script


async def silent(exchange: Exchange) -> None:
    await exchange.hung_up()


async def slow_headers(exchange: Exchange) -> None:
    await exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
    await exchange.hung_up()


async def only_headers(exchange: Exchange) -> None:
    await exchange.head(200, SSE if exchange.request.json().get("stream") else {"content-type": "application/json"})
    await exchange.hung_up()


def beginning(*events: Any, then: Callable[[Exchange], Awaitable[None] | None] | None = None) -> Script:
    """The beginning of a stream, then its end or what is given."""

    async def script(exchange: Exchange) -> None:
        await exchange.sse(*events)
        if then is not None and (ending := then(exchange)) is not None:
            await ending

    return script


def part(share: float, then: Callable[[Exchange], Awaitable[None] | None]) -> Script:
    """A part of the plain answer that was announced."""

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "application/json", "content-length": str(len(PLAIN))})
        await exchange.raw(PLAIN[: int(len(PLAIN) * share)])
        if (ending := then(exchange)) is not None:
            await ending

    return script


async def flapping(exchange: Exchange) -> None:
    await (good if exchange.number % 2 else failing(503))(exchange)


BROKEN_EVENT = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"once\n\n'
ERROR = {"error": {"message": "words of the upstream inside a 200", "type": "server_error", "code": 500}}
HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
LOGIN = answering(200, b"<html>please log in</html>", {"content-type": "text/html"})

FAULTS: dict[str, Script | str] = {
    "refuses the connection": "http://127.0.0.1:{closed}/v1",
    "fails at TLS": "https://127.0.0.1:{deaf}/v1",
    "accepts and never answers": silent,
    "slow headers": slow_headers,
    "headers, then silence": only_headers,
    "401": failing(401),
    "403": failing(403),
    "404": failing(404),
    "408": failing(408),
    "429 with `Retry-After: 7`": failing(429, retry_after="7"),
    "429 without": failing(429),
    "500": failing(500),
    "502 with an HTML page": answering(502, HTML, {"content-type": "text/html"}),
    "503": failing(503),
    "529": failing(529),
    "400": failing(400),
    "an empty 200": by_kind(answering(200, b""), answering(200, b"", SSE)),
    "a page instead of an answer": LOGIN,
    "JSON that breaks off": by_kind(
        answering(200, PLAIN[:40], {"content-type": "application/json"}),
        beginning(BROKEN_EVENT, *STORY[3:]),
    ),
    "an answer of the other kind": by_kind(beginning(*STORY), answering(200, PLAIN, SSE)),
    "an error inside a 200": by_kind(answering(200, ERROR), beginning(ROLE, ERROR)),
    "an error after some text": by_kind(part(0.5, Exchange.reset), beginning(*STORY[:2], ERROR)),
    "an event that breaks off, after some text": by_kind(
        answering(200, PLAIN[:-20]), beginning(*STORY[:2], BROKEN_EVENT, *STORY[3:])
    ),
    "cut before the first token": by_kind(part(0.0, Exchange.cut), beginning(ROLE, then=Exchange.cut)),
    "cut in the middle": by_kind(part(0.5, Exchange.cut), beginning(*STORY[:2], then=Exchange.cut)),
    "ends in the middle, properly": by_kind(answering(200, PLAIN[:-20]), beginning(*STORY[:2])),
    "silence in the middle": by_kind(part(0.5, Exchange.hung_up), beginning(*STORY[:2], then=Exchange.hung_up)),
    "flapping, its first request": flapping,
    "flapping, its second request": flapping,
}

STRATEGIES = {
    "`a`": "a:m",
    "`a|b`": "a:m|b:m",
    "`a^b`": "[weight=1000000]a:m^[weight=0.000001]b:m",
    "`[handicap]a!b`": f"[handicap={HANDICAP_SECONDS}]a:m!b:m",
}


# --- what becomes of it -----------------------------------------------------------------------------------------------


@dataclass
class Cell:
    """What one request came to.

    Args:
        status: of the HTTP answer.
        error: the code of the error that the caller was told, empty for none; its message in `message`.
        text: what the caller has of the answer.
        whole: whether he must take it for whole.
        broken: whether the connection broke off instead of an end.
        unreadable: whether an event is no JSON, which SDKs raise.
        attempts: as the gateway counts them; `asked` are the requests that reached an upstream.
    """

    status: int = 0
    error: str = ""
    message: str = ""
    text: str = ""
    whole: bool = False
    broken: bool = False
    unreadable: bool = False
    attempts: int = 0
    asked: int = 0
    seconds: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """The cell of the table."""
        return f"{self._got()} · {self.attempts} · {self._time()}"

    def _got(self) -> str:
        if self.whole:
            return "answer"
        told = f"`{self.error}`" if self.error else "broken event" if self.unreadable else "broken connection"
        if self.status != 200:
            return f"{self.status} {told}"
        return f"text, then {told}" if self.text else f"200, then {told}"

    def _time(self) -> str:
        marks = {0.0: "at once", HANDICAP_SECONDS: "handicap", FIRST_BYTE_SECONDS: "timeout"}
        return marks[max(mark for mark in marks if mark <= self.seconds)]


class Watched:
    """A script, and whether it runs."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._running = 0
        self.idle = asyncio.Event()
        self.idle.set()

    async def __call__(self, exchange: Exchange) -> None:
        self._running += 1
        self.idle.clear()
        try:
            await self._script(exchange)
        finally:
            self._running -= 1
            if not self._running:
                self.idle.set()


@asynccontextmanager
async def dead_ports() -> AsyncIterator[dict[str, int]]:
    """A `closed` port that refuses connections, and a `deaf` one of a server that does not understand TLS."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    with closed_port() as closed:
        async with server:
            yield {"closed": closed, "deaf": server.sockets[0].getsockname()[1]}


async def tried(
    fault: Script | str,
    selector: str,
    *,
    stream: bool,
    client: httpx.AsyncClient,
    plugins: PluginSet,
    requests: int = 1,
) -> Cell:
    """The last of some requests to a gateway of its own, whose backend `a` has this fault."""
    script = Watched(silent if isinstance(fault, str) else fault)
    async with ScriptedUpstream(script) as faulty, ScriptedUpstream(good) as other, dead_ports() as dead:
        url = fault.format(**dead) if isinstance(fault, str) else f"{faulty.url}/v1"
        config = GatewayConfig(
            backends=tuple(
                BackendConfig("openai-compatible", name, alias=name, extra={"base_url": where})
                for name, where in (("a", url), ("b", f"{other.url}/v1"))
            ),
            timeouts=TimeoutsConfig(
                connect_seconds=FIRST_BYTE_SECONDS,
                first_byte_seconds=FIRST_BYTE_SECONDS,
                idle_seconds=FIRST_BYTE_SECONDS,
            ),
        )
        world = World(lambda: 1_800_000_000.0, random.Random(1), {}, Path("/nowhere"))
        gateway = create_app(config, plugins=plugins, world=world)
        async with LoopbackServer(gateway.app) as address:
            for _ in range(requests):
                before = len(faulty.requests) + len(other.requests)
                cell = await asked_for(client, address, selector, stream=stream)
                cell.asked = len(faulty.requests) + len(other.requests) - before
            async with asyncio.timeout(PATIENCE_SECONDS):
                await script.idle.wait()  # who is not wanted any more has been hung up on, long before the end
        return cell


async def asked_for(client: httpx.AsyncClient, address: str, selector: str, *, stream: bool) -> Cell:
    """One request, as a caller sees it."""
    body = {"model": selector, "stream": stream, "messages": [{"role": "user", "content": "讲个故事"}]}
    cell, began, data = Cell(), time.monotonic(), b""
    try:
        async with client.stream("POST", f"{address}/v1/chat/completions", json=body) as reply:
            cell.status, cell.headers = reply.status_code, reply.headers
            cell.attempts = int(reply.headers.get("x-llmgate-attempts", 0))
            async for piece in reply.aiter_bytes():
                data += piece
    except httpx.RemoteProtocolError:
        cell.broken = True
    cell.seconds = time.monotonic() - began
    if stream and cell.status == 200:
        read_stream(data, cell)
    else:
        read_plain(data, cell)
    return cell


def read_plain(data: bytes, cell: Cell) -> None:
    told = json.loads(data)
    if error := told.get("error"):
        cell.error, cell.message = error["code"], error["message"]
    else:
        cell.text = told["choices"][0]["message"]["content"]
        cell.whole = not cell.broken


def read_stream(data: bytes, cell: Cell) -> None:
    finished = False
    for block in data.decode().split("\n\n"):
        for line in block.splitlines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            try:
                told = json.loads(line.removeprefix("data: "))
            except ValueError:
                cell.unreadable = True
                continue
            if error := told.get("error"):
                cell.error, cell.message = str(error["code"]), error["message"]
                continue
            cell.text += told["choices"][0]["delta"].get("content") or ""
            finished = finished or bool(told["choices"][0]["finish_reason"])
    cell.whole = finished and not (cell.error or cell.broken or cell.unreadable)


Matrix = dict[bool, dict[str, dict[str, Cell]]]
"""By whether it is a stream, by fault, by strategy."""


async def measured(at_once: int = 24) -> Matrix:
    """All cells, so many of them side by side."""
    turns = asyncio.Semaphore(at_once)
    keys = [(stream, name, how) for stream in (False, True) for name in FAULTS for how in STRATEGIES]
    async with httpx.AsyncClient(trust_env=False, timeout=10, verify=False) as client:
        plugins = plugin_loading.load(())

        async def cell(name: str, how: str, stream: bool) -> Cell:
            async with turns:
                return await one(name, how, stream=stream, client=client, plugins=plugins)

        cells = await asyncio.gather(*(cell(name, how, stream) for stream, name, how in keys))
    matrix: Matrix = {False: {}, True: {}}
    for (stream, name, how), found in zip(keys, cells, strict=True):
        matrix[stream].setdefault(name, {})[how] = found
    return matrix


async def one(name: str, how: str, *, stream: bool, client: httpx.AsyncClient, plugins: PluginSet) -> Cell:
    """The cell of a fault and a strategy."""
    requests = 2 if "second" in name else 1
    return await tried(FAULTS[name], STRATEGIES[how], stream=stream, client=client, plugins=plugins, requests=requests)


async def again(name: str, how: str, *, stream: bool) -> Cell:
    """The same once more and alone, for a cell that a busy machine may have blurred."""
    async with httpx.AsyncClient(trust_env=False, timeout=10, verify=False) as client:
        return await one(name, how, stream=stream, client=client, plugins=plugin_loading.load(()))


def table(rows: Mapping[str, Mapping[str, Cell]]) -> str:
    """Markdown."""
    lines = [f"| backend `a` | {' | '.join(STRATEGIES)} |", "|---" * (len(STRATEGIES) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(str(cells[how]) for how in STRATEGIES)} |" for name, cells in rows.items()]
    return "\n".join(lines).replace("`a|b`", "`a\\|b`") + "\n"
