"""Providers that can be set up without knowing anything: who offers which, what is wrong with an offer, what is here.

A connector offers presets by its class method `presets()`. What `llmgate init` then writes is in `first_files`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from .backend_sections import TYPE
from .config import decode_extra
from .connectors import Connector, Preset
from .plugins import settings_type
from .sections import BackendConfig
from .settings import Meta, decode

LOOPBACK = ("127.0.0.1", "localhost", "::1")

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Offer:
    """A preset and the connector that offers it."""

    connector: str
    preset: Preset

    @property
    def instance(self) -> str:
        """The instance's name: the preset's, which is its alias too."""
        name = self.preset.name
        return "default" if name == self.connector else name

    @property
    def backend(self) -> str:
        """`type.instance`, the full name of the backend."""
        return f"{self.connector}.{self.instance}"

    @property
    def short(self) -> str:
        """The backend's name in a selector."""
        return self.preset.name

    def settings(self, place: str | None = None) -> dict[str, Any]:
        """What stands under `extra:`.

        Args:
            place: where the key is, `env:NAME` or `file:PATH`; by default in the usual variable, if there is one.
        """
        usual = f"env:{self.preset.variable}" if self.preset.variable else None
        found = place or usual
        return {**self.preset.extra, **({self.preset.key: found} if found else {})}


# --- core's own -------------------------------------------------------------------------------------------------------

Text = Annotated[str, Meta(min_length=1)]


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """One `[[preset]]` of core's data file: a Preset, whose it is, and where it is known from."""

    connector: Text
    name: Text
    title: Text
    source: Text
    link: Text
    extra: dict[str, Any] = field(default_factory=dict)
    variable: Text | None = None
    elsewhere: tuple[Text, ...] = ()
    model: Text | None = None
    probe: Text | None = None
    owner: Text | None = None


@dataclass(frozen=True)
class _File:
    preset: tuple[_Entry, ...]


def read(text: str) -> tuple[Offer, ...]:
    """The presets in a TOML text, `[[preset]]` with `connector`, `source` and the fields of Preset.

    Raises:
        ValueError: it is no such text; says what is wrong where.
    """
    import tomllib  # here, because most commands need no presets

    file, faults = decode(_File, tomllib.loads(text), prefix="")
    if file is None:
        raise ValueError("; ".join(message for _, message in faults))
    names = [entry.name for entry in fields(Preset) if entry.name != "key"]
    return tuple(
        Offer(entry.connector, Preset(**{name: getattr(entry, name) for name in names})) for entry in file.preset
    )


@cache
def _own() -> tuple[Offer, ...]:
    return read((Path(__file__).parent / "presets.toml").read_text(encoding="utf-8"))


def own(connector: str) -> tuple[Preset, ...]:
    """The presets of one of the connectors that llmgate brings itself."""
    return tuple(offer.preset for offer in _own() if offer.connector == connector)


def in_order(offers: Iterable[Offer]) -> list[Offer]:
    """Those with a key before servers on this machine; core's own in the order of its file, then those of plugins."""
    places = {offer: place for place, offer in enumerate(map(_id, _own()))}
    return sorted(offers, key=lambda offer: (offer.preset.variable is None, places.get(_id(offer), len(places))))


def _id(offer: Offer) -> tuple[str, str]:
    return offer.connector, offer.preset.name


# --- asking connectors ------------------------------------------------------------------------------------------------


def offered(connectors: Mapping[str, type[Connector]]) -> tuple[list[Offer], list[str]]:
    """What these connectors offer, in order, and in words what was left out because something is wrong with it."""
    offers: list[Offer] = []
    told: list[str] = []
    for name, cls in connectors.items():
        if not hasattr(cls, "presets"):
            continue
        try:
            for preset in cls.presets():
                faults = faults_of(cls, preset)
                told += [f"preset `{preset_name(preset)}` of connector `{name}`: {fault}" for fault in faults[:1]]
                offers += [] if faults else [Offer(name, preset)]
        except Exception as error:  # plugin code: it must not keep others from being offered
            told.append(f"the presets of connector `{name}` cannot be had: it raised `{type(error).__name__}`")
    names: dict[str, Offer] = {}
    for offer in offers:
        if names.setdefault(offer.preset.name, offer) is not offer:
            told.append(f"preset `{offer.preset.name}` of connector `{offer.connector}`: there is one of that name")
    return in_order(names.values()), told


