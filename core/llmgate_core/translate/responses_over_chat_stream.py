"""A stream of Chat Completions as the events of a Responses stream.

Each item is complete in its `output_item.done` and again in the response's end: Codex builds on the former, the SDKs
on the latter. The end is held back until the upstream has said all, as its usage comes last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ..errors import ConnectorError
from ..sse import Event, join
from ..wire import encode
from .chat_answers import calls_of, chunk_of, finish_of, first_choice, reasoning_of, text_of
from .chat_calls import Call, Calls
from .responses_over_chat_open import OpenCall, OpenItem, OpenMessage, OpenReasoning, Said
from .responses_over_chat_reply import PREFIXES, Envelope, Item, ended, response_error, status_at
from .responses_over_chat_tools import Toolbox


class ResponsesStream:
    """See `StreamTranslation`.

    Args:
        new_id: something that no other item is called.
        clock: Unix time in seconds.
    """

    def __init__(
        self, envelope: Envelope, toolbox: Toolbox, new_id: Callable[[], str], clock: Callable[[], float]
    ) -> None:
        self._envelope = envelope
        self._new_id = new_id
        self._clock = clock
        self._number = 0  # of the next event
        self._items: list[Item | None] = []  # by their index; None is one that is open
        self._open: list[OpenItem] = []
        self._toolbox = toolbox
        self._calls = Calls()
        self._items_of_calls: dict[Call, OpenCall] = {}
        self._begun = False
        self._finish: str | None = None
        self._is_done = False  # `[DONE]` has come
        self._is_over = False  # the last word has been said
        self._usage: Any = None

    @property
    def output(self) -> tuple[Item, ...]:
        """The items that are complete, in their order."""
        return tuple(item for item in self._items if item is not None)

    def feed(self, event: Event) -> bytes:
        """See `StreamTranslation`."""
        if self._is_over:
            return b""
        if event.data.strip() == b"[DONE]":
            self._is_done = True
            return self._end()
        chunk = chunk_of(event)
        return self._begin(chunk.get("model")) + self._take(chunk)

    def end(self) -> bytes:
        """See `StreamTranslation`."""
        if self._finish is None and not self._is_done:
            raise ConnectorError("protocol", "the upstream ended the stream before the answer was complete")
        return self._end()

    def failed(self, error: Exception, *, context: str = "", request_id: str = "") -> bytes:
        """See `StreamTranslation`. What is open stays so: a client would run half a call that is told as done."""
        if self._is_over:
            return b""
        said = self._begin(None)
        self._is_over = True
        told = response_error(error, context)
        return said + self._say("response.failed", response=self._response("failed", error=told))

    # --- the beginning and the end ------------------------------------------------------------------------

    def _begin(self, model: Any) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        if isinstance(model, str) and model:
            self._envelope = replace(self._envelope, model=model)
        response = self._response("in_progress")
        return self._say("response.created", response=response) + self._say("response.in_progress", response=response)

    def _end(self) -> bytes:
        if self._is_over:
            return b""
        said = self._begin(None) + self._close_all()
        self._is_over = True
        response = ended(self._envelope, self._finish, list(self.output), self._usage, self._clock())
        return said + self._say(f"response.{response['status']}", response=response)

    def _response(self, status: str, **more: Any) -> dict[str, Any]:
        return self._envelope.response(status, list(self.output), **more)

    # --- what comes in between ----------------------------------------------------------------------------

    def _take(self, chunk: Mapping[str, Any]) -> bytes:
        if isinstance(chunk.get("usage"), dict):
            self._usage = chunk["usage"]
        choice = first_choice(chunk)
        if choice is None:
            return b""
        delta = choice.get("delta")
        said = self._take_delta(delta) if isinstance(delta, dict) else b""
        if self._finish is None and (finish := finish_of(choice)):
            self._finish = finish
            said += self._close_all()
        return said

    def _take_delta(self, delta: Mapping[str, Any]) -> bytes:
        said = b""
        if thought := reasoning_of(delta):
            said += self._tell(self._reasoning(), thought)
        if text := text_of(delta.get("content")):
            said += self._tell(self._message("output_text"), text)
        if refusal := text_of(delta.get("refusal")):
            said += self._tell(self._message("refusal"), refusal)
        for piece in calls_of(delta):
            said += self._take_call(piece)
        return said

    def _tell(self, opened: tuple[OpenItem, bytes], text: str) -> bytes:
        item, said = opened
        return said + self._say_all(item.add(text))

    def _reasoning(self) -> tuple[OpenItem, bytes]:
        for item in self._open:
            if isinstance(item, OpenReasoning):
                return item, b""
        said = self._close(OpenMessage)
        item = OpenReasoning(f"rs_{self._new_id()}", self._next_index())
        return item, said + self._opened(item)

    def _message(self, sort: str) -> tuple[OpenItem, bytes]:
        """The open message, ready for text of this sort; another part of it, or another message where there is none."""
        for item in self._open:
            if isinstance(item, OpenMessage):
                return item, self._say_all(item.turn_to(sort))
        said = self._close(OpenReasoning)
        item = OpenMessage(f"msg_{self._new_id()}", self._next_index())
        return item, said + self._opened(item) + self._say_all(item.turn_to(sort))

    def _take_call(self, piece: Mapping[str, Any]) -> bytes:
        """A piece of a call. Calls stay open side by side; text and reasoning end where a call begins."""
        call, text = self._calls.route(piece)
        if not call.name:
            return b""  # it may still come
        said, item = b"", self._items_of_calls.get(call)
        if item is None:
            said = self._close(OpenReasoning, OpenMessage)
            item = self._items_of_calls[call] = self._begun_call(call)
            said += self._opened(item)
        return said + self._say_all(item.add(text)) if text else said

    def _begun_call(self, call: Call) -> OpenCall:
        tool = self._toolbox.known(call.name)
        id, call_id = f"{PREFIXES[tool.kind]}{self._new_id()}", call.id or f"call_{self._new_id()}"
        return OpenCall(id, self._next_index(), tool, call_id)

    # --- items --------------------------------------------------------------------------------------------

    def _next_index(self) -> int:
        self._items.append(None)
        return len(self._items) - 1

    def _opened(self, item: OpenItem) -> bytes:
        self._open.append(item)
        return self._say_all(item.opened())

    def _close_all(self) -> bytes:
        """Closes everything, as the answer has come to its end.

        Raises:
            ConnectorError: kind `protocol`, a call has never got a name.
        """
        self._calls.check()
        return self._close(OpenReasoning, OpenMessage, OpenCall)

    def _close(self, *sorts: type[OpenReasoning | OpenMessage | OpenCall]) -> bytes:
        """Closes what is open of these sorts; where the answer was cut off, so is what it finds open."""
        said = b""
        for item in [item for item in self._open if isinstance(item, sorts)]:
            self._open.remove(item)
            whole = item.whole(status_at(self._finish))
            self._items[item.index] = whole
            said += self._say_all(item.closed(whole))
        return said

    def _say_all(self, events: list[Said]) -> bytes:
        return b"".join(self._say(name, **fields) for name, fields in events)

    def _say(self, name: str, /, **fields: Any) -> bytes:
        data = encode({"type": name, "sequence_number": self._number, **fields})
        self._number += 1
        return join(data, name)
