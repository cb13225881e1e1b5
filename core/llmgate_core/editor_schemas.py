"""The JSON Schemas (draft 2020-12) that editors complete and check configurations with.

They are written for the YAML language server as much as for the standard: it applies the first of `properties` and
`patternProperties` that fits a key and no other, so that each key here fits one, which says all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from .backend_sections import INSTANCE, TYPE
from .sections import BackendSection, MainFile
from .settings import json_schema

Schema = dict[str, Any]

SPELLINGS = ("type", "connector")
"""Keys that name a backend's connector."""


def config_schema(
    extras: Mapping[str, Mapping[str, Any]], policies: Mapping[str, Mapping[str, Any]] | None = None
) -> Schema:
    """The schema of the main file.

    Args:
        extras: of each connector's `extra`, by the connector's name; applied where a backend's `type` says so, or its
            key where it has no `type`.
        policies: of the settings of each policy that a plugin brings, by its name. Others are let through.
    """
    schema = json_schema(MainFile)
    of_policies = schema["properties"]["plugins"]["properties"]["settings"]
    of_policies["properties"] = {name: _of_policy(name, settings) for name, settings in (policies or {}).items()}
    backends = schema["properties"]["backends"]
    backends["properties"] = {name: {"$ref": f"#/$defs/backend.{name}"} for name in extras}
    backends["patternProperties"] = {
        **{rf"^{name}\.{INSTANCE.pattern}$": {"$ref": f"#/$defs/instance.{name}"} for name in extras},
        _other_names(extras): {"$ref": "#/$defs/backend"},
    }
    backends["additionalProperties"] = False
    schema["$defs"] = {"backend": _backend(extras)}
    for name, extra in extras.items():
        schema["$defs"] |= {
            f"extra.{name}": _without_dialect(extra),
            f"backend.{name}": _named_backend(name),
            f"instance.{name}": _named_instance(name),
        }
    return schema


def instance_schema(name: str, extra: Mapping[str, Any]) -> Schema:
    """The schema of an instance file of the connector `name`, whose `extra` has the given schema."""
    schema = json_schema(BackendSection)
    for spelling in SPELLINGS:
        schema["properties"][spelling] = {"const": name, "description": _description(schema, spelling)}
    described = {"description": _description(schema, "extra"), **_without_dialect(extra)}
    schema["properties"]["extra"] = described
    return schema


def _of_policy(name: str, settings: Mapping[str, Any]) -> Schema:
    described = {"description": f"Settings of the policy `{name}`.", **_without_dialect(settings)}
    return described if settings.get("required") else described | {"type": ["object", "null"]}


def _other_names(names: Collection[str]) -> str:
    """A pattern of the keys that begin with no connector's name: aliases, and connectors that are not installed."""
    known = "|".join(names)
    elsewhere = rf"(?!({known})(\.|$))" if known else ""
    return rf"^{elsewhere}{TYPE.pattern}(\.{INSTANCE.pattern})?$"


def _backend(names: Collection[str]) -> Schema:
    """Any backend. Connectors that are not installed are let through: the file may be for another machine."""
    section = _without_dialect(json_schema(BackendSection))
    for spelling in SPELLINGS:
        known = [{"enum": list(names)}, {"type": ["string", "null"], "minLength": 1}]
        section["properties"][spelling] = {"description": _description(section, spelling), "anyOf": known}
    by_type = [
        {"if": _says(spelling, {"const": name}), "then": _with_extra(name)} for name in names for spelling in SPELLINGS
    ]
    return section | ({"allOf": by_type} if by_type else {})  # an empty `allOf` is not a schema


def _named_backend(name: str) -> Schema:
    """What stands under a connector's own name: a backend of it, unless `type` says another."""
    described = {"type": ["object", "null"], "description": f"A backend of the connector `{name}`."}
    says_type = [_says(spelling, {"type": "string"}) for spelling in SPELLINGS]
    own = {"if": {"not": {"anyOf": says_type}}, "then": _with_extra(name)}
    return described | {"allOf": [{"$ref": "#/$defs/backend"}, own]}


def _named_instance(name: str) -> Schema:
    """What stands under `<name>.<instance>`: the same, and `type` can say no other."""
    said = {spelling: {"enum": [name, None]} for spelling in SPELLINGS}
    return {"allOf": [{"$ref": f"#/$defs/backend.{name}"}, {"properties": said}]}


def _says(spelling: str, value: Schema) -> Schema:
    return {"type": "object", "required": [spelling], "properties": {spelling: value}}


def _with_extra(name: str) -> Schema:
    described = {"description": _description(json_schema(BackendSection), "extra")}
    return {"properties": {"extra": described | {"$ref": f"#/$defs/extra.{name}"}}}


def _description(section: Schema, key: str) -> str:
    found: str = section["properties"][key]["description"]
    return found


def _without_dialect(schema: Mapping[str, Any]) -> Schema:
    return {key: value for key, value in schema.items() if key != "$schema"}
