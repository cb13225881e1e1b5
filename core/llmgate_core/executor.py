"""Runs a plan: attempts, waits, the commit point, and the fence around plugin code. The only place that sleeps.

Before the commit point everything may be tried again; after it, nothing. A stream commits with the first event that a
caller would miss, or with its first bytes where nothing could be tried again; a plain answer when it is complete.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from . import policies as policy_chain
from . import replies
from .backends import Backend, Backends
from .connectors import ModelInfo, Policy, UpstreamCall, UpstreamReply
from .credentials import Credential
from .dialects import chat, failures
from .errors import ConnectorError, RequestError
from .observe import Redactor
from .policies import model_limits
from .request import Attempt, GatewayRequest, Params, RequestRecord
from .selector import Leaf, RoutePlan
from .wire import Body

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


@dataclass
class Answer:
    """What the caller gets: a committed reply. `aclose` must be awaited whatever happens; twice does no harm."""

    status: int
    headers: dict[str, str]
    chunks: AsyncGenerator[bytes, None]
    aclose: Callable[[], Awaitable[None]]
    stream: bool


@dataclass(frozen=True)
class Prepared:
    """One attempt's body and headers, after policies and parameters: what `llmgate explain` shows, too."""

    body: Body
    params: Params
    headers: Mapping[str, str] = field(default_factory=dict)
    left_out: Sequence[model_limits.LeftOut] = ()


@dataclass(frozen=True)
class Errand:
    """One request on its way to one backend."""

    backend: Backend
    leaf: Leaf
    request: GatewayRequest
    body: Body
    record: RequestRecord

    def call(self, credential: Credential) -> UpstreamCall:
        """What the connector is asked to send."""
        asked = self.request
        return UpstreamCall(
            asked.operation,
            asked.dialect,
            self.leaf.model,
            asked.stream,
            self.body,
            credential,
            asked.headers,
            asked.id,
        )

    def backed_off(self, failure: ConnectorError | None, seconds: float) -> ConnectorError:
        """What a caller is told who would have to wait too long: that he was refused himself, or others were."""
        if failure is None:
            failure = ConnectorError(
                "rate_limited",
                f"backend `{self.backend.name}` has met a rate limit of its upstream, which is not over yet; "
                f"send the request again in {math.ceil(seconds)} s",
            )
            refused = Attempt(self.backend.name, self.leaf.model, kind=failure.kind, message=failure.message)
            self.record.attempts.append(refused)
        failure.retry_after = seconds
        return failure


