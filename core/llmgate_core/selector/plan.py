"""A route plan as values: branches, what joins them, and the text that parses to the same plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

Operator = Literal["|", "^", "!"]
"""What joins the branches: one after the other, by weight, or in parallel."""


@dataclass(frozen=True)
class Leaf:
    """One model at one backend, with the parameters of the query.

    Args:
        backend: after `parse` the part before the first `:` (it may turn out to belong to the model) or None;
            after `resolve` always the full name of a configured instance, `connector.instance`.
        model: as it goes upstream.
        query: decoded names and values in the order in which they were written.
    """

    backend: str | None
    model: str
    query: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        prefix = f"{self.backend}:" if self.backend is not None else ""
        pairs = "&".join(f"{quote(name)}={quote(value)}" for name, value in self.query)
        return f"{prefix}{self.model}?{pairs}" if pairs else f"{prefix}{self.model}"


@dataclass(frozen=True)
class Branch:
    """One way that a request may take, with its notes; None where there is none.

    Args:
        leaf: who answers.
        reasoning: who thinks first, in `hybrid:[REASONING,LEAF]`.
        weight: its share among branches joined by `^`; 1 where it is not written.
        handicap: seconds by which the highest of all starts earlier, among branches joined by `!`; 0 likewise.
        ttft_timeout: seconds within which something meaningful must have come.
        max_context: tokens; a request that is estimated larger leaves the branch out.
    """

    leaf: Leaf
    reasoning: Leaf | None = None
    weight: float | None = None
    handicap: float | None = None
    ttft_timeout: float | None = None
    max_context: int | None = None

    def __str__(self) -> str:
        notes = {name: getattr(self, name) for name in ("weight", "handicap", "ttft_timeout", "max_context")}
        written = ",".join(f"{name}={_number(value)}" for name, value in notes.items() if value is not None)
        target = str(self.leaf) if self.reasoning is None else f"hybrid:[{self.reasoning},{self.leaf}]"
        return f"[{written}]{target}" if written else target

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """Whom it asks, in their order."""
        return (self.leaf,) if self.reasoning is None else (self.reasoning, self.leaf)


@dataclass(frozen=True)
class RoutePlan:
    """Where a request may go: at least one branch, and how they are joined (`|` for a single one).

    `str(plan)` is a selector that parses to an equal plan.
    """

    branches: tuple[Branch, ...]
    operator: Operator = "|"

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """The leaves of each branch."""
        return tuple(leaf for branch in self.branches for leaf in branch.leaves)

    def __str__(self) -> str:
        return self.operator.join(map(str, self.branches))


def single(leaf: Leaf) -> RoutePlan:
    """The plan with this leaf alone."""
    return RoutePlan((Branch(leaf),))


def _number(value: float) -> str:
    """As the grammar has it: at most six decimals, no exponent."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
