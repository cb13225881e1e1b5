"""How the branches of a plan are tried: one after the other, drawn by weight, or in parallel.

Small coroutines over one `attempt`, which the executor gives them; they decide who is asked when, and nothing else.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from .errors import KINDS, ConnectorError, RequestError
from .selector import Branch


class NotAsked(ConnectorError):  # noqa: N818 - a fact about a branch
    """Nothing is left of the budget for a branch: what those before it met is what the caller wants to hear of."""


class Unsayable(NotAsked):
    """A branch cannot be asked for what this request wants; another one may be.

    Args:
        refusal: why, for a caller whose request no branch takes.
    """

    def __init__(self, refusal: RequestError) -> None:
        super().__init__("not_found", refusal.message)
        self.refusal = refusal


class Closable(Protocol):
    """What an attempt gives: an answer that has to be closed where nobody wants it."""

    @property
    def aclose(self) -> Callable[[], Awaitable[None]]:
        """Releases it; hangs up on its upstream."""


A = TypeVar("A", bound=Closable)
A_co = TypeVar("A_co", bound=Closable, covariant=True)


class Attempt(Protocol[A_co]):
    """Tries one branch until it is settled.

    Args:
        is_last: no other branch is ready, so that it is worth waiting for this one.
        races: others are tried at the same time, so that only something meaningful counts as an answer.
        left: the branches that follow, for one that can fail after its caller has heard something.

    Raises:
        ConnectorError: the branch has failed.
    """

    async def __call__(
        self, branch: Branch, *, is_last: bool = False, races: bool = False, left: Sequence[Branch] = ()
    ) -> A_co:
        """The answer of the branch."""


MayFollow = Callable[[ConnectorError, Branch, Branch], bool]
"""Whether, after a failure of the first branch, the second may be tried."""

Ready = Callable[[Sequence[Branch]], Sequence[Branch]]
"""Which of these branches, at least one, are worth trying at this moment."""


async def failover(branches: Sequence[Branch], attempt: Attempt[A], may_follow: MayFollow, ready: Ready) -> A:
    """The answer of the first branch, from left to right, that has one; raises the decisive failure of all.

    One that is not ready when its turn comes is tried after those that are: it may help where none of them could.
    """
    failures: list[ConnectorError] = []
    left = list(branches)
    while left:
        branch, *others = ready(left)
        left.remove(branch)
        try:
            return await attempt(branch, is_last=not others, left=tuple(left))
        except ConnectorError as error:
            failures.append(error)
            left = [other for other in left if may_follow(error, branch, other)]
    raise decisive(failures)


def drawn(branches: Sequence[Branch], chance: random.Random) -> list[Branch]:
    """All branches in an order drawn by their weights: the rest is drawn again as if those before were not there."""
    left, order = list(branches), []
    while left:
        weights = [1.0 if branch.weight is None else branch.weight for branch in left]
        order.append(left.pop(chance.choices(range(len(left)), weights)[0]))
    return order


async def parallel(branches: Sequence[Branch], attempt: Attempt[A]) -> A:
    """The first answer of all, each branch starting later than the one with the highest handicap by the difference.

    A branch that fails starts the waiting ones at once. Losers are cancelled, closed and awaited.
    """
    race = _Race(branches, attempt)
    try:
        return await race.won()
    finally:
        await race.end()


@dataclass(frozen=True)
class _Runner:
    branch: Branch
    after: float  # seconds after the first


class _Race(Generic[A]):
    def __init__(self, branches: Sequence[Branch], attempt: Attempt[A]) -> None:
        first = max(branch.handicap or 0.0 for branch in branches)
        runners = (_Runner(branch, first - (branch.handicap or 0.0)) for branch in branches)
        self._waiting = sorted(runners, key=lambda runner: runner.after)
        self._attempt = attempt
        self._running: set[asyncio.Task[A]] = set()
        self._began = asyncio.get_running_loop().time()
        self._winner: asyncio.Task[A] | None = None

    async def won(self) -> A:
        """The winner's answer; raises the decisive failure where everybody fails."""
        failures: list[ConnectorError] = []
        while self._waiting or self._running:
            self._start(all_at_once=bool(failures))
            done, self._running = await asyncio.wait(
                self._running, timeout=self._until_next(), return_when=asyncio.FIRST_COMPLETED
            )
            self._running |= done  # until they have been looked at
            for task in done:
                self._running.discard(task)
                if (failure := _failure(task)) is None:
                    self._winner = task
                    self._running |= done - {task}  # two at once: the other one is closed at the end
                    return task.result()
                failures.append(failure)
                if not KINDS[failure.kind].failover:  # the request's own fault: nobody new is asked
                    self._waiting.clear()
        raise decisive(failures)

    async def end(self) -> None:
        """Cancels who still runs, waits for their end, and closes the answers that come too late."""
        losers = [task for task in self._running if task is not self._winner]
        for task in losers:
            task.cancel()
        if losers:
            await asyncio.wait(losers)
        for task in losers:
            if not task.cancelled() and task.exception() is None:
                await task.result().aclose()

    def _start(self, *, all_at_once: bool) -> None:
        passed = asyncio.get_running_loop().time() - self._began
        while self._waiting and (all_at_once or self._waiting[0].after <= passed):
            branch = self._waiting.pop(0).branch
            self._running.add(asyncio.ensure_future(self._attempt(branch, races=True)))

    def _until_next(self) -> float | None:
        if not self._waiting:
            return None
        return max(0.0, self._began + self._waiting[0].after - asyncio.get_running_loop().time())


def _failure(task: asyncio.Task[A]) -> ConnectorError | None:
    """How a leg has failed; raises what is no failure of a branch."""
    if task.cancelled():
        raise asyncio.CancelledError
    error = task.exception()
    if error is not None and not isinstance(error, ConnectorError):
        raise error
    return error


def decisive(failures: Sequence[ConnectorError]) -> ConnectorError:
    """The failure that the caller is told: the last that reached an upstream; `disabled` only where nothing else was.

    When to come back is the soonest that any of the branches named.
    """
    asked = [failure for failure in failures if not isinstance(failure, NotAsked)] or list(failures)
    others = [failure for failure in asked if failure.kind != "disabled"] or asked
    reached = [failure for failure in others if failure.status or failure.type or failure.code]
    told = (reached or others)[-1]
    hints = [failure.retry_after for failure in failures if failure.retry_after is not None]
    if told.kind in ("rate_limited", "unavailable", "quota") and hints:
        told.retry_after = min(hints)
    return told
