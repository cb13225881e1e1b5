"""Real coding agents create and edit a file through the gateway, and come to an end whatever happens on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest

from . import errand
from .headless import RECIPES, Ended
from .upstreams import MODEL, Chat, Messages, Trouble

if TYPE_CHECKING:
    from .conftest import Desk

every_agent = pytest.mark.parametrize("agent", RECIPES)

WINDOWS = {
    "claude-code": "CLAUDE_CODE_MAX_CONTEXT_TOKENS",
    "codex": "model_context_window",
    "qwen-code": "contextWindowSize",
    "opencode": "limit",
}
"""Each agent's setting of the model's context window."""

TRY_AGAIN = ("codex", "opencode")
"""Who asks again for an answer that broke off; the others end with an error."""

TWO_BRANCHES = f"local:{MODEL}|spare:{MODEL}"


def assert_done(desk: Desk, ended: Ended, upstream: Chat | Messages) -> None:
    """The file is as it should be to the byte, and nothing that reached the upstream was at fault."""
    assert upstream.faults == [], ended.output
    assert ended.status == 0, ended.output
    assert desk.file.read_bytes() == errand.EDITED.encode(), ended.output
    assert errand.DONE in ended.output


@every_agent
def test_it_creates_and_edits_a_file(agent: str, desk: Desk) -> None:
    """With the model's window set, of which the agent says nothing; it sends back what the model thought."""
    upstream = Chat(desk.file, Trouble())
    desk.start("openai-compatible", upstream)
    assert any(WINDOWS[agent] in piece["text"] for piece in desk.printed(agent))
    ended = desk.run(agent)
    assert_done(desk, ended, upstream)
    assert WINDOWS[agent] not in ended.output
    assert upstream.returned == errand.CALLS


@every_agent
def test_it_waits_for_the_end_of_a_rate_limit(agent: str, desk: Desk) -> None:
    """With one branch, it is told of the limit, and tries again by itself."""
    upstream = Chat(desk.file, Trouble(limited=True))
    desk.start("openai-compatible", upstream)
    ended = desk.run(agent)
    assert_done(desk, ended, upstream)
    assert upstream.troubles == desk.statuses().count(429) == 1


@every_agent
def test_it_hears_nothing_of_a_rate_limit_where_another_branch_takes_over(agent: str, desk: Desk) -> None:
    upstream = Chat(desk.file, Trouble(limited=True))
    desk.start("openai-compatible", upstream)
    ended = desk.run(agent, "--model", TWO_BRANCHES)
    assert_done(desk, ended, upstream)
    assert (upstream.troubles, set(desk.statuses())) == (1, {200})


@every_agent
@pytest.mark.parametrize("where", ["arguments", "text"])
def test_it_ends_when_the_upstream_dies(where: Literal["arguments", "text"], agent: str, desk: Desk) -> None:
    """By its own retry, or with an error that says what happened; the file is whole or not there."""
    upstream = Chat(desk.file, Trouble(dies_in=where))
    desk.start("openai-compatible", upstream)
    ended = desk.run(agent)
    assert (upstream.troubles, upstream.faults) == (1, [])
    if agent in TRY_AGAIN:
        assert_done(desk, ended, upstream)
        return
    assert ended.status != 0
    assert "cut the answer off" in ended.output
    if where == "arguments":
        assert not desk.file.exists()
    else:
        assert desk.file.read_bytes() == errand.EDITED.encode()


@every_agent
def test_a_key_that_is_none_of_the_gateways(agent: str, desk: Desk) -> None:
    upstream = Chat(desk.file, Trouble())
    desk.start("openai-compatible", upstream)
    ended = desk.run(agent, key="sk-e2e-wrong")
    assert ended.status != 0
    assert "this key is not one of the gateway's" in ended.output
    assert upstream.requests == []
    assert not desk.file.exists()


def test_thinking_comes_back_unchanged_from_claude_code(desk: Desk) -> None:
    """Messages all the way: the caller's bytes go up, and the signature is what the upstream signed."""
    upstream = Messages(desk.file)
    desk.start("anthropic-compatible", upstream)
    ended = desk.run("claude-code")
    assert_done(desk, ended, upstream)
    assert upstream.returned == errand.CALLS
