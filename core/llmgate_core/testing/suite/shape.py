"""The conformance suite's checks that need no upstream: shape, settings, construction, credentials, retry, closing."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import threading
from collections.abc import Mapping
from dataclasses import is_dataclass, make_dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, get_args, get_type_hints

from ...backend_sections import TYPE
from ...backoff import BackoffRules
from ...connectors import Connector
from ...credentials import Credential, CredentialStatus
from ...errors import ConnectorError, Kind
from ...plugins import settings_type
from ...presets import faults_of, preset_name
from ...retry import RetryPolicy
from ...settings import decode, json_schema
from . import limits
from .bench import CLOSE, Bench, close_quietly, on_a_bench
from .instruments import Untouchable
from .limits import in_time
from .subject import NOWHERE, Subject, described, promise, told

METHODS = ("check", "credentials", "retry", "send", "models", "aclose")
MARK = "conformance-value-93ab"
WRONG_VALUES = (MARK, f"http://{MARK}@{MARK}:99999999/?{MARK}#{MARK}")
ATTEMPTS = 100
HINTS = (None, 0.0, 0.5, 30.0, 1e9)


class ShapeChecks(Subject):
    """Name, dialects and methods."""

    def test_name(self) -> None:
        """`name` is what `type:` says in a configuration."""
        name = getattr(self.connector, "name", None)
        promise(
            isinstance(name, str) and bool(TYPE.fullmatch(name)),
            "`name` must be a text of letters, digits, `-` and `_`, for `type:` in a configuration",
        )

    def test_dialects(self) -> None:
        """`dialects` names what the upstream speaks."""
        found = self._spoken()
        promise(
            isinstance(found, frozenset) and bool(found) and all(isinstance(one, str) and one for one in found),
            "`dialects` must be a frozenset with at least one dialect, such as `openai.chat`",
        )

    def test_methods(self) -> None:
        """Every method of the contract is there."""
        lacking = [f"`{name}`" for name in METHODS if not callable(getattr(self.connector, name, None))]
        promise(not lacking, f"a connector must have the methods of the contract; it lacks {', '.join(lacking)}")

    @on_a_bench
    async def test_use_is_allowed(self, bench: Bench) -> None:
        """`check` lets requests pass under the suite's settings."""
        if not callable(getattr(bench.connector, "check", None)):
            return  # told by test_methods
        try:
            bench.connector.check()
        except Exception as error:
            raise AssertionError(
                "`check()` must let requests pass under the suite's settings (is there a switch to throw in `extra`?) "
                f"and may raise `ConnectorError` of kind `disabled` only; it raised {described(error)}"
            ) from error


class SettingsChecks(Subject):
    """`settings` is the schema of `extra:`."""

    def test_settings_are_a_frozen_dataclass(self) -> None:
        """Nobody changes settings while requests run."""
        kind = settings_type(self.connector)
        frozen = kind is None or (is_dataclass(kind) and kind.__dataclass_params__.frozen)  # type: ignore[attr-defined]
        promise(frozen, "`settings` must be annotated with a frozen dataclass: write `@dataclass(frozen=True)`")

    def test_settings_decode(self, tmp_path: Path) -> None:
        """The suite's settings are such as a configuration could hold."""
        _, faults = self.decoded(NOWHERE, tmp_path)
        promise(not faults, f"the suite's settings must decode; set `extra` or `settings_for` ({told(faults)})")

    def test_settings_have_a_json_schema(self) -> None:
        """Editors and the reference can describe `extra:`."""
        for name, hint in self._hints().items():
            promise(
                _has_schema(name, hint),
                f"field `{name}` of the settings must be of a type that a configuration can hold",
            )

    def test_settings_refuse_a_wrong_value_without_showing_it(self, tmp_path: Path) -> None:
        """A mistake is told by its key; the value might be a key that was pasted into the wrong line."""
        kind = settings_type(self.connector)
        if kind is None:
            return
        good = self.settings_for(NOWHERE, tmp_path)
        holdable = [name for name, hint in self._hints().items() if _has_schema(name, hint)]
        for name, value in product(holdable, WRONG_VALUES):
            try:
                _, faults = decode(kind, {**good, name: value})
            except Exception as error:
                raise AssertionError(
                    f"settings must refuse a wrong `{name}` by `ValueError`, and raised `{type(error).__name__}`"
                ) from None
            promise(MARK not in told(faults), f"settings must not show the value of a wrong `{name}` in their message")

    def _hints(self) -> Mapping[str, Any]:
        kind = settings_type(self.connector)
        return {} if kind is None else get_type_hints(kind, include_extras=True)

    def test_presets_can_be_set_up(self) -> None:
        """What the connector offers to `llmgate init` has the shape that it needs; it need not offer any."""
        if not hasattr(self.connector, "presets"):
            return
        try:
            faults = [
                f"`{preset_name(preset)}`: {fault}"
                for preset in self.connector.presets()
                for fault in faults_of(self.connector, preset)
            ]
        except Exception as error:
            raise AssertionError(
                f"`presets()` must be a class method that returns presets, and raised {described(error)}"
            ) from error
        promise(not faults, f"`presets()` must return presets that can be set up ({'; '.join(faults)})")


