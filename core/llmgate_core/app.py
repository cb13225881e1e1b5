"""The composition root: configuration, plugins, backends, executor and front ends become one ASGI app."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Router

from . import selector
from .backends import Backend, Backends, World
from .checks import find_problems
from .config import GatewayConfig
from .connectors import ModelInfo, Policy
from .construction import build
from .errors import PLUGIN_FAULTS, ConfigError, ConnectorError, PluginError, Problem, SelectorError, words_of
from .executor import Answer, Budget, Executor
from .faults import Refused
from .frontends.access import Access, BadKeys, KnownKey
from .frontends.rim import App, Rim, not_found
from .handed_over import Misfit, sort_of
from .observe import Redactor
from .ownership import contained
from .plugins import PluginSet, load
from .policies.edit_precision import EditPrecision
from .policies.rewrites import Expanded
from .policies.uri_params import UriParams, UriParamsSettings, refuse_wrong
from .policy_settings import decode_policies
from .request import GatewayRequest, RequestRecord
from .response_store import ResponseStore
from .selector import RoutePlan
from .settings import MissingSecret
from .upstream import Upstream

logger = logging.getLogger("llmgate.app")

MODELS_TIMEOUT_SECONDS = 10.0

ROUTE, REWRITE = "route", "rewrite"
"""What stands in the place of a backend's name where a named route, or the exact name in a rewrite, is listed."""


def real_world() -> World:
    """The World of a process that serves."""
    return World(clock=time.time, random=random.Random(), environ=os.environ, home=Path.home())  # noqa: S311


@dataclass(frozen=True)
class Listed:
    """One model that can be asked for: its backend's name, ROUTE or REWRITE, and what is known of it."""

    backend: str
    info: ModelInfo


@dataclass
class Catalogue:
    """Ids that can be asked for, each with who serves it; and why some backends list nothing."""

    models: dict[str, Listed] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Moment:
    """A moment on both clocks, in seconds."""

    unix: float
    monotonic: float


@dataclass
class Gateway:
    """What front ends call. `app` is the whole of it as an ASGI app; `interrupt` ends what is still running in it.

    `running` has the records of what is still running. `refused` is for our own server: it answers what did not become
    a request. `keys` are those of callers. `started` is when callers were first served, and `conversations` are what
    they may continue: both may come from a gateway before it.
    """

    config: GatewayConfig
    plugins: PluginSet
    backends: Backends
    executor: Executor
    redactor: Redactor
    upstream: Upstream
    app: App
    interrupt: Callable[[], None] = lambda: None
    running: Callable[[], Sequence[RequestRecord]] = tuple
    refused: Refused | None = None
    keys: Sequence[KnownKey] = ()
    started: Moment = field(default_factory=lambda: Moment(time.time(), time.monotonic()))
    conversations: ResponseStore = field(default_factory=ResponseStore)
    closed: bool = False

    def route(self, text: str) -> RoutePlan:
        """The plan for what a caller asked for: `force_model`, rewrites and routes first, then the selector.

        Raises:
            SelectorError: it cannot be read, or names no backend.
        """
        return self._plan(self.config.expansion.expand(text))

    def _plan(self, expanded: Expanded) -> RoutePlan:
        plan = selector.resolve(selector.parse(expanded.text), self.backends.names)
        if self.config.parameters.on_error == "reject" and len(plan.branches) > 1:
            refuse_wrong(plan.leaves)
        return plan

    async def answer(self, request: GatewayRequest, record: RequestRecord) -> Answer:
        """Routes and runs one request; raises RequestError or ConnectorError."""
        expanded = self.config.expansion.expand(request.selector)
        plan = self._plan(expanded)
        answer = await self.executor.run(request, plan, record)
        if expanded.steps:
            answer.headers["x-llmgate-selector"] = str(plan)
        return answer

    async def models(self) -> Catalogue:
        """What can be asked for: `backend:model` everywhere, bare names of the default backend, routes and rewrites."""
        catalogue = Catalogue()
        bare: dict[str, Listed] = {}
        default = self._default_backend()
        for backend, found in await asyncio.gather(*(self._models_of(backend) for backend in self.backends)):
            if isinstance(found, str):
                logger.info("models of backend %s: %s", backend.name, found)
                catalogue.missing[backend.name] = found
                continue
            short = self.backends.names.short[backend.name]
            listed = {model.id: Listed(backend.name, model) for model in found}
            catalogue.models |= {f"{short}:{id}": one for id, one in listed.items()}
            if backend.name == default:
                bare = listed
        names = {name: Listed(REWRITE, ModelInfo(name)) for name in self.config.expansion.exact_names()}
        routes = {name: Listed(ROUTE, ModelInfo(name)) for name in self.config.failover_routes}
        catalogue.models |= bare | routes | names
        return catalogue

    def _default_backend(self) -> str | None:
        try:
            return selector.resolve(selector.parse("any"), self.backends.names).leaves[0].backend
        except SelectorError:
            return None

    async def _models_of(self, backend: Backend) -> tuple[Backend, Sequence[ModelInfo] | str]:
        """The models of one backend, or why they cannot be listed."""
        try:
            async with asyncio.timeout(MODELS_TIMEOUT_SECONDS):
                return backend, await backend.models(self.redactor.learn)
        except ConnectorError as error:
            return backend, self.redactor.strike(error.message)
        except TimeoutError:
            return backend, f"no answer within {MODELS_TIMEOUT_SECONDS:g} s"
        except PLUGIN_FAULTS as error:
            logger.exception("models of backend %s", backend.name)
            if isinstance(error, Misfit):
                return backend, f"its connector is at fault: {error}"
            return backend, f"its connector raised {type(error).__name__}"

    async def aclose(self) -> None:
        """Closes backends, then connections; once, however often it is called."""
        if not self.closed:
            self.closed = True
            await self.backends.aclose()
            await self.upstream.aclose()


