"""The connector in a whole gateway, on real sockets, before the strict simulator of its provider."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import stat
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmgate_core import HttpClient, HttpReply, UpstreamCall
from llmgate_core.app import Gateway, create_app
from llmgate_core.backends import World
from llmgate_core.config import BackendConfig, GatewayConfig
from llmgate_core.testing import LoopbackServer
from llmgate_qwen_oauth import DISABLED, FACTS, STANDING, QwenOAuth, messages, refresh
from llmgate_qwen_oauth.failures import DEAD_TIER
from llmgate_qwen_oauth.settings import MODELS, OVERRIDE_FLAG
from llmgate_qwen_oauth.simulator import QwenSimulator

MODEL = "qwen-oauth:qwen3-coder-plus"
USER = {"role": "user", "content": "今天好吗"}
SYSTEM = {"role": "system", "content": "简短回答"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CLOCK = {"type": "function", "function": {"name": "get_time"}}
THROTTLED = {"error": {"code": "insufficient_quota", "message": "You exceeded your current quota.", "type": "x"}}
DAILY = {"error": {"code": "insufficient_quota", "message": "Free allocated quota exceeded.", "type": "x"}}
BACKOFF = "Qwen OAuth connector-wide rate-limit backoff "
QUICK = {
    "qwen_oauth_initial_rate_limit_retry_random_min_seconds": 0.001,
    "qwen_oauth_initial_rate_limit_retry_random_max_seconds": 0.002,
}


@dataclass
class Desk:
    """A gateway with one qwen-oauth backend, the simulator behind it, and a client before it."""

    simulator: QwenSimulator
    gateway: Gateway
    http: httpx.AsyncClient
    file: Path

    def on_disk(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.file.read_text())
        return content

    async def chat(self, **members: Any) -> httpx.Response:
        body = {"model": MODEL, "messages": [USER], **members}
        return await self.http.post("/v1/chat/completions", json=body)

    def last(self) -> dict[str, Any]:
        """The body that reached the API last."""
        body: dict[str, Any] = self.simulator.seen[-1].body
        return body


Test = Callable[[Desk], Awaitable[None]]


@dataclass
class AtDesk:
    """Runs a test at a desk in `folder`; `extra` is added to the settings that the simulator asks for."""

    folder: Path
    extra: dict[str, Any] = field(default_factory=dict)

    def __call__(self, test: Test, **extra: Any) -> None:
        asyncio.run(asyncio.wait_for(self.run(test, extra), 30))

    async def run(self, test: Test, extra: dict[str, Any]) -> None:
        simulator = QwenSimulator()
        simulator.chunk_pause = 0
        setup = await simulator.start(self.folder)
        given = {name: value for name, value in {**setup.extra, **extra}.items() if value is not None}
        config = GatewayConfig(backends=(BackendConfig(type="qwen-oauth", extra=given),))
        world = World(clock=simulator.now, random=random.Random(1), environ={}, home=self.folder)
        gateway = create_app(config, world=world)
        try:
            async with (
                LoopbackServer(gateway.app) as url,
                httpx.AsyncClient(base_url=url, timeout=20, verify=False) as http,
            ):
                await test(Desk(simulator, gateway, http, self.folder / "oauth_creds.json"))
        finally:
            await simulator.aclose()


@pytest.fixture
def at_desk(tmp_path: Path) -> AtDesk:
    return AtDesk(tmp_path)


async def until(happened: Callable[[], bool]) -> None:
    """Waits for what only counters and files tell; the desk's own time limit is the bound."""
    while not happened():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


def events_of(data: bytes) -> list[Any]:
    """The decoded chunks of a stream that ends with `[DONE]`."""
    *events, done, rest = data.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


