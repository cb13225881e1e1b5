"""`POST /v1/chat/completions`: the OpenAI Chat Completions API, streamed and not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from starlette.routing import Route

from ..dialects import chat
from .endpoint import Endpoint

if TYPE_CHECKING:
    from ..app import Gateway


class OpenAIChat:
    """The front end of the dialect `openai.chat`."""

    name: ClassVar[str] = "openai-chat"
    dialect: ClassVar[str] = chat.DIALECT
    settings: None

    def __init__(self, settings: Any = None) -> None:
        self.settings = settings

    def routes(self, gateway: Gateway) -> Sequence[Route]:
        """One path."""
        return [Route("/v1/chat/completions", Endpoint(gateway, chat, chat.read_request), methods=["POST"])]
