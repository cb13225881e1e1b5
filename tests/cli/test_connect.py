"""`llmgate connect`: the lines for each agent, what the test says, and that no key is ever printed."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llmgate_core.cli.agents import AGENTS, Target
from llmgate_core.testing import Exchange, ScriptedUpstream

if TYPE_CHECKING:
    from tests.cli.conftest import Run, Write

KEY = "sk-MARKER-connect"
URL = "http://127.0.0.1:8000"
SECONDS = 60.0

LISTED = {
    "object": "list",
    "data": [
        {"id": "a:large", "context_length": 1000, "top_provider": {"max_completion_tokens": 100}},
        {"id": "b:small", "context_length": 500, "top_provider": {"max_completion_tokens": 200}},
        {"id": "b:unknown"},
    ],
}
CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "get_weather", "arguments": ""}}

Script = Callable[[Exchange], Awaitable[None]]
Gateways = Callable[[Script], str]


@pytest.fixture
def gateway() -> Iterator[Gateways]:
    with ExitStack() as stack:
        yield lambda script: stack.enter_context(ScriptedUpstream.in_thread(script)).url


def chat(*deltas: dict[str, Any], finish: str | None = "tool_calls") -> Script:
    """A gateway that answers in chat's dialect."""

    async def script(exchange: Exchange) -> None:
        if exchange.request.path == "/v1/models":
            await exchange.reply(200, LISTED)
            return
        for delta in deltas:
            await exchange.sse({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        if finish:
            await exchange.sse({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        await exchange.sse("[DONE]")

    return script


def arguments(*pieces: str) -> list[dict[str, Any]]:
    head = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    return [head, *[{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in pieces]]


WORKS = chat(*arguments('{"city": ', '"杭州"}'))


def refuses(status: int, content: Any, *, models: bool = False) -> Script:
    async def script(exchange: Exchange) -> None:
        if exchange.request.path == "/v1/models" and not models:
            await exchange.reply(200, LISTED)
        else:
            await exchange.reply(status, content)

    return script


# --- the lines of each agent ------------------------------------------------------------------------------------------

FULL = Target(URL, False, "local:m?temperature=0.2", 65536, 8192)
KEYED = Target(URL, True, "local:m")

GOLDEN = {
    "claude-code": (
        """\
[in the shell]
export ANTHROPIC_BASE_URL=http://127.0.0.1:8000
export ANTHROPIC_AUTH_TOKEN=any
export ANTHROPIC_MODEL='local:m?temperature=0.2'
export ANTHROPIC_DEFAULT_OPUS_MODEL="$ANTHROPIC_MODEL"
export ANTHROPIC_DEFAULT_SONNET_MODEL="$ANTHROPIC_MODEL"
export ANTHROPIC_DEFAULT_HAIKU_MODEL="$ANTHROPIC_MODEL"
export CLAUDE_CODE_SUBAGENT_MODEL="$ANTHROPIC_MODEL"
export CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1
export CLAUDE_CODE_MAX_CONTEXT_TOKENS=65536
claude""",
        """\
[in the shell]
export ANTHROPIC_BASE_URL=http://127.0.0.1:8000
export ANTHROPIC_AUTH_TOKEN="$LLMGATE_KEY"
export ANTHROPIC_MODEL=local:m
export ANTHROPIC_DEFAULT_OPUS_MODEL="$ANTHROPIC_MODEL"
export ANTHROPIC_DEFAULT_SONNET_MODEL="$ANTHROPIC_MODEL"
export ANTHROPIC_DEFAULT_HAIKU_MODEL="$ANTHROPIC_MODEL"
export CLAUDE_CODE_SUBAGENT_MODEL="$ANTHROPIC_MODEL"
export CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1
claude""",
    ),
    "codex": (
        """\
[in ~/.codex/config.toml, the first lines above every [table]]
model = "local:m?temperature=0.2"
model_provider = "llmgate"
model_context_window = 65536

[model_providers.llmgate]
name = "llmgate"
base_url = "http://127.0.0.1:8000/v1"
env_key = "LLMGATE_KEY"
wire_api = "responses"
[in the shell]
export LLMGATE_KEY=any
codex""",
        """\
[in ~/.codex/config.toml, the first lines above every [table]]
model = "local:m"
model_provider = "llmgate"

[model_providers.llmgate]
name = "llmgate"
base_url = "http://127.0.0.1:8000/v1"
env_key = "LLMGATE_KEY"
wire_api = "responses"
[in the shell]
codex""",
    ),
    "qwen-code": (
        """\
[in ~/.qwen/settings.json]
{
  "model": {
    "generationConfig": {
      "contextWindowSize": 65536
    }
  }
}
[in the shell]
export OPENAI_BASE_URL=http://127.0.0.1:8000/v1
export OPENAI_API_KEY=any
export OPENAI_MODEL='local:m?temperature=0.2'
qwen --auth-type openai""",
        """\
[in the shell]
export OPENAI_BASE_URL=http://127.0.0.1:8000/v1
export OPENAI_API_KEY="$LLMGATE_KEY"
export OPENAI_MODEL=local:m
qwen --auth-type openai""",
    ),
    "opencode": (
        """\
[in opencode.json of the project, or ~/.config/opencode/opencode.json]
{
  "model": "llmgate/local:m?temperature=0.2",
  "small_model": "llmgate/local:m?temperature=0.2",
  "provider": {
    "llmgate": {
      "npm": "@ai-sdk/openai-compatible",
      "options": {
        "baseURL": "http://127.0.0.1:8000/v1",
        "apiKey": "any"
      },
      "models": {
        "local:m?temperature=0.2": {
          "limit": {
            "context": 65536,
            "output": 8192
          }
        }
      }
    }
  }
}
[in the shell]
opencode""",
        """\
[in opencode.json of the project, or ~/.config/opencode/opencode.json]
{
  "model": "llmgate/local:m",
  "small_model": "llmgate/local:m",
  "provider": {
    "llmgate": {
      "npm": "@ai-sdk/openai-compatible",
      "options": {
        "baseURL": "http://127.0.0.1:8000/v1",
        "apiKey": "{env:LLMGATE_KEY}"
      },
      "models": {
        "local:m": {}
      }
    }
  }
}
[in the shell]
opencode""",
    ),
    "aider": (
        """\
[in .aider.model.metadata.json of the project or of the home folder]
{
  "openai/local:m?temperature=0.2": {
    "max_input_tokens": 65536,
    "max_output_tokens": 8192,
    "litellm_provider": "openai",
    "mode": "chat"
  }
}
[in the shell]
export OPENAI_API_BASE=http://127.0.0.1:8000/v1
export OPENAI_API_KEY=any
aider --model 'openai/local:m?temperature=0.2' --weak-model 'openai/local:m?temperature=0.2' \
--editor-model 'openai/local:m?temperature=0.2'""",
        """\
[in the shell]
export OPENAI_API_BASE=http://127.0.0.1:8000/v1
export OPENAI_API_KEY="$LLMGATE_KEY"
aider --model openai/local:m --weak-model openai/local:m --editor-model openai/local:m""",
    ),
}


@pytest.mark.parametrize("name", AGENTS)
def test_the_lines_of_each_agent(name: str) -> None:
    for target, golden in zip((FULL, KEYED), GOLDEN[name], strict=True):
        pieces = AGENTS[name].pieces(target)
        assert "\n".join(f"[{piece.where}]\n{piece.text}" for piece in pieces) == golden


@pytest.mark.parametrize("name", AGENTS)
def test_a_selector_of_all_signs_stays_one_word(name: str) -> None:
    model = """a:x$(id)'"`;&|b:y\\z"""
    for piece in AGENTS[name].pieces(Target(URL, False, model, 1, 1)):
        if piece.where == "in the shell":
            exports = piece.text.rpartition("\n")[0]
            command = piece.text.rpartition("\n")[2] if name == "aider" else ""
            script = f'aider() {{ printf \'%s\\n\' "$2"; }}\n{exports}\n{command}\necho "$ANTHROPIC_MODEL$OPENAI_MODEL"'
            done = subprocess.run(["sh", "-c", script], capture_output=True, encoding="utf-8", check=True)
            assert set(done.stdout.split("\n")) <= {model, f"openai/{model}", ""}
        elif piece.text.startswith("{"):
            assert (
                model
                in json.dumps(json.loads(piece.text), ensure_ascii=False).replace('\\"', '"').replace("\\\\", "\\")
                or name == "qwen-code"
            )
