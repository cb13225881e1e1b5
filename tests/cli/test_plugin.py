"""`llmgate plugin new` and `llmgate plugin test`, as an author meets them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Ended, Run, Write
    from tests.sites import Site

ROOT = Path(__file__).parent.parent.parent

FILE = """
from dataclasses import dataclass
from llmgate_core import ApiKey, ConnectorError, OpenAICompatible, Secret, hookimpl

LLMGATE_PLUGIN_API = 1


@dataclass(frozen=True)
class Settings:
    base_url: str
    api_key: Secret = Secret("env:ACME_KEY")
    ready: bool = False


class Acme(OpenAICompatible):
    name = "acme"
    settings: Settings

    def credentials(self):
        return ApiKey(self.settings.api_key, self.instance.environ)

    def check(self):
        if not self.settings.ready:
            raise ConnectorError("disabled", "not ready")


@hookimpl
def llmgate_register_connectors():
    return Acme
"""


def broken(ended: Ended) -> dict[str, str]:
    rows: list[dict[str, Any]] = [row for one in ended.json()["connectors"] for row in one["promises"]]
    assert all((row["verdict"] == "broken") == bool(row["broken"]) == bool(row["advice"]) for row in rows)
    return {row["check"]: row["broken"] for row in rows if row["broken"]}


# --- new --------------------------------------------------------------------------------------------------------------


def test_a_name_of_llmgates_own_is_refused(run: Run, folder: Path) -> None:
    ended = run("plugin", "new", "openai-compatible")
    assert ended.status != 0
    assert ended.err == "llmgate: `openai-compatible` is a connector of llmgate itself; choose another NAME\n"
    assert list(folder.iterdir()) == []


def test_a_name_that_an_installed_plugin_has_is_told(run: Run, folder: Path, site: Site) -> None:
    site.plugin("raise SystemExit('imported!')")
    ended = run("plugin", "new", "acme")
    assert ended.status == 0
    assert ended.err == (
        "llmgate: the plugin `acme` of `llmgate-acme` 1.2 is installed; only one of this name can be used at a time\n"
    )
    assert (folder / "llmgate-acme" / "pyproject.toml").is_file()


def test_what_is_written_keeps_every_promise_at_once(run: Run, folder: Path) -> None:
    made = run("plugin", "new", "acme-cloud", "--dir", "made")
    assert (made.status, made.err) == (0, "")
    package = Path("made", "llmgate-acme-cloud")
    assert f"wrote {package / 'llmgate_acme_cloud' / '__init__.py'}\n" in made.out
    tried = run("plugin", "test", str(package))
    assert (tried.status, tried.err) == (0, "")
    assert tried.out.startswith(f"acme-cloud, llmgate-acme-cloud 0.1.0 in {package}\n")
    assert re.search(r"\nno promise is broken, (\d+) of \1 kept\n$", tried.out)
    assert "BROKEN" not in tried.out
    alone = run("plugin", "test", str(package / "llmgate_acme_cloud"))
    assert alone.status == 0, alone.out
    assert alone.out.startswith(f"acme-cloud, {package / 'llmgate_acme_cloud'} (a folder)\n")


def test_what_is_there_is_left_as_it_is(run: Run, write: Write) -> None:
    mine = write("mine", "llmgate-acme/README.md")
    refused = run("plugin", "new", "acme")
    told = "llmgate: `llmgate-acme` is there already, and is left as it is; say another place with `--dir`\n"
    assert (refused.status, refused.out, refused.err) == (2, "", told)
    assert mine.read_text() == "mine"
    assert list(mine.parent.iterdir()) == [mine]


def test_a_name_that_cannot_be_is_refused(run: Run, folder: Path) -> None:
    refused = run("plugin", "new", "../Acme")
    assert refused.status == 2
    assert refused.err.startswith("llmgate: NAME must be small letters and digits")
    assert list(folder.iterdir()) == []


# --- test -------------------------------------------------------------------------------------------------------------


def test_a_broken_promise_is_told_with_what_to_do(run: Run, write: Write) -> None:
    write(FILE, "acme.py")
    ended = run("plugin", "test", "acme.py")
    assert ended.status == 1
    assert "acme, acme.py (a file)\n" in ended.out
    assert (
        "    BROKEN  use is allowed\n"
        "            `check()` must let requests pass under the suite's settings (is there a switch to throw in "
        "`extra`?) and may raise `ConnectorError` of kind `disabled` only; it raised `ConnectorError` of kind "
        "`disabled` (not ready)\n"
        "            -> throw the switch in the suite's settings: `extra` in a test, `--extra KEY=VALUE` here\n"
    ) in ended.out
    assert "1 promise broken, " in ended.out


def test_settings_variables_and_the_model_can_be_said(run: Run, write: Write) -> None:
    write(FILE, "acme.py")
    assert list(broken(run("plugin", "test", "acme.py", "--json"))) == ["test_use_is_allowed"]
    ended = run(
        "plugin", "test", "acme.py", "--json", "--extra", "ready=true", "--env", "ACME_KEY=long-enough", "--model", "m"
    )
    assert (ended.status, broken(ended)) == (0, {})
    wrong = broken(run("plugin", "test", "acme.py", "--json", "--extra", "ready=perhaps"))
    assert "`extra.ready`: expected `bool`, got `str`" in wrong["test_settings_decode"]
    wrong = broken(run("plugin", "test", "acme.py", "--json", "--extra", "ready=true", "--env", "ACME_KEY= "))
    assert "environment variable `ACME_KEY` is empty" in wrong["test_credentials_are_got"]


def test_the_shells_own_keys_are_not_seen(run: Run, write: Write) -> None:
    write(FILE.replace('"not ready"', "str(self.instance.environ)"), "acme.py")
    told = broken(run("plugin", "test", "acme.py", "--json", ACME_KEY="sk-MARKER-of-the-shell"))
    assert "{'ACME_KEY': 'conformance-key-" in told["test_use_is_allowed"]


def test_an_option_that_is_no_pair_is_refused_without_repeating_it(run: Run, write: Write) -> None:
    write(FILE, "acme.py")
    for option, metavar in (("--env", "NAME=VALUE"), ("--extra", "KEY=VALUE")):
        refused = run("plugin", "test", "acme.py", option, "sk-MARKER-pasted-alone")
        assert refused.status == 2
        assert f"write {metavar}" in refused.err


@pytest.mark.parametrize("named", ["openai-compatible", "minimax", "llmgate-minimax", "llmgate_minimax"])
def test_what_is_installed_is_found_by_connector_or_distribution(run: Run, named: str) -> None:
    ended = run("plugin", "test", named, "--json")
    assert (ended.status, broken(ended)) == (0, {}), ended.out
    assert {one["connector"] for one in ended.json()["connectors"]} == {
        named.replace("_", "-").removeprefix("llmgate-")
    }


@pytest.mark.parametrize("named", ["qwen-oauth", str(ROOT / "plugins" / "qwen_oauth")])
def test_a_projects_own_suites_say_what_the_suite_must_know(run: Run, named: str) -> None:
    """Also where it is named as an editable installation."""
    ended = run("plugin", "test", named, "--json")
    assert (ended.status, broken(ended)) == (0, {})
    assert [one["suite"] for one in ended.json()["connectors"]] == ["TestQwenOAuth"]


SUITE = """
from llmgate_core.testing import ConnectorSuite
from . import Acme


