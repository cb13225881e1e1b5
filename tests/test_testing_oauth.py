"""OAuthSimulator: a good client gets its tokens, every fault is refused, and a provider may stray far from the RFCs."""

from __future__ import annotations

import ast
import asyncio
import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgate_core.testing import OAuthAnswer, OAuthRefused, OAuthRequest, OAuthRules, OAuthSimulator
from llmgate_core.testing.oauth.issuer import Issuer

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
RULES = OAuthRules("acme-cli", scope="models chat offline")
VERIFIER = "acme-verifier-" + "v" * 40
FORM = "application/x-www-form-urlencoded"
HEADERS = {"content-type": f"{FORM}; charset=utf-8"}


def s256(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.time = 1_700_000_000.0

    def __call__(self) -> float:
        return self.time


class Refused(Exception):  # noqa: N818
    """The issuer has said no, and a client cannot go on."""


@dataclass
class Client:
    """A complete client of a device flow; each switch is one fault of real clients."""

    http: httpx.AsyncClient
    clock: Clock
    pkce: bool = True
    form: bool = True
    names_itself: bool = True
    patient: bool = True
    keeps_new_refresh_token: bool = True
    tokens: dict[str, Any] = field(default_factory=dict)

    async def begin(self) -> dict[str, Any]:
        proof = {"code_challenge": s256(VERIFIER), "code_challenge_method": "S256"} if self.pkce else {}
        return await self._ask("/device_authorization", {"scope": "models chat", **proof})

    async def finish(self, device: dict[str, Any], before_poll: Callable[[], None] = lambda: None) -> None:
        """Polls until there are tokens; the clock jumps instead of the client waiting."""
        form = {"grant_type": DEVICE_GRANT, "device_code": device["device_code"]}
        form |= {"code_verifier": VERIFIER} if self.pkce else {}
        interval = device["interval"] if self.patient else 1
        while not self.tokens:
            self.clock.time += interval
            before_poll()
            try:
                self.tokens = await self._ask("/token", form)
            except Refused as refused:
                if str(refused) not in ("authorization_pending", "slow_down"):
                    raise
                interval += 5 if str(refused) == "slow_down" and self.patient else 0

    async def refresh(self) -> None:
        form = {"grant_type": "refresh_token", "refresh_token": self.tokens["refresh_token"]}
        kept = {} if self.keeps_new_refresh_token else form
        new = await self._ask("/token", form)
        self.tokens = {**self.tokens, **new, **{name: kept[name] for name in kept if name == "refresh_token"}}

    async def _ask(self, path: str, form: dict[str, str]) -> dict[str, Any]:
        form |= {"client_id": "acme-cli"} if self.names_itself else {}
        reply = await self.http.post(path, **({"data": form} if self.form else {"json": form}))  # type: ignore[arg-type]
        body: dict[str, Any] = reply.json()
        if reply.is_success:
            return body
        raise Refused(body["error"])


@dataclass
class Desk:
    """A running issuer and what a test needs to talk to it."""

    issuer: OAuthSimulator
    clock: Clock
    http: httpx.AsyncClient

    async def device(self, **form: str) -> httpx.Response:
        right = {"client_id": "acme-cli", "scope": "models", "code_challenge_method": "S256"}
        right |= {"code_challenge": s256(VERIFIER), **form}
        rules = self.issuer.rules
        return await self.http.post(rules.device_path, data={name: value for name, value in right.items() if value})

    async def poll(self, code: str, **form: str) -> httpx.Response:
        right = {"grant_type": DEVICE_GRANT, "device_code": code, "code_verifier": VERIFIER, "client_id": "acme-cli"}
        return await self.token(**{**right, **form})

    async def refresh(self, token: str, **form: str) -> httpx.Response:
        right = {"grant_type": "refresh_token", "refresh_token": token, "client_id": "acme-cli"}
        return await self.token(**{**right, **form})

    async def token(self, **form: str) -> httpx.Response:
        fields = {name: value for name, value in form.items() if value}
        return await self.http.post(self.issuer.rules.token_path, data=fields)


def at_desk(test: Callable[[Desk], Awaitable[None]], rules: OAuthRules = RULES, **options: Any) -> None:
    async def run() -> None:
        clock = Clock()
        async with (
            OAuthSimulator(rules, now=clock, **options) as issuer,
            httpx.AsyncClient(base_url=issuer.url, trust_env=False) as http,
        ):
            await test(Desk(issuer, clock, http))

    asyncio.run(run())


def told(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]


# --- a client, good and faulty ----------------------------------------------------------------------------------------


def test_a_good_client_logs_in_and_refreshes() -> None:
    async def test(desk: Desk) -> None:
        client = Client(desk.http, desk.clock)
        device = await client.begin()
        page = await desk.http.get(device["verification_uri_complete"])
        assert page.status_code == 200
        await client.finish(device)
        first = client.tokens
        desk.issuer.check(f"Bearer {first['access_token']}")
        await client.refresh()
        await client.refresh()
        desk.issuer.check(f"bearer {client.tokens['access_token']}")
        assert client.tokens["refresh_token"] != first["refresh_token"]
        assert (desk.issuer.refusals, desk.issuer.reused) == ([], [])
        assert (desk.issuer.issued, desk.issuer.refreshes, desk.issuer.token_requests) == (3, 2, 3)

    at_desk(test)


def test_a_good_client_waits_for_a_user_who_takes_his_time() -> None:
    async def test(desk: Desk) -> None:
        client = Client(desk.http, desk.clock)
        device = await client.begin()
        due = desk.clock.time + 60

        def decide() -> None:
            if desk.clock.time >= due:
                desk.issuer.approve(device["user_code"])

        await client.finish(device, decide)
        assert desk.issuer.refusals == ["authorization_pending: The user has not decided yet."] * 11

    at_desk(test)


@pytest.mark.parametrize(
    ("fault", "error", "reason"),
    [
        ({"pkce": False}, "invalid_request", "code_challenge_method must be S256."),
        ({"form": False}, "invalid_request", f"The body must be {FORM}."),
        ({"names_itself": False}, "invalid_client", "The client_id is missing or unknown."),
    ],
    ids=str,
)
def test_a_faulty_client_gets_no_device_code(fault: dict[str, Any], error: str, reason: str) -> None:
    async def test(desk: Desk) -> None:
        with pytest.raises(Refused, match=error):
            await Client(desk.http, desk.clock, **fault).begin()
        assert desk.issuer.refusals == [f"{error}: {reason}"]

    at_desk(test)


@pytest.mark.parametrize(
    ("fault", "error", "reason"),
    [
        ({"pkce": False}, "invalid_grant", "code_verifier is missing or does not match."),
        ({"form": False}, "invalid_request", f"The body must be {FORM}."),
        ({"names_itself": False}, "invalid_client", "The client_id is missing or unknown."),
    ],
    ids=str,
)
def test_a_client_whose_polls_are_faulty_gets_no_tokens(fault: dict[str, Any], error: str, reason: str) -> None:
    async def test(desk: Desk) -> None:
        device = await Client(desk.http, desk.clock).begin()
        desk.issuer.approve(device["user_code"])
        with pytest.raises(Refused, match=error):
            await Client(desk.http, desk.clock, **fault).finish(device)
        assert (desk.issuer.refusals, desk.issuer.issued) == ([f"{error}: {reason}"], 0)

    at_desk(test)


def test_a_client_that_polls_too_fast_gets_no_tokens_until_the_code_has_expired() -> None:
    async def test(desk: Desk) -> None:
        client = Client(desk.http, desk.clock, patient=False)
        device = await client.begin()
        assert (await desk.poll(device["device_code"])).status_code == 400
        desk.issuer.approve(device["user_code"])
        with pytest.raises(Refused, match="expired_token"):
            await client.finish(device)
        assert desk.issuer.issued == 0
        assert desk.issuer.refusals[1:-1] == ["slow_down: Polling too fast."] * (len(desk.issuer.refusals) - 2)

    at_desk(test, replace(RULES, device_seconds=20))


@pytest.mark.parametrize(
    ("fault", "error", "reason"),
    [
        ({"form": False}, "invalid_request", f"The body must be {FORM}."),
        ({"names_itself": False}, "invalid_client", "The client_id is missing or unknown."),
    ],
    ids=str,
)
def test_a_faulty_refresh_is_refused_and_spends_nothing(fault: dict[str, Any], error: str, reason: str) -> None:
    async def test(desk: Desk) -> None:
        refresh = desk.issuer.issue().refresh
        faulty = Client(desk.http, desk.clock, tokens={"refresh_token": refresh}, **fault)
        with pytest.raises(Refused, match=error):
            await faulty.refresh()
        assert (desk.issuer.refusals, desk.issuer.refreshes) == ([f"{error}: {reason}"], 0)
        assert (await desk.refresh(refresh)).status_code == 200

    at_desk(test)


def test_a_client_that_keeps_its_old_refresh_token_is_refused() -> None:
    async def test(desk: Desk) -> None:
        tokens = {"refresh_token": desk.issuer.issue().refresh}
        client = Client(desk.http, desk.clock, keeps_new_refresh_token=False, tokens=tokens)
        await client.refresh()
        with pytest.raises(Refused, match="invalid_grant"):
            await client.refresh()
        assert desk.issuer.refusals == ["invalid_grant: The refresh token has been spent."]
        assert desk.issuer.reused == [tokens["refresh_token"]]

    at_desk(test)


def test_clients_that_refresh_at_once_are_found_out() -> None:
    async def test(desk: Desk) -> None:
        old = desk.issuer.issue().refresh
        replies = await asyncio.gather(*(desk.refresh(old) for _ in range(10)))
        assert sorted(reply.status_code for reply in replies) == [200] + [400] * 9
        assert (desk.issuer.refreshes, desk.issuer.reused) == (1, [old] * 9)

    at_desk(test)


# --- what it says -----------------------------------------------------------------------------------------------------


def test_the_replies_are_those_of_the_rfcs() -> None:
    async def test(desk: Desk) -> None:
        reply = await desk.device()
        device = reply.json()
        url = desk.issuer.url
        assert device == {
            "device_code": device["device_code"],
            "user_code": device["user_code"],
            "verification_uri": f"{url}/device",
            "verification_uri_complete": f"{url}/device?user_code={device['user_code']}",
            "expires_in": 900,
            "interval": 5,
        }
        desk.issuer.approve(device["user_code"])
        tokens = await desk.poll(device["device_code"])
        assert set(tokens.json()) == {"access_token", "token_type", "expires_in", "refresh_token"}
        assert (tokens.json()["token_type"], tokens.json()["expires_in"]) == ("Bearer", 3600)
        assert {r.headers["cache-control"] for r in (reply, tokens)} == {"no-store"}
        assert {r.headers["content-type"] for r in (reply, tokens)} == {"application/json"}

    at_desk(test)


def test_what_a_poll_learns() -> None:
    async def test(desk: Desk) -> None:
        device = (await desk.device()).json()
        code = device["device_code"]
        assert told(await desk.poll(code)) == (400, "authorization_pending")
        desk.clock.time += 4.9
        assert told(await desk.poll(code)) == (400, "slow_down")
        desk.clock.time += 9.9  # RFC 8628, 3.5: five seconds more from now on
        assert told(await desk.poll(code)) == (400, "slow_down")
        desk.clock.time += 15
        assert told(await desk.poll(code)) == (400, "authorization_pending")
        desk.issuer.deny(device["user_code"])
        desk.clock.time += 15
        assert told(await desk.poll(code)) == (400, "access_denied")
        desk.clock.time += 900
        assert told(await desk.poll(code)) == (400, "expired_token")
        with pytest.raises(KeyError):
            desk.issuer.approve(device["user_code"])

    at_desk(test)


def test_a_device_code_serves_once() -> None:
    async def test(desk: Desk) -> None:
        device = (await desk.device()).json()
        desk.issuer.approve(device["user_code"])
        assert (await desk.poll(device["device_code"])).status_code == 200
        desk.clock.time += 5
        assert told(await desk.poll(device["device_code"])) == (400, "invalid_grant")
        assert desk.issuer.refusals == ["invalid_grant: The device code is missing, unknown or used."]

    at_desk(test)


def test_a_code_that_was_approved_too_late_gives_nothing() -> None:
    async def test(desk: Desk) -> None:
        device = (await desk.device()).json()
        desk.issuer.approve(device["user_code"])
        desk.clock.time += 900
        assert told(await desk.poll(device["device_code"])) == (400, "expired_token")
        assert (await desk.http.get(device["verification_uri_complete"])).status_code == 404

    at_desk(test)


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"client_id": ""}, "invalid_client"),
        ({"client_id": "acme"}, "invalid_client"),
        ({"scope": ""}, "invalid_scope"),
        ({"scope": "models root"}, "invalid_scope"),
        ({"code_challenge": ""}, "invalid_request"),
        ({"code_challenge": s256(VERIFIER) + "="}, "invalid_request"),
        ({"code_challenge_method": ""}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
    ],
    ids=str,
)
def test_a_wrong_device_request_is_refused(form: dict[str, str], error: str) -> None:
    async def test(desk: Desk) -> None:
        assert told(await desk.device(**form)) == (400, error)

    at_desk(test)


