"""Logging in, against the strict simulator over real sockets, with a clock that only waiting moves; and the rest of
`llmgate auth`: refresh, logout, and what the status tells."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import stat
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from llmgate_core import ConnectorError, Instance
from llmgate_core.testing import Exchange, ScriptedUpstream
from llmgate_core.upstream import Timeouts, Upstream
from llmgate_qwen_oauth import store
from llmgate_qwen_oauth.credentials import QwenCredentials
from llmgate_qwen_oauth.refresh_lock import RefreshLock
from llmgate_qwen_oauth.settings import QwenSettings
from llmgate_qwen_oauth.simulator import QwenSimulator

NOW = 1_800_000_000.0
LOGGER = logging.getLogger("llmgate.tests")
SECRETS = ("simulated-device-", "simulated-access-", "simulated-refresh-", "SECRET")


class Desk:
    """One provider, its simulated issuer, a screen, and time that passes by waiting.

    Attributes:
        approve_at, deny_at: after how many waits the user decides; None is never.
        on_wait: called with the number of waits after each.
        shown: what the screen said; `codes` are the user codes on it.
        before: for tests that compare, what the file held.
    """

    def __init__(self, folder: Path) -> None:
        self.now = NOW
        self.path = folder / ".qwen" / "oauth_creds.json"
        self.simulator = QwenSimulator(token_seconds=3600.0, now=lambda: self.now)
        self.approve_at: int | None = None
        self.deny_at: int | None = None
        self.waits: list[float] = []
        self.shown: list[str] = []
        self.codes: list[str] = []
        self.before: dict[str, Any] = {}
        self.on_wait: Callable[[int], object] = lambda count: None
        self._folder = folder

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds
        if len(self.waits) == self.approve_at:
            self.simulator.approve(self.codes[-1])
        if len(self.waits) == self.deny_at:
            self.simulator.deny(self.codes[-1])
        self.on_wait(len(self.waits))

    def say(self, text: str) -> None:
        self.shown.append(text)

    def show_code(self, link: str, code: str, seconds: float) -> None:
        self.shown.append(f"{link} {seconds:g}")
        self.codes.append(code)

    def provider(self, upstream: Upstream, url: str, **settings: Any) -> QwenCredentials:
        instance = Instance(
            name="qwen-oauth.work",
            settings=QwenSettings(oauth_base_url=url, **settings),
            http=upstream.client(Timeouts()),
            clock=lambda: self.now,
            random=random.Random(1),
            environ={},
            home=self._folder,
            logger=logging.getLogger("llmgate.backend.qwen-oauth.work"),
            sleep=self.sleep,
        )
        return QwenCredentials(instance, instance.settings)

    def do(self, act: Callable[[QwenCredentials], Awaitable[Any]], url: str = "", **settings: Any) -> Any:
        """Runs `act` with a new provider, as a command does: with the simulator, or the issuer at `url`."""

        async def run() -> Any:
            upstream = Upstream({})
            spare = self._folder / "simulator"
            spare.mkdir(exist_ok=True)
            try:
                if not url:
                    await self.simulator.start(spare)
                async with asyncio.timeout(20):
                    return await act(self.provider(upstream, url or self.simulator.url, **settings))
            finally:
                await upstream.aclose()
                await self.simulator.aclose()

        return asyncio.run(run())

    def log_in(self, url: str = "", **settings: Any) -> str:
        told: str = self.do(lambda provider: provider.login(self), url, **settings)
        self.check_nothing_leaked(told)
        return told

    def fail(self, url: str = "", **settings: Any) -> ConnectorError:
        with pytest.raises(ConnectorError) as caught:
            self.do(lambda provider: provider.login(self), url, **settings)
        self.check_nothing_leaked(str(caught.value))
        return caught.value

    def check_nothing_leaked(self, *texts: str) -> None:
        for text in (*texts, *self.shown):
            assert not [secret for secret in SECRETS if secret in text]

    def stored(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.path.read_bytes())
        return content

    def write(self, **fields: Any) -> bytes:
        content = {"access_token": "SECRET-old", "refresh_token": "SECRET-old", "expiry_date": 0, **fields}
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_text(json.dumps(content))
        self.path.chmod(0o600)
        return self.path.read_bytes()

    def files(self) -> list[str]:
        """All of the folder but the lock of llmgate's own, which stays for ever."""
        return sorted(found.name for found in self.path.parent.iterdir() if not found.name.endswith(".llmgate.lock"))


