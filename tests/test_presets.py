"""Presets: core's own data, the fence around what plugins offer, and what a machine is found to have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from llmgate_core import OpenAICompatible, Preset, Secret
from llmgate_core.plugins import load_all
from llmgate_core.presets import Offer, default_model, faults_of, look, models_listed, offered, read

KEY = "sk-MARKER-presets"


@dataclass(frozen=True)
class AcmeSettings:
    api_key: Secret | None = None
    base_url: str = "https://api.acme.example/v1"


def acme(*presets: Any, called: str = "acme") -> type[Any]:
    class Acme(OpenAICompatible):
        name = called
        settings: AcmeSettings

        @classmethod
        def presets(cls) -> Sequence[Any]:
            return presets

    return Acme


GOOD = Preset("acme", "Acme", variable="ACME_API_KEY", model="large", link="https://acme.example")


# --- core's own data --------------------------------------------------------------------------------------------------


def test_core_and_its_plugins_offer_without_problems() -> None:
    offers, problems = offered(load_all().connectors)
    assert problems == []
    names = [offer.preset.name for offer in offers]
    assert names[:2] == ["openai", "anthropic"]
    assert {"minimax", "ollama"} <= set(names)
    assert not any("oauth" in name for name in names), "a reference for debugging is no provider to suggest"


def test_what_asks_for_no_key_is_a_server_on_this_machine_and_comes_last() -> None:
    offers, _ = offered(load_all().connectors)
    local = [offer for offer in offers if offer.preset.variable is None]
    assert offers[-len(local) :] == local
    for offer in local:
        assert offer.preset.probe == f"{offer.preset.extra['base_url']}/models"


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ('name = "a"\ntitle = "A"\nlink = ""', "missing key `preset[0].connector`"),
        (
            'connector = "c"\nname = "a"\ntitle = "A"\nlink = "l"\nsource = "s"\nmodle = "V"',
            "did you mean `model`?",
        ),
    ],
)
def test_a_mistake_in_the_file_is_told(entry: str, words: str) -> None:
    with pytest.raises(ValueError, match="preset") as caught:
        read(f"[[preset]]\n{entry}\n")
    assert words in str(caught.value)


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "backend", "short"),
    [("acme", "acme.default", "acme"), ("acme-eu", "acme.acme-eu", "acme-eu"), ("other", "acme.other", "other")],
)
def test_a_preset_names_its_backend(name: str, backend: str, short: str) -> None:
    offer = Offer("acme", replace(GOOD, name=name))
    assert (offer.backend, offer.short) == (backend, short)


def test_settings_say_where_the_key_is() -> None:
    offer = Offer("acme", replace(GOOD, extra={"base_url": "http://x"}))
    assert offer.settings() == {"base_url": "http://x", "api_key": "env:ACME_API_KEY"}
    assert offer.settings("file:k")["api_key"] == "file:k"
    assert Offer("acme", replace(GOOD, variable=None)).settings() == {}


# --- the fence --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        ("acme", "must be a `Preset`, and is a `str`"),
        (replace(GOOD, name="a b"), "`name`"),
        (replace(GOOD, title=""), "`title`"),
        (replace(GOOD, link="a\nb"), "printable"),
        (replace(GOOD, variable="ACME KEY"), "`variable`"),
        (replace(GOOD, extra={"api_key": KEY}), "must not hold the key's setting"),
        (replace(GOOD, model="two words"), "`model`"),
        (replace(GOOD, key="token"), "unknown key `extra.token`"),
        (replace(GOOD, extra={"base_url": 5}), "`extra.base_url`: expected `str`"),
        (replace(GOOD, probe="https://api.acme.example/v1/models"), "on this machine"),
        (replace(GOOD, probe="http://127.0.0.1@acme.example/"), "on this machine"),
    ],
)
def test_what_is_wrong_with_a_preset_is_told_and_it_is_not_offered(preset: Any, words: str) -> None:
    faults = faults_of(acme(), preset)
    assert words in faults[0]
    assert KEY not in " ".join(faults)
    offers, problems = offered({"acme": acme(preset, replace(GOOD, name="acme-good"))})
    assert [offer.preset.name for offer in offers] == ["acme-good"]
    assert len(problems) == 1
    assert words in problems[0]


def test_one_that_raises_hurts_nobody() -> None:
    class Broken(acme()):  # type: ignore[misc]
        @classmethod
        def presets(cls) -> Sequence[Preset]:
            raise RuntimeError(KEY)

    offers, problems = offered({"broken": Broken, "acme": acme(GOOD)})
    assert [offer.preset for offer in offers] == [GOOD]
    assert problems == ["the presets of connector `broken` cannot be had: it raised `RuntimeError`"]


def test_of_two_with_one_name_the_first_is_offered() -> None:
    offers, problems = offered({"acme": acme(GOOD), "rival": acme(GOOD, called="rival")})
    assert [offer.connector for offer in offers] == ["acme"]
    assert problems == ["preset `acme` of connector `rival`: there is one of that name"]


# --- what is here -----------------------------------------------------------------------------------------------------

HERE = Preset("here", "Here", probe="http://127.0.0.1:9/v1/models")
OFFERS = [Offer("acme", GOOD), Offer("acme", replace(GOOD, name="acme-eu")), Offer("acme", HERE)]


def test_what_is_here_is_what_has_a_key_or_answers() -> None:
    assert look(OFFERS, {}, {}).offers == ()
    assert look(OFFERS, {"ACME_API_KEY": " "}, {}).offers == ()
    found = look(OFFERS, {"ACME_API_KEY": KEY}, {"http://127.0.0.1:9/v1/models": ["m"]})
    assert [offer.preset.name for offer in found.offers] == ["acme", "here"]
    assert [offer.preset.name for offer in found.twins["acme"]] == ["acme-eu"]


def test_a_key_for_another_address_is_left_alone() -> None:
    offer = Offer("acme", replace(GOOD, extra={"base_url": "https://api.acme.example/v1"}, elsewhere=("ACME_URL",)))
    keyed = {"ACME_API_KEY": KEY}
    found = look([offer], {**keyed, "ACME_URL": "http://127.0.0.1:8000/v1"}, {})
    assert (found.offers, found.strangers) == ((), ((offer, "ACME_URL"),))
    assert look([offer], {**keyed, "ACME_URL": "https://api.acme.example/v1/"}, {}).offers == (offer,)


@pytest.mark.parametrize(
    ("content", "owner", "models"),
    [
        ({"data": [{"id": "a"}, {"id": "b\x1b[2J"}]}, None, ["a"]),
        ({"data": [{"id": "a", "owned_by": "vllm"}]}, "vllm", ["a"]),
        ({"data": [{"id": "a", "owned_by": "llmgate"}]}, "vllm", None),
        ({"data": []}, "vllm", None),
        ({"data": []}, None, []),
        ({"models": []}, None, None),
        ([], None, None),
        ("<html>", None, None),
        ({"data": [{"id": 5}]}, None, None),
    ],
)
def test_a_list_of_models_is_read_with_care(content: Any, owner: str | None, models: list[str] | None) -> None:
    assert models_listed(content, owner) == models


def test_the_default_model_is_the_presets_or_the_servers_first_that_chats() -> None:
    servers = {"http://127.0.0.1:9/v1/models": ["nomic-embed-text", "a b", "chatty:7b"]}
    assert default_model(OFFERS[0], servers) == "large"
    assert default_model(OFFERS[2], servers) == "chatty:7b"
    assert default_model(OFFERS[2], {}) is None
