"""The conformance suite's checks of what goes up and what comes back: request, stream, models."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import Sequence

from ...connectors import ModelInfo
from ...credentials import Credential
from ...errors import ConnectorError
from ..scripted import Exchange, ReceivedRequest, Script, ScriptedUpstream
from .bench import CLOSE_REPLY, Bench, base_url, on_a_bench, suite_credential
from .instruments import SPEECHES, Speech, speaking
from .limits import in_time
from .subject import Subject, described, promise

UNKNOWN = {"x_conformance": {"deep": [1e2, "世界", None, {"a": False}]}, "x_flag": 0}
CALLERS_OWN = "conformance-caller-71f3"
CUTS = (None, 1, 2, 3, 5, 7, 64)
"""Sizes in bytes; 1 to 3 cut inside UTF-8 characters, None leaves the pieces as the upstream sent them."""


class RequestChecks(Subject):
    """What the upstream receives."""

    @on_a_bench
    async def test_request_carries_model_and_unknown_fields(self, bench: Bench) -> None:
        """What the caller asked for arrives, also what the connector has never heard of."""
        await bench.read(bench.call(added=UNKNOWN))
        body = _only(bench.upstream).json()
        promise(body.get("model") == self.model, "the body's `model` must reach the upstream as it is")
        lost = [f"`{name}`" for name, value in UNKNOWN.items() if name not in body or body[name] != value]
        promise(not lost, f"fields that the connector does not know must reach the upstream; lost: {', '.join(lost)}")

    @on_a_bench
    async def test_request_leaves_the_callers_body_alone(self, bench: Bench) -> None:
        """The same body may be needed for the next attempt."""
        call = bench.call(added=UNKNOWN)
        data, raw = copy.deepcopy(call.body.data), call.body.bytes
        await bench.read(call)
        promise(
            call.body.data == data and call.body.bytes == raw,
            "`send()` must not change `call.body`: another attempt may need it; use `splice`",
        )

    @on_a_bench
    async def test_request_uses_the_credentials_headers(self, bench: Bench) -> None:
        """What proves who we are arrives."""
        await bench.read(bench.call())
        received = _only(bench.upstream).headers
        lost = [f"`{name}`" for name, value in bench.credential.headers.items() if received.get(name) != value]
        promise(not lost, f"the headers of `call.credential` must reach the upstream; lost: {', '.join(lost)}")

    @on_a_bench
    async def test_request_goes_to_the_credentials_base_url(self, bench: Bench) -> None:
        """A credential may be valid in one place only."""
        async with ScriptedUpstream(self.speech().script) as elsewhere:
            await bench.read(bench.call(credential=suite_credential(base_url(elsewhere))))
            promise(
                len(elsewhere.requests) == 1 and not bench.upstream.requests,
                "the base URL of `call.credential` must come before that of the settings",
            )

    @on_a_bench
    async def test_request_goes_to_the_settings_base_url(self, bench: Bench) -> None:
        """Where the credential names no place, the settings do."""
        if self.has_setting("base_url"):
            await bench.read(bench.call(credential=suite_credential(None)))
            promise(
                len(bench.upstream.requests) == 1,
                "the settings' `base_url` must be used where `call.credential` has none",
            )

    @on_a_bench
    async def test_request_keeps_the_callers_credential_out(self, bench: Bench) -> None:
        """The caller's key is for the gateway, not for the upstream."""
        await bench.read(bench.call(headers={"authorization": f"Bearer {CALLERS_OWN}"}))
        promise(
            CALLERS_OWN not in repr(_only(bench.upstream)),
            "the credential's headers must take the place of the caller's: the caller's own credential went up",
        )

    @on_a_bench
    async def test_request_is_sent_once(self, bench: Bench) -> None:
        """Retrying is core's: a connector that retries too multiplies the attempts."""

        async def busy(exchange: Exchange) -> None:
            await exchange.reply(503, {"error": {"message": "busy"}}, {"retry-after": "0"})

        await bench.failure(busy, "answered 503")
        count = len(bench.upstream.requests)
        promise(count == 1, f"`send()` must never retry, and sent {count} requests for one call")


