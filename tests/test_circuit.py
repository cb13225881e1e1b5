"""The circuit, against a model of it: any attempts, however they overlap and end, and any time in between."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from llmgate_core.circuit import FAILING, SILENT, Circuit, CircuitRules
from llmgate_core.errors import ConnectorError, Kind

KINDS = frozenset(get_args(Kind))


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(eq=False)
class Attempt:
    """One attempt under way, which ends when it is told how."""

    circuit: Circuit
    clock: Clock
    said: Kind | None = None

    def __post_init__(self) -> None:
        self.watching: AbstractContextManager[None] = self.circuit.watching(self.clock, lambda: self.said)
        self.watching.__enter__()

    def ends(self, error: BaseException | None = None, said: Kind | None = None) -> None:
        """Leaves the body, by an error or without."""
        self.said = said
        assert not self.watching.__exit__(type(error) if error else None, error, None)

    def fails(self, kind: Kind) -> None:
        """The backend refuses."""
        self.ends(ConnectorError(kind, "it failed"), kind)


class Circuits(RuleBasedStateMachine):
    """What is promised, in terms of what has happened.

    Attributes:
        row: failures in a row of attempts that began after the last opening.
        opened: when the circuit opened at last, and for how long; None while it is closed.
        openings: how often it has opened, and `since` for each attempt how often it had when that began.
        probes: attempts under way that began when the time was over.
    """

    @initialize(failures=st.integers(1, 4), seconds=st.integers(1, 8), factor=st.integers(1, 9))
    def begins(self, failures: int, seconds: int, factor: int) -> None:
        self.chosen = CircuitRules(failures, float(seconds), float(seconds * factor))
        self.circuit = Circuit(self.chosen)
        self.clock = Clock()
        self.row = 0
        self.opened: tuple[float, float] | None = None
        self.last_seconds = 0.0
        self.openings = 0
        self.since: dict[Attempt, int] = {}
        self.probes: set[Attempt] = set()

    @property
    def is_open(self) -> bool:
        return self.opened is not None and self.clock.now < sum(self.opened)

    @property
    def is_over(self) -> bool:
        return self.opened is not None and not self.is_open

    def begin(self) -> None:
        attempt = Attempt(self.circuit, self.clock)
        self.since[attempt] = self.openings
        if self.is_over:
            self.probes.add(attempt)

    def ended(self, data: st.DataObject) -> tuple[Attempt, int]:
        attempt = data.draw(st.sampled_from(list(self.since)))
        self.probes.discard(attempt)
        return attempt, self.since.pop(attempt)

    def closed(self) -> None:
        self.row, self.opened = 0, None

    # --- what happens ---------------------------------------------------------------------------------------------

    @rule(seconds=st.integers(0, 80))
    def time_passes(self, seconds: int) -> None:
        self.clock.now += seconds / 2

    @rule()
    def a_plan_with_other_branches_begins(self) -> None:
        if self.circuit.allows(self.clock.now):
            assert not (self.is_over and self.probes)
            self.begin()

    @rule()
    def a_plan_without_begins(self) -> None:
        self.begin()

    @precondition(lambda self: self.since)
    @rule(data=st.data())
    def one_succeeds(self, data: st.DataObject) -> None:
        attempt, _ = self.ended(data)
        attempt.ends()
        self.closed()

    @precondition(lambda self: self.since)
    @rule(data=st.data(), kind=st.sampled_from(sorted(KINDS - FAILING - {"disabled"})))
    def one_is_refused_by_a_backend_that_works(self, data: st.DataObject, kind: Kind) -> None:
        attempt, _ = self.ended(data)
        attempt.fails(kind)
        self.closed()

    @precondition(lambda self: self.since)
    @rule(data=st.data(), error=st.sampled_from([asyncio.CancelledError, ValueError, GeneratorExit]))
    def one_is_cancelled(self, data: st.DataObject, error: type[BaseException]) -> None:
        attempt, _ = self.ended(data)
        attempt.ends(error())

    @precondition(lambda self: self.since)
    @rule(data=st.data(), kind=st.sampled_from(sorted(KINDS)), said=st.sampled_from(["disabled", None]))
    def one_was_never_sent(self, data: st.DataObject, kind: Kind, said: Kind | None) -> None:
        attempt, _ = self.ended(data)
        attempt.ends(ConnectorError(kind, "somebody else's failure"), said)

    @precondition(lambda self: self.since)
    @rule(data=st.data(), kind=st.sampled_from(sorted(FAILING)))
    def one_fails(self, data: st.DataObject, kind: Kind) -> None:
        attempt, since = self.ended(data)
        was_over, is_news = self.is_over, since == self.openings
        attempt.fails(kind)
        if not is_news or self.is_open:
            return
        self.row += 1
        if was_over or self.row == self.chosen.failures:
            seconds = min(2 * self.last_seconds, self.chosen.longest) if was_over else self.chosen.seconds
            self.opened, self.last_seconds = (self.clock.now, seconds), seconds
            self.openings, self.row = self.openings + 1, 0

    # --- what is promised -----------------------------------------------------------------------------------------

    @invariant()
    def it_is_what_it_should_be(self) -> None:
        expected = "open" if self.is_open else "half-open" if self.is_over else "closed"
        assert self.circuit.state(self.clock.now) == expected
        if self.opened is not None:
            assert self.circuit.state(sum(self.opened)) == "half-open"
            assert self.circuit.state(sum(self.opened) - 0.25) == "open"

    @invariant()
    def it_allows_what_it_should(self) -> None:
        assert self.circuit.allows(self.clock.now) == (not self.is_open and not (self.is_over and self.probes))

    def teardown(self) -> None:
        """Whatever has happened, a time comes when one may go again."""
        for attempt in self.since:
            attempt.ends(asyncio.CancelledError())
        assert self.circuit.allows(self.clock.now + self.chosen.longest)


TestCircuits = Circuits.TestCase
TestCircuits.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


# --- the same by example -------------------------------------------------------------------------------------------


def opened(clock: Clock, failures: int = 3) -> Circuit:
    circuit = Circuit(CircuitRules(failures, 30.0, 100.0))
    for _ in range(failures):
        Attempt(circuit, clock).fails("unavailable")
    assert circuit.state(clock.now) == "open"
    return circuit


def test_the_kinds_are_those_that_say_something_about_the_backend() -> None:
    assert {"auth", "unavailable", "timeout", "protocol", "bug"} == FAILING
    assert {"disabled", None} == SILENT


def test_each_failing_probe_doubles_the_time_up_to_the_longest() -> None:
    clock = Clock()
    circuit = opened(clock)
    for seconds in (30.0, 60.0, 100.0, 100.0):
        assert not circuit.allows(clock.now + seconds - 0.5)
        clock.now += seconds
        assert circuit.allows(clock.now)
        Attempt(circuit, clock).fails("timeout")
    clock.now += 100.0
    Attempt(circuit, clock).ends()
    assert circuit.allows(clock.now)


def test_a_probe_that_ends_does_not_hide_another_one() -> None:
    clock = Clock()
    circuit = opened(clock)
    clock.now = 30.0
    first, second = Attempt(circuit, clock), Attempt(circuit, clock)  # plans with that branch alone do not ask
    first.ends(asyncio.CancelledError())
    assert not circuit.allows(clock.now)
    second.ends(asyncio.CancelledError())
    assert circuit.allows(clock.now)


@pytest.mark.parametrize("when", [10.0, 30.0, 50.0])
def test_a_late_failure_of_what_began_before_it_opened_prolongs_nothing(when: float) -> None:
    clock = Clock()
    circuit = Circuit(CircuitRules(3, 30.0, 100.0))
    late = Attempt(circuit, clock)
    for _ in range(3):
        Attempt(circuit, clock).fails("unavailable")
    clock.now = when
    late.fails("timeout")
    assert circuit.allows(max(when, 30.0))


def test_late_failures_do_not_open_it_again_after_a_success() -> None:
    clock = Clock()
    circuit = Circuit(CircuitRules(3, 30.0, 100.0))
    late = [Attempt(circuit, clock) for _ in range(3)]
    for _ in range(3):
        Attempt(circuit, clock).fails("unavailable")
    clock.now = 30.0
    Attempt(circuit, clock).ends()
    for attempt in late:
        attempt.fails("timeout")
    assert circuit.state(clock.now) == "closed"


def test_a_success_of_what_began_before_it_opened_closes_it() -> None:
    clock = Clock()
    circuit = Circuit(CircuitRules(3, 30.0, 100.0))
    late = Attempt(circuit, clock)
    for _ in range(3):
        Attempt(circuit, clock).fails("unavailable")
    late.ends()
    assert circuit.state(clock.now) == "closed"
