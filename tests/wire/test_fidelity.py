"""Bytes through the whole gateway: nobody re-encodes what nobody changed, and nothing waits for what comes after it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import statistics
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmgate_core.testing import Exchange

if TYPE_CHECKING:
    from tests.conftest import GatewayFactory, RunningGateway

PATIENCE = 20.0
"""Seconds after which an event that was waited for is taken for one that will never come."""

KERNEL_BYTES = 24 * 1024 * 1024
"""What the kernel's buffers of four sockets may swallow before anybody is held back."""

ANSWER = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"hi"}}]}'
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'

Check = Callable[["RunningGateway", Callable[[Coroutine[Any, Any, Any]], Any]], None]


def run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await test

    asyncio.run(bounded())


def event(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return b"data: %b\n\n" % json.dumps({"choices": [choice]}, ensure_ascii=False).encode()


def against_one_gateway(gateway: GatewayFactory, answer: Callable[[Exchange], Awaitable[None]], check: Check) -> None:
    """Runs a property in a thread; what it awaits runs in the loop of one gateway, so that examples are cheap."""

    async def test() -> None:
        loop = asyncio.get_running_loop()

        def wait(coroutine: Coroutine[Any, Any, Any]) -> Any:
            return asyncio.run_coroutine_threadsafe(coroutine, loop).result(PATIENCE)

        async with gateway(answer) as running:
            await asyncio.to_thread(check, running, wait)

    asyncio.run(test())


many = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


# --- what goes up ----------------------------------------------------------------------------------------------

SPACES = st.text(" \t\r\n", max_size=3)
NUMBERS = st.sampled_from(["0", "-0.0", "1e2", "1E+400", "0.10000000000000000000001", "123456789012345678901234567890"])
STRINGS = st.one_of(
    st.text(max_size=12).map(lambda text: json.dumps(text.encode(errors="ignore").decode(), ensure_ascii=False)),
    st.sampled_from([r'"\u00e9\ud83d\ude00\/"', r'"\"model\": \"trap\""', '"}],{"', '"你好 😀"', r'"\\"']),
)


def array(values: list[str], space: str) -> str:
    return f"[{space}{','.join(values)}]"


def an_object(members: list[tuple[str, str]], space: str) -> str:
    return "{" + f",{space}".join(f"{name}{space}:{value}" for name, value in members) + "}"


VALUES = st.recursive(
    st.one_of(NUMBERS, STRINGS, st.sampled_from(["null", "true", "false"])),
    lambda inner: st.one_of(
        st.builds(array, st.lists(inner, max_size=3), SPACES),
        st.builds(an_object, st.lists(st.tuples(STRINGS, inner), max_size=3), SPACES),
    ),
    max_leaves=6,
)
NAMES = st.sampled_from(["x", "mode", "Model", "extra_body", "", r"esc\u0061ped", "名", "metadata"])
MODEL_KEYS = st.sampled_from(['"model"', r'"mod\u0065l"', r'"\u006dodel"'])
MODEL, TEMPERATURE = "model", "temperature"

Member = tuple[str, str, str]
"""What it is for the gateway (empty: nothing), its key, its value."""


@st.composite
def members(draw: st.DrawFn, selector: str) -> list[Member]:
    """The members of a body in any order, some of them twice; of several `model`s the last is the selector."""
    drawn: list[Member] = [("", json.dumps(name), value) for name, value in draw(st.lists(st.tuples(NAMES, VALUES)))]
    drawn.append(("", '"messages"', f'[{{"role":"user", "content":{draw(STRINGS)}}}]'))
    if draw(st.booleans()):
        drawn.append((TEMPERATURE, '"temperature"', draw(st.sampled_from(["1e-1", "0.50", "null"]))))
    models = [draw(MODEL_KEYS) for _ in range(draw(st.integers(1, 2)))]
    drawn += [(MODEL, key, "") for key in models]
    drawn = list(draw(st.permutations(drawn)))
    last = max(at for at, member in enumerate(drawn) if member[0] == MODEL)
    for at, (role, key, _) in enumerate(drawn):
        if role == MODEL:
            drawn[at] = (role, key, json.dumps(selector) if at == last else draw(STRINGS))
    return drawn


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A body, and what the upstream must get in its place, put together from the same pieces."""
    prefix = draw(st.sampled_from(["", "openai-compatible:", "openai-compatible.default:"]))
    warm = draw(st.booleans())
    changes = {MODEL: '"m"'} if prefix or warm else {}
    if warm:
        changes[TEMPERATURE] = "0.25"
    drawn = draw(members(f"{prefix}m?temperature=0.25" if warm else f"{prefix}m"))
    sent, due = draw(SPACES) + "{" + draw(SPACES), ""
    due = sent
    for at, (role, key, value) in enumerate(drawn):
        before = (draw(SPACES) + "," + draw(SPACES) if at else "") + key + draw(SPACES) + ":" + draw(SPACES)
        sent += before + value
        due += before + changes.get(role, value)
    after = draw(SPACES)
    added = warm and TEMPERATURE not in {role for role, _, _ in drawn}
    end = "}" + draw(SPACES)
    return (sent + after + end).encode(), (due + after + (',"temperature":0.25' if added else "") + end).encode()


def test_outside_what_it_changes_the_gateway_hands_on_the_callers_bytes(gateway: GatewayFactory) -> None:
    async def plain(exchange: Exchange) -> None:
        await exchange.reply(200, ANSWER, {"content-type": "application/json"})

    def check(running: RunningGateway, wait: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        @many
        @given(bodies())
        def holds(pair: tuple[bytes, bytes]) -> None:
            sent, due = pair
            answer = wait(running.chat(sent))
            assert answer.status_code == 200, answer.text
            assert running.upstream.requests[-1].body == due

        holds()

    against_one_gateway(gateway, plain, check)


# --- what comes back -------------------------------------------------------------------------------------------

TRAPS = [
    '"error"',
    '"finish_reason": "stop"',
    "data: [DONE]",
    "event: error",
    '{"error": {"message": "no"}}',
    "\r\n\r\n",
]
TEXTS = st.one_of(st.text(max_size=8), st.sampled_from([*TRAPS, "你好，世界", "😀" * 3])).map(
    lambda text: text.encode(errors="ignore").decode()
)
FRAMES = st.one_of(
    TEXTS.map(event),
    TEXTS.map(event).map(lambda frame: frame.replace(b"\n", b"\r\n")),
    st.sampled_from(
        [b": keep-alive\n\n", b"\r\n", b"id: 7\nretry: 1\ndata:{}\n\n", b"event: odd\ndata: {\ndata: }\n\n"]
    ),
)
STREAMS = st.lists(FRAMES, min_size=1, max_size=6).map(lambda frames: b"".join(frames) + END)


def plain_answer(before: str, extra: str, text: str, after: str) -> bytes:
    content = json.dumps(text, ensure_ascii=False)
    return f'{before}{{ "x":{extra}, "x":1e2,"choices" :[{{"message":{{"content":{content}}}}}]}}{after}'.encode()


PLAIN = st.builds(plain_answer, SPACES, VALUES, TEXTS, SPACES)


@st.composite
def cut(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> list[bytes]:
    """Bytes in pieces, cut anywhere, also inside a character."""
    data = draw(whole)
    places = sorted(draw(st.sets(st.integers(1, len(data) - 1), max_size=12)))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


@pytest.mark.parametrize(
    ("answers", "sort"),
    [(cut(STREAMS), "text/event-stream"), (cut(PLAIN), "application/json")],
    ids=["stream", "plain"],
)
def test_the_caller_gets_the_upstreams_bytes(
    gateway: GatewayFactory, answers: st.SearchStrategy[list[bytes]], sort: str
) -> None:
    pieces: Sequence[bytes] = ()

    async def send(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": sort})
        for piece in pieces:
            await exchange.chunk(piece)
            await asyncio.sleep(0)  # lets the gateway read, so that it really sees pieces

    def check(running: RunningGateway, wait: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        @many
        @given(answers)
        def holds(drawn: list[bytes]) -> None:
            nonlocal pieces
            pieces = drawn
            answer = wait(running.chat(stream=sort != "application/json"))
            assert (answer.status_code, answer.content) == (200, b"".join(drawn))

        holds()

    against_one_gateway(gateway, send, check)


# --- at once ---------------------------------------------------------------------------------------------------

HALF = event("你好")
FIRST_CHUNKS = {
    "a role": b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n',
    "a comment": b": hello\n\n",
    "half a comment": b":",
    "a blank line": b"\n",
    "one byte": HALF[:1],
    "half an event": HALF[:20],
    "half a character": HALF[: HALF.index("你".encode()) + 1],
    "an event without its blank line": HALF[:-1],
    "an event and a half": HALF + HALF[:9],
}


@pytest.mark.parametrize("first", FIRST_CHUNKS.values(), ids=FIRST_CHUNKS.keys())
def test_the_first_chunk_arrives_before_the_second_is_sent(gateway: GatewayFactory, first: bytes) -> None:
    rest = (HALF + HALF)[len(first) :] if HALF.startswith(first[:5]) else HALF
    seen = asyncio.Event()

    async def hold(exchange: Exchange) -> None:
        await exchange.sse(first)
        await seen.wait()
        await exchange.sse(rest + END)

    async def test() -> None:
        async with gateway(hold) as running:
            request = running.body(stream=True)
            async with running.client.stream("POST", f"{running.url}/v1/chat/completions", json=request) as reply:
                chunks = reply.aiter_raw()
                assert await anext(chunks) == first
                seen.set()
                assert b"".join([chunk async for chunk in chunks]) == rest + END

    run(test())


def test_an_answer_on_a_kept_connection_does_not_wait_for_an_acknowledgement(gateway: GatewayFactory) -> None:
    """Nagle's algorithm and a delayed acknowledgement would make it 40 ms."""

    async def plain(exchange: Exchange) -> None:
        await exchange.reply(200, ANSWER, {"content-type": "application/json"})

    async def test() -> None:
        now = asyncio.get_running_loop().time
        async with gateway(plain) as running:
            taken = []
            for _ in range(15):
                started = now()
                await running.chat()
                taken.append(now() - started)
            assert statistics.median(taken) < 0.03

    run(test())


STREAMS_AT_ONCE = 200
EVENTS_EACH = 5


def test_two_hundred_streams_flow_in_lockstep_with_their_readers(gateway: GatewayFactory) -> None:
    """No upstream sends its next event before its reader has the last one; all are open all the time."""
    acknowledged = [asyncio.Semaphore(0) for _ in range(STREAMS_AT_ONCE)]
    everybody = asyncio.Barrier(STREAMS_AT_ONCE)

    async def lockstep(exchange: Exchange) -> None:
        number = exchange.request.json()["n"]
        for turn in range(EVENTS_EACH):
            await exchange.sse(event(f"<{number}/{turn}>"))
            await acknowledged[number].acquire()
        await exchange.sse(END)

    async def read(running: RunningGateway, number: int) -> bytes:
        reader, writer = await running.dial(stream=True, n=number)
        got = b""
        for turn in range(EVENTS_EACH):
            got += await reader.readuntil(f"<{number}/{turn}>".encode())
            await everybody.wait()
            acknowledged[number].release()
        got += await reader.readuntil(b"[DONE]")
        writer.close()
        return got

    async def test() -> None:
        async with gateway(lockstep) as running, asyncio.TaskGroup() as group:
            readers = [group.create_task(read(running, number)) for number in range(STREAMS_AT_ONCE)]
        for number, reader in enumerate(readers):
            assert reader.result().count(b"<") == reader.result().count(b"<%d/" % number) == EVENTS_EACH

    run(test())


# --- held back -------------------------------------------------------------------------------------------------


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def long_stream() -> Iterator[bytes]:
    """Some 64 MB, no two events alike."""
    for number in range(1024):
        yield event(f"{number}" + "x" * 64_000)


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from Linux's /proc")
def test_a_reader_that_pauses_holds_the_upstream_back_and_loses_nothing(gateway: GatewayFactory) -> None:
    pushed = 0
    digest = hashlib.sha256()

    async def pushes(exchange: Exchange) -> None:
        nonlocal pushed
        for frame in long_stream():
            await exchange.sse(frame)
            digest.update(frame)
            pushed += len(frame)
        await exchange.sse(END)

    async def test() -> None:
        async with gateway(pushes) as running:
            before = resident_bytes()
            request = running.body(stream=True)
            async with running.client.stream("POST", f"{running.url}/v1/chat/completions", json=request) as reply:
                chunks = reply.aiter_raw()
                first = await anext(chunks)
                last = -1
                while pushed > last:  # until nothing more goes through for a while
                    last = pushed
                    await asyncio.sleep(0.25)
                assert pushed < KERNEL_BYTES
                assert resident_bytes() - before < 16 * 1024 * 1024
                received, seen, most = hashlib.sha256(first), len(first), 0
                tail = b""
                async for chunk in chunks:
                    most = max(most, pushed - seen)
                    seen += len(chunk)
                    whole = tail + chunk
                    tail = whole[-len(END) :]
                    received.update(whole[: -len(END)])
                assert most < KERNEL_BYTES
                assert resident_bytes() - before < 32 * 1024 * 1024
            assert (seen, tail) == (pushed + len(END), END)
            assert received.digest() == digest.digest()
            assert (await running.finished()).outcome == "ok"

    run(test())
