"""The one HTTP client: sends, streams, times what is sent, and says in our words what went wrong.

httpx-aiohttp's transport is called directly. httpx's own connection pool costs several times the CPU and is dead
after many cancelled streams (encode/httpcore#1093); the client above the transport adds cookies, redirects and
auth that a gateway must not have.
"""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Literal

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from .connectors import HttpReply
from .errors import ConnectorError
from .ownership import unowned

USER_AGENT = f"llmgate/{version('llmgate-core')}"
# Idle connections to an upstream: short enough to be gone before the upstream drops them unannounced.
KEEP_ALIVE_SECONDS = 15.0
# What one read may grow to when it is decompressed: a few bytes can stand for very many.
MAX_INFLATED = 256 * 1024
# A reused connection that fails faster than this was closed before the request was sent.
AT_ONCE_SECONDS = 0.5
# Some upstreams send policies of many kilobytes in a header; aiohttp's own limit is 8 kB.
MAX_HEADER_BYTES = 64 * 1024
# Closed by the upstream: while an answer was awaited, while the request was written, or before.
HUNG_UP = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientConnectionResetError)
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Timeouts:
    """How long an upstream may take, in seconds; None means for ever.

    Args:
        connect: until the connection stands, TLS included.
        first_byte: from the request's first byte until the answer's first body byte.
        idle: between two chunks of the answer.
        total: for the whole of it.
    """

    connect: float | None = 10.0
    first_byte: float | None = 600.0
    idle: float | None = 300.0
    total: float | None = None


class Upstream:
    """All connections to all upstreams of one gateway.

    Args:
        environ: where `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` are looked up.
        connections: upper bound of open connections, 0 for none.
    """

    def __init__(self, environ: Mapping[str, str], *, connections: int = 0) -> None:
        self._proxies = _proxies(environ)
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        self._transports: dict[str | None, AiohttpTransport] = {}

    def client(self, timeouts: Timeouts) -> Client:
        """A view for one backend, with its own timeouts."""
        return Client(self, timeouts)

    def transport(self, url: httpx.URL) -> AiohttpTransport:
        """The transport that leads to `url`: directly, or through the proxy that the environment names."""
        proxy = self._proxy_for(url) if self._proxies else None
        if proxy not in self._transports:
            self._transports[proxy] = AiohttpTransport(
                client=self._open(),
                proxy=httpx.Proxy(proxy) if proxy else None,
                # The session's connector has a context; httpx's own takes 30 ms to make, and is never used.
                verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            )
        return self._transports[proxy]

    async def aclose(self) -> None:
        """Closes every connection."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=KEEP_ALIVE_SECONDS),
                # aiohttp's own jar would hand one caller's upstream cookies to the next caller.
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=[_watch_reuse()],
                max_line_size=MAX_HEADER_BYTES,
                max_field_size=MAX_HEADER_BYTES,
                # trust_env would also read ~/.netrc and send what it finds there; proxies are looked up here.
                trust_env=False,
            )
        return self._session

    def _proxy_for(self, url: httpx.URL) -> str | None:
        if url.host in LOOPBACK_HOSTS or _bypassed(url, self._proxies.get("no", "")):
            return None
        return self._proxies.get(url.scheme) or self._proxies.get("all")


class Client:
    """The HttpClient protocol for one backend."""

    def __init__(self, upstream: Upstream, timeouts: Timeouts) -> None:
        self._upstream = upstream
        self._timeouts = timeouts

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, content: bytes = b""
    ) -> HttpReply:
        """Sends one request and returns at the response headers; see HttpClient."""
        target = _parse_url(url)
        # Both would otherwise be aiohttp's: its name, and an encoding that makes the bytes not the upstream's own.
        request = httpx.Request(
            method,
            target,
            headers={"user-agent": USER_AGENT, "accept-encoding": "identity", **(headers or {})},
            content=content,
            extensions={"timeout": {"connect": self._timeouts.connect, "pool": self._timeouts.connect}},
        )
        clock = Stopwatch(self._timeouts)
        try:
            async with asyncio.timeout(clock.first_byte_left()):
                response = await self._sent(request)
        except TimeoutError:
            raise clock.overdue(_where(target)) from None
        except (httpx.HTTPError, aiohttp.ClientError) as error:
            raise explain(error, target, self._timeouts) from error
        except ValueError as error:  # a header or a proxy that cannot be written down
            raise ConnectorError("unavailable", f"{_where(target)}: the request cannot be sent: {error}") from error
        return _reply(response, _where(target), clock)

    async def _sent(self, request: httpx.Request) -> httpx.Response:
        """Sends; again, when an idle connection turns out to have been closed by the upstream in the meantime.

        A connection that dies at once, without a byte of answer, after it had carried other requests, was dead before:
        nobody has worked on this one. aiohttp takes care of that for GET only. Each turn uses up a pooled connection.
        """
        transport = self._upstream.transport(request.url)
        now = asyncio.get_running_loop().time
        while True:
            _reused.set(False)
            began = now()
            try:
                with unowned():  # a look-up of a name may outlive the request, and the connection does
                    return await transport.handle_async_request(request)
            except (httpx.HTTPError, aiohttp.ClientError) as error:
                gone = isinstance(error.__cause__ or error, HUNG_UP)
                if not (gone and _reused.get() and now() - began < AT_ONCE_SECONDS):
                    raise


_reused: ContextVar[bool] = ContextVar("reused")
"""Whether the connection of the request that this task is sending has carried another one before."""


def _watch_reuse() -> aiohttp.TraceConfig:
    async def note(*_: object) -> None:
        _reused.set(True)

    watch = aiohttp.TraceConfig()
    watch.on_connection_reuseconn.append(note)
    return watch


class Stopwatch:
    """Which of the timeouts applies next, and what to say when it has run out."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._limits = timeouts
        self._now = asyncio.get_running_loop().time
        self._started = self._now()
        self._next = (0.0, 0.0, "", "")

    def first_byte_left(self) -> float | None:
        """Seconds until the first body byte must have come."""
        return self._arm(self._limits.first_byte, self._elapsed(), "no answer within", "first_byte_seconds")

    def idle_left(self) -> float | None:
        """Seconds until the next chunk must have come."""
        return self._arm(self._limits.idle, 0.0, "silent for", "idle_seconds")

    def overdue(self, where: str) -> ConnectorError:
        """The failure, naming the timeout that was armed last and the key that sets it."""
        _, limit, words, key = self._next
        return ConnectorError("timeout", f"{where}: {words} {limit:g} s (`{key}`)")

    def _elapsed(self) -> float:
        return self._now() - self._started

    def _arm(self, limit: float | None, used: float, words: str, key: str) -> float | None:
        # The one that runs out is noted here: a timer may fire a little early (uvloop counts in milliseconds),
        # so the clock cannot tell afterwards.
        ends = []
        if limit is not None:
            ends.append((limit - used, limit, words, key))
        if (total := self._limits.total) is not None:
            ends.append((total - self._elapsed(), total, "not done within", "total_seconds"))
        if not ends:
            return None
        self._next = min(ends)
        return max(0.0, self._next[0])


