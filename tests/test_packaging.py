"""What users install: the wheels and sdists that we would publish, and a plugin that comes and goes with pip.

Nothing here needs a network: distributions are built by hatchling without isolation, and the fresh environment
borrows third-party packages from the one that runs the tests.
"""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Mapping
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECTS = {
    "llmgate-core": ROOT,
    "llmgate-cap-tokens": ROOT / "plugins" / "cap_tokens",
    "llmgate-minimax": ROOT / "plugins" / "minimax",
    "llmgate-ollama": ROOT / "plugins" / "ollama",
    "llmgate-qwen-oauth": ROOT / "plugins" / "qwen_oauth",
}
PACKAGES = {
    "llmgate-core": "core/llmgate_core",
    "llmgate-cap-tokens": "llmgate_cap_tokens",
    "llmgate-minimax": "llmgate_minimax",
    "llmgate-ollama": "llmgate_ollama",
    "llmgate-qwen-oauth": "llmgate_qwen_oauth",
}
EACH = pytest.mark.parametrize("name", PROJECTS)

NOT_BORROWED = re.compile(r"_?_?(llmgate|editable_impl|pip|setuptools|pkg_resources|pycache)|.*\.pth$")


def project(name: str) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((PROJECTS[name] / "pyproject.toml").read_text(encoding="utf-8"))
    return found


def call(arguments: list[str], cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end, with nothing of the developer's settings for Python, pip and llmgate."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LLMGATE_", "PIP_", "PYTHON"))}
    environment = {**kept, "PIP_CONFIG_FILE": os.devnull, "HOME": str(cwd), "COLUMNS": "200", **environ}
    return subprocess.run(arguments, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False)


def done(arguments: list[str], cwd: Path) -> str:
    ended = call(arguments, cwd)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


class Built:
    """The wheel and the sdist of one project."""

    def __init__(self, name: str, folder: Path) -> None:
        done([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], PROJECTS[name])
        (self.wheel,) = folder.glob("*.whl")
        (self.sdist,) = folder.glob("*.tar.gz")
        with zipfile.ZipFile(self.wheel) as archive:
            self.files = {file: archive.read(file) for file in archive.namelist()}
        with tarfile.open(self.sdist) as tarball:
            self.sources = {file.partition("/")[2] for file in tarball.getnames()}

    def info(self, file: str) -> bytes:
        (content,) = (data for path, data in self.files.items() if path.endswith(f".dist-info/{file}"))
        return content

    @property
    def metadata(self) -> Message:
        return Parser().parsestr(self.info("METADATA").decode())

    @property
    def entry_points(self) -> dict[str, dict[str, str]]:
        parser = configparser.ConfigParser(delimiters="=")
        parser.read_string(self.info("entry_points.txt").decode())
        return {section: dict(parser[section]) for section in parser.sections()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Built]:
    return {name: Built(name, tmp_path_factory.mktemp("dist")) for name in PROJECTS}


# --- what is in them -------------------------------------------------------------------------------------------------


@EACH
def test_a_wheel_holds_its_package_and_nothing_else(built: Mapping[str, Built], name: str) -> None:
    package = PROJECTS[name] / PACKAGES[name]
    here = {
        path.relative_to(package.parent).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {file for file in built[name].files if ".dist-info/" not in file} == here
    assert f"{package.name}/py.typed" in here


@EACH
def test_a_wheel_says_what_it_is(built: Mapping[str, Built], name: str) -> None:
    said = built[name].metadata
    assert said["Name"] == name
    assert said["Version"] == project(name)["project"]["version"]
    assert said["Requires-Python"] == ">=3.11"
    assert said["License-Expression"] == "MIT"
    assert said["Description-Content-Type"] == "text/markdown"
    assert b"MIT License" in built[name].info("licenses/LICENSE")


@EACH
def test_dependencies_in_the_wheel_are_those_declared(built: Mapping[str, Built], name: str) -> None:
    shipped = {Requirement(line) for line in built[name].metadata.get_all("Requires-Dist", [])}
    assert shipped == {Requirement(line) for line in project(name)["project"]["dependencies"]}


def test_core_brings_the_command_a_fixture_for_pytest_and_no_plugin(built: Mapping[str, Built]) -> None:
    assert built["llmgate-core"].entry_points == {
        "console_scripts": {"llmgate": "llmgate_core.cli:main"},
        "pytest11": {"llmgate": "llmgate_core.testing.pytest_plugin"},
    }


def test_a_plugin_brings_its_entry_point_and_wants_a_core_that_fits(built: Mapping[str, Built]) -> None:
    plugin = built["llmgate-qwen-oauth"]
    assert plugin.entry_points == {"llmgate": {"qwen-oauth": "llmgate_qwen_oauth"}}
    (wanted,) = (Requirement(line) for line in plugin.metadata.get_all("Requires-Dist", []))
    assert wanted.name == "llmgate-core"
    assert wanted.specifier.contains(project("llmgate-core")["project"]["version"])
    assert not wanted.specifier.contains("1.0"), "a later core may break it: the range needs an upper bound"


@EACH
def test_an_sdist_holds_what_a_build_needs(built: Mapping[str, Built], name: str) -> None:
    sources = built[name].sources
    assert {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", f"{PACKAGES[name]}/__init__.py"} <= sources
    top = {file.partition("/")[0] for file in sources}
    expected = {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "PKG-INFO", ".gitignore"}
    assert top - expected == {PACKAGES[name].partition("/")[0]}, "only the package goes out"


def test_nothing_of_a_plugin_is_in_core(built: Mapping[str, Built]) -> None:
    core = built["llmgate-core"]
    assert not [file for file in [*core.files, *core.sources] if "plugins/" in file or "qwen" in file]


def test_every_folder_under_plugins_is_tested_here() -> None:
    assert {path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml")} == set(PROJECTS.values()) - {ROOT}


# --- constraints -----------------------------------------------------------------------------------------------------


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): number for name, number in pairs}


def test_constraints_pin_every_runtime_and_dev_dependency() -> None:
    core = project("llmgate-core")
    declared = [*core["project"]["dependencies"], *core["dependency-groups"]["dev"], *core["build-system"]["requires"]]
    assert {canonicalize_name(Requirement(line).name) for line in declared} - set(pinned()) == set()


def test_constraints_name_no_place() -> None:
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9_.+!-]*|#.*|", line), line


def test_pins_are_within_the_declared_ranges() -> None:
    core, pins = project("llmgate-core"), pinned()
    for line in [*core["project"]["dependencies"], *core["dependency-groups"]["dev"]]:
        wanted = Requirement(line)
        assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), line


