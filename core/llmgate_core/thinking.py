"""The two phases of a hybrid as they happen: reasoning passes on live, then the other model's answer follows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from .attempts import Answer, one_chunk
from .dialects import chat
from .errors import ConnectorError, RequestError
from .hybrid import Outcome, ReasoningReader, Told, execution_request, thinking_request, whole
from .mending import mended
from .replies import SSE
from .request import GatewayRequest
from .selector import Branch, Leaf
from .sse import Parser
from .strategies import Unsayable
from .translate import LOST_HEADER, Translation
from .translate.chat_answers import chunk_of
from .translate.passing import translated
from .translate.ways import way
from .wire import Body

HYBRID_HEADER = "x-llmgate-hybrid"
"""The response header that tells what became of the reasoning."""

Execute = Callable[[str], Awaitable[Answer]]
"""Asks the second model, with what the first has thought, or with nothing; raises ConnectorError."""


GoOn = Callable[[ConnectorError], Awaitable[Answer]]
"""Asks the branches that follow upon one that has failed in this way; raises that failure where there are none."""


class Ask(Protocol):
    """Asks one model."""

    async def __call__(
        self, request: GatewayRequest, branch: Branch, /, *, is_last: bool, races: bool, is_owed: bool
    ) -> Answer:
        """Its answer to a request in Chat Completions; raises ConnectorError.

        Args:
            is_owed: the budget must not stand against it, as a phase before it was paid for.
        """


class Thinking:
    """The first model's answer while it comes. What it says beside its reasoning is of no use, and is not waited for.

    Args:
        answer: in Chat Completions, streamed.
        until: loop time in seconds at which it has to be complete.

    Attributes:
        failed: it was cut off, came too late, or held no reasoning; it is not to be used.
    """

    def __init__(self, answer: Answer, until: float) -> None:
        self.failed = False
        self.reader = ReasoningReader()
        self._answer = answer
        self._until = until
        self._pieces = self._read()
        self._first = ""

    async def begun(self) -> bool:
        """Whether there is any reasoning; waits for the first of it. Closes the answer where there is none."""
        try:
            while not self._first.strip():
                self._first += await anext(self._pieces)
        except StopAsyncIteration:
            self.failed = True
        except BaseException:
            await self.aclose()
            raise
        return not self.failed

    async def pieces(self) -> AsyncGenerator[str, None]:
        """The reasoning as it comes, once it has begun; the upstream is hung up on when it is complete."""
        yield self._first
        async for piece in self._pieces:
            yield piece

    async def _read(self) -> AsyncGenerator[str, None]:
        parser = Parser()
        try:
            while not self.reader.complete:
                async with asyncio.timeout_at(self._until):
                    data = await anext(self._answer.chunks, None)
                if data is None:
                    raise ConnectorError("protocol", "the stream of reasoning was cut off")
                if said := "".join(self._said(data, parser)):
                    yield said
        except (ConnectorError, TimeoutError, ValueError):
            self.failed = True
        finally:
            await self._answer.aclose()

    def _said(self, data: bytes, parser: Parser) -> list[str]:
        said = []
        for event in parser.feed(data):
            if event.data.strip() == b"[DONE]":
                self.reader.complete = True
            elif event.data:
                said.append(self.reader.feed(chunk_of(event)))
        return said

    async def all(self) -> str:
        """All of the reasoning, for an answer that is told at once; empty where it failed."""
        async for _ in self.pieces():
            pass
        return self.used

    @property
    def used(self) -> str:
        """What the second model is told: nothing where it failed."""
        return "" if self.failed else self.reader.text

    async def aclose(self) -> None:
        """Hangs up on the first model, wherever it stands; twice does no harm."""
        try:
            await self._pieces.aclose()
        finally:
            await self._answer.aclose()


@dataclass(frozen=True)
class Pair:
    """A branch of two models.

    Args:
        is_last, races: as the strategy says of the branch.
        wants_effort, can_rest: as `thinking_request` and `execution_request` want to know of the two.
        seconds: in which the reasoning has to be complete.
        created: Unix time in seconds.
    """

    branch: Branch
    reasoning: Leaf
    is_last: bool
    races: bool
    wants_effort: bool
    can_rest: bool
    seconds: float
    created: int


class Phases:
    """What becomes of one request to a pair, from the request to an answer in the caller's dialect.

    Args:
        go_on: answers the same request by the branches that follow; raises the failure that it is given, or theirs.

    Attributes:
        usage: of both phases of a plain answer; None as long as nobody has told.
    """

    def __init__(
        self, pair: Pair, ask: Ask, go_on: Callable[[GatewayRequest, ConnectorError], Awaitable[Answer]]
    ) -> None:
        self.usage: Mapping[str, Any] | None = None
        self._pair = pair
        self._ask = ask
        self._go_on = go_on

    async def answer(self, request: GatewayRequest, outcome: Outcome) -> Answer:
        """The answer; a stream begins with the first of the reasoning.

        Args:
            outcome: `used`, or why the first model is not asked.

        Raises:
            ConnectorError: nobody answers, or the request cannot be said in Chat Completions.
        """
        hub, near = in_hub(request)
        thinking = await self._begun(hub) if outcome == "used" else None
        if thinking is not None and request.stream:
            answer = self._streamed(hub, thinking)
        else:
            answer = await self._plain(hub, thinking, outcome)
        return answer if near is None else await said_by(near, answer, request)

    async def _begun(self, hub: GatewayRequest) -> Thinking | None:
        """The first model thinking; None where it fails, whatever the reason."""
        pair = self._pair
        until = asyncio.get_running_loop().time() + pair.seconds
        asked = replace(hub, body=thinking_request(hub.body, wants_effort=pair.wants_effort), stream=True)
        one = Branch(pair.reasoning, ttft_timeout=min(pair.seconds, pair.branch.ttft_timeout or pair.seconds))
        try:
            answer = await self._ask(asked, one, is_last=False, races=pair.races, is_owed=False)
        except ConnectorError:
            return None
        thinking = Thinking(answer, until)
        return thinking if await thinking.begun() else None

    async def _execute(self, hub: GatewayRequest, reasoning: str, *, is_owed: bool) -> Answer:
        pair = self._pair
        asked = replace(hub, body=execution_request(hub.body, reasoning, can_rest=pair.can_rest))
        one = Branch(pair.branch.leaf, ttft_timeout=pair.branch.ttft_timeout)
        return await self._ask(asked, one, is_last=pair.is_last, races=pair.races, is_owed=is_owed)

    def _streamed(self, hub: GatewayRequest, thinking: Thinking) -> Answer:
        """The caller hears of the reasoning at once. What fails behind it is for the branches that follow to mend."""

        async def execute(reasoning: str) -> Answer:
            return await self._execute(hub, reasoning, is_owed=True)

        async def go_on(failure: ConnectorError) -> Answer:
            return await self._go_on(hub, failure)

        leaf = self._pair.branch.leaf
        told = Told(f"chatcmpl-{hub.id}", self._pair.created, leaf.model)
        headers = {"content-type": SSE, HYBRID_HEADER: "used", "x-llmgate-backend": str(leaf.backend)}
        if hub.lost:
            headers[LOST_HEADER] = ",".join(hub.lost)
        chunks = streamed(thinking, told, execute, go_on)
        return Answer(200, headers, chunks, thinking.aclose, stream=True).through(chunks)

    async def _plain(self, hub: GatewayRequest, thinking: Thinking | None, outcome: Outcome) -> Answer:
        """The second model's answer with the reasoning in it; a stream where there is none, as it comes."""
        reasoning = await thinking.all() if thinking else ""
        if outcome == "used" and not reasoning:
            outcome = "reasoning-failed"
        answer = await self._execute(hub, reasoning, is_owed=thinking is not None)
        answer.headers[HYBRID_HEADER] = outcome
        if answer.stream or thinking is None:
            return answer
        data = whole(await _data(answer), thinking.reader if reasoning else ReasoningReader(), outcome)
        self.usage = Body(data).get("usage")
        answer.headers["content-length"] = str(len(data))
        return answer.through(one_chunk(data))


