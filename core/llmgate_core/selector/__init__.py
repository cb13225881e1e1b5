"""The text in `model` as a route plan: `parse` reads the syntax, `resolve` finds out which backends are meant.

The two steps are apart because only the configuration knows whether `llama3:8b` names a backend.
"""

from __future__ import annotations

from .grammar import MAX_BRANCHES, MAX_LENGTH, parse
from .naming import Names, closest, nearest_backend, resolve
from .plan import Branch, Leaf, Operator, RoutePlan, single

__all__ = [
    "MAX_BRANCHES",
    "MAX_LENGTH",
    "Branch",
    "Leaf",
    "Names",
    "Operator",
    "RoutePlan",
    "closest",
    "nearest_backend",
    "parse",
    "resolve",
    "single",
]
