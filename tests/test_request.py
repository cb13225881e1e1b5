"""Parameters in layers: which one wins, and what it hides."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from llmgate_core.request import LAYERS, Layer, Params, Setting


def test_no_parameters() -> None:
    assert Params().effective() == {}
    assert Params().why("temperature") == ()


def test_a_higher_layer_hides_a_lower_one_and_forgets_nothing() -> None:
    params = (
        Params()
        .with_layer("uri", {"temperature": 0.2})
        .with_layer("client", {"temperature": 1.0, "top_p": 0.9})
        .with_layer("default", {"temperature": 0.7, "seed": 1})
    )
    assert params.effective() == {
        "temperature": Setting(0.2, "uri"),
        "top_p": Setting(0.9, "client"),
        "seed": Setting(1, "default"),
    }
    assert params.why("temperature") == (Setting(0.2, "uri"), Setting(1.0, "client"), Setting(0.7, "default"))
    assert params.why("seed") == (Setting(1, "default"),)


def test_the_order_of_the_layers() -> None:
    params = Params({layer: {"seed": rank} for rank, layer in enumerate(LAYERS)})
    assert [setting.layer for setting in params.why("seed")] == [
        "forced",
        "uri",
        "policy",
        "client",
        "default",
    ]


def test_a_value_of_none_is_a_value() -> None:
    params = Params({"default": {"seed": 1}}).with_layer("forced", {"seed": None})
    assert params.effective() == {"seed": Setting(None, "forced")}


def test_with_layer_adds_to_what_the_layer_has() -> None:
    params = Params({"policy": {"seed": 1, "top_k": 2}}).with_layer("policy", {"seed": 3, "top_p": 0.5})
    assert {name: setting.value for name, setting in params.effective().items()} == {
        "seed": 3,
        "top_k": 2,
        "top_p": 0.5,
    }


def test_without_takes_a_parameter_out_of_some_layers() -> None:
    layers: dict[Layer, dict[str, int]] = {
        "default": {"seed": 1},
        "client": {"seed": 2},
        "uri": {"seed": 3, "top_k": 4},
    }
    params = Params(layers)
    assert params.without("seed", ("default", "uri")).effective() == {
        "seed": Setting(2, "client"),
        "top_k": Setting(4, "uri"),
    }
    assert params.without("seed", ()).why("seed") == params.why("seed")
    assert params.why("seed") == (Setting(3, "uri"), Setting(2, "client"), Setting(1, "default"))


def test_params_do_not_change() -> None:
    layers: dict[Layer, dict[str, int]] = {"client": {"seed": 1}}
    params = Params(layers)
    params.with_layer("client", {"seed": 2})
    params.with_layer("uri", {"seed": 3})
    layers["forced"] = {"seed": 4}
    assert params.effective() == {"seed": Setting(1, "client")}
    assert layers["client"] == {"seed": 1}


steps = st.lists(st.tuples(st.sampled_from(LAYERS), st.dictionaries(st.sampled_from("abc"), st.integers())), max_size=8)


@settings(deadline=None, max_examples=100)
@given(steps)
def test_effective_is_the_first_of_why_whatever_the_order(steps: list[tuple[Layer, dict[str, int]]]) -> None:
    params = Params()
    last: dict[tuple[Layer, str], int] = {}
    for layer, values in steps:
        params = params.with_layer(layer, values)
        last |= {(layer, name): value for name, value in values.items()}
    effective = params.effective()
    assert effective == {name: params.why(name)[0] for name in "abc" if params.why(name)}
    for name in "abc":
        expected = [Setting(last[layer, name], layer) for layer in reversed(LAYERS) if (layer, name) in last]
        assert list(params.why(name)) == expected