def create_app(
    config: GatewayConfig,
    *,
    plugins: PluginSet | None = None,
    world: World | None = None,
    redactor: Redactor | None = None,
) -> Gateway:
    """Builds a gateway; opens no connection. Its `app` closes what it opened when its lifespan ends.

    Args:
        plugins: those that the configuration names, loaded; by default they are loaded here.

    Raises:
        ConfigError, PluginError: everything that stands against a start.
    """
    world = world or real_world()
    redactor = redactor or Redactor()
    plugins = plugins or load(config.plugin_names(), block=config.plugins.block, allow=config.plugins.allow)
    if problems := find_problems(config, plugins):
        raise ConfigError(problems)
    keys = caller_keys(config, world.environ, redactor)
    upstream = Upstream(world.environ)
    backends = build(config, plugins, upstream, world, redactor.learn)
    budget = Budget(config.failure_handling.max_attempts, config.failure_handling.total_timeout_seconds)
    policies = make_policies(config, plugins)
    executor = Executor(
        backends, policies, redactor, budget=budget, hybrid=config.hybrid, chance=world.random, sleep=world.sleep
    )
    gateway = Gateway(config, plugins, backends, executor, redactor, upstream, not_found, keys=keys)
    hosts = [config.server.host, *config.server.allowed_hosts]
    access = Access(keys, hosts, config.server.allowed_origins, BadKeys(time.monotonic))
    rim = Rim(_router(gateway), access, redactor, plugins.request_finished)
    gateway.app, gateway.interrupt, gateway.refused = rim, rim.interrupt, rim.refused
    gateway.running = rim.running
    if origins := config.server.allowed_origins:
        gateway.app = CORSMiddleware(rim, allow_origins=origins, allow_methods=["*"], allow_headers=["*"])
    return gateway


@asynccontextmanager
async def open_backends(
    config: GatewayConfig, plugins: PluginSet, world: World | None = None
) -> AsyncIterator[Backends]:
    """The backends of a checked configuration without a gateway around them, for commands; closed at the end.

    Raises:
        PluginError: the constructor of a connector raised.
    """
    world = world or real_world()
    upstream = Upstream(world.environ)
    backends = build(config, plugins, upstream, world)
    try:
        yield backends
    finally:
        await backends.aclose()
        await upstream.aclose()


def caller_keys(config: GatewayConfig, environ: Mapping[str, str], redactor: Redactor) -> list[KnownKey]:
    """The keys of `auth.api_keys`, revealed, known to the redactor, and kept as digests.

    Raises:
        ConfigError: one cannot be found. A gateway that was meant to be locked must not start open.
    """
    keys: list[KnownKey] = []
    problems: list[Problem] = []
    for index, caller in enumerate(config.auth.callers()):
        try:
            keys.append(KnownKey(caller.name, caller.key.digest(environ)))
            redactor.learn([caller.key.reveal(environ)])
        except MissingSecret as missing:
            problems.append(config.problem(("auth", "api_keys", index), f"`auth.api_keys`: {missing}"))
    if problems:
        raise ConfigError(problems)
    return keys


def make_policies(config: GatewayConfig, plugins: PluginSet) -> Sequence[Policy]:
    """All policies, constructed; the built-in ones get their settings from `parameters` and `edit_precision`.

    Raises:
        ConfigError: every mistake in `plugins.settings`.
        PluginError: the constructor of one raised.
    """
    brought, problems = decode_policies(config, plugins)
    if problems:
        raise ConfigError(problems)
    settings: dict[type[Policy], Any] = {
        UriParams: UriParamsSettings(config.parameters.on_error),
        EditPrecision: config.edit_precision,
        **brought,
    }
    made: list[Policy] = []
    for cls in plugins.policies:
        try:
            with contained():
                made.append(cls(settings.get(cls)))
        except PLUGIN_FAULTS as error:
            text = f"policy `{cls.name}` raised {type(error).__name__} when constructed: {words_of(error)}"
            raise PluginError(text) from error
    return made


def _router(gateway: Gateway) -> Router:
    routes: list[BaseRoute] = []
    for cls in gateway.plugins.frontends:
        try:
            with contained():
                found = cls(None).routes(gateway)
        except PLUGIN_FAULTS as error:
            text = f"front end `{cls.name}` raised {type(error).__name__} when constructed: {words_of(error)}"
            raise PluginError(text) from error
        routes += _right_routes(cls.name, found)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await gateway.aclose()

    return Router(routes, redirect_slashes=False, default=not_found, lifespan=lifespan)


def _right_routes(frontend: str, found: object) -> Sequence[BaseRoute]:
    """What `routes()` returned; raises PluginError for what would make a failure of every path that nobody serves."""
    listed = list(found) if isinstance(found, list | tuple) else None
    wrong = [route for route in listed or () if not isinstance(route, BaseRoute)]
    if listed is not None and not wrong:
        return listed
    told = f"a list with a `{sort_of(wrong[0])}`" if wrong else f"a `{sort_of(found)}`"
    raise PluginError(f"front end `{frontend}`: its `routes()` returned {told}, not a list of Starlette's routes")
