"""Everything in a configuration that stands against a start, found without constructing anything."""

from __future__ import annotations

from . import selector
from .backends import decode_settings
from .config import GatewayConfig
from .errors import Problem, SelectorError
from .plugins import PluginSet


def find_problems(config: GatewayConfig, plugins: PluginSet) -> list[Problem]:
    """What is wrong with a configuration that could be read, once its plugins are known: all of it at once."""
    return [
        *_missing_plugins(config, plugins),
        *_broken_plugins(config, plugins),
        *decode_settings(config, plugins)[1],
        *_wrong_force_model(config),
    ]


def _missing_plugins(config: GatewayConfig, plugins: PluginSet) -> list[Problem]:
    """Told at the lines that name them."""
    return [
        backend.origin.problem(("type",), plugins.problems.get(backend.type) or f"no plugin brings `{backend.type}`")
        for backend in config.enabled_backends()
        if backend.type not in plugins.connectors
    ]


def _broken_plugins(config: GatewayConfig, plugins: PluginSet) -> list[Problem]:
    """Those that no backend names: files of the command line, and what `plugins.load` asks for."""
    types = {backend.type for backend in config.backends}
    return [
        Problem("the command line", None, one.problem)
        if one.plugin.is_file
        else config.problem(("plugins", "load"), one.problem)
        for one in plugins.loaded
        if one.problem and (one.plugin.is_file or one.plugin.name not in types)
    ]


def _wrong_force_model(config: GatewayConfig) -> list[Problem]:
    if config.force_model is None:
        return []
    try:
        selector.resolve(selector.parse(config.force_model), config.names())
    except SelectorError as error:
        return [config.problem(("force_model",), f"`force_model`: {error.reason}")]
    return []
