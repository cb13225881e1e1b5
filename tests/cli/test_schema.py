"""What `llmgate schema` makes of a connector that somebody installs: an editor completes and checks its keys.

What a schema refuses, llmgate must refuse too, and the other way round, or the editor's red lines would mislead.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator
from tests.sites import installed

from llmgate_core.cli.schema import command
from llmgate_core.config import Places, decode_extra, load
from llmgate_core.editor_schemas import config_schema
from llmgate_core.plugins import load as load_plugins
from llmgate_core.plugins import settings_type
from llmgate_core.policy_settings import decode_policies
from llmgate_core.yaml_file import read_yaml

if TYPE_CHECKING:
    from tests.cli.conftest import Write

ACME = """
    from dataclasses import dataclass
    from typing import Annotated, Literal
    from llmgate_core import Meta, OpenAICompatible, Secret, hookimpl

    LLMGATE_PLUGIN_API = 1

    @dataclass(frozen=True)
    class Limits:
        requests: Annotated[int, Meta(ge=1, description="Requests a minute.")] = 60

    @dataclass(frozen=True)
    class AcmeSettings:
        api_key: Annotated[Secret, Meta(description="The key from Acme's console.")] = Secret("plain-MARKER")
        patience: Annotated[float, Meta(ge=0, le=60, description="Longest wait, seconds.")] = 5.0
        region: Annotated[Literal["north", "south"], Meta(description="Where the account is.")] = "north"
        models: Annotated[tuple[str, ...], Meta(description="What is listed.")] = ()
        limits: Limits = Limits()

    class Acme(OpenAICompatible):
        name = "acme"
        settings: AcmeSettings

    class Halves:
        name = "halves"
        settings: Limits

        def __init__(self, settings):
            pass

        def apply(self, request, leaf, params):
            raise AssertionError

    class Silent(Halves):
        name = "silent"
        settings: None

    @hookimpl
    def llmgate_register_connectors():
        return Acme

    @hookimpl
    def llmgate_register_policies():
        return [Halves, Silent]
