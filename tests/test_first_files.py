"""What `llmgate init` writes: every preset's files can be loaded and say what was chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmgate_core import Preset
from llmgate_core.checks import find_problems
from llmgate_core.config import GatewayConfig, find_places
from llmgate_core.config import load as load_config
from llmgate_core.first_files import MAIN, Choice, scalar, written
from llmgate_core.plugins import load, load_all
from llmgate_core.presets import Offer, offered
from llmgate_core.yaml_file import read_yaml

OFFERS = {offer.preset.name: offer for offer in offered(load_all().connectors)[0]}


def loaded(text: str, folder: Path) -> GatewayConfig:
    """The configuration that the file is; it has neither problems nor advice."""
    (folder / "config").mkdir(parents=True)
    (folder / "config" / MAIN).write_text(text, encoding="utf-8")
    found = load_config(find_places(folder, folder / "nowhere"))
    config = found.checked()
    assert found.advice == ()
    assert find_problems(config, load(config.plugin_names())) == []
    return config


@pytest.mark.parametrize("name", OFFERS)
def test_every_preset_makes_a_configuration(name: str, tmp_path: Path) -> None:
    offer = OFFERS[name]
    text = written([Choice(offer)], offer.preset.model)
    config = loaded(text, tmp_path)
    (backend,) = config.backends
    assert (backend.name, config.names().short[backend.name]) == (offer.backend, offer.short)
    assert backend.extra == offer.settings()
    assert config.default_backend == ":".join(filter(None, [offer.short, offer.preset.model]))
    assert all(line == line.rstrip() and len(line) <= 120 for line in text.splitlines())


def test_several_go_on_from_one_to_the_next_where_the_comment_is_taken_out(tmp_path: Path) -> None:
    text = written([Choice(OFFERS[name]) for name in ("anthropic", "minimax", "groq")], "some-model")
    assert not loaded(text, tmp_path / "as-written").failover_routes
    assert text.count("\n# failover_routes:\n#   with-backup: ") == 1
    text = text.replace("# failover_routes:\n#   ", "failover_routes:\n  ")
    route = "anthropic:some-model|minimax:MiniMax-M3|groq:MODEL"
    assert loaded(text, tmp_path / "taken-out").failover_routes == {"with-backup": route}


def test_one_alone_has_nothing_to_go_on_to() -> None:
    assert "failover" not in written([Choice(OFFERS["groq"])], None)


def test_a_backend_at_the_gateways_own_port_moves_the_gateway(tmp_path: Path) -> None:
    config = loaded(written([Choice(OFFERS["groq"]), Choice(OFFERS["vllm"])], None), tmp_path)
    assert config.server.port == 8001
    assert "server:" not in written([Choice(OFFERS["ollama"])], None)


def test_the_other_region_stands_in_a_comment_that_can_be_copied() -> None:
    text = written([Choice(OFFERS["minimax"], twins=[OFFERS["minimax-china"]])], None)
    assert "# For MiniMax, China, write `region: china`.\n" in text


def test_where_the_key_is_can_be_chosen(tmp_path: Path) -> None:
    config = loaded(written([Choice(OFFERS["groq"], "file:~/my keys/groq")], None), tmp_path)
    assert config.backends[0].extra["api_key"] == "file:~/my keys/groq"


def test_editors_are_led_to_a_schema_that_is_there() -> None:
    line = "# yaml-language-server: $schema=schemas/config.json\n"
    assert written([Choice(OFFERS["groq"])], None, has_schema=True).startswith(line)
    assert "schema" not in written([Choice(OFFERS["groq"])], None)


@pytest.mark.parametrize(
    "value",
    ["a", "env:NAME", "http://127.0.0.1:1/v1", "x: y", "a #b", "~/k", "no", "TRUE", "1:20", "12", "1e3", "", "a:", "é",
     '"', "@x", "- a", True, 5, None, ["a", "b"], {"a": {"b": "c: d"}}],
)  # fmt: skip
def test_every_value_is_read_as_it_was(value: Any) -> None:
    document = read_yaml(f"key: {scalar(value)}\n".encode(), "test")
    assert document.problems == ()
    assert document.data == {"key": value}


def test_settings_that_a_connector_does_not_need_leave_no_empty_section() -> None:
    assert written([Choice(Offer("acme", Preset("acme", "Acme")))], None).endswith("type: acme\n")
