"""Whatever a caller sends: a 4xx in OpenAI's shape that says what and where, one access line, no traceback, no hang."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import socket
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmgate_core.sections import AuthConfig, CallerSecret, ServerConfig
from llmgate_core.testing import Exchange
from llmgate_minimax import MiniMax

if TYPE_CHECKING:
    from tests.conftest import GatewayFactory, RunningGateway

PATIENCE = 20.0
"""Seconds after which an event that was waited for is taken for one that will never come."""

LIMIT = 1_000_000
ANSWER = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"hi"}}]}'
GOOD = b'{"model": "m", "messages": [{"role": "user", "content": "\xe4\xbd\xa0\xe5\xa5\xbd"}], "temperature": 0.5}'
CHAT = "/v1/chat/completions"


async def answers(exchange: Exchange) -> None:
    if exchange.request.json().get("stream"):
        await exchange.sse({"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}, "[DONE]")
        return
    await exchange.reply(200, ANSWER, {"content-type": "application/json"})


class Seen(NamedTuple):
    """An answer as it came; `raw` is empty where the gateway only hung up."""

    raw: bytes

    @property
    def status(self) -> int:
        return int(self.raw[9:12]) if self.raw else 0

    @property
    def head(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[0].lower()

    @property
    def body(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[2]


def http(body: bytes, method: str = "POST", path: str = CHAT, *, framing: str | None = None, **headers: str) -> bytes:
    """A request as bytes, with content-length unless `framing` says otherwise; `_` in header names is `-`."""
    lines = {"host": "localhost", "connection": "close"}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    framing = f"content-length: {len(body)}\r\n" if framing is None else framing
    return f"{method} {path} HTTP/1.1\r\n{head}{framing}\r\n".encode("latin-1") + body


async def send(running: RunningGateway, request: bytes, *, end: bool = False) -> Seen:
    """Sends bytes and reads one answer, or until the gateway hangs up; `end` half-closes first."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rsplit(":", 1)[1]))
    try:
        writer.write(request)
        if end:
            writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            return Seen(await read_answer(reader))
    except asyncio.IncompleteReadError as broken:
        return Seen(broken.partial)
    except ConnectionError:
        return Seen(b"")
    finally:
        await close(writer)


