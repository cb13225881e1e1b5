"""A stream of Chat Completions as the events of a Messages stream.

The order is Anthropic's: `message_start`, the blocks one after the other, `message_delta`, `message_stop`. The last two
wait for the usage, which chat tells last; where it never comes, for the stream's end.
Source: anthropic-sdk-typescript 1.12, lib/MessageStream; what Claude Code 2.1 demands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..dialects.messages import error_event
from ..errors import ConnectorError
from ..sse import Event
from .chat_answers import calls_of, chunk_of, finish_of, first_choice, reasoning_of, text_of
from .chat_calls import Calls
from .messages_over_chat_queue import BlockQueue, say
from .messages_over_chat_reply import CUT_OFF, opened, stop_reason_of, usage_of


class MessagesStream:
    """See `StreamTranslation`.

    Args:
        model: as the caller named it; see `message_of`.
        new_id: something that nothing else is called.
    """

    def __init__(self, model: str, new_id: Callable[[], str]) -> None:
        self._model = model
        self._new_id = new_id
        self._calls = Calls()
        self._blocks = BlockQueue(new_id)
        self._said: list[bytes] = []
        self._begun = False
        self._finish: str | None = None
        self._is_done = False  # `[DONE]` has come
        self._is_over = False  # the last word has been said
        self._usage: Any = None

    def feed(self, event: Event) -> bytes:
        """See `StreamTranslation`."""
        data = event.data.strip()
        if self._is_over or not data:
            return b""
        if data == b"[DONE]":
            self._is_done = True
            return self.end()
        chunk = chunk_of(event)
        self._begin()
        self._take(chunk)
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self._usage = usage
            if self._finish is not None:
                return self.end()
        return self._spoken()

    def end(self) -> bytes:
        """See `StreamTranslation`."""
        if self._is_over:
            return b""
        if self._finish is None and not self._is_done:
            raise ConnectorError("protocol", "the upstream ended the stream before the answer was complete")
        self._begin()
        self._close()
        self._end(stop_reason_of(self._finish, has_calls=self._blocks.has_calls))
        return self._spoken()

    def failed(self, error: Exception, *, context: str = "", request_id: str = "") -> bytes:
        """See `StreamTranslation`. Where nothing has been said, the error is all: what never began has no end.

        Clients that read on behind the error find every block closed, and an answer that is not whole.
        """
        if self._is_over:
            return b""
        self._said.append(error_event(error, context=context, request_id=request_id))
        if self._begun:
            self._said.append(self._blocks.abandon())
            self._end(CUT_OFF)
        self._is_over = True
        return self._spoken()

    def _spoken(self) -> bytes:
        """What has to be told now; what was said before a failure is told by `failed`."""
        said = b"".join(self._said)
        self._said.clear()
        return said

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._said.append(say("message_start", message=opened(f"msg_{self._new_id()}", self._model)))

    def _end(self, stop_reason: str) -> None:
        delta = {"stop_reason": stop_reason, "stop_sequence": None}
        self._said.append(say("message_delta", delta=delta, usage=usage_of(self._usage)) + say("message_stop"))
        self._is_over = True

    def _close(self) -> None:
        self._calls.check()
        self._said.append(self._blocks.close())

    def _take(self, chunk: Mapping[str, Any]) -> None:
        choice = first_choice(chunk)
        if choice is None:
            return
        delta = choice.get("delta")
        if isinstance(delta, dict):
            self._take_delta(delta)
        if self._finish is None and (finish := finish_of(choice)):
            self._finish = finish
            self._close()

    def _take_delta(self, delta: Mapping[str, Any]) -> None:
        if thought := reasoning_of(delta):
            self._said.append(self._blocks.add_text("thinking", thought))
        for name in ("content", "refusal"):
            if text := text_of(delta.get(name)):
                self._said.append(self._blocks.add_text("text", text))
        for piece in calls_of(delta):
            call, arguments = self._calls.route(piece)
            if call.name:  # without, it may still come
                self._said.append(self._blocks.add_call(call, arguments))
