"""Which installed plugins take part in the demonstration."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

from llmgate_core.cli.demo import with_a_part
from llmgate_core.plugins import Installed, Loaded, PluginSet


class Acme:
    name = "acme"


def loaded(name: str, *connectors: Any, is_file: bool = False) -> Loaded:
    entry = None if is_file else EntryPoint(name, name, "llmgate")
    return Loaded(Installed(name, name, "1", name, entry, is_file), connectors=connectors)


def test_a_plugin_that_nobody_named_does_not_meddle() -> None:
    builtin = Loaded(Installed("builtin", "llmgate-core", "1", "builtin"))
    several = [builtin, loaded("acme", Acme), loaded("policy"), loaded("asked-for"), loaded("mine", is_file=True)]
    kept = with_a_part(PluginSet(tuple(several)), {"acme", "asked-for"})
    assert [one.plugin.name for one in kept.loaded] == ["builtin", "acme", "asked-for", "mine"]
