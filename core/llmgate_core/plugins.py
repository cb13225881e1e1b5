"""Finding plugins, loading those that are asked for, each inside its own fence, and saying what is wrong with them.

Discovery reads metadata only; a plugin is imported when the configuration names it. Nothing here is global:
`load` returns a `PluginSet`.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pluggy

from . import hookspecs
from .connectors import Connector, Frontend, Policy
from .errors import PLUGIN_FAULTS, PluginError, words_of
from .installed import Allowed, Installed, content_hash, discover, origin, refusal
from .ownership import contained
from .plugin_checks import check_module, classes, guess, settings_type
from .plugin_needs import needs, required, said
from .request import RequestRecord

__all__ = ["Installed", "Loaded", "PluginSet", "describe", "discover", "load", "load_all", "place", "settings_type"]

BUILTIN = "llmgate_core.builtin"
SLOW_IMPORT_SECONDS = 5.0
"""An import that takes longer is told while it lasts: it may never end."""

logger = logging.getLogger("llmgate.plugins")


@dataclass
class Loaded:
    """What one plugin brought, or what is wrong with it."""

    plugin: Installed
    connectors: tuple[type[Connector], ...] = ()
    policies: tuple[type[Policy], ...] = ()
    frontends: tuple[type[Frontend], ...] = ()
    listener: Callable[..., Any] | None = None
    says: tuple[str, ...] = ()  # what it asks for beside its settings, in its author's words
    import_seconds: float = 0.0
    problem: str = ""
    absent: str = ""  # of a plugin that is not installed: how its `problem` goes on after the name

    def named(self) -> list[tuple[str, str]]:
        """Sort and name of each class that it registered, in words."""
        sorts: dict[str, tuple[type[Any], ...]] = {
            "connector": self.connectors,
            "policy": self.policies,
            "front end": self.frontends,
        }
        return [(sort, cls.name) for sort, classes in sorts.items() for cls in classes]

    def brings(self) -> dict[str, list[str]]:
        """Names of everything that it registered, by sort."""
        sorts: dict[str, tuple[type[Any], ...]] = {
            "connectors": self.connectors,
            "policies": self.policies,
            "frontends": self.frontends,
        }
        named = {sort: [cls.name for cls in classes] for sort, classes in sorts.items() if classes}
        if self.listener:
            named["hooks"] = ["llmgate_request_finished"]
        return named


@dataclass(frozen=True)
class PluginSet:
    """The plugins of one gateway, in the order in which they were loaded."""

    loaded: tuple[Loaded, ...]

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong, by the plugin's name; nothing is wrong with most."""
        return {one.plugin.name: one.problem for one in self.loaded if one.problem}

    @property
    def connectors(self) -> dict[str, type[Connector]]:
        """Connector classes by name, of plugins that can be used."""
        return {cls.name: cls for one in self.loaded if not one.problem for cls in one.connectors}

    @property
    def policies(self) -> list[type[Policy]]:
        """Policy classes, in order."""
        return [cls for one in self.loaded if not one.problem for cls in one.policies]

    @property
    def frontends(self) -> list[type[Frontend]]:
        """Front-end classes, in order."""
        return [cls for one in self.loaded if not one.problem for cls in one.frontends]

    def request_finished(self, record: RequestRecord) -> None:
        """Tells every plugin that listens; one that raises hurts nobody."""
        for one in self.loaded:
            if one.listener is None:
                continue
            try:
                with contained():
                    one.listener(record=record)
            except PLUGIN_FAULTS:
                logger.exception("%s raised in llmgate_request_finished (request %s)", one.plugin, record.id)


def load(
    names: Collection[str],
    *,
    files: Sequence[Path] = (),
    block: Collection[str] = (),
    allow: Allowed | None = None,
) -> PluginSet:
    """Loads the built-in plugin, `files`, and the installed plugins of these names.

    Names that the built-in plugin or a file brings as connectors need no installed plugin. Raises nothing: what
    cannot be used is in `PluginSet.problems`, so that all of it can be told at once.

    Args:
        block: names of plugins or distributions that are as if they were not installed.
        allow: distributions whose plugins may be imported, None for all. What llmgate brings itself may always be, and
            so may `files`.
    """
    loaded = [_load_module(_builtin()), *map(_load_file, files)]
    brought = {cls.name for one in loaded for cls in one.connectors}
    installed = discover(block)
    for name in dict.fromkeys(names):
        if name in brought:
            continue
        try:
            plugin = _pick(name, installed, allow)
            loaded.append(_load_module(plugin) if plugin else _absent(name, installed, brought))
        except PluginError as error:
            loaded.append(Loaded(Installed(name, "", "", ""), problem=str(error)))
    _mark_rivals(loaded)
    return PluginSet(tuple(loaded))