# --- the story of a plugin -------------------------------------------------------------------------------------------


class Environment:
    """A fresh virtual environment with every third-party package of this one, and nothing of llmgate's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        done([sys.executable, "-m", "venv", "--without-pip", "venv"], folder)
        scheme = "nt" if os.name == "nt" else "posix_prefix"
        paths = sysconfig.get_paths(scheme, {"base": str(folder / "venv"), "platbase": str(folder / "venv")})
        self.scripts, self.site = Path(paths["scripts"]), Path(paths["purelib"])
        for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
            if not NOT_BORROWED.match(entry.name):
                (self.site / entry.name).symlink_to(entry)

    def pip(self, *arguments: str) -> None:
        python = str(self.scripts / "python")
        done([sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", *arguments], self.folder)

    def install(self, wheel: Path) -> None:
        self.pip("install", "--quiet", "--no-index", "--no-deps", "--no-compile", str(wheel))

    def llmgate(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return call([str(self.scripts / "llmgate"), *arguments], self.folder, **environ)

    def borrow_pip(self) -> None:
        import pip

        package = Path(pip.__file__).parent
        for entry in (package, *package.parent.glob("pip-*.dist-info")):
            (self.site / entry.name).symlink_to(entry)

    def python(self, *arguments: str, cwd: Path) -> str:
        return done([str(self.scripts / "python"), *arguments], cwd)


@pytest.fixture(scope="module")
def environment(built: Mapping[str, Built], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """With llmgate's core from its wheel; each test leaves as it was what commands there are."""
    if os.name == "nt":
        pytest.skip("symbolic links need a privilege there")
    made = Environment(tmp_path_factory.mktemp("fresh"))
    made.install(built["llmgate-core"].wheel)
    return made


def test_a_plugin_comes_and_goes_with_pip(environment: Environment, built: Mapping[str, Built]) -> None:
    config = environment.folder / "gateway.yaml"
    config.write_text("# a gateway\nbackends:\n  qwen-oauth: {}\n")

    core_alone = environment.llmgate("plugins")
    assert core_alone.returncode == 0, core_alone.stderr
    assert "openai-compatible" in core_alone.stdout
    assert "qwen-oauth" not in core_alone.stdout

    environment.install(built["llmgate-qwen-oauth"].wheel)
    version = project("llmgate-qwen-oauth")["project"]["version"]
    assert f"ok   qwen-oauth  llmgate-qwen-oauth {version}" in environment.llmgate("plugins").stdout
    tried = environment.llmgate("plugin", "test", "qwen-oauth")
    assert (tried.returncode, "no promise is broken" in tried.stdout) == (0, True), tried.stdout
    ready = environment.llmgate("check", "--config", str(config))
    assert ready.returncode == 0, ready.stderr
    assert "the configuration can be served" in ready.stdout
    assert "--enable-qwen-oauth-backend-debugging-override" in environment.llmgate("serve", "--help").stdout

    environment.pip("uninstall", "--quiet", "--yes", "llmgate-qwen-oauth")
    assert without_times(environment.llmgate("plugins").stdout) == without_times(core_alone.stdout)
    for command in ("check", "serve"):
        refused = environment.llmgate(command, "--config", str(config))
        assert refused.returncode == 2
        assert refused.stderr == (
            "gateway.yaml:3: no installed plugin provides connector `qwen-oauth` "
            "(installed plugins: anthropic-compatible, openai-compatible); see `llmgate plugins`\n"
        )
    assert "qwen" not in environment.llmgate("serve", "--help").stdout