"""

RIGHT = [
    "backends: {acme: {extra: {patience: 10, region: south}}}",
    "backends: {acme: null}",
    "backends: {acme: {extra: null}}",
    "backends: {acme: {extra: {models: null, limits: null}}}",
    "backends: {acme.work: {extra: {api_key: 'env:ACME_KEY', limits: {requests: 1}}}}",
    "backends: {acme.work: {type: acme, connector: acme, enabled: true}}",
    "backends: {mine: {type: acme, extra: {models: [a, b]}}}",
    "backends: {mine: {connector: acme, extra: {patience: 0}}}",
    "backends: {acme: {type: null, extra: {patience: 0}}}",
    "backends: {acme: {type: openai-compatible, extra: {base_url: 'http://127.0.0.1:1/v1'}}}",
    "{backends: null, server: null}",
    "plugins: {load: [acme], settings: {halves: {requests: 5}}}",
    "plugins: {load: [acme], settings: {halves: null, silent: {}}}",
]

WRONG = [
    ("backends: {acme: {extra: {patiense: 1}}}", ["backends.acme.extra"]),
    ("backends: {acme: {extra: {patience: long}}}", ["backends.acme.extra.patience"]),
    ("backends: {acme: {extra: {patience: 60.5}}}", ["backends.acme.extra.patience"]),
    ("backends: {acme: {extra: {api_key: 7}}}", ["backends.acme.extra.api_key"]),
    ("backends: {acme: {extra: {limits: {requests: 0}}}}", ["backends.acme.extra.limits.requests"]),
    ("backends: {acme: {extra: {region: east}}}", ["backends.acme.extra.region"]),
    ("backends: {acme: {extra: {models: one}}}", ["backends.acme.extra.models"]),
    ("backends: {acme.work: {extra: {patience: -1}}}", ["backends.acme.work.extra.patience"]),
    ("backends: {acme.work: {type: openai-compatible}}", ["backends.acme.work.type"]),
    ("backends: {mine: {type: acme, extra: {patience: -1}}}", ["backends.mine.extra.patience"]),
    ("backends: {mine: {connector: acme, extra: {patience: -1}}}", ["backends.mine.extra.patience"]),
    ("backends: {acme: {type: null, extra: {patience: -1}}}", ["backends.acme.extra.patience"]),
    ("backends: {acme: {ekstra: {}}}", ["backends.acme"]),
    ("backends: {my own: {type: acme}}", ["backends"]),
    ("backends: {other: {type: openai-compatible, extra: {}}}", ["backends.other.extra"]),
    ("server: {port: 70000}", ["server.port"]),
    ("plugins: {settings: {halves: {requests: 0}}}", ["plugins.settings.halves.requests"]),
    ("plugins: {settings: {halves: {reqests: 1}}}", ["plugins.settings.halves"]),
    ("plugins: {settings: {silent: {requests: 1}}}", ["plugins.settings.silent"]),
]


class Acme:
    """A place where Acme is installed: what `llmgate schema` has written there, and what llmgate itself says.

    Attributes:
        main, own: the schema of the main file, and of Acme's own files.
    """

    def __init__(self, written: Path) -> None:
        self.main, self.own = (json.loads((written / f"{name}.json").read_text()) for name in ("config", "acme"))
        for schema in (self.main, self.own):
            Draft202012Validator.check_schema(schema)
        self._plugins = load_plugins(["acme"])

    def accepts(self, places: Places) -> bool:
        """Whether llmgate finds nothing wrong with the files."""
        loaded = load(places)
        problems = [*loaded.problems]
        for backend in loaded.config.backends:
            problems += decode_extra(backend, settings_type(self._plugins.connectors[backend.type]))[1]
        return not [*problems, *decode_policies(loaded.config, self._plugins)[1]]


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Acme]:
    folder = tmp_path_factory.mktemp("acme")
    with installed(folder / "site") as site, pytest.MonkeyPatch.context() as patch:
        site.plugin(ACME)
        patch.delenv("LLMGATE_BLOCK_PLUGINS", raising=False)
        command.main(["--write", str(folder / "schemas")], "llmgate schema", standalone_mode=False)
        yield Acme(folder / "schemas")


def faults(schema: dict[str, Any], path: Path) -> list[str]:
    """The dotted places in a file at which a schema finds something wrong."""
    errors = Draft202012Validator(schema).iter_errors(read_yaml(path.read_bytes(), path.name).data)
    return sorted({".".join(map(str, error.absolute_path)) for error in errors})


@pytest.mark.parametrize("text", RIGHT)
def test_what_is_right_passes(text: str, acme: Acme, write: Write) -> None:
    path = write(text)
    assert faults(acme.main, path) == []
    assert acme.accepts(Places(path))


@pytest.mark.parametrize(("text", "places"), WRONG)
def test_what_is_wrong_is_marked_in_its_place(text: str, places: list[str], acme: Acme, write: Write) -> None:
    path = write(text)
    assert faults(acme.main, path) == places
    assert not acme.accepts(Places(path))


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("type: acme\nextra:\n  patience: 10\n", []),
        ("extra:\n  # patience: 10\n", []),
        ("type: other\n", ["type"]),
        ("extra: {patience: 61}", ["extra.patience"]),
        ("extra: {patiense: 6}", ["extra"]),
        ("extra: {api_key: [a]}", ["extra.api_key"]),
    ],
)
def test_a_file_of_its_own_is_checked_likewise(
    text: str, places: list[str], acme: Acme, write: Write, folder: Path
) -> None:
    path = write(text, "instances/acme.work.yaml")
    assert faults(acme.own, path) == places
    assert acme.accepts(Places(None, folder / "instances")) == (not places)


def test_keys_come_with_what_their_author_says_of_them(acme: Acme) -> None:
    main, own = acme.main, acme.own
    for extra in (main["$defs"]["extra.acme"], own["properties"]["extra"]):
        assert extra["properties"]["patience"] == {
            "type": "number",
            "minimum": 0,
            "maximum": 60,
            "description": "Longest wait, seconds.",
            "default": 5.0,
        }
        assert extra["properties"]["api_key"] == {"type": "string", "description": "The key from Acme's console."}
        assert extra["properties"]["limits"]["properties"]["requests"]["default"] == 60
    assert "MARKER" not in json.dumps([main, own]), "a default that may be a secret"
    assert own["properties"]["type"] == {"const": "acme", "description": "The connector's name."}


def test_the_names_of_connectors_are_completed_and_others_let_through(acme: Acme, write: Write) -> None:
    found = acme.main
    assert "acme" in found["properties"]["backends"]["properties"]
    known, free = found["$defs"]["backend"]["properties"]["type"]["anyOf"]
    assert ("acme" in known["enum"], free["type"]) == (True, ["string", "null"])
    assert faults(found, write("backends: {elsewhere: {type: not-here, extra: {a: 1}}, not-here.two: null}")) == []


def test_each_backend_has_one_place_in_the_schema(acme: Acme) -> None:
    """The YAML language server looks at the first of `properties` and `patternProperties` that fits, and no further."""
    backends = acme.main["properties"]["backends"]
    for name in ("acme", "acme.work", "mine", "acmes", "openai-compatible", "openai-compatible.local", "openai"):
        patterns = [pattern for pattern in backends["patternProperties"] if matches(pattern, name)]
        assert len(patterns) + (name in backends["properties"]) == 1, name


def matches(pattern: str, name: str) -> bool:
    return Draft202012Validator({"pattern": pattern}).is_valid(name)


def test_without_any_connector_there_is_a_schema_all_the_same(write: Write) -> None:
    found = config_schema({})
    Draft202012Validator.check_schema(found)
    assert faults(found, write("backends: {acme: {extra: {a: 1}}}")) == []
