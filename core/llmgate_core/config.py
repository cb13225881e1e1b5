"""Loads the operator's files into a `GatewayConfig`, and tells everything that is wrong with them at once.

The environment and the command line arrive as overrides, each with its source; nothing is read but the files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from .backend_sections import from_files, from_main_file, with_default_backend, without_doubles
from .errors import ConfigError, Problem
from .installed import discover, misfit
from .rewrite_sections import GivenRewrites, advise_rewrites, with_given
from .secret import Secret
from .sections import (
    AuthConfig,
    BackendConfig,
    CallerKey,
    CallerSecret,
    CommonSections,
    FailureHandlingConfig,
    GatewayConfig,
    LoggingConfig,
    MainFile,
    Origin,
    ParametersConfig,
    PluginsConfig,
    ServerConfig,
    StreamingConfig,
    TimeoutsConfig,
    decode_section,
)
from .settings import KeyPath, decode
from .yaml_file import Document, read_yaml

__all__ = [
    "AuthConfig",
    "BackendConfig",
    "CallerKey",
    "CallerSecret",
    "FailureHandlingConfig",
    "GatewayConfig",
    "GivenRewrites",
    "Loaded",
    "LoggingConfig",
    "Origin",
    "Override",
    "ParametersConfig",
    "Places",
    "PluginsConfig",
    "ServerConfig",
    "StreamingConfig",
    "TimeoutsConfig",
    "advise",
    "decode_extra",
    "find_places",
    "load",
]

INSTANCES = Path("backends", "backend-instances")


@dataclass(frozen=True)
class Places:
    """The main file and the folder of instance files; None where there is none."""

    main: Path | None = None
    instances: Path | None = None


def find_places(cwd: Path, home: Path, main: Path | None = None, instances: Path | None = None) -> Places:
    """Where the configuration is: as told, else `config/` under `cwd`, else `~/.config/llmgate/`.

    Args:
        main: the file that `--config` or `LLMGATE_CONFIG` names; it need not exist, `load` will say so.
        instances: the folder that `--backend-instances` names, likewise.
    """
    if main is not None:
        folder = main.parent
    else:
        folders = (cwd / "config", home / ".config" / "llmgate")
        folder = next((found for found in folders if _holds_configuration(found)), folders[0])
        main = folder / "config.yaml" if (folder / "config.yaml").is_file() else None
    if instances is None and (folder / INSTANCES).is_dir():
        instances = folder / INSTANCES
    return Places(main, instances)


def _holds_configuration(folder: Path) -> bool:
    return (folder / "config.yaml").is_file() or (folder / INSTANCES).is_dir()


@dataclass(frozen=True)
class Override:
    """A value from the command line or the environment, and the flag or variable that it came from."""

    value: Any
    source: str


@dataclass(frozen=True)
class Loaded:
    """What was read. `config` may be used only when there are no problems; `advice` stops nobody."""

    config: GatewayConfig
    problems: tuple[Problem, ...] = ()
    advice: tuple[Problem, ...] = ()

    def checked(self) -> GatewayConfig:
        """The configuration; raises ConfigError with all problems if there are any."""
        if self.problems:
            raise ConfigError(self.problems)
        return self.config


def load(
    places: Places, overrides: Mapping[KeyPath, Override] | None = None, rewrites: GivenRewrites | None = None
) -> Loaded:
    """Reads the files and puts the overrides above them. Raises nothing for mistakes: they are in the result.

    Args:
        places: see `find_places`.
        overrides: by path, such as `("server", "port")`; already merged, command line above environment.
        rewrites: those of the command line and the environment, which go before the file's.
    """
    main = _read_file(places.main) if places.main else Document({}, Origin("the configuration"))
    files, problems = _instance_files(places.instances)
    problems += main.problems
    data, origin = _override(main, overrides or {})
    section = decode_section(MainFile, data, origin, "", problems)
    backends = from_main_file(section, origin, problems) + from_files(files, problems)
    config = _assemble(section, without_doubles(backends, problems), origin)
    config = with_default_backend(config, problems)
    config = with_given(config, rewrites or GivenRewrites(), problems)
    problems += [config.problem(("server", *path), message) for path, message in config.server.faults()]
    problems += [config.problem(("edit_precision", *path), message) for path, message in config.edit_precision.faults()]
    problems.sort(key=lambda problem: (problem.source, problem.line or 0))
    return Loaded(config, tuple(problems), (*_advise_keys(config), *advise_rewrites(config)))


def _read_file(path: Path) -> Document:
    try:
        content = path.read_bytes()
    except OSError as error:
        problem = Problem(str(path), None, f"cannot be read: {error.strerror or 'it failed'}")
        return Document({}, Origin(path.name), (problem,))
    return read_yaml(content, path.name)


def _instance_files(folder: Path | None) -> tuple[list[tuple[str, Document]], list[Problem]]:
    """The instance files by `<type>.<instance>`, in the order of their names."""
    if folder is None:
        return [], []
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml"))
    except OSError as error:
        return [], [Problem(str(folder), None, f"cannot be read: {error.strerror or 'it failed'}")]
    files = [(path.stem, _read_file(path)) for path in paths if not path.name.startswith(".")]
    return files, [problem for _, document in files for problem in document.problems]


def _override(main: Document, overrides: Mapping[KeyPath, Override]) -> tuple[dict[str, Any], Origin]:
    """The main file's values with the overrides in their places, and an origin that knows both."""
    data = dict(main.data)
    for path, override in overrides.items():
        inside = data
        for key in cast("tuple[str, ...]", path[:-1]):
            section = inside.get(key) or {}
            if not isinstance(section, dict):
                break  # the file is wrong here, and that will be told
            inside[key] = inside = dict(section)
        else:
            inside[cast("str", path[-1])] = override.value
    sources = {path: override.source for path, override in overrides.items()}
    return data, dataclasses.replace(main.origin, overrides=sources)