async def close(writer: asyncio.StreamWriter) -> None:
    """Closes, and waits until what is still to be sent has gone: a transport left behind would be a warning later."""
    writer.close()
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(PATIENCE):
            await writer.wait_closed()


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    """One answer; every one of these tests has its length in its head."""
    head = await reader.readuntil(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 100"):
        return await read_answer(reader)
    length = re.search(rb"content-length: (\d+)", head.lower())
    return head + (await reader.readexactly(int(length[1])) if length else await reader.read())


def error_of(seen: Seen) -> dict[str, Any]:
    """The error object, once the whole answer is known to be in OpenAI's shape."""
    assert b"content-type: application/json" in seen.head
    assert b"x-request-id: req_" in seen.head
    assert b"x-should-retry: false" in seen.head
    whole: dict[str, dict[str, Any]] = json.loads(seen.body)
    assert set(whole) == {"error"}
    error = whole["error"]
    assert set(error) == {"message", "type", "param", "code"}
    for name in ("message", "type", "code"):
        assert isinstance(error[name], str)
        assert error[name]
    return error


class Log:
    """What the gateway logged since the last look."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        caplog.set_level(logging.INFO)

    def check(self, *, access_lines: int) -> None:
        records = list(self._caplog.records)
        self._caplog.clear()
        assert [record for record in records if record.levelno >= logging.ERROR or record.exc_info] == []
        lines = [record.getMessage() for record in records if record.name == "llmgate.access"]
        assert len(lines) == access_lines, lines
        assert all(line.isprintable() for line in lines)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Log:
    return Log(caplog)


def chat(**members: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **members}).encode()


def with_text(text: bytes) -> bytes:
    """A body with these bytes where a message's text belongs."""
    return b'{"model": "m",\n "messages": [{"role": "user", "content": %b}]}' % text


class Bad(NamedTuple):
    """A request, and what its refusal must say; `param` is the member at fault."""

    request: bytes
    status: int
    says: tuple[str, ...]
    param: str | None = None


JSON_MISTAKES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "no body": (
        b"",
        (
            "JSON",
            "line 1",
        ),
    ),
    "blank body": (b" \r\n\t", ("JSON",)),
    "an array": (b"[]", ("object",)),
    "a string": (b'"model"', ("object",)),
    "a number": (b"42", ("object",)),
    "null": (b"null", ("object",)),
    "true": (b"true", ("object",)),
    "not JSON": (
        b"model=m&messages=hi",
        (
            "JSON",
            "line 1, column 1",
        ),
    ),
    "single quotes": (b"{'model': 'm'}", ("line 1, column 2",)),
    "a comma too many": (b'{"model": "m",\n "messages": [{}],}', ("line 2",)),
    "a comma too few": (b'{"model": "m"\n "messages": [{}]}', ("line 2",)),
    "a comment": (b'{"model": "m", // the model\n "messages": [{}]}', ("line 1, column 16",)),
    "an open end": (GOOD[:-1], ("line 1",)),
    "an open string": (GOOD[:40], ("line 1",)),
    "something behind it": (
        GOOD + b"x",
        (
            "JSON",
            "column",
        ),
    ),
    "two bodies": (
        GOOD + GOOD,
        (
            "JSON",
            "column",
        ),
    ),
    "a key without quotes": (b'{model: "m"}', ("line 1, column 2",)),
    "NaN": (chat(x=1).replace(b"1}", b"NaN}"), ("line 1",)),
    "Infinity": (chat(x=1).replace(b"1}", b"-Infinity}"), ("line 1",)),
    "a number with a leading zero": (chat(x=1).replace(b"1}", b"01}"), ("line 1",)),
    "a control character in a string": (with_text(b'"a\x01b"'), ("line 2",)),
    "a line break in a string": (with_text(b'"a\nb"'), ("line 2",)),
    "a NUL in a string": (with_text(b'"a\x00b"'), ("line 2",)),
    "a NUL behind it": (
        GOOD + b"\x00",
        (
            "JSON",
            "column",
        ),
    ),
    "a wrong escape": (with_text(rb'"\x41"'), ("line 2",)),
    "half an escape": (with_text(rb'"\u12"'), ("line 2",)),
    "a lone surrogate": (
        with_text(rb'"\ud800"'),
        (
            "surrogate",
            "line 2",
        ),
    ),
    "a lone low surrogate": (
        with_text(rb'"ab\udc00"'),
        (
            "surrogate",
            "line 2",
        ),
    ),
    "surrogates the wrong way round": (
        with_text(rb'"\ude00\ud83d"'),
        (
            "surrogate",
            "line 2",
        ),
    ),
    "a lone surrogate in the model": (rb'{"model": "\ud800", "messages": [{}]}', ("surrogate",)),
    "a lone surrogate in a key": (rb'{"model": "m", "messages": [{}], "\ud800": 1}', ("surrogate",)),
    "a surrogate as UTF-8": (
        with_text(b'"\xed\xa0\x80"'),
        (
            "UTF-8",
            "line 2",
        ),
    ),
    "Latin-1": (
        with_text('"é"'.encode("latin-1")),
        (
            "UTF-8",
            "line 2",
        ),
    ),
    "GBK": (
        with_text('"你好"'.encode("gbk")),
        (
            "UTF-8",
            "line 2",
        ),
    ),
    "half a character": (
        with_text('"你"'.encode()[:-2] + b'"'),
        (
            "UTF-8",
            "line 2",
        ),
    ),
    "an overlong character": (
        with_text(b'"\xc0\xaf"'),
        (
            "UTF-8",
            "line 2",
        ),
    ),
    "a BOM": (
        b"\xef\xbb\xbf" + GOOD,
        (
            "JSON",
            "line 1, column 1",
        ),
    ),
    "UTF-16": (
        GOOD.decode().encode("utf-16"),
        (
            "JSON",
            "line 1",
        ),
    ),
    "UTF-16 without a BOM": (
        GOOD.decode().encode("utf-16-le"),
        (
            "JSON",
            "line 1",
        ),
    ),
    "UTF-32": (
        GOOD.decode().encode("utf-32"),
        (
            "JSON",
            "line 1",
        ),
    ),
    "gzip that nobody announced": (
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
        (
            "JSON",
            "line 1",
        ),
    ),
    "deep arrays": (with_text(b"[" * 100_000 + b"]" * 100_000), ("deep",)),
    "deep objects": (with_text(b'{"a":' * 50_000 + b"1" + b"}" * 50_000), ("deep",)),
    "deep and open": (b"[" * 200_000, ("JSON",)),
    "deep at the top": (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, ("deep",)),
}

MISTYPED: dict[str, list[Any]] = {
    "model": [None, 1, 1.5, True, [], {}, ["m"], "", " ", "\t\n"],
    "messages": [None, 1, True, "hi", {}, [], {"role": "user"}],
    "messages[0]": [[None], [1], ["hi"], [[]]],
    "messages[1]": [[{}, 3], [{}, None, {}]],
    "stream": ["true", 1, 0, [], {}, 1.0],
}

OUT_OF_RANGE = {
    "temperature": b"1e999",
    "max_tokens": b"9" * 5000,
    "max_completion_tokens": b"-1e400",
    "seed": b"1e310",
}

