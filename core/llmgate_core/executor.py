"""Runs a plan: attempts, waits, the commit point, and the fence around plugin code. The only place that sleeps.

Before the commit point everything may be tried again; after it, nothing. A stream commits with its first read, a
plain answer when it is complete and well-formed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from . import policies as policy_chain
from . import replies
from .backends import Backend, Backends
from .connectors import Policy, UpstreamCall, UpstreamReply
from .credentials import Credential
from .dialects import chat, failures
from .errors import ConnectorError, RequestError
from .observe import Redactor
from .request import Attempt, GatewayRequest, Params, RequestRecord
from .selector import Leaf, RoutePlan
from .wire import Body

logger = logging.getLogger("llmgate.executor")


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


class Executor:
    """Turns a request and its plan into an answer.

    Args:
        sleep: awaited between attempts, seconds.
        monotonic: seconds, for durations and the budget.
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
    ) -> None:
        self._backends = backends
        self._policies = policies
        self._redactor = redactor
        self._budget = budget
        self._sleep = sleep
        self._monotonic = monotonic

    async def run(self, request: GatewayRequest, plan: RoutePlan, record: RequestRecord) -> Answer:
        """The committed answer to `request`; `record` gets one Attempt for each try.

        Raises:
            RequestError: a policy refuses the request.
            ConnectorError: every attempt failed; the last failure, with nothing secret in it.
        """
        leaf = plan.branches[0]
        backend = self._backends[leaf.backend or ""]
        prepared = self.prepare(request, leaf)
        answer = await self._until_settled(backend, leaf, request, prepared.body, record)
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
        own = chat.params(request.body, backend.default_params)
        params = Params({"default": backend.default_params, "client": own, "forced": backend.forced_params})
        verdict = policy_chain.apply_all(self._policies, request, leaf, params)
        changes = {
            chat.spell(name, request.body): setting.value
            for name, setting in verdict.params.effective().items()
            if setting.layer != "client"
        }
        if changes and logger.isEnabledFor(logging.DEBUG):
            logger.debug("%s parameters: %s", request.id, verdict.params)
        if leaf.model != request.selector:
            changes["model"] = leaf.model
        return Prepared(request.body.splice(changes), verdict.params, verdict.headers)

    async def _until_settled(
        self, backend: Backend, leaf: Leaf, request: GatewayRequest, body: Body, record: RequestRecord
    ) -> Answer:
        """Attempts at one backend until one succeeds or its retry policy and the budget say that it is enough."""
        started = self._monotonic()
        tries, renewed = 0, False
        while True:
            tries += 1
            try:
                return await self._attempt(backend, leaf, request, body, record)
            except Rejected as rejected:
                failure = rejected.failure
                if not renewed and len(record.attempts) < self._budget.max_attempts:
                    renewed, tries = True, tries - 1
                    await self._renew(backend, rejected, request)
                    continue
            except ConnectorError as error:
                failure = error
            with self._fence(backend, request.id):
                wait = backend.retry.delay(failure, tries)
            elapsed = self._monotonic() - started
            spent = len(record.attempts) >= self._budget.max_attempts
            if wait is None or spent or elapsed + wait > self._budget.total_seconds:
                raise failure
            logger.debug("%s %s: %s; again in %.2f s", request.id, backend.name, failure.kind, wait)
            await self._sleep(wait)

    async def _renew(self, backend: Backend, rejected: Rejected, request: GatewayRequest) -> None:
        """Gets another credential; where there is none, the upstream's refusal stands, with the reason behind it."""
        try:
            with self._fence(backend, request.id):
                renewed = await backend.credentials.renew(rejected.credential)
                self._redactor.learn(renewed.secrets())
        except ConnectorError as error:
            if error.kind != "auth":
                raise
            refusal = rejected.failure
            if error.message not in refusal.message:  # a connector may have found the reason already
                refusal.message = f"{refusal.message}: {error.message}"
                refusal.args = (refusal.message,)
            raise refusal from None

    async def _attempt(
        self, backend: Backend, leaf: Leaf, request: GatewayRequest, body: Body, record: RequestRecord
    ) -> Answer:
        attempt = Attempt(backend.name, leaf.model)
        record.attempts.append(attempt)
        started = self._monotonic()
        credential: Credential | None = None
        try:
            with self._fence(backend, request.id):
                backend.connector.check()
                credential = await backend.credentials.get()
                self._redactor.learn(credential.secrets())
                call = UpstreamCall(
                    request.operation,
                    request.dialect,
                    leaf.model,
                    request.stream,
                    body,
                    credential,
                    request.headers,
                    request.id,
                )
                reply = await backend.connector.send(call)
                if not isinstance(reply, UpstreamReply):
                    raise TypeError(f"`send()` returned `{type(reply).__name__}`, not an `UpstreamReply`")
                attempt.status = reply.status
                attempt.upstream_request_id = self._redactor.strike(failures.request_id(reply.headers) or "") or None
                return await self._commit(backend, request, reply, record)
        except ConnectorError as error:
            attempt.kind, attempt.message = error.kind, error.message
            attempt.status = error.status
            attempt.upstream_request_id = error.upstream_request_id or attempt.upstream_request_id
            if error.kind == "auth" and error.status == 401 and credential is not None:
                raise Rejected(error, credential) from None
            raise
        finally:
            attempt.seconds = self._monotonic() - started

    async def _commit(
        self, backend: Backend, request: GatewayRequest, reply: UpstreamReply, record: RequestRecord
    ) -> Answer:
        """The answer, once its beginning (stream) or its whole (plain) shows that it is one."""
        try:
            headers = {name: self._redactor.strike(text) for name, text in replies.passed_on(reply.headers).items()}
            if request.stream:
                first = await replies.first_read(reply)
                chunks = self._rest(backend, request.id, first, reply.chunks)
                headers["content-type"] = reply.headers["content-type"] if replies.is_sse(reply) else replies.SSE
            else:
                data = await replies.read_plain(reply)
                record.usage = chat.read_reply(data)
                chunks = _one(data)
                headers["content-length"] = str(len(data))
                headers.setdefault("content-type", "application/json")
        except BaseException:
            await replies.close(reply)
            raise

        async def aclose() -> None:
            try:
                await chunks.aclose()
            finally:
                await replies.close(reply)

        return Answer(reply.status, headers, chunks, aclose, stream=request.stream)

    async def _rest(
        self, backend: Backend, request_id: str, first: bytes, chunks: AsyncGenerator[bytes, None]
    ) -> AsyncGenerator[bytes, None]:
        yield self._harmless(first)
        with self._fence(backend, request_id):
            async for chunk in chunks:
                yield self._harmless(chunk)

    def _harmless(self, chunk: bytes) -> bytes:
        """An error frame may echo our credential; content that passes by is the model's, and is not touched."""
        return self._redactor.strike_bytes(chunk) if b'"error"' in chunk else chunk

    @contextmanager
    def _fence(self, backend: Backend, request_id: str) -> Iterator[None]:
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
            logger.exception("%s: connector of backend %s raised", request_id, backend.name)
            raise ConnectorError(
                "bug",
                f"the connector of backend `{backend.name}` failed ({type(error).__name__}); "
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
