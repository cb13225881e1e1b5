"""Requests through a real executor in virtual time: upstreams without a network, and a clock that stands still while
anything can run.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import selectors
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from llmgate_core import BackoffRules, ConnectorError, NoCredential, RetryPolicy, UpstreamCall, UpstreamReply
from llmgate_core.backends import Backend, Backends, Pacing
from llmgate_core.credentials import SingleFlight
from llmgate_core.executor import Answer, Budget, Executor
from llmgate_core.observe import Redactor
from llmgate_core.request import GatewayRequest, RequestRecord
from llmgate_core.selector import Names, parse, resolve
from llmgate_core.wire import Body

T = TypeVar("T")


class _Jumping(selectors.DefaultSelector):
    """Lets the clock jump instead of waiting."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits for something that will not come")
        self.now += timeout
        found: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """For coroutines that wait for each other and for the clock, and for nothing outside of this process."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._jumping.now

    def default_exception_handler(self, context: Mapping[str, Any]) -> None:
        """What nobody has looked at is a failure of the test."""
        raise RuntimeError(context.get("message")) from context.get("exception")


def run(main: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, in a virtual time of its own that begins at 0; nothing may be left behind."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:

        async def alone() -> T:
            found = await main
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, left
            return found

        return runner.run(alone())


def now() -> float:
    """Virtual seconds."""
    return asyncio.get_running_loop().time()


# --- upstreams and a gateway without sockets ----------------------------------------------------------------------

ANSWER = json.dumps({"choices": [{"message": {"content": "hi"}}]}).encode()
HEADERS = {"content-type": "text/event-stream"}
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n'
HI = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


@dataclass(frozen=True)
class Does:
    """What an upstream does with one request.

    Args:
        latency: seconds until the answer, or the refusal, begins.
        refusal: a failure instead of an answer.
        thinks: seconds from the beginning of a stream until it says something.
        dies: the answer breaks off after its first words.
    """

    latency: float = 0.5
    refusal: ConnectorError | None = None
    thinks: float = 0.0
    dies: bool = False


@dataclass
class Upstream:
    """A connector without a network.

    Attributes:
        does: asked for each request that arrives, with the time.
        arrivals: when each arrived; `by_request` counts them by request.
        open: replies that nobody has closed yet.
    """

    does: Callable[[float], Does]
    retries: RetryPolicy | None = None
    arrivals: list[float] = field(default_factory=list)
    by_request: dict[str, int] = field(default_factory=dict)
    bodies: list[bytes] = field(default_factory=list)
    open: int = 0
    dialects: frozenset[str] = frozenset({"openai.chat"})

    def check(self) -> None:
        """May be used."""

    async def send(self, call: UpstreamCall) -> UpstreamReply:
        does = self.does(now())
        self.arrivals.append(now())
        self.by_request[call.request_id] = self.by_request.get(call.request_id, 0) + 1
        self.bodies.append(call.body.bytes)
        self.open += 1
        try:
            await asyncio.sleep(does.latency)
            if does.refusal is not None:
                raise does.refusal
        except BaseException:
            self.open -= 1
            raise
        is_open = True

        async def aclose() -> None:
            nonlocal is_open
            self.open -= is_open
            is_open = False
            await asyncio.sleep(0)

        chunks = self._stream(does) if call.stream else self._plain(does)
        return UpstreamReply(200, HEADERS if call.stream else {}, chunks, aclose)

    async def _stream(self, does: Does) -> AsyncGenerator[bytes, None]:
        yield ROLE
        await asyncio.sleep(does.thinks)
        yield HI
        if does.dies:
            raise ConnectorError("protocol", "cut the answer off")
        yield END

    async def _plain(self, does: Does) -> AsyncGenerator[bytes, None]:
        await asyncio.sleep(does.thinks)
        if does.dies:
            yield ANSWER[:9]
            raise ConnectorError("protocol", "cut the answer off")
        yield ANSWER

    async def models(self, credential: Any) -> list[Any]:
        return []

    async def aclose(self) -> None:
        pass


class Never:
    """A retry policy that has no retry."""

    def delay(self, error: ConnectorError, attempt: int) -> float | None:
        return None


@dataclass
class Ended:
    """How one request has ended: an answer, or an error; and when."""

    record: RequestRecord
    seconds: float
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    error: ConnectorError | None = None


class Desk:
    """An executor before these upstreams, each by its name (`a` is the backend `a.default`)."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        *,
        shared: BackoffRules | None = None,
        pacing: Pacing | None = None,
        budget: Budget | None = None,
        seed: int = 7,
    ) -> None:
        self.backends = Backends(
            [self._backend(name, upstream, shared, pacing or Pacing(), seed) for name, upstream in upstreams.items()],
            Names(tuple(f"{name}.default" for name in upstreams)),
        )
        self.executor = Executor(
            self.backends,
            [],
            Redactor(),
            budget=budget or Budget(),
            chance=random.Random(seed),
            sleep=asyncio.sleep,
            monotonic=asyncio.get_running_loop().time,
        )
        self._asked = 0

    @staticmethod
    def _backend(name: str, upstream: Upstream, shared: BackoffRules | None, pacing: Pacing, seed: int) -> Backend:
        return Backend(
            f"{name}.default",
            upstream,  # type: ignore[arg-type]
            SingleFlight(NoCredential()),
            upstream.retries or Never(),
            shared,
            pacing,
            logging.getLogger(f"llmgate.backend.{name}.default"),
            random.Random(seed),
            dialects=upstream.dialects,
        )

    async def ask(self, selector: str, *, after: float = 0.0, stream: bool = False) -> Ended:
        """One request from its beginning to its end."""
        await asyncio.sleep(after)
        self._asked += 1
        began = now()
        body = Body(json.dumps({"model": selector, "messages": [{}], "stream": stream}).encode())
        request = GatewayRequest(f"req_{self._asked}", "openai.chat", "generate", selector, body, stream, {})
        record = RequestRecord(request.id, "POST", "/", 0.0)
        plan = resolve(parse(selector), self.backends.names)
        try:
            answer = await self.executor.run(request, plan, record)
        except ConnectorError as error:
            return Ended(record, now() - began, error=error)
        return await self._read(answer, Ended(record, now() - began, headers=answer.headers))

    @staticmethod
    async def _read(answer: Answer, ended: Ended) -> Ended:
        try:
            async for chunk in answer.chunks:
                ended.body += chunk
        except ConnectorError as error:
            ended.error = error
        finally:
            await answer.aclose()
        return ended
