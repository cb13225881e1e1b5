"""The tools of a chat request as Anthropic Messages has them, and which of them the model may or must call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..dialects.requests import mistyped
from .chat_over_messages_rules import is_set, lose_beside
from .losses import Losses, object_of, objects_in, text_in, unsupported

Tool = dict[str, Any]

_TOOL_MEMBERS = frozenset({"type", "function", "cache_control"})
_FUNCTION_MEMBERS = frozenset({"name", "description", "parameters", "strict"})


def tools_of(data: Mapping[str, Any], called: tuple[str, ...], losses: Losses) -> dict[str, Any]:
    """The members `tools` and `tool_choice`.

    Args:
        called: the tools that the conversation has called. Messages wants such to be defined; where the request
            defines none, they are defined by their names, and the model must not call them.

    Raises:
        RequestError: a tool or a choice cannot be said, and must not be left out.
    """
    tools = _defined(data, losses)
    choice, allowed = _choice(data)
    if allowed is not None:
        tools = [tool for tool in tools if tool["name"] in allowed]
    if choice["type"] in ("any", "tool") and not any(
        tool["name"] == choice.get("name", tool["name"]) for tool in tools
    ):
        losses.add("tool_choice")
        choice = {"type": "auto"}
    if not tools:
        told = [{"name": name, "input_schema": {"type": "object"}} for name in called]
        return {"tools": told, "tool_choice": {"type": "none"}} if told else {}
    alone = data.get("parallel_tool_calls") is False or is_legacy(data)
    if alone and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return {"tools": tools} if choice == {"type": "auto"} else {"tools": tools, "tool_choice": choice}


def is_legacy(data: Mapping[str, Any]) -> bool:
    """Whether the caller speaks of `functions`, the predecessor of `tools`, and wants to be answered so."""
    return is_set(data.get("functions")) and not is_set(data.get("tools"))


def must_call(told: Mapping[str, Any]) -> bool:
    """Whether the members that `tools_of` gave demand a call."""
    return told.get("tool_choice", {}).get("type") in ("any", "tool")


def _defined(data: Mapping[str, Any], losses: Losses) -> list[Tool]:
    if is_legacy(data):
        functions = objects_in(data["functions"], "functions")
        return [_tool(function, f"functions[{place}]", losses) for place, function in enumerate(functions)]
    tools = []
    for place, tool in enumerate(objects_in(data.get("tools"), "tools")):
        tools += _tools_of_one(tool, f"tools[{place}]", losses)
    return tools


def _tools_of_one(tool: Mapping[str, Any], field: str, losses: Losses) -> list[Tool]:
    sort = text_in(tool, "type", field)
    if sort == "custom":
        raise unsupported(f"{field}.type", "is `custom`, and this backend can only call functions")
    if sort != "function":
        losses.add("tools.unknown")
        return []
    lose_beside(losses, tool, _TOOL_MEMBERS, "tools.options")
    found = _tool(object_of(tool.get("function"), f"{field}.function"), f"{field}.function", losses)
    cache = tool.get("cache_control")
    return [{**found, "cache_control": cache} if is_set(cache) else found]


def _tool(function: Mapping[str, Any], field: str, losses: Losses) -> Tool:
    losses.add_if(is_set(function.get("strict")), "tools.strict")
    lose_beside(losses, function, _FUNCTION_MEMBERS, "tools.options")
    told: Tool = {"name": text_in(function, "name", field)}
    if is_set(function.get("description")):
        told["description"] = text_in(function, "description", field)
    # Messages insists on the type, which chat lets one leave out: then there are no parameters.
    schema = object_of(function.get("parameters"), f"{field}.parameters")
    return {**told, "input_schema": schema if "type" in schema else {"type": "object", **schema}}


def _choice(data: Mapping[str, Any]) -> tuple[dict[str, Any], frozenset[str] | None]:
    """`tool_choice`, and the names of the tools that may be called where those are not all."""
    field = "function_call" if is_legacy(data) else "tool_choice"
    value = data.get(field)
    if value is None:
        return {"type": "auto"}, None
    if isinstance(value, str):
        return _choice_by_word(value, field), None
    choice = object_of(value, field)
    if is_legacy(data):
        return {"type": "tool", "name": text_in(choice, "name", field)}, None
    sort = text_in(choice, "type", field)
    if sort == "allowed_tools":
        return _allowed(object_of(choice.get(sort), f"{field}.{sort}"), f"{field}.{sort}")
    if sort != "function":
        raise unsupported(f"{field}.type", "must be `function` or `allowed_tools`")
    function = object_of(choice.get("function"), f"{field}.function")
    return {"type": "tool", "name": text_in(function, "name", f"{field}.function")}, None


def _choice_by_word(word: Any, field: str) -> dict[str, Any]:
    words = {"auto": "auto", "none": "none", "required": "any", "any": "any"}
    if not isinstance(word, str) or word not in words:
        raise mistyped(field, "`auto`, `none`, `required` or an object")
    return {"type": words[word]}


def _allowed(value: Mapping[str, Any], field: str) -> tuple[dict[str, Any], frozenset[str]]:
    tools = objects_in(value.get("tools"), f"{field}.tools")
    functions = [
        object_of(tool.get("function"), f"{field}.tools[{place}].function") for place, tool in enumerate(tools)
    ]
    names = [text_in(one, "name", f"{field}.tools[{place}].function") for place, one in enumerate(functions)]
    return _choice_by_word(value.get("mode") or "auto", f"{field}.mode"), frozenset(names)
