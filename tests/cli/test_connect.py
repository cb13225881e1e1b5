"""`llmgate connect`: the lines for each agent, what the test says, and that no key is ever printed."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llmgate_core.cli.agents import AGENTS, Target
from llmgate_core.cli.connect import target_of
from llmgate_core.cli.running import Asked
from llmgate_core.testing import Exchange, ScriptedUpstream

if TYPE_CHECKING:
    from tests.cli.conftest import Run, Write

KEY = "sk-MARKER-connect"
URL = "http://127.0.0.1:8000"
SECONDS = 60.0

LISTED = {
    "object": "list",
    "data": [
        {"id": "a:large", "context_length": 1000, "top_provider": {"max_completion_tokens": 100}},
        {"id": "b:small", "context_length": 500, "top_provider": {"max_completion_tokens": 200}},
        {"id": "b:unknown", "top_provider": None},
        {"id": "b:\x1b[2J"},
    ],
}
CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "get_weather", "arguments": ""}}

Script = Callable[[Exchange], Awaitable[None]]
Gateways = Callable[[Script], str]


@pytest.fixture
def gateway() -> Iterator[Gateways]:
    with ExitStack() as stack:
        yield lambda script: stack.enter_context(ScriptedUpstream.in_thread(script)).url


def chat(*deltas: dict[str, Any], finish: str | None = "tool_calls") -> Script:
    """A gateway that answers in chat's dialect."""

    async def script(exchange: Exchange) -> None:
        if exchange.request.path == "/v1/models":
            await exchange.reply(200, LISTED)
            return
        for delta in deltas:
            await exchange.sse({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        if finish:
            await exchange.sse({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        await exchange.sse("[DONE]")

    return script


def arguments(*pieces: str) -> list[dict[str, Any]]:
    head = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    return [head, *[{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in pieces]]


WORKS = chat(*arguments('{"city": ', '"杭州"}'))


def refuses(status: int, content: Any, *, models: bool = False) -> Script:
    async def script(exchange: Exchange) -> None:
        if exchange.request.path == "/v1/models" and not models:
            await exchange.reply(200, LISTED)
        else:
            await exchange.reply(status, content)

    return script


# --- the lines of each agent ------------------------------------------------------------------------------------------

FULL = Target(URL, False, "local:m?temperature=0.2", 65536, 8192)
KEYED = Target(URL, True, "local:m")

GOLDEN = {
    "claude-code": (
        """\
[in the shell]
export ANTHROPIC_BASE_URL=http://127.0.0.1:8000
export ANTHROPIC_AUTH_TOKEN=any
export ANTHROPIC_MODEL='local:m?temperature=0.2'
export ANTHROPIC_DEFAULT_OPUS_MODEL="$ANTHROPIC_MODEL"
export ANTHROPIC_DEFAULT_SONNET_MODEL="$ANTHROPIC_MODEL"
export ANTHROPIC_DEFAULT_HAIKU_MODEL="$ANTHROPIC_MODEL"
export CLAUDE_CODE_SUBAGENT_MODEL="$ANTHROPIC_MODEL"
export CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1
export CLAUDE_CODE_MAX_CONTEXT_TOKENS=65536
claude""",
        """\
[in the shell]
export ANTHROPIC_BASE_URL=http://127.0.0.1:8000
export ANTHROPIC_AUTH_TOKEN="$LLMGATE_KEY"
export ANTHROPIC_MODEL=local:m
export ANTHROPIC_DEFAULT_OPUS_MODEL="$ANTHROPIC_MODEL"
export ANTHROPIC_DEFAULT_SONNET_MODEL="$ANTHROPIC_MODEL"
export ANTHROPIC_DEFAULT_HAIKU_MODEL="$ANTHROPIC_MODEL"
export CLAUDE_CODE_SUBAGENT_MODEL="$ANTHROPIC_MODEL"
export CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1
claude""",
    ),
    "codex": (
        """\
[in ~/.codex/config.toml, the first lines above every [table]]
model = "local:m?temperature=0.2"
model_provider = "llmgate"
model_context_window = 65536

[model_providers.llmgate]
name = "llmgate"
base_url = "http://127.0.0.1:8000/v1"
env_key = "LLMGATE_KEY"
wire_api = "responses"
[in the shell]
export LLMGATE_KEY=any
codex""",
        """\
[in ~/.codex/config.toml, the first lines above every [table]]
model = "local:m"
model_provider = "llmgate"

[model_providers.llmgate]
name = "llmgate"
base_url = "http://127.0.0.1:8000/v1"
env_key = "LLMGATE_KEY"
wire_api = "responses"
[in the shell]
codex""",
    ),
    "qwen-code": (
        """\
[in ~/.qwen/settings.json]
{
  "model": {
    "generationConfig": {
      "contextWindowSize": 65536
    }
  }
}
[in the shell]
export OPENAI_BASE_URL=http://127.0.0.1:8000/v1
export OPENAI_API_KEY=any
export OPENAI_MODEL='local:m?temperature=0.2'
qwen --auth-type openai""",
        """\
[in the shell]
export OPENAI_BASE_URL=http://127.0.0.1:8000/v1
export OPENAI_API_KEY="$LLMGATE_KEY"
export OPENAI_MODEL=local:m
qwen --auth-type openai""",
    ),
    "opencode": (
        """\
[in opencode.json of the project, or ~/.config/opencode/opencode.json]
{
  "model": "llmgate/local:m?temperature=0.2",
  "small_model": "llmgate/local:m?temperature=0.2",
  "provider": {
    "llmgate": {
      "npm": "@ai-sdk/openai-compatible",
      "options": {
        "baseURL": "http://127.0.0.1:8000/v1",
        "apiKey": "any"
      },
      "models": {
        "local:m?temperature=0.2": {
          "limit": {
            "context": 65536,
            "output": 8192
          }
        }
      }
    }
  }
}
[in the shell]
opencode""",
        """\
[in opencode.json of the project, or ~/.config/opencode/opencode.json]
{
  "model": "llmgate/local:m",
  "small_model": "llmgate/local:m",
  "provider": {
    "llmgate": {
      "npm": "@ai-sdk/openai-compatible",
      "options": {
        "baseURL": "http://127.0.0.1:8000/v1",
        "apiKey": "{env:LLMGATE_KEY}"
      },
      "models": {
        "local:m": {}
      }
    }
  }
}
[in the shell]
opencode""",
    ),
    "aider": (
        """\
[in .aider.model.metadata.json of the project or of the home folder]
{
  "openai/local:m?temperature=0.2": {
    "max_input_tokens": 65536,
    "max_output_tokens": 8192,
    "litellm_provider": "openai",
    "mode": "chat"
  }
}
[in the shell]
export OPENAI_API_BASE=http://127.0.0.1:8000/v1
export OPENAI_API_KEY=any
aider --model 'openai/local:m?temperature=0.2' --weak-model 'openai/local:m?temperature=0.2' \
--editor-model 'openai/local:m?temperature=0.2'""",
        """\
[in the shell]
export OPENAI_API_BASE=http://127.0.0.1:8000/v1
export OPENAI_API_KEY="$LLMGATE_KEY"
aider --model openai/local:m --weak-model openai/local:m --editor-model openai/local:m""",
    ),
}


@pytest.mark.parametrize("name", AGENTS)
def test_the_lines_of_each_agent(name: str) -> None:
    for target, golden in zip((FULL, KEYED), GOLDEN[name], strict=True):
        pieces = AGENTS[name].pieces(target)
        assert "\n".join(f"[{piece.where}]\n{piece.text}" for piece in pieces) == golden


AWKWARD = """a:x$(id)'"`;&|b:y\\z 用"""


def test_a_selector_of_all_signs_stays_one_word_in_a_shell() -> None:
    for name, variable in (("claude-code", "ANTHROPIC_MODEL"), ("qwen-code", "OPENAI_MODEL"), ("aider", "given")):
        [*_, shell] = AGENTS[name].pieces(Target(URL, False, AWKWARD))
        commands = "claude() { :; }; qwen() { :; }; aider() { given=${2#openai/}; }"
        script = f'{commands}\n{shell.text}\nprintf %s "${variable}"'
        done = subprocess.run(["sh", "-c", script], capture_output=True, encoding="utf-8", check=True)
        assert (done.stdout, done.stderr) == (AWKWARD, "")


def test_a_selector_of_all_signs_stays_one_string_in_a_file() -> None:
    target = Target(URL, False, AWKWARD, 1, 1)
    codex, opencode, aider = (AGENTS[name].pieces(target)[0].text for name in ("codex", "opencode", "aider"))
    assert tomllib.loads(codex)["model"] == AWKWARD
    assert list(json.loads(opencode)["provider"]["llmgate"]["models"]) == [AWKWARD]
    assert list(json.loads(aider)) == [f"openai/{AWKWARD}"]


# --- which model, which window ----------------------------------------------------------------------------------------


def test_the_whole_output(run: Run, gateway: Gateways) -> None:
    url = gateway(WORKS)
    ended = run("connect", "aider", "--url", url)
    assert (ended.status, ended.err) == (0, "")
    first, *_, last = ended.out.splitlines()
    assert first == (
        f"# aider (as of 0.86.2) at {url}, model a:large (the first that the gateway lists; `--model` takes another)"
    )
    assert re.fullmatch(r'# test: tool call get_weather \{"city": "杭州"\} after \d+\.\d s', last)
    assert f"export OPENAI_API_BASE={url}/v1\n" in ended.out


@pytest.mark.parametrize(
    ("listed", "chosen"),
    [
        (["a:nomic-embed-text", "a:bge-reranker", "a:qwen2.5-coder"], "a:qwen2.5-coder"),
        (["a:nomic-embed-text"], "a:nomic-embed-text"),
    ],
)
def test_an_agent_is_not_pointed_at_what_cannot_converse(listed: list[str], chosen: str) -> None:
    assert target_of(Asked(URL, None), None, {id: {} for id in listed}).model == chosen


@pytest.mark.parametrize(
    ("model", "context"),
    [
        ("a:large", 1000),
        ("b:small?temperature=0.2", 500),
        ("a:large?temperature=0.2|b:small", 500),
        ("a:large|b:unknown", None),
        ("b:unknown", None),
        ("an alias|", None),
    ],
)
def test_of_several_branches_the_smallest_window(run: Run, gateway: Gateways, model: str, context: Any) -> None:
    ended = run("connect", "codex", "--no-test", "--json", "--model", model, "--url", gateway(WORKS))
    assert (ended.status, ended.err) == (0, "")
    told = ended.json()
    assert (told["model"], told["context"], told["test"]) == (model, context, None)
    assert ("model_context_window" in told["lines"][0]["text"]) is (context is not None)


def test_without_the_test_nothing_is_asked_but_the_models(run: Run, gateway: Gateways) -> None:
    ended = run("connect", "codex", "--no-test", "--url", gateway(refuses(500, "no")))
    assert (ended.status, ended.err) == (0, "")
    assert "test:" not in ended.out


def test_json_has_the_lines_and_the_test(run: Run, gateway: Gateways) -> None:
    told = run("connect", "opencode", "--json", "--url", gateway(WORKS)).json()
    assert [piece["where"] for piece in told["lines"]][1:] == ["in the shell"]
    assert told["test"].pop("seconds") >= 0
    assert told["test"] == {"tool": "get_weather", "arguments": {"city": "杭州"}, "text": "", "lost": None}


def test_a_gateway_that_lists_nothing(run: Run, gateway: Gateways) -> None:
    url = gateway(refuses(200, {"data": []}, models=True))
    ended = run("connect", "codex", "--url", url)
    assert (ended.status, ended.out) == (1, "")
    assert "lists no models; name one with `--model`" in ended.err


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_is_used_and_never_printed(run: Run, gateway: Gateways) -> None:
    used = []

    async def script(exchange: Exchange) -> None:
        used.append(exchange.request.headers["authorization"])
        if exchange.request.path == "/v1/models":
            await exchange.reply(200, LISTED)
        else:
            await exchange.reply(400, {"error": {"message": f"I say {KEY}"}})

    for flags in ([], ["--json"]):
        ended = run("connect", "qwen-code", "--url", gateway(script), "--api-key", KEY, *flags)
        assert ended.status == 1
        assert "I say ***" in ended.err
        assert "$LLMGATE_KEY" in ended.out
    assert used == [f"Bearer {KEY}"] * 4


def test_a_key_that_comes_back_is_struck_out(run: Run, gateway: Gateways) -> None:
    refusal = refuses(403, {"error": {"message": f"not with {KEY}"}}, models=True)
    assert "not with ***" in run("connect", "codex", "--url", gateway(refusal), "--api-key", KEY).err
    for script in (chat({"content": KEY}), chat(*arguments(f'{{"city": "{KEY}"}}'))):
        for flags in ([], ["--json"]):
            ended = run("connect", "qwen-code", "--url", gateway(script), "--api-key", KEY, *flags)
            assert (ended.status, "***" in ended.out) == (0, True)


def test_how_to_set_the_key_is_told_where_there_is_one(run: Run, gateway: Gateways) -> None:
    url = gateway(WORKS)
    hint = "read -rs LLMGATE_KEY; export LLMGATE_KEY"
    assert hint in run("connect", "codex", "--url", url, "--api-key", KEY).out
    assert hint not in run("connect", "codex", "--no-test", "--url", url).out


def test_a_key_is_missing(run: Run, gateway: Gateways) -> None:
    url = gateway(refuses(401, {"error": {"message": "no key"}}, models=True))
    ended = run("connect", "codex", "--url", url)
    assert (ended.status, ended.out) == (1, "")
    assert "wants a key" in ended.err


# --- what the test saw ------------------------------------------------------------------------------------------------


def test_text_instead_of_a_call_is_a_warning(run: Run, gateway: Gateways) -> None:
    url = gateway(chat({"content": "It is\n"}, {"content": "sunny.\x1b[2J"}, finish="stop"))
    ended = run("connect", "opencode", "--url", url)
    assert ended.status == 0
    assert '# test: no tool call but text "It is sunny.?[2J" after' in ended.out
    assert ended.err == "llmgate: opencode needs a model that calls tools; try another with `--model`\n"
    assert run("connect", "aider", "--url", url).err == ""


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (chat(*arguments("{")), "whose arguments are no JSON: {;"),
        (chat({"content": " "}, finish="length"), "the answer is empty"),
        (chat({"content": "It is"}, finish=None), "has no proper end"),
        (refuses(404, {"error": {"message": "no\x1b such\nmodel"}}), "HTTP 404: no? such model; `llmgate models`"),
        (refuses(503, {"error": {"message": "busy"}}), "HTTP 503: busy; `llmgate status`"),
        (refuses(502, "<html>"), "HTTP 502: an error without a message"),
        (refuses(401, {"error": {"message": "no"}}), "wants a key"),
    ],
)
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_failed_test(run: Run, gateway: Gateways, script: Script, words: str, flags: list[str]) -> None:
    ended = run("connect", "qwen-code", "--url", gateway(script), *flags)
    assert ended.status == 1
    [line] = ended.err.splitlines()
    assert words in line
    if flags:
        assert words in ended.json()["test"]["error"]
    else:
        assert "export OPENAI_MODEL=a:large\n" in ended.out


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"error": {"message": "gone"}}, "the test failed: gone; `llmgate status`"),
        ([], "an event that no chat client can read"),
        ("{", "an event that no chat client can read"),
    ],
)
def test_a_stream_that_fails(run: Run, gateway: Gateways, event: Any, words: str) -> None:
    async def script(exchange: Exchange) -> None:
        if exchange.request.path == "/v1/models":
            await exchange.reply(200, LISTED)
        else:
            await exchange.sse(event)

    ended = run("connect", "qwen-code", "--url", gateway(script))
    assert ended.status == 1
    assert words in ended.err


