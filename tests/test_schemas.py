"""What is committed for editors and as examples: generated schemas, the main file with every key, instance files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from llmgate_core.cli.schema import all_schemas, text
from llmgate_core.config import GatewayConfig, Places, decode_extra, load
from llmgate_core.plugins import load as load_plugins
from llmgate_core.plugins import settings_type
from llmgate_core.sections import MainFile
from llmgate_core.settings import json_schema
from llmgate_core.yaml_file import read_yaml

CONFIG = Path(__file__).parent.parent / "config"
SCHEMAS = CONFIG / "schemas"
INSTANCES = CONFIG / "backends" / "backend-instances"
EXAMPLE = CONFIG / "config.example.yaml"

REGENERATE = "run `llmgate schema --write config/schemas` and commit what it writes"


def decoded(config: GatewayConfig) -> dict[str, Any]:
    """The settings of every backend, each decoded by its connector's own type."""
    connectors = load_plugins([backend.type for backend in config.backends]).connectors
    found = {}
    for backend in config.backends:
        found[backend.name], problems = decode_extra(backend, settings_type(connectors[backend.type]))
        assert not problems, problems
    return found


def keys(schema: dict[str, Any], at: str = "") -> set[str]:
    """Every key that a schema of sections knows, dotted."""
    found = set()
    for name, inner in schema.get("properties", {}).items():
        found |= {f"{at}{name}", *keys(inner, f"{at}{name}.")}
    return found


def written(data: Any, at: str = "") -> set[str]:
    if not isinstance(data, dict):
        return set()
    return {key for name, inner in data.items() for key in (f"{at}{name}", *written(inner, f"{at}{name}."))}


# --- schemas ---------------------------------------------------------------------------------------------------------


def test_there_is_one_schema_for_each_connector_and_one_for_the_main_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLMGATE_BLOCK_PLUGINS", raising=False)
    assert {path.name for path in SCHEMAS.iterdir()} == {f"{name}.json" for name in all_schemas()}, REGENERATE


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.json")), ids=lambda path: path.stem)
def test_schemas_are_up_to_date(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLMGATE_BLOCK_PLUGINS", raising=False)
    made = text(all_schemas()[path.stem])
    assert path.read_text(encoding="utf-8") == made, f"{path.name} is out of date: {REGENERATE}"


def test_every_key_explains_itself() -> None:
    """An editor shows the description; a section and a constant speak for themselves, a reference where it leads."""

    def silent(schema: dict[str, Any], at: str) -> list[str]:
        found = []
        for name, inner in schema.get("properties", {}).items():
            if not inner.keys() & {"description", "properties", "const", "$ref"}:
                found.append(f"{at}{name}")
            found += silent(inner, f"{at}{name}.")
        return found

    for name, schema in all_schemas().items():
        assert silent(schema, f"{name}: ") == []


# --- the example -----------------------------------------------------------------------------------------------------


def test_the_example_loads() -> None:
    loaded = load(Places(EXAMPLE))
    assert loaded.problems == ()
    assert loaded.advice == ()
    assert decoded(loaded.config)


def test_the_example_shows_every_key_with_its_default() -> None:
    shown = written(read_yaml(EXAMPLE.read_bytes(), EXAMPLE.name).data)
    assert keys(json_schema(MainFile)) - shown == set(), "a key that the example does not show"
    without_backends = load(Places(EXAMPLE)).config.__dict__ | {"backends": (), "origin": None}
    assert without_backends == GatewayConfig().__dict__ | {"origin": None}, "a value that is not the default"


def test_files_point_at_their_schemas() -> None:
    """`$schema=` comments are relative to the file, as the YAML language server reads them."""
    for path in [EXAMPLE, *INSTANCES.glob("*.yaml")]:
        first = path.read_text(encoding="utf-8").splitlines()[0]
        mark, _, place = first.partition("$schema=")
        assert mark == "# yaml-language-server: ", path.name
        schema = json.loads((path.parent / place).read_text(encoding="utf-8"))
        assert schema["$schema"].startswith("https://json-schema.org/draft/2020-12/")


# --- instance files --------------------------------------------------------------------------------------------------


def test_the_shipped_instances_load() -> None:
    loaded = load(Places(None, INSTANCES))
    assert loaded.problems == ()
    assert loaded.advice == ()
    assert set(decoded(loaded.config)) == {path.stem for path in INSTANCES.glob("*.yaml")}


def test_the_shipped_qwen_oauth_instance_has_its_documented_keys_and_is_switched_off() -> None:
    path = INSTANCES / "qwen-oauth.default.yaml"
    data = read_yaml(path.read_bytes(), path.name).data
    assert data == {
        "type": "qwen-oauth",
        "extra": {
            "enable_qwen_oauth_backend_debugging_override": False,
            "enable_qwen_oauth_initial_rate_limit_retry": True,
            "qwen_oauth_initial_rate_limit_retry_max_wait_seconds": 10.0,
            "qwen_oauth_initial_rate_limit_retry_random_min_seconds": 3.0,
            "qwen_oauth_initial_rate_limit_retry_random_max_seconds": 10.0,
        },
    }


def test_the_shipped_qwen_oauth_instance_shows_defaults() -> None:
    cls = settings_type(load_plugins(["qwen-oauth"]).connectors["qwen-oauth"])
    assert cls is not None
    settings = decoded(load(Places(None, INSTANCES)).config)
    assert settings["qwen-oauth.default"] == cls()


@pytest.mark.parametrize("path", [EXAMPLE, *sorted(INSTANCES.glob("*.yaml"))], ids=lambda path: path.name)
def test_shipped_files_are_right_by_the_schemas_that_they_name(path: Path) -> None:
    content = path.read_bytes()
    place = content.decode().partition("$schema=")[2].partition("\n")[0]
    found = json.loads((path.parent / place).read_text(encoding="utf-8"))
    assert list(Draft202012Validator(found).iter_errors(read_yaml(content, path.name).data)) == []
