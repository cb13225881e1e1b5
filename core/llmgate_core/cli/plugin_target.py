"""What `llmgate plugin test` tries: connectors that are installed, or that lie in a file or a folder."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.metadata import EntryPoint
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..errors import PluginError
from ..installed import GROUP, editable_folder, normal
from ..plugins import BUILTIN, Installed, Loaded, discover, load, load_one, place
from ..settings import did_you_mean

if TYPE_CHECKING:
    from ..testing import ConnectorSuite

SUITE_FILE = Path("tests", "test_conformance.py")
"""Where a project's own suites say what the conformance suite must know; `llmgate plugin new` writes it."""
SUITE_MODULE = "conformance"
"""The module of a package where they may be instead, so that whoever installs the package has them."""


@dataclass(frozen=True)
class Target:
    """What is tried.

    Args:
        origin: where it comes from, in words.
        own: suites that the package brings.
        bare: of each connector that none of them tries, the suite that knows no more than the class.
    """

    origin: str
    own: tuple[type[ConnectorSuite], ...]
    bare: tuple[type[ConnectorSuite], ...]


@contextmanager
def find(named: str) -> Iterator[Target]:
    """What is meant by a connector's name, a distribution, a file or a folder; it can be imported inside the block.

    Raises:
        PluginError: there is nothing of this name, it cannot be loaded, or it brings no connector.
    """
    path, plugins = Path(named), installed(named)
    if plugins:
        folder = editable_folder(plugins[0].plugin.metadata)
        with _importable(*([folder] if folder else [])):
            yield _target(plugins, named, folder)
    elif path.is_dir():
        with _importable(path, path / "src", path.parent):
            yield _of_folder(path)
    elif path.is_file():
        with _importable(path.parent):
            yield _target(load((), files=[path]).loaded[1:], named)
    else:
        raise PluginError(_nothing(named))


def installed(named: str) -> Sequence[Loaded]:
    """The plugins of this connector, or of this distribution; empty where none is installed."""
    builtin = load(()).loaded
    if named in {cls.name for cls in builtin[0].connectors}:
        return builtin
    return [
        load_one(plugin)
        for plugin in discover()
        if plugin.name == named or normal(plugin.distribution) == normal(named)
    ]


def _nothing(named: str) -> str:
    if named.endswith(".py") or "/" in named or "\\" in named:
        return f"there is no file or folder `{named}`"
    found = discover()
    close = did_you_mean(named, [*(one.name for one in found), *(one.distribution for one in found)])
    hint = f"did you mean `{close}`?" if close else "`llmgate plugins` lists what is installed"
    return f"no plugin `{named}` is installed, and there is no such file or folder; {hint}"


def _target(plugins: Sequence[Loaded], named: str, folder: Path | None = None) -> Target:
    """The connectors of some plugins, and the suites that these have; in `folder` lies their project."""
    from ..testing.suite.outcomes import suite_of

    for one in plugins:
        if one.problem:
            # Of a file it is told by the option that names one elsewhere, which nobody has written here.
            raise PluginError(one.problem.replace("`--plugin ", "`", 1))
    connectors = [cls for one in plugins for cls in one.connectors]
    if plugins[0].plugin.target == BUILTIN:
        connectors = [cls for cls in connectors if cls.name == named]
    if not connectors:
        raise PluginError(f"`{named}` brings no connector, and the conformance suite is for connectors only")
    own = own_suites(plugins, folder)
    tried = {suite.connector.name for suite in own}
    bare = tuple(suite_of(cls) for cls in connectors if cls.name not in tried)
    return Target(_origin(plugins[0].plugin), own, bare)


def _origin(plugin: Installed) -> str:
    return f"{plugin.distribution} {plugin.version}"


# --- folders ----------------------------------------------------------------------------------------------------------


def _of_folder(folder: Path) -> Target:
    """A project with a `pyproject.toml`, or a package alone."""
    plugins = [load_one(plugin) for plugin in _declared(folder)]
    found = _target(plugins, str(folder), folder)
    return replace(found, origin=f"{found.origin} in {folder}") if plugins[0].plugin.entry_point else found


def _declared(folder: Path) -> Iterable[Installed]:
    project = folder / "pyproject.toml"
    if not project.is_file():
        if not (folder / "__init__.py").is_file():
            raise PluginError(f"`{folder}` is no package: it has neither `pyproject.toml` nor `__init__.py`")
        return [Installed(folder.resolve().name, str(folder), "(a folder)", folder.resolve().name)]
    try:
        told: dict[str, Any] = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {})
        entries: dict[str, str] = told.get("entry-points", {}).get(GROUP, {})
    except (OSError, ValueError, AttributeError) as error:
        raise PluginError(f"cannot read `{project}`: {error}") from None
    if not entries:
        raise PluginError(f"`{project}` has no entry point of the group `{GROUP}`: `[project.entry-points.{GROUP}]`")
    return [
        Installed(name, str(told.get("name")), str(told.get("version", "?")), target, EntryPoint(name, target, GROUP))
        for name, target in entries.items()
    ]


@contextmanager
def _importable(*folders: Path) -> Iterator[None]:
    """Lets Python find modules in these folders first: also those that are imported while a connector is tried."""
    before = list(sys.path)
    sys.path[:0] = [str(folder.resolve()) for folder in folders]
    try:
        yield
    finally:
        sys.path[:] = before


# --- suites that a package brings -------------------------------------------------------------------------------------


def own_suites(plugins: Sequence[Loaded], folder: Path | None) -> tuple[type[ConnectorSuite], ...]:
    """Those of its project's tests, else those of a package's module `conformance`; in their order."""
    from ..testing import ConnectorSuite

    for module in _suite_modules(plugins, folder):
        found = [
            value
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, ConnectorSuite) and hasattr(value, "connector")
        ]
        if found:
            return tuple(found)
    return ()


def _suite_modules(plugins: Sequence[Loaded], folder: Path | None) -> Iterator[ModuleType]:
    if folder and (file := folder / SUITE_FILE).is_file():
        yield _imported(str(file), lambda: _module_of(file))
    for package in (one.plugin.target.partition(":")[0] for one in plugins):
        name = f"{package}.{SUITE_MODULE}"
        if hasattr(sys.modules.get(package), "__path__") and find_spec(name):
            yield _imported(name, partial(import_module, name))


def _module_of(file: Path) -> ModuleType:
    spec = spec_from_file_location(f"llmgate_tests_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ImportError("it is no Python file")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for their module there
    spec.loader.exec_module(module)
    return module


def _imported(named: str, load: Callable[[], ModuleType]) -> ModuleType:
    try:
        return load()
    except Exception as error:
        raise PluginError(f"`{named}` cannot be imported: {type(error).__name__}: {error}{place(error)}") from None
