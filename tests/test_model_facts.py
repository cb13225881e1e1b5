"""Tables of facts: which entry is a model's, what a file may say, and what core's own file says."""

from __future__ import annotations

from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgate_core import ModelFacts, ModelInfo
from llmgate_core.model_facts import Facts, best_match, families, overridden, plain_facts

TABLE = ModelFacts.read("""
[[model]]
ids = ["acme-large-*", "acme-small"]
context = 1000
source = "a page"

[[model]]
ids = ["acme-large-2"]
max_output = 20
input = ["text", "image"]
thinking = "optional"
refuses = ["temperature"]
excludes = [["top_p", "top_k"]]
source = "another page"

[[model]]
ids = ["acme-*"]
context = 5
source = "a guess"
""")


def test_an_id_comes_before_a_pattern_and_a_pattern_before_those_below_it() -> None:
    assert TABLE.get("acme-large-2") == ModelInfo(
        "acme-large-2",
        max_output=20,
        input=("text", "image"),
        thinking="optional",
        refuses=("temperature",),
        excludes=(("top_p", "top_k"),),
        source="another page",
    )
    assert TABLE.get("acme-large-3") == ModelInfo("acme-large-3", context=1000, source="a page")
    assert TABLE.get("acme-tiny") == ModelInfo("acme-tiny", context=5, source="a guess")
    assert TABLE.get("other") is None


def test_the_first_of_two_entries_for_one_id_counts() -> None:
    entry = '[[model]]\nids = ["m"]\ncontext = {}\nsource = "s"\n'
    found = ModelFacts.read(entry.format(1) + entry.format(2)).get("m")
    assert found is not None
    assert found.context == 1


@pytest.mark.parametrize("asked", ["ACME-Small", "vendor/acme-small", "a/b/Acme-small"])
def test_case_and_a_vendors_prefix_are_looked_past_and_the_id_is_kept(asked: str) -> None:
    assert TABLE.get(asked) == ModelInfo(asked, context=1000, source="a page")


def test_a_whole_id_comes_before_what_follows_its_slash() -> None:
    assert best_match(["m", "vendor/m"], "vendor/m") == "vendor/m"
    assert best_match(["m", "vendor/*"], "vendor/m") == "vendor/*"


def test_ids_are_those_that_are_no_patterns_in_their_order() -> None:
    assert TABLE.ids == ("acme-small", "acme-large-2")


@given(st.text(), st.lists(st.text()))
def test_any_name_finds_one_of_the_ids_or_nothing(model: str, ids: list[str]) -> None:
    found = best_match(ids, model)
    assert found is None or found in ids
    if model in ids:
        assert found is not None
        assert found.lower() == model.lower()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ('ids = ["m"]', "missing key `model[0].source`"),
        ('ids = []\nsource = "s"', "`model[0].ids`: must not be empty."),
        ('ids = ["m"]\nsource = "s"\ncontexts = 1', "unknown key `model[0].contexts`; did you mean `context`?"),
        ('ids = ["m"]\nsource = "s"\ncontext = 0', "`model[0].context`: must be at least 1."),
        ('ids = ["m"]\nsource = "s"\ninput = ["smell"]', "`model[0].input[0]`: expected one of `text`, `image`"),
        ('ids = ["m"]\nsource = "s"\nrefuses = ["temprature"]', "looks like a misspelt `temperature`"),
        ('ids = ["m"]\nsource = "s"\nexcludes = [["top_p", "top_p"]]', "at least two parameters"),
    ],
)
def test_a_mistake_in_a_file_is_told(entry: str, words: str) -> None:
    with pytest.raises(ValueError, match="model") as caught:
        ModelFacts.read(f"[[model]]\n{entry}\n")
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["top_a", "min_p", "stop", "enable_thinking", "max_completion_tokens", "logprobs"])
def test_parameters_that_are_no_misspelling_may_be_refused(name: str) -> None:
    assert Facts(refuses=(name,)).refuses == (name,)


def test_what_the_operator_says_comes_first_and_the_rest_stays() -> None:
    known = ModelInfo("m", context=10, refuses=("temperature",), source="a page")
    said = {"*": Facts(context=1), "m": Facts(refuses=(), max_output=5)}
    assert overridden(known, said) == ModelInfo("m", context=10, max_output=5, source="configuration; a page")
    assert overridden(ModelInfo("n"), said) == ModelInfo("n", context=1, source="configuration")
    assert overridden(known, {"n": Facts(context=1)}) is known
    assert overridden(known, {"m": Facts()}) is known


def test_plain_facts_are_those_that_are_known() -> None:
    assert plain_facts(ModelInfo("m", context=10, thinking="none")) == {"context": 10, "thinking": "none"}


# --- core's own file ---


SAMPLING = {"temperature", "top_p", "presence_penalty", "frequency_penalty"}


@pytest.mark.parametrize(
    "model", ["gpt-5", "gpt-5-mini", "openai/gpt-5-2025-08-07", "gpt-5.6-luna", "o1", "o1-mini", "o3-mini", "o4-mini"]
)
def test_reasoning_models_of_openai_take_no_sampling_parameters(model: str) -> None:
    found = families().get(model)
    assert found is not None
    assert set(found.refuses) >= {*SAMPLING, "max_tokens"}
    assert "max_completion_tokens" not in found.refuses


@pytest.mark.parametrize(
    "model", ["claude-opus-4-1-20250805", "claude-sonnet-4-5", "anthropic/claude-sonnet-4.5", "claude-haiku-4-5"]
)
def test_some_models_take_one_of_temperature_and_top_p(model: str) -> None:
    found = families().get(model)
    assert found is not None
    assert ("temperature", "top_p") in found.excludes
    assert not SAMPLING & set(found.refuses)


@pytest.mark.parametrize(
    "model", ["gpt-4o", "gpt-4.1-mini", "gpt-5-chat-latest", "claude-sonnet-4-20250514", "llama3:8b", "gpt-oss-120b"]
)
def test_other_models_take_temperature(model: str) -> None:
    found = families().get(model)
    assert found is None or ("temperature" not in found.refuses and not found.excludes)


def test_gpt_5_1_samples_only_while_it_does_not_reason() -> None:
    found = families().get("gpt-5.1")
    assert found is not None
    assert set(found.excludes) == {("temperature", "reasoning_effort"), ("top_p", "reasoning_effort")}


def test_every_pattern_of_the_file_can_be_reached() -> None:
    """An entry behind a wider one would never be used, and nobody would notice."""
    text = files("llmgate_core").joinpath("models.toml").read_text(encoding="utf-8")
    table = ModelFacts.read(text)
    for id in table._entries:
        example = id.replace("[-.]", "-").replace("?", "1").replace("*", "-x" if not id.endswith("-*") else "x")
        found = best_match(table._entries, example)
        assert found is not None
        assert table._entries[found] is table._entries[id], f"{example} is {found}, not {id}"
