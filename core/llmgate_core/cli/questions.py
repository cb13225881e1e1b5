"""The three questions of `llmgate init`. Each has a default, and takes answers from a pipe as well as from a person."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from . import EXIT_USAGE, StartRefused

if TYPE_CHECKING:
    from ..connectors import Preset
    from ..presets import Offer

NO_ANSWER = (
    "nothing was found on this machine, and nobody answers here. Name a provider with `--provider` "
    "(`llmgate init --list` shows them); `--key` and `--model` stand for the other questions"
)

_VARIABLE = re.compile(r"[A-Z][A-Z0-9]*_[A-Z0-9_]*")
"""What can be meant as a variable's name without saying so. Lower case could be a key, as could a single word."""


def ask_provider(offers: Sequence[Offer]) -> Offer:
    """Which provider, by number or name; the first is the default."""
    for number, offer in enumerate(offers, 1):
        click.echo(f"{number:>3}  {offer.preset.name:<16}  {offer.preset.title}", err=True)
    by_answer = {str(number): offer for number, offer in enumerate(offers, 1)}
    by_answer |= {offer.preset.name: offer for offer in offers}

    def convert(text: str) -> Offer:
        if text.strip() not in by_answer:
            raise click.BadParameter("one of the numbers or names above")
        return by_answer[text.strip()]

    chosen: Offer = _prompt("Which provider?", offers[0].preset.name, convert)
    return chosen


def ask_key(preset: Preset) -> str:
    """Where the key is, as `env:NAME` or `file:PATH`."""
    if preset.link:
        click.echo(f"One gets a key at {preset.link}", err=True)
    place: str = _prompt("Where is the key, env:NAME or file:PATH? (Not the key!)", f"env:{preset.variable}", as_place)
    return place


def ask_model(proposed: str | None) -> str | None:
    """What the model name `default` stands for; None for nothing."""
    from ..presets import is_model

    def convert(text: str) -> str | None:
        name = text.strip()
        if name and name != "none" and not is_model(name):
            raise click.BadParameter("the name of one model, without space")
        return None if name in ("", "none") else name

    model: str | None = _prompt("Which model is asked for as `default`?", proposed or "none", convert)
    return model


def as_place(text: str) -> str:
    """`env:NAME` or `file:PATH` out of an answer; raises BadParameter, without repeating what may be a key."""
    from ..settings import Secret

    place = text.strip()
    if _VARIABLE.fullmatch(place):
        place = f"env:{place}"
    elif place.startswith(("/", "./", "~/")):
        place = f"file:{place}"
    try:
        is_plain = Secret(place).is_plain
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if is_plain:
        raise click.BadParameter("`env:NAME` or `file:PATH`: where the key is, never the key itself")
    return place


def key_place(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The same for the flag."""
    return None if value is None else as_place(value)


def _prompt(text: str, default: str, convert: Any) -> Any:
    """One question on standard error; raises StartRefused where the answers have come to their end."""
    try:
        return click.prompt(text, default=default, value_proc=convert, err=True)
    except click.Abort:
        if sys.stdin.isatty():  # Ctrl-C, Ctrl-D
            raise
        click.echo(err=True)
        raise StartRefused(NO_ANSWER, EXIT_USAGE) from None
