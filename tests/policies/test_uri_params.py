"""The selector's query as parameters: names, bounds, and what becomes of wrong ones."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgate_core.connectors import Policy, Verdict
from llmgate_core.errors import RequestError
from llmgate_core.policies import apply_all
from llmgate_core.policies.uri_params import PARAMETERS, UriParams, UriParamsSettings, read_query
from llmgate_core.request import GatewayRequest, Params, Setting
from llmgate_core.selector import Leaf, parse
from llmgate_core.wire import Body

KNOWN = (
    "Known parameters: `temperature`, `top_p`, `top_k`, `max_tokens`, `reasoning_effort`, `thinking_budget`, "
    "`verbosity`, `seed`, `presence_penalty`, `frequency_penalty`"
)
REQUEST = GatewayRequest(
    id="req_1",
    dialect="openai.chat",
    operation="generate",
    selector="m",
    body=Body(b"{}"),
    stream=False,
    headers={},
)


def apply(query: str, *, on_error: Literal["reject", "warn"] = "reject", params: Params | None = None) -> Verdict:
    (leaf,) = parse(f"m?{query}" if query else "m").leaves
    return UriParams(UriParamsSettings(on_error)).apply(REQUEST, leaf, params or Params())


def values_of(verdict: Verdict) -> dict[str, Any]:
    return {name: setting.value for name, setting in verdict.params.effective().items()}


def refusal(query: str) -> RequestError:
    with pytest.raises(RequestError) as caught:
        apply(query)
    return caught.value


def test_it_is_a_policy() -> None:
    assert isinstance(UriParams(UriParamsSettings()), Policy)
    assert UriParamsSettings().on_error == "reject"


def test_the_query_becomes_the_layer_uri() -> None:
    before = Params({"client": {"temperature": 1.0}, "forced": {"seed": 7}})
    verdict = apply("temperature=0.7&top_p=0.9&seed=1", params=before)
    assert verdict.params.effective() == {
        "temperature": Setting(0.7, "uri"),
        "top_p": Setting(0.9, "uri"),
        "seed": Setting(7, "forced"),
    }
    assert verdict.headers == {}


def test_no_query_changes_nothing() -> None:
    before = Params({"client": {"temperature": 1.0}})
    assert apply("", params=before) == Verdict(before)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        (
            "temperature",
            {"0": 0.0, "2": 2.0, "0.7": 0.7, ".5": 0.5, "1.": 1.0, "2e-1": 0.2},
            ["-0.1", "2.01"],
        ),
        ("top_p", {"0": 0.0, "1": 1.0, "0.95": 0.95}, ["-0.1", "1.1"]),
        ("top_k", {"1": 1, "40": 40}, ["0", "-1", "1.0"]),
        (
            "max_tokens",
            {"1": 1, "9223372036854775807": 2**63 - 1},
            ["0", "1.5", "1e3", "9223372036854775808"],
        ),
        (
            "reasoning_effort",
            {word: word for word in ("none", "minimal", "low", "medium", "high", "xhigh", "max")},
            ["High", "", "highest", "1"],
        ),
        ("thinking_budget", {"0": 0, "1024": 1024}, ["-1", "0.5"]),
        ("verbosity", {"low": "low", "medium": "medium", "high": "high"}, ["none", "LOW"]),
        ("seed", {"0": 0, "-9223372036854775808": -(2**63)}, ["1.5", "-9223372036854775809", "9" * 4000]),
        ("presence_penalty", {"-2": -2.0, "2": 2.0}, ["-2.1", "2.1"]),
        ("frequency_penalty", {"-2": -2.0, "2": 2.0}, ["-2.1", "2.1"]),
    ],
)
def test_values(name: str, good: dict[str, Any], bad: list[str]) -> None:
    for text, value in good.items():
        read = values_of(apply(f"{name}={text}"))[name]
        assert read == value
        assert type(read) is type(value)
    for text in bad:
        assert f"`{name}` must be " in str(refusal(f"{name}={text}")), text


@pytest.mark.parametrize("name", [name for name, it in PARAMETERS.items() if it.kind != "choice"])
@pytest.mark.parametrize(
    "text",
    ["", "nan", "inf", "-inf", "1e999", "1_0", "+1", "%201", "1%20", "0x1", "１", "one", "true", "--1", "."],
)
def test_what_is_no_finite_number(name: str, text: str) -> None:
    assert f"`{name}` must be " in str(refusal(f"{name}={text}"))


def test_minus_zero_is_sent_as_zero() -> None:
    assert math.copysign(1, values_of(apply("temperature=-0"))["temperature"]) == 1


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("temperature=9", "`temperature` must be a number from 0 to 2"),
        ("frequency_penalty=x", "`frequency_penalty` must be a number from -2 to 2"),
        ("top_k=0", "`top_k` must be a 64-bit whole number of at least 1"),
        ("seed=1.5", "`seed` must be a 64-bit whole number"),
        ("verbosity=loud", "`verbosity` must be one of `low`, `medium`, `high`"),
        ("temprature=1", "unknown parameter `temprature` (did you mean `temperature`?)"),
        ("stop=x", "unknown parameter `stop`"),
        ("logprobs=1", "unknown parameter `logprobs`"),
        ("%E6%B8%A9=1", "unknown parameter `%E6%B8%A9`"),
        ("seed=x&nope=1&top_p=0.5", "`seed` must be a 64-bit whole number; unknown parameter `nope`"),
    ],
)
def test_what_a_problem_says(query: str, problem: str) -> None:
    error = refusal(query)
    assert error.message == f"{problem}. {KNOWN}"
    assert (error.status, error.code, error.param) == (400, "invalid_parameter", "model")
    assert apply(query, on_error="warn").headers == {"x-llmgate-warning": f"left out: {problem}. {KNOWN}"}


def test_warn_keeps_what_is_right() -> None:
    verdict = apply("temperature=9&top_p=0.5&nope=1", on_error="warn", params=Params({"client": {"temperature": 1}}))
    assert verdict.params.effective() == {"temperature": Setting(1, "client"), "top_p": Setting(0.5, "uri")}


def test_many_problems_are_counted() -> None:
    error = refusal("&".join(f"unheard_of_{i}=1" for i in range(8)))
    assert error.message.count("unknown parameter") == 5
    assert "; and 3 more. Known" in error.message


queries = st.lists(
    st.tuples(st.sampled_from(sorted(PARAMETERS)) | st.text().filter(str.isprintable), st.text()), max_size=4
)
numberlike = st.lists(st.tuples(st.sampled_from(sorted(PARAMETERS)), st.from_regex(r"[-+0-9.eE]{1,12}")), max_size=4)


@settings(deadline=None, max_examples=200)
@given(queries | numberlike)
def test_any_query_gives_sendable_values_and_a_safe_header(query: list[tuple[str, str]]) -> None:
    verdict = UriParams(UriParamsSettings("warn")).apply(REQUEST, Leaf("b", "m", tuple(query)), Params())
    for name, value in values_of(verdict).items():
        assert json.loads(json.dumps({name: value}, allow_nan=False)) == {name: value}
    for header in verdict.headers.values():
        assert header.isascii()
        assert header.isprintable()
        assert len(header) < 2000


@settings(deadline=None, max_examples=100)
@given(st.floats(0, 2), st.integers(1, 2**63 - 1))
def test_every_value_in_range_is_read_as_it_is(temperature: float, budget: int) -> None:
    values, wrong = read_query([("temperature", repr(temperature)), ("max_tokens", str(budget))])
    assert values == {"temperature": temperature, "max_tokens": budget}
    assert wrong == []


# the chain


class Adds:
    name: ClassVar[str] = "adds"
    settings: Any

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def apply(self, request: GatewayRequest, leaf: Leaf, params: Params) -> Verdict:
        headers: Mapping[str, str] = {"x-acted": str(self.settings)}
        so_far = params.effective().get("seed", Setting(0, "policy")).value
        return Verdict(params.with_layer("policy", {"seed": so_far + self.settings}), headers)


def test_the_chain_of_none() -> None:
    params = Params({"client": {"seed": 1}})
    assert apply_all([], REQUEST, Leaf("b", "m"), params) == Verdict(params)


def test_the_chain_runs_in_order_and_joins_headers() -> None:
    verdict = apply_all([Adds(1), Adds(20)], REQUEST, Leaf("b", "m"), Params())
    assert values_of(verdict) == {"seed": 21}
    assert verdict.headers == {"x-acted": "1, 20"}


def test_the_chain_stops_at_a_rejection() -> None:
    leaf = Leaf("b", "m", (("seed", "x"),))
    with pytest.raises(RequestError, match="`seed` must be a 64-bit whole number"):
        apply_all([Adds(1), UriParams(UriParamsSettings())], REQUEST, leaf, Params())


def test_the_chain_logs_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    leaf = Leaf("b", "m", (("seed", "x"),))
    with caplog.at_level(logging.WARNING, logger="llmgate.policies"):
        apply_all([UriParams(UriParamsSettings("warn")), Adds(1)], REQUEST, leaf, Params())
    assert caplog.messages == [f"req_1: policy `uri_params`: left out: `seed` must be a 64-bit whole number. {KNOWN}"]
