"""The conformance suite's checks that secrets stay where they are: not in errors, reprs, logs or warnings."""

from __future__ import annotations

import contextlib
import logging
import traceback
import warnings
from collections.abc import Awaitable, Iterable, Iterator

from ...credentials import Credential, CredentialProvider
from ..scripted import Exchange, Script
from .bench import CREDENTIAL_SECRET, SEND, WORDS, Bench, close_quietly, on_a_bench, refusal
from .failures import KINDS_BY_STATUS, dead_end
from .limits import in_time
from .subject import Subject, configured_secrets, promise


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

        with dead_end(bench) as send:
            await self._raises_no_secret(bench, in_time(send(), SEND), "for a dead host")
        bench.upstream.script = _cut_off(self)
        await self._raises_no_secret(bench, bench.read(bench.call(stream=True)), "for a stream that is cut off")
        bench.upstream.script = refusal(401, message)
        await self._raises_no_secret(bench, _models(bench), "of `models()`")

    async def _raises_no_secret(self, bench: Bench, call: Awaitable[object], which: str) -> None:
        try:
            await call
        except Exception as error:
            promise(
                not _shown(_all_of(error), bench.credential.secrets()),
                f"an error must not hold the credential (see `Credential.strike`); that {which} does",
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
        with contextlib.suppress(Exception):  # told by test_credentials_tell_their_status
            parts["its credential's status"] = provider.status()
        await bench.read(bench.call())
        leaky = [name for name, part in parts.items() if _shown((repr(part), str(part)), secrets)]
        promise(not leaky, f"no `repr()` must show a secret; that of {', '.join(leaky)} does")

    @on_a_bench
    async def test_log_records_hold_no_secret(self, bench: Bench) -> None:
        """Whatever happens and whatever the level is."""
        secrets = [*configured_secrets(bench.instance.settings, self.environ), CREDENTIAL_SECRET]
        if (own := await _credential_of(bench.connector.credentials())) is not None:
            secrets += own.secrets()
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            await self._live(bench)
        leaky = {f"logger {record.name}" for record in bench.records if _shown((_logged(record),), secrets)}
        leaky |= {"the warnings" for warning in warned if _shown((str(warning.message),), secrets)}
        promise(not leaky, f"no log record and no warning must hold a secret; one of {', '.join(sorted(leaky))} does")

    async def _live(self, bench: Bench) -> None:
        """All that a connector does, until it is closed; how it does, other checks tell."""
        echo = refusal(401, f"You sent {CREDENTIAL_SECRET}")
        for script in (self.speech().script, echo, refusal(503), _cut_off(self)):
            bench.upstream.script = script
            for stream in (False, True):
                with contextlib.suppress(Exception):
                    await bench.read(bench.call(stream=stream))
        bench.upstream.script = self.speech().script
        with contextlib.suppress(Exception):
            await _models(bench)
        await close_quietly(bench.connector)


async def _credential_of(provider: CredentialProvider) -> Credential | None:
    try:
        found = await in_time(provider.get(), "`credentials().get()`")
    except Exception:
        return None  # told by test_credentials_are_got
    return found if isinstance(found, Credential) else None


def _cut_off(subject: Subject) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.sse(*subject.speech().events[:2])
        exchange.cut()

    return script


async def _models(bench: Bench) -> object:
    async def credential() -> Credential:
        return bench.credential

    return await in_time(bench.connector.models(credential), "`models()`")


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
    """All that a record says, also what it holds for handlers that write members of their own."""
    own = {name: value for name, value in vars(record).items() if name not in _USUAL}
    return f"{logging.Formatter().format(record)} {record.args} {own}"


_USUAL = {*vars(logging.makeLogRecord({})), "message", "asctime"}
