"""The main job: the real openai-python, a spawned gateway, the qwen-oauth plugin, and a strict stand-in for Qwen."""

from __future__ import annotations

import asyncio
import json
import random
import re
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam
    from tests.e2e.conftest import Portal, Process, Shell

QWEN = "qwen-oauth:qwen3-coder-plus"
ASKED: list[ChatCompletionMessageParam] = [{"role": "user", "content": "请用中文打个招呼"}]
SHORTEST_WAIT, LONGEST_WAIT, MAX_WAIT = 0.1, 0.25, 0.5
RETRY = "qwen_oauth_initial_rate_limit_retry"
WAITS = {
    f"{RETRY}_random_min_seconds": SHORTEST_WAIT,
    f"{RETRY}_random_max_seconds": LONGEST_WAIT,
    f"{RETRY}_max_wait_seconds": MAX_WAIT,
}
THROTTLED = {"error": {"message": "Requests rate limit exceeded", "type": "limit", "code": "limit_requests"}}
WAITED = r"qwen-oauth\.default: rate_limited; again in ([0-9.]+) s"


def serve(shell: Shell, portal: Portal) -> Process:
    backends = {"qwen-oauth": {"extra": portal.extra | WAITS}}
    return shell.serve("--config", shell.config(backends=backends, logging={"level": "debug"}))


@pytest.fixture(scope="module")
def gateway(module_shell: Shell, module_portal: Portal) -> Process:
    return serve(module_shell, module_portal)


@pytest.fixture(scope="module")
def module_client(gateway: Process) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key="none needed", max_retries=0, timeout=20) as opened:
        yield opened


@pytest.fixture
def client(module_client: OpenAI, portal: Portal) -> OpenAI:
    """The client, and the portal as good as new."""
    return module_client


def ask(client: OpenAI) -> str:
    return client.chat.completions.create(model=QWEN, messages=ASKED).choices[0].message.content or ""


def ask_streamed(client: OpenAI) -> str:
    with client.chat.completions.create(model=QWEN, messages=ASKED, stream=True) as stream:
        return "".join(part.choices[0].delta.content or "" for part in stream)


def readiness(gateway: Process) -> int:
    try:
        with urllib.request.urlopen(f"{gateway.url}/readyz", timeout=5) as reply:
            status: int = reply.status
            return status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


# --- the main job -----------------------------------------------------------------------------------------------------


def test_a_chinese_chat_over_an_expired_token(shell: Shell, portal: Portal) -> None:
    portal.log_in(expired=True)
    portal.edit(note="kept", nested={"of": ["the CLI", 1e2]})
    old = portal.stored()
    process = serve(shell, portal)
    process.wait_for("ready .*token expired, will be refreshed with the next request")
    with (
        portal.counted(refreshes=1),
        OpenAI(base_url=f"{process.url}/v1", api_key="none needed", max_retries=0) as client,
    ):
        pieces = []
        with client.chat.completions.create(model=QWEN, messages=ASKED, stream=True) as stream:
            for part in stream:
                pieces.append(part.choices[0].delta.content or "")
                finished = part.choices[0].finish_reason
    assert finished == "stop"
    assert "".join(pieces).startswith("你好！")
    assert "「请用中文打个招呼」" in "".join(pieces)
    assert len(pieces) > 3

    new = portal.stored()
    assert new["access_token"] != old["access_token"]
    assert new["refresh_token"] != old["refresh_token"]
    assert new["expiry_date"] > time.time() * 1000 + 60_000
    assert {name: new[name] for name in ("note", "nested", "resource_url", "token_type")} == {
        name: old[name] for name in ("note", "nested", "resource_url", "token_type")
    }
    assert stat.S_IMODE(portal.path.stat().st_mode) == 0o600
    names = ["oauth_creds.json", "oauth_creds.llmgate.lock"]
    assert sorted(path.name for path in portal.path.parent.iterdir()) == names
    sent = portal.simulator.seen[-1]
    assert sent.headers["user-agent"].startswith("llmgate/")
    assert not [name for name in sent.headers if name.startswith("x-stainless")]
    assert "none needed" not in str(sent.headers)