def load_all(files: Sequence[Path] = (), block: Collection[str] = (), allow: Allowed | None = None) -> PluginSet:
    """Loads everything that is installed and allowed, each inside its fence: for `llmgate plugins`, `serve --help`."""
    loaded = [_load_module(_builtin()), *map(_load_file, files)]
    loaded += [_refused(one, why) if (why := refusal(one, allow)) else _load_module(one) for one in discover(block)]
    _mark_rivals(loaded)
    return PluginSet(tuple(loaded))


def load_one(plugin: Installed) -> Loaded:
    """Loads one plugin inside its fence, wherever it comes from."""
    return _load_module(plugin)


def _refused(plugin: Installed, why: str) -> Loaded:
    return Loaded(plugin, problem=f"{plugin}:\n  {why}")


def _pick(name: str, installed: Sequence[Installed], allow: Allowed | None) -> Installed | None:
    matches = [one for one in installed if one.name == name]
    reasons = {one: refusal(one, allow) for one in matches}
    permitted = [one for one in matches if not reasons[one]]
    if len(permitted) > 1:
        owners = " and ".join(f"`{one.distribution}` {one.version}" for one in permitted)
        raise PluginError(
            f"plugin `{name}` is claimed by {owners}; uninstall one, or block it by its distribution's name"
        )
    if permitted:
        return permitted[0]
    if matches:
        raise PluginError("\n".join(f"{one}:\n  {reasons[one]}" for one in matches))
    if any(name == one.name for one in discover()):
        raise PluginError(f"plugin `{name}` is blocked (`plugins.block` or `LLMGATE_BLOCK_PLUGINS`)")
    return None


def _absent(name: str, installed: Sequence[Installed], brought: Collection[str]) -> Loaded:
    known = sorted({one.name for one in installed} | set(brought))
    rest = f"{guess(name, known)} (installed plugins: {', '.join(known)}); see `llmgate plugins`"
    problem = f"no installed plugin provides connector `{name}`{rest}"
    return Loaded(Installed(name, "", "", ""), problem=problem, absent=rest)


def _load_module(plugin: Installed) -> Loaded:
    """Imports, checks and registers one plugin. Never raises: what went wrong becomes its `problem`."""
    started = time.perf_counter()
    result = Loaded(plugin)
    try:
        with contained(), _told_if_slow(plugin):
            module = importlib.import_module(plugin.target) if plugin.entry_point is None else plugin.entry_point.load()
            result.import_seconds = time.perf_counter() - started
            check_module(module)
            result.says = said(module)
            _collect(module, result)
    except PluginError as error:
        result.problem = f"{plugin}:\n  {error}"
    except ImportError as error:
        result.problem = f"{plugin}:\n  cannot be imported: {words_of(error)}{_missing(error)}"
    except PLUGIN_FAULTS as error:
        logger.debug("loading %s", plugin, exc_info=True)
        result.problem = f"{plugin}:\n  {type(error).__name__} while loading: {words_of(error)}{place(error)}"
    return result


@contextmanager
def _told_if_slow(plugin: Installed) -> Iterator[None]:
    """Says whose import it is that everybody waits for."""
    told = f"%s is still being imported after {SLOW_IMPORT_SECONDS:g} s; if it hangs, uninstall or block it"
    timer = threading.Timer(SLOW_IMPORT_SECONDS, logger.warning, (told, plugin))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _collect(module: types.ModuleType, result: Loaded) -> None:
    # A manager for each plugin: what one raises is its own, and results need not be traced back to their owners.
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(module, name=result.plugin.name)
    manager.check_pending()
    result.connectors = classes(manager.hook.llmgate_register_connectors, "connector", ("send", "credentials"))
    result.policies = classes(manager.hook.llmgate_register_policies, "policy", ("apply",))
    result.frontends = classes(manager.hook.llmgate_register_frontends, "front end", ("routes",))
    finished = manager.hook.llmgate_request_finished
    result.listener = finished if finished.get_hookimpls() else None
    if not result.brings():
        raise PluginError("brings nothing: none of its functions is a hook of llmgate, or its hooks return nothing")
    name = result.plugin.name
    if result.plugin.entry_point and result.connectors and name not in {cls.name for cls in result.connectors}:
        names = ", ".join(f"`{cls.name}`" for cls in result.connectors)
        raise PluginError(f"its entry point is called `{name}`, but it brings {names}; the two names must agree")


