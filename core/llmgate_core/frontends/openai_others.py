"""`POST /v1/embeddings` and `/v1/completions`: passed through to upstreams that have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from starlette.routing import Route

from ..dialects import chat
from .endpoint import Endpoint

if TYPE_CHECKING:
    from ..app import Gateway


class OpenAIOthers:
    """The front end for what else OpenAI has; errors and streams look as in `openai.chat`."""

    name: ClassVar[str] = "openai-others"
    dialect: ClassVar[str] = chat.DIALECT
    settings: None

    def __init__(self, settings: Any = None) -> None:
        self.settings = settings

    def routes(self, gateway: Gateway) -> Sequence[Route]:
        """A path for each operation."""
        return [
            Route(f"/v1/{operation}", Endpoint(gateway, chat, chat.read_other, operation), methods=["POST"])
            for operation in ("embeddings", "completions")
        ]