@pytest.mark.parametrize("verifier", ["", "w" * 43, "v" * 42, "v" * 129, s256(VERIFIER)])
def test_a_wrong_verifier_is_refused_even_while_pending(verifier: str) -> None:
    async def test(desk: Desk) -> None:
        device = (await desk.device()).json()
        for _ in range(2):
            assert told(await desk.poll(device["device_code"], code_verifier=verifier)) == (400, "invalid_grant")
            desk.issuer.approve(device["user_code"])
        assert (await desk.poll(device["device_code"])).status_code == 200

    at_desk(test)


def test_a_verifier_that_is_too_short_to_be_one_proves_nothing() -> None:
    async def test(desk: Desk) -> None:
        device = (await desk.device(code_challenge=s256("short"))).json()
        desk.issuer.approve(device["user_code"])
        assert told(await desk.poll(device["device_code"], code_verifier="short")) == (400, "invalid_grant")

    at_desk(test)


@pytest.mark.parametrize("grant", ["", "password", "authorization_code", "refresh"])
def test_an_unknown_grant_is_refused(grant: str) -> None:
    async def test(desk: Desk) -> None:
        refresh = desk.issuer.issue().refresh
        assert told(await desk.refresh(refresh, grant_type=grant)) == (400, "unsupported_grant_type")

    at_desk(test)


