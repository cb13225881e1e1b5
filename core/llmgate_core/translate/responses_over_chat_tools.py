"""The tools of a Responses request as functions of Chat Completions, and calls of them as the caller knows them.

Chat has functions with one flat name each. So

- a `function` stays one;
- the tools of a `namespace` get its name in front: `crm` and `find` make `crm__find`;
- a `custom` tool becomes a function with one text, `input`;
- `local_shell` becomes a function with the members of its action;
- `tool_search`, where the client runs it, becomes a function with the tool's own parameters.

Who runs a tool decides whether it can be offered: what OpenAI runs itself is left out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..dialects.requests import mistyped
from ..wire import JsonError, decode, encode
from .losses import Losses, is_set, objects_in, text_in, unsupported

MAX_NAME = 64
"""Characters of a function's name (OpenAI's API reference)."""

LOCAL_SHELL = "local_shell"
TOOL_SEARCH = "tool_search"

_HOSTED = re.compile(
    r"(web_search|file_search|code_interpreter|computer|image_generation|mcp|tool_search|shell|apply_patch"
    r"|programmatic_tool_calling)(_|$)"
)
_TOLD = frozenset({"type", "name", "description", "parameters", "strict", "format"})
_UNFIT = re.compile(r"[^a-zA-Z0-9_-]")


@dataclass(frozen=True)
class Tool:
    """A tool as the caller knows it."""

    kind: Literal["function", "custom", "local_shell", "tool_search"]
    name: str
    namespace: str | None = None


class Toolbox:
    """What one request offers to the model.

    Attributes:
        definitions: the tools as chat has them.
    """

    def __init__(self, losses: Losses) -> None:
        self.definitions: list[dict[str, Any]] = []
        self._losses = losses
        self._tools: dict[str, Tool] = {}  # by their names in chat
        self._names: dict[tuple[str | None, str], str] = {}

    def offer(self, tools: Any, field: str) -> None:
        """Adds tools; of two with one name the first stays.

        Args:
            field: how the caller knows them, such as `tools`.

        Raises:
            RequestError: they are no tools.
        """
        for place, tool in enumerate(objects_in(tools, field)):
            self._offer(tool, f"{field}[{place}]")

    def _offer(self, tool: dict[str, Any], field: str) -> None:
        sort = tool.get("type")
        if sort == "namespace":
            self._offer_namespace(tool, field)
        elif sort in ("function", "custom"):
            self._add(tool, field, None, "")
        elif sort == LOCAL_SHELL:
            self._put(Tool("local_shell", LOCAL_SHELL), _LOCAL_SHELL)
        elif sort == TOOL_SEARCH and tool.get("execution") == "client":
            self._lose_options(tool, {*_TOLD, "execution"})
            self._put(Tool("tool_search", TOOL_SEARCH), _function(tool, [str(tool.get("description") or "")]))
        else:
            self._losses.add("tools.hosted" if _HOSTED.match(str(sort)) else "tools.unknown")

    def _offer_namespace(self, tool: dict[str, Any], field: str) -> None:
        namespace = text_in(tool, "name", field)
        self._lose_options(tool, ("type", "name", "description", "tools"))
        about = tool.get("description")
        for place, nested in enumerate(objects_in(tool.get("tools"), f"{field}.tools")):
            if nested.get("type") in ("function", "custom"):
                self._add(nested, f"{field}.tools[{place}]", namespace, about if isinstance(about, str) else "")
            else:
                self._losses.add("tools.unknown")

    def _add(self, tool: dict[str, Any], field: str, namespace: str | None, about: str) -> None:
        name = text_in(tool, "name", field)
        self._lose_options(tool, _TOLD)
        described = [about, str(tool.get("description") or "")]
        if tool["type"] == "custom":
            self._put(Tool("custom", name, namespace), self._custom(tool, described))
        else:
            self._put(Tool("function", name, namespace), _function(tool, described))

    def _lose_options(self, tool: dict[str, Any], told: Collection[str]) -> None:
        if any(is_set(value) and value is not False for key, value in tool.items() if key not in told):
            self._losses.add("tools.options")

    def _custom(self, tool: dict[str, Any], described: list[str]) -> dict[str, Any]:
        form = tool.get("format")
        if isinstance(form, dict) and form.get("type") == "grammar":
            self._losses.add("tools.custom.format")
            syntax, definition = form.get("syntax", ""), form.get("definition", "")
            described = [*described, f"`input` must follow this grammar ({syntax}):\n{definition}"]
        return {**_described(described), "parameters": _CUSTOM_PARAMETERS}

    def _put(self, tool: Tool, function: Mapping[str, Any]) -> None:
        if (tool.namespace, tool.name) in self._names:
            return
        name = _free(_flat(tool.namespace, tool.name), self._tools)
        self._names[tool.namespace, tool.name] = name
        self._tools[name] = tool
        self.definitions.append({"type": "function", "function": {"name": name, **function}})

    def keep_only(self, chosen: set[str]) -> None:
        """Withdraws all tools but those with these names in chat."""
        self.definitions = [tool for tool in self.definitions if tool["function"]["name"] in chosen]

    def spelt(self, name: str, namespace: str | None) -> str:
        """A tool's name in chat; one that is not offered (any more) gets the name that it would have."""
        return self._names.get((namespace, name)) or _flat(namespace, name)

    def names(self, tools: Any) -> list[str]:
        """The names in chat of tools that have been offered."""
        found: list[str] = []
        for tool in tools or ():
            is_space = tool.get("type") == "namespace"
            space, nested = (tool["name"], tool.get("tools") or ()) if is_space else (None, (tool,))
            named = ((space, str(one.get("name", one.get("type")))) for one in nested)
            found += [self._names[name] for name in named if name in self._names]
        return found

    def known(self, spelt: str) -> Tool:
        """The tool with this name in chat; what nobody has offered is a function of that name."""
        return self._tools.get(spelt) or Tool("function", spelt)

    def choice(self, value: Any) -> Any:
        """`tool_choice` as chat has it, None where it says nothing. Offers only the tools that it allows.

        Raises:
            RequestError: it is none.
        """
        if value is None or isinstance(value, str):
            return self._mode(value)
        if not isinstance(value, dict):
            raise mistyped("tool_choice", "a string or an object")
        if value.get("type") == "allowed_tools":
            allowed = objects_in(value.get("tools"), "tool_choice.tools")
            self.keep_only({spelt for tool in allowed if (spelt := self._chosen(tool))})
            return self._mode(value.get("mode"))
        name = self._chosen(value)
        if name is None:
            self._losses.add("tool_choice")
            return None
        return {"type": "function", "function": {"name": name}}

    def _mode(self, value: Any) -> Any:
        if value not in (None, "auto", "none", "required"):
            raise unsupported("tool_choice", "must be `auto`, `none`, `required` or name a tool")
        if not self.definitions:
            self._losses.add_if(value == "required", "tool_choice")
            return None
        return value

    def _chosen(self, choice: Mapping[str, Any]) -> str | None:
        name = choice.get("name") if choice.get("type") in ("function", "custom") else choice.get("type")
        namespace = choice.get("namespace")
        spelt = self._names.get(
            (namespace if isinstance(namespace, str) else None, name if isinstance(name, str) else "")
        )
        offered = (tool["function"]["name"] for tool in self.definitions)
        return spelt if spelt in offered else None


