"""The log: one access line a request, in words or JSON, that no caller can forge, with secrets struck out."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import logging
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llmgate_core.observe import JsonFormatter, Redactor, TextFormatter, access_parts, configure, log_access
from llmgate_core.request import Attempt, RequestRecord
from llmgate_core.secret import STRUCK
from llmgate_core.sections import AuthConfig, CallerKey, CallerSecret
from llmgate_core.testing import Exchange

if TYPE_CHECKING:
    from tests.conftest import GatewayFactory

# --- secrets -------------------------------------------------------------------------------------------------

secrets = st.text(st.characters(exclude_categories=["Cs"]), min_size=8, max_size=30)


@given(st.lists(secrets, min_size=1, max_size=5), st.lists(st.text(max_size=10), min_size=6, max_size=6))
@settings(max_examples=200, deadline=None)
def test_no_learned_secret_is_left(learned: list[str], between: list[str]) -> None:
    # A secret that is part of the mark itself, or of the mark and what stands beside it, is no secret.
    assume(not any(set(secret) <= set(STRUCK) for secret in learned))
    redactor = Redactor()
    redactor.learn(learned)
    text = "".join(words + secret for words, secret in zip(between, [*learned, ""], strict=False))
    struck = redactor.strike(text)
    assert not any(secret in struck for secret in learned)


@given(st.text(max_size=100), st.lists(secrets, max_size=3))
@settings(max_examples=100, deadline=None)
def test_a_text_without_secrets_stays_as_it_is(text: str, learned: list[str]) -> None:
    assume(not any(secret in text for secret in learned))
    redactor = Redactor()
    redactor.learn(learned)
    assert redactor.strike(text) == text


def test_a_longer_secret_goes_before_a_shorter_one_inside_it() -> None:
    redactor = Redactor()
    redactor.learn(["token-1234", "Bearer token-1234"])
    assert redactor.strike("got `Bearer token-1234` and token-1234") == f"got `{STRUCK}` and {STRUCK}"


def test_short_words_are_no_secrets() -> None:
    redactor = Redactor()
    redactor.learn(["ollama", ""])
    assert redactor.strike("ollama says no") == "ollama says no"


def test_one_thread_may_learn_while_another_strikes() -> None:
    redactor, over, failures = Redactor(keep=8), threading.Event(), []

    def learns(name: str) -> None:
        try:
            for number in itertools.count():
                redactor.learn([f"secret-{name}-{number}"])
                if over.is_set():
                    return
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=learns, args=(name,)) for name in "ab"]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for _ in range(3000):
            redactor.strike("nothing in here")
    finally:
        sys.setswitchinterval(interval)
        over.set()
        for thread in threads:
            thread.join()
    assert not failures


def test_the_newest_secrets_are_remembered() -> None:
    redactor = Redactor(keep=2)
    redactor.learn(["secret-one", "secret-two", "secret-two", "secret-three"])
    assert redactor.strike("secret-one secret-two secret-three") == f"secret-one {STRUCK} {STRUCK}"


def test_a_secret_in_use_is_not_forgotten_for_newer_ones() -> None:
    redactor = Redactor(keep=2)
    redactor.learn(["the-api-key"])
    for number in range(10):
        redactor.learn([f"token-number-{number}"])
        redactor.learn(["the-api-key"])  # as each attempt does
    assert redactor.strike("the-api-key") == STRUCK


@given(secrets)
@settings(max_examples=100, deadline=None)
def test_both_formats_strike_any_secret(secret: str) -> None:
    assume(not set(secret) <= set(STRUCK + "0123456789-: .TZ"))
    redactor = Redactor()
    redactor.learn([secret])
    record = logging.LogRecord("llmgate.x", logging.INFO, "x.py", 1, "echoed <%s> back", (secret,), None)
    assert secret not in TextFormatter(redactor).format(record)
    shown = json.loads(JsonFormatter(redactor).format(record))
    assert shown["message"] == f"echoed <{STRUCK}> back"


def test_a_traceback_has_its_secrets_struck_out(llmgate_logging: logging.Logger) -> None:
    for style in ("text", "json"):
        stream, redactor = io.StringIO(), Redactor()
        redactor.learn(["sk-12345678"])
        configure("info", style, redactor, stream)
        try:
            raise RuntimeError("the upstream said sk-12345678")
        except RuntimeError:
            llmgate_logging.exception("failed")
        assert "sk-12345678" not in stream.getvalue()
        assert "the upstream said" in stream.getvalue()


def test_a_message_is_one_line_and_its_traceback_several(llmgate_logging: logging.Logger) -> None:
    stream = io.StringIO()
    configure("info", "text", Redactor(), stream)
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        llmgate_logging.exception(
            "the upstream said: %s", "no\n2026-01-01 00:00:00.000 INFO llmgate.access: \x1b[2Kforged"
        )
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("said: no\\n2026-01-01 00:00:00.000 INFO llmgate.access: \\x1b[2Kforged")
    assert (rest[0], rest[-1]) == ("Traceback (most recent call last):", "RuntimeError: broken")


# --- the access line -----------------------------------------------------------------------------------------


def record(**changed: object) -> RequestRecord:
    made = RequestRecord("req_1", "POST", "/v1/chat/completions", 0.0, client="127.0.0.1", status=200, seconds=1.5)
    for name, value in changed.items():
        setattr(made, name, value)
    return made


def logged(one: RequestRecord, style: str = "text", level: str = "info") -> list[str]:
    stream = io.StringIO()
    configure(level, style, Redactor(), stream)
    log_access(one)
    return stream.getvalue().splitlines()


@pytest.mark.usefixtures("llmgate_logging")
def test_one_line_says_what_became_of_a_request() -> None:
    attempts = [Attempt("a.default", "m", status=500), Attempt("b.default", "m", status=200, upstream_request_id="up")]
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    (line,) = logged(record(attempts=attempts, usage=usage, selector="b:m", stream=True, caller="anna"))
    assert line.endswith(
        "INFO    llmgate.access: client=127.0.0.1 method=POST path=/v1/chat/completions status=200 outcome=ok ms=1500 "
        "in=0 out=0 caller=anna model=b:m stream=True backend=b.default attempts=2 upstream_id=up prompt_tokens=3 "
        "completion_tokens=4 id=req_1"
    )


@pytest.mark.parametrize(
    ("usage", "prompt", "completion"),
    [
        ({"input_tokens": 3, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 2}}, 3, 4),
        ({"input_tokens": 3, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 100}, 123, None),
        ({"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 2}}, 3, 4),
        ({"input_tokens": None, "output_tokens": 4}, None, 4),
        ({}, None, None),
    ],
)
def test_tokens_are_counted_in_every_dialect(usage: dict[str, Any], prompt: int | None, completion: int | None) -> None:
    parts = access_parts(record(usage=usage))
    assert (parts.get("prompt_tokens"), parts.get("completion_tokens")) == (prompt, completion)


@pytest.mark.usefixtures("llmgate_logging")
def test_json_has_the_parts_as_members() -> None:
    (line,) = logged(record(selector="用:模型", first_byte_seconds=0.25), "json")
    shown = json.loads(line)
    assert (shown["model"], shown["ttfb_ms"], shown["ms"], shown["status"]) == ("用:模型", 250, 1500, 200)
    assert (shown["logger"], shown["level"]) == ("llmgate.access", "info")
    assert "error" not in shown


@pytest.mark.usefixtures("llmgate_logging")
def test_above_info_there_is_no_access_line() -> None:
    assert logged(record(), level="warning") == []


HOSTILE = [
    "m\n2026-01-01 00:00:00.000 INFO    llmgate.access: client=10.0.0.1 status=200",
    "m\r\nforged",
    "m\u2028forged",
    "m\x85forged",
    "m\x1b[2Kforged",
    "m status=200 caller=admin",
    'm" status="200',
    "m\\",
    "\u202egnp.exe",
]


@pytest.mark.usefixtures("llmgate_logging")
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("part", ["selector", "path", "caller", "error"])
def test_what_a_caller_writes_forges_neither_a_line_nor_a_field(name: str, part: str) -> None:
    (line,) = logged(record(**{part: name}))
    assert line.isprintable()
    words = line.partition("llmgate.access: ")[2]
    fields = fields_of(words)
    assert fields["status"] == "200"
    assert fields[{"selector": "model"}.get(part, part)] == name
    (as_json,) = logged(record(**{part: name}), "json")
    assert json.loads(as_json)[{"selector": "model"}.get(part, part)] == name


def fields_of(text: str) -> dict[str, str]:
    """Reads an access line as a log collector would; a field that comes twice is a forgery."""
    fields: dict[str, str] = {}
    while text:
        name, _, text = text.partition("=")
        if text.startswith('"'):
            value, end = json.JSONDecoder().raw_decode(text)
            text = text[end:].removeprefix(" ")
        else:
            value, _, text = text.partition(" ")
        assert name not in fields
        fields[name] = value
    return fields


def test_a_long_name_does_not_make_a_long_line() -> None:
    assert len(str(access_parts(record(selector="m" * 100_000, error="e" * 100_000)))) < 5000


# --- through the whole gateway -------------------------------------------------------------------------------


@pytest.mark.usefixtures("llmgate_logging")
def test_one_access_line_for_each_request_whatever_becomes_of_it(gateway: GatewayFactory) -> None:
    stream = io.StringIO()

    async def script(exchange: Exchange) -> None:
        await exchange.reply(200, {"choices": [{}]})

    async def run() -> None:
        auth = AuthConfig((CallerKey("anna", CallerSecret("key-of-anna")),))
        async with gateway(script, auth=auth) as running:
            configure("info", "json", running.app.redactor, stream)
            key = {"authorization": "Bearer key-of-anna"}
            await running.chat(headers=key)
            await running.chat(headers=key, model="m\nforged status=200")
            await running.chat(b"{", headers=key)
            await running.chat(headers={"x-api-key": "wrong-key-1234"})
            await running.client.get(f"{running.url}/nothing", headers=key)
            await running.finished(5)

    asyncio.run(run())
    lines = list(map(json.loads, stream.getvalue().splitlines()))
    shown = [line for line in lines if line["logger"] == "llmgate.access"]
    assert [(line["status"], line["outcome"]) for line in shown] == [
        (200, "ok"),
        (400, "rejected"),
        (400, "rejected"),
        (401, "rejected"),
        (404, "rejected"),
    ]
    assert [line.get("caller") for line in shown] == ["anna", "anna", "anna", None, "anna"]
    assert shown[1]["model"] == "m\nforged status=200"
    assert len({line["id"] for line in shown}) == 5
    assert "key-of-anna" not in stream.getvalue()
    assert "wrong-key-1234" not in stream.getvalue()


def test_a_log_that_nobody_reads_is_no_reason_to_complain(
    llmgate_logging: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    configure("info", "text", Redactor(), Broken())
    llmgate_logging.info("x")
    assert capsys.readouterr().err == ""
