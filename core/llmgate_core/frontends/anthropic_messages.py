"""`POST /v1/messages` and `/v1/messages/count_tokens`: the Anthropic Messages API, below `/anthropic` as well."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from starlette.routing import Route

from ..dialects import messages
from ..dialects.messages_name import named, named_stream
from ..errors import ConnectorError
from ..executor import Answer
from ..request import GatewayRequest, RequestRecord
from ..token_estimate import estimate_tokens
from ..wire import encode
from .endpoint import Endpoint
from .exchange import whole

if TYPE_CHECKING:
    from ..app import Gateway

logger = logging.getLogger("llmgate.frontends")

ESTIMATE_HEADER = "x-llmgate-estimate"
"""The response header of a number of tokens that no upstream has counted."""

PREFIXES = ("", "/anthropic")
"""Clients of Anthropic's add `/v1/messages` to their base URL, which may name the API."""


class AnthropicMessages:
    """The front end of the dialect `anthropic.messages`."""

    name: ClassVar[str] = "anthropic-messages"
    dialect: ClassVar[str] = messages.DIALECT
    settings: None

    def __init__(self, settings: Any = None) -> None:
        self.settings = settings

    def routes(self, gateway: Gateway) -> Sequence[Route]:
        """Two paths, each with and without `/anthropic` before it."""
        ask, count = Ask(gateway, messages, messages.read_request), CountTokens(gateway)
        return [
            route
            for prefix in PREFIXES
            for route in (
                Route(f"{prefix}/v1/messages", ask, methods=["POST"]),
                Route(f"{prefix}/v1/messages/count_tokens", count, methods=["POST"]),
            )
        ]


class Ask(Endpoint):
    """Answers by the name that the caller asked by, where only one model may answer.

    Where several may, the upstream's own name stays: thinking that one of them has signed is nothing for another.
    """

    async def answer(self, request: GatewayRequest, record: RequestRecord) -> Answer:
        """A translated answer has its name already."""
        answer = await super().answer(request, record)
        if answer.is_translated or len(self._gateway.route(request.selector).leaves) > 1:
            return answer
        if answer.stream:
            return answer.through(named_stream(answer.chunks, request.selector))
        data = named(b"".join([chunk async for chunk in answer.chunks]), request.selector)
        answer.headers["content-length"] = str(len(data))
        return answer.through(whole(data).chunks)


class CountTokens(Endpoint):
    """The upstream's own count where it has one, else an estimate that says so: without any, Claude Code guesses low
    and compacts late.
    """

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(gateway, messages, partial(messages.read_request, counts=True), "count_tokens")

    async def answer(self, request: GatewayRequest, record: RequestRecord) -> Answer:
        """One JSON object."""
        leaf = self._gateway.route(request.selector).branches[0].leaf
        backend = self._gateway.executor.backend_of(leaf)
        if messages.DIALECT in backend.dialects:
            try:
                return await super().answer(request, record)
            except ConnectorError as error:
                logger.info("%s: estimated, as the upstream did not count: %s", request.id, error)
        answer = whole(encode({"input_tokens": estimate_tokens(request.body)}))
        answer.headers[ESTIMATE_HEADER] = "true"
        return answer
