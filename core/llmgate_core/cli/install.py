"""`llmgate install`: pip, or uv, in llmgate's own environment; then what the new plugins bring, and how to use them."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import click

from . import EXIT_FAILED, StartRefused, installer
from .configuration import admitted

Rows = Sequence[Mapping[str, Any]]


@click.command("install")
@click.argument("what", nargs=-1, required=True, metavar="PLUGIN...")
@click.option("-U", "--upgrade", is_flag=True, help="Also where some version is installed already.")
@click.option("-e", "--editable", is_flag=True, help="PLUGIN is a folder whose changes take effect without installing.")
@click.pass_context
def command(ctx: click.Context, /, what: tuple[str, ...], upgrade: bool, editable: bool) -> None:
    """Install plugins beside llmgate: a name, a wheel, a folder, or an address such as git+https://...

    Runs pip, or uv where it made the environment, whose settings count and whose words are shown. llmgate-core stays
    as it is. Shows what the plugins bring, and what to write into the configuration.
    """
    for one in what:
        installer.refuse_unlisted(one, admitted(None)["allow"])
    before, others = plugins_here(), distributions_here()
    with tempfile.TemporaryDirectory(prefix="llmgate-install-") as folder:
        constraints = Path(folder, "constraints.txt")
        constraints.write_text(f"{installer.CORE}=={version(installer.CORE)}\n", encoding="utf-8")
        call = installer.install_command(installer.look(), what, constraints, editable=editable, upgrade=upgrade)
        run(call, f"nothing was installed, see above why; llmgate-core stays at {version(installer.CORE)}")
    rows = [row for row in described() if (row["name"], row["distribution"], row["version"]) not in before]
    if not rows:
        refuse_others(distributions_here() - others)
        click.echo("No plugin or version of one is new; `llmgate plugins` shows what is here.")
        return
    from ..report import print_plugins

    print_plugins(rows)
    for line in usage(rows):
        click.echo(line)
    if any(row["problem"] for row in rows):
        ctx.exit(EXIT_FAILED)


def run(call: Sequence[str], otherwise: str) -> None:
    """Runs the installer with our input and output; raises StartRefused with `otherwise` where it fails."""
    sys.stdout.flush()
    status = subprocess.run(call, check=False).returncode  # noqa: S603 - a list, no shell: what the user asked for
    if status:
        raise StartRefused(f"the installer ended with status {status}: {otherwise}", EXIT_FAILED)


def plugins_here() -> set[tuple[str, str, str]]:
    """Name, distribution and version of every plugin that is here."""
    from ..installed import discover

    return {(one.name, one.distribution, one.version) for one in discover()}


def distributions_here() -> set[str]:
    """The names of all distributions that are here, plugins or not."""
    importlib.invalidate_caches()
    return {found.name for found in distributions() if found.metadata["Name"]}


def refuse_others(new: Collection[str]) -> None:
    """Raises StartRefused where something was installed, and no plugin with it: a wrong name, perhaps a stranger's."""
    if new:
        told = f"no plugin of llmgate came with what was installed ({', '.join(sorted(new))})"
        raise StartRefused(f"{told}. Is the name right? Remove what you did not mean to have", EXIT_FAILED)


def described() -> Rows:
    """What `llmgate plugins --json` tells, in a fresh process: this one has read the path before the installation."""
    call = [sys.executable, "-P", "-m", "llmgate_core", "plugins", "--json"]
    environ = {name: value for name, value in os.environ.items() if name != "LLMGATE_PLUGIN"}
    told = subprocess.run(call, check=False, capture_output=True, encoding="utf-8", env=environ)  # noqa: S603 - ours
    try:
        rows: Rows = [row for row in json.loads(told.stdout) if row["distribution"] != installer.CORE]
    except ValueError:
        click.echo(told.stderr, err=True, nl=False)
        raise StartRefused("it is installed, but `llmgate plugins` failed; see above", EXIT_FAILED) from None
    return rows


def usage(rows: Rows) -> Iterator[str]:
    """What to write into the configuration so that these plugins are used; nothing for those that cannot be."""
    usable = [row for row in rows if not row["problem"]]
    connectors = [name for row in usable for name in row["brings"].get("connectors", ())]
    needed = {name: keys for row in usable for name, keys in row["required"].items()}
    of_policies = {name: keys for row in usable for name, keys in row["required_of_policies"].items() if keys}
    others = [row["name"] for row in usable if not row["brings"].get("connectors")]
    if not usable:
        return
    yield ""
    yield "To use it, write into the configuration:"
    yield ""
    if connectors:
        yield "backends:"
    for name in connectors:
        keys = needed.get(name, ())
        yield f"  {name}:" if keys else f"  {name}: {{}}"
        yield from ["    extra:"] * bool(keys)
        yield from (f"      {key}: ..." for key in keys)
    if others or of_policies:
        yield "plugins:"
    if others:
        yield f"  load: [{', '.join(others)}]"
    yield from ["  settings:"] * bool(of_policies)
    for name, keys in of_policies.items():
        yield f"    {name}:"
        yield from (f"      {key}: ..." for key in keys)
    yield ""
    yield "`llmgate check` says what is still missing; a gateway that runs needs SIGHUP, or a restart."
