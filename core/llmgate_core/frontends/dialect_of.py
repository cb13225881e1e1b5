"""In which dialect a caller is answered whose request may not even have been read."""

from __future__ import annotations

from ..dialects import chat, spoken
from ..dialects.spoken import Spoken

_BEGINNINGS = {"/v1/messages": "anthropic.messages", "/anthropic/": "anthropic.messages"}


def dialect_of(path: str) -> Spoken:
    """The dialect that a path suggests, also where nothing is served."""
    found = (dialect for beginning, dialect in _BEGINNINGS.items() if path.startswith(beginning))
    return spoken(next(found, chat.DIALECT))
