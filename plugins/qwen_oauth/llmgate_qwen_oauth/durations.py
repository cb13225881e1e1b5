"""Times in words, for status lines and messages."""

from __future__ import annotations

from datetime import UTC, datetime


def words(seconds: float) -> str:
    """A duration for people."""
    if seconds < 120:
        return f"{max(0, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 7200 else f"{round(seconds / 3600)} h"


def moment(when: float) -> str:
    """A point in time, given in Unix seconds, as `2026-04-15 08:30 UTC`; words where no calendar has it."""
    try:
        return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):
        return "a time that no calendar has"
