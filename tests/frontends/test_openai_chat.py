"""`POST /v1/chat/completions` between a real client socket and a real upstream socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from llmgate_core.config import TimeoutsConfig
from llmgate_core.model_facts import Facts
from llmgate_core.sections import ServerConfig
from llmgate_core.testing import Exchange, Script

if TYPE_CHECKING:
    from tests.conftest import GatewayFactory, RunningGateway

ANSWER = b'{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"hi"}}]}'
DONE = b"data: [DONE]\n\n"


def event(content: str = "hi", finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return b"data: %b\n\n" % json.dumps({"id": "x", "choices": [choice]}, ensure_ascii=False).encode()


END = event("", "stop")


async def plain(exchange: Exchange) -> None:
    await exchange.reply(200, ANSWER, {"content-type": "application/json"})


def run(test: Awaitable[None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test

    asyncio.run(bounded())


def answer_of(
    gateway: GatewayFactory, script: Script, headers: Mapping[str, str] | None = None, **members: Any
) -> httpx.Response:
    """What a client gets whose request `script` answers."""
    answers: list[httpx.Response] = []

    async def test() -> None:
        async with gateway(script) as running:
            answers.append(await running.chat(headers=headers, **members))

    run(test())
    return answers[0]


# --- bytes ---------------------------------------------------------------------------------------------------

EXOTIC = (
    '{ "stream" : false,\r\n\t"n_1": 1e2, "n_2": 0.100000000000000000000000001, "n_3": -0.0, "n_4": 123456789012345678,'
    ' "twice": 1, "twice": {"a": [ ]}, "u": "\\u00e9\\ud83d\\ude00é😀\\/", "unknown": {"model": "not this one"},'
    ' "model" : %s , "messages":[{"role":"user","content":"\\"model\\": \\"trap\\"", "x_extra": null}]  }\n'
)


@pytest.mark.parametrize("prefix", ["", "openai-compatible:", "openai-compatible.default:"])
def test_the_callers_bytes_go_up_untouched_but_for_the_model(gateway: GatewayFactory, prefix: str) -> None:
    async def test() -> None:
        async with gateway(plain) as running:
            await running.chat(EXOTIC.replace("%s", f'"{prefix}some-model"').encode())
            assert running.upstream.requests[0].body == EXOTIC.replace("%s", '"some-model"').encode()
            assert running.upstream.requests[0].path == "/v1/chat/completions"

    run(test())


def test_a_plain_answer_comes_back_untouched(gateway: GatewayFactory) -> None:
    answer = b' {"choices" : [{"x": 1e2, "x": 0.10000000000000000000001, "\xc3\xa9": "\\u00e9\\/"}],\r\n "new": {} }\n'

    async def exotic(exchange: Exchange) -> None:
        await exchange.reply(200, answer, {"content-type": "application/json; charset=utf-8"})

    reply = answer_of(gateway, exotic)
    assert (reply.status_code, reply.content) == (200, answer)
    assert reply.headers["content-type"] == "application/json; charset=utf-8"
    assert reply.headers["content-length"] == str(len(answer))


def test_a_stream_cut_inside_characters_comes_back_untouched(gateway: GatewayFactory) -> None:
    stream = b": hello\r\n\r\n" + event("你好, 世界 😀") + b"event: odd\nid: 7\ndata:{}\n\n" + END + DONE

    async def cut_everywhere(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "text/event-stream"})
        for position in range(len(stream)):
            await exchange.chunk(stream[position : position + 1])

    reply = answer_of(gateway, cut_everywhere, stream=True)
    assert (reply.status_code, reply.content) == (200, stream)
    assert reply.headers["content-type"] == "text/event-stream"
    assert reply.headers["x-accel-buffering"] == "no"


def test_the_first_chunk_arrives_while_the_upstream_holds_the_second(gateway: GatewayFactory) -> None:
    seen = asyncio.Event()

    async def hold(exchange: Exchange) -> None:
        await exchange.sse(event("one"))
        await seen.wait()
        await exchange.sse(event("two", "stop"), DONE)

    async def test() -> None:
        async with gateway(hold) as running:
            reader, writer = await running.dial(stream=True)
            assert b'"one"' in await reader.readuntil(b'"one"')
            seen.set()
            assert b"[DONE]" in await reader.readuntil(b"[DONE]")
            writer.close()

    run(test())


def test_the_role_comes_through_at_once(gateway: GatewayFactory) -> None:
    seen = asyncio.Event()

    async def hold(exchange: Exchange) -> None:
        await exchange.sse(b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n')
        await seen.wait()
        await exchange.sse(END, DONE)

    async def test() -> None:
        async with gateway(hold) as running:
            reader, writer = await running.dial(stream=True)
            await reader.readuntil(b'"role"')
            seen.set()
            await reader.readuntil(b"[DONE]")
            writer.close()

    run(test())


# --- parameters in layers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backend", "model", "client", "expected"),
    [
        pytest.param({"default_params": {"temperature": 0.1}}, "m", {}, 0.1, id="default"),
        pytest.param({"default_params": {"temperature": 0.1}}, "m", {"temperature": 0.2}, 0.2, id="client over it"),
        pytest.param({}, "openai-compatible:m?temperature=0.3", {"temperature": 0.2}, 0.3, id="uri over client"),
        pytest.param(
            {"forced_params": {"temperature": 0.4}},
            "openai-compatible:m?temperature=0.3",
            {"temperature": 0.2},
            0.4,
            id="forced over all",
        ),
    ],
)
def test_layers_of_parameters(
    gateway: GatewayFactory, backend: dict[str, Any], model: str, client: dict[str, Any], expected: float
) -> None:
    async def test() -> None:
        async with gateway(plain, backend=backend) as running:
            assert (await running.chat(model=model, **client)).status_code == 200
            sent = running.upstream.requests[0].json()
            assert (sent["model"], sent["temperature"]) == ("m", expected)

    run(test())


NO_TEMPERATURE = {"model_facts": {"m": Facts(refuses=("temperature",), excludes=(("top_p", "seed"),))}}


@pytest.mark.parametrize(
    ("backend", "model", "client", "expected", "warning"),
    [
        pytest.param(
            {},
            "openai-compatible:m?temperature=0.3&top_k=5",
            {},
            {"top_k": 5},
            "left out: `temperature`: model `m` does not take it",
            id="uri, with a warning",
        ),
        pytest.param({"default_params": {"temperature": 0.1}}, "m", {}, {}, None, id="default, silently"),
        pytest.param({}, "m", {"temperature": 0.2}, {"temperature": 0.2}, None, id="client passes"),
        pytest.param({"forced_params": {"temperature": 0.4}}, "m", {}, {"temperature": 0.4}, None, id="forced passes"),
        pytest.param(
            {},
            "openai-compatible:m?top_p=0.3",
            {"seed": 1},
            {"seed": 1},
            "left out: `top_p`: model `m` does not take it together with `seed`",
            id="a pair",
        ),
    ],
)
def test_what_is_added_is_what_the_model_takes(
    gateway: GatewayFactory,
    backend: dict[str, Any],
    model: str,
    client: dict[str, Any],
    expected: dict[str, Any],
    warning: str | None,
) -> None:
    async def test() -> None:
        async with gateway(plain, backend={**NO_TEMPERATURE, **backend}) as running:
            reply = await running.chat(model=model, **client)
            assert (reply.status_code, reply.headers.get("x-llmgate-warning")) == (200, warning)
            sent = running.upstream.requests[0].json()
            assert {name: value for name, value in sent.items() if name not in ("model", "messages")} == expected

    run(test())


@pytest.mark.parametrize(
    ("model", "client", "expected"),
    [
        ("gpt-5", {}, {"max_completion_tokens": 9}),
        ("m", {}, {"max_tokens": 9}),
        ("gpt-5", {"max_tokens": 5}, {"max_tokens": 9}),
        ("gpt-5", {"max_completion_tokens": 5}, {"max_completion_tokens": 9}),
    ],
)
def test_a_limit_that_we_add_has_the_name_that_the_model_takes(
    gateway: GatewayFactory, model: str, client: dict[str, Any], expected: dict[str, Any]
) -> None:
    async def test() -> None:
        async with gateway(plain) as running:
            assert (await running.chat(model=f"openai-compatible:{model}?max_tokens=9", **client)).status_code == 200
            sent = running.upstream.requests[0].json()
            assert {name: value for name, value in sent.items() if name.startswith("max")} == expected

    run(test())


def test_a_group_with_a_member_that_selectors_do_not_know(gateway: GatewayFactory) -> None:
    facts = {"model_facts": {"m": Facts(excludes=(("enable_thinking", "reasoning_effort"),))}}

    async def test() -> None:
        async with gateway(plain, backend=facts) as running:
            await running.chat(model="openai-compatible:m?reasoning_effort=high", enable_thinking=True)
            sent = running.upstream.requests[0].json()
            assert (sent["enable_thinking"], "reasoning_effort" in sent) == (True, False)

    run(test())


def test_a_wrong_uri_parameter_is_refused_before_anybody_is_asked(gateway: GatewayFactory) -> None:
    async def test() -> None:
        async with gateway(plain) as running:
            reply = await running.chat(model="openai-compatible:m?temprature=1")
            assert reply.status_code == 400
            assert reply.json()["error"]["code"] == "invalid_parameter"
            assert "did you mean `temperature`" in reply.json()["error"]["message"]
            assert running.upstream.requests == []

    run(test())


def test_an_unknown_backend(gateway: GatewayFactory) -> None:
    reply = answer_of(gateway, plain, model="openai-compatable:m")
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (404, "backend_not_found", "model")
    assert "did you mean `openai-compatible`?" in error["message"]
    assert "^" in error["message"]
    assert reply.headers["x-should-retry"] == "false"


# --- headers -------------------------------------------------------------------------------------------------


def test_headers_of_the_caller_travel_by_allow_list(gateway: GatewayFactory) -> None:
    async def test() -> None:
        async with gateway(plain, extra={"api_key": "env:KEY"}, environ={"KEY": "sk-of-the-gateway"}) as running:
            sent = {
                "authorization": "Bearer sk-of-the-caller",
                "x-api-key": "sk-of-the-caller",
                "cookie": "session=of-the-caller",
                "x-forwarded-for": "10.0.0.1",
                "origin": running.url,
                "user-agent": "a-browser",
                "accept-encoding": "gzip",
                "x-session-id": "s-1",
                "openai-beta": "things",
            }
            assert (await running.chat(headers=sent)).status_code == 200
            got = running.upstream.requests[0].headers
            assert (got["x-session-id"], got["openai-beta"]) == ("s-1", "things")
            assert got["authorization"] == "Bearer sk-of-the-gateway"
            assert got["user-agent"].startswith("llmgate/")
            assert got["accept-encoding"] == "identity"
            assert got.keys().isdisjoint({"x-api-key", "cookie", "x-forwarded-for", "origin"})
            assert "of-the-caller" not in str(got)

    run(test())


def test_headers_of_the_upstream_travel_by_allow_list(gateway: GatewayFactory) -> None:
    async def script(exchange: Exchange) -> None:
        hidden = {
            "server": "nginx",
            "date": "Thu, 01 Jan 1970 00:00:00 GMT",
            "set-cookie": "a=b",
            "access-control-allow-origin": "*",
            "x-powered-by": "things",
            "www-authenticate": "Bearer",
        }
        passed = {"x-request-id": "up-1", "x-ratelimit-remaining-tokens": "7", "openai-processing-ms": "12"}
        await exchange.reply(200, ANSWER, {"content-type": "application/json", **hidden, **passed})

    headers = answer_of(gateway, script).headers
    assert headers["x-upstream-request-id"] == "up-1"
    assert headers["x-request-id"].startswith("req_")
    assert headers["request-id"] == headers["x-request-id"]
    assert (headers["x-ratelimit-remaining-tokens"], headers["openai-processing-ms"]) == ("7", "12")
    assert (headers["x-llmgate-backend"], headers["x-llmgate-attempts"]) == ("openai-compatible.default", "1")
    assert headers.keys().isdisjoint({"set-cookie", "access-control-allow-origin", "x-powered-by", "www-authenticate"})
    assert headers.get("server") != "nginx"
    assert "1970" not in headers.get("date", "")


def test_a_header_of_the_upstream_that_is_not_latin_1_does_not_break_the_answer(gateway: GatewayFactory) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.raw(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-ratelimit-name: \xe4\xbd\xa0\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER)
        )

    reply = answer_of(gateway, script)
    assert (reply.status_code, reply.content) == (200, ANSWER)


def test_ids_differ_from_request_to_request(gateway: GatewayFactory) -> None:
    async def test() -> None:
        async with gateway(plain) as running:
            ids = {(await running.chat()).headers["x-request-id"] for _ in range(3)}
            assert len(ids) == 3
            await running.finished(3)
            assert {record.id for record in running.records} == ids

    run(test())


# --- bad requests --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "JSON"),
        (b'{"model": "m",\n "messages": [}', "line 2"),
        (b"[]", "object"),
        (b'{"messages": [{}]}', "`model`"),
        (b'{"model": 1, "messages": [{}]}', "`model`"),
        (b'{"model": "m"}', "`messages`"),
        (b'{"model": "m", "messages": [{}], "stream": 1}', "`stream`"),
        (b'{"model": "m", "messages": [{"content": "\xff"}]}', "UTF-8"),
        (b'{"model": "m", "messages": [{"content": "\\ud800"}]}', "surrogate"),
        (b'{"model": "m", "messages": [{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]}", "deep"),
    ],
)
def test_a_bad_body_is_a_400_that_says_what_and_where(gateway: GatewayFactory, body: bytes, says: str) -> None:
    async def test() -> None:
        async with gateway(plain) as running:
            reply = await running.chat(body)
            assert reply.status_code == 400
            assert says in reply.json()["error"]["message"]
            assert reply.headers["x-should-retry"] == "false"
            assert running.upstream.requests == []
            assert (await running.finished()).outcome == "rejected"

    run(test())


@pytest.mark.parametrize(
    ("sort", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("Application/JSON", 200),
        ("application/vnd.api+json", 200),
        ("", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
    ],
)
def test_content_types(gateway: GatewayFactory, sort: str, status: int) -> None:
    assert answer_of(gateway, plain, headers={"content-type": sort}).status_code == status


def test_a_body_that_is_too_large_is_told_in_words(gateway: GatewayFactory) -> None:
    async def too_much() -> Any:
        for _ in range(40):
            yield b"x" * 100_000

    async def test() -> None:
        async with gateway(plain, server=ServerConfig(max_body_bytes=1_000_000)) as running:
            for content in (b"x" * 4_000_000, too_much()):  # announced, and chunked
                reply = await running.client.post(f"{running.url}/v1/chat/completions", content=content)
                assert (reply.status_code, reply.json()["error"]["code"]) == (413, "request_too_large")
                assert "`server.max_body_bytes`" in reply.json()["error"]["message"]
            assert running.upstream.requests == []

    run(test())


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_is_estimated_too_large_is_refused_before_anybody_is_asked(
    gateway: GatewayFactory, stream: bool
) -> None:
    async def test() -> None:
        async with gateway(plain) as running:
            long = [{"role": "user", "content": "word " * 1000}]
            reply = await running.chat(model="[max_context=900]m|[max_context=800]n", messages=long, stream=stream)
            error = reply.json()["error"]
            assert (reply.status_code, error["code"]) == (400, "context_length_exceeded")
            assert (error["type"], error["param"]) == ("invalid_request_error", "messages")
            assert reply.headers["x-should-retry"] == "false"
            assert "estimated" in error["message"]
            assert running.upstream.requests == []
            assert (await running.finished()).outcome == "rejected"
            reply = await running.chat(model="[max_context=900]m|[max_context=8000]n", messages=long)
            assert (reply.status_code, running.upstream.requests[0].json()["model"]) == (200, "n")

    run(test())


# --- what the upstream says of a failure ---------------------------------------------------------------------


def refuse(
    status: int, message: str = "their words", headers: Mapping[str, str] | None = None, **fields: Any
) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.reply(status, {"error": {"message": message, **fields}}, headers or {})

    return script


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("script", "status", "code", "repeat"),
    [
        pytest.param(refuse(400), 400, "bad_request", False, id="bad_request"),
        pytest.param(refuse(422, code="odd_field"), 422, "odd_field", False, id="bad_request with its code"),
        pytest.param(
            refuse(400, code="context_length_exceeded"), 400, "context_length_exceeded", False, id="context_length"
        ),
        pytest.param(refuse(401), 502, "upstream_auth", False, id="auth"),
        pytest.param(refuse(402), 429, "insufficient_quota", False, id="quota"),
        pytest.param(refuse(429, code="insufficient_quota"), 429, "insufficient_quota", False, id="quota by code"),
        pytest.param(refuse(403), 403, "access_denied", False, id="denied"),
        pytest.param(refuse(404), 404, "not_found", False, id="not_found"),
        pytest.param(refuse(408), 504, "upstream_timeout", True, id="timeout"),
        pytest.param(refuse(429), 429, "rate_limit_exceeded", True, id="rate_limited"),
        pytest.param(refuse(500), 502, "upstream_unavailable", True, id="unavailable"),
        pytest.param(refuse(529), 503, "upstream_unavailable", True, id="overloaded"),
        pytest.param(refuse(504), 504, "upstream_timeout", True, id="gateway timeout"),
        pytest.param(refuse(302), 502, "upstream_protocol_error", True, id="redirect"),
    ],
)
def test_each_kind_has_its_status(
    gateway: GatewayFactory, script: Script, status: int, code: str, repeat: bool, stream: bool
) -> None:
    reply = answer_of(gateway, script, stream=stream)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (status, code)
    assert reply.headers.get("x-should-retry", "") == ("" if repeat else "false")
    assert reply.headers["content-type"] == "application/json"
    assert set(error) == {"message", "type", "param", "code"}
    assert reply.headers["x-request-id"] == reply.headers["request-id"]


def test_the_upstreams_words_come_first_and_ours_last(gateway: GatewayFactory) -> None:
    words = "This model's maximum context length is 8192 tokens."
    message = answer_of(gateway, refuse(400, words)).json()["error"]["message"]
    assert message.startswith(words)
    assert message == f"{words} [llmgate: backend openai-compatible.default answered HTTP 400]"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"retry-after": "7"}, "7"),
        ({"retry-after": "1.2"}, "2"),
        ({"retry-after-ms": "1500"}, "2"),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT"}, "30"),  # the gateway's clock says 08:00:00
        ({"retry-after": "soon"}, "1"),  # no time is known: `min_retry_wait_seconds`
    ],
)
def test_retry_after_is_whole_seconds(gateway: GatewayFactory, given: dict[str, str], told: str | None) -> None:
    reply = answer_of(gateway, refuse(429, headers=given))
    assert reply.status_code == 429
    assert reply.headers.get("retry-after") == told


def test_an_error_names_both_requests(gateway: GatewayFactory) -> None:
    async def test() -> None:
        async with gateway(refuse(500, headers={"x-request-id": "up-9"})) as running:
            reply = await running.chat()
            record = await running.finished()
            assert reply.headers["x-request-id"] == record.id
            assert record.attempts[0].upstream_request_id == "up-9"
            assert (record.status, record.outcome, record.attempts[0].kind) == (502, "failed", "unavailable")

    run(test())


# --- 200, and yet no answer ----------------------------------------------------------------------------------


def with_200(body: bytes, sort: str) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.reply(200, body, {"content-type": sort})

    return script


SSE = "text/event-stream"
RATE_LIMITED = b'data: {"error": {"message": "slow down", "type": "rate_limit_error"}}\n\n'


@pytest.mark.parametrize(
    ("script", "stream", "status", "code"),
    [
        pytest.param(with_200(b"", "application/json"), False, 502, "upstream_protocol_error", id="empty"),
        pytest.param(with_200(b"  \n", "application/json"), False, 502, "upstream_protocol_error", id="blank"),
        pytest.param(with_200(ANSWER[:-20], "application/json"), False, 502, "upstream_protocol_error", id="truncated"),
        pytest.param(with_200(b"<html>hi", "text/html"), False, 502, "upstream_protocol_error", id="html"),
        pytest.param(with_200(b"{}", "application/json"), False, 502, "upstream_protocol_error", id="no choices"),
        pytest.param(
            with_200(b'{"error": {"message": "slow down", "code": "rate_limit_exceeded"}}', "application/json"),
            False,
            429,
            "rate_limit_exceeded",
            id="error in disguise",
        ),
        pytest.param(with_200(b"", SSE), True, 502, "upstream_protocol_error", id="empty stream"),
        pytest.param(with_200(ANSWER, "application/json"), True, 502, "upstream_protocol_error", id="JSON"),
        pytest.param(with_200(b"<html>hi", "text/html"), True, 502, "upstream_protocol_error", id="html page"),
        pytest.param(with_200(RATE_LIMITED, SSE), True, 429, "rate_limit_exceeded", id="error frame first"),
        pytest.param(
            with_200(b": waiting\n\n" + RATE_LIMITED, SSE), True, 429, "rate_limit_exceeded", id="after a comment"
        ),
        pytest.param(
            with_200(b'{"error": {"message": "slow", "code": "rate_limit_exceeded"}}', "application/json"),
            True,
            429,
            "rate_limit_exceeded",
            id="JSON error for a stream",
        ),
    ],
)
def test_a_200_that_is_no_answer_is_a_failure(
    gateway: GatewayFactory, script: Script, stream: bool, status: int, code: str
) -> None:
    reply = answer_of(gateway, script, stream=stream)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)


def test_an_html_error_page_is_a_502_without_markup(gateway: GatewayFactory) -> None:
    async def script(exchange: Exchange) -> None:
        page = b"<html><head><title>502 Bad Gateway</title></head><body><h1>nginx</h1></body></html>"
        await exchange.reply(502, page, {"content-type": "text/html"})

    message = answer_of(gateway, script).json()["error"]["message"]
    assert "502 Bad Gateway" in message
    assert "<" not in message


def test_an_endless_answer_of_the_wrong_sort_is_not_collected(gateway: GatewayFactory, promptly: float) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "text/html"})
        while True:
            await exchange.chunk(b"<p>more</p>" * 1000)

    async def test() -> None:
        async with gateway(endless) as running:
            assert (await running.chat(stream=True)).status_code == 502
            await asyncio.wait_for(running.upstream.all_closed(), promptly)

    run(test())


def test_a_plain_answer_that_is_cut_off_is_a_502(gateway: GatewayFactory) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "application/json", "content-length": str(len(ANSWER) + 1)})
        await exchange.raw(ANSWER)
        exchange.cut()

    reply = answer_of(gateway, script)
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_protocol_error")


# --- streams that end before their time ----------------------------------------------------------------------


async def cut_at_a_boundary(exchange: Exchange) -> None:
    await exchange.sse(event("one"))
    exchange.cut()


async def reset_at_a_boundary(exchange: Exchange) -> None:
    await exchange.sse(event("one"))
    await asyncio.sleep(0.1)  # a reset drops what the gateway has not read yet
    exchange.reset()


async def ends_without_finish_reason(exchange: Exchange) -> None:
    await exchange.sse(event("one"))


async def falls_silent(exchange: Exchange) -> None:
    await exchange.sse(event("one"))
    await exchange.hung_up()


@pytest.mark.parametrize(
    ("script", "code", "says"),
    [
        (cut_at_a_boundary, "upstream_protocol_error", "cut the answer off"),
        (reset_at_a_boundary, "upstream_protocol_error", "cut the answer off"),
        (ends_without_finish_reason, "upstream_protocol_error", "before the answer was complete"),
        (falls_silent, "upstream_timeout", "silent for 0.3 s (`idle_seconds`)"),
    ],
)
def test_a_stream_that_breaks_off_ends_with_one_error_event(
    gateway: GatewayFactory, script: Script, code: str, says: str
) -> None:
    async def test() -> None:
        async with gateway(script, timeouts=TimeoutsConfig(idle_seconds=0.3)) as running:
            reply = await running.chat(stream=True)
            assert reply.status_code == 200
            first, last, rest = reply.content.split(b"\n\n")
            assert (first + b"\n\n", rest) == (event("one"), b"")
            error = json.loads(last.removeprefix(b"data: "))["error"]
            assert error["code"] == code
            assert says in error["message"]
            assert b"[DONE]" not in reply.content
            record = await running.finished()
            assert (record.status, record.outcome) == (200, "cut_off")
            assert says in record.error

    run(test())


def test_a_stream_that_is_cut_inside_an_event_has_no_proper_end(gateway: GatewayFactory) -> None:
    async def cut_inside(exchange: Exchange) -> None:
        await exchange.sse(event("one"), event("two")[:-9])
        exchange.cut()

    async def test() -> None:
        async with gateway(cut_inside) as running:
            reader, writer = await running.dial(stream=True)
            received = await reader.read()
            writer.close()
            assert b'"one"' in received
            assert b'"two"' in received
            assert b'"error"' not in received
            assert not received.endswith(b"0\r\n\r\n")
            assert (await running.finished()).outcome == "cut_off"

    run(test())


def test_a_missing_done_alone_is_fine(gateway: GatewayFactory) -> None:
    async def without_done(exchange: Exchange) -> None:
        await exchange.sse(event("one"), END)

    async def test() -> None:
        async with gateway(without_done) as running:
            assert (await running.chat(stream=True)).content == event("one") + END
            assert (await running.finished()).outcome == "ok"

    run(test())


def test_a_cut_after_the_end_of_the_answer_is_fine(gateway: GatewayFactory) -> None:
    async def cut_after_done(exchange: Exchange) -> None:
        await exchange.sse(event("one"), END, DONE)
        exchange.cut()

    async def test() -> None:
        async with gateway(cut_after_done) as running:
            assert (await running.chat(stream=True)).content == event("one") + END + DONE
            assert (await running.finished()).outcome == "ok"

    run(test())


def test_an_error_frame_in_mid_stream_passes_and_no_second_one_follows(gateway: GatewayFactory) -> None:
    async def fails_midway(exchange: Exchange) -> None:
        await exchange.sse(event("one"), RATE_LIMITED)

    async def test() -> None:
        async with gateway(fails_midway) as running:
            assert (await running.chat(stream=True)).content == event("one") + RATE_LIMITED
            assert (await running.finished()).outcome == "cut_off"

    run(test())


def test_an_upstream_that_never_answers(gateway: GatewayFactory) -> None:
    async def silent(exchange: Exchange) -> None:
        await exchange.hung_up()

    async def test() -> None:
        async with gateway(silent, timeouts=TimeoutsConfig(first_byte_seconds=0.2)) as running:
            for stream in (False, True):
                reply = await running.chat(stream=stream)
                assert (reply.status_code, reply.json()["error"]["code"]) == (504, "upstream_timeout")
                assert "`first_byte_seconds`" in reply.json()["error"]["message"]

    run(test())


def test_usage_is_read_as_it_passes(gateway: GatewayFactory) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 5}

    async def script(exchange: Exchange) -> None:
        if exchange.request.json().get("stream"):
            await exchange.sse(event("one"), END, {"choices": [], "usage": usage}, DONE)
        else:
            await exchange.reply(200, {"choices": [{}], "usage": usage})

    async def test() -> None:
        async with gateway(script) as running:
            for count, stream in enumerate((False, True), 1):
                await running.chat(stream=stream)
                assert (await running.finished(count)).usage == usage

    run(test())


# --- clients that leave, and clients that stop reading ---------------------------------------------------------


async def says_nothing(exchange: Exchange) -> None:
    await exchange.hung_up()


async def streams_for_ever(exchange: Exchange) -> None:
    while True:
        await exchange.sse(event("more"))
        await asyncio.sleep(0.01)


async def before_the_first_byte(running: RunningGateway) -> asyncio.StreamWriter:
    _, writer = await running.dial(stream=True)
    return writer


async def in_mid_stream(running: RunningGateway) -> asyncio.StreamWriter:
    reader, writer = await running.dial(stream=True)
    await reader.readuntil(b'"more"')
    return writer


async def in_a_plain_request(running: RunningGateway) -> asyncio.StreamWriter:
    _, writer = await running.dial()
    return writer


async def with_a_silent_stream(running: RunningGateway) -> asyncio.StreamWriter:
    reader, writer = await running.dial(stream=True)
    await reader.readuntil(b'"one"')
    return writer


Leave = Callable[["RunningGateway"], Awaitable[asyncio.StreamWriter]]


@pytest.mark.parametrize(
    ("script", "until", "status"),
    [
        (says_nothing, before_the_first_byte, 499),
        (says_nothing, in_a_plain_request, 499),
        (streams_for_ever, in_mid_stream, 200),
        (falls_silent, with_a_silent_stream, 200),
    ],
)
def test_a_client_that_leaves_ends_the_upstreams_work(
    gateway: GatewayFactory, promptly: float, script: Script, until: Leave, status: int
) -> None:
    async def test() -> None:
        asked = asyncio.Event()

        async def answer(exchange: Exchange) -> None:
            asked.set()
            await script(exchange)

        async with gateway(answer) as running:
            writer = await until(running)
            await asked.wait()
            tasks = asyncio.all_tasks()
            writer.close()
            await asyncio.wait_for(running.upstream.all_closed(), promptly)
            record = await running.finished()
            assert (record.outcome, record.status) == ("client_closed", status)
            assert record.error == ""
            left = [task for task in asyncio.all_tasks() - tasks if "Finished" not in str(task)]
            assert not left
            assert not [task for task in tasks if not task.done() and "HangUp" in str(task)]

    run(test())


def test_a_client_that_stops_reading_holds_the_upstream_back(gateway: GatewayFactory, promptly: float) -> None:
    pushed = 0
    piece = event("x" * 60_000)

    async def pushes(exchange: Exchange) -> None:
        nonlocal pushed
        while True:
            await exchange.sse(piece)
            pushed += len(piece)

    async def test() -> None:
        async with gateway(pushes) as running:
            reader, writer = await running.dial(stream=True)
            await reader.readuntil(b'"x"')
            before = -1
            while pushed > before:  # until nothing more goes through for a while
                before = pushed
                await asyncio.sleep(0.3)
            assert pushed < 24 * 1024 * 1024  # kernel buffers of four sockets included
            writer.transport.abort()
            await asyncio.wait_for(running.upstream.all_closed(), promptly)
            assert (await running.finished()).outcome == "client_closed"

    run(test())


def test_a_fast_stream_does_not_starve_the_others(gateway: GatewayFactory) -> None:
    piece = event("x" * 1000) * 50

    async def pushes(exchange: Exchange) -> None:
        if exchange.request.json().get("stream"):
            while True:
                await exchange.sse(piece)
        else:
            await plain(exchange)

    async def test() -> None:
        async with (
            gateway(pushes) as running,
            running.client.stream(
                "POST", f"{running.url}/v1/chat/completions", json=running.body(stream=True)
            ) as reply,
        ):
            reading = asyncio.create_task(drain(reply))
            async with asyncio.timeout(5):
                assert [(await running.chat()).status_code for _ in range(5)] == [200] * 5
            reading.cancel()

    run(test())


async def drain(reply: httpx.Response) -> None:
    async for _ in reply.aiter_raw():
        pass
