"""Attempts at one backend: a credential, the connector, the commit point, and what is tried again. Awaits, and sleeps.

Before the commit point everything may be tried again; after it, nothing. A stream commits with the first event that a
caller would miss, or with its first bytes where nothing could be tried again; a plain answer when it is complete.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from . import handed_over, replies
from .backends import Backend
from .backoff import COME_BACK_SECONDS, Turn
from .connectors import UpstreamCall, UpstreamReply
from .credentials import Credential
from .dialects import chat, failures, spoken
from .errors import KINDS, PLUGIN_FAULTS, ConnectorError, GatewayError, Kind, RequestError
from .observe import Redactor
from .ownership import Owned, contained
from .request import GENERATE, Attempt, Dialect, GatewayRequest, RequestRecord
from .secret import Striker
from .selector import Leaf
from .translate import LOST_HEADER, Translation
from .translate.passing import translated
from .wire import Body

T = TypeVar("T")

logger = logging.getLogger("llmgate.executor")

USUAL_FAILURES = (
    ConnectorError("rate_limited", "", retry_after=0.0),
    ConnectorError("unavailable", "", retry_after=0.0),
)
"""What a retry policy is asked about, to know whether there could be another attempt at all."""


@dataclass(frozen=True)
class Budget:
    """What one request may cost: attempts over the whole plan, and seconds after which no new one begins."""

    max_attempts: int = 5
    total_seconds: float = 90.0


class Spending:
    """What one request has used of its budget.

    Args:
        record: of the request; its attempts count.
        monotonic: seconds.
    """

    def __init__(self, budget: Budget, record: RequestRecord, monotonic: Callable[[], float]) -> None:
        self._budget = budget
        self._record = record
        self._now = monotonic
        self._began = monotonic()

    def renewed(self) -> Spending:
        """A budget that begins anew, with one attempt at least: for what has to follow upon what was done already."""
        attempts = max(self._budget.max_attempts, len(self._record.attempts) + 1)
        return Spending(Budget(attempts, self._budget.total_seconds), self._record, self._now)

    def allows(self, wait: float = 0.0, besides: int = 0) -> bool:
        """Whether there is room for another attempt, `wait` seconds from now, and for so many besides."""
        is_in_time = self._now() - self._began + wait <= self._budget.total_seconds
        return is_in_time and len(self._record.attempts) + besides < self._budget.max_attempts


@dataclass
class Answer:
    """What the caller gets: a committed reply. `aclose` must be awaited whatever happens; twice does no harm.

    Args:
        is_translated: whether the upstream said it in another dialect.
    """

    status: int
    headers: dict[str, str]
    chunks: AsyncGenerator[bytes, None]
    aclose: Callable[[], Awaitable[None]]
    stream: bool
    is_translated: bool = False

    def through(self, chunks: AsyncGenerator[bytes, None]) -> Answer:
        """The same answer, read through `chunks`, which reads its own."""

        async def aclose() -> None:
            try:
                await chunks.aclose()
            finally:
                await self.aclose()

        return replace(self, chunks=chunks, aclose=aclose)


@dataclass(frozen=True)
class Errand:
    """One request on its way to one backend.

    Args:
        body: as it goes up, in `dialect`.
        translation: the way back to the caller's dialect, where that is another one.
        patient: whether it may wait, for the backend's retry policy and for its backoff.
        is_last: no other backend would take over, so that the beginning of a stream may pass where nothing is retried.
        hold_seconds: how long the beginning of a stream is held back at most, where it is; None for no limit.
    """

    backend: Backend
    leaf: Leaf
    request: GatewayRequest
    body: Body
    record: RequestRecord
    dialect: Dialect = chat.DIALECT
    translation: Translation | None = None
    patient: bool = True
    is_last: bool = True
    hold_seconds: float | None = 5.0
    attempts: list[Attempt] = field(default_factory=list)

    def begin(self) -> Attempt:
        """One more attempt, noted."""
        attempt = Attempt(self.backend.name, self.leaf.model)
        self.record.attempts.append(attempt)
        self.attempts.append(attempt)
        return attempt

    def said(self) -> Kind | None:
        """How the backend itself has failed at last; None where it was not asked."""
        return self.attempts[-1].kind if self.attempts else None

    def call(self, credential: Credential) -> UpstreamCall:
        """What the connector is asked to send.

        It gets copies of headers: what it writes into them must reach neither the next provider nor the next attempt.
        """
        asked = self.request
        credential = copy.copy(credential)  # not `replace`: a provider's own class may be made in another way
        object.__setattr__(credential, "headers", dict(credential.headers))
        return UpstreamCall(
            asked.operation,
            self.dialect,
            self.leaf.model,
            asked.stream,
            self.body,
            credential,
            dict(asked.headers),
            asked.id,
        )

    def backed_off(self, failure: ConnectorError | None, seconds: float) -> ConnectorError:
        """What a caller is told who would have to wait too long: that he was refused himself, or others were."""
        if failure is None or failure.kind != "rate_limited":
            failure = ConnectorError(
                "rate_limited",
                f"backend `{self.backend.name}` has met a rate limit of its upstream, which is not over yet; "
                f"send the request again in {math.ceil(seconds)} s",
            )
        failure.retry_after = seconds
        return failure


class Attempts:
    """Tries backends.

    Args:
        sleep: awaited between attempts, seconds.
        monotonic: seconds, for durations.
    """

    def __init__(
        self,
        redactor: Redactor,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redactor = redactor
        self._sleep = sleep
        self._monotonic = monotonic

    async def settle(self, errand: Errand, spending: Spending) -> Answer:
        """Attempts at one backend until one succeeds or its retry policy and the budget say that it is enough.

        Raises:
            ConnectorError: the last failure, with nothing secret in it.
        """
        backend = errand.backend
        turn = backend.turn(errand.leaf.model, self._sleep, self._monotonic, patient=errand.patient)
        tries, renewed = 0, False
        failure: ConnectorError | None = None
        while True:
            if (too_long := await turn.come()) is not None:
                raise errand.backed_off(failure, too_long)
            tries += 1
            try:
                if not spending.allows():  # it has waited for too long
                    raise failure or errand.backed_off(None, COME_BACK_SECONDS)
                hold = not errand.is_last or (spending.allows(besides=1) and self._would_retry(errand, tries))
                answer = await self._attempt(errand, turn, hold)
                turn.succeeded()
                return answer
            except Rejected as rejected:
                failure = rejected.failure
                if not renewed and spending.allows():
                    renewed, tries = True, tries - 1
                    await self._renew(errand, rejected)
                    continue
            except ConnectorError as error:
                failure = error
            finally:
                turn.over()
            wait = self._delay(errand, failure, tries)
            turn.failed(failure, wait)
            if wait is None or not spending.allows(wait):
                raise failure
            logger.debug("%s %s: %s; again in %.2f s", errand.request.id, backend.name, failure.kind, wait)

    def _delay(self, errand: Errand, failure: ConnectorError, tries: int) -> float | None:
        """What the retry policy says, where there is time for it."""
        if not errand.patient:
            return None
        with self._fence(errand):
            found = errand.backend.retry.delay(failure, tries)
        try:
            return handed_over.delay(found)
        except handed_over.Misfit as misfit:
            errand.backend.tell_once(f"its retry policy: {misfit}; it is taken as None")
            return None

    def _would_retry(self, errand: Errand, tries: int) -> bool:
        """Whether the retry policy would have another attempt if this one failed in one of the usual ways."""
        return any(self._delay(errand, failure, tries) is not None for failure in USUAL_FAILURES)

    async def _renew(self, errand: Errand, rejected: Rejected) -> None:
        """Gets another credential; where there is none, the upstream's refusal stands, with the reason behind it."""
        try:
            with self._fence(errand), errand.backend.tasks.owning():
                renewed = await errand.backend.credentials.renew(rejected.credential)
                self._redactor.learn(renewed.secrets())
        except ConnectorError as error:
            if error.kind != "auth":
                raise
            refusal = rejected.failure
            if error.message not in refusal.message:  # a connector may have found the reason already
                refusal.message = f"{refusal.message}: {error.message}"
                refusal.args = (refusal.message,)
            raise refusal from None

    async def _attempt(self, errand: Errand, turn: Turn, hold: bool) -> Answer:
        """One try; `hold` says that the beginning of a stream may be held back, as another try is possible."""
        backend = errand.backend
        attempt = errand.begin()
        started = self._monotonic()
        credential: Credential | None = None
        try:
            with self._fence(errand):
                with backend.tasks.owning():
                    backend.connector.check()
                    credential = await _in_time(backend, backend.credentials.get(), "its credential provider")
                    self._redactor.learn(credential.secrets())
                    sending = handed_over.awaitable(backend.connector.send(errand.call(credential)), "send")
                    found = await _in_time(backend, sending, "its `send()`")
                reply = await self._looked_at(errand, found)
                reply = replace(reply, chunks=Owned(reply.chunks, backend.tasks))
                if not errand.request.stream:
                    turn.succeeded()  # others need not wait for the end of a long answer
                attempt.status = reply.status
                attempt.upstream_request_id = self._redactor.strike(failures.request_id(reply.headers) or "") or None
                return await self._commit(errand, credential, reply, hold)
        except ConnectorError as error:
            attempt.kind, attempt.message = error.kind, error.message
            attempt.status = error.status
            attempt.upstream_request_id = error.upstream_request_id or attempt.upstream_request_id
            if error.kind == "auth" and error.status in (401, None) and credential is not None:
                raise Rejected(error, credential) from None
            raise
        except RequestError as error:  # this upstream has no words for it; another one may have
            attempt.kind, attempt.message = "bad_request", self._redactor.strike(error.message)
            raise
        finally:
            attempt.seconds = self._monotonic() - started

    async def _looked_at(self, errand: Errand, found: Any) -> UpstreamReply:
        """What `send` returned, if it can be passed on; else it is closed, as nobody else would."""
        try:
            return handed_over.reply(found)
        except handed_over.Misfit:
            if isinstance(found, UpstreamReply):
                await self._close(errand, found)
            raise

    async def _commit(self, errand: Errand, credential: Credential, reply: UpstreamReply, hold: bool) -> Answer:
        """The answer, once its beginning (stream) or its whole (plain) shows that it is one."""
        headers = {name: self._redactor.strike(text) for name, text in replies.passed_on(reply.headers).items()}
        if reply.lost:
            headers[LOST_HEADER] = ",".join(reply.lost)
        try:
            if errand.request.stream:
                return await self._streamed(errand, credential, reply, headers, hold)
            data = await replies.read_plain(reply)
            read = spoken(errand.dialect).read_reply if errand.request.operation == GENERATE else replies.read_object
            errand.record.usage = read(data)
            if errand.translation is not None:
                data = errand.translation.reply(data)
        except BaseException:
            await self._close(errand, reply)
            raise
        headers["content-length"] = str(len(data))
        headers.setdefault("content-type", "application/json")
        return Answer(reply.status, headers, one_chunk(data), lambda: self._close(errand, reply), stream=False)

    async def _streamed(
        self, errand: Errand, credential: Credential, reply: UpstreamReply, headers: dict[str, str], hold: bool
    ) -> Answer:
        dialect = spoken(errand.dialect)
        beginning = await replies.beginning(reply, dialect, errand.hold_seconds if hold else 0.0)
        headers["content-type"] = reply.headers["content-type"] if replies.is_sse(reply) else replies.SSE
        chunks = self._passing(errand, credential, beginning)
        if errand.translation is not None:
            chunks = translated(
                chunks,
                errand.translation.stream(),
                context=f"backend {errand.backend.name}",
                request_id=errand.request.id,
            )

        async def aclose() -> None:
            try:
                await chunks.aclose()
                await beginning.aclose()
            finally:
                await self._close(errand, reply)

        return Answer(reply.status, headers, chunks, aclose, stream=True)

    async def _close(self, errand: Errand, reply: UpstreamReply) -> None:
        """Ends the reply. One that cannot be ended is for the log: what was answered stays answered."""
        with suppress(ConnectorError), self._fence(errand), errand.backend.tasks.owning():
            await replies.close(reply)

    async def _passing(
        self, errand: Errand, credential: Credential, beginning: replies.Beginning
    ) -> AsyncGenerator[bytes, None]:
        """The stream, without our credential: an upstream that fails may echo it, in whatever form."""
        striker = Striker(credential.secrets())
        with self._fence(errand):
            async for chunk in beginning.chunks():
                if passed := striker.feed(chunk):
                    yield passed
            if rest := striker.end():
                yield rest

    @contextmanager
    def _fence(self, errand: Errand) -> Iterator[None]:
        """What plugin code raises becomes a ConnectorError without secrets; the rest of its story goes to the log."""
        try:
            with contained():
                yield
        except ConnectorError as error:
            failure = self._as_declared(errand, error)
            for name in ("message", "code", "type", "param", "upstream_request_id"):
                if text := getattr(failure, name):
                    setattr(failure, name, self._redactor.strike(text))
            failure.args = (failure.message,)
            if failure is error:
                raise
            raise failure from None
        except RequestError as error:
            refusal, wrong = handed_over.refusal(error)
            if not wrong:
                raise
            self._tell_wrong(errand, error, wrong)
            raise refusal from None
        except PLUGIN_FAULTS as error:
            name, request_id = errand.backend.name, errand.request.id
            logger.exception("%s: connector of backend %s raised", request_id, name)
            raise ConnectorError(
                "bug",
                f"the connector of backend `{name}` failed{handed_over.why(error)}; "
                f"the gateway's log has the details under {request_id}",
            ) from None

    def _as_declared(self, errand: Errand, error: ConnectorError) -> ConnectorError:
        """The failure with fields of the right types; one of a kind that there is not is a bug, and told as such."""
        failure, wrong = handed_over.failure(error)
        if wrong:
            self._tell_wrong(errand, error, wrong)
        if "kind" in wrong:
            raised = f"the connector of backend `{errand.backend.name}` raised a `ConnectorError`"
            failure.message = f"{raised} whose `kind` is none of {handed_over.named(KINDS)}: {failure.message}"
        return failure

    def _tell_wrong(self, errand: Errand, error: GatewayError, wrong: Sequence[str]) -> None:
        """A field of what a connector raised is not of its type: for the log, as the caller can do nothing about it."""
        told = "%s: connector of backend %s raised a `%s` with a wrong %s"
        sort, fields = type(error).__name__, handed_over.named(wrong)
        logger.error(told, errand.request.id, errand.backend.name, sort, fields, exc_info=error)


async def _in_time(backend: Backend, call: Awaitable[T], what: str) -> T:
    """What a connector's call gives; raises ConnectorError where it hangs, as no timeout of its upstream ends that."""
    limit = asyncio.timeout(backend.answer_seconds)
    try:
        async with limit:
            return await call
    except TimeoutError:
        if not limit.expired():
            raise  # the connector's own
        raise ConnectorError(
            "timeout",
            f"the connector of backend `{backend.name}` hangs: {what} took longer than {backend.answer_seconds:g} s",
        ) from None


class Rejected(Exception):  # noqa: N818 - a message between two functions of this module
    """The upstream refused a credential: perhaps another one will do."""

    def __init__(self, failure: ConnectorError, credential: Credential) -> None:
        super().__init__()
        self.failure = failure
        self.credential = credential


async def one_chunk(data: bytes) -> AsyncGenerator[bytes, None]:
    """The chunks of a plain answer."""
    yield data