def error_of(answer: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    return error


# --- conversations --------------------------------------------------------------------------------------------------


def test_a_plain_answer_through_a_token_that_had_expired(at_desk: AtDesk) -> None:
    async def test(desk: Desk) -> None:
        before = desk.on_disk()
        answer = await desk.chat()
        assert answer.status_code == 200
        assert "今天好吗" in answer.json()["choices"][0]["message"]["content"]
        assert answer.headers["x-llmgate-backend"] == "qwen-oauth.default"
        assert desk.simulator.refusals == []
        assert (desk.simulator.chats, desk.simulator.refreshes) == (1, 1)
        after = desk.on_disk()
        assert after["refresh_token"] != before["refresh_token"]
        assert after["expiry_date"] > before["expiry_date"]
        assert stat.S_IMODE(desk.file.stat().st_mode) == 0o600
        assert (await desk.chat()).status_code == 200
        assert desk.simulator.refreshes == 1

    at_desk(test)


def test_a_stream_with_its_usage(at_desk: AtDesk) -> None:
    async def test(desk: Desk) -> None:
        asked = {"stream": True, "stream_options": {"include_usage": True}}
        answer = await desk.chat(messages=[SYSTEM, USER], **asked)
        assert answer.headers["content-type"].startswith("text/event-stream")
        *chunks, finish, usage = events_of(answer.content)
        text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        assert "今天好吗" in text
        assert finish["choices"][0]["finish_reason"] == "stop"
        assert usage["usage"]["total_tokens"] > 0
        assert desk.simulator.refusals == []

    at_desk(test)


def test_parallel_tool_calls_and_their_results(at_desk: AtDesk) -> None:
    async def test(desk: Desk) -> None:
        offered = {"tools": [WEATHER, CLOCK], "parallel_tool_calls": True}
        said = (await desk.chat(messages=[SYSTEM, USER], **offered)).json()["choices"][0]["message"]
        assert [call["function"]["name"] for call in said["tool_calls"]] == ["get_weather", "get_time"]
        results = [{"role": "tool", "tool_call_id": call["id"], "content": "晴"} for call in said["tool_calls"]]
        answer = await desk.chat(messages=[SYSTEM, USER, said, *results], **offered)
        assert "晴" in answer.json()["choices"][0]["message"]["content"]
        assert desk.last()["messages"][2:] == [said, *results]
        assert desk.simulator.refusals == []

    at_desk(test)


def test_streamed_tool_calls(at_desk: AtDesk) -> None:
    async def test(desk: Desk) -> None:
        chunks = events_of((await desk.chat(stream=True, tools=[WEATHER])).content)
        pieces = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", [])]
        assert pieces[0]["function"]["name"] == "get_weather"
        assert set(json.loads("".join(piece["function"]["arguments"] for piece in pieces))) == {"city"}
        assert desk.simulator.refusals == []

    at_desk(test)


@pytest.mark.parametrize(
    "conversation",
    [
        [USER],
        [SYSTEM, USER],
        [USER, SYSTEM, USER],
        [{"role": "developer", "content": "x"}, SYSTEM, USER],
        [{"role": "system", "content": ""}, USER],
        [SYSTEM, {"role": "user", "content": [{"type": "text", "text": "看"}]}],
        [
            SYSTEM,
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "看"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
                ],
            },
        ],
    ],
    ids=lambda conversation: "+".join(message["role"] for message in conversation),
)
def test_conversations_of_every_shape_are_taken(at_desk: AtDesk, conversation: list[dict[str, Any]]) -> None:
    async def test(desk: Desk) -> None:
        for stream in (False, True):
            assert (await desk.chat(messages=conversation, stream=stream)).status_code == 200
        assert desk.simulator.refusals == []

    at_desk(test)


def test_unknown_fields_travel_and_unknown_models_are_the_providers_to_refuse(at_desk: AtDesk) -> None:
    async def test(desk: Desk) -> None:
        assert (await desk.chat(enable_thinking=True, metadata={"sessionId": "s"}, 不认识=[1])).status_code == 200
        assert desk.last()["metadata"] == {"sessionId": "s"}
        assert (desk.last()["enable_thinking"], desk.last()["不认识"]) == (True, [1])
        refused = await desk.chat(model="qwen-oauth:no-such-model")
        assert refused.status_code == 404
        assert error_of(refused)["message"].startswith("The model `no-such-model` does not exist")
        assert desk.last()["model"] == "no-such-model"

    at_desk(test)


