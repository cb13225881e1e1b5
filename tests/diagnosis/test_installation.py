"""Versions, plugins, and what bears our name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from llmgate_core.diagnosis.installation import Installation, commands_on, look_at, look_at_plugins
from llmgate_core.plugins import Installed


def row(problem: str | None = None) -> dict[str, Any]:
    brings = {} if problem else {"connectors": ["acme"]}
    return {"name": "acme", "distribution": "llmgate-acme", "version": "1", "brings": brings, "problem": problem}


def test_versions_and_our_own_command() -> None:
    found = look_at(Installation("3.11.7", "0.1.0", "/venv/bin/llmgate", ["/venv/bin/llmgate", "/usr/bin/llmgate"]))
    assert [(one.level, one.what) for one in found] == [
        ("ok", "llmgate-core 0.1.0 on Python 3.11.7"),
        ("ok", "the command `llmgate` is the one of this installation"),
    ]


def test_another_command_comes_first(tmp_path: Path) -> None:
    [_, found] = look_at(Installation("3", "1", "/venv/bin/llmgate", ["/usr/bin/llmgate", "/venv/bin/llmgate"]))
    assert (found.level, found.where) == ("advice", "/usr/bin/llmgate")
    assert "/venv/bin/llmgate" in found.what


def test_a_link_to_our_command_is_our_command(tmp_path: Path) -> None:
    own, link = tmp_path / "own", tmp_path / "link"
    own.touch()
    link.symlink_to(own)
    assert {one.level for one in look_at(Installation("3", "1", str(own), [str(link)]))} == {"ok"}


def test_a_foreign_project_of_our_name_is_advised_against() -> None:
    [_, found] = look_at(Installation("3", "1", foreign="0.0.9"))
    assert found.level == "advice"
    assert "0.0.9" in found.what
    assert found.next.startswith("`python -m pip uninstall llmgate`")


def test_a_broken_plugin_is_a_failure_only_where_it_is_wanted() -> None:
    assert [one.level for one in look_at_plugins([row()], ["acme"], [])] == ["ok"]
    [unwanted] = look_at_plugins([row("it:\n  is broken")], ["other"], [])
    [wanted] = look_at_plugins([row("it:\n  is broken")], ["acme"], [])
    assert (unwanted.level, wanted.level) == ("advice", "fail")
    assert wanted.what == "it: is broken"
    assert wanted.where == "llmgate-acme 1"


def test_a_plugin_that_is_blocked_and_wanted_is_a_failure() -> None:
    acme = Installed("acme", "llmgate-acme", "1", "llmgate_acme")
    assert [one.level for one in look_at_plugins([], [], [acme])] == ["ok"]
    [found] = look_at_plugins([], ["acme"], [acme])
    assert found.level == "fail"
    assert "LLMGATE_BLOCK_PLUGINS" in found.next


def test_commands_are_found_in_the_order_of_the_path(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("b", "empty", "a")]
    for folder in folders:
        folder.mkdir()
        if folder.name != "empty":
            (folder / "llmgate").touch(mode=0o755)
    path = os.pathsep.join(["", *map(str, folders), str(folders[0])])
    assert commands_on(path) == [str(tmp_path / "b" / "llmgate"), str(tmp_path / "a" / "llmgate")]
