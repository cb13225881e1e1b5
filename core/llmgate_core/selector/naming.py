"""Which backends a plan means: names, aliases, the default, and what was probably meant by a name that is none."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from ..errors import SelectorError
from .plan import Leaf, RoutePlan

MAX_EDITS = 2
"""How many letters a misspelt name may be away from the right one."""

_DIGIT = re.compile(r"[0-9]")


@dataclass(frozen=True)
class Names:
    """The backends that a selector can name.

    Args:
        enabled, disabled: full names, `connector.instance`.
        aliases: other names, each with the full name that it stands for.
        default: `BACKEND[:MODEL]`, who serves a selector that names no backend. MODEL is what the model name
            `default` stands for.
        routes: names that stand for whole selectors, and so for no model.
    """

    enabled: tuple[str, ...]
    disabled: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    default: str | None = None
    routes: Collection[str] = ()

    @cached_property
    def candidates(self) -> Mapping[str, tuple[str, ...]]:
        """Each name that may stand before `:`, with the instances that it can mean (several: an error)."""
        instances = (*self.enabled, *self.disabled)
        connectors = {connector: self._of_connector(connector) for connector in map(_connector, instances)}
        aliases = {alias: (instance,) for alias, instance in self.aliases.items()}
        return connectors | aliases | {instance: (instance,) for instance in instances}

    def _of_connector(self, connector: str) -> tuple[str, ...]:
        found = tuple(name for name in (*self.enabled, *self.disabled) if _connector(name) == connector)
        default = f"{connector}.default"
        if default in found:
            return (default,)
        return tuple(name for name in found if name in self.enabled) or found[:1]

    @cached_property
    def short(self) -> Mapping[str, str]:
        """The shortest usual name of each enabled backend, by its full name."""
        alias_of = {instance: alias for alias, instance in self.aliases.items()}
        return {name: alias_of.get(name, name.removesuffix(".default")) for name in self.enabled}

    @cached_property
    def default_model(self) -> str:
        """The MODEL of `default`, empty where there is none."""
        return (self.default or "").partition(":")[2]

    @cached_property
    def listed(self) -> tuple[str, ...]:
        """The enabled backends, each by its shortest usual name, sorted."""
        return tuple(sorted(self.short.values()))


def resolve(plan: RoutePlan, names: Names) -> RoutePlan:
    """The same plan with the full name of a configured instance in every leaf; twice is the same as once.

    Raises:
        SelectorError: 404 `backend_not_found` where no backend is meant or it is switched off, 400 where
            several instances could be meant. Its text and column are those of the leaf at fault.
    """
    branches = (
        replace(
            branch,
            leaf=_resolve(branch.leaf, names),
            reasoning=_resolve(branch.reasoning, names) if branch.reasoning else None,
        )
        for branch in plan.branches
    )
    return RoutePlan(tuple(branches), plan.operator)


def _resolve(leaf: Leaf, names: Names) -> Leaf:
    if leaf.backend is None:
        return _at_default(leaf, names)
    if leaf.backend in names.candidates:
        return replace(leaf, backend=_instance(leaf.backend, leaf, names))
    default = _default(leaf, names)
    if default is None or _looks_meant(leaf.backend, names):
        raise _unknown_backend(leaf, leaf.backend, default, names)
    return Leaf(default, f"{leaf.backend}:{leaf.model}", leaf.query)


def _at_default(leaf: Leaf, names: Names) -> Leaf:
    if leaf.model in names.routes:
        raise SelectorError(_stands_alone(leaf.model), str(leaf), 0)
    default = _default(leaf, names)
    if default is None:
        raise _not_found(f"no backend is named and there is no default backend; {_advice(leaf.model, names)}", leaf)
    # Only this word: other bare names are models of the default backend, as `GET /v1/models` lists them.
    model = names.default_model if leaf.model == "default" and names.default_model else leaf.model
    return Leaf(default, model, leaf.query)


def _stands_alone(route: str) -> str:
    return (
        f"`{route}` is a route (`failover_routes`), which stands alone, without a query and other branches; "
        f"write out what it stands for, or `BACKEND:{route}` for a model of that name"
    )


def _default(leaf: Leaf, names: Names) -> str | None:
    if names.default is None:
        return names.enabled[0] if len(names.enabled) == 1 else None
    name = names.default.partition(":")[0]
    if name not in names.candidates:
        raise _not_found(f"the default backend `{name}` is not configured; {_advice(leaf.model, names)}", leaf)
    return _instance(name, leaf, names)


def _instance(name: str, leaf: Leaf, names: Names) -> str:
    found = names.candidates[name]
    if len(found) > 1:
        message = f"`{name}` has several instances and none is called `default`"
        raise SelectorError(f"{message}; write one of {_quoted(sorted(found))}", str(leaf), 0)
    if found[0] not in names.enabled:
        message = f"the backend `{name}` is switched off (`enabled: false`); {_advice(leaf.model, names)}"
        raise _not_found(message, leaf)
    return found[0]


def _looks_meant(prefix: str, names: Names) -> bool:
    """A version number (`acme3` beside a backend `acme`) makes a model's name, not a misspelt backend."""
    if _by_instance(prefix, names):
        return True
    known = names.candidates
    if _DIGIT.search(prefix):
        known = {name: found for name, found in known.items() if _DIGIT.search(name)}
    return closest(prefix, known) is not None


def nearest_backend(prefix: str, names: Names) -> str | None:
    """The backend that a prefix which names none was probably meant to be, or None.

    `home` is `acme.home` without its connector; other prefixes are compared letter by letter.
    """
    return _by_instance(prefix, names) or closest(prefix, names.candidates)


def _by_instance(prefix: str, names: Names) -> str | None:
    instances = (*names.enabled, *names.disabled)
    return next((name for name in instances if name.partition(".")[2].lower() == prefix.lower()), None)


def _unknown_backend(leaf: Leaf, prefix: str, default: str | None, names: Names) -> SelectorError:
    near = nearest_backend(prefix, names)
    hint = f" (did you mean `{near}`?)" if near else ""
    model = f"{prefix}:{leaf.model}"
    way_out = f", or `{default}:{model}` for the model `{model}` of the default backend" if default else ""
    return _not_found(f"there is no backend `{prefix}`{hint}; {_advice(leaf.model, names)}{way_out}", leaf)


def _advice(model: str, names: Names) -> str:
    if not names.enabled:
        return "no backend is enabled: add one to the configuration"
    return f"write `BACKEND:{model}` with one of the backends {_quoted(names.listed)}"


def _not_found(message: str, leaf: Leaf) -> SelectorError:
    return SelectorError(message, str(leaf), 0, status=404, code="backend_not_found")


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _connector(instance: str) -> str:
    return instance.partition(".")[0]


def closest(word: str, names: Iterable[str]) -> str | None:
    """The name that `word` is most likely meant to be, at most MAX_EDITS letters away, or None.

    Upper and lower case are the same. Edits that would leave nothing of a short name do not count.
    """
    word = word.lower()
    near = [
        (edits, name)
        for name in names
        if abs(len(name) - len(word)) <= MAX_EDITS
        and (edits := _edits(word, name.lower())) <= MAX_EDITS
        and edits < len(name)
    ]
    return min(near)[1] if near else None


def _edits(one: str, other: str) -> int:
    """The Levenshtein distance: letters to insert, delete or replace."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        above, row = row, [i]
        for j, right in enumerate(other, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (left != right)))
    return row[-1]
