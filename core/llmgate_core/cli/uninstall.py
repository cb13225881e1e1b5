"""`llmgate uninstall`: removes plugins from llmgate's own environment, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from . import EXIT_USAGE, StartRefused, installer
from .install import run

if TYPE_CHECKING:
    from ..installed import Installed


@click.command("uninstall")
@click.argument("names", nargs=-1, required=True, metavar="PLUGIN...")
@click.option("-y", "--yes", is_flag=True, help="Without asking.")
def command(names: tuple[str, ...], yes: bool) -> None:
    """Remove plugins, by their own names or those of their distributions. What they depend on stays."""
    from ..installed import discover

    plugins = discover()
    distributions = list(dict.fromkeys(distribution_of(name, plugins) for name in names))
    call = installer.uninstall_command(installer.look(), distributions)
    gone = [one.name for one in plugins if one.distribution in distributions]
    if not yes:
        click.confirm(f"Remove {', '.join(distributions)} (plugins: {', '.join(gone)})?", abort=True)
    run(call, "see above why")
    click.echo(f"A configuration that names {', '.join(gone)} is refused from now on; `llmgate check` says where.")


def distribution_of(name: str, plugins: Iterable[Installed]) -> str:
    """The distribution that is meant, by its name or by the name of a plugin of it.

    Raises:
        StartRefused: it is no plugin, or not clear which.
    """
    from ..installed import normal

    installer.refuse_ours(name)
    matching = [one for one in plugins if name == one.name or normal(name) == normal(one.distribution)]
    found = list(dict.fromkeys(one.distribution for one in matching))
    if not found:
        raise StartRefused(f"no installed plugin is called `{name}`{_guess(name, plugins)}", EXIT_USAGE)
    if len(found) > 1:
        raise StartRefused(f"plugin `{name}` is of {' and '.join(found)}; name the distribution", EXIT_USAGE)
    if normal(found[0]) == normal(installer.CORE) or found[0] == "unknown":
        raise StartRefused(f"plugin `{name}` is not of a distribution that can be removed", EXIT_USAGE)
    return found[0]


def _guess(name: str, plugins: Iterable[Installed]) -> str:
    from ..settings import did_you_mean

    known: Sequence[str] = sorted({word for one in plugins for word in (one.name, one.distribution)})
    close = did_you_mean(name, known)
    return f"; did you mean `{close}`?" if close else "; see `llmgate plugins`"