SELECTORS = {
    "m|n^o": "cannot be mixed",
    "m|m": "repeats an earlier one",
    "m|": "name of a model is missing",
    "[weight=2]m": "joined by `^`",
    "[wieght=2]m^n": "did you mean `weight`",
    "[ttft_timeout=0]m": "above 0",
    "openai-compatible:[x]m": "`[`",
    ":m": "missing before `:`",
    "openai-compatible:": "name of a model is missing",
    "?temperature=1": "name of a model is missing",
    " m": "space",
    "m ": "space",
    "openai-compatible: m": "space",
    "m\n": "U+000A",
    "m\x00": "U+0000",
    "m\u202e": "U+202E",
    "x" * 5000: "4096",
    "m?": "`name=value`",
    "m?temperature": "`name=value`",
    "m?temperature=1&": "`name=value`",
    "m?=1": "missing before `=`",
    "m?seed=1&seed=2": "twice",
    "m?seed=%zz": "two hexadecimal digits",
    "m?seed=%": "two hexadecimal digits",
    "m?seed=%ff": "UTF-8",
    "m?seed=%00": "unprintable",
    "m?temperature=hot": "`temperature` must be a number from 0 to 2",
    "m?temperature=": "`temperature`",
    "m?temperature=nan": "`temperature`",
    "m?temperature=2.1": "`temperature`",
    "m?top_p=-0.1": "`top_p`",
    "m?top_k=1.5": "`top_k`",
    "m?max_tokens=0": "`max_tokens`",
    "m?seed=99999999999999999999": "`seed`",
    "m?reasoning_effort=loud": "`reasoning_effort`",
    "m?temprature=1": "did you mean `temperature`",
    "m?a=1&b=2&c=3&d=4&e=5&f=6&g=7": "2 more",
}

MISROUTED = {"openai-compatibel:m": "did you mean"}

TOO_MUCH = b"x" * (LIMIT + 1)
CHUNKED = "transfer-encoding: chunked\r\n"

OTHERS = {
    "GET on chat": Bad(http(b"", "GET"), 405, ("`GET`", "POST")),
    "PUT on chat": Bad(http(GOOD, "PUT"), 405, ("`PUT`", "POST")),
    "an invented method": Bad(http(GOOD, "BREW"), 405, ("`BREW`", "POST")),
    "OPTIONS": Bad(http(b"", "OPTIONS"), 405, ("`OPTIONS`",)),
    "POST on models": Bad(http(GOOD, path="/v1/models"), 405, ("`POST`", "GET")),
    "an unknown path": Bad(http(GOOD, path="/chat/completions"), 404, ("/chat/completions", "/v1")),
    "the base path twice": Bad(http(GOOD, path="/v1/v1/chat/completions"), 404, ("twice",)),
    "a slash too many": Bad(http(GOOD, path=f"{CHAT}/"), 404, (CHAT,)),
    "two slashes": Bad(http(GOOD, path="//v1//chat/completions"), 404, ("nothing at",)),
    "a NUL in the path": Bad(http(GOOD, path="/v1/%00"), 404, ("nothing at",)),
    "a line break in the path": Bad(http(GOOD, path="/v1/%0d%0ax:%20y"), 404, ("nothing at",)),
    "bytes in the path": Bad(http(GOOD, path="/v1/%ff%fe"), 404, ("nothing at",)),
    "climbing": Bad(http(b"", "GET", "/v1/../../etc/passwd"), 404, ("nothing at",)),
    "a long path": Bad(http(b"", "GET", "/" + "x" * 20_000), 404, ("nothing at",)),
    "another API": Bad(http(GOOD, path="/v1beta/models/m:generateContent"), 404, ("this version speaks",)),
    "a model that is not there": Bad(http(b"", "GET", "/v1/models/%F0%9F%98%80"), 404, ("GET /v1/models",), "model"),
    "text": Bad(http(GOOD, content_type="text/plain"), 415, ("Content-Type",)),
    "a form": Bad(http(GOOD, content_type="multipart/form-data; boundary=x"), 415, ("Content-Type",)),
    "an empty sort": Bad(http(GOOD, content_type="/;;"), 415, ("Content-Type",)),
    "a sort that is no word": Bad(http(GOOD, content_type="\xff\xfe"), 415, ("Content-Type",)),
    "too large, announced": Bad(http(TOO_MUCH), 413, ("`server.max_body_bytes`", str(LIMIT))),
    "too large, in chunks": Bad(
        http(b"%x\r\n%b\r\n0\r\n\r\n" % (len(TOO_MUCH), TOO_MUCH), framing=CHUNKED), 413, ("`server.max_body_bytes`",)
    ),
    "no length at all": Bad(http(b"", framing=""), 400, ("JSON", "line 1")),
    "an empty body in chunks": Bad(http(b"0\r\n\r\n", framing=CHUNKED), 400, ("JSON", "line 1")),
    "a length with zeros": Bad(http(b"[]", framing="content-length: 0002\r\n"), 400, ("object",)),
    "expects 100": Bad(http(b"[]", expect="100-continue"), 400, ("object",)),
    "HTTP/1.0": Bad(http(b"[]").replace(b"HTTP/1.1", b"HTTP/1.0", 1), 400, ("object",)),
    "a foreign host": Bad(http(GOOD, host="evil.example"), 403, ("`Host`", "`server.allowed_hosts`")),
    "an odd host": Bad(http(GOOD, host="[evil"), 403, ("`Host`",)),
    "a foreign origin": Bad(http(GOOD, origin="https://evil.example"), 403, ("origin", "`server.allowed_origins`")),
    "no origin": Bad(http(GOOD, origin="null"), 403, ("origin",)),
    "a foreign page": Bad(http(GOOD, sec_fetch_site="cross-site"), 403, ("web page",)),
    "a forged line": Bad(http(b"", "GET", "/v1/models/x%0A2026-01-01%20INFO"), 404, ("nothing at",)),
}


