"""The gateway that plugins' tests start: real to its ends, closed at the end, and silent about no failed script."""

from __future__ import annotations

import ast
import asyncio
import json
import subprocess
import sys
import textwrap
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from llmgate_core import ApiKey, CredentialProvider, OpenAICompatible, RetryAfter, RetryPolicy, Secret
from llmgate_core.errors import ConfigError, PluginError
from llmgate_core.testing import Exchange, LoopbackGateway, ScriptedUpstream, http_client, pytest_plugin

if TYPE_CHECKING:
    from llmgate_core.testing import GatewayFactory, GatewayOptions

KEY = "sk-acme-0123456789abcdef"


@dataclass(frozen=True)
class AcmeSettings:
    base_url: str = "https://api.acme.example/v1"
    api_key: Secret = Secret("env:ACME_KEY")  # noqa: RUF009 - it cannot be changed


class Acme(OpenAICompatible):
    name = "acme"
    settings: AcmeSettings

    def credentials(self) -> CredentialProvider:
        return ApiKey(self.settings.api_key, self.instance.environ)

    def retry(self) -> RetryPolicy:
        return RetryAfter(max_wait=60)


@dataclass(frozen=True)
class ElsewhereSettings:
    host: str


class Elsewhere(OpenAICompatible):
    name = "elsewhere"
    settings: ElsewhereSettings

    def base_url(self, credential: object) -> str:
        return f"{self.settings.host}/other"


@dataclass(frozen=True)
class HomelySettings:
    base_url: str


class Homely(OpenAICompatible):
    name = "homely"
    settings: HomelySettings

    def own_headers(self) -> dict[str, str]:
        return {"x-home": str(self.instance.home), "x-now": str(self.instance.clock())}


async def hello(exchange: Exchange) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}
    await exchange.reply(200, {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]})


async def wrong(exchange: Exchange) -> None:
    raise AssertionError("this upstream had expected something else")


# --- the fixture -----------------------------------------------------------------------------------------------------


def test_a_request_goes_through_the_connector_to_the_script(llmgate_gateway: GatewayFactory) -> None:
    gateway = llmgate_gateway(Acme, hello, environ={"ACME_KEY": KEY})
    answer = gateway.chat(model="acme:large", temperature=0.2)
    assert (answer.status, answer.json()["choices"][0]["message"]["content"]) == (200, "Hello.")
    assert answer.headers["x-llmgate-backend"] == "acme.default"
    [request] = gateway.requests
    assert (request.path, request.headers["authorization"]) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert (request.json()["model"], request.json()["temperature"]) == ("large", 0.2)
    record = gateway.finished()
    assert (record.outcome, record.selector, gateway.records) == ("ok", "acme:large", [record])


def test_it_serves_a_test_with_a_loop_of_its_own(llmgate_gateway: GatewayFactory) -> None:
    async def run() -> None:
        gateway = llmgate_gateway(Acme, hello, environ={"ACME_KEY": KEY})
        async with http_client() as http:
            reply = await http.send("GET", f"{gateway.url}/healthz")
            assert (reply.status, await reply.read()) == (200, b'{"status":"ok"}')
        assert gateway.chat().status == 200  # blocks this loop, and nobody else needs it

    asyncio.run(run())


def test_the_home_folder_is_the_tests_own(llmgate_gateway: GatewayFactory, tmp_path: Path) -> None:
    gateway = llmgate_gateway(Homely, hello)
    gateway.chat()
    assert gateway.requests[0].headers["x-home"] == str(tmp_path)


def test_several_gateways_may_run_at_once_one_before_the_other(llmgate_gateway: GatewayFactory) -> None:
    behind = llmgate_gateway(Acme, hello, environ={"ACME_KEY": KEY})
    before = llmgate_gateway("openai-compatible", f"{behind.url}/v1")
    assert before.chat(model="any").status == 200
    assert [len(gateway.records) for gateway in (behind, before) if gateway.finished()] == [1, 1]


def test_pytest_finds_it_closes_what_it_started_and_fails_where_a_script_has(tmp_path: Path) -> None:
    source = """
        import threading
        from llmgate_core.testing import Exchange

        async def wrong(exchange: Exchange) -> None:
            raise AssertionError("this upstream had expected something else")

        def test_a_failing_script(llmgate_gateway):
            assert llmgate_gateway("openai-compatible", wrong).chat().status == 502

        def test_nothing_is_left():
            assert [thread.name for thread in threading.enumerate()] == ["MainThread"]
    """
    (tmp_path / "test_it.py").write_text(textwrap.dedent(source))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "test_it.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "2 passed, 1 error" in done.stdout, done.stdout
    assert "AssertionError: this upstream had expected something else" in done.stdout


# --- the pytest plugin -----------------------------------------------------------------------------------------------


