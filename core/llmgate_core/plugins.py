"""Finding plugins, loading those that are asked for, each inside its own fence, and saying what is wrong with them.

Discovery reads metadata only; a plugin is imported when the configuration names it. Nothing here is global:
`load` returns a `PluginSet`.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import logging
import re
import sys
import time
import traceback
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pluggy

from . import hookspecs
from .backend_sections import TYPE
from .connectors import PLUGIN_API, Connector, Frontend, Policy
from .errors import PluginError
from .request import RequestRecord
from .settings import decode, did_you_mean, json_schema

GROUP = "llmgate"
BUILTIN = "llmgate_core.builtin"
API_ATTRIBUTE = "LLMGATE_PLUGIN_API"

logger = logging.getLogger("llmgate.plugins")


@dataclass(frozen=True)
class Installed:
    """A plugin that could be loaded: what its distribution's metadata says, nothing imported."""

    name: str
    distribution: str
    version: str
    target: str
    entry_point: EntryPoint | None = field(repr=False, default=None)
    is_file: bool = False

    def __str__(self) -> str:
        if self.is_file:
            return f"plugin file `{self.distribution}`"
        return f"plugin `{self.name}` of distribution `{self.distribution}` {self.version} ({self.target})"


@dataclass
class Loaded:
    """What one plugin brought, or what is wrong with it."""

    plugin: Installed
    connectors: tuple[type[Connector], ...] = ()
    policies: tuple[type[Policy], ...] = ()
    frontends: tuple[type[Frontend], ...] = ()
    listener: Callable[..., Any] | None = None
    import_seconds: float = 0.0
    problem: str = ""
    absent: str = ""  # of a plugin that is not installed: how its `problem` goes on after the name

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
                one.listener(record=record)
            except Exception:
                logger.exception("%s raised in llmgate_request_finished (request %s)", one.plugin, record.id)


def discover(block: Collection[str] = ()) -> list[Installed]:
    """All installed plugins by metadata alone, those in `block` (names or distributions) left out."""
    found: dict[tuple[str, str, str], Installed] = {}
    for entry in entry_points(group=GROUP):
        distribution, version = _distribution(entry)
        if entry.name in block or distribution_key(distribution) in map(distribution_key, block):
            continue
        # One distribution can be seen twice, through two entries of sys.path.
        found.setdefault(
            (entry.name, distribution, entry.value),
            Installed(entry.name, distribution, version, entry.value, entry),
        )
    return sorted(found.values(), key=lambda one: (one.name, one.distribution))


