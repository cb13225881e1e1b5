"""What SIGHUP sets off: one reload after the other, each swapped in or refused in words."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass, field
from typing import Any

import click
import pytest

from llmgate_core.changes import Changes
from llmgate_core.cli import StartRefused
from llmgate_core.cli.reload import STAYS, Successor, reload, reload_when_asked
from llmgate_core.config import GatewayConfig
from llmgate_core.errors import ConfigError, PluginError, Problem
from llmgate_core.observe import Redactor


@dataclass
class Named:
    """As much of a gateway as a reload looks at."""

    name: str
    config: GatewayConfig = field(default_factory=GatewayConfig)
    redactor: Redactor = field(default_factory=Redactor)


class Swaps:
    """Gateways that notes what was swapped in."""

    def __init__(self) -> None:
        self.current: Any = Named("first")
        self.swapped: asyncio.Queue[str] = asyncio.Queue()

    def swap(self, new: Any) -> None:
        self.current = new
        self.swapped.put_nowait(new.name)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves logging to the tests."""
    monkeypatch.setattr("llmgate_core.observe.configure", lambda *_: None)


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (
            ConfigError([Problem("a.yaml", 2, "wrong"), Problem("b.yaml", 3, "cannot be loaded:\n  no module")]),
            ["a.yaml:2: wrong", "b.yaml:3: cannot be loaded: no module"],
        ),
        (StartRefused("no configuration found", 2), ["no configuration found"]),
        (PluginError("backend `a`: it raised"), ["backend `a`: it raised"]),
        (click.UsageError("no installed plugin offers `--x`"), ["no installed plugin offers `--x`"]),
        (ZeroDivisionError("inside"), ["reading it raised ZeroDivisionError"]),
        (SystemExit(7), ["reading it raised SystemExit"]),
        (BaseException(), ["reading it raised BaseException"]),
    ],
)
def test_a_refusal_is_told_and_changes_nothing(
    error: BaseException, lines: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    swaps = Swaps()

    def read(running: Any) -> Successor:
        raise error

    with caplog.at_level(logging.ERROR, "llmgate"):
        asyncio.run(reload(swaps, read))  # type: ignore[arg-type]
    assert swaps.swapped.empty()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", line) for line in (*lines, STAYS)
    ]
    assert ("Traceback" in caplog.text) == lines[0].startswith("reading it raised")


def test_what_is_asked_during_a_reload_is_done_once_more_and_not_beside_it() -> None:
    async def run() -> None:
        swaps, asked = Swaps(), asyncio.Event()
        begun, go_on, seen = threading.Event(), threading.Event(), []

        def read(running: Any) -> Successor:
            seen.append(running.name)
            begun.set()
            assert go_on.wait(10)
            new: Any = Named(f"number {len(seen)}")
            return Successor(new, Changes(), ())

        task = asyncio.create_task(reload_when_asked(asked, swaps, read))  # type: ignore[arg-type]
        asked.set()
        await asyncio.to_thread(begun.wait, 10)
        for _ in range(3):
            asked.set()
            await asyncio.sleep(0)
        assert seen == ["first"]
        go_on.set()
        async with asyncio.timeout(10):
            assert [await swaps.swapped.get() for _ in range(2)] == ["number 1", "number 2"]
        assert not asked.is_set()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert seen == ["first", "number 1"]
        assert swaps.swapped.empty()

    asyncio.run(run())