def test_a_number_that_no_float_holds_is_the_providers_to_judge_and_no_bug(at_desk: AtDesk) -> None:
    async def test(desk: Desk) -> None:
        data = f'{{"model":"{MODEL}","messages":[{{"role":"user","content":"hi","x":1e999}}]}}'
        answer = await desk.http.post("/v1/chat/completions", content=data)
        assert answer.status_code == 400
        assert error_of(answer)["code"] == "invalid_parameter_error"

    at_desk(test)


# --- what goes up ---------------------------------------------------------------------------------------------------


def test_llmgate_says_who_it_is_and_poses_as_nobody(at_desk: AtDesk) -> None:
    async def test(desk: Desk) -> None:
        foreign = {
            "user-agent": "QwenCode/0.15.10 (linux; x64)",
            "x-stainless-lang": "js",
            "x-dashscope-useragent": "QwenCode/0.15.10",
            "x-dashscope-authtype": "other",
            "sec-fetch-mode": "cors",
            "authorization": "Bearer callers-own",
            "cookie": "a=b",
        }
        desk.http.headers.update(foreign)
        assert (await desk.chat()).status_code == 200
        sent = desk.simulator.seen[-1].headers
        assert sent["user-agent"].startswith("llmgate/")
        assert (sent["x-dashscope-authtype"], sent["x-dashscope-cachecontrol"]) == ("qwen-oauth", "enable")
        assert sent["authorization"] == f"Bearer {desk.on_disk()['access_token']}"
        assert set(sent) == {
            "accept",
            "accept-encoding",
            "authorization",
            "content-length",
            "content-type",
            "host",
            "user-agent",
            "x-dashscope-authtype",
            "x-dashscope-cachecontrol",
        }
        assert not [value for value in sent.values() if "QwenCode" in value or "stainless" in value.lower()]

    at_desk(test)


def test_base_url_takes_the_place_of_the_files_address(tmp_path: Path) -> None:
    async def run() -> None:
        elsewhere = QwenSimulator()
        await elsewhere.start(tmp_path / "elsewhere")
        elsewhere.fail_next(1, 403, {"error": {"message": "elsewhere"}})

        async def test(desk: Desk) -> None:
            answer = await desk.chat()
            assert (answer.status_code, error_of(answer)["message"][:9]) == (403, "elsewhere")
            assert (len(elsewhere.seen), len(desk.simulator.seen)) == (1, 0)

        try:
            await AtDesk(tmp_path).run(test, {"base_url": f"{elsewhere.url}/v1/"})
        finally:
            await elsewhere.aclose()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_the_catalogue_is_that_of_the_settings(at_desk: AtDesk) -> None:
    async def test(desk: Desk) -> None:
        listed = [model["id"] for model in (await desk.http.get("/v1/models")).json()["data"]]
        assert {f"qwen-oauth:{model}" for model in MODELS} <= set(listed)
        assert desk.simulator.seen == []

    at_desk(test)


def test_what_is_known_of_models_is_listed(at_desk: AtDesk) -> None:
    async def test(desk: Desk) -> None:
        coder = (await desk.http.get("/v1/models/coder-model")).json()
        assert (coder["context_length"], coder["top_provider"]["max_completion_tokens"]) == (1_000_000, 65_536)
        assert coder["architecture"] == {"input_modalities": ["text", "image"]}

    at_desk(test)


