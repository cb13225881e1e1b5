"""Which program installs into llmgate's own environment, how it is called, and when it must not. Pure, but `look`."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..installed import Allowed, is_listed
from . import EXIT_USAGE, StartRefused

CORE = "llmgate-core"
FOREIGN = "llmgate"
"""The public index has an unrelated project of this name."""


@dataclass(frozen=True)
class Environment:
    """The environment that llmgate runs in.

    Args:
        uv: the program, None where it is not on PATH.
        is_managed: whether the operating system's package manager owns it (PEP 668).
    """

    python: str
    has_pip: bool = True
    uv: str | None = None
    is_managed: bool = False


def look() -> Environment:
    """The environment of the running process."""
    is_virtual = sys.prefix != sys.base_prefix
    mark = Path(sysconfig.get_path("stdlib", sysconfig.get_default_scheme()), "EXTERNALLY-MANAGED")
    has_pip = importlib.util.find_spec("pip") is not None
    return Environment(sys.executable, has_pip, shutil.which("uv"), not is_virtual and mark.exists())


def install_command(
    here: Environment, what: Sequence[str], constraints: Path, *, editable: bool = False, upgrade: bool = False
) -> list[str]:
    """The command that installs `what`: names, wheels, folders, addresses.

    Args:
        constraints: a file that keeps llmgate-core as it is, so that an old plugin cannot bring an older one.

    Raises:
        StartRefused: it would not be a plugin, or this environment is not ours to change.
    """
    for one in what:
        refuse_ours(one)
    wanted = [word for one in what for word in (["--editable", one] if editable else [one])]
    options = ["--constraint", str(constraints), *(["--upgrade"] if upgrade else [])]
    return [*_program(here, "install"), *options, *wanted]


def uninstall_command(here: Environment, distributions: Sequence[str]) -> list[str]:
    """The command that removes these distributions, without asking; raises StartRefused as `install_command`."""
    program = _program(here, "uninstall")
    return [*program, *([] if _is_uv(here) else ["--yes"]), *distributions]


def refuse_ours(what: str) -> None:
    """Raises StartRefused for what is surely no plugin: core, the project that bears our name, and a flag."""
    name = re.split(r"[^A-Za-z0-9_.-]", what.strip(), maxsplit=1)[0]
    plain = re.sub(r"[-_.]+", "-", name).lower()
    if what.startswith("-"):
        raise StartRefused(f"`{what}` is not the name of a plugin, a file, a folder or an address", EXIT_USAGE)
    if plain == CORE:
        raise StartRefused(f"{CORE} is no plugin; install another version of it from where you have it", EXIT_USAGE)
    if plain == FOREIGN:
        raise StartRefused(
            f"`{FOREIGN}` is an unrelated project of the public index, and would overwrite our command; plugins are "
            f"called `{FOREIGN}-...`",
            EXIT_USAGE,
        )


def refuse_unlisted(what: str, allowed: Allowed | None) -> None:
    """Raises StartRefused for a distribution that `plugins.allow` does not have, if `what` says which one it is.

    A build runs the code of what is built, so that the time to refuse it is before.
    """
    name = _distribution(what)
    if name and not is_listed(name, allowed):
        raise StartRefused(
            f"the configuration's `plugins.allow` does not have `{name}`, whose plugins could not be used; allow it "
            "there first",
            EXIT_USAGE,
        )


def _distribution(what: str) -> str:
    """The distribution that is meant by a requirement (PEP 508) or a wheel's name; empty for folders and addresses."""
    if what.endswith(".whl"):
        return re.split(r"[/\\]", what)[-1].partition("-")[0]
    found = re.match(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*($|[\[<>=!~;@(])", what.strip())
    return found[1] if found and not Path(what).exists() else ""


def _is_uv(here: Environment) -> bool:
    return not here.has_pip and here.uv is not None


def _program(here: Environment, verb: str) -> list[str]:
    """pip where the environment has it; uv makes environments without, and can change them."""
    if here.is_managed:
        raise StartRefused(
            f"the Python that llmgate runs on ({here.python}) belongs to the operating system's package manager, so "
            "that nothing may be installed beside it (PEP 668). Make an environment of your own, "
            "`python3 -m venv FOLDER`, install llmgate-core there from where you have it, and use its `llmgate`",
            EXIT_USAGE,
        )
    if here.has_pip:
        return [here.python, "-m", "pip", verb, "--disable-pip-version-check"]
    if here.uv is not None:
        return [here.uv, "pip", verb, "--python", here.python]
    raise StartRefused(
        f"the environment of {here.python} has no pip, and there is no uv on PATH; `{here.python} -m ensurepip` "
        "gives it one",
        EXIT_USAGE,
    )
