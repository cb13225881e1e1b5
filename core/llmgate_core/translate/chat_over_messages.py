"""A Chat Completions request over Anthropic Messages: request there, answer and stream back.

What the request loses is in `LOSSES`; what an answer loses is told in `chat_over_messages_reply`.
Sources: OpenAI's and Anthropic's API references, and the types of openai-python 3.54 and anthropic-python 2.12.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

from ..connectors import ModelInfo
from ..errors import RequestError
from ..wire import Body, JsonError, encode
from .chat_over_messages_reply import Manner, completion_of
from .chat_over_messages_request import asks_for_usage, request_of, wants_legacy
from .chat_over_messages_rules import LOSSES
from .chat_over_messages_stream import ChatStream
from .losses import Losses

__all__ = ["LOSSES", "ChatOverMessages", "translate"]


def _new_id() -> str:
    return f"chatcmpl-{uuid.uuid4().hex}"


def translate(
    body: Body,
    *,
    info: ModelInfo | None = None,
    new_id: Callable[[], str] = _new_id,
    clock: Callable[[], float] = time.time,
) -> ChatOverMessages:
    """The translation of one request, which `dialects.chat` has read.

    Args:
        info: what is known of the model.
        new_id: an id for an answer that has none.
        clock: Unix time in seconds.

    Raises:
        RequestError: 400; something in it cannot be said and must not be left out, `param` names it.
    """
    losses = Losses(LOSSES)
    try:
        told = Body(encode(request_of(body, info or ModelInfo(""), losses)))
    except JsonError as error:
        raise RequestError(f"the request's body is not usable JSON: {error}", code="invalid_json") from None
    except RecursionError:
        raise RequestError("the request's body is nested too deeply", code="invalid_json") from None
    manner = Manner(asks_for_usage(body.data), wants_legacy(body.data), new_id, clock)
    return ChatOverMessages(told, losses.names, manner)


class ChatOverMessages:
    """See `Translation`."""

    def __init__(self, body: Body, lost: tuple[str, ...], manner: Manner) -> None:
        self.body = body
        self.lost = lost
        self._manner = manner

    def reply(self, data: bytes) -> bytes:
        """See `Translation`."""
        return completion_of(data, self._manner)

    def stream(self) -> ChatStream:
        """See `Translation`."""
        return ChatStream(self._manner)