def distribution_key(distribution: str) -> str:
    """A distribution's name as pip compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _distribution(entry: EntryPoint) -> tuple[str, str]:
    """Name and version. A half-finished uninstall leaves entry points without a METADATA file behind."""
    found = entry.dist
    if found is None or not (found.read_text("METADATA") or found.read_text("PKG-INFO")):
        return "unknown", "?"
    return found.name, found.version


def load(names: Collection[str], *, files: Sequence[Path] = (), block: Collection[str] = ()) -> PluginSet:
    """Loads the built-in plugin, `files`, and the installed plugins of these names.

    Names that the built-in plugin or a file brings as connectors need no installed plugin. Raises nothing: what
    cannot be used is in `PluginSet.problems`, so that all of it can be told at once.
    """
    loaded = [_load_module(_builtin()), *map(_load_file, files)]
    brought = {cls.name for one in loaded for cls in one.connectors}
    installed = discover(block)
    for name in dict.fromkeys(names):
        if name in brought:
            continue
        try:
            plugin = _pick(name, installed, block)
            loaded.append(_load_module(plugin) if plugin else _absent(name, installed, brought))
        except PluginError as error:
            loaded.append(Loaded(Installed(name, "", "", ""), problem=str(error)))
    _mark_rivals(loaded)
    return PluginSet(tuple(loaded))


def load_all(files: Sequence[Path] = (), block: Collection[str] = ()) -> PluginSet:
    """Loads everything that is installed, each inside its fence: for `llmgate plugins` and `serve --help`."""
    loaded = [_load_module(_builtin()), *map(_load_file, files), *map(_load_module, discover(block))]
    _mark_rivals(loaded)
    return PluginSet(tuple(loaded))


def load_one(plugin: Installed) -> Loaded:
    """Loads one plugin inside its fence, wherever it comes from."""
    return _load_module(plugin)


def settings_type(cls: type[Any]) -> type[Any] | None:
    """The dataclass that a connector, policy or front end annotates as its `settings`; None when it has none."""
    found = get_type_hints(cls, include_extras=True).get("settings")
    return found if isinstance(found, type) and found not in (types.NoneType, Any) else None


def _pick(name: str, installed: Sequence[Installed], block: Collection[str]) -> Installed | None:
    matches = [one for one in installed if one.name == name]
    if len(matches) > 1:
        owners = " and ".join(f"`{one.distribution}` {one.version}" for one in matches)
        raise PluginError(
            f"plugin `{name}` is claimed by {owners}; uninstall one, or block it by its distribution's name"
        )
    if matches:
        return matches[0]
    if any(name == one.name for one in discover()):
        raise PluginError(f"plugin `{name}` is blocked (`plugins.block` or `LLMGATE_BLOCK_PLUGINS`)")
    return None


def _absent(name: str, installed: Sequence[Installed], brought: Collection[str]) -> Loaded:
    known = sorted({one.name for one in installed} | set(brought))
    rest = f"{_guess(name, known)} (installed plugins: {', '.join(known)}); see `llmgate plugins`"
    problem = f"no installed plugin provides connector `{name}`{rest}"
    return Loaded(Installed(name, "", "", ""), problem=problem, absent=rest)


def _guess(word: str, known: Iterable[str]) -> str:
    close = did_you_mean(word, known)
    return f"; did you mean `{close}`?" if close else ""


def _load_module(plugin: Installed) -> Loaded:
    """Imports, checks and registers one plugin. Never raises: what went wrong becomes its `problem`."""
    started = time.perf_counter()
    result = Loaded(plugin)
    try:
        module = importlib.import_module(plugin.target) if plugin.entry_point is None else plugin.entry_point.load()
        result.import_seconds = time.perf_counter() - started
        _check_module(module)
        _collect(module, result)
    except PluginError as error:
        result.problem = f"{plugin}:\n  {error}"
    except ImportError as error:
        result.problem = f"{plugin}:\n  cannot be imported: {error}{_missing(error)}"
    except (Exception, SystemExit) as error:
        logger.debug("loading %s", plugin, exc_info=True)
        result.problem = f"{plugin}:\n  {type(error).__name__} while loading: {error}{place(error)}"
    return result


def _check_module(module: Any) -> None:
    if not isinstance(module, types.ModuleType):
        raise PluginError("the entry point must name a module, such as `llmgate_acme`")
    declared = getattr(module, API_ATTRIBUTE, None)
    if declared is None:
        raise PluginError(f"declares no plugin API version; its module needs `{API_ATTRIBUTE} = {PLUGIN_API}`")
    if not isinstance(declared, int):
        raise PluginError(f"its `{API_ATTRIBUTE}` must be a whole number, such as {PLUGIN_API}")
    if declared != PLUGIN_API:
        newer = "a newer" if declared > PLUGIN_API else "an older"
        raise PluginError(
            f"is written for {newer} plugin API ({declared}); this llmgate-core has {PLUGIN_API}. "
            "Install versions of the two that fit each other"
        )
    for name, value in vars(module).items():
        if inspect.isfunction(value):
            _check_hook(name, value)


_HOOKS = {name: value for name, value in vars(hookspecs).items() if name.startswith("llmgate_")}


def _check_hook(name: str, function: Callable[..., Any]) -> None:
    """Says in words what pluggy would refuse, or would never call."""
    is_marked = hasattr(function, f"{hookspecs.PROJECT}_impl")
    if name not in _HOOKS:
        if name.startswith("llmgate_"):
            raise PluginError(f"has an unknown hook `{name}`{_guess(name, _HOOKS)}")
        if is_marked:
            hint = _guess(name, _HOOKS) or f"; the hooks are `{'`, `'.join(_HOOKS)}`"
            raise PluginError(f"`{name}` is marked with `@hookimpl`, but there is no such hook{hint}")
        return
    if not is_marked:
        raise PluginError(f"`{name}` is not marked with `@hookimpl`, so it would never be called")
    given = list(inspect.signature(_HOOKS[name]).parameters)
    for parameter in inspect.signature(function).parameters.values():
        is_demanded = parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        )
        if is_demanded and parameter.name not in given:
            takes = f"`{'`, `'.join(given)}`" if given else "no arguments"
            raise PluginError(f"hook `{name}` takes {takes}, but this one wants `{parameter.name}`")


def _collect(module: types.ModuleType, result: Loaded) -> None:
    # A manager for each plugin: what one raises is its own, and results need not be traced back to their owners.
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(module, name=result.plugin.name)
    manager.check_pending()
    result.connectors = _classes(manager.hook.llmgate_register_connectors, "connector", ("send", "credentials"))
    result.policies = _classes(manager.hook.llmgate_register_policies, "policy", ("apply",))
    result.frontends = _classes(manager.hook.llmgate_register_frontends, "front end", ("routes",))
    finished = manager.hook.llmgate_request_finished
    result.listener = finished if finished.get_hookimpls() else None
    if not result.brings():
        raise PluginError("brings nothing: none of its functions is a hook of llmgate, or its hooks return nothing")
    name = result.plugin.name
    if result.plugin.entry_point and result.connectors and name not in {cls.name for cls in result.connectors}:
        names = ", ".join(f"`{cls.name}`" for cls in result.connectors)
        raise PluginError(f"its entry point is called `{name}`, but it brings {names}; the two names must agree")


def _classes(hook: Any, what: str, methods: Sequence[str]) -> tuple[type[Any], ...]:
    found: list[type[Any]] = []
    for answer in hook():
        found += answer if isinstance(answer, (list, tuple)) else [answer]
    for cls in found:
        if not isinstance(cls, type):
            raise PluginError(
                f"`{hook.name}` returns an object (`{type(cls).__name__}`) where a {what} class is expected; "
                "return the class itself, or a list of classes"
            )
        if not isinstance(getattr(cls, "name", None), str):
            raise PluginError(f"{what} class `{cls.__name__}` has no `name`")
        if what == "connector" and not TYPE.fullmatch(cls.name):
            raise PluginError(f"{what} class `{cls.__name__}`: its `name` may hold letters, digits, `-` and `_` only")
        lacking = [method for method in methods if not callable(getattr(cls, method, None))]
        if lacking:
            raise PluginError(f"{what} class `{cls.__name__}` has no method `{lacking[0]}`")
        _check_settings(cls, what)
    return tuple(found)


def _check_settings(cls: type[Any], what: str) -> None:
    place = f"{what} class `{cls.__name__}`: its annotation `settings`"
    try:
        found = settings_type(cls)
    except NameError as error:  # such as a type that is imported for type checkers only
        raise PluginError(f"{place} names `{error.name}`, which its module does not define at run time") from None
    if found is not None and not is_dataclass(found):
        raise PluginError(f"{place} must be a dataclass")
    if found is not None and (fault := _settings_fault(found)):
        raise PluginError(f"settings class `{found.__name__}` of {what} class `{cls.__name__}`: {fault}")


def _settings_fault(cls: type[Any]) -> str:
    if not cls.__dataclass_params__.frozen:
        return "must be frozen: write `@dataclass(frozen=True)`"
    hints = get_type_hints(cls, include_extras=True)
    faults = (_field_fault(entry.name, hints[entry.name], entry.default) for entry in fields(cls) if entry.init)
    return next(filter(None, faults), "")


def _field_fault(name: str, hint: Any, default: Any) -> str:
    hint = get_args(hint)[0] if get_origin(hint) is Annotated else hint  # a default out of bounds may be meant
    alone = make_dataclass("alone", [(name, hint)])
    try:
        json_schema(alone)
    except TypeError:
        return f"the type of field `{name}` is none that a configuration can hold"
    if default is None or isinstance(default, bool | int | float | str):
        value = getattr(decode(alone, {name: default})[0], name, ...)  # no type reads as `...`
        is_widened = type(value) is float and type(default) is int
        if type(value) is not type(default) and not is_widened:
            return f"the default of field `{name}` is a `{type(default).__name__}`, which is not of its type"
    return ""


def _mark_rivals(loaded: Sequence[Loaded]) -> None:
    """Two plugins that bring one connector: neither is taken, because which one it would be is chance.

    What llmgate brings itself stays: it cannot be uninstalled, and without it there would be no front ends.
    """
    owners: dict[str, Loaded] = {}
    for one in loaded:
        for cls in one.connectors:
            first = owners.setdefault(cls.name, one)
            if first is not one:
                text = f"connector `{cls.name}` is brought by {first.plugin} and by {one.plugin}"
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
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
        return Loaded(plugin, problem=f"`--plugin {path}`: {type(error).__name__}: {error}{place(error)}")
    return _load_module(plugin)


def _missing(error: ImportError) -> str:
    name = error.name or ""
    if name.partition(".")[0] == "llmgate_core":
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


def describe(plugins: PluginSet) -> list[Mapping[str, Any]]:
    """One row a plugin, for `llmgate plugins --json`."""
    return [
        {
            "name": one.plugin.name,
            "distribution": one.plugin.distribution,
            "version": one.plugin.version,
            "module": one.plugin.target,
            "brings": one.brings(),
            "import_milliseconds": round(one.import_seconds * 1000, 1),
            "problem": one.problem or None,
        }
        for one in plugins.loaded
    ]