class TestAcme(ConnectorSuite):
    connector = Acme
    extra = {"ready": True}
"""


def test_a_suite_comes_with_the_package_where_it_is_its_module_conformance(run: Run, site: Site) -> None:
    package = site.folder / "acme_with_suite"
    package.mkdir()
    (package / "__init__.py").write_text(FILE)
    site.distribution("llmgate-acme", {"acme": package.name})
    bare = run("plugin", "test", "acme")
    assert bare.status == 1
    assert "1 promise broken" in bare.out
    assert bare.out.endswith("in tests/test_conformance.py of its folder, or in its module `conformance`.\n")
    (package / "conformance.py").write_text(SUITE)
    ended = run("plugin", "test", "acme", "--json")
    assert (ended.status, broken(ended)) == (0, {})
    assert [one["suite"] for one in ended.json()["connectors"]] == ["TestAcme"]


def test_a_suite_that_cannot_be_imported_is_told(run: Run, site: Site) -> None:
    package = site.folder / "acme_with_broken_suite"
    package.mkdir()
    (package / "__init__.py").write_text(FILE)
    (package / "conformance.py").write_text("import no_such_module")
    site.distribution("llmgate-acme", {"acme": package.name})
    ended = run("plugin", "test", "acme")
    assert ended.status == 2
    assert re.search(
        r"^llmgate: `acme_with_broken_suite.conformance` cannot be imported: ModuleNotFoundError.*:1\)$", ended.err
    )


READY = FILE.replace("ready: bool = False", "ready: bool = True")


def test_what_plugin_code_writes_is_not_in_the_report(write: Write) -> None:
    writes = """
    def retry(self):
        import os, sys
        if sys.stdout is not None:
            print("printed")
            sys.__stdout__.write("written")
            os.write(1, b"raw")
            sys.stdout.close()
            sys.stdout = None
        return super().retry()

    def credentials(self):"""
    file = write("print('imported')\n" + READY.replace("\n    def credentials(self):", writes), "acme.py")
    command = [sys.executable, "-m", "llmgate_core", "plugin", "test", str(file), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    told = json.loads(done.stdout)
    assert [row["broken"] for row in told["connectors"][0]["promises"] if row["broken"]] == []
    assert done.returncode == 0, done.stderr
    for text in ("imported", "printed", "written", "raw"):
        assert text in done.stderr


@pytest.mark.parametrize("ends", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_connector_that_ends_the_process_is_told(run: Run, write: Write, ends: str) -> None:
    seam = f"    def retry(self):\n        import os, signal; {ends}\n\n    def credentials(self):"
    write(READY.replace("    def credentials(self):", seam), "acme.py")
    ended = run("plugin", "test", "acme.py", "--json")
    assert ended.status == 1
    [(check, told)] = broken(ended).items()
    assert check == "test_construction_does_no_io", "the first that asks for it"
    assert re.search("must not end the process, and it has ended with (status 0|signal 9) while this was tried", told)
    assert ended.json()["connectors"][0]["promises"][-1]["check"] == check, "what comes after is not tried"
    assert "    BROKEN  construction does no io\n" in run("plugin", "test", "acme.py").out


def test_a_package_that_ends_the_process_as_it_is_loaded_is_told(run: Run, write: Write) -> None:
    write("import os; os._exit(0)", "acme.py")
    ended = run("plugin", "test", "acme.py", "--json")
    assert (ended.status, ended.out) == (2, "")
    assert ended.err == "llmgate: `acme.py` has ended the process, with status 0, as it was loaded\n"


def test_half_a_surrogate_pair_spoils_no_output(run: Run, write: Write) -> None:
    write(FILE.replace('"not ready"', '"not \\udc80 ready"'), "acme.py")
    told = broken(run("plugin", "test", "acme.py", "--json"))
    assert "(not \udc80 ready)" in told["test_use_is_allowed"]
    assert "(not ? ready)" in run("plugin", "test", "acme.py").out


PROJECT = '[project]\nname = "llmgate-acme"\n[project.entry-points.llmgate]\nacme = "acme_of_a_project"\n'
LISTENER = """
from llmgate_core import hookimpl

