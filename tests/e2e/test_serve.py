"""`llmgate serve` from exec to the first answer, and every way in which it refuses to start."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import OpenUpstream, Portal, Process, Shell

    from llmgate_core.testing import Exchange

FLAG = "--enable-qwen-oauth-backend-debugging-override"
SLOWEST_START_SECONDS = 3.0

PLUGIN = '''
"""A connector before it is packaged."""

from dataclasses import dataclass
from typing import ClassVar

from llmgate_core import ApiKey, OpenAICompatible, Secret, hookimpl

LLMGATE_PLUGIN_API = 1


@dataclass(frozen=True)
class AcmeSettings:
    base_url: str
    api_key: Secret
    models: tuple[str, ...] = ("acme-1",)


class Acme(OpenAICompatible):
    """Talks to Acme."""

    name: ClassVar[str] = "acme"
    settings: AcmeSettings

    def credentials(self):
        return ApiKey(self.settings.api_key, self.instance.environ)


@hookimpl
def llmgate_register_connectors():
    return Acme
'''


def completion(text: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


async def echo_model(exchange: Exchange) -> None:
    await exchange.reply(200, completion(exchange.request.json()["model"]))


def ask(process: Process, model: str, **headers: str) -> tuple[int, dict[str, Any]]:
    """One plain chat; the status and the decoded body."""
    body = {"model": model, "messages": [{"role": "user", "content": "你好"}]}
    request = urllib.request.Request(
        f"{process.url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}},
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def said(answer: tuple[int, dict[str, Any]]) -> str:
    status, body = answer
    assert status == 200, body
    text: str = body["choices"][0]["message"]["content"]
    return text


def compatible(url: str, **extra: Any) -> dict[str, Any]:
    return {"type": "openai-compatible", "extra": {"base_url": f"{url}/v1", "models": ["m"], **extra}}


# --- a start ----------------------------------------------------------------------------------------------------------


def test_answers_soon_after_exec(shell: Shell) -> None:
    config = shell.config(backends={"openai-compatible": compatible("http://127.0.0.1:9")})
    fastest = SLOWEST_START_SECONDS
    for _ in range(2):  # the first start may have to read everything from the disk
        process = shell.serve("--config", config)
        with urllib.request.urlopen(f"{process.url}/healthz", timeout=5) as reply:
            assert reply.status == 200
        fastest = min(fastest, time.monotonic() - process.started)
    print(f"from exec to the first answer: {fastest:.2f} s")
    assert fastest < SLOWEST_START_SECONDS


def test_the_banner_says_what_somebody_wants_to_know(shell: Shell) -> None:
    backends = {"openai-compatible": compatible("http://127.0.0.1:9", api_key="env:NOT_SET"), "qwen-oauth": {}}
    process = shell.serve("--config", shell.config(backends=backends))
    url = process.url
    assert f"base URL {url}/v1" in process.output
    assert re.search(r"not ready +openai-compatible\.default: .*NOT_SET", process.wait_for(r"not ready.*NOT_SET.*")[0])
    assert FLAG in process.wait_for(r"not ready +qwen-oauth\.default: .*")[0]
    process.wait_for("callers' keys: none asked for")


def test_help_imports_no_server_and_no_client() -> None:
    code = "import sys; sys.argv[1:] = ['--help']; from llmgate_core.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, timeout=20, check=False
    )
    assert ended.returncode == 0
    assert "serve" in ended.stdout
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in ended.stderr.splitlines()}
    assert "click" in imported
    assert imported.isdisjoint({"hypercorn", "starlette", "httpx", "aiohttp", "httpx_aiohttp", "msgspec", "uvloop"})


# --- refusals ---------------------------------------------------------------------------------------------------------


def one_line(ended: subprocess.CompletedProcess[str], status: int) -> str:
    """What it printed, which is one line on standard error and nothing else."""
    assert ended.returncode == status, ended
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    return line


def test_nothing_configured(shell: Shell) -> None:
    line = one_line(shell.run("serve"), 2)
    assert "no configuration" in line
    assert "--demo" in line


def test_port_in_use(shell: Shell) -> None:
    config = shell.config(backends={"openai-compatible": compatible("http://127.0.0.1:9")})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = one_line(shell.run("serve", "--config", config, "--port", port), 1)
    assert port in line
    assert "in use" in line
    assert "--port" in line


def test_an_address_that_is_not_ours(shell: Shell) -> None:
    config = shell.config(
        auth={"api_keys": ["sk-e2e-caller"]}, backends={"openai-compatible": compatible("http://127.0.0.1:9")}
    )
    for host in ("no-such-host.invalid", "203.0.113.7"):  # a name that never resolves; RFC 5737's documentation net
        assert host in one_line(shell.run("serve", "--config", config, "--host", host), 2)


def test_anybody_could_come_in(shell: Shell) -> None:
    config = shell.config(backends={"openai-compatible": compatible("http://127.0.0.1:9")})
    line = one_line(shell.run("serve", "--config", config, "--host", "0.0.0.0"), 3)
    assert "without keys" in line
    assert "--api-key" in line


MISTAKES = {
    "server:\n  prot: 1\nauth: 7\n": [
        "gateway.yaml:2: unknown key `server.prot`; did you mean `port`?",
        "gateway.yaml:3: ",
    ],
    "backends:\n  acmee:\n    type: acmee\n": ["gateway.yaml:3: no installed plugin provides connector `acmee`"],
    "backends:\n  qwen-oauth:\n    extra:\n      modles: [a]\n      base_url: 3\n": [
        "gateway.yaml:4: unknown key `extra.modles`; did you mean `models`?",
        "gateway.yaml:5: `extra.base_url`: ",
    ],
    "server: {port: 0}\n  host: x\n": ["gateway.yaml:2: "],
    "force_model: nobody:m\n": ["gateway.yaml:1: `force_model`: "],
}


@pytest.mark.parametrize("text", MISTAKES)
def test_every_mistake_is_told_with_its_line(shell: Shell, text: str) -> None:
    ended = shell.run("serve", "--config", str(shell.write("gateway.yaml", text)))
    assert ended.returncode == 2
    lines = ended.stderr.splitlines()
    assert len(lines) == len(MISTAKES[text])
    for line, beginning in zip(lines, MISTAKES[text], strict=True):
        assert line.startswith(beginning)


def test_a_flag_that_nobody_offers(shell: Shell) -> None:
    ended = shell.run("serve", "--default-backend", "qwen-oauth", "--no-such-flag")
    assert ended.returncode == 2
    assert "no installed plugin offers `--no-such-flag`" in ended.stderr
    assert "`llmgate plugins`" in ended.stderr


def test_a_plugins_flag_needs_the_plugin_in_the_configuration(shell: Shell) -> None:
    config = shell.config(backends={"openai-compatible": compatible("http://127.0.0.1:9")})
    ended = shell.run("serve", "--config", config, FLAG)
    assert ended.returncode == 2
    assert FLAG in ended.stderr


# --- ways to configure ------------------------------------------------------------------------------------------------


def test_the_environment_configures(shell: Shell, upstream: OpenUpstream) -> None:
    backend = compatible(upstream(echo_model).url)
    config = shell.config(server={"port": 1}, backends={"openai-compatible": backend}, logging={"level": "error"})
    process = shell.serve(
        LLMGATE_CONFIG=config,
        LLMGATE_PORT="0",
        LLMGATE_HOST="localhost",
        LLMGATE_API_KEYS="env:CALLER, sk-e2e-second",
        CALLER="sk-e2e-first",
        LLMGATE_FORCE_MODEL="openai-compatible:forced",
        LLMGATE_LOG_LEVEL="info",
        LLMGATE_LOG_FORMAT="json",
    )
    assert ask(process, "anything")[0] == 401
    for key in ("sk-e2e-first", "sk-e2e-second"):
        assert said(ask(process, "anything", authorization=f"Bearer {key}")) == "forced"
    line = json.loads(process.wait_for(r'\{.*"status": ?200.*\}')[0])
    assert line["model"] == "anything"
    assert line["outcome"] == "ok"


def test_flags_outrank_the_environment_and_that_the_file(shell: Shell, upstream: OpenUpstream) -> None:
    backends = {name: compatible(upstream(echo_model).url) for name in ("a", "b", "c")}
    config = shell.config(default_backend="a:from-file", backends=backends)
    for arguments, environ, expected in (
        ((), {"LLMGATE_DEFAULT_BACKEND": "b:from-environment"}, "from-environment"),
        (("--default-backend", "c:from-flag"), {"LLMGATE_DEFAULT_BACKEND": "b:from-environment"}, "from-flag"),
    ):
        process = shell.serve("--config", config, *arguments, **environ)
        assert said(ask(process, "default")) == expected


def test_a_connector_from_a_single_file(shell: Shell, upstream: OpenUpstream) -> None:
    acme = upstream(echo_model)
    plugin = shell.write("acme.py", PLUGIN)
    extra = {"base_url": f"{acme.url}/v1", "api_key": "env:ACME_KEY"}
    config = shell.config(backends={"acme": {"extra": extra}})
    process = shell.serve("--config", config, "--plugin", str(plugin), ACME_KEY="sk-e2e-acme")
    assert said(ask(process, "acme:acme-1?temperature=0.5")) == "acme-1"
    (request,) = acme.requests
    assert request.headers["authorization"] == "Bearer sk-e2e-acme"
    assert request.json()["temperature"] == 0.5


def test_instance_files_alone_are_a_configuration(shell: Shell, upstream: OpenUpstream) -> None:
    backend = {"extra": compatible(upstream(echo_model).url)["extra"]}
    shell.write("config/backends/backend-instances/openai-compatible.work.yaml", json.dumps(backend))
    process = shell.serve("--port", "0")
    assert said(ask(process, "openai-compatible.work:m2")) == "m2"


# --- qwen-oauth's switch ----------------------------------------------------------------------------------------------


def test_qwen_without_any_file(shell: Shell, portal: Portal) -> None:
    process = shell.serve("--default-backend", "qwen-oauth", FLAG, "--port", "0", QWEN_HOME=str(portal.path.parent))
    assert "你好" in said(ask(process, "qwen3-coder-plus"))
    assert process.output.count("WARNING") == 1
    process.wait_for(r"ready +qwen-oauth\.default: .*oauth_creds\.json, token valid for")


def test_qwen_is_off_unless_switched_on(shell: Shell, portal: Portal) -> None:
    extra = portal.extra | {"enable_qwen_oauth_backend_debugging_override": False}
    config = shell.config(backends={"qwen-oauth": {"extra": extra}})
    process = shell.serve("--config", config)
    seen = len(portal.simulator.seen)
    for model in ("qwen-oauth:qwen3-coder-plus", "qwen-oauth:qwen3-coder-plus", "qwen-max"):
        status, body = ask(process, model)
        assert status == 403
        assert body["error"]["code"] == "backend_disabled"
        assert FLAG in body["error"]["message"]
    assert len(portal.simulator.seen) == seen
    assert FLAG in process.wait_for(r"not ready +qwen-oauth\.default: .*")[0]
    assert len(re.findall(r"WARNING .*qwen-oauth", process.output)) == 1

    variable = "LLMGATE" + FLAG.removeprefix("-").upper().replace("-", "_")
    process = shell.serve("--config", config, **{variable: "1"})
    assert "你好" in said(ask(process, "qwen-oauth:qwen3-coder-plus"))
    assert len(portal.simulator.seen) == seen + 1


def test_qwen_switched_on_in_its_instance_file(shell: Shell, portal: Portal) -> None:
    shell.write("files/qwen-oauth.default.yaml", json.dumps({"type": "qwen-oauth", "extra": portal.extra}))
    process = shell.serve("--backend-instances", "files", "--port", "0")
    assert "你好" in said(ask(process, "qwen-oauth:qwen3-coder-plus"))


# --- the demo ---------------------------------------------------------------------------------------------------------


def test_every_line_of_the_demo_can_be_pasted(shell: Shell) -> None:
    if shutil.which("curl") is None:
        pytest.fail("this test runs the demo's lines with the real `curl`, and there is none on this machine")
    process = shell.serve("--demo", "--port", "0")
    process.wait_for("Ctrl-C stops it")
    lines = [line.strip() for line in process.output.splitlines() if line.lstrip().startswith("curl ")]
    assert len(lines) >= 4
    answers = []
    for line in lines:
        pasted = line.replace("curl ", "curl --noproxy '*' --max-time 20 -w '\\n%{http_code}' ", 1)
        ended = subprocess.run(["sh", "-c", pasted], capture_output=True, text=True, timeout=30, check=False)
        body, _, status = ended.stdout.rpartition("\n")
        assert (ended.returncode, status) == (0, "200"), (line, ended)
        answers.append(body)
    listed, plain, streamed, called = answers[:4]
    assert "qwen-oauth:qwen3-coder-plus" in listed
    assert "打个招呼" in json.loads(plain)["choices"][0]["message"]["content"]
    assert streamed.rstrip().endswith("data: [DONE]")
    assert json.loads(called)["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "get_weather"
