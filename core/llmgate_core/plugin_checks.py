"""Whether a plugin's module can be used: its API version, its hooks, and the classes that they return.

Everything is checked when the plugin is loaded, so that its author hears of it before anybody sends a request.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, is_dataclass, make_dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from . import hookspecs
from .backend_sections import TYPE
from .connectors import PLUGIN_API
from .errors import PluginError
from .settings import decode, did_you_mean, json_schema

SYNCHRONOUS = {
    "connector": ("check", "credentials", "retry", "facts", "backoff", "presets", "simulator"),
    "policy": ("apply",),
    "front end": ("routes",),
}
"""Methods that are called without `await`. Those that core's own classes have besides are found in these."""

NEVER_RUNS = "is an `async def`, and would never run: it is called without `await`, so write an ordinary `def`"

API_ATTRIBUTE = "LLMGATE_PLUGIN_API"


def settings_type(cls: type[Any]) -> type[Any] | None:
    """The dataclass that a connector, policy or front end annotates as its `settings`; None when it has none."""
    found = get_type_hints(cls, include_extras=True).get("settings")
    return found if isinstance(found, type) and found not in (types.NoneType, Any) else None


def check_module(module: Any) -> None:
    """Raises PluginError unless it is a module for this plugin API whose hooks can be called."""
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


def never_runs(method: Any) -> bool:
    """Whether a call of it does nothing but to make a coroutine or an asynchronous generator."""
    return inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)


def _check_hook(name: str, function: Callable[..., Any]) -> None:
    """Says in words what pluggy would refuse, or would never call."""
    is_marked = hasattr(function, f"{hookspecs.PROJECT}_impl")
    if name not in _HOOKS:
        if name.startswith("llmgate_"):
            raise PluginError(f"has an unknown hook `{name}`{guess(name, _HOOKS)}")
        if is_marked:
            hint = guess(name, _HOOKS) or f"; the hooks are `{'`, `'.join(_HOOKS)}`"
            raise PluginError(f"`{name}` is marked with `@hookimpl`, but there is no such hook{hint}")
        return
    if not is_marked:
        raise PluginError(f"`{name}` is not marked with `@hookimpl`, so it would never be called")
    if never_runs(function):
        raise PluginError(f"hook `{name}` {NEVER_RUNS}")
    given = list(inspect.signature(_HOOKS[name]).parameters)
    for parameter in inspect.signature(function).parameters.values():
        is_demanded = parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        )
        if is_demanded and parameter.name not in given:
            takes = f"`{'`, `'.join(given)}`" if given else "no arguments"
            raise PluginError(f"hook `{name}` takes {takes}, but this one wants `{parameter.name}`")


def classes(hook: Any, what: str, methods: Sequence[str]) -> tuple[type[Any], ...]:
    """What a registering hook returns, if these are classes that can be used; raises PluginError if not."""
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
        _check_synchronous(cls, what)
        _check_settings(cls, what)
    _check_names(found, what)
    return tuple(found)


def _check_synchronous(cls: type[Any], what: str) -> None:
    """What is async where nobody awaits would be switched off without a word: a `check` that never refuses."""
    seams = {name for base in cls.__mro__ if _is_ours(base) for name, value in vars(base).items() if _is_plain(value)}
    for name in sorted({*SYNCHRONOUS[what], *seams}):
        method = getattr(cls, name, None)
        # A seam may return an asynchronous generator, as `events` does; a method that is one does as well.
        if never_runs(method) if name in SYNCHRONOUS[what] else inspect.iscoroutinefunction(method):
            raise PluginError(f"{what} class `{cls.__name__}`: its method `{name}` {NEVER_RUNS}")


def _is_ours(cls: type[Any]) -> bool:
    return cls.__module__.partition(".")[0] == __name__.partition(".")[0]


def _is_plain(value: object) -> bool:
    return inspect.isfunction(value) and not never_runs(value)


def _check_names(found: Sequence[type[Any]], what: str) -> None:
    first: dict[str, type[Any]] = {}
    for cls in found:
        if cls.name in first:
            classes = f"`{first[cls.name].__name__}` and `{cls.__name__}`"
            told = f"{what} `{cls.name}` is brought by two of its classes, {classes}; each needs a name of its own"
            raise PluginError(told)
        first[cls.name] = cls


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
    try:
        hints = get_type_hints(cls, include_extras=True)
    except NameError as error:  # such as a type that is imported for type checkers only
        return f"a field's annotation names `{error.name}`, which its module does not define at run time"
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


def guess(word: str, known: Iterable[str]) -> str:
    """The end of a sentence that says what was probably meant; empty where nothing is close."""
    close = did_you_mean(word, known)
    return f"; did you mean `{close}`?" if close else ""