def test_a_model_that_never_answers(run: Run, gateway: Gateways, monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(exchange: Exchange) -> None:
        if exchange.request.path == "/v1/models":
            await exchange.reply(200, LISTED)
        else:
            await exchange.hung_up()

    monkeypatch.setattr("llmgate_core.cli.connect.TEST_SECONDS", 0.3)
    ended = run("connect", "codex", "--url", gateway(script))
    assert (ended.status, "no whole answer within 0.3 s" in ended.err) == (1, True)


# --- whom it asks, and wrong usage ------------------------------------------------------------------------------------


def test_nobody_answers(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
    ended = run("connect", "codex", "--port", port)
    assert (ended.status, ended.out) == (1, "")
    assert "no gateway answers" in ended.err
    assert "`llmgate serve`" in ended.err


@pytest.mark.parametrize(("status", "content"), [(404, "x"), (200, []), (200, {"data": [1]}), (200, "<html>")])
def test_somebody_else_answers(run: Run, gateway: Gateways, status: int, content: Any) -> None:
    ended = run("connect", "codex", "--url", gateway(refuses(status, content, models=True)))
    assert (ended.status, ended.out) == (1, "")
    assert f"lists no models (HTTP {status}): another program" in ended.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["codx"], "no agent `codx` is known here; did you mean `codex`?"),
        (["x"], "there are claude-code, codex, qwen-code, opencode, aider"),
        ([], "Missing argument"),
        (["codex", "--model", "a\nb"], "one line of printable text"),
        (["codex", "--model", ""], "one line of printable text"),
        (["codex", "--url", "x"], "`--url` takes an address"),
    ],
)
def test_wrong_usage(run: Run, words: list[str], told: str) -> None:
    ended = run("connect", *words)
    assert (ended.status, ended.out) == (2, "")
    assert told in ended.err


