"""What a caller asked for becomes the selector that is read: `force_model`, rewrites of model names, named routes.

    asked for -> force_model, else the first rewrite whose pattern matches -> a route's selector, if it is one's name

All of it is text; nothing here reads selectors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Literal

from ..regexes import Match, Pattern, compile_pattern
from ..selector import MAX_LENGTH
from ..settings import Meta

# `\1`, `\g<1>`, `\g<name>`, `\\`, and a backslash before anything else.
_REFERENCE = re.compile(r"\\(?:(?P<number>[0-9]{1,2})|g<(?P<name>[^<>]*)>|(?P<backslash>\\))?")


_EXACT = re.compile(r"\^?((?:[A-Za-z0-9_/:-]|\\?\.)+)\$?")
"""A pattern that is a name: in `gpt-4.1` the dot is meant, although it stands for any letter."""


@dataclass(frozen=True)
class Rewrite:
    """One rule: a model name that matches the whole of `pattern` becomes `replacement`."""

    pattern: Annotated[
        str, Meta(min_length=1, description="A regular expression (RE2) that must match the whole selector.")
    ]
    replacement: Annotated[
        str, Meta(min_length=1, description="The selector instead; `\\1` and `\\g<name>` are groups of the pattern.")
    ]


@dataclass(frozen=True)
class Step:
    """One thing that happened to a selector before it was read.

    Args:
        text: what it was replaced with.
        rule: the index of the rule that matched, for a rewrite.
        name: the route's, for a route.
    """

    kind: Literal["force_model", "rewrite", "route"]
    text: str
    rule: int | None = None
    name: str | None = None


@dataclass(frozen=True)
class Expanded:
    """The selector to read instead of the one that was asked for; without steps they are the same text."""

    text: str
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Expansion:
    """What the configuration says about selectors as a whole.

    Args:
        force_model: a selector that replaces every other, None for none.
        rewrites: in the order in which they are tried; checked, as a wrong one raises ValueError at its first use.
        routes: selectors by the name that stands for them.
    """

    force_model: str | None = None
    rewrites: tuple[Rewrite, ...] = ()
    routes: Mapping[str, str] = field(default_factory=dict)

    def expand(self, text: str) -> Expanded:
        """The selector that `text` stands for. Each step is applied once, so that nothing can go in circles."""
        steps: list[Step] = []
        if first := self._forced() or self._rewritten(text):
            steps.append(first)
            text = first.text
        if text in self.routes:
            steps.append(Step("route", self.routes[text], name=text))
        return Expanded(steps[-1].text if steps else text, tuple(steps))

    def exact_names(self) -> tuple[str, ...]:
        """The model names for which rewrites are written, one by one: those whose pattern is a name and no more."""
        found = []
        for index, rewrite in enumerate(self.rewrites):
            if exact := _EXACT.fullmatch(rewrite.pattern):
                name = exact[1].replace("\\.", ".")
                if (step := self._rewritten(name)) is not None and step.rule == index:
                    found.append(name)
        return tuple(found)

    def _forced(self) -> Step | None:
        return Step("force_model", self.force_model) if self.force_model else None

    def _rewritten(self, text: str) -> Step | None:
        # Such a text is refused when it is read, with a caret; RE2 cannot encode all of them.
        if len(text) > MAX_LENGTH or not text.isprintable():
            return None
        for index, rule in enumerate(self._rules):
            if match := rule.pattern.fullmatch(text):
                return Step("rewrite", rule.filled(match), rule=index)
        return None

    @cached_property
    def _rules(self) -> tuple[Rule, ...]:
        return tuple(compile_rule(rewrite) for rewrite in self.rewrites)


@dataclass(frozen=True)
class Rule:
    """A rewrite that is ready to be applied: texts, and the numbers of the groups that stand between them."""

    pattern: Pattern
    parts: tuple[str | int, ...]

    def filled(self, match: Match) -> str:
        """The replacement with the groups of a match; a group that took no part is empty."""
        return "".join(part if isinstance(part, str) else match.group(part) or "" for part in self.parts)

    def filled_with(self, text: str) -> str:
        """The replacement with `text` in the place of every group."""
        return "".join(part if isinstance(part, str) else text for part in self.parts)


def compile_rule(rewrite: Rewrite) -> Rule:
    """The rule that a rewrite means; raises ValueError, see `compile_pattern` and `compile_replacement`."""
    pattern = compile_pattern(rewrite.pattern)
    return Rule(pattern, compile_replacement(rewrite.replacement, pattern))


def compile_replacement(text: str, pattern: Pattern) -> tuple[str | int, ...]:
    """The parts of a replacement: texts, and numbers of groups; 0 is the whole text that matched.

    Raises:
        ValueError: it names a group that `pattern` does not have, or a backslash stands before something else.
    """
    parts: list[str | int] = []
    end = 0
    for found in _REFERENCE.finditer(text):
        parts += [text[end : found.start()], "\\" if found["backslash"] else _group(found, pattern)]
        end = found.end()
    return (*parts, text[end:])


def _group(found: re.Match[str], pattern: Pattern) -> int:
    written = found["number"] or found["name"]
    if not written:
        raise ValueError(
            "a backslash must begin `\\1` or `\\g<name>`, with the number or the name of a group, or be doubled"
        )
    if re.fullmatch("[0-9]+", written):
        if len(written) < 4 and int(written) <= pattern.groups:
            return int(written)
        raise ValueError(f"refers to group {written[:4]}, and the pattern has {_counted(pattern.groups)}")
    if written not in pattern.groupindex:
        named = ", ".join(f"`{name}`" for name in pattern.groupindex) or "none"
        raise ValueError(f"refers to a group by a name that the pattern does not have; names in it: {named}")
    return pattern.groupindex[written]


def _counted(groups: int) -> str:
    return "no groups" if groups == 0 else f"{groups} group{'s' * (groups > 1)}"


# --- advice ----------------------------------------------------------------------------------------------------------

_CATCH_ALL = re.compile(r"\^?(\((\?:|\?P?<\w+>)?)?\.[*+](?(1)\))\$?")
"""`.*` and `.+`, also in a group and between anchors: every selector matches."""


def unreachable(rewrites: Sequence[Rewrite]) -> dict[int, int]:
    """Indexes of rules that can never match, each with the index of the earlier rule that matches instead.

    Found are a pattern that stands there twice, and whatever follows one that matches everything.
    """
    first: dict[str, int] = {}
    found: dict[int, int] = {}
    catch_all: int | None = None
    for index, rewrite in enumerate(rewrites):
        earlier = first.setdefault(rewrite.pattern, index)
        if earlier < index:
            found[index] = earlier
        elif catch_all is not None:
            found[index] = catch_all
        if catch_all is None and _CATCH_ALL.fullmatch(rewrite.pattern):
            catch_all = index
    return found
