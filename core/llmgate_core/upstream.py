"""The one HTTP client: sends, streams, times what is sent, and says in our words what went wrong.

httpx-aiohttp's transport is called directly. httpx's own connection pool costs several times the CPU and is dead
after many cancelled streams (encode/httpcore#1093); the client above the transport adds cookies, redirects and
auth that a gateway must not have.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from .connectors import HttpReply
from .errors import ConnectorError

USER_AGENT = f"llmgate/{version('llmgate-core')}"
# Idle connections to an upstream: short enough to be gone before the upstream drops them unannounced.
KEEP_ALIVE_SECONDS = 15.0
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
            self._transports[proxy] = AiohttpTransport(client=self._open(), proxy=httpx.Proxy(proxy) if proxy else None)
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
                response = await self._upstream.transport(target).handle_async_request(request)
        except TimeoutError:
            raise clock.overdue(target.host, "no answer") from None
        except httpx.HTTPError as error:
            raise explain(error, target, self._timeouts) from error
        return _reply(response, target.host, clock)


class Stopwatch:
    """Which of the timeouts applies next, and what to say when it has run out."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._limits = timeouts
        self._now = asyncio.get_running_loop().time
        self._started = self._now()

    def first_byte_left(self) -> float | None:
        """Seconds until the first body byte must have come."""
        return self._least(self._limits.first_byte, since_start=True)

    def idle_left(self) -> float | None:
        """Seconds until the next chunk must have come."""
        return self._least(self._limits.idle, since_start=False)

    def overdue(self, host: str, what: str) -> ConnectorError:
        """The failure, naming the timeout and the key that sets it."""
        limits, elapsed = self._limits, self._now() - self._started
        if limits.total is not None and elapsed >= limits.total:
            return ConnectorError("timeout", f"{host}: not done within {limits.total:g} s (`total_seconds`)")
        if what == "silence":
            return ConnectorError("timeout", f"{host}: silent for {limits.idle:g} s (`idle_seconds`)")
        return ConnectorError("timeout", f"{host}: no answer within {limits.first_byte:g} s (`first_byte_seconds`)")

    def _least(self, limit: float | None, *, since_start: bool) -> float | None:
        elapsed = self._now() - self._started
        candidates = []
        if limit is not None:
            candidates.append(limit - elapsed if since_start else limit)
        if self._limits.total is not None:
            candidates.append(self._limits.total - elapsed)
        return max(0.0, min(candidates)) if candidates else None


def explain(error: Exception, url: httpx.URL, timeouts: Timeouts) -> ConnectorError:
    """What happened on the way to `url`, told by the cause: the transport maps nearly all of it to one class."""
    cause, where = (
        error.__cause__ or error,
        f"{url.host}:{url.port or (443 if url.scheme == 'https' else 80)}",
    )
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
            reason = cause.os_error.strerror or "connection failed"
            return ConnectorError("unavailable", f"{where}: {reason[:1].lower() + reason[1:]}; is it running?")
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
            return ConnectorError("unavailable", f"{where}: closed the connection without answering")
        case aiohttp.ClientPayloadError():
            return ConnectorError("protocol", f"{where}: cut the answer off")
        case aiohttp.InvalidURL():
            return ConnectorError("unavailable", f"{where}: the base URL is not usable")
    return ConnectorError("protocol", f"{where}: {type(cause).__name__}")


def _tls_reason(error: aiohttp.ClientSSLError) -> object:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return error.certificate_error
    return error.os_error


def _reply(response: httpx.Response, host: str, clock: Stopwatch) -> HttpReply:
    closed = False

    async def aclose() -> None:
        nonlocal closed
        if not closed:
            closed = True
            await response.aclose()

    headers: dict[str, str] = {}
    for name, value in response.headers.multi_items():
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    chunks = _chunks(response, host, clock, aclose)
    encoding = headers.pop("content-encoding", "identity").lower()
    if encoding != "identity":
        chunks = _decompressed(chunks, encoding, host)
    return HttpReply(response.status_code, headers, chunks, aclose)


async def _chunks(
    response: httpx.Response, host: str, clock: Stopwatch, aclose: Callable[[], Awaitable[None]]
) -> AsyncGenerator[bytes, None]:
    stream = response.stream.__aiter__()  # type: ignore[union-attr]
    left, what = clock.first_byte_left, "no answer"
    try:
        while True:
            async with asyncio.timeout(left()):
                chunk = await anext(stream, None)
            if chunk is None:
                return
            left, what = clock.idle_left, "silence"
            yield chunk
    except TimeoutError:
        raise clock.overdue(host, what) from None
    except httpx.HTTPError as error:
        raise ConnectorError("protocol", f"{host}: cut the answer off") from error
    finally:
        await aclose()


async def _decompressed(chunks: AsyncGenerator[bytes, None], encoding: str, host: str) -> AsyncGenerator[bytes, None]:
    """For upstreams that compress although `identity` was asked for."""
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise ConnectorError("protocol", f"{host}: answers in the encoding `{encoding[:20]}`, which was not asked for")
    inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        async for chunk in chunks:
            if data := inflate.decompress(chunk):
                yield data
    except zlib.error as error:
        raise ConnectorError("protocol", f"{host}: sent broken compressed data") from error
    finally:
        await chunks.aclose()


def _proxies(environ: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for name in ("http", "https", "all", "no"):
        value = environ.get(f"{name}_proxy") or environ.get(f"{name}_proxy".upper())
        if value:
            found[name] = value
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
    return httpx.URL(url)