class AnswerChecks(Subject):
    """What the caller gets."""

    @on_a_bench
    async def test_plain_answer_passes_untouched(self, bench: Bench) -> None:
        """Nobody encodes anew what nobody changed."""
        promise(
            await bench.read(bench.call()) == self.mended(self.speech().reply, stream=False),
            "the bytes of a plain answer must pass untouched (or say in `mended` what becomes of them)",
        )

    @on_a_bench
    async def test_stream_passes_untouched_for_any_cut(self, bench: Bench) -> None:
        """A network cuts where it likes, also inside a character."""
        for size in CUTS:
            bench.wire.size = size
            promise(
                await bench.read(bench.call(stream=True)) == self.mended(b"".join(self.speech().events), stream=True),
                "the bytes of a stream must pass untouched for any cut (or say in `mended` what becomes of them); "
                f"they did not {'as they came' if size is None else f'in pieces of {size} bytes'}",
            )

    @on_a_bench
    async def test_stream_begins_before_it_ends(self, bench: Bench) -> None:
        """The first chunk arrives before the last is sent."""
        arrived = asyncio.Event()

        async def slow(exchange: Exchange) -> None:
            await exchange.sse(*self.speech().events[:2])
            await arrived.wait()
            await exchange.sse(*self.speech().events[2:])

        bench.upstream.script = slow
        try:
            async with asyncio.timeout(self.patience):
                reply = await bench.answered(bench.call(stream=True))
                first = await anext(reply.chunks, b"")
        except TimeoutError:
            first = b""
        promise(bool(first), "the first chunk of a stream must arrive before the last is sent: it was held back")
        arrived.set()
        await in_time(reply.aclose(), CLOSE_REPLY)

    @on_a_bench
    async def test_aclose_hangs_up(self, bench: Bench) -> None:
        """A caller that has gone costs nothing any more, before the first chunk and after it."""
        for read in (False, True):
            gone = asyncio.Event()
            bench.upstream.script = _endless(gone, self.speech())
            reply = await bench.answered(bench.call(stream=True))
            if read:
                with contextlib.suppress(TimeoutError):  # told by test_stream_begins_before_it_ends
                    await asyncio.wait_for(anext(reply.chunks, b""), self.patience)
            await in_time(reply.aclose(), CLOSE_REPLY)
            try:
                await asyncio.wait_for(gone.wait(), self.patience)
            except TimeoutError:
                when = "in the middle of a stream" if read else "also where no chunk was read"
                raise AssertionError(f"`UpstreamReply.aclose()` must hang up on the upstream, {when}") from None

    @on_a_bench
    async def test_aclose_may_be_called_twice(self, bench: Bench) -> None:
        """Who closes need not know who has closed."""
        reply = await bench.answered(bench.call(stream=True))
        await in_time(reply.aclose(), CLOSE_REPLY)
        try:
            await in_time(reply.aclose(), CLOSE_REPLY)
        except Exception as error:
            raise AssertionError(
                f"`UpstreamReply.aclose()` must be safe to call twice, and raised {described(error)}"
            ) from error