def test_fifty_requests_share_one_refresh(gateway: Process, portal: Portal) -> None:
    async def run() -> list[str]:
        async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0, timeout=20) as client:
            replies = await asyncio.gather(
                *(client.chat.completions.create(model=QWEN, messages=ASKED) for _ in range(50))
            )
        return [reply.choices[0].message.content or "" for reply in replies]

    portal.log_in(expired=True)
    portal.simulator.refresh_delay = 0.3
    before = portal.simulator.refreshes
    with portal.counted(refreshes=1):
        answers = asyncio.run(run())
    assert portal.simulator.refreshes == before + 1
    assert len(answers) == 50
    assert all("你好" in answer for answer in answers)


def test_fifty_refused_tokens_share_one_refresh(gateway: Process, portal: Portal) -> None:
    async def run() -> None:
        async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0, timeout=20) as client:
            await asyncio.gather(*(client.chat.completions.create(model=QWEN, messages=ASKED) for _ in range(50)))

    portal.simulator.revoke_access()
    portal.simulator.refresh_delay = 0.2
    with portal.counted(refreshes=1):
        asyncio.run(run())


# --- credentials that fail --------------------------------------------------------------------------------------------


def test_a_refused_token_is_refreshed_once(client: OpenAI, portal: Portal) -> None:
    old = portal.stored()
    portal.simulator.revoke_access()
    with portal.counted(refreshes=1):
        assert "你好" in ask_streamed(client)
        assert "你好" in ask(client)
    assert portal.stored()["refresh_token"] != old["refresh_token"]


def refusal(client: OpenAI, code: str, status: int = 502) -> openai.InternalServerError:
    """The failure that a chat is answered with."""
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client)
    assert caught.value.status_code == status
    assert caught.value.code == code
    repeat = caught.value.response.headers.get("x-should-retry")
    assert repeat == ("false" if code == "upstream_auth" else None)
    return caught.value


def test_the_dead_free_tier(client: OpenAI, portal: Portal) -> None:
    portal.simulator.dead_tier = True
    with portal.counted(refreshes=1):
        error = refusal(client, "upstream_auth")
        assert error.message.count("will not help") == 1
        assert "API key" in error.message
        assert "invalid access token" in error.message
        assert refusal(client, "upstream_auth").message.count("will not help") == 1


def test_a_dead_refresh_token_until_somebody_logs_in(client: OpenAI, gateway: Process, portal: Portal) -> None:
    portal.log_in(expired=True)
    portal.edit(refresh_token="simulated-refresh-unknown-0")
    with portal.counted(refreshes=1):
        error = refusal(client, "upstream_auth")
        assert str(portal.path) in error.message
        assert "log in" in error.message
        for _ in range(10):
            refusal(client, "upstream_auth")
    assert readiness(gateway) == 503
    assert portal.stored()["refresh_token"] == "simulated-refresh-unknown-0", "the file is not ours to clear"

    portal.log_in()
    with portal.counted(refreshes=0):
        assert "你好" in ask(client)
    assert readiness(gateway) == 200


@pytest.mark.parametrize("content", [None, b"[]", b'{"refresh_token": "r"}'])
def test_a_file_that_cannot_be_used(client: OpenAI, gateway: Process, portal: Portal, content: bytes | None) -> None:
    if content is None:
        portal.path.unlink()
    else:
        portal.path.write_bytes(content)
    with portal.counted(refreshes=0):
        error = refusal(client, "upstream_auth")
        assert str(portal.path) in error.message
        assert "log in" in error.message
        assert readiness(gateway) == 503
        portal.log_in()
        assert "你好" in ask(client)


HALVES = pytest.mark.parametrize("content", [b"", b'{"access_token": "simulated-access-half', b"\xff"])


