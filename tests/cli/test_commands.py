"""The command line, called as its console script calls it: what it prints, and with which status it ends."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llmgate_core.cli import COMMANDS
from llmgate_core.cli.configuration import OVERRIDES
from llmgate_core.cli.serve import log_of_threads
from llmgate_core.testing import Exchange, ScriptedUpstream

if TYPE_CHECKING:
    from tests.cli.conftest import Run, Write

KEY = "sk-MARKER-not-to-be-shown"

LOCAL = """
    backends:
      openai-compatible.local:
        extra:
          base_url: http://127.0.0.1:9/v1
          models: [small, large]
        default_params: {temperature: 0.7}
        forced_params: {seed: 7}
"""

ONE = "backends: {openai-compatible.local: {extra: {base_url: 'http://127.0.0.1:9/v1', models: [small, large]}}}\n"

LOCAL_ALIAS = "backends: {local: {type: openai-compatible, extra: {base_url: 'http://127.0.0.1:9/v1'}}}\n"

PLUGIN = """
    from dataclasses import dataclass
    from typing import Annotated

    from llmgate_core import ApiKey, Meta, OpenAICompatible, Secret, hookimpl

    LLMGATE_PLUGIN_API = 1

    @dataclass(frozen=True)
    class AcmeSettings:
        base_url: Annotated[str, Meta(cli_flag="--acme-base-url", description="Where Acme is.")] = "http://127.0.0.1:9"
        api_key: Secret | None = None

    class Acme(OpenAICompatible):
        name = "acme"
        settings: AcmeSettings

        def __init__(self, instance):
            super().__init__(instance)
            {constructor}

    @hookimpl
    def llmgate_register_connectors():
        return Acme
