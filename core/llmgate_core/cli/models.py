"""`llmgate models`: what can be asked for."""

from __future__ import annotations

import json
from typing import Any

import click

from . import configuration


@click.command("models")
@configuration.options
@click.option("--json", "as_json", is_flag=True, help="A JSON object of ids and their backends.")
@click.pass_context
def command(ctx: click.Context, /, as_json: bool, **flags: Any) -> None:
    """List what can be asked for. Backends without a catalogue of their own are asked."""
    from ..app import Catalogue, create_app
    from .serve import run

    prepared = configuration.prepare(ctx, flags)
    catalogue = Catalogue()

    async def ask() -> None:
        nonlocal catalogue
        gateway = create_app(prepared.config, plugins=prepared.plugins)
        try:
            catalogue = await gateway.models()
        finally:
            await gateway.aclose()

    run(ask())
    for backend, reason in catalogue.missing.items():
        click.echo(f"{backend} lists nothing: {reason}", err=True)
    if as_json:
        click.echo(json.dumps(catalogue.models, indent=2, ensure_ascii=False))
        return
    from ..report import print_table

    print_table(["model", "backend"], [[id, backend] for id, backend in catalogue.models.items()])