@pytest.mark.parametrize("path", ["/token", "/device_authorization"])
def test_a_body_that_is_no_form_is_refused(path: str) -> None:
    async def test(desk: Desk) -> None:
        right = {"grant_type": "refresh_token", "client_id": "acme-cli", "refresh_token": desk.issuer.issue().refresh}
        repeated = urlencode([*right.items(), ("client_id", "acme-cli")])
        for content, content_type in [
            (json.dumps(right), "application/json"),
            (urlencode(right), "text/plain"),
            (json.dumps(right), FORM),
            (repeated, FORM),
            ("é", FORM),
        ]:
            reply = await desk.http.post(path, content=content.encode(), headers={"content-type": content_type})
            assert told(reply) == (400, "invalid_request"), content
        query = await desk.http.post(f"{path}?{urlencode(right)}", data={"x": "y"})
        assert query.status_code == 400, "what stands in the address does not count"
        assert len(desk.issuer.refusals) == 6
        assert desk.issuer.refreshes == 0

    at_desk(test)


def test_an_empty_field_counts_as_left_out_and_unknown_fields_pass() -> None:
    async def test(desk: Desk) -> None:
        content = urlencode({"grant_type": "refresh_token", "client_id": "acme-cli", "scope": "", "colour": "blue"})
        missing = await desk.http.post("/token", content=f"{content}&refresh_token=", headers=HEADERS)
        assert told(missing) == (400, "invalid_grant")
        whole = f"{content}&refresh_token={desk.issuer.issue().refresh}"
        assert (await desk.http.post("/token", content=whole, headers=HEADERS)).status_code == 200

    at_desk(test)