def bad_json() -> dict[str, Bad]:
    return {name: Bad(http(body), 400, says) for name, (body, says) in JSON_MISTAKES.items()}


def bad_members() -> dict[str, Bad]:
    found = {}
    for member in ("model", "messages"):
        rest = {name: value for name, value in json.loads(GOOD).items() if name != member}
        found[f"without {member}"] = Bad(http(json.dumps(rest).encode()), 400, (f"`{member}` is missing",), member)
    for place, values in MISTYPED.items():
        member = place.partition("[")[0]
        for value in values:
            found[f"{place}: {json.dumps(value)}"] = Bad(http(chat(**{member: value})), 400, (f"`{place}`",), place)
    for member, number in OUT_OF_RANGE.items():
        body = GOOD.replace(b'"temperature"', b'"%b"' % member.encode()).replace(b"0.5", number)
        found[f"a giant {member}"] = Bad(http(body), 400, (f"`{member}`",), member)
    twice = b'{"model": "m", "messages": [{}], "model": 7}'
    found["a second model, mistyped"] = Bad(http(twice), 400, ("`model`", "a string"), "model")
    return found


def bad_selectors() -> dict[str, Bad]:
    told = [(text, 400, said) for text, said in SELECTORS.items()]
    told += [(text, 404, said) for text, said in MISROUTED.items()]
    return {
        f"selector {text[:40]!a}": Bad(http(chat(model=text)), status, (said,), "model") for text, status, said in told
    }


BAD = bad_json() | bad_members() | bad_selectors() | OTHERS


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_refusal_says_what_and_where(gateway: GatewayFactory, log: Log, bad: Bad) -> None:
    async def test() -> None:
        async with gateway(answers, server=ServerConfig(max_body_bytes=LIMIT)) as running:
            seen = await send(running, bad.request)
            assert seen.status == bad.status, seen.raw
            error = error_of(seen)
            for said in bad.says:
                assert said in error["message"]
            assert error["param"] == bad.param
            record = await running.finished()
            assert (record.status, record.outcome) == (bad.status, "rejected")
            assert running.upstream.requests == []
            log.check(access_lines=1)

    asyncio.run(test())


# --- what is odd and still good --------------------------------------------------------------------------------

FINE = {
    "duplicate keys, the last counts": b'{"model": 7, "messages": 1, "model": "m", "messages": [{}]}',
    "giant numbers where nobody looks": chat(x=1).replace(b"1}", b"1e999}"),
    "an empty message": b'{"model":"m","messages":[{}]}',
    "a stream that is null": chat(stream=None),
    "a giant number in a switch of one provider": chat(reasoning_split=1).replace(b"1}", b"1e999}"),
    "an endless integer in a switch of one provider": chat(reasoning_split=10**400),
    "parameters of a wrong type, the upstream's to judge": chat(temperature="hot", max_tokens=[], seed={}),
}


@pytest.mark.parametrize("body", FINE.values(), ids=FINE.keys())
def test_what_is_not_the_gateways_to_judge_goes_up(gateway: GatewayFactory, log: Log, body: bytes) -> None:
    async def test() -> None:
        async with gateway(answers) as running:
            seen = await send(running, http(body))
            assert (seen.status, seen.body) == (200, ANSWER)
            assert running.upstream.requests[0].body == body
            await running.finished()
            log.check(access_lines=1)

    asyncio.run(test())


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"1" * 4000, b"1e-999", b"-0"])
def test_no_number_is_a_bug_of_a_connector(gateway: GatewayFactory, log: Log, number: bytes) -> None:
    """Neither in a request, nor in an answer."""

    async def odd(exchange: Exchange) -> None:
        answer = ANSWER.replace(b'"index":0', b'"index":%b' % number)
        await exchange.reply(200, answer, {"content-type": "application/json"})

    async def test() -> None:
        async with gateway(odd, connector=MiniMax, extra={"api_key": "sk-minimax-key"}) as running:
            body = GOOD.replace(b'"temperature": 0.5', b'"reasoning_split": %b' % number)
            seen = await send(running, http(body))
            assert b"connector_bug" not in seen.body
            assert running.upstream.requests[0].body == body
            await running.finished()
            log.check(access_lines=1)

    asyncio.run(test())