def test_what_the_provider_does_not_support_is_not_added(at_desk: AtDesk) -> None:
    async def test(desk: Desk) -> None:
        reply = await desk.chat(model=f"{MODEL}?frequency_penalty=1&seed=7")
        assert reply.headers["x-llmgate-warning"].startswith("left out: `frequency_penalty`: model `qwen3-coder-plus`")
        sent = desk.simulator.seen[-1].body
        assert ("frequency_penalty" in sent, sent["seed"]) == (False, 7)

    at_desk(test)


def test_an_effort_and_a_budget_do_not_go_together() -> None:
    found = FACTS.get("qwen3.8-max")
    assert found is not None
    assert ("reasoning_effort", "thinking_budget") in found.excludes


# --- the switch -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_without_the_switch_every_request_is_forbidden_and_nothing_is_sent(
    at_desk: AtDesk, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(desk: Desk) -> None:
        for _ in range(2):
            answer = await desk.chat(stream=stream)
            assert answer.status_code == 403
            assert error_of(answer)["message"].startswith(DISABLED.format(name="qwen-oauth.default"))
            assert OVERRIDE_FLAG in error_of(answer)["message"]
        [backend] = desk.gateway.backends
        assert backend.readiness().ready is False
        assert OVERRIDE_FLAG in backend.readiness().detail
        assert (desk.simulator.seen, desk.simulator.token_requests) == ([], 0)

    at_desk(test, enable_qwen_oauth_backend_debugging_override=None)
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == [DISABLED.format(name="qwen-oauth.default")]


@pytest.mark.parametrize(
    ("issuer", "said"),
    [("https://chat.qwen.ai", [STANDING]), ("https://127.0.0.1.example", [STANDING]), (None, [])],
)
def test_with_the_switch_the_standing_is_said_once_unless_the_issuer_is_a_simulator(
    at_desk: AtDesk, caplog: pytest.LogCaptureFixture, issuer: str | None, said: list[str]
) -> None:
    async def test(desk: Desk) -> None:
        desk.simulator.write_credentials(desk.file)
        for _ in range(2):
            assert (await desk.chat()).status_code == 200

    at_desk(test, **({"oauth_base_url": issuer} if issuer else {}))
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == said


# --- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("headers", [{"retry-after": "0"}, {"retry-after-ms": "1"}, {}], ids=str)
def test_the_first_rate_limit_is_held_and_tried_again(at_desk: AtDesk, headers: dict[str, str], stream: bool) -> None:
    async def test(desk: Desk) -> None:
        desk.simulator.fail_next(1, 429, THROTTLED, headers)
        answer = await desk.chat(stream=stream)
        assert (answer.status_code, answer.headers["x-llmgate-attempts"]) == (200, "2")
        assert len(desk.simulator.seen) == 2

    at_desk(test, **QUICK)


def test_the_second_rate_limit_is_told_as_it_is(at_desk: AtDesk) -> None:
    async def test(desk: Desk) -> None:
        desk.simulator.fail_next(3, 429, THROTTLED, {"retry-after": "7"})
        answer = await desk.chat(stream=True)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
        assert error_of(answer)["message"].startswith("You exceeded your current quota.")
        assert len(desk.simulator.seen) == 2

    at_desk(test, qwen_oauth_initial_rate_limit_retry_max_wait_seconds=0.01)


def test_switched_off_the_first_rate_limit_is_told_and_nobody_waits(at_desk: AtDesk) -> None:
    async def test(desk: Desk) -> None:
        desk.simulator.fail_next(1, 429, THROTTLED, {"retry-after": "60"})
        assert (await desk.chat()).status_code == 429
        answer = await desk.chat()
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")
        assert len(desk.simulator.seen) == 1

    at_desk(test, enable_qwen_oauth_initial_rate_limit_retry=False)