def test_what_plugin_new_writes_passes_its_own_tests_and_type_check_at_once(environment: Environment) -> None:
    package = environment.folder / "llmgate-acme-cloud"
    made = environment.llmgate("plugin", "new", "acme-cloud")
    assert made.returncode == 0, made.stderr

    environment.python("-m", "hatchling", "build", "-t", "wheel", "-d", str(environment.folder), cwd=package)
    (wheel,) = environment.folder.glob("llmgate_acme_cloud-0.1.0-*.whl")
    environment.install(wheel)
    assert "ok   acme-cloud  llmgate-acme-cloud 0.1.0" in environment.llmgate("plugins").stdout
    tried = environment.llmgate("plugin", "test", "acme-cloud")
    assert (tried.returncode, "no promise is broken" in tried.stdout) == (0, True), tried.stdout

    told = environment.python("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", cwd=package)
    assert re.search(r"^\d+ passed", told, re.MULTILINE), told
    assert "Success: no issues found in 3 source files" in environment.python("-m", "mypy", cwd=package)
    environment.pip("uninstall", "--quiet", "--yes", "llmgate-acme-cloud")


def without_times(told: str) -> str:
    return re.sub(r"imported in .* ms", "", told)


# --- the story of a plugin, told by llmgate itself -------------------------------------------------------------------


def wheel(folder: Path, name: str, number: str, wants: str = "", module: str = "", entry: str = "") -> Path:
    """A wheel with one module, written by hand: what it wants and registers may be as wrong as we like."""
    package = name.replace("-", "_")
    info = f"{package}-{number}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n"
    metadata += f"Requires-Dist: {wants}\n" if wants else ""
    files = {
        f"{package}.py": module,
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[llmgate]\n{entry} = {package}\n" if entry else "",
    }
    path = folder / f"{package}-{number}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"]))
    return path


ACME = """
from dataclasses import dataclass
from llmgate_core import OpenAICompatible, Secret, hookimpl
LLMGATE_PLUGIN_API = 1

@dataclass(frozen=True)
class AcmeSettings:
    base_url: str
    api_key: Secret = Secret("env:ACME_API_KEY")

class Acme(OpenAICompatible):
    name = "acme"
    settings: AcmeSettings

@hookimpl
def llmgate_register_connectors():
    return Acme
"""


def test_a_plugin_comes_and_goes_with_llmgate(environment: Environment, tmp_path: Path) -> None:
    """From an index that is a folder, so that no network is needed."""
    environment.borrow_pip()
    index = tmp_path / "index"
    index.mkdir()
    fit = project("llmgate-core")["project"]["version"]
    wheel(index, "llmgate-acme", "1.0", f"llmgate-core=={fit}", ACME, "acme")
    wheel(index, "llmgate-old", "1.0", "llmgate-core<0.1", ACME, "old")
    wheel(index, "llmgate-core", "0.0.9", module="raise SystemExit('the old core came')")
    wheel(index, "a-stranger", "1.0")
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index)}

    came = environment.llmgate("install", "llmgate-acme", **pip)
    assert came.returncode == 0, came.stdout + came.stderr
    assert "Successfully installed llmgate-acme-1.0" in came.stdout, "pip's own words pass"
    assert "ok   acme  llmgate-acme 1.0" in came.stdout
    assert "asks for setting `base_url`, which has no default; environment variable `ACME_API_KEY`" in came.stdout
    assert "backends:\n  acme:\n    extra:\n      base_url: ...\n" in came.stdout
    assert "builtin" not in came.stdout, "only what is new"

    old = environment.llmgate("install", "llmgate-old", **pip)
    assert old.returncode == 1
    assert f"nothing was installed, see above why; llmgate-core stays at {fit}" in old.stderr
    stranger = environment.llmgate("install", "a-stranger", **pip)
    assert stranger.returncode == 1
    assert "no plugin of llmgate came with what was installed (a-stranger)" in stranger.stderr
    assert f"version {fit}" in environment.llmgate("--version").stdout

    gone = environment.llmgate("uninstall", "acme", "--yes")
    assert gone.returncode == 0, gone.stdout + gone.stderr
    assert "Successfully uninstalled llmgate-acme-1.0" in gone.stdout
    assert "no installed plugin is called `acme`" in environment.llmgate("uninstall", "acme", "--yes").stderr
