"""Which running gateway a command means, and how it is asked: what `status` and `connect` have in common."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import click

from . import EXIT_FAILED, EXIT_USAGE, StartRefused, configuration

if TYPE_CHECKING:
    from ..config import GatewayConfig

F = TypeVar("F", bound=Callable[..., Any])

OTHER_PLACES = "if it listens elsewhere, say where with `--config`, `--port` or `--url`"
OTHER_KEYS = "give one of its keys with `--api-key` or LLMGATE_API_KEYS"


@dataclass(frozen=True)
class Asked:
    """Which gateway is asked, and with which key, None where none is known."""

    url: str
    key: str | None

    @property
    def headers(self) -> dict[str, str]:
        """What proves that we may ask."""
        return {"authorization": f"Bearer {self.key}"} if self.key else {}


def options(function: F) -> F:
    """The flags that say which gateway is meant."""
    url = click.option(
        "--url", metavar="URL", help="The gateway's address; then no file is read, and --host and --port not used."
    )
    return configuration.options(configuration.address_options(url(function)))


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


async def get(asked: Asked, path: str, seconds: float) -> tuple[int, bytes]:
    """HTTP status and body of the answer; raises StartRefused where there is none in time."""
    from ..errors import ConnectorError
    from ..upstream import Timeouts, Upstream

    upstream = Upstream({})  # directly: a proxy of the environment has no business with the gateway's key
    try:
        async with asyncio.timeout(seconds):
            reply = await upstream.client(Timeouts()).send("GET", asked.url + path, headers=asked.headers)
            return reply.status, await reply.read()
    except TimeoutError:
        raise StartRefused(f"{asked.url} did not answer within {seconds:g} s; {OTHER_PLACES}", EXIT_FAILED) from None
    except ConnectorError as error:
        told = f"no gateway answers ({error.message}). Start it with `llmgate serve`; {OTHER_PLACES}"
        raise StartRefused(told, EXIT_FAILED) from None
    finally:
        await upstream.aclose()


def check_key(status: int, asked: Asked) -> None:
    """Raises StartRefused where the gateway wants another key."""
    if status == 401:
        wrong = "does not take the key that was found for it" if asked.key else "wants a key, and none was found for it"
        raise StartRefused(f"the gateway at {asked.url} {wrong}; {OTHER_KEYS}", EXIT_FAILED)


def message_of(content: Any) -> str | None:
    """The message of an error in the gateway's shape, on one line and harmless to a terminal."""
    from ..report import printable

    error = content.get("error") if isinstance(content, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return printable(message[:500]).replace("\n", " ") if isinstance(message, str) else None