def test_the_deadline_holds_for_the_whole_backend_and_the_log_tells_of_it(
    at_desk: AtDesk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "llmgate")

    async def test(desk: Desk) -> None:
        desk.simulator.fail_next(1, 429, THROTTLED, {"retry-after": "0.3"})
        first = asyncio.create_task(desk.chat())
        await until(lambda: BACKOFF + "recorded: wait=" in caplog.text)
        others = await asyncio.gather(*(desk.chat(stream=index % 2 == 0) for index in range(6)))
        assert {answer.status_code for answer in [await first, *others]} == {200}
        assert len(desk.simulator.seen) == 8  # one refusal, one that goes first, and six
        assert [answer.headers["x-llmgate-attempts"] for answer in others] == ["1"] * 6

    at_desk(test)
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG]
    assert any(line.startswith(BACKOFF + "recorded: wait=0.300") for line in lines)
    assert sum(line.startswith(BACKOFF + "active: remaining=0.") for line in lines) >= 7


def test_while_the_deadline_is_far_others_are_told_when_to_come_back(at_desk: AtDesk) -> None:
    async def test(desk: Desk) -> None:
        desk.simulator.fail_next(2, 429, THROTTLED, {"retry-after": "90"})
        assert (await desk.chat()).status_code == 429
        for stream in (False, True):
            answer = await desk.chat(stream=stream)
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "90")
            assert "qwen-oauth.default" in error_of(answer)["message"]
        assert len(desk.simulator.seen) == 2

    at_desk(test, qwen_oauth_initial_rate_limit_retry_max_wait_seconds=0.05)


SSE = {"content-type": "text/event-stream"}
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
SAID = b'data: {"choices":[{"index":0,"delta":{"content":"half"}}]}\n\n'
LIMIT = "Requests rate limit exceeded, please try again later."
CHOICE = {"index": 0, "delta": {"content": LIMIT}, "finish_reason": "error_finish"}
FRAMES = {
    "error_finish": b"data: " + json.dumps({"choices": [CHOICE]}).encode() + b"\n\n",
    "event: error": b"event: error\ndata: "
    + json.dumps({"code": "Throttling.RateQuota", "message": LIMIT}).encode()
    + b"\n\n",
    "an error frame": b"data: " + json.dumps(THROTTLED).encode() + b"\n\n",
    "a text": b"event: error\ndata: Requests rate limit exceeded\n\n",
    "a JSON text": b'event: error\ndata: "Requests rate limit exceeded"\n\n',
}


@pytest.mark.parametrize("begun", [b"", ROLE], ids=["at once", "after a role"])
@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES.keys())
def test_a_stream_that_turns_out_to_be_a_rate_limit_is_held_like_one(
    at_desk: AtDesk, frame: bytes, begun: bytes
) -> None:
    async def test(desk: Desk) -> None:
        desk.simulator.fail_next(1, 200, begun + frame, SSE)
        answer = await desk.chat(stream=True)
        assert (answer.status_code, answer.headers["x-llmgate-attempts"]) == (200, "2")
        assert LIMIT.encode() not in answer.content
        desk.simulator.fail_next(2, 200, begun + frame, SSE)
        answer = await desk.chat(stream=True)
        told = answer.content.decode()
        # The last attempt passes from its first byte on, so a role that has gone out has committed the status.
        assert (answer.status_code, "per minute" in told) == (200 if begun else 429, True)
        assert "[DONE]" not in told

    at_desk(test, **QUICK)


@pytest.mark.parametrize("body", [DAILY, json.dumps(DAILY, indent=2)], ids=["one line", "many lines"])
def test_a_body_that_is_no_stream_is_the_error_that_it_holds(at_desk: AtDesk, body: Any) -> None:
    async def test(desk: Desk) -> None:
        desk.simulator.fail_next(1, 200, body, {"content-type": "application/json"})
        answer = await desk.chat(stream=True)
        assert (answer.status_code, error_of(answer)["code"]) == (429, "insufficient_quota")
        assert "Beijing" in error_of(answer)["message"]
        desk.simulator.fail_next(1, 200, body, {"content-type": "application/json"})
        assert "Beijing" in error_of(await desk.chat())["message"]

    at_desk(test)


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES.keys())
def test_after_the_first_words_a_failure_is_told_in_the_stream(at_desk: AtDesk, frame: bytes) -> None:
    async def test(desk: Desk) -> None:
        desk.simulator.fail_next(1, 200, ROLE + SAID + frame, SSE)
        answer = await desk.chat(stream=True)
        assert answer.status_code == 200
        role, said, error, rest = answer.content.split(b"\n\n")
        assert (role + b"\n\n", said + b"\n\n", rest) == (ROLE, SAID, b"")
        told = json.loads(error.removeprefix(b"data: "))["error"]
        assert "per minute, over within about a minute" in told["message"]
        assert len(desk.simulator.seen) == 1

    at_desk(test)


