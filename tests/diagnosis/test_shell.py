"""Variables that nobody reads, agents that ask at the wrong path, proxies that swallow what is for the gateway."""

from __future__ import annotations

import pytest

from llmgate_core.diagnosis.shell import base_urls, proxies, unread, variables_named

GATEWAY = "http://127.0.0.1:8000"


def test_a_misspelt_variable_is_told_with_what_was_meant() -> None:
    [near, far] = unread(["LLMGATE_PROT", "LLMGATE_PORT", "LLMGATE_ZZZZZZ", "PATH"], {"LLMGATE_PORT"})
    assert (near.where, near.next, near.level) == ("LLMGATE_PROT", "did you mean LLMGATE_PORT?", "advice")
    assert "llmgate serve --help" in far.next


def test_variables_that_a_configuration_names() -> None:
    extra = {"api_key": "env:A", "headers": [{"x": "env:B"}], "n": 1, "plain": "environment"}
    assert sorted(variables_named(extra)) == ["A", "B"]


@pytest.mark.parametrize(
    ("name", "url", "level"),
    [
        ("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1", None),
        ("OPENAI_BASE_URL", "http://localhost:8000/v1/", None),
        ("OPENAI_BASE_URL", "http://127.0.0.1:8000", "fail"),
        ("OPENAI_API_BASE", "http://localhost:8000/", "fail"),
        ("OPENAI_API_BASE", "http://[::1]:8000/v1/v1", "fail"),
        ("OPENAI_BASE_URL", "https://127.0.0.1:8000/v1", "fail"),
        ("ANTHROPIC_BASE_URL", "http://127.0.0.1:8000", None),
        ("ANTHROPIC_BASE_URL", "http://127.0.0.1:8000/v1", "advice"),
        ("ANTHROPIC_BASE_URL", "http://127.0.0.1:8000/v1/v1", "fail"),
        ("OPENAI_BASE_URL", "http://127.0.0.1:8001", None),
        ("OPENAI_BASE_URL", "https://api.openai.example", None),
        ("OPENAI_BASE_URL", "http://127.0.0.1:x", None),
        ("OPENAI_BASE_URL", "http://[", None),
        ("OPENAI_BASE_URL", "", None),
    ],
)
def test_base_urls_of_agents(name: str, url: str, level: str | None) -> None:
    found = base_urls({name: url}, GATEWAY)
    assert [one.level for one in found] == ([level] if level else [])
    if found:
        right = GATEWAY if name.startswith("ANTHROPIC") else f"{GATEWAY}/v1"
        assert found[0].next == f"`export {name}={right}`"


def test_two_keys_of_anthropic_matter_only_where_they_come_here() -> None:
    keys = {"ANTHROPIC_API_KEY": "sk-MARKER", "ANTHROPIC_AUTH_TOKEN": "sk-MARKER"}
    [found] = base_urls({**keys, "ANTHROPIC_BASE_URL": GATEWAY}, GATEWAY)
    assert (found.level, found.where) == ("advice", "ANTHROPIC_API_KEY")
    assert "MARKER" not in repr(found)
    assert base_urls(keys, GATEWAY) == []
    assert base_urls({"ANTHROPIC_API_KEY": "x", "ANTHROPIC_BASE_URL": GATEWAY}, GATEWAY) == []


@pytest.mark.parametrize(
    ("environ", "swallowed"),
    [
        ({}, False),
        ({"HTTP_PROXY": "http://p"}, True),
        ({"all_proxy": "http://p", "NO_PROXY": "localhost"}, True),
        ({"HTTPS_PROXY": "http://p"}, False),
        ({"HTTP_PROXY": "http://p", "NO_PROXY": "localhost, 127.0.0.1"}, False),
        ({"http_proxy": "http://p", "no_proxy": "*"}, False),
    ],
)
def test_a_proxy_that_would_get_what_is_for_the_gateway(environ: dict[str, str], swallowed: bool) -> None:
    assert [one.level for one in proxies(environ, GATEWAY)] == (["advice"] if swallowed else [])
