"""What plugin authors may rely on: the names, where they come from, and that asking for none of them costs nothing."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import llmgate_core
import llmgate_core.testing

LISTING = Path(__file__).parent / "public_api.txt"
PACKAGES = pytest.mark.parametrize(
    "package", [llmgate_core, llmgate_core.testing], ids=lambda package: package.__name__
)


def names_of(package: object) -> list[str]:
    found: list[str] = package.__all__  # type: ignore[attr-defined]
    return found


def source_of(package: object) -> ast.Module:
    return ast.parse(Path(str(package.__file__)).read_text(encoding="utf-8"))  # type: ignore[attr-defined]


def table_of(package: object) -> dict[str, str]:
    found: dict[str, str] = package._HOMES  # type: ignore[attr-defined]
    return found


def test_the_listing_is_the_public_api() -> None:
    now = [f"llmgate_core.{name}" for name in names_of(llmgate_core)]
    now += [f"llmgate_core.testing.{name}" for name in names_of(llmgate_core.testing)]
    lines = LISTING.read_text(encoding="utf-8").splitlines()
    committed = [line for line in lines if not line.startswith("#")]
    gone, new = sorted(set(committed) - set(now)), sorted(set(now) - set(committed))
    assert committed == sorted(now), (
        f"the public names have changed (gone: {gone}, new: {new}). A name that goes breaks plugins: see What is "
        f"stable in docs/plugins.md. When it is meant, tell it in docs/plugin-changelog.md and in {LISTING.name}"
    )


@PACKAGES
def test_the_page_for_authors_lists_every_name(package: object) -> None:
    page = (LISTING.parent.parent / "docs" / "plugins.md").read_text(encoding="utf-8")
    _, _, section = page.partition("\n## What is stable\n")
    listed = {name for row in section.splitlines() if row.startswith("| ") for name in re.findall(r"`(\w+)`", row)}
    assert set(names_of(package)) - listed == set()


def test_the_typing_tests_know_every_name() -> None:
    tree = ast.parse((LISTING.parent / "typing_public_api.py").read_text(encoding="utf-8"))
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert set(names_of(llmgate_core)) - used == set(), "write how an author uses it into typing_public_api.py"


@PACKAGES
def test_every_name_resolves(package: object) -> None:
    for name in names_of(package):
        assert getattr(package, name) is not None
    assert set(names_of(package)) <= set(dir(package))


@PACKAGES
def test_the_list_and_the_table_agree(package: object) -> None:
    assert len(names_of(package)) == len(set(names_of(package)))
    assert sorted(names_of(package)) == sorted(table_of(package))


@PACKAGES
def test_type_checkers_and_python_see_the_same_names(package: object) -> None:
    (block,) = (
        node
        for node in source_of(package).body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    )
    seen = {
        alias.asname or alias.name: statement.module
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert seen == table_of(package)


@PACKAGES
def test_an_unknown_name_is_an_attribute_error(package: object) -> None:
    with pytest.raises(AttributeError, match="Conector"):
        package.Conector  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("module", ["llmgate_core", "llmgate_core.testing", "llmgate_core.errors"])
def test_importing_costs_no_library(module: str) -> None:
    # -I -S: no site-packages at all, so that nothing but the standard library and the package can be found.
    program = (
        f"import sys, json; sys.path.append({str(Path(llmgate_core.__file__).parent.parent)!r}); "
        f"before = set(sys.modules); import {module}; "
        "print(json.dumps(sorted({name.partition('.')[0] for name in set(sys.modules) - before})))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) <= sys.stdlib_module_names | {"llmgate_core"}
