"""After a rate limit: one deadline for all, one request that goes first, no herd behind it, no wait without end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.virtual import Desk, Does, Never, Upstream, now, run

from llmgate_core import BackoffRules, ConnectorError
from llmgate_core.backoff import EARLY_SECONDS, Backoff

MAX_WAIT = 10.0
RULES = BackoffRules(MAX_WAIT, name="Acme's backoff")


# --- the deadline itself -----------------------------------------------------------------------------------------


def test_a_hint_sets_the_deadline_and_a_later_answer_knows_better() -> None:
    backoff = Backoff(RULES)
    assert backoff.is_over
    assert backoff.record(5.0, 3.0, sent=0.0, now=1.0) == 5.0
    assert backoff.remaining(3.0) == 3.0
    assert backoff.record(1.0, 3.0, sent=2.0, now=3.0) == 1.0
    assert not backoff.is_over


def test_what_went_out_before_says_nothing_new_unless_it_names_a_later_time() -> None:
    backoff = Backoff(RULES)
    backoff.record(5.0, None, sent=0.0, now=1.0)
    assert backoff.record(None, 9.0, sent=0.5, now=2.0) == 4.0
    assert backoff.record(2.0, None, sent=0.5, now=2.0) == 4.0
    assert backoff.number == 1
    assert backoff.record(7.0, None, sent=0.5, now=2.0) == 7.0


def test_without_a_hint_the_policys_wait_counts_and_after_that_the_last_one() -> None:
    backoff = Backoff(RULES)
    assert backoff.record(None, 4.0, sent=0.0, now=0.0) == 4.0
    assert backoff.record(None, None, sent=4.0, now=5.0) == 4.0


def test_nothing_is_known_without_hint_and_policy() -> None:
    backoff = Backoff(RULES)
    assert backoff.record(None, None, sent=0.0, now=0.0) is None
    assert backoff.is_over


def test_a_long_hint_is_believed_for_half_an_hour() -> None:
    backoff = Backoff(RULES)
    assert backoff.record(86_400.0, None, sent=0.0, now=0.0) == 1800.0


def test_only_a_success_of_what_went_out_later_ends_it() -> None:
    backoff = Backoff(RULES)
    backoff.record(5.0, None, sent=0.0, now=1.0)
    backoff.succeeded(sent=0.5)
    assert backoff.remaining(2.0) == 4.0
    backoff.succeeded(sent=6.0)
    assert backoff.remaining(2.0) == 0.0


# --- many requests, in virtual time -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Policy:
    """Holds the first rate limit for the upstream's time, or 3 seconds."""

    def delay(self, error: ConnectorError, attempt: int) -> float | None:
        if error.kind != "rate_limited" or attempt > 1:
            return None
        return min(MAX_WAIT, 3.0 if error.retry_after is None else error.retry_after)


Limit = Callable[[float], ConnectorError | None]
"""What the upstream says to a request that arrives at this time: a refusal, or nothing."""


def limiting(limit: Limit, latency: float = 0.5) -> Upstream:
    return Upstream(lambda when: Does(latency, limit(when)), Policy())


class Acme(Desk):
    """One backend."""

    def __init__(self, upstream: Upstream, *, rules: BackoffRules | None = RULES) -> None:
        super().__init__({"acme": upstream}, shared=rules)
        self.backoff = self.backends["acme.default"].backoff("m")

    async def one(self, after: float = 0.0, *, stream: bool = False) -> float | ConnectorError:
        """The seconds that one request took, or how it failed."""
        ended = await self.ask("acme:m", after=after, stream=stream)
        return ended.error or ended.seconds


def limited(hint: float | None = None) -> ConnectorError:
    return ConnectorError("rate_limited", "too many", status=429, retry_after=hint)


def until(moment: float, hint: float | None = None) -> Limit:
    return lambda when: limited(hint) if when < moment else None


async def hundred(desk: Acme) -> list[float | ConnectorError]:
    return list(await asyncio.gather(*(desk.one() for _ in range(100))))


def test_of_a_hundred_one_goes_first_and_the_others_follow_spread_out() -> None:
    async def test() -> None:
        upstream = limiting(until(1.0, hint=2.0))
        desk = Acme(upstream)
        results = await hundred(desk)
        assert all(isinstance(result, float) for result in results)
        first, *others = sorted(upstream.arrivals[100:])
        assert upstream.arrivals[:100] == [0.0] * 100
        assert first == pytest.approx(2.5, abs=2 * EARLY_SECONDS)  # the refusals came at 0.5
        assert len(others) == 99
        assert others[0] >= first + 0.5
        assert most_within(others, 1.0) <= 30  # of 99 within ten seconds
        assert set(upstream.by_request.values()) == {2}

    run(test())


def most_within(moments: list[float], seconds: float) -> int:
    return max(sum(1 for one in moments if start <= one < start + seconds) for start in moments)


