"""The content blocks of a Messages stream, one after the other.

In a chat stream, text, reasoning and several calls may come mixed. Here one block is open at a time, and what belongs
to another waits: text and thinking end where something else begins, a call ends where its arguments are complete and
something else waits. What is blank is not told unless something follows in the same block.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Literal

from ..errors import ConnectorError
from ..sse import join
from ..wire import encode
from .chat_calls import Call
from .messages_over_chat_reply import text_block, thinking_block, tool_use_block
from .messages_over_chat_rules import SIGNATURE

MAX_WAITING = 8 * 1024 * 1024
"""Characters that may wait for the open block to end."""

_PIECE = 64  # what a piece costs beside its characters


def say(sort: str, **fields: Any) -> bytes:
    """One event; clients go by its name as well as by its type."""
    return join(encode({"type": sort, **fields}), sort)


class _Block:
    """A block that has not ended.

    Attributes:
        call: None for text and thinking.
        index: None before it was opened.
        waiting: what has not been told yet.
        is_worth_opening: there is something to tell, not only blanks.
    """

    def __init__(self, sort: Literal["text", "thinking", "tool_use"], call: Call | None = None) -> None:
        self.sort = sort
        self.call = call
        self.index: int | None = None
        self.waiting: list[str] = []
        self.is_worth_opening = call is not None

    @property
    def has_ended(self) -> bool:
        """Whether nothing can follow in it, given that something else waits."""
        return self.call is None or self.call.is_complete


class BlockQueue:
    """Takes what a chat stream says, and tells it as content blocks.

    Args:
        new_id: something that no other call is called.
    """

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._blocks: deque[_Block] = deque()  # the first one is told, the others wait
        self._of_call: dict[Call, _Block] = {}
        self._index = 0  # of the next block
        self._size = 0  # of what waits

    @property
    def has_calls(self) -> bool:
        """Whether a call of a tool has been told."""
        return bool(self._of_call)

    def add_text(self, sort: Literal["text", "thinking"], text: str) -> bytes:
        """The events that more text or thinking leads to."""
        if not self._blocks or self._blocks[-1].sort != sort:
            self._blocks.append(_Block(sort))
        return self._add(self._blocks[-1], text)

    def add_call(self, call: Call, arguments: str) -> bytes:
        """The events that more arguments of a call lead to; the call has its name.

        Raises:
            ConnectorError: kind `protocol`, it had been complete.
        """
        block = self._of_call.get(call)
        if block is None:
            block = self._of_call[call] = _Block("tool_use", call)
            self._blocks.append(block)
        elif block not in self._blocks:
            if arguments.strip():
                raise ConnectorError("protocol", "the upstream went on with a tool call that was complete")
            return b""
        return self._add(block, arguments)

    def close(self) -> bytes:
        """The events that end everything, as the answer has come to its end."""
        said = b""
        while self._blocks:
            said += self._told(self._blocks[0]) + self._closed(self._blocks.popleft())
        return said

    def abandon(self) -> bytes:
        """The event that ends the open block, as the answer has broken off; what waits is not told."""
        said = self._closed(self._blocks[0]) if self._blocks else b""
        self._blocks.clear()
        return said

    def _add(self, block: _Block, text: str) -> bytes:
        if text:
            block.waiting.append(text)
            block.is_worth_opening = block.is_worth_opening or not text.isspace()
            self._size += len(text) + _PIECE
            if self._size > MAX_WAITING:
                raise ConnectorError("protocol", "the upstream's stream mixes more than can be held")
        said = self._told(self._blocks[0])
        while len(self._blocks) > 1 and self._blocks[0].has_ended:
            said += self._closed(self._blocks.popleft()) + self._told(self._blocks[0])
        return said

    def _told(self, block: _Block) -> bytes:
        """Opens a block if there is something to tell, and tells it."""
        said = b""
        if block.index is None:
            if not block.is_worth_opening:
                return b""
            block.index, self._index = self._index, self._index + 1
            said = say("content_block_start", index=block.index, content_block=self._opened(block))
        if text := "".join(block.waiting):
            said += say("content_block_delta", index=block.index, delta=_delta(block.sort, text))
        self._forget(block)
        return said

    def _opened(self, block: _Block) -> dict[str, Any]:
        if block.call is not None:
            return tool_use_block(block.call.id or f"toolu_{self._new_id()}", block.call.name, {})
        return thinking_block("") if block.sort == "thinking" else text_block("")

    def _closed(self, block: _Block) -> bytes:
        self._forget(block)
        if block.index is None:
            return b""
        signed = {"type": "signature_delta", "signature": SIGNATURE}
        said = say("content_block_delta", index=block.index, delta=signed) if block.sort == "thinking" else b""
        return said + say("content_block_stop", index=block.index)

    def _forget(self, block: _Block) -> None:
        self._size -= sum(len(text) + _PIECE for text in block.waiting)
        block.waiting.clear()


def _delta(sort: str, text: str) -> dict[str, Any]:
    if sort == "tool_use":
        return {"type": "input_json_delta", "partial_json": text}
    return {"type": f"{sort}_delta", sort: text}
