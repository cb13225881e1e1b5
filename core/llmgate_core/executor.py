"""Runs a plan within its budget: which branches are asked, in which way, and what is told where all fail."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from . import max_context, strategies, thinking
from . import policies as policy_chain
from .attempts import Answer, Attempts, Budget, Errand, Spending
from .backends import Backend, Backends
from .backoff import COME_BACK_SECONDS
from .connectors import ModelInfo, Policy, Thinking
from .dialects import spoken
from .dialects.fitting import fit
from .errors import KINDS, ConnectorError, RequestError
from .hybrid import Outcome
from .observe import Redactor
from .policies import model_limits
from .request import GENERATE, Dialect, GatewayRequest, Params, RequestRecord
from .sections import HybridConfig
from .selector import Branch, Leaf, RoutePlan
from .translate import LOST_HEADER, Translation
from .translate.ways import way
from .wire import Body

__all__ = ["Answer", "Budget", "Executor", "Prepared"]

logger = logging.getLogger("llmgate.executor")


@dataclass(frozen=True)
class Prepared:
    """One attempt's body and headers, after policies and parameters: what `llmgate explain` shows, too.

    Args:
        dialect: in which the body goes up.
        translation: from the caller's dialect, None where the upstream speaks that.
    """

    body: Body
    params: Params
    dialect: Dialect
    headers: Mapping[str, str] = field(default_factory=dict)
    translation: Translation | None = None
    left_out: Sequence[model_limits.LeftOut] = ()


def _understood(
    request: GatewayRequest, backend: Backend, info: ModelInfo
) -> tuple[GatewayRequest, Translation | None]:
    """The request in a dialect that the backend speaks.

    Args:
        info: what is known of the model.

    Raises:
        ConnectorError: kind `not_found`, there is none that the caller's could be said in.
        RequestError: it says something that cannot be said there.
    """
    found = way(request.dialect, backend.dialects)
    if found is None or (found[1] is not None and request.operation != GENERATE):
        raise ConnectorError("not_found", f"backend `{backend.name}` does not speak `{request.dialect}`")
    dialect, translate = found
    if translate is None:
        return replace(request, body=spoken(dialect).passed(request.body)), None
    translation = translate(request.body, info)
    return replace(request, dialect=dialect, body=translation.body), translation


class Executor:
    """Turns a request and its plan into an answer.

    Args:
        chance: draws among weighted branches.
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
        hybrid: HybridConfig | None = None,
        chance: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        hold_seconds: float = 5.0,
    ) -> None:
        self._backends = backends
        self._policies = policies
        self._budget = budget
        self._hybrid = hybrid or HybridConfig()
        self._chance = chance or random.Random()  # noqa: S311 - it balances load, and hides nothing
        self._monotonic = monotonic
        self._hold_seconds = hold_seconds
        self._attempts = Attempts(redactor, sleep=sleep, monotonic=monotonic)

    def now(self) -> float:
        """Monotonic seconds, as circuits and deadlines count them."""
        return self._monotonic()

    async def run(self, request: GatewayRequest, plan: RoutePlan, record: RequestRecord) -> Answer:
        """The committed answer to `request`; `record` gets one Attempt for each try.

        Raises:
            RequestError: no branch can be asked: policies refuse, it cannot be said in the upstream's dialect, or it is
                estimated too large.
            ConnectorError: every branch failed; the decisive failure, with nothing secret in it.
        """
        try:
            return await self._run(request, plan, record)
        except strategies.Unsayable as error:
            raise error.refusal from None

    async def _run(self, request: GatewayRequest, plan: RoutePlan, record: RequestRecord) -> Answer:
        journey = _Journey(request, record, Spending(self._budget, record, self._monotonic))

        attempt = partial(self._attempt, journey)
        fitting = max_context.fit(plan, request.body)
        for left_out in fitting.left_out:
            logger.debug("%s left out, as it has some %d tokens: %s", request.id, fitting.tokens, left_out)
        branches = fitting.branches
        if len(branches) == 1:
            return await attempt(branches[0], is_last=True)
        if plan.operator == "!" and len(ready := self._ready(branches)) > 1:
            return await strategies.parallel(ready, attempt)
        if plan.operator == "^":
            branches = strategies.drawn(branches, self._chance)
        return await strategies.failover(branches, attempt, self._may_follow, self._ready)

    def backend_of(self, leaf: Leaf) -> Backend:
        """The backend that a resolved leaf names."""
        return self._backends[leaf.backend or ""]

    def prepare(self, request: GatewayRequest, leaf: Leaf) -> Prepared:
        """The body of an attempt: the caller's bytes, with the model and the parameters that are not the caller's.

        Raises:
            RequestError: a policy refuses, or the upstream's dialect cannot say it.
        """
        backend = self.backend_of(leaf)
        info = backend.facts(leaf.model) or ModelInfo(leaf.model)
        asked = request
        request, translation = _understood(asked, backend, info)
        if request.operation != GENERATE:  # nothing is sampled
            return Prepared(request.body.splice({"model": leaf.model}), Params(), request.dialect)
        dialect = spoken(request.dialect)
        lost: Sequence[str] = ()
        if translation is not None or request.lost is not None:
            fitted, refused = fit(request.body, info.refuses, dialect.params, dialect.placed)
            lost = (*(request.lost or ()), *(translation.lost if translation else ()), *refused)
            request = replace(request, body=fitted)
        excluding = [name for group in info.excludes for name in group]
        own = dialect.params(request.body, [*backend.default_params, *excluding])
        params = Params({"default": backend.default_params, "client": own, "forced": backend.forced_params})
        verdict = policy_chain.apply_all(self._policies, asked.original or asked, leaf, params)
        params, left_out = model_limits.limit(verdict.params, info, dialect.has_no_place)
        ours = {name: setting.value for name, setting in params.effective().items() if setting.layer != "client"}
        changes = dialect.placed(ours, request.body, info.refuses)
        if changes and logger.isEnabledFor(logging.DEBUG):
            logger.debug("%s parameters: %s", request.id, params)
        if leaf.model != request.selector:
            changes["model"] = leaf.model
        headers = model_limits.told(request.id, verdict.told(params), left_out)
        if lost:
            headers = {**headers, LOST_HEADER: ",".join(lost)}
        return Prepared(request.body.splice(changes), params, request.dialect, headers, translation, left_out)

    def _ready(self, branches: Sequence[Branch]) -> Sequence[Branch]:
        """The branches that are worth asking: those whose circuit is closed, or all where it is so for none."""
        now = self._monotonic()
        ready = [branch for branch in branches if self.backend_of(branch.leaf).circuit(branch.leaf.model).allows(now)]
        return ready or branches

    def _may_follow(self, failure: ConnectorError, failed: Branch, other: Branch) -> bool:
        """A request that is at fault fails everywhere; one that is too long needs a branch known to hold more."""
        if failure.kind == "context_length":
            return (self._context(other) or 0) > (self._context(failed) or math.inf)
        return KINDS[failure.kind].failover

    def _context(self, branch: Branch) -> int | None:
        """The tokens that a branch holds: the selector's word, then what is known of its model."""
        if branch.max_context is not None:
            return branch.max_context
        info = self.backend_of(branch.leaf).facts(branch.leaf.model)
        return info.context if info else None

    async def _attempt(
        self,
        journey: _Journey,
        branch: Branch,
        *,
        is_last: bool = False,
        races: bool = False,
        left: Sequence[Branch] = (),
    ) -> Answer:
        """One branch, until it is settled; from the original request, so that every attempt starts identical."""
        if branch.reasoning is None or journey.request.operation != GENERATE:
            return await self._try(journey, branch, is_last=is_last, races=races)

        async def ask(request: GatewayRequest, one: Branch, *, is_last: bool, races: bool, is_owed: bool) -> Answer:
            spending = journey.spending.renewed() if is_owed else journey.spending
            inner = replace(journey, request=request, spending=spending)
            answer = await self._try(inner, one, is_last=is_last, races=races)
            if one.leaf is branch.reasoning and journey.record.served_by is not None:
                journey.record.served_by.message = "it has thought"  # where attempts are told, it has not failed
            return answer

        async def go_on(request: GatewayRequest, failure: ConnectorError) -> Answer:
            rest = [other for other in left if self._may_follow(failure, branch, other)]
            if not rest:
                raise failure
            attempt = partial(self._attempt, replace(journey, request=request))
            return await strategies.failover(rest, attempt, self._may_follow, self._ready)

        pair = thinking.Pair(
            branch,
            branch.reasoning,
            is_last=is_last,
            races=races,
            wants_effort=self.thinks(branch.reasoning, "optional", "always"),
            can_rest=self.thinks(branch.leaf, "optional"),
            seconds=self._hybrid.reasoning_timeout_seconds,
            created=int(journey.record.started),
        )
        phases = thinking.Phases(pair, ask, go_on)
        answer = await phases.answer(journey.request, self._outcome(journey, branch.reasoning))
        journey.record.usage = phases.usage or journey.record.usage
        return answer

    def _outcome(self, journey: _Journey, reasoning: Leaf) -> Outcome:
        """What can be said of the reasoning before anybody is asked; an answer alone is better than none."""
        outcome = self._hybrid.drawn(self._chance)
        is_open = not self.backend_of(reasoning).circuit(reasoning.model).allows(self._monotonic())
        if outcome == "used" and (is_open or not journey.spending.allows(besides=1)):
            return "reasoning-failed"
        return outcome

    def thinks(self, leaf: Leaf, *when: Thinking) -> bool:
        """Whether a model is known to think at these times, and to take an effort."""
        info = self.backend_of(leaf).facts(leaf.model)
        return info is not None and info.thinking in when and "reasoning_effort" not in info.refuses

    async def _try(
        self,
        journey: _Journey,
        branch: Branch,
        *,
        is_last: bool,
        races: bool,
    ) -> Answer:
        """One model, until it is settled."""
        if journey.record.attempts and not journey.spending.allows():
            raise strategies.NotAsked("unavailable", "no attempt is left for this branch (`failure_handling`)")
        leaf, request, record = branch.leaf, journey.request, journey.record
        backend = self.backend_of(leaf)
        try:
            prepared = self.prepare(request, leaf)
        except RequestError as refusal:
            logger.debug("%s %s is not asked: %s", request.id, backend.name, refusal.message)
            raise strategies.Unsayable(refusal) from None
        is_only = is_last and not races
        errand = Errand(
            backend,
            leaf,
            request,
            prepared.body,
            record,
            dialect=prepared.dialect,
            translation=prepared.translation,
            patient=is_only,
            is_last=is_only and branch.ttft_timeout is None,
            hold_seconds=None if races or branch.ttft_timeout else self._hold_seconds,
        )
        try:
            with backend.circuit(leaf.model).watching(self._monotonic, errand.said):
                answer = await self._within(branch, errand, journey.spending)
        except RequestError as refusal:  # the connector's, which has no words for it
            raise strategies.Unsayable(refusal) from None
        record.served_by = errand.attempts[-1]
        answer.is_translated = prepared.translation is not None
        lost = [told for told in (prepared.headers.get(LOST_HEADER), answer.headers.get(LOST_HEADER)) if told]
        answer.headers |= prepared.headers
        if lost:
            answer.headers[LOST_HEADER] = ",".join(lost)
        answer.headers["x-llmgate-backend"] = backend.name
        answer.headers["x-llmgate-attempts"] = str(len(record.attempts))
        return answer

    async def _within(self, branch: Branch, errand: Errand, spending: Spending) -> Answer:
        """The branch's answer, within its `ttft_timeout`."""
        limit = asyncio.timeout(branch.ttft_timeout)
        try:
            async with limit:
                return await self._attempts.settle(errand, spending)
        except TimeoutError:
            if not limit.expired():
                raise
            if errand.said() == "rate_limited" or not errand.attempts:  # it has waited for the end of a limit
                backoff = errand.backend.backoff(errand.leaf.model)
                left = backoff.remaining(self._monotonic()) if backoff else 0.0
                raise errand.backed_off(None, max(left, COME_BACK_SECONDS)) from None
            told = f"backend `{errand.backend.name}` said nothing within {branch.ttft_timeout:g} s (`ttft_timeout`)"
            if errand.attempts and errand.said() is None:  # else it has answered, and the rest was waiting
                errand.attempts[-1].kind, errand.attempts[-1].message = "timeout", told
            raise ConnectorError("timeout", told) from None


@dataclass(frozen=True)
class _Journey:
    request: GatewayRequest
    record: RequestRecord
    spending: Spending
