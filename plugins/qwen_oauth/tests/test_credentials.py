"""Credentials with a clock and an issuer of our own: when a token is used, refreshed, kept, given up and healed."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from llmgate_core import ConnectorError, Credential, HttpReply, Instance
from llmgate_core.credentials import SingleFlight
from llmgate_qwen_oauth import refresh, store
from llmgate_qwen_oauth.addresses import api_base
from llmgate_qwen_oauth.credentials import QwenCredentials
from llmgate_qwen_oauth.failures import DEAD_TIER
from llmgate_qwen_oauth.settings import QwenSettings
from llmgate_qwen_oauth.store import Unusable

NOW = 1_700_000_000.0
NEXT_STEP = "log in with `llmgate auth login qwen-oauth`, or with the Qwen CLI (a running gateway notices)"
REFRESHED = {
    "access_token": "access-SECRET-2",
    "refresh_token": "refresh-SECRET-2",
    "token_type": "Bearer",
    "resource_url": "portal.qwen.ai",
    "expires_in": 3600,
}
DEAD = {"error": "invalid_request", "error_description": "Invalid refresh token or client_id: refresh-SECRET-1"}

Reply = tuple[int, Any] | Exception | Callable[[], Awaitable[tuple[int, Any]]]


@dataclass(frozen=True)
class Sent:
    method: str
    url: str
    headers: Mapping[str, str]
    content: bytes


@dataclass
class Issuer:
    """The HTTP client that an instance is given; answers from a script, and fails a test that sends too much."""

    replies: list[Reply] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, content: bytes = b""
    ) -> HttpReply:
        self.sent.append(Sent(method, url, headers or {}, content))
        assert self.replies, "a request that the script does not expect"
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        status, body = await reply() if callable(reply) else reply
        return HttpReply(status, {}, body if isinstance(body, AsyncGenerator) else once(body), nothing)


async def once(body: Any) -> AsyncGenerator[bytes, None]:
    yield body if isinstance(body, bytes) else json.dumps(body).encode()


async def cut_off() -> AsyncGenerator[bytes, None]:
    yield b'{"access_token": "acc'
    raise ConnectorError("protocol", "chat.qwen.ai: cut the answer off")


async def nothing() -> None:
    """Nothing is open."""


async def silence() -> tuple[int, Any]:
    await asyncio.Event().wait()
    raise AssertionError("never comes here")


class World:
    """One provider over a file in a temporary folder, a clock that is told the time, and a scripted issuer."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.now = NOW
        self.slept: list[float] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.http = Issuer()
        self.path = folder / ".qwen" / "oauth_creds.json"
        self.path.parent.mkdir(exist_ok=True)
        instance = Instance(
            name="qwen-oauth.default",
            settings=QwenSettings(**settings),
            http=self.http,
            clock=lambda: self.now,
            random=random.Random(1),
            environ={},
            home=folder,
            logger=logging.getLogger("llmgate.backend.qwen-oauth.default"),
            sleep=self.sleep,
        )
        self.provider = QwenCredentials(instance, instance.settings, monotonic=lambda: self.now)

    async def sleep(self, seconds: float) -> None:
        """Time passes, and `meanwhile` happens."""
        self.slept.append(seconds)
        self.now += seconds
        self.meanwhile()

    def log_in(self, number: int = 1, *, seconds: float = 3600.0, **change: Any) -> None:
        """Writes the file as another program does, complete and at once."""
        content = {
            "access_token": f"access-SECRET-{number}",
            "refresh_token": f"refresh-SECRET-{number}",
            "token_type": "Bearer",
            "resource_url": "portal.qwen.ai",
            "expiry_date": int((self.now + seconds) * 1000),
            **change,
        }
        self.write({name: value for name, value in content.items() if value is not None})

    def write(self, content: Any) -> None:
        temporary = self.path.with_name("new")
        temporary.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        temporary.replace(self.path)

    @property
    def cli_lock(self) -> Path:
        return self.path.with_name("oauth_creds.lock")

    def lock_as_the_cli(self) -> None:
        """As if it refreshed at this moment."""
        self.cli_lock.write_bytes(b"the lock of a CLI")
        os.utime(self.cli_lock, (self.now, self.now))

    def on_disk(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.path.read_bytes())
        return content

    def get(self) -> Credential:
        return asyncio.run(self.provider.get())

    def renew(self, rejected: Credential) -> Credential:
        return asyncio.run(self.provider.renew(rejected))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def token(credential: Credential) -> str:
    return credential.headers["authorization"].removeprefix("Bearer ")


def refused(ask: Callable[[], Credential]) -> ConnectorError:
    with pytest.raises(ConnectorError) as error:
        ask()
    assert "SECRET" not in str(error.value) + repr(error.value) + error.value.message
    return error.value


# --- used, or refreshed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [30.002, 60, 86400])
def test_a_fresh_token_is_used_without_network(world: World, seconds: float) -> None:
    world.log_in(seconds=seconds)
    credential = world.get()
    assert credential.headers == {"authorization": "Bearer access-SECRET-1"}
    assert credential.base_url == "https://portal.qwen.ai/v1"
    assert credential.expires_at == pytest.approx(NOW + seconds, abs=0.001)
    assert credential.label == str(world.path)
    assert world.http.sent == []


