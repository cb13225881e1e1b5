"""`llmgate status` and `/readyz` while a backend fails, with real processes."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.e2e.conftest import OpenUpstream, Process, Shell

    from llmgate_core.testing import Exchange

KEY = "sk-e2e-caller"
JSON = {"content-type": "application/json"}
NAME = "openai-compatible.default"


def compatible(url: str) -> dict[str, Any]:
    return {"openai-compatible": {"extra": {"base_url": f"{url}/v1", "models": ["m"]}}}


async def refuses(exchange: Exchange) -> None:
    await exchange.reply(401, {"error": {"message": "who are you?"}})


def ask(process: Process) -> int:
    """The status of one plain chat."""
    body = {"model": "openai-compatible:m", "messages": [{"role": "user", "content": "hi"}]}
    request = urllib.request.Request(f"{process.url}/v1/chat/completions", json.dumps(body).encode(), JSON)
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def port_of(process: Process) -> str:
    return process.wait_for(r"http://127\.0\.0\.1:(\d+)")[1]


def test_a_circuit_that_has_opened(shell: Shell, upstream: OpenUpstream) -> None:
    config = shell.config(backends=compatible(upstream(refuses).url), logging={"level": "warning"})
    process = shell.serve("--config", config)
    before = shell.run("status", "--config", config, "--port", port_of(process))
    assert (before.returncode, before.stderr) == (0, "")
    assert before.stdout.splitlines()[0].startswith(f"llmgate {version('llmgate-core')} at {process.url}: up ")
    assert before.stdout.splitlines()[1:] == [f"ready      {NAME}: needs no credential"]

    assert [ask(process) for _ in range(5)] == [502] * 5
    after = shell.run("status", LLMGATE_CONFIG=config, LLMGATE_PORT=port_of(process))
    assert after.returncode == 0
    assert "           m: circuit open after 5 failures in a row, tried again in " in after.stdout
    with urllib.request.urlopen(f"{process.url}/readyz", timeout=20) as ready:
        assert json.load(ready) == {"status": "ready", "backends": {NAME: "ready"}, "circuits": {NAME: "open"}}

    told = json.loads(shell.run("status", "--json", "--url", process.url).stdout)
    (model,) = told["backends"][0]["models"]
    assert (model["model"], model["circuit"], model["failures"]) == ("m", "open", 5)
    assert 0 < model["tried_again_in_seconds"] <= 30


def test_a_gateway_with_keys_on_all_interfaces(shell: Shell, upstream: OpenUpstream) -> None:
    config = shell.config(
        server={"host": "0.0.0.0"}, auth={"api_keys": ["env:CALLER"]}, backends=compatible(upstream(refuses).url)
    )
    process = shell.serve("--config", config, CALLER=KEY)
    asked = ("status", "--config", config, "--port", port_of(process))
    assert shell.run(*asked, CALLER=KEY).returncode == 0

    unset = shell.run(*asked)
    assert (unset.returncode, unset.stdout) == (1, "")
    assert "wants a key, and none was found for it" in unset.stderr
    wrong = shell.run(*asked, CALLER="sk-e2e-wrong")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "does not take the key that was found for it" in wrong.stderr


def test_no_backend_can_be_used(shell: Shell) -> None:
    backends = {"openai-compatible": {"extra": {"base_url": "http://127.0.0.1:9/v1", "api_key": "env:NOT_SET"}}}
    config = shell.config(backends=backends)
    process = shell.serve("--config", config)
    ended = shell.run("status", "--config", config, "--port", port_of(process))
    assert ended.returncode == 1
    assert f"not ready  {NAME}: environment variable `NOT_SET` is not set" in ended.stdout


def test_a_gateway_that_has_gone(shell: Shell) -> None:
    process = shell.serve("--config", shell.config(backends=compatible("http://127.0.0.1:9")))
    url = process.url
    process.kill()
    ended = shell.run("status", "--url", url)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "Start it with `llmgate serve`" in ended.stderr