def preset_name(preset: Any) -> str:
    """A name to speak of what may be no preset at all."""
    name = getattr(preset, "name", None)
    return name if isinstance(name, str) and TYPE.fullmatch(name) else "?"


def faults_of(cls: type[Connector], preset: Any) -> list[str]:
    """Everything that is wrong with a preset of the connector `cls`, in words that hold no value of `extra`."""
    if not isinstance(preset, Preset):
        return [f"must be a `Preset`, and is a `{type(preset).__name__}`"]
    found = [told for wrong, told in _rules(preset) if wrong]
    _, problems = decode_extra(BackendConfig(cls.name, extra=Offer(cls.name, preset).settings()), settings_type(cls))
    return [*found, *(f"its `extra` does not decode: {problem.message}" for problem in problems)]


def _rules(preset: Preset) -> list[tuple[bool, str]]:
    texts = (preset.title, preset.link, preset.model or "-")
    return [
        (preset_name(preset) == "?", "its `name` may hold letters, digits, `-` and `_` only"),
        (
            not preset.title or not all(map(str.isprintable, texts)),
            "its texts must be printable, and `title` not empty",
        ),
        (
            preset.variable is not None and not _VARIABLE.fullmatch(preset.variable),
            "its `variable` must be the name of an environment variable",
        ),
        (
            preset.variable is not None and preset.key in preset.extra,
            "its `extra` must not hold the key's setting: `variable` says where the key is",
        ),
        (preset.model is not None and not is_model(preset.model), "its `model` must be a name without space"),
        (preset.probe is not None and not _is_here(preset.probe), "its `probe` must be an address on this machine"),
    ]


def is_model(name: str) -> bool:
    """Whether a text can stand for one model in `default_backend`."""
    return name.isprintable() and bool(name) and not any(sign.isspace() for sign in name)


def _is_here(url: str) -> bool:
    """Nothing may be asked elsewhere: who only wants a configuration has not agreed to that."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname in LOOPBACK and "@" not in parts.netloc


# --- what is here -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What this machine has to offer.

    Args:
        offers: each with its usual variable set, or a server that answers; one for each variable.
        twins: others with the same variable as one of `offers`, by that one's name.
        strangers: offers whose variable is set, and is another provider's by the variable named beside it.
    """

    offers: tuple[Offer, ...] = ()
    twins: Mapping[str, tuple[Offer, ...]] = field(default_factory=dict)
    strangers: tuple[tuple[Offer, str], ...] = ()


def look(offers: Sequence[Offer], environ: Mapping[str, str], servers: Mapping[str, Sequence[str]]) -> Found:
    """What of `offers` is here.

    Args:
        servers: the models of the servers that answer, by the address that was asked.
    """
    by_variable: dict[str, list[Offer]] = {}
    strangers: list[tuple[Offer, str]] = []
    for offer in offers:
        variable = offer.preset.variable
        if variable is None or not environ.get(variable, "").strip():
            continue
        if (other := _elsewhere(offer.preset, environ)) is None:
            by_variable.setdefault(variable, []).append(offer)
        else:
            strangers.append((offer, other))
    firsts = [same[0] for same in by_variable.values()]
    local = [offer for offer in offers if offer.preset.variable is None and offer.preset.probe in servers]
    twins = {same[0].preset.name: tuple(same[1:]) for same in by_variable.values() if len(same) > 1}
    return Found((*firsts, *local), twins, tuple(strangers))


def _elsewhere(preset: Preset, environ: Mapping[str, str]) -> str | None:
    """The variable that says that the key is for another address than the preset's."""
    own_address = str(preset.extra.get("base_url", "")).rstrip("/")
    for variable in preset.elsewhere:
        if (address := environ.get(variable, "").strip().rstrip("/")) and address != own_address:
            return variable
    return None


def models_listed(content: Any, owner: str | None) -> list[str] | None:
    """The models in a server's list; None where it is no such list, or another owner's."""
    try:
        entries = [entry for entry in content["data"] if entry["id"].isprintable()]
        if owner is not None and not any(entry["owned_by"] == owner for entry in entries):
            return None
    except (KeyError, TypeError, AttributeError):
        return None
    return [entry["id"] for entry in entries]


def default_model(offer: Offer, servers: Mapping[str, Sequence[str]]) -> str | None:
    """What `default` shall stand for: the preset's model, else the server's first that is not named for embeddings."""
    listed = servers.get(offer.preset.probe or "", ())
    return offer.preset.model or next((one for one in listed if "embed" not in one.lower() and is_model(one)), None)