def test_a_refresh_may_not_ask_for_more_than_was_granted() -> None:
    async def test(desk: Desk) -> None:
        device = (await desk.device(scope="models chat")).json()
        desk.issuer.approve(device["user_code"])
        token = (await desk.poll(device["device_code"])).json()["refresh_token"]
        assert told(await desk.refresh(token, scope="models offline")) == (400, "invalid_scope")
        assert (await desk.refresh(token, scope="chat")).status_code == 200
        assert (await desk.refresh(desk.issuer.issue().refresh, scope="models offline")).status_code == 200

    at_desk(test)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/token"), ("POST", "/device"), ("POST", "/token/"), ("GET", "/")]
)
def test_there_is_nothing_elsewhere(method: str, path: str) -> None:
    async def test(desk: Desk) -> None:
        assert told(await desk.http.request(method, path)) == (404, "not_found")
        assert desk.issuer.refusals == [f"not_found: no route {method} {path}"]

    at_desk(test)


def test_the_page_wants_a_code_that_is_shown() -> None:
    async def test(desk: Desk) -> None:
        for query in ("", "?user_code=", "?user_code=USER-9999"):
            assert (await desk.http.get(f"/device{query}")).status_code == 404

    at_desk(test)


# --- controls ---------------------------------------------------------------------------------------------------------