def test_while_the_limit_lasts_only_one_at_a_time_finds_that_out() -> None:
    async def test() -> None:
        upstream = limiting(until(1000.0, hint=2.0))
        results = await hundred(Acme(upstream))
        errors = [result for result in results if isinstance(result, ConnectorError)]
        assert len(errors) == 100
        assert {error.kind for error in errors} == {"rate_limited"}
        assert all(error.retry_after is not None for error in errors)
        # 2 s a deadline and half a second for the answer: four such fit into the ten that one waits at most.
        assert len(upstream.arrivals) <= 100 + 5
        assert now() <= MAX_WAIT + 5

    run(test())


def test_those_who_come_later_wait_without_asking() -> None:
    async def test() -> None:
        upstream = limiting(until(1.0, hint=4.0))
        desk = Acme(upstream)
        first, *later = await asyncio.gather(desk.one(), *(desk.one(after=1.0) for _ in range(20)))
        assert isinstance(first, float)
        assert all(isinstance(result, float) for result in later)
        assert len(upstream.arrivals) == 1 + 1 + 20
        assert set(upstream.by_request.values()) == {1, 2}

    run(test())


def test_who_would_wait_too_long_is_told_at_once_when_to_come_back() -> None:
    async def test() -> None:
        upstream = limiting(until(500.0, hint=60.0))
        desk = Acme(upstream)
        first, second = await asyncio.gather(desk.one(), desk.one(after=20.5))
        assert isinstance(first, ConnectorError)  # held for ten seconds, tried once more, refused again
        assert upstream.arrivals == [0.0, pytest.approx(10.5, abs=2 * EARLY_SECONDS)]
        assert isinstance(second, ConnectorError)
        assert second.retry_after == pytest.approx(60.0 - 9.5, abs=0.1)  # set anew at 11
        assert "acme.default" in second.message
        assert "51 s" in second.message
        assert now() == 20.5

    run(test())


def test_a_hundred_that_are_held_for_less_than_the_hint_send_one_ahead() -> None:
    async def test() -> None:
        upstream = limiting(until(500.0, hint=60.0))
        results = await hundred(Acme(upstream))
        assert len(upstream.arrivals) == 101
        assert all(isinstance(result, ConnectorError) and result.message == "too many" for result in results)

    run(test())


def test_a_long_hint_is_probed_after_half_an_hour() -> None:
    async def test() -> None:
        upstream = limiting(until(100.0, hint=86_400.0))
        desk = Acme(upstream)
        early, late = await asyncio.gather(desk.one(), desk.one(after=1900.0))
        assert isinstance(early, ConnectorError)
        assert late == 0.5

    run(test())


def test_a_first_that_fails_otherwise_lets_the_next_go_first() -> None:
    async def test() -> None:
        answers = iter([limited(2.0), limited(2.0), ConnectorError("unavailable", "down", status=503), None])
        upstream = limiting(lambda _: next(answers))
        desk = Acme(upstream)
        one, other = await asyncio.gather(desk.one(), desk.one())
        assert sorted([type(one), type(other)], key=str) == sorted([ConnectorError, float], key=str)
        assert len(upstream.arrivals) == 4

    run(test())


@pytest.mark.parametrize("when", [1.0, 2.6], ids=["while all wait", "while it is ahead"])
def test_a_caller_who_leaves_holds_nobody_up(when: float) -> None:
    async def test() -> None:
        upstream = limiting(until(1.0, hint=2.0))
        desk = Acme(upstream)
        leaver = asyncio.create_task(desk.one())
        stayer = asyncio.create_task(desk.one(after=0.1))
        await asyncio.sleep(when)
        leaver.cancel()
        took = await stayer
        assert isinstance(took, float)
        assert took < 5
        assert desk.backoff is not None
        assert (desk.backoff.waiting, desk.backoff.has_first) == (0, False)

    run(test())


def test_who_has_gone_first_and_never_comes_back_is_not_waited_for_for_ever() -> None:
    async def test() -> None:
        upstream = limiting(until(1.0, hint=2.0))
        desk = Acme(upstream)
        tasks = {asyncio.create_task(desk.one()), asyncio.create_task(desk.one())}
        await asyncio.sleep(1.0)
        upstream.does = lambda _: Does(10_000.0)
        (other,), (first,) = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert now() == pytest.approx(0.5 + 2.0 + RULES.probe_wait, abs=0.1)
        told = await other
        assert isinstance(told, ConnectorError)
        assert told.kind == "rate_limited"
        assert told.retry_after is not None
        assert len(upstream.arrivals) == 3
        first.cancel()
        await asyncio.wait({first})

    run(test())


