"""What has the port: nothing, another program, a gateway, ours."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.ports import closed_port

from llmgate_core.diagnosis.gateway import Expected, Heard, listen_to, look_at
from llmgate_core.testing import Exchange, ScriptedUpstream

URL = "http://127.0.0.1:8000"
KEY = "sk-MARKER-gateway"
EXPECTED = Expected(URL, "0.1.0", None, {"a.default": True})
KEYED = Expected(URL, "0.1.0", "LLMGATE_API_KEYS", {"a.default": True})
BACKEND = {"name": "a.default", "ready": True, "detail": "", "models": []}


def ours(told: Any = None, status: int = 200, **backend: Any) -> Heard:
    content = {"version": "0.1.0", "backends": [{**BACKEND, **backend}]}
    return Heard(None, "", 200, True, "", status, content if told is None else told)


def levels(heard: Heard, expected: Expected = EXPECTED) -> list[str]:
    return [one.level for one in look_at(heard, expected)]


# --- what it means ----------------------------------------------------------------------------------------------------


def test_that_none_runs_is_no_failure() -> None:
    [found] = look_at(Heard("refused"), EXPECTED)
    assert (found.level, found.where, found.next) == ("ok", URL, "`llmgate serve` starts one")


@pytest.mark.parametrize("heard", [Heard("closed"), Heard("not HTTP"), Heard("timeout"), Heard(status=404)])
def test_another_program_has_the_port(heard: Heard) -> None:
    [found] = look_at(heard, EXPECTED)
    assert (found.level, found.where) == ("fail", URL)
    assert "LLMGATE_PORT" in found.next


def test_an_address_that_is_none() -> None:
    [found] = look_at(Heard("dns", "no such host"), EXPECTED)
    assert (found.level, "no such host" in found.what, "LLMGATE_HOST" in found.next) == ("fail", True, True)


def test_our_gateway_with_our_configuration() -> None:
    assert levels(ours()) == ["ok"]
    assert "takes the key" in look_at(ours(), KEYED)[0].what


@pytest.mark.parametrize(("expected", "words"), [(EXPECTED, "wants a key"), (KEYED, "LLMGATE_API_KEYS")])
def test_a_key_that_is_missing_or_wrong(expected: Expected, words: str) -> None:
    [found] = look_at(ours(status=401), expected)
    assert found.level == "fail"
    assert words in found.what


def test_another_version() -> None:
    found = look_at(ours({"version": "0.2.0", "backends": [BACKEND]}), EXPECTED)
    assert [one.level for one in found] == ["ok", "advice"]
    assert "0.2.0" in found[1].what
    assert levels(ours({"state": "fine"})) == ["advice"]
    assert levels(ours(status=404)) == ["advice"]


def test_another_configuration() -> None:
    found = look_at(ours(name="b.default"), EXPECTED)
    assert [one.level for one in found] == ["ok", "advice"]
    assert found[1].what.endswith("it has b.default and lacks a.default")


def test_a_backend_that_is_ready_here_and_not_there() -> None:
    found = look_at(ours(ready=False, detail="no key"), EXPECTED)
    assert [(one.level, one.where) for one in found[1:]] == [("fail", URL), ("fail", "a.default")]
    assert found[2].what.endswith(": no key")


def test_a_model_that_keeps_failing() -> None:
    models = [{"model": "m", "circuit": "open"}, {"model": "n", "circuit": "closed"}]
    [_, found] = look_at(ours(models=models), EXPECTED)
    assert (found.level, found.what) == ("advice", "keeps failing in the gateway that runs: m")


# --- asking -----------------------------------------------------------------------------------------------------------


def heard(script: Callable[[Exchange], Awaitable[None]]) -> tuple[Heard, list[str | None]]:
    """What a port answers, and the keys that it was shown."""

    async def ask() -> tuple[Heard, list[str | None]]:
        async with ScriptedUpstream(script) as upstream:
            found = await listen_to(upstream.url, "/state", KEY)
            return found, [request.headers.get("authorization") for request in upstream.requests]

    return asyncio.run(ask())


def test_only_what_answers_as_llmgate_does_is_shown_the_key() -> None:
    async def gateway(exchange: Exchange) -> None:
        content = {"status": "ok"} if exchange.request.path == "/healthz" else {"version": "9"}
        await exchange.reply(200, str(content).replace("'", '"').replace(" ", ""), {"x-request-id": "req_1"})

    async def other(exchange: Exchange) -> None:
        await exchange.reply(200, {"status": "ok"}, {"server": "other/1"})

    found, keys = heard(gateway)
    assert (found.is_ours, found.told_status, found.told) == (True, 200, {"version": "9"})
    assert keys == [None, f"Bearer {KEY}"]
    found, keys = heard(other)
    assert (found.is_ours, found.status, found.server) == (False, 200, "other/1")
    assert keys == [None]


def test_what_does_not_speak_http() -> None:
    async def garbage(exchange: Exchange) -> None:
        await exchange.raw(b"SSH-2.0-OpenSSH\r\n\r\n")
        exchange.cut()

    async def hangs_up(exchange: Exchange) -> None:
        exchange.reset()

    assert heard(garbage)[0].trouble == "not HTTP"
    assert heard(hangs_up)[0].trouble == "closed"


def test_a_port_that_nobody_has() -> None:
    with closed_port() as port:
        assert asyncio.run(listen_to(f"http://127.0.0.1:{port}", "/state", None)).trouble == "refused"