def _has_schema(name: str, hint: Any) -> bool:
    try:
        json.dumps(json_schema(make_dataclass("alone", [(name, hint)])))
    except TypeError:
        return False
    return True


class ConstructionChecks(Subject):
    """The constructor keeps the instance, and that is all."""

    def test_construction_does_no_io(self, tmp_path: Path) -> None:
        """Neither the constructor nor `credentials()` and `retry()` touch network, files or processes."""
        instance, watch = self.instance(Untouchable(), tmp_path), _watch()
        watch.begin(tmp_path)
        try:
            connector = self.connector(instance)
            connector.credentials()
            connector.retry()
        finally:
            seen = watch.end()
        promise(not seen, f"the constructor, `credentials()` and `retry()` must do no I/O, and did: {', '.join(seen)}")

    def test_closing_without_use(self, tmp_path: Path) -> None:
        """`aclose` is called after a failed start too."""

        async def run() -> None:
            await in_time(self.connector(self.instance(Untouchable(), tmp_path)).aclose(), CLOSE)

        try:
            limits.run(run())
        except limits.HungError:
            raise
        except Exception as error:
            raise AssertionError(
                f"`aclose()` must work for a connector that was never used, and raised {described(error)}"
            ) from error

    @on_a_bench
    async def test_closing_twice(self, bench: Bench) -> None:
        """A connector that was used can be closed, and who closes need not know who has closed."""
        with contextlib.suppress(Exception):  # told by the other checks
            await bench.read(bench.call())
        for words in ("must close a connector that was used", "must be safe to call twice"):
            try:
                await in_time(bench.connector.aclose(), CLOSE)
            except Exception as error:
                raise AssertionError(f"`aclose()` {words}, and raised {described(error)}") from error


class _Watch:
    """Notes what the thread asks of the operating system.

    Opened files count inside one folder only, because Python itself opens some whenever a module is imported.
    """

    def __init__(self) -> None:
        self._folder: str | None = None
        self._thread = 0
        self._seen: list[str] = []
        sys.addaudithook(self._note)

    def begin(self, folder: Path) -> None:
        self._thread, self._seen = threading.get_ident(), []
        self._folder = str(folder)

    def end(self) -> list[str]:
        self._folder = None
        return self._seen

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._folder is None or threading.get_ident() != self._thread:
            return
        sort = event.partition(".")[0]
        of_ours = sort in ("open", "os", "shutil") and any(str(one).startswith(self._folder) for one in arguments)
        if sort in ("socket", "subprocess") or of_ours or _is_written(event, arguments):
            self._seen.append(f"`{event}`")


