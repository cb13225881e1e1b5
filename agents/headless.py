"""Runs an agent without a terminal, set up with exactly the lines that `llmgate connect` printed for it.

What is added here is what an operator's machine would have too: the arguments that make the agent do one prompt and ask
nobody, and the switches against telemetry and updates, which go by the environment or by arguments of their own, so
that the printed files stay as they were printed.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .install import BIN

SECONDS = 120.0
"""How long a run may take; one that is still running then counts as hanging."""

QUIET_QWEN = {"privacy": {"usageStatisticsEnabled": False}, "general": {"enableAutoUpdate": False}}


@dataclass(frozen=True)
class Recipe:
    """How an agent is run headless.

    Args:
        arguments: what follows the printed command, made from the prompt.
        environ: switches; `{home}` is the agent's home folder.
        files: more files in the home folder, none that `connect` prints.
    """

    arguments: Callable[[str], Sequence[str]]
    environ: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


RECIPES = {
    "claude-code": Recipe(lambda prompt: ("-p", prompt, "--allowedTools", "Write,Edit,Read")),
    "codex": Recipe(
        lambda prompt: (
            *("exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"),
            *("-c", "check_for_update_on_startup=false", "-c", "analytics.enabled=false", prompt),
        )
    ),
    "qwen-code": Recipe(
        lambda prompt: ("--yolo", "--prompt", prompt),
        {"QWEN_CODE_SYSTEM_SETTINGS_PATH": "{home}/system.json"},
        {"system.json": json.dumps(QUIET_QWEN)},
    ),
    "opencode": Recipe(
        lambda prompt: ("run", prompt),
        {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"},
    ),
}


@dataclass(frozen=True)
class Ended:
    """A run that came to its end.

    Args:
        status: the exit status.
        output: both streams, without a terminal's colours.
    """

    status: int
    output: str


class Hangs(AssertionError):  # noqa: N818 - a test's verdict
    """An agent was still running when its time was up."""


def run(agent: str, pieces: Sequence[Mapping[str, str]], project: Path, key: str, prompt: str) -> Ended:
    """Runs the agent in the folder `project`, with a home folder of its own beside it.

    Args:
        pieces: `lines` of `llmgate connect --json`: `where` and `text`.
        key: what the shell variable holds that the printed lines name.

    Raises:
        Hangs: it has not ended in time; then it is ended, with all its children.
    """
    recipe = RECIPES[agent]
    home = project.with_name(f"{project.name}-home")
    for folder in (home, home / "tmp", project):
        folder.mkdir(exist_ok=True)
    for name, text in recipe.files.items():
        (home / name).write_text(text)
    *files, shell = pieces
    for piece in files:
        place = file_of(piece["where"], home, project)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(piece["text"] + "\n")
    environ = {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "LANG": "C.UTF-8",
        "LLMGATE_KEY": key,
        **{name: value.format(home=home) for name, value in recipe.environ.items()},
    }
    assert shell["where"] == "in the shell"
    return _to_its_end(f'{shell["text"]} "$@"', recipe.arguments(prompt), project, environ)


def file_of(where: str, home: Path, project: Path) -> Path:
    """The file that a piece's `where` names first."""
    found = re.match(r"in (~/)?([\w./-]+)", where)
    assert found, f"no file is named: {where}"
    return (home if found[1] else project) / found[2]


def _to_its_end(script: str, arguments: Sequence[str], folder: Path, environ: Mapping[str, str]) -> Ended:
    process = subprocess.Popen(
        ["sh", "-eu", "-c", script, "sh", *arguments],
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        raise Hangs(f"still running after {SECONDS:g} s:\n{_plain(output)}") from None
    return Ended(process.returncode, _plain(output))


def _plain(output: bytes) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", output.decode(errors="replace"))
