"""Which dialect a request goes up in, and who translates it on the way."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from ..dialects import chat, messages, responses
from ..request import Dialect
from ..wire import Body
from . import Translation, chat_over_messages, messages_over_chat, responses_over_chat
from .relayed import Relayed

Translate = Callable[[Body], Translation]


def responses_over_messages(body: Body) -> Translation:
    """Neither is the hub: first into chat, then out of it."""
    return Relayed(responses_over_chat.translate(body), chat_over_messages.translate)


_WAYS: Mapping[tuple[Dialect, Dialect], Translate] = {
    (responses.DIALECT, chat.DIALECT): responses_over_chat.translate,
    (messages.DIALECT, chat.DIALECT): messages_over_chat.translate,
    (chat.DIALECT, messages.DIALECT): chat_over_messages.translate,
    (responses.DIALECT, messages.DIALECT): responses_over_messages,
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
