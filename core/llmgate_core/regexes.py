"""Regular expressions that an operator configures and callers' texts are held against: none that could run away.

Python's engine tries every way to match, and some patterns have more ways than a lifetime has seconds.
"""

from __future__ import annotations

import re

MAX_LENGTH = 500
MAX_LOOPS = 2
MAX_OPTIONS = 4

_TOKEN = re.compile(
    r"""
      (?P<backreference> \\[1-9] | \(\?P= | \(\?\( )
    | \\.                                                  # an escaped character
    | \[\^?\]? (?: \\. | [^\]\\] )*+ \]                    # a class
    | (?P<group> \) ) (?= [*+{] )
    | (?P<loop> (?: [*+] | \{[0-9]+(?:,[0-9]*)?\} | \{,[0-9]+\} ) [?+]? )
    | \(\?                                                 # not an option, the beginning of a special group
    | (?P<option> \? )
    """,
    re.VERBOSE | re.DOTALL,
)


def regex_problem(pattern: str) -> str | None:
    """Why a pattern is refused, as the end of a sentence about it; None for one that may be used.

    What may be used needs at most about n^3 / 6 steps for a text of n characters: cut what callers send.
    """
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        place = getattr(error, "pos", None)
        return "is not a regular expression" + (f": see its character {place + 1}" if place is not None else "")
    if len(pattern) > MAX_LENGTH:
        return f"may have at most {MAX_LENGTH} characters"
    kinds = [token.lastgroup for token in _TOKEN.finditer(pattern)]
    if "backreference" in kinds or "group" in kinds:
        return "could run without end: it must not repeat a group, or refer back to one"
    if kinds.count("loop") > MAX_LOOPS or kinds.count("option") > MAX_OPTIONS:
        return f"could run without end: at most {MAX_LOOPS} of `*`, `+`, `{{}}` and {MAX_OPTIONS} of `?` may be in it"
    return None
