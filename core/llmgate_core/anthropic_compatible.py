"""The base class for connectors whose upstream speaks Anthropic Messages.

A subclass sets `name` and `settings`, usually `credentials()`, and overrides a seam only where its upstream differs.
Source: Anthropic's API reference (versioning, messages, counting tokens, listing models).
"""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import quote

from .connectors import ModelInfo, UpstreamCall
from .credentials import Credential
from .dialects import messages
from .http_connector import HttpConnector, listed_models
from .request import Operation
from .wire import decode

VERSION = "2023-06-01"
"""The version of the API that is asked for where neither caller nor settings name one."""

PAGE = 1000
MAX_PAGES = 20


class AnthropicCompatible(HttpConnector):
    """Sends messages, and counts their tokens.

    Seams: `facts`, `base_url`, `url`, `headers`, `body`, `classify`, `mender`, `events`, `reply_headers`. Settings are
    expected to have `base_url` unless that method is overridden, and may have `models` and `anthropic_version`.

    Attributes:
        paths: where each operation goes, below `/v1`.
        request_id_headers: in which of its headers the upstream names the request, lower case; the first that is there.
    """

    dialects = frozenset({messages.DIALECT})
    paths: ClassVar[dict[Operation, str]] = {"generate": "messages", "count_tokens": "messages/count_tokens"}
    request_id_headers = ("request-id", "x-request-id")

    def base_url(self, credential: Credential) -> str:
        """Where the API is, with its `/v1`, whether or not it was written with it."""
        return f"{super().base_url(credential).removesuffix('/v1')}/v1"

    def headers(self, call: UpstreamCall) -> dict[str, str]:
        """Request headers; a caller who names a version of the API, or betas, knows what it wants."""
        return {"anthropic-version": self.version(), **super().headers(call)}

    def version(self) -> str:
        """The version of the API for callers who name none."""
        return str(getattr(self.settings, "anthropic_version", VERSION))

    async def list_models(self, credential: Credential) -> list[ModelInfo]:
        """What `GET /v1/models` lists, page by page."""
        found: list[ModelInfo] = []
        after: str | None = None
        for _ in range(MAX_PAGES):
            query = f"?limit={PAGE}" + (f"&after_id={quote(after, safe='')}" if after else "")
            url = f"{self.base_url(credential)}/models{query}"
            body = await self.get(url, credential, {"anthropic-version": self.version()})
            found += listed_models(body)
            last, after = after, _next_page(decode(body))
            if after in (None, last):
                break
        return found


def _next_page(listed: dict[str, Any]) -> str | None:
    """The id after which the list goes on, None where it does not."""
    last = listed.get("last_id")
    return last if listed.get("has_more") is True and isinstance(last, str) and last else None