class Executor:
    """Turns a request and its plan into an answer.

    Args:
        sleep: awaited between attempts, seconds.
        monotonic: seconds, for durations and the budget.
        hold_seconds: how long the beginning of a stream is held back at most, while another attempt is possible.
    """

    def __init__(
        self,
        backends: Backends,
        policies: Sequence[Policy],
        redactor: Redactor,
        *,
        budget: Budget,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        hold_seconds: float = 5.0,
    ) -> None:
        self._backends = backends
        self._policies = policies
        self._redactor = redactor
        self._budget = budget
        self._sleep = sleep
        self._monotonic = monotonic
        self._hold_seconds = hold_seconds

    async def run(self, request: GatewayRequest, plan: RoutePlan, record: RequestRecord) -> Answer:
        """The committed answer to `request`; `record` gets one Attempt for each try.

        Raises:
            RequestError: a policy refuses the request.
            ConnectorError: every attempt failed; the last failure, with nothing secret in it.
        """
        leaf = plan.branches[0]
        backend = self._backends[leaf.backend or ""]
        prepared = self.prepare(request, leaf)
        answer = await self._until_settled(Errand(backend, leaf, request, prepared.body, record))
        answer.headers |= prepared.headers
        answer.headers["x-llmgate-backend"] = backend.name
        answer.headers["x-llmgate-attempts"] = str(len(record.attempts))
        return answer

    def prepare(self, request: GatewayRequest, leaf: Leaf) -> Prepared:
        """The body of an attempt: the caller's bytes, with the model and the parameters that are not the caller's.

        Raises:
            RequestError: a policy refuses.
        """
        backend = self._backends[leaf.backend or ""]
        if request.dialect not in backend.connector.dialects:
            raise ConnectorError("not_found", f"backend `{backend.name}` does not speak `{request.dialect}`")
        info = backend.facts(leaf.model) or ModelInfo(leaf.model)
        excluding = [name for group in info.excludes for name in group]
        own = chat.params(request.body, [*backend.default_params, *excluding])
        params = Params({"default": backend.default_params, "client": own, "forced": backend.forced_params})
        verdict = policy_chain.apply_all(self._policies, request, leaf, params)
        params, left_out = model_limits.limit(verdict.params, info)
        changes = {
            chat.spell(name, request.body, info.refuses): setting.value
            for name, setting in params.effective().items()
            if setting.layer != "client"
        }
        if changes and logger.isEnabledFor(logging.DEBUG):
            logger.debug("%s parameters: %s", request.id, params)
        if leaf.model != request.selector:
            changes["model"] = leaf.model
        headers = model_limits.told(request.id, verdict.headers, left_out)
        return Prepared(request.body.splice(changes), params, headers, left_out)

    async def _until_settled(self, errand: Errand) -> Answer:
        """Attempts at one backend until one succeeds or its retry policy and the budget say that it is enough."""
        backend, started = errand.backend, self._monotonic()
        turn = backend.turn(self._sleep, self._monotonic)
        tries, renewed = 0, False
        failure: ConnectorError | None = None
        while True:
            if (too_long := await turn.come()) is not None:
                raise errand.backed_off(failure, too_long)
            tries += 1
            hold = self._may_go_on(errand, started, besides=1) and self._would_retry(errand, tries)
            try:
                answer = await self._attempt(errand, hold)
                turn.succeeded()
                return answer
            except Rejected as rejected:
                failure = rejected.failure
                if not renewed and self._may_go_on(errand, started):
                    renewed, tries = True, tries - 1
                    await self._renew(errand, rejected)
                    continue
            except ConnectorError as error:
                failure = error
            finally:
                turn.over()
            with self._fence(errand):
                wait = backend.retry.delay(failure, tries)
            turn.failed(failure, wait)
            if wait is None or not self._may_go_on(errand, started, wait):
                raise failure
            logger.debug("%s %s: %s; again in %.2f s", errand.request.id, backend.name, failure.kind, wait)

    def _may_go_on(self, errand: Errand, started: float, wait: float = 0.0, besides: int = 0) -> bool:
        """Whether the budget has room for another attempt, `wait` seconds from now, and for so many besides."""
        is_in_time = self._monotonic() - started + wait <= self._budget.total_seconds
        return is_in_time and len(errand.record.attempts) + besides < self._budget.max_attempts

    def _would_retry(self, errand: Errand, tries: int) -> bool:
        """Whether the retry policy would have another attempt if this one failed in one of the usual ways."""
        with self._fence(errand):
            return any(errand.backend.retry.delay(failure, tries) is not None for failure in USUAL_FAILURES)

    async def _renew(self, errand: Errand, rejected: Rejected) -> None:
        """Gets another credential; where there is none, the upstream's refusal stands, with the reason behind it."""
        try:
            with self._fence(errand):
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

    async def _attempt(self, errand: Errand, hold: bool) -> Answer:
        """One try; `hold` says that the beginning of a stream may be held back, as another try is possible."""
        backend, record = errand.backend, errand.record
        attempt = Attempt(backend.name, errand.leaf.model)
        record.attempts.append(attempt)
        started = self._monotonic()
        credential: Credential | None = None
        try:
            with self._fence(errand):
                backend.connector.check()
                credential = await backend.credentials.get()
                self._redactor.learn(credential.secrets())
                reply = await backend.connector.send(errand.call(credential))
                if not isinstance(reply, UpstreamReply):
                    raise TypeError(f"`send()` returned `{type(reply).__name__}`, not an `UpstreamReply`")
                attempt.status = reply.status
                attempt.upstream_request_id = self._redactor.strike(failures.request_id(reply.headers) or "") or None
                return await self._commit(errand, reply, hold)
        except ConnectorError as error:
            attempt.kind, attempt.message = error.kind, error.message
            attempt.status = error.status
            attempt.upstream_request_id = error.upstream_request_id or attempt.upstream_request_id
            if error.kind == "auth" and error.status == 401 and credential is not None:
                raise Rejected(error, credential) from None
            raise
        finally:
            attempt.seconds = self._monotonic() - started

    async def _commit(self, errand: Errand, reply: UpstreamReply, hold: bool) -> Answer:
        """The answer, once its beginning (stream) or its whole (plain) shows that it is one."""
        headers = {name: self._redactor.strike(text) for name, text in replies.passed_on(reply.headers).items()}
        try:
            if errand.request.stream:
                return await self._streamed(errand, reply, headers, hold)
            data = await replies.read_plain(reply)
            errand.record.usage = chat.read_reply(data)
        except BaseException:
            await replies.close(reply)
            raise
        headers["content-length"] = str(len(data))
        headers.setdefault("content-type", "application/json")
        return Answer(reply.status, headers, _one(data), lambda: replies.close(reply), stream=False)

    async def _streamed(self, errand: Errand, reply: UpstreamReply, headers: dict[str, str], hold: bool) -> Answer:
        beginning = await replies.beginning(reply, self._hold_seconds if hold else 0.0)
        headers["content-type"] = reply.headers["content-type"] if replies.is_sse(reply) else replies.SSE
        chunks = self._passing(errand, beginning)

        async def aclose() -> None:
            try:
                await chunks.aclose()
                await beginning.aclose()
            finally:
                await replies.close(reply)

        return Answer(reply.status, headers, chunks, aclose, stream=True)

    async def _passing(self, errand: Errand, beginning: replies.Beginning) -> AsyncGenerator[bytes, None]:
        with self._fence(errand):
            async for chunk in beginning.chunks():
                # An error frame may echo our credential; content that passes by is the model's, and is not touched.
                yield self._redactor.strike_bytes(chunk) if b'"error"' in chunk else chunk

    @contextmanager
    def _fence(self, errand: Errand) -> Iterator[None]:
        """What plugin code raises becomes a ConnectorError without secrets; the rest of its story goes to the log."""
        try:
            yield
        except ConnectorError as error:
            for name in ("message", "code", "type", "param", "upstream_request_id"):
                if text := getattr(error, name):
                    setattr(error, name, self._redactor.strike(text))
            error.args = (error.message,)
            raise
        except RequestError:
            raise
        except Exception as error:
            name, request_id = errand.backend.name, errand.request.id
            logger.exception("%s: connector of backend %s raised", request_id, name)
            raise ConnectorError(
                "bug",
                f"the connector of backend `{name}` failed ({type(error).__name__}); "
                f"the gateway's log has the details under {request_id}",
            ) from None


class Rejected(Exception):  # noqa: N818 - a message between two functions of this module
    """The upstream refused a credential: perhaps another one will do."""

    def __init__(self, failure: ConnectorError, credential: Credential) -> None:
        super().__init__()
        self.failure = failure
        self.credential = credential


async def _one(data: bytes) -> AsyncGenerator[bytes, None]:
    yield data
