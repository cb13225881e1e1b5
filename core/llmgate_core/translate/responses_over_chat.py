"""A Responses request over Chat Completions: request there, answer and stream back.

What the request loses is in `LOSSES`. Answers lose nothing that the dialect can say.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..errors import RequestError
from ..wire import Body, JsonError, encode
from .chat_answers import reply_of
from .losses import Losses
from .responses_over_chat_reply import Envelope, Item, ended, items_of
from .responses_over_chat_request import request_of
from .responses_over_chat_rules import LOSSES
from .responses_over_chat_stream import ResponsesStream
from .responses_over_chat_tools import Toolbox

__all__ = ["LOSSES", "ResponsesOverChat", "translate"]


def _new_id() -> str:
    return uuid.uuid4().hex


def translate(
    body: Body, *, new_id: Callable[[], str] = _new_id, clock: Callable[[], float] = time.time
) -> ResponsesOverChat:
    """The translation of one request, which `dialects.responses` has read. `previous_response_id` is not looked at.

    Args:
        body: with the whole conversation in `input`.
        new_id: something that nothing else is called; it gets a prefix.
        clock: Unix time in seconds.

    Raises:
        RequestError: 400; something in it cannot be said and must not be left out, `param` names it.
    """
    losses = Losses(LOSSES)
    toolbox = Toolbox(losses)
    try:
        members = request_of(body, toolbox, losses)
        told = Body(encode(members))
        encode(_deeper(body.data))
    except JsonError as error:
        raise RequestError(f"the request's body is not usable JSON: {error}", code="invalid_json") from None
    except RecursionError:
        raise RequestError("the request's body is nested too deeply", code="invalid_json") from None
    envelope = Envelope(f"resp_{new_id()}", int(clock()), str(body.data.get("model", "")), body.data)
    return ResponsesOverChat(told, losses.names, envelope, toolbox, new_id, clock)


def _deeper(value: Any) -> Any:
    """The same, as deep as it may ever be repeated: inside of an event, and on a stack that has grown meanwhile.

    CPython 3.11 counts the nesting that is encoded and the functions that are running together.
    """
    for _ in range(_MARGIN):
        value = [value]
    return value


_MARGIN = 200


class ResponsesOverChat:
    """See `Translation`.

    Attributes:
        response_id: the answer's id.
        output: the items of the answer, once it is complete: what a conversation goes on from.
    """

    def __init__(
        self,
        body: Body,
        lost: tuple[str, ...],
        envelope: Envelope,
        toolbox: Toolbox,
        new_id: Callable[[], str],
        clock: Callable[[], float],
    ) -> None:
        self.body = body
        self.lost = lost
        self.response_id = envelope.id
        self._envelope = envelope
        self._toolbox = toolbox
        self._new_id = new_id
        self._clock = clock
        self._items: tuple[Item, ...] = ()
        self._stream: ResponsesStream | None = None

    @property
    def output(self) -> tuple[Item, ...]:
        """See the class."""
        return self._items if self._stream is None else self._stream.output

    def reply(self, data: bytes) -> bytes:
        """See `Translation`."""
        answer, message, finish = reply_of(data)
        items = items_of(message, finish, self._toolbox, self._new_id)
        self._items = tuple(items)
        model = answer.get("model")
        envelope = replace(self._envelope, model=model) if isinstance(model, str) and model else self._envelope
        return encode(ended(envelope, finish, items, answer.get("usage"), self._clock()))

    def stream(self) -> ResponsesStream:
        """See `Translation`."""
        self._stream = ResponsesStream(self._envelope, self._toolbox, self._new_id, self._clock)
        return self._stream