def test_each_who_goes_first_and_fails_takes_from_the_patience_of_the_others() -> None:
    async def test() -> None:
        upstream = limiting(until(1.0, hint=2.0))
        desk = Acme(upstream)
        tasks = [asyncio.create_task(desk.one()) for _ in range(6)]
        await asyncio.sleep(1.0)
        upstream.does = lambda _: Does(20.0, ConnectorError("unavailable", "down", status=503))
        await asyncio.wait(tasks)
        assert now() <= 2.5 + RULES.probe_wait + 20.0
        assert len(upstream.arrivals) == 6 + 2  # at 2.5 and 22.5; by 42.5 the others have waited long enough

    run(test())


@pytest.mark.parametrize("stream", [False, True])
def test_one_success_ends_it_for_all(stream: bool) -> None:
    async def test() -> None:
        upstream = limiting(until(1.0, hint=2.0), latency=5.0)
        desk = Acme(upstream)
        results = await asyncio.gather(*(desk.one(stream=stream) for _ in range(20)))
        assert all(isinstance(result, float) for result in results)
        # Refused at 5, one goes at 7 and is back at 12; the others follow within two seconds, and take five.
        assert now() <= 12 + RULES.gap * 20 + 5
        assert desk.backoff is not None
        assert desk.backoff.is_over

    run(test())


def test_a_long_answer_that_has_begun_ends_it_too() -> None:
    async def test() -> None:
        upstream = limiting(until(1.0, hint=2.0))
        desk = Acme(upstream)
        upstream.does = lambda when: Does(0.5, limited(2.0)) if when < 1.0 else Does(0.5, thinks=60.0 * (when < 3.0))
        one, other = await asyncio.gather(desk.one(), desk.one())
        assert isinstance(one, float)
        assert isinstance(other, float)
        assert min(one, other) < 4.0
        assert max(one, other) > 60.0

    run(test())


def test_a_limit_without_a_time_tells_the_callers_that_of_the_deadline() -> None:
    async def test() -> None:
        desk = Acme(limiting(until(500.0)), rules=BackoffRules(0.0, unhinted=7.0))
        desk.backends["acme.default"].retry = Never()
        one = await desk.one()
        assert isinstance(one, ConnectorError)
        assert one.retry_after == 7.0

    run(test())


def test_the_lines_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "llmgate")

    async def test() -> None:
        desk = Acme(limiting(until(1.0, hint=2.0)))
        await desk.one()

    run(test())
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG]
    assert "Acme's backoff recorded: wait=2.000 s" in lines
    assert "Acme's backoff active: remaining=2.000 s" in lines


def test_without_rules_everybody_waits_for_himself() -> None:
    async def test() -> None:
        upstream = limiting(until(1.0, hint=2.0))
        results = await hundred(Acme(upstream, rules=None))
        assert all(isinstance(result, float) for result in results)
        assert upstream.arrivals[100:] == [2.5] * 100

    run(test())


@settings(max_examples=120, deadline=None)
@given(
    starts=st.lists(st.floats(0, 60), min_size=1, max_size=40),
    limits=st.lists(st.tuples(st.floats(0, 80), st.floats(0, 20), st.none() | st.floats(0, 4000)), max_size=6),
    leaving=st.dictionaries(st.integers(0, 39), st.floats(0, 90), max_size=10),
    broken=st.lists(st.tuples(st.floats(0, 80), st.floats(0, 20)), max_size=3),
    latency=st.floats(0, 5) | st.floats(RULES.probe_wait, 3 * RULES.probe_wait),
)
def test_whatever_happens_nobody_is_asked_too_often_and_nobody_waits_for_ever(
    starts: list[float],
    limits: list[tuple[float, float, float | None]],
    leaving: dict[int, float],
    broken: list[tuple[float, float]],
    latency: float,
) -> None:
    def limit(when: float) -> ConnectorError | None:
        if any(begin <= when < begin + length for begin, length in broken):
            return ConnectorError("unavailable", "down", status=503)
        hints = [hint for begin, length, hint in limits if begin <= when < begin + length]
        return limited(hints[0]) if hints else None

    async def test() -> None:
        upstream = limiting(limit, latency)
        desk = Acme(upstream)

        async def timed(after: float) -> tuple[float | ConnectorError, float]:
            return await desk.one(after), now() - after

        tasks = [asyncio.create_task(timed(after)) for after in starts]
        for index, when in leaving.items():
            if index < len(tasks):
                asyncio.get_running_loop().call_at(when, tasks[index].cancel)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        longest = RULES.max_wait + RULES.probe_wait + 2 * latency + 1.0
        for result in results:
            assert isinstance(result, tuple | asyncio.CancelledError), result
            if isinstance(result, tuple):  # an answer or a failure
                assert result[1] <= longest
        assert max(upstream.by_request.values(), default=0) <= 2
        assert desk.backoff is not None
        assert (desk.backoff.waiting, desk.backoff.has_first) == (0, False)

    run(test())
