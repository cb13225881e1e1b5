"""What a plugin asks for, as far as the settings of its connectors and policies tell without running any of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from .errors import PluginError
from .plugin_checks import settings_type
from .secret import Secret

SAID_ATTRIBUTE = "LLMGATE_PLUGIN_ASKS_FOR"
"""A plugin's module may say in this tuple of texts what its settings do not tell, such as a file that it writes."""


def needs(cls: type[Any]) -> list[str]:
    """What the defaults of a connector's or policy's settings name, and those without a default, a few words each."""
    settings = settings_type(cls)
    return list(dict.fromkeys(_needs(settings))) if settings else []


def _needs(settings: type[Any]) -> Iterator[str]:
    for entry in fields(settings):
        if not entry.init:
            continue
        if entry.default is MISSING and entry.default_factory is MISSING:
            yield f"setting `{entry.name}`, which has no default"
        elif isinstance(entry.default, Secret) and not entry.default.is_plain:
            yield entry.default.label
        elif isinstance(entry.default, Path):
            yield f"file `{entry.default}`"
        elif isinstance(entry.default, str) and entry.default.startswith(("https://", "http://")):
            yield f"address `{entry.default}`"


def required(cls: type[Any]) -> list[str]:
    """The settings of a connector or policy that have no default, so that every configuration must give them."""
    settings = settings_type(cls)
    named = fields(settings) if settings else ()
    return [
        entry.name for entry in named if entry.init and entry.default is MISSING and entry.default_factory is MISSING
    ]


def said(module: Any) -> tuple[str, ...]:
    """What the plugin's author says that it asks for; raises PluginError for anything but a tuple of texts."""
    texts = getattr(module, SAID_ATTRIBUTE, ())
    if not isinstance(texts, tuple) or not all(isinstance(text, str) for text in texts):
        raise PluginError(f"its `{SAID_ATTRIBUTE}` must be a tuple of texts")
    return texts