# --- a real gateway, in each dialect ----------------------------------------------------------------------------------


async def model_that_calls(exchange: Exchange) -> None:
    """An upstream of chat's dialect that calls the tool which it is offered."""
    if exchange.request.path == "/v1/models":
        await exchange.reply(200, {"object": "list", "data": [{"id": "m", "object": "model"}]})
        return
    asked = exchange.request.json()
    assert [tool["function"]["name"] for tool in asked["tools"]] == ["get_weather"]
    common = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": asked["model"]}
    for delta in arguments('{"city": ', '"杭州"}'):
        await exchange.sse({**common, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    await exchange.sse({**common, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    await exchange.sse("[DONE]")


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `llmgate serve`, with one backend and one key."""
    folder: Path = tmp_path_factory.mktemp("serving")
    with ScriptedUpstream.in_thread(model_that_calls) as upstream:
        backend = f"{{type: openai-compatible, extra: {{base_url: '{upstream.url}/v1'}}}}"
        text = f"default_backend: local\nserver: {{port: 0}}\nauth: {{api_keys: [{KEY}]}}\n"
        text += f"backends: {{local: {backend}}}\n"
        (folder / "config.yaml").write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "llmgate_core", "serve", "--config", "config.yaml"]
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, encoding="utf-8") as process:
            watchdog = threading.Timer(SECONDS, process.kill)
            watchdog.start()
            try:
                assert process.stdout is not None
                address = re.search(r"http://\S+", process.stdout.readline())
                assert address
                yield address[0]
            finally:
                process.terminate()
                process.communicate()
                watchdog.cancel()


@pytest.mark.parametrize("name", AGENTS)
def test_each_agent_gets_its_tool_call_through_a_real_gateway(run: Run, serving: str, name: str) -> None:
    ended = run("connect", name, "--url", serving, "--api-key", KEY)
    assert (ended.status, ended.err) == (0, "")
    assert '# test: tool call get_weather {"city": "杭州"} after ' in ended.out


def test_a_real_gateway_refuses_in_each_dialect(run: Run, serving: str) -> None:
    for name in ("claude-code", "codex", "aider"):
        ended = run("connect", name, "--url", serving, "--api-key", KEY, "--model", "local:m?temperature=9")
        assert ended.status == 1
        assert "the test failed: HTTP 400: " in ended.err
        assert "temperature" in ended.err


def test_the_gateway_of_the_configuration(run: Run, write: Write, serving: str) -> None:
    write(f"server: {{port: {serving.rpartition(':')[2]}}}\nauth: {{api_keys: ['env:MINE']}}\n")
    assert run("connect", "codex", MINE=KEY).status == 0
