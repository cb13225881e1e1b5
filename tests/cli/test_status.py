"""`llmgate status`: which gateway is asked, what is shown, and how it ends when there is nothing to show."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from llmgate_core.report import in_words
from llmgate_core.testing import Exchange, ScriptedUpstream

if TYPE_CHECKING:
    from tests.cli.conftest import Run, Write

KEY = "sk-MARKER-status"

MODEL = {
    "model": "m",
    "circuit": "closed",
    "failures": 0,
    "tried_again_in_seconds": None,
    "backoff_seconds": None,
}
BACKEND = {
    "name": "openai-compatible.local",
    "connector": "openai-compatible",
    "ready": True,
    "detail": "needs no credential",
    "in_flight": 0,
    "backoff_seconds": None,
    "models": [MODEL],
}
STATUS = {
    "version": "0.1.0",
    "started": "2026-11-22T10:00:00Z",
    "uptime_seconds": 11520.2,
    "in_flight": 0,
    "default_backend": None,
    "force_model": None,
    "backends": [BACKEND],
}
HEADLINE = "llmgate 0.1.0 at {url}: up 3 h 12 min, 0 requests in flight"

Script = Callable[[Exchange], Awaitable[None]]


class Gateway:
    """What answers in a gateway's place."""

    def __init__(self, upstream: ScriptedUpstream) -> None:
        self.url = upstream.url
        self.port = upstream.url.rpartition(":")[2]


Gateways = Callable[[Script], Gateway]


@pytest.fixture
def gateway() -> Iterator[Gateways]:
    with ExitStack() as stack:
        yield lambda script: Gateway(stack.enter_context(ScriptedUpstream.in_thread(script)))


def tells(status: int = 200, content: Any = STATUS, *, key: str | None = None) -> Script:
    async def script(exchange: Exchange) -> None:
        assert (exchange.request.method, exchange.request.path) == ("GET", "/llmgate/status")
        assert exchange.request.headers.get("authorization") == (f"Bearer {key}" if key else None)
        await exchange.reply(status, content)

    return script


# --- what is shown -----------------------------------------------------------------------------------------------


def test_all_is_well(run: Run, gateway: Gateways) -> None:
    url = gateway(tells()).url
    ended = run("status", "--url", url)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        HEADLINE.format(url=url),
        "ready      openai-compatible.local: needs no credential",
    ]


def test_what_is_not_as_it_should_be(run: Run, gateway: Gateways) -> None:
    models = [
        MODEL,
        {**MODEL, "model": "a", "circuit": "open", "failures": 5, "tried_again_in_seconds": 24.2},
        {**MODEL, "model": "b", "circuit": "half-open", "failures": 6, "tried_again_in_seconds": 0.0},
        {**MODEL, "model": "c", "failures": 1},
        {**MODEL, "model": "d", "backoff_seconds": 61.5},
        {**MODEL, "model": "e", "failures": 2, "backoff_seconds": 0.0},
    ]
    backends = [
        {**BACKEND, "in_flight": 2, "models": models},
        {**BACKEND, "name": "acme.default", "backoff_seconds": 0.2, "models": []},
        {**BACKEND, "name": "off.default", "ready": False, "detail": "set `OFF_KEY`", "models": []},
    ]
    content = {**STATUS, "in_flight": 3, "default_backend": "acme", "force_model": "acme:m", "backends": backends}
    url = gateway(tells(content=content)).url
    ended = run("status", "--url", url)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        HEADLINE.format(url=url).replace("0 requests", "3 requests"),
        "  default_backend: acme",
        "  force_model: acme:m",
        "ready      openai-compatible.local: needs no credential (2 requests in flight)",
        "           a: circuit open after 5 failures in a row, tried again in 25 s",
        "           b: circuit half-open after 6 failures in a row: one request may try",
        "           c: 1 failure in a row",
        "           d: rate limited, for another 1 min 2 s",
        "           e: 2 failures in a row; rate limit over, one request goes first",
        "ready      acme.default: needs no credential",
        "           all models: rate limited, for another 1 s",
        "not ready  off.default: set `OFF_KEY`",
    ]


def test_json_is_what_the_gateway_says_even_what_is_new_to_us(run: Run, gateway: Gateways) -> None:
    content = {**STATUS, "novelty": ["用"]}
    ended = run("status", "--json", "--url", gateway(tells(content=content)).url)
    assert (ended.status, ended.json()) == (0, content)


@pytest.mark.parametrize("arguments", [[], ["--json"]])
@pytest.mark.parametrize("backends", [[], [{**BACKEND, "ready": False}]])
def test_no_backend_can_be_used(run: Run, gateway: Gateways, arguments: list[str], backends: list[Any]) -> None:
    url = gateway(tells(content={**STATUS, "backends": backends})).url
    ended = run("status", "--url", url, *arguments)
    assert (ended.status, ended.err) == (1, "llmgate: no backend can be used; the lines above say why\n")
    assert ("not ready" if backends else "no backend is enabled") in ended.out or arguments


def test_what_callers_have_asked_for_cannot_command_the_terminal(run: Run, gateway: Gateways) -> None:
    model = {**MODEL, "model": "\x1b[2J\n[bold]x[/]\x9b1m", "failures": 1}
    url = gateway(tells(content={**STATUS, "backends": [{**BACKEND, "models": [model]}]})).url
    assert run("status", "--url", url).out.splitlines()[-1] == "           ?[2J [bold]x[/]?1m: 1 failure in a row"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.001, "1 s"),
        (59.2, "1 min"),
        (61, "1 min 1 s"),
        (3599.5, "1 h"),
        (3605, "1 h 5 s"),
        (93784, "1 d 2 h"),
    ],
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