@pytest.mark.parametrize("data", [b"Too many requests", b"{}", b"[1]", b""])
def test_an_error_frame_that_holds_no_object_is_told_in_the_callers_dialect(at_desk: AtDesk, data: bytes) -> None:
    async def test(desk: Desk) -> None:
        frame = b"event: error\ndata: " + data + b"\n\n"
        desk.simulator.fail_next(1, 200, ROLE + SAID + frame, SSE)
        told = (await desk.chat(stream=True)).content
        assert told.startswith(ROLE + SAID + b'data: {"error":')
        error = json.loads(told.removeprefix(ROLE + SAID + b"data: "))["error"]
        assert error["message"].strip() not in ("", "{}")
        assert error["code"] == ("rate_limit_exceeded" if data.startswith(b"Too") else "upstream_protocol_error")

    at_desk(test)


def test_too_many_requests_without_a_code_is_held_and_tried_again(at_desk: AtDesk) -> None:
    async def test(desk: Desk) -> None:
        desk.simulator.fail_next(1, 200, b"event: error\ndata: Too many requests\n\n", SSE)
        answer = await desk.chat(stream=True)
        assert (answer.status_code, answer.headers["x-llmgate-attempts"]) == (200, "2")

    at_desk(test, **QUICK)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choices", [b"true", b"5", b'"x"'])
def test_garbage_in_the_place_of_choices_is_no_bug_of_ours(at_desk: AtDesk, choices: bytes, stream: bool) -> None:
    async def test(desk: Desk) -> None:
        body = b'{"choices": %b, "error": null}' % choices
        desk.simulator.fail_next(1, 200, body, {"content-type": "application/json"})
        answer = await desk.chat(stream=stream)
        assert (answer.status_code, error_of(answer)["code"]) == (502, "upstream_protocol_error")
        desk.simulator.fail_next(1, 200, b"data: " + body + b"\n\n", SSE)
        assert b"connector_bug" not in (await desk.chat(stream=stream)).content

    at_desk(test)


def test_a_stream_that_dies_is_never_a_short_answer(at_desk: AtDesk) -> None:
    async def test(desk: Desk) -> None:
        desk.simulator.fail_next(1, 200, ROLE, SSE)
        assert error_of(await desk.chat(stream=True))["code"] == "upstream_protocol_error"
        desk.simulator.fail_next(1, 200, ROLE + SAID, SSE)
        told = (await desk.chat(stream=True)).content
        assert b"upstream_protocol_error" in told
        assert b"[DONE]" not in told

    at_desk(test)


@pytest.mark.parametrize("status", [403, 429])
def test_the_quota_of_the_day_is_told_at_once(at_desk: AtDesk, status: int) -> None:
    async def test(desk: Desk) -> None:
        desk.simulator.fail_next(1, status, DAILY)
        answer = await desk.chat()
        assert (answer.status_code, answer.headers["x-should-retry"]) == (429, "false")
        assert "renewed at 00:00 Beijing time" in error_of(answer)["message"]
        assert len(desk.simulator.seen) == 1

    at_desk(test)


