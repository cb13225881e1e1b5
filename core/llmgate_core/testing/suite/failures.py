"""The conformance suite's checks of what goes wrong: kinds of failure, when to come back, and no secret anywhere."""

from __future__ import annotations

import contextlib
import logging
import socket
import traceback
from collections.abc import Iterable, Iterator
from email.utils import formatdate

from ...connectors import UpstreamReply
from ...credentials import Credential, CredentialProvider
from ...errors import ConnectorError, Kind
from ..scripted import Exchange, Script
from .bench import CLOSE_REPLY, CREDENTIAL_SECRET, READ, SEND, Bench, on_a_bench, suite_credential
from .limits import in_time
from .subject import Subject, configured_secrets, described, promise

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
WORDS = "Conformance says no."
HINT_SECONDS = 90


def refusal(status: int, message: str = WORDS, **headers: str) -> Script:
    """Answers `status` with an error of OpenAI's shape; underscores in names of headers stand for `-`."""

    async def script(exchange: Exchange) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        await exchange.reply(status, {"error": {"message": message, "type": None, "code": None}}, named)

    return script


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
        promise(not wrong, f"an upstream's status must decide the kind of failure: {'; '.join(wrong)}")

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
        error = await bench.failure(refusal(429, retry_after=str(HINT_SECONDS)), "answered 429")
        promise(
            error.retry_after == HINT_SECONDS,
            f"`Retry-After: {HINT_SECONDS}` must become retry_after={HINT_SECONDS} seconds, not {error.retry_after}",
        )

    @on_a_bench
    async def test_retry_after_as_a_date(self, bench: Bench) -> None:
        """RFC 9110, section 10.2.3."""
        dates = {
            "retry_after": formatdate(self.now + HINT_SECONDS, usegmt=True),
            "date": formatdate(self.now, usegmt=True),
        }
        error = await bench.failure(refusal(429, **dates), "answered 429")
        promise(
            error.retry_after is not None and abs(error.retry_after - HINT_SECONDS) <= 1,
            f"a `Retry-After` with a date {HINT_SECONDS} seconds ahead of `instance.clock` must become "
            f"retry_after={HINT_SECONDS} seconds, not {error.retry_after}",
        )

    @on_a_bench
    async def test_dead_host(self, bench: Bench) -> None:
        """An upstream that is not there is unavailable."""
        with _taken_port() as port:
            url = f"http://127.0.0.1:{port}/v1"
            call = bench.call(credential=suite_credential(url))
            connector = self.connector(self.instance(bench.wire, bench.instance.home, url))
            try:
                reply = await in_time(connector.send(call), SEND)
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
    async def test_cut_off_stream_raises(self, bench: Bench) -> None:
        """Half an answer is not an answer."""

        async def cut(exchange: Exchange) -> None:
            await exchange.sse(*self.speech().events[:2])
            exchange.cut()

        bench.upstream.script = cut
        reply = await bench.answered(bench.call(stream=True))
        try:
            await in_time(_read(reply), READ)
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


async def _read(reply: UpstreamReply) -> None:
    async for _ in reply.chunks:
        pass


@contextlib.contextmanager
def _taken_port() -> Iterator[int]:
    """A port that nobody listens on, and that nobody can take meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


class SecretChecks(Subject):
    """Secrets stay where they are."""

    @on_a_bench
    async def test_errors_hold_no_secret(self, bench: Bench) -> None:
        """Not in a text, not in a field, not in a cause; not even where the upstream echoes what it got."""
        message = f"{WORDS} You sent: {bench.credential.headers}"
        for status in KINDS_BY_STATUS:
            error = await bench.failure(refusal(status, message), f"answered {status}")
            promise(
                not _shown(_all_of(error), bench.credential.secrets()),
                f"an error must not hold the credential (see `Credential.strike`); the one for {status} does",
            )

        async def credential() -> Credential:
            return bench.credential

        try:
            await in_time(bench.connector.models(credential), "`models()`")
        except Exception as error:
            promise(
                not _shown(_all_of(error), bench.credential.secrets()),
                "an error must not hold the credential (see `Credential.strike`); that of `models()` does",
            )

    @on_a_bench
    async def test_reprs_hold_no_secret(self, bench: Bench) -> None:
        """What is printed by accident shows nothing."""
        provider = bench.connector.credentials()
        parts: dict[str, object] = {
            "the connector": bench.connector,
            "its settings": bench.instance.settings,
            "its credential provider": provider,
            "its retry policy": bench.connector.retry(),
        }
        secrets = [*configured_secrets(bench.instance.settings, self.environ), *bench.credential.secrets()]
        if (own := await _credential_of(provider)) is not None:
            parts["its credential"] = own
            secrets += own.secrets()
        await bench.read(bench.call())
        leaky = [name for name, part in parts.items() if _shown((repr(part), str(part)), secrets)]
        promise(not leaky, f"no `repr()` must show a secret; that of {', '.join(leaky)} does")

    @on_a_bench
    async def test_log_records_hold_no_secret(self, bench: Bench) -> None:
        """Whatever happens and whatever the level is."""
        secrets = [*configured_secrets(bench.instance.settings, self.environ), CREDENTIAL_SECRET]
        if (own := await _credential_of(bench.connector.credentials())) is not None:
            secrets += own.secrets()
        for script in (self.speech().script, refusal(401, f"You sent {CREDENTIAL_SECRET}"), refusal(503)):
            bench.upstream.script = script
            for stream in (False, True):
                with contextlib.suppress(Exception):  # told by the other checks
                    await bench.read(bench.call(stream=stream))
        leaky = {record.name for record in bench.records if _shown((_logged(record),), secrets)}
        promise(not leaky, f"no log record must hold a secret; one of logger {', '.join(sorted(leaky))} does")


async def _credential_of(provider: CredentialProvider) -> Credential | None:
    try:
        found = await in_time(provider.get(), "`credentials().get()`")
    except Exception:
        return None  # told by test_credentials_are_got
    return found if isinstance(found, Credential) else None


def _shown(texts: Iterable[str], secrets: Iterable[str]) -> bool:
    told = "\n".join(texts)
    return any(secret in told for secret in secrets)


def _all_of(error: BaseException) -> Iterator[str]:
    """Everything that an error says: texts, fields, and the same of what it was raised from."""
    yield from traceback.format_exception(error)
    seen: set[int] = set()
    ahead: list[BaseException | None] = [error]
    while ahead:
        one = ahead.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield f"{one!r} {vars(one)}"
            ahead += [one.__cause__, one.__context__]


def _logged(record: logging.LogRecord) -> str:
    return f"{logging.Formatter().format(record)} {record.args}"
