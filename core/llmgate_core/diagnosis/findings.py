"""What a look at something found, and the fence around the look: one that fails is a finding, too."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import ConfigError, GatewayError, Problem
from ..plugins import place

Level = Literal["ok", "advice", "fail"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        what: a sentence, without secrets.
        where: file and line, backend, variable or address; empty where `what` says it.
        next: what to do, empty where nothing is to be done.
    """

    level: Level
    what: str
    where: str = ""
    next: str = ""

    def mapped(self, change: Callable[[str], str]) -> Finding:
        """The same with each of its texts changed, such as by striking secrets out."""
        return dataclasses.replace(self, what=change(self.what), where=change(self.where), next=change(self.next))


@dataclass(frozen=True)
class Section:
    """What was found of one subject."""

    title: str
    findings: Sequence[Finding]


def ok(what: str, where: str = "", next: str = "") -> Finding:
    """Nothing is wrong with it."""
    return Finding("ok", what, where, next)


def advice(what: str, where: str = "", next: str = "") -> Finding:
    """It works, or may work, and would be better otherwise."""
    return Finding("advice", what, where, next)


def fail(what: str, where: str = "", next: str = "") -> Finding:
    """Something does not work because of it."""
    return Finding("fail", what, where, next)


def told(level: Level, problems: Iterable[Problem]) -> list[Finding]:
    """Problems of the configuration, which say themselves what to do."""
    return [Finding(level, problem.message, problem.where) for problem in problems]


def fenced(subject: str, look: Callable[[], Sequence[Finding]]) -> list[Finding]:
    """What `look` finds, or that it failed."""
    try:
        return list(look())
    except Exception as error:
        return failed(subject, error)


def failed(subject: str, error: Exception) -> list[Finding]:
    """What to say of a look that raised."""
    if isinstance(error, ConfigError):
        return told("fail", error.problems)
    if isinstance(error, GatewayError):
        return [fail(str(error), subject)]
    if isinstance(error, OSError):
        return [fail(f"could not be looked at: {error.strerror or 'it failed'}", subject)]
    # Not its text, which may hold what it was about.
    what = f"could not be looked at: {type(error).__name__}{place(error)}"
    return [fail(what, subject, "this is a mistake in llmgate or in a plugin: please report it with this line")]
