"""The configuration: which files were found, what is wrong with them, where secrets are, which models they name."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import selector
from ..config import INSTANCES, GatewayConfig, Places, advise
from ..construction import decode_settings
from ..errors import Problem, SelectorError
from ..plugins import PluginSet
from ..policies.rewrites import compile_rule
from ..rewrite_sections import KEY
from ..secret import MissingSecret, Secret
from ..selector import Leaf
from .findings import Finding, advice, fail, ok

# --- files ------------------------------------------------------------------------------------------------------------


def usual_places(cwd: Path, home: Path) -> tuple[Path, ...]:
    """Where files are looked for, unless flags name others; see `config.find_places`."""
    folders = (cwd / "config", home / ".config" / "llmgate")
    return tuple(folder / name for folder in folders for name in ("config.yaml", INSTANCES))


def look_at_files(places: Places, usual: Iterable[Path], *, enough: bool) -> list[Finding]:
    """Which files are used, and which are there and are not.

    Args:
        enough: whether flags or variables name a backend, which needs no file.
    """
    used = [path for path in (places.main, places.instances) if path is not None]
    found = [ok("the main file", str(path)) for path in used[:1] if path == places.main and path.is_file()]
    found += [_folder(path) for path in used if path == places.instances and path.is_dir()]
    found += [
        advice("is there and is not read: files of another place come first", str(path), "`--config` names another")
        for path in usual
        if path.exists() and path not in used
    ]
    if not used:
        looked = ", ".join(map(str, usual))
        way_out = "`llmgate init` asks what you have and writes one; `llmgate serve --demo` works without"
        found.append((ok if enough else fail)(f"no configuration file found (looked for {looked})", next=way_out))
    return found


def _folder(path: Path) -> Finding:
    count = sum(one.suffix in (".yaml", ".yml") and one.name[0] != "." for one in path.iterdir())
    return ok(f"the folder of instance files; it has {count}", str(path))


def advise_all(config: GatewayConfig, plugins: PluginSet) -> list[Problem]:
    """What is allowed under `extra` of any backend, and better done otherwise."""
    return [one for backend, _, settings in decode_settings(config, plugins)[0] for one in advise(backend, settings)]


# --- secrets ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kept:
    """A secret of the configuration: what it is for, and where the configuration says where it is."""

    key: str
    where: str
    secret: Secret


def kept_secrets(config: GatewayConfig, plugins: PluginSet) -> list[Kept]:
    """Callers' keys, and the secrets among the settings of all backends."""
    found = [
        Kept(f"`auth.api_keys[{index}]`", config.problem(("auth", "api_keys", index), "").where, caller.key)
        for index, caller in enumerate(config.auth.callers())
        if not caller.key.is_hash
    ]
    for backend, _, settings in decode_settings(config, plugins)[0]:
        for entry in dataclasses.fields(settings) if dataclasses.is_dataclass(settings) else ():
            if isinstance(secret := getattr(settings, entry.name), Secret):
                where = backend.origin.problem(("extra", entry.name), "").where
                found.append(Kept(f"`extra.{entry.name}` of {backend.name}", where, secret))
    return found


def look_at_secrets(kept: Iterable[Kept], environ: Mapping[str, str]) -> list[Finding]:
    """Secrets that are not where the configuration says, and files of secrets that others can read."""
    found = []
    for one in kept:
        if one.secret.is_plain:  # that is advised against already
            continue
        try:
            one.secret.reveal(environ)
            path = one.secret.path(environ)
        except MissingSecret as missing:
            found.append(fail(f"{one.key}: {missing}", one.where))
        else:
            found.append(ok(f"{one.key} is there: {one.secret.label}", one.where))
            found += look_at_mode(path) if path else []
    return found


def look_at_mode(path: Path) -> list[Finding]:
    """Whether others than its owner may use a file that holds a secret. Windows says that in another way."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return []
    if os.name != "posix" or not mode & 0o077:
        return []
    return [
        advice(f"others may use this file (mode {mode & 0o777:o})", str(path), f"`chmod 600 {shlex.quote(str(path))}`")
    ]


def files_in(texts: Iterable[str]) -> Iterator[Path]:
    """The files among what credential providers tell of themselves."""
    for text in texts:
        if os.path.isabs(text) and os.path.isfile(text):
            yield Path(text)


# --- models -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Named:
    """A model that the configuration names, its backend's full name, and where."""

    backend: str
    model: str
    where: str


_HOLE = "\x00"
"""Stands where a group of a pattern will be."""


def named_models(config: GatewayConfig) -> list[Named]:
    """The models that `default_backend`, `force_model`, routes and rewrites name; what cannot be read is left out."""
    texts: list[tuple[str, str]] = []
    if ":" in (config.default_backend or ""):
        texts.append(("default", config.problem(("default_backend",), "").where))
    if config.force_model is not None:
        texts.append((config.force_model, config.problem(("force_model",), "").where))
    for name, text in config.failover_routes.items():
        texts.append((text, config.problem(("failover_routes", name), "").where))
    for index, rewrite in enumerate(config.model_aliases):
        where = config.problem((KEY, index, "replacement"), "").where
        try:
            texts.append((compile_rule(rewrite).filled_with(_HOLE), where))
        except ValueError:  # told with the other problems
            continue
    found = [
        Named(leaf.backend or "", leaf.model, where)
        for text, where in texts
        if text not in config.failover_routes and _HOLE not in text
        for leaf in _leaves(text, config)
    ]
    return list(dict.fromkeys(found))


def _leaves(text: str, config: GatewayConfig) -> Sequence[Leaf]:
    try:
        return selector.resolve(selector.parse(text), config.names()).leaves
    except SelectorError:  # told with the other problems
        return ()
