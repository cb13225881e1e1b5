"""What `llmgate plugin new` writes, file by file; that it passes its own tests is tried in test_packaging.py."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from llmgate_core.connectors import PLUGIN_API
from llmgate_core.errors import PluginError
from llmgate_core.new_plugin import NewPlugin, fitting, write

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["acme", "acme-cloud", "none", "secret", "openai4-all", "conformance", "x"])
def test_every_file_can_be_read_whatever_the_name(name: str) -> None:
    texts = NewPlugin(name).texts("0.1.0")
    assert len(texts) == 7
    for path, text in texts.items():
        assert "$" not in text, path
        assert text.endswith("\n") or path.endswith("py.typed")
        if path.endswith(".py"):
            ast.parse(text)
    module = NewPlugin(name).package
    declared = tomllib.loads(texts["pyproject.toml"])
    assert declared["project"]["name"] == f"llmgate-{name}"
    assert declared["project"]["entry-points"]["llmgate"] == {name: module}
    assert f'    name = "{name}"\n' in texts[f"{module}/__init__.py"]
    assert {f"{module}/py.typed", "README.md", "tests/test_conformance.py", "tests/test_connector.py"} <= set(texts)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("llmgate-acme", "without `llmgate-`: write `acme`"),
        ("Acme", "small letters and digits"),
        ("acme_cloud", "small letters and digits"),
        ("1acme", "beginning with a letter"),
        ("acme-", "in words that `-` joins"),
        ("../acme", "small letters"),
        ("acmé", "small letters"),
        ("acme\n", "small letters"),
        ("a" * 41, "40 signs at most"),
        ("core", "llmgate itself"),
        ("", "small letters"),
    ],
)
def test_a_name_that_cannot_be_installed_and_imported_is_refused(name: str, told: str) -> None:
    with pytest.raises(PluginError, match=re.escape(told)):
        NewPlugin(name)


def test_it_wants_the_core_that_it_was_written_for() -> None:
    own = tomllib.loads((ROOT / "plugins" / "qwen_oauth" / "pyproject.toml").read_text(encoding="utf-8"))
    core = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    texts = NewPlugin("acme").texts(core["project"]["version"])
    assert tomllib.loads(texts["pyproject.toml"])["project"]["dependencies"] == own["project"]["dependencies"]
    assert f"LLMGATE_PLUGIN_API = {PLUGIN_API}\n" in texts["llmgate_acme/__init__.py"]


@pytest.mark.parametrize("name", ["test", "test-cloud", "testing"])
def test_only_the_suite_looks_like_tests_to_pytest(name: str) -> None:
    texts = NewPlugin(name).texts("0.1.0")
    assert "\nclass Test" not in texts[f"{NewPlugin(name).package}/__init__.py"]
    assert "\nclass TestLlmgateTest" in texts["tests/test_conformance.py"]


@pytest.mark.parametrize(
    ("version", "wanted"), [("0.1.0", ">=0.1,<0.2"), ("0.12.3.dev4", ">=0.12,<0.13"), ("2.3.1", ">=2.3,<3")]
)
def test_the_range_ends_where_promises_may_end(version: str, wanted: str) -> None:
    assert fitting(version) == wanted


def test_the_licence_is_left_to_the_author() -> None:
    declared = tomllib.loads(NewPlugin("acme").texts("0.1.0")["pyproject.toml"])["project"]
    assert declared["license"] == "LicenseRef-choose-one"


def test_the_connector_is_as_short_as_that_of_the_plugin_page() -> None:
    text = NewPlugin("acme").texts("0.1.0")["llmgate_acme/__init__.py"]
    code = [line for line in text.splitlines() if line.strip() and not line.strip().startswith('"""')]
    assert len(code) <= 30


def test_the_ci_file_runs_what_the_readme_says() -> None:
    texts = NewPlugin("acme").texts("0.1.0")
    steps = yaml.safe_load(texts[".github/workflows/ci.yml"])["jobs"]["test"]["steps"]
    commands = [step["run"] for step in steps if "run" in step]
    assert commands == ['python -m pip install -e ".[dev]"', "python -m pytest", "python -m mypy"]
    for command in commands:
        assert re.search(rf"^{re.escape(command)}( |$)", texts["README.md"], re.MULTILINE)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "llmgate-acme"
    folder.mkdir()
    with pytest.raises(PluginError, match="is there already, and is left as it is"):
        write({"README.md": "new"}, folder)
    assert list(folder.iterdir()) == []


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(PluginError, match=r"cannot write `.*`: Not a directory"):
        write({"README.md": "new"}, tmp_path / "file" / "llmgate-acme")
    assert (tmp_path / "file").read_text() == "mine"
