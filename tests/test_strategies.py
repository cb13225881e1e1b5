"""Plans with several branches, in virtual time: who is asked when, who wins, what is told; nothing stays open."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.virtual import Desk, Does, Ended, Upstream, run

from llmgate_core import BackoffRules, ConnectorError, Kind, RetryAfter
from llmgate_core.backends import Pacing
from llmgate_core.circuit import CircuitRules
from llmgate_core.errors import KINDS, RequestError
from llmgate_core.executor import Budget
from llmgate_core.model_facts import Facts
from llmgate_core.selector import Branch, Leaf
from llmgate_core.strategies import NotAsked, decisive, drawn


def fails(kind: Kind, status: int | None = None, hint: float | None = None) -> ConnectorError:
    return ConnectorError(kind, f"it is {kind}", status=status, retry_after=hint)


def always(does: Does) -> Upstream:
    return Upstream(lambda _: does)


def fine(latency: float = 0.5, thinks: float = 0.0) -> Upstream:
    return always(Does(latency, thinks=thinks))


def failing(kind: Kind, status: int | None = 500, latency: float = 0.5, hint: float | None = None) -> Upstream:
    return Upstream(lambda _: Does(latency, fails(kind, status, hint)))


def asked(
    upstreams: Mapping[str, Upstream],
    selector: str,
    *,
    stream: bool = False,
    budget: Budget | None = None,
    pacing: Pacing | None = None,
) -> Ended:
    async def test() -> Ended:
        return await Desk(upstreams, budget=budget, pacing=pacing).ask(selector, stream=stream)

    ended = run(test())
    assert not any(upstream.open for upstream in upstreams.values())
    return ended


def backends_of(ended: Ended) -> list[str]:
    return [attempt.backend.removesuffix(".default") for attempt in ended.record.attempts]


# --- failover ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", [kind for kind, facts in KINDS.items() if facts.failover and kind != "context_length"])
def test_the_next_branch_takes_over(kind: Kind, stream: bool) -> None:
    upstreams = {"a": failing(kind), "b": fine()}
    ended = asked(upstreams, "a:m|b:other", stream=stream)
    assert ended.error is None
    assert backends_of(ended) == ["a", "b"]
    assert (ended.headers["x-llmgate-backend"], ended.headers["x-llmgate-attempts"]) == ("b.default", "2")
    first, second = (json.loads(upstream.bodies[0]) for upstream in upstreams.values())
    assert (first.pop("model"), second.pop("model")) == ("m", "other")
    assert first == second
    assert ended.record.served_by is ended.record.attempts[1]


def test_a_request_that_is_at_fault_is_at_fault_everywhere() -> None:
    upstreams = {"a": failing("bad_request", 422), "b": fine()}
    ended = asked(upstreams, "a:m|b:m")
    assert ended.error is not None
    assert (ended.error.kind, ended.error.status, upstreams["b"].arrivals) == ("bad_request", 422, [])


@pytest.mark.parametrize(
    ("selector", "goes_on"),
    [
        ("a:m|b:m", False),
        ("[max_context=8000]a:m|b:m", False),
        ("a:m|[max_context=9000]b:m", False),
        ("[max_context=8000]a:m|[max_context=8000]b:m", False),
        ("[max_context=8000]a:m|[max_context=9000]b:m", True),
        ("[max_context=8000]a:m|[max_context=1]b:m|[max_context=9000]b:n", True),
    ],
)
def test_what_is_too_long_goes_only_to_a_branch_known_to_hold_more(selector: str, goes_on: bool) -> None:
    upstreams = {"a": failing("context_length", 400), "b": fine()}
    ended = asked(upstreams, selector)
    assert (ended.error is None, len(upstreams["b"].arrivals)) == (goes_on, int(goes_on))


@pytest.mark.parametrize(
    ("selector", "goes_on"),
    [
        ("a:small|b:large", True),
        ("a:small|b:small", False),
        ("a:small|b:unknown", False),
        ("[max_context=9001]a:small|b:large", False),
        ("a:small|[max_context=8001]b:small", True),
    ],
)
def test_what_a_branch_holds_is_known_from_facts_where_the_selector_does_not_say(selector: str, goes_on: bool) -> None:
    async def test() -> None:
        a, b = failing("context_length", 400), fine()
        desk = Desk({"a": a, "b": b})
        for name in ("a.default", "b.default"):
            desk.backends[name].model_facts = {"small": Facts(context=8000), "large": Facts(context=9000)}
        ended = await desk.ask(selector)
        assert (ended.error is None, len(b.arrivals)) == (goes_on, int(goes_on))

    run(test())


def test_nobody_waits_while_another_branch_is_left_and_the_last_is_waited_for() -> None:
    limited = Upstream(
        lambda when: Does(0.5, fails("rate_limited", 429, 3.0) if when < 2 else None), RetryAfter(max_wait=10)
    )
    both = {"a": limited, "b": fine()}
    ended = asked(both, "a:m|b:m")
    assert (ended.error, ended.seconds) == (None, 1.0)
    both = {"a": failing("unavailable"), "b": Upstream(limited.does, limited.retries)}
    ended = asked(both, "a:m|b:m")
    assert ended.error is None
    assert ended.seconds == pytest.approx(0.5 + 0.5 + 3.0 + 0.5)
    assert backends_of(ended) == ["a", "b", "b"]


def test_a_backend_that_is_backing_off_is_passed_over_at_once() -> None:
    async def test() -> None:
        a, b = failing("rate_limited", 429, hint=60.0), fine()
        desk = Desk({"a": a, "b": b}, pacing=Pacing(BackoffRules(30.0)))
        first = await desk.ask("a:m|b:m")
        second = await desk.ask("a:m|b:m")
        assert (first.seconds, second.seconds) == (1.0, 0.5)
        assert (len(a.arrivals), len(b.arrivals)) == (1, 2)
        other = await desk.ask("a:n|b:m")  # the limit is that model's
        assert (other.seconds, len(a.arrivals)) == (1.0, 2)

    run(test())


@pytest.mark.parametrize("stream", [False, True])
def test_a_branch_that_says_nothing_in_time_has_failed(stream: bool) -> None:
    slow, quick = fine(latency=0.1, thinks=50.0), fine()
    ended = asked({"a": slow, "b": quick}, "[ttft_timeout=2]a:m|b:m", stream=stream)
    assert (ended.error, ended.seconds) == (None, 2.5)
    assert [attempt.kind for attempt in ended.record.attempts] == ["timeout", None]
    alone = asked({"a": fine(latency=0.1, thinks=50.0)}, "[ttft_timeout=2]a:m", stream=stream)
    assert alone.error is not None
    assert (alone.error.kind, alone.seconds) == ("timeout", 2.0)
    assert alone.error.message == "backend `a.default` said nothing within 2 s (`ttft_timeout`)"


def test_after_the_first_words_nobody_takes_over() -> None:
    upstreams = {"a": always(Does(0.5, dies=True)), "b": fine()}
    ended = asked(upstreams, "a:m|b:m", stream=True)
    assert (b"hi" in ended.body, ended.error is not None, upstreams["b"].arrivals) == (True, True, [])
    plain = asked({"a": always(Does(0.5, dies=True)), "b": fine()}, "a:m|b:m")
    assert plain.error is None  # a plain answer counts only when it is complete


def test_the_budget_is_one_for_the_whole_plan() -> None:
    upstreams = {name: failing("unavailable") for name in "abcdefg"}
    ended = asked(upstreams, "|".join(f"{name}:m" for name in upstreams))
    assert backends_of(ended) == list("abcde")
    late = {name: failing("unavailable", latency=40.0) for name in "abcde"}
    assert backends_of(asked(late, "|".join(f"{name}:m" for name in late))) == ["a", "b", "c"]


# --- what is told where all fail ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failures", "told"),
    [
        ([fails("unavailable"), fails("rate_limited", 429)], 1),
        ([fails("rate_limited", 429), fails("unavailable")], 0),
        ([fails("rate_limited", 429), fails("disabled", 403)], 0),
        ([fails("disabled", 403), fails("unavailable")], 1),
        ([fails("disabled", 403), fails("disabled", 403)], 1),
        ([fails("timeout"), fails("unavailable")], 1),
    ],
)
def test_the_last_that_reached_an_upstream_decides(failures: list[ConnectorError], told: int) -> None:
    assert decisive(failures) is failures[told]


@pytest.mark.parametrize("mark", [{"status": 503}, {"type": "overloaded"}, {"code": "busy"}])
def test_a_status_a_type_or_a_code_shows_that_an_upstream_was_reached(mark: dict[str, Any]) -> None:
    reached, never = ConnectorError("unavailable", "it said so", **mark), fails("unavailable")
    assert decisive([reached, never]) is reached
    assert decisive([never, reached, never]) is reached


def test_the_soonest_time_to_come_back_is_told() -> None:
    first, second = fails("rate_limited", 429, 7.0), fails("rate_limited", 429, 60.0)
    assert decisive([first, second]).retry_after == 7.0


# --- who is too small --------------------------------------------------------------------------------------------

LIMITED = "[max_context=5]a:m{operator}b:m{operator}[max_context=9000]c:m"


@pytest.mark.parametrize("operator", ["|", "^", "!"])
def test_a_branch_that_is_too_small_for_the_request_is_not_asked(operator: str) -> None:
    upstreams = {"a": fine(0.1), "b": failing("unavailable"), "c": fine(3.0)}
    ended = asked(upstreams, LIMITED.format(operator=operator))
    assert (ended.error, upstreams["a"].arrivals) == (None, [])
    assert backends_of(ended)[-1] == "c"


def test_the_only_branch_that_is_large_enough_is_waited_for() -> None:
    limited = Upstream(lambda when: Does(0.5, fails("rate_limited", 429, 3.0) if not when else None), RetryAfter(10))
    ended = asked({"a": fine(), "b": limited}, "[max_context=5]a:m|b:m")
    assert (ended.error, ended.seconds, backends_of(ended)) == (None, 4.0, ["b", "b"])


def test_a_branch_that_is_large_enough_is_tried_though_it_keeps_failing() -> None:
    async def test() -> None:
        upstreams = {"a": fine(), "b": failing("unavailable")}
        desk = Desk(upstreams, pacing=opens_at_once())
        for _ in range(2):
            assert (await desk.ask("[max_context=5]a:m|b:m")).error is not None
        assert [len(upstream.arrivals) for upstream in upstreams.values()] == [0, 2]

    run(test())


@pytest.mark.parametrize("selector", ["[max_context=5]a:m", "[max_context=5]a:m|[max_context=6]b:m"])
def test_where_every_branch_is_too_small_nobody_is_asked(selector: str) -> None:
    upstreams = {"a": fine(), "b": fine()}
    with pytest.raises(RequestError, match="estimated"):
        asked(upstreams, selector)
    assert not any(upstream.arrivals for upstream in upstreams.values())


def test_what_is_known_of_a_model_leaves_no_branch_out() -> None:
    async def test() -> None:
        a = fine()
        desk = Desk({"a": a, "b": fine()})
        desk.backends["a.default"].model_facts = {"m": Facts(context=1)}
        assert backends_of(await desk.ask("a:m|[max_context=9000]b:m")) == ["a"]

    run(test())


# --- by weight ---------------------------------------------------------------------------------------------------


def test_the_draw_follows_the_weights() -> None:
    branches = [Branch(Leaf("a", "m"), weight=3.0), Branch(Leaf("b", "m")), Branch(Leaf("c", "m"), weight=0.001)]

    async def test() -> Counter[str]:
        upstreams = {"a": fine(0.0), "b": fine(0.0)}
        desk = Desk(upstreams)
        for _ in range(2000):
            await desk.ask("[weight=3]a:m^[weight=1]b:m")
        return Counter({name: len(upstream.arrivals) for name, upstream in upstreams.items()})

    counts = run(test())
    assert 0.70 < counts["a"] / 2000 < 0.80
    orders = [drawn(branches, random.Random(seed)) for seed in range(300)]
    assert all(sorted(order, key=str) == sorted(branches, key=str) for order in orders)


def test_a_branch_that_was_drawn_and_failed_is_left_out() -> None:
    for _ in range(5):
        ended = asked({"a": failing("unavailable"), "b": fine()}, "[weight=1000]a:m^b:m")
        assert (ended.error, backends_of(ended)) == (None, ["a", "b"])


# --- in parallel -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_the_first_that_says_something_wins(stream: bool) -> None:
    early_but_silent, late_but_quick = fine(latency=0.1, thinks=9.0), fine(latency=1.0)
    upstreams = {"a": early_but_silent, "b": late_but_quick}
    ended = asked(upstreams, "a:m!b:m", stream=stream)
    assert (ended.error, ended.seconds, ended.headers["x-llmgate-backend"]) == (None, 1.0, "b.default")
    assert (upstreams["a"].arrivals, upstreams["b"].arrivals) == ([0.0], [0.0])


def test_the_highest_handicap_starts_first_and_a_dead_leg_starts_the_waiting_ones() -> None:
    upstreams = {"a": fine(latency=9.0), "b": fine(latency=1.0)}
    ended = asked(upstreams, "[handicap=5]a:m![handicap=2]b:m")
    assert (upstreams["a"].arrivals, upstreams["b"].arrivals, ended.seconds) == ([0.0], [3.0], 4.0)
    upstreams = {"a": failing("unavailable", latency=1.0), "b": fine(latency=1.0)}
    assert asked(upstreams, "[handicap=5]a:m!b:m").seconds == 2.0
    upstreams = {"a": fine(latency=1.0), "b": fine()}
    assert asked(upstreams, "[handicap=5]a:m!b:m").seconds == 1.0
    assert upstreams["b"].arrivals == []


def test_where_all_legs_fail_the_decisive_failure_is_told() -> None:
    ended = asked({"a": failing("rate_limited", 429), "b": failing("unavailable", None, 2.0)}, "a:m!b:m")
    assert ended.error is not None
    assert (ended.error.kind, ended.seconds) == ("rate_limited", 2.0)


def test_a_request_at_fault_starts_nobody_new() -> None:
    upstreams = {"a": failing("bad_request", 400), "b": fine()}
    ended = asked(upstreams, "[handicap=5]a:m!b:m")
    assert ended.error is not None
    assert (ended.error.kind, upstreams["b"].arrivals) == ("bad_request", [])


# --- the circuit -------------------------------------------------------------------------------------------------


def test_a_backend_that_keeps_failing_is_skipped_unless_it_is_the_only_one() -> None:
    async def test() -> None:
        works = False
        a = Upstream(lambda _: Does(0.5, None if works else fails("unavailable", 500)))
        desk = Desk({"a": a, "b": fine()}, pacing=Pacing(circuit=CircuitRules(failures=3, seconds=30.0)))
        for _ in range(5):
            assert (await desk.ask("a:m|b:m")).error is None
        assert len(a.arrivals) == 3
        assert (await desk.ask("a:m")).error is not None  # the only one
        assert len(a.arrivals) == 4
        await asyncio.sleep(31)
        works = True
        half_open = [desk.ask("a:m|b:m") for _ in range(5)]
        served = Counter(backends_of(ended)[-1] for ended in await asyncio.gather(*half_open))
        assert served == {"a": 1, "b": 4}
        assert backends_of(await desk.ask("a:m|b:m")) == ["a"]

    run(test())


def opens_at_once(seconds: float = 100.0) -> Pacing:
    return Pacing(circuit=CircuitRules(failures=1, seconds=seconds))


@pytest.mark.parametrize(("operator", "expected"), [("|", ["a", "b"]), ("^", None), ("!", ["a", "b"])])
def test_where_no_branch_is_ready_all_are_tried(operator: str, expected: list[str] | None) -> None:
    async def test() -> None:
        upstreams = {"a": failing("unavailable"), "b": failing("timeout")}
        desk = Desk(upstreams, pacing=opens_at_once())
        for _ in range(3):
            ended = await desk.ask(f"a:m{operator}b:m")
            assert ended.error is not None
            assert expected is None or backends_of(ended) == expected
        assert [len(upstream.arrivals) for upstream in upstreams.values()] == [3, 3]

    run(test())


def test_a_race_begins_without_a_leg_that_keeps_failing() -> None:
    async def test() -> None:
        upstreams = {"a": failing("unavailable"), "b": fine(), "c": fine(latency=1.0)}
        desk = Desk(upstreams, pacing=opens_at_once())
        await desk.ask("a:m")
        ended = await desk.ask("[handicap=5]a:m![handicap=3]b:m!c:m")
        assert (ended.error, ended.seconds, backends_of(ended)) == (None, 0.5, ["b"])
        assert len(upstreams["a"].arrivals) == 1

    run(test())


def test_a_branch_that_began_to_fail_meanwhile_is_passed_over() -> None:
    async def test() -> None:
        upstreams = {"a": failing("timeout", latency=9.0), "b": failing("unavailable"), "c": fine()}
        desk = Desk(upstreams, pacing=opens_at_once())
        ended, _ = await asyncio.gather(desk.ask("a:m|b:m|c:m"), desk.ask("b:m", after=1.0))
        assert (ended.error, backends_of(ended)) == (None, ["a", "c"])
        upstreams["a"].arrivals.clear()
        ended, _ = await asyncio.gather(desk.ask("a:n|b:n"), desk.ask("b:n", after=1.0))
        assert backends_of(ended) == ["a", "b"]  # there is nobody else

    run(test())


def test_who_was_only_told_to_wait_says_nothing_about_the_backend() -> None:
    async def test() -> None:
        does = [Does(0.5, fails("rate_limited", 429, 60.0)), *[Does(1.0, fails("unavailable", 500))] * 9]
        a = Upstream(lambda _: does[len(a.arrivals)])
        desk = Desk({"a": a, "b": fine()}, pacing=Pacing(BackoffRules(30.0), CircuitRules(failures=2, seconds=10.0)))
        await asyncio.gather(*(desk.ask("a:m|b:m") for _ in range(3)))
        assert len(a.arrivals) == 3
        await asyncio.sleep(20)
        assert backends_of(await desk.ask("a:m|b:m")) == ["b"]  # the rate limit is not over
        await asyncio.sleep(60)
        assert backends_of(await desk.ask("a:m|b:m")) == ["a", "b"]
        assert backends_of(await desk.ask("a:m|b:m")) == ["b"]

    run(test())


def test_who_has_waited_for_a_rate_limit_has_not_met_a_silent_backend() -> None:
    async def test() -> None:
        a = failing("rate_limited", 429, hint=20.0)
        desk = Desk({"a": Upstream(a.does, RetryAfter(max_wait=30)), "b": fine()}, pacing=opens_at_once())
        alone = await desk.ask("[ttft_timeout=5]a:m")
        assert alone.error is not None
        assert (alone.error.kind, alone.seconds) == ("rate_limited", 5.0)
        assert [attempt.kind for attempt in alone.record.attempts] == ["rate_limited"]
        assert backends_of(await desk.ask("a:m|b:m")) == ["a", "b"]
        remembers = Desk({"a": Upstream(a.does, RetryAfter(max_wait=30))}, pacing=Pacing(BackoffRules(30.0)))
        ended = await remembers.ask("[ttft_timeout=5]a:m")
        assert ended.error is not None
        assert (ended.error.kind, ended.error.retry_after) == ("rate_limited", 15.5)  # what is left of it
        await asyncio.sleep(1)  # for the waits that were given up

    run(test())


def test_what_nobody_was_asked_for_is_never_what_the_caller_is_told() -> None:
    silent = ConnectorError("timeout", "no answer within 4 s")
    assert decisive([silent, NotAsked("unavailable", "no attempt is left")]) is silent
    alone = NotAsked("unavailable", "no attempt is left")
    assert decisive([alone]) is alone


@pytest.mark.parametrize("operator", ["|", "!"])
def test_a_branch_that_keeps_failing_is_tried_last_and_may_be_well_again(operator: str) -> None:
    async def test() -> None:
        healed = Upstream(lambda now: Does(0.5, None if now > 10 else fails("unavailable", 500)))
        desk = Desk({"a": healed, "b": failing("unavailable")}, pacing=opens_at_once())
        await desk.ask("a:m")
        await asyncio.sleep(20)
        ended = await desk.ask(f"a:m{operator}b:m")
        assert (backends_of(ended), ended.error) == (["b", "a"], None)

    run(test())


# --- anything, against anything ---------------------------------------------------------------------------------------

KINDS_OF_FAILURE = st.sampled_from(get_args(Kind))
MOMENTS = st.integers(0, 40).map(lambda quarter: quarter / 4)


@st.composite
def behaviours(draw: st.DrawFn) -> Callable[[float], Does]:
    """What an upstream does changes once, at some moment."""

    def one() -> Does:
        status = draw(st.sampled_from([None, 400, 429, 500]))
        refusal = fails(draw(KINDS_OF_FAILURE), status, draw(st.none() | MOMENTS)) if draw(st.booleans()) else None
        return Does(draw(MOMENTS), refusal, draw(MOMENTS), draw(st.booleans()))

    first, second, moment = one(), one(), draw(MOMENTS)
    return lambda when: first if when < moment else second


def joined(operator: str, names: list[str], notes: list[str]) -> str:
    return operator.join(f"{note}{name}:m" for name, note in zip(names, notes, strict=False))


@settings(max_examples=400, deadline=None)
@given(
    does=st.lists(behaviours(), min_size=1, max_size=5),
    operator=st.sampled_from("|^!"),
    data=st.data(),
    stream=st.booleans(),
    leaves=st.none() | MOMENTS,
    budget=st.builds(Budget, st.integers(1, 7), st.integers(1, 30).map(float)),
    retries=st.booleans(),
)
def test_whatever_fails_the_promises_hold(
    does: list[Callable[[float], Does]],
    operator: str,
    data: st.DataObject,
    stream: bool,
    leaves: float | None,
    budget: Budget,
    retries: bool,
) -> None:
    own = {"^": st.sampled_from(["", "[weight=3]"]), "!": st.sampled_from(["", "[handicap=2]"]), "|": st.just("")}
    timeout = st.sampled_from(["", "", "[ttft_timeout=3]"])
    single = len(does) == 1
    notes = [("" if single else data.draw(own[operator])) + data.draw(timeout) for _ in does]
    policy = RetryAfter(max_wait=5.0, retries=2) if retries else None
    upstreams = {name: Upstream(one, policy) for name, one in zip("abcde", does, strict=False)}
    selector = joined(operator, list(upstreams), notes)

    async def test() -> Ended | None:
        task = asyncio.create_task(Desk(upstreams, budget=budget).ask(selector, stream=stream))
        if leaves is not None:
            asyncio.get_running_loop().call_at(leaves, task.cancel)
        await asyncio.wait({task})
        await asyncio.sleep(1000)  # whatever is still going to happen
        return None if task.cancelled() else task.result()

    ended = run(test())
    arrivals = sorted(when for upstream in upstreams.values() for when in upstream.arrivals)
    assert not any(upstream.open for upstream in upstreams.values())
    assert len(arrivals) <= budget.max_attempts
    assert arrivals[:1] == ([] if leaves == 0.0 else [0.0])
    assert all(when <= budget.total_seconds for when in arrivals)
    assert all(body == upstream.bodies[0] for upstream in upstreams.values() for body in upstream.bodies)
    if ended is None:
        assert leaves is not None
        assert all(when <= leaves for when in arrivals)
        return
    assert all(when <= ended.seconds for when in arrivals)  # nobody is asked after the commit point
    attempts = ended.record.attempts
    if ended.error is None:
        assert b"hi" in ended.body
        assert ended.record.served_by is not None
        assert ended.headers["x-llmgate-attempts"] == str(len(attempts))
    elif ended.body:
        assert stream  # told in the stream
    else:
        assert all(attempt.kind or attempt.message for attempt in attempts)
    if operator != "!":
        at_fault = [index for index, attempt in enumerate(attempts) if attempt.kind == "bad_request"]
        assert at_fault in ([], [len(attempts) - 1])