def test_loading_the_plugin_imports_pytest_and_nothing_else() -> None:
    """It is loaded wherever llmgate-core is installed, whoever's tests run."""
    program = (
        "import sys, json, pytest; before = set(sys.modules); import llmgate_core.testing.pytest_plugin; "
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {name for name in json.loads(done.stdout) if name.partition(".")[0] not in sys.stdlib_module_names} == {
        "llmgate_core",
        "llmgate_core.testing",
        "llmgate_core.testing.pytest_plugin",
    }


def test_the_plugin_owns_what_it_defines_for_pytest() -> None:
    """No fixture or hook but its own: a plugin that everybody has must change nobody's tests."""
    tree = ast.parse(Path(pytest_plugin.__file__).read_text(encoding="utf-8"))
    defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert defined == ["llmgate_gateway"]
    [fixture] = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    assert [ast.unparse(mark) for mark in fixture.decorator_list] == ["pytest.fixture"], "it must not be automatic"


# --- in the test's own loop ------------------------------------------------------------------------------------------


def test_a_stream_is_seen_while_the_script_still_writes_it() -> None:
    async def run() -> None:
        seen = asyncio.Event()

        async def slowly(exchange: Exchange) -> None:
            await exchange.sse({"choices": [{"index": 0, "delta": {"content": "one"}, "finish_reason": None}]})
            await seen.wait()
            await exchange.sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, "[DONE]")

        async with LoopbackGateway(Acme, slowly, environ={"ACME_KEY": KEY}) as gateway:
            body = b'{"model": "m", "stream": true, "messages": [{"role": "user", "content": "Hello"}]}'
            headers = {"content-type": "application/json"}
            url = f"{gateway.url}/v1/chat/completions"
            reply = await gateway.http.send("POST", url, headers=headers, content=body)
            assert b"one" in await anext(reply.chunks)
            seen.set()
            assert (await reply.read()).endswith(b"data: [DONE]\n\n")
            assert (await gateway.finished()).outcome == "ok"

    asyncio.run(asyncio.wait_for(run(), 30))


def test_the_events_of_a_stream_can_be_read_at_once() -> None:
    async def stream(exchange: Exchange) -> None:
        await exchange.sse({"choices": [{"index": 0, "delta": {"content": "one"}, "finish_reason": "stop"}]}, "[DONE]")

    with LoopbackGateway.in_thread(Acme, stream, environ={"ACME_KEY": KEY}) as gateway:
        first, last = gateway.chat(stream=True).events()
    assert (first["choices"][0]["delta"], last) == ({"content": "one"}, "[DONE]")


def test_a_failed_script_is_told_at_the_end() -> None:
    async def run() -> None:
        async with LoopbackGateway(Acme, wrong, environ={"ACME_KEY": KEY}) as gateway:
            assert (await gateway.chat()).status == 502

    with pytest.raises(AssertionError, match="had expected something else"):
        asyncio.run(run())
    with (
        pytest.raises(AssertionError, match="had expected something else"),
        LoopbackGateway.in_thread(Acme, wrong, environ={"ACME_KEY": KEY}) as gateway,
    ):
        gateway.chat()


def test_a_failing_test_is_told_before_a_failed_script() -> None:
    with (
        pytest.raises(AssertionError, match="this test is at fault"),
        LoopbackGateway.in_thread(Acme, wrong, environ={"ACME_KEY": KEY}) as gateway,
    ):
        assert gateway.chat().status == 200, "this test is at fault"


# --- options ---------------------------------------------------------------------------------------------------------


def test_the_configuration_is_read_like_an_operators() -> None:
    config = {
        "failover_routes": {"usual": "acme:small"},
        "backends": {"acme": {"forced_params": {"temperature": 0.5}}, "acme.second": {"extra": {"api_key": KEY}}},
    }
    with LoopbackGateway.in_thread(Acme, hello, config=config, environ={"ACME_KEY": KEY}) as gateway:
        assert gateway.chat(model="usual", temperature=1.0).headers["x-llmgate-backend"] == "acme.default"
        assert [request.json()["temperature"] for request in gateway.requests] == [0.5]
        models = gateway.request("GET", "/readyz").json()
    assert "acme.second" in str(models)


def test_the_clock_is_the_connectors() -> None:
    with LoopbackGateway.in_thread(Homely, hello, clock=lambda: 7.0, home=Path("/elsewhere")) as gateway:
        gateway.chat()
        assert [gateway.requests[0].headers[name] for name in ("x-home", "x-now")] == ["/elsewhere", "7.0"]


def test_settings_may_be_made_of_the_upstreams_address() -> None:
    with LoopbackGateway.in_thread(Elsewhere, hello, extra=lambda url: {"host": url}) as gateway:
        assert gateway.chat().status == 200
        assert [request.path for request in gateway.requests] == ["/v1/other/chat/completions"]


def test_an_upstream_may_run_elsewhere() -> None:
    with (
        ScriptedUpstream.in_thread(hello) as upstream,
        LoopbackGateway.in_thread(Acme, f"{upstream.url}/deep/v1", environ={"ACME_KEY": KEY}) as gateway,
    ):
        assert gateway.chat().status == 200
        with pytest.raises(RuntimeError, match="give it a script"):
            _ = gateway.upstream
    assert [request.path for request in upstream.requests] == ["/deep/v1/chat/completions"]


@pytest.mark.parametrize(
    ("connector", "options", "words"),
    [
        (
            Acme,
            {"extra": {"api_kye": KEY}},
            r"the configuration: unknown key `extra.api_kye`; did you mean `api_key`\?",
        ),
        (
            Acme,
            {"config": {"server": {"prot": 1}}},
            r"the configuration: unknown key `server.prot`; did you mean `port`\?",
        ),
        ("acmee", {}, "no installed plugin provides connector `acmee`"),
    ],
)
def test_a_mistake_refuses_the_start_and_leaves_nothing_open(
    connector: type[Acme] | str, options: GatewayOptions, words: str
) -> None:
    before = threading.active_count()
    with (
        pytest.raises((ConfigError, PluginError), match=words) as refused,
        LoopbackGateway.in_thread(connector, hello, **options),
    ):
        pass
    assert KEY not in str(refused.value)
    assert threading.active_count() == before
