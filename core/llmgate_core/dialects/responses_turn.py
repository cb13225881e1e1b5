"""What a Responses request tells the model that it does not know yet: everything after the last item of its own.

One turn of the model's is several items here: reasoning, messages, calls. So what is told to the model is recognized,
and whatever else there is counts as its own: an old failure must not look new because of an item that nobody knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from ..wire import Body, last_first
from .turns import ToolResult, Turn, decoded, has_any, member, text_of, tool_names

_TOLD_BY = ("user", "system", "developer")
_TOLD = ("additional_tools", "mcp_approval_response", "compaction_trigger")
_NAMED = ("function_call", "custom_tool_call")


def read_turn(body: Body, is_worth_it: Callable[[bytes], bool]) -> Turn | None:
    """The news in a request's body; None if there are none that are worth the reading.

    What is not as OpenAI's API reference has it is left out: it is the upstream's to judge. So is what the upstream
    remembers by `previous_response_id`: it is not in the body.

    Args:
        is_worth_it: told the JSON text of each new item; if all are refused, nothing is decoded.
    """
    raw = body.raw("input") or b""
    # In a text the quotes would be escaped.
    has_tools = has_any(body, "tools") or b'"additional_tools"' in raw
    if raw.startswith(b'"'):
        raw = b'[{"role":"user","content":%b}]' % raw
    if not raw.startswith(b"["):
        return None
    news: list[bytes] = []
    own: list[bytes] = []
    items = last_first(raw)
    for item in items:
        if not _is_told(item):
            own.append(item)
            break
        news.append(item)
    if not any(map(is_worth_it, news)):
        return None
    for item in items:
        if _is_told(item):
            break  # it makes no call
        own.append(item)
    return _turn(decoded(reversed(news)), own, items, has_tools=has_tools)


def _is_told(item: bytes) -> bool:
    sort = member(item, "type")
    if sort is None or sort == "message":
        return member(item, "role") in _TOLD_BY
    return isinstance(sort, str) and (sort.endswith("_output") or sort in _TOLD)


def _turn(news: list[dict[str, Any]], own: list[bytes], earlier: Iterable[bytes], *, has_tools: bool) -> Turn:
    answers = [(_answered_call(item), item) for item in news if str(item.get("type")).endswith("_call_output")]
    said = [item for item in news if item.get("role") == "user" and item.get("type") in (None, "message")]
    names = tool_names({call for call, _ in answers if call is not None}, chain(own, earlier), _calls)
    # Codex names the tool in some outputs, too; the call may be known to the upstream only.
    results = [(item.get("name") if call not in names else names[call], item) for call, item in answers]
    messages = [item for item in decoded(reversed(own)) if item.get("role") == "assistant"] if said else []
    return Turn(
        tuple(ToolResult(name, text_of(item.get("output"))) for name, item in results if isinstance(name, str)),
        None if has_tools or not said else text_of(said[-1].get("content")),
        "\n".join(text_of(item.get("content")) for item in messages),
    )


def _answered_call(item: dict[str, Any]) -> str | None:
    """The id of the call that an output answers; a local shell's output has it as its own."""
    found = item.get("call_id")
    if found is None and item.get("type") == "local_shell_call_output":
        found = item.get("id")
    return found if isinstance(found, str) else None


def _calls(item: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """A tool of a namespace has its own name; what is no function is called as its type says: `local_shell`."""
    sort = item.get("type")
    if not isinstance(sort, str) or not sort.endswith("_call"):
        return
    name = item.get("name") if sort in _NAMED else sort.removesuffix("_call")
    for key in ("call_id", "id") if sort == "local_shell_call" else ("call_id",):
        if isinstance(item.get(key), str) and isinstance(name, str):
            yield item[key], name
