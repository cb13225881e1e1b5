"""Tables and notices for the terminal."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from .app import Gateway

FRIENDLY_HOSTS = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - shown, not bound


def console(*, stderr: bool = False) -> Console:
    """Where to print. Lines are not wrapped when nobody watches: what is piped must stay one line."""
    found = Console(stderr=stderr, highlight=False, soft_wrap=True)
    if not found.is_terminal and "COLUMNS" not in os.environ:
        found.width = 200
    return found


def base_url(address: Sequence[Any]) -> str:
    """`http://host:port` of a listening socket, as a client would write it."""
    host = str(address[0])
    shown = FRIENDLY_HOSTS.get(host) or (f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{address[1]}"


def print_banner(gateway: Gateway, address: Sequence[Any], notes: Sequence[str]) -> None:
    """What somebody who has just started the gateway wants to know."""
    out, url = console(), base_url(address)
    where = f"[bold cyan]{url}[/]"
    if address[0] in FRIENDLY_HOSTS:
        where = f"all interfaces, port {address[1]}; on this machine: {where}"
    out.print(f"[bold]llmgate[/] listens on {where}   (OpenAI clients: base URL {url}/v1)")
    for backend in gateway.backends:
        state = backend.readiness()
        mark = "[green]ready[/]    " if state.ready else "[yellow]not ready[/]"
        out.print(f"  {mark}  {escape(backend.name)}: {escape(gateway.redactor.strike(state.detail))}")
    if not len(gateway.backends):
        out.print("  [yellow]no backend is enabled[/]: every request will be refused")
    keys = gateway.config.auth.callers()
    out.print(f"  callers' keys: {', '.join(escape(key.name) for key in keys) or 'none asked for (loopback only)'}")
    for note in notes:
        out.print(note.replace("{base}", url), markup=False)
    out.file.flush()


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A plain table."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*[escape(cell) for cell in row])
    console().print(table)


def print_plugins(rows: Sequence[Mapping[str, Any]]) -> None:
    """Three facts a plugin: where it comes from, what it brings, what is wrong with it."""
    out = console()
    for row in rows:
        mark = "[red]FAIL[/]" if row["problem"] else "[green]ok[/]  "
        out.print(f"{mark} [bold]{escape(row['name'])}[/]  {escape(row['distribution'])} {escape(row['version'])}")
        brings = "; ".join(f"{sort}: {', '.join(names)}" for sort, names in row["brings"].items())
        out.print(f"     brings {escape(brings)}" if brings else "     brings nothing")
        if row["problem"]:
            for line in row["problem"].splitlines():
                out.print(f"     {line}", markup=False, style="red")
