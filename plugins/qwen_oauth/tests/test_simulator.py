"""The simulator is as strict as the provider is documented to be, over real sockets."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from llmgate_qwen_oauth.simulator import QwenSimulator
from llmgate_qwen_oauth.simulator.answers import sample

CLIENT_ID = "f0304373b74a44d2b584a3fb70ca9e56"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
MARK = {"type": "ephemeral"}
SYSTEM = {"role": "system", "content": [{"type": "text", "text": "", "cache_control": MARK}]}
USER = {"role": "user", "content": "今天好吗"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 3}},
            "required": ["city", "days"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "get_time"}}
EXPIRED = {
    "code": "invalid_api_key",
    "message": "invalid access token or token expired",
    "param": None,
    "type": "invalid_request_error",
}
BAD_SHAPE = {
    "code": "invalid_parameter_error",
    "message": "bad request",
    "param": None,
    "type": "invalid_request_error",
}


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.time = 1_700_000_000.0

    def __call__(self) -> float:
        return self.time


@dataclass
class Desk:
    """A running simulator and what a test needs to talk to it."""

    simulator: QwenSimulator
    clock: Clock
    http: httpx.AsyncClient
    folder: Path

    def credentials(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "oauth_creds.json").read_text())
        return content

    def log_in(self) -> str:
        self.simulator.write_credentials(self.folder / "oauth_creds.json")
        return str(self.credentials()["access_token"])

    async def token(self, **form: str) -> httpx.Response:
        return await self.http.post("/api/v1/oauth2/token", data={"client_id": CLIENT_ID, **form})

    async def refresh(self, token: str) -> httpx.Response:
        return await self.token(grant_type="refresh_token", refresh_token=token)

    async def device(self, **form: str) -> httpx.Response:
        right = {
            "client_id": CLIENT_ID,
            "scope": "openid profile email model.completion",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }
        return await self.http.post("/api/v1/oauth2/device/code", data={**right, **form})

    async def poll(self, code: str, verifier: str = VERIFIER) -> httpx.Response:
        return await self.token(grant_type=DEVICE_GRANT, device_code=code, code_verifier=verifier)

    async def chat(self, token: str, **body: Any) -> httpx.Response:
        right = {"model": "qwen3-coder-plus", "messages": [SYSTEM, USER]}
        return await self.http.post(
            "/v1/chat/completions", json={**right, **body}, headers={"authorization": f"Bearer {token}"}
        )


def at_desk(folder: Path, test: Callable[[Desk], Awaitable[None]]) -> None:
    async def run() -> None:
        clock = Clock()
        simulator = QwenSimulator(now=clock)
        simulator.chunk_pause = 0
        await simulator.start(folder)
        try:
            async with httpx.AsyncClient(base_url=simulator.url) as http:
                await test(Desk(simulator, clock, http, folder))
        finally:
            await simulator.aclose()

    asyncio.run(run())


def events_of(data: bytes) -> list[Any]:
    """The decoded chunks of a stream that ends with `[DONE]`."""
    *events, done, rest = data.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


def test_start_writes_an_expired_login_and_says_how_to_use_it(tmp_path: Path) -> None:
    path = tmp_path / "oauth_creds.json"

    async def run() -> None:
        simulator = QwenSimulator(now=lambda: 1000.0)
        setup = await simulator.start(tmp_path)
        content = json.loads(path.read_text())
        assert setup.extra == {
            "enable_qwen_oauth_backend_debugging_override": True,
            "credentials_path": str(path),
            "oauth_base_url": simulator.url,
        }
        assert setup.model == "qwen3-coder-plus"
        assert setup.notes
        assert content["expiry_date"] == 940_000
        assert (content["token_type"], content["resource_url"]) == ("Bearer", simulator.url)
        await simulator.aclose()
        await simulator.aclose()

    asyncio.run(run())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["oauth_creds.json"]


def test_the_first_request_has_to_refresh(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        old = desk.credentials()
        refused = await desk.chat(old["access_token"])
        assert (refused.status_code, refused.json()["error"]) == (401, EXPIRED)
        assert refused.json()["request_id"]
        reply = (await desk.refresh(old["refresh_token"])).json()
        assert set(reply) == {"access_token", "refresh_token", "token_type", "expires_in", "resource_url"}
        assert (reply["token_type"], reply["expires_in"], reply["resource_url"]) == (
            "Bearer",
            60,
            desk.simulator.url,
        )
        assert (await desk.chat(reply["access_token"])).status_code == 200
        assert (desk.simulator.refreshes, desk.simulator.issued, desk.simulator.chats) == (1, 2, 1)

    at_desk(tmp_path, test)


def test_a_refresh_token_serves_once(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        old = desk.credentials()["refresh_token"]
        new = (await desk.refresh(old)).json()["refresh_token"]
        spent = await desk.refresh(old)
        assert spent.status_code == 400
        assert spent.json() == {
            "error": "invalid_request",
            "error_description": "Invalid refresh token or client_id",
        }
        assert (await desk.refresh(new)).status_code == 200
        assert (desk.simulator.refreshes, desk.simulator.token_requests) == (2, 3)

    at_desk(tmp_path, test)


def test_a_refresh_by_a_wrong_client_cannot_be_told_from_a_dead_one_but_by_us(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        old = desk.credentials()["refresh_token"]
        form = {"grant_type": "refresh_token", "client_id": "x"}
        replies = [await desk.token(**form, refresh_token=old), await desk.refresh("made-up")]
        dead = {"error": "invalid_request", "error_description": "Invalid refresh token or client_id"}
        assert [(reply.status_code, reply.json()) for reply in replies] == [(400, dead)] * 2
        assert desk.simulator.refusals == [
            "invalid_request: The client_id is missing or unknown.",
            "invalid_request: The refresh token is missing, unknown or revoked.",
        ]

    at_desk(tmp_path, test)


def test_of_many_refreshes_at_once_one_is_granted(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        old = desk.credentials()["refresh_token"]
        replies = await asyncio.gather(*(desk.refresh(old) for _ in range(10)))
        assert sorted(reply.status_code for reply in replies) == [200] + [400] * 9
        assert desk.simulator.reused == [old] * 9

    at_desk(tmp_path, test)


def test_fields_left_out_of_a_refresh_reply(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        desk.simulator.omit_on_refresh = {"resource_url", "refresh_token"}
        old = desk.credentials()["refresh_token"]
        for _ in range(2):  # no successor was told, so the old one stays good
            reply = (await desk.refresh(old)).json()
            assert set(reply) == {"access_token", "token_type", "expires_in"}
            assert (await desk.chat(reply["access_token"])).status_code == 200

    at_desk(tmp_path, test)


def test_the_token_endpoint_takes_forms_only(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        right = {
            "grant_type": "refresh_token",
            "client_id": CLIENT_ID,
            "refresh_token": desk.credentials()["refresh_token"],
        }
        url, form = "/api/v1/oauth2/token", {"content-type": "application/x-www-form-urlencoded"}
        assert (await desk.http.post(url, json=right)).status_code == 400
        assert (await desk.http.post(url, content=json.dumps(right), headers=form)).status_code == 400
        repeated = urlencode([*right.items(), ("client_id", CLIENT_ID)])
        assert (await desk.http.post(url, content=repeated, headers=form)).status_code == 400
        assert (await desk.http.post(url, content="é".encode(), headers=form)).status_code == 400
        for missing in right:
            rest = {name: value for name, value in right.items() if name != missing}
            assert (await desk.http.post(url, data=rest)).status_code == 400, missing
        assert (await desk.http.post(url, data={**right, "client_id": "x"})).status_code == 400
        assert (await desk.http.post("/api/v1/oauth2/device/code", json={})).status_code == 400
        assert (await desk.http.post(url, data=right)).status_code == 200

    at_desk(tmp_path, test)


def test_scripted_failures_of_the_token_endpoint(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        old = desk.credentials()["refresh_token"]
        desk.simulator.fail_refresh_next(2, 503, "busy", {"retry-after": "1"})
        for _ in range(2):
            reply = await desk.refresh(old)
            assert (reply.status_code, reply.text, reply.headers["retry-after"]) == (503, "busy", "1")
        assert (await desk.refresh(old)).status_code == 200

    at_desk(tmp_path, test)


def test_a_delayed_refresh_has_already_spent_the_token(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        old = desk.credentials()["refresh_token"]
        desk.simulator.refresh_delay = 60
        slow = asyncio.create_task(desk.refresh(old))
        while desk.simulator.refreshes == 0:  # noqa: ASYNC110 - it happens in the simulator's own task
            await asyncio.sleep(0.001)
        desk.simulator.refresh_delay = 0
        assert (await desk.refresh(old)).status_code == 400
        assert not slow.done()
        slow.cancel()

    at_desk(tmp_path, test)


def test_access_tokens_live_as_long_as_the_clock_says(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        desk.simulator.token_seconds = 50
        token = desk.log_in()
        assert desk.credentials()["expiry_date"] == int((desk.clock.time + 50) * 1000)
        desk.clock.time += 49.9
        assert (await desk.chat(token)).status_code == 200
        desk.clock.time += 0.1
        assert (await desk.chat(token)).status_code == 401
        assert desk.simulator.refusals == ["invalid_api_key: expired or revoked"]

    at_desk(tmp_path, test)


def test_unknown_revoked_and_missing_tokens_are_refused(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        token = desk.log_in()
        assert (await desk.chat("made-up")).json()["error"] == EXPIRED
        assert (await desk.http.post("/v1/chat/completions", json={})).status_code == 401
        desk.simulator.revoke_access()
        assert (await desk.chat(token)).json()["error"] == EXPIRED
        fresh = (await desk.refresh(desk.credentials()["refresh_token"])).json()["access_token"]
        assert (await desk.chat(fresh)).status_code == 200

    at_desk(tmp_path, test)


def test_tokens_of_another_simulator_are_unknown(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        other = QwenSimulator()
        await other.start(tmp_path / "other")
        desk.log_in()
        other.write_credentials(tmp_path / "oauth_creds.json")
        assert (await desk.chat(desk.credentials()["access_token"])).status_code == 401
        await other.aclose()

    at_desk(tmp_path, test)


def test_the_dead_tier_issues_tokens_that_the_api_refuses(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        desk.simulator.dead_tier = True
        reply = await desk.refresh(desk.credentials()["refresh_token"])
        refused = await desk.chat(reply.json()["access_token"])
        assert (reply.status_code, refused.status_code, refused.json()["error"]) == (200, 401, EXPIRED)

    at_desk(tmp_path, test)


def test_the_device_flow(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        device = (await desk.device()).json()
        assert device["expires_in"] == 900
        assert device["user_code"] in device["verification_uri_complete"]
        assert device["verification_uri"].startswith(desk.simulator.url)
        waiting = await desk.poll(device["device_code"])
        assert (waiting.status_code, waiting.json()["error"]) == (400, "authorization_pending")
        desk.simulator.approve(device["user_code"])
        tokens = (await desk.poll(device["device_code"])).json()
        assert (await desk.chat(tokens["access_token"])).status_code == 200
        assert (await desk.refresh(tokens["refresh_token"])).status_code == 200
        assert (await desk.poll(device["device_code"])).status_code == 401, "a device code serves once"

    at_desk(tmp_path, test)


def test_the_device_reply_has_the_documented_members(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        device = (await desk.device()).json()
        page = f"{desk.simulator.url}/authorize"
        assert device == {
            "device_code": device["device_code"],
            "user_code": device["user_code"],
            "verification_uri": page,
            "verification_uri_complete": f"{page}?user_code={device['user_code']}&client=qwen-code",
            "expires_in": 900,
        }

    at_desk(tmp_path, test)


def test_opening_the_link_is_saying_yes(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        device = (await desk.device()).json()
        assert (await desk.http.get(device["verification_uri_complete"])).status_code == 200
        assert (await desk.poll(device["device_code"])).status_code == 200
        assert (await desk.http.get(device["verification_uri"])).status_code == 404

    at_desk(tmp_path, test)


def test_a_device_that_is_denied_too_fast_or_too_late(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        desk.simulator.poll_seconds = 2
        device = (await desk.device()).json()
        code = device["device_code"]
        await desk.poll(code)
        fast = await desk.poll(code)
        assert (fast.status_code, fast.json()["error"]) == (429, "slow_down")
        desk.clock.time += 2
        assert (await desk.poll(code)).json()["error"] == "authorization_pending"
        desk.simulator.deny(device["user_code"])
        desk.clock.time += 2
        assert (await desk.poll(code)).json()["error"] == "access_denied"
        desk.clock.time += 900
        late = await desk.poll(code)
        assert (late.status_code, late.json()["error"]) == (401, "expired_token")
        with pytest.raises(KeyError):
            desk.simulator.approve("QWEN-NOBODY")

    at_desk(tmp_path, test)


@pytest.mark.parametrize("verifier", ["", "w" * 43, "v" * 42, CHALLENGE])
def test_pkce_is_verified_even_while_pending(tmp_path: Path, verifier: str) -> None:
    async def test(desk: Desk) -> None:
        device = (await desk.device()).json()
        refused = await desk.poll(device["device_code"], verifier)
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_request")
        desk.simulator.approve(device["user_code"])
        assert (await desk.poll(device["device_code"], verifier)).status_code == 400
        assert (await desk.poll(device["device_code"])).status_code == 200

    at_desk(tmp_path, test)


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"client_id": "x"}, "invalid_client"),
        ({"scope": ""}, "invalid_scope"),
        ({"scope": "openid root"}, "invalid_scope"),
        ({"code_challenge": ""}, "invalid_request"),
        ({"code_challenge": CHALLENGE + "="}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
    ],
)
def test_a_wrong_device_request_is_refused(tmp_path: Path, form: dict[str, str], error: str) -> None:
    async def test(desk: Desk) -> None:
        reply = await desk.device(**form)
        assert (reply.status_code, reply.json()["error"]) == (400, error)

    at_desk(tmp_path, test)


PLAIN_SYSTEM = {"role": "system", "content": "You are kind."}
UNMARKED = {"role": "system", "content": [{"type": "text", "text": "x"}]}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
ASKED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
TOLD = {"role": "tool", "tool_call_id": "c1", "content": "12 度"}


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [USER]},
        {"messages": [SYSTEM]},
        {"messages": []},
        {"messages": None},
        {"messages": [SYSTEM, "hello"]},
        {"messages": [USER, SYSTEM]},
        {"messages": [SYSTEM, SYSTEM, USER]},
        {"messages": [PLAIN_SYSTEM, USER]},
        {"messages": [UNMARKED, USER]},
        {"messages": [SYSTEM, {"role": "developer", "content": "x"}]},
        {"messages": [SYSTEM, {"role": "user", "content": None}]},
        {"messages": [SYSTEM, {"role": "user", "content": 7}]},
        {"messages": [SYSTEM, {"role": "user", "content": [{"type": "text"}]}]},
        {"messages": [SYSTEM, {"role": "user", "content": [{"type": "image_url", "image_url": "u"}]}]},
        {"messages": [SYSTEM, USER, {"role": "assistant", "content": None}]},
        {"messages": [SYSTEM, USER, {**ASKED, "tool_calls": [{"id": "c1"}]}, TOLD]},
        {"messages": [SYSTEM, USER, ASKED, {**TOLD, "tool_call_id": "c2"}]},
        {"model": None},
        {"model": "qwen3.5-plus"},
        {"stream": "yes"},
        {"stream_options": {"include_usage": 1}},
        {"temperature": "hot"},
        {"temperature": True},
        {"max_tokens": 1.5},
        {"metadata": "m"},
        {"tools": [{"type": "web_search"}]},
        {"tools": [{"type": "function", "function": {}}]},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
    ],
    ids=lambda body: json.dumps(body)[:60],
)
def test_a_wrong_shape_is_refused(tmp_path: Path, body: dict[str, Any]) -> None:
    async def test(desk: Desk) -> None:
        reply = await desk.chat(desk.log_in(), **body)
        assert (reply.status_code, reply.json()["error"]) == (400, BAD_SHAPE)
        assert len(desk.simulator.refusals) == 1
        assert desk.simulator.chats == 0

    at_desk(tmp_path, test)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"a": NaN}', b'"\xff"', b"[" * 100_000])
def test_what_is_not_a_json_object_is_refused(tmp_path: Path, raw: bytes) -> None:
    async def test(desk: Desk) -> None:
        headers = {"authorization": f"Bearer {desk.log_in()}", "content-type": "application/json"}
        reply = await desk.http.post("/v1/chat/completions", content=raw, headers=headers)
        assert (reply.status_code, reply.json()["error"]) == (400, BAD_SHAPE)

    at_desk(tmp_path, test)


def test_unknown_fields_and_nulls_pass(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        reply = await desk.chat(desk.log_in(), temperature=None, tools=None, something_new={"a": 1})
        assert reply.status_code == 200

    at_desk(tmp_path, test)


def test_an_unknown_model_is_not_found(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        reply = await desk.chat(desk.log_in(), model="qwen9")
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "ModelNotFound")

    at_desk(tmp_path, test)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("GET", "/v1/chat/completions"),
        ("POST", "/chat/completions"),
        ("POST", "/v1//chat/completions"),
        ("GET", "/api/v1/oauth2/token"),
    ],
)
def test_other_paths_are_not_found(tmp_path: Path, method: str, path: str) -> None:
    async def test(desk: Desk) -> None:
        assert (await desk.http.request(method, path)).status_code == 404

    at_desk(tmp_path, test)


def test_scripted_failures_and_what_was_seen(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        token = desk.log_in()
        desk.simulator.fail_next(1, 429, {"error": {"code": "insufficient_quota"}}, {"Retry-After": "3"})
        desk.simulator.fail_next(1, 502, b"<html>bad</html>", {"content-type": "text/html"})
        first, second, third = [await desk.chat(token) for _ in range(3)]
        assert (first.status_code, first.headers["retry-after"]) == (429, "3")
        assert first.json() == {"error": {"code": "insufficient_quota"}}
        assert (second.status_code, second.headers["content-type"]) == (502, "text/html")
        assert third.status_code == 200
        assert (len(desk.simulator.seen), desk.simulator.chats) == (3, 1)
        seen = desk.simulator.seen[0]
        assert seen.headers["authorization"] == f"Bearer {token}"
        assert seen.body["messages"][1] == USER
        assert json.loads(seen.raw) == seen.body

    at_desk(tmp_path, test)


def test_a_plain_answer_echoes_the_user(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        reply = (await desk.chat(desk.log_in(), enable_thinking=True)).json()
        (choice,) = reply["choices"]
        assert reply["object"] == "chat.completion"
        assert (reply["model"], reply["created"]) == ("qwen3-coder-plus", 1_700_000_000)
        assert choice["message"]["content"].count("今天好吗") == 2
        assert choice["message"]["reasoning_content"]
        assert choice["finish_reason"] == "stop"
        usage = reply["usage"]
        assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]

    at_desk(tmp_path, test)


def test_a_stream_says_the_same_as_a_plain_answer(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        token = desk.log_in()
        plain = (await desk.chat(token, enable_thinking=True)).json()
        reply = await desk.chat(token, stream=True, stream_options={"include_usage": True}, enable_thinking=True)
        *chunks, finish, usage = events_of(reply.content)
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert deltas[0] == {"role": "assistant", "content": ""}
        message = plain["choices"][0]["message"]
        assert "".join(delta.get("content", "") for delta in deltas) == message["content"]
        assert "".join(d.get("reasoning_content", "") for d in deltas) == message["reasoning_content"]
        assert (finish["choices"][0]["delta"], finish["choices"][0]["finish_reason"]) == ({}, "stop")
        assert (usage["choices"], usage["usage"]) == ([], plain["usage"])
        assert all(chunk["usage"] is None for chunk in [*chunks, finish])

    at_desk(tmp_path, test)


def test_a_stream_has_usage_only_on_request(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        reply = await desk.chat(desk.log_in(), stream=True)
        assert all("usage" not in chunk and chunk["choices"] for chunk in events_of(reply.content))

    at_desk(tmp_path, test)


def test_a_stream_is_cut_inside_a_character(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        desk.simulator.chunk_pause = 0.005
        request = desk.http.stream(
            "POST",
            "/v1/chat/completions",
            json={"model": "coder-model", "messages": [SYSTEM, USER], "stream": True},
            headers={"authorization": f"Bearer {desk.log_in()}"},
        )
        async with request as reply:
            reader = reply.aiter_raw()
            writes = [chunk async for chunk in reader]
        (cut,) = [index for index, chunk in enumerate(writes) if not is_utf8(chunk)][:1]
        assert writes[cut][-1] >= 0x80, "ends with the first byte of a character"
        assert len(writes) > 5
        assert is_utf8(b"".join(writes))

    at_desk(tmp_path, test)


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_tools_are_called_and_their_results_told(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        token = desk.log_in()
        (choice,) = (await desk.chat(token, tools=[WEATHER, CLOCK])).json()["choices"]
        (call,) = choice["message"]["tool_calls"]
        assert choice["finish_reason"] == "tool_calls"
        assert (call["type"], call["function"]["name"]) == ("function", "get_weather")
        assert json.loads(call["function"]["arguments"]) == {"city": "杭州", "days": 3}
        result = {"role": "tool", "tool_call_id": call["id"], "content": "12 度"}
        messages = [SYSTEM, USER, choice["message"], result]
        (choice,) = (await desk.chat(token, tools=[WEATHER], messages=messages)).json()["choices"]
        assert "12 度" in choice["message"]["content"]
        assert choice["finish_reason"] == "stop"

    at_desk(tmp_path, test)


def test_calls_may_be_scripted(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        desk.simulator.script = lambda body: ("get_time", {"zone": "上海"}) if len(body["messages"]) < 3 else None
        token = desk.log_in()
        (choice,) = (await desk.chat(token, tools=[WEATHER, CLOCK])).json()["choices"]
        (call,) = choice["message"]["tool_calls"]
        assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("get_time", {"zone": "上海"})
        for members in ({"messages": [SYSTEM, USER, USER]}, {"tool_choice": "none"}, {"tools": None}):
            (choice,) = (await desk.chat(token, **{"tools": [CLOCK], **members})).json()["choices"]
            assert "tool_calls" not in choice["message"]

    at_desk(tmp_path, test)


def test_parallel_tool_calls_stream_in_pieces(tmp_path: Path) -> None:
    async def test(desk: Desk) -> None:
        reply = await desk.chat(desk.log_in(), stream=True, tools=[WEATHER, CLOCK], parallel_tool_calls=True)
        chunks = events_of(reply.content)
        deltas = [d for chunk in chunks for d in chunk["choices"][0]["delta"].get("tool_calls", [])]
        for index, name, arguments in [(0, "get_weather", {"city": "杭州", "days": 3}), (1, "get_time", {})]:
            opening, *pieces = [delta for delta in deltas if delta["index"] == index]
            assert (opening["type"], opening["function"]) == ("function", {"name": name, "arguments": ""})
            assert opening["id"]
            assert all(set(piece) == {"index", "function"} for piece in pieces)
            assert json.loads("".join(p["function"]["arguments"] for p in pieces)) == arguments
        assert len(deltas) > 4
        assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"

    at_desk(tmp_path, test)


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("none", []),
        ("auto", ["get_weather"]),
        ({"type": "function", "function": {"name": "get_time"}}, ["get_time"]),
    ],
)
def test_tool_choice_is_honoured(tmp_path: Path, choice: Any, names: list[str]) -> None:
    async def test(desk: Desk) -> None:
        reply = await desk.chat(desk.log_in(), tools=[WEATHER, CLOCK], tool_choice=choice)
        calls = reply.json()["choices"][0]["message"].get("tool_calls", [])
        assert [call["function"]["name"] for call in calls] == names

    at_desk(tmp_path, test)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"enum": ["b", "a"]}, "b"),
        ({"const": 4}, 4),
        ({"type": "string", "default": "d"}, "d"),
        ({"type": ["null", "boolean"]}, True),
        ({"anyOf": [{"type": "null"}, {"type": "number", "maximum": -2}]}, -2),
        ({"type": "integer", "exclusiveMinimum": 4}, 5),
        ({"type": "string", "minLength": 4, "maxLength": 4}, "示例。。"),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [1, 1]),
        (
            {"properties": {"query": {"type": "string"}, "file_path": {}}},
            {"query": "Q", "file_path": "README.md"},
        ),
        ({"properties": {"a": {}, "b": {"type": "null"}}, "required": ["b"]}, {"b": None}),
        ({"$defs": {"x": {"type": "boolean"}}, "properties": {"y": {"$ref": "#/$defs/x"}}}, {"y": True}),
        ({"$ref": "#/nowhere"}, "示例"),
    ],
)
def test_arguments_fit_their_schema(schema: dict[str, Any], value: Any) -> None:
    assert sample(schema, "Q") == value


def test_a_schema_that_contains_itself_ends() -> None:
    tree = {
        "type": "object",
        "properties": {"left": {"$ref": "#"}, "all": {"type": "array", "items": {"$ref": "#"}}},
    }
    assert json.dumps(sample(tree, "Q"))
