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
    from ..app import create_app
    from .serve import run

    prepared = configuration.prepare(ctx, flags)
    listed: dict[str, str] = {}

    async def ask() -> None:
        gateway = create_app(prepared.config, plugins=prepared.plugins)
        try:
            listed.update(await gateway.models())
        finally:
            await gateway.aclose()

    run(ask())
    if as_json:
        click.echo(json.dumps(listed, indent=2, ensure_ascii=False))
        return
    from ..report import print_table

    print_table(["model", "backend"], [[id, backend] for id, backend in listed.items()])
