"""Plugins that do not fit, side by side: each is told where the operator named it, and hurts none until then."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.sites import CONNECTOR, Site

if TYPE_CHECKING:
    from tests.cli.conftest import Run, Write

CONFIG = """\
    backends:
      good: {}
      newer: {}
      lacking: {}
      twice: {}
      stranger: {}
    plugins:
      allow: [llmgate-good, llmgate-newer, llmgate-lacking, llmgate-twice, llmgate-twice-fork]
"""


@pytest.fixture
def plugins(site: Site) -> Site:
    def of(name: str) -> str:
        return CONNECTOR.replace('"acme"', f'"{name}"')

    site.plugin(of("good"), "good")
    site.plugin(of("newer").replace("API = 1", "API = 2"), "newer")
    site.plugin(f"    import frobnicate_sdk\n{of('lacking')}", "lacking")
    site.plugin(of("twice"), "twice")
    site.module("llmgate_site_fork", of("twice"))
    site.distribution("llmgate-twice-fork", {"twice": "llmgate_site_fork"}, "9")
    site.plugin("raise SystemExit('imported!')", "stranger")
    return site


def test_each_is_told_at_its_line_with_what_to_do(run: Run, write: Write, plugins: Site) -> None:
    write(CONFIG)
    ended = run("check")
    assert ended.status == 2
    told = {line.split(": ")[0]: line for line in ended.err.replace("\n  ", " ").splitlines()}
    assert list(told) == [f"config.yaml:{line}" for line in (3, 4, 5, 6)]
    newer, lacking, twice, stranger = told.values()
    assert "`llmgate-newer` 1.2" in newer
    assert newer.endswith("this llmgate-core has 1. Install versions of the two that fit each other")
    assert lacking.endswith("Its distribution should install `frobnicate_sdk`: reinstall it, or tell its author")
    assert "is claimed by `llmgate-twice` 1.2 and `llmgate-twice-fork` 9; uninstall one" in twice
    assert "its distribution is not in `plugins.allow`" in stranger


def test_while_nobody_names_them_the_good_one_serves(run: Run, write: Write, plugins: Site) -> None:
    write("backends: {good: {}}\ndefault_backend: good\n")
    assert run("check").status == 0
    assert "backend       good.default" in run("explain", "m").out


def test_the_list_of_plugins_shows_all_of_them(run: Run, write: Write, plugins: Site) -> None:
    write(CONFIG)
    ended = run("plugins", "--json")
    assert ended.status == 1
    found = {row["distribution"]: row["problem"] for row in ended.json()}
    assert found["llmgate-good"] is None
    bad = ("llmgate-newer", "llmgate-lacking", "llmgate-twice", "llmgate-twice-fork", "llmgate-stranger")
    assert all(found[name] for name in bad)
    assert "imported!" not in ended.out


def test_an_entry_of_the_list_that_fits_nothing_is_told(run: Run, write: Write, site: Site) -> None:
    site.plugin(CONNECTOR.replace('"acme"', '"good"'), "good")
    write("plugins:\n  allow:\n    - llmgate-good\n    - good\n    - {name: lmgate-good}\n    - stranger\n")
    wanted = [
        "advice: config.yaml:4: `plugins.allow[1]`: no plugin of a distribution `good` is installed; "
        "did you mean `llmgate-good`?",
        "advice: config.yaml:5: `plugins.allow[2]`: no plugin of a distribution `lmgate-good` is installed; "
        "did you mean `llmgate-good`?",
        "advice: config.yaml:6: `plugins.allow[3]`: no plugin of a distribution `stranger` is installed",
    ]
    ended = run("check")
    assert (ended.status, ended.out.splitlines()[:3]) == (0, wanted), ended
    told = run("doctor", "--offline").out
    assert all(line.partition(": `")[2] in told for line in wanted), told


@pytest.mark.parametrize("command", [["serve", "--help"], ["schema"], ["doctor", "--offline"]])
def test_no_command_imports_what_is_not_allowed(run: Run, write: Write, site: Site, command: list[str]) -> None:
    site.plugin("open('imported', 'w').close()", "stranger")
    path = write("plugins: {allow: []}\n")
    run(*command)
    assert not (path.parent.parent / "imported").exists()
    path.unlink()
    run(*command)
    assert (path.parent.parent / "imported").exists(), "the check above can fail"
