"""How coding agents are pointed at a gateway. Nothing here asks anybody; `connect` prints it.

`make agents` tries the lines with the real agents, in the versions that are named here. aider, and the model of
Claude Code's subagents, are as published or as seen by hand.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Dialect = Literal["chat", "messages", "responses"]

KEY_VARIABLE = "LLMGATE_KEY"
"""The shell variable that holds the gateway's key; the key itself is never printed."""

NO_KEY = "any"
"""Agents want a key; a gateway without keys takes whatever comes."""

SHELL = "in the shell"


@dataclass(frozen=True)
class Target:
    """What an agent is pointed at.

    Args:
        url: the gateway's, without `/v1`.
        needs_key: whether the gateway asks for one.
        model: a selector.
        context: tokens of the model's window, None where it is not known.
        max_output: tokens that it writes at most, likewise.
    """

    url: str
    needs_key: bool
    model: str
    context: int | None = None
    max_output: int | None = None

    @property
    def v1(self) -> str:
        """The base URL of clients that speak OpenAI's dialects."""
        return f"{self.url}/v1"

    @property
    def key(self) -> str:
        """The key as a shell reads it."""
        return f'"${KEY_VARIABLE}"' if self.needs_key else NO_KEY


@dataclass(frozen=True)
class Piece:
    """Lines to copy, and where they go: the shell, or a file with what else stands in it."""

    where: str
    text: str


@dataclass(frozen=True)
class Agent:
    """One agent.

    Args:
        name: as `connect` takes it.
        version: which one was tried.
        dialect: what it speaks.
        pieces: what to copy.
        uses_tools: whether it offers the model tools.
    """

    name: str
    version: str
    dialect: Dialect
    pieces: Callable[[Target], Sequence[Piece]]
    uses_tools: bool = True


def _shell(variables: dict[str, str], command: str = "") -> Piece:
    """Exports, then the command; the values are quoted already."""
    lines = [f"export {name}={value}" for name, value in variables.items()]
    return Piece(SHELL, "\n".join([*lines, command] if command else lines))


def _json(where: str, content: dict[str, Any]) -> Piece:
    return Piece(where, json.dumps(content, indent=2, ensure_ascii=False))


# --- one function an agent --------------------------------------------------------------------------------------------


def _claude_code(to: Target) -> Sequence[Piece]:
    """One model for every role: what it asks for by a name of Anthropic's would be asked for here too.

    It takes 200,000 tokens for the window of a model that it does not know, unless it is told.
    """
    same = '"$ANTHROPIC_MODEL"'
    variables = {
        "ANTHROPIC_BASE_URL": shlex.quote(to.url),
        "ANTHROPIC_AUTH_TOKEN": to.key,
        "ANTHROPIC_MODEL": shlex.quote(to.model),
        "ANTHROPIC_DEFAULT_OPUS_MODEL": same,
        "ANTHROPIC_DEFAULT_SONNET_MODEL": same,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": same,
        "CLAUDE_CODE_SUBAGENT_MODEL": same,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    if to.context is not None:
        variables["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] = str(to.context)
    return [_shell(variables, "claude")]


def _codex(to: Target) -> Sequence[Piece]:
    """It takes the name of a variable for the key, so that one is wanted even where any key will do."""
    lines = [f"model = {_toml(to.model)}", 'model_provider = "llmgate"']
    if to.context is not None:
        lines.append(f"model_context_window = {to.context}")
    lines += [
        "",
        "[model_providers.llmgate]",
        'name = "llmgate"',
        f"base_url = {_toml(to.v1)}",
        f'env_key = "{KEY_VARIABLE}"',
        'wire_api = "responses"',
    ]
    file = Piece("in ~/.codex/config.toml, the first lines above every [table]", "\n".join(lines))
    return [file, _shell({} if to.needs_key else {KEY_VARIABLE: NO_KEY}, "codex")]


def _toml(text: str) -> str:
    """A basic string; its escapes are JSON's, for text that can be printed."""
    return json.dumps(text, ensure_ascii=False)


def _qwen_code(to: Target) -> Sequence[Piece]:
    variables = {
        "OPENAI_BASE_URL": shlex.quote(to.v1),
        "OPENAI_API_KEY": to.key,
        "OPENAI_MODEL": shlex.quote(to.model),
    }
    shell = _shell(variables, "qwen --auth-type openai")
    if to.context is None:
        return [shell]
    window = {"model": {"generationConfig": {"contextWindowSize": to.context}}}
    return [_json("in ~/.qwen/settings.json", window), shell]


def _opencode(to: Target) -> Sequence[Piece]:
    """`small_model` writes titles. A `limit` has both numbers or is refused; without one nothing is compacted."""
    model: dict[str, Any] = {}
    if to.context is not None and to.max_output is not None:
        model["limit"] = {"context": to.context, "output": to.max_output}
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": to.v1, "apiKey": f"{{env:{KEY_VARIABLE}}}" if to.needs_key else NO_KEY},
        "models": {to.model: model},
    }
    name = f"llmgate/{to.model}"
    content = {"model": name, "small_model": name, "provider": {"llmgate": provider}}
    return [
        _json("in opencode.json of the project, or ~/.config/opencode/opencode.json", content),
        _shell({}, "opencode"),
    ]


def _aider(to: Target) -> Sequence[Piece]:
    name = f"openai/{to.model}"
    variables = {"OPENAI_API_BASE": shlex.quote(to.v1), "OPENAI_API_KEY": to.key}
    roles = " ".join(f"--{role} {shlex.quote(name)}" for role in ("model", "weak-model", "editor-model"))
    shell = _shell(variables, f"aider {roles}")
    if to.context is None:
        return [shell]
    facts: dict[str, Any] = {"max_input_tokens": to.context}
    if to.max_output is not None:
        facts["max_output_tokens"] = to.max_output
    facts |= {"litellm_provider": "openai", "mode": "chat"}
    return [_json("in .aider.model.metadata.json of the project or of the home folder", {name: facts}), shell]


AGENTS = {
    agent.name: agent
    for agent in (
        Agent("claude-code", "2.1.197", "messages", _claude_code),
        Agent("codex", "0.169.0", "responses", _codex),
        Agent("qwen-code", "0.15.10", "chat", _qwen_code),
        Agent("opencode", "1.18.33", "chat", _opencode),
        Agent("aider", "0.86.2", "chat", _aider, uses_tools=False),
    )
}
