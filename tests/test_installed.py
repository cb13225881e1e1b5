"""Where plugins come from, and the allow-list: what is not on it is not imported, whoever asks."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.sites import CONNECTOR, Site

from llmgate_core.config import Places
from llmgate_core.config import load as load_config
from llmgate_core.installed import AllowedPlugin, Installed, content_hash, discover, origin
from llmgate_core.plugins import describe, load, load_all

IMPORTED = "raise SystemExit('imported!')"


def found(name: str = "acme") -> Installed:
    (one,) = (one for one in discover() if one.name == name)
    return one


def hash_of(name: str = "acme") -> str:
    told = content_hash(found(name).metadata)
    assert told is not None
    return told


# --- the list ---------------------------------------------------------------------------------------------------------


def test_without_a_list_everything_is_allowed(site: Site) -> None:
    site.plugin(CONNECTOR)
    assert not load(["acme"]).problems


@pytest.mark.parametrize("allowed", ["llmgate-acme", "LLMgate_Acme", AllowedPlugin("llmgate.acme")])
def test_a_distribution_on_the_list_is_loaded(site: Site, allowed: str | AllowedPlugin) -> None:
    site.plugin(CONNECTOR)
    assert "acme" in load(["acme"], allow=["llmgate-other", allowed]).connectors


@pytest.mark.parametrize("allow", [[], ["llmgate-other"], ["acme"]])
def test_what_is_not_on_the_list_is_refused_by_name_and_not_imported(site: Site, allow: list[str]) -> None:
    site.plugin(IMPORTED)
    for plugins in (load(["acme"], allow=allow), load_all(allow=allow)):
        assert plugins.problems["acme"] == (
            "plugin `acme` of distribution `llmgate-acme` 1.2 (llmgate_site_acme):\n"
            "  is not imported: its distribution is not in `plugins.allow`"
            + (", which has `acme` where that belongs" if allow == ["acme"] else "")
            + ". Allow it there, or uninstall it"
        )
    assert "llmgate_site_acme" not in sys.modules


def test_what_llmgate_brings_itself_needs_no_entry() -> None:
    assert list(load([], allow=[]).connectors) == ["openai-compatible", "anthropic-compatible"]


def test_a_file_of_the_command_line_needs_no_entry(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(site.module("mine", CONNECTOR).read_text())
    assert "acme" in load([], files=[path], allow=[]).connectors


def test_the_list_decides_between_two_that_claim_one_name(site: Site) -> None:
    site.plugin(CONNECTOR)
    site.module("llmgate_site_fork", IMPORTED)
    site.distribution("llmgate-acme-fork", {"acme": "llmgate_site_fork"}, "9")
    plugins = load(["acme"], allow=["llmgate-acme"])
    assert plugins.connectors["acme"].__module__ == "llmgate_site_acme"
    assert not plugins.problems


def test_what_has_no_metadata_is_on_no_list(site: Site) -> None:
    site.plugin(IMPORTED)
    (site.folder / "llmgate_acme-1.2.dist-info" / "METADATA").unlink()
    assert "not in `plugins.allow`" in load(["acme"], allow=["llmgate-acme"]).problems["acme"]


# --- hashes -----------------------------------------------------------------------------------------------------------


def test_the_right_hash_is_loaded(site: Site) -> None:
    site.wheel_like()
    allow = [AllowedPlugin("llmgate-acme", "0" * 64), AllowedPlugin("llmgate-acme", hash_of())]
    assert "acme" in load(["acme"], allow=allow).connectors


def changed(path: Path) -> None:
    path.write_text(path.read_text() + "\n")


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("llmgate_site_acme.py", changed),
        ("llmgate_site_acme.py", Path.unlink),
        ("llmgate_acme-1.2.dist-info/entry_points.txt", changed),
    ],
)
def test_changed_files_are_refused(site: Site, file: str, change: Callable[[Path], None]) -> None:
    site.wheel_like()
    allow = [AllowedPlugin("llmgate-acme", hash_of())]
    change(site.folder / file)
    said = load(["acme"], allow=allow).problems["acme"]
    assert "its files are not those whose hash is in `plugins.allow`" in said
    assert "llmgate_site_acme" not in sys.modules


def test_a_hash_is_that_of_lines_as_sha256sum_prints_them(site: Site) -> None:
    info = site.wheel_like()
    files = [site.folder / "llmgate_site_acme.py", info / "METADATA", info / "entry_points.txt"]
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(site.folder).as_posix()}\n"
        for path in files
    ]
    assert hash_of() == hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def test_the_same_wheel_has_the_same_hash_whoever_installed_it(site: Site) -> None:
    site.wheel_like()
    before = hash_of()
    shutil.rmtree(site.folder / "llmgate_acme-1.2.dist-info")
    site.wheel_like(INSTALLER="uv\n", REQUESTED="", **{"direct_url.json": '{"url": "file:///elsewhere/acme.whl"}'})
    assert hash_of() == before


@pytest.mark.parametrize("url", ['{"url": "file:///src", "dir_info": {"editable": true}}', None])
def test_a_hash_is_demanded_of_what_can_have_none(site: Site, url: str | None) -> None:
    if url:
        site.wheel_like(**{"direct_url.json": url})
    else:
        site.plugin(CONNECTOR)
    said = load(["acme"], allow=[AllowedPlugin("llmgate-acme", "0" * 64)]).problems["acme"]
    assert "this one can have none: it is editable, or has no list of its files" in said


def test_hashes_are_told_only_on_request(site: Site) -> None:
    site.wheel_like()
    (row,) = (row for row in describe(load_all(), hashes=True) if row["name"] == "acme")
    assert row["sha256"] == hash_of()
    assert all("sha256" not in row for row in describe(load_all()))


# --- in the configuration ---------------------------------------------------------------------------------------------


def test_both_spellings_of_an_entry(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"plugins:\n  allow:\n    - llmgate-acme\n    - {{name: llmgate-other, sha256: {'a' * 64}}}\n")
    assert load_config(Places(path)).checked().plugins.allow == (
        "llmgate-acme",
        AllowedPlugin("llmgate-other", "a" * 64),
    )


@pytest.mark.parametrize("entry", ["{name: a, sha256: abc}", "{sha256: x}", "{name: a, sha265: b}", "7"])
def test_a_wrong_entry_is_told_at_its_line(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"plugins:\n  allow:\n    - {entry}\n")
    told = [str(problem) for problem in load_config(Places(path)).problems]
    assert told
    assert all(problem.startswith("config.yaml:3: ") and "plugins.allow[0]" in problem for problem in told)


# --- where it came from -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (None, ""),
        ("[]", ""),
        ("{", ""),
        ('{"url": 7}', ""),
        ({"url": "file:///tmp/acme.whl", "archive_info": {}}, "file /tmp/acme.whl"),
        ({"url": "file:///src/acme", "dir_info": {}}, "folder /src/acme"),
        ({"url": "file:///src/acme", "dir_info": {"editable": True}}, "folder /src/acme (editable)"),
        (
            {"url": "https://me:tok@git.example/a.git", "vcs_info": {"vcs": "git", "commit_id": "0123456789abcdef"}},
            "git https://git.example/a.git at 0123456789ab",
        ),
        (
            {"url": "https://tok@files.example/a.whl?sig=secret", "archive_info": {}},
            "address https://files.example/a.whl",
        ),
    ],
)
def test_origin(site: Site, told: object, words: str) -> None:
    text = told if isinstance(told, str) else json.dumps(told)
    site.wheel_like(**({"direct_url.json": text} if told is not None else {}))
    assert origin(found().metadata) == words
