"""From a checked configuration to backends: their settings decoded, their connectors constructed, each in its fence."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from . import handed_over
from .backends import Backend, Backends, Pacing, World
from .backoff import BackoffRules
from .config import BackendConfig, GatewayConfig, decode_extra
from .connectors import Connector, Instance
from .credentials import SingleFlight
from .errors import PLUGIN_FAULTS, ConfigError, PluginError, Problem, words_of
from .ownership import contained
from .plugin_checks import NEVER_RUNS, never_runs
from .plugins import PluginSet, place, settings_type
from .secret import MissingSecret, configured
from .upstream import Timeouts, Upstream

logger = logging.getLogger("llmgate.backends")

Decoded = list[tuple[BackendConfig, type[Connector], Any]]


def decode_settings(config: GatewayConfig, plugins: PluginSet) -> tuple[Decoded, list[Problem]]:
    """The settings of all backends whose connector is known, and every mistake in every `extra`."""
    decoded: Decoded = []
    problems: list[Problem] = []
    for backend in config.enabled_backends():
        if cls := plugins.connectors.get(backend.type):
            settings, found = decode_extra(backend, settings_type(cls))
            decoded.append((backend, cls, settings))
            problems += found
    return decoded, problems


def build(
    config: GatewayConfig,
    plugins: PluginSet,
    upstream: Upstream,
    world: World,
    learn: Callable[[Iterable[str]], None] = lambda _: None,
) -> Backends:
    """Constructs the connectors of all backends, once all settings are known to be good. Opens no connection.

    Args:
        learn: told the secrets that are configured before a connector is made, which might log them.

    Raises:
        ConfigError: every mistake in every `extra`, at once.
        PluginError: a connector's constructor raised.
    """
    decoded, problems = decode_settings(config, plugins)
    if problems:
        raise ConfigError(problems)
    for _, _, settings in decoded:
        for secret in configured(settings):
            with suppress(MissingSecret):  # whoever needs it says so, when it is needed
                learn([secret.reveal(world.environ)])
    built = [_construct(backend, cls, settings, config, upstream, world) for backend, cls, settings in decoded]
    return Backends(built, config.names())


def _construct(
    backend: BackendConfig,
    cls: type[Connector],
    settings: Any,
    config: GatewayConfig,
    upstream: Upstream,
    world: World,
) -> Backend:
    instance = Instance(
        name=backend.name,
        settings=settings,
        http=upstream.client(_timeouts(config, backend)),
        clock=world.clock,
        random=world.random,
        environ=world.environ,
        home=world.home,
        logger=logging.getLogger(f"llmgate.backend.{backend.name}"),
        sleep=world.sleep,
    )
    try:
        with contained():
            connector = cls(instance)
            credentials = _able(connector.credentials(), "credentials", ("get", "renew", "status"))
            retry = _able(connector.retry(), "retry", ("delay",))
            shared = _backoff_rules(connector)
            dialects = handed_over.dialects(connector.dialects)
    except (PluginError, handed_over.Misfit) as error:
        raise PluginError(f"backend `{backend.name}`: connector `{cls.name}`: {error}") from None
    except PLUGIN_FAULTS as error:
        logger.debug("constructing backend %s", backend.name, exc_info=True)
        raise PluginError(
            f"backend `{backend.name}`: connector `{cls.name}` raised {type(error).__name__} when constructed: "
            f"{words_of(error)}{place(error, cls.__module__)}"
        ) from error
    return Backend(
        backend.name,
        connector,
        SingleFlight(credentials),
        retry,
        shared,
        _pacing(config),
        instance.logger,
        instance.random,
        backend.default_params,
        backend.forced_params,
        backend.model_facts,
        dialects,
        _answer_seconds(_timeouts(config, backend)),
    )


def _answer_seconds(timeouts: Timeouts) -> float | None:
    """A second after a connector that keeps to its HTTP client's timeouts has answered."""
    ways = [timeouts.total]
    if timeouts.connect is not None and timeouts.first_byte is not None:
        ways.append(timeouts.connect + timeouts.first_byte)
    return min((way + 1.0 for way in ways if way is not None), default=None)


def _backoff_rules(connector: Connector) -> BackoffRules | None:
    """A connector may offer rules, and need not."""
    rules = connector.backoff() if hasattr(connector, "backoff") else None
    if not isinstance(rules, BackoffRules | None):
        raise PluginError(f"its `backoff()` returned a `{type(rules).__name__}`, not `BackoffRules` or None")
    return rules


def _pacing(config: GatewayConfig) -> Pacing:
    handling = config.failure_handling
    if not handling.enabled:
        return Pacing()
    rules = BackoffRules(
        max_wait=handling.max_silent_wait_seconds,
        longest=handling.max_cooldown_seconds,
        probe_wait=handling.max_silent_wait_seconds,
        unhinted=handling.min_retry_wait_seconds,
    )
    return Pacing(rules)


def _able(found: Any, seam: str, methods: Sequence[str]) -> Any:
    """What a connector's `seam` returned, if it has these methods; raises PluginError if not."""
    for method in methods:
        if not callable(getattr(found, method, None)):
            raise PluginError(f"its `{seam}()` returned a `{type(found).__name__}`, which has no method `{method}`")
        if method in ("status", "delay") and never_runs(getattr(found, method)):
            sort = type(found).__name__
            raise PluginError(f"its `{seam}()` returned a `{sort}` whose method `{method}` {NEVER_RUNS}")
    return found


def _timeouts(config: GatewayConfig, backend: BackendConfig) -> Timeouts:
    merged = backend.merged_timeouts(config.timeouts)
    return Timeouts(merged.connect_seconds, merged.first_byte_seconds, merged.idle_seconds, merged.total_seconds)