def _assemble(section: CommonSections, backends: tuple[BackendConfig, ...], origin: Origin) -> GatewayConfig:
    common = {entry.name: getattr(section, entry.name) for entry in dataclasses.fields(CommonSections)}
    return GatewayConfig(**common, backends=backends, origin=origin)


def _advise_keys(config: GatewayConfig) -> list[Problem]:
    advice = []
    for index, entry in enumerate(config.auth.api_keys):
        secret = entry.key if isinstance(entry, CallerKey) else entry
        told = _REFERENCE if secret.looks_like_reference else f"{_PLAIN_KEY}, or its hash as `sha256:HEX`"
        found = config.problem(("auth", "api_keys", index), f"`auth.api_keys[{index}]`: {told}")
        # In the environment a plain value is at home; in a file or on a command line others may read it.
        is_exposed = secret.is_plain and (found.line or found.source.startswith("--"))
        if is_exposed or secret.looks_like_reference:
            advice.append(found)
    return advice


_PLAIN_KEY = "the secret itself stands here; better say where it is, `env:NAME` or `file:PATH`"
# Without the name: what begins with a dollar sign may still be the secret.
_REFERENCE = "this looks like a reference, but is taken as the secret itself; write `env:NAME` or `file:PATH`"


@dataclass(frozen=True)
class _NoSettings:
    """The settings of a connector that has none."""


def decode_extra(backend: BackendConfig, settings_type: type[Any] | None) -> tuple[Any, list[Problem]]:
    """The settings of one backend, or every problem with them, at their lines.

    Args:
        settings_type: the dataclass that the connector annotates; None for a connector without settings.

    Returns:
        The settings (None with problems, and for a connector without settings) and the problems.
    """
    settings, faults = decode(settings_type or _NoSettings, backend.extra, prefix="extra")
    problems = [backend.origin.problem(("extra", *path), message) for path, message in faults]
    return (settings if settings_type else None), problems


def advise(backend: BackendConfig, settings: Any) -> list[Problem]:
    """What `llmgate check` says about decoded settings: secrets that stand in the file itself."""
    return [
        backend.origin.problem(("extra", entry.name), f"`extra.{entry.name}`: {told}")
        for entry in (dataclasses.fields(settings) if dataclasses.is_dataclass(settings) else ())
        if isinstance(value := getattr(settings, entry.name), Secret) and value.is_plain
        for told in [_REFERENCE if value.looks_like_reference else _PLAIN_KEY]
    ]


def advise_allowed(config: GatewayConfig) -> list[Problem]:
    """What `llmgate check` says about entries of `plugins.allow` that fit nothing here."""
    allowed, here = config.plugins.allow or (), discover()
    told = [misfit(one if isinstance(one, str) else one.name, here) for one in allowed]
    return [
        config.problem(("plugins", "allow", at), f"`plugins.allow[{at}]`: {words}")
        for at, words in enumerate(told)
        if words
    ]
