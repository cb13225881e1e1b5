"""The command `llmgate`. A sub-command's module is imported when it is called, and imports what it needs itself."""

from __future__ import annotations

import importlib
import logging
import sys

import click

from ..errors import ConfigError, ConnectorError, GatewayError

COMMANDS = {
    "serve": "Run the gateway.",
    "init": "Write a configuration to start from, of what is found here.",
    "check": "Say everything that `serve` would refuse, without serving.",
    "doctor": "Say why it does not work, and what to do next.",
    "plugins": "Show what is installed, what it brings, and what is wrong.",
    "plugin": "Start a plugin of your own, and test one.",
    "install": "Install plugins beside llmgate, and show how to use them.",
    "uninstall": "Remove plugins.",
    "models": "List what can be asked for.",
    "explain": "Show how a request would be routed, step by step.",
    "status": "Ask the running gateway how it is.",
    "connect": "Print the lines that point a coding agent here, and test them.",
    "auth": "Log in to backends and out, and show what credentials there are.",
    "schema": "Print the JSON Schema of configuration and connectors.",
}

EXIT_FAILED, EXIT_USAGE, EXIT_UNSAFE = 1, 2, 3
"""Failed while running; wrong usage or configuration; refused to start for safety."""


class StartRefused(Exception):  # noqa: N818 - it reads as what it is
    """One clear line on standard error, and the exit status that goes with it.

    Not click's own exception: click would show it itself, and end the process with a status that is always 1.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.message = message
        self.status = status

    def show(self) -> None:
        """Prints the line."""
        click.echo(f"llmgate: {self.message}", err=True)


class SuggestingGroup(click.Group):
    """Names the sub-command that was probably meant where there is none of that name."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a suggestion."""
        known = self.list_commands(ctx)
        if args[0] not in known and not args[0].startswith("-"):
            from ..settings import did_you_mean

            close = did_you_mean(args[0], known)
            way_out = f"did you mean `{close}`?" if close else f"see `{ctx.command_path} --help`"
            ctx.fail(f"no such command `{args[0]}`; {way_out}")
        return super().resolve_command(ctx, args)


class Commands(SuggestingGroup):
    """Knows its sub-commands by name, so that `--help` need not import them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which a user meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Imports the module of one sub-command."""
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f".{name}", __name__).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `--help`."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="llmgate-core", prog_name="llmgate")
def llmgate() -> None:
    """One endpoint for language models, where every provider is a plugin."""


def main() -> None:
    """Runs the command line; every expected failure becomes plain lines on standard error and an exit status."""
    # What plugins log before a command has set up the log: each command says such things in its own words.
    logging.getLogger("llmgate").addHandler(logging.NullHandler())
    try:
        llmgate(prog_name="llmgate")
    except StartRefused as refusal:
        refusal.show()
        sys.exit(refusal.status)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(str(problem), err=True)
        sys.exit(EXIT_USAGE)
    except ConnectorError as error:
        click.echo(f"llmgate: {error}", err=True)
        sys.exit(EXIT_FAILED)
    except GatewayError as error:
        click.echo(f"llmgate: {error}", err=True)
        sys.exit(EXIT_USAGE)