def test_a_token_that_is_revoked_before_its_time_is_refreshed_once(at_desk: AtDesk) -> None:
    async def test(desk: Desk) -> None:
        desk.simulator.write_credentials(desk.file)
        assert (await desk.chat()).status_code == 200
        desk.simulator.revoke_access()
        assert (await desk.chat()).status_code == 200
        assert desk.simulator.refreshes == 1

    at_desk(test)


def test_a_new_token_that_was_accepted_and_is_then_revoked_heals(at_desk: AtDesk) -> None:
    async def test(desk: Desk) -> None:
        assert (await desk.chat()).status_code == 200
        assert desk.simulator.refreshes == 1
        desk.simulator.revoke_access()
        assert (await desk.chat()).status_code == 200
        assert desk.simulator.refreshes == 2

    at_desk(test)


def test_two_gateways_on_one_file_ask_the_issuer_of_a_dead_tier_only_a_few_times(at_desk: AtDesk) -> None:
    async def test(desk: Desk) -> None:
        desk.simulator.write_credentials(desk.file)
        an_hour_ago = time.time() - 3600
        os.utime(desk.file, (an_hour_ago, an_hour_ago))
        desk.simulator.dead_tier = True
        extra = {
            "enable_qwen_oauth_backend_debugging_override": True,
            "credentials_path": str(desk.file),
            "oauth_base_url": desk.simulator.url,
        }
        config = GatewayConfig(backends=(BackendConfig(type="qwen-oauth", extra=extra),))
        world = World(clock=desk.simulator.now, random=random.Random(2), environ={}, home=desk.file.parent)
        other = create_app(config, world=world)
        async with LoopbackServer(other.app) as url, httpx.AsyncClient(base_url=url, timeout=20, verify=False) as http:
            for number in range(6):
                asked = http if number % 2 else desk.http
                answer = await asked.post("/v1/chat/completions", json={"model": MODEL, "messages": [USER]})
                assert (answer.status_code, error_of(answer)["code"]) == (502, "upstream_auth")
                assert error_of(answer)["message"].count(DEAD_TIER) == 1
        assert desk.simulator.token_requests == 1

    at_desk(test)


def test_the_dead_tier_is_told_after_one_refresh(at_desk: AtDesk) -> None:
    async def test(desk: Desk) -> None:
        desk.simulator.dead_tier = True
        answer = await desk.chat()
        assert (answer.status_code, error_of(answer)["code"]) == (502, "upstream_auth")
        assert DEAD_TIER in error_of(answer)["message"]
        assert answer.headers["x-should-retry"] == "false"
        assert desk.simulator.token_requests == 1

    at_desk(test)


def test_a_dead_login_is_told_without_hammering_and_a_new_one_heals(at_desk: AtDesk) -> None:
    async def test(desk: Desk) -> None:
        desk.simulator.fail_refresh_next(1, 400, {"error": "invalid_request"})
        for _ in range(5):
            answer = await desk.chat()
            assert (answer.status_code, error_of(answer)["code"]) == (502, "upstream_auth")
            assert f"{desk.file} is no longer accepted; log in" in error_of(answer)["message"]
        assert desk.simulator.token_requests == 1
        desk.simulator.write_credentials(desk.file)
        assert (await desk.chat()).status_code == 200

    at_desk(test)


def test_an_issuer_that_is_down_is_unavailable_and_no_logout(at_desk: AtDesk) -> None:
    async def test(desk: Desk) -> None:
        desk.simulator.fail_refresh_next(1, 503, "busy")
        answer = await desk.chat()
        assert (answer.status_code, error_of(answer)["code"]) == (503, "upstream_unavailable")
        assert (await desk.chat()).status_code == 200

    at_desk(test)


# --- many at once ---------------------------------------------------------------------------------------------------


def test_fifty_requests_on_an_expired_token_cause_one_refresh(at_desk: AtDesk) -> None:
    async def test(desk: Desk) -> None:
        desk.simulator.refresh_delay = 0.05
        answers = await asyncio.gather(*(desk.chat() for _ in range(50)))
        assert {answer.status_code for answer in answers} == {200}
        assert (desk.simulator.token_requests, desk.simulator.refusals) == (1, [])

    at_desk(test)


