"""Which files are used, where secrets are, which models are named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmgate_core.config import GatewayConfig, Places, load
from llmgate_core.diagnosis.configuration import (
    Kept,
    advise_all,
    files_in,
    kept_secrets,
    look_at_files,
    look_at_mode,
    look_at_secrets,
    named_models,
    usual_places,
)
from llmgate_core.plugins import PluginSet
from llmgate_core.plugins import load as load_plugins
from llmgate_core.secret import Secret

BACKENDS = """
backends:
  local: {type: openai-compatible, extra: {base_url: "http://127.0.0.1:9/v1", api_key: "env:LOCAL"}}
  far: {type: openai-compatible, extra: {base_url: "http://127.0.0.1:9/v1", api_key: sk-MARKER}}
"""


def read(folder: Path, text: str) -> tuple[GatewayConfig, PluginSet]:
    path = folder / "config.yaml"
    path.write_text(text + BACKENDS, encoding="utf-8")
    config = load(Places(path, None)).checked()
    return config, load_plugins(config.plugin_names())


# --- files ------------------------------------------------------------------------------------------------------------


def test_files_that_are_used_and_files_that_are_not(tmp_path: Path) -> None:
    usual = usual_places(tmp_path / "here", tmp_path / "home")
    for path in (usual[0], usual[2]):
        path.parent.mkdir(parents=True)
        path.touch()
    usual[1].mkdir(parents=True)
    for name in ("a.b.yaml", ".hidden.yaml", "readme.txt"):
        (usual[1] / name).touch()
    main, folder, other = look_at_files(Places(usual[0], usual[1]), usual, enough=False)
    assert (main.level, main.where) == ("ok", str(usual[0]))
    assert (folder.level, folder.what) == ("ok", "the folder of instance files; it has 1")
    assert (other.level, other.where) == ("advice", str(usual[2]))


@pytest.mark.parametrize(("enough", "level"), [(False, "fail"), (True, "ok")])
def test_nothing_is_configured(tmp_path: Path, enough: bool, level: str) -> None:
    usual = usual_places(tmp_path, tmp_path)
    [found] = look_at_files(Places(), usual, enough=enough)
    assert found.level == level
    assert all(str(path) in found.what for path in usual)
    assert "`llmgate init`" in found.next


def test_a_main_file_that_is_none_is_not_called_one(tmp_path: Path) -> None:
    """That it cannot be read is told with the other problems."""
    assert look_at_files(Places(tmp_path, None), (), enough=False) == []
    assert look_at_files(Places(tmp_path / "none.yaml", None), (), enough=False) == []


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_secrets_are_found_where_they_are_written(tmp_path: Path) -> None:
    config, plugins = read(tmp_path, "auth: {api_keys: ['env:MINE', {name: ci, key: sk-MARKER-ci}]}\n")
    kept = kept_secrets(config, plugins)
    assert [(one.key, one.where) for one in kept] == [
        ("`auth.api_keys[0]`", "config.yaml:1"),
        ("`auth.api_keys[1]`", "config.yaml:1"),
        ("`extra.api_key` of openai-compatible.local", "config.yaml:4"),
        ("`extra.api_key` of openai-compatible.far", "config.yaml:5"),
    ]
    missing, there = look_at_secrets(kept, {"LOCAL": "sk-MARKER"})
    assert (missing.level, missing.where, there.level) == ("fail", "config.yaml:1", "ok")
    assert "environment variable `MINE` is not set" in missing.what
    assert "MARKER" not in repr([missing, there])
    assert [problem.where for problem in advise_all(config, plugins)] == ["config.yaml:5"]


def test_a_hash_is_no_secret(tmp_path: Path) -> None:
    config, plugins = read(tmp_path, f"auth: {{api_keys: ['sha256:{'0' * 64}']}}\n")
    assert len(kept_secrets(config, plugins)) == 2


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize(("mode", "levels"), [(0o600, ["ok"]), (0o640, ["ok", "advice"]), (0o604, ["ok", "advice"])])
def test_a_file_of_a_secret_that_others_can_read(tmp_path: Path, mode: int, levels: list[str]) -> None:
    path = tmp_path / "key"
    path.write_text("sk-MARKER")
    path.chmod(mode)
    found = look_at_secrets([Kept("a key", "config.yaml:1", Secret(f"file:{path}"))], {})
    assert [one.level for one in found] == levels
    assert "MARKER" not in repr(found)
    if found[1:]:
        assert (found[1].where, found[1].next) == (str(path), f"`chmod 600 {path}`")


def test_a_file_that_is_not_there_has_no_mode(tmp_path: Path) -> None:
    assert look_at_mode(tmp_path / "none") == []


def test_files_among_the_facts_of_a_credential(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    assert list(files_in([str(path), "file", "expires in 3 h", str(tmp_path), f"{path}x"])) == [path]


# --- models -----------------------------------------------------------------------------------------------------------


def test_models_that_the_configuration_names(tmp_path: Path) -> None:
    text = """
default_backend: local:first
force_model: quick
failover_routes: {quick: "far:second|local:first", wrong: "nobody:x|"}
model_aliases:
  - {pattern: "gpt-(.*)", replacement: 'far:\\1'}
  - {pattern: o1, replacement: "far:third?temperature=0.2"}
  - {pattern: "(", replacement: "far:fourth"}
  - {pattern: o2, replacement: quick}
"""
    path = tmp_path / "config.yaml"
    path.write_text(text + BACKENDS, encoding="utf-8")
    found = named_models(load(Places(path, None)).config)
    local, far = "openai-compatible.local", "openai-compatible.far"
    assert [(one.backend, one.model, one.where) for one in found] == [
        (local, "first", "config.yaml:2"),
        (far, "second", "config.yaml:4"),
        (local, "first", "config.yaml:4"),
        (far, "third", "config.yaml:7"),
    ]
