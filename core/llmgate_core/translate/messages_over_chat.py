"""A Messages request over Chat Completions: request there, answer and stream back.

What the request loses is in `LOSSES`. Of answers two things are not known: at which of the caller's sequences the model
stopped, and the number of input tokens at the beginning of a stream; `message_delta` tells it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

from ..errors import RequestError
from ..wire import Body, JsonError, encode
from .losses import Losses
from .messages_over_chat_reply import message_of
from .messages_over_chat_request import request_of
from .messages_over_chat_rules import LOSSES, SIGNATURE
from .messages_over_chat_stream import MessagesStream

__all__ = ["LOSSES", "SIGNATURE", "MessagesOverChat", "translate"]


def _new_id() -> str:
    return uuid.uuid4().hex


def translate(body: Body, *, new_id: Callable[[], str] = _new_id) -> MessagesOverChat:
    """The translation of one request, which `dialects.messages` has read.

    Args:
        new_id: something that nothing else is called; it gets a prefix.

    Raises:
        RequestError: 400; something in it cannot be said and must not be left out, `param` names it.
    """
    losses = Losses(LOSSES)
    try:
        told = Body(encode(request_of(body.data, losses)))
    except JsonError as error:
        raise RequestError(f"the request's body is not usable JSON: {error}", code="invalid_json") from None
    except RecursionError:
        raise RequestError("the request's body is nested too deeply", code="invalid_json") from None
    return MessagesOverChat(told, losses.names, str(body.data.get("model", "")), new_id)


class MessagesOverChat:
    """See `Translation`."""

    def __init__(self, body: Body, lost: tuple[str, ...], model: str, new_id: Callable[[], str]) -> None:
        self.body = body
        self.lost = lost
        self._model = model
        self._new_id = new_id

    def reply(self, data: bytes) -> bytes:
        """See `Translation`."""
        return encode(message_of(data, self._model, self._new_id))

    def stream(self) -> MessagesStream:
        """See `Translation`."""
        return MessagesStream(self._model, self._new_id)
