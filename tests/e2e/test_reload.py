"""SIGHUP: a new configuration is swapped in without dropping a stream; a bad one changes nothing and says why."""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import signal
import subprocess
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.e2e.conftest import LLMGATE, PATIENCE
from tests.e2e.test_serve import PLUGIN, ask, compatible, completion, echo_model, said
from tests.e2e.test_shutdown import SLACK_SECONDS, Storyteller, connect, read_all, read_until
from tests.e2e.test_shutdown import ask as ask_for_story

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import OpenUpstream, Process, Shell

    from llmgate_core.testing import Exchange, Script

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="SIGHUP is POSIX's")

DONE = "configuration read anew: "
STAYS = "the running configuration stays"


def saying(text: str) -> Script:
    async def answer(exchange: Exchange) -> None:
        await exchange.reply(200, completion(text))

    return answer


def up(url: str, **extra: Any) -> dict[str, Any]:
    return {"up": compatible(url, **extra)}


def reload(process: Process, count: int = 1) -> str:
    """Sends SIGHUP; the rest of the line that says that it was the `count`th to be heeded."""
    process.signal(signal.SIGHUP)
    return process.wait_for(f"{DONE}(.*)", count)[1]


def refused(process: Process, count: int = 1) -> list[str]:
    """Sends SIGHUP; the lines at level ERROR, once the last of them has come."""
    process.signal(signal.SIGHUP)
    process.wait_for(STAYS, count)
    return re.findall(r"ERROR +llmgate\.reload: (.*)", process.output)


# --- requests ---------------------------------------------------------------------------------------------------------


def test_a_stream_ends_where_it_began_while_new_requests_go_elsewhere(shell: Shell, upstream: OpenUpstream) -> None:
    storyteller = Storyteller()
    old, new = upstream(storyteller), upstream(saying("new"))
    process = shell.serve("--config", shell.config(backends=up(old.url)))
    with closing(connect(process)) as connection:
        ask_for_story(connection)
        got = read_until(connection, "从前")
        shell.config(backends=up(new.url))
        assert reload(process) == "backends changed openai-compatible.up"
        assert said(ask(process, "up:m")) == "new"
        status = httpx.get(f"{process.url}/llmgate/status", trust_env=False).json()
        assert status["in_flight"] == 1, "the story, which the old gateway tells"
        storyteller.go_on.set()
        got += read_until(connection, "[DONE]")
    assert "有座山" in got.decode()
    assert len(old.requests) == 1
    process.wait_for("outcome=ok .*stream=True")
    process.signal(signal.SIGTERM)
    assert process.wait() == 0


def test_the_next_request_of_a_connection_comes_to_the_new_configuration(shell: Shell, upstream: OpenUpstream) -> None:
    process = shell.serve("--config", shell.config(backends=up(upstream(saying("old")).url)))
    with closing(http.client.HTTPConnection(process.url.removeprefix("http://"), timeout=PATIENCE)) as connection:
        assert kept_alive(connection) == "old"
        kept = connection.sock
        shell.config(backends=up(upstream(saying("new")).url))
        reload(process)
        assert kept_alive(connection) == "new"
        assert connection.sock is kept is not None


def kept_alive(connection: http.client.HTTPConnection) -> str:
    """What is answered on this connection, which stays open."""
    body = json.dumps({"model": "up:m", "messages": [{"role": "user", "content": "?"}]})
    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    answered: str = json.loads(connection.getresponse().read())["choices"][0]["message"]["content"]
    return answered


