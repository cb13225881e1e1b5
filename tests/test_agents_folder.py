"""`agents/` runs real agents, which `make agents` installs; here is what of it needs none."""

from __future__ import annotations

from typing import Any

import pytest
from agents import errand, install, strict
from agents.headless import RECIPES
from agents.upstreams import THOUGHT

from llmgate_core.cli.agents import AGENTS

USER = {"role": "user", "content": "hi"}
DONE = {"role": "tool", "tool_call_id": "a", "content": "done"}
USED = {"role": "assistant", "content": [THOUGHT, {"type": "tool_use", "id": "a", "name": "f", "input": {}}]}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "done"}]}


def calling(arguments: str = "{}") -> dict[str, Any]:
    function = {"name": "f", "arguments": arguments}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "type": "function", "function": function}]}


def test_the_agents_that_run_are_those_that_connect_names() -> None:
    with_tools = {name: agent.version for name, agent in AGENTS.items() if agent.uses_tools}
    assert RECIPES.keys() == with_tools.keys()
    assert list(install.wanted().values()) == list(with_tools.values())


def test_the_errand_is_done_with_whatever_tools_there_are() -> None:
    shell = {"exec_command": ["cmd", "workdir"]}
    files = {"read": ["filePath"], "write": ["content", "filePath"], "edit": ["filePath", "oldString", "newString"]}
    called = [errand.next_call(step, offered, "/p/f") for offered in (shell, files) for step in range(3)]
    assert [call and call[0] for call in called] == ["exec_command", "exec_command", None, "write", "edit", None]
    assert errand.next_call(0, {}, "/p/f") is None
    with pytest.raises(LookupError, match="step 1 with among search"):
        errand.next_call(0, {"search": ["query"]}, "/p/f")


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ([{"role": "system", "content": "x"}, USER, calling(), DONE], None),
        ([USER, {"role": "system", "content": "x"}], "at the beginning"),
        ([{"role": "developer", "content": "x"}], "unknown role"),
        ([USER, DONE], "without a call"),
        ([USER, calling(), DONE, DONE], "without a call"),
        ([USER, calling()], "not answered"),
        ([USER, calling(), USER], "not answered"),
        ([USER, calling('{"x":'), DONE], "no JSON object"),
        ([USER, calling("[]"), DONE], "no JSON object"),
        ([{"role": "user", "content": ""}], "nothing in it"),
    ],
)
def test_what_a_strict_chat_upstream_refuses(messages: list[dict[str, Any]], fault: str | None) -> None:
    found = strict.chat_fault({"messages": messages})
    assert found is None if fault is None else fault in str(found)


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ([USER, USED, RESULT], None),
        ([USER, USED], "not answered"),
        ([USER, RESULT], "results of ['a']"),
        ([USER, {**USED, "content": USED["content"][1:]}, RESULT], "unchanged"),
        ([USER, {**USED, "content": [{**THOUGHT, "signature": "x"}, USED["content"][1]]}, RESULT], "unchanged"),
        ([{"role": "tool", "content": "x"}], "unknown role"),
    ],
)
def test_what_a_strict_messages_upstream_refuses(messages: list[dict[str, Any]], fault: str | None) -> None:
    found = strict.messages_fault({"messages": messages}, THOUGHT)
    assert found is None if fault is None else fault in str(found)
