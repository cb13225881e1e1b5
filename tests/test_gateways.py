"""One gateway after the other: which one gets a request, when a replaced one is closed, and what it leaves behind."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from llmgate_core.app import Gateway, create_app
from llmgate_core.backends import World
from llmgate_core.backoff import BackoffRules
from llmgate_core.circuit import Circuit
from llmgate_core.config import BackendConfig, GatewayConfig
from llmgate_core.credentials import Credential
from llmgate_core.errors import ConnectorError, RequestError
from llmgate_core.gateways import Gateways
from llmgate_core.openai_compatible import OpenAICompatible
from llmgate_core.plugins import Installed, Loaded, PluginSet, load
from llmgate_core.request import RequestRecord
from llmgate_core.sections import FailureHandlingConfig


@dataclass(frozen=True)
class AcmeSettings:
    base_url: str = "http://127.0.0.1:9"


class Acme(OpenAICompatible):
    """Notes which of its kind was closed, and stops a close as long as it is told to."""

    name: ClassVar[str] = "acme"
    settings: AcmeSettings
    closed: ClassVar[list[str]]
    may_close: ClassVar[asyncio.Event]

    async def models(self, credential: Callable[[], Awaitable[Credential]]) -> list[Any]:
        return []

    async def aclose(self) -> None:
        await self.may_close.wait()
        self.closed.append(self.instance.name)


class House:
    """Makes gateways whose application is a script: a request waits until it is let go."""

    def __init__(self) -> None:
        may_close = asyncio.Event()
        may_close.set()
        self.acme: type[Acme] = type("AcmeOfThisTest", (Acme,), {"closed": [], "may_close": may_close})
        self.plugins = PluginSet((*load(()).loaded, Loaded(Installed("acme", "x", "1", "x"), connectors=(self.acme,))))

    def gateway(self, *instances: str, extra: dict[str, Any] | None = None, **sections: Any) -> Gateway:
        backends = tuple(BackendConfig("acme", instance, extra=extra or {}) for instance in instances)
        world = World(lambda: 0.0, random.Random(1), {}, Path("/nowhere"))
        return create_app(GatewayConfig(backends=backends, **sections), plugins=self.plugins, world=world)


class Request:
    """One request that runs in whatever gateway is current, until it is let go."""

    def __init__(self, gateways: Gateways) -> None:
        self._go = asyncio.Event()
        self.came_to: Gateway | None = None
        gateway = gateways.current

        async def app(scope: Any, receive: Any, send: Any) -> None:
            self.came_to = gateway
            await self._go.wait()

        gateway.app = app
        self._task = asyncio.create_task(gateways({"type": "http"}, None, None))  # type: ignore[arg-type]

    async def begun(self) -> Request:
        await turns()
        assert self.came_to is not None
        return self

    async def ends(self, *, cancelled: bool = False) -> None:
        if cancelled:
            self._task.cancel()
        self._go.set()
        await asyncio.gather(self._task, return_exceptions=True)
        await turns()


async def turns(count: int = 10) -> None:
    """Lets everything run that can."""
    for _ in range(count):
        await asyncio.sleep(0)


# --- which one gets a request, and when it is closed ------------------------------------------------------------------


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_replaced_gateway_is_closed_when_its_last_request_has_ended(cancelled: bool) -> None:
    async def run() -> None:
        house = House()
        gateways = Gateways(house.gateway("a"))
        first, second = await Request(gateways).begun(), await Request(gateways).begun()
        old = gateways.current
        gateways.swap(house.gateway("b"))
        third = await Request(gateways).begun()
        assert (first.came_to, second.came_to, third.came_to) == (old, old, gateways.current)
        await first.ends()
        assert house.acme.closed == []
        assert gateways.replaced == 1
        await second.ends(cancelled=cancelled)
        assert house.acme.closed == ["acme.a"]
        assert gateways.replaced == 0
        await third.ends()
        assert house.acme.closed == ["acme.a"], "the current one is idle, not over"
        await gateways.aclose()
        assert house.acme.closed == ["acme.a", "acme.b"]

    asyncio.run(run())


def test_a_new_gateway_tells_of_all_that_runs_and_since_when() -> None:
    async def run() -> None:
        house = House()
        old, new = house.gateway("a"), house.gateway("b")
        began, running = RequestRecord("one", "POST", "/", 0.0), RequestRecord("two", "POST", "/", 0.0)
        old.running, new.running = lambda: [began], lambda: [running]
        gateways = Gateways(old)
        request = await Request(gateways).begun()
        gateways.swap(new)
        assert list(new.running()) == [began, running]
        assert new.started is old.started
        assert new.conversations is old.conversations
        await request.ends()
        assert list(new.running()) == [running]
        await gateways.aclose()

    asyncio.run(run())


def test_an_idle_gateway_is_closed_as_soon_as_it_is_replaced() -> None:
    async def run() -> None:
        house = House()
        gateways = Gateways(house.gateway("a"))
        for name in "bc":
            gateways.swap(house.gateway(name))
        await turns()
        assert house.acme.closed == ["acme.a", "acme.b"]
        await gateways.aclose()

    asyncio.run(run())


def test_the_end_waits_for_what_is_being_closed_and_closes_the_rest() -> None:
    async def run() -> None:
        house = House()
        house.acme.may_close.clear()
        gateways = Gateways(house.gateway("a"))
        gateways.swap(house.gateway("b"))
        running = await Request(gateways).begun()
        gateways.swap(house.gateway("c"))
        end = asyncio.create_task(gateways.aclose())
        await turns()
        assert not end.done()
        house.acme.may_close.set()
        await end
        await gateways.aclose()
        assert sorted(house.acme.closed) == ["acme.a", "acme.b", "acme.c"]
        await running.ends()

    asyncio.run(run())


def test_one_that_fails_to_close_keeps_no_other_open(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        house = House()
        broken = house.gateway("a")

        async def fails() -> None:
            raise ZeroDivisionError

        broken.upstream.aclose = fails  # type: ignore[method-assign]
        gateways = Gateways(broken)
        gateways.swap(house.gateway("b"))
        await gateways.aclose()
        assert house.acme.closed == ["acme.a", "acme.b"]

    with caplog.at_level(logging.ERROR, "llmgate"):
        asyncio.run(run())
    assert "closing a gateway" in caplog.text


def test_all_are_interrupted_and_the_newest_refuses() -> None:
    async def run() -> None:
        house, told = House(), []
        gateways = Gateways(house.gateway("a"))
        await Request(gateways).begun()
        gateways.current.interrupt = lambda: told.append("a")
        gateways.swap(house.gateway("b"))
        gateways.current.interrupt = lambda: told.append("b")
        gateways.current.refused = lambda *_: ({"from": "b"}, b"")
        gateways.interrupt()
        assert told == ["a", "b"]
        assert gateways.refused(RequestError("what?"), "", "", "") == ({"from": "b"}, b"")
        await gateways.aclose()

    asyncio.run(run())


def test_the_lifespan_is_that_of_all() -> None:
    async def run() -> None:
        house, sent = House(), []
        gateways = Gateways(house.gateway("a"))
        messages: asyncio.Queue[Any] = asyncio.Queue()

        async def send(message: Any) -> None:
            sent.append(message["type"])

        task = asyncio.create_task(gateways({"type": "lifespan"}, messages.get, send))
        messages.put_nowait({"type": "lifespan.startup"})
        await turns()
        assert sent == ["lifespan.startup.complete"]
        running = await Request(gateways).begun()
        gateways.swap(house.gateway("b"))
        messages.put_nowait({"type": "lifespan.shutdown"})
        await task
        assert sent[1:] == ["lifespan.shutdown.complete"]
        assert sorted(house.acme.closed) == ["acme.a", "acme.b"]
        await running.ends()

    asyncio.run(run())


# --- what is known of upstreams ---------------------------------------------------------------------------------------


def limited(gateway: Gateway, name: str, until: float) -> float:
    """Records a rate limit at time 0; or, with 0, how much of it is left."""
    backoff = gateway.backends[name].backoff("m")
    assert backoff is not None
    if until:
        backoff.record(until, None, sent=0.0, now=0.0)
    return backoff.remaining(0.0)


def fails(circuit: Circuit) -> None:
    with pytest.raises(ConnectorError), circuit.watching(lambda: 0.0, lambda: "unavailable"):
        raise ConnectorError("unavailable", "down")


def test_deadlines_and_circuits_survive_for_the_same_upstream_only() -> None:
    async def run() -> None:
        house = House()
        old = house.gateway("a", "b")
        gateways = Gateways(old)
        for name in ("acme.a", "acme.b"):
            limited(old, name, 60.0)
            for _ in range(5):
                fails(old.backends[name].circuit("m"))
        new = house.gateway("a", "c")
        gateways.swap(new)
        assert limited(new, "acme.a", 0) == 60.0
        assert new.backends["acme.a"].circuit("m").state(1.0) == "open"
        assert limited(new, "acme.c", 0) == 0.0
        other = house.gateway("a", "c", extra={"base_url": "http://127.0.0.1:10"})
        gateways.swap(other)
        assert limited(other, "acme.a", 0) == 0.0
        assert other.backends["acme.a"].circuit("m").state(1.0) == "closed"
        await gateways.aclose()

    asyncio.run(run())


def test_what_an_old_request_learns_later_is_known_to_the_new_ones_with_their_rules() -> None:
    async def run() -> None:
        house = House()
        old = house.gateway("a")
        before = old.backends["acme.a"].backoff("m")
        new = house.gateway("a", failure_handling=FailureHandlingConfig(max_silent_wait_seconds=7))
        gateways = Gateways(old)
        gateways.swap(new)
        limited(old, "acme.a", 30.0)
        assert limited(new, "acme.a", 0) == 30.0
        shared = new.backends["acme.a"].backoff("m")
        assert shared is not None
        assert shared is before
        assert shared.rules == BackoffRules(7, probe_wait=7, unhinted=1.0)
        circuit = old.backends["acme.a"].circuit("another")
        fails(circuit)
        assert new.backends["acme.a"].circuit("another") is circuit
        await gateways.aclose()

    asyncio.run(run())
