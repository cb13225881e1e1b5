"""The conformance suite without a test runner: each check is called, and becomes a promise that is kept or broken."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ...connectors import Connector
from ...plugins import settings_type
from ...secret import Secret
from ...settings import decode
from . import ConnectorSuite, limits
from .advice import ADVICE, BLOCKED_ADVICE, RAISED_ADVICE
from .subject import NOWHERE, Subject, described, package_of

MADE_UP_KEY = "conformance-key-2f9c1b04"


@dataclass(frozen=True)
class Outcome:
    """What came of one check.

    Args:
        check: the name of the test.
        group: what it is about, in words.
        promise: what was tried, in words.
        why: what that is good for.
        broken: which promise was broken and how; empty where it was kept.
        advice: what to do then.
    """

    check: str
    group: str
    promise: str
    why: str
    broken: str = ""
    advice: str = ""


@dataclass(frozen=True)
class Setup:
    """What the suite is told about a connector beside the class; what is None or empty stays as it is."""

    extra: Mapping[str, Any]
    environ: Mapping[str, str]
    model: str | None = None


def suite_of(connector: type[Connector]) -> type[ConnectorSuite]:
    """The suite for a connector of which no more is known."""
    return type(connector.__name__, (ConnectorSuite,), {"connector": connector})


def set_up(suite: type[ConnectorSuite], setup: Setup) -> type[ConnectorSuite]:
    """The suite with what is told beside; variables that its settings name and nobody sets hold a made-up key."""
    extra = {**suite.extra, **setup.extra}
    told = type(suite.__name__, (suite,), {"extra": extra, "model": setup.model or suite.model})
    environ = {**variables(told), **suite.environ, **setup.environ}
    return type(suite.__name__, (told,), {"environ": environ})


def variables(suite: type[ConnectorSuite]) -> dict[str, str]:
    """The environment variables that the settings take secrets from, each with a made-up value.

    Settings that do not decode name none; the suite says what is wrong with them.
    """
    kind = settings_type(suite.connector)
    if kind is None:
        return {}
    told = {"base_url": NOWHERE} if suite().has_setting("base_url") else {}
    settings, _ = decode(kind, {**suite.extra, **told})
    return dict.fromkeys(_names(settings), MADE_UP_KEY)


def _names(settings: Any) -> Iterator[str]:
    if isinstance(settings, Secret) and settings.variable:
        yield settings.variable
    elif is_dataclass(settings):
        for entry in fields(settings):
            yield from _names(getattr(settings, entry.name))


def outcomes(suite: type[ConnectorSuite], begun: Callable[[Outcome], None] = lambda _: None) -> Iterator[Outcome]:
    """Tries one promise after the other, in the order of the contract; a check that blocks is the last.

    A check that the suite skips is left out.

    Args:
        begun: is told which promise is tried next, as a plugin may end the process.
    """
    package = package_of(suite.connector)
    for owner in ConnectorSuite.__bases__:
        for check in (name for name in vars(owner) if name.startswith("test_")):
            promise = check.removeprefix("test_").replace("_", " ")
            tried = Outcome(check, _words(owner), promise, _words(vars(owner)[check]))
            begun(tried)
            try:
                fault = limits.unblocked(partial(_fault, suite(), check, package), package)
            except limits.BlockedError as blocked:
                yield replace(tried, broken=_blocks(str(blocked)), advice=BLOCKED_ADVICE)
                return
            if fault is not None:
                yield replace(tried, broken=fault[0], advice=fault[1])


def _blocks(where: str) -> str:
    if not where:
        return (
            f"calls must come to their end, and let themselves be cancelled; after {limits.END_SECONDS:g} s one still "
            "waited. The promises after this one were not tried"
        )
    return (
        f"a connector must not block the thread that it runs in, and after {limits.BLOCKED_SECONDS:g} s it still stood "
        f"at {where}. The promises after this one were not tried"
    )


def _fault(subject: Subject, check: str, package: str) -> tuple[str, str] | None:
    """How a check fails, in words, and what to do; both empty where it does not. None where the suite skips it."""
    test = getattr(subject, check)
    if test is None or any(mark.name == "skip" for mark in getattr(test, "pytestmark", ())):
        return None
    with tempfile.TemporaryDirectory(prefix="llmgate-conformance-") as folder:
        given = {"tmp_path": Path(folder)} if "tmp_path" in inspect.signature(test).parameters else {}
        try:
            test(**given)
        except AssertionError as error:
            return str(error) or "an assertion without words failed", ADVICE.get(check, "")
        except BaseException as error:  # also `SystemExit` and a `CancelledError` of its own: the other checks go on
            if _skips(error):
                return None
            raised = described(error, package)
            return f"the check could not be finished, because the connector raised {raised}", RAISED_ADVICE
    return "", ""


def _skips(error: BaseException) -> bool:
    """Whether a suite's own check says by this that there is nothing to try; by name, as pytest need not be there."""
    homes = {kind.__module__ for kind in type(error).__mro__}  # pytest calls `Skipped` itself one of the builtins
    return type(error).__name__ in ("Skipped", "SkipTest") and not homes.isdisjoint(
        ("_pytest.outcomes", "unittest.case")
    )


def _words(documented: Any) -> str:
    return (inspect.getdoc(documented) or "").partition("\n")[0].rstrip(".")