def _function(tool: Mapping[str, Any], described: list[str]) -> dict[str, Any]:
    told = {name: tool[name] for name in ("parameters", "strict") if tool.get(name) is not None}
    return {**_described(described), **told}


def _described(parts: list[str]) -> dict[str, str]:
    text = "\n\n".join(part for part in parts if part)
    return {"description": text} if text else {}


_CUSTOM_PARAMETERS: Mapping[str, Any] = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "The tool's whole input, as plain text."}},
    "required": ["input"],
    "additionalProperties": False,
}

_LOCAL_SHELL: Mapping[str, Any] = {
    "description": "Runs a command on the user's machine and returns its output.",
    "parameters": {
        "type": "object",
        "properties": {
            "command": {"type": "array", "items": {"type": "string"}, "description": "The program and its arguments."},
            "working_directory": {"type": "string"},
            "timeout_ms": {"type": "integer"},
            "env": {"type": "object", "additionalProperties": {"type": "string"}},
        },
        "required": ["command"],
    },
}

# --- names --------------------------------------------------------------------------------------------------


def _flat(namespace: str | None, name: str) -> str:
    """One name for both, fit for chat. One that is too long ends with a hash of all of it: it stays the same."""
    if namespace is None:
        return name
    whole = f"{namespace}{name}" if namespace.endswith("__") else f"{namespace}__{name}"
    fit = _UNFIT.sub("_", whole)
    if len(fit) <= MAX_NAME:
        return fit
    return f"{fit[: MAX_NAME - 9]}_{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def _free(name: str, taken: Mapping[str, Any]) -> str:
    number, free = 2, name
    while free in taken:
        free = f"{name[: MAX_NAME - 4]}_{number}"
        number += 1
    return free


# --- arguments ----------------------------------------------------------------------------------------------


def arguments_of_input(text: str) -> str:
    """The arguments that stand for a custom tool's input."""
    return encode({"input": text}).decode()


def input_of_arguments(arguments: str) -> str:
    """A custom tool's input: `input`, or the only text there is; else whatever the model wrote instead."""
    try:
        value = decode(arguments.encode())
    except JsonError:
        return arguments
    members = value if isinstance(value, dict) else {}
    text = next(iter(members.values())) if len(members) == 1 else members.get("input")
    return text if isinstance(text, str) else arguments


def object_of_arguments(arguments: str) -> dict[str, Any]:
    """The arguments themselves; what is no object becomes an empty one, for the client to refuse."""
    try:
        value = decode(arguments.encode())
    except JsonError:
        return {}
    return value if isinstance(value, dict) else {}


def action_of_arguments(arguments: str) -> dict[str, Any]:
    """What the local shell has to do; what is no command is handed on as one, for the client to refuse."""
    try:
        value = decode(arguments.encode())
    except JsonError:
        value = None
    if not isinstance(value, dict):
        return {"type": "exec", "command": [arguments], "env": {}}
    command, env = value.get("command"), value.get("env")
    told = {name: value[name] for name in ("timeout_ms", "user", "working_directory") if value.get(name) is not None}
    return {
        "type": "exec",
        "command": [str(part) for part in command] if isinstance(command, list) else [str(command or "")],
        "env": {key: str(part) for key, part in env.items()} if isinstance(env, dict) else {},
        **told,
    }
