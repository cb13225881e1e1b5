"""The conformance suite's checks of what goes up: the request, in each dialect that a connector speaks."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ...credentials import Credential
from ...errors import ConnectorError
from ..scripted import Exchange, ReceivedRequest, Script, ScriptedUpstream
from .bench import Bench, base_url, on_a_bench, refusal, suite_credential
from .instruments import SPEECHES, speaking
from .subject import SAID, SYSTEM, Subject, described, promise

UNKNOWN = {"x_conformance": {"deep": [1e2, "世界", None, {"a": False}]}, "x_flag": 0}
CALLERS_OWN = "conformance-caller-71f3"
FEW = 3


class RequestChecks(Subject):
    """What the upstream receives."""

    @on_a_bench
    async def test_request_carries_model_and_unknown_fields(self, bench: Bench) -> None:
        """What the caller asked for arrives, also what the connector has never heard of."""
        await bench.read(bench.call(added=UNKNOWN))
        request, body = bench.call().body.data, _only(bench.upstream).json()
        promise(body.get("model") == self.model, "the body's `model` must reach the upstream as it is")
        lost = [f"`{name}`" for name, value in UNKNOWN.items() if name not in body or body[name] != value]
        promise(not lost, f"fields that the connector does not know must reach the upstream; lost: {', '.join(lost)}")
        _is_said(request, body)

    @on_a_bench
    async def test_request_leaves_the_callers_body_alone(self, bench: Bench) -> None:
        """The same body may be needed for the next attempt."""
        call = bench.call(added=UNKNOWN, headers={"x-conformance": "1"})
        data, raw = copy.deepcopy(call.body.data), call.body.bytes
        headers = dict(call.headers), dict(call.credential.headers)
        await bench.read(call)
        promise(
            call.body.data == data and call.body.bytes == raw,
            "`send()` must not change `call.body`: another attempt may need it; use `splice`",
        )
        promise(
            headers == (call.headers, call.credential.headers),
            "`send()` must not change `call.headers` or `call.credential.headers`: another attempt may need them",
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

        async def reset(exchange: Exchange) -> None:
            exchange.reset()

        # The reset comes first: on a connection that was used before, the gateway's own client sends again.
        for script in (reset, refusal(429, retry_after="0"), refusal(503, retry_after="0")):
            await self._is_answered_by(bench, script)
            count = len(bench.upstream.requests)
            promise(count <= 1, f"`send()` must never retry, and sent {count} requests for one call")
        for _ in range(2):
            is_answered = await self._is_answered_by(bench, self.speech().script)
            promise(
                not is_answered or len(bench.upstream.requests) == 1,
                "each call must be one request, also where the same was asked before; one was "
                f"{len(bench.upstream.requests)}",
            )

    async def _is_answered_by(self, bench: Bench, script: Script) -> bool:
        """Whether a call comes back well; how it fails, other checks tell."""
        bench.upstream.script = script
        bench.upstream.requests.clear()
        with contextlib.suppress(Exception):
            await bench.read(bench.call())
            return True
        return False

    @on_a_bench
    async def test_calls_do_not_mix(self, bench: Bench) -> None:
        """A connector serves many callers at once."""
        marks = [f"conformance-mark-{number}" for number in range(FEW)]
        proofs = [replace(bench.credential, headers=_numbered(bench.credential, mark)) for mark in marks]
        calls = [
            bench.call(credential=proof, added={"x_conformance": mark})
            for mark, proof in zip(marks, proofs, strict=True)
        ]
        await asyncio.gather(*map(bench.read, calls))
        arrived = {mark: _with(bench.upstream, mark) for mark in marks}
        if not any(arrived.values()):
            return  # told by test_request_carries_model_and_unknown_fields
        promise(
            all(len(requests) == 1 for requests in arrived.values()),
            f"calls at the same time must not mix: {FEW} were sent, and they arrived "
            f"{', '.join(str(len(requests)) for requests in arrived.values())} times",
        )
        foreign = [
            mark for mark in marks for other in marks if other != mark and other in repr(arrived[mark][0].headers)
        ]
        promise(not foreign, "calls at the same time must not mix: one carried the credential of another")


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
        _is_said(bench.call(dialect=dialect).body.data, arrived)
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


def _is_said(request: Any, body: Any) -> None:
    """Whether what the suite's request says is in the body that arrived, wherever it stands."""
    arrived = list(_texts(body))
    said = [text for text in (SYSTEM, SAID) if any(text in one for one in _texts(request))]
    lost = [f"`{text}`" for text in said if not any(text in one for one in arrived)]
    promise(not lost, f"what the caller says must reach the upstream; lost: {', '.join(lost)}")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def _numbered(credential: Credential, mark: str) -> dict[str, str]:
    return {name: f"{value}-{mark}" for name, value in credential.headers.items()}


def _with(upstream: ScriptedUpstream, mark: str) -> list[ReceivedRequest]:
    return [request for request in upstream.requests if mark.encode() in request.body]


def _only(upstream: ScriptedUpstream) -> ReceivedRequest:
    promise(len(upstream.requests) == 1, f"one call must be one request; there were {len(upstream.requests)}")
    return upstream.requests[0]
