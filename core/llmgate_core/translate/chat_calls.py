"""Which call a piece of a chat stream belongs to. Upstreams number their calls wrongly, or not at all.

A known id decides. Then the index, unless the piece brings a name and an id that are both new: that is another call,
whatever it is numbered. Without either, the piece continues the last call, unless it brings another name.
Sources: sgl-project/sglang#7048, agno-agi/agno#8880, AstrBotDevs/AstrBot#6661.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .chat_answers import arguments_of, id_of, name_of, nameless

_IN_STRING = re.compile(r'["\\]')
_OUTSIDE = re.compile(r'["{}\[\]]')


class Call:
    """A call that has begun.

    Attributes:
        held: arguments that have come before the name.
        is_complete: its arguments are a whole JSON object, or something else in brackets.
    """

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.held: list[str] = []
        self.is_complete = False
        self._depth = 0
        self._in_string = False
        self._after_escape = False  # the last piece ended behind a backslash

    def follow(self, piece: str) -> None:
        """Follows brackets and strings through the next piece of the arguments; nothing of it is kept."""
        at = 1 if self._after_escape and piece else 0
        self._after_escape = self._after_escape and not piece
        while found := (_IN_STRING if self._in_string else _OUTSIDE).search(piece, at):
            at = found.end()
            if found[0] == "\\":
                self._after_escape = at == len(piece)
                at += 1
            elif found[0] == '"':
                self._in_string = not self._in_string
            else:
                self._depth += 1 if found[0] in "{[" else -1
                self.is_complete = self._depth <= 0


class Calls:
    """The calls of one answer."""

    def __init__(self) -> None:
        self._all: list[Call] = []
        self._by_id: dict[str, Call] = {}
        self._by_index: dict[int, Call] = {}
        self._last: Call | None = None

    def route(self, piece: Mapping[str, Any]) -> tuple[Call, str]:
        """The call that a piece belongs to, and the arguments that can be told now: none before there is a name."""
        id, name, index = id_of(piece), name_of(piece), piece.get("index")
        call = self._found(id, name, index)
        call.id = call.id or id
        call.name = call.name or name
        if id:
            self._by_id.setdefault(id, call)
        if isinstance(index, int):
            self._by_index[index] = call
        self._last = call
        arguments = arguments_of(piece)
        call.follow(arguments)
        call.held.append(arguments)
        if not call.name:
            return call, ""
        text = "".join(call.held)
        call.held.clear()
        return call, text

    def _found(self, id: str, name: str, index: Any) -> Call:
        if id in self._by_id:
            return self._by_id[id]
        numbered = isinstance(index, int)
        call = self._by_index.get(index) if numbered else self._last
        if call is None or _is_another(call, id, name, numbered=numbered):
            call = Call()
            self._all.append(call)
        return call

    def check(self) -> None:
        """What has to be true at the end. A call without name and arguments is none: some upstreams begin one so.

        Raises:
            ConnectorError: kind `protocol`, one has arguments and has never got a name.
        """
        if any(not call.name and any(call.held) for call in self._all):
            raise nameless()


def _is_another(call: Call, id: str, name: str, *, numbered: bool) -> bool:
    """Whether a piece with this id and name, neither of which is known, begins another call than `call`."""
    if not name or not call.name:
        return False
    return bool(id and call.id) or (not numbered and (name != call.name or call.is_complete))