# --- below the application -------------------------------------------------------------------------------------


def line(number: int, wrong: str) -> tuple[str, ...]:
    return (f"line {number} of the request's head", wrong)


REQUEST_LINE = ("line 1", "`METHOD /path HTTP/1.1`")
LENGTH = ("`Content-Length`",)
CODING = ("`Transfer-Encoding`", "`chunked`")

UNREADABLE = {
    "TLS": Bad(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64, 400, ("TLS", "`http://`")),
    "noise": Bad(b"\x00\x01\x02", 400, REQUEST_LINE),
    "an old protocol": Bad(b"GET /\r\n\r\n", 400, REQUEST_LINE),
    "another protocol": Bad(b"EHLO example.org\r\n\r\n", 400, REQUEST_LINE),
    "a space in the path": Bad(http(b"", path="/v1/a b"), 400, REQUEST_LINE),
    "an empty first line": Bad(b"\r\n" + http(GOOD), 400, ("empty line",)),
    "no host": Bad(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 0\r\n\r\n", 400, ("`Host` is missing",)),
    "two hosts": Bad(http(GOOD, framing="host: localhost\r\n"), 400, ("`Host`", "more than once")),
    "a length that is a word": Bad(http(GOOD, framing="content-length: many\r\n"), 400, LENGTH),
    "a negative length": Bad(http(GOOD, framing="content-length: -1\r\n"), 400, LENGTH),
    "an empty length": Bad(http(GOOD, framing="content-length:\r\n"), 400, LENGTH),
    "a giant length": Bad(http(GOOD, framing=f"content-length: {'9' * 30}\r\n"), 400, LENGTH),
    "two lengths": Bad(
        http(GOOD, framing="content-length: 3\r\ncontent-length: 4\r\n"), 400, (*LENGTH, "different numbers")
    ),
    "two lengths in one": Bad(http(GOOD, framing="content-length: 3, 4\r\n"), 400, (*LENGTH, "different numbers")),
    "a length and chunks": Bad(
        http(b"0\r\n\r\n" + http(GOOD), framing=f"content-length: 5\r\n{CHUNKED}"),
        400,
        (*LENGTH, "`Transfer-Encoding`"),
    ),
    "an address without a host": Bad(http(b"", "GET", "http:///v1/models"), 400, ("no host",)),
    "an unknown transfer coding": Bad(http(GOOD, framing="transfer-encoding: gzip\r\n"), 400, CODING),
    "chunked twice": Bad(http(GOOD, framing=CHUNKED + CHUNKED), 400, (*CODING, "more than once")),
    "a NUL in a header": Bad(http(GOOD, framing="x: a\x00b\r\n"), 400, line(4, "0x00")),
    "a bare CR in a header": Bad(http(GOOD, framing="x: a\rb\r\n"), 400, line(4, "0x0d")),
    "a header without a colon": Bad(http(GOOD, framing="what is this\r\n"), 400, line(4, "no colon")),
    "a header without a name": Bad(http(GOOD, framing=": x\r\n"), 400, line(4, "no name")),
    "a space before the colon": Bad(http(GOOD, framing="x : y\r\n"), 400, line(4, "space before its colon")),
    "an odd name": Bad(http(GOOD, framing="x(y): z\r\n"), 400, line(4, "its name")),
    "a header that goes on from nothing": Bad(
        b"GET /v1/models HTTP/1.1\r\n host: localhost\r\n\r\n", 400, line(2, "begins with a space")
    ),
    "a huge header": Bad(http(GOOD, framing=f"x: {'y' * 200_000}\r\n"), 431, ("head", "64 kB")),
    "many headers": Bad(http(GOOD, framing="x: y\r\n" * 40_000), 431, ("head", "64 kB")),
    "a huge path": Bad(http(GOOD, path="/" + "x" * 200_000), 414, ("line 1", "64 kB")),
    "HTTP/2 from the start": Bad(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, ("HTTP/2.0", "HTTP/1.1")),
    "HTTP/2 by name": Bad(http(GOOD).replace(b"HTTP/1.1", b"HTTP/2.0", 1), 400, ("HTTP/2.0", "HTTP/1.1")),
    "HTTP/0.9 by name": Bad(http(GOOD).replace(b"HTTP/1.1", b"HTTP/0.9", 1), 400, ("HTTP/0.9", "HTTP/1.1")),
}

BROKEN_BODIES = {
    "garbage for a chunk": Bad(http(b"zz\r\nnot a chunk\r\n", framing=CHUNKED), 400, ("body", "size")),
    "a negative chunk": Bad(http(b"-5\r\nhello\r\n", framing=CHUNKED), 400, ("body", "size")),
    "a giant chunk": Bad(http(b"f" * 21 + b"\r\nhello\r\n", framing=CHUNKED), 400, ("body", "size")),
    "a chunk longer than it says": Bad(http(b"2\r\nhello\r\n0\r\n\r\n", framing=CHUNKED), 400, ("body", "longer")),
    "a chunk's line without end": Bad(http(b"5" * 200_000, framing=CHUNKED), 400, ("body", "too long")),
    "a bad header after the last chunk": Bad(
        http(b"0\r\nwhat is this\r\n\r\n", framing=CHUNKED), 400, ("body", "after the last chunk")
    ),
}


async def still_serves(running: RunningGateway) -> None:
    seen = await send(running, http(GOOD))
    assert (seen.status, seen.body) == (200, ANSWER)


@pytest.mark.parametrize("bad", (UNREADABLE | BROKEN_BODIES).values(), ids=(UNREADABLE | BROKEN_BODIES).keys())
def test_what_is_no_request_is_refused_as_everything_else(gateway: GatewayFactory, log: Log, bad: Bad) -> None:
    async def test() -> None:
        async with gateway(answers) as running:
            seen = await send(running, bad.request)
            assert seen.status == bad.status, seen.raw
            assert b"connection: close" in seen.head
            error = error_of(seen)
            for said in bad.says:
                assert said in error["message"]
            record = await running.finished()
            assert (record.status, record.outcome) == (bad.status, "rejected")
            assert record.id.encode() in seen.head
            assert error["message"] == record.error
            assert running.upstream.requests == []
            log.check(access_lines=1)
            await still_serves(running)

    asyncio.run(test())


@pytest.mark.parametrize("framing", [f"content-length: 5\r\n{CHUNKED}", f"{CHUNKED}content-length: 5\r\n"])
def test_nothing_is_read_behind_two_lengths(gateway: GatewayFactory, log: Log, framing: str) -> None:
    """What one party takes for the body, another might take for a second request."""

    async def test() -> None:
        async with gateway(answers) as running:
            sent = http(b"0\r\n\r\n" + http(GOOD), framing=framing).replace(b"connection: close\r\n", b"", 1)
            (refusal,) = await converse(running, sent)
            assert refusal.status == 400
            assert running.upstream.requests == []
            log.check(access_lines=1)

    asyncio.run(test())


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://localhost/v1/models", "localhost", 200),
        ("HTTP://LOCALHOST:80/v1/models?x=http://y", "localhost", 200),
        ("http://localhost/v1/models", "evil.example", 200),  # its own host counts, not the header's
        ("http://evil.example/v1/models", "localhost", 403),
        ("http://user@localhost/v1/models", "localhost", 403),
        ("http://localhost", "localhost", 200),
        ("http://localhost?/v1/models", "localhost", 200),
    ],
)
def test_a_target_may_be_a_whole_address(
    gateway: GatewayFactory, log: Log, target: str, host: str, status: int
) -> None:
    async def test() -> None:
        async with gateway(answers) as running:
            assert (await send(running, http(b"", "GET", target, host=host))).status == status
            assert (await running.finished()).path == (
                "/v1/models" if "/v1/models" in target.partition("?")[0] else "/"
            )
            log.check(access_lines=1)

    asyncio.run(test())