def test_tokens_end_by_the_clock_and_by_revocation() -> None:
    async def test(desk: Desk) -> None:
        tokens = desk.issuer.issue(seconds=50)
        assert tokens.expires_at == desk.clock.time + 50
        desk.clock.time += 49.9
        desk.issuer.check(f"Bearer {tokens.access}")
        desk.clock.time += 0.1
        fresh = (await desk.refresh(tokens.refresh)).json()
        desk.issuer.check(f"Bearer {fresh['access_token']}")
        desk.issuer.revoke_access()
        for header, reason in [
            (f"Bearer {tokens.access}", "expired or revoked"),
            (f"Bearer {fresh['access_token']}", "expired or revoked"),
            (f"Basic {desk.issuer.issue().access}", "no bearer token"),
            (desk.issuer.issue().access, "no bearer token"),
            ("Bearer made-up", "unknown"),
            (f"Bearer {fresh['refresh_token']}", "unknown"),
            ("", "no bearer token"),
        ]:
            with pytest.raises(OAuthRefused, match=f"invalid_token: {reason}"):
                desk.issuer.check(header)
        desk.issuer.revoke_refresh()
        assert told(await desk.refresh(fresh["refresh_token"])) == (400, "invalid_grant")
        assert desk.issuer.reused == [], "it was revoked, not spent"

    at_desk(test)


def test_tokens_of_another_simulator_are_unknown() -> None:
    async def test(desk: Desk) -> None:
        other = OAuthSimulator(RULES, now=desk.clock).issue()
        assert desk.issuer.issue() != other
        with pytest.raises(OAuthRefused, match="unknown"):
            desk.issuer.check(f"Bearer {other.access}")
        assert told(await desk.refresh(other.refresh)) == (400, "invalid_grant")

    at_desk(test)


def test_scripted_failures_of_both_endpoints_change_nothing() -> None:
    async def test(desk: Desk) -> None:
        old = desk.issuer.issue().refresh
        desk.issuer.fail_next(2, 503, "busy", {"Retry-After": "1"})
        desk.issuer.fail_next(1, 500, {"error": "server_error"}, endpoint="device")
        for _ in range(2):
            reply = await desk.refresh(old)
            assert (reply.status_code, reply.text, reply.headers["retry-after"]) == (503, "busy", "1")
        assert told(await desk.device()) == (500, "server_error")
        assert (desk.issuer.refusals, desk.issuer.token_requests, desk.issuer.refreshes) == ([], 2, 0)
        assert (await desk.refresh(old)).status_code == 200
        assert (await desk.device()).status_code == 200

    at_desk(test)


