"""What an answer of Chat Completions says, whole or in pieces: read by those who say it in another dialect.

Upstreams differ, so this is generous: texts in parts, arguments that are no text, reasoning under either of its names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..dialects import chat
from ..dialects.failures import reported_error
from ..errors import ConnectorError
from ..sse import Event
from ..wire import JsonError, decode, encode


def reply_of(data: bytes) -> tuple[dict[str, Any], Mapping[str, Any], str | None]:
    """A plain answer's whole object, its first message and its `finish_reason`.

    Raises:
        ConnectorError: it is no answer, or the failure that it reports.
    """
    chat.read_reply(data)
    answer: dict[str, Any] = decode(data)
    choice = answer["choices"][0]
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise ConnectorError("protocol", "the upstream answered without a `message`")
    return answer, message, finish_of(choice)


def chunk_of(event: Event) -> dict[str, Any]:
    """The chunk that an event of a stream holds.

    Raises:
        ConnectorError: it reports a failure, or is no chunk.
    """
    try:
        chunk = decode(event.data)
    except JsonError as error:
        if event.event == "error":
            raise reported_error(event.data) from None
        raise ConnectorError("protocol", f"the upstream's stream holds unusable JSON: {error}") from None
    if event.event == "error" or (isinstance(chunk, dict) and chunk.get("error")):
        raise reported_error(event.data)
    if not isinstance(chunk, dict):
        raise ConnectorError("protocol", "the upstream's stream holds an event that is no object")
    return chunk


def first_choice(chunk: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The choice that counts in a chunk of a stream, None where it has none, such as the one that tells the usage."""
    choices = chunk.get("choices")
    for choice in choices if isinstance(choices, list) else []:
        if isinstance(choice, dict) and choice.get("index") in (0, None):
            return choice
    return None


def finish_of(choice: Mapping[str, Any]) -> str | None:
    """Why the answer has ended, None if it has not.

    Raises:
        ConnectorError: kind `protocol`, it has ended with an error that nobody has told.
    """
    finish = choice.get("finish_reason")
    if finish == "error":
        raise ConnectorError("protocol", "the upstream ended the answer with `finish_reason` `error`")
    return finish if isinstance(finish, str) and finish else None


def reasoning_of(said: Mapping[str, Any]) -> str:
    """The reasoning in a message or delta, under either of the names that are met."""
    return text_of(said.get("reasoning_content")) or text_of(said.get("reasoning"))


def text_of(content: Any) -> str:
    """A content's text; some upstreams send it in parts."""
    if isinstance(content, list):
        return "".join(text_of(part.get("text")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def calls_of(said: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The calls in a message or delta; `function_call` is what they were called once."""
    calls = said.get("tool_calls")
    if isinstance(calls, list):
        return [call for call in calls if isinstance(call, dict)]
    function = said.get("function_call")
    return [{"index": 0, "function": function}] if isinstance(function, dict) else []


def id_of(call: Mapping[str, Any]) -> str:
    """The id in a call or a piece of one, empty if there is none."""
    id = call.get("id")
    return id if isinstance(id, str) else ""


def name_of(call: Mapping[str, Any]) -> str:
    """The name in a call or a piece of one, empty if there is none."""
    function = call.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    return name.strip() if isinstance(name, str) else ""


def arguments_of(call: Mapping[str, Any]) -> str:
    """The arguments in a call or a piece of one; where they are no text, they become one."""
    function = call.get("function")
    arguments = function.get("arguments") if isinstance(function, dict) else None
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return encode(arguments).decode()


def nameless() -> ConnectorError:
    """The failure of an upstream that calls a tool and does not say which."""
    return ConnectorError("protocol", "the upstream called a tool without a name")


def count_in(holder: Any, *path: str) -> int:
    """A number of tokens, by the names that lead to it; 0 where there is none."""
    for name in path:
        holder = holder.get(name) if isinstance(holder, dict) else None
    return int(holder) if isinstance(holder, (int, float)) and holder > 0 else 0
