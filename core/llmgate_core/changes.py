"""What differs between two configurations, in names only: for whoever reads a new one while a gateway runs. No I/O."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from .config import BackendConfig, GatewayConfig
from .plugins import PluginSet
from .sections import CommonSections

FIXED = ("host", "port")
"""Keys of `server` that belong to the socket, which stays the same for as long as the process runs."""


@dataclass(frozen=True)
class Changes:
    """Names of backends, and dotted keys of everything else; never a value, which may be a secret."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    def __str__(self) -> str:
        backends = _listed(("added", self.added), ("removed", self.removed), ("changed", self.changed))
        told = [*([f"backends {backends}"] if backends else []), *_named("settings changed", self.settings)]
        return "; ".join(told) or "no setting has changed"


def changes(old: GatewayConfig, new: GatewayConfig, *, keys_differ: bool = False) -> Changes:
    """What a caller may notice of a new configuration. A backend that is switched off counts as removed.

    Args:
        keys_differ: whether the callers' keys do, once they are revealed: what a file holds may have changed,
            although the configuration names the same file.
    """
    before, after = _enabled(old), _enabled(new)
    settings = [*_settings(old, new)]
    if keys_differ and "auth.api_keys" not in settings:
        settings.append("auth.api_keys")
    return Changes(
        tuple(name for name in after if name not in before),
        tuple(name for name in before if name not in after),
        tuple(name for name in after if name in before and after[name] != before[name]),
        tuple(settings),
    )


def same_upstreams(old: GatewayConfig, new: GatewayConfig) -> tuple[str, ...]:
    """The backends that go on asking the same upstream in the same way: those whose name and `extra` are the same.

    What is known of the upstream's rate limits and failures is still true for them, whatever else has changed.
    """
    before = _enabled(old)
    return tuple(
        name for name, backend in _enabled(new).items() if name in before and before[name].extra == backend.extra
    )


def with_address(new: GatewayConfig, running: GatewayConfig) -> GatewayConfig:
    """`new` with the address that `running` listens on."""
    kept = {key: getattr(running.server, key) for key in FIXED}
    return dataclasses.replace(new, server=dataclasses.replace(new.server, **kept))


def needs_restart(
    running: GatewayConfig, plugins: PluginSet, new: GatewayConfig, new_plugins: PluginSet
) -> tuple[str, ...]:
    """What a new configuration asks for and a running process cannot do, a sentence each."""
    moved = [
        f"`server.{key}` has changed: that needs a restart, until then the address stays the same"
        for key in FIXED
        if getattr(running.server, key) != getattr(new.server, key)
    ]
    imported = {one.plugin.name: one.plugin for one in plugins.loaded if one.plugin.version}
    replaced = [
        f"{one.plugin} has been installed in the meantime: that needs a restart, until then {had.version} runs"
        for one in new_plugins.loaded
        if (had := imported.get(one.plugin.name)) and not one.plugin.is_file and str(one.plugin) != str(had)
    ]
    return (*moved, *replaced)


def _enabled(config: GatewayConfig) -> dict[str, BackendConfig]:
    return {backend.name: backend for backend in config.enabled_backends()}


def _settings(old: GatewayConfig, new: GatewayConfig) -> Iterator[str]:
    for section in fields(CommonSections):
        before, after = getattr(old, section.name), getattr(new, section.name)
        if is_dataclass(before):
            yield from (f"{section.name}.{key}" for key in _unequal(before, after))
        elif before != after:
            yield section.name


def _unequal(before: Any, after: Any) -> list[str]:
    return [key.name for key in fields(before) if getattr(before, key.name) != getattr(after, key.name)]


def _named(what: str, names: tuple[str, ...]) -> list[str]:
    return [f"{what} {', '.join(names)}"] if names else []


def _listed(*groups: tuple[str, tuple[str, ...]]) -> str:
    return ", ".join(text for group in groups for text in _named(*group))