def _is_written(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether a file is opened for writing; what Python compiles of a module that is imported does not count."""
    if event != "open" or "__pycache__" in str(arguments[0]):
        return False
    mode = arguments[1]
    return isinstance(mode, str) and any(sign in mode for sign in "wax+")


@cache
def _watch() -> _Watch:
    """The one watch of the process: Python takes audit hooks on, and never off."""
    return _Watch()


class CredentialChecks(Subject):
    """Where credentials come from."""

    @on_a_bench
    async def test_credentials_are_got(self, bench: Bench) -> None:
        """`get` gives a credential under the suite's settings."""
        provider = bench.connector.credentials()
        try:
            found = await in_time(provider.get(), "`credentials().get()`")
        except Exception as error:
            raise AssertionError(
                "`credentials().get()` must give a credential under the suite's settings "
                f"(does `environ` hold the key?), and raised {described(error)}"
            ) from error
        promise(isinstance(found, Credential), "`credentials().get()` must return a `Credential`")

    @on_a_bench
    async def test_credentials_tell_their_status(self, bench: Bench) -> None:
        """`status` serves start-up and `/readyz`."""
        status = bench.connector.credentials().status()
        promise(
            isinstance(status, CredentialStatus) and isinstance(status.ready, bool) and isinstance(status.detail, str),
            "`credentials().status()` must return a `CredentialStatus`, without asking the network",
        )

    def test_missing_credential_is_told(self, tmp_path: Path) -> None:
        """Where there is no credential, `get` says so as a failure of kind `auth`."""
        here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
        here.mkdir()
        elsewhere.mkdir()
        bare = replace(self.instance(Untouchable(), here), environ={}, home=elsewhere)

        async def run() -> None:
            connector = self.connector(bare)
            try:
                await in_time(connector.credentials().get(), "`credentials().get()`")
            finally:
                await close_quietly(connector)

        try:
            limits.run(run())
        except limits.HungError:
            raise
        except Exception as error:
            promise(
                isinstance(error, ConnectorError) and error.kind == "auth",
                f"`credentials().get()` without a key must raise `ConnectorError` of kind `auth`, "
                f"and raised {described(error)}",
            )


class RetryChecks(Subject):
    """Whether the same backend is asked again."""

    def test_retry_ends(self, tmp_path: Path) -> None:
        """For every error there is an attempt that is the last."""
        policy = self._policy(tmp_path)
        endless = {error.kind for error in _errors() if policy.delay(error, ATTEMPTS) is not None}
        promise(
            not endless,
            f"`retry().delay()` must answer None in the end; after {ATTEMPTS} attempts it still waits for "
            f"{', '.join(f'`{kind}`' for kind in sorted(endless))}",
        )

    def test_retry_waits_are_finite_and_not_negative(self, tmp_path: Path) -> None:
        """A wait is a time that can be slept."""
        policy = self._policy(tmp_path)
        for error in _errors():
            for attempt in range(1, ATTEMPTS):
                wait = policy.delay(error, attempt)
                promise(
                    wait is None or (isinstance(wait, int | float) and math.isfinite(wait) and wait >= 0),
                    f"`retry().delay()` must answer None or finite seconds, not below 0; it answered {wait!r} for "
                    f"`{error.kind}` with retry_after={error.retry_after}",
                )

    def test_backoff_is_rules_or_nothing(self, tmp_path: Path) -> None:
        """What a connector offers for all its requests together can be used; it need not offer any."""
        connector = self.connector(self.instance(Untouchable(), tmp_path))
        if not hasattr(connector, "backoff"):
            return
        try:
            found = connector.backoff()
        except Exception as error:
            raise AssertionError(
                f"`backoff()` must return `BackoffRules` or None, and raised {described(error)}"
            ) from error
        promise(
            isinstance(found, BackoffRules | None),
            f"`backoff()` must return `BackoffRules` or None, and returned a `{type(found).__name__}`",
        )

    def _policy(self, folder: Path) -> RetryPolicy:
        connector: Connector = self.connector(self.instance(Untouchable(), folder))
        return connector.retry()


def _errors() -> list[ConnectorError]:
    return [ConnectorError(kind, "conformance", retry_after=hint) for kind in get_args(Kind) for hint in HINTS]
