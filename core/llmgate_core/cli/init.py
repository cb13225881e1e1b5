"""`llmgate init`: a configuration to start from, made of what this machine has, or of three answers."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import EXIT_FAILED, EXIT_USAGE, StartRefused, configuration
from .questions import ask_key, ask_model, ask_provider, key_place

if TYPE_CHECKING:
    from ..first_files import Choice
    from ..presets import Found, Offer

    Servers = Mapping[str, Sequence[str]]

SECONDS = 0.3
"""How long a server on this machine has to say which models it has."""

NOTHING_FOUND = (
    "no provider's key is in the environment and no model server answers on this machine; name a provider with "
    "`--provider` (`llmgate init --list` shows them), or leave out `--yes` and answer three questions"
)


@click.command("init")
@click.option("--provider", "names", multiple=True, metavar="NAME", help="Set up this one, found or not. Repeatable.")
@click.option("--key", callback=key_place, metavar="PLACE", help="Where the provider's key is: env:NAME or file:PATH.")
@click.option("--model", metavar="MODEL", help="What the model name `default` shall stand for.")
@click.option("--yes", is_flag=True, help="Ask nothing; refuse where there is nothing to go by.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("config"),
    help="Where to write (default: config).",
)
@click.option("--force", is_flag=True, help="Replace files that are there; the old ones are kept as FILE.bak.")
@click.option("--list", "lists", is_flag=True, help="Show the providers that can be set up, and write nothing.")
def command(
    names: Sequence[str], key: str | None, model: str | None, yes: bool, folder: Path, force: bool, lists: bool
) -> None:
    """Write a configuration to start from.

    Every provider whose key is in the environment, and every model server that answers on this machine, becomes a
    backend. Where there is none, three questions are asked. Keys are never written, only where they are.
    """
    from ..first_files import MAIN, Choice, written
    from ..presets import default_model, is_model

    if model is not None and not is_model(model):
        raise click.UsageError("`--model` takes the name of one model, without space")
    offers = offers_of_plugins()
    if lists:
        print_offers(offers)
        return
    if not force:
        refuse_existing(folder / MAIN)  # before all questions: the answers would be for nothing
    wanted = [named(name, offers) for name in dict.fromkeys(names)]
    servers = servers_here(wanted or offers)
    choices = [Choice(offer) for offer in wanted] or choices_found(offers, servers)
    asks = not choices
    if asks:
        choices = [asked(offers, key, yes)]
    elif key is not None:
        choices = [with_key(choices, key)]
    proposed = model or default_model(choices[0].offer, servers)
    chosen = ask_model(proposed) if asks and model is None else proposed
    before = configuration.find({}).main
    write(folder / MAIN, written(choices, chosen, has_schema=(folder / "schemas" / "config.json").exists()))
    print_end(folder, choices, chosen, before)


# --- which ------------------------------------------------------------------------------------------------------------


def offers_of_plugins() -> list[Offer]:
    """What all installed plugins offer; what is wrong with an offer is told and left out."""
    from ..plugins import load_all
    from ..presets import offered

    offers, problems = offered(load_all(block=configuration.blocked(None)).connectors)
    for problem in problems:
        click.echo(f"llmgate: {problem}", err=True)
    return offers


def named(name: str, offers: Sequence[Offer]) -> Offer:
    """The offer of this name; raises UsageError, with what was probably meant."""
    from ..settings import did_you_mean

    by_name = {offer.preset.name: offer for offer in offers}
    if name in by_name:
        return by_name[name]
    close = did_you_mean(name, by_name)
    way_out = f"did you mean `{close}`?" if close else "`llmgate init --list` shows them"
    raise click.UsageError(f"no such provider; {way_out}")


def choices_found(offers: Sequence[Offer], servers: Servers) -> list[Choice]:
    """A backend for everything that is here."""
    from ..first_files import Choice
    from ..presets import look

    found = look(offers, os.environ, servers)
    tell_strangers(found)
    return [Choice(offer, twins=found.twins.get(offer.preset.name, ())) for offer in found.offers]


def asked(offers: Sequence[Offer], key: str | None, yes: bool) -> Choice:
    """The backend that somebody chooses, with its key; raises StartRefused where nobody shall be asked."""
    from ..first_files import Choice

    if yes:
        raise StartRefused(NOTHING_FOUND, EXIT_USAGE)
    offer = ask_provider(offers)
    if key is None and offer.preset.variable is not None:
        key = ask_key(offer.preset)
    return Choice(offer, key)


def with_key(choices: Sequence[Choice], key: str) -> Choice:
    """The only backend with its key there; raises UsageError where `key` could be several backends'."""
    if len(choices) > 1:
        found = ", ".join(choice.offer.preset.name for choice in choices)
        raise click.UsageError(f"`--key` is for one provider; name it with `--provider` (here are {found})")
    return dataclasses.replace(choices[0], key=key)