@HALVES
def test_a_file_that_is_being_written_in_place_is_no_logout(
    client: OpenAI, gateway: Process, portal: Portal, content: bytes
) -> None:
    with portal.counted(refreshes=0):
        assert "你好" in ask(client)
        portal.path.write_bytes(content)
        assert "你好" in ask(client)
        assert readiness(gateway) == 200
        portal.log_in()
        assert "你好" in ask(client)


@HALVES
def test_half_a_file_at_the_start_until_somebody_logs_in(shell: Shell, portal: Portal, content: bytes) -> None:
    portal.path.write_bytes(content)
    process = serve(shell, portal)
    with (
        portal.counted(refreshes=0),
        OpenAI(base_url=f"{process.url}/v1", api_key="none needed", max_retries=0) as client,
    ):
        error = refusal(client, "upstream_auth")
        assert f"{portal.path}: it is not JSON, or only half of it" in error.message
        assert readiness(process) == 503
        portal.log_in()
        assert "你好" in ask(client)


@pytest.mark.parametrize("status", [500, 503, 429])
def test_an_issuer_that_stumbles_is_no_logout(client: OpenAI, portal: Portal, status: int) -> None:
    portal.log_in(expired=True)
    portal.simulator.fail_refresh_next(1, status, "<html>simulated-refresh-echo</html>")
    with portal.counted(refreshes=2):
        told = refusal(client, "upstream_unavailable", 503 if status == 503 else 502)
        assert "try again" in told.message
        assert "你好" in ask(client)


# --- rate limits ------------------------------------------------------------------------------------------------------


def waits(gateway: Process) -> list[float]:
    """All waits so far that the log tells of, in seconds."""
    return [float(found[1]) for found in re.finditer(WAITED, gateway.output)]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "0.3"}, 0.3),
        ({"Retry-After": "1", "retry-after-ms": "50"}, 0.05),
        ({"Retry-After": "3600"}, MAX_WAIT),
    ],
)
def test_the_first_rate_limit_is_held(
    client: OpenAI, gateway: Process, portal: Portal, headers: dict[str, str], expected: float, streamed: bool
) -> None:
    portal.simulator.fail_next(1, 429, THROTTLED, headers)
    seen, held = len(portal.simulator.seen), len(waits(gateway))
    started = time.monotonic()
    assert "你好" in (ask_streamed if streamed else ask)(client)
    assert time.monotonic() - started >= expected
    gateway.wait_for(WAITED, held + 1)
    assert waits(gateway)[held:] == [expected]
    assert len(portal.simulator.seen) == seen + 2


def test_a_date_is_a_hint_too(client: OpenAI, gateway: Process, portal: Portal) -> None:
    portal.simulator.fail_next(1, 429, THROTTLED, {"Retry-After": formatdate(time.time() - 5, usegmt=True)})
    held = len(waits(gateway))
    assert "你好" in ask(client)
    gateway.wait_for(WAITED, held + 1)
    assert waits(gateway)[held:] == [0.0]


def test_without_a_hint_the_wait_is_random_within_its_bounds(client: OpenAI, gateway: Process, portal: Portal) -> None:
    held = len(waits(gateway))
    for _ in range(4):
        portal.simulator.fail_next(1, 429, THROTTLED)
        started = time.monotonic()
        assert "你好" in ask(client)
        assert time.monotonic() - started >= SHORTEST_WAIT
    gateway.wait_for(WAITED, held + 4)
    found = waits(gateway)[held:]
    assert all(SHORTEST_WAIT - 0.005 <= wait <= LONGEST_WAIT + 0.005 for wait in found)
    assert len(set(found)) > 1


