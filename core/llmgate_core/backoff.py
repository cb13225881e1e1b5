"""What the requests of one backend do after a rate limit: they share one deadline, and do not come back as a herd.

`Backoff` is the deadline; it knows neither clock nor sleep. `Turn` is the place of one request before it.
All times are monotonic seconds.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from .errors import ConnectorError

EARLY_SECONDS = 0.01
"""A timer may fire that much too early; nobody waits again for so little."""

COME_BACK_SECONDS = 1.0
"""What a caller is told who has queued for too long, where nothing better is known."""

T = TypeVar("T")


@dataclass(frozen=True)
class BackoffRules:
    """How a backend backs off; what a connector's `backoff()` returns.

    Args:
        max_wait: seconds that one request waits for deadlines, altogether; where that is too short, its caller is
            told at once when to come back.
        name: what the log calls it.
        longest: seconds for which an upstream's hint is believed; then one request tries.
        probe_wait: seconds that one request waits for the outcome of such tries, and for its turn behind them.
        gap: seconds between two of those that are released afterwards, on average.
        unhinted: seconds until the deadline where neither the upstream nor the retry policy names a time; with 0
            there is none then.

    Raises:
        ValueError: a time is negative or not finite.
    """

    max_wait: float
    name: str = "rate-limit backoff"
    longest: float = 1800.0
    probe_wait: float = 30.0
    gap: float = 0.1
    unhinted: float = 0.0

    def __post_init__(self) -> None:
        for name in ("max_wait", "longest", "probe_wait", "gap", "unhinted"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"`{name}` must be finite seconds, not below 0")


class Backoff:
    """The deadline of one backend. When it ends, one request goes first; the first success ends the backoff.

    Attributes:
        number: counts the deadlines.
        has_first: whether a request has gone first, and is not back yet.
        waiting: how many requests wait for their turn.
        news: set when a deadline has been set or has gone, or when the first is back; then there is another one.
    """

    def __init__(self, rules: BackoffRules) -> None:
        self.rules = rules
        self.number = 0
        self.has_first = False
        self.waiting = 0
        self.news = asyncio.Event()
        self._until: float | None = None
        self._recorded_at = 0.0
        self._last_seconds = 0.0
        self._over_since = -math.inf

    @property
    def is_over(self) -> bool:
        """Whether everybody may go."""
        return self._until is None

    @property
    def is_idle(self) -> bool:
        """Whether there is no deadline, and nobody waits for one."""
        return self.is_over and not self.waiting and not self.has_first

    def remaining(self, now: float) -> float:
        """Seconds until the deadline, 0 where there is none."""
        return 0.0 if self._until is None else max(0.0, self._until - now)

    def record(self, hint: float | None, wait: float | None, *, sent: float, now: float) -> float | None:
        """Takes note of a rate limit; seconds until the deadline, None where nothing is known of one.

        Args:
            hint: seconds that the upstream asked for.
            wait: seconds that the retry policy would wait, for an upstream that named no time.
            sent: when the request went out that was refused. What went out before the last deadline was set has
                met the same limit, and says nothing new unless it names a later time.
        """
        is_old = sent < (self._over_since if self._until is None else self._recorded_at)
        guess = (self._last_seconds or self.rules.unhinted) if wait is None else wait
        if hint is None and (is_old or not guess):
            return None if self._until is None else self.remaining(now)
        seconds = min(guess if hint is None else hint, self.rules.longest)
        until = now + seconds
        if not is_old or self._until is None or until > self._until:
            self._until, self._recorded_at, self._last_seconds = until, now, seconds
            self.number += 1
            self.tell()
        return self.remaining(now)

    def succeeded(self, sent: float) -> None:
        """A success of what went out after the deadline was set ends the backoff."""
        if self._until is not None and sent >= self._recorded_at:
            self._until, self._last_seconds, self._over_since = None, 0.0, sent
            self.tell()

    def tell(self) -> None:
        """Wakes all who wait for news."""
        news, self.news = self.news, asyncio.Event()
        news.set()


class Turn:
    """One request before one backend, from its first attempt to its last: `come`, then `succeeded` or `failed`.

    Args:
        backoff: the backend's; None where it has none, and nobody waits for others.
        sleep: awaited with seconds.
        monotonic: seconds.
        patient: whether it may wait at all; another backend would take over from one that may not.
    """

    def __init__(
        self,
        backoff: Backoff | None,
        logger: logging.Logger,
        random: random.Random,
        *,
        sleep: Callable[[float], Awaitable[None]],
        monotonic: Callable[[], float],
        patient: bool = True,
    ) -> None:
        self._patient = patient
        self._backoff = backoff
        self._logger = logger
        self._random = random
        self._sleep = sleep
        self._now = monotonic
        self._pause = 0.0  # of its own, before the next attempt
        self._sent = 0.0
        self._waited = 0.0  # for deadlines
        self._queued = 0.0  # for who went first, and so as not to go all at once
        self._is_held = False  # the caller waits although the upstream has refused
        self._excused = -1  # the deadline that this request need not wait for any longer
        self._is_first = False

    async def come(self) -> float | None:
        """Returns when the request may go: None, or the seconds until the deadline where that is too long to wait."""
        if self._pause:
            pause, self._pause = self._pause, 0.0
            await self._sleep(pause)
        if self._backoff is not None and not self._backoff.is_over:
            self._backoff.waiting += 1
            try:
                if (too_long := await self._queue(self._backoff)) is not None:
                    return too_long
            finally:
                self._backoff.waiting -= 1
        self._sent = self._now()
        return None

    def succeeded(self) -> None:
        """The upstream has answered well."""
        if self._backoff is not None:
            self._backoff.succeeded(self._sent)

    def failed(self, error: ConnectorError, wait: float | None) -> None:
        """The attempt has failed; `wait` is what the retry policy says, in seconds, None for no further attempt.

        Where the upstream named no time, the error names that of the deadline: it is what all later callers are told.
        """
        if self._backoff is None or error.kind != "rate_limited":
            self._pause = wait or 0.0
            return
        self._pause, self._is_held = 0.0, wait is not None  # `come` waits for the deadline
        left = self._backoff.record(error.retry_after, wait, sent=self._sent, now=self._now())
        if left is not None:
            self._logger.debug("%s recorded: wait=%.3f s", self._backoff.rules.name, left)
            error.retry_after = left if error.retry_after is None else error.retry_after

    def over(self) -> None:
        """The attempt is over, whatever its outcome; to be called after each, also when it was cancelled."""
        if self._backoff is not None and self._is_first:
            self._is_first = self._backoff.has_first = False
            self._backoff.tell()

    async def _queue(self, backoff: Backoff) -> float | None:
        while not backoff.is_over:
            if (too_long := await self._wait_for_the_end(backoff)) is not None or self._is_first:
                return too_long
            # Released: not all at once, and another limit may have been met by those who went before.
            wait = self._random.uniform(0.0, backoff.rules.gap * (backoff.waiting - 1))
            await self._queue_for(self._sleep(min(wait, self._patience(backoff))))
        return None

    async def _wait_for_the_end(self, backoff: Backoff) -> float | None:
        """Until the backoff is over, or this request goes first; seconds where it would take too long."""
        while not backoff.is_over:
            left = backoff.remaining(self._now())
            if left > EARLY_SECONDS and self._excused != backoff.number:
                if (too_long := await self._sit_out(backoff, left)) is not None:
                    return too_long
            elif not backoff.has_first:
                self._is_first = backoff.has_first = True
                return None
            elif not await self._queue_for(self._news_within(backoff, self._patience(backoff))):
                return max(left, COME_BACK_SECONDS)
        return None

    def _patience(self, backoff: Backoff) -> float:
        """Seconds that this request may still queue, however often somebody goes first."""
        return max(0.0, backoff.rules.probe_wait - self._queued) if self._patient else 0.0

    async def _queue_for(self, wait: Awaitable[T]) -> T:
        began = self._now()
        try:
            return await wait
        finally:
            self._queued += self._now() - began

    async def _sit_out(self, backoff: Backoff, left: float) -> float | None:
        """Waits for the deadline; a request whose first refusal is held waits as long as it may, and then goes."""
        allowed = backoff.rules.max_wait - self._waited if self._patient else 0.0
        if left > allowed and (self._waited or not self._is_held):
            return left
        self._logger.debug("%s active: remaining=%.3f s", backoff.rules.name, left)
        number, began = backoff.number, self._now()
        await self._news_within(backoff, min(left, allowed))
        self._waited += self._now() - began
        if left > allowed and not backoff.is_over:
            self._excused = number
        return None

    async def _news_within(self, backoff: Backoff, seconds: float) -> bool:
        """Waits that long, or until there is news; whether there was."""
        news = backoff.news
        tasks = [asyncio.ensure_future(news.wait()), asyncio.ensure_future(self._sleep(seconds))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        return news.is_set()