@pytest.mark.parametrize("seconds", [30, 29, 0, -1, -86400])
def test_a_token_is_refreshed_thirty_seconds_before_its_end(world: World, seconds: float) -> None:
    world.log_in(seconds=seconds)
    world.http.replies = [(200, REFRESHED)]
    assert token(world.get()) == "access-SECRET-2"
    assert token(world.get()) == "access-SECRET-2"
    assert len(world.http.sent) == 1
    assert world.on_disk() == {
        "access_token": "access-SECRET-2",
        "refresh_token": "refresh-SECRET-2",
        "token_type": "Bearer",
        "resource_url": "portal.qwen.ai",
        "expiry_date": int((NOW + 3600) * 1000),
    }


def test_the_refresh_is_the_form_of_the_published_protocol(world: World) -> None:
    world.log_in(seconds=0, refresh_token="r+/= &1")
    world.http.replies = [(200, REFRESHED)]
    world.get()
    [sent] = world.http.sent
    assert (sent.method, sent.url) == ("POST", "https://chat.qwen.ai/api/v1/oauth2/token")
    assert sent.headers == {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
    assert parse_qsl(sent.content.decode("ascii"), strict_parsing=True) == [
        ("grant_type", "refresh_token"),
        ("refresh_token", "r+/= &1"),
        ("client_id", "f0304373b74a44d2b584a3fb70ca9e56"),
    ]


@pytest.mark.parametrize("base", ["https://issuer.example", "https://issuer.example/"])
def test_another_issuer(tmp_path: Path, base: str) -> None:
    world = World(tmp_path, oauth_base_url=base)
    world.log_in(seconds=0)
    world.http.replies = [(200, REFRESHED)]
    world.get()
    assert world.http.sent[0].url == "https://issuer.example/api/v1/oauth2/token"


def test_a_reply_without_refresh_token_and_resource_url_keeps_the_old_ones(world: World) -> None:
    world.log_in(seconds=0, resource_url="other.example", note="kept")
    world.http.replies = [(200, {"access_token": "access-SECRET-2", "expires_in": 60}), (200, REFRESHED)]
    assert world.get().base_url == "https://other.example/v1"
    assert world.on_disk()["refresh_token"] == "refresh-SECRET-1"
    assert world.on_disk()["resource_url"] == "other.example"
    assert world.on_disk()["note"] == "kept"
    world.now += 60
    world.get()
    assert b"refresh_token=refresh-SECRET-1&" in world.http.sent[1].content


# --- failures on the way to the issuer ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401])
@pytest.mark.parametrize("body", [DEAD, b"", b"<html>", {"access_token": "access-SECRET-2"}])
def test_a_refused_refresh_token_is_dead_and_not_tried_again_until_the_file_changes(
    world: World, status: int, body: Any
) -> None:
    world.log_in(seconds=0)
    before = world.path.read_bytes()
    world.http.replies = [(status, body)]
    for _ in range(10):
        error = refused(world.get)
        assert error.kind == "auth"
        assert error.message == f"the refresh token in {world.path} is no longer accepted; {NEXT_STEP}"
    assert len(world.http.sent) == 1
    assert world.path.read_bytes() == before

    world.log_in(3)
    assert token(world.get()) == "access-SECRET-3"
    world.log_in(4, seconds=0)
    world.http.replies = [(200, REFRESHED)]
    assert token(world.get()) == "access-SECRET-2"


def test_a_file_that_is_touched_but_holds_the_dead_token_changes_nothing(world: World) -> None:
    world.log_in(seconds=0)
    world.http.replies = [(400, DEAD)]
    refused(world.get)
    world.log_in(seconds=0, note="touched")
    assert "no longer accepted" in refused(world.get).message
    assert len(world.http.sent) == 1


@pytest.mark.parametrize(
    ("reply", "why", "status"),
    [
        ((500, b"<html>oops</html>"), "the issuer's answer cannot be used: HTTP 500", 500),
        ((429, {"error": "slow_down"}), "the issuer's answer cannot be used: HTTP 429", 429),
        ((403, b""), "the issuer's answer cannot be used: HTTP 403", 403),
        ((302, b""), "the issuer's answer cannot be used: HTTP 302", 302),
        ((200, b"<html>a login page</html>"), "the issuer's answer cannot be used: it is not JSON", 200),
        ((200, b"\xff"), "the issuer's answer cannot be used: it is not JSON", 200),
        ((200, b"[" * 50_000), "the issuer's answer cannot be used: it is not JSON", 200),
        ((200, b""), "the issuer's answer cannot be used: it is not JSON", 200),
        ((200, [REFRESHED]), "the issuer's answer cannot be used: it reports an error", 200),
        ((200, {**REFRESHED, "error": "x"}), "the issuer's answer cannot be used: it reports an error", 200),
        ((200, {"expires_in": 60}), "the issuer's answer cannot be used: it holds no `access_token`", 200),
        (
            (200, {**REFRESHED, "access_token": None}),
            "the issuer's answer cannot be used: it holds no `access_token`",
            200,
        ),
        (ConnectorError("timeout", "chat.qwen.ai: no answer"), "chat.qwen.ai: no answer", None),
        (ConnectorError("unavailable", "chat.qwen.ai: no such host"), "chat.qwen.ai: no such host", None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_transient_failure_is_no_logout(world: World, reply: Reply, why: str, status: int | None) -> None:
    world.log_in(seconds=0)
    before = world.path.read_bytes()
    world.http.replies = [reply]
    error = refused(world.get)
    assert (error.kind, error.status) == ("unavailable", status)
    assert error.message == f"the token could not be refreshed: {why}; try again"
    assert world.path.read_bytes() == before
    assert world.provider.status().ready

    world.http.replies = [(200, REFRESHED)]
    assert token(world.get()) == "access-SECRET-2"


def test_a_reply_that_is_cut_off_is_no_logout(world: World) -> None:
    world.log_in(seconds=0)
    world.http.replies = [(200, cut_off()), (200, REFRESHED)]
    error = refused(world.get)
    assert error.kind == "unavailable"
    assert error.message == "the token could not be refreshed: chat.qwen.ai: cut the answer off; try again"
    assert token(world.get()) == "access-SECRET-2"


def test_an_issuer_that_is_silent_is_not_waited_for_longer_than_the_limit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refresh.REFRESH_TIMEOUT_SECONDS == 30
    monkeypatch.setattr(refresh, "REFRESH_TIMEOUT_SECONDS", 0.01)
    world.log_in(seconds=0)
    world.http.replies = [silence, (200, REFRESHED)]
    error = refused(world.get)
    assert error.kind == "unavailable"
    assert error.message == "the token could not be refreshed: no answer within 0.01 s; try again"
    assert token(world.get()) == "access-SECRET-2"


def full(source: Path, target: Path) -> None:
    raise OSError(28, "No space left on device")


@pytest.fixture
def unwritten(world: World) -> World:
    """A world whose refreshed token, number 2, is in memory only; the file holds number 1, which is spent."""
    world.log_in(seconds=0)
    world.http.replies = [(200, REFRESHED)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", full)
        assert token(world.get()) == "access-SECRET-2"
    return world


def test_a_write_that_fails_keeps_the_token_in_memory(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.log_in(seconds=0)
    before = world.path.read_bytes()
    world.http.replies = [(200, REFRESHED), (200, {**REFRESHED, "access_token": "access-SECRET-3"})]
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        assert token(world.get()) == "access-SECRET-2"
        assert token(world.get()) == "access-SECRET-2"
    assert world.path.read_bytes() == before
    assert f"cannot write {world.path} (No space left on device)" in caplog.text
    assert caplog.text.count("lives in memory only") == 1

    world.now += 3600
    assert token(world.get()) == "access-SECRET-3"
    assert b"refresh_token=refresh-SECRET-2&" in world.http.sent[1].content
    assert world.on_disk()["access_token"] == "access-SECRET-3"


def test_the_spent_token_is_not_reloaded_when_the_old_file_is_touched(
    unwritten: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "replace", full)
    os.utime(unwritten.path, ns=(1, 1))
    assert token(unwritten.get()) == "access-SECRET-2"
    assert unwritten.provider.status().detail == f"{unwritten.path}, token valid for 60 min"
    assert len(unwritten.http.sent) == 1


def test_renew_spends_the_token_in_memory_for_as_long_as_nothing_can_be_written(
    unwritten: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    third = {**REFRESHED, "access_token": "access-SECRET-3", "refresh_token": "refresh-SECRET-3"}
    unwritten.http.replies = [(200, third), (200, {**REFRESHED, "access_token": "access-SECRET-4"})]
    monkeypatch.setattr(os, "replace", full)
    for number in (2, 3):
        unwritten.now += 60
        rejected = unwritten.get()
        os.utime(unwritten.path, ns=(number, number))
        assert token(unwritten.renew(rejected)) == f"access-SECRET-{number + 1}"
        assert f"refresh_token=refresh-SECRET-{number}&".encode() in unwritten.http.sent[-1].content


def test_what_could_not_be_written_is_written_with_the_next_request(unwritten: World) -> None:
    assert token(unwritten.get()) == "access-SECRET-2"
    assert unwritten.on_disk()["refresh_token"] == "refresh-SECRET-2"
    unwritten.log_in(1)  # holds for the future too: what is written is no longer in memory only
    assert token(unwritten.get()) == "access-SECRET-1"


def test_a_login_takes_the_place_of_a_token_in_memory(unwritten: World) -> None:
    unwritten.log_in(7)
    assert token(unwritten.get()) == "access-SECRET-7"
    assert unwritten.on_disk()["refresh_token"] == "refresh-SECRET-7"


# --- the issuer is down while the token is still valid --------------------------------------------------------------


@pytest.mark.parametrize("reply", [(503, b""), ConnectorError("unavailable", "chat.qwen.ai: no such host")], ids=str)
def test_a_token_is_used_to_its_end_while_the_issuer_is_down(
    world: World, reply: Reply, caplog: pytest.LogCaptureFixture
) -> None:
    world.log_in(seconds=25)
    world.http.replies = [reply, reply, (200, REFRESHED)]
    assert token(world.get()) == "access-SECRET-1"
    assert "using the present token for another 25 s: the token could not be refreshed" in caplog.text
    assert "SECRET" not in caplog.text
    world.now += 25
    assert refused(world.get).kind == "unavailable"
    assert token(world.get()) == "access-SECRET-2"


def test_a_rejected_token_is_not_used_again_because_the_issuer_is_down(world: World) -> None:
    world.log_in()
    rejected = world.get()
    world.http.replies = [(503, b"")]
    assert refused(lambda: world.renew(rejected)).kind == "unavailable"


# --- others change the file while the issuer is asked ---------------------------------------------------------------


def meanwhile(change: Callable[[], None], status: int, body: Any) -> Reply:
    """An answer of the issuer that comes after `change`."""

    async def reply() -> tuple[int, Any]:
        change()
        return status, body

    return reply


@pytest.mark.parametrize("answer", [(400, DEAD), (401, b""), (200, REFRESHED)], ids=["400", "401", "200"])
def test_a_login_or_a_refresh_by_the_cli_meanwhile_is_used_and_kept(world: World, answer: tuple[int, Any]) -> None:
    world.log_in(seconds=0)
    world.http.replies = [meanwhile(lambda: world.log_in(5), *answer)]
    assert token(world.get()) == "access-SECRET-5"
    assert token(world.get()) == "access-SECRET-5"
    assert world.on_disk()["refresh_token"] == "refresh-SECRET-5"
    assert len(world.http.sent) == 1
    assert world.provider.status().ready


def test_what_came_meanwhile_is_seen_even_if_the_file_looks_unchanged(world: World) -> None:
    """A file system with coarse times can hide a change of equal length."""

    def unseen() -> None:
        seen = world.path.stat()
        later = {**world.on_disk(), "access_token": "access-SECRET-5", "refresh_token": "refresh-SECRET-5"}
        world.path.write_text(json.dumps({**later, "expiry_date": int((NOW + 3600) * 1000)}))
        assert world.path.stat().st_size == seen.st_size
        os.utime(world.path, ns=(seen.st_atime_ns, seen.st_mtime_ns))

    world.log_in(seconds=0)
    world.http.replies = [meanwhile(unseen, 200, REFRESHED)]
    assert token(world.get()) == "access-SECRET-5"
    assert world.on_disk()["refresh_token"] == "refresh-SECRET-5"


@pytest.mark.parametrize("answer", [(400, DEAD), (200, REFRESHED)], ids=["400", "200"])
def test_what_came_meanwhile_is_refreshed_if_it_has_ended(world: World, answer: tuple[int, Any]) -> None:
    world.log_in(seconds=0)
    sixth = {**REFRESHED, "access_token": "access-SECRET-6", "refresh_token": "refresh-SECRET-6"}
    world.http.replies = [meanwhile(lambda: world.log_in(5, seconds=0), *answer), (200, sixth)]
    assert token(world.get()) == "access-SECRET-6"
    assert b"refresh_token=refresh-SECRET-5&" in world.http.sent[1].content
    assert world.on_disk()["refresh_token"] == "refresh-SECRET-6"


def test_what_came_meanwhile_is_refreshed_only_once(world: World) -> None:
    world.log_in(seconds=0)
    world.http.replies = [
        meanwhile(lambda: world.log_in(5, seconds=0), 400, DEAD),
        meanwhile(lambda: world.log_in(6, seconds=0), 400, DEAD),
    ]
    error = refused(world.get)
    assert (error.kind, len(world.http.sent)) == ("unavailable", 2)
    assert f"other programs keep changing {world.path}" in error.message
    world.log_in(7)
    assert token(world.get()) == "access-SECRET-7"


def test_what_came_meanwhile_and_is_refused_too_is_dead(world: World) -> None:
    world.log_in(seconds=0)
    world.http.replies = [meanwhile(lambda: world.log_in(5, seconds=0), 400, DEAD), (400, DEAD)]
    for _ in range(3):
        assert "no longer accepted" in refused(world.get).message
    assert len(world.http.sent) == 2


def test_a_login_meanwhile_takes_the_place_of_a_token_in_memory(unwritten: World) -> None:
    unwritten.http.replies = [meanwhile(lambda: unwritten.log_in(5), 200, REFRESHED)]
    unwritten.now += 60
    rejected = Credential({"authorization": "Bearer access-SECRET-2"})
    assert token(unwritten.renew(rejected)) == "access-SECRET-5"
    assert unwritten.on_disk()["refresh_token"] == "refresh-SECRET-5"


@pytest.mark.parametrize("there", [True, False])
def test_a_file_that_breaks_or_goes_meanwhile_gets_the_new_token(world: World, there: bool) -> None:
    world.log_in(seconds=0)
    spoil = (lambda: world.write(b"{")) if there else world.path.unlink
    world.http.replies = [meanwhile(spoil, 200, REFRESHED)]
    assert token(world.get()) == "access-SECRET-2"
    assert world.on_disk()["refresh_token"] == "refresh-SECRET-2"


# --- one program refreshes at a time --------------------------------------------------------------------------------


def test_the_issuer_is_asked_under_the_lock_and_it_is_free_afterwards(world: World) -> None:
    locked: list[bool] = []
    world.log_in(seconds=0)
    world.http.replies = [meanwhile(lambda: locked.append(world.cli_lock.exists()), 200, REFRESHED)]
    world.get()
    assert locked == [True]
    assert sorted(entry.name for entry in world.path.parent.iterdir()) == [
        "oauth_creds.json",
        "oauth_creds.llmgate.lock",
    ]


@pytest.mark.parametrize("released", [True, False])
def test_what_another_program_brings_while_we_wait_is_used_and_nobody_refreshes(world: World, released: bool) -> None:
    """Even if it is killed before it has given its lock back."""

    def refreshed_by_the_cli() -> None:
        if len(world.slept) == 3:
            world.log_in(5)
            if released:
                world.cli_lock.unlink()

    world.log_in(seconds=0)
    world.lock_as_the_cli()
    world.meanwhile = refreshed_by_the_cli
    assert token(world.get()) == "access-SECRET-5"
    assert (world.http.sent, len(world.slept)) == ([], 3)


def test_what_stands_in_the_file_when_the_lock_is_ours_is_refreshed(world: World) -> None:
    """Not what stood there when it was asked for."""

    def expired_again() -> None:
        if len(world.slept) == 3:
            world.log_in(5, seconds=0)
            world.cli_lock.unlink()

    world.log_in(seconds=0)
    world.lock_as_the_cli()
    world.meanwhile = expired_again
    world.http.replies = [(200, REFRESHED)]
    assert token(world.get()) == "access-SECRET-2"
    assert b"refresh_token=refresh-SECRET-5&" in world.http.sent[0].content


def test_a_file_that_changed_unseen_before_the_lock_was_ours_is_seen(world: World) -> None:
    """A file system with coarse times can hide a change of equal length."""
    world.log_in(1)
    rejected = world.get()
    seen = world.path.stat()

    def unseen() -> None:
        if len(world.slept) == 2:
            world.path.write_bytes(world.path.read_bytes().replace(b"SECRET-1", b"SECRET-5"))
            os.utime(world.path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
            world.cli_lock.unlink()

    world.lock_as_the_cli()
    world.meanwhile = unseen
    assert token(world.renew(rejected)) == "access-SECRET-5"
    assert world.http.sent == []


def test_a_logout_while_we_wait_counts_at_once(world: World) -> None:
    world.log_in(seconds=0)
    world.lock_as_the_cli()
    world.meanwhile = lambda: world.path.unlink(missing_ok=True)
    assert "there is no such file" in refused(world.get).message
    assert len(world.slept) == 1


@pytest.mark.parametrize("seconds", [30, 1])
def test_a_token_that_has_life_left_is_used_while_another_program_refreshes_it(
    world: World, seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for what he does not need yet."""
    world.log_in(seconds=seconds)
    world.lock_as_the_cli()
    assert token(world.get()) == "access-SECRET-1"
    assert (world.slept, world.http.sent, caplog.records) == ([], [], [])
    world.cli_lock.unlink()
    world.http.replies = [(200, REFRESHED)]
    assert token(world.get()) == "access-SECRET-2"


def test_a_token_that_has_ended_is_not_refreshed_past_another_program(world: World) -> None:
    world.log_in(seconds=0)
    world.meanwhile = world.lock_as_the_cli
    world.lock_as_the_cli()
    error = refused(world.get)
    assert error.kind == "unavailable"
    assert f"another program holds {world.cli_lock}, which is 0 s old" in error.message
    assert world.http.sent == []
    assert world.provider.status().ready


def test_what_could_not_be_written_is_not_written_past_another_program(unwritten: World) -> None:
    unwritten.lock_as_the_cli()
    assert token(unwritten.get()) == "access-SECRET-2"
    assert unwritten.on_disk()["refresh_token"] == "refresh-SECRET-1"
    assert unwritten.slept == []
    unwritten.cli_lock.unlink()
    assert token(unwritten.get()) == "access-SECRET-2"
    assert unwritten.on_disk()["refresh_token"] == "refresh-SECRET-2"


def test_in_a_read_only_folder_it_is_refreshed_without_a_lock_and_kept_in_memory(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def read_only(path: Path, *args: Any) -> int:
        raise OSError(30, "Read-only file system", str(path))

    world.log_in(seconds=0)
    world.http.replies = [(200, REFRESHED)]
    monkeypatch.setattr(os, "open", read_only)
    for _ in range(3):
        assert token(world.get()) == "access-SECRET-2"
    assert caplog.text.count("cannot lock") == 1
    assert caplog.text.count("lives in memory only") == 1
    assert len(world.http.sent) == 1


# --- short lives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lifetime", "used"), [(1, 0.5), (20, 10), (30, 15), (60, 30), (90, 60), (0, 3570), (-1, 3570)]
)
def test_a_token_that_we_refreshed_is_used_for_half_its_life_at_least(
    world: World, lifetime: float, used: float
) -> None:
    world.log_in(seconds=0)
    again = {**REFRESHED, "access_token": "access-SECRET-3", "expires_in": lifetime}
    world.http.replies = [(200, {**REFRESHED, "expires_in": lifetime}), (200, again)]
    for _ in range(5):
        assert token(world.get()) == "access-SECRET-2"
    world.now += used - 0.01
    assert token(world.get()) == "access-SECRET-2"
    assert "token valid for" in world.provider.status().detail
    world.now += 0.02
    assert token(world.get()) == "access-SECRET-3"
    assert len(world.http.sent) == 2


def test_a_short_token_that_is_refused_after_its_end_is_not_the_dead_tier(world: World) -> None:
    world.log_in(seconds=0)
    world.http.replies = [
        (200, {**REFRESHED, "expires_in": 20}),
        (200, {**REFRESHED, "access_token": "access-SECRET-3"}),
    ]
    rejected = world.get()
    world.now += 21
    assert token(world.renew(rejected)) == "access-SECRET-3"


# --- the file -------------------------------------------------------------------------------------------------------


def test_a_file_that_another_program_has_changed_is_picked_up(world: World) -> None:
    world.log_in(1)
    assert token(world.get()) == "access-SECRET-1"
    world.log_in(2, resource_url="other.example")
    credential = world.get()
    assert (token(credential), credential.base_url) == ("access-SECRET-2", "https://other.example/v1")


def test_an_unchanged_file_is_read_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []
    read = store.read

    def counted(path: Path) -> store.Stored:
        reads.append(path)
        return read(path)

    monkeypatch.setattr(store, "read", counted)
    world.log_in()
    for _ in range(5):
        world.get()
    assert reads == [world.path]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "there is no such file"),
        (b"", "it is not JSON, or only half of it"),
        (b'{"access_token": "access-SECRET-1", "refr', "it is not JSON, or only half of it"),
        ([], "it is not a JSON object"),
        ({"refresh_token": "refresh-SECRET-1", "expiry_date": 1}, "it holds no `access_token`"),
        ({"access_token": "access-SECRET-1"}, "its `expiry_date` is not a number"),
        (
            {"access_token": "access-SECRET-1", "expiry_date": 9e15, "resource_url": "ftp://x"},
            "its `resource_url` is not the address of a server",
        ),
        (
            {"access_token": "access-SECRET-1", "expiry_date": 9e15, "resource_url": "http://x.example"},
            "its `resource_url` is not https, so the token is not sent there",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_file_that_cannot_be_used_is_told_with_its_path_and_the_next_step(
    world: World, content: Any, problem: str
) -> None:
    if content is not None:
        world.write(content)
    expected = f"{world.path}: {problem}; {NEXT_STEP}"
    error = refused(world.get)
    assert (error.kind, error.message) == ("auth", expected)
    assert (world.provider.status().ready, world.provider.status().detail) == (False, expected)
    assert world.http.sent == []

    world.log_in()
    assert token(world.get()) == "access-SECRET-1"


def test_a_file_that_goes_away_counts_at_once_and_one_that_comes_back_heals(world: World) -> None:
    world.log_in()
    world.get()
    world.path.unlink()
    assert "there is no such file" in refused(world.get).message
    world.write(b"{")
    assert "only half of it" in refused(world.get).message
    world.log_in(2)
    assert token(world.get()) == "access-SECRET-2"


@pytest.mark.parametrize("half", [b"", b'{"access_token": "access-SECRET-2", "refr'])
def test_while_the_file_is_written_in_place_the_token_that_was_in_it_is_used_to_its_end(
    world: World, half: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    world.log_in(1)
    world.get()
    world.path.write_bytes(half)
    for _ in range(3):
        assert token(world.get()) == "access-SECRET-1"
    assert world.provider.status().ready
    assert caplog.text.count("it is not JSON, or only half of it; the token that was in it is used to its end") == 1
    assert "SECRET" not in caplog.text

    world.now += 3599  # not fresh any more, but what is being written may be its successor: nobody refreshes
    assert token(world.get()) == "access-SECRET-1"
    world.now += 1
    assert refused(world.get).message == f"{world.path}: it is not JSON, or only half of it; {NEXT_STEP}"
    assert world.http.sent == []

    world.log_in(2)
    assert token(world.get()) == "access-SECRET-2"


def test_a_rejected_token_is_not_refreshed_from_memory_while_the_file_is_written_in_place(world: World) -> None:
    world.log_in(1)
    rejected = world.get()
    world.path.write_bytes(b"{")
    error = refused(lambda: world.renew(rejected))
    assert error.kind == "unavailable"
    half = f"{world.path}: it is not JSON, or only half of it"
    assert error.message == f"the token could not be refreshed: {half}; try again"
    world.log_in(2)
    assert token(world.renew(rejected)) == "access-SECRET-2"


@pytest.mark.parametrize("content", [[], {"access_token": "access-SECRET-1"}])
def test_a_whole_file_without_credentials_counts_at_once(world: World, content: Any) -> None:
    world.log_in(1)
    world.get()
    world.write(content)
    assert refused(world.get).kind == "auth"


def test_an_expired_token_without_a_refresh_token(world: World) -> None:
    world.log_in(seconds=0, refresh_token=None)
    assert refused(world.get).message == f"{world.path} holds no `refresh_token`; {NEXT_STEP}"
    expired = f"the token in {world.path} has expired; {NEXT_STEP}"
    assert (world.provider.status().ready, world.provider.status().detail) == (False, expired)


def test_credentials_path_and_base_url_of_the_settings_come_first(tmp_path: Path) -> None:
    world = World(tmp_path, credentials_path=Path("~/elsewhere.json"), base_url="https://gateway.example")
    world.path = tmp_path / "elsewhere.json"
    world.log_in(resource_url="ftp://unusable")
    assert world.provider.path == world.path
    assert world.get().base_url == "https://gateway.example"


@pytest.mark.parametrize(
    ("resource_url", "base"),
    [
        (None, "https://portal.qwen.ai/v1"),
        ("portal.qwen.ai", "https://portal.qwen.ai/v1"),
        (" portal.qwen.ai ", "https://portal.qwen.ai/v1"),
        ("portal.qwen.ai/", "https://portal.qwen.ai/v1"),
        ("portal.qwen.ai//", "https://portal.qwen.ai/v1"),
        ("portal.qwen.ai:8443", "https://portal.qwen.ai:8443/v1"),
        ("portal.qwen.ai/v1", "https://portal.qwen.ai/v1"),
        ("portal.qwen.ai/v1/", "https://portal.qwen.ai/v1"),
        ("https://portal.qwen.ai", "https://portal.qwen.ai/v1"),
        ("HTTPS://portal.qwen.ai/v1", "HTTPS://portal.qwen.ai/v1"),
        ("https://x.example/compatible-mode/v1", "https://x.example/compatible-mode/v1"),
        ("https://x.example/compatible-mode", "https://x.example/compatible-mode/v1"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1"),
        ("http://localhost:8080/v1", "http://localhost:8080/v1"),
        ("http://[::1]:8080", "http://[::1]:8080/v1"),
    ],
)
def test_the_base_url_has_a_scheme_and_one_v1(resource_url: str | None, base: str) -> None:
    assert api_base(resource_url) == base


@pytest.mark.parametrize(
    "resource_url",
    [
        "http://portal.qwen.ai",
        "HTTP://portal.qwen.ai",
        "http://127.0.0.1.evil.example",
        "http://localhost@evil.example",
        "ftp://portal.qwen.ai",
        "file:///etc/passwd",
        "https://",
        "https:///v1",
        "https://[::1",
        "https://host:port",
        "https://host\r\nx-header: 1",
        "portal.qwen.ai?x=1",
        "portal.qwen.ai/v1?",
        "portal.qwen.ai#f",
        "https://user:SECRET@evil.example",
        "https://portal.qwen.ai\\@evil.example",
        "https://portal.qwen.ai evil.example",
    ],
)
def test_a_token_is_sent_to_no_other_kind_of_address(resource_url: str) -> None:
    with pytest.raises(Unusable, match=r"^its `resource_url` is not") as error:
        api_base(resource_url)
    assert "SECRET" not in str(error.value)


# --- after a 401 ----------------------------------------------------------------------------------------------------


def test_renew_refreshes_a_token_that_has_not_expired_by_its_file(world: World) -> None:
    world.log_in()
    world.http.replies = [(200, REFRESHED)]
    assert token(world.renew(world.get())) == "access-SECRET-2"
    assert world.on_disk()["access_token"] == "access-SECRET-2"


def test_renew_takes_what_another_program_has_written_meanwhile(world: World) -> None:
    world.log_in(1)
    rejected = world.get()
    world.log_in(2)
    assert token(world.renew(rejected)) == "access-SECRET-2"
    assert world.http.sent == []


def test_renew_reads_the_file_again_even_if_it_looks_unchanged(world: World) -> None:
    """A file system with coarse times can hide a change of equal length."""
    world.log_in(1)
    rejected = world.get()
    seen = world.path.stat()
    world.path.write_bytes(world.path.read_bytes().replace(b"SECRET-1", b"SECRET-5"))
    os.utime(world.path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert token(world.get()) == "access-SECRET-1"
    assert token(world.renew(rejected)) == "access-SECRET-5"


def test_renew_refreshes_what_another_program_has_written_if_that_has_expired(world: World) -> None:
    world.log_in(1)
    rejected = world.get()
    world.log_in(3, seconds=0)
    world.http.replies = [(200, REFRESHED)]
    assert token(world.renew(rejected)) == "access-SECRET-2"
    assert b"refresh_token=refresh-SECRET-3&" in world.http.sent[0].content


def test_a_token_that_is_refused_right_after_its_issue_is_the_dead_tier(world: World) -> None:
    world.log_in(seconds=0)
    world.http.replies = [(200, REFRESHED)]
    credential = world.get()
    world.now += 59
    assert world.provider.is_tier_dead(credential)
    error = refused(lambda: world.renew(credential))
    assert (error.kind, error.status, error.message) == ("auth", 401, DEAD_TIER)
    assert len(world.http.sent) == 1


def test_a_token_is_just_issued_for_a_minute_only_and_only_if_we_refreshed_it(world: World) -> None:
    world.log_in()
    assert not world.provider.is_tier_dead(world.get())
    world.log_in(2, seconds=0)
    world.http.replies = [(200, REFRESHED), (200, {**REFRESHED, "access_token": "access-SECRET-3"})]
    credential = world.get()
    assert not world.provider.is_tier_dead(Credential({"authorization": "Bearer other"}))
    assert not world.provider.is_tier_dead(Credential({"authorization": "Bearer "}))
    world.now += 60
    assert not world.provider.is_tier_dead(credential)
    assert token(world.renew(credential)) == "access-SECRET-3"


def test_a_token_that_was_accepted_is_refreshed_when_it_is_refused_however_new_it_is(world: World) -> None:
    world.log_in(seconds=0)
    world.http.replies = [(200, REFRESHED), (200, {**REFRESHED, "access_token": "access-SECRET-3"})]
    credential = world.get()
    world.provider.accepted(credential)
    assert not world.provider.is_tier_dead(credential)
    assert token(world.renew(credential)) == "access-SECRET-3"


def test_a_dead_tier_holds_for_other_tokens_until_one_is_accepted(world: World) -> None:
    world.log_in(seconds=0)
    world.http.replies = [(200, REFRESHED), (200, {**REFRESHED, "access_token": "access-SECRET-8"})]
    assert world.provider.is_tier_dead(world.get())
    world.log_in(7)
    os.utime(world.path, (world.now - 3600, world.now - 3600))  # nobody has just issued it
    seventh = world.get()
    assert refused(lambda: world.renew(seventh)).message == DEAD_TIER
    world.provider.accepted(seventh)
    assert token(world.renew(seventh)) == "access-SECRET-8"


@pytest.mark.parametrize(("age", "dead"), [(-30, True), (0, True), (59, True), (61, False), (-61, False)])
def test_what_another_program_has_just_written_is_just_issued(world: World, age: float, dead: bool) -> None:
    world.log_in()
    os.utime(world.path, (world.now - age, world.now - age))
    assert world.provider.is_tier_dead(world.get()) is dead


@pytest.mark.parametrize("refresh_token", [None, "refresh-SECRET-1"])
def test_a_token_is_used_to_its_end_when_nothing_can_refresh_it(world: World, refresh_token: str | None) -> None:
    world.log_in(seconds=20, refresh_token=refresh_token)
    world.http.replies = [(400, DEAD)] if refresh_token else []
    for _ in range(3):
        assert token(world.get()) == "access-SECRET-1"
    assert len(world.http.sent) == (1 if refresh_token else 0)
    detail = f"{world.path}, token valid for 20 s, and then a login is needed"
    assert (world.provider.status().ready, world.provider.status().detail) == (True, detail)
    world.now += 20
    assert refused(world.get).kind == "auth"
    assert not world.provider.status().ready


def test_a_logout_during_the_early_refresh_counts_all_the_same(world: World) -> None:
    world.log_in(seconds=20)
    world.http.replies = [meanwhile(world.path.unlink, 400, DEAD)]
    assert "there is no such file" in refused(world.get).message


def test_renew_with_a_dead_refresh_token_asks_once(world: World) -> None:
    world.log_in()
    rejected = world.get()
    world.http.replies = [(400, DEAD)]
    for _ in range(3):
        assert "no longer accepted" in refused(lambda: world.renew(rejected)).message
    assert len(world.http.sent) == 1
    assert not world.provider.status().ready


# --- in words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "ready", "detail"),
    [
        (45, True, "{path}, token valid for 45 s"),
        (119, True, "{path}, token valid for 119 s"),
        (120, True, "{path}, token valid for 2 min"),
        (5400, True, "{path}, token valid for 90 min"),
        (7200, True, "{path}, token valid for 2 h"),
        (864000, True, "{path}, token valid for 240 h"),
        (30, True, "{path}, token valid for 30 s"),
        (1, True, "{path}, token valid for 1 s"),
        (0, True, "{path}, token expired, will be refreshed with the next request"),
        (-1, True, "{path}, token expired, will be refreshed with the next request"),
    ],
)
def test_status_says_how_long_without_asking_anybody(world: World, seconds: float, ready: bool, detail: str) -> None:
    world.log_in(seconds=seconds)
    status = world.provider.status()
    assert (status.ready, status.detail) == (ready, detail.format(path=world.path))
    assert world.http.sent == []


def test_no_token_in_any_repr_status_or_log_record(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    world.log_in(seconds=0)
    world.http.replies = [(200, REFRESHED), (500, DEAD), (400, DEAD)]
    credential = world.get()
    world.now += 3600
    refused(world.get)
    refused(world.get)
    shown = [
        repr(world.provider),
        repr(credential),
        repr(world.provider.status()),
        repr(vars(world.provider)["_stored"]),
    ]
    shown += [record.getMessage() + repr(record.args) for record in caplog.records]
    assert any("token refreshed, valid for 60 min" in text for text in shown)
    assert not [text for text in shown if "SECRET" in text]


# --- many at once, through the core's single flight -----------------------------------------------------------------


@dataclass
class Gate:
    """Holds the issuer's answer back until it is opened; `asked` tells that the question has come."""

    answer: tuple[int, Any] = (200, REFRESHED)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self) -> tuple[int, Any]:
        self.asked.set()
        await self.opened.wait()
        return self.answer


def bounded(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 10))


def test_fifty_callers_with_an_expired_token_cause_one_refresh(world: World) -> None:
    async def test() -> None:
        gate = Gate()
        world.http.replies = [gate]
        flight = SingleFlight(world.provider)
        callers = [asyncio.create_task(flight.get()) for _ in range(50)]
        await gate.asked.wait()
        gate.opened.set()
        assert {token(credential) for credential in await asyncio.gather(*callers)} == {"access-SECRET-2"}

    world.log_in(seconds=0)
    bounded(test())
    assert len(world.http.sent) == 1


def test_fifty_callers_with_one_rejected_token_cause_one_refresh(world: World) -> None:
    async def test() -> None:
        world.http.replies = [(200, REFRESHED)]
        flight = SingleFlight(world.provider)
        rejected = await flight.get()
        renewed = await asyncio.gather(*(flight.renew(rejected) for _ in range(50)))
        assert {token(credential) for credential in renewed} == {"access-SECRET-2"}

    world.log_in()
    bounded(test())
    assert len(world.http.sent) == 1


def test_fifty_callers_with_a_dead_refresh_token_ask_once(world: World) -> None:
    async def test() -> None:
        world.http.replies = [(400, DEAD)]
        flight = SingleFlight(world.provider)
        told = await asyncio.gather(*(flight.get() for _ in range(50)), return_exceptions=True)
        assert {error.kind for error in told if isinstance(error, ConnectorError)} == {"auth"}
        assert len(told) == 50

    world.log_in(seconds=0)
    bounded(test())
    assert len(world.http.sent) == 1


def test_callers_who_leave_do_not_take_the_refresh_with_them(world: World) -> None:
    async def test() -> None:
        gate = Gate()
        world.http.replies = [gate]
        flight = SingleFlight(world.provider)
        caller = asyncio.create_task(flight.get())
        await gate.asked.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        gate.opened.set()
        await flight.aclose()

    world.log_in(seconds=0)
    bounded(test())
    assert world.on_disk()["refresh_token"] == "refresh-SECRET-2"
    assert token(world.get()) == "access-SECRET-2"
