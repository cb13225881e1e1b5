"""Regular expressions that an operator configures and callers' texts are held against: none that could run away.

They run on RE2, whose time grows linearly with the text (https://github.com/google/re2/wiki/WhyRE2), because the event
loop waits for the match.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

_UNSUPPORTED = {
    "(?=": "lookaheads",
    "(?!": "lookaheads",
    "(?<": "lookbehinds",
    "(?P": "backreferences",
    **{f"\\{digit}": "backreferences" for digit in range(1, 10)},
}
"""The beginning of the part that RE2 refuses, where other engines would take the pattern, and what it is called."""


class Match(Protocol):
    """A match, as RE2 has it."""

    def group(self, group: int, /) -> str | None:
        """The text of a group; None where the group took no part."""


class Pattern(Protocol):
    """A compiled pattern, as RE2 has it."""

    @property
    def groups(self) -> int:
        """How many groups there are."""

    @property
    def groupindex(self) -> Mapping[str, int]:
        """The numbers of the groups that have a name."""

    def fullmatch(self, text: str, /) -> Match | None:
        """A match of the whole text."""

    def search(self, text: str, /) -> Match | None:
        """The first match anywhere in the text."""


def compile_pattern(text: str) -> Pattern:
    """The pattern, compiled by RE2.

    Raises:
        ValueError: RE2 refuses it; the message says why, in words that do not repeat the pattern.
    """
    import re2  # type: ignore[import-untyped]  # here, as most gateways have no patterns

    options = re2.Options()
    options.log_errors = False
    try:
        pattern: Pattern = re2.compile(text, options)
    except re2.error as error:
        said = error.args[0]
        raise ValueError(_why_refused(said.decode() if isinstance(said, bytes) else str(said))) from None
    except UnicodeEncodeError:
        raise ValueError("holds half of a character (a lone surrogate)") from None
    return pattern


def _why_refused(said: str) -> str:
    """RE2's own words end with the part of the pattern at fault; what is configured is not repeated."""
    problem, _, part = said.partition(": ")
    if problem in ("invalid perl operator", "invalid escape sequence"):
        for beginning, what in _UNSUPPORTED.items():
            if part.startswith(beginning):
                return f"{what} are not supported (RE2 matches in linear time, and has none)"
    return f"is not a regular expression of RE2: {problem}"
