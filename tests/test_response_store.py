"""Conversations that callers may continue: bounded, least recently used first, and nobody sees another's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from llmgate_core.errors import RequestError
from llmgate_core.response_store import ResponseStore


def items(text: str) -> list[dict[str, Any]]:
    return [{"type": "message", "role": "user", "content": text}]


def has(store: ResponseStore, id: str, caller: str | None = None) -> bool:
    try:
        store.get(id, caller)
    except RequestError:
        return False
    return True


def test_what_was_put_can_be_had_again_and_again() -> None:
    store = ResponseStore()
    store.put("resp_1", "ada", items("hi"))
    store.get("resp_1", "ada").append({"changed": True})
    assert store.get("resp_1", "ada") == items("hi")
    store.put("resp_1", "ada", items("anew"))
    assert (store.get("resp_1", "ada"), len(store)) == (items("anew"), 1)


@pytest.mark.parametrize(("id", "caller"), [("resp_2", "ada"), ("resp_1", "bob"), ("resp_1", None)])
def test_an_unknown_one_and_another_callers_look_the_same(id: str, caller: str | None) -> None:
    store = ResponseStore()
    store.put("resp_1", "ada", items("hi"))
    with pytest.raises(RequestError) as caught:
        store.get(id, caller)
    error = caught.value
    assert (error.status, error.code, error.param) == (400, "previous_response_not_found", "previous_response_id")
    assert error.message.startswith(f"Previous response with id '{id}' not found.")


def test_the_least_recently_used_goes_first() -> None:
    store = ResponseStore(max_count=2)
    store.put("a", None, items("a"))
    store.put("b", None, items("b"))
    assert has(store, "a")
    store.put("c", None, items("c"))
    assert [has(store, id) for id in "abc"] == [True, False, True]


def test_bytes_are_bounded_too() -> None:
    store = ResponseStore(max_bytes=300)
    for id in "abc":
        store.put(id, None, items("x" * 60))
    assert [has(store, id) for id in "abc"] == [False, True, True]
    store.put("b", None, items("x" * 300))
    assert [has(store, id) for id in "bc"] == [False, True]  # the older one of that id is not told instead


def test_a_store_may_keep_nothing() -> None:
    store = ResponseStore(max_count=0)
    store.put("a", None, items("a"))
    assert not has(store, "a")
    assert store.size == 0


@given(st.text(max_size=300))
def test_any_id_may_be_asked_for(id: str) -> None:
    with pytest.raises(RequestError):
        ResponseStore().get(id, None)


class Bounds(RuleBasedStateMachine):
    """The store never grows over its bounds, and never tells what was not put for this caller."""

    def __init__(self) -> None:
        super().__init__()
        self.store = ResponseStore(max_count=4, max_bytes=600)
        self.put: dict[tuple[str | None, str], list[dict[str, Any]]] = {}

    @rule(id=st.sampled_from("abcdef"), caller=st.sampled_from([None, "ada"]), size=st.integers(0, 700))
    def keep(self, id: str, caller: str | None, size: int) -> None:
        self.put[caller, id] = items("x" * size)
        self.store.put(id, caller, self.put[caller, id])

    @rule(id=st.sampled_from("abcdef"), caller=st.sampled_from([None, "ada", "bob"]))
    def ask(self, id: str, caller: str | None) -> None:
        if has(self.store, id, caller):
            assert self.store.get(id, caller) == self.put[caller, id]

    @invariant()
    def is_bounded(self) -> None:
        assert len(self.store) <= 4
        assert 0 <= self.store.size <= 600


TestBounds = Bounds.TestCase
