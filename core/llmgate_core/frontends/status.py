"""`GET /llmgate/status`: what the gateway is doing, for whoever runs it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

from starlette.responses import JSONResponse
from starlette.routing import Route

from ..dialects import chat
from ..errors import RequestError
from ..request import RequestRecord
from .access import is_loopback
from .exchange import Receive, Scope, Send
from .rim import RECORD

if TYPE_CHECKING:
    from ..app import Gateway
    from ..backends import Backend, Remembered

PATH = "/llmgate/status"


class Status:
    """The front end for the operator."""

    name: ClassVar[str] = "status"
    dialect: ClassVar[str] = chat.DIALECT
    settings: None

    def __init__(self, settings: Any = None) -> None:
        self.settings = settings

    def routes(self, gateway: Gateway) -> Sequence[Route]:
        """One path."""
        return [Route(PATH, Report(gateway), methods=["GET"])]


class Report:
    """Tells reasons and what callers ask for, so not everybody may ask.

    A key is checked by the rim, where the gateway has any; the peer's address is checked here.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._version = version("llmgate-core")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """200, or 403 for an address that may not ask."""
        record: RequestRecord = scope[RECORD]
        config = self._gateway.config
        if config.server.status_from == "loopback" and not is_loopback(record.client):
            raise RequestError(
                f"only the gateway's own machine may ask for {PATH}; to let everybody ask whom the gateway serves, "
                "set `server.status_from: anywhere`",
                status=403,
                code="status_not_allowed",
            )
        others = [other for other in self._gateway.running() if other is not record]
        await JSONResponse(self._content(others), headers={"cache-control": "no-store"})(scope, receive, send)

    def _content(self, running: Sequence[RequestRecord]) -> dict[str, Any]:
        config, now = self._gateway.config, self._gateway.executor.now()
        return {
            "version": self._version,
            "started": _rfc3339(self._gateway.started.unix),
            "uptime_seconds": _rounded(now - self._gateway.started.monotonic),
            "in_flight": len(running),
            "default_backend": self._struck(config.default_backend),
            "force_model": self._struck(config.force_model),
            "backends": [self._backend(backend, running, now) for backend in self._gateway.backends],
        }

    def _backend(self, backend: Backend, running: Sequence[RequestRecord], now: float) -> dict[str, Any]:
        readiness = backend.readiness()
        return {
            "name": backend.name,
            "connector": backend.connector.name,
            "ready": readiness.ready,
            "detail": self._struck(readiness.detail),
            "in_flight": sum(busy_with(record, backend.name) for record in running),
            "backoff_seconds": _rounded(backend.shared_backoff(now)),
            "models": [self._model(one) for one in backend.remembered(now)],
        }

    def _model(self, one: Remembered) -> dict[str, Any]:
        return {
            "model": self._struck(one.model),
            "circuit": one.circuit,
            "failures": one.failures,
            "tried_again_in_seconds": _rounded(one.tried_in),
            "backoff_seconds": _rounded(one.backoff),
        }

    def _struck(self, text: str | None) -> str | None:
        return None if text is None else self._gateway.redactor.strike(text)


def busy_with(record: RequestRecord, backend: str) -> int:
    """How many attempts of a running request occupy `backend`: their outcome is not known, or their stream passes."""
    undecided = [attempt for attempt in record.attempts if attempt.kind is None and not attempt.seconds]
    passing = [record.served_by] if record.served_by and record.stream else []
    return sum(attempt.backend == backend for attempt in (*undecided, *passing))


def _rfc3339(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
