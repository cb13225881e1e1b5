"""Whether a backend that keeps failing is worth asking: a circuit that opens, and closes again. No clock, no I/O.

All times are monotonic seconds. `executor` asks it only where a plan has another branch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from .errors import ConnectorError, Kind

State = Literal["closed", "open", "half-open"]

FAILING: frozenset[Kind] = frozenset({"auth", "unavailable", "timeout", "protocol", "bug"})
"""Failures that say something about the backend; any other answer shows that it works."""

SILENT: frozenset[Kind | None] = frozenset({"disabled", None})
"""What says nothing: the backend was not asked."""


@dataclass(frozen=True)
class CircuitRules:
    """When a circuit opens and for how long.

    Args:
        failures: in a row, after which it opens.
        seconds: how long it stays open at first; twice as long after each attempt that fails when they are over.
        longest: seconds that it stays open at most.
    """

    failures: int = 5
    seconds: float = 30.0
    longest: float = 300.0


class Circuit:
    """Closed: all may go. Open: nobody. Half-open, once the time is over: one may, and what becomes of it decides.

    Attempts may overlap, and some go without having asked. One that fails after the circuit has opened behind its
    back says nothing new; one that succeeds always does.

    Attributes:
        failures: in a row, up to now.
    """

    def __init__(self, rules: CircuitRules = CircuitRules()) -> None:
        self._rules = rules
        self.failures = 0
        self._until: float | None = None
        self._seconds = rules.seconds
        self._openings = 0
        self._probes = 0

    def state(self, now: float) -> State:
        """What it is at this moment."""
        if self._until is None:
            return "closed"
        return "open" if now < self._until else "half-open"

    def remaining(self, now: float) -> float | None:
        """Seconds until it is half-open, 0 when it is, None while it is closed."""
        return None if self._until is None else max(0.0, self._until - now)

    @property
    def is_idle(self) -> bool:
        """Whether nothing has failed lately, and nobody is trying."""
        return self._until is None and not self.failures and not self._probes

    def allows(self, now: float) -> bool:
        """Whether another request is worth sending."""
        state = self.state(now)
        return state == "closed" or (state == "half-open" and not self._probes)

    @contextmanager
    def watching(self, monotonic: Callable[[], float], said: Callable[[], Kind | None]) -> Iterator[None]:
        """Takes note of what becomes of an attempt in its body; one that is cancelled tells nothing.

        Args:
            said: asked after a failure, for what the backend itself said at last; None where it was not asked.
        """
        openings, is_probe = self._openings, self.state(monotonic()) == "half-open"
        self._probes += is_probe
        try:
            yield
        except ConnectorError:
            kind = said()
            if kind in FAILING and openings == self._openings:
                self._failed(monotonic())
            elif kind not in FAILING | SILENT:
                self._succeeded()
            raise
        else:
            self._succeeded()
        finally:
            self._probes -= is_probe

    def _succeeded(self) -> None:
        self.failures, self._until, self._seconds = 0, None, self._rules.seconds

    def _failed(self, now: float) -> None:
        self.failures += 1
        state = self.state(now)
        if state == "half-open":
            self._seconds = min(2 * self._seconds, self._rules.longest)
        if state == "half-open" or (state == "closed" and self.failures >= self._rules.failures):
            self._until = now + self._seconds
            self._openings += 1
