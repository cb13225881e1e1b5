"""`llmgate check`: everything that `serve` would refuse, and advice, without serving."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from . import configuration

if TYPE_CHECKING:
    from ..errors import Problem


@click.command("check")
@configuration.options
@click.pass_context
def command(ctx: click.Context, /, **flags: Any) -> None:
    """Say everything that `serve` would refuse, without serving."""
    from ..app import create_app
    from .serve import refuse_unsafe

    prepared = configuration.prepare(ctx, flags)
    gateway = create_app(prepared.config, plugins=prepared.plugins)
    refuse_unsafe(gateway)
    for advice in [*prepared.loaded.advice, *advise_backends(prepared)]:
        click.echo(f"advice: {advice}")
    for backend in gateway.backends:
        state = backend.readiness()
        click.echo(f"{'ready' if state.ready else 'not ready'}: {backend.name}: {state.detail}")
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
