"""The `py` fragments of the plugin page: with what their reader has written before them, they are modules that work."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from tests.test_docs import ROOT, ask, backend_at, blocks, served, toml_of_the_plugin_page

from llmgate_core import Preset
from llmgate_core.testing import Exchange, ScriptedUpstream

ANOTHER_API = """
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass

LLMGATE_PLUGIN_API = 1


@dataclass(frozen=True)
class AcmeSettings:
    base_url: str


class Whole(Mender):
    def __init__(self, call):
        self._writer = ChatWriter(call.request_id, call.model, 0)

    def whole(self, body):
        return Body(self._writer.whole({"content": body.data["said"]}, "stop"))


async def streamed(call, chunks):
    writer = ChatWriter(call.request_id, call.model, 0)
    async for line in json_lines(chunks):
        yield writer.delta({"content": line.data["said"]})
    yield writer.delta({}, "stop") + writer.end()


@hookimpl
def llmgate_register_connectors():
    return Acme
"""


def write(folder: Path, beginning: str, before: str = "") -> Path:
    """The module that a fragment makes, where its reader has written `before`."""
    [block] = [one.text for one in blocks("py", [ROOT / "docs" / "plugins.md"]) if one.text.startswith(beginning)]
    path = folder / "acme_fragment" / "__init__.py"
    path.parent.mkdir()
    path.write_text(f"from llmgate_core import *\n{before}\n\n{block}", encoding="utf-8")
    (path.parent / "models.toml").write_text(toml_of_the_plugin_page("[[model]]"), encoding="utf-8")
    return path


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    def load(beginning: str) -> ModuleType:
        write(tmp_path, beginning)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "acme_fragment", raising=False)
        return importlib.import_module("acme_fragment")

    return load


def test_presets(imported: Callable[[str], ModuleType]) -> None:
    presets = imported("from collections.abc import Sequence").Acme.presets()
    assert all(isinstance(one, Preset) for one in presets)
    assert [(one.name, one.variable) for one in presets] == [("acme", "ACME_API_KEY"), ("acme-eu", "ACME_API_KEY")]


def test_facts(imported: Callable[[str], ModuleType]) -> None:
    module = imported("from importlib.resources")
    assert module.Acme.facts(None, "acme-large-2") == module.FACTS.get("acme-large-2") is not None
    assert module.Acme.facts(None, "nobody-knows-it") is None


async def talk(exchange: Exchange) -> None:
    """An upstream that speaks neither dialect: one object, or one a line."""
    assert exchange.request.path == "/v1/api/talk"
    asked = exchange.request.json()
    assert asked == {"model": "small", "talk": [{"role": "user", "content": "你好"}]}
    await exchange.reply(200, {"said": "Hello from another API."})


def test_another_api(tmp_path: Path) -> None:
    path = write(tmp_path, "class Acme(HttpConnector)", ANOTHER_API)
    with ScriptedUpstream.in_thread(talk) as upstream:
        arguments = ["--plugin", str(path), *backend_at(tmp_path, "acme", upstream.url)]
        with served(tmp_path, arguments) as running:
            plain, stream = ask(running.url), ask(running.url, stream=True)
    assert plain.json()["choices"][0]["message"]["content"] == "Hello from another API."
    assert '"content":"Hello from another API."' in stream.text
    assert stream.text.endswith("data: [DONE]\n\n")
