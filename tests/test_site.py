"""What mkdocs needs besides `mkdocs build --strict`, which `make check` runs: links turned, blocks that it can show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from docs.beside import moved, places, slug
from tests.test_docs import GUIDES, PAGES, ROOT, anchors

KNOWN = {"README.md": "start.md", "plugins/acme/README.md": "plugins/acme.md"}


@pytest.mark.parametrize(
    ("source", "place", "written", "wanted"),
    [
        ("README.md", "start.md", "[a](docs/errors.md#status)", "[a](errors.md#status)"),
        ("docs/howto/key.md", "howto/key.md", "[a](../plugins.md)", "[a](../plugins.md)"),
        ("docs/index.md", "index.md", "[a](../README.md#x)", "[a](start.md#x)"),
        ("docs/plugins.md", "plugins.md", "[a](../plugins/acme/README.md)", "[a](plugins/acme.md)"),
        ("plugins/acme/README.md", "plugins/acme.md", "[a](../../docs/errors.md)", "[a](../errors.md)"),
        ("docs/a.md", "a.md", "[the stub](../benchmarks/stub.py)", "the stub (`benchmarks/stub.py`)"),
        ("README.md", "start.md", "[LICENSE](LICENSE)", "LICENSE"),
        ("README.md", "start.md", "[a](https://acme.example/docs/a.md) [b](#b)", None),
        ("README.md", "start.md", "```text\n[a](docs/a.md)\n```", None),
    ],
)
def test_links_lead_on_in_the_site(source: str, place: str, written: str, wanted: str | None) -> None:
    assert moved(written, source, place, KNOWN) == (written if wanted is None else wanted)


def test_the_page_of_every_plugin_is_in_the_site() -> None:
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [place for place in places().values() if f": {place}\n" not in nav] == []


@pytest.mark.parametrize(
    "heading", ["What `llmgate doctor` looks at", "Who may call?", "`extra` of the connector `qwen-oauth`", "A: b - c"]
)
def test_an_anchor_is_that_of_the_page_on_disk(heading: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# {heading}\n", encoding="utf-8")
    assert {slug(heading, "-")} == anchors(page)


@pytest.mark.parametrize("page", [*PAGES, *GUIDES], ids=lambda page: page.name)
def test_blocks_stand_at_the_margin(page: Path) -> None:
    """Inside a list mkdocs would show the fence instead of a block."""
    assert re.findall(r"^ +```.*$", page.read_text(encoding="utf-8"), re.MULTILINE) == []
