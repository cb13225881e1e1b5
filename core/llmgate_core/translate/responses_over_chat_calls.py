"""Which call a piece of a chat stream belongs to. Upstreams number their calls wrongly, or not at all.

A known id decides. Then the index, unless the piece brings a name and an id that are both new: that is another call,
whatever it is numbered. Without either, the piece continues the last call.
Sources: sgl-project/sglang#7048, agno-agi/agno#8880, AstrBotDevs/AstrBot#6661.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .responses_over_chat_open import OpenCall
from .responses_over_chat_reply import PREFIXES, arguments_of, checked_name, name_of
from .responses_over_chat_tools import Toolbox


class Call:
    """A call that has begun.

    Attributes:
        item: what the caller is told, None before there is a name.
    """

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.item: OpenCall | None = None
        self.held: list[str] = []  # arguments that came before the name


class Calls:
    """The calls of one answer."""

    def __init__(self, toolbox: Toolbox) -> None:
        self._toolbox = toolbox
        self._all: list[Call] = []
        self._by_id: dict[str, Call] = {}
        self._by_index: dict[int, Call] = {}
        self._last: Call | None = None

    def route(self, piece: Mapping[str, Any]) -> tuple[Call, str]:
        """The call that a piece belongs to, and the arguments that can be told now."""
        id, name, index = _id(piece), name_of(piece), piece.get("index")
        call = self._found(id, name, index)
        call.id = call.id or id
        call.name = call.name or name
        if id:
            self._by_id.setdefault(id, call)
        if isinstance(index, int):
            self._by_index[index] = call
        self._last = call
        call.held.append(arguments_of(piece))
        if not call.name:
            return call, ""
        text = "".join(call.held)
        call.held.clear()
        return call, text

    def _found(self, id: str, name: str, index: Any) -> Call:
        if id in self._by_id:
            return self._by_id[id]
        call = self._by_index.get(index) if isinstance(index, int) else self._last
        if call is None or (id and name and call.id and call.name):
            call = Call()
            self._all.append(call)
        return call

    def opened(self, call: Call, index: int, new_id: Callable[[], str]) -> OpenCall:
        """What the caller is told of a call that has got its name."""
        tool = self._toolbox.known(call.name)
        return OpenCall(f"{PREFIXES[tool.kind]}{new_id()}", index, tool, call.id or f"call_{new_id()}")

    def check(self) -> None:
        """What has to be true at the end. A call without name and arguments is none: some upstreams begin one so.

        Raises:
            ConnectorError: kind `protocol`, one has arguments and has never got a name.
        """
        for call in self._all:
            if any(call.held):
                checked_name(call.name)


def _id(piece: Mapping[str, Any]) -> str:
    id = piece.get("id")
    return id if isinstance(id, str) else ""
