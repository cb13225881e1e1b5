"""`llmgate auth` for whatever a credential provider offers: an invented plugin that logs in, ours, and API keys."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import click
import pytest

from llmgate_core import app
from llmgate_core.backends import World
from llmgate_core.cli import auth
from llmgate_core.cli.plugin_flags import split_words
from llmgate_core.testing import Exchange, ScriptedUpstream

if TYPE_CHECKING:
    from tests.cli.conftest import Run, Write

KEY = "sk-MARKER-not-to-be-shown"

ACME = '''
import asyncio
import signal
from dataclasses import dataclass
from typing import Annotated

from llmgate_core import (
    ConnectorError, Credential, CredentialStatus, DeviceFlow, LoginScreen, Meta, OpenAICompatible, device_login,
    hookimpl,
)

LLMGATE_PLUGIN_API = 1


@dataclass(frozen=True)
class AcmeSettings:
    issuer: Annotated[str, Meta(cli_flag="--acme-issuer", description="Who logs in.")] = "http://127.0.0.1:9"
    strict: Annotated[bool, Meta(cli_flag="--acme-strict", description="Strictly.")] = False
    how: str = "device"
    base_url: str = "http://127.0.0.1:9"


class AcmeTokens:
    """Logs in, and does nothing else."""

    def __init__(self, instance):
        self.instance = instance
        self.file = instance.home / "acme-token"

    async def get(self):
        return Credential({"authorization": "Bearer " + self.file.read_text()})

    async def renew(self, rejected):
        raise ConnectorError("auth", "log in again")

    def status(self):
        if self.instance.settings.how == "broken":
            raise RuntimeError("sk-MARKER in status")
        ready = self.file.exists()
        words = "has a token" if ready else "has no token; log in"
        return CredentialStatus(ready, words, {"file": str(self.file), "issuer": self.instance.settings.issuer})

    async def login(self, screen: LoginScreen) -> str:
        how = self.instance.settings.how
        if how == "bug":
            raise KeyError("sk-MARKER in login")
        if how == "interrupted":
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(60)
        url = self.instance.settings.issuer
        flow = DeviceFlow(url + "/device", url + "/token", "acme-public", "all", interval=1.0)
        screen.say("Acme says hello.\\x1b[2J")
        reply = await device_login(flow, self.instance, screen)
        self.file.write_text(reply["access_token"])
        return "logged in to Acme"


class AcmeRefresh(AcmeTokens):
    async def refresh(self) -> str:
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0.01)
        if self.instance.settings.how == "interrupted twice":
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(60)
        return "there is a new token"


class Acme(OpenAICompatible):
    name = "acme"
    settings: AcmeSettings

    def credentials(self):
        return (AcmeRefresh if "refresh" in self.instance.name else AcmeTokens)(self.instance)


@hookimpl
def llmgate_register_connectors():
    return Acme
'''


class Issuer:
    """Acme's: gives a code, and confirms at the third poll, or answers as it is told."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Mapping[str, Any]]] = [(400, {"error": "authorization_pending"})] * 2
        self.last: tuple[int, Mapping[str, Any]] = (200, {"access_token": f"{KEY}-token"})
        self.forms: list[dict[str, list[str]]] = []
        self.url = ""

    async def __call__(self, exchange: Exchange) -> None:
        self.forms.append(parse_qs(exchange.request.body.decode()))
        if exchange.request.path == "/device":
            code = {"device_code": f"{KEY}-device", "user_code": "ACME-1", "expires_in": 60}
            await exchange.reply(200, {**code, "verification_uri": "https://acme.example/go"})
            return
        status, body = self.answers.pop(0) if self.answers else self.last
        await exchange.reply(status, dict(body))


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    script = Issuer()
    with ScriptedUpstream.in_thread(script) as upstream:
        script.url = upstream.url
        yield script


