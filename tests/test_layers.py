"""The rooms of the house: who may import whom, by which door a library enters, and how big a room may grow."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = ROOT / "core" / "llmgate_core"
PLUGINS = ROOT / "plugins"

# From the lowest to the highest: a module may import its own level and those below.
LEVELS = (
    {"errors"},
    {
        "request",
        "selector",
        "retry",
        "backoff",
        "circuit",
        "credentials",
        "credential_files",
        "settings",
        "secret",
        "wire",
        "ownership",
        "token_estimate",
        "max_context",
        "response_store",
        "sse",
        "ndjson",
        "faults",
        "regexes",
    },
    {"connectors"},
    {
        "hookspecs",
        "mending",
        "handed_over",
        "hybrid",
        "model_facts",
        "http_connector",
        "openai_compatible",
        "anthropic_compatible",
        "upstream",
        "dialects",
        "translate",
        "policies",
        "device_flow",
    },
    {
        "plugins",
        "policy_settings",
        "installed",
        "plugin_checks",
        "plugin_needs",
        "config",
        "sections",
        "yaml_file",
        "backend_sections",
        "editor_schemas",
        "backends",
        "construction",
        "executor",
        "attempts",
        "stalls",
        "strategies",
        "thinking",
        "observe",
        "checks",
        "rewrite_sections",
        "selector_checks",
        "changes",
        "replies",
        "diagnosis",
        "new_plugin",
        "presets",
        "first_files",
    },
    {"app", "gateways", "report", "frontends", "builtin", "server", "http1"},
    {"cli", "testing", "__main__"},
)

# Which modules (by their path's beginning) may import a library.
DOORS = {
    "aiohttp": ("upstream.py",),
    "click": ("cli/",),
    "h11": ("http1.py", "testing/"),
    "httpx": ("upstream.py",),
    "httpx_aiohttp": ("upstream.py",),
    "hypercorn": ("server.py", "http1.py"),
    "msgspec": ("wire.py", "settings.py"),
    "pluggy": ("plugins.py", "hookspecs.py"),
    "pytest": ("testing/",),
    "re2": ("regexes.py",),
    "rich": ("report.py",),
    "segno": ("report.py",),
    "starlette": ("frontends/", "app.py"),
    "uvloop": ("cli/",),
    "yaml": ("yaml_file.py",),
}

MAX_MODULE_LINES = 450
MAX_FUNCTION_LINES = 70

CORE_MODULES = sorted(CORE.rglob("*.py"))
PLUGIN_MODULES = sorted(path for path in PLUGINS.rglob("*.py") if "build" not in path.parts)


def imports(path: Path, package: str = "") -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of everything that a module imports, wherever in it the import stands.

    Args:
        package: the dotted package that the module lies in, for its relative imports.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            start = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{start}.{alias.name}") for alias in node.names)


def package_of(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).parent.parts)


def told(path: Path, line: int, text: str) -> str:
    return f"{path.relative_to(ROOT)}:{line}: {text}"


def rooms() -> dict[str, int]:
    return {name: level for level, names in enumerate(LEVELS) for name in names}


def room_of(path: Path) -> str:
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def core_imports(path: Path) -> Iterator[tuple[int, str]]:
    yield from imports(path, package_of(path, CORE.parent))


def test_every_room_has_its_level() -> None:
    unknown = {room_of(path) for path in CORE_MODULES} - set(rooms()) - {"__init__"}
    assert not unknown, f"say in LEVELS where {sorted(unknown)} belong"


def test_imports_point_down_or_sideways() -> None:
    levels, wrong = rooms(), []
    for path in CORE_MODULES:
        mine = room_of(path)
        for line, name in core_imports(path):
            parts = name.split(".")
            if mine == "__init__" or parts[0] != "llmgate_core" or len(parts) < 2 or parts[1] not in levels:
                continue
            if levels[parts[1]] > levels[mine]:
                wrong.append(told(path, line, f"`{mine}` imports `{parts[1]}`, which is above it"))
    assert not wrong, "\n".join(wrong)


def test_libraries_enter_by_their_doors() -> None:
    wrong = []
    for path in CORE_MODULES:
        for line, name in core_imports(path):
            library = name.partition(".")[0]
            if library in sys.stdlib_module_names or library == "llmgate_core":
                continue
            doors = DOORS.get(library, ())
            if not path.relative_to(CORE).as_posix().startswith(tuple(doors)) or not doors:
                wrong.append(told(path, line, f"`{library}` enters by {' or '.join(doors) or 'no door yet'} only"))
    assert not wrong, "\n".join(wrong)


def test_doors_are_declared_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[^A-Za-z0-9_.-]", line)[0].lower() for line in project["dependencies"]}
    distributions = {"yaml": "pyyaml", "httpx_aiohttp": "httpx-aiohttp", "re2": "google-re2"}
    # aiohttp comes with httpx-aiohttp, h11 with hypercorn; pytest is there when its plugin is loaded.
    lacking = {distributions.get(door, door) for door in DOORS} - declared - {"aiohttp", "h11", "pytest"}
    assert not lacking, "imported, and not in `dependencies`"


def test_core_names_no_plugin() -> None:
    names = re.compile(r"qwen|minimax|ollama|cap[-_]tokens", re.IGNORECASE)
    # Qwen Code is an agent that speaks to the gateway, not a backend: its name, its file and its command, in one place.
    agent = re.compile(r"qwen[-_]code|~/\.qwen/settings\.json|qwen --auth-type openai")
    agents = CORE / "cli" / "agents.py"
    wrong = [
        told(path, number, "core names a plugin")
        for path in CORE_MODULES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if names.search(agent.sub("", line) if path == agents else line)
    ]
    assert not wrong, "\n".join(wrong)


def test_plugins_use_the_public_names_only() -> None:
    wrong = []
    for path in (path for path in PLUGIN_MODULES if "tests" not in path.parts):
        home = path.relative_to(PLUGINS).parts[0]
        for_tests = any(word in path.as_posix() for word in ("simulator", "conformance"))
        for line, name in imports(path, package_of(path, PLUGINS / home)):
            if name.partition(".")[0] != "llmgate_core":
                continue
            # The last part is what is imported from there: `llmgate_core.Connector`, `llmgate_core.testing.Suite`.
            module = name.rpartition(".")[0]
            if module not in ("llmgate_core", "llmgate_core.testing"):
                wrong.append(told(path, line, f"`{name}` is not public"))
            elif "llmgate_core.testing" in (name, module) and not for_tests:
                wrong.append(told(path, line, "`llmgate_core.testing` is for simulators, suites and tests"))
    assert not wrong, "\n".join(wrong)


def test_plugins_import_what_they_declare() -> None:
    wrong = []
    for path in PLUGIN_MODULES:
        home = path.relative_to(PLUGINS).parts[0]
        if "tests" in path.parts:
            continue
        project = tomllib.loads((PLUGINS / home / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        declared = {re.split(r"[^A-Za-z0-9_.-]", line)[0].replace("-", "_") for line in project["dependencies"]}
        own = path.relative_to(PLUGINS / home).parts[0]
        for line, name in imports(path, package_of(path, PLUGINS / home)):
            library = name.partition(".")[0]
            if library not in sys.stdlib_module_names | declared | {own}:
                wrong.append(told(path, line, f"`{library}` is not a dependency of this plugin"))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", [*CORE_MODULES, *PLUGIN_MODULES], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_rooms_stay_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if "tests" not in path.parts:
        size = len(text.splitlines())
        assert size <= MAX_MODULE_LINES, f"{size} lines; find the second module in it"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, told(path, node.lineno, f"`{node.name}` has {length} lines")


def test_the_check_itself_sees_every_spelling(tmp_path: Path) -> None:
    """A layer test that reads imports wrongly would be green for ever."""
    module = tmp_path / "module.py"
    module.write_text(
        "import a.b\nfrom . import c\nfrom .d import e\nfrom ..f import g\nfrom .. import h\n"
        "def late() -> None:\n    from .i import j\n    import k\n"
    )
    found = [name for _, name in imports(module, "top.sub")]
    assert sorted(found) == ["a.b", "k", "top.f.g", "top.h", "top.sub.c", "top.sub.d.e", "top.sub.i.j"]
