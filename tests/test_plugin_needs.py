"""What a plugin asks for, read from its settings and from its author's own words."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.sites import CONNECTOR, Site

from llmgate_core.errors import PluginError
from llmgate_core.openai_compatible import OpenAICompatible
from llmgate_core.plugin_needs import needs, required, said
from llmgate_core.plugins import describe, load
from llmgate_core.secret import Secret

KEY, SECOND, BUILT_IN = Secret("env:ACME_KEY"), Secret("file:~/.acme/key"), Secret("public-key-of-the-demo")
STORE = Path("acme.json")


@dataclass(frozen=True)
class Settings:
    account: str
    key: Secret = KEY
    second: Secret = SECOND
    same: Secret = KEY
    built_in: Secret = BUILT_IN
    where: str = "https://api.acme.example"
    store: Path = STORE
    word: str = "none"
    models: list[str] = field(default_factory=list)
    made: str = field(init=False, default="https://never.example")


class Acme(OpenAICompatible):
    name = "acme"
    settings: Settings


class Plain(OpenAICompatible):
    name = "plain"
    settings: None


def test_what_the_defaults_name_each_once_and_no_secret() -> None:
    assert needs(Acme) == [
        "setting `account`, which has no default",
        "environment variable `ACME_KEY`",
        "file `~/.acme/key`",
        "address `https://api.acme.example`",
        "file `acme.json`",
    ]
    assert required(Acme) == ["account"]


def test_a_connector_without_settings_asks_for_nothing() -> None:
    assert (needs(Plain), required(Plain)) == ([], [])


def test_the_authors_own_words_come_last(site: Site) -> None:
    site.plugin(CONNECTOR + "\n    LLMGATE_PLUGIN_ASKS_FOR = ('file `token.json`, which it writes',)\n")
    (row,) = (row for row in describe(load(["acme"])) if row["name"] == "acme")
    assert row["asks_for"] == ["file `token.json`, which it writes"]
    assert row["import_milliseconds"] > 0


POLICY = """
    from dataclasses import dataclass
    from llmgate_core import Verdict, hookimpl

    LLMGATE_PLUGIN_API = 1

    @dataclass(frozen=True)
    class Settings:
        limit: int
        words: str = "few"

    class Cap:
        name = "cap"
        settings: Settings

        def __init__(self, settings):
            self.settings = settings

        def apply(self, request, leaf, params):
            return Verdict(params)

    @hookimpl
    def llmgate_register_policies():
        return Cap
"""


def test_a_policy_asks_as_a_connector_does(site: Site) -> None:
    site.plugin(POLICY)
    (row,) = (row for row in describe(load(["acme"])) if row["name"] == "acme")
    assert row["asks_for"] == ["setting `limit`, which has no default"]
    assert (row["required"], row["required_of_policies"]) == ({}, {"cap": ["limit"]})


@pytest.mark.parametrize("words", ["a file", ["a file"], (1,), None])
def test_words_of_another_type(words: object) -> None:
    with pytest.raises(PluginError, match="`LLMGATE_PLUGIN_ASKS_FOR` must be a tuple of texts"):
        said(SimpleNamespace(LLMGATE_PLUGIN_ASKS_FOR=words))
