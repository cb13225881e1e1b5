"""The form of the public names: parameters, fields, methods. A change of it may break plugins, so it must be meant.

To renew the listing: LLMGATE_UPDATE_SIGNATURES=1 pytest tests/test_public_signatures.py; then read the difference, and
tell it in docs/plugin-changelog.md.
"""

from __future__ import annotations

import inspect
import os
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llmgate_core
import llmgate_core.testing

LISTING = Path(__file__).parent / "public_signatures.txt"
UPDATE = "LLMGATE_UPDATE_SIGNATURES"
HEAD = f"# Written by {Path(__file__).name}, which says how to renew it. Annotations are left out: mypy sees to them.\n"

LITERALS = (bool, int, float, str, bytes, type(None), tuple)
OWN = ("__init__", "__aenter__", "__aexit__", "__enter__", "__exit__", "__contains__")
CHECKS = "test_"
"""The conformance suite's own tests are no names to call."""


def form(function: Any) -> str:
    """The parameters, without annotations; a default that is no literal is only told to be there."""
    try:
        found = inspect.signature(function)
    except (TypeError, ValueError):
        return "(...)"
    parameters = [one.replace(annotation=one.empty, default=shown(one.default)) for one in found.parameters.values()]
    return str(inspect.Signature(parameters))


def shown(default: Any) -> Any:
    return default if default is inspect.Parameter.empty or isinstance(default, LITERALS) else ...


def members(cls: type[Any]) -> Iterator[str]:
    """Methods, properties and annotated attributes, of the class and of those of ours that it inherits."""
    ours = [base for base in reversed(cls.__mro__) if base.__module__.startswith("llmgate_core")]
    found: dict[str, str] = {}
    for base in ours:
        for name in inspect.get_annotations(base):
            found[name] = "attribute"
        for name, value in vars(base).items():
            hidden = name.startswith("_") and name not in OWN
            if hidden or name.startswith(CHECKS) or getattr(value, "__module__", "") == "typing":
                continue
            found[name] = sort(value)
    yield from (f"  {name}{what if what[:1] == '(' else f': {what}'}" for name, what in sorted(found.items()))


def sort(value: Any) -> str:
    plain = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
    if isinstance(plain, types.FunctionType):
        return form(plain) + (" async" if inspect.iscoroutinefunction(plain) else "")
    return "property" if isinstance(value, property) else "attribute"


def described(name: str, value: Any) -> list[str]:
    if isinstance(value, type):
        return [f"class {name}", *members(value)]
    return [f"{name}{form(value)}" if isinstance(value, types.FunctionType) else name]


def test_the_form_of_the_public_names_is_the_committed_one() -> None:
    lines = []
    for package in (llmgate_core, llmgate_core.testing):
        for name in sorted(package.__all__):
            lines += described(f"{package.__name__}.{name}", getattr(package, name))
    text = HEAD + "\n".join(lines) + "\n"
    if os.environ.get(UPDATE):
        LISTING.write_text(text, encoding="utf-8")
    assert text.splitlines() == LISTING.read_text(encoding="utf-8").splitlines(), (
        f"the form of public names has changed; if that is meant, run with {UPDATE}=1, read the difference of "
        f"{LISTING.name}, and tell it in docs/plugin-changelog.md"
    )
