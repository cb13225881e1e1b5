"""`[max_context=N]`: who is left out, what is told where nobody is left, and that nobody counts in vain."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgate_core import max_context
from llmgate_core.errors import RequestError
from llmgate_core.max_context import fit
from llmgate_core.selector import Branch, Leaf, Operator, RoutePlan, parse
from llmgate_core.token_estimate import estimate_tokens
from llmgate_core.wire import Body, encode

NOTES = st.none() | st.integers(1, 400)
OPERATORS: tuple[Operator, ...] = ("|", "^", "!")


def chat(content: str) -> Body:
    return Body(encode({"model": "m", "messages": [{"role": "user", "content": content}]}))


@given(notes=st.lists(NOTES, min_size=1, max_size=5), operator=st.sampled_from(OPERATORS), size=st.integers(0, 1500))
def test_exactly_those_with_a_smaller_note_are_left_out(notes: list[int | None], operator: Operator, size: int) -> None:
    plan = RoutePlan(tuple(Branch(Leaf("a", f"m{n}"), max_context=note) for n, note in enumerate(notes)), operator)
    tokens = estimate_tokens(chat("x" * size))
    small = [branch for branch in plan.branches if branch.max_context is not None and tokens > branch.max_context]
    if len(small) == len(notes):
        with pytest.raises(RequestError):
            fit(plan, chat("x" * size))
        return
    fitting = fit(plan, chat("x" * size))
    assert list(fitting.left_out) == small
    assert [branch for branch in plan.branches if branch not in small] == list(fitting.branches)
    assert fitting.tokens == (None if notes == [None] * len(notes) else tokens)


def test_a_request_that_just_fits_is_not_too_large() -> None:
    tokens = estimate_tokens(chat("hello"))
    assert not fit(parse(f"[max_context={tokens}]a:m"), chat("hello")).left_out
    with pytest.raises(RequestError):
        fit(parse(f"[max_context={tokens - 1}]a:m"), chat("hello"))


def test_where_nobody_is_left_the_numbers_are_told_and_that_one_is_an_estimate() -> None:
    tokens = estimate_tokens(chat("x" * 4000))
    with pytest.raises(RequestError) as caught:
        fit(parse("[max_context=900]a:m|[max_context=1000]b:m"), chat("x" * 4000))
    error = caught.value
    assert (error.status, error.code, error.param) == (400, "context_length_exceeded", "messages")
    assert f"estimated at {tokens} tokens" in error.message
    assert "allows 1000" in error.message


def test_nobody_counts_where_no_branch_has_the_note(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[Body] = []

    def count(body: Body) -> int:
        counted.append(body)
        return 500

    monkeypatch.setattr(max_context, "estimate_tokens", count)
    assert fit(parse("a:m|b:m"), chat("x")).tokens is None
    assert counted == []
    assert fit(parse("[max_context=9]a:m|[max_context=99]b:m|[max_context=999]c:m"), chat("x")).tokens == 500
    assert len(counted) == 1
