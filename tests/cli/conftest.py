"""A folder, an environment without surprises, and the command line in this process."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llmgate_core.cli import main

MARK = "sk-MARKER"
"""The beginning of every key in these tests; no command may print it."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ended]
Write = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder; the home is empty, and no variable of llmgate's is set."""
    for name in [name for name in os.environ if name.startswith("LLMGATE_")]:
        monkeypatch.delenv(name)
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(here)
    return here


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def called(*arguments: str, **environ: str) -> Ended:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["llmgate", *arguments])
            for name, value in environ.items():
                patch.setenv(name, value)
            capsys.readouterr()
            try:
                main()
                status: Any = 0
            except SystemExit as ended:
                status = ended.code or 0
        captured = capsys.readouterr()
        assert MARK not in captured.out + captured.err
        return Ended(status, captured.out, captured.err)

    return called


@pytest.fixture
def write(folder: Path) -> Write:
    def written(text: str, name: str = "config/config.yaml") -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return written