@pytest.mark.parametrize("stream", [False, True])
def test_the_second_rate_limit_is_the_callers(client: OpenAI, portal: Portal, stream: bool) -> None:
    portal.simulator.fail_next(1, 429, THROTTLED, {"Retry-After": "0"})
    portal.simulator.fail_next(1, 429, THROTTLED, {"Retry-After": "0.4"})
    seen = len(portal.simulator.seen)
    with pytest.raises(openai.RateLimitError) as caught:
        (ask_streamed if stream else ask)(client)
    assert caught.value.response.headers["retry-after"] == "1"
    assert caught.value.response.headers["x-llmgate-attempts"] == "2"
    assert "Requests rate limit exceeded" in caught.value.message
    assert len(portal.simulator.seen) == seen + 2
    started = time.monotonic()
    assert "你好" in ask(client)
    assert time.monotonic() - started >= 0.3, "the deadline holds for the next request, too"


def test_the_days_quota_is_not_waited_for(client: OpenAI, portal: Portal) -> None:
    error = {"message": "Free allocated quota exceeded.", "type": "q", "code": "insufficient_quota"}
    portal.simulator.fail_next(1, 429, {"error": error}, {"Retry-After": "0"})
    seen = len(portal.simulator.seen)
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client)
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert "Beijing" in caught.value.message
    assert len(portal.simulator.seen) == seen + 1


def test_who_leaves_during_the_wait_is_not_waited_for(client: OpenAI, gateway: Process, portal: Portal) -> None:
    portal.simulator.fail_next(1, 429, THROTTLED, {"Retry-After": str(MAX_WAIT)})
    seen, left = len(portal.simulator.seen), gateway.output.count("outcome=client_closed")
    with pytest.raises(openai.APITimeoutError):
        ask(client.with_options(timeout=0.3))
    line = gateway.wait_for(r"status=499 outcome=client_closed ms=(\d+)", left + 1)
    assert int(line[1]) < MAX_WAIT * 1000
    assert "你好" in ask(client)
    assert len(portal.simulator.seen) == seen + 2


# --- a crash at any point ---------------------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from llmgate_qwen_oauth import store
path = Path(sys.argv[1])
known = store.read(path)
for number in range(1_000_000):
    brought = {"access_token": f"access-{number}", "refresh_token": f"refresh-{number}", "expires_in": 60}
    store.write(path, known.refreshed(brought, 0.0))
    if number == 0:
        print("writing", flush=True)
"""


def test_a_crash_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "oauth_creds.json"
    content: dict[str, Any] = {"access_token": "a", "refresh_token": "r", "expiry_date": 0, "filler": "字" * 100_000}
    path.touch(mode=0o600)
    path.write_text(json.dumps(content))
    dice = random.Random(20261122)
    numbers = set()
    for _ in range(15):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"writing\n"
            time.sleep(dice.uniform(0, 0.02))  # the random point; nothing is waited for
            writer.kill()
        found = json.loads(path.read_text())
        assert found["filler"] == content["filler"]
        assert found["access_token"].split("-")[1] == found["refresh_token"].split("-")[1]
        numbers.add(found["access_token"])
        for file in tmp_path.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(numbers) > 1


@pytest.mark.parametrize("delay", [0.0, 0.003])
def test_a_gateway_that_is_killed_while_it_refreshes(shell: Shell, portal: Portal, delay: float) -> None:
    portal.log_in(expired=True)
    old = portal.stored()
    process = serve(shell, portal)
    before = portal.simulator.token_requests
    with OpenAI(base_url=f"{process.url}/v1", api_key="x", max_retries=0) as client:

        def try_it() -> None:
            try:
                ask(client)
            except openai.APIConnectionError:
                pass

        asking = threading.Thread(target=try_it)
        asking.start()
        deadline = time.monotonic() + 10
        while portal.simulator.token_requests == before and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(delay)
        process.kill()
        asking.join(10)
    assert portal.simulator.token_requests == before + 1
    found = portal.stored()
    changed = found["access_token"] != old["access_token"]
    assert changed == (found["refresh_token"] != old["refresh_token"])
    assert found.keys() == old.keys()
    for file in portal.path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
