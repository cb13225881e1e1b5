"""Backends: a connector with its settings, its credentials and its retry policy; opened together, closed in reverse."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from . import handed_over
from .backoff import Backoff, BackoffRules, Turn
from .circuit import Circuit, CircuitRules, State
from .connectors import Connector, ModelInfo
from .credentials import Credential, SingleFlight
from .errors import PLUGIN_FAULTS, ConnectorError
from .model_facts import Facts, overridden
from .ownership import Tasks, contained
from .request import Dialect
from .retry import RetryPolicy
from .selector import Names

logger = logging.getLogger("llmgate.backends")


class Idle(Protocol):
    """What may have nothing to tell."""

    @property
    def is_idle(self) -> bool:
        """Whether it is as if nothing had ever happened."""


T = TypeVar("T", bound=Idle)


@dataclass(frozen=True)
class World:
    """What lies outside of the gateway: clock (Unix seconds), chance, environment, home folder, waiting (seconds)."""

    clock: Callable[[], float]
    random: random.Random
    environ: Mapping[str, str]
    home: Path
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(frozen=True)
class Readiness:
    """Whether a backend can be used, and if not, why and what to do. Never holds a secret."""

    ready: bool
    detail: str


@dataclass(frozen=True)
class Pacing:
    """How a backend is treated after rate limits and failures, unless its connector has rules of its own.

    Args:
        backoff: of each of its models; None where nobody waits and nothing is remembered.
        circuit: of each of its models.
    """

    backoff: BackoffRules | None = None
    circuit: CircuitRules = field(default_factory=CircuitRules)


@dataclass(frozen=True)
class Remembered:
    """What the requests before have told about one model of a backend.

    Args:
        failures: in a row.
        tried_in: seconds until its circuit lets one request through, 0 when it does, None while it is closed.
        backoff: seconds until its deadline, 0 when one request may go first, None where all may go.
    """

    model: str
    circuit: State
    failures: int
    tried_in: float | None
    backoff: float | None


CLOSE_SECONDS = 5.0
"""How long a connector may take to close."""
MAX_MODELS = 256
"""Models of one backend of which something is remembered; callers may ask for any name."""


@dataclass
class Backend:
    """One configured way to an upstream, ready to be asked.

    Args:
        shared: the rules that the connector offers for all its requests together, None where it offers none.
        answer_seconds: how long its credential, and its answer, may take to come; None for ever.
    """

    name: str
    connector: Connector
    credentials: SingleFlight
    retry: RetryPolicy
    shared: BackoffRules | None = None
    pacing: Pacing = Pacing()
    logger: logging.Logger = logger
    random: random.Random = field(default_factory=random.Random)
    default_params: Mapping[str, Any] = field(default_factory=dict)
    forced_params: Mapping[str, Any] = field(default_factory=dict)
    model_facts: Mapping[str, Facts] = field(default_factory=dict)
    dialects: frozenset[Dialect] = frozenset()
    answer_seconds: float | None = None
    tasks: Tasks = field(default_factory=Tasks, repr=False)
    _told: set[str] = field(default_factory=set, repr=False)
    _backoffs: dict[str, Backoff] = field(default_factory=dict)
    _circuits: dict[str, Circuit] = field(default_factory=dict)

    def turn(
        self,
        model: str,
        sleep: Callable[[float], Awaitable[None]],
        monotonic: Callable[[], float],
        *,
        patient: bool = True,
    ) -> Turn:
        """The place of one request before this backend."""
        return Turn(self.backoff(model), self.logger, self.random, sleep=sleep, monotonic=monotonic, patient=patient)

    def backoff(self, model: str) -> Backoff | None:
        """The deadline that requests for this model share; with all others, where the connector says so."""
        rules = self.shared or self.pacing.backoff
        if rules is None:
            return None
        return _remembered(self._backoffs, "" if self.shared else model, lambda: Backoff(rules))

    def circuit(self, model: str) -> Circuit:
        """Whether this model of the backend keeps failing."""
        return _remembered(self._circuits, model, lambda: Circuit(self.pacing.circuit))

    def remembered(self, now: float) -> list[Remembered]:
        """All models of which something is remembered, and what; asking changes nothing."""
        models = dict.fromkeys([*self._circuits, *([] if self.shared else self._backoffs)])
        unknown = Circuit()
        found = [(model, self._circuits.get(model, unknown), self._backoffs.get(model)) for model in models]
        return [
            Remembered(model, circuit.state(now), circuit.failures, circuit.remaining(now), _left(backoff, now))
            for model, circuit, backoff in found
        ]

    def shared_backoff(self, now: float) -> float | None:
        """Seconds until the deadline of all models together, as in `Remembered`."""
        return _left(self._backoffs.get(""), now) if self.shared else None

    def worst_circuit(self, now: float) -> State:
        """The state of the model that fares worst; `closed` where none is known to fail."""
        states = {circuit.state(now) for circuit in self._circuits.values()}
        return "open" if "open" in states else "half-open" if "half-open" in states else "closed"

    def readiness(self) -> Readiness:
        """What can be said without asking anybody."""
        try:
            with contained():
                self.connector.check()
                status = handed_over.status(self.credentials.provider.status())
        except ConnectorError as error:
            return Readiness(False, self._as_declared(error).message)
        except handed_over.Misfit as misfit:
            self.tell_once(str(misfit))
            return Readiness(False, f"its connector `{self.connector.name}` is at fault: {misfit}")
        except PLUGIN_FAULTS as error:
            logger.exception("connector of backend %s", self.name)
            return Readiness(False, f"its connector raised {type(error).__name__}; see the log")
        return Readiness(bool(status.ready), status.detail)

    def credential_facts(self) -> Mapping[str, Any]:
        """What the credential provider tells about its credential; nothing where it fails."""
        try:
            return handed_over.status(self.credentials.provider.status()).facts
        except PLUGIN_FAULTS:
            self.logger.debug("status of backend %s", self.name, exc_info=True)
            return {}

    def tell_once(self, words: str) -> None:
        """Tells the log of a fault of the connector's that would otherwise be told with every request."""
        if words not in self._told:
            self._told.add(words)
            self.logger.error("connector of backend %s is at fault: %s", self.name, words)

    def _as_declared(self, error: ConnectorError) -> ConnectorError:
        """A failure that is not told with a request, with fields of the right types."""
        failure, wrong = handed_over.failure(error)
        if wrong:
            self.tell_once(f"it raised a `ConnectorError` with a wrong {handed_over.named(wrong)}")
        return failure

    async def models(self, learn: Callable[[Iterable[str]], None] = lambda _: None) -> Sequence[ModelInfo]:
        """The models of this backend; raises ConnectorError when they cannot be had, or must not be used.

        Args:
            learn: told the secrets of a credential before it is used, as an upstream may echo it.
        """

        async def credential() -> Credential:
            found = await self.credentials.get()
            learn(found.secrets())
            return found

        try:
            with contained(), self.tasks.owning():
                self.connector.check()
                listed = await self.connector.models(credential)
        except ConnectorError as error:
            raise self._as_declared(error) from None
        return [overridden(handed_over.model_info(info, "models"), self.model_facts) for info in listed]

    def facts(self, model: str) -> ModelInfo | None:
        """What is known of a model without asking anybody: the operator's word, then the connector's.

        A connector need not know anything, and one whose `facts` fails is taken as one that does not.
        """
        try:
            with contained():
                found = self.connector.facts(model) if hasattr(self.connector, "facts") else None
            found = None if found is None else handed_over.model_info(found, "facts")
        except handed_over.Misfit as misfit:
            self.tell_once(f"{misfit}; it counts as knowing nothing of the model")
            found = None
        except PLUGIN_FAULTS:
            self.logger.exception("what the connector of backend %s knows of a model", self.name)
            found = None
        info = overridden(found or ModelInfo(model), self.model_facts)
        return None if info == ModelInfo(model) else info

    def inherit(self, older: Backend) -> None:
        """Shares from now on what `older` knows of rate limits and failures: it may still serve, and learn more."""
        self._backoffs, self._circuits = older._backoffs, older._circuits
        if rules := self.shared or self.pacing.backoff:
            for backoff in self._backoffs.values():
                backoff.rules = rules

    async def aclose(self) -> None:
        """Lets a refresh under way finish, then closes the connector, and ends what it has left behind."""
        await self.credentials.aclose()
        limit = asyncio.timeout(CLOSE_SECONDS)
        try:
            with contained(), self.tasks.owning():
                async with limit:
                    await self.connector.aclose()
        except TimeoutError:
            if not limit.expired():
                raise  # the connector's own
        finally:
            if limit.expired():
                told = "backend %s: `aclose()` of connector `%s` hung for %g s, and was cancelled"
                self.logger.warning(told, self.name, self.connector.name, CLOSE_SECONDS)
            for task in await self.tasks.end():
                self.logger.warning(
                    "backend %s: connector `%s` left a task behind, which was cancelled: %s; "
                    "a connector ends its tasks in `aclose()`",
                    self.name,
                    self.connector.name,
                    task,
                )


