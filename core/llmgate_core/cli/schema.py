"""`llmgate schema`: JSON Schema of the configuration and of every installed connector, for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from .configuration import admitted


@click.command("schema")
@click.option(
    "--write",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Write `config.json` and one `<connector>.json` each into FOLDER.",
)
def command(write: Path | None) -> None:
    """Print the JSON Schema of the configuration and of every connector."""
    schemas = all_schemas()
    if write is None:
        click.echo(text(schemas), nl=False)
        return
    write.mkdir(parents=True, exist_ok=True)
    for name, schema in schemas.items():
        (write / f"{name}.json").write_text(text(schema), encoding="utf-8")
        click.echo(f"wrote {write / name}.json")


def all_schemas() -> dict[str, Any]:
    """`config` for the main file, policies' settings included, and the instance file of every connector by its name."""
    from ..editor_schemas import config_schema, instance_schema
    from ..plugins import load_all
    from ..policy_settings import brought_by_plugins

    plugins = load_all(**admitted(None))
    extras = {name: _settings_schema(cls) for name, cls in sorted(plugins.connectors.items())}
    policies = {cls.name: _settings_schema(cls) for cls in brought_by_plugins(plugins)}
    instances = {name: instance_schema(name, schema) for name, schema in extras.items()}
    return {"config": config_schema(extras, policies), **instances}


def _settings_schema(cls: type[Any]) -> dict[str, Any]:
    from ..plugins import settings_type
    from ..settings import json_schema

    settings = settings_type(cls)
    return json_schema(settings) if settings else {"type": "object", "additionalProperties": False}


def text(schema: Any) -> str:
    """As it is committed."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
