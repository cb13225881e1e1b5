"""`llmgate models`: what can be asked for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from . import configuration

if TYPE_CHECKING:
    from ..connectors import ModelInfo


@click.command("models")
@configuration.options
@click.option("--json", "as_json", is_flag=True, help="A JSON object: of each id its backend and what is known.")
@click.pass_context
def command(ctx: click.Context, /, as_json: bool, **flags: Any) -> None:
    """List what can be asked for. Backends without a catalogue of their own are asked."""
    from ..app import Catalogue, create_app
    from ..model_facts import plain_facts
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
        shown = {id: {"backend": one.backend, **plain_facts(one.info)} for id, one in catalogue.models.items()}
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    from ..report import print_table

    columns = ["model", "backend", "context", "max output", "input", "thinking"]
    print_table(columns, [[id, one.backend, *_facts(one.info)] for id, one in catalogue.models.items()])


def _facts(info: ModelInfo) -> list[str]:
    """What is known, as cells of the table; an unknown size is an empty cell."""
    sizes = ["" if size is None else f"{size:,}" for size in (info.context, info.max_output)]
    return [*sizes, ", ".join(info.input), info.thinking or ""]
