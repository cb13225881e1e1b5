"""`llmgate doctor`: why does it not work?"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from . import EXIT_FAILED, configuration
from .plugin_flags import PluginFlagsCommand


@click.command("doctor", cls=PluginFlagsCommand, context_settings=PluginFlagsCommand.SETTINGS)
@configuration.options
@configuration.serving_options
@click.option("--offline", is_flag=True, help="Ask nobody: no upstream, no port.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object instead of text.")
@click.pass_context
def command(ctx: click.Context, /, offline: bool, as_json: bool, **flags: Any) -> None:
    """Say why it does not work, and what to do next.

    Looks at the installation, the configuration, secrets, every backend, the gateway that runs, and this shell's
    variables. Upstreams are asked for their lists of models, which costs nothing; nothing is changed, except that a
    token at its end is refreshed, as for any request. Takes the flags of `llmgate serve`. Ends with status 1 if
    something is wrong; advice alone is not.
    """
    from ..report import print_findings
    from .examination import examine

    sections = examine(ctx, flags, offline=offline)
    levels = [finding.level for section in sections for finding in section.findings]
    if as_json:
        rows = [{"section": one.title, **asdict(finding)} for one in sections for finding in one.findings]
        told = {"ok": "fail" not in levels, "failed": levels.count("fail"), "advice": levels.count("advice")}
        click.echo(json.dumps({**told, "findings": rows}, indent=2, ensure_ascii=False))
    else:
        print_findings(sections)
    if "fail" in levels:
        ctx.exit(EXIT_FAILED)