def test_a_burst_of_requests_loses_none(shell: Shell, upstream: OpenUpstream) -> None:
    urls = [upstream(saying(name)).url for name in ("a", "b")]
    process = shell.serve("--config", shell.config(backends=up(urls[0])))
    over, answers, failures = threading.Event(), [], []

    def asks() -> None:
        with closing(http.client.HTTPConnection(process.url.removeprefix("http://"), timeout=PATIENCE)) as connection:
            while not over.is_set():
                try:
                    answers.append(kept_alive(connection))
                except Exception as error:
                    failures.append(error)
                    return

    assert process.url
    threads = [threading.Thread(target=asks) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(1, 11):
            shell.config(backends=up(urls[number % 2]))
            reload(process, number)
    finally:
        over.set()
        for thread in threads:
            thread.join(PATIENCE)
    assert not failures
    assert len(answers) > 20
    assert set(answers) == {"a", "b"}
    assert said(ask(process, "up:m")) == "a"


def test_many_signals_at_once_end_with_the_last_file(shell: Shell, upstream: OpenUpstream) -> None:
    url = upstream(echo_model).url
    process = shell.serve("--config", shell.config(backends=up(url), force_model="up:m-0"))
    assert process.url
    for number in range(1, 9):
        config = shell.folder / "next.yaml"
        config.write_text(json.dumps({"server": {"port": 0}, "backends": up(url), "force_model": f"up:m-{number}"}))
        config.replace(shell.folder / "gateway.yaml")
        process.signal(signal.SIGHUP)
    deadline = time.monotonic() + PATIENCE
    while said(ask(process, "up:m")) != "m-8":
        assert time.monotonic() < deadline
    process.wait_for(DONE)
    assert process.output.count(DONE) <= 8


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_bad_file_changes_nothing_and_names_each_line(shell: Shell, upstream: OpenUpstream) -> None:
    url = upstream(echo_model).url
    process = shell.serve("--config", shell.config(backends=up(url)))
    assert said(ask(process, "up:m")) == "m"
    shell.write("gateway.yaml", "server:\n  prot: 1\nauth: 7\nforce_model: 'up:forced'\n")
    first, second, *rest = refused(process)
    assert first == "gateway.yaml:2: unknown key `server.prot`; did you mean `port`?"
    assert second.startswith("gateway.yaml:3: ")
    assert rest[-1].endswith(f"{STAYS}, nothing has changed")
    assert said(ask(process, "up:m")) == "m"
    shell.config(backends=up(url), force_model="up:mended")
    assert reload(process) == "settings changed force_model"
    assert said(ask(process, "up:m")) == "mended"


def acme_with(method: str) -> str:
    """The plugin with one more method."""
    return PLUGIN.replace("    def credentials", f"    {method}\n\n    def credentials")


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"auth": {"api_keys": ["env:NOT_SET_ANYWHERE"]}}, "gateway.yaml:15: `auth.api_keys`: .*NOT_SET_ANYWHERE"),
        ({"server": {"host": "0.0.0.0"}}, "refusing to listen on 0.0.0.0 without keys"),
        ({"backends": {}}, "no backend any more"),
        ({"backends": {"nobody": {}}}, "no installed plugin provides connector `nobody`"),
    ],
)
def test_what_would_stand_against_a_start_is_refused(
    shell: Shell, upstream: OpenUpstream, sections: dict[str, Any], told: str
) -> None:
    backends = up(upstream(echo_model).url)
    process = shell.serve("--config", shell.config(backends=backends))
    assert process.url
    shell.config(**{"backends": backends, **sections})
    lines = refused(process)
    assert len(lines) == 2
    assert re.search(told, lines[0])
    assert said(ask(process, "up:m")) == "m"
    assert DONE not in process.output


def test_a_gateway_that_others_reach_keeps_asking_for_keys(shell: Shell) -> None:
    """The socket stays where it is: to write another host does not make it safe to do without keys."""
    backends = up("http://127.0.0.1:9")
    config = shell.config(server={"host": "0.0.0.0"}, auth={"api_keys": ["sk-e2e-caller"]}, backends=backends)
    process = shell.serve("--config", config)
    assert ask(process, "up:m")[0] == 401
    shell.config(server={"host": "127.0.0.1"}, backends=backends)
    (line, _) = refused(process)
    assert "until a restart the gateway listens on 0.0.0.0" in line
    assert ask(process, "up:m")[0] == 401


def test_a_plugin_file_that_breaks_changes_nothing(shell: Shell, upstream: OpenUpstream) -> None:
    plugin = shell.write("acme.py", PLUGIN)
    acme = upstream(echo_model)
    extra = {"base_url": f"{acme.url}/v1", "api_key": "sk-e2e-acme"}
    config = shell.config(backends={"acme": {"extra": extra}})
    process = shell.serve("--config", config, "--plugin", str(plugin))
    assert said(ask(process, "acme:m")) == "m"
    for broken in ("raise SystemExit(7)\n", acme_with("def __init__(self, instance):\n        1 / 0")):
        plugin.write_text(broken)
        refused(process, process.output.count(STAYS) + 1)
        assert said(ask(process, "acme:m")) == "m"
    process.wait_for("SystemExit")
    process.wait_for("ZeroDivisionError")
    plugin.write_text(acme_with("def url(self, call):\n        return super().url(call).replace('/v1/', '/v2/')"))
    assert reload(process) == "no setting has changed"
    assert said(ask(process, "acme:m")) == "m"
    assert acme.requests[-1].path == "/v2/chat/completions"


