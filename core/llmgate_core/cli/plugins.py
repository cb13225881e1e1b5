"""`llmgate plugins`: what is installed, what it brings, and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from . import EXIT_FAILED
from .configuration import blocked


@click.command("plugins")
@click.option("--json", "as_json", is_flag=True, help="One JSON array instead of text.")
@click.option(
    "--plugin",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    envvar="LLMGATE_PLUGIN",
    show_envvar=True,
    help="A plugin file.",
)
@click.pass_context
def command(ctx: click.Context, as_json: bool, files: tuple[Path, ...]) -> None:
    """Show what is installed, what it brings, and what is wrong with it. Imports every plugin, each in its fence.

    Ends with status 1 if something is wrong with one of them.
    """
    from ..plugins import describe, load_all

    rows = describe(load_all(files, blocked(None)))
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        from ..report import print_plugins

        print_plugins(rows)
    if any(row["problem"] for row in rows):
        ctx.exit(EXIT_FAILED)
