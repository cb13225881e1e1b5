"""The flags that connectors' settings declare: they exist where the configuration names the connector."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import click

from . import configuration

if TYPE_CHECKING:
    from ..config import GatewayConfig
    from ..plugins import PluginSet
    from ..settings import Flag


class PluginFlagsCommand(click.Command):
    """Keeps the flags that it does not know: they may belong to a plugin that the configuration names."""

    SETTINGS: ClassVar[dict[str, Any]] = {"ignore_unknown_options": True, "allow_extra_args": True}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Our own flags, then those of all installed plugins."""
        super().format_options(ctx, formatter)
        from ..plugins import load_all

        for connector, flags in plugin_flags(load_all(**configuration.admitted(None, ctx.params))).items():
            with formatter.section(f"Options of connector {connector}"):
                formatter.write_dl([(flag.name, flag.description) for flag in flags])


class BackendCommand(PluginFlagsCommand):
    """Takes BACKEND besides flags; it arrives as the parameter `backend`, None where it was left out."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; of what is left, the word that is no plugin flag's value is BACKEND."""
        super().parse_args(ctx, args)
        words, ctx.args = split_words(ctx.args, self._valued(ctx))
        if len(words) > 1:
            ctx.fail(f"`{ctx.command_path}` takes one backend; see `{ctx.command_path} --help`")
        ctx.params["backend"] = words[0] if words else None
        return ctx.args

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """For the first line of `--help`."""
        return [*super().collect_usage_pieces(ctx), "[BACKEND]"]

    def _valued(self, ctx: click.Context) -> set[str]:
        """Flags of all installed plugins that take a value. Loads them only where there is a flag to look up."""
        if not any(argument.startswith("-") for argument in ctx.args):
            return set()
        from ..plugins import load_all

        known = plugin_flags(load_all(ctx.params.get("plugin_files", ()), **configuration.admitted(None, ctx.params)))
        return {flag.name for flags in known.values() for flag in flags if flag.type is not bool}


def split_words(arguments: Iterable[str], valued: Collection[str]) -> tuple[list[str], list[str]]:
    """The words among `arguments`; and the rest: flags, and the values of those in `valued`."""
    words: list[str] = []
    rest: list[str] = []
    value_follows = False
    for argument in arguments:
        is_word = not (value_follows or argument.startswith("-"))
        (words if is_word else rest).append(argument)
        value_follows = not value_follows and argument in valued
    return words, rest


def plugin_flags(plugins: PluginSet) -> dict[str, list[Flag]]:
    """The flags that connectors' settings declare, by connector."""
    from ..plugins import settings_type
    from ..settings import flags

    found = {}
    for name, cls in plugins.connectors.items():
        settings = settings_type(cls)
        if settings is not None and (declared := flags(settings)):
            found[name] = declared
    return found


def apply_plugin_flags(config: GatewayConfig, plugins: PluginSet, ctx: click.Context) -> GatewayConfig:
    """The configuration with what the rest of the command line sets for all instances of a connector."""
    from ..settings import Secret

    if any(backend.type not in plugins.connectors for backend in config.enabled_backends()):
        return config  # the flags may be that connector's; that it is not there is told with the other problems
    declared = plugin_flags(plugins)
    named = {backend.type for backend in config.backends}
    declared = {connector: flags for connector, flags in declared.items() if connector in named}
    refuse_unknown(ctx, declared)
    parser = click.Command(str(ctx.info_name), params=[_option(flag) for flags in declared.values() for flag in flags])
    values = parser.make_context(str(ctx.info_name), list(ctx.args), parent=ctx.parent).params
    for connector, flags in declared.items():
        for flag in flags:
            value = values[_variable(flag)]
            if value is None:
                continue
            plain = str(value) if flag.type is Secret else value
            config = config.override_extra(connector, {flag.field: plain}, flag.name)
    return config


def refuse_unknown(ctx: click.Context, declared: Mapping[str, Sequence[Flag]]) -> None:
    """Raises UsageError for a flag that nobody offers, with what to do."""
    from ..settings import did_you_mean

    known = {flag.name for flags in declared.values() for flag in flags}
    known |= {f"--no-{name.removeprefix('--')}" for name in known}
    own = [name for option in ctx.command.params for name in option.opts]
    for argument in ctx.args:
        name = argument.partition("=")[0]
        if name.startswith("--") and name not in known:
            close = did_you_mean(name, [*known, *own])
            raise click.UsageError(
                f"no installed plugin offers `{name}` to this configuration; "
                + (f"did you mean `{close}`?" if close else "see `llmgate plugins`"),
                ctx,
            )
    if ctx.args and not any(argument.startswith("--") for argument in ctx.args):
        raise click.UsageError(f"`{ctx.command_path}` takes flags only; see `{ctx.command_path} --help`", ctx)


def _option(flag: Flag) -> click.Option:
    stem = flag.name.removeprefix("--")
    if flag.type is bool:
        names = [f"--{stem}/--no-{stem}", _variable(flag)]
        return click.Option(names, default=None, envvar=environment_variable(flag))
    kind = flag.type if flag.type in (int, float) else str
    return click.Option([flag.name, _variable(flag)], type=kind, default=None, envvar=environment_variable(flag))


def environment_variable(flag: Flag) -> str:
    """The variable that does what the flag does."""
    return f"LLMGATE_{flag.name.removeprefix('--').upper().replace('-', '_')}"


def _variable(flag: Flag) -> str:
    return flag.name.removeprefix("--").replace("-", "_")