class Backends:
    """All enabled backends of one gateway, by full name (`<connector>.<instance>`)."""

    def __init__(self, backends: Sequence[Backend], names: Names) -> None:
        self._backends = {backend.name: backend for backend in backends}
        self.names = names

    def __getitem__(self, name: str) -> Backend:
        return self._backends[name]

    def __iter__(self) -> Iterator[Backend]:
        return iter(self._backends.values())

    def __len__(self) -> int:
        return len(self._backends)

    def inherit(self, older: Backends, names: Iterable[str]) -> None:
        """Takes over what `older` knows of the upstreams of these backends, which both must have."""
        for name in names:
            self[name].inherit(older[name])

    async def aclose(self) -> None:
        """Closes all side by side, the last opened first; one that fails or hangs does not keep the others open."""

        async def closed(backend: Backend) -> None:
            try:
                await backend.aclose()
            except PLUGIN_FAULTS:
                logger.exception("closing backend %s", backend.name)

        await asyncio.gather(*map(closed, reversed(self._backends.values())))


def _remembered(known: dict[str, T], model: str, make: Callable[[], T]) -> T:
    """What is known of a model; of many, what nobody has asked for longest is forgotten, and first what tells nothing.

    Callers may ask for any name, and must not wipe out what is known of others.
    """
    if model in known:
        known[model] = known.pop(model)
        return known[model]
    while len(known) >= MAX_MODELS:
        del known[next((name for name, one in known.items() if one.is_idle), next(iter(known)))]
    known[model] = make()
    return known[model]


def _left(backoff: Backoff | None, now: float) -> float | None:
    return None if backoff is None or backoff.is_over else backoff.remaining(now)
