"""What an answer becomes, wherever its bytes are cut."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgate_core import Body, ConnectorError
from llmgate_ollama import _streamed
from llmgate_ollama.answering import Answer, listed

CALL = {"function": {"name": "weather", "arguments": {"city": "北京"}}}
EVENTS = [
    {"message": {"role": "assistant", "content": "", "thinking": "想\n一想"}, "done": False},
    {"message": {"role": "assistant", "content": "Grüße 🙂"}, "done": False},
    {"message": {"role": "assistant", "content": "", "tool_calls": [CALL, CALL]}, "done": False},
    {"message": {"content": ""}, "done": True, "done_reason": "stop", "prompt_eval_count": 26, "eval_count": 3},
]
WIRE = b"\n".join(json.dumps(event, ensure_ascii=False).encode() for event in EVENTS)


def answer(usage: bool = True) -> Answer:
    return Answer("req_1", "qwen3:8b", 7.9, usage)


def streamed(pieces: Iterable[bytes], usage: bool = True) -> bytes:
    async def chunks() -> AsyncGenerator[bytes, None]:
        for piece in pieces:
            yield piece

    async def run() -> bytes:
        return b"".join([said async for said in _streamed(answer(usage), chunks())])

    return asyncio.run(run())


def deltas(data: bytes) -> Iterator[dict[str, Any]]:
    *events, done, rest = data.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    for event in events:
        yield json.loads(event.removeprefix(b"data: "))


WANTED = streamed([WIRE])


@given(st.lists(st.integers(0, len(WIRE)), max_size=12))
def test_any_cut_gives_the_same(cuts: list[int]) -> None:
    ends = [0, *sorted(cuts), len(WIRE)]
    assert streamed(WIRE[a:b] for a, b in pairwise(ends)) == WANTED


def test_a_stream() -> None:
    first, second, third, last, usage = deltas(WANTED)
    assert (first["id"], first["created"], first["model"]) == ("chatcmpl-req_1", 7, "qwen3:8b")
    assert first["choices"][0]["delta"] == {"role": "assistant", "reasoning_content": "想\n一想"}
    assert second["choices"][0]["delta"] == {"content": "Grüße 🙂"}
    calls = third["choices"][0]["delta"]["tool_calls"]
    assert [(call["index"], call["id"]) for call in calls] == [(0, "call_req_1_0"), (1, "call_req_1_1")]
    assert json.loads(calls[0]["function"]["arguments"]) == {"city": "北京"}
    assert (last["choices"][0]["delta"], last["choices"][0]["finish_reason"]) == ({}, "tool_calls")
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 26, "completion_tokens": 3, "total_tokens": 29}


def test_usage_only_where_it_is_asked_for() -> None:
    assert b"usage" not in streamed([WIRE], usage=False)


def test_nothing_counts_after_the_end() -> None:
    assert streamed([WIRE, b"\n", WIRE]) == WANTED


@pytest.mark.parametrize(
    ("done_reason", "finish"), [("stop", "stop"), ("length", "length"), ("load", "stop"), (None, "stop")]
)
def test_why_it_ends(done_reason: Any, finish: str) -> None:
    told = {"message": {"content": "a"}, "done": True, "done_reason": done_reason}
    whole = answer().whole(Body.of(told)).data
    assert whole["choices"][0]["finish_reason"] == finish
    assert "usage" not in whole


def test_a_plain_answer() -> None:
    message = {"role": "assistant", "content": "", "thinking": "想", "tool_calls": [{**CALL, "id": "own"}]}
    told = {"message": message, "done": True, "eval_count": 3, "logprobs": [{"token": "a", "logprob": -1.5}]}
    [choice] = answer().whole(Body.of(told)).data["choices"]
    call = {"id": "own", "type": "function", "function": {"name": "weather", "arguments": '{"city":"北京"}'}}
    wanted = {"role": "assistant", "content": "", "reasoning_content": "想", "tool_calls": [call]}
    assert choice["message"] == wanted
    assert choice["logprobs"] == {"content": [{"token": "a", "logprob": -1.5}]}


@pytest.mark.parametrize("done", [{}, {"done": False}])
def test_a_plain_answer_that_is_not_done_is_none(done: dict[str, Any]) -> None:
    with pytest.raises(ConnectorError, match="before Ollama said `done`") as failure:
        answer().whole(Body.of({"message": {"content": "a"}, **done}))
    assert failure.value.kind == "protocol"


def test_an_error_in_a_stream_comes_after_what_was_said() -> None:
    lines = answer()
    assert b"Gr\xc3\xbc\xc3\x9fe" in lines.event(Body.of(EVENTS[1]))
    with pytest.raises(ConnectorError, match=r"^an error was encountered") as failure:
        lines.event(Body.of({"error": "an error was encountered while running the model"}))
    assert (failure.value.kind, failure.value.status) == ("unavailable", None)


@pytest.mark.parametrize(
    ("wire", "words"),
    [
        (WIRE.rpartition(b"\n")[0], "before Ollama said `done`"),
        (b"", "before Ollama said `done`"),
        (b"[1]\n", "no JSON object"),
        (b'{"message": {"content": "a', "no JSON object"),
        (b'{"message": 7}', "is no object"),
        (b'{"eval_count": 1e999}', "cannot be read"),
        (b'{"message": {"tool_calls": [{"function": {}}]}}', "tool call"),
    ],
)
def test_what_is_no_answer(wire: bytes, words: str) -> None:
    with pytest.raises(ConnectorError, match=words) as failure:
        streamed([wire])
    assert failure.value.kind == "protocol"


def test_the_list_of_models() -> None:
    assert [model.id for model in listed(b'{"models":[{"name":"qwen3:8b","size":1}]}')] == ["qwen3:8b"]
    assert listed(b'{"models":null}') == []
    for bad in (b"", b"[]", b'{"data":[]}', b'{"models":[{}]}', b'{"models":7}'):
        with pytest.raises(ConnectorError, match="list of models"):
            listed(bad)
