"""A selector's parameters arrive in the upstream's own spelling, whatever the caller speaks: as the docs say."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llmgate_core.builtin import AnthropicCompatibleConnector
from llmgate_core.policies.edit_precision import EditPrecisionSettings
from llmgate_core.policies.uri_params import PARAMETERS

if TYPE_CHECKING:
    from tests.conftest import GatewayFactory, RunningGateway

    from llmgate_core.testing import Exchange

DOCS = Path(__file__).parents[2] / "docs" / "selectors.md"
VALUES: dict[str, Any] = {
    **{"temperature": 0.2, "top_p": 0.9, "top_k": 5, "max_tokens": 100, "reasoning_effort": "low"},
    **{"thinking_budget": 2000, "verbosity": "low", "seed": 1, "presence_penalty": 0.5, "frequency_penalty": 0.25},
}
QUERY = "&".join(f"{name}={value}" for name, value in VALUES.items())
TYPES: dict[str, dict[str, Any]] = {"Messages": {"thinking": {"type": "enabled"}}}
"""What has to stand beside a value."""

SAID = [{"role": "user", "content": "hi"}]
CALLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "Chat Completions": ("/v1/chat/completions", {"messages": SAID}),
    "Messages": ("/v1/messages", {"messages": SAID, "max_tokens": 9}),
    "Responses": ("/v1/responses", {"input": SAID}),
}
UPSTREAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "Chat Completions": ("/v1/chat/completions", {}),
    "Messages": ("/v1/messages", {"connector": AnthropicCompatibleConnector}),
    "Responses": ("/v1/responses", {"extra": {"responses": True}}),
}
PAIRS = [
    *((caller, caller) for caller in CALLERS),
    *(("Chat Completions", "Messages"), ("Messages", "Chat Completions")),
    *(("Responses", "Chat Completions"), ("Responses", "Messages")),
]
REPLIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]},
    "/v1/messages": {
        **{"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"},
        "content": [{"type": "text", "text": "hi"}],
    },
    "/v1/responses": {"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": []},
}


async def any_dialect(exchange: Exchange) -> None:
    await exchange.reply(200, REPLIES[exchange.request.path])


def table() -> dict[str, dict[str, str | None]]:
    """By dialect and parameter, where the docs say that it stands; None for one that has no place."""
    text = DOCS.read_text(encoding="utf-8")
    rows = re.search(r"<!-- spellings -->\n(.*?)<!-- end of spellings -->", text, re.DOTALL)
    assert rows, "docs/selectors.md has no table of spellings"
    (_, *dialects), _, *lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in rows[1].strip().splitlines()
    ]
    return {
        dialect: {name.strip("`"): spelt[place].strip("`") or None for name, *spelt in lines}
        for place, dialect in enumerate(dialects)
    }


SPELT = table()


def placed(spelt: Mapping[str, str | None], beside: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a body in which each value stands at its place."""
    members: dict[str, Any] = {}
    for name, path in spelt.items():
        if path is None:
            continue
        top, *below = path.split(".")
        if below:
            members[top] = {**beside.get(top, {}), **members.get(top, {}), below[0]: VALUES[name]}
        else:
            members[top] = VALUES[name]
    return members


async def asked(running: RunningGateway, caller: str, model: str, **members: Any) -> tuple[Any, Mapping[str, str]]:
    """The body that reaches the upstream, and the headers that come back."""
    path, body = CALLERS[caller]
    content = json.dumps({"model": model, **body, **members}).encode()
    reply = await running.client.post(f"{running.url}{path}", content=content)
    assert reply.status_code == 200, reply.text
    return running.upstream.requests[-1].json(), reply.headers


def test_the_table_tells_of_every_parameter() -> None:
    assert SPELT.keys() == UPSTREAMS.keys()
    for spelt in SPELT.values():
        assert list(spelt) == list(PARAMETERS) == list(VALUES)


@pytest.mark.parametrize(("caller", "upstream"), PAIRS)
def test_each_parameter_arrives_as_the_table_has_it_or_is_told(
    gateway: GatewayFactory, caller: str, upstream: str
) -> None:
    path, backend = UPSTREAMS[upstream]
    unsayable = [name for name, spelt in SPELT[upstream].items() if spelt is None]

    async def run() -> None:
        async with gateway(any_dialect, **backend) as running:
            plain, _ = await asked(running, caller, "m")
            got, headers = await asked(running, caller, f"m?{QUERY}")
            assert running.upstream.requests[-1].path == path
            assert got == {**plain, **placed(SPELT[upstream], TYPES.get(upstream, {}))}
            told = [f"`{name}`: the upstream's dialect cannot say it" for name in unsayable]
            assert headers.get("x-llmgate-warning", "") == ("left out: " + "; ".join(told) if told else "")

    asyncio.run(run())


