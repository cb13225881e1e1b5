"""What is known of models without asking anybody: tables of facts, as data files and as configuration.

A table finds a model by its id or by a pattern, so that dated versions and families need one entry. An aggregator's
prefix (`vendor/model`) is looked past.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Any

from .connectors import Modality, ModelInfo, Thinking
from .dialects.chat import PARAMETERS
from .selector import closest
from .settings import Meta, decode

KEPT = 256
"""Models that a table answers for without searching: each request asks, and callers may ask for any name."""

Name = Annotated[str, Meta(min_length=1)]

_UNMISTAKABLE = tuple(name for name in PARAMETERS if len(name) >= len("verbosity"))
"""Names so long that one which is nearly the same is a slip of the pen: `top_a` is a parameter, `top_p` is another."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is said of one model or of a family; None for what is left to other sources.

    Raises:
        ValueError: a parameter's name looks misspelt, or a group of `excludes` is none.
    """

    context: Annotated[int | None, Meta(ge=1, description="Tokens of request and answer together.")] = None
    max_output: Annotated[int | None, Meta(ge=1, description="Tokens of the answer.")] = None
    input: Annotated[tuple[Modality, ...] | None, Meta(description="What a message may hold.")] = None
    thinking: Annotated[
        Thinking | None, Meta(description="Whether the model thinks before it answers: `none`, `optional`, `always`.")
    ] = None
    refuses: Annotated[
        tuple[Name, ...] | None,
        Meta(description="Parameters that the model does not take; llmgate does not add them."),
    ] = None
    excludes: Annotated[
        tuple[tuple[Name, ...], ...] | None,
        Meta(description="Groups of parameters of which the model takes one; llmgate does not add a second one."),
    ] = None

    def __post_init__(self) -> None:
        named = [*(self.refuses or ()), *(name for group in self.excludes or () for name in group)]
        for name in named:
            if name not in PARAMETERS and (meant := closest(name, _UNMISTAKABLE)):
                raise ValueError(f"a parameter's name looks like a misspelt `{meant}`; write that, or leave it out")
        if any(len(set(group)) < 2 for group in self.excludes or ()):
            raise ValueError("a group of `excludes` names at least two parameters, such as `[temperature, top_p]`")

    def over(self, info: ModelInfo, source: str) -> ModelInfo:
        """The same model with what is said here; the rest stays as it was."""
        names = [entry.name for entry in dataclasses.fields(Facts)]
        said = {name: value for name in names if (value := getattr(self, name)) is not None}
        if not said:
            return info
        return dataclasses.replace(info, **said, source=f"{source}; {info.source}" if info.source else source)


@dataclass(frozen=True, kw_only=True)
class _Entry(Facts):
    """One `[[model]]` of a data file: facts, whose they are, and where they are known from."""

    ids: Annotated[tuple[Name, ...], Meta(min_length=1)]
    source: Name


@dataclass(frozen=True)
class _File:
    model: tuple[_Entry, ...]


class ModelFacts:
    """A table of models that a connector knows, read from a data file; see `read`."""

    def __init__(self, entries: Iterable[_Entry]) -> None:
        self._entries = {id: entry for entry in reversed(tuple(entries)) for id in reversed(entry.ids)}
        self._entries = dict(reversed(self._entries.items()))  # the first of two entries counts, in the file's order
        self._found = lru_cache(KEPT)(self._find)

    @classmethod
    def read(cls, text: str) -> ModelFacts:
        """The table in a TOML text: `[[model]]` with `ids`, `source` and any of the fields of ModelInfo.

        Ids may be patterns (`some-model-*`). An id comes before a pattern, a pattern before those below it.

        Raises:
            ValueError: it is no such text; says what is wrong where.
        """
        import tomllib  # here, because most commands need no facts

        file, faults = decode(_File, tomllib.loads(text), prefix="")
        if file is None:
            raise ValueError("; ".join(message for _, message in faults))
        return cls(file.model)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids that are no patterns, in the order of the file."""
        return tuple(id for id in self._entries if not is_pattern(id))

    def get(self, model: str) -> ModelInfo | None:
        """What is known of a model, under the id that was asked for; None where nothing is."""
        return self._found(model)

    def _find(self, model: str) -> ModelInfo | None:
        found = best_match(self._entries, model)
        return None if found is None else self._entries[found].over(ModelInfo(model), self._entries[found].source)


def is_pattern(id: str) -> bool:
    """Whether an id of a table stands for several models."""
    return any(char in id for char in "*?[")


def best_match(ids: Iterable[str], model: str) -> str | None:
    """The first of `ids` that is the model's, else the first pattern that fits; upper and lower case are the same."""
    ids = tuple(ids)
    for name in dict.fromkeys((model.lower(), model.lower().rpartition("/")[2])):
        for fits in (str.__eq__, fnmatchcase):
            found = next((id for id in ids if fits(name, id.lower())), None)
            if found is not None:
                return found
    return None


def overridden(info: ModelInfo, configured: Mapping[str, Facts]) -> ModelInfo:
    """A model with what the operator says of it, by id or pattern."""
    found = best_match(configured, info.id)
    return info if found is None else configured[found].over(info, "configuration")


@cache
def families() -> ModelFacts:
    """Families of models that many upstreams serve, from core's own file."""
    return ModelFacts.read((Path(__file__).parent / "models.toml").read_text(encoding="utf-8"))


def plain_facts(info: ModelInfo) -> dict[str, Any]:
    """What is known of a model as plain values, without its id and without what is not known."""
    return {name: value for name, value in vars(info).items() if name != "id" and value not in (None, "", ())}