# --- who is asked, and with which key ----------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/"])
def test_the_base_url_of_a_client_will_do(run: Run, gateway: Gateways, end: str) -> None:
    assert run("status", "--url", gateway(tells()).url + end).status == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_the_gateway_of_the_configuration_and_its_first_key(
    run: Run, write: Write, gateway: Gateways, host: str
) -> None:
    port = gateway(tells(key=KEY)).port
    hashed = "sha256:" + "0" * 64
    write(f"server: {{host: {host}, port: {port}}}\nauth: {{api_keys: [{hashed}, 'env:UNSET', {KEY}, other]}}\n")
    assert run("status").status == 0


def test_flags_and_environment_outrank_the_file(run: Run, write: Write, gateway: Gateways) -> None:
    port = gateway(tells(key=KEY)).port
    write("server: {port: 1}\nauth: {api_keys: [in-the-file]}\n")
    assert run("status", LLMGATE_PORT=port, LLMGATE_API_KEYS="env:MINE,other", MINE=KEY).status == 0
    assert run("status", "--port", port, "--api-key", KEY, LLMGATE_PORT="2", LLMGATE_API_KEYS="other").status == 0


def test_nothing_needs_to_be_configured(run: Run, gateway: Gateways) -> None:
    assert run("status", "--port", gateway(tells()).port).status == 0


def test_the_key_in_a_file_does_not_go_to_another_address(run: Run, write: Write, gateway: Gateways) -> None:
    write(f"auth: {{api_keys: [{KEY}]}}\nserver: {{prot: 1}}\n")
    url = gateway(tells(key=None)).url
    assert run("status", "--url", url).status == 0
    assert run("status", "--url", gateway(tells(key="given")).url, "--api-key", "given").status == 0


def test_a_free_port_cannot_be_known(run: Run, write: Write) -> None:
    write("server: {port: 0}\n")
    ended = run("status")
    assert (ended.status, ended.out) == (2, "")
    assert "`server.port` is 0" in ended.err
    assert "`--url`" in ended.err


def test_mistakes_of_the_configuration_are_told_as_by_serve(run: Run, write: Write) -> None:
    write("server: {prot: 1}\n")
    ended = run("status")
    assert (ended.status, ended.out) == (2, "")
    assert ended.err == "config.yaml:1: unknown key `server.prot`; did you mean `port`?\n"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://x",
        "http://",
        f"http://user:{KEY}@x",
        f"http://x/?key={KEY}",
        f"http://x/#{KEY}",
        "http://[::1",
        "http://x:99999",
        "http://x:0",
        "http://x\n",
    ],
)
def test_what_is_no_address(run: Run, url: str) -> None:
    ended = run("status", "--url", url)
    assert (ended.status, ended.out) == (2, "")
    assert "`--url` takes an address such as http://127.0.0.1:8000" in ended.err


# --- when there is no status to show -----------------------------------------------------------------------------


def failure(ended: Any) -> str:
    """What it says on standard error, which is one line and all that it says."""
    assert (ended.status, ended.out) == (1, "")
    (line,) = ended.err.splitlines()
    assert line.startswith("llmgate: ")
    said: str = line
    return said


def test_nobody_answers(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
    line = failure(run("status", "--port", port))
    assert f"no gateway answers (127.0.0.1:{port}: connection refused" in line
    assert "`llmgate serve`" in line
    assert "`--port`" in line


def test_somebody_who_never_answers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmgate_core.cli.status.SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert f"{url} did not answer within 0.2 s" in failure(run("status", "--url", url))


def test_somebody_who_never_ends(run: Run, gateway: Gateways, monkeypatch: pytest.MonkeyPatch) -> None:
    async def trickles(exchange: Exchange) -> None:
        await exchange.head(200)
        await exchange.chunk(b"{")
        await exchange.hung_up()

    monkeypatch.setattr("llmgate_core.cli.status.SECONDS", 0.5)
    assert "did not answer within 0.5 s" in failure(run("status", "--url", gateway(trickles).url))


def test_a_key_is_missing_or_wrong(run: Run, write: Write, gateway: Gateways) -> None:
    refusal = {"error": {"message": "no key", "code": "invalid_api_key"}}
    line = failure(run("status", "--port", gateway(tells(401, refusal)).port))
    assert "wants a key" in line
    assert "`--api-key` or LLMGATE_API_KEYS" in line
    line = failure(run("status", "--port", gateway(tells(401, refusal, key=KEY)).port, "--api-key", KEY))
    assert "does not take the key" in line


def test_a_refusal_is_told_in_the_gateways_words(run: Run, gateway: Gateways) -> None:
    refusal = {"error": {"message": "only\x1b[2J here, set `server.status_from: anywhere`"}}
    line = failure(run("status", "--url", gateway(tells(403, refusal)).url))
    assert line.endswith("refuses (HTTP 403): only?[2J here, set `server.status_from: anywhere`")


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (200, "<html>"),
        (200, "[]"),
        (200, {"status": "ok"}),
        (200, {**STATUS, "backends": 5}),
        (200, {**STATUS, "backends": [None]}),
        (200, {**STATUS, "uptime_seconds": "long"}),
        (200, {**STATUS, "backends": [{**BACKEND, "models": [{**MODEL, "circuit": "ajar"}]}]}),
        (302, ""),
        (404, {"error": {"message": "there is nothing at /llmgate/status"}}),
        (500, {"error": "no"}),
        (502, "<html>"),
    ],
)
def test_somebody_else_answers(run: Run, gateway: Gateways, status: int, content: Any) -> None:
    for arguments in ([], ["--json"]):
        line = failure(run("status", "--url", gateway(tells(status, content)).url, *arguments))
        assert f"has no status to tell (HTTP {status}): another program, or another version of llmgate" in line