class DialectChecks(Subject):
    """What `dialects` names beside the dialect of all other checks."""

    @on_a_bench
    async def test_declared_dialects_are_spoken(self, bench: Bench) -> None:
        """Callers of each declared dialect reach the upstream where that API is, and hear it as it speaks.

        The upstream of this check speaks each dialect on its usual path, and the wanted one on paths that nobody knows.
        """
        declared = getattr(bench.connector, "dialects", ())
        for dialect in sorted(SPEECHES.keys() & {*declared} - {self.dialect()}):
            bench.upstream.script = speaking(dialect)
            await self._is_heard(bench, dialect)
            await self._is_answered(bench, dialect)
            await self._is_cut_off(bench, dialect)

    async def _is_heard(self, bench: Bench, dialect: str) -> None:
        bench.upstream.requests.clear()
        promise(
            await bench.read(bench.call(dialect=dialect, added=UNKNOWN))
            == self.mended(SPEECHES[dialect].reply, stream=False),
            f"`dialects` has `{dialect}`, so such a request must go where the upstream speaks it, and its plain answer "
            "must pass untouched",
        )
        received = _only(bench.upstream)
        sent = {"model": self.model, **UNKNOWN}
        arrived = received.json()
        lost = [f"`{name}`" for name, value in sent.items() if name not in arrived or arrived[name] != value]
        promise(not lost, f"what a caller of `{dialect}` sends must reach the upstream; lost: {', '.join(lost)}")
        headers = bench.credential.headers.items()
        promise(
            all(received.headers.get(name) == value for name, value in headers),
            f"the headers of `call.credential` must reach the upstream in `{dialect}` too",
        )

    async def _is_answered(self, bench: Bench, dialect: str) -> None:
        wanted = self.mended(b"".join(SPEECHES[dialect].events), stream=True)
        for size in (None, 1, 64):
            bench.wire.size = size
            promise(
                await bench.read(bench.call(dialect=dialect, stream=True)) == wanted,
                f"`dialects` has `{dialect}`, so the bytes of its streams must pass untouched for any cut",
            )
        bench.wire.size = None

    async def _is_cut_off(self, bench: Bench, dialect: str) -> None:
        async def cut(exchange: Exchange) -> None:
            await exchange.sse(*SPEECHES[dialect].events[:2])
            exchange.cut()

        bench.upstream.script = cut
        try:
            await bench.read(bench.call(dialect=dialect, stream=True))
        except ConnectorError:
            return
        except AssertionError:
            raise
        except Exception as error:
            raise AssertionError(
                f"a cut-off stream must raise `ConnectorError`, and raised {described(error)}"
            ) from None
        raise AssertionError(f"a stream of `{dialect}` that is cut off must raise, and ended as if it were whole")


class ModelsChecks(Subject):
    """What can be asked for."""

    @on_a_bench
    async def test_models(self, bench: Bench) -> None:
        """A list of models, or one way to say that there is none."""

        async def credential() -> Credential:
            return bench.credential

        try:
            found = await in_time(bench.connector.models(credential), "`models()`")
        except ConnectorError:
            return
        except Exception as error:
            raise AssertionError(
                f"`models()` must raise `ConnectorError` and nothing else, and raised {described(error)}"
            ) from error
        promise(
            isinstance(found, Sequence) and all(isinstance(one, ModelInfo) and one.id for one in found),
            "`models()` must return a sequence of `ModelInfo`, each with an `id`",
        )

    @on_a_bench
    async def test_facts_are_model_info_or_nothing(self, bench: Bench) -> None:
        """What a connector knows without asking anybody can be used; it need not offer any."""
        if not hasattr(bench.connector, "facts"):
            return
        for model in (self.model, "conformance/no-such-model"):
            try:
                found = bench.connector.facts(model)
            except Exception as error:
                raise AssertionError(
                    "`facts()` must return a `ModelInfo` or None for any model, without asking anybody, "
                    f"and raised {described(error)}"
                ) from error
            promise(
                found is None or (isinstance(found, ModelInfo) and found.id == model),
                "`facts()` must return a `ModelInfo` with the id that was asked for, or None",
            )


def _endless(gone: asyncio.Event, speech: Speech) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.sse(*speech.events[:2])
        await exchange.hung_up()
        gone.set()

    return script


def _only(upstream: ScriptedUpstream) -> ReceivedRequest:
    promise(len(upstream.requests) == 1, f"one call must be one request; there were {len(upstream.requests)}")
    return upstream.requests[0]
