"""`llmgate check`: everything that `serve` would refuse, and advice, without serving."""

from __future__ import annotations

from typing import Any

import click

from . import configuration


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
    for advice in prepared.loaded.advice:
        click.echo(f"advice: {advice}")
    for backend in gateway.backends:
        state = backend.readiness()
        click.echo(f"{'ready' if state.ready else 'not ready'}: {backend.name}: {state.detail}")
    click.echo("the configuration can be served")
