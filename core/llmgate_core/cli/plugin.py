"""`llmgate plugin`: begin a plugin of one's own, and see whether a connector keeps its promises."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from . import EXIT_FAILED, SuggestingGroup


@click.group("plugin", cls=SuggestingGroup)
def command() -> None:
    """Start a plugin of your own, and test one."""


@command.command("new", short_help="Write a complete package to begin with.")
@click.argument("name")
@click.option(
    "--dir",
    "where",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Where the package's folder is made; by default here.",
)
def new(name: str, where: Path) -> None:
    """Write the package llmgate-NAME: a connector with settings, its tests, README, pyproject.toml, and a CI file.

    NAME is the connector's, such as `acme` or `acme-cloud`. Nothing that is there is overwritten.
    """
    from importlib.metadata import version

    from ..new_plugin import NewPlugin, write

    made = NewPlugin(name)
    warning = rival(name)
    folder, texts = where / made.distribution, made.texts(version("llmgate-core"))
    write(texts, folder)
    for path in sorted(texts):
        click.echo(f"wrote {folder / path}")
    if warning:
        click.echo(f"llmgate: {warning}", err=True)
    click.echo(f"""
Yours to write: the API's address in {made.package}/__init__.py, the licence in pyproject.toml. Then
  cd {shlex.quote(str(folder))}
  llmgate plugin test .                   which promises the connector keeps
  python -m pip install -e ".[dev]"       from then on llmgate knows `{name}`; the key is in {made.variable}
  python -m pytest""")


def rival(name: str) -> str:
    """What to know where an installed plugin has this name already; empty where none has. Imports none of them.

    Raises:
        PluginError: llmgate itself brings a connector of this name, beside which no other can be used.
    """
    from ..errors import PluginError
    from ..installed import discover
    from ..plugins import load

    if name in load(()).connectors:
        raise PluginError(f"`{name}` is a connector of llmgate itself; choose another NAME")
    owners = [f"`{one.distribution}` {one.version}" for one in discover() if one.name == name]
    if not owners:
        return ""
    return f"the plugin `{name}` of {' and '.join(owners)} is installed; only one of this name can be used at a time"


def pair(sort: Callable[[str], Any]) -> Callable[..., dict[str, Any]]:
    """A click callback that makes a mapping of what was written as NAME=VALUE."""

    def callback(_: click.Context, option: click.Parameter, given: Iterable[str]) -> dict[str, Any]:
        found = {}
        for text in given:
            name, equals, value = text.partition("=")
            if not (name and equals):  # the text is not repeated: it may be a key that was pasted alone
                raise click.BadParameter(f"write {option.metavar}", param=option)
            found[name] = sort(value)
        return found

    return callback


def value_of(text: str) -> Any:
    """A value as JSON has it (`true`, `3`, `["a"]`), else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


@command.command("test", short_help="Say which promises a connector keeps.")
@click.argument("package")
@click.option("--extra", multiple=True, metavar="KEY=VALUE", callback=pair(value_of), help="A setting of `extra:`.")
@click.option(
    "--env",
    "environ",
    multiple=True,
    metavar="NAME=VALUE",
    callback=pair(str),
    help="A variable that the connector sees, with a made-up value of 8 signs or more.",
)
@click.option("--model", help="The model that requests ask for.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
@click.pass_context
def test(
    ctx: click.Context,
    package: str,
    extra: Mapping[str, Any],
    environ: Mapping[str, str],
    model: str | None,
    as_json: bool,
) -> None:
    """Try whether the connectors of PACKAGE keep what every connector promises. No provider is asked.

    PACKAGE is a connector's name, a distribution, a .py file, or a package's folder. The package's own suites are used,
    in tests/test_conformance.py or its module `conformance`; secrets that nobody sets are made up.

    Ends with status 1 if a promise is broken, 2 if nothing could be tried.
    """
    from .plugin_trial import Trial

    told: list[dict[str, Any]] = []
    with Trial({"package": package, "extra": extra, "environ": environ, "model": model}) as trial:
        for suite, rows in trial.suites():
            if as_json:
                told.append({**suite, "promises": list(rows)})
            else:
                from ..report import print_promises

                told.append({"promises": print_promises(f"{suite['connector']}, {trial.origin}", rows)})
                if suite["suite"] is None and _is_broken(told[-1]):
                    click.echo(BARE)
    if as_json:
        report = json.dumps({"package": trial.origin, "connectors": told}, indent=2, ensure_ascii=False)
        # Half a surrogate pair cannot be encoded; escaped, it is what JSON would have it.
        click.echo(report.encode("utf-8", "backslashreplace").decode())
    if any(map(_is_broken, told)):
        ctx.exit(EXIT_FAILED)


BARE = """
The suite knew no more of this connector than its class. What is broken may be what it was not told: a setting, a
variable, a file, or an upstream that speaks in a form of its own. Options say the first two; a suite of the package's
own says all, in tests/test_conformance.py of its folder, or in its module `conformance`."""


def _is_broken(told: Mapping[str, Any]) -> bool:
    return any(row["broken"] for row in told["promises"])
