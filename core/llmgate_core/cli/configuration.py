"""From flags, environment and files to a checked configuration and its plugins: the beginning of most commands."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

import click

from . import EXIT_USAGE, StartRefused

if TYPE_CHECKING:
    from ..config import GatewayConfig, GivenRewrites, Loaded, Override, Places
    from ..installed import Allowed
    from ..plugins import PluginSet
    from ..settings import KeyPath

    Adjust = Callable[[GatewayConfig, PluginSet], GatewayConfig]

F = TypeVar("F", bound=Callable[..., Any])

NOTHING_CONFIGURED = (
    "no configuration found (looked for config/config.yaml and ~/.config/llmgate/config.yaml). "
    "`llmgate init` writes one (config/config.example.yaml shows every key), `llmgate serve --demo` shows it work "
    "without an account, and `--default-backend` names a backend that needs no file."
)

COMMAND_LINE = "the command line"

# Flag, key in the configuration, environment variable.
OVERRIDES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("host", ("server", "host"), "LLMGATE_HOST"),
    ("port", ("server", "port"), "LLMGATE_PORT"),
    ("api_key", ("auth", "api_keys"), "LLMGATE_API_KEYS"),
    ("default_backend", ("default_backend",), "LLMGATE_DEFAULT_BACKEND"),
    ("force_model", ("force_model",), "LLMGATE_FORCE_MODEL"),
    ("enable_edit_precision", ("edit_precision", "enabled"), "LLMGATE_ENABLE_EDIT_PRECISION"),
    ("log_level", ("logging", "level"), "LLMGATE_LOG_LEVEL"),
    ("log_format", ("logging", "format"), "LLMGATE_LOG_FORMAT"),
)


class CommaSeparated(click.ParamType[str]):
    """A repeatable flag whose environment variable holds several values, separated by commas."""

    name = "text"
    envvar_list_splitter = ","

    def split_envvar_value(self, rv: str) -> list[str]:
        """The parts that are not empty."""
        return [part.strip() for part in rv.split(",") if part.strip()]


def options(function: F) -> F:
    """The flags that decide which configuration is meant, for every command that reads one."""
    decorators = (
        click.option(
            "--config", type=click.Path(path_type=Path), envvar="LLMGATE_CONFIG", show_envvar=True, help="Main file."
        ),
        click.option(
            "--backend-instances",
            type=click.Path(path_type=Path),
            envvar="LLMGATE_BACKEND_INSTANCES",
            show_envvar=True,
            help="Folder of instance files, `<type>.<instance>.yaml`.",
        ),
        click.option(
            "--default-backend",
            envvar="LLMGATE_DEFAULT_BACKEND",
            show_envvar=True,
            metavar="BACKEND[:MODEL]",
            help="Who serves models without a backend; needs no file.",
        ),
        click.option(
            "--force-model",
            envvar="LLMGATE_FORCE_MODEL",
            show_envvar=True,
            metavar="SELECTOR",
            help="Send every request there.",
        ),
        click.option(
            "--enable-edit-precision/--no-enable-edit-precision",
            default=None,
            envvar="LLMGATE_ENABLE_EDIT_PRECISION",
            show_envvar=True,
            help="Lower the temperature after a failed edit.",
        ),
        click.option(
            "--model-alias",
            "model_aliases",
            multiple=True,
            metavar="PATTERN=REPLACEMENT",
            help="Rewrite what is asked for; goes before LLMGATE_MODEL_ALIASES and the file. Repeatable.",
        ),
        click.option(
            "--plugin",
            "plugin_files",
            multiple=True,
            type=click.Path(path_type=Path),
            envvar="LLMGATE_PLUGIN",
            show_envvar=True,
            help="A plugin that is a single Python file.",
        ),
    )
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


def address_options(function: F) -> F:
    """The flags that say where a gateway is, and which keys it takes."""
    decorators = (
        click.option(
            "--host", envvar="LLMGATE_HOST", show_envvar=True, help="Address to listen on (default 127.0.0.1)."
        ),
        click.option(
            "--port",
            type=int,
            envvar="LLMGATE_PORT",
            show_envvar=True,
            help="Port to listen on (default 8000); 0 takes a free one.",
        ),
        click.option(
            "--api-key",
            multiple=True,
            type=CommaSeparated(),
            envvar="LLMGATE_API_KEYS",
            show_envvar=True,
            help="A key that callers must show: env:NAME, file:PATH, sha256:HEX or the key. Repeatable.",
        ),
    )
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


def serving_options(function: F) -> F:
    """The flags of a gateway that serves, or that would."""
    decorators = (
        address_options,
        click.option(
            "--log-level",
            envvar="LLMGATE_LOG_LEVEL",
            show_envvar=True,
            metavar="LEVEL",
            help="debug, info, warning or error.",
        ),
        click.option(
            "--log-format", envvar="LLMGATE_LOG_FORMAT", show_envvar=True, metavar="FORMAT", help="text or json."
        ),
    )
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


@dataclass(frozen=True)
class Prepared:
    """A configuration without problems, with its plugins loaded."""

    config: GatewayConfig
    plugins: PluginSet
    loaded: Loaded


def prepare(
    ctx: click.Context, flags: Mapping[str, Any], adjust: Adjust | None = None, backend: str | None = None
) -> Prepared:
    """Reads the configuration that `flags` mean, and loads its plugins.

    Args:
        adjust: what is changed once the plugins are known, such as by flags of theirs.
        backend: one that must be there; where no file has it, it is made from its connector's defaults.

    Raises:
        ConfigError: with every problem of files, flags, plugins and their settings, at once.
        StartRefused: nothing is configured at all.
    """
    from ..backend_sections import with_backend
    from ..checks import find_problems
    from ..config import load
    from ..errors import ConfigError
    from ..plugins import load as load_plugins

    places = find(flags)
    given = overrides(ctx, flags)
    if finds_nothing(flags) and ("default_backend",) not in given and backend is None:
        refuse_misspelt_flags(ctx, flags)
        raise StartRefused(NOTHING_CONFIGURED, EXIT_USAGE)
    loaded = load(places, given, given_rewrites(flags))
    config = with_backend(loaded.config, backend, COMMAND_LINE) if backend else loaded.config
    plugins = load_plugins(config.plugin_names(), files=flags.get("plugin_files", ()), **admitted(config))
    config = adjust(config, plugins) if adjust else config
    if problems := [*loaded.problems, *find_problems(config, plugins)]:
        raise ConfigError(problems)
    return Prepared(config, plugins, loaded)


def prepare_to_serve(ctx: click.Context, flags: Mapping[str, Any]) -> Prepared:
    """The same with the flags of plugins applied: what `serve` serves, `check` checks, and SIGHUP reads anew.

    Raises:
        UsageError: a flag that nobody offers; and as `prepare`.
    """
    from .plugin_flags import apply_plugin_flags

    return prepare(ctx, flags, lambda config, plugins: apply_plugin_flags(config, plugins, ctx))


def refuse_misspelt_flags(ctx: click.Context, flags: Mapping[str, Any]) -> None:
    """Raises UsageError for a flag that no installed plugin could offer to any configuration."""
    from ..plugins import load_all
    from .plugin_flags import plugin_flags, refuse_unknown

    if ctx.args:
        refuse_unknown(ctx, plugin_flags(load_all(flags.get("plugin_files", ()), **admitted(None, flags))))


def finds_nothing(flags: Mapping[str, Any]) -> bool:
    """Whether there is no file that `flags` and the current folder could mean."""
    places = find(flags)
    return places.main is None and places.instances is None


def find(flags: Mapping[str, Any]) -> Places:
    """Where the files are that `flags` and the current folder mean."""
    from ..config import find_places

    try:
        folder = Path.cwd()
    except OSError:
        raise StartRefused("the current folder is gone; change into another one", EXIT_USAGE) from None
    return find_places(folder, Path.home(), flags.get("config"), flags.get("backend_instances"))


def overrides(ctx: click.Context, flags: Mapping[str, Any]) -> dict[KeyPath, Override]:
    """What the command line and the environment put above the files, each with its source."""
    from ..config import Override

    given: dict[KeyPath, Override] = {}
    for name, path, variable in OVERRIDES:
        value = flags.get(name)
        if value is None or value == ():
            continue
        from_environment = ctx.get_parameter_source(name) is click.core.ParameterSource.ENVIRONMENT
        source = variable if from_environment else f"--{name.replace('_', '-')}"
        given[path] = Override(list(value) if isinstance(value, tuple) else value, source)
    return given


def given_rewrites(flags: Mapping[str, Any]) -> GivenRewrites:
    """The rewrites of the command line and of the environment; unlike other values, both count."""
    from ..config import GivenRewrites

    return GivenRewrites(tuple(flags.get("model_aliases", ())), os.environ.get("LLMGATE_MODEL_ALIASES", ""))


class Admitted(TypedDict):
    """Who may be loaded, as `plugins.load` and `load_all` take it."""

    block: tuple[str, ...]
    allow: Allowed | None


def admitted(config: GatewayConfig | None, flags: Mapping[str, Any] | None = None) -> Admitted:
    """Plugins that shall not be loaded, by configuration and `LLMGATE_BLOCK_PLUGINS`, and those that alone may be.

    Args:
        config: None for a command that works without one: then what lies in the usual places still says who is allowed,
            as such a command imports all that is installed.
        flags: may say where else the configuration is.
    """
    found = config or _found(flags or {})
    return {"block": blocked(config), "allow": found.plugins.allow}


def _found(flags: Mapping[str, Any]) -> GatewayConfig:
    from ..config import load

    named = flags.get("config") or os.environ.get("LLMGATE_CONFIG")
    return load(find({**flags, "config": Path(named) if named else None})).config


def blocked(config: GatewayConfig | None) -> tuple[str, ...]:
    """Plugins that shall not be loaded, by configuration and `LLMGATE_BLOCK_PLUGINS`."""
    variable = os.environ.get("LLMGATE_BLOCK_PLUGINS", "")
    named = [name.strip() for name in variable.split(",") if name.strip()]
    return (*(config.plugins.block if config else ()), *named)
