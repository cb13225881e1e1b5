"""The conformance suite without a test runner: verdicts in words, advice for each, and secrets that are made up."""

from __future__ import annotations

import asyncio
import time
from _thread import interrupt_main
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from llmgate_core import (
    ApiKey,
    CredentialProvider,
    OpenAICompatible,
    RetryPolicy,
    Secret,
    UpstreamCall,
    UpstreamReply,
)
from llmgate_core.testing import ConnectorSuite
from llmgate_core.testing.suite import limits
from llmgate_core.testing.suite.advice import ADVICE, RAISED_ADVICE
from llmgate_core.testing.suite.outcomes import MADE_UP_KEY, Setup, outcomes, set_up, suite_of, variables

KEY = Secret("env:ACME_KEY")
OTHER = Secret("env:ACME_OTHER")


@dataclass(frozen=True)
class Account:
    token: Secret = OTHER


@dataclass(frozen=True)
class AcmeSettings:
    base_url: str
    api_key: Secret = KEY
    account: Account = field(default_factory=Account)
    plain: Secret | None = None


class Acme(OpenAICompatible):
    name: ClassVar[str] = "acme"
    settings: AcmeSettings

    def credentials(self) -> CredentialProvider:
        return ApiKey(self.settings.api_key, self.instance.environ)


NOTHING = Setup({}, {})


def test_a_good_connector_keeps_all_with_a_key_that_is_made_up() -> None:
    found = list(outcomes(set_up(suite_of(Acme), NOTHING)))
    assert [one for one in found if one.broken or one.advice] == []
    assert len({one.check for one in found}) == len(found)
    assert {one.check for one in found} == {name for name in dir(ConnectorSuite) if name.startswith("test_")}
    assert all(one.promise and one.group and one.why for one in found)


def test_what_is_broken_is_told_with_what_to_do() -> None:
    class Nameless(Acme):
        name = "no name"

    broken = [one for one in outcomes(set_up(suite_of(Nameless), NOTHING)) if one.broken]
    assert [(one.check, one.group, one.promise) for one in broken] == [
        ("test_name", "Name, dialects and methods", "name")
    ]
    assert broken[0].broken.startswith("`name` must be a text of letters")
    assert broken[0].advice == ADVICE["test_name"]


def test_an_exception_that_no_check_expects_is_a_broken_promise() -> None:
    class Raises(Acme):
        def retry(self) -> RetryPolicy:
            raise KeyError("patience")

    broken = {one.check: one for one in outcomes(set_up(suite_of(Raises), NOTHING)) if one.broken}
    line = Raises.retry.__code__.co_firstlineno + 1
    told = "the check could not be finished, because the connector raised `KeyError` ('patience')"
    assert broken["test_retry_ends"].broken == f"{told} ({__file__}:{line})"
    assert broken["test_retry_ends"].advice == RAISED_ADVICE, "not that of a promise that nobody has tried"


@pytest.mark.parametrize("raised", [SystemExit(3), asyncio.CancelledError("3"), GeneratorExit("3")])
def test_an_exception_that_ends_programs_ends_its_check_only(raised: BaseException) -> None:
    class Ends(Acme):
        async def send(self, call: UpstreamCall) -> UpstreamReply:
            raise raised

    found = {one.check: one.broken for one in outcomes(set_up(suite_of(Ends), NOTHING))}
    told = f"the check could not be finished, because the connector raised `{type(raised).__name__}` (3)"
    assert found["test_plain_answer_passes_untouched"].startswith(told)
    assert found["test_models"] == ""
    assert list(found)[-1] == "test_facts_are_model_info_or_nothing"


