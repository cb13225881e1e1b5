"""One module per wire format: what a body means, how an error looks, what a passing stream says.

Nothing in here does I/O or knows HTTP libraries.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..request import Dialect
from . import chat, messages, responses
from .spoken import Spoken

_KNOWN: Mapping[Dialect, Spoken] = {
    chat.DIALECT: chat,
    responses.DIALECT: responses,
    messages.DIALECT: messages,
}


def spoken(dialect: Dialect) -> Spoken:
    """The module of a dialect. One that only a plugin knows is taken to be close to OpenAI's."""
    return _KNOWN.get(dialect, chat)
