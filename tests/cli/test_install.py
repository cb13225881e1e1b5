"""`install` and `uninstall`: which program is called, what is refused, and what is said. Nothing is installed here.

What pip makes of it is tested in tests/test_packaging.py, in an environment of its own.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.sites import CONNECTOR, Site

from llmgate_core.cli import EXIT_FAILED, EXIT_USAGE, StartRefused, installer
from llmgate_core.cli.install import usage
from llmgate_core.cli.installer import Environment, install_command, uninstall_command

if TYPE_CHECKING:
    from tests.cli.conftest import Run, Write

HERE = Environment("/env/bin/python")
FROM_UV = Environment("/env/bin/python", has_pip=False, uv="/usr/bin/uv")
PINNED = Path("/tmp/pinned.txt")


# --- the command ------------------------------------------------------------------------------------------------------


def test_pip_in_our_own_environment() -> None:
    assert install_command(HERE, ["llmgate-acme", "./other"], PINNED) == [
        *("/env/bin/python", "-m", "pip", "install", "--disable-pip-version-check"),
        *("--constraint", "/tmp/pinned.txt", "llmgate-acme", "./other"),
    ]
    assert uninstall_command(HERE, ["llmgate-acme"])[3:] == [
        *("uninstall", "--disable-pip-version-check", "--yes", "llmgate-acme")
    ]


def test_pip_comes_first_where_both_are_there() -> None:
    both = Environment("/env/bin/python", has_pip=True, uv="/usr/bin/uv")
    assert install_command(both, ["llmgate-acme"], PINNED) == install_command(HERE, ["llmgate-acme"], PINNED)


def test_uv_where_it_made_the_environment() -> None:
    assert install_command(FROM_UV, ["llmgate-acme"], PINNED) == [
        *("/usr/bin/uv", "pip", "install", "--python", "/env/bin/python"),
        *("--constraint", "/tmp/pinned.txt", "llmgate-acme"),
    ]
    assert uninstall_command(FROM_UV, ["llmgate-acme"]) == [
        *("/usr/bin/uv", "pip", "uninstall", "--python", "/env/bin/python", "llmgate-acme")
    ]


def test_flags_become_the_programs_own() -> None:
    assert install_command(HERE, ["./a", "./b"], PINNED, editable=True, upgrade=True)[7:] == [
        *("--upgrade", "--editable", "./a", "--editable", "./b")
    ]


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(StartRefused) as caught:
        call()
    assert caught.value.status == EXIT_USAGE
    return str(caught.value)


@pytest.mark.parametrize(
    "call", [lambda here: install_command(here, ["a"], PINNED), lambda here: uninstall_command(here, ["a"])]
)
def test_an_environment_that_is_not_ours(call: Callable[[Environment], Any]) -> None:
    managed = refused(lambda: call(Environment("/usr/bin/python3", is_managed=True)))
    assert managed.startswith("the Python that llmgate runs on (/usr/bin/python3) belongs to the operating system's")
    assert "`python3 -m venv FOLDER`" in managed
    bare = refused(lambda: call(Environment("/env/bin/python", has_pip=False)))
    assert bare.endswith("has no pip, and there is no uv on PATH; `/env/bin/python -m ensurepip` gives it one")


@pytest.mark.parametrize("what", ["llmgate", "LLMGATE", "llmgate==1.0", "llmgate @ https://x.example/a.whl"])
def test_the_foreign_project_of_our_name(what: str) -> None:
    assert "is an unrelated project" in refused(lambda: install_command(HERE, [what], PINNED))


@pytest.mark.parametrize("what", ["llmgate-core", "llmgate_core>=0.2", "LLMgate.Core[x]"])
def test_core_is_no_plugin(what: str) -> None:
    assert refused(lambda: install_command(HERE, ["llmgate-acme", what], PINNED)).startswith(
        "llmgate-core is no plugin"
    )


@pytest.mark.parametrize("what", ["--target=/elsewhere", "-r"])
def test_flags_of_pip_are_no_plugins(what: str) -> None:
    assert "is not the name of a plugin" in refused(lambda: install_command(HERE, [what], PINNED))


def test_the_environment_of_this_process() -> None:
    here = installer.look()
    assert (here.has_pip, here.is_managed) == (True, False)


# --- what is said -----------------------------------------------------------------------------------------------------


def row(
    name: str = "acme", required: Sequence[str] = (), problem: str | None = None, **brings: list[str]
) -> dict[str, Any]:
    brings = brings or {"connectors": [name]}
    return {
        "name": name,
        "distribution": f"llmgate-{name}",
        "version": "1.0",
        "origin": None,
        "brings": brings,
        "asks_for": [],
        "required": {one: list(required) for one in brings.get("connectors", ())},
        "required_of_policies": {one: list(required) for one in brings.get("policies", ())},
        "import_milliseconds": 1.0,
        "problem": problem,
    }


def test_what_to_write() -> None:
    rows = [
        row(),
        row("other", ["base_url", "account"]),
        row("quiet", policies=["quiet"]),
        row("bad", problem="broken"),
    ]
    assert "\n".join(usage(rows)).split("\n\n")[1] == (
        "backends:\n  acme: {}\n  other:\n    extra:\n      base_url: ...\n      account: ...\n"
        "plugins:\n  load: [quiet]"
    )
    assert list(usage([row(problem="broken")])) == []


def test_what_to_write_for_a_policy_that_wants_settings() -> None:
    rows = [row("quiet", policies=["quiet"]), row("cap", ["limit"], policies=["cap-tokens"])]
    assert "\n".join(usage(rows)).split("\n\n")[1] == (
        "plugins:\n  load: [quiet, cap]\n  settings:\n    cap-tokens:\n      limit: ..."
    )


def test_what_to_write_for_a_connector_with_a_policy_beside_it() -> None:
    both = row("acme", ["limit"], connectors=["acme"], policies=["acme"])
    both["required"] = {"acme": []}
    assert "\n".join(usage([both])).split("\n\n")[1] == (
        "backends:\n  acme: {}\nplugins:\n  settings:\n    acme:\n      limit: ..."
    )


class Installer:
    """In the place of pip and of the fresh `llmgate plugins`: keeps the calls, and what the latter tells is given."""

    def __init__(self) -> None:
        self.calls: list[Sequence[str]] = []
        self.rows: list[dict[str, Any]] = []
        self.status = 0
        self.pinned = ""

    def __call__(self, call: Sequence[str], **_: Any) -> subprocess.CompletedProcess[str]:
        if "llmgate_core" in call:
            return subprocess.CompletedProcess(call, 0, json.dumps(self.rows), "")
        self.calls.append(call)
        if "--constraint" in call:
            self.pinned = Path(call[call.index("--constraint") + 1]).read_text()
        return subprocess.CompletedProcess(call, self.status)


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> Installer:
    found = Installer()
    monkeypatch.setattr(subprocess, "run", found)
    monkeypatch.setattr(installer, "look", lambda: HERE)
    return found


def test_install_pins_core(run: Run, pip: Installer) -> None:
    pip.rows = [row()]
    ended = run("install", "llmgate-acme")
    assert (ended.status, ended.err) == (0, "")
    assert "ok   acme  llmgate-acme 1.0" in ended.out
    assert pip.pinned == f"llmgate-core=={run('--version').out.split()[-1]}\n"


def test_a_new_plugin_that_cannot_be_used(run: Run, pip: Installer) -> None:
    pip.rows = [row(problem="plugin `acme`:\n  is written for a newer plugin API (2)")]
    ended = run("install", "./acme")
    assert ended.status == EXIT_FAILED
    assert "FAIL acme" in ended.out
    assert "To use it" not in ended.out


@pytest.mark.parametrize(
    "what",
    [
        "llmgate-acme",
        "LLMgate_Acme[x]>=1",
        "llmgate-acme @ git+https://x.example/a",
        "./d/llmgate_acme-1-py3-none-any.whl",
    ],
)
def test_what_the_list_does_not_have_is_refused_before_anything_of_it_is_fetched(
    run: Run, write: Write, pip: Installer, what: str
) -> None:
    write("plugins: {allow: [llmgate-other]}")
    ended = run("install", "llmgate-other", what)
    assert (ended.status, ended.out, pip.calls) == (EXIT_USAGE, "", [])
    assert re.search("`plugins.allow` does not have `llmgate.acme`, .* allow it there first", ended.err, re.IGNORECASE)
    write("plugins: {allow: [llmgate-other, {name: Llmgate.Acme}]}")
    pip.rows = [row()]
    assert run("install", "llmgate-other", what).status == 0


def test_what_does_not_say_its_name_is_judged_when_it_is_there(run: Run, write: Write, pip: Installer) -> None:
    write("plugins: {allow: []}")
    run("install", "./acme")
    run("install", "git+https://x.example/acme")
    assert len(pip.calls) == 2


def test_nothing_new(run: Run, pip: Installer, site: Site) -> None:
    site.plugin(CONNECTOR)
    pip.rows = [{**row(), "version": "1.2"}]
    ended = run("install", "llmgate-acme")
    assert (ended.status, ended.out) == (
        0,
        "No plugin or version of one is new; `llmgate plugins` shows what is here.\n",
    )


def test_an_installation_that_fails(run: Run, pip: Installer) -> None:
    pip.status = 1
    ended = run("install", "llmgate-acme")
    assert ended.status == EXIT_FAILED
    assert ended.err.startswith("llmgate: the installer ended with status 1: nothing was installed, see above why")


@pytest.mark.parametrize("name", ["acme", "llmgate-acme", "LLMGATE_ACME"])
def test_uninstall_takes_both_names(run: Run, pip: Installer, site: Site, name: str) -> None:
    site.plugin(CONNECTOR)
    ended = run("uninstall", name, "--yes")
    assert (ended.status, pip.calls) == (0, [uninstall_command(HERE, ["llmgate-acme"])])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pip", "no installed plugin is called `pip`; see `llmgate plugins`"),
        ("acmee", "no installed plugin is called `acmee`; did you mean `acme`?"),
        ("llmgate-core", "llmgate-core is no plugin"),
        ("builtin", "no installed plugin is called `builtin`"),
    ],
)
def test_uninstall_refuses_what_is_no_plugin(run: Run, pip: Installer, site: Site, name: str, words: str) -> None:
    site.plugin(CONNECTOR)
    ended = run("uninstall", name, "--yes")
    assert (ended.status, pip.calls) == (EXIT_USAGE, [])
    assert words in ended.err


def test_uninstall_does_not_guess_between_two(run: Run, pip: Installer, site: Site) -> None:
    site.plugin(CONNECTOR)
    site.distribution("llmgate-acme-fork", {"acme": "llmgate_site_fork"})
    ended = run("uninstall", "acme", "--yes")
    assert ended.err == "llmgate: plugin `acme` is of llmgate-acme and llmgate-acme-fork; name the distribution\n"
    assert pip.calls == []


def test_uninstall_asks_first(run: Run, pip: Installer, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.plugin(CONNECTOR)
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    ended = run("uninstall", "acme")
    assert (ended.status, pip.calls) == (1, [])
    assert "Remove llmgate-acme (plugins: acme)?" in ended.out
