"""`llmgate auth` as a process of its own: a login heals a running gateway, and Ctrl-C leaves nothing behind."""

from __future__ import annotations

import json
import re
import signal
import stat
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Portal, Process, Shell

LINK = re.compile(r"(http://\S+/authorize\?user_code=(\S+?)&\S*)")
WAITING = "Waiting for 15 min at most until it is confirmed; Ctrl-C gives up"


@pytest.fixture
def config(shell: Shell, portal: Portal) -> str:
    return shell.config(backends={"qwen-oauth": {"extra": portal.extra}})


@pytest.fixture
def begun(shell: Shell, portal: Portal, config: str) -> Iterator[Process]:
    """A login that waits for the user, who has no credentials."""
    portal.path.unlink()
    process = shell.spawn("auth", "login", "qwen-oauth", "--config", config)
    process.wait_for(WAITING)
    yield process
    process.kill()


def ask(gateway: Process) -> tuple[int, str]:
    """Status and text of the answer to one chat."""
    body = {"model": "qwen-oauth:qwen3-coder-plus", "messages": [{"role": "user", "content": "你好"}]}
    request = urllib.request.Request(
        f"{gateway.url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_login_heals_a_running_gateway(shell: Shell, portal: Portal, config: str) -> None:
    portal.path.unlink()
    gateway = shell.serve("--config", config)
    status, text = ask(gateway)
    assert status == 502
    assert "log in with `llmgate auth login qwen-oauth`" in text

    process = shell.spawn("auth", "login", "qwen-oauth", "--config", config)
    link = process.wait_for(LINK)
    assert f"code {link[2]}" in process.output
    process.wait_for(WAITING)
    with urllib.request.urlopen(link[1], timeout=10) as page:
        assert page.status == 200
    assert process.wait() == 0
    assert process.output.splitlines()[-1] == (f"qwen-oauth.default: logged in: {portal.path}, token valid for 60 min")
    assert stat.S_IMODE(portal.path.stat().st_mode) == 0o600

    status, text = ask(gateway)
    assert status == 200
    assert "你好" in text


def test_from_login_to_logout(shell: Shell, portal: Portal, config: str) -> None:
    first = portal.stored()
    ended = shell.run("auth", "refresh", "--config", config)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert portal.stored()["refresh_token"] != first["refresh_token"]
    ended = shell.run("auth", "status", "--config", config, "--json")
    (row,) = json.loads(ended.stdout)
    assert (row["ready"], row["refused"], row["offers"]) == (True, None, ["login", "refresh", "logout"])
    assert row["facts"]["endpoint"] == f"{portal.simulator.url}/v1"
    ended = shell.run("auth", "logout", "qwen-oauth", "--config", config)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"removed {portal.path}" in ended.stdout
    assert not portal.path.exists()
    ended = shell.run("auth", "refresh", "qwen-oauth", "--config", config)
    assert ended.returncode == 1
    assert "there is no such file; log in with `llmgate auth login qwen-oauth`" in ended.stderr


def test_a_dead_refresh_token_says_log_in_again(shell: Shell, portal: Portal, config: str) -> None:
    portal.edit(refresh_token="simulated-refresh-unknown-0")
    ended = shell.run("auth", "refresh", "qwen-oauth", "--config", config)
    assert ended.returncode == 1
    assert "is no longer accepted; log in with `llmgate auth login qwen-oauth`" in ended.stderr


def files(folder: Path) -> list[str]:
    """All that was left behind but the lock of llmgate's own, which stays for ever."""
    return sorted(path.name for path in folder.iterdir() if path.name != "oauth_creds.llmgate.lock")


def test_ctrl_c_in_mid_login(begun: Process, portal: Portal) -> None:
    begun.signal(signal.SIGINT)
    assert begun.wait() == 1
    assert begun.output.splitlines()[-1] == "llmgate: interrupted; nothing was changed"
    assert files(portal.path.parent) == []


def test_ctrl_c_leaves_an_older_file_as_it_was(begun: Process, portal: Portal) -> None:
    portal.log_in()
    before = portal.path.read_bytes(), portal.path.stat().st_mtime_ns
    begun.signal(signal.SIGINT)
    assert begun.wait() == 1
    assert (portal.path.read_bytes(), portal.path.stat().st_mtime_ns) == before
    assert files(portal.path.parent) == ["oauth_creds.json"]


def test_the_user_says_no(begun: Process, portal: Portal) -> None:
    portal.simulator.deny(begun.wait_for(LINK)[2])
    assert begun.wait() == 1
    assert begun.output.splitlines()[-1] == (
        "llmgate: backend `qwen-oauth.default`: access was denied in the browser; log in again if that was a mistake"
    )
    assert files(portal.path.parent) == []


def test_without_a_configuration_file(shell: Shell, portal: Portal) -> None:
    """The flag is the plugin's. The real issuer is out of reach: a proxy leads nowhere."""
    override = "--enable-qwen-oauth-backend-debugging-override"
    ended = shell.run("auth", "login", override, "qwen-oauth", HTTPS_PROXY="http://127.0.0.1:9")
    assert ended.returncode == 1
    assert "published public client id" in ended.stdout
    assert ended.stderr.startswith("llmgate: backend `qwen-oauth.default`: ")
    assert not (shell.folder / "home" / ".qwen").exists()
