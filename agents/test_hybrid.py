"""Qwen Code over a hybrid of two plugins before their simulators: one model thinks, the other one edits the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import Portal, open_minimax, open_portal

from llmgate_minimax.simulator import THOUGHT, MiniMaxSimulator

from . import errand
from .conftest import KEY, Desk
from .upstreams import offered

PAIR = "hybrid:[minimax:MiniMax-M2,qwen-oauth:qwen3-coder-plus]"


@pytest.fixture
def thinker(tmp_path: Path) -> Iterator[tuple[MiniMaxSimulator, dict[str, Any]]]:
    (tmp_path / "minimax").mkdir()
    with open_minimax(tmp_path / "minimax") as opened:
        yield opened


@pytest.fixture
def portal(tmp_path: Path) -> Iterator[Portal]:
    (tmp_path / "portal").mkdir()
    with open_portal(tmp_path / "portal") as opened:
        yield opened


def test_one_model_thinks_and_the_other_edits_the_file(
    desk: Desk, thinker: tuple[MiniMaxSimulator, dict[str, Any]], portal: Portal
) -> None:
    simulator, extra = thinker

    def script(body: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
        done = sum(message["role"] == "tool" for message in body["messages"])
        call = errand.next_call(done, offered(body), str(desk.file))
        return (call[0], dict(call[1])) if call else None

    portal.simulator.script = script
    backends = {"minimax": {"extra": extra}, "qwen-oauth": {"extra": portal.extra}}
    desk.serve(backends=backends, auth={"api_keys": ["env:GATE_KEY"]})
    ended = desk.run("qwen-code", "--model", PAIR, key=KEY)
    assert ended.status == 0, ended.output
    assert desk.file.read_bytes() == errand.EDITED.encode(), ended.output
    thoughts = [one.body for one in simulator.seen if one.body.get("tools")]
    told = [one.body["messages"] for one in portal.simulator.seen if one.body.get("tools")]
    assert len(thoughts) == len(told) >= errand.CALLS + 1
    assert all(body["tool_choice"] == "none" for body in thoughts)
    assert all(THOUGHT in str(messages[-1]["content"]) for messages in told)
