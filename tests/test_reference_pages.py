"""docs/reference/ is made from the code: hooks and contracts from docstrings, settings from their schemas.

To renew the pages: LLMGATE_UPDATE_REFERENCE=1 pytest tests/test_reference_pages.py; then read the difference.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from tests.test_reference import table

import llmgate_core
from llmgate_core import credentials, hookspecs
from llmgate_core.cli.schema import all_schemas
from llmgate_core.plugins import load, settings_type
from llmgate_core.sections import MainFile
from llmgate_core.settings import flags, json_schema

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"

MADE = "Made from the code, by the test `tests/test_reference_pages.py`; what is wrong here is wrong there.\n"

CONTRACTS = {
    "What a plugin brings": ["Connector", "Policy", "Frontend"],
    "What a connector is given": ["Instance", "HttpClient", "HttpReply", "UpstreamCall", "Body"],
    "What a connector gives": ["UpstreamReply", "ConnectorError", "ModelInfo", "Preset", "Simulator", "SimulatorSetup"],
    "Credentials": ["CredentialProvider", "Credential", "CredentialStatus", "LoginScreen"],
    "Logging in": ["CanLogIn", "CanRefresh", "CanLogOut"],
    "Trying again": ["RetryPolicy", "BackoffRules"],
    "What a policy sees and says": ["GatewayRequest", "Leaf", "Params", "Verdict"],
    "What a listener hears": ["RequestRecord", "Attempt"],
}


# --- hooks and contracts ----------------------------------------------------------------------------------------------


def hooks() -> dict[str, Any]:
    """The hooks by name, in their order."""
    return {name: value for name, value in vars(hookspecs).items() if name.startswith("llmgate_")}


def declaration(name: str, function: Any, *, is_async: bool = False) -> str:
    """How a function is written, without its body."""
    signature = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(function)))
    return f"```py\n{'async ' * is_async}def {name}{signature}\n```\n"


def prose(documented: Any) -> str:
    """A docstring as Markdown; its sections become lists."""
    out: list[str] = []
    section = ""
    for line in (inspect.getdoc(documented) or "").splitlines():
        if found := re.fullmatch(r"(Args|Attributes|Raises|Returns):", line):
            section = found[1]
            out += [f"*{section}*", ""]
        elif section and section != "Returns" and (found := re.fullmatch(r"    ([\w, ]+): (.+)", line)):
            out.append(f"- `{found[1]}`: {found[2]}")
        else:
            section = section if line.startswith(" ") or not line else ""
            text = line.strip()
            out.append(f"  {text}" if section and section != "Returns" and text else text)
    return "\n".join(out).strip() + "\n"


def contract(name: str) -> Iterator[str]:
    """A class of the contract: what it says of itself, its fields, its methods."""
    cls = getattr(llmgate_core, name, None) or getattr(credentials, name)
    yield f"### `{name}`\n"
    yield prose(cls)
    if annotations := [f"{field}: {text}" for field, text in inspect.get_annotations(cls).items()]:
        yield "```py\n" + "\n".join(line for line in annotations if not line.startswith("_")) + "\n```\n"
    for method, function in vars(cls).items():
        function = getattr(function, "fget", None) or getattr(function, "__func__", function)
        is_ours = inspect.isfunction(function) and function.__module__ == cls.__module__  # no default of a field
        if is_ours and not method.startswith("_") and function.__doc__:
            is_async = inspect.iscoroutinefunction(function)
            yield declaration(method, function, is_async=is_async) + "\n" + prose(function)


def hooks_page() -> str:
    """docs/reference/hooks.md."""
    _, _, rest = (hookspecs.__doc__ or "").partition("\n\n")
    parts = ["# Hooks and contracts\n", MADE, rest, "## The hooks\n"]
    for name, function in hooks().items():
        parts += [f"### `{name}`\n", declaration(name, function), prose(function)]
    for title, names in CONTRACTS.items():
        parts.append(f"## {title}\n")
        parts += [text for name in names for text in contract(name)]
    return "\n".join(parts)


# --- settings ---------------------------------------------------------------------------------------------------------


def below(schema: dict[str, Any], at: str) -> dict[str, Any]:
    """The keys of a schema and of what stands in it, dotted; of a list's entries, with `[]`; of names, `NAME`."""
    found: dict[str, Any] = {}
    for name, one in schema.get("properties", {}).items():
        if "const" in one:
            continue
        if "properties" not in one:
            required = name in schema["required"]
            found[f"{at}{name}"] = {**one, "required": required}
        found |= below(one, f"{at}{name}.")
        for arm in [one.get("items", {}), *one.get("items", {}).get("anyOf", [])]:
            found |= below(arm, f"{at}{name}[].")
        if isinstance(one.get("additionalProperties"), dict):
            found |= below(one["additionalProperties"], f"{at}{name}.NAME.")
    return found


