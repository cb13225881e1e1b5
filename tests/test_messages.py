"""Every kind of message that a user meets, in one file that reads as prose: tests/messages.txt.

A change of a text shows up there, to be read in review. After a change that is meant:

    LLMGATE_UPDATE_MESSAGES=1 pytest tests/test_messages.py
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.sites import CONNECTOR

from llmgate_core import device_flow
from llmgate_core.cli import StartRefused, main
from llmgate_core.cli.install import refuse_others
from llmgate_core.cli.installer import Environment, install_command, uninstall_command
from llmgate_core.cli.uninstall import distribution_of
from llmgate_core.config import Places, decode_extra, load
from llmgate_core.dialects import chat
from llmgate_core.errors import KINDS, ConnectorError, GatewayError, RequestError
from llmgate_core.installed import AllowedPlugin, Installed
from llmgate_core.max_context import fit
from llmgate_core.plugins import load as load_plugins
from llmgate_core.plugins import settings_type
from llmgate_core.policies.uri_params import UriParams, UriParamsSettings
from llmgate_core.request import GatewayRequest, Params
from llmgate_core.selector import Leaf, Names, parse, resolve
from llmgate_core.testing import Exchange
from llmgate_core.wire import Body

if TYPE_CHECKING:
    from tests.conftest import GatewayFactory

GOLDEN = Path(__file__).parent / "messages.txt"
UPDATE = "LLMGATE_UPDATE_MESSAGES"

MARKER = "sk-MARKER"
"""Stands wherever a user might have put a key; no message may repeat it."""

HEAD = f"(Written by a test. To renew: {UPDATE}=1 pytest tests/test_messages.py; then read the difference.)\n\n"

Section = Iterator[tuple[str, str]]
"""A situation, and what is said in it."""


def raised(call: Callable[[], Any], sort: type[Exception] = GatewayError) -> str:
    with pytest.raises(sort) as caught:
        call()
    return str(caught.value)


# --- the operator's files --------------------------------------------------------------------------------------------

EDIT = "{name: ours, agent: our-agent, tools: [patch]"

CONFIGURATIONS = {
    "not YAML": "server: [",
    "a tab": "server:\n\thost: x",
    "not a mapping": "- a\n- b",
    "a key twice": "server: {}\nserver: {}",
    "an unknown section": "servre: {}",
    "an unknown key": "server: {prot: 1}",
    "an unknown key that resembles none": f"server: {{{MARKER}: 1}}",
    "the wrong type": f"server: {{port: {MARKER}}}",
    "out of bounds": "server: {port: 70000}",
    "not one of the choices": f"logging: {{level: {MARKER}}}",
    "a list expected": f"auth: {{api_keys: {MARKER}}}",
    "a key that is no variable's name": f"auth: {{api_keys: ['env:{MARKER}']}}",
    "a hash that is none": f"auth: {{api_keys: ['sha256:{MARKER}']}}",
    "a backend that is no mapping": f"backends: {{acme: {MARKER}}}",
    "a backend's name": "backends: {'a b': {}}",
    "an alias that is a type": "backends: {acme: {type: other}, acme.x: {}}",
    "type and connector differ": "backends: {acme: {type: acme, connector: other}}",
    "a type other than the name says": "backends: {acme.one: {type: other}}",
    "a default backend that nobody knows": "default_backend: nope.one",
    "a default backend that is switched off": "default_backend: acme\nbackends: {acme: {enabled: false}}",
    "a default backend with several instances": "default_backend: acme\nbackends: {acme.a: {}, acme.b: {}}",
    "a default backend with an empty model": "default_backend: 'acme:'\nbackends: {acme: {}}",
    "a default backend that is misspelt": "default_backend: acme.noe\nbackends: {acme.one: {}}",
    "a host with a scheme": "server: {allowed_hosts: ['https://llm.example']}",
    "an origin with a slash": "server: {allowed_origins: ['https://chat.example/']}",
    "facts of a model": f"backends: {{acme: {{model_facts: {{m: {{contxt: 1, thinking: {MARKER}}}}}}}}}",
    "a parameter that is misspelt": "backends: {acme: {model_facts: {m: {refuses: [temprature]}}}}",
    "a group that is none": "backends: {acme: {model_facts: {m: {excludes: [[top_p]]}}}}",
    "a User-Agent's pattern that is none": f"edit_precision: {{exclude_agents_regex: '[{MARKER}'}}",
    "an edit's failure without words": f"edit_precision: {{patterns: [{EDIT}, texts: ['{{}} {MARKER}']}}]}}",
    "an edit's failure with too few words": f"edit_precision: {{patterns: [{EDIT}, texts: ['no {{}} match']}}]}}",
    "an edit's failure with an unknown key": f"edit_precision: {{patterns: [{EDIT}, text: {MARKER}}}]}}",
    "a rewrite without a pattern": "model_aliases: [{replacement: m}]",
    "a rewrite that is a text": f"model_aliases: ['{MARKER}=m']",
    "a route without a selector": "failover_routes: {coder: ''}",
    "a text for a boolean": f"backends: {{acme: {{enabled: {MARKER}}}}}",
}


def configurations(folder: Path) -> Section:
    main_file = folder / "config.yaml"
    for name, text in CONFIGURATIONS.items():
        main_file.write_text(text, encoding="utf-8")
        problems = load(Places(main_file)).problems
        assert problems, name
        yield name, "\n".join(map(str, problems))
    main_file.write_text("backends: {acme: {}}")
    instances = folder / "instances"
    instances.mkdir()
    (instances / "acme.default.yaml").write_text("extra: {}")
    (instances / "acme.yaml").touch()
    yield "instance files", "\n".join(map(str, load(Places(main_file, instances)).problems))
    yield "a file that is not there", str(load(Places(folder / "nope.yaml")).problems[0])


EXTRAS = {
    "a key is missing": "{}",
    "a key is misspelt": f"{{base_url: http://x, api_kye: {MARKER}}}",
    "the wrong type": "{base_url: 5}",
    "not an address": f"{{base_url: {MARKER}}}",
    "an address with a password": f"{{base_url: 'http://a:{MARKER}@x/v1'}}",
    "an address that is too long": "{base_url: http://x/v1/chat/completions}",
    "a query": f"{{base_url: 'http://x/v1?key={MARKER}'}}",
    "one of a list": "{base_url: http://x, models: [a, 5]}",
    "a secret that is nowhere": "{base_url: http://x, api_key: 'file:'}",
}


def extras(folder: Path) -> Section:
    main_file = folder / "config.yaml"
    cls = settings_type(load_plugins([]).connectors["openai-compatible"])
    for name, text in EXTRAS.items():
        main_file.write_text(f"backends:\n  openai-compatible:\n    extra: {text}\n", encoding="utf-8")
        (backend,) = load(Places(main_file)).config.backends
        _, problems = decode_extra(backend, cls)
        yield name, "\n".join(map(str, problems))


# --- plugins ---------------------------------------------------------------------------------------------------------

HOOK = textwrap.dedent(CONNECTOR)

PLUGIN_FILES = {
    "a dependency is missing": "import frobnicate_sdk",
    "it raises at import": "raise RuntimeError('no licence')",
    "a syntax error": "def broken(:",
    "no API version": HOOK.replace("LLMGATE_PLUGIN_API = 1", ""),
    "for a newer API": HOOK.replace("API = 1", "API = 2"),
    "for an older API": HOOK.replace("API = 1", "API = 0"),
    "a misspelt hook": HOOK.replace("_connectors", "_conectors"),
    "an unmarked hook": HOOK.replace("@hookimpl\n", ""),
    "a marked function that is no hook": HOOK.replace("def llmgate_register_connectors", "def connectors"),
    "a hook with an argument": HOOK.replace("connectors()", "connectors(app)"),
    "a marked function that is nearly a hook": HOOK.replace("def llmgate_register", "def register"),
    "a name that nobody could write": HOOK.replace('"acme"', '"a cme"'),
    "a hook that raises": HOOK.replace("return Acme", "raise KeyError('x')"),
    "an object instead of a class": HOOK.replace("return Acme", "return 'acme'"),
    "a connector without a name": HOOK.replace('name = "acme"', ""),
    "a connector without a method": HOOK.replace("(OpenAICompatible)", ""),
    "settings that are no dataclass": HOOK.replace("settings: None", "settings: dict"),
    "nothing": "LLMGATE_PLUGIN_API = 1",
    "what it asks for is no text": f"LLMGATE_PLUGIN_ASKS_FOR = ['a file']\n{HOOK}",
}


def plugins(folder: Path) -> Section:
    for number, (name, source) in enumerate(PLUGIN_FILES.items()):
        path = folder / f"acme_{number}.py"
        path.write_text(source, encoding="utf-8")
        (problem,) = load_plugins([], files=[path]).problems.values()
        sys.modules.pop(f"llmgate_plugin_file_{path.stem}", None)
        yield name, problem.replace(f"acme_{number}", "acme")
    yield "a file that is not there", load_plugins([], files=[folder / "acme.py"]).problems["acme"]
    yield "not installed", load_plugins(["acme"], block=["qwen-oauth"]).problems["acme"]
    yield "not installed, nearly", load_plugins(["qwen-oath"]).problems["qwen-oath"]
    yield "blocked", load_plugins(["qwen-oauth"], block=["qwen-oauth"]).problems["qwen-oauth"]
    for name, allowed in ALLOWED.items():
        yield name, load_plugins(["qwen-oauth"], allow=allowed).problems["qwen-oauth"]


ALLOWED: dict[str, list[AllowedPlugin | str]] = {
    "not on the list of those allowed": ["llmgate-acme"],
    "allowed with a hash, and editable": [AllowedPlugin("llmgate-qwen-oauth", "0" * 64)],
}


def installations() -> Section:
    """What `llmgate install` and `uninstall` refuse before they call anybody."""
    here = Environment("/env/bin/python")
    for what in ("llmgate", "llmgate-core>=0.2", "--target=x"):
        yield what, raised(partial(install_command, here, [what], Path("constraints.txt")), StartRefused)
    environments = {
        "the operating system's Python": Environment("/usr/bin/python3", is_managed=True),
        "neither pip nor uv": Environment("/env/bin/python", has_pip=False),
    }
    for title, environment in environments.items():
        yield title, raised(partial(uninstall_command, environment, ["llmgate-acme"]), StartRefused)
    one = Installed("acme", "llmgate-acme", "1.0", "llmgate_acme")
    two = Installed("acme", "llmgate-acme-fork", "9", "llmgate_fork")
    for name in ("acmee", "llmgate-acem", "requests"):
        yield f"uninstall {name}", raised(partial(distribution_of, name, [one]), StartRefused)
    yield "uninstall acme, of two", raised(partial(distribution_of, "acme", [one, two]), StartRefused)
    yield "something came, and no plugin", raised(lambda: refuse_others(["acme-sdk", "requests"]), StartRefused)


# --- the command line ------------------------------------------------------------------------------------------------

UNREACHED = [part for rule in ("a=local:m", "a=local:n", ".*=local:m", "b=local:m") for part in ("--model-alias", rule)]

COMMANDS = {
    "nothing configured": ["serve"],
    "no such provider": ["init", "--provider", "opnai"],
    "a key where its place is wanted": ["init", "--provider", "groq", "--key", "not-a-place"],
    "a key of several providers": ["init", "--provider", "groq", "--provider", "ollama", "--key", "env:SOME_KEY"],
    "nothing to write where": ["init", "--provider", "groq", "--dir", "open.yaml/config"],
    "an unknown command": ["chekc"],
    "an unknown flag": ["check", "--prot", "1"],
    "a flag of no plugin": ["serve", "--default-backend", "openai-compatible", "--acme-switch"],
    "an argument where there is none": ["serve", "--config", "open.yaml", "everything"],
    "a plugin that is not installed": ["check", "--config", "missing.yaml"],
    "a plugin file that is not there": ["check", "--config", "unready.yaml", "--plugin", "acme.py"],
    "an open door": ["check", "--config", "open.yaml", "--force-model", "local:m"],
    "rewrites that cannot work": ["check", "--config", "rewrites.yaml", "--model-alias", "gpt-.*=locl:m"],
    "a rewrite without a sign": ["check", "--config", "unready.yaml", "--model-alias", "gpt-4o"],
    "rewrites that are never reached": ["check", "--config", "unready.yaml", *UNREACHED],
    "routes that lead nowhere": ["check", "--config", "routes.yaml"],
    "a key that is not set": ["check", "--config", "unset.yaml"],
    "a backend that is not ready": ["check", "--config", "unready.yaml"],
    "a selector that is wrong": ["explain", "--config", "unready.yaml", "local:m?temperatur=1"],
    "a body that is not JSON": ["explain", "--config", "unready.yaml", "local:m", "--body", "unready.yaml"],
    "a login without a configuration": ["auth", "login"],
    "a login where there is a key": ["auth", "login", "local", "--config", "unready.yaml"],
    "a login nowhere": ["auth", "login", "--config", "unready.yaml"],
    "a login at a backend that is misspelt": ["auth", "login", "loacl", "--config", "unready.yaml"],
    "a login at two backends": ["auth", "login", "local", "other", "--config", "unready.yaml"],
    "a switched-off login": ["auth", "login", "local", "--config", "off.yaml"],
    "credentials": ["auth", "status", "--config", "unready.yaml"],
    "no gateway to ask": ["status", "--url", "http://127.0.0.1:9"],
    "a gateway whose port nobody knows": ["status", "--config", "unready.yaml", "--port", "0"],
    "no address of a gateway": ["status", "--url", "http://anna@127.0.0.1"],
    "an unknown command of `auth`": ["auth", "logon"],
    "a name that no plugin can have": ["plugin", "new", "Acme"],
    "a new plugin with the distribution's name": ["plugin", "new", "llmgate-acme"],
    "a plugin to test that is not there": ["plugin", "test", "minimacks"],
    "a variable without its name": ["plugin", "test", "minimax", "--env", "ACME_KEY"],
    "a folder that is no plugin": ["plugin", "test", "."],
}

LOCAL = "backends: {local: {type: openai-compatible, extra: {base_url: 'http://127.0.0.1:9', api_key: 'env:NOT_SET'}}}"
FILES = {
    "missing.yaml": "# ours\nbackends:\n  acme:\n    type: acme\n",
    "open.yaml": f"server: {{host: 0.0.0.0}}\n{LOCAL}\n",
    "rewrites.yaml": f"""model_aliases:
  - {{pattern: '({MARKER}', replacement: 'local:m'}}
  - {{pattern: '(?={MARKER})', replacement: 'local:m'}}
  - {{pattern: '({MARKER})', replacement: 'local:\\2'}}
  - {{pattern: '(?P<name>{MARKER})', replacement: 'local:\\g<nam>'}}
  - {{pattern: '{MARKER}', replacement: 'local:\\d'}}
  - {{pattern: '(.*)', replacement: 'local:\\1?temperature=9'}}
  - {{pattern: '(.*)', replacement: 'local:\\1?seed'}}
{LOCAL}
""",
    "routes.yaml": f"failover_routes:\n  a b: local:m\n  c: d\n  d: locl:m\n{LOCAL}\n",
    "unset.yaml": f"auth: {{api_keys: ['env:NOT_SET']}}\n{LOCAL}\n",
    "unready.yaml": f"{LOCAL}\n",
    "off.yaml": "backends: {local: {type: openai-compatible, extra: {base_url: 'http://127.0.0.1:9'}, enabled: false}}",
}


def command_line(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Section:
    for name in [name for name in os.environ if name.startswith("LLMGATE_") and name != UPDATE]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("LLMGATE_BLOCK_PLUGINS", "qwen-oauth")
    monkeypatch.chdir(folder)
    for file, text in FILES.items():
        (folder / file).write_text(text)
    for name, arguments in COMMANDS.items():
        monkeypatch.setattr(sys, "argv", ["llmgate", *arguments])
        status: Any = 0
        try:
            main()
        except SystemExit as ended:
            status = ended.code
        printed = capsys.readouterr()
        yield f"{name}: llmgate {' '.join(arguments)}", f"{printed.out}{printed.err}(status {status})"


# --- the device flow -------------------------------------------------------------------------------------------------

BEGINNINGS: dict[str, tuple[int, dict[str, Any]]] = {
    "refused": (400, {"error": "invalid_client", "error_description": MARKER}),
    "refused in other words": (403, {"error": MARKER}),
    "too often": (429, {}),
    "broken": (502, {}),
    "no code": (200, {}),
    "a link that is none": (
        200,
        {"device_code": MARKER, "user_code": "A", "verification_uri": "javascript:x", "expires_in": 9},
    ),
}


def logins() -> Section:
    flow = device_flow.DeviceFlow("https://x/device", "https://x/token", "client", "scope")
    for name, (status, fields) in BEGINNINGS.items():
        yield f"the beginning: {name}", raised(partial(device_flow.read_device_code, status, fields, flow))
    ends = (device_flow.EXPIRED, device_flow.DENIED, device_flow.LIMITED)
    for end in ends:
        yield f"the end: {end.kind}", end.reason
    yield "the end: nothing was heard", device_flow.UNHEARD.format("HTTP 503")


# --- callers ---------------------------------------------------------------------------------------------------------

NAMES = Names(
    enabled=("acme.default", "other.one", "other.two"), disabled=("off.default",), aliases={"fast": "other.one"}
)
SELECTORS = [
    "",
    "x" * 5000,
    "acme:m\x07",
    "acme:a|acme:b^acme:c",
    "acme:a|acme:a",
    "[weight=0]acme:a^acme:b",
    "[wait=1]acme:a",
    "[weight=2]acme:m",
    ":m",
    "acme:",
    "acme: m",
    "acme:m?",
    "acme:m?temperature",
    "acme:m?=1",
    "acme:m?seed=1&seed=2",
    "acme:m?a=%zz",
    "acme:m?a=%ff",
    "m",
    "amce:m",
    "nobody:m",
    "off:m",
    "other:m",
]


def selectors() -> Section:
    def read(text: str) -> None:
        resolve(parse(text), NAMES)

    for text in SELECTORS:
        yield (text[:30].replace("\x07", "<BEL>") or "(empty)"), raised(partial(read, text))
    plan = parse("[max_context=8]acme:m|[max_context=9]acme:n")
    yield str(plan), raised(partial(fit, plan, Body(b'{"messages":[{"role":"user","content":"%b"}]}' % (b"word " * 9))))


QUERIES = ["temperature=9", "temperature=warm", "temperatur=1", "frobnicate=1", "reasoning_effort=some", "seed=1.5"]


def queries() -> Section:
    body = Body.parse(b'{"model":"m","messages":[]}')
    request = GatewayRequest("req_1", chat.DIALECT, "generate", "m", body, False, {})
    for text in QUERIES:
        name, _, value = text.partition("=")
        leaf = Leaf("acme.default", "m", ((name, value),))
        yield text, raised(partial(UriParams(UriParamsSettings()).apply, request, leaf, Params({})))


BODIES = [
    "",
    "{",
    "[]",
    '{"model": "m",}',
    "{}",
    '{"model": 1}',
    '{"model": " "}',
    '{"model": "m"}',
    '{"model": "m", "messages": {}}',
    '{"model": "m", "messages": []}',
    '{"model": "m", "messages": ["hi"]}',
    '{"model": "m", "messages": [{}], "stream": "yes"}',
]


def bodies() -> Section:
    for text in BODIES:
        with pytest.raises(RequestError) as caught:
            chat.read_request(text.encode())
        yield text or "(empty)", f"{caught.value.message} [{caught.value.code}, {caught.value.param}]"


# --- upstreams: as the caller reads it -------------------------------------------------------------------------------

JSON = {"content-type": "application/json"}
GOOD = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}


def failing(status: int, message: str, **fields: Any) -> Callable[[Exchange], Any]:
    async def script(exchange: Exchange) -> None:
        headers = {**JSON, "retry-after": "0"} if status == 429 else JSON
        await exchange.reply(status, {"error": {"message": message, **fields}}, headers)

    return script


async def says_nothing(exchange: Exchange) -> None:
    exchange.cut()


async def resets(exchange: Exchange) -> None:
    exchange.reset()


async def html(exchange: Exchange) -> None:
    page = "<html><title>502</title><h1>Bad gateway</h1></html>"
    await exchange.reply(502, page, {"content-type": "text/html"})


async def empty(exchange: Exchange) -> None:
    await exchange.reply(200, b"", JSON)


async def no_choices(exchange: Exchange) -> None:
    await exchange.reply(200, {"id": "x"}, JSON)


async def cut_off(exchange: Exchange) -> None:
    await exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{")
    exchange.cut()


UPSTREAMS: dict[str, Callable[[Exchange], Any]] = {
    "400": failing(400, "max_tokens is too large", type="invalid_request_error", param="max_tokens"),
    "400, context": failing(400, "maximum context length is 8192 tokens", code="context_length_exceeded"),
    "401": failing(401, "Incorrect API key provided"),
    "402": failing(402, "payment required"),
    "403": failing(403, "your plan does not include this model"),
    "404": failing(404, "no such model"),
    "408": failing(408, "too slow"),
    "429": failing(429, "slow down"),
    "429, quota": failing(429, "You exceeded your current quota", code="insufficient_quota"),
    "500": failing(500, "internal error"),
    "502, a page": html,
    "503": failing(503, "overloaded"),
    "504": failing(504, "took too long"),
    "an error in a 200": failing(200, "no credit left", code="insufficient_balance"),
    "closes without an answer": says_nothing,
    "resets": resets,
    "an empty 200": empty,
    "a 200 without choices": no_choices,
    "a 200 that is cut off": cut_off,
}


REFUSED: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("a path that is none", "/v1/nothing", {}),
    ("GET where POST belongs", "/v1/chat/completions", {}),
    ("a model that is none", "/v1/models/nope", {}),
    ("another Host", "/v1/models", {"host": "evil.example"}),
    ("another Origin", "/v1/models", {"origin": "https://evil.example"}),
)


def upstreams(gateway: GatewayFactory) -> list[tuple[str, str]]:
    said: list[tuple[str, str]] = []
    now = ""

    async def script(exchange: Exchange) -> None:
        await UPSTREAMS[now](exchange)

    async def ask() -> None:
        nonlocal now
        async with gateway(script) as running, asyncio.timeout(20):
            for name in UPSTREAMS:
                now = name
                answer = await running.chat(model="openai-compatible:m")
                error = answer.json()["error"]
                again = answer.headers.get("x-should-retry", "as the client likes")
                facts = f"HTTP {answer.status_code}, {error['type']}, {error['code']}, again: {again}"
                said.append((f"the upstream answers {name}", f"{error['message']}\n({facts})"))
            for name, path, headers in REFUSED:
                answer = await running.client.get(f"{running.url}{path}", headers=headers)
                said.append((name, f"{answer.json()['error']['message']} (HTTP {answer.status_code})"))
            answer = await running.chat(headers={"content-type": "text/plain"})
            said.append(("a body of another type", answer.json()["error"]["message"]))

    asyncio.run(ask())
    return said


REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
CHUNKED = REQUEST + b"transfer-encoding: chunked\r\n\r\n"
UNREADABLE: dict[str, bytes] = {
    "TLS": b"\x16\x03\x01\x02\x00\x01",
    "not HTTP": b"%b\r\n\r\n",
    "an empty first line": b"\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a first line that is too long": b"GET /" + b"x" * 200_000,
    "a head that is too large": REQUEST + b"x: " + b"y" * 200_000,
    "a head that breaks off": REQUEST,
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": REQUEST + b"host: %b\r\n\r\n",
    "a length that is none": REQUEST + b"content-length: %b\r\n\r\n",
    "two lengths": REQUEST + b"content-length: 1\r\ncontent-length: 2\r\n\r\n",
    "a transfer coding": REQUEST + b"transfer-encoding: gzip\r\n\r\n",
    "two transfer codings": REQUEST + b"transfer-encoding: chunked\r\n" * 2 + b"\r\n",
    "a header without a colon": REQUEST + b"authorization %b\r\n\r\n",
    "a header without a name": REQUEST + b": %b\r\n\r\n",
    "a space before the colon": REQUEST + b"authorization : %b\r\n\r\n",
    "a name that is none": REQUEST + b"(x): %b\r\n\r\n",
    "a NUL": REQUEST + b"x-api-key: %b\x00\r\n\r\n",
    "a header that goes on from nothing": b"GET / HTTP/1.1\r\n %b\r\n\r\n",
    "a chunk without a size": CHUNKED + b"%b\r\n",
    "a chunk of another size": CHUNKED + b"2\r\n%b\r\n",
    "a chunk's line that is too long": CHUNKED + b"1" * 200_000,
    "a bad header after the last chunk": CHUNKED + b"0\r\n%b\r\n\r\n",
}


def unreadable(gateway: GatewayFactory) -> list[tuple[str, str]]:
    async def never(exchange: Exchange) -> None:
        raise AssertionError("none of these may go up")

    async def ask(port: int, name: str, sent: bytes) -> tuple[str, str]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent.replace(b"%b", MARKER.encode()))
        if "breaks off" in name:
            writer.write_eof()
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        error = json.loads(body)["error"]
        return name, f"{error['message']}\n(HTTP {head.split()[1].decode()}, {error['code']})"

    async def ask_all() -> list[tuple[str, str]]:
        async with gateway(never) as running, asyncio.timeout(20):
            port = int(running.url.rsplit(":", 1)[1])
            return await asyncio.gather(*(ask(port, name, sent) for name, sent in UNREADABLE.items()))

    return asyncio.run(ask_all())


def kinds() -> Section:
    for kind, facts in KINDS.items():
        answer = chat.error_answer(ConnectorError(kind, "what happened"), context="backend acme.default")
        error = json.loads(answer.body)["error"]
        assert error["message"] == "what happened [llmgate: backend acme.default]"
        yield kind, f"HTTP {answer.status}, {error['type']}, {error['code']}, fails over: {facts.failover}"


# --- the golden file -------------------------------------------------------------------------------------------------


def written(title: str, section: Iterator[tuple[str, str]] | list[tuple[str, str]]) -> str:
    lines = [f"===== {title} =====", ""]
    for situation, message in section:
        lines += [f"# {situation}", textwrap.indent(message.rstrip("\n"), "    "), ""]
    return "\n".join(lines)


def stable(text: str) -> str:
    """Without what differs between machines and runs: paths, lines, ports, ids; and without spaces at line ends."""
    text = re.sub(r" +$", "", text, flags=re.MULTILINE)
    text = re.sub(r"127\.0\.0\.1:\d{4,5}", "127.0.0.1:PORT", text)
    text = re.sub(r"\(/\S+/(site-packages|core)/", "(.../", text)
    text = re.sub(r"(\.py):\d+\)", r"\1:LINE)", text)
    return re.sub(r"req_[0-9a-f]{8,}", "req_ID", text)


def test_messages_are_those_that_were_read(
    gateway: GatewayFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [tmp_path / str(number) for number in range(4)]
    for folder in folders:
        folder.mkdir()
    sections = [
        written("The configuration", configurations(folders[0])),
        written("A backend's `extra`", extras(folders[1])),
        written("Plugins", plugins(folders[2])),
        written("Installing plugins", installations()),
        written("The command line", command_line(folders[3], monkeypatch, capsys)),
        written("The device flow", logins()),
        written("Selectors", selectors()),
        written("A selector's query", queries()),
        written("Request bodies", bodies()),
        written("Requests that cannot be read", unreadable(gateway)),
        written("Upstreams and paths", upstreams(gateway)),
        written("Kinds of failure", kinds()),
    ]
    text = HEAD + stable("\n".join(sections))
    for folder in folders:
        text = text.replace(str(folder), "FOLDER")
    if os.environ.get(UPDATE):
        GOLDEN.write_text(text, encoding="utf-8")
    assert text.splitlines() == GOLDEN.read_text(encoding="utf-8").splitlines(), (
        f"messages have changed; if that is meant, run with {UPDATE}=1 and read the difference of {GOLDEN.name}"
    )


def test_no_message_repeats_a_value() -> None:
    """Unknown keys are repeated, so that they can be found; everything else that is configured is not."""
    lines = [line for line in GOLDEN.read_text(encoding="utf-8").splitlines() if MARKER in line]
    assert [line for line in lines if "unknown key" not in line] == []