@pytest.fixture
def desk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Desk]:
    caplog.set_level(logging.DEBUG)
    opened = Desk(tmp_path)
    yield opened
    opened.check_nothing_leaked(caplog.text)


# --- the flow --------------------------------------------------------------------------------------------------------


def test_a_login_writes_the_clis_file(desk: Desk) -> None:
    desk.approve_at = 4
    told = desk.log_in()
    assert told == f"logged in: {desk.path}, token valid for 60 min"
    found = desk.stored()
    assert list(found) == ["token_type", "access_token", "refresh_token", "resource_url", "expiry_date"]
    assert found["token_type"] == "Bearer"
    assert found["resource_url"] == desk.simulator.url
    assert found["expiry_date"] == int((desk.now + 3600) * 1000)
    assert stat.S_IMODE(desk.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(desk.path.parent.stat().st_mode) == 0o700
    assert desk.files() == ["oauth_creds.json"]
    assert desk.waits == [2.0, 2.0, 2.0, 2.0]
    assert desk.simulator.refusals == ["authorization_pending: The user has not decided yet."] * 3


def test_the_token_works(desk: Desk) -> None:
    async def log_in_and_look(provider: QwenCredentials) -> None:
        await provider.login(desk)
        credential = await provider.get()
        assert credential.headers["authorization"] == f"Bearer {desk.stored()['access_token']}"
        assert credential.base_url == f"{desk.simulator.url}/v1"

    desk.approve_at = 1
    desk.do(log_in_and_look)


def test_what_is_said_before_anything_is_sent(desk: Desk) -> None:
    desk.approve_at = 1
    desk.log_in()
    client, standing, tier, link = desk.shown
    assert "published public client id" in client
    assert "others must not use it" in standing
    assert "not affiliated with" in standing
    assert standing.count(". ") + 1 == 2, "two sentences"
    assert "2026-04-15" in tier
    assert "401" in tier
    assert link == f"{desk.simulator.url}/authorize?user_code={desk.codes[0]}&client=qwen-code 900"


def test_nothing_of_an_older_file_is_kept(desk: Desk) -> None:
    desk.write(note="of another account", id_token="SECRET-id")
    desk.approve_at = 1
    desk.log_in()
    assert set(desk.stored()) == {"token_type", "access_token", "refresh_token", "resource_url", "expiry_date"}


def test_only_the_device_code_request_carries_an_id(desk: Desk) -> None:
    seen: list[tuple[str, bool, str]] = []

    async def issuer(exchange: Exchange) -> None:
        request = exchange.request
        seen.append((request.path, "x-request-id" in request.headers, request.headers["user-agent"].partition("/")[0]))
        if request.path.endswith("/device/code"):
            code = {"device_code": "SECRET", "user_code": "U", "verification_uri": "https://x/", "expires_in": 60}
            await exchange.reply(200, code)
        elif len(seen) < 3:
            await exchange.reply(200, {"status": "pending"})
        else:
            await exchange.reply(200, {"access_token": "SECRET-a", "refresh_token": None, "expires_in": None})

    with ScriptedUpstream.in_thread(issuer) as upstream:
        desk.log_in(upstream.url)
    token = ("/api/v1/oauth2/token", False, "llmgate")
    assert seen == [("/api/v1/oauth2/device/code", True, "llmgate"), token, token]
    assert desk.stored() == {
        "token_type": "Bearer",
        "access_token": "SECRET-a",
        "expiry_date": int((desk.now + 3600) * 1000),
    }


@pytest.mark.parametrize("status", [400, 429])
def test_the_issuer_wants_it_slower(desk: Desk, status: int) -> None:
    desk.simulator.fail_refresh_next(2, status, {"error": "slow_down"})
    desk.approve_at = 4
    desk.log_in()
    assert desk.waits == [2.0, 3.0, 4.5, 4.5]


def test_it_finds_the_pace_of_a_strict_issuer(desk: Desk) -> None:
    desk.simulator.poll_seconds = 7.0
    desk.approve_at = 6
    desk.log_in()
    assert desk.waits == [2.0, 2.0, 3.0, 4.5, 6.75, 10.0]
    assert desk.simulator.refusals[1:] == ["slow_down: Polling too fast."] * 4


def test_stumbles_on_the_way_do_not_end_it(desk: Desk) -> None:
    desk.simulator.fail_refresh_next(1, 500, "<html>SECRET</html>")
    desk.simulator.fail_refresh_next(1, 200, {"error": "SECRET"})
    desk.simulator.fail_refresh_next(1, 200, '{"access_token": "SEC')
    desk.simulator.fail_refresh_next(1, 503, {"error": "temporarily_unavailable"})
    desk.approve_at = 5
    desk.log_in()
    assert desk.waits == [2.0] * 5
    assert [text for text in desk.shown if text.startswith("No usable answer yet")] == [
        f"No usable answer yet ({trouble}); asking again until the code expires."
        for trouble in ("HTTP 500", "HTTP 200 without a token", "HTTP 503, `temporarily_unavailable`")
    ]


def test_a_cut_connection_does_not_end_it(desk: Desk) -> None:
    polls = 0

    async def issuer(exchange: Exchange) -> None:
        nonlocal polls
        if exchange.request.path.endswith("/device/code"):
            code = {"device_code": "SECRET", "user_code": "U", "verification_uri": "https://x/", "expires_in": 60}
            await exchange.reply(200, code)
            return
        polls += 1
        if polls == 1:
            exchange.reset()
        elif polls == 2:
            await exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{")
            exchange.cut()
        else:
            await exchange.reply(200, {"access_token": "SECRET-a", "refresh_token": "SECRET-r"})

    with ScriptedUpstream.in_thread(issuer) as upstream:
        desk.log_in(upstream.url)
    assert polls == 3
    assert desk.stored()["refresh_token"] == "SECRET-r"


# --- what ends it, with the old file untouched ------------------------------------------------------------------------


@contextmanager
def untouched(desk: Desk) -> Iterator[None]:
    old = desk.write(note="kept")
    before = desk.path.stat()
    yield
    assert desk.path.read_bytes() == old
    assert (desk.path.stat().st_ino, desk.path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert desk.files() == ["oauth_creds.json"]


def test_the_user_says_no(desk: Desk) -> None:
    desk.deny_at = 3
    with untouched(desk):
        error = desk.fail()
    assert error.kind == "denied"
    assert error.message.startswith("access was denied in the browser")
    assert len(desk.waits) == 3


def test_nobody_says_anything(desk: Desk) -> None:
    desk.simulator.device_seconds = 60.0
    with untouched(desk):
        error = desk.fail()
    assert error.message == "the code has expired and nobody had confirmed it; log in again"
    assert 50 < sum(desk.waits) <= 60


def test_the_issuer_ends_it_early(desk: Desk) -> None:
    """A simulator whose clock is ahead calls the code dead while we still believe in it."""
    desk.simulator.device_seconds = 60.0
    desk.simulator.now = lambda: desk.now if len(desk.waits) < 3 else desk.now + 100
    with untouched(desk):
        error = desk.fail()
    assert error.message.startswith("the code has expired")
    assert len(desk.waits) == 3


@pytest.mark.parametrize("body", [b"", {"error": "too_many"}, "<html>"])
def test_a_rate_limit_ends_it(desk: Desk, body: Any) -> None:
    desk.simulator.fail_refresh_next(1, 429, body)
    with untouched(desk):
        assert desk.fail().kind == "rate_limited"
    assert len(desk.waits) == 1


def test_an_access_token_that_no_header_can_carry(desk: Desk) -> None:
    desk.simulator.fail_refresh_next(1, 200, {"access_token": "SECRET\n", "refresh_token": "SECRET"})
    with untouched(desk):
        error = desk.fail()
    assert error.message == "the issuer's answer cannot be used: it holds no `access_token`; try again later"


def test_a_file_that_cannot_be_written(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    desk.approve_at = 1
    desk.on_wait = lambda count: monkeypatch.setattr(os, "replace", refuse)  # before, the simulator needs it
    with untouched(desk):
        error = desk.fail()
    assert error.message == (
        f"cannot write {desk.path} (permission denied), so the login is lost; make it writable, then log in again"
    )


def test_a_cancelled_login(desk: Desk) -> None:
    async def leave(provider: QwenCredentials) -> None:
        task = asyncio.create_task(provider.login(desk))
        desk.on_wait = lambda count: task.cancel() if count == 2 else None
        await asyncio.wait([task])
        assert task.cancelled()

    with untouched(desk):
        desk.do(leave)


# --- refresh, logout, status -----------------------------------------------------------------------------------------


def test_a_refresh_before_its_time(desk: Desk) -> None:
    async def refresh(provider: QwenCredentials) -> str:
        desk.simulator.write_credentials(desk.path)
        desk.before = desk.stored()
        return await provider.refresh()

    told = desk.do(refresh)
    assert told == f"refreshed: {desk.path}, token valid for 60 min"
    assert desk.simulator.refreshes == 1
    assert desk.stored()["access_token"] != desk.before["access_token"]
    assert desk.stored()["refresh_token"] != desk.before["refresh_token"]


def refresh_fails(desk: Desk, prepare: Callable[[], object]) -> ConnectorError:
    async def refresh(provider: QwenCredentials) -> None:
        desk.simulator.write_credentials(desk.path)
        prepare()
        await provider.refresh()

    with pytest.raises(ConnectorError) as caught:
        desk.do(refresh)
    desk.check_nothing_leaked(str(caught.value))
    return caught.value


AGAIN = "log in with `llmgate auth login qwen-oauth.work`, or with the Qwen CLI (a running gateway notices)"


def test_a_refresh_with_a_dead_refresh_token(desk: Desk) -> None:
    error = refresh_fails(desk, lambda: desk.write(refresh_token="SECRET-dead", expiry_date=9e12))
    assert error.kind == "auth"
    assert error.message == f"the refresh token in {desk.path} is no longer accepted; {AGAIN}"
    assert desk.stored()["refresh_token"] == "SECRET-dead", "the file is kept"


def test_a_refresh_of_nothing(desk: Desk) -> None:
    assert refresh_fails(desk, desk.path.unlink).message == f"{desk.path}: there is no such file; {AGAIN}"


def test_a_refresh_while_the_issuer_is_down(desk: Desk) -> None:
    error = refresh_fails(desk, lambda: desk.simulator.fail_refresh_next(1, 503))
    assert error.kind == "unavailable"
    assert error.message == (
        "the token could not be refreshed: the issuer's answer cannot be used: HTTP 503; try again"
    )


def test_a_refreshed_token_that_cannot_be_written_is_no_success(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, credentials: store.Stored) -> None:
        raise OSError(28, "No space left on device")

    error = refresh_fails(desk, lambda: monkeypatch.setattr(store, "write", refuse))
    assert error.kind == "auth"
    assert error.message == (
        f"the token was refreshed, but {desk.path} cannot be written: the new one is lost, the old one spent; "
        f"make the file writable; {AGAIN}"
    )


def test_a_logout_removes_the_file_behind_a_link(desk: Desk, tmp_path: Path) -> None:
    desk.write()
    desk.path.rename(tmp_path / "elsewhere.json")
    desk.path.symlink_to(tmp_path / "elsewhere.json")
    told = desk.do(lambda provider: provider.logout())
    assert told.startswith(f"removed {desk.path}; the provider has no way known to us to revoke tokens")
    assert not (tmp_path / "elsewhere.json").exists()
    assert desk.do(lambda provider: provider.logout()) == f"nothing to remove, as there is no {desk.path}"
    assert desk.simulator.token_requests == 0


@pytest.mark.parametrize("command", ["logout", "refresh"])
def test_where_there_is_nothing_no_folder_and_no_lock_is_made(desk: Desk, command: str) -> None:
    async def act(provider: QwenCredentials) -> str:
        try:
            return await (provider.logout() if command == "logout" else provider.refresh())
        except ConnectorError as error:
            return error.message

    told = desk.do(act, "http://127.0.0.1:9")
    assert told.startswith("nothing to remove" if command == "logout" else f"{desk.path}: there is no such file")
    assert not desk.path.parent.exists()


def test_a_logout_that_is_not_possible(desk: Desk) -> None:
    (desk.path / "a folder instead of a file").mkdir(parents=True)
    with pytest.raises(ConnectorError, match=r"cannot remove .*oauth_creds\.json \(.+\); remove it yourself"):
        desk.do(lambda provider: provider.logout())


def facts_of(desk: Desk, **settings: Any) -> dict[str, str]:
    async def look(provider: QwenCredentials) -> dict[str, str]:
        return dict(provider.status().facts)

    found: dict[str, str] = desk.do(look, "http://127.0.0.1:9", **settings)
    desk.check_nothing_leaked(*found, *found.values())
    return found


def test_what_the_status_tells(desk: Desk) -> None:
    desk.write(expiry_date=(NOW + 5400) * 1000, resource_url="portal.example")
    os.utime(desk.path, (NOW - 1800, NOW - 1800))
    assert facts_of(desk) == {
        "file": str(desk.path),
        "token": "valid for 90 min, until 2027-01-15 09:30 UTC; with a refresh token",
        "endpoint": "https://portal.example/v1",
        "last login or refresh": "30 min ago, at 2027-01-15 07:30 UTC",
    }
    assert facts_of(desk, base_url="http://127.0.0.1:1/v1")["endpoint"] == "http://127.0.0.1:1/v1"


@pytest.mark.parametrize(
    ("fields", "token", "endpoint"),
    [
        ({"expiry_date": (NOW - 7200) * 1000}, "expired 2 h ago, at 2027-01-15 06:00 UTC; with a refresh token", "ok"),
        (
            {"expiry_date": (NOW + 60) * 1000, "refresh_token": None},
            "valid for 60 s, until 2027-01-15 08:01 UTC; without a refresh token",
            "ok",
        ),
        ({"expiry_date": (NOW - 1) * 1000, "resource_url": "http://x"}, "expired 1 s ago, at", "none that can be used"),
        ({"expiry_date": 1e300}, "a time that no calendar has; with a refresh token", "ok"),
    ],
)
def test_expiry_in_words(desk: Desk, fields: dict[str, Any], token: str, endpoint: str) -> None:
    desk.write(**fields)
    found = facts_of(desk)
    assert token in found["token"]
    assert found["endpoint"] == (endpoint if endpoint != "ok" else "https://portal.qwen.ai/v1")


def test_a_file_that_cannot_be_used_and_one_that_others_can(desk: Desk) -> None:
    assert facts_of(desk) == {"file": str(desk.path)}
    desk.write()
    desk.path.write_bytes(b"{")
    assert set(facts_of(desk)) == {"file", "last login or refresh"}
    desk.write()
    desk.path.chmod(0o640)
    assert facts_of(desk)["problem"] == f"others may use the file; run `chmod 600 {desk.path}`"


# --- beside other programs ------------------------------------------------------------------------------------------


def lock_of(path: Path, **more: Any) -> RefreshLock:
    instance = Instance(
        "qwen-oauth.default", None, cast("Any", None), time.time, random.Random(1), {}, path.parent, LOGGER, **more
    )
    return RefreshLock(path, instance, stale_seconds=35.0)


def test_a_change_waits_for_a_refresh_that_is_under_way(tmp_path: Path) -> None:
    path = tmp_path / "oauth_creds.json"
    happened: list[str] = []

    async def test() -> None:
        async with lock_of(path).held() as locked:
            assert locked
            change = asyncio.create_task(lock_of(path).alone(lambda: happened.append("changed")))
            await asyncio.sleep(0.1)
            happened.append("refreshed")
        await change

    asyncio.run(asyncio.wait_for(test(), 20))
    assert happened == ["refreshed", "changed"]


def test_ctrl_c_while_waiting_changes_nothing_and_later_takes_nothing_back(tmp_path: Path) -> None:
    path = tmp_path / "oauth_creds.json"
    happened: list[str] = []

    async def test() -> None:
        async with lock_of(path).held():
            waiting = asyncio.create_task(lock_of(path).alone(lambda: happened.append("changed")))
            await asyncio.sleep(0.1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert happened == []

        def change() -> str:
            task.cancel()  # it arrives while the lock is given back
            return "done"

        task = asyncio.create_task(lock_of(path).alone(change))
        assert await task == "done"

    asyncio.run(asyncio.wait_for(test(), 20))
    assert [found.name for found in tmp_path.iterdir()] == ["oauth_creds.llmgate.lock"]


def test_where_the_lock_cannot_be_had_the_change_is_made_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "oauth_creds.json"
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    async def test() -> None:
        async with lock_of(path).held():
            impatient = lock_of(path, sleep=sleep)
            impatient._monotonic = lambda: now
            assert await impatient.alone(lambda: "done") == "done"

    asyncio.run(asyncio.wait_for(test(), 20))
    assert now > 35