"""


# --- llmgate itself --------------------------------------------------------------------------------------------------


def test_help_lists_every_command_in_one_screen(run: Run) -> None:
    ended = run("--help")
    assert ended.status == 0
    for name, sentence in COMMANDS.items():
        assert f"  {name} " in ended.out
        assert sentence in ended.out
    assert len(ended.out.splitlines()) < 24


def test_h_is_help(run: Run) -> None:
    assert run("-h").out == run("--help").out


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(run: Run, command: str) -> None:
    ended = run(command, "--help")
    assert ended.status == 0
    assert ended.out.startswith(f"Usage: llmgate {command} ")


@pytest.mark.parametrize("variable", [variable for _, _, variable in OVERRIDES])
def test_help_of_serve_tells_the_variable_of_each_flag(run: Run, variable: str) -> None:
    assert f"env var: {variable}]" in " ".join(run("serve", "--help").out.split())


def test_version(run: Run) -> None:
    ended = run("--version")
    assert (ended.status, ended.out) == (0, f"llmgate, version {version('llmgate-core')}\n")


def test_an_unknown_command(run: Run) -> None:
    ended = run("chekc")
    assert ended.status == 2
    assert "no such command `chekc`; did you mean `check`?" in ended.err


def test_an_unknown_flag(run: Run) -> None:
    ended = run("check", "--prot", "1")
    assert ended.status == 2
    assert "did you mean `--port`?" in ended.err
    assert "--prot" in ended.err


def test_python_m_is_the_same_program(folder: Path) -> None:
    """And a command that loads no plugin imports neither an HTTP client nor a server."""
    program = "import runpy, sys; sys.argv = ['llmgate', '--version']\n"
    program += "try: runpy.run_module('llmgate_core', run_name='__main__')\n"
    program += "finally: print(sorted({'aiohttp', 'httpx', 'hypercorn', 'starlette', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"llmgate, version {version('llmgate-core')}", "[]"]


# --- serve: what can be said without serving -------------------------------------------------------------------------


def test_serve_help_shows_the_flags_of_installed_plugins(run: Run) -> None:
    ended = run("serve", "--help")
    assert "Options of connector qwen-oauth:" in ended.out
    assert "--enable-qwen-oauth-backend-debugging-override" in ended.out


def test_serve_help_without_a_blocked_plugin(run: Run) -> None:
    ended = run("serve", "--help", LLMGATE_BLOCK_PLUGINS="qwen-oauth,minimax,ollama,cap-tokens")
    assert ended.status == 0
    assert "--demo" in ended.out
    assert "qwen" not in ended.out


@pytest.mark.parametrize("command", [["serve"], ["check"], ["models"], ["explain", "m"]])
def test_nothing_configured_names_the_ways_out(run: Run, command: list[str]) -> None:
    ended = run(*command)
    assert ended.status == 2
    assert ended.out == ""
    assert ended.err.startswith("llmgate: no configuration found (looked for config/config.yaml and ")
    for way in ("llmgate init", "llmgate serve --demo", "config/config.example.yaml", "--default-backend"):
        assert way in ended.err


def test_serve_refuses_a_flag_that_no_plugin_offers(run: Run, write: Write) -> None:
    write(LOCAL)
    ended = run("serve", "--enable-qwen-oauth-backend-debugging-override")
    assert ended.status == 2
    assert (
        "no installed plugin offers `--enable-qwen-oauth-backend-debugging-override` to this configuration; "
        "see `llmgate plugins`" in ended.err
    )


def test_serve_takes_flags_only(run: Run, write: Write) -> None:
    write(LOCAL)
    ended = run("serve", "everything")
    assert ended.status == 2
    assert "`llmgate serve` takes flags only; see `llmgate serve --help`" in ended.err


# --- check -----------------------------------------------------------------------------------------------------------


def test_check_says_what_is_ready_and_what_is_not(run: Run, write: Write) -> None:
    write("""
        backends:
          openai-compatible.open: {extra: {base_url: "http://127.0.0.1:9"}}
          openai-compatible.locked: {extra: {base_url: "http://127.0.0.1:9", api_key: "env:ACME_KEY"}}
          openai-compatible.unset: {extra: {base_url: "http://127.0.0.1:9", api_key: "env:ACME_UNSET"}}
          openai-compatible.off: {extra: {base_url: "http://127.0.0.1:9"}, enabled: false}
    """)
    ended = run("check", ACME_KEY=KEY)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "ready: openai-compatible.open: needs no credential",
        "ready: openai-compatible.locked: key from environment variable `ACME_KEY`",
        "not ready: openai-compatible.unset: environment variable `ACME_UNSET` is not set; set it, then restart",
        "the configuration can be served",
    ]


def test_check_tells_every_problem_of_every_file_with_its_line(run: Run, write: Write) -> None:
    write("""
        server:
          prot: 8000
          host: [127.0.0.1]
        backends:
          openai-compatible.a:
            extra: {}
            enabeld: true
    """)
    write("extra: 3\n", "config/backends/backend-instances/openai-compatible.b.yaml")
    ended = run("check")
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.splitlines() == [
        "config.yaml:3: unknown key `server.prot`; did you mean `port`?",
        "config.yaml:4: `server.host`: expected `str`, got `list`.",
        "config.yaml:7: missing key `extra.base_url`",
        "config.yaml:8: unknown key `backends.openai-compatible.a.enabeld`; did you mean `enabled`?",
        "openai-compatible.b.yaml:1: `extra`: expected `mapping`, got `int`.",
        "openai-compatible.b.yaml:1: missing key `extra.base_url`",
    ]


def test_check_tells_every_problem_of_every_extra(run: Run, write: Write) -> None:
    write(f"""
        backends:
          openai-compatible.a:
            extra: {{base_ulr: {KEY}}}
          openai-compatible.b:
            extra:
              base_url: 5
              models: {KEY}
    """)
    ended = run("check")
    assert ended.status == 2
    assert ended.err.splitlines() == [
        "config.yaml:4: unknown key `extra.base_ulr`; did you mean `base_url`?",
        "config.yaml:4: missing key `extra.base_url`",
        "config.yaml:7: `extra.base_url`: expected `str`, got `int`.",
        "config.yaml:8: `extra.models`: expected `list`, got `str`; write a list, such as `[a, b]`.",
    ]


def test_check_advises_against_secrets_in_files(run: Run, write: Write) -> None:
    write(f"""
        auth: {{api_keys: ["{KEY}"]}}
        backends:
          openai-compatible.a:
            extra:
              base_url: http://127.0.0.1:9
              api_key: {KEY}
    """)
    ended = run("check")
    assert ended.status == 0
    advice = [line for line in ended.out.splitlines() if line.startswith("advice: ")]
    assert advice == [
        "advice: config.yaml:2: `auth.api_keys[0]`: the secret itself stands here; "
        "better say where it is, `env:NAME` or `file:PATH`, or its hash as `sha256:HEX`",
        "advice: config.yaml:7: `extra.api_key`: the secret itself stands here; "
        "better say where it is, `env:NAME` or `file:PATH`",
    ]


def test_check_names_flag_and_variable_instead_of_a_line(run: Run, write: Write) -> None:
    write(LOCAL)
    told = "`force_model`: there is no backend `openai-compatibel` (did you mean `openai-compatible`?); "
    by_flag = run("check", "--force-model", "openai-compatibel:m")
    assert (by_flag.status, by_flag.err.startswith(f"--force-model: {told}")) == (2, True)
    by_variable = run("check", LLMGATE_FORCE_MODEL="openai-compatibel:m")
    assert (by_variable.status, by_variable.err.startswith(f"LLMGATE_FORCE_MODEL: {told}")) == (2, True)
    both = run("check", "--force-model", "openai-compatibel:m", LLMGATE_FORCE_MODEL="small")
    assert both.err.startswith("--force-model: ")


def test_check_of_a_plugin_that_is_not_installed(run: Run, write: Write) -> None:
    write("\nbackends:\n  acmee:\n    type: acmee\n")
    ended = run("check", LLMGATE_BLOCK_PLUGINS="qwen-oauth,minimax,ollama,cap-tokens")
    assert ended.status == 2
    assert ended.err == (
        "config.yaml:4: no installed plugin provides connector `acmee` "
        "(installed plugins: anthropic-compatible, openai-compatible); see `llmgate plugins`\n"
    )


def test_check_of_a_blocked_plugin(run: Run, write: Write) -> None:
    write("backends: {qwen-oauth: null}\n")
    told = "plugin `qwen-oauth` is blocked (`plugins.block` or `LLMGATE_BLOCK_PLUGINS`)"
    by_variable = run("check", LLMGATE_BLOCK_PLUGINS="other, qwen-oauth")
    assert (by_variable.status, by_variable.err) == (2, f"config.yaml:1: {told}\n")
    write("backends: {qwen-oauth: null}\nplugins: {block: [llmgate-qwen-oauth]}\n")
    assert told in run("check").err


def test_check_refuses_an_open_door(run: Run, write: Write) -> None:
    write(LOCAL + "    server: {host: 0.0.0.0}\n")
    ended = run("check")
    assert ended.status == 3
    assert ended.err.startswith("llmgate: refusing to listen on 0.0.0.0 without keys")
    assert "`auth.api_keys`" in ended.err


def test_check_of_a_connector_that_raises_when_it_is_constructed(run: Run, write: Write) -> None:
    plugin = write(PLUGIN.format(constructor="raise RuntimeError('no licence file')"), "acme.py")
    ended = run("check", "--plugin", str(plugin), "--default-backend", "acme")
    assert ended.status == 2
    said = "backend `acme.default`: connector `acme` raised RuntimeError when constructed: no licence file"
    assert ended.err == f"llmgate: {said} ({plugin}:20)\n"


def test_check_of_a_policy_that_raises_when_it_is_constructed(run: Run, write: Write) -> None:
    plugin = write(
        """
        from llmgate_core import hookimpl

        LLMGATE_PLUGIN_API = 1

        class Broken:
            name = "broken"
            settings: None

            def __init__(self, settings):
                raise RuntimeError("no licence file")

            def apply(self, request, leaf, params):
                return None

        @hookimpl
        def llmgate_register_policies():
            return Broken
        """,
        "broken.py",
    )
    write(LOCAL)
    ended = run("check", "--plugin", str(plugin))
    assert ended.status == 2
    assert ended.err == "llmgate: policy `broken` raised RuntimeError when constructed: no licence file\n"


def test_check_of_a_plugin_file_that_is_not_there(run: Run, write: Write) -> None:
    write(LOCAL)
    ended = run("check", "--plugin", "nope.py")
    assert (ended.status, ended.err) == (2, "the command line: `--plugin nope.py`: no such Python file\n")


def test_check_names_the_line_that_loads_a_plugin_which_is_not_installed(run: Run, write: Write) -> None:
    write("plugins:\n  load: [acmee]\nbackends:\n  openai-compatible: {extra: {base_url: http://127.0.0.1:9}}\n")
    ended = run("check", LLMGATE_BLOCK_PLUGINS="qwen-oauth,minimax,ollama,cap-tokens")
    assert ended.status == 2
    assert ended.err.startswith("config.yaml:2: `plugins.load`: no installed plugin is called `acmee` (")


def test_check_guesses_which_backend_the_default_was_meant_to_be(run: Run, write: Write) -> None:
    write("default_backend: locla\n" + LOCAL_ALIAS)
    ended = run("check")
    assert ended.status == 2
    assert ended.err == "config.yaml:1: `default_backend`: names no backend that is configured; did you mean `local`?\n"


def test_check_of_a_default_that_is_neither_backend_nor_connector(run: Run, write: Write) -> None:
    write("default_backend: frobnicate\n" + LOCAL_ALIAS)
    assert "config.yaml:1: no installed plugin provides connector `frobnicate` (" in run("check").err


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("temprature=0.2", "unknown parameter `temprature`; did you mean `temperature`?"),
        ("temperature=9", "`temperature` must be a number from 0 to 2"),
        ("frobnicate=1", "unknown parameter `frobnicate`; known parameters: `temperature`, "),
    ],
)
def test_check_of_a_forced_model_with_a_wrong_parameter(run: Run, write: Write, query: str, told: str) -> None:
    write(LOCAL_ALIAS)
    ended = run("check", "--force-model", f"local:m?{query}")
    assert ended.status == 2
    assert ended.err.startswith(f"--force-model: `force_model`: {told}")
    assert run("check", "--force-model", "local:m?temperature=1").status == 0


def test_check_does_not_miss_what_a_broken_file_would_have_brought(run: Run, write: Write) -> None:
    plugin = write("raise RuntimeError('no licence')", "acme.py")
    ended = run("check", "--plugin", str(plugin), "--default-backend", "acme")
    assert ended.status == 2
    assert ended.err.startswith(f"the command line: `--plugin {plugin}`: RuntimeError: no licence (")
    assert "no installed plugin" not in ended.err


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("http://127.0.0.1:9/v1/chat/completions", "`base_url` ends in `/chat/completions`, which llmgate adds itself"),
        ("http://127.0.0.1:9/v1/chat/completions/", "`base_url` ends in `/chat/completions`"),
        ("https://anna:sk-MARKER-not-to-be-shown@llm.example/v1", "`base_url` holds a user or a password"),
        ("https://llm.example/v1?key=sk-MARKER-not-to-be-shown", "`base_url` ends in a query"),
    ],
)
def test_check_of_an_address_that_leads_nowhere(run: Run, write: Write, address: str, told: str) -> None:
    write(f"backends:\n  openai-compatible:\n    extra:\n      base_url: {address}\n")
    ended = run("check")
    assert ended.status == 2
    assert f"config.yaml:3: `extra`: {told}" in ended.err


def test_check_of_a_file_that_is_not_there(run: Run, folder: Path) -> None:
    ended = run("check", "--config", "nope.yaml")
    assert ended.status == 2
    assert ended.err == "nope.yaml: cannot be read: No such file or directory\n"


# --- plugins ---------------------------------------------------------------------------------------------------------


def test_plugins_as_text(run: Run, write: Write) -> None:
    broken = write("raise RuntimeError('broken')", "broken.py")
    ended = run("plugins", "--plugin", str(broken))
    assert ended.status == 1
    assert run("plugins").status == 0
    assert run("plugins", "--json", "--plugin", str(broken)).status == 1
    lines = ended.out.splitlines()
    assert f"ok   builtin  llmgate-core {version('llmgate-core')}" in lines
    assert f"ok   qwen-oauth  llmgate-qwen-oauth {version('llmgate-qwen-oauth')}" in lines
    assert "     brings connectors: qwen-oauth" in lines
    at = lines.index(f"FAIL broken  {broken} (a file)")
    assert lines[at + 1] == "     brings nothing"
    assert lines[at + 2].startswith(f"     `--plugin {broken}`: RuntimeError: broken (")


def test_plugins_as_json(run: Run) -> None:
    rows = {row["name"]: row for row in run("plugins", "--json").json()}
    assert rows["builtin"]["brings"]["connectors"] == ["openai-compatible", "anthropic-compatible"]
    assert rows["qwen-oauth"]["distribution"] == "llmgate-qwen-oauth"
    assert rows["qwen-oauth"]["problem"] is None
    blocked = run("plugins", "--json", LLMGATE_BLOCK_PLUGINS="qwen-oauth").json()
    assert "qwen-oauth" not in {row["name"] for row in blocked}


# --- models ----------------------------------------------------------------------------------------------------------


def test_models_that_are_configured(run: Run, write: Write) -> None:
    write(LOCAL)
    listed = run("models", "--json").json()
    ids = ["openai-compatible.local:small", "openai-compatible.local:large", "small", "large"]
    assert listed == {id: {"backend": "openai-compatible.local"} for id in ids}
    lines = [line.split() for line in run("models").out.splitlines()]
    assert lines == [
        ["model", "backend", "context", "max", "output", "input", "thinking"],
        *([id, "openai-compatible.local"] for id in ids),
    ]


def test_what_is_known_of_models(run: Run, write: Write) -> None:
    facts = "context: 128000, max_output: 8192, input: [text, image], thinking: always, refuses: [top_k]"
    write(f"{LOCAL}        model_facts: {{'lar*': {{{facts}}}}}")
    listed = run("models", "--json").json()
    assert listed["small"] == {"backend": "openai-compatible.local"}
    assert listed["large"] == {
        "backend": "openai-compatible.local",
        "context": 128000,
        "max_output": 8192,
        "input": ["text", "image"],
        "thinking": "always",
        "refuses": ["top_k"],
        "source": "configuration",
    }
    last = run("models", COLUMNS="200").out.splitlines()[-1]
    assert last.split() == ["large", "openai-compatible.local", "128,000", "8,192", "text,", "image", "always"]


def test_models_that_the_upstream_lists(run: Run, write: Write) -> None:
    async def listing(exchange: Exchange) -> None:
        await exchange.reply(200, {"data": [{"id": "tiny"}]}, {"content-type": "application/json"})

    with ScriptedUpstream.in_thread(listing) as upstream:
        write(f"""
            backends:
              openai-compatible.a:
                extra: {{base_url: "{upstream.url}/v1", api_key: "env:ACME_KEY"}}
              openai-compatible.dead:
                extra: {{base_url: "http://127.0.0.1:9/v1"}}
        """)
        ended = run("models", "--json", ACME_KEY=KEY)
    assert ended.status == 0
    assert ended.json() == {"openai-compatible.a:tiny": {"backend": "openai-compatible.a"}}
    (told,) = ended.err.splitlines()
    assert told.startswith("openai-compatible.dead lists nothing: 127.0.0.1:9: ")
    (request,) = upstream.requests
    assert (request.method, request.path) == ("GET", "/v1/models")
    assert request.headers["authorization"] == f"Bearer {KEY}"


# --- explain ---------------------------------------------------------------------------------------------------------


def test_explain_tells_each_step(run: Run, write: Write) -> None:
    write(LOCAL)
    ended = run("explain", "openai-compatible.local:small?top_p=0.5")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "asked for     openai-compatible.local:small?top_p=0.5",
        "plan          openai-compatible.local:small?top_p=0.5",
        "backend       openai-compatible.local (ready: needs no credential)",
        "model         small",
        "parameter     temperature = 0.7  (default)",
        "parameter     top_p = 0.5  (uri)",
        "parameter     seed = 7  (forced)",
        "body          model, temperature, top_p, seed changed; all other bytes as sent",
    ]


def test_explain_tells_which_layer_won(run: Run, write: Write) -> None:
    write(LOCAL)
    body = write(
        '{"model": "x", "messages": [{"role": "user", "content": "hi"}], "temperature": 1, "seed": 1}', "b.json"
    )
    ended = run("explain", "small?temperature=0.2&seed=3", "--body", str(body), "--json")
    (steps,) = ended.json()["branches"]
    assert steps["backend"] == {"name": "openai-compatible.local", "ready": True, "detail": "needs no credential"}
    assert steps["parameters"] == {
        "temperature": [
            {"value": 0.2, "layer": "uri"},
            {"value": 1, "layer": "client"},
            {"value": 0.7, "layer": "default"},
        ],
        "seed": [
            {"value": 7, "layer": "forced"},
            {"value": 3, "layer": "uri"},
            {"value": 1, "layer": "client"},
        ],
    }
    assert sorted(steps["changed_in_body"]) == ["model", "seed", "temperature"]
    text = run("explain", "small?temperature=0.2", "--body", str(body)).out
    assert "parameter     temperature = 0.2  (uri, over client 1, over default 0.7)" in text


def test_explain_tells_of_a_translation(run: Run, write: Write) -> None:
    write("backends: {anthropic-compatible: {extra: {base_url: 'http://127.0.0.1:9', models: [m]}}}")
    body = write('{"model": "m", "seed": 1, "messages": [{"role": "user", "content": "hi"}]}', "b.json")
    lines = run("explain", "m?temperature=0.5", "--body", str(body)).out.splitlines()
    assert lines[-3:] == [
        "parameter     temperature = 0.5  (uri)",
        "header        x-llmgate-lost: seed",
        "body          translated into anthropic.messages",
    ]


def test_explain_shows_every_branch(run: Run, write: Write) -> None:
    write(LOCAL)
    ended = run("explain", "[weight=3]small?temperature=0.2^[weight=1,ttft_timeout=5]large")
    assert ended.out.splitlines() == [
        "asked for     [weight=3]small?temperature=0.2^[weight=1,ttft_timeout=5]large",
        "plan          [weight=3]openai-compatible.local:small?temperature=0.2"
        "^[weight=1,ttft_timeout=5]openai-compatible.local:large",
        "strategy      weighted: one is drawn by weight; where it fails, another one of the rest",
        "branch 1",
        "backend       openai-compatible.local (ready: needs no credential)",
        "model         small",
        "note          weight = 3",
        "parameter     temperature = 0.2  (uri, over default 0.7)",
        "parameter     seed = 7  (forced)",
        "body          model, temperature, seed changed; all other bytes as sent",
        "branch 2",
        "backend       openai-compatible.local (ready: needs no credential)",
        "model         large",
        "note          weight = 1",
        "note          ttft_timeout = 5",
        "parameter     temperature = 0.7  (default)",
        "parameter     seed = 7  (forced)",
        "body          model, temperature, seed changed; all other bytes as sent",
    ]


LONG = '{"model": "x", "messages": [{"role": "user", "content": "%s"}]}' % ("word " * 100)


def test_explain_tells_which_branch_a_request_is_too_large_for(run: Run, write: Write) -> None:
    write(LOCAL)
    body = str(write(LONG, "b.json"))
    ended = run("explain", "[max_context=90]small|[max_context=900]large", "--body", body)
    lines = ended.out.splitlines()
    assert lines[3] == "estimate      the request has some 151 tokens"
    too_large = "left out      the whole branch: the request is estimated larger than its `max_context`"
    assert lines.index(too_large) == lines.index("note          max_context = 90") + 1
    assert lines.count(too_large) == 1
    steps = run("explain", "[max_context=90]small|large", "--body", body, "--json").json()
    assert steps["estimated_tokens"] == 147
    assert [branch["too_large"] for branch in steps["branches"]] == [True, False]
    assert run("explain", "small|large", "--body", body, "--json").json()["estimated_tokens"] is None


def test_explain_without_a_body_estimates_nothing(run: Run, write: Write) -> None:
    write(LOCAL)
    steps = run("explain", "[max_context=1]small", "--json").json()
    assert (steps["estimated_tokens"], steps["branches"][0]["too_large"]) == (None, False)
    assert "estimate" not in run("explain", "[max_context=1]small").out


def test_explain_refuses_what_is_too_large_for_every_branch(run: Run, write: Write) -> None:
    write(LOCAL)
    ended = run("explain", "[max_context=90]small|[max_context=80]large", "--body", str(write(LONG, "b.json")))
    assert (ended.status, ended.out) == (1, "")
    assert "estimated at 151 tokens" in ended.err


def test_explain_tells_what_the_model_does_not_take(run: Run, write: Write) -> None:
    write(f"{LOCAL}        model_facts: {{'*': {{refuses: [temperature]}}}}")
    ended = run("explain", "openai-compatible.local:small?temperature=0.2")
    assert "left out      temperature = 0.2  (uri): model `small` does not take it" in ended.out
    assert "left out      temperature = 0.7  (default): model `small` does not take it" in ended.out
    assert "header        x-llmgate-warning: left out: `temperature`: model `small` does not take it" in ended.out
    assert "parameter     temperature" not in ended.out
    (branch,) = run("explain", "small", "--json").json()["branches"]
    assert branch["left_out"] == [
        {"name": "temperature", "value": 0.7, "layer": "default", "reason": "model `small` does not take it"}
    ]
    assert branch["headers"] == {}


FAILED_EDIT = """
    {"model": "x", "temperature": 0.9, "messages": [
      {"role": "user", "content": "Make the total include tax."},
      {"role": "assistant", "content": null, "tool_calls":
        [{"id": "a", "type": "function", "function": {"name": "edit", "arguments": "{}"}}]},
      {"role": "tool", "tool_call_id": "a", "content":
        "Failed to edit, 0 occurrences found for old_string in cart.py. No edits made."}
    ]}
