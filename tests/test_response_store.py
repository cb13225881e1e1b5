"""Conversations that callers may continue: bounded, least recently used first, and nobody sees another's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from llmgate_core.errors import RequestError
from llmgate_core.response_store import ResponseStore


def items(text: str) -> list[dict[str, Any]]:
    return [{"type": "message", "role": "user", "content": text}]


def put(store: ResponseStore, id: str, caller: str | None, given: list[dict[str, Any]]) -> None:
    store.put({"id": id, "output": []}, caller, given)


def has(store: ResponseStore, id: str, caller: str | None = None) -> bool:
    try:
        store.get(id, caller)
    except RequestError:
        return False
    return True


def test_what_was_put_can_be_had_again_and_again() -> None:
    store = ResponseStore()
    put(store, "resp_1", "ada", items("hi"))
    store.get("resp_1", "ada").append({"changed": True})
    assert store.get("resp_1", "ada") == items("hi")
    put(store, "resp_1", "ada", items("anew"))
    assert (store.get("resp_1", "ada"), len(store)) == (items("anew"), 1)


def test_a_response_can_be_seen_again_until_it_is_forgotten() -> None:
    store = ResponseStore()
    said: dict[str, Any] = {"id": "resp_1", "status": "completed", "output": [MESSAGE]}
    store.put(said, "ada", items("你好"))
    assert store.get("resp_1", "ada") == [*items("你好"), MESSAGE]
    assert json.loads(store.response("resp_1", "ada") or b"") == said
    assert store.response("resp_1", "bob") is None
    assert not store.forget("resp_1", "bob")
    assert store.forget("resp_1", "ada")
    assert not store.forget("resp_1", "ada")
    assert store.response("resp_1", "ada") is None
    assert (len(store), store.size) == (0, 0)


@pytest.mark.parametrize(("id", "caller"), [("resp_2", "ada"), ("resp_1", "bob"), ("resp_1", None)])
def test_an_unknown_one_and_another_callers_look_the_same(id: str, caller: str | None) -> None:
    store = ResponseStore()
    put(store, "resp_1", "ada", items("hi"))
    with pytest.raises(RequestError) as caught:
        store.get(id, caller)
    error = caught.value
    assert (error.status, error.code, error.param) == (400, "previous_response_not_found", "previous_response_id")
    assert error.message.startswith(f"Previous response with id '{id}' not found.")


def test_the_least_recently_used_goes_first() -> None:
    store = ResponseStore(max_count=2)
    put(store, "a", None, items("a"))
    put(store, "b", None, items("b"))
    assert has(store, "a")
    put(store, "c", None, items("c"))
    assert [has(store, id) for id in "abc"] == [True, False, True]


def test_bytes_are_bounded_too() -> None:
    store = ResponseStore(max_bytes=300)
    for id in "abc":
        put(store, id, None, items("x" * 60))
    assert [has(store, id) for id in "abc"] == [False, True, True]
    put(store, "b", None, items("x" * 300))
    assert [has(store, id) for id in "bc"] == [False, True]  # the older one of that id is not told instead


def test_a_store_may_keep_nothing() -> None:
    store = ResponseStore(max_count=0)
    put(store, "a", None, items("a"))
    assert not has(store, "a")
    assert store.size == 0


REFERENCE = {"type": "item_reference", "id": "msg_1"}
MESSAGE = {"type": "message", "id": "msg_1", "role": "assistant", "content": "hello"}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "a", "name": "f", "arguments": "{}"}


def test_references_are_resolved_for_the_caller_whose_items_they_are() -> None:
    store = ResponseStore()
    put(store, "resp_1", "ada", [*items("hi"), MESSAGE, {"id": ["odd"], "role": "user"}])
    put(store, "resp_2", "ada", [CALL, REFERENCE])
    output = {"type": "function_call_output", "call_id": "a", "id": "fc_1", "output": "x"}
    asked = [{"role": "user", "content": "hi", "id": "msg_1"}, REFERENCE, {"id": "fc_1"}, output, {"id": "unknown"}]
    assert store.resolved(asked, "ada") == [asked[0], MESSAGE, CALL, output, {"id": "unknown"}]
    assert store.resolved(asked, "bob") == asked
    assert store.resolved([REFERENCE, REFERENCE], "ada") == [MESSAGE, MESSAGE]


def test_a_reference_is_forgotten_with_the_last_conversation_that_has_the_item() -> None:
    store = ResponseStore(max_count=2)
    put(store, "a", None, [MESSAGE])
    put(store, "b", None, [MESSAGE, CALL])
    put(store, "c", None, items("hi"))
    assert not has(store, "a")
    assert store.resolved([REFERENCE], None) == [MESSAGE]
    put(store, "b", None, items("anew"))
    assert store.resolved([REFERENCE], None) == [REFERENCE]
    assert store._homes == {}


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
        self.put[caller, id] = [{"id": f"msg_{size % 5}", **item} for item in items("x" * size)]
        put(self.store, id, caller, self.put[caller, id])

    @rule(id=st.sampled_from("abcdef"), caller=st.sampled_from([None, "ada", "bob"]))
    def ask(self, id: str, caller: str | None) -> None:
        if has(self.store, id, caller):
            assert self.store.get(id, caller) == self.put[caller, id]

    @rule(number=st.integers(0, 5), caller=st.sampled_from([None, "ada", "bob"]))
    def refer(self, number: int, caller: str | None) -> None:
        (found,) = self.store.resolved([{"type": "item_reference", "id": f"msg_{number}"}], caller)
        kept = [items for (whose, _), items in self.put.items() if whose == caller]
        assert found["id"] == f"msg_{number}"
        assert found["type"] == "item_reference" or [found] in kept

    @invariant()
    def remembers_no_item_of_what_is_forgotten(self) -> None:
        assert set(self.store._homes) <= {
            (caller, id) for (caller, _), kept in self.store._kept.items() for id in kept.ids
        }

    @invariant()
    def is_bounded(self) -> None:
        assert len(self.store) <= 4
        assert 0 <= self.store.size <= 600


TestBounds = Bounds.TestCase
