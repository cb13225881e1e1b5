"""`llmgate status`: asks a gateway that runs how it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from . import EXIT_FAILED, StartRefused, running
from .running import OTHER_PLACES

if TYPE_CHECKING:
    from .running import Asked

SECONDS = 5.0
"""How long the whole answer may take."""


@click.command("status")
@running.options
@click.option("--json", "as_json", is_flag=True, help="What the gateway answers, as JSON.")
@click.pass_context
def command(ctx: click.Context, /, url: str | None, as_json: bool, **flags: Any) -> None:
    """Ask the running gateway how it is: backends, circuits, rate limits, requests in flight.

    It is looked for where the same flags, environment and files would make `llmgate serve` listen, and asked with the
    first key found there.
    """
    from ..report import print_status, status_lines
    from .serve import run

    asked = running.find(ctx, flags, url)
    status, data = 0, b""

    async def ask() -> None:
        nonlocal status, data
        status, data = await fetch(asked)

    run(ask())
    told = read(status, data, asked)
    try:
        lines, usable = status_lines(told, asked.url), any(backend["ready"] for backend in told["backends"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise StartRefused(no_status(status, asked), EXIT_FAILED) from None
    if as_json:
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        print_status(lines)
    if not usable:
        raise StartRefused("no backend can be used; the lines above say why", EXIT_FAILED)


# --- asking -----------------------------------------------------------------------------------------------------------


async def fetch(asked: Asked) -> tuple[int, bytes]:
    """HTTP status and body of the answer; raises StartRefused where there is none in time."""
    from ..frontends.status import PATH

    return await running.get(asked, PATH, SECONDS)


def read(status: int, data: bytes, asked: Asked) -> dict[str, Any]:
    """The status that was answered; raises StartRefused for an answer that is none, with the way out."""
    from ..wire import JsonError, decode

    try:
        content = decode(data)
    except JsonError:
        content = None
    if status == 200 and isinstance(content, dict):
        return content
    running.check_key(status, asked)
    message = running.message_of(content)
    if status in (200, 404) or message is None:
        raise StartRefused(no_status(status, asked), EXIT_FAILED)
    raise StartRefused(f"the gateway at {asked.url} refuses (HTTP {status}): {message}", EXIT_FAILED)


def no_status(status: int, asked: Asked) -> str:
    """What to say of an answer that no gateway of this version gives."""
    who = "another program, or another version of llmgate"
    return f"what answers at {asked.url} has no status to tell (HTTP {status}): {who}; {OTHER_PLACES}"
