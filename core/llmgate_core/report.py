"""Tables and notices for the terminal."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from .app import Gateway
    from .diagnosis.findings import Section

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


class TerminalScreen:
    """The LoginScreen of the command line: plain lines, and a QR code where the terminal can show one."""

    def __init__(self) -> None:
        self._out = console()

    def say(self, text: str) -> None:
        """A paragraph; on a terminal its lines break between words."""
        self._line(text, wrap=self._out.is_terminal)

    def show_code(self, link: str, code: str, seconds: float) -> None:
        """The link, the code, the link once more for a telephone's camera, and how long there is time."""
        self._line("Open this link in a browser, here or on another device, and compare the code:")
        self._line(f"\n  {link}\n  code {code}\n")
        signs = qr_lines(link)
        if can_show(self._out, signs):
            for line in signs:
                self._out.print(line, style="bright_white on black", markup=False)
        left = f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
        self._line(f"Waiting for {left} at most until it is confirmed; Ctrl-C gives up.")

    def _line(self, text: str, *, wrap: bool = False) -> None:
        self._out.print(printable(text), markup=False, soft_wrap=not wrap)


def printable(text: str) -> str:
    """What comes from elsewhere must not be able to command the terminal."""
    return "".join(sign if sign.isprintable() or sign == "\n" else "?" for sign in text)


def qr_lines(text: str) -> list[str]:
    """A QR code (ISO/IEC 18004) with its quiet zone, two rows of modules a line; what is light is drawn."""
    import segno

    rows = [[not dark for dark in row] for row in segno.make_qr(text).matrix_iter(border=4)]
    rows += [[True] * len(rows[0])] * (len(rows) % 2)
    signs = {(True, True): "█", (True, False): "▀", (False, True): "▄", (False, False): " "}
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return ["".join(signs[two] for two in zip(upper, lower, strict=True)) for upper, lower in pairs]


def can_show(out: Console, lines: Sequence[str]) -> bool:
    """Whether somebody looks at a terminal that is wide enough, and whose encoding has these signs."""
    try:
        "".join(lines).encode(out.encoding)
    except UnicodeEncodeError:
        return False
    return out.file.isatty() and not out.is_dumb_terminal and out.width >= max(map(len, lines))


def print_credentials(rows: Sequence[Mapping[str, Any]]) -> None:
    """What each backend has to show: whether it is ready, then a line for each fact."""
    out = console()
    for row in rows:
        mark = "[green]ready[/]    " if row["ready"] else "[yellow]not ready[/]"
        out.print(f"{mark}  [bold]{escape(row['backend'])}[/]: {escape(row['detail'])}")
        shown = {**row["facts"]}
        if row["refused"]:
            shown["requests"] = f"refused: {row['refused']}"
        if row["offers"]:
            shown["llmgate auth"] = ", ".join(row["offers"])
        width = max(map(len, shown), default=0)
        for label, text in shown.items():
            out.print(f"           {label:<{width}}  {text}", markup=False)
    if not rows:
        out.print("no backend is enabled")


def print_status(lines: Sequence[str]) -> None:
    """The lines of `status_lines`."""
    out = console()
    for line in lines:
        out.print(line)


def status_lines(told: Mapping[str, Any], url: str) -> list[str]:
    """What the gateway at `url` tells of itself, in rich's markup: of models only what is not as it should be.

    Raises:
        KeyError, TypeError, ValueError: what is told is not a gateway's status.
    """
    requests = _counted(told["in_flight"], "request")
    up = f"up {in_words(math.floor(told['uptime_seconds']))}, {requests} in flight"
    lines = [f"[bold]llmgate[/] {_shown(told['version'])} at [bold cyan]{_shown(url)}[/]: {up}"]
    lines += [
        f"  {name}: {_shown(told[name])}" for name in ("default_backend", "force_model") if told[name] is not None
    ]
    for backend in told["backends"]:
        mark = "[green]ready[/]    " if backend["ready"] else "[yellow]not ready[/]"
        busy = f" ({_counted(backend['in_flight'], 'request')} in flight)" if backend["in_flight"] else ""
        lines.append(f"{mark}  [bold]{_shown(backend['name'])}[/]: {_shown(backend['detail'])}{busy}")
        if shared := _rate_limit(backend["backoff_seconds"]):
            lines.append(f"           all models: {shared}")
        for model in backend["models"]:
            if found := _what_is_wrong(model):
                lines.append(f"           {_shown(model['model'])}: {found}")
    return lines if told["backends"] else [*lines, "[yellow]no backend is enabled[/]"]


