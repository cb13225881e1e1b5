"""The gateway that serves, and those before it that still have requests, as one ASGI application.

A request stays with the gateway that it came to, however long it runs; the next one, on the same connection too, comes
to the newest. A gateway that has been replaced is closed, in the background, when its last request has ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .app import Gateway
from .changes import same_upstreams
from .errors import PLUGIN_FAULTS, RequestError
from .frontends.exchange import Receive, Scope, Send
from .request import RequestRecord

logger = logging.getLogger("llmgate.app")


@dataclass(eq=False)
class Term:
    """One gateway's time of service: the records of what runs in it, and how many requests there are."""

    gateway: Gateway
    running: Callable[[], Sequence[RequestRecord]]
    requests: int = 0


class Gateways:
    """One gateway at a time for new requests; it can be replaced while they come.

    Its lifespan is that of all of them: when it ends, every gateway that it was given is closed.
    """

    def __init__(self, first: Gateway) -> None:
        self._now = Term(first, first.running)
        self._before: list[Term] = []
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def current(self) -> Gateway:
        """The gateway that gets new requests."""
        return self._now.gateway

    @property
    def replaced(self) -> int:
        """How many older gateways are not closed yet."""
        return len(self._before)

    def running(self) -> Sequence[RequestRecord]:
        """The records of what runs in any of them."""
        return [record for term in (*self._before, self._now) for record in term.running()]

    def swap(self, new: Gateway) -> None:
        """From now on new requests come to `new`, which knows what the one before it knew of the same upstreams."""
        old = self._now
        new.backends.inherit(old.gateway.backends, same_upstreams(old.gateway.config, new.config))
        new.started, new.conversations = old.gateway.started, old.gateway.conversations
        self._now = Term(new, new.running)
        new.running = self.running
        self._before.append(old)
        if not old.requests:
            self._close(old)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands a request to the current gateway, and waits for its end."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        term = self._now
        term.requests += 1
        try:
            await term.gateway.app(scope, receive, send)
        finally:
            term.requests -= 1
            if term is not self._now and not term.requests:
                self._close(term)

    def refused(self, error: RequestError, client: str, method: str, path: str) -> tuple[Mapping[str, str], bytes]:
        """Answers what did not become a request; see `faults.Refused`."""
        answer = self.current.refused
        assert answer is not None  # noqa: S101 - `create_app` gives every gateway one
        return answer(error, client, method, path)

    def interrupt(self) -> None:
        """Ends what is still running in any gateway, the replaced ones included."""
        for term in (*self._before, self._now):
            term.gateway.interrupt()

    async def aclose(self) -> None:
        """Closes all gateways, and waits for those that are being closed already. May be called twice."""
        for term in (*self._before, self._now):
            self._close(term)
        await asyncio.gather(*self._closing)

    def _close(self, term: Term) -> None:
        task = asyncio.create_task(self._closed(term))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _closed(self, term: Term) -> None:
        try:
            await term.gateway.aclose()
        except PLUGIN_FAULTS:
            logger.exception("closing a gateway that has been replaced")
        finally:
            if term in self._before:
                self._before.remove(term)

    async def _live(self, receive: Receive, send: Send) -> None:
        # Not the gateways' own lifespans: each would want to begin when it comes and to end when it goes, and all that
        # they do is to close.
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.aclose()
        await send({"type": "lifespan.shutdown.complete"})
