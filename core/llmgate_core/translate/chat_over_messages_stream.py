"""A stream of Anthropic Messages as chat chunks: role first and once, then what is said, the end, the usage.

Source: Anthropic's reference of streaming, and what strict chat clients demand of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..dialects import chat
from ..dialects.failures import reported_error
from ..errors import ConnectorError
from ..sse import Event, join
from ..wire import Body, JsonError, encode
from .chat_over_messages_reply import Manner, arguments_of, called_id, called_name, finish_of, text_in, usage_of

DONE = b"data: [DONE]\n\n"


@dataclass
class _Call:
    """A call that is being made.

    Args:
        index: its place among the calls, which is not that of its block.
        given: the input that it began with.
        has_arguments: some were told.
    """

    index: int
    given: Any
    has_arguments: bool = False


class ChatStream:
    """See `StreamTranslation`. Keeps no text: only the open calls, the usage and the reason of the end."""

    def __init__(self, manner: Manner) -> None:
        self._manner = manner
        self._envelope: dict[str, Any] | None = None
        self._calls: dict[Any, _Call] = {}  # the open ones by the index of their block
        self._others: set[int] = set()  # open blocks that are no calls
        self._count = 0
        self._reason: Any = None
        self._usage: dict[str, Any] = {}
        self._is_complete = False
        self._tellers: Mapping[str, Callable[[dict[str, Any]], bytes]] = {
            "content_block_start": self._block_start,
            "content_block_delta": self._block_delta,
            "content_block_stop": self._block_stop,
            "message_delta": self._message_delta,
            "message_stop": self._message_stop,
        }

    def feed(self, event: Event) -> bytes:
        """See `StreamTranslation`."""
        if self._is_complete:
            return b""
        data = _object(event.data)
        sort = data.get("type") or event.event
        if sort == "error" or data.get("error"):
            raise reported_error(event.data)
        if sort == "message_start":
            return self._message_start(data)
        teller = self._tellers.get(sort) if isinstance(sort, str) else None
        if teller is None:  # a ping, or what is new
            return b""
        if self._envelope is None:
            raise ConnectorError("protocol", f"the upstream's stream begins with `{sort}` and not `message_start`")
        return teller(data)

    def end(self) -> bytes:
        """See `StreamTranslation`."""
        if self._is_complete:
            return b""
        if not self._reason:
            raise ConnectorError("protocol", "the upstream's stream ended before the answer was complete")
        return self._complete()

    def failed(self, error: Exception, *, context: str = "", request_id: str = "") -> bytes:
        """See `StreamTranslation`."""
        return chat.error_event(error, context=context)

    # --- one method for each sort of event -----------------------------------------------------------------------

    def _message_start(self, data: dict[str, Any]) -> bytes:
        if self._envelope is not None:
            raise ConnectorError("protocol", "the upstream's stream begins a second message")
        message = _member(data, "message")
        self._envelope = self._manner.envelope(message, "chat.completion.chunk")
        self._note(message.get("usage"))
        return self._chunk({"role": "assistant", "content": ""})

    def _block_start(self, data: dict[str, Any]) -> bytes:
        block = _member(data, "content_block")
        if block.get("type") == "tool_use":
            return self._call_start(data.get("index"), block)
        self._others.add(_key(data.get("index")))
        return self._say(block)

    def _block_delta(self, data: dict[str, Any]) -> bytes:
        delta = _member(data, "delta")
        if delta.get("type") == "input_json_delta":
            return self._arguments(data.get("index"), delta.get("partial_json"))
        return self._say(delta)

    def _block_stop(self, data: dict[str, Any]) -> bytes:
        index = _key(data.get("index"))
        self._others.discard(index)
        call = self._calls.pop(index, None)
        if call is None or call.has_arguments:
            return b""
        return self._call_delta(call, {"arguments": arguments_of(call.given)})

    def _message_delta(self, data: dict[str, Any]) -> bytes:
        self._reason = _member(data, "delta").get("stop_reason") or self._reason
        self._note(data.get("usage"))
        return b""

    def _message_stop(self, data: dict[str, Any]) -> bytes:
        return self._complete()

    def _complete(self) -> bytes:
        """The end of the answer; its reason says that there is one, also where `message_stop` is missing."""
        self._is_complete = True
        rest = b"".join(self._block_stop({"index": index}) for index in list(self._calls))
        finish = self._chunk({}, finish_of(self._reason, self._count > 0, self._manner))
        if not self._manner.with_usage:
            return rest + finish + DONE
        usage = join(encode({**(self._envelope or {}), "choices": [], "usage": usage_of(self._usage)}))
        return rest + finish + usage + DONE

    # --- what is told --------------------------------------------------------------------------------------------

    def _say(self, part: Mapping[str, Any]) -> bytes:
        """The text that a block begins with, or that a delta adds; signatures and citations have no place in chat."""
        for name, told in (("text", "content"), ("thinking", "reasoning_content")):
            if part.get("type") in (name, f"{name}_delta") and (text := text_in(part, name)):
                return self._chunk({told: text})
        return b""

    def _call_start(self, index: Any, block: Mapping[str, Any]) -> bytes:
        call = _Call(self._count, block.get("input"))
        self._calls[_key(index)] = call
        self._count += 1
        function = {"name": called_name(block), "arguments": ""}
        if self._manner.legacy:
            return self._call_delta(call, function)
        first = {"index": call.index, "id": called_id(block, self._manner), "type": "function", "function": function}
        return self._chunk({"tool_calls": [first]})

    def _arguments(self, index: Any, text: Any) -> bytes:
        call = self._calls.get(_key(index))
        if call is None and _key(index) in self._others:  # a tool that the upstream runs itself
            return b""
        if call is None:
            raise ConnectorError("protocol", "the upstream's stream has a tool's input for a block that is no call")
        if not text:
            return b""
        if not isinstance(text, str):
            raise ConnectorError("protocol", "the upstream's stream has a tool's input that is no text")
        call.has_arguments = True
        return self._call_delta(call, {"arguments": text})

    def _call_delta(self, call: _Call, function: Mapping[str, Any]) -> bytes:
        if not self._manner.legacy:
            return self._chunk({"tool_calls": [{"index": call.index, "function": function}]})
        return self._chunk({"function_call": function}) if call.index == 0 else b""

    def _chunk(self, delta: Mapping[str, Any], finish: str | None = None) -> bytes:
        choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
        usage = {"usage": None} if self._manner.with_usage else {}
        return join(encode({**(self._envelope or {}), "choices": choices, **usage}))

    def _note(self, usage: Any) -> None:
        """Counts are told as they stand; the last one that says anything is right."""
        if isinstance(usage, dict):
            self._usage.update({name: value for name, value in usage.items() if value is not None})


def _object(data: bytes) -> dict[str, Any]:
    try:
        return Body(data).data
    except JsonError as error:
        raise ConnectorError("protocol", f"an event of the upstream's stream is not usable JSON: {error}") from None


def _member(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = data.get(name)
    return value if isinstance(value, dict) else {}


def _key(index: Any) -> int:
    """The index of a block; everything that is none counts as one and the same."""
    return index if isinstance(index, int) else -1
