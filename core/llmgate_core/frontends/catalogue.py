"""`GET /v1/models`, `/healthz`, `/readyz` and the probes that clients send before they trust a base URL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..dialects import chat
from ..errors import RequestError
from .access import PROBES
from .exchange import HangUp, Receive, Scope, Send, read_body

if TYPE_CHECKING:
    from ..app import Gateway, Listed


class Catalogue:
    """The front end for everything that is not a conversation."""

    name: ClassVar[str] = "catalogue"
    dialect: ClassVar[str] = chat.DIALECT
    settings: None

    def __init__(self, settings: Any = None) -> None:
        self.settings = settings

    def routes(self, gateway: Gateway) -> Sequence[Route]:
        """Models, health and probes."""
        return [
            Route("/v1/models", Models(gateway), methods=["GET"]),
            Route("/v1/models/{id:path}", Models(gateway), methods=["GET"]),
            Route("/healthz", Health(), methods=["GET"]),
            Route("/readyz", Ready(gateway), methods=["GET"]),
            *[Route(path, Health(), methods=["GET"]) for path in PROBES],
        ]


class Models:
    """What can be asked for, in the list shape of OpenAI or of Anthropic; one model by its id."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lists, or looks one up."""
        wanted = scope["path_params"].get("id")
        await read_body(scope, receive, self._gateway.config.server.max_body_bytes)
        async with HangUp(receive):
            listed = (await self._gateway.models()).models
        is_anthropic = "anthropic-version" in scope["llmgate.headers"]
        shown = [(_shown_to_anthropic if is_anthropic else _shown)(id, one) for id, one in listed.items()]
        if wanted is None:
            await JSONResponse((_anthropic_list if is_anthropic else _list)(shown))(scope, receive, send)
            return
        for model in shown:
            if model["id"] == wanted:
                await JSONResponse(model)(scope, receive, send)
                return
        raise RequestError(
            f"there is no model `{wanted[:200]}`; `GET /v1/models` lists what can be asked for",
            status=404,
            code="model_not_found",
            param="model",
        )


def _list(shown: Sequence[Any]) -> dict[str, Any]:
    return {"object": "list", "data": shown}


def _anthropic_list(shown: Sequence[Any]) -> dict[str, Any]:
    """All on one page, whatever `limit` says: clients ask for at most a thousand."""
    ends = {"first_id": shown[0]["id"], "last_id": shown[-1]["id"]} if shown else {"first_id": None, "last_id": None}
    return {"data": shown, "has_more": False, **ends}


def _shown_to_anthropic(id: str, listed: Listed) -> dict[str, Any]:
    """A model in Anthropic's shape (API reference, "List Models"); nobody knows when it came into being."""
    return {"type": "model", "id": id, "display_name": id, "created_at": "1970-01-01T00:00:00Z"}


def _shown(id: str, listed: Listed) -> dict[str, Any]:
    """A model in OpenAI's shape; what is known of it besides stands where OpenRouter's list has it, in its names."""
    info = listed.info
    shown: dict[str, Any] = {"id": id, "object": "model", "created": 0, "owned_by": listed.backend}
    if info.context is not None:
        shown["context_length"] = info.context
    if info.input:
        shown["architecture"] = {"input_modalities": list(info.input)}
    if info.max_output is not None:
        shown["top_provider"] = {"context_length": info.context, "max_completion_tokens": info.max_output}
    return shown


class Health:
    """The gateway is alive."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """200, always."""
        body = b"" if scope["method"] == "HEAD" else b'{"status":"ok"}'
        await Response(body, media_type="application/json")(scope, receive, send)


class Ready:
    """At least one backend can be used. Names and states, no reasons: those may hold paths, and anybody may ask.

    No models either: callers choose what they are called. A backend whose circuit is open is ready all the same, as a
    request that has no other branch is always sent.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """200 or 503."""
        states = {backend.name: backend.readiness().ready for backend in self._gateway.backends}
        ready = any(states.values())
        now = self._gateway.executor.now()
        circuits = {backend.name: backend.worst_circuit(now) for backend in self._gateway.backends}
        content: dict[str, Any] = {
            "status": "ready" if ready else "not_ready",
            "backends": {name: "ready" if state else "not_ready" for name, state in states.items()},
        }
        if failing := {name: state for name, state in circuits.items() if state != "closed"}:
            content["circuits"] = failing
        await JSONResponse(content, status_code=200 if ready else 503)(scope, receive, send)
