"""The settings of policies that plugins bring, as `plugins.settings` in the main file has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .connectors import Policy
from .errors import Problem
from .plugins import PluginSet, settings_type
from .sections import GatewayConfig
from .selector import closest
from .settings import decode

KEY = ("plugins", "settings")


@dataclass(frozen=True)
class _NoSettings:
    """The settings of a policy that has none."""


def brought_by_plugins(plugins: PluginSet) -> list[type[Policy]]:
    """The policies that have settings there, if any; those of llmgate itself have sections of their own."""
    return [cls for cls in plugins.policies if cls.__module__.partition(".")[0] != "llmgate_core"]


def decode_policies(config: GatewayConfig, plugins: PluginSet) -> tuple[dict[type[Policy], Any], list[Problem]]:
    """What each policy of a plugin is constructed with, None for one without settings; and every mistake in it."""
    given, own = config.plugins.settings, brought_by_plugins(plugins)
    decoded: dict[type[Policy], Any] = {}
    problems = [
        config.problem((*KEY, name), _unknown(name, sorted(cls.name for cls in own)))
        for name in given
        if name not in {cls.name for cls in own}
    ]
    for cls in own:
        kind = settings_type(cls)
        settings, faults = decode(kind or _NoSettings, given.get(cls.name, {}), prefix=f"plugins.settings.{cls.name}")
        decoded[cls] = settings if kind else None
        problems += [config.problem((*KEY, cls.name, *path), message) for path, message in faults]
    return decoded, problems


def _unknown(name: str, known: list[str]) -> str:
    guess = closest(name, known)
    hint = f"; did you mean `{guess}`?" if guess else ""
    loaded = f" (loaded: {', '.join(known)})" if known else "; is the plugin named under `plugins.load`?"
    return f"`plugins.settings.{name}`: no loaded plugin brings a policy of this name{hint}{loaded}"
