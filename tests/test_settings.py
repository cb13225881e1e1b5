"""Plain values become a dataclass, or a sentence for each mistake that never holds a value."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgate_core.settings import Flag, Meta, Secret, decode, flags, json_schema, key_name

MARKER = "s3cret-MARKER"


class Region(enum.Enum):
    GLOBAL = "global"
    CHINA = "cn"


@dataclass(frozen=True)
class Point:
    x: int
    y: int = 0


@dataclass(frozen=True)
class Acme:
    """Settings of acme."""

    base_url: str
    max_wait: Annotated[float, Meta(ge=0, le=60, description="Seconds to wait.", cli_flag="--acme-max-wait")] = 3.0
    verbose: bool = False
    retries: int = 0
    api_key: Secret | None = None
    path: Annotated[Path | None, Meta(description="A file.", cli_flag="--acme-path")] = None
    mode: Literal["fast", "slow"] = "fast"
    region: Region = Region.GLOBAL
    models: Annotated[tuple[str, ...], Meta(min_length=1)] = ("m",)
    limits: dict[str, int] = field(default_factory=dict)
    point: Point = Point(1)
    points: list[Point] = field(default_factory=list)
    entry: str | Point = "none"
    size: Literal["auto"] | int = "auto"
    code: Annotated[str, Meta(pattern="^[a-z]+$", max_length=3)] = "a"
    anything: Any = None


@dataclass(frozen=True)
class Span:
    low: float = 0
    high: float = 1

    def __post_init__(self) -> None:
        if self.high < self.low:
            raise ValueError("`high` must not be below `low`")


@dataclass(frozen=True)
class Outer:
    span: Span = Span()


def faults(extra: dict[str, Any], cls: type[Any] = Acme) -> list[str]:
    value, found = decode(cls, extra)
    assert (value is None) == bool(found)
    return [message for _, message in found]


def test_every_kind_of_field_is_decoded() -> None:
    written = {
        "base_url": "http://acme",
        "max_wait": 2,
        "verbose": True,
        "retries": 3,
        "api_key": "env:ACME_KEY",
        "path": "/tmp/x",
        "mode": "slow",
        "region": "cn",
        "models": ["a", "b"],
        "limits": {"a": 1},
        "point": {"x": 1, "y": 2},
        "points": [{"x": 3}],
        "entry": {"x": 4},
        "size": 5,
        "code": "abc",
        "anything": [1, {"b": None}],
    }
    value, found = decode(Acme, written)
    assert found == []
    assert value == Acme(
        base_url="http://acme",
        max_wait=2.0,
        verbose=True,
        retries=3,
        api_key=Secret("env:ACME_KEY"),
        path=Path("/tmp/x"),
        mode="slow",
        region=Region.CHINA,
        models=("a", "b"),
        limits={"a": 1},
        point=Point(1, 2),
        points=[Point(3)],
        entry=Point(4),
        size=5,
        code="abc",
        anything=[1, {"b": None}],
    )
    assert type(value.max_wait) is float


def test_defaults_fill_what_is_left_out() -> None:
    assert decode(Acme, {"base_url": "u"}) == (Acme("u"), [])


def test_what_is_commented_out_counts_as_empty() -> None:
    value, found = decode(Acme, {"base_url": "u", "points": None, "limits": None})
    assert (value, found) == (Acme("u"), [])
    assert decode(Outer, {"span": None}) == (Outer(), [])


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"base_url": 3}, "`extra.base_url`: expected `str`, got `int`."),
        ({"base_url": None}, "`extra.base_url`: expected `str`, got `null`."),
        ({"base_url": ["u"]}, "`extra.base_url`: expected `str`, got `list`."),
        ({"base_url": {"u": 1}}, "`extra.base_url`: expected `str`, got `mapping`."),
        ({}, "missing key `extra.base_url`"),
        ({"base_url": "u", "max_wiat": 1}, "unknown key `extra.max_wiat`; did you mean `max_wait`?"),
        ({"base_url": "u", "max_wait": -1}, "`extra.max_wait`: must be at least 0 and at most 60."),
        ({"base_url": "u", "max_wait": "1"}, "`extra.max_wait`: expected `float`, got `str`."),
        ({"base_url": "u", "max_wait": True}, "`extra.max_wait`: expected `float`, got `bool`."),
        ({"base_url": "u", "max_wait": float("nan")}, "`extra.max_wait`: must be a finite number."),
        ({"base_url": "u", "max_wait": 10**400}, "`extra.max_wait`: expected `float`, got `int`."),
        ({"base_url": "u", "verbose": "no"}, "`extra.verbose`: expected `bool`, got `str`; write `true` or `false`."),
        ({"base_url": "u", "verbose": 1}, "`extra.verbose`: expected `bool`, got `int`."),
        ({"base_url": "u", "retries": 1.5}, "`extra.retries`: expected `int`, got `float`."),
        ({"base_url": "u", "api_key": 5}, "`extra.api_key`: expected `str`, got `int`."),
        (
            {"base_url": "u", "api_key": "env:a b"},
            "`extra.api_key`: what follows `env:` must be the name of an environment variable.",
        ),
        ({"base_url": "u", "path": 5}, "`extra.path`: expected `str`, got `int`."),
        ({"base_url": "u", "mode": "x"}, "`extra.mode`: expected one of `fast`, `slow`."),
        ({"base_url": "u", "mode": 1}, "`extra.mode`: expected one of `fast`, `slow`, got `int`."),
        ({"base_url": "u", "region": "x"}, "`extra.region`: expected one of `global`, `cn`."),
        (
            {"base_url": "u", "models": "m"},
            "`extra.models`: expected `list`, got `str`; write a list, such as `[a, b]`.",
        ),
        ({"base_url": "u", "models": []}, "`extra.models`: must not be empty."),
        ({"base_url": "u", "models": ["a", 1]}, "`extra.models[1]`: expected `str`, got `int`."),
        ({"base_url": "u", "limits": []}, "`extra.limits`: expected `mapping`, got `list`."),
        ({"base_url": "u", "limits": {"a": "x"}}, "`extra.limits.a`: expected `int`, got `str`."),
        ({"base_url": "u", "point": 1}, "`extra.point`: expected `mapping`, got `int`."),
        ({"base_url": "u", "point": {}}, "missing key `extra.point.x`"),
        ({"base_url": "u", "points": [{"x": "x"}]}, "`extra.points[0].x`: expected `int`, got `str`."),
        ({"base_url": "u", "entry": 1}, "`extra.entry`: expected `str` or `mapping`, got `int`."),
        ({"base_url": "u", "size": "big"}, "`extra.size`: expected `auto` or `int`, got `str`."),
        ({"base_url": "u", "entry": {}}, "missing key `extra.entry.x`"),
        ({"base_url": "u", "entry": {"x": "x"}}, "`extra.entry.x`: expected `int`, got `str`."),
        (
            {"base_url": "u", "code": "ABCD"},
            "`extra.code`: must have at most 3 characters and match `^[a-z]+$`.",
        ),
    ],
)
def test_each_mistake_has_its_sentence(extra: dict[str, Any], message: str) -> None:
    assert faults(extra) == [message]


def test_a_key_that_resembles_nothing_gets_the_list() -> None:
    assert faults({"zzz": 1}, Span) == ["unknown key `extra.zzz`; known here: `low`, `high`"]


def test_all_mistakes_come_at_once_with_their_paths() -> None:
    _, found = decode(Acme, {"max_wait": "x", "models": [1, 2], "point": {"x": None, "z": 1}})
    assert {path for path, _ in found} == {
        (),
        ("max_wait",),
        ("models", 0),
        ("models", 1),
        ("point", "z"),
        ("point", "x"),
    }


def test_the_class_itself_may_object() -> None:
    assert decode(Outer, {"span": {"low": 2, "high": 1}})[1] == [
        (("span",), "`extra.span`: `high` must not be below `low`")
    ]
    assert faults({"low": 2}, Span) == ["`extra`: `high` must not be below `low`"]


def test_the_prefix_may_be_empty() -> None:
    assert decode(Outer, {"span": 1}, prefix="")[1] == [(("span",), "`span`: expected `mapping`, got `int`.")]


def test_a_name_in_a_message_is_short_and_printable() -> None:
    name = key_name(("a\x1b[31mb\n", "x" * 500), "extra")
    assert name.isprintable()
    assert len(name) <= 120


VALUES = st.recursive(
    st.just(MARKER) | st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y", "a"]), inner, max_size=3),
    max_leaves=5,
)
FIELDS = sorted(Acme.__dataclass_fields__)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), VALUES))
def test_no_value_is_ever_told(extra: dict[str, Any]) -> None:
    value, found = decode(Acme, extra)
    assert (value is None) == bool(found)
    assert not any(MARKER in message for _, message in found)


def test_the_schema_says_what_decode_accepts() -> None:
    schema = json.loads(json.dumps(json_schema(Acme)))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["base_url"]
    assert set(schema["properties"]) == set(FIELDS)
    properties = schema["properties"]
    assert properties["max_wait"] == {
        "type": "number",
        "minimum": 0,
        "maximum": 60,
        "description": "Seconds to wait.",
        "default": 3.0,
    }
    assert properties["api_key"] == {
        "anyOf": [{"type": "string", "description": "a value, env:NAME or file:PATH"}, {"type": "null"}],
        "default": None,
    }
    assert properties["mode"] == {"enum": ["fast", "slow"], "default": "fast"}
    assert properties["region"] == {"enum": ["global", "cn"], "default": "global"}
    assert properties["models"] == {
        "type": "array",
        "items": {"type": "string"},
        "minItems": 1,
        "default": ["m"],
    }
    assert properties["limits"]["additionalProperties"] == {"type": "integer"}
    assert properties["points"]["items"]["required"] == ["x"]
    assert properties["code"] == {"type": "string", "maxLength": 3, "pattern": "^[a-z]+$", "default": "a"}


def test_a_secret_default_is_not_in_the_schema() -> None:
    @dataclass(frozen=True)
    class Keyed:
        key: Secret = Secret(MARKER)  # noqa: RUF009 - it is immutable

    assert MARKER not in json.dumps(json_schema(Keyed))


def test_flags_are_those_that_fields_declare() -> None:
    assert flags(Acme) == [
        Flag("--acme-max-wait", "max_wait", float, "Seconds to wait."),
        Flag("--acme-path", "path", Path, "A file."),
    ]


@pytest.mark.parametrize("name", ["x", "-x", "--", "--Some", "--a_b", "--a b"])
def test_a_flag_has_the_form_of_a_flag(name: str) -> None:
    with pytest.raises(ValueError, match="--name-of-flag"):
        Meta(cli_flag=name)