def test_the_access_line_names_method_and_path_where_they_can_be_read(gateway: GatewayFactory, log: Log) -> None:
    async def test() -> None:
        async with gateway(answers) as running:
            await send(running, http(GOOD, path=f"{CHAT}?key=sk-MARKER", framing="content-length: sk-MARKER\r\n"))
            record = await running.finished()
            assert (record.method, record.path, record.client) == ("POST", CHAT, "127.0.0.1")
            await send(running, b"GET /v1/models sk-MARKER\r\n\r\n")
            record = await running.finished(2)
            assert (record.method, record.path) == ("", "")
            assert "MARKER" not in str(running.records)
            log.check(access_lines=2)

    asyncio.run(test())


def test_a_bad_head_after_a_good_request_is_refused_too(gateway: GatewayFactory, log: Log) -> None:
    async def test() -> None:
        async with gateway(answers) as running:
            good = http(GOOD).replace(b"connection: close\r\n", b"")
            reader, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rsplit(":", 1)[1]))
            writer.write(good + b"x(y)\r\n\r\n")
            async with asyncio.timeout(PATIENCE):
                assert Seen(await read_answer(reader)).status == 200
                refusal = Seen(await read_answer(reader))
                assert await reader.read() == b""
            assert refusal.status == 400
            assert "line 1" in error_of(refusal)["message"]
            await running.finished(2)
            log.check(access_lines=2)
            await close(writer)

    asyncio.run(test())


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_head_that_breaks_off_is_refused(
    gateway: GatewayFactory, log: Log, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """uvloop tells of the last bytes and of the end at once."""

    async def test() -> None:
        async with gateway(answers) as running:
            seen = await send(running, http(GOOD)[:40], end=True)
            assert seen.status == 400
            assert "breaks off" in error_of(seen)["message"]
            assert (await running.finished()).outcome == "rejected"
            log.check(access_lines=1)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(test())


def send_all_then_read(port: int, sent: bytes) -> Seen:
    """As a simple client does it: one that is reset while it sends never comes to reading."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        sock.sendall(sent)
        parts = iter(lambda: sock.recv(65536), b"")
        return Seen(b"".join(parts))


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\nx: ", http(b"zz\r\n", framing=CHUNKED)], ids=["head", "body"])
def test_a_client_that_sends_on_can_read_its_refusal(gateway: GatewayFactory, log: Log, start: bytes) -> None:
    async def test() -> None:
        async with gateway(answers) as running:
            port = int(running.url.rsplit(":", 1)[1])
            seen = await asyncio.to_thread(send_all_then_read, port, start + b"y" * 20_000_000)
            assert seen.status in (400, 431)
            error_of(seen)
            await running.finished()
            log.check(access_lines=1)

    asyncio.run(test())


def test_a_broken_body_after_the_answer_has_begun_breaks_nothing(gateway: GatewayFactory, log: Log) -> None:
    async def test() -> None:
        async with gateway(answers, auth=AuthConfig((CallerSecret("sk-good-key"),))) as running:
            seen = await send(running, http(b"zz\r\nnot a chunk", framing=CHUNKED))
            assert seen.status == 401
            assert error_of(seen)["code"] == "invalid_api_key"
            assert (await running.finished()).outcome == "rejected"
            log.check(access_lines=1)

    asyncio.run(test())


# --- other protocols -------------------------------------------------------------------------------------------


def upgrading(body: bytes, method: str = "POST", path: str = CHAT, *, to: str) -> bytes:
    """A request to go on in another protocol, on a connection that is to stay."""
    more = {"connection": "upgrade, http2-settings", "upgrade": to, "http2_settings": "AAMAAABkAAQAAP__"}
    more |= {"sec_websocket_key": "dGhlIHNhbXBsZSBub25jZQ==", "sec_websocket_version": "13"}
    return http(body, method, path, **more)


@pytest.mark.parametrize("to", ["h2c", "websocket"])
def test_requests_to_upgrade_are_answered_in_http_1(gateway: GatewayFactory, log: Log, to: str) -> None:
    async def test() -> None:
        async with gateway(answers) as running:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rsplit(":", 1)[1]))
            async with asyncio.timeout(PATIENCE):
                writer.write(upgrading(b"", "GET", "/v1/realtime", to=to))
                refusal = Seen(await read_answer(reader))
                writer.write(upgrading(GOOD, to=to))
                assert Seen(await read_answer(reader)).body == ANSWER
            assert refusal.status == 404
            assert "/v1/realtime" in error_of(refusal)["message"]
            await running.finished(2)
            log.check(access_lines=2)
            await close(writer)

    asyncio.run(test())


@pytest.mark.parametrize(
    "request_bytes", [upgrading(GOOD, to="h2c"), http(GOOD) + b"\r\n"], ids=["asks to upgrade", "sends too much"]
)
def test_such_a_caller_is_missed_when_it_leaves(gateway: GatewayFactory, log: Log, request_bytes: bytes) -> None:
    async def test() -> None:
        asked = asyncio.Event()

        async def says_nothing(exchange: Exchange) -> None:
            asked.set()
            await exchange.hung_up()

        async with gateway(says_nothing) as running:
            _, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rsplit(":", 1)[1]))
            writer.write(request_bytes)
            async with asyncio.timeout(PATIENCE):
                await asked.wait()
            writer.transport.abort()
            assert (await running.finished()).outcome == "client_closed"
            log.check(access_lines=1)

    asyncio.run(test())


@pytest.mark.parametrize("framing", [f"content-length: {len(GOOD) + 1}\r\n", CHUNKED], ids=["length", "chunked"])
def test_a_caller_that_leaves_in_mid_body_is_noted_once(gateway: GatewayFactory, log: Log, framing: str) -> None:
    async def test() -> None:
        async with gateway(answers) as running:
            body = GOOD if framing != CHUNKED else b"%x\r\n%b" % (len(GOOD), GOOD)
            await send(running, http(body, framing=framing), end=True)
            assert (await running.finished()).outcome == "client_closed"
            assert running.upstream.requests == []
            log.check(access_lines=1)

    asyncio.run(test())


# --- generated -------------------------------------------------------------------------------------------------


def against_one_gateway(
    gateway: GatewayFactory, check: Callable[[RunningGateway, Callable[[Coroutine[Any, Any, Any]], Any]], None]
) -> None:
    """Runs a property in a thread; what it awaits runs in the loop of one gateway, so that examples are cheap."""

    async def test() -> None:
        loop = asyncio.get_running_loop()

        def wait(coroutine: Coroutine[Any, Any, Any]) -> Any:
            return asyncio.run_coroutine_threadsafe(coroutine, loop).result(PATIENCE)

        async with gateway(answers, server=ServerConfig(max_body_bytes=LIMIT)) as running:
            await asyncio.to_thread(check, running, wait)

    asyncio.run(test())


many = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def garbled(draw: st.DrawFn, good: bytes) -> bytes:
    """Good bytes with a few of them replaced, put in or taken out."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data) - 1))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
        if not data:
            break
    return bytes(data)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
MEMBERS = st.sampled_from(["model", "messages", "stream", "temperature", "max_tokens", "max_completion_tokens", "seed"])
BODIES = st.one_of(
    st.binary(max_size=60),
    garbled(GOOD),
    st.dictionaries(MEMBERS, JSON_VALUES).map(lambda members: chat(**members)),
    st.text("m:?=&%|^![] \x00é0aF", max_size=12).map(lambda selector: chat(model=selector)),
    st.text(max_size=12).map(lambda name: chat(model=f"openai-compatible:m?{name}=1")),
)


def test_any_body_is_served_or_refused(gateway: GatewayFactory, log: Log) -> None:
    def check(running: RunningGateway, wait: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        finished = 0

        @many
        @given(BODIES)
        def holds(body: bytes) -> None:
            nonlocal finished
            asked = len(running.upstream.requests)
            seen = wait(send(running, http(body)))
            finished += 1
            wait(running.finished(finished))
            log.check(access_lines=1)
            if seen.status == 200:
                sent = len(running.upstream.requests) - asked
                assert sent == 1 or (sent > 1 and b"!" in body)  # only those that race are asked at once
                return
            assert seen.status in (400, 404), seen.raw
            error_of(seen)
            assert len(running.upstream.requests) == asked

        holds()

    against_one_gateway(gateway, check)


HEADERS = [
    b"host: localhost", b"host:", b"Host: 127.0.0.1", b"content-length: 3", b"content-length: 0", b"content-length: x",
    b"transfer-encoding: chunked", b"transfer-encoding: x", b"connection: close", b"connection: upgrade",
    b"upgrade: websocket", b"upgrade: h2c", b"expect: 100-continue", b"expect: x", b"x", b": x", b"x : y", b" x",
    b"x: \x00", b"x: \xff", b"content-type: application/json", b"origin: null", b"authorization: Bearer x",
]  # fmt: skip
FIRST_LINES = [
    b"POST /v1/chat/completions HTTP/1.1", b"GET /v1/models HTTP/1.1", b"GET / HTTP/1.0", b"PRI * HTTP/2.0",
    b"OPTIONS * HTTP/1.1", b"CONNECT x:1 HTTP/1.1", b"GET http://localhost/ HTTP/1.1", b"get / HTTP/1.9", b"GET /", b"",
]  # fmt: skip


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """Lines that heads are made of, good and bad, with either line end, and perhaps something behind them."""
    lines = [draw(st.sampled_from(FIRST_LINES)), *draw(st.lists(st.sampled_from(HEADERS), max_size=6))]
    end = draw(st.sampled_from([b"\r\n", b"\n"]))
    return end.join([*lines, draw(st.sampled_from([b"", b"", b"x"])), draw(st.binary(max_size=8))])


REQUESTS = st.one_of(
    st.binary(min_size=1, max_size=80),
    heads(),
    heads().flatmap(garbled),
    garbled(http(GOOD)),
    garbled(http(b"%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD), framing=CHUNKED)),
    garbled(http(b"", "GET", "/v1/models")),
)


async def converse(running: RunningGateway, sent: bytes) -> list[Seen]:
    """Every answer to these bytes, whole; after them the sender closes its side."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rsplit(":", 1)[1]))
    answers = asyncio.StreamReader()
    async with asyncio.timeout(PATIENCE):
        writer.write(sent)
        writer.write_eof()
        answers.feed_data(await reader.read())
    await close(writer)
    answers.feed_eof()
    seen: list[Seen] = []
    while not answers.at_eof():
        seen.append(Seen(await read_answer(answers)))
    return seen


def test_any_bytes_on_the_socket_are_served_or_refused(gateway: GatewayFactory, log: Log) -> None:
    """Or their sender is taken to have left. Every answer is that of one access line."""

    def check(running: RunningGateway, wait: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        answered: list[tuple[str, int]] = []

        @many
        @given(REQUESTS)
        def holds(sent: bytes) -> None:
            for seen in wait(converse(running, sent)):
                assert seen.status == 200 or 400 <= seen.status < 500, seen.raw
                if seen.status != 200:
                    error_of(seen)
                (own,) = re.findall(r"\r\nx-request-id: (\S+)", seen.head.decode())
                answered.append((own, seen.status))

        holds()
        wait(still_serves(running))
        wait(running.finished(len(answered) + 1))
        told = [(record.id, record.status) for record in running.records]
        assert len(set(told)) == len(told)
        assert set(answered) <= set(told)
        unanswered = [record for record in running.records[:-1] if (record.id, record.status) not in answered]
        assert {record.outcome for record in unanswered} <= {"client_closed"}
        log.check(access_lines=len(told))

    against_one_gateway(gateway, check)