def tell_strangers(found: Found) -> None:
    """A key that goes with another address is not the provider's; it must not be sent there."""
    for offer, variable in found.strangers:
        told = f"{offer.preset.variable} is left alone: {variable} says that it is not {offer.preset.title}'s"
        click.echo(f"{told}; `--provider {offer.preset.name}` takes it all the same", err=True)


# --- servers on this machine ------------------------------------------------------------------------------------------


def servers_here(offers: Sequence[Offer]) -> Servers:
    """The models of every server that answers, by the address that was asked; all are asked at once."""
    from .serve import run

    probed = {offer.preset.probe: offer.preset.owner for offer in offers if offer.preset.probe is not None}
    found: dict[str, Sequence[str]] = {}

    async def ask_all() -> None:
        answers = await asyncio.gather(*(models_at(url, owner) for url, owner in probed.items()))
        found.update({url: models for url, models in zip(probed, answers, strict=True) if models is not None})

    if probed:
        run(ask_all())
    return found


async def models_at(url: str, owner: str | None) -> list[str] | None:
    """What a server lists; None where none answers in time, or it is another one."""
    from ..errors import ConnectorError
    from ..presets import models_listed
    from ..upstream import Timeouts, Upstream
    from ..wire import JsonError, decode

    upstream = Upstream({})  # directly, as in `running.get`
    try:
        async with asyncio.timeout(SECONDS):
            reply = await upstream.client(Timeouts()).send("GET", url)
            content = decode(await reply.read())
    except (TimeoutError, ConnectorError, JsonError):
        return None
    finally:
        await upstream.aclose()
    return models_listed(content, owner) if reply.status == 200 else None


# --- writing ----------------------------------------------------------------------------------------------------------


def refuse_existing(path: Path) -> None:
    """Raises StartRefused where the file is there already; nobody's configuration is overwritten."""
    if os.path.lexists(path):
        told = f"{shown(path)} is there already; nothing was written"
        raise StartRefused(f"{told}. `--force` keeps what was there as .bak, `--dir` writes elsewhere", EXIT_USAGE)


def write(path: Path, text: str) -> None:
    """Writes the file in one step; one that is replaced is kept beside it."""
    from ..credential_files import write_private_file

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            write_private_file(path.with_name(f"{path.name}.bak"), path.read_bytes())
        write_private_file(path, text.encode())
    except OSError as error:
        reason = (error.strerror or "it failed").lower()
        raise StartRefused(f"cannot write {shown(path)}: {reason}", EXIT_FAILED) from None


# --- telling ----------------------------------------------------------------------------------------------------------


def print_offers(offers: Sequence[Offer]) -> None:
    """A table of what can be set up."""
    from ..report import print_table

    rows = [
        [offer.preset.name, offer.preset.title, offer.preset.variable or "no key", offer.connector] for offer in offers
    ]
    print_table(["--provider", "provider", "key", "connector"], rows)


def print_end(folder: Path, choices: Sequence[Choice], model: str | None, before: Path | None) -> None:
    """What was written, and what to type next.

    Args:
        model: what an agent shall ask for; otherwise it would get the first that is listed, whatever that can do.
        before: the main file that was found in this folder until now.
    """
    from ..first_files import MAIN

    click.echo(f"wrote {shown(folder / MAIN)}")
    for choice in choices:
        click.echo(f"  {choice.offer.short:<12} {described(choice)}")
    flags = config_flags(folder)
    if before is not None and not flags and not before.samefile(folder / MAIN):
        click.echo(f"in this folder it takes the place of {shown(before)}")
    click.echo("next:")
    for line in [*missing_keys(choices), f"llmgate serve{flags}"]:
        click.echo(f"  {line}")
    asks_for = f" --model {shlex.quote(f'{choices[0].offer.short}:{model}')}" if model else ""
    click.echo(f"  llmgate connect claude-code{asks_for}{flags}   # in a second terminal; or another agent")


def described(choice: Choice) -> str:
    """A backend in a few words."""
    place = choice.place
    return choice.offer.preset.title + (f", key in {place.partition(':')[2]}" if place else "")


def missing_keys(choices: Sequence[Choice]) -> list[str]:
    """How the keys that are not there yet get there."""
    from ..settings import MissingSecret, Secret

    lines: dict[str, None] = {}
    for choice in choices:
        place = choice.place
        link = f"   # get one at {choice.offer.preset.link}" if choice.offer.preset.link else ""
        if place is None:
            continue
        try:
            Secret(place).reveal(os.environ)
        except MissingSecret:
            scheme, _, name = place.partition(":")
            lines[f"export {name}=...{link}" if scheme == "env" else f"# write the key into {name}{link}"] = None
    return list(lines)


def config_flags(folder: Path) -> str:
    """What other commands need so that they find the files."""
    from ..first_files import MAIN

    told = os.environ.get("LLMGATE_CONFIG")
    found = configuration.find({"config": Path(told) if told else None}).main
    if found is not None and found.exists() and found.samefile(folder / MAIN):
        return ""
    return f" --config {shlex.quote(shown(folder / MAIN))}"


def shown(path: Path) -> str:
    """A path for the terminal."""
    from ..report import printable

    return printable(str(path)).replace("\n", "?")