# --- what changes, and what survives ----------------------------------------------------------------------------------


def test_a_key_that_was_taken_away_lets_nobody_in(shell: Shell, upstream: OpenUpstream) -> None:
    backends = up(upstream(echo_model).url)
    key = shell.write("key", "sk-e2e-third")
    config = shell.config(backends=backends, auth={"api_keys": ["sk-e2e-first"]})
    process = shell.serve("--config", config)
    assert said(ask(process, "up:m", authorization="Bearer sk-e2e-first")) == "m"
    shell.config(backends=backends, auth={"api_keys": [{"name": "bob", "key": f"file:{key}"}]})
    assert reload(process) == "settings changed auth.api_keys"
    assert ask(process, "up:m", authorization="Bearer sk-e2e-first")[0] == 401
    assert said(ask(process, "up:m", authorization="Bearer sk-e2e-third")) == "m"
    key.write_text("sk-e2e-fourth")
    assert reload(process, 2) == "settings changed auth.api_keys"
    assert ask(process, "up:m", authorization="Bearer sk-e2e-third")[0] == 401
    assert said(ask(process, "up:m", authorization="Bearer sk-e2e-fourth")) == "m"
    # Both are struck out, the old one and the new one; the shell looks for them in all that was printed.
    for secret in ("sk-e2e-first", "sk-e2e-third", "sk-e2e-fourth"):
        ask(process, f"up:{secret}", authorization="Bearer sk-e2e-fourth")
    process.wait_for(r"model=up:\[secret\]", 3)


def test_a_rate_limit_does_not_end_with_a_reload(shell: Shell, upstream: OpenUpstream) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.reply(429, {"error": {"message": "slow down"}}, {"retry-after": "300"})

    limited, other = upstream(refuse), upstream(echo_model)
    process = shell.serve("--config", shell.config(backends=up(limited.url)))
    assert ask(process, "up:m")[0] == 429
    shell.config(
        backends={**up(limited.url), "other": compatible(other.url)}, failure_handling={"max_silent_wait_seconds": 2}
    )
    told = reload(process)
    assert told == "backends added openai-compatible.other; settings changed failure_handling.max_silent_wait_seconds"
    status, body = ask(process, "up:m")
    assert status == 429
    assert "has met a rate limit" in body["error"]["message"]
    assert len(limited.requests) == 1
    shell.config(backends=up(other.url))
    assert "removed openai-compatible.other, changed openai-compatible.up" in reload(process, 2)
    assert said(ask(process, "up:m")) == "m", "another upstream knows nothing of that limit"


def test_the_command_line_still_outranks_the_file(shell: Shell, upstream: OpenUpstream) -> None:
    backends = up(upstream(echo_model).url)
    config = shell.config(backends=backends, default_backend="up:file")
    process = shell.serve("--config", config, "--default-backend", "up:flag", LLMGATE_LOG_LEVEL="info")
    assert process.url
    shell.config(backends=backends, default_backend="up:other", logging={"level": "error"})
    assert reload(process) == "no setting has changed"
    assert said(ask(process, "default")) == "flag"


def test_what_needs_a_restart_is_told_and_the_rest_is_applied(shell: Shell, upstream: OpenUpstream) -> None:
    backends = up(upstream(echo_model).url)
    process = shell.serve("--config", shell.config(backends=backends))
    assert process.url
    sections = {"backends": {**backends, "not-yet": compatible("http://127.0.0.1:9", api_key="env:NOT_SET")}}
    shell.config(server={"port": 1}, force_model="up:forced", logging={"format": "json"}, **sections)
    process.signal(signal.SIGHUP)
    found = [process.wait_for(rf'.*"llmgate\.reload".*{what}.*')[0] for what in (DONE, "restart", "NOT_SET")]
    lines = [json.loads(line) for line in found]
    assert [line["level"] for line in lines] == ["info", "warning", "warning"]
    assert "`server.port` has changed" in lines[1]["message"]
    assert "server.port" not in lines[0]["message"]
    assert lines[2]["message"].startswith("backend openai-compatible.not-yet is not ready: ")
    assert said(ask(process, "up:m")) == "forced"


BEGUN = """
import pathlib, time

pathlib.Path("begun").touch()
"""
"""Of a plugin: says that its import has begun."""


# --- the beginning and the end ----------------------------------------------------------------------------------------


def test_a_signal_right_after_the_banner(shell: Shell) -> None:
    process = shell.serve("--config", shell.config(backends=up("http://127.0.0.1:9")))
    assert process.url
    process.signal(signal.SIGHUP)
    process.signal(signal.SIGTERM)
    assert process.wait() == 0
    assert "Traceback" not in process.output