@pytest.fixture
def slept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Commands of this process do not wait; what they would have waited is noted."""
    real, waits = app.real_world(), []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    world = World(real.clock, random.Random(1), real.environ, Path.home(), sleep)
    monkeypatch.setattr(app, "real_world", lambda: world)
    return waits


@pytest.fixture
def acme(write: Write) -> str:
    return str(write(ACME, "acme.py"))


def config(write: Write, **backends: Mapping[str, Any]) -> None:
    write(json.dumps({"backends": backends}))


# --- an invented plugin that logs in ----------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["acme", "acme.default"])
def test_a_login_without_any_configuration(
    run: Run, acme: str, issuer: Issuer, slept: list[float], backend: str
) -> None:
    ended = run("auth", "login", backend, "--plugin", acme, "--acme-issuer", issuer.url)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "Acme says hello.?[2J",
        "Open this link in a browser, here or on another device, and compare the code:",
        "",
        "  https://acme.example/go",
        "  code ACME-1",
        "",
        "Waiting for 60 s at most until it is confirmed; Ctrl-C gives up.",
        "acme.default: logged in to Acme",
    ]
    assert slept == [1.0, 1.0, 1.0]
    assert (Path.home() / "acme-token").read_text() == f"{KEY}-token"
    # No verifier was shown; the marks of device code and token are looked for after every run.
    assert issuer.forms[-1]["code_verifier"][0] not in ended.out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--acme-issuer", "URL", "--acme-strict", "acme"],
        ["--acme-issuer=URL", "acme", "--no-acme-strict"],
        ["--acme-strict", "acme", "--acme-issuer", "URL"],
        ["--default-backend", "acme", "--acme-issuer", "URL"],
    ],
)
def test_flags_of_plugins_stand_before_and_after_the_backend(
    run: Run, acme: str, issuer: Issuer, slept: list[float], arguments: list[str]
) -> None:
    ended = run("auth", "login", "--plugin", acme, *(text.replace("URL", issuer.url) for text in arguments))
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.endswith("acme.default: logged in to Acme\n")


def test_words_and_the_values_of_flags() -> None:
    given = ["--a", "1", "x", "--b", "y", "--a=2", "z", "-v", "--a", "--b"]
    assert split_words(given, {"--a"}) == (["x", "y", "z"], ["--a", "1", "--b", "--a=2", "-v", "--a", "--b"])


def test_a_refusal_is_told_with_status_1(run: Run, acme: str, issuer: Issuer, slept: list[float]) -> None:
    issuer.last = (400, {"error": "access_denied", "error_description": KEY})
    ended = run("auth", "login", "acme", "--plugin", acme, "--acme-issuer", issuer.url)
    assert ended.status == 1
    told = "access was denied in the browser; log in again if that was a mistake"
    assert ended.err == f"llmgate: backend `acme.default`: {told}\n"
    assert not (Path.home() / "acme-token").exists()


def test_an_issuer_that_is_not_there(run: Run, acme: str) -> None:
    ended = run("auth", "login", "acme", "--plugin", acme)
    assert ended.status == 1
    assert ended.err == "llmgate: backend `acme.default`: 127.0.0.1:9: connection refused; is it running?\n"


def test_a_bug_of_the_plugin_is_told_with_its_place_and_without_its_text(run: Run, write: Write, acme: str) -> None:
    config(write, acme={"extra": {"how": "bug"}})
    ended = run("auth", "login", "--plugin", acme)
    assert ended.status == 1
    line = ACME[: ACME.index("raise KeyError")].count("\n") + 1
    assert ended.err == (
        f"llmgate: backend `acme.default`: its connector raised KeyError in `login` ({Path(acme).resolve()}:{line})\n"
    )


@pytest.mark.parametrize(("command", "words"), [("refresh", "refresh"), ("logout", "logout")])
def test_what_a_provider_does_not_offer(run: Run, acme: str, command: str, words: str) -> None:
    ended = run("auth", command, "acme", "--plugin", acme)
    assert ended.status == 2
    assert f"Error: backend `acme.default` offers no `{words}`; it offers `login`\n" in ended.err


def test_status_shows_facts_and_what_is_offered(run: Run, acme: str) -> None:
    ended = run("auth", "status", "acme", "--plugin", acme)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "not ready  acme.default: has no token; log in",
        f"           file          {Path.home()}/acme-token",
        "           issuer        http://127.0.0.1:9",
        "           llmgate auth  login",
    ]


def test_status_as_json(run: Run, write: Write, acme: str) -> None:
    config(write, **{"acme.one": {}, "acme.two": {"extra": {"how": "broken"}}})
    (Path.home() / "acme-token").write_text(KEY)
    ended = run("auth", "status", "--json", "--plugin", acme)
    facts = {"file": f"{Path.home()}/acme-token", "issuer": "http://127.0.0.1:9"}
    common = {"offers": ["login"], "refused": None}
    broken = {"ready": False, "detail": "its connector raised RuntimeError in `status`", "facts": {}}
    assert ended.json() == [
        {"backend": "acme.one", "ready": True, "detail": "has a token", "facts": facts, **common},
        {"backend": "acme.two", **broken, **common},
    ]


# --- Ctrl-C ----------------------------------------------------------------------------------------------------------


def test_an_interrupted_login_says_that_nothing_was_changed(run: Run, write: Write, acme: str) -> None:
    config(write, acme={"extra": {"how": "interrupted"}})
    ended = run("auth", "login", "--plugin", acme)
    assert (ended.status, ended.out) == (1, "")
    assert ended.err == "llmgate: interrupted; nothing was changed\n"


def test_a_refresh_is_finished_first(run: Run, write: Write, acme: str) -> None:
    config(write, **{"acme.refresh": {}})
    ended = run("auth", "refresh", "--plugin", acme)
    assert (ended.status, ended.out) == (0, "acme.refresh: there is a new token\n")
    assert ended.err == "llmgate: finishing first, as the old token may be spent; again to stop at once\n"


@pytest.mark.parametrize("failure", [BrokenPipeError(32, "Broken pipe"), ValueError("I/O operation on closed file")])
def test_a_refresh_is_finished_even_if_nobody_can_be_told(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def echo(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(click, "echo", echo)

    async def test() -> str:
        may_end = asyncio.Event()

        async def refresh() -> str:
            await may_end.wait()
            return "there is a new token"

        waiting = asyncio.create_task(auth.to_its_end(refresh()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        may_end.set()
        return await waiting

    assert asyncio.run(test()) == "there is a new token"


def test_a_second_interrupt_ends_a_refresh(run: Run, write: Write, acme: str) -> None:
    config(write, **{"acme.refresh": {"extra": {"how": "interrupted twice"}}})
    ended = run("auth", "refresh", "--plugin", acme)
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.splitlines()[1] == "llmgate: interrupted; `llmgate auth status` shows what there is now"


# --- which backend ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["login", "status", "refresh", "logout"])
def test_nothing_configured(run: Run, command: str) -> None:
    ended = run("auth", command)
    assert (ended.status, ended.out) == (2, "")
    told = f"no configuration found, so name a backend: `llmgate auth {command} BACKEND`"
    assert ended.err == f"llmgate: {told}; `llmgate plugins` shows which connectors there are\n"


@pytest.mark.parametrize("command", ["login", "status", "refresh", "logout"])
def test_each_explains_itself(run: Run, command: str) -> None:
    ended = run("auth", command, "--help")
    assert ended.status == 0
    assert ended.out.startswith(f"Usage: llmgate auth {command} [OPTIONS] [BACKEND]\n")
    assert "--enable-qwen-oauth-backend-debugging-override" in ended.out


def test_an_unknown_sub_command(run: Run) -> None:
    ended = run("auth", "logni")
    assert ended.status == 2
    assert "Error: no such command `logni`; did you mean `login`?\n" in ended.err


def test_the_only_backend_that_offers_it_need_not_be_named(
    run: Run, write: Write, acme: str, issuer: Issuer, slept: list[float]
) -> None:
    config(write, **OPEN, work={"type": "acme", "extra": {"issuer": issuer.url}})
    for name in ([], ["work"], ["acme.work"], ["acme"]):
        ended = run("auth", "login", "--plugin", acme, *name)
        assert (ended.status, ended.err) == (0, "")
        assert ended.out.endswith("acme.work: logged in to Acme\n")


def test_several_that_offer_it(run: Run, write: Write, acme: str) -> None:
    config(write, **{"acme.one": {}, "work": {"type": "acme"}})
    ended = run("auth", "login", "--plugin", acme)
    assert ended.status == 2
    ways = "`llmgate auth login acme.one`, `llmgate auth login work`"
    assert f"Error: several backends offer `login`; say which: {ways}\n" in ended.err
    ended = run("auth", "login", "acme", "--plugin", acme)
    assert "Error: `acme` has several instances; say which: `acme.one`, `acme.work`\n" in ended.err


KEYED = {"openai-compatible.keyed": {"extra": {"base_url": "http://127.0.0.1:9", "api_key": "env:ACME_KEY"}}}
OPEN = {"openai-compatible.open": {"extra": {"base_url": "http://127.0.0.1:9"}}}


@pytest.mark.parametrize(
    ("command", "nothing"), [("login", "log in to"), ("refresh", "refresh"), ("logout", "log out of")]
)
def test_api_keys_have_no_login(run: Run, write: Write, command: str, nothing: str) -> None:
    config(write, **KEYED, **OPEN)
    uses = f"backend `openai-compatible.keyed` uses an API key: there is nothing to {nothing}"
    ended = run("auth", command, "openai-compatible.keyed")
    assert ended.status == 2
    assert f"Error: {uses}; environment variable `ACME_KEY` is not set; set it, then restart\n" in ended.err
    ended = run("auth", command, "openai-compatible.keyed", ACME_KEY=KEY)
    assert f"Error: {uses}; key from environment variable `ACME_KEY`\n" in ended.err
    ended = run("auth", command, "openai-compatible.open")
    told = f"backend `openai-compatible.open` needs no credential: there is nothing to {nothing}"
    assert f"Error: {told}\n" in ended.err
    ended = run("auth", command)
    assert ended.status == 2
    assert f"Error: no backend offers `{command}`; `llmgate auth status` shows what they have\n" in ended.err


def test_status_of_all(run: Run, write: Write) -> None:
    config(write, **KEYED, **OPEN)
    ended = run("auth", "status", ACME_KEY=KEY)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "ready      openai-compatible.keyed: key from environment variable `ACME_KEY`",
        "ready      openai-compatible.open: needs no credential",
    ]


def test_status_of_none(run: Run, write: Write) -> None:
    config(write)
    assert run("auth", "status").out == "no backend is enabled\n"


@pytest.mark.parametrize(
    ("backend", "told"),
    [
        ("open", "there is no backend `open`; did you mean `openai-compatible.open`?"),
        (
            "openai-compatible.opn",
            "there is no backend `openai-compatible.opn`; did you mean `openai-compatible.open`?",
        ),
        ("nope.x", "there is no backend `nope.x`; backends: openai-compatible.open"),
        ("openai-compatible.off", "backend `openai-compatible.off` is switched off by `enabled: false`"),
    ],
)
def test_a_backend_that_is_none(run: Run, write: Write, backend: str, told: str) -> None:
    off: dict[str, Any] = {"extra": {"base_url": "http://127.0.0.1:9"}, "enabled": False}
    config(write, **OPEN, **{"openai-compatible.off": off})
    ended = run("auth", "login", backend)
    assert ended.status == 2
    assert f"Error: {told}" in ended.err


def test_a_misspelt_alias_and_a_misspelt_connector(run: Run, write: Write) -> None:
    write("backends: {hosted: {type: openai-compatible, extra: {base_url: 'http://127.0.0.1:9'}}}\n")
    ended = run("auth", "status", "hsoted")
    assert ended.status == 2
    assert "Error: there is no backend `hsoted`; did you mean `hosted`?\n" in ended.err
    ended = run("auth", "status", "qwen-oath")
    assert ended.status == 2
    assert ended.err.startswith(
        "the command line: no installed plugin provides connector `qwen-oath`; did you mean `qwen-oauth`?"
    )


@pytest.mark.parametrize("command", [["auth", "login", "qwen-oaut"], ["serve", "--default-backend", "qwen-oaut"]])
def test_a_misspelt_backend_is_told_before_its_flags(run: Run, command: list[str]) -> None:
    ended = run(*command, "--enable-qwen-oauth-backend-debugging-override")
    assert ended.status == 2
    assert "connector `qwen-oaut`; did you mean `qwen-oauth`?" in ended.err
    assert "offers" not in ended.err


def test_two_backends_and_unknown_flags(run: Run, write: Write) -> None:
    config(write, **OPEN)
    ended = run("auth", "login", "a", "b")
    assert ended.status == 2
    assert "`llmgate auth login` takes one backend; see `llmgate auth login --help`" in ended.err
    ended = run("auth", "status", "--enable-qwen-oauth-backend-debugging-override")
    assert ended.status == 2
    assert "no installed plugin offers `--enable-qwen-oauth-backend-debugging-override` to this conf" in ended.err
    ended = run("auth", "status", "--jsno")
    assert "did you mean `--json`?" in ended.err


def test_problems_of_the_configuration_are_told_at_once(run: Run, write: Write) -> None:
    write("server: {prot: 1}\nbackends: {openai-compatible.a: {extra: {}}}\n")
    ended = run("auth", "login", "qwen-oauth")
    assert ended.status == 2
    assert ended.err.splitlines() == [
        "config.yaml:1: unknown key `server.prot`; did you mean `port`?",
        "config.yaml:2: missing key `extra.base_url`",
    ]


def test_what_only_serving_needs_does_not_stand_in_the_way(run: Run, write: Write) -> None:
    write(json.dumps({"auth": {"api_keys": ["env:NOT_SET"]}, "server": {"host": "0.0.0.0"}, "backends": OPEN}))
    assert run("auth", "status").status == 0


# --- the switch of qwen-oauth -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["login", "refresh"])
def test_a_backend_that_is_switched_off_sends_nothing(run: Run, command: str) -> None:
    ended = run("auth", command, "qwen-oauth")
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.startswith("llmgate: backend `qwen-oauth.default`: Forbidden: ")
    assert "`--enable-qwen-oauth-backend-debugging-override`" in ended.err


def test_status_and_logout_work_regardless(run: Run) -> None:
    path = Path.home() / ".qwen" / "oauth_creds.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"access_token": KEY, "refresh_token": KEY, "expiry_date": 4e12}))
    path.chmod(0o644)
    ended = run("auth", "status", "qwen-oauth", "--json")
    (row,) = ended.json()
    assert row["ready"]
    assert row["refused"].startswith("Forbidden: ")
    assert row["facts"]["problem"] == f"others may use the file; run `chmod 600 {path}`"
    shown = run("auth", "status", "qwen-oauth").out
    assert "           requests               refused: Forbidden: " in shown
    ended = run("auth", "logout", "qwen-oauth")
    assert ended.status == 0
    assert ended.out.startswith(f"qwen-oauth.default: removed {path}; ")
    assert not path.exists()
    assert run("auth", "logout", "qwen-oauth").out == f"qwen-oauth.default: nothing to remove, as there is no {path}\n"
