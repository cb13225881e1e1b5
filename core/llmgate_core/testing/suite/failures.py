"""The conformance suite's checks of what goes wrong: kinds of failure, when to come back, and no secret anywhere."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator
from email.utils import formatdate
from itertools import product

from ...connectors import UpstreamReply
from ...errors import ConnectorError, Kind
from ..scripted import Exchange, Script
from .bench import CLOSE_REPLY, READ, SEND, WORDS, Bench, on_a_bench, read_whole, refusal, suite_credential
from .instruments import far_from_greenwich
from .limits import in_time
from .subject import Subject, described, promise

KINDS_BY_STATUS: dict[int, Kind] = {
    400: "bad_request",
    401: "auth",
    402: "quota",
    403: "denied",
    404: "not_found",
    408: "timeout",
    413: "bad_request",
    422: "bad_request",
    429: "rate_limited",
    500: "unavailable",
    502: "unavailable",
    503: "unavailable",
    504: "timeout",
    529: "unavailable",
}
STREAMED = (400, 401, 429, 503)
"""Those that are tried with streamed calls too."""
HINT_SECONDS = 90
HINTING = (429, 503)
"""Those that come with a `Retry-After`."""
ODD_STATUSES = (418, 500, 520)
ODD_BODIES = {  # the page is longer than what is read from a socket at once, and then once more
    "no body": b"",
    "a long HTML page": b"<html><head><title>Oops</title></head>" + b"<p>Try again later.</p>\n" * 60_000,
    "`[]`": b"[]",
    "`null`": b"null",
    "bytes that are no UTF-8": b'\xff\xfe{"error": "\x80"}',
}
MAX_OPEN = 2
"""Connections that a connector may keep for the next call, where no two calls were at the same time."""


class FailureChecks(Subject):
    """What a failure means."""

    @on_a_bench
    async def test_failure_kinds(self, bench: Bench) -> None:
        """The status decides about the kind; only words that a connector knows may refine it."""
        wrong = []
        for status, kind in KINDS_BY_STATUS.items():
            error = await bench.failure(refusal(status), f"answered {status}")
            if (error.kind, error.status) != (kind, status):
                wrong.append(f"{status} is `{kind}`, not `{error.kind}` (its `status`: {error.status})")
        for status in STREAMED:
            error = await bench.failure(refusal(status), f"answered {status} to a streamed call", stream=True)
            if error.kind != KINDS_BY_STATUS[status]:
                wrong.append(f"{status} is `{KINDS_BY_STATUS[status]}` for a streamed call too, not `{error.kind}`")
        promise(not wrong, f"an upstream's status must decide the kind of failure: {'; '.join(wrong)}")

    @on_a_bench
    async def test_any_failure_is_told(self, bench: Bench) -> None:
        """What stands before an upstream, such as a proxy, answers in forms of its own."""
        for status, (form, body) in product(ODD_STATUSES, ODD_BODIES.items()):
            error = await bench.failure(_odd(status, body), f"answered {status} with {form}")
            promise(
                error.status == status,
                f"an error's `status` must be the upstream's: it is {error.status} for {status} with {form}",
            )
        count = await bench.left_open(MAX_OPEN)
        promise(
            count <= MAX_OPEN,
            "`send()` must close the reply that it makes an error of, or read all of it; "
            f"{count} connections are left open after {len(ODD_STATUSES) * len(ODD_BODIES)} errors",
        )

    @on_a_bench
    async def test_failure_begins_with_the_upstreams_words(self, bench: Bench) -> None:
        """Clients match on them."""
        error = await bench.failure(refusal(400), "answered 400")
        promise(
            error.message.startswith(WORDS) and str(error).startswith(WORDS),
            "the upstream's own words must stand at the beginning of the error's message, word for word",
        )

    @on_a_bench
    async def test_retry_after_in_seconds(self, bench: Bench) -> None:
        """RFC 9110, section 10.2.3."""
        for status in HINTING:
            error = await bench.failure(refusal(status, retry_after=str(HINT_SECONDS)), f"answered {status}")
            promise(
                error.retry_after == HINT_SECONDS,
                f"`Retry-After: {HINT_SECONDS}` must become retry_after={HINT_SECONDS} seconds, not "
                f"{error.retry_after!r}, where the status is {status}",
            )

    @on_a_bench
    async def test_retry_after_as_a_date(self, bench: Bench) -> None:
        """RFC 9110, section 10.2.3."""
        dates = {
            "retry_after": formatdate(self.now + HINT_SECONDS, usegmt=True),
            "date": formatdate(self.now, usegmt=True),
        }
        for status in HINTING:
            with far_from_greenwich():
                error = await bench.failure(refusal(status, **dates), f"answered {status}")
            promise(
                isinstance(error.retry_after, int | float) and abs(error.retry_after - HINT_SECONDS) <= 1,
                f"a `Retry-After` with a date {HINT_SECONDS} seconds ahead of `instance.clock` must become "
                f"retry_after={HINT_SECONDS} seconds in any time zone, not {error.retry_after!r}, where the status is "
                f"{status}",
            )

    @on_a_bench
    async def test_dead_host(self, bench: Bench) -> None:
        """An upstream that is not there is unavailable."""
        with dead_end(bench) as send:
            try:
                reply = await in_time(send(), SEND)
            except ConnectorError as error:
                kind = error.kind
            except Exception as error:
                raise AssertionError(
                    "where nobody listens `send()` must raise `ConnectorError` of kind `unavailable`, "
                    f"and raised {described(error)}"
                ) from error
            else:
                await in_time(reply.aclose(), CLOSE_REPLY)
                raise AssertionError("where nobody listens `send()` must raise `ConnectorError`, and returned")
        promise(kind == "unavailable", f"where nobody listens the kind must be `unavailable`, not `{kind}`")

    @on_a_bench
    async def test_cut_off_plain_answer_raises(self, bench: Bench) -> None:
        """Half an answer is not an answer."""
        whole = self.speech().reply

        async def cut(exchange: Exchange) -> None:
            await exchange.head(200, {"content-type": "application/json", "content-length": str(len(whole))})
            await exchange.raw(whole[: len(whole) // 2])
            exchange.cut()

        bench.upstream.script = cut
        raised: BaseException | None = None
        try:
            reply = await in_time(bench.connector.send(bench.call()), SEND)
            try:
                await in_time(read_whole(reply), READ)
            finally:
                await in_time(reply.aclose(), CLOSE_REPLY)
        except Exception as error:
            raised = error
        promise(
            isinstance(raised, ConnectorError),
            "a plain answer that is cut off must raise `ConnectorError`, and "
            f"{f'raised {described(raised)}' if raised else 'ended as if it were whole'}",
        )

    @on_a_bench
    async def test_cut_off_stream_raises(self, bench: Bench) -> None:
        """Half an answer is not an answer."""

        async def cut(exchange: Exchange) -> None:
            await exchange.sse(*self.speech().events[:2])
            exchange.cut()

        bench.upstream.script = cut
        reply = await bench.answered(bench.call(stream=True))
        try:
            await in_time(read_whole(reply), READ)
        except ConnectorError as error:
            promise(
                error.kind == "protocol", f"a stream that is cut off must be of kind `protocol`, not `{error.kind}`"
            )
        except Exception as error:
            raise AssertionError(
                f"a stream that is cut off must raise `ConnectorError`, and raised {described(error)}"
            ) from error
        else:
            raise AssertionError("a stream that is cut off must raise `ConnectorError`, and ended as if it were whole")
        finally:
            await in_time(reply.aclose(), CLOSE_REPLY)


def _odd(status: int, body: bytes) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.reply(status, body, {"content-type": "text/html" if b"<html" in body else "application/json"})

    return script


@contextlib.contextmanager
def dead_end(bench: Bench) -> Iterator[Callable[[], Awaitable[UpstreamReply]]]:
    """Sends a call to where nobody listens, and nobody can take the port meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        subject = bench.subject
        connector = subject.connector(subject.instance(bench.wire, bench.instance.home, url))
        call = bench.call(credential=suite_credential(url))
        yield lambda: connector.send(call)
