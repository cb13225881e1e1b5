"""The command `llmgate`. A sub-command's module is imported when it is called, and imports what it needs itself."""

from __future__ import annotations

import importlib
import sys

import click

from ..errors import ConfigError, GatewayError

COMMANDS = {
    "serve": "Run the gateway.",
    "check": "Say everything that `serve` would refuse, without serving.",
    "plugins": "Show what is installed, what it brings, and what is wrong with it.",
    "models": "List what can be asked for.",
    "explain": "Show how a request would be routed, step by step.",
    "schema": "Print the JSON Schema of the configuration and of every connector.",
}

EXIT_FAILED, EXIT_USAGE, EXIT_UNSAFE = 1, 2, 3
"""Failed while running; wrong usage or configuration; refused to start for safety."""


class StartRefused(click.ClickException):
    """One clear line on standard error, and the exit status that goes with it."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status

    def show(self, file: object = None) -> None:
        """Prints the line."""
        click.echo(f"llmgate: {self.message}", err=True)


class Commands(click.Group):
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
    try:
        llmgate(prog_name="llmgate")
    except StartRefused as refusal:
        refusal.show()
        sys.exit(refusal.status)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(str(problem), err=True)
        sys.exit(EXIT_USAGE)
    except GatewayError as error:
        click.echo(f"llmgate: {error}", err=True)
        sys.exit(EXIT_USAGE)
