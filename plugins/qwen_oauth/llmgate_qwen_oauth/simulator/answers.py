"""What the simulated model says: a pure, deterministic function of the request, whole or as a stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

_PIECE = 12  # characters of text in one chunk
_ARGUMENTS_PIECE = 10  # characters of a tool call's arguments in one chunk
_DEPTH = 6  # levels of a JSON Schema that are followed


@dataclass(frozen=True)
class ToolCall:
    """One call; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Answer:
    """What the model says, before it is put into a reply or a stream."""

    id: str
    model: str
    created: int
    text: str
    reasoning: str
    calls: tuple[ToolCall, ...]
    usage: dict[str, Any]

    @property
    def finish_reason(self) -> str:
        """`tool_calls` or `stop`."""
        return "tool_calls" if self.calls else "stop"


Script = Callable[[dict[str, Any]], tuple[str, dict[str, Any]] | None]
"""Says which tool is called with which arguments, None for none."""


def compose(body: dict[str, Any], number: int, now: float, script: Script | None = None) -> Answer:
    """Decides what to say.

    Tools offered and a user's turn last: tool calls. A tool's result since the model's last turn: a text about it.
    Else: a text that echoes the user.

    Args:
        body: a request that has passed `shape.read_chat`.
        number: counts the answers, for ids.
        now: Unix time in seconds.
        script: decides about calls in place of all that, where tools may be called.
    """
    result = _new_result(body["messages"])
    said = _text_of((result or body["messages"][-1]).get("content"))
    if script is not None:
        calls = _scripted(body, script, number)
    else:
        calls = _tool_calls(body, said, number) if result is None else ()
    text = "" if calls else _about_tool(said) if result else _echo(said)
    reasoning = "先想一想。Thinking about it first." if body.get("enable_thinking") else ""
    usage = _usage(body, text + reasoning + "".join(call.arguments for call in calls))
    return Answer(f"chatcmpl-sim-{number}", body["model"], int(now), text, reasoning, calls, usage)


def _new_result(messages: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The last result of a tool since the model itself has spoken, whoever spoke behind it."""
    for message in reversed(messages):
        if message["role"] in ("tool", "assistant"):
            return message if message["role"] == "tool" else None
    return None


def reply(answer: Answer) -> dict[str, Any]:
    """The body of a plain answer."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in answer.calls
        ]
    choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason, "logprobs": None}
    return {**_envelope(answer, "chat.completion"), "choices": [choice], "usage": answer.usage}


def stream(answer: Answer, include_usage: bool) -> Iterator[bytes]:
    """The writes of a streamed answer; the first event with Chinese in it is cut inside a character."""
    cut = False
    for event in _events(answer, include_usage):
        at = next((i + 1 for i, byte in enumerate(event) if byte >= 0x80), 0)
        if at and not cut:
            cut = True
            yield event[:at]
            yield event[at:]
        else:
            yield event


def _events(answer: Answer, include_usage: bool) -> Iterator[bytes]:
    envelope = _envelope(answer, "chat.completion.chunk")
    unsaid = {"usage": None} if include_usage else {}
    for delta, finish in [*((delta, None) for delta in _deltas(answer)), ({}, answer.finish_reason)]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        yield _event({**envelope, "choices": [choice], **unsaid})
    if include_usage:
        yield _event({**envelope, "choices": [], "usage": answer.usage})
    yield b"data: [DONE]\n\n"