@pytest.mark.parametrize("called", [asyncio.sleep, lambda seconds: asyncio.to_thread(time.sleep, seconds)])
def test_who_awaits_is_not_told_that_it_blocks(
    called: Callable[[float], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Acme):
        async def send(self, call: UpstreamCall) -> UpstreamReply:
            await called(2.0)
            return await super().send(call)

    monkeypatch.setattr(limits, "BLOCKED_SECONDS", 0.2)
    monkeypatch.setattr(limits, "CALL_SECONDS", 1.5)
    suite = set_up(suite_of(Slow), NOTHING)
    check = "test_plain_answer_passes_untouched"
    for name in {name for name in dir(ConnectorSuite) if name.startswith("test_")} - {check}:
        setattr(suite, name, None)
    assert {one.check: one.broken for one in outcomes(suite)} == {
        check: "`send()` must come to its end, and hung for 1.5 s"
    }


def test_who_blocks_is_told_with_the_place_and_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    class Blocks(Acme):
        async def send(self, call: UpstreamCall) -> UpstreamReply:
            time.sleep(3)  # noqa: ASYNC251 - that is the mistake
            return await super().send(call)

    monkeypatch.setattr(limits, "BLOCKED_SECONDS", 0.5)
    monkeypatch.setattr(limits, "LOOK_SECONDS", 0.05)
    found = list(outcomes(set_up(suite_of(Blocks), NOTHING)))
    assert [one.check for one in found if one.broken] == ["test_closing_twice"], "the first that asks for anything"
    line = Blocks.send.__code__.co_firstlineno + 1
    assert f"must not block the thread that it runs in, and after 0.5 s it still stood at {__file__}:{line} in" in (
        found[-1].broken
    )


def test_a_check_that_the_suite_skips_is_left_out() -> None:
    class Own(ConnectorSuite):
        connector = Acme
        environ: ClassVar[dict[str, str]] = {"ACME_KEY": "0123456789", "ACME_OTHER": "0123456789"}
        test_models: Any = None

        def test_name(self) -> None:
            pytest.skip("not here")

        @pytest.mark.skip
        def test_dialects(self) -> None:
            raise AssertionError

    found = list(outcomes(Own))
    assert [one for one in found if one.broken] == []
    assert {"test_name", "test_dialects", "test_models"}.isdisjoint(one.check for one in found)


def test_settings_may_decide_about_the_dialects() -> None:
    class Decides(Acme):
        @property
        def dialects(self) -> frozenset[str]:  # type: ignore[override]
            return frozenset({"anthropic.messages"}) if self.settings.plain else frozenset({"openai.chat"})

    assert [one for one in outcomes(set_up(suite_of(Decides), NOTHING)) if one.broken] == []
    assert set_up(suite_of(Decides), Setup({"plain": "x"}, {}))().dialect() == "anthropic.messages"


def test_who_interrupts_ends_the_run() -> None:
    class Interrupted(Acme):
        def retry(self) -> RetryPolicy:
            interrupt_main()  # checks run in another thread
            return super().retry()

    with pytest.raises(KeyboardInterrupt):
        list(outcomes(set_up(suite_of(Interrupted), NOTHING)))


def test_every_check_has_its_advice() -> None:
    checks = {name for name in dir(ConnectorSuite) if name.startswith("test_")}
    assert set(ADVICE) == checks


def test_variables_are_found_wherever_a_secret_stands() -> None:
    assert variables(suite_of(Acme)) == {"ACME_KEY": MADE_UP_KEY, "ACME_OTHER": MADE_UP_KEY}


def test_settings_say_which_variable_it_is() -> None:
    told: dict[str, Any] = {"api_key": "env:MINE", "plain": "file:/nowhere", "account": {"token": "itself"}}
    assert set(set_up(suite_of(Acme), Setup(told, {})).environ) == {"MINE"}


def test_what_is_told_comes_before_what_a_suite_has_and_that_before_what_is_made_up() -> None:
    class Own(ConnectorSuite):
        connector = Acme
        environ: ClassVar[dict[str, str]] = {"ACME_KEY": "own", "ACME_OTHER": "own"}
        model = "own"

    found = set_up(Own, Setup({}, {"ACME_KEY": "told"}))
    assert (found.environ, found.model) == ({"ACME_KEY": "told", "ACME_OTHER": "own"}, "own")
    assert set_up(Own, Setup({}, {}, "told")).model == "told"


def test_settings_that_do_not_decode_are_told_by_the_suite() -> None:
    broken = [one for one in outcomes(set_up(suite_of(Acme), Setup({"api_kee": "x"}, {}))) if one.broken]
    assert "did you mean `api_key`?" in next(one.broken for one in broken if one.check == "test_settings_decode")
