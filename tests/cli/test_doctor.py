"""`llmgate doctor` as a whole: what it says where something is wrong, how it ends, and that it tells no secret."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from tests.ports import closed_port

from llmgate_core.testing import Exchange, ScriptedUpstream

if TYPE_CHECKING:
    from tests.cli.conftest import Ended, Run, Write

KEY = "sk-MARKER-doctor"

Script = Callable[[Exchange], Awaitable[None]]
Serve = Callable[[Script], str]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Runs scripts on loopback ports. What this machine's shell has set counts for nothing here."""
    names = ("HTTP_PROXY", "ALL_PROXY", "OPENAI_BASE_URL", "OPENAI_API_BASE", "ANTHROPIC_BASE_URL")
    for name in (*names, *map(str.lower, names)):
        monkeypatch.delenv(name, raising=False)
    with ExitStack() as stack:
        yield lambda script: stack.enter_context(ScriptedUpstream.in_thread(script)).url


@pytest.fixture
def port() -> Iterator[str]:
    """One that refuses connections."""
    with closed_port() as closed:
        yield str(closed)


async def lists(exchange: Exchange) -> None:
    await exchange.reply(200, {"data": [{"id": "large"}]})


async def refuses(exchange: Exchange) -> None:
    await exchange.reply(401, {"error": {"message": f"wrong: {exchange.request.headers['authorization']}"}})


def configuration(url: str, port: str, more: str = "") -> str:
    extra = f'extra: {{base_url: "{url}/v1", api_key: "env:UPSTREAM"}}'
    return f"server: {{port: {port}}}\nbackends: {{it: {{type: openai-compatible, {extra}}}}}\n{more}"


def found(ended: Ended, level: str, section: str = "") -> list[dict[str, Any]]:
    rows = ended.json()["findings"]
    return [row for row in rows if row["level"] == level and section in ("", row["section"])]