def test_a_delayed_refresh_has_already_spent_the_token() -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def sleep(seconds: float) -> None:
        if seconds == 30:
            asked.set()
            await go_on.wait()

    async def test(desk: Desk) -> None:
        old = desk.issuer.issue().refresh
        desk.issuer.refresh_delay = 30
        slow = asyncio.create_task(desk.refresh(old))
        await asyncio.wait_for(asked.wait(), 30)
        desk.issuer.refresh_delay = 0
        assert told(await desk.refresh(old)) == (400, "invalid_grant")
        assert not slow.done()
        go_on.set()
        assert (await asyncio.wait_for(slow, 30)).status_code == 200

    at_desk(test, sleep=sleep)


def test_members_left_out_of_a_refresh_reply() -> None:
    async def test(desk: Desk) -> None:
        desk.issuer.omit_on_refresh = {"refresh_token", "expires_in"}
        old = desk.issuer.issue().refresh
        for _ in range(2):  # no successor was told, so the old one stays good
            reply = (await desk.refresh(old)).json()
            assert set(reply) == {"access_token", "token_type"}
            desk.issuer.check(f"Bearer {reply['access_token']}")
        assert desk.issuer.reused == []
        device = (await desk.device()).json()
        desk.issuer.approve(device["user_code"])
        assert "refresh_token" in (await desk.poll(device["device_code"])).json(), "a login is no refresh"

    at_desk(test)


def test_a_spent_token_that_comes_again_may_end_its_successor() -> None:
    async def test(desk: Desk) -> None:
        old, other = desk.issuer.issue().refresh, desk.issuer.issue().refresh
        new = (await desk.refresh(old)).json()["refresh_token"]
        assert (await desk.refresh(old)).status_code == 400
        assert told(await desk.refresh(new)) == (400, "invalid_grant")
        assert desk.issuer.reused == [old]
        assert (await desk.refresh(other)).status_code == 200, "another login is another grant"

    at_desk(test, replace(RULES, reuse_ends_grant=True))


