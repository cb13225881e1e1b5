"""Everything in a configuration that stands against a start, found without constructing anything."""

from __future__ import annotations

from collections.abc import Iterable

from .backend_sections import is_made_from_default, no_such_default
from .config import BackendConfig, GatewayConfig
from .construction import decode_settings
from .errors import Problem
from .plugins import PluginSet
from .policy_settings import decode_policies
from .selector_checks import wrong_selectors


def find_problems(config: GatewayConfig, plugins: PluginSet) -> list[Problem]:
    """What is wrong with a configuration that could be read, once its plugins are known: all of it at once."""
    return [
        *_missing_plugins(config, plugins),
        *_broken_plugins(config, plugins),
        *decode_settings(config, plugins)[1],
        *_wrong_policies(config, plugins),
        *wrong_selectors(config),
    ]


def _wrong_policies(config: GatewayConfig, plugins: PluginSet) -> list[Problem]:
    """Not told where a plugin is missing or broken: it may be what brings the policy."""
    return [] if plugins.problems else decode_policies(config, plugins)[1]


def _missing_plugins(config: GatewayConfig, plugins: PluginSet) -> list[Problem]:
    """Told at the lines that name them."""
    absent = {one.plugin.name for one in plugins.loaded if one.absent}
    # A file of the command line that could not be loaded would have brought some of them: that is told already.
    excused = absent if any(one.plugin.is_file and one.problem for one in plugins.loaded) else set()
    return [
        backend.origin.problem(("type",), _why_missing(backend, config, plugins, absent))
        for backend in config.enabled_backends()
        if backend.type not in plugins.connectors and backend.type not in excused
    ]


def _why_missing(backend: BackendConfig, config: GatewayConfig, plugins: PluginSet, absent: Iterable[str]) -> str:
    told = plugins.problems.get(backend.type) or f"no plugin brings `{backend.type}`"
    if backend.type in absent and is_made_from_default(backend, config):
        guess = no_such_default(backend.type, config)
        return f"`default_backend`: {guess}" if "did you mean" in guess else told
    return told


def _broken_plugins(config: GatewayConfig, plugins: PluginSet) -> list[Problem]:
    """Those that no backend names: files of the command line, and what `plugins.load` asks for."""
    types = {backend.type for backend in config.backends}
    found = [
        Problem("the command line", None, one.problem)
        if one.plugin.is_file
        else config.problem(("plugins", "load"), _by_name(one.plugin.name, one.absent) or one.problem)
        for one in plugins.loaded
        if one.problem and (one.plugin.is_file or one.plugin.name not in types)
    ]
    return list(dict.fromkeys(found))  # of two that bring one name the same is said


def _by_name(name: str, absent: str) -> str:
    """`plugins.load` names plugins, which need not bring a connector."""
    return f"`plugins.load`: no installed plugin is called `{name}`{absent}" if absent else ""
