"""`/v1/responses`: the OpenAI Responses API, with a memory for callers who continue a response."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from starlette.responses import Response
from starlette.routing import Route

from ..dialects import responses
from ..dialects.requests import mistyped
from ..errors import RequestError
from ..executor import Answer
from ..mending import MAX_WHOLE_BYTES
from ..request import GatewayRequest, RequestRecord
from ..sse import Parser
from ..wire import decode, encode
from .endpoint import Endpoint
from .exchange import Receive, Scope, Send
from .rim import RECORD

if TYPE_CHECKING:
    from ..app import Gateway

Chunks = AsyncGenerator[bytes, None]

ENDS = ("response.completed", "response.incomplete")


class OpenAIResponses:
    """The front end of the dialect `openai.responses`."""

    name: ClassVar[str] = "openai-responses"
    dialect: ClassVar[str] = responses.DIALECT
    settings: None

    def __init__(self, settings: Any = None) -> None:
        self.settings = settings

    def routes(self, gateway: Gateway) -> Sequence[Route]:
        """Responses, and each of those that are kept."""
        return [
            Route("/v1/responses", Responses(gateway), methods=["POST"]),
            Route("/v1/responses/{id}", KeptResponse(gateway), methods=["GET", "DELETE"]),
        ]


class Responses(Endpoint):
    """Requests of which an upstream that speaks another dialect remembers nothing are kept here."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(gateway, responses, responses.read_request)

    async def answer(self, request: GatewayRequest, record: RequestRecord) -> Answer:
        """The answer to the whole conversation; kept where the caller may want to continue it."""
        request = self._continued(request)
        answer = await super().answer(request, record)
        if answer.is_translated and request.body.get("store") is not False:
            keep = self._kept_at_its_end if answer.stream else self._kept_whole
            return answer.through(keep(answer.chunks, request))
        return answer

    def _continued(self, request: GatewayRequest) -> GatewayRequest:
        """The request with all of its conversation, as far as it is here; what the upstream keeps is named as it was.

        Raises:
            RequestError: 400 `previous_response_not_found`.
        """
        previous = request.body.get("previous_response_id")
        if previous is None and not len(self._gateway.conversations):  # nothing that it could refer to
            return request
        if previous is not None and not isinstance(previous, str):
            raise mistyped("previous_response_id", "a string")
        given = responses.input_items(request.body.get("input"))
        items = self._gateway.conversations.resolved(given, request.caller)
        if previous is not None:
            try:
                items = [*self._gateway.conversations.get(previous, request.caller), *items]
            except RequestError:
                if not self._is_native(request):
                    raise
                return request
        if items == given:
            return request
        return replace(request, body=request.body.splice({"input": items}, remove=["previous_response_id"]))

    def _is_native(self, request: GatewayRequest) -> bool:
        """Whether everybody who may answer speaks this dialect, and so keeps its own responses."""
        plan = self._gateway.route(request.selector)
        if any(branch.reasoning for branch in plan.branches):  # it is asked in another dialect
            return False
        backends = map(self._gateway.executor.backend_of, plan.leaves)
        return all(responses.DIALECT in backend.dialects for backend in backends)

    async def _kept_at_its_end(self, chunks: Chunks, request: GatewayRequest) -> Chunks:
        """A stream as it passes. The conversation is kept before its caller can read the end, and go on from it."""
        parser = Parser(limit=MAX_WHOLE_BYTES)
        async for chunk in chunks:
            for event in parser.feed(chunk):
                if event.event in ENDS:
                    self._keep(decode(event.data)["response"], request)
            yield chunk

    async def _kept_whole(self, chunks: Chunks, request: GatewayRequest) -> Chunks:
        """A plain answer, which is one chunk."""
        async for chunk in chunks:
            self._keep(decode(chunk), request)
            yield chunk

    def _keep(self, response: dict[str, Any], request: GatewayRequest) -> None:
        items = responses.input_items(request.body.get("input"))
        self._gateway.conversations.put(response, request.caller, items)


class KeptResponse:
    """One response that is kept here; those that an upstream keeps are asked for there."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Shows it, or forgets it; raises RequestError, 404, for one that is unknown, forgotten or another caller's."""
        id, caller = scope["path_params"]["id"], scope[RECORD].caller
        kept = self._gateway.conversations
        if scope["method"] != "DELETE":
            found = kept.response(id, caller)
        elif kept.forget(id, caller):
            found = encode({"id": id, "object": "response", "deleted": True})
        else:
            found = None
        if found is None:
            raise RequestError(
                f"Response with id '{id[:100]}' not found. [llmgate: it keeps the latest responses only, in memory, "
                "for the caller who asked for them, and only those that it has translated; an upstream that speaks "
                "this dialect keeps its own]",
                status=404,
                code="response_not_found",
                param="id",
            )
        body = b"" if scope["method"] == "HEAD" else found
        await Response(body, media_type="application/json")(scope, receive, send)
