"""`llmgate status`: asks a gateway that runs how it is."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from . import EXIT_FAILED, EXIT_USAGE, StartRefused, configuration

if TYPE_CHECKING:
    from ..config import GatewayConfig

SECONDS = 5.0
"""How long the whole answer may take."""

OTHER_PLACES = "if it listens elsewhere, say where with `--config`, `--port` or `--url`"
OTHER_KEYS = "give one of its keys with `--api-key` or LLMGATE_API_KEYS"


@dataclass(frozen=True)
class Asked:
    """Which gateway is asked, and with which key, None where none is known."""

    url: str
    key: str | None


@click.command("status")
@configuration.options
@configuration.address_options
@click.option(
    "--url", metavar="URL", help="The gateway's address; then no file is read, and --host and --port not used."
)
@click.option("--json", "as_json", is_flag=True, help="What the gateway answers, as JSON.")
@click.pass_context
def command(ctx: click.Context, /, url: str | None, as_json: bool, **flags: Any) -> None:
    """Ask the running gateway how it is: backends, circuits, rate limits, requests in flight.

    It is looked for where the same flags, environment and files would make `llmgate serve` listen, and asked with the
    first key found there.
    """
    from ..report import print_status, status_lines
    from .serve import run

    asked = find(ctx, flags, url)
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


# --- whom to ask ------------------------------------------------------------------------------------------------------


def find(ctx: click.Context, flags: Mapping[str, Any], url: str | None) -> Asked:
    """The gateway that is meant. With a URL no file counts: its keys are those of another gateway, perhaps.

    Raises:
        ConfigError: what is wrong with files, flags and environment.
        StartRefused: the address cannot be known.
    """
    from ..config import Places, load

    given = configuration.overrides(ctx, flags)
    if url is not None:
        keys = {path: override for path, override in given.items() if path[0] == "auth"}
        return Asked(base_of(url), first_key(load(Places(None, None), keys).checked()))
    config = load(configuration.find(flags), given).checked()
    if not config.server.port:
        told = "`server.port` is 0, so that the gateway took a free port: the first line that it printed says which"
        raise StartRefused(f"{told}; ask with `--port` or `--url`", EXIT_USAGE)
    from ..report import base_url

    return Asked(base_url((config.server.host, config.server.port)), first_key(config))


def base_of(url: str) -> str:
    """The address without a slash at its end, and without the `/v1` of a client's base URL.

    Raises:
        UsageError: it is none, or holds what does not belong there; it is not repeated.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or "@" in parts.netloc or parts.query or parts.fragment or not url.isprintable():
        raise click.UsageError(
            "`--url` takes an address such as http://127.0.0.1:8000, without user, password or query"
        )
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def first_key(config: GatewayConfig) -> str | None:
    """The first of the gateway's keys that can be had and sent; a hash is no key."""
    from ..settings import MissingSecret

    for caller in config.auth.callers():
        try:
            key = "" if caller.key.is_hash else caller.key.reveal(os.environ)
        except MissingSecret:
            continue
        if key and key.isascii() and key.isprintable():
            return key
    return None


# --- asking -----------------------------------------------------------------------------------------------------------


async def fetch(asked: Asked) -> tuple[int, bytes]:
    """HTTP status and body of the answer; raises StartRefused where there is none in time."""
    from ..errors import ConnectorError
    from ..frontends.status import PATH
    from ..upstream import Timeouts, Upstream

    headers = {"authorization": f"Bearer {asked.key}"} if asked.key else {}
    upstream = Upstream({})  # directly: a proxy of the environment has no business with the gateway's key
    try:
        async with asyncio.timeout(SECONDS):
            reply = await upstream.client(Timeouts()).send("GET", asked.url + PATH, headers=headers)
            return reply.status, await reply.read()
    except TimeoutError:
        raise StartRefused(f"{asked.url} did not answer within {SECONDS:g} s; {OTHER_PLACES}", EXIT_FAILED) from None
    except ConnectorError as error:
        told = f"no gateway answers ({error.message}). Start it with `llmgate serve`; {OTHER_PLACES}"
        raise StartRefused(told, EXIT_FAILED) from None
    finally:
        await upstream.aclose()


def read(status: int, data: bytes, asked: Asked) -> dict[str, Any]:
    """The status that was answered; raises StartRefused for an answer that is none, with the way out."""
    from ..report import printable
    from ..wire import JsonError, decode

    try:
        content = decode(data)
    except JsonError:
        content = None
    if status == 200 and isinstance(content, dict):
        return content
    error = content.get("error") if isinstance(content, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    if status == 401:
        wrong = "does not take the key that was found for it" if asked.key else "wants a key, and none was found for it"
        raise StartRefused(f"the gateway at {asked.url} {wrong}; {OTHER_KEYS}", EXIT_FAILED)
    if status in (200, 404) or not isinstance(message, str):
        raise StartRefused(no_status(status, asked), EXIT_FAILED)
    told = printable(message[:500]).replace("\n", " ")
    raise StartRefused(f"the gateway at {asked.url} refuses (HTTP {status}): {told}", EXIT_FAILED)


def no_status(status: int, asked: Asked) -> str:
    """What to say of an answer that no gateway of this version gives."""
    who = "another program, or another version of llmgate"
    return f"what answers at {asked.url} has no status to tell (HTTP {status}): {who}; {OTHER_PLACES}"