def _what_is_wrong(model: Mapping[str, Any]) -> str:
    failed = f"{_counted(model['failures'], 'failure')} in a row"
    circuits = {
        "open": f"[red]circuit open[/] after {failed}, tried again in {in_words(model['tried_again_in_seconds'] or 0)}",
        "half-open": f"[yellow]circuit half-open[/] after {failed}: one request may try",
        "closed": failed if model["failures"] else "",
    }
    return "; ".join(filter(None, [circuits[model["circuit"]], _rate_limit(model["backoff_seconds"])]))


def _rate_limit(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"rate limited, for another {in_words(seconds)}" if seconds else "rate limit over, one request goes first"


def in_words(seconds: float) -> str:
    """A time, in its two largest units: `3 h 12 min`. What has begun counts, so that nothing lasts 0 s."""
    left, parts = math.ceil(seconds), []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def _counted(count: int, word: str) -> str:
    return f"{count:d} {word}" + ("" if count == 1 else "s")


def _shown(text: str) -> str:
    return escape(printable(text).replace("\n", " "))


def print_findings(sections: Sequence[Section]) -> None:
    """What was looked at: below each subject a line a finding, and where it is and what to do, where there is more."""
    out = console()
    marks = {"ok": "[green]ok[/]    ", "advice": "[yellow]advice[/]", "fail": "[bold red]FAIL[/]  "}
    for section in sections:
        out.print(f"[bold]{section.title}[/]")
        for finding in section.findings:
            at = f"[dim]{_shown(finding.where)}[/]: " if finding.where else ""
            out.print(f"  {marks[finding.level]}  {at}{_shown(finding.what)}")
            if finding.next:
                out.print(f"          [cyan]->[/] {_shown(finding.next)}")
    levels = [finding.level for section in sections for finding in section.findings]
    failed, advised = levels.count("fail"), levels.count("advice")
    verdict = f"[bold red]{_counted(failed, 'thing')} wrong[/]" if failed else "[green]nothing is wrong[/]"
    out.print(f"{verdict}, advice: {advised}" if advised else verdict)


def print_promises(title: str, rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Promises and verdicts, each as soon as it is known; below a broken one how it was broken, and what to do."""
    out, group, seen = console(), "", []
    out.print(f"[bold]{_shown(title)}[/]")
    for row in rows:
        seen.append(row)
        if row["group"] != group:
            group = row["group"]
            out.print(f"  [bold]{_shown(group)}[/]")
        mark = "[bold red]BROKEN[/]" if row["broken"] else "[green]kept[/]  "
        out.print(f"    {mark}  {_shown(row['promise'])}")
        if row["broken"]:
            out.print(f"            {_shown(row['broken'])}")
        if row["advice"]:
            out.print(f"            [cyan]->[/] {_shown(row['advice'])}")
    broken = sum(bool(row["broken"]) for row in seen)
    verdict = f"[bold red]{_counted(broken, 'promise')} broken[/]" if broken else "[green]no promise is broken[/]"
    out.print(f"{verdict}, {len(seen) - broken} of {len(seen)} kept")
    return seen


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A plain table."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*[escape(cell) for cell in row])
    console().print(table)


def print_plugins(rows: Sequence[Mapping[str, Any]]) -> None:
    """The facts of each plugin, a line each: what it brings, asks for and costs, where it is from, what is wrong."""
    out = console()
    for row in rows:
        mark = "[red]FAIL[/]" if row["problem"] else "[green]ok[/]  "
        out.print(f"{mark} [bold]{escape(row['name'])}[/]  {escape(row['distribution'])} {escape(row['version'])}")
        for line in _facts(row):
            out.print(f"     {_shown(line)}")
        if row["problem"]:
            for line in row["problem"].splitlines():
                out.print(f"     {line}", markup=False, style="red")


def _facts(row: Mapping[str, Any]) -> Iterator[str]:
    brings = "; ".join(f"{sort}: {', '.join(names)}" for sort, names in row["brings"].items())
    yield f"brings {brings}" if brings else "brings nothing"
    if row["asks_for"]:
        yield f"asks for {'; '.join(row['asks_for'])}"
    if row["origin"]:
        yield f"from {row['origin']}"
    if "sha256" in row:
        yield f"sha256 {row['sha256'] or 'cannot be told: it is editable, a file, or part of llmgate-core'}"
    if row["import_milliseconds"]:
        yield f"imported in {row['import_milliseconds']:g} ms"