def keys(schema: dict[str, Any], at: str = "") -> str:
    """The table of all keys of a schema."""
    found = below(schema, at)
    required = [name for name, one in found.items() if one["required"]]
    return table({"properties": found, "required": required})


def connector(name: str) -> str:
    """The table of what stands under `extra:` of a connector's backends, and the flags that it declares."""
    settings = settings_type(load([name]).connectors[name])
    assert settings is not None
    told = keys(all_schemas()[name]["properties"]["extra"])
    if declared := [f"| `{flag.name}` | `{flag.field}` |" for flag in flags(settings)]:
        told += "\n".join(["", "| flag of `serve` | sets, in every backend |", "|---|---|", *declared]) + "\n"
    return told


def settings_page() -> str:
    """docs/reference/settings.md."""
    schemas = {name: one for name, one in all_schemas().items() if name != "config"}
    main = json_schema(MainFile)
    sections = {name: one for name, one in main["properties"].items() if "properties" in one}
    top = {name: one for name, one in main["properties"].items() if name not in sections}
    backend = next(iter(schemas.values()))
    common = {name: one for name, one in backend["properties"].items() if name != "extra"}
    parts = ["# Every setting\n", MADE]
    parts += ["[Configuration](../configuration.md) tells what they are for. `[]` stands for each entry of a list.\n"]
    parts += ["## The main file\n", keys({"properties": top, "required": main["required"]})]
    for name, one in sections.items():
        parts += [f"### `{name}`\n", keys(one, f"{name}.")]
    parts += ["## A backend\n", "Under its name in `backends`, or in a file of its own; besides `type` and `extra`.\n"]
    parts += [keys({"properties": common, "required": []})]
    for name in schemas:
        parts += [f"## `extra` of the connector `{name}`\n", connector(name)]
    return "\n".join(parts)


# --- tests ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "made"), [("hooks", hooks_page), ("settings", settings_page)])
def test_the_page_is_what_the_code_says(name: str, made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLMGATE_BLOCK_PLUGINS", raising=False)
    page, text = REFERENCE / f"{name}.md", made()
    if os.environ.get("LLMGATE_UPDATE_REFERENCE"):
        page.write_text(text, encoding="utf-8")
    assert page.read_text(encoding="utf-8") == text, "renew it as this file's docstring says"


def test_every_public_type_that_a_hook_or_a_contract_names_is_told() -> None:
    told = {name for names in CONTRACTS.values() for name in names}
    classes = [getattr(llmgate_core, name, None) or getattr(credentials, name) for name in told]
    functions = [value for cls in classes for value in vars(cls).values() if inspect.isfunction(value)]
    named: set[str] = set()
    for documented in [*hooks().values(), *functions, *classes]:
        hints = get_type_hints(documented, vars(inspect.getmodule(documented)))
        named |= set(re.findall(r"llmgate_core\.[\w.]+\.(\w+)", repr(hints)))
    assert named >= {"RequestRecord", "Verdict", "Attempt"}
    assert named & set(llmgate_core.__all__) - told == set()
