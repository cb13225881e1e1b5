"""The conformance suite's checks of what comes back: answer, stream, models."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from typing import Any

from ...connectors import ModelInfo, UpstreamReply
from ...credentials import Credential
from ...errors import ConnectorError
from ..scripted import Exchange, Script
from .bench import CLOSE_REPLY, READ, SEND, Bench, on_a_bench, read_whole
from .instruments import Speech
from .limits import Hung, Lookout, in_time
from .subject import Subject, described, package_of, promise

CUTS = (None, 1, 2, 3, 5, 7, 64)
"""Sizes in bytes; 1 to 3 cut inside UTF-8 characters, None leaves the pieces as the upstream sent them."""
TRIES = 3
"""A busy machine may have no time for us once; it is the connector that is blocked every time."""
SETTLE_SECONDS = 0.1
"""After how long a silence nothing more of what was sent is on its way. If it is, a check finds fault with less."""


class AnswerChecks(Subject):
    """What the caller gets."""

    @on_a_bench
    async def test_plain_answer_passes_untouched(self, bench: Bench) -> None:
        """Nobody encodes anew what nobody changed."""
        for size in CUTS:
            bench.wire.size = size
            promise(
                await bench.read(bench.call()) == self.mended(self.speech().reply, stream=False),
                "the bytes of a plain answer must pass untouched for any cut (or say in `mended` what becomes of "
                f"them); they did not {_in_pieces(size)}",
            )

    @on_a_bench
    async def test_stream_passes_untouched_for_any_cut(self, bench: Bench) -> None:
        """A network cuts where it likes, also inside a character."""
        for size in CUTS:
            bench.wire.size = size
            promise(
                await bench.read(bench.call(stream=True)) == self.mended(b"".join(self.speech().events), stream=True),
                "the bytes of a stream must pass untouched for any cut (or say in `mended` what becomes of them); "
                f"they did not {_in_pieces(size)}",
            )

    @on_a_bench
    async def test_stream_begins_before_it_ends(self, bench: Bench) -> None:
        """What the upstream has said arrives before it says more."""
        begun, more = asyncio.Event(), asyncio.Event()

        async def slow(exchange: Exchange) -> None:
            events = self.speech().events
            await exchange.sse(*events[:2])
            await begun.wait()
            await exchange.sse(events[1])
            await more.wait()
            await exchange.sse(*events[2:])

        bench.upstream.script = slow
        held_back = "each chunk of a stream must arrive before the next is sent: {} was held back"
        try:
            async with asyncio.timeout(self.patience):
                reply = await bench.answered(bench.call(stream=True))
        except TimeoutError:
            raise AssertionError(held_back.format("the first")) from None
        reader = _Reader(reply)
        try:
            promise(await reader.hears(self.patience), held_back.format("the first"))
            while await reader.hears(SETTLE_SECONDS):
                pass
            begun.set()
            promise(await reader.hears(self.patience), held_back.format("a later one"))
        finally:
            await reader.stop()
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
        for read in (False, True):
            reply = await bench.answered(bench.call(stream=True))
            if read:
                with contextlib.suppress(Exception):  # told by the other checks
                    await in_time(read_whole(reply), READ)
            await in_time(reply.aclose(), CLOSE_REPLY)
            try:
                await in_time(reply.aclose(), CLOSE_REPLY)
            except Exception as error:
                raise AssertionError(
                    f"`UpstreamReply.aclose()` must be safe to call twice, and raised {described(error)}"
                    f"{' after all was read' if read else ''}"
                ) from error

    @on_a_bench
    async def test_cancelled_send_hangs_up(self, bench: Bench) -> None:
        """A caller that goes before the upstream has answered costs nothing any more either."""
        for stream in (False, True):
            asked, gone = asyncio.Event(), asyncio.Event()
            bench.upstream.script = _silent(asked, gone)
            sending = asyncio.ensure_future(bench.connector.send(bench.call(stream=stream)))
            with contextlib.suppress(Exception):  # what is raised here, other checks tell
                await in_time(_first(asked.wait(), sending), SEND)
            if not asked.is_set():
                return
            sending.cancel()
            await in_time(asyncio.wait({sending}), "a cancelled `send()`")
            promise(sending.cancelled(), "a cancelled `send()` must let the `CancelledError` out")
            try:
                await asyncio.wait_for(gone.wait(), self.patience)
            except TimeoutError:
                raise AssertionError("a cancelled `send()` must hang up on the upstream") from None

    @on_a_bench
    async def test_event_loop_goes_on(self, bench: Bench) -> None:
        """All requests share one thread: code that blocks holds up every one of them."""
        where = ""
        for _ in range(TRIES):
            with Lookout(package_of(self.connector)) as lookout:
                for stream in (False, True):
                    with contextlib.suppress(Exception, Hung):  # told by the other checks
                        await bench.read(bench.call(stream=stream))
            where = lookout.where
            if not where:
                return
        raise AssertionError(
            f"a connector must not block the event loop, and in each of {TRIES} tries it stood still for half a second "
            f"and longer, the last time at {where}"
        )


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


def _silent(asked: asyncio.Event, gone: asyncio.Event) -> Script:
    async def script(exchange: Exchange) -> None:
        asked.set()
        await exchange.hung_up()
        gone.set()

    return script


async def _first(asked: Coroutine[Any, Any, object], sending: asyncio.Future[UpstreamReply]) -> None:
    """Returns when the upstream is asked, or sending has ended without that."""
    waiting = asyncio.create_task(asked)
    either: list[asyncio.Future[Any]] = [waiting, sending]
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


class _Reader:
    """Reads an answer all the time: to wait for a chunk, and to give up, must not end the answer."""

    def __init__(self, reply: UpstreamReply) -> None:
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._read(reply))

    async def _read(self, reply: UpstreamReply) -> None:
        async for chunk in reply.chunks:
            if chunk:
                self._news.set()

    async def hears(self, seconds: float) -> bool:
        """Whether something arrives in time, after all that was heard of before."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), seconds)
        heard = self._news.is_set()
        self._news.clear()
        if not heard and self._task.done():
            self._task.result()  # what reading raised is no silence
        return heard

    async def stop(self) -> None:
        """Reads no more."""
        self._task.cancel()
        await in_time(asyncio.wait({self._task}), READ)
        if not self._task.cancelled():
            self._task.exception()  # what reading raised is told by other checks; asyncio must not complain of it


def _in_pieces(size: int | None) -> str:
    return "as they came" if size is None else f"in pieces of {size} bytes"
