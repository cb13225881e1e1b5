"""The device flow: what each answer of an issuer means, and a driver that is polite, secretive, and always ends."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgate_core import ConnectorError, DeviceFlow, HttpReply, Instance, SlowDown, device_login
from llmgate_core.device_flow import (
    DENIED,
    EXPIRED,
    GRANT,
    KNOWN_ERRORS,
    LIMITED,
    AskAgain,
    DeviceCode,
    GiveUp,
    Granted,
    pkce_challenge,
    pkce_verifier,
    read_device_code,
    read_poll,
)

FLOW = DeviceFlow("https://id.example/device", "https://id.example/token", "public-client", "openid", interval=2.0)
QUICKER = SlowDown(factor=1.5, seconds=0.0, cap=10.0)
CODE: dict[str, Any] = {
    "device_code": "SECRET-device",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://id.example/go",
    "verification_uri_complete": "https://id.example/go?code=WDJB-MJHT",
    "expires_in": 900,
}
TOKENS = {"access_token": "SECRET-access", "refresh_token": "SECRET-refresh", "expires_in": 60}
PENDING = (400, {"error": "authorization_pending"})

Answer = tuple[int, Any] | Exception
Script = Callable[[int], Answer]


class World:
    """An issuer that answers by script, a clock that only sleeping moves, and the screen.

    Attributes:
        polled: when the token endpoint was asked.
        sent: URL, headers and form of every request.
        shown: everything that reached the screen.
    """

    def __init__(self, script: Script, code: Answer = (200, CODE)) -> None:
        self.now = 1_700_000_000.0
        self.started = self.now
        self.drift = 1.0
        self.polled: list[float] = []
        self.slept: list[float] = []
        self.sent: list[tuple[str, Mapping[str, str], dict[str, str]]] = []
        self.shown: list[str] = []
        self._script, self._code = script, code

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, content: bytes = b""
    ) -> HttpReply:
        assert method == "POST"
        self.sent.append((url, headers or {}, dict(parse_qsl(content.decode(), strict_parsing=True))))
        if url == FLOW.device_url:
            answer = self._code
        else:
            self.polled.append(sum(self.slept))
            answer = self._script(len(self.polled))
        if isinstance(answer, Exception):
            raise answer
        status, body = answer
        return HttpReply(status, {}, once(body if isinstance(body, bytes) else json.dumps(body).encode()), nothing)

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.now += seconds * self.drift

    def say(self, text: str) -> None:
        self.shown.append(text)

    def show_code(self, link: str, code: str, seconds: float) -> None:
        self.shown.append(f"{link} {code} {seconds:g}")

    def log_in(self, flow: DeviceFlow = FLOW) -> Mapping[str, Any]:
        instance = Instance(
            name="acme.default",
            settings=None,
            http=self,
            clock=lambda: self.now,
            random=random.Random(1),
            environ={},
            home=Path("/nowhere"),
            logger=logging.getLogger("test"),
            sleep=self.sleep,
        )
        return asyncio.run(device_login(flow, instance, self, random_bytes=lambda count: bytes(range(count))))

    def fail(self, flow: DeviceFlow = FLOW) -> ConnectorError:
        with pytest.raises(ConnectorError) as caught:
            self.log_in(flow)
        assert "SECRET" not in str(caught.value)
        return caught.value


async def once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body


async def nothing() -> None:
    """Nothing is open."""


def after(count: int, *first: Answer, then: Answer = (200, TOKENS)) -> Script:
    """The answers `first`, again and again, to `count` polls, and `then` to the next."""
    return lambda number: first[(number - 1) % len(first)] if number <= count else then


# --- what one answer means -------------------------------------------------------------------------------------------

MEANINGS: list[tuple[int, dict[str, Any], AskAgain | Granted | GiveUp]] = [
    (200, TOKENS, Granted(TOKENS)),
    (201, TOKENS, Granted(TOKENS)),
    (200, {**TOKENS, "error": None}, Granted({**TOKENS, "error": None})),
    (200, {"status": "pending"}, AskAgain(4.0)),
    (200, {"error": "authorization_pending"}, AskAgain(4.0)),
    (400, {"error": "authorization_pending"}, AskAgain(4.0)),
    (401, {"error": "authorization_pending"}, AskAgain(4.0)),
    (429, {"error": "authorization_pending"}, AskAgain(4.0)),
    (400, {"error": "slow_down"}, AskAgain(6.0)),
    (429, {"error": "slow_down"}, AskAgain(6.0)),
    (200, {"error": "slow_down"}, AskAgain(6.0)),
    (400, {"error": "expired_token"}, EXPIRED),
    (200, {"error": "expired_token"}, EXPIRED),
    (401, {}, EXPIRED),
    (401, {"error": "invalid_request"}, EXPIRED),
    (400, {"error": "access_denied"}, DENIED),
    (429, {"error": "access_denied"}, DENIED),
    (403, {"error": "access_denied"}, DENIED),
    (429, {}, LIMITED),
    (429, {"error": "invalid_request"}, LIMITED),
    (200, {}, AskAgain(4.0, "HTTP 200 without a token")),
    (200, {"access_token": ""}, AskAgain(4.0, "HTTP 200 without a token")),
    (200, {"access_token": 5}, AskAgain(4.0, "HTTP 200 without a token")),
    (302, {}, AskAgain(4.0, "HTTP 302")),
    (400, {}, AskAgain(4.0, "HTTP 400")),
    (400, {"error": {"code": "x"}}, AskAgain(4.0, "HTTP 400")),
    (503, {}, AskAgain(4.0, "HTTP 503")),
]

ERRORS: list[tuple[int, dict[str, Any], str, str, str]] = [
    (200, {"error": "server_error"}, "HTTP 200, `server_error`", "denied", "HTTP 200, `server_error`"),
    (200, {**TOKENS, "error": "odd"}, "HTTP 200 without a token", "denied", "HTTP 200 with an unknown error"),
    (400, {"error": "invalid_grant"}, "HTTP 400, `invalid_grant`", "denied", "HTTP 400, `invalid_grant`"),
    (400, {"error": "SECRET-device"}, "HTTP 400", "denied", "HTTP 400 with an unknown error"),
    (500, {"error": "server_error"}, "HTTP 500, `server_error`", "unavailable", "HTTP 500, `server_error`"),
]


@pytest.mark.parametrize(("status", "fields", "trouble", "kind", "words"), ERRORS, ids=str)
def test_other_errors_end_it_as_the_rfc_says_unless_the_provider_means_less(
    status: int, fields: dict[str, Any], trouble: str, kind: str, words: str
) -> None:
    assert read_poll(status, fields, 4.0, QUICKER, outlasts_errors=True) == AskAgain(4.0, trouble)
    found = read_poll(status, fields, 4.0, QUICKER)
    assert isinstance(found, GiveUp)
    assert (found.kind, found.reason) == (
        kind,
        f"the issuer ends the login: {words}; log in again, perhaps in some minutes",
    )


def test_whether_errors_end_a_login_is_the_flows_to_say() -> None:
    broken = (400, {"error": "invalid_request"})
    world = World(after(1, broken))
    assert world.fail().message.startswith("the issuer ends the login: HTTP 400, `invalid_request`")
    assert len(world.polled) == 1
    world = World(after(1, broken))
    assert world.log_in(replace(FLOW, outlasts_errors=True)) == TOKENS


@pytest.mark.parametrize(("status", "fields", "meaning"), MEANINGS, ids=str)
def test_the_word_decides_first_and_the_status_second(
    status: int, fields: dict[str, Any], meaning: AskAgain | Granted | GiveUp
) -> None:
    assert read_poll(status, fields, 4.0, QUICKER) == meaning


ODDITIES = st.sampled_from([None, False, 0, 1.5, 10**400, "", "odd", "SECRET", "\x1b[2J", [], ["x"], {}, {"code": "x"}])
VALUES = st.sampled_from([*sorted(KNOWN_ERRORS), "pending"]) | ODDITIES
FIELDS = st.dictionaries(st.sampled_from(["error", "status", "access_token", "x"]), VALUES, max_size=4)
STATUSES = st.sampled_from([200, 201, 204, 301, 400, 401, 403, 404, 429, 500, 502, 503, 504]) | st.integers(100, 599)
SLOW_DOWNS = st.builds(
    SlowDown, factor=st.floats(1.0, 3.0), seconds=st.floats(0.0, 10.0), cap=st.floats(1.0, 60.0) | st.just(float("inf"))
)


@given(STATUSES, FIELDS, st.floats(0.5, 60.0), SLOW_DOWNS, st.booleans())
def test_any_answer_means_something_and_never_a_shorter_interval(
    status: int, fields: dict[str, Any], interval: float, slow_down: SlowDown, outlasts_errors: bool
) -> None:
    found = read_poll(status, fields, interval, slow_down, outlasts_errors=outlasts_errors)
    if isinstance(found, AskAgain):
        assert interval <= found.interval <= max(interval, slow_down.cap)
        assert re.fullmatch(r"|HTTP \d{3}( without a token|, `[a-z_]+`)?", found.trouble)
    if isinstance(found, Granted):
        assert 200 <= status < 300
        assert fields["access_token"]


def test_slowing_down_as_the_rfc_says_and_as_providers_do() -> None:
    interval, intervals = 5.0, []
    for _ in range(3):
        interval = SlowDown().after(interval)
        intervals.append(interval)
    assert intervals == [10.0, 15.0, 20.0]
    interval, intervals = 2.0, []
    for _ in range(6):
        interval = QUICKER.after(interval)
        intervals.append(interval)
    assert intervals == [3.0, 4.5, 6.75, 10.0, 10.0, 10.0]


# --- the beginning ---------------------------------------------------------------------------------------------------


def test_the_device_code() -> None:
    found = read_device_code(200, CODE, FLOW)
    assert found == DeviceCode("SECRET-device", "WDJB-MJHT", CODE["verification_uri_complete"], 900.0, 2.0)
    assert "SECRET" not in repr(found)
    assert "SECRET" not in repr(Granted(TOKENS))
    without = {name: value for name, value in CODE.items() if name != "verification_uri_complete"}
    assert read_device_code(200, without, FLOW).link == "https://id.example/go"


@pytest.mark.parametrize(
    ("told", "interval"), [(None, 2.0), (1, 2.0), (5, 5.0), (1e9, 60.0), (-3, 2.0), ("9", 2.0), (True, 2.0)]
)
def test_a_longer_interval_that_the_issuer_names_is_obeyed(told: Any, interval: float) -> None:
    assert read_device_code(200, {**CODE, "interval": told}, FLOW).interval == interval


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"device_code": None}, "device_code"),
        ({"device_code": ""}, "device_code"),
        ({"user_code": 7}, "user_code"),
        ({"user_code": "A\x1b[2J"}, "user_code"),
        ({"verification_uri": None, "verification_uri_complete": None}, "verification_uri"),
        ({"verification_uri": "javascript:x", "verification_uri_complete": "file:///x"}, "verification_uri"),
        ({"verification_uri": "https://x/\n", "verification_uri_complete": "https://x/ y"}, "verification_uri"),
        ({"expires_in": 0}, "expires_in"),
        ({"expires_in": "900"}, "expires_in"),
        ({"expires_in": None}, "expires_in"),
    ],
)
def test_an_answer_that_lacks_something_names_it(change: dict[str, Any], named: str) -> None:
    error = World(after(0), (200, {**CODE, **change})).fail()
    assert error.kind == "protocol"
    assert error.message == f"the issuer's answer cannot be used: it has no usable `{named}`; try again later"


@pytest.mark.parametrize(
    ("answer", "kind", "told"),
    [
        ((400, {"error": "invalid_client"}), "denied", "HTTP 400, `invalid_client`"),
        ((400, {"error": "SECRET"}), "denied", "HTTP 400"),
        ((200, {"error": "invalid_scope"}), "denied", "HTTP 200, `invalid_scope`"),
        ((302, b""), "denied", "HTTP 302"),
        ((429, {}), "rate_limited", "HTTP 429"),
        ((503, b"<html>"), "unavailable", "HTTP 503"),
    ],
)
def test_a_login_that_may_not_begin(answer: Answer, kind: str, told: str) -> None:
    error = World(after(0), answer).fail()
    then = "see whether the plugin has a newer version" if kind == "denied" else "try again in some minutes"
    assert (error.kind, error.message) == (kind, f"the issuer does not let a login begin: {told}; {then}")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'"SECRET"', b"[" * 100_000])
def test_an_answer_that_is_no_object(body: bytes) -> None:
    assert World(after(0), (200, body)).fail().kind == "protocol"
    world = World(after(1, (200, body)))
    assert world.log_in() == TOKENS


def test_an_issuer_that_cannot_be_reached() -> None:
    world = World(after(0), ConnectorError("unavailable", "id.example:443: connection refused; is it running?"))
    assert world.fail().message == "id.example:443: connection refused; is it running?"
    assert world.slept == []
    assert world.shown == []


# --- PKCE ------------------------------------------------------------------------------------------------------------


def test_the_challenge_of_the_rfc() -> None:
    """RFC 7636, appendix B."""
    octets = [116, 24, 223, 180, 151, 153, 224, 37, 79, 250, 96, 125, 216, 173, 187, 186]
    octets += [22, 212, 37, 77, 105, 214, 191, 240, 91, 88, 5, 88, 83, 132, 141, 121]
    verifier = pkce_verifier(lambda count: bytes(octets[:count]))
    assert verifier == "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert pkce_challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


@given(st.binary(min_size=32, max_size=32))
def test_a_verifier_is_43_unreserved_characters(octets: bytes) -> None:
    verifier = pkce_verifier(lambda count: octets[:count])
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", verifier)
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", pkce_challenge(verifier))


def test_what_is_sent() -> None:
    flow = DeviceFlow(FLOW.device_url, FLOW.token_url, "public-client", "openid", 2.0, headers={"x-request-id": "r1"})
    world = World(after(1, PENDING))
    world.log_in(flow)
    (url, headers, begun), *polls = world.sent
    form = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
    assert (url, headers) == (FLOW.device_url, {**form, "x-request-id": "r1"})
    verifier = pkce_verifier(lambda count: bytes(range(count)))
    challenge = {"code_challenge": pkce_challenge(verifier), "code_challenge_method": "S256"}
    assert begun == {"client_id": "public-client", "scope": "openid", **challenge}
    polled = {
        "grant_type": GRANT,
        "client_id": "public-client",
        "device_code": "SECRET-device",
        "code_verifier": verifier,
    }
    assert polls == [(FLOW.token_url, form, polled)] * 2


def test_each_login_has_a_verifier_of_its_own() -> None:
    challenges = set()
    for _ in range(2):
        world = World(after(0))
        instance = Instance(
            "acme.default", None, world, lambda: 0.0, random.Random(1), {}, Path(), logging.getLogger(), world.sleep
        )
        asyncio.run(device_login(FLOW, instance, world))
        challenges.add(world.sent[0][2]["code_challenge"])
    assert len(challenges) == 2


# --- the driver ------------------------------------------------------------------------------------------------------


def test_confirmed_after_some_polls() -> None:
    world = World(after(3, PENDING))
    assert world.log_in() == TOKENS
    assert world.polled == [2.0, 4.0, 6.0, 8.0]
    assert world.shown == ["https://id.example/go?code=WDJB-MJHT WDJB-MJHT 900"]


@pytest.mark.parametrize("status", [400, 429])
def test_it_slows_down_and_stays_slow(status: int) -> None:
    world = World(after(3, PENDING, (status, {"error": "slow_down"}), PENDING))
    flow = DeviceFlow(FLOW.device_url, FLOW.token_url, "c", "s", 2.0, QUICKER)
    assert world.log_in(flow) == TOKENS
    assert world.slept == [2.0, 2.0, 3.0, 3.0]


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        ((400, {"error": "access_denied"}), "denied", "access was denied in the browser"),
        ((401, {"error": "expired_token"}), "auth", "the code has expired and nobody had confirmed it"),
        ((429, {}), "rate_limited", "the issuer limits how often it may be asked"),
    ],
)
def test_what_ends_it(answer: Answer, kind: str, words: str) -> None:
    world = World(after(2, PENDING, then=answer))
    error = world.fail()
    assert error.kind == kind
    assert error.message.startswith(words)
    assert "log in again" in error.message
    assert len(world.polled) == 3


def test_nobody_confirms() -> None:
    world = World(after(10**6, PENDING), (200, {**CODE, "expires_in": 20}))
    error = world.fail()
    assert error.message == "the code has expired and nobody had confirmed it; log in again"
    assert sum(world.slept) == 18.0


def test_troubles_are_waited_out_and_each_is_told_once() -> None:
    cut = ConnectorError("protocol", "id.example:443: cut the answer off")
    world = World(after(8, (500, b"<html>SECRET"), cut, (200, b"{"), PENDING))
    assert world.log_in() == TOKENS
    assert world.shown[1:] == [
        "No usable answer yet (HTTP 500); asking again until the code expires.",
        "No usable answer yet (id.example:443: cut the answer off); asking again until the code expires.",
        "No usable answer yet (HTTP 200 without a token); asking again until the code expires.",
    ]


def test_an_issuer_that_never_comes_back() -> None:
    world = World(after(10**6, (503, b"")), (200, {**CODE, "expires_in": 20}))
    told = "the code has expired, and the issuer gave no usable answer (HTTP 503); log in again later"
    assert world.fail().message == told


def test_a_bug_is_not_taken_for_the_network() -> None:
    with pytest.raises(ZeroDivisionError):
        World(after(0, then=ZeroDivisionError())).log_in()


@given(
    st.lists(st.tuples(STATUSES, FIELDS), min_size=1, max_size=12),
    st.integers(1, 400),
    st.none() | st.integers(1, 30),
    st.floats(0.5, 10.0),
    SLOW_DOWNS,
    st.sampled_from([1.0, 0.0, -1.0, 20.0]),
)
def test_it_always_ends_by_the_codes_expiry_and_is_never_too_quick(
    answers: list[tuple[int, dict[str, Any]]],
    seconds: int,
    told: int | None,
    interval: float,
    slow_down: SlowDown,
    drift: float,
) -> None:
    """Whatever the issuer says, and whether the clock runs, stands still, runs backwards or jumps."""
    code = {**CODE, "expires_in": seconds, "interval": told}
    world = World(lambda number: answers[(number - 1) % len(answers)], (200, code))
    world.drift = drift
    flow = DeviceFlow(FLOW.device_url, FLOW.token_url, "c", "s", interval, slow_down)
    try:
        outcome: str = "granted" if world.log_in(flow) else "nothing"
    except ConnectorError as error:
        outcome = error.kind
    assert outcome in ("granted", "auth", "denied", "rate_limited", "unavailable")
    least = max(interval, told or 0)
    assert sum(world.slept) <= seconds
    assert all(least <= pause <= max(least, slow_down.cap) for pause in world.slept)
    assert world.slept == sorted(world.slept)
    assert len(world.polled) == len(world.slept)