def explain(error: Exception, url: httpx.URL, timeouts: Timeouts) -> ConnectorError:
    """What happened on the way to `url`, told by the cause: the transport maps nearly all of it to one class."""
    cause = error if isinstance(error, aiohttp.ClientError) else error.__cause__ or error
    where = _where(url)
    match cause:
        case aiohttp.ClientConnectorDNSError():
            return ConnectorError("unavailable", f"{where}: no such host; check the base URL and the network")
        case aiohttp.ClientSSLError():
            return ConnectorError("unavailable", f"{where}: TLS failed: {_tls_reason(cause)}")
        case aiohttp.ConnectionTimeoutError():
            return ConnectorError(
                "timeout", f"{where}: no connection within {timeouts.connect:g} s (`connect_seconds`)"
            )
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return ConnectorError("unavailable", f"{where}: the proxy from the environment does not let it through")
        case aiohttp.ClientConnectorError():
            # Not the error's own text: asyncio puts "Connect call failed" and the address in there.
            reason = os.strerror(cause.os_error.errno) if cause.os_error.errno else "connection failed"
            return ConnectorError("unavailable", f"{where}: {reason[:1].lower() + reason[1:]}; is it running?")
        case _ if isinstance(cause, HUNG_UP):
            return ConnectorError("unavailable", f"{where}: closed the connection without answering")
        case aiohttp.ClientPayloadError():
            return ConnectorError("protocol", f"{where}: cut the answer off")
        case aiohttp.InvalidURL():
            return ConnectorError("unavailable", f"{where}: the base URL is not usable")
        case aiohttp.ClientResponseError():
            return ConnectorError("protocol", f"{where}: what it answered is not HTTP")
    return ConnectorError("protocol", f"{where}: {type(cause).__name__}")


