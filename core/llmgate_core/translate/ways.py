"""Which dialect a request goes up in, and who translates it on the way."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial

from ..connectors import ModelInfo
from ..dialects import chat, messages, responses
from ..request import Dialect
from ..wire import Body
from . import Translation, chat_over_messages, messages_over_chat, responses_over_chat
from .relayed import Relayed

Translate = Callable[[Body, ModelInfo | None], Translation]
"""Makes the translation of a body for a model, of which something may be known.

Messages has to be told how long an answer may be and in which way the model thinks, and callers of other dialects
cannot say.
"""


def _responses_over_chat(body: Body, info: ModelInfo | None) -> Translation:
    return responses_over_chat.translate(body)


def _messages_over_chat(body: Body, info: ModelInfo | None) -> Translation:
    return messages_over_chat.translate(body)


def _chat_over_messages(body: Body, info: ModelInfo | None) -> Translation:
    return chat_over_messages.translate(body, info=info)


def _responses_over_messages(body: Body, info: ModelInfo | None) -> Translation:
    """Neither is the hub: first into chat, then out of it."""
    return Relayed(responses_over_chat.translate(body), partial(chat_over_messages.translate, info=info))


_WAYS: Mapping[tuple[Dialect, Dialect], Translate] = {
    (responses.DIALECT, chat.DIALECT): _responses_over_chat,
    (messages.DIALECT, chat.DIALECT): _messages_over_chat,
    (chat.DIALECT, messages.DIALECT): _chat_over_messages,
    (responses.DIALECT, messages.DIALECT): _responses_over_messages,
}
"""By the caller's dialect and the upstream's, the better ones first."""


def way(caller: Dialect, upstream: Collection[Dialect]) -> tuple[Dialect, Translate | None] | None:
    """The dialect to go up in, with its translator; None where the upstream speaks none that can be reached.

    The caller's own, where the upstream speaks it: then nothing is translated, and every byte passes.
    """
    if caller in upstream:
        return caller, None
    for (spoken, reached), translate in _WAYS.items():
        if spoken == caller and reached in upstream:
            return reached, translate
    return None
