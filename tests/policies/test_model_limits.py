"""What is added to a request is what the model takes: for any layers and any facts, and by example."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgate_core.connectors import ModelInfo
from llmgate_core.policies.model_limits import OURS, limit, told
from llmgate_core.request import LAYERS, Layer, Params, Setting

NAMES = ("temperature", "top_p", "top_k", "seed", "max_tokens")
PAIR = ModelInfo("m", excludes=(("temperature", "top_p"),))
NO_TEMPERATURE = ModelInfo("m", refuses=("temperature",))


def sent(layers: Mapping[Layer, Mapping[str, Any]], info: ModelInfo) -> dict[str, tuple[Any, str]]:
    params, _ = limit(Params(layers), info)
    return {name: (one.value, one.layer) for name, one in params.effective().items()}


# --- by example ---


@pytest.mark.parametrize("layer", OURS)
def test_what_we_add_is_left_out_where_the_model_refuses_it(layer: Layer) -> None:
    params, left = limit(Params({layer: {"temperature": 0.2, "seed": 1}}), NO_TEMPERATURE)
    assert params.effective() == {"seed": Setting(1, layer)}
    assert [(one.name, one.value, one.layer) for one in left] == [("temperature", 0.2, layer)]
    assert str(left[0]) == "`temperature`: model `m` does not take it"


@pytest.mark.parametrize("layer", ["client", "forced"])
def test_what_the_caller_sent_and_what_is_forced_passes(layer: Layer) -> None:
    assert sent({layer: {"temperature": 0.2}}, NO_TEMPERATURE) == {"temperature": (0.2, layer)}
    assert sent({layer: {"temperature": 0.2, "top_p": 0.5}}, PAIR).keys() == {"temperature", "top_p"}


def test_what_was_hidden_comes_forth() -> None:
    layers: dict[Layer, dict[str, Any]] = {"client": {"temperature": 0.9}, "uri": {"temperature": 0.2}}
    assert sent(layers, NO_TEMPERATURE) == {"temperature": (0.9, "client")}


def test_of_a_pair_the_callers_stays() -> None:
    assert sent({"client": {"top_p": 0.9}, "uri": {"temperature": 0.2}}, PAIR) == {"top_p": (0.9, "client")}


def test_of_a_pair_the_higher_layer_stays() -> None:
    assert sent({"default": {"temperature": 0.2}, "uri": {"top_p": 0.9}}, PAIR) == {"top_p": (0.9, "uri")}


def test_of_a_pair_in_one_layer_the_first_of_the_group_stays() -> None:
    params, left = limit(Params({"uri": {"top_p": 0.9, "temperature": 0.2}}), PAIR)
    assert params.effective() == {"temperature": Setting(0.2, "uri")}
    assert [str(one) for one in left] == ["`top_p`: model `m` does not take it together with `temperature`"]


def test_a_value_of_the_callers_may_still_be_replaced() -> None:
    layers: dict[Layer, dict[str, Any]] = {"client": {"temperature": 0.9}, "uri": {"temperature": 0.2}}
    assert sent(layers, PAIR) == {"temperature": (0.2, "uri")}


def test_between_two_of_the_callers_nothing_of_ours_comes() -> None:
    layers: dict[Layer, dict[str, Any]] = {"client": {"temperature": 0.9, "top_p": 0.5}, "uri": {"temperature": 0.2}}
    assert sent(layers, PAIR) == {"temperature": (0.9, "client"), "top_p": (0.5, "client")}


def test_a_limit_that_has_another_name_is_not_left_out() -> None:
    layers: dict[Layer, dict[str, Any]] = {"uri": {"max_tokens": 5}}
    assert sent(layers, ModelInfo("m", refuses=("max_tokens",))) == {"max_tokens": (5, "uri")}
    assert sent(layers, ModelInfo("m", refuses=("max_tokens", "max_completion_tokens"))) == {}


# --- thinking ---

CLAUDE = ModelInfo("m", excludes=(("thinking", "temperature"),))
ADAPTIVE = {"thinking": {"type": "adaptive"}}


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ({"policy": {"temperature": 0.1}, "uri": {"thinking_budget": 2000}}, {"thinking_budget"}),
        ({"uri": {"temperature": 0.1, "thinking_budget": 2000}}, {"thinking_budget"}),
        ({"default": {"thinking_budget": 2000}, "uri": {"temperature": 0.1}}, {"temperature"}),
        ({"client": {"temperature": 0.5}, "uri": {"thinking_budget": 2000}}, {"temperature"}),
        ({"client": {"temperature": 1}, "uri": {"thinking_budget": 2000}}, {"temperature", "thinking_budget"}),
        ({"uri": {"temperature": 0.1, "thinking_budget": 0}}, {"temperature", "thinking_budget"}),
        ({"client": ADAPTIVE, "policy": {"temperature": 0.1}}, {"thinking"}),
        (
            {"client": ADAPTIVE, "policy": {"temperature": 0.1}, "uri": {"thinking_budget": 0}},
            {"thinking", "temperature", "thinking_budget"},
        ),
        ({"client": {"thinking": {"type": "disabled"}}, "policy": {"temperature": 0.1}}, {"thinking", "temperature"}),
        (
            {
                "client": {"thinking_budget": 2000},
                "uri": {"reasoning_effort": "none", "temperature": 0},
            },
            {"thinking_budget", "reasoning_effort", "temperature"},
        ),
    ],
)
def test_a_budget_counts_as_thinking(layers: Mapping[Layer, Mapping[str, Any]], expected: set[str]) -> None:
    assert sent(layers, CLAUDE).keys() == expected


thinking = st.dictionaries(
    st.sampled_from(("temperature", "thinking_budget", "reasoning_effort")), st.sampled_from((0, 1, 2000))
).map(lambda values: {**values, **({"reasoning_effort": "none"} if "reasoning_effort" in values else {})})


@settings(max_examples=400)
@given(st.dictionaries(st.sampled_from(LAYERS), thinking), st.booleans())
def test_no_temperature_and_no_thinking_meet_because_of_us(
    layers: dict[Layer, Mapping[str, Any]], is_adaptive: bool
) -> None:
    if is_adaptive:
        layers["client"] = {**layers.get("client", {}), **ADAPTIVE}
    params, _ = limit(Params(layers), CLAUDE)
    assert limit(params, CLAUDE)[1] == ()
    found = params.effective()
    budget, effort, temperature = (found.get(name) for name in ("thinking_budget", "reasoning_effort", "temperature"))
    if effort and LAYERS.index(effort.layer) > (LAYERS.index(budget.layer) if budget else -1):
        return  # it does not think
    by = budget if budget else Setting(ADAPTIVE, "client") if is_adaptive else None
    if by and by.value and temperature and temperature.value != 1:
        assert by.layer not in OURS or any(one.layer not in OURS for one in params.why("thinking_budget"))
        assert temperature.layer not in OURS or any(one.layer not in OURS for one in params.why("temperature"))


def test_what_the_dialect_cannot_say_is_left_out_of_all_layers_of_ours_and_the_forced() -> None:
    params, left = limit(Params({"uri": {"seed": 1}, "forced": {"seed": 2, "top_p": 1}}), ModelInfo("m"), {"seed"})
    assert params.effective() == {"top_p": Setting(1, "forced")}
    assert [(one.value, one.layer) for one in left] == [(2, "forced"), (1, "uri")]
    assert str(left[0]) == "`seed`: the upstream's dialect cannot say it"


# --- telling it ---


def test_the_caller_is_told_of_his_query_and_the_log_of_all(caplog: pytest.LogCaptureFixture) -> None:
    _, left = limit(Params({"default": {"temperature": 1}, "uri": {"temperature": 0.2}}), NO_TEMPERATURE)
    with caplog.at_level(logging.DEBUG, "llmgate.policies"):
        headers = told("req_1", {"x-llmgate-warning": "before", "x-other": "1"}, left)
    text = "left out: `temperature`: model `m` does not take it"
    assert headers == {"x-llmgate-warning": f"before, {text}", "x-other": "1"}
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("DEBUG", "req_1 left out, from layer default: `temperature`: model `m` does not take it"),
        ("WARNING", f"req_1: {text}"),
    ]


def test_defaults_are_left_out_without_a_word_to_the_caller() -> None:
    _, left = limit(Params({"default": {"temperature": 1}, "policy": {"temperature": 0.2}}), NO_TEMPERATURE)
    assert [one.layer for one in left] == ["policy", "default"]
    assert told("req_1", {"x-other": "1"}, left) == {"x-other": "1"}


@given(st.text(min_size=1))
def test_any_models_name_makes_a_safe_header(model: str) -> None:
    _, left = limit(Params({"uri": {"temperature": 1}}), ModelInfo(model, refuses=("temperature",)))
    (header,) = told("req_1", {}, left).values()
    assert header.isascii()
    assert header.isprintable()
    assert len(header) < 200


# --- for anything ---


values = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 9))
any_params = st.dictionaries(st.sampled_from(LAYERS), values).map(Params)
groups = st.lists(st.sampled_from(NAMES), min_size=2, max_size=4, unique=True).map(tuple)
any_info = st.builds(
    ModelInfo,
    st.just("m"),
    refuses=st.lists(st.sampled_from((*NAMES, "max_completion_tokens")), unique=True).map(tuple),
    excludes=st.lists(groups, max_size=3).map(tuple),
)


def settings_in(params: Params, layer: Layer) -> dict[str, Any]:
    return {name: one.value for name in NAMES for one in params.why(name) if one.layer == layer}


@settings(max_examples=400)
@given(any_params, any_info)
def test_callers_and_forced_parameters_never_change(params: Params, info: ModelInfo) -> None:
    after, _ = limit(params, info)
    for layer in ("client", "forced"):
        assert settings_in(after, layer) == settings_in(params, layer)


@settings(max_examples=400)
@given(any_params, any_info)
def test_nothing_of_ours_is_sent_that_the_model_refuses(params: Params, info: ModelInfo) -> None:
    effective = limit(params, info)[0].effective()
    for name, one in effective.items():
        if one.layer in OURS:
            assert name not in info.refuses or (name == "max_tokens" and "max_completion_tokens" not in info.refuses)
            for group in info.excludes:
                assert name not in group or not (set(group) - {name}) & effective.keys()


@settings(max_examples=400)
@given(any_params, any_info)
def test_nothing_is_left_out_without_a_reason(params: Params, info: ModelInfo) -> None:
    after, left = limit(params, info)
    for name in params.effective():
        ours = [one for one in params.why(name) if one.layer in OURS]
        assert [(one.value, one.layer) for one in left if one.name == name] in (
            [],
            [(one.value, one.layer) for one in ours],
        )
        if ours and not [one for one in after.why(name) if one.layer in OURS]:
            is_refused = name in info.refuses
            others = {other for group in info.excludes if name in group for other in group} - {name}
            assert is_refused or others & params.effective().keys()


@settings(max_examples=400)
@given(any_params, any_info)
def test_a_group_that_was_asked_for_is_not_lost_altogether(params: Params, info: ModelInfo) -> None:
    if len(info.excludes) == 1 and not info.refuses:
        (group,) = info.excludes
        before, after = params.effective().keys() & set(group), limit(params, info)[0].effective().keys() & set(group)
        assert bool(before) == bool(after)


@settings(max_examples=400)
@given(any_params, any_info)
def test_a_second_time_changes_nothing(params: Params, info: ModelInfo) -> None:
    once, _ = limit(params, info)
    twice, left = limit(once, info)
    assert left == ()
    assert all(settings_in(once, layer) == settings_in(twice, layer) for layer in LAYERS)


@given(any_params)
def test_a_model_of_which_nothing_is_known_takes_all(params: Params) -> None:
    after, left = limit(params, ModelInfo("m"))
    assert (after.effective(), left) == (params.effective(), ())
