"""What the pages say of settings is generated from the settings' own schema.

To renew the tables: LLMGATE_UPDATE_REFERENCE=1 pytest tests/test_reference.py; then read the difference.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from llmgate_core.plugins import load, settings_type
from llmgate_core.settings import json_schema

ROOT = Path(__file__).parent.parent
TABLES = {
    "anthropic-compatible": ROOT / "docs" / "configuration.md",
    "minimax": ROOT / "plugins" / "minimax" / "README.md",
    "ollama": ROOT / "plugins" / "ollama" / "README.md",
    "openai-compatible": ROOT / "docs" / "configuration.md",
    "qwen-oauth": ROOT / "plugins" / "qwen_oauth" / "README.md",
}


def marked(name: str) -> re.Pattern[str]:
    """Matches where a page has the table of a connector."""
    return re.compile(rf"(?<=<!-- settings of {name} -->\n).*?(?=<!-- end of settings -->)", re.DOTALL)


BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def kind(schema: dict[str, Any]) -> str:
    """A schema's type in words."""
    bounds = {word: schema[word] for word in BOUNDS if word in schema}
    if "anyOf" in schema:
        arms = ({**arm, **(bounds if arm.get("type") in ("integer", "number") else {})} for arm in schema["anyOf"])
        return " or ".join(map(kind, arms))
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    # Null, for a list whose entries are all commented out, goes without saying.
    sort: str = schema["type"][0] if isinstance(schema["type"], list) else schema["type"]
    if sort == "array":
        return f"list of {several(schema['items'])}"
    words = {"string": "text", "boolean": "true or false", "object": "mapping"}.get(sort, sort)
    return " and ".join([words, *(f"{BOUNDS[word]} {bound:g}" for word, bound in bounds.items())]).replace(
        " and ", " ", 1
    )


def several(schema: dict[str, Any]) -> str:
    """The type of a list's entries, in words."""
    if "anyOf" in schema:
        return " or ".join(map(several, schema["anyOf"]))
    words = kind(schema)
    return (
        words.replace("list of", "lists of", 1)
        if words.startswith("list of")
        else words
        if "`" in words
        else f"{words}s"
    )


def table(schema: dict[str, Any]) -> str:
    """One row a setting."""
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, one in schema["properties"].items():
        default = "required" if name in schema["required"] else "see there"
        if "default" in one:
            default = f"`{json.dumps(one['default'])}`"
        rows.append(f"| `{name}` | {kind(one)} | {default} | {one['description']} |")
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize(("name", "page"), TABLES.items(), ids=TABLES.keys())
def test_the_table_of_settings_is_the_schema(name: str, page: Path) -> None:
    settings = settings_type(load([name]).connectors[name])
    assert settings is not None
    wanted, text = table(json_schema(settings)), page.read_text(encoding="utf-8")
    if os.environ.get("LLMGATE_UPDATE_REFERENCE"):
        page.write_text(marked(name).sub(lambda _: wanted, text), encoding="utf-8")
        return
    assert marked(name).findall(text) == [wanted], "renew it as this file's docstring says"