def in_hub(request: GatewayRequest) -> tuple[GatewayRequest, Translation | None]:
    """The same request in Chat Completions, and the way back.

    Raises:
        ConnectorError: it cannot be said there.
    """
    found = way(request.dialect, [chat.DIALECT])
    if found is None:
        raise ConnectorError("not_found", f"a hybrid cannot be asked for in the dialect `{request.dialect}`")
    if found[1] is None:
        return replace(request, original=request), None
    try:
        near = found[1](request.body, None)
    except RequestError as refusal:
        raise Unsayable(refusal) from None
    return replace(request, dialect=chat.DIALECT, body=near.body, lost=near.lost, original=request), near


async def said_by(near: Translation, answer: Answer, request: GatewayRequest) -> Answer:
    """An answer in Chat Completions as the caller's dialect has it."""
    answer.is_translated = True
    context = f"backend {answer.headers.get('x-llmgate-backend', '')}"
    if answer.stream:
        return answer.through(translated(answer.chunks, near.stream(), context=context, request_id=request.id))
    try:
        data = near.reply(await _data(answer))
    except BaseException:
        await answer.aclose()
        raise
    answer.headers["content-length"] = str(len(data))
    return answer.through(one_chunk(data))


async def _data(answer: Answer) -> bytes:
    return b"".join([chunk async for chunk in answer.chunks])


async def streamed(thinking: Thinking, told: Told, execute: Execute, go_on: GoOn) -> AsyncGenerator[bytes, None]:
    """The caller's stream, in Chat Completions: the reasoning as it comes, then the other model's answer.

    Until that has said something, the branches that follow may answer in its place.

    Raises:
        ConnectorError: nobody could answer, or the answer broke off.
    """
    answer: Answer | None = None
    try:
        async for piece in thinking.pieces():
            yield told.reasoning(piece)
        told.outcome = "reasoning-failed" if thinking.failed else "used"
        told.thought = thinking.reader.usage
        failure: ConnectorError | None = None
        while not told.has_answered:
            try:
                answer = await (execute(thinking.used) if failure is None else go_on(failure))
                async for chunk in mended(answer.chunks, told, stream=True):
                    yield chunk
                if not told.has_answered:
                    raise ConnectorError("protocol", "the upstream ended the stream before the answer had begun")
            except ConnectorError as error:
                if told.has_answered or failure is not None:  # the branches that follow have had their turn
                    raise
                failure, told.outcome = error, "reasoning-unused"
                if answer is not None:
                    await answer.aclose()
    finally:
        await thinking.aclose()
        if answer is not None:
            await answer.aclose()