def test_a_signal_before_it_listens_is_heeded_once_it_does(shell: Shell, upstream: OpenUpstream) -> None:
    waits = f"{BEGUN}while not pathlib.Path('go').exists():\n    time.sleep(0.01)\n"
    plugin = shell.write("acme.py", PLUGIN + waits)
    extra = {"base_url": f"{upstream(echo_model).url}/v1", "api_key": "sk-e2e-acme"}
    config = shell.config(backends={"acme": {"extra": extra}})
    process = shell.serve("--config", config, "--plugin", str(plugin))
    wait_for_file(shell.folder / "begun")
    process.signal(signal.SIGHUP)
    shell.config(backends={"acme": {"extra": extra}}, force_model="acme:forced")
    shell.write("go", "")
    process.wait_for(DONE)
    assert said(ask(process, "acme:m")) == "forced"


def test_streams_do_not_stall_while_a_plugin_is_imported(shell: Shell, upstream: OpenUpstream) -> None:
    plugin = shell.write("acme.py", PLUGIN)
    config = shell.config(backends=up(upstream(saying("at once")).url))
    process = shell.serve("--config", config, "--plugin", str(plugin))
    assert process.url
    plugin.write_text(f"{PLUGIN}{BEGUN}time.sleep(1.5)\n")
    process.signal(signal.SIGHUP)
    wait_for_file(shell.folder / "begun")
    assert said(ask(process, "up:m")) == "at once"
    assert DONE not in process.output
    process.signal(signal.SIGTERM)
    assert process.wait(SLACK_SECONDS) == 0
    assert DONE not in process.output


def wait_for_file(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("in_time", [True, False])
def test_the_grace_period_covers_what_began_before(shell: Shell, upstream: OpenUpstream, in_time: bool) -> None:
    storyteller, grace = Storyteller(), 30 if in_time else 0.5
    backends = up(upstream(storyteller).url)
    process = shell.serve("--config", shell.config(backends=backends, server={"shutdown_grace_seconds": 60}))
    with closing(connect(process)) as connection:
        ask_for_story(connection)
        got = read_until(connection, "从前")
        shell.config(backends=backends, server={"shutdown_grace_seconds": grace})
        reload(process)
        began = time.monotonic()
        process.signal(signal.SIGTERM)
        process.wait_for("finishing running requests")
        process.signal(signal.SIGHUP)  # ignored
        if in_time:
            storyteller.go_on.set()
        got += read_all(connection)
        assert process.wait() == 0
    assert time.monotonic() - began < (PATIENCE if in_time else grace + SLACK_SECONDS)
    assert (b"[DONE]" in got) == in_time
    assert (b"shutting down" in got) != in_time
    assert process.output.count(DONE) == 1


@pytest.mark.parametrize("prefix", [[], ["nohup"]])
def test_a_terminal_that_is_closed_asks_for_no_reload(shell: Shell, prefix: list[str]) -> None:
    log = shell.folder / "log"
    config = shell.config(backends=up("http://127.0.0.1:9"))
    controller, terminal = os.openpty()
    # A session's leader gets the first terminal that it opens.
    script = f"exec < {os.ttyname(terminal)}; exec {shlex.join([*prefix, LLMGATE, 'serve', '--config', config])}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["sh", "-c", f"{script} 2>&1"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            cwd=shell.folder,
            env=shell.environ,
            start_new_session=True,
        )
    try:
        wait_for_text(log, "llmgate listens")
        process.send_signal(signal.SIGHUP)
        wait_for_text(log, DONE)
        os.close(terminal)
        os.close(controller)
        if prefix:
            wait_for_text(log, DONE, 2)
            process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert log.read_text().count(DONE) == 1 + len(prefix)
    finally:
        process.kill()
        process.wait()


def wait_for_text(path: Path, text: str, count: int = 1) -> None:
    deadline = time.monotonic() + PATIENCE
    while path.read_text().count(text) < count:
        assert time.monotonic() < deadline, path.read_text()
        time.sleep(0.01)


def test_a_demo_has_nothing_to_read_anew(shell: Shell) -> None:
    process = shell.serve("--demo", "--port", "0")
    process.wait_for("Ctrl-C stops it")
    process.signal(signal.SIGHUP)
    process.wait_for("a demo has no configuration")
    process.signal(signal.SIGTERM)
    assert process.wait() == 0