def test_a_caller_who_leaves_does_not_take_the_refresh_with_him(at_desk: AtDesk) -> None:
    async def test(desk: Desk) -> None:
        desk.simulator.refresh_delay = 0.2
        before = desk.on_disk()
        caller = asyncio.create_task(desk.chat())
        await until(lambda: desk.simulator.refreshes > 0)
        caller.cancel()
        await until(lambda: desk.on_disk() != before)
        assert (await desk.chat()).status_code == 200
        assert (desk.simulator.token_requests, desk.simulator.refusals) == (1, [])

    at_desk(test)


# --- nothing secret -------------------------------------------------------------------------------------------------


def test_no_token_in_answers_and_log(at_desk: AtDesk, caplog: pytest.LogCaptureFixture) -> None:
    tokens: set[str] = set()

    async def test(desk: Desk) -> None:
        for _ in range(2):
            tokens.update(str(value) for name, value in desk.on_disk().items() if name.endswith("_token"))
            answer = await desk.chat()
            tokens.update(str(value) for name, value in desk.on_disk().items() if name.endswith("_token"))
            desk.simulator.fail_next(1, 400, {"error": {"message": f"echo {desk.on_disk()['access_token']}"}})
            echoed = await desk.chat()
            assert "echo [secret]" in echoed.text
            for token in tokens:
                assert token not in answer.text + echoed.text + str(answer.headers) + str(echoed.headers)
            desk.simulator.write_credentials(desk.file, expired=True)

    caplog.set_level(logging.DEBUG, "llmgate")
    at_desk(test)
    assert len(tokens) == 8
    assert "token refreshed" in caplog.text
    assert not [token for token in tokens if token in caplog.text]


# --- seeded faults: the simulator must see them ---------------------------------------------------------------------


async def ask_in_json(http: HttpClient, issuer: str, refresh_token: str) -> tuple[HttpReply, bytes]:
    """Refreshes with a JSON body, as an old client did by mistake."""
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": refresh.CLIENT_ID}
    headers = {"content-type": "application/json", "accept": "application/json"}
    url = f"{issuer}/api/v1/oauth2/token"
    reply = await http.send("POST", url, headers=headers, content=json.dumps(form).encode())
    return reply, await reply.read()


def unshaped(self: QwenOAuth, call: UpstreamCall) -> bytes:
    return call.body.bytes


def unmarked(parts: list[Any]) -> list[Any]:
    return parts or [{"type": "text", "text": ""}]


def test_a_json_refresh_is_refused(at_desk: AtDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(desk: Desk) -> None:
        answer = await desk.chat()
        assert (answer.status_code, error_of(answer)["code"]) == (502, "upstream_auth")
        assert desk.simulator.refusals == ["invalid_request: The body must be application/x-www-form-urlencoded."]

    monkeypatch.setattr(refresh, "_ask", ask_in_json)
    at_desk(test)


def test_a_conversation_without_a_system_message_is_refused(at_desk: AtDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(desk: Desk) -> None:
        answer = await desk.chat()
        assert (answer.status_code, error_of(answer)["code"]) == (400, "invalid_parameter_error")
        assert desk.simulator.refusals == ["invalid_parameter_error: the first message is not a system message"]

    monkeypatch.setattr(QwenOAuth, "body", unshaped)
    at_desk(test)


def test_a_conversation_without_a_cache_mark_is_refused(at_desk: AtDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(desk: Desk) -> None:
        answer = await desk.chat()
        assert (answer.status_code, error_of(answer)["code"]) == (400, "invalid_parameter_error")
        [reason] = desk.simulator.refusals
        assert "no `ephemeral` cache_control" in reason

    monkeypatch.setattr(messages, "_marked", unmarked)
    at_desk(test)
