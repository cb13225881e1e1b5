"""The base class that most connectors need: an upstream that speaks OpenAI Chat Completions.

A subclass sets `name` and `settings`, usually `credentials()`, and overrides a seam only where its upstream differs.
"""

from __future__ import annotations

from .connectors import ModelInfo, UpstreamCall
from .credentials import Credential
from .dialects import chat
from .errors import ConnectorError
from .http_connector import HttpConnector, listed_models
from .request import Dialect

RESPONSES: Dialect = "openai.responses"

_PATHS = {"generate": "chat/completions", "embeddings": "embeddings", "completions": "completions"}
"""Where each operation goes."""


class OpenAICompatible(HttpConnector):
    """Sends chat completions, embeddings and completions, and responses where `dialects` has them.

    Seams: `facts`, `base_url`, `url`, `headers`, `body`, `classify`, `mender`, `events`. Settings are expected to have
    `base_url` unless that method is overridden, and may have `models`.

    Attributes:
        request_id_headers: in which of its headers the upstream names the request, lower case; the first that is there.
    """

    dialects = frozenset({chat.DIALECT})

    def url(self, call: UpstreamCall) -> str:
        """Where this call goes."""
        path = _PATHS.get(call.operation)
        if call.operation == "generate" and call.dialect == RESPONSES:
            path = "responses"
        if path is None:
            raise ConnectorError("not_found", f"the upstream has no operation `{call.operation}`")
        return f"{self.base_url(call.credential)}/{path}"

    async def list_models(self, credential: Credential) -> list[ModelInfo]:
        """What `GET /models` lists."""
        return listed_models(await self.get(f"{self.base_url(credential)}/models", credential))
