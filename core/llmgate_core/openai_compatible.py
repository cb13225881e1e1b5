"""The base class that most connectors need: an upstream that speaks OpenAI Chat Completions.

A subclass sets `name` and `settings`, usually `credentials()`, and overrides a seam only where its upstream differs.
"""

from __future__ import annotations

from typing import ClassVar

from .connectors import UpstreamCall
from .dialects import chat, responses
from .http_connector import HttpConnector
from .request import Operation


class OpenAICompatible(HttpConnector):
    """Sends chat completions, embeddings and completions, and responses where `dialects` has them.

    Seams: `facts`, `base_url`, `url`, `headers`, `body`, `classify`, `mender`, `events`, `reply_headers`. Settings are
    expected to have `base_url` unless that method is overridden, and may have `models`.

    Attributes:
        paths: where each operation goes, below the base URL.
        request_id_headers: in which of its headers the upstream names the request, lower case; the first that is there.
    """

    dialects = frozenset({chat.DIALECT})
    paths: ClassVar[dict[Operation, str]] = {
        "generate": "chat/completions",
        "embeddings": "embeddings",
        "completions": "completions",
    }

    def url(self, call: UpstreamCall) -> str:
        """Where this call goes."""
        if call.operation == "generate" and call.dialect == responses.DIALECT:
            return f"{self.base_url(call.credential)}/responses"
        return super().url(call)
