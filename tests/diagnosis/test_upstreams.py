"""What becomes of each answer of an upstream; and that asking costs nothing and tells nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from pathlib import Path

import pytest
from tests.ports import closed_port

from llmgate_core.backends import World
from llmgate_core.config import BackendConfig, GatewayConfig
from llmgate_core.diagnosis.asking import Asked, ask, shown, skew
from llmgate_core.diagnosis.configuration import Named
from llmgate_core.diagnosis.upstreams import look_at, look_at_clock, look_at_models
from llmgate_core.errors import ConnectorError, Kind
from llmgate_core.plugins import load
from llmgate_core.testing import Exchange, ReceivedRequest, ScriptedUpstream

NOW = 1_800_000_000.0
KEY = "sk-MARKER-upstream"
Script = Callable[[Exchange], Awaitable[None]]


def asked(url: str, *, environ: dict[str, str] | None = None, offline: bool = False, **extra: object) -> Asked:
    """Asks the upstream at `url` as the doctor does, at the time NOW."""
    backend = BackendConfig("openai-compatible", extra={"base_url": f"{url}/v1", "api_key": "env:KEY", **extra})
    world = World(lambda: NOW, random.Random(1), {"KEY": KEY} if environ is None else environ, Path("/nowhere"))
    plugins = load(["openai-compatible"])
    return asyncio.run(ask(GatewayConfig(), backend, plugins, world, lambda _: None, offline=offline))


def answered(script: Script, **how: object) -> tuple[Asked, list[ReceivedRequest]]:
    with ScriptedUpstream.in_thread(script) as upstream:
        found = asked(upstream.url, **how)  # type: ignore[arg-type]
        return found, upstream.requests


def replies(status: int, body: object, date: float = NOW) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.reply(status, body, {"date": formatdate(date, usegmt=True)})

    return script


LIST = {"data": [{"id": "large"}, {"id": "small"}]}


# --- asking -----------------------------------------------------------------------------------------------------------


def test_an_upstream_is_asked_for_its_models_and_nothing_else() -> None:
    found, requests = answered(replies(200, LIST), models=["configured"])
    assert found.models == ("large", "small")
    assert [(one.method, one.path) for one in requests] == [("GET", "/v1/models")]
    assert requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert "MARKER" not in repr(found)


def test_without_a_credential_it_is_asked_all_the_same() -> None:
    found, requests = answered(replies(401, {}), environ={})
    assert found.missing == "environment variable `KEY` is not set; set it, then restart"
    assert "authorization" not in requests[0].headers
    no_key, reached = look_at(found)
    assert (no_key.level, reached.level) == ("fail", "ok")
    assert "can be reached" in reached.what
    assert [one.level for one in look_at(found, [f"said before: {found.missing}"])] == ["ok"]


def test_offline_nobody_is_asked() -> None:
    found, requests = answered(replies(200, LIST), offline=True)
    assert requests == []
    assert [one.level for one in look_at(found)] == ["ok"]
    lacking = Asked("a", False, "no key")
    assert [one.level for one in look_at(lacking)] == ["fail"]
    assert look_at(lacking, ["said before: no key"]) == []


def test_a_port_that_nobody_has() -> None:
    with closed_port() as port:
        [found] = look_at(asked(f"http://127.0.0.1:{port}"))
    assert (found.level, found.what) == ("fail", f"cannot be reached: 127.0.0.1:{port}: connection refused")
    assert found.where == f"openai-compatible.default at http://127.0.0.1:{port}/v1/models"
    assert "start the server there" in found.next


def test_tls_where_there_is_none() -> None:
    """It answers the TLS greeting, which is no HTTP, by hanging up."""
    upstream = ScriptedUpstream(replies(200, LIST))

    async def serve() -> Asked:
        await upstream.start()
        try:
            return await asyncio.to_thread(asked, upstream.url.replace("http:", "https:"))
        finally:
            await upstream.aclose()

    [found] = look_at(asyncio.run(serve()))
    assert found.level == "fail"
    assert found.what.startswith("cannot be reached: 127.0.0.1:")
    assert "or the other way round" in found.next


def test_a_proxy_that_is_not_there() -> None:
    with closed_port() as port:
        environ = {"KEY": KEY, "HTTP_PROXY": f"http://127.0.0.1:{port}"}
        [found] = look_at(asked("http://upstream.example", environ=environ))
    assert found.level == "fail"
    assert "the proxy from the environment" in found.what
    assert "NO_PROXY" in found.next


@pytest.mark.parametrize(
    ("status", "level", "words"),
    [
        (401, "fail", "keys for each region"),
        (403, "fail", "plan or its region"),
        (402, "fail", "balance"),
        (404, "advice", "with its `/v1`"),
        (429, "advice", "wait"),
        (503, "fail", "its state"),
    ],
)
def test_what_a_refusal_means(status: int, level: str, words: str) -> None:
    found, _ = answered(replies(status, {"error": {"message": f"no, {KEY}"}}))
    [told] = look_at(found)
    assert (told.level, f"HTTP {status}" in told.what) == (level, True)
    assert words in told.next
    assert "MARKER" not in repr(told)


def test_a_list_that_is_none_and_a_list_that_the_configuration_has() -> None:
    assert [one.level for one in look_at(answered(replies(200, "hello"))[0])] == ["advice"]
    assert [one.level for one in look_at(answered(replies(404, {}), models=["mine"])[0])] == ["ok"]


# --- what it means ----------------------------------------------------------------------------------------------------


def test_a_backend_that_is_switched_off_is_no_failure() -> None:
    [found] = look_at(Asked("a.default", off="is switched off"))
    assert (found.level, found.where) == ("advice", "a.default")


@pytest.mark.parametrize(("kind", "level"), [("bug", "fail"), ("protocol", "advice"), ("timeout", "fail")])
def test_failures_that_have_no_status(kind: Kind, level: str) -> None:
    assert look_at(Asked("a", True, address="x", error=ConnectorError(kind, "it")))[0].level == level


def test_who_can_log_in_is_told_how() -> None:
    refused = ConnectorError("auth", "no", status=401)
    [found] = look_at(Asked("a", True, address="x", error=refused, can_log_in=True))
    assert found.next == "`llmgate auth login a`"


@pytest.mark.parametrize(
    ("off", "level", "words"), [(30, "ok", ""), (90, "advice", "ahead"), (-90, "advice", "behind")]
)
def test_the_clock(off: float, level: str, words: str) -> None:
    found, _ = answered(replies(200, LIST, NOW - off))
    right = Asked("b", skew=1.0)
    [told] = look_at_clock([right, found, Asked("c")])
    assert told.level == level
    assert words in told.what


def test_where_no_upstream_tells_the_time_nothing_is_said() -> None:
    assert look_at_clock([Asked("a")]) == []
    assert skew("yesterday", NOW) is None
    assert skew("", NOW) is None


def test_models_that_the_upstream_does_not_list() -> None:
    listed = Asked("a", models=("large", "models/small", "tagged:latest"))
    silent, empty = Asked("b"), Asked("c", models=())
    named = [Named(backend, model, "config.yaml:1") for backend in "abc" for model in ("lrge", "small", "tagged")]
    [found] = look_at_models(named, [listed, silent, empty])
    assert (found.level, found.where, found.next) == ("advice", "config.yaml:1", "did you mean `large`?")


@pytest.mark.parametrize(
    ("url", "harmless"),
    [
        ("https://user:sk-MARKER@x.example:8443/v1/models?key=sk-MARKER", "https://x.example:8443/v1/models"),
        ("http://[::1]:9/v1", "http://[::1]:9/v1"),
        ("http://x:port/", "an address that cannot be read"),
    ],
)
def test_an_address_is_shown_without_what_may_be_secret(url: str, harmless: str) -> None:
    assert shown(url) == harmless
