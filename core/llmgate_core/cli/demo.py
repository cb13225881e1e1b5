"""`llmgate serve --demo`: every installed plugin that ships a simulator, with it instead of its provider."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import EXIT_USAGE, StartRefused, configuration

if TYPE_CHECKING:
    from ..config import GatewayConfig
    from ..connectors import SimulatorSetup
    from ..plugins import PluginSet

CURL = "curl -sN {base}/v1/chat/completions -H 'content-type: application/json' -d"

WEATHER = (
    '{"type":"function","function":{"name":"get_weather","description":"Weather of a city",'
    '"parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}}'
)


@asynccontextmanager
async def simulated(
    ctx: click.Context, flags: Mapping[str, Any]
) -> AsyncIterator[tuple[GatewayConfig, PluginSet, Sequence[str]]]:
    """A configuration whose backends are simulators, running until the end of the block."""
    from ..config import BackendConfig, Places, load
    from ..plugins import load_all

    overrides = {
        path: value for path, value in configuration.overrides(ctx, flags).items() if path != ("default_backend",)
    }
    config = load(Places(), overrides, configuration.given_rewrites(flags)).checked()
    plugins = load_all(flags.get("plugin_files", ()), **configuration.admitted(config))
    offering = {name: cls for name, cls in plugins.connectors.items() if hasattr(cls, "simulator")}
    if not offering:
        raise StartRefused("no installed plugin ships a simulator; see `llmgate plugins`", EXIT_USAGE)
    plugins = with_a_part(plugins, {*offering, *config.plugins.load})
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llmgate-demo-")))
        backends, notes = [], ["", "Demo: simulators instead of providers, nothing leaves this machine."]
        for name, cls in offering.items():
            simulator = cls.simulator()
            stack.push_async_callback(simulator.aclose)
            place = folder / name
            place.mkdir()
            setup = await simulator.start(place)
            backends.append(BackendConfig(type=name, extra=setup.extra))
            notes += lines(name, setup)
        config = dataclasses.replace(config, backends=tuple(backends), default_backend=backends[0].name)
        yield config, plugins, [*notes, "", "Ctrl-C stops it."]


def with_a_part(plugins: PluginSet, names: Collection[str]) -> PluginSet:
    """Those of all installed plugins that the demonstration uses: a policy that nobody named must not meddle."""
    wanted = set(names)
    kept = [
        one
        for one in plugins.loaded
        if one.plugin.is_file
        or one.plugin.entry_point is None  # llmgate's own
        or wanted & {one.plugin.name, *(cls.name for cls in one.connectors)}
    ]
    return dataclasses.replace(plugins, loaded=tuple(kept))


def lines(name: str, setup: SimulatorSetup) -> list[str]:
    """What can be tried with one simulated backend; every line can be pasted into a shell."""
    model = f"{name}:{setup.model}"
    return [
        "",
        f"{name}: {' '.join(setup.notes)}",
        "  # which models there are",
        "  curl -s {base}/v1/models",
        "  # an answer, in Chinese",
        f"""  {CURL} '{{"model":"{model}","messages":[{{"role":"user","content":"用中文打个招呼"}}]}}'""",
        "  # the same, streamed",
        f"""  {CURL} '{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"用中文打个招呼"}}]}}'""",
        "  # a tool call, with a parameter set in the model's name",
        f"""  {CURL} '{{"model":"{model}?temperature=0.2","messages":[{{"role":"user","content":"杭州天气如何？"}}],"""
        f""""tools":[{WEATHER}]}}'""",
    ]
