"""`llmgate plugins`: what is installed, what it brings, what it asks for, and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from . import EXIT_FAILED
from .configuration import admitted


@click.command("plugins")
@click.option("--json", "as_json", is_flag=True, help="One JSON array instead of text.")
@click.option("--hashes", is_flag=True, help="With the SHA-256 of each distribution, for `plugins.allow`.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="LLMGATE_CONFIG",
    show_envvar=True,
    help="Main file, whose `plugins.allow` counts.",
)
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
def command(ctx: click.Context, /, as_json: bool, hashes: bool, files: tuple[Path, ...], **flags: Any) -> None:
    """Show what is installed, what it brings and asks for, and what is wrong with it.

    Imports every plugin that is allowed, each in its fence. Ends with status 1 if something is wrong with one of them.
    """
    from ..plugins import describe, load_all

    rows = describe(load_all(files, **admitted(None, flags)), hashes=hashes)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        from ..report import print_plugins

        print_plugins(rows)
    if any(row["problem"] for row in rows):
        ctx.exit(EXIT_FAILED)