def _mark_rivals(loaded: Sequence[Loaded]) -> None:
    """Two plugins that bring one connector, policy or front end: neither is taken.

    Which connector it would be is chance; and of two policies of one name both would decide, the second unnoticed.
    What llmgate brings itself stays: it cannot be uninstalled, and without it there would be no front ends.
    """
    owners: dict[tuple[str, str], Loaded] = {}
    for one in loaded:
        for sort, name in one.named():
            first = owners.setdefault((sort, name), one)
            if first is not one:
                text = f"{sort} `{name}` is brought by {first.plugin} and by {one.plugin}"
                if first.plugin.target == BUILTIN:
                    one.problem = f"{text}; uninstall or block the latter"
                else:
                    first.problem = one.problem = f"{text}; uninstall or block one of them"


def _builtin() -> Installed:
    from importlib.metadata import version

    return Installed("builtin", "llmgate-core", version("llmgate-core"), BUILTIN)


def _load_file(path: Path) -> Loaded:
    """A plugin that is a single file, before it is packaged: `llmgate serve --plugin ./acme.py`."""
    name = f"llmgate_plugin_file_{path.stem}"
    plugin = Installed(path.stem, str(path), "(a file)", name, is_file=True)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        return Loaded(plugin, problem=f"`--plugin {path}`: no such Python file")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)  # it may be in use, and a new version of the file that is broken must not harm it
    sys.modules[name] = module
    try:
        with contained(), _told_if_slow(plugin):
            spec.loader.exec_module(module)
    except PLUGIN_FAULTS as error:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
        problem = f"`--plugin {path}`: {type(error).__name__}: {words_of(error)}{place(error, name)}"
        return Loaded(plugin, problem=problem + _unfit(error))
    return _load_module(plugin)


def _unfit(error: BaseException) -> str:
    """What to do where a file asks llmgate-core for a name that it does not have; empty for other faults."""
    if not _is_of_core(error):
        return ""
    return f". Use versions of the file and of llmgate-core (here {_builtin().version}) that fit each other"


def _is_of_core(error: BaseException) -> bool:
    return isinstance(error, ImportError) and (error.name or "").partition(".")[0] == "llmgate_core"


def _missing(error: ImportError) -> str:
    name = error.name or ""
    if _is_of_core(error):
        return ". Install versions of it and of llmgate-core that fit each other"
    if isinstance(error, ModuleNotFoundError) and name:
        return f". Its distribution should install `{name}`: reinstall it, or tell its author"
    return ""


def place(error: BaseException, module: str = "") -> str:
    """File and line where it happened, in brackets, for the plugin's author; empty where it is not known.

    Args:
        module: the plugin's; lines of its package are told rather than those of what it called.
    """
    if isinstance(error, SyntaxError):  # its text says where; its traceback ends in the import system
        return ""
    package = module.partition(".")[0]
    frames = list(traceback.walk_tb(error.__traceback__))
    own = [found for found in frames if str(found[0].f_globals.get("__name__")).partition(".")[0] == package]
    return "".join(f" ({frame.f_code.co_filename}:{line})" for frame, line in (own or frames)[-1:])


def describe(plugins: PluginSet, *, hashes: bool = False) -> list[Mapping[str, Any]]:
    """One row a plugin, for `llmgate plugins --json`.

    Args:
        hashes: whether to read the files of every distribution for its hash.
    """
    return [_row(one, hashes=hashes) for one in plugins.loaded]


def _row(one: Loaded, *, hashes: bool) -> Mapping[str, Any]:
    found = one.plugin.metadata
    asked = [need for cls in (*one.connectors, *one.policies) for need in needs(cls)]
    row = {
        "name": one.plugin.name,
        "distribution": one.plugin.distribution,
        "version": one.plugin.version,
        "origin": origin(found) or None,
        "module": one.plugin.target,
        "brings": one.brings(),
        "asks_for": [*dict.fromkeys([*asked, *one.says])],
        "required": {cls.name: required(cls) for cls in one.connectors},
        "required_of_policies": {cls.name: required(cls) for cls in one.policies},  # apart: the two may share a name
        "import_milliseconds": round(one.import_seconds * 1000, 1),
        "problem": one.problem or None,
    }
    return {**row, "sha256": content_hash(found)} if hashes else row
