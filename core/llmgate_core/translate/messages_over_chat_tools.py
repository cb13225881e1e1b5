"""The tools of a Messages request as functions, and which of them the model is to use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..dialects.requests import mistyped
from ..errors import RequestError
from .losses import Losses, is_set, object_in, objects_in, text_in

_HOSTED = ("web_search_", "web_fetch_", "code_execution_", "tool_search_tool_", "mcp_toolset", "advisor_")
_TRAINED = ("bash_", "text_editor_", "memory_", "computer_", "browser_")
"""How the types of Anthropic's own tools begin: those that it runs itself, those that its models were trained on."""

_CHOICE_MEMBERS = ("type", "name", "disable_parallel_tool_use")
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def tools_of(data: Mapping[str, Any], losses: Losses) -> dict[str, Any]:
    """`tools`, `tool_choice` and `parallel_tool_calls`; nothing where no tool can be offered: chat refuses the rest.

    Raises:
        RequestError: a tool or the choice is not as Anthropic's API reference has it.
    """
    tools = []
    for place, tool in enumerate(objects_in(data.get("tools"), "tools")):
        tools += _function(tool, f"tools[{place}]", losses)
    names = {tool["function"]["name"] for tool in tools}
    choice = _choice(object_in(data, "tool_choice", ""), names, losses)
    return {"tools": tools, **choice} if tools else {}


def _function(tool: dict[str, Any], field: str, losses: Losses) -> list[dict[str, Any]]:
    sort = tool.get("type")
    if sort not in (None, "custom") and "input_schema" not in tool:
        losses.add(_loss(str(sort)))
        return []
    _lose_options(tool, losses)
    function: dict[str, Any] = {"name": text_in(tool, "name", field)}
    if tool.get("description") is not None:
        function["description"] = text_in(tool, "description", field)
    if not isinstance(tool.get("input_schema"), dict):
        raise mistyped(f"{field}.input_schema", "an object")
    function["parameters"] = tool["input_schema"]
    if tool.get("strict") is True:
        function["strict"] = True
    return [{"type": "function", "function": function}]


def _loss(sort: str) -> str:
    if sort.startswith(_HOSTED):
        return "tools.hosted"
    return "tools.trained" if sort.startswith(_TRAINED) else "tools.unknown"


def _lose_options(tool: Mapping[str, Any], losses: Losses) -> None:
    for name, value in tool.items():
        if name in ("type", "name", "description", "input_schema", "strict") or not is_set(value) or value is False:
            continue
        losses.add("cache_control" if name == "cache_control" else "tools.options")


def _choice(choice: Mapping[str, Any], names: set[str], losses: Losses) -> dict[str, Any]:
    if not choice:
        return {}
    sort = text_in(choice, "type", "tool_choice")
    said: dict[str, Any] = {}
    if sort in _CHOICES:
        said["tool_choice"] = _CHOICES[sort]
    elif sort == "tool":
        name = text_in(choice, "name", "tool_choice")
        said["tool_choice"] = {"type": "function", "function": {"name": name}}
        if name not in names:
            del said["tool_choice"]
            losses.add("tool_choice")
    else:
        message = "`tool_choice.type` must be `auto`, `any`, `tool` or `none`"
        raise RequestError(message, code="invalid_value", param="tool_choice.type")
    if any(is_set(value) for name, value in choice.items() if name not in _CHOICE_MEMBERS):
        losses.add("members")
    if sort == "any" and not names:
        losses.add("tool_choice")
    if choice.get("disable_parallel_tool_use") is True:
        said["parallel_tool_calls"] = False
    return said