Trouble = Literal["dns", "tls", "timeout", "unreachable", "proxy", "refused", "closed", "not HTTP", "other"]


def trouble(error: BaseException) -> Trouble:
    """What kept a request from being answered, told by the causes of a ConnectorError; `other` where nobody knows."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, aiohttp.ClientError):
        cause = cause.__cause__
    match cause:
        case aiohttp.ClientConnectorDNSError():
            return "dns"
        case aiohttp.ClientSSLError():
            return "tls"
        case aiohttp.ServerTimeoutError():
            return "timeout"
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return "proxy"
        case aiohttp.ClientConnectorError(os_error=ConnectionResetError()):
            return "closed"  # in the midst of the TLS handshake
        case aiohttp.ClientConnectorError(os_error=os_error):
            return "refused" if os_error.errno in (None, errno.ECONNREFUSED) else "unreachable"
        case _ if isinstance(cause, HUNG_UP):
            return "closed"
        case aiohttp.ClientResponseError():
            return "not HTTP"
    return "timeout" if isinstance(error, ConnectorError) and error.kind == "timeout" else "other"


def _where(url: httpx.URL) -> str:
    return f"{url.host}:{url.port or (443 if url.scheme == 'https' else 80)}"


def _tls_reason(error: aiohttp.ClientSSLError) -> object:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return error.certificate_error
    return error.os_error


def _reply(response: httpx.Response, where: str, clock: Stopwatch) -> HttpReply:
    closed = False

    async def aclose() -> None:
        nonlocal closed
        if not closed:
            closed = True
            await response.aclose()

    headers: dict[str, str] = {}
    for name, value in response.headers.multi_items():
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    chunks = _chunks(response, where, clock, aclose)
    encoding = headers.pop("content-encoding", "identity").lower()
    if encoding != "identity":
        chunks = _decompressed(chunks, encoding, where)
    return HttpReply(response.status_code, headers, chunks, aclose)


async def _chunks(
    response: httpx.Response, where: str, clock: Stopwatch, aclose: Callable[[], Awaitable[None]]
) -> AsyncGenerator[bytes, None]:
    stream = response.stream.__aiter__()  # type: ignore[union-attr]
    left = clock.first_byte_left
    try:
        while True:
            async with asyncio.timeout(left()):
                chunk = await anext(stream, None)
            if chunk is None:
                return
            left = clock.idle_left
            yield chunk
    except TimeoutError:
        raise clock.overdue(where) from None
    except (httpx.HTTPError, aiohttp.ClientError) as error:
        raise ConnectorError("protocol", f"{where}: cut the answer off") from error
    finally:
        await aclose()


async def _decompressed(chunks: AsyncGenerator[bytes, None], encoding: str, where: str) -> AsyncGenerator[bytes, None]:
    """For upstreams that compress although `identity` was asked for."""
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise ConnectorError("protocol", f"{where}: answers in the encoding `{encoding[:20]}`, which was not asked for")
    inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    begun = False
    try:
        async for rest in chunks:
            begun = True
            while rest:
                if data := inflate.decompress(rest, MAX_INFLATED):
                    yield data
                rest = inflate.unconsumed_tail
        if data := inflate.flush():
            yield data
        if begun and not inflate.eof:
            raise zlib.error("it ends too early")
    except zlib.error as error:
        raise ConnectorError("protocol", f"{where}: sent broken compressed data") from error
    finally:
        await chunks.aclose()


def _proxies(environ: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for name in ("http", "https", "all", "no"):
        value = environ.get(f"{name}_proxy") or environ.get(f"{name}_proxy".upper())
        if value:
            found[name] = value if name == "no" or "://" in value else f"http://{value}"
    return found if found.keys() - {"no"} else {}


def _bypassed(url: httpx.URL, exceptions: str) -> bool:
    """Whether `NO_PROXY` exempts this host: `*`, a name, or a name and all below it."""
    for entry in exceptions.lower().split(","):
        name = entry.strip().removeprefix("*").lstrip(".")
        if entry.strip() == "*" or (name and (url.host == name or url.host.endswith(f".{name}"))):
            return True
    return False


@lru_cache(maxsize=256)
def _parse_url(url: str) -> httpx.URL:
    try:
        return httpx.URL(url)
    except httpx.InvalidURL:
        raise ConnectorError("unavailable", "the base URL is not usable; check how it is written") from None