def test_an_api_stands_beside_the_issuer() -> None:
    events: list[str] = []

    async def api(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                events.append((await receive())["type"])
                await send({"type": f"lifespan.{step}.complete"})
            return
        issuer.check(dict(scope["headers"]).get(b"authorization", b"").decode())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    issuer = OAuthSimulator(RULES, api=api)

    async def run() -> None:
        async with issuer, httpx.AsyncClient(base_url=issuer.url, trust_env=False) as http:
            refused = await http.get("/v1/models")
            assert told(refused) == (401, "invalid_token")
            assert refused.headers["www-authenticate"] == 'Bearer error="invalid_token"'
            good = await http.get("/v1/models", headers={"authorization": f"Bearer {issuer.issue().access}"})
            assert (good.status_code, good.text) == (200, "/v1/models")
            assert (await http.post("/token", json={})).status_code == 400, "the issuer's paths are the issuer's"

    asyncio.run(run())
    assert events == ["lifespan.startup", "lifespan.shutdown"]
    assert issuer.refusals[0] == "invalid_token: no bearer token"


def test_it_shares_no_code_with_what_talks_to_an_issuer() -> None:
    program = "import sys, llmgate_core.testing.oauth; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name for name in ast.literal_eval(done.stdout) if name.startswith("llmgate_core.")}
    own = {name for name in loaded if name.startswith("llmgate_core.testing")}
    served = {f"llmgate_core.{name}" for name in ("server", "http1", "faults", "errors")}
    assert loaded == own | served


def test_closing_twice_is_fine() -> None:
    async def test(desk: Desk) -> None:
        await desk.issuer.aclose()

    at_desk(test)


# --- rules ------------------------------------------------------------------------------------------------------------


def test_what_a_provider_may_leave_open() -> None:
    async def test(desk: Desk) -> None:
        bare = await desk.device(scope="", code_challenge="", code_challenge_method="")
        assert "interval" not in bare.json()
        desk.issuer.approve(bare.json()["user_code"])
        code = bare.json()["device_code"]
        assert told(await desk.poll(code)) == (400, "invalid_grant"), "a verifier without a challenge"
        tokens = await desk.poll(code, code_verifier="")
        assert tokens.status_code == 200
        assert (await desk.refresh(tokens.json()["refresh_token"], scope="whatever")).status_code == 200
        proving = (await desk.device(scope="whatever")).json()
        desk.issuer.approve(proving["user_code"])
        assert told(await desk.poll(proving["device_code"], code_verifier="")) == (400, "invalid_grant")
        assert told(await desk.device(code_challenge="")) == (400, "invalid_request"), "half a proof is none"
        blank = "client_id=acme-cli&code_challenge=&code_challenge_method="
        assert (await desk.http.post("/device_authorization", content=blank, headers=HEADERS)).status_code == 200

    at_desk(test, OAuthRules("acme-cli", pkce=False, tell_interval=False))


def milliseconds(reply: dict[str, Any], asked: OAuthRequest) -> dict[str, Any]:
    del reply["device_code"]
    return {**reply, "interval": reply["interval"] * 1000, "state": asked.form["state"]}


def with_status(reply: dict[str, Any], asked: OAuthRequest) -> dict[str, Any]:
    return {**reply, "expired_in": reply.pop("expires_in"), "status": "success", "resource_url": f"{asked.url}/v1"}


def as_a_status(reply: dict[str, Any], asked: OAuthRequest) -> dict[str, Any]:
    return {"status": "pending" if reply["error"] == "pending" else "error", "of": asked.form.get("user_code")}


FAR = OAuthRules(
    "acme-cli",
    device_path="/oauth2/device/code",
    token_path="/oauth2/token",
    page_path="/login",
    device_grant="urn:acme:user_code",
    poll_field="user_code",
    poll_seconds=2,
    token_seconds=60,
    pending=OAuthAnswer(200, "pending"),
    slow_down=OAuthAnswer(429, "slow_down"),
    dead_refresh=OAuthAnswer(401, "dead", "Log in again."),
    device_reply=milliseconds,
    token_reply=with_status,
    refusal_reply=as_a_status,
)


def test_a_provider_that_strays_far_from_the_rfcs() -> None:
    async def test(desk: Desk) -> None:
        device = (await desk.device(state="s1")).json()
        assert device["verification_uri"] == f"{desk.issuer.url}/login"
        assert (device["interval"], device["state"]) == (2000, "s1")
        assert "device_code" not in device
        poll = {"grant_type": "urn:acme:user_code", "user_code": device["user_code"], "device_code": ""}
        waiting = await desk.poll("", **poll)
        assert (waiting.status_code, waiting.json()) == (200, {"status": "pending", "of": device["user_code"]})
        assert (await desk.poll("", **poll)).status_code == 429
        assert (await desk.http.get(device["verification_uri_complete"])).status_code == 200
        desk.clock.time += 7
        tokens = (await desk.poll("", **poll)).json()
        assert (tokens["status"], tokens["expired_in"]) == ("success", 60)
        assert tokens["resource_url"] == f"{desk.issuer.url}/v1"
        assert (await desk.refresh(tokens["refresh_token"])).json()["status"] == "success"
        dead = await desk.refresh(tokens["refresh_token"])
        assert (dead.status_code, dead.json()) == (401, {"status": "error", "of": None})
        assert desk.issuer.refusals[-1] == "dead: The refresh token has been spent."

    at_desk(test, FAR)


def test_a_description_of_the_providers_own_is_told_instead_of_the_reason() -> None:
    async def test(desk: Desk) -> None:
        assert (await desk.refresh("made-up")).json() == {"error": "dead", "error_description": "Log in again."}
        assert desk.issuer.refusals == ["dead: The refresh token is missing, unknown or revoked."]

    at_desk(test, replace(RULES, dead_refresh=OAuthAnswer(401, "dead", "Log in again.")))


def test_rules_may_change_while_it_runs() -> None:
    async def test(desk: Desk) -> None:
        desk.issuer.rules = replace(desk.issuer.rules, token_seconds=7, token_path="/elsewhere")
        assert (await desk.refresh(desk.issuer.issue().refresh)).json()["expires_in"] == 7

    at_desk(test)


def test_an_interval_is_never_told_too_short() -> None:
    async def test(desk: Desk) -> None:
        assert (await desk.device()).json()["interval"] == 3

    at_desk(test, replace(RULES, poll_seconds=2.5))


@pytest.mark.parametrize(
    "change",
    [{"token_path": "/device"}, {"page_path": ""}, {"device_path": "device"}, {"scope": " "}],
    ids=str,
)
def test_rules_that_cannot_be_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        replace(RULES, **change)


# --- properties -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One operation; `pick` chooses among all tokens that were ever told, alive or not."""

    what: str
    pick: int


STEPS = st.builds(Step, st.sampled_from(["log in", "refresh", "refresh, none told", "revoke"]), st.integers(0, 50))


class History:
    """An issuer beside the simplest picture of it: of each login the refresh token that is alive, if any.

    Attributes:
        told: every refresh token that was ever told, and its login.
        alive: by login.
        reused: spent tokens that came again.
    """

    def __init__(self, rules: OAuthRules) -> None:
        self.issuer = Issuer(rules, "history")
        self.told: dict[str, int] = {}
        self.alive: dict[int, str] = {}
        self.spent: set[str] = set()
        self.reused: list[str] = []

    def do(self, step: Step) -> None:
        if step.what == "log in" or not self.told:
            self.tell(self.issuer.issue(0.0, 60.0).refresh, len(self.told))
        elif step.what == "revoke":
            self.issuer.revoke_refresh()
            self.alive.clear()
        else:
            token = list(self.told)[step.pick % len(self.told)]
            self.refresh(token, {"refresh_token"} if "none" in step.what else set())

    def refresh(self, token: str, omit: set[str]) -> None:
        form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": "acme-cli"}
        login = self.told[token]
        if self.alive.get(login) == token:
            reply = self.issuer.token(OAuthRequest(form, ""), 0.0, omit)
            if not omit:
                self.spent.add(token)
                self.tell(reply["refresh_token"], login)
            return
        with pytest.raises(OAuthRefused, match="invalid_grant"):
            self.issuer.token(OAuthRequest(form, ""), 0.0, omit)
        if token in self.spent:
            self.reused.append(token)
            if self.issuer.rules.reuse_ends_grant:
                self.alive.pop(login, None)

    def tell(self, token: str, login: int) -> None:
        assert token not in self.told
        self.told[token] = login
        self.alive[login] = token


@given(st.lists(STEPS, max_size=40), st.booleans())
def test_of_a_login_one_refresh_token_at_most_is_alive(steps: list[Step], strict: bool) -> None:
    history = History(replace(RULES, reuse_ends_grant=strict))
    for step in steps:
        history.do(step)
    for token in list(history.told):  # whatever was told before is tried: only the last one of each login is taken
        history.refresh(token, {"refresh_token"})
    assert history.issuer.reused == history.reused


@given(st.lists(st.floats(0.1, 12.0), min_size=1, max_size=20))
def test_tokens_are_given_only_to_a_device_that_has_waited(waits: list[float]) -> None:
    issuer, now = Issuer(RULES, "waiting"), 0.0
    start = {"client_id": "acme-cli", "scope": "models", "code_challenge_method": "S256"}
    device = issuer.device_code(OAuthRequest(start | {"code_challenge": s256(VERIFIER)}, ""), now)
    poll = {"client_id": "acme-cli", "grant_type": DEVICE_GRANT, "code_verifier": VERIFIER}
    asked = OAuthRequest(poll | {"device_code": device["device_code"]}, "")
    with pytest.raises(OAuthRefused, match="authorization_pending"):
        issuer.token(asked, now)
    issuer.decide(device["user_code"], True, now)
    demanded = 5.0
    for wait in waits:
        before, now = now, now + wait
        if now - before >= demanded:
            assert issuer.token(asked, now)["token_type"] == "Bearer"
            return
        with pytest.raises(OAuthRefused, match="slow_down"):
            issuer.token(asked, now)
        demanded += 5.0
