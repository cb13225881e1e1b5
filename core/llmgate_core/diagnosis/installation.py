"""The installation: versions, plugins, and what bears our name without being ours."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..plugins import Installed
from .findings import Finding, advice, fail, ok

COMMAND = "llmgate"
FOREIGN = "llmgate"
"""The public index has an unrelated project of this name; ours are called `llmgate-core` and `llmgate-<plugin>`."""


@dataclass(frozen=True)
class Installation:
    """What is installed here, plugins apart.

    Args:
        own: the command that belongs to the Python that runs; None where it has none (`python -m llmgate_core`).
        on_path: commands of our name, in the order in which the shell looks.
        foreign: the version of the distribution that only bears our name, None where it is not installed.
    """

    python: str
    core: str
    own: str | None = None
    on_path: Sequence[str] = ()
    foreign: str | None = None


def look_at(found: Installation) -> list[Finding]:
    """Versions, the command, and the foreign project."""
    return [ok(f"llmgate-core {found.core} on Python {found.python}"), *_command(found), *_foreign(found)]


def _command(found: Installation) -> list[Finding]:
    if not found.on_path or found.own is None:
        return []
    first = found.on_path[0]
    if os.path.realpath(first) == os.path.realpath(found.own):
        return [ok(f"the command `{COMMAND}` is the one of this installation", first)]
    return [
        advice(
            f"the shell finds another `{COMMAND}` first; this one is {found.own}",
            first,
            "activate the environment of this one, or change the order in PATH",
        )
    ]


def _foreign(found: Installation) -> list[Finding]:
    if found.foreign is None:
        return []
    return [
        advice(
            f"a foreign project called `{FOREIGN}` ({found.foreign}) is installed beside ours, and may own our command",
            next=f"`python -m pip uninstall {FOREIGN}`, then install llmgate-core once more from where you have it",
        )
    ]


def look_at_plugins(
    rows: Sequence[Mapping[str, Any]], wanted: Collection[str], blocked: Sequence[Installed]
) -> list[Finding]:
    """Every plugin that is installed; one that cannot be used is a failure only where the configuration wants it.

    Args:
        rows: as `llmgate plugins --json` has them.
        wanted: the plugins that the configuration names.
        blocked: those that are installed and shall not be loaded.
    """
    found = [_plugin(row, wanted) for row in rows]
    for one in blocked:
        what = f"plugin `{one.name}` of {one.distribution} {one.version} is blocked"
        way_out = "take it out of `plugins.block` or LLMGATE_BLOCK_PLUGINS"
        found.append(fail(what, next=way_out) if one.name in wanted else ok(what))
    return found


def _plugin(row: Mapping[str, Any], wanted: Collection[str]) -> Finding:
    where = f"{row['distribution']} {row['version']}"
    if not row["problem"]:
        return ok(f"plugin `{row['name']}` loads", where)
    brought = {row["name"], *row["brings"].get("connectors", ())}
    told = " ".join(line.strip() for line in row["problem"].splitlines())
    if brought & set(wanted):
        return fail(told, where, "`llmgate plugins` shows it once more when it is mended")
    return advice(told, where, "nothing in the configuration names it: mend it, uninstall it, or leave it")


# --- asking the system ------------------------------------------------------------------------------------------------


def commands_on(path: str) -> list[str]:
    """Commands of our name in the folders of PATH, in their order, each once."""
    folders = (folder for folder in path.split(os.pathsep) if folder)
    found = (shutil.which(COMMAND, path=folder) for folder in folders)
    return list(dict.fromkeys(one for one in found if one))


def foreign_version() -> str | None:
    """The version of the distribution that bears our name, if it is installed."""
    try:
        return version(FOREIGN)
    except PackageNotFoundError:
        return None