LLMGATE_PLUGIN_API = 1


@hookimpl
def llmgate_request_finished(record):
    pass
"""


@pytest.mark.parametrize(
    ("files", "named", "told"),
    [
        ({}, "minimacks", "no plugin `minimacks` is installed, .* did you mean `minimax`"),
        ({}, "nobody", "no such file or folder; `llmgate plugins` lists what is installed"),
        ({}, "./acme.py", "there is no file or folder `./acme.py`"),
        ({"f/a.txt": ""}, "f", "`f` is no package: it has neither `pyproject.toml` nor `__init__.py`"),
        ({"f/pyproject.toml": "["}, "f", "cannot read `f/pyproject.toml`"),
        ({"f/pyproject.toml": "[project]"}, "f", "no entry point of the group `llmgate`"),
        ({"f/pyproject.toml": PROJECT}, "f", "cannot be imported: No module named 'acme_of_a_project'"),
        ({"f/pyproject.toml": PROJECT, "f/acme_of_a_project.py": "x = 1"}, "f", "declares no plugin API version"),
        (
            {
                "f/pyproject.toml": PROJECT,
                "f/acme_of_a_project.py": FILE,
                "f/tests/test_conformance.py": "import no_such_module",
            },
            "f",
            "test_conformance.py` cannot be imported: ModuleNotFoundError: .* \\(.*test_conformance.py:1\\)",
        ),
        ({"acme.py": "x = 1/0"}, "acme.py", "^llmgate: `acme.py`: ZeroDivisionError"),
        (
            {"acme.py": LISTENER},
            "acme.py",
            "`acme.py` brings no connector, and the conformance suite is for",
        ),
    ],
)
def test_what_cannot_be_tried_is_told(run: Run, write: Write, files: dict[str, str], named: str, told: str) -> None:
    for path, text in files.items():
        write(text, path)
    ended = run("plugin", "test", named)
    assert (ended.status, ended.out) == (2, "")
    assert re.search(told, ended.err), ended.err


def test_neither_command_needs_pytest(write: Write) -> None:
    file = write(READY, "acme.py")
    write("raise ImportError('there is no pytest')", "none/pytest.py")
    program = (
        f"import sys; sys.path.insert(0, {str(file.parent / 'none')!r})\n"
        f"sys.argv = ['llmgate', 'plugin', 'test', {str(file)!r}]\n"
        "from llmgate_core.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