def _deltas(answer: Answer) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": ""}
    for piece in _pieces(answer.reasoning, _PIECE):
        yield {"reasoning_content": piece}
    for piece in _pieces(answer.text, _PIECE):
        yield {"content": piece}
    for index, call in enumerate(answer.calls):
        opening = {"name": call.name, "arguments": ""}
        yield {"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": opening}]}
        for piece in _pieces(call.arguments, _ARGUMENTS_PIECE):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _envelope(answer: Answer, kind: str) -> dict[str, Any]:
    return {"id": answer.id, "object": kind, "created": answer.created, "model": answer.model}


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def _pieces(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def _echo(said: str) -> str:
    return f"你好！这里是模拟的通义千问。你说：「{said}」。This is a simulated Qwen; you said: {said}"


def _about_tool(result: str) -> str:
    return f"工具返回了：「{result}」。The tool answered: {result}"


def _text_of(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", f"[{part['type']}]")) for part in content)
    return content or ""


def _usage(body: dict[str, Any], said: str) -> dict[str, Any]:
    """Plausible numbers: about four bytes of JSON, or two characters of answer, to the token."""
    asked = json.dumps([body["messages"], body.get("tools")], ensure_ascii=False).encode()
    prompt, completion = len(asked) // 4 + 1, len(said) // 2 + 1
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def _tool_calls(body: dict[str, Any], said: str, number: int) -> tuple[ToolCall, ...]:
    functions = [tool["function"] for tool in body.get("tools") or []]
    choice = body.get("tool_choice")
    if choice == "none":
        return ()
    if isinstance(choice, dict):
        functions = [f for f in functions if f["name"] == choice.get("function", {}).get("name")]
    count = 2 if body.get("parallel_tool_calls") is True else 1
    return tuple(
        ToolCall(f"call_sim_{number}_{index}", function["name"], _arguments(function, said))
        for index, function in enumerate(functions[:count])
    )


def _scripted(body: dict[str, Any], script: Script, number: int) -> tuple[ToolCall, ...]:
    call = script(body) if body.get("tools") and body.get("tool_choice") != "none" else None
    return (ToolCall(f"call_sim_{number}_0", call[0], json.dumps(call[1], ensure_ascii=False)),) if call else ()


def _arguments(function: dict[str, Any], said: str) -> str:
    schema = function.get("parameters") or {}
    return json.dumps(sample({"type": "object", **schema}, said), ensure_ascii=False)


def sample(schema: Any, said: str, name: str = "", root: Any = None, depth: int = 0) -> Any:
    """A value that fits a JSON Schema as tools use it (types, enums, bounds, nesting, local `$ref`).

    Args:
        said: the user's words; fields for a query or a text repeat them.
        name: the name of the field that is filled.
        root: the schema in which a `$ref` is looked up; the outermost one when None.
    """
    root = schema if root is None else root
    schema = _resolved(schema, root)
    for given in ("const", "default"):
        if given in schema:
            return schema[given]
    for listed in ("enum", "examples"):
        if schema.get(listed):
            return schema[listed][0]
    kind = _kind(schema)
    if kind in ("object", "array"):
        return _nested(kind, schema, said, name, root, depth + 1)
    return _text(schema, said, name) if kind == "string" else _simple(kind, schema)


def _resolved(schema: Any, root: Any) -> dict[str, Any]:
    """Follows local references, and takes the first alternative that is not null."""
    for _ in range(_DEPTH):
        if not isinstance(schema, dict):
            return {}
        alternatives = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
        if "$ref" in schema:
            schema = _lookup(str(schema["$ref"]), root)
        elif alternatives:
            schema = next((one for one in alternatives if one != {"type": "null"}), {})
        else:
            return schema
    return {}


def _lookup(reference: str, root: Any) -> Any:
    found = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        found = found.get(step) if isinstance(found, dict) else None
    return found


def _kind(schema: dict[str, Any]) -> str:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    return str(kind)


def _nested(kind: str, schema: dict[str, Any], said: str, name: str, root: Any, depth: int) -> Any:
    if kind == "array":
        items = 0 if depth > _DEPTH else max(1, schema.get("minItems", 0))
        return [sample(schema.get("items"), said, name, root, depth) for _ in range(items)]
    properties = schema.get("properties") or {}
    wanted = [] if depth > _DEPTH else schema.get("required", list(properties))
    return {key: sample(properties.get(key), said, key, root, depth) for key in wanted}


def _simple(kind: str, schema: dict[str, Any]) -> Any:
    if kind == "boolean":
        return True
    if kind in ("integer", "number"):
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
        return min(low, schema.get("maximum", low))
    return None


# Harmless values: an agent at the other end may really run the tool. The first word found in the name wins.
_WORDS = {
    "command": "echo 你好",
    "cmd": "echo 你好",
    "path": "README.md",
    "file": "README.md",
    "url": "https://example.com/",
    "city": "杭州",
    "location": "杭州",
    "date": "2026-01-31",
    "email": "someone@example.com",
}
_REPEATING = ("query", "text", "prompt", "question", "message")


def _text(schema: dict[str, Any], said: str, name: str) -> str:
    hints = f"{name} {schema.get('format', '')}".lower()
    value = next((value for word, value in _WORDS.items() if word in hints), "示例")
    if any(word in hints for word in _REPEATING):
        value = said or value
    return value[: schema.get("maxLength")].ljust(schema.get("minLength", 0), "。")
