"""The items of a response while they are still being told: which events open, continue and close them."""

from __future__ import annotations

from typing import Any, Protocol

from .responses_over_chat_reply import Item, Status, call_item, message_item, reasoning_item, summary_part, text_part
from .responses_over_chat_tools import Tool

Said = tuple[str, dict[str, Any]]
"""An event's type and its fields; who sends it adds the number."""


class OpenItem(Protocol):
    """An item that has begun.

    Attributes:
        index: its place in the response's output.
    """

    index: int

    def opened(self) -> list[Said]:
        """The events with which it begins."""

    def add(self, text: str) -> list[Said]:
        """Takes some more text, and tells of it."""

    def whole(self, status: Status) -> Item:
        """The item with all that was added."""

    def closed(self, whole: Item) -> list[Said]:
        """The events with which it ends."""


class OpenReasoning:
    """Reasoning: a summary of one part."""

    def __init__(self, id: str, index: int) -> None:
        self.id = id
        self.index = index
        self._pieces: list[str] = []

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self.id, "output_index": self.index, "summary_index": 0}

    def opened(self) -> list[Said]:
        """See `OpenItem`."""
        empty = {"id": self.id, "type": "reasoning", "summary": []}
        return [
            ("response.output_item.added", {"output_index": self.index, "item": empty}),
            ("response.reasoning_summary_part.added", {**self._place, "part": summary_part("")}),
        ]

    def add(self, text: str) -> list[Said]:
        """See `OpenItem`."""
        self._pieces.append(text)
        return [("response.reasoning_summary_text.delta", {**self._place, "delta": text})]

    def whole(self, status: Status) -> Item:
        """See `OpenItem`."""
        return reasoning_item(self.id, "".join(self._pieces))

    def closed(self, whole: Item) -> list[Said]:
        """See `OpenItem`."""
        part = whole["summary"][0]
        return [
            ("response.reasoning_summary_text.done", {**self._place, "text": part["text"]}),
            ("response.reasoning_summary_part.done", {**self._place, "part": part}),
            ("response.output_item.done", {"output_index": self.index, "item": whole}),
        ]


class OpenMessage:
    """A message: parts of text and of refusal, one after another."""

    def __init__(self, id: str, index: int) -> None:
        self.id = id
        self.index = index
        self._parts: list[tuple[str, list[str]]] = []  # the last one is open

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self.id, "output_index": self.index, "content_index": len(self._parts) - 1}

    def opened(self) -> list[Said]:
        """See `OpenItem`; a part is opened by `turn_to`."""
        empty = message_item(self.id, [], "in_progress")
        return [("response.output_item.added", {"output_index": self.index, "item": empty})]

    def turn_to(self, sort: str) -> list[Said]:
        """What follows is text of this sort, `output_text` or `refusal`."""
        if self._parts and self._parts[-1][0] == sort:
            return []
        said = self._part_closed()
        self._parts.append((sort, []))
        return [*said, ("response.content_part.added", {**self._place, "part": text_part(sort, "")})]

    def add(self, text: str) -> list[Said]:
        """See `OpenItem`."""
        sort, pieces = self._parts[-1]
        pieces.append(text)
        more: dict[str, Any] = {"logprobs": []} if sort == "output_text" else {}
        return [(f"response.{sort}.delta", {**self._place, "delta": text, **more})]

    def _part_closed(self) -> list[Said]:
        if not self._parts:
            return []
        sort, pieces = self._parts[-1]
        text = "".join(pieces)
        whole = {"text": text, "logprobs": []} if sort == "output_text" else {"refusal": text}
        return [
            (f"response.{sort}.done", {**self._place, **whole}),
            ("response.content_part.done", {**self._place, "part": text_part(sort, text)}),
        ]

    def whole(self, status: Status) -> Item:
        """See `OpenItem`."""
        return message_item(self.id, [text_part(sort, "".join(pieces)) for sort, pieces in self._parts], status)

    def closed(self, whole: Item) -> list[Said]:
        """See `OpenItem`."""
        return [*self._part_closed(), ("response.output_item.done", {"output_index": self.index, "item": whole})]


class OpenCall:
    """A call of a tool. Only a function's arguments can be told before they are complete."""

    def __init__(self, id: str, index: int, tool: Tool, call_id: str) -> None:
        self.id = id
        self.index = index
        self._tool = tool
        self._call_id = call_id
        self._pieces: list[str] = []

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self.id, "output_index": self.index}

    def opened(self) -> list[Said]:
        """See `OpenItem`."""
        empty = call_item(self.id, self._tool, self._call_id, "", "in_progress")
        return [("response.output_item.added", {"output_index": self.index, "item": empty})]

    def add(self, text: str) -> list[Said]:
        """See `OpenItem`."""
        self._pieces.append(text)
        if self._tool.kind != "function":
            return []
        return [("response.function_call_arguments.delta", {**self._place, "delta": text})]

    def whole(self, status: Status) -> Item:
        """See `OpenItem`."""
        return call_item(self.id, self._tool, self._call_id, "".join(self._pieces), status)

    def closed(self, whole: Item) -> list[Said]:
        """See `OpenItem`."""
        said: list[Said] = []
        if self._tool.kind == "function":
            if whole["arguments"] and not self._pieces:
                said += self.add(whole["arguments"])
            said.append(("response.function_call_arguments.done", {**self._place, "arguments": whole["arguments"]}))
        elif self._tool.kind == "custom":
            said.append(("response.custom_tool_call_input.delta", {**self._place, "delta": whole["input"]}))
            said.append(("response.custom_tool_call_input.done", {**self._place, "input": whole["input"]}))
        return [*said, ("response.output_item.done", {"output_index": self.index, "item": whole})]
