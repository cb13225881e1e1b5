"""The text of the file that `llmgate init` writes: a short configuration, with comments where one goes on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .presets import LOOPBACK, Offer
from .sections import ServerConfig

MAIN = "config.yaml"

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_.:/@-]*[A-Za-z0-9]")
"""Texts that YAML reads as they are. A colon is none of YAML's unless space follows it."""

_WORDS = ("true", "false", "null", "yes", "no", "on", "off")


@dataclass(frozen=True)
class Choice:
    """One backend that shall be written.

    Args:
        key: where its key is, `env:NAME` or `file:PATH`; None where the preset says it, or there is none.
        twins: presets with the same variable, for accounts elsewhere.
    """

    offer: Offer
    key: str | None = None
    twins: Sequence[Offer] = ()

    @property
    def place(self) -> str | None:
        """Where its key is, if it has one."""
        found: str | None = self.offer.settings(self.key).get(self.offer.preset.key)
        return found


def written(choices: Sequence[Choice], model: str | None, *, has_schema: bool = False) -> str:
    """The text of the main file.

    Args:
        choices: at least one; the first serves models that name no backend.
        model: what the model name `default` shall stand for, if anything.
        has_schema: its JSON Schema lies beside it, for the editor.
    """
    first = choices[0].offer.short
    lines = ["# yaml-language-server: $schema=schemas/config.json"] if has_schema else []
    lines += [
        "# Written by `llmgate init`. `llmgate check` tells what is wrong here; every other key keeps its default.",
        "",
        "# Who serves a model without a backend: `some-model` means the same as",
        f"# `{first}:some-model`." + (f" The model name `default` means `{model}`." if model else ""),
    ]
    if model is None:
        lines.append(f"# With a model behind it, `{first}:MODEL`, the model name `default` means that one.")
    lines.append(f"default_backend: {scalar(f'{first}:{model}' if model else first)}")
    if port := _port(choices):
        lines += ["", f"server: {{port: {port}}}   # {ServerConfig.port} is where a backend listens"]
    lines += ["", "# Keys are not in here, only where they are.", "backends:"]
    lines += [line for choice in choices for line in _backend(choice)]
    return "\n".join([*lines, *_failover(choices, model), ""])


def _failover(choices: Sequence[Choice], model: str | None) -> list[str]:
    """How a route is written that goes on where a backend fails; a comment, as its models are the operator's choice."""
    if len(choices) < 2:
        return []
    models = [model or "MODEL", *(choice.offer.preset.model or "MODEL" for choice in choices[1:])]
    route = "|".join(f"{choice.offer.short}:{name}" for choice, name in zip(choices, models, strict=True))
    return [
        "",
        "# A name to ask for that goes from backend to backend: where one fails, the next is asked.",
        "# failover_routes:",
        f"#   with-backup: {json.dumps(route, ensure_ascii=False)}",
    ]


def _port(choices: Sequence[Choice]) -> int | None:
    """Another port than the usual one, where a backend on this machine has that."""
    taken = {_port_here(choice.offer.preset.extra) for choice in choices}
    if ServerConfig.port not in taken:
        return None
    return next(port for port in range(ServerConfig.port + 1, 65536) if port not in taken)


def _port_here(extra: Mapping[str, Any]) -> int | None:
    try:
        parts = urlsplit(str(extra.get("base_url", "")))
        return parts.port if parts.hostname in LOOPBACK else None
    except ValueError:
        return None


def _backend(choice: Choice) -> list[str]:
    offer, preset = choice.offer, choice.offer.preset
    lines = [f"  # {preset.title}: ask for `{offer.short}:MODEL`."]
    if preset.variable is not None and preset.link:
        lines.append(f"  # Keys: {preset.link}")
    lines += [f"  # For {twin.preset.title}, write `{_differences(twin, offer)}`." for twin in choice.twins]
    lines += [f"  {offer.short}:", f"    type: {offer.connector}"]
    if settings := offer.settings(choice.key):
        lines += ["    extra:", *(f"      {key}: {scalar(value)}" for key, value in settings.items())]
    return lines


def _differences(twin: Offer, offer: Offer) -> str:
    mine = offer.settings()
    other = {key: value for key, value in twin.settings().items() if mine.get(key) != value}
    return ", ".join(f"{key}: {scalar(value)}" for key, value in other.items())


def scalar(value: Any) -> str:
    """A value as YAML on one line; JSON where a plain text could be read as something else."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)
