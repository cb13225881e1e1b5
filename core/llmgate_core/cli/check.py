"""`llmgate check`: everything that `serve` would refuse, and advice, without serving."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from . import configuration
from .plugin_flags import PluginFlagsCommand

if TYPE_CHECKING:
    from ..errors import Problem


@click.command("check", cls=PluginFlagsCommand, context_settings=PluginFlagsCommand.SETTINGS)
@configuration.options
@configuration.serving_options
@click.pass_context
def command(ctx: click.Context, /, **flags: Any) -> None:
    """Say everything that `serve` would refuse, without serving; takes the same flags and environment."""
    from ..app import create_app
    from ..config import advise_allowed
    from .serve import refuse_unsafe

    prepared = configuration.prepare_to_serve(ctx, flags)
    gateway = create_app(prepared.config, plugins=prepared.plugins)
    refuse_unsafe(prepared.config)
    for advice in [*prepared.loaded.advice, *advise_allowed(prepared.config), *advise_backends(prepared)]:
        click.echo(f"advice: {advice}")
    for backend in gateway.backends:
        state = backend.readiness()
        click.echo(f"{'ready' if state.ready else 'not ready'}: {backend.name}: {state.detail}")
    if not len(gateway.backends):
        click.echo("advice: no backend is enabled: every request will be refused")
    click.echo("the configuration can be served")


def advise_backends(prepared: configuration.Prepared) -> list[Problem]:
    """What is allowed under `extra`, and better done otherwise."""
    from ..config import advise, decode_extra
    from ..plugins import settings_type

    advice: list[Problem] = []
    for backend in prepared.config.enabled_backends():
        settings, _ = decode_extra(backend, settings_type(prepared.plugins.connectors[backend.type]))
        advice += advise(backend, settings)
    return advice