def test_all_is_well(run: Run, write: Write, serve: Serve, port: str) -> None:
    write(configuration(serve(lists), port))
    ended = run("doctor", UPSTREAM=KEY)
    assert (ended.status, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert [line for line in lines if line[:1].isupper()] == [
        *["Installation", "Configuration", "Secrets", "Backends", "Gateway", "This shell"],
    ]
    assert any("and lists 1 model" in line for line in lines)
    assert f"  ok      http://127.0.0.1:{port}: no gateway runs there" in lines
    assert "          -> `llmgate serve` starts one" in lines
    assert lines[-1].startswith("nothing is wrong")


def test_as_json(run: Run, write: Write, serve: Serve, port: str) -> None:
    write(configuration(serve(lists), port, "default_backend: it:lrge\n"))
    ended = run("doctor", "--json", UPSTREAM=KEY)
    told = ended.json()
    assert (ended.status, told["ok"], told["failed"]) == (0, True, 0)
    [advice] = found(ended, "advice", "Backends")
    assert advice == {
        "section": "Backends",
        "level": "advice",
        "what": "model `lrge` is not in the list of openai-compatible.it, which may serve it all the same",
        "where": "config.yaml:3",
        "next": "did you mean `large`?",
    }


def test_a_wrong_key_and_an_upstream_that_repeats_it(run: Run, write: Write, serve: Serve, port: str) -> None:
    write(configuration(serve(refuses), port))
    for flags in ([], ["--json"]):
        ended = run("doctor", *flags, UPSTREAM=KEY)
        assert ended.status == 1
        assert "refuses (HTTP 401: wrong: [secret])" in ended.out


def test_what_an_upstream_says_can_neither_tell_a_secret_nor_command_the_terminal(
    run: Run, write: Write, serve: Serve, port: str
) -> None:
    async def blabs(exchange: Exchange) -> None:
        await exchange.reply(403, {"error": {"message": f"\x1b[2J[bold]{KEY}"}})

    write(configuration(serve(blabs), port, "auth: {api_keys: ['env:MINE']}\n"))
    assert "(HTTP 403: ?[2J[bold][secret])" in run("doctor", UPSTREAM="sk-MARKER-other", MINE=KEY).out


def test_no_upstream_and_no_key(run: Run, write: Write, serve: Serve, port: str) -> None:
    write(configuration(f"http://127.0.0.1:{port}", port))
    ended = run("doctor", "--json")
    assert ended.status == 1
    [secret] = found(ended, "fail", "Secrets")
    assert (secret["where"], "`UPSTREAM` is not set" in secret["what"]) == ("config.yaml:2", True)
    unreached, unusable = found(ended, "fail", "Backends")
    assert "connection refused" in unreached["what"]
    assert unusable["what"] == "no backend can be used: every request will be refused"


def test_offline_nobody_is_asked(run: Run, write: Write, serve: Serve) -> None:
    async def never(exchange: Exchange) -> None:
        raise AssertionError

    url = serve(never)
    write(configuration(url, url.rpartition(":")[2]))
    ended = run("doctor", "--offline", "--json", UPSTREAM=KEY)
    assert ended.status == 0
    assert "Gateway" not in {row["section"] for row in ended.json()["findings"]}


def test_another_program_has_the_port(run: Run, write: Write, serve: Serve) -> None:
    url = serve(lists)
    write(configuration(url, url.rpartition(":")[2]))
    ended = run("doctor", "--json", UPSTREAM=KEY)
    [row] = found(ended, "fail")
    assert (ended.status, row["section"], row["where"]) == (1, "Gateway", url)


def test_our_gateway_and_the_key_that_agents_of_this_shell_use(run: Run, write: Write, serve: Serve) -> None:
    status = {"version": "0.1.0", "backends": [{"name": "openai-compatible.it", "ready": True, "models": []}]}

    async def gateway(exchange: Exchange) -> None:
        key = exchange.request.headers.get("authorization")
        if exchange.request.path == "/healthz":
            await exchange.reply(200, b'{"status":"ok"}', {"x-request-id": "req_1"})
        else:
            await exchange.reply(200 if key == f"Bearer {KEY}" else 401, status, {"x-request-id": "req_1"})

    write(configuration(serve(lists), serve(gateway).rpartition(":")[2], "auth: {api_keys: ['env:MINE']}\n"))
    assert run("doctor", UPSTREAM=KEY, MINE=KEY).status == 0
    wrong = run("doctor", "--json", UPSTREAM=KEY, MINE="sk-MARKER-other")
    assert [(row["where"], wrong.status) for row in found(wrong, "fail")] == [(serve_url(wrong), 1)]
    agents = run("doctor", "--json", UPSTREAM=KEY, MINE=KEY, LLMGATE_KEY="sk-MARKER-other")
    assert [(row["where"], agents.status) for row in found(agents, "fail")] == [("LLMGATE_KEY", 1)]


def serve_url(ended: Ended) -> str:
    [where] = {row["where"] for row in ended.json()["findings"] if row["section"] == "Gateway"}
    return str(where)


# --- the configuration ------------------------------------------------------------------------------------------------


def test_nothing_is_configured(run: Run, serve: Serve, port: str) -> None:
    ended = run("doctor", "--port", port, "--json")
    [row] = found(ended, "fail")
    assert (ended.status, row["section"]) == (1, "Configuration")
    assert "`llmgate init`" in row["next"]


def test_every_mistake_is_told_at_its_line_and_the_rest_is_looked_at(run: Run, write: Write, serve: Serve) -> None:
    write(
        f"""
        server: {{prot: 1}}
        backends:
          it: {{type: openai-compatible, extra: {{base_url: "{serve(lists)}/v1"}}}}
          other: {{type: openai-compatible, extra: {{base_ulr: x}}}}
          stranger: {{type: nonesuch}}
        """
    )
    ended = run("doctor", "--json")
    wrong = {row["where"]: row["what"] for row in found(ended, "fail")}
    assert ended.status == 1
    assert list(wrong) == ["config.yaml:2", "config.yaml:6", "config.yaml:5"]
    assert any("lists 1 model" in row["what"] for row in found(ended, "ok", "Backends"))
    [gateway] = found(ended, "ok", "Gateway")
    assert gateway["what"].startswith("not looked for")


@pytest.mark.parametrize("text", ["server: [", "- a", "a: 1\na: 2", "\x00"])
def test_a_file_that_cannot_be_read(run: Run, write: Write, text: str) -> None:
    write(text)
    ended = run("doctor", "--offline", "--json")
    assert ended.status == 1
    assert found(ended, "fail", "Configuration")[0]["where"].startswith("config.yaml")


def test_a_plugin_that_raises_is_a_finding(run: Run, write: Write, serve: Serve) -> None:
    plugin = write(
        f"""
        from llmgate_core import OpenAICompatible, hookimpl

        LLMGATE_PLUGIN_API = 1

        class Acme(OpenAICompatible):
            name = "acme"

            async def list_models(self, credential):
                raise RuntimeError("{KEY}")

            def base_url(self, credential):
                return "http://x"

        @hookimpl
        def llmgate_register_connectors():
            return Acme
        """,
        "acme.py",
    )
    write("server: {port: 0}\nbackends: {acme: {}}\n")
    ended = run("doctor", "--json", "--plugin", str(plugin))
    broken = found(ended, "fail", "Backends")[0]
    assert (ended.status, broken["where"]) == (1, "acme.default")
    assert "RuntimeError" in broken["what"]
    assert "acme.py:" in broken["what"]


def test_what_serve_refuses_for_safety(run: Run, write: Write, serve: Serve) -> None:
    write(configuration(serve(lists), "0"))
    ended = run("doctor", "--offline", "--json", "--host", "0.0.0.0", UPSTREAM=KEY)
    [row] = found(ended, "fail")
    assert (row["where"], "without callers' keys" in row["what"]) == ("--host", True)


# --- the shell --------------------------------------------------------------------------------------------------------


def test_variables_that_nobody_reads(run: Run, write: Write, serve: Serve) -> None:
    write(
        "backends: {it: {type: openai-compatible, extra: {base_url: 'http://x/v1', api_key: 'env:LLMGATE_UPSTREAM'}}}"
    )
    known = {"LLMGATE_UPSTREAM": KEY, "LLMGATE_MODEL_ALIASES": "", "LLMGATE_LOG_LEVEL": "info", "LLMGATE_PLUGIN": ""}
    ended = run("doctor", "--offline", "--json", **known, LLMGATE_LOG_LEVLE=KEY)
    [row] = found(ended, "advice", "This shell")
    assert (row["where"], row["next"]) == ("LLMGATE_LOG_LEVLE", "did you mean LLMGATE_LOG_LEVEL?")


def test_an_agent_that_asks_without_v1(run: Run, serve: Serve) -> None:
    flags = ["--offline", "--json", "--port", "8123", "--default-backend", "openai-compatible"]
    ended = run("doctor", *flags, OPENAI_BASE_URL="http://localhost:8123")
    [row] = found(ended, "fail", "This shell")
    assert row["next"] == "`export OPENAI_BASE_URL=http://127.0.0.1:8123/v1`"


def test_a_flag_that_nobody_offers_is_wrong_usage(run: Run) -> None:
    ended = run("doctor", "--ofline")
    assert (ended.status, ended.out) == (2, "")
    assert "did you mean `--offline`?" in ended.err
