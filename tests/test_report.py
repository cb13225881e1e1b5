"""What the terminal shows to somebody who has just started the gateway."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace
from typing import Any, cast

import pytest
import segno

from llmgate_core.config import GatewayConfig
from llmgate_core.observe import Redactor
from llmgate_core.report import TerminalScreen, print_banner


@pytest.mark.parametrize(
    ("address", "told"),
    [
        (("127.0.0.1", 8000), "listens on http://127.0.0.1:8000 "),
        (("::1", 8000, 0, 0), "listens on http://[::1]:8000 "),
        (("0.0.0.0", 8000), "listens on all interfaces, port 8000; on this machine: http://127.0.0.1:8000 "),
        (("::", 8000, 0, 0), "listens on all interfaces, port 8000; on this machine: http://[::1]:8000 "),
    ],
)
def test_the_banner_says_who_can_reach_the_gateway(
    address: tuple[Any, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway = SimpleNamespace(backends=(), config=GatewayConfig(), redactor=Redactor())
    print_banner(cast("Any", gateway), address, ["curl {base}/v1/models"])
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"llmgate {told}")
    url = told.split()[-1]
    assert first.endswith(f"(OpenAI clients: base URL {url}/v1)")
    assert last == f"curl {url}/v1/models"


class Tty(io.StringIO):
    """A terminal, as wide as COLUMNS says."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


LINK = "https://id.example/authorize?user_code=WDJB-MJHT&client=example"


def shown(monkeypatch: pytest.MonkeyPatch, out: io.StringIO, **environ: str) -> str:
    """What somebody who logs in sees."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "100", **environ}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout", out)
    TerminalScreen().show_code(LINK, "WDJB-MJHT", 900.0)
    return out.getvalue()


def without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def modules(lines: list[str]) -> list[list[bool]]:
    """The rows of a drawn QR code, dark modules true: the other way round than it was drawn."""
    upper, lower = ({sign: sign in light for sign in "█▀▄ "} for light in ("█▀", "█▄"))
    return [[not half[sign] for sign in line] for line in lines for half in (upper, lower)]


def test_a_terminal_shows_a_qr_code_of_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, Tty())
    plain = without_colours(text)
    drawn = [line for line in plain.splitlines() if line and set(line) <= set("█▀▄ ")]
    assert f"\n  {LINK}\n  code WDJB-MJHT\n" in plain
    expected = [[bool(module) for module in row] for row in segno.make_qr(LINK).matrix_iter(border=4)]
    assert modules(drawn)[: len(expected)] == expected
    assert not any(any(row) for row in modules(drawn)[len(expected) :])
    # Light on dark whatever the terminal's own colours are.
    assert text.count("\x1b[97;40m") == len(drawn)


def test_plain_lines_without_a_qr_code_where_it_cannot_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    class Latin(Tty):
        encoding = "iso-8859-1"

    plain = [
        "Open this link in a browser, here or on another device, and compare the code:",
        "",
        f"  {LINK}",
        "  code WDJB-MJHT",
        "",
        "Waiting for 15 min at most until it is confirmed; Ctrl-C gives up.",
    ]
    assert shown(monkeypatch, io.StringIO()).splitlines() == plain
    assert shown(monkeypatch, Latin()).splitlines() == plain
    assert shown(monkeypatch, Tty(), COLUMNS="40").splitlines() == plain
    assert shown(monkeypatch, Tty(), TERM="dumb").splitlines() == plain
    assert shown(monkeypatch, io.StringIO(), FORCE_COLOR="1").splitlines() == plain


def test_what_an_issuer_says_cannot_command_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Tty()
    monkeypatch.setattr("sys.stdout", out)
    screen = TerminalScreen()
    screen.say("clear\x1b[2J\r\x07[bold]all[/]")
    screen.show_code("https://x/\x1b]0;title\x07", "\x1b[31m", 60.0)
    assert set("\x1b\r\x07") & set(without_colours(out.getvalue())) == set()
    assert out.getvalue().startswith("clear?[2J??[bold]all[/]\n")
