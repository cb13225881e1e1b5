"""What signals do to a gateway that serves; real ones are in tests/e2e/test_shutdown.py."""

from __future__ import annotations

import asyncio

import pytest

from llmgate_core.cli import signals
from llmgate_core.cli.signals import CLOSING_SECONDS, Told


def test_a_terminal_that_has_gone_counts_as_the_first_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []
    last: list[str] = []
    monkeypatch.setattr(signals, "has_terminal", lambda: False)
    monkeypatch.setattr(signals, "end_within", limits.append)
    monkeypatch.setattr(signals, "say_last", last.append)

    async def run() -> None:
        told = Told()
        told.grace = lambda: 30.0
        told._hung_up(had_terminal=True)
        assert (told.stop.is_set(), told.reload.is_set()) == (True, False)
        assert (limits, last) == ([30.0 + CLOSING_SECONDS], [])
        told._signalled()
        assert last == ["stopped at once"]

    asyncio.run(run())