@pytest.mark.parametrize("caller", CALLERS)
def test_what_no_query_may_say_is_refused_by_its_name(gateway: GatewayFactory, caller: str) -> None:
    path, body = CALLERS[caller]

    async def run() -> None:
        async with gateway(any_dialect) as running:
            for name in ("stop", "stop_sequences", "max_output_tokens", "max_completion_tokens", "thinking"):
                reply = await running.client.post(f"{running.url}{path}", json={**body, "model": f"m?{name}=9"})
                assert reply.status_code == 400
                assert f"unknown parameter `{name}`" in reply.json()["error"]["message"]
            assert not running.upstream.requests

    asyncio.run(run())


def test_what_is_forced_or_a_default_and_cannot_be_said_is_left_out_too(gateway: GatewayFactory) -> None:
    backend = {"forced_params": {"seed": 1}, "default_params": {"verbosity": "low"}}

    async def run() -> None:
        async with gateway(any_dialect, connector=AnthropicCompatibleConnector, backend=backend) as running:
            got, headers = await asked(running, "Messages", "m")
            assert got == {"model": "m", **CALLERS["Messages"][1]}
            assert "x-llmgate-warning" not in headers

    asyncio.run(run())


# --- what belongs together --------------------------------------------------------------------------------------------

CLAUDE = "claude-sonnet-4-5"
FAILED_EDIT = [
    {"role": "user", "content": "Include tax."},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "Edit", "input": {}}]},
    {
        "role": "user",
        "content": [
            {
                "type": "tool_result",
                "tool_use_id": "t",
                "content": "<tool_use_error>String to replace not found in file.\nString: x</tool_use_error>",
            }
        ],
    },
]


@pytest.mark.parametrize(
    ("query", "members", "temperature"),
    [
        ("thinking_budget=2000", {}, None),
        ("thinking_budget=0", {}, 0.2),
        ("", {"thinking": {"type": "disabled"}}, 0.2),
        ("", {"thinking": {"type": "adaptive"}}, None),
        ("thinking_budget=0", {"thinking": {"type": "adaptive"}}, 0.2),
        ("reasoning_effort=none", {"thinking": {"type": "enabled", "budget_tokens": 2000}}, 0.2),
        ("reasoning_effort=none&thinking_budget=2000", {}, None),
        ("reasoning_effort=low", {}, 0.2),
    ],
)
def test_edit_precision_beside_a_budget_of_the_selectors(
    gateway: GatewayFactory, query: str, members: dict[str, Any], temperature: float | None
) -> None:
    """Claude refuses other temperatures than 1 while it thinks, and takes them where it does not."""
    settings = EditPrecisionSettings(enabled=True)
    extra = {"models": [CLAUDE]}

    async def run() -> None:
        async with gateway(
            any_dialect, connector=AnthropicCompatibleConnector, extra=extra, edit_precision=settings
        ) as running:
            said = {"messages": FAILED_EDIT, "max_tokens": 4000, **members}
            got, headers = await asked(running, "Messages", f"{CLAUDE}?{query}" if query else CLAUDE, **said)
            assert got.get("temperature") == temperature
            assert ("x-llmgate-edit-precision" in headers) is (temperature is not None)

    asyncio.run(run())


@pytest.mark.parametrize("caller", ["Chat Completions", "Messages", "Responses"])
def test_a_budget_gives_way_to_a_temperature_of_the_callers(gateway: GatewayFactory, caller: str) -> None:
    async def run() -> None:
        extra = {"models": [CLAUDE]}
        async with gateway(any_dialect, connector=AnthropicCompatibleConnector, extra=extra) as running:
            got, headers = await asked(running, caller, f"{CLAUDE}?thinking_budget=2000", temperature=0.5)
            assert (got["temperature"], "thinking" in got) == (0.5, False)
            assert "`thinking_budget`" in headers["x-llmgate-warning"]
            got, headers = await asked(running, caller, f"{CLAUDE}?thinking_budget=2000", temperature=1)
            assert got["thinking"] == {"type": "enabled", "budget_tokens": 2000}
            assert "x-llmgate-warning" not in headers

    asyncio.run(run())