"""


def test_explain_shows_edit_precision(run: Run, write: Write) -> None:
    write(LOCAL)
    arguments = ["explain", "small", "--body", str(write(FAILED_EDIT, "b.json"))]
    for ended in (run(*arguments, "--enable-edit-precision"), run(*arguments, LLMGATE_ENABLE_EDIT_PRECISION="1")):
        assert ended.status == 0
        lines = ended.out.splitlines()
        assert "parameter     temperature = 0.1  (policy, over client 0.9, over default 0.7)" in lines
        assert "header        x-llmgate-edit-precision: qwen-code-not-found" in lines
    for off in (run(*arguments), run(*arguments, "--no-enable-edit-precision", LLMGATE_ENABLE_EDIT_PRECISION="true")):
        assert "parameter     temperature = 0.9  (client, over default 0.7)" in off.out
        assert "x-llmgate-edit-precision" not in off.out


def test_the_selector_and_the_model_outrank_edit_precision(run: Run, write: Write) -> None:
    write(f"{LOCAL}    edit_precision: {{enabled: true}}\n")
    body = str(write(FAILED_EDIT, "b.json"))

    def steps(selector: str, *flags: str) -> Any:
        (branch,) = run("explain", selector, "--body", body, "--json", *flags).json()["branches"]
        return branch

    outranked = steps("small?temperature=0.4")
    assert outranked["parameters"]["temperature"][0] == {"value": 0.4, "layer": "uri"}
    refused = steps("gpt-5")
    assert refused["parameters"]["temperature"][0] == {"value": 0.9, "layer": "client"}
    assert {one["layer"] for one in refused["left_out"]} == {"policy", "default"}
    off = steps("small", "--no-enable-edit-precision")
    assert [branch["headers"] for branch in (outranked, refused, off)] == [{}, {}, {}]
    assert steps("small")["headers"] == {"x-llmgate-edit-precision": "qwen-code-not-found"}


def test_explain_shows_what_force_model_does(run: Run, write: Write) -> None:
    write(LOCAL)
    lines = run("explain", "anything", "--force-model", "large").out.splitlines()
    assert lines[:3] == [
        "asked for     anything",
        "force_model   large  (--force-model)",
        "plan          openai-compatible.local:large",
    ]


def test_explain_shows_rewrites_and_routes_with_their_places(run: Run, write: Write) -> None:
    write(
        f"failover_routes:\n  coder: large?top_p=0.5\nmodel_aliases: [{{pattern: 'a-.*', replacement: coder}}]\n{ONE}"
    )
    ended = run("explain", "a-b", "--model-alias", "b=large", LLMGATE_MODEL_ALIASES="")
    assert ended.out.splitlines()[:4] == [
        "asked for     a-b",
        "rewrite       coder  (`a-.*`, config.yaml:3)",
        "route         large?top_p=0.5  (config.yaml:2)",
        "plan          openai-compatible.local:large?top_p=0.5",
    ]
    assert run("explain", "a-b", "--json").json()["steps"] == [
        {"step": "rewrite", "where": "config.yaml:3", "pattern": "a-.*", "selector": "coder"},
        {"step": "route", "where": "config.yaml:2", "name": "coder", "selector": "large?top_p=0.5"},
    ]
    assert run("explain", "large", "--json").json()["steps"] == []


def test_rewrites_of_flag_variable_and_file_are_tried_in_this_order(run: Run, write: Write) -> None:
    write(f"model_aliases: [{{pattern: 'm.*', replacement: file}}]\n{ONE}")
    variable = json.dumps([{"pattern": "mm.*", "replacement": "variable"}])

    def went(text: str) -> str:
        flags = ("--model-alias", "mmm.*=flag", "--model-alias", "mmmm=flag-2")
        return str(
            run("explain", text, "--json", *flags, LLMGATE_MODEL_ALIASES=variable).json()["branches"][0]["model"]
        )

    assert [went("m"), went("mm"), went("mmm"), went("mmmm"), went("n")] == ["file", "variable", "flag", "flag", "n"]


def test_a_demo_takes_rewrites_too(run: Run) -> None:
    """With a port that is none, so that it ends in any case."""
    ended = run("serve", "--demo", "--port", "70000", "--model-alias", "no-sign")
    assert ended.status == 2
    assert [line.partition(": ")[0] for line in ended.err.splitlines()] == ["--model-alias", "--port"]


@pytest.mark.parametrize("command", ["serve", "check", "models", "explain"])
def test_help_tells_of_rewrites(run: Run, command: str) -> None:
    told = " ".join(run(command, "--help").out.split())
    assert "--model-alias PATTERN=REPLACEMENT" in told
    assert "LLMGATE_MODEL_ALIASES" in told


def test_check_advises_about_rewrites_that_are_never_reached(run: Run, write: Write) -> None:
    write(f"model_aliases: [{{pattern: 'm', replacement: large}}]\n{ONE}")
    ended = run("check", "--model-alias", ".*=small")
    assert ended.status == 0
    assert ended.out.startswith("advice: config.yaml:1: `model_aliases[0]`: can never be reached: ")


def test_check_tells_rewrites_that_cannot_work_with_everything_else(run: Run, write: Write) -> None:
    write(f"model_aliases: [{{pattern: '(m', replacement: large}}]\n{ONE}")
    ended = run("check", "--model-alias", "a=nowhere:m", "--model-alias", "no-sign", LLMGATE_MODEL_ALIASES="{")
    assert ended.status == 2
    assert [line.partition("`")[0] for line in ended.err.splitlines()] == [
        "--model-alias: expected ",
        "LLMGATE_MODEL_ALIASES: expected a JSON array, such as ",
        "config.yaml:1: ",
    ]


def test_models_list_routes(run: Run, write: Write) -> None:
    write(f"failover_routes: {{coder: large}}\n{ONE}")
    assert run("models", "--json").json()["coder"] == {"backend": "route"}
    assert ["coder", "route"] in [line.split() for line in run("models").out.splitlines()]


def test_explain_puts_a_caret_under_the_mistake(run: Run, write: Write) -> None:
    write(LOCAL)
    ended = run("explain", "small?temperature")
    assert ended.status == 1
    assert ended.out == ""
    assert ended.err == (
        "llmgate: this request would be answered with an error:\n"
        "expected `name=value`\n"
        "  small?temperature\n"
        "        ^\n"
    )


def test_explain_refuses_what_a_request_would_be_refused_for(run: Run, write: Write) -> None:
    write(LOCAL)
    ended = run("explain", "small?temperature=9")
    assert ended.status == 1
    assert "temperature" in ended.err


@pytest.mark.parametrize("content", ["", "{", "[]", '{"messages": 3}'])
def test_explain_with_a_body_that_is_none(run: Run, write: Write, content: str) -> None:
    write(LOCAL)
    ended = run("explain", "small", "--body", str(write(content, "b.json")))
    assert ended.status == 1
    assert ended.err.startswith("llmgate: this request would be answered with an error:\n")


# --- schema ----------------------------------------------------------------------------------------------------------


def test_schema_is_one_document_of_all(run: Run) -> None:
    schemas = run("schema").json()
    assert {"config", "openai-compatible", "qwen-oauth"} <= set(schemas)
    assert schemas["openai-compatible"]["properties"]["extra"]["required"] == ["base_url"]


def test_schema_writes_one_file_each(run: Run, folder: Path) -> None:
    ended = run("schema", "--write", "new/schemas", LLMGATE_BLOCK_PLUGINS="qwen-oauth,minimax,ollama,cap-tokens")
    assert ended.status == 0
    written = sorted(path.name for path in (folder / "new" / "schemas").iterdir())
    assert written == ["anthropic-compatible.json", "config.json", "openai-compatible.json"]
    in_order = ["config.json", "anthropic-compatible.json", "openai-compatible.json"]
    assert ended.out.splitlines() == [f"wrote {Path('new/schemas') / name}" for name in in_order]
    assert (
        json.loads((folder / "new/schemas/config.json").read_text())
        == run("schema", LLMGATE_BLOCK_PLUGINS="qwen-oauth,minimax,ollama,cap-tokens").json()["config"]
    )


def test_what_a_thread_raises_goes_to_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", log_of_threads)
    thread = threading.Thread(target=int, args=("no number",), name="of-a-plugin")
    thread.start()
    thread.join()
    (record,) = caplog.records
    assert record.getMessage() == "thread of-a-plugin raised"
    assert "ValueError: invalid literal" in caplog.text
