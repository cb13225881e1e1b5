"""How agents word a failed edit, as data: those shipped with llmgate, and those that an operator adds."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Annotated, Literal

from ..settings import Meta, decode

SHIPPED = "edit_failures.toml"

GAP = "{}"
"""Stands in a pattern for the part of a text that varies."""

MIN_WORDS = 12
"""So many letters in a row must be in each text: that is what a request's bytes are searched for."""

# What no JSON library escapes, so that it stands in the bytes as it stands in the text.
_WORDS = re.compile(r"[A-Za-z0-9 .,:_-]+")


@dataclass(frozen=True)
class Wording:
    """One text with its gaps, taken apart. Takes time in proportion to what it is held against, whatever that is."""

    pieces: tuple[str, ...]
    words: bytes

    @classmethod
    def parse(cls, text: str) -> Wording:
        """Takes a pattern's text apart; raises ValueError for one that would fit too much, or could not be found."""
        pieces = tuple(text.split(GAP))
        if not pieces[0].strip():
            raise ValueError(f"a text must begin with words, not with `{GAP}` or a space")
        longest = max((run for piece in pieces for run in _WORDS.findall(piece)), key=len, default="")
        if len(longest) < MIN_WORDS:
            raise ValueError(f"a text needs at least {MIN_WORDS} plain letters and spaces in a row")
        return cls(pieces, longest.encode())

    def fits(self, text: str) -> bool:
        """Whether `text` begins with these words; what comes after them does not matter."""
        if not text.startswith(self.pieces[0]):
            return False
        at = len(self.pieces[0])
        for piece in self.pieces[1:]:
            found = text.find(piece, at)
            if found < 0:
                return False
            at = found + len(piece)
        return True


@dataclass(frozen=True)
class EditPattern:
    """One way in which one agent says that an edit failed."""

    name: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9.-]*$", description="What the response header says.")]
    agent: Annotated[str, Meta(min_length=1, description="The agent's name.")]
    tools: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(
            min_length=1,
            description="The tools whose result it is; with `role: user`, what the model's message before it contains.",
        ),
    ]
    texts: Annotated[
        tuple[str, ...],
        Meta(min_length=1, description="How the result begins; `{}` stands for what varies."),
    ]
    role: Annotated[
        Literal["tool", "user"],
        Meta(description="Whose message it is in: a tool's, or the user's for an agent that offers no tools."),
    ] = "tool"
    source: Annotated[str, Meta(description="Where the texts are from: package, version, place.")] = ""
    wordings: tuple[Wording, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises ValueError for a text that cannot be used."""
        if not self.name.isprintable():  # it becomes a header, and `$` lets a newline pass
            raise ValueError("`name` must be one line")
        object.__setattr__(self, "wordings", tuple(map(Wording.parse, self.texts)))

    def fits(self, text: str) -> bool:
        """Whether a message's text is one of these."""
        text = text.lstrip()
        return any(wording.fits(text) for wording in self.wordings)


@dataclass(frozen=True)
class ShippedPatterns:
    """The file of patterns that comes with llmgate.

    Args:
        user_agents: how the User-Agent of an agent begins, by the agent's name; agents that share the one of their
            HTTP library are not in it.
    """

    patterns: tuple[EditPattern, ...]
    user_agents: Mapping[str, tuple[str, ...]]

    def agents(self) -> frozenset[str]:
        """All agents that are known."""
        return frozenset({pattern.agent for pattern in self.patterns} | self.user_agents.keys())

    def agent_of(self, user_agent: str) -> str | None:
        """The agent that calls itself so, None where that does not tell."""
        begins = ((name, prefix) for name, prefixes in self.user_agents.items() for prefix in prefixes)
        return next((name for name, prefix in begins if user_agent.startswith(prefix)), None)


def shipped() -> ShippedPatterns:
    """The patterns that come with llmgate, read from the package."""
    text = resources.files(__package__).joinpath(SHIPPED).read_text(encoding="utf-8")
    found, faults = decode(ShippedPatterns, tomllib.loads(text), prefix=SHIPPED)
    if found is None:
        raise ValueError("; ".join(message for _, message in faults))
    return found


def words_of(patterns: Sequence[EditPattern]) -> tuple[bytes, ...]:
    """What must be in a message's JSON for any of the patterns to fit: one of these, none of which holds another."""
    found = {wording.words for pattern in patterns for wording in pattern.wordings}
    return tuple(sorted(words for words in found if not any(other in words for other in found - {words})))
