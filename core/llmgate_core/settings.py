"""A piece of configuration becomes a frozen dataclass: a plugin's `extra:`, a section of the main file.

The annotations of the dataclass are the schema. All mistakes are told at once, by key and type; a message
never holds a value, because a value may be a secret.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec

from .secret import MissingSecret, Secret

__all__ = [
    "Fault",
    "Flag",
    "KeyPath",
    "Meta",
    "MissingSecret",
    "Secret",
    "decode",
    "did_you_mean",
    "flags",
    "json_schema",
    "key_name",
]

T = TypeVar("T")

KeyPath = tuple[str | int, ...]
"""Keys and list indexes that lead from a mapping to one of its values."""

Fault = tuple[KeyPath, str]
"""Where a value is wrong, and the sentence that says how."""


def Meta(  # noqa: N802 - it stands where a class of annotations would
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    min_length: int | None = None,
    max_length: int | None = None,
    pattern: str | None = None,
    description: str | None = None,
    cli_flag: str | None = None,
    examples: Sequence[Any] | None = None,
) -> msgspec.Meta:
    """What a field says beyond its type: `wait: Annotated[float, Meta(ge=0, cli_flag="--wait")] = 3.0`.

    Args:
        ge, gt, le, lt: bounds of a number.
        min_length, max_length: of a text in characters, of a list or mapping in entries.
        pattern: a regular expression that is searched in a text; anchor it with `^` and `$`.
        description: one sentence for `--help`, the editor and the reference.
        cli_flag: a flag of `llmgate serve` (`--name-of-flag`) that sets this field in every instance.
        examples: values for the editor.
    """
    if cli_flag is not None and not re.fullmatch(r"--[a-z0-9]+(-[a-z0-9]+)*", cli_flag):
        raise ValueError("`cli_flag` must look like `--name-of-flag`")
    notes: dict[str, Any] = {
        "ge": ge,
        "gt": gt,
        "le": le,
        "lt": lt,
        "min_length": min_length,
        "max_length": max_length,
        "pattern": pattern,
        "description": description,
        "examples": None if examples is None else list(examples),
        "extra": None if cli_flag is None else {"cli_flag": cli_flag},
    }
    return msgspec.Meta(**notes)


def decode(cls: type[T], data: Mapping[str, Any], *, prefix: str = "extra") -> tuple[T | None, list[Fault]]:
    """Makes a `cls` of `data`, or says everything that is wrong with it.

    Args:
        cls: a frozen dataclass. Its fields may be bool, int, float, str, Path, Secret, enums, Literal,
            other dataclasses, `list[X]`, `tuple[X, ...]`, `dict[str, X]`, unions of these, and
            `Annotated[..., Meta()]`.
        data: plain values as YAML and JSON have them.
        prefix: what stands before a key in messages; empty for the top of a file.

    Returns:
        The instance and no faults, or None and at least one. A fault's path starts inside `data`.
    """
    decoder = _Decoder(prefix)
    value = decoder.convert(cls, data, ())
    return (None if decoder.faults else cast("T", value)), decoder.faults


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """The one of `known` that `word` was probably meant to be."""
    matches = difflib.get_close_matches(word, list(known), n=1)
    return matches[0] if matches else None


def key_name(path: KeyPath, prefix: str = "") -> str:
    """A path as people write it: `extra.models[0]`; cut short and made printable, as it may be anything."""
    name = prefix
    for part in path:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
    printable = "".join(char if char.isprintable() else "?" for char in name)
    return printable if len(printable) <= 120 else printable[:117] + "..."


_BAD: Any = object()  # stands for a value whose fault has been told
_SEQUENCES = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    Sequence: tuple,
    AbstractSet: frozenset,
}


@dataclass
class _Decoder:
    """Walks type and value together; a wrong value leaves a fault and does not stop the walk."""

    prefix: str
    faults: list[Fault] = field(default_factory=list)

    def convert(self, hint: Any, value: Any, path: KeyPath) -> Any:
        kind, metas = _unwrap(hint)
        origin = get_origin(kind)
        if dataclasses.is_dataclass(kind):
            return self._object(cast("type[Any]", kind), value, path)
        if origin in (Union, types.UnionType):
            return self._union(kind, metas, value, path)
        if (choices := _choices(kind)) is not None:
            return self._choice(choices, value, path)
        if (origin or kind) in (dict, Mapping):
            return self._mapping(kind, metas, value, path)
        if (origin or kind) in _SEQUENCES:
            return self._sequence(kind, metas, value, path)
        return self._scalar(kind, metas, value, path)

    def fault(self, path: KeyPath, message: str) -> Any:
        self.faults.append((path, message))
        return _BAD

    def wrong(self, path: KeyPath, demand: str) -> Any:
        return self.fault(path, f"`{key_name(path, self.prefix)}`: {demand}.")

    def _object(self, cls: type[Any], value: Any, path: KeyPath) -> Any:
        value = {} if value is None else value  # a section whose keys are all commented out
        if not isinstance(value, Mapping):
            return self.wrong(path, f"expected `mapping`, got `{_type_of(value)}`")
        fields = {entry.name: entry for entry in dataclasses.fields(cls) if entry.init}
        hints = get_type_hints(cls, include_extras=True)
        before = len(self.faults)
        for key in value:
            if key not in fields:
                self._unknown(str(key), fields, path)
        given: dict[str, Any] = {}
        for name, entry in fields.items():
            if name in value:
                given[name] = self.convert(hints[name], value[name], (*path, name))
            elif entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING:
                self.fault(path, f"missing key `{key_name((*path, name), self.prefix)}`")
        if len(self.faults) > before:
            return _BAD
        try:
            return cls(**given)
        except ValueError as error:
            name = key_name(path, self.prefix)
            return self.fault(path, f"`{name}`: {error}" if name else str(error))

    def _unknown(self, key: str, known: Iterable[str], path: KeyPath) -> None:
        guess = did_you_mean(key, known)
        hint = f"did you mean `{guess}`?" if guess else f"known here: {_listed(known) or 'nothing'}"
        self.fault((*path, key), f"unknown key `{key_name((*path, key), self.prefix)}`; {hint}")

    def _union(self, kind: Any, metas: tuple[Any, ...], value: Any, path: KeyPath) -> Any:
        arms = get_args(kind)
        if value is None and types.NoneType in arms:
            return None
        arms = tuple(_annotated(arm, metas) for arm in arms if arm is not types.NoneType)
        if len(arms) == 1:
            return self.convert(arms[0], value, path)
        for arm in arms:
            trial = _Decoder(self.prefix)
            result = trial.convert(arm, value, path)
            # Where the type is right, what else is wrong says more than "expected a or b".
            if not trial.faults or _name_of(arm) == _type_of(value):
                self.faults += trial.faults
                return result
        names = " or ".join(f"`{_name_of(arm)}`" for arm in arms)
        return self.wrong(path, f"expected {names}, got `{_type_of(value)}`")

    def _choice(self, choices: Mapping[Any, Any], value: Any, path: KeyPath) -> Any:
        for written, meant in choices.items():
            if type(value) is type(written) and value == written:
                return meant
        got = "" if isinstance(value, str) else f", got `{_type_of(value)}`"
        return self.wrong(path, f"expected one of {_listed(map(str, choices))}{got}")

    def _mapping(self, kind: Any, metas: tuple[Any, ...], value: Any, path: KeyPath) -> Any:
        value = {} if value is None else value
        if not isinstance(value, Mapping):
            return self.wrong(path, f"expected `mapping`, got `{_type_of(value)}`")
        key_hint, item_hint = get_args(kind) or (Any, Any)
        items = {
            self.convert(key_hint, key, (*path, str(key))): self.convert(item_hint, item, (*path, str(key)))
            for key, item in value.items()
        }
        return self._within(dict[Any, Any], metas, items, path)

    def _sequence(self, kind: Any, metas: tuple[Any, ...], value: Any, path: KeyPath) -> Any:
        value = [] if value is None else value
        if not isinstance(value, list | tuple):
            hint = "; write a list, such as `[a, b]`" if isinstance(value, str) else ""
            return self.wrong(path, f"expected `list`, got `{_type_of(value)}`{hint}")
        item_hint = (*get_args(kind), Any)[0]
        items = [self.convert(item_hint, item, (*path, index)) for index, item in enumerate(value)]
        if self._within(list[Any], metas, items, path) is _BAD or any(item is _BAD for item in items):
            return _BAD
        return _SEQUENCES[get_origin(kind) or kind](items)

    def _scalar(self, kind: Any, metas: tuple[Any, ...], value: Any, path: KeyPath) -> Any:
        if kind is Any:
            return value
        written = str if _is_text(kind) else kind
        try:
            plain = msgspec.convert(value, written, strict=True)
        except (msgspec.ValidationError, OverflowError):
            hint = "; write `true` or `false`" if kind is bool and isinstance(value, str) else ""
            return self.wrong(path, f"expected `{_name_of(kind)}`, got `{_type_of(value)}`{hint}")
        if isinstance(plain, float) and not math.isfinite(plain):
            return self.wrong(path, "must be a finite number")
        if self._within(written, metas, plain, path) is _BAD:
            return _BAD
        try:
            return kind(plain) if _is_text(kind) else plain
        except ValueError as error:
            return self.wrong(path, str(error))

    def _within(self, kind: Any, metas: tuple[Any, ...], value: Any, path: KeyPath) -> Any:
        try:
            msgspec.convert(value, _annotated(kind, metas))
        except msgspec.ValidationError:
            return self.wrong(path, f"must {_demands(kind, metas)}")
        return value


def _unwrap(hint: Any) -> tuple[Any, tuple[msgspec.Meta, ...]]:
    if get_origin(hint) is not Annotated:
        return hint, ()
    kind, *notes = get_args(hint)
    return kind, tuple(note for note in notes if isinstance(note, msgspec.Meta))


def _is_text(kind: Any) -> bool:
    """Whether values of this type are written as a text, from which the type makes itself."""
    return isinstance(kind, type) and issubclass(kind, Path | Secret)


def _annotated(hint: Any, metas: tuple[Any, ...]) -> Any:
    return Annotated[(hint, *metas)] if metas else hint


def _choices(kind: Any) -> dict[Any, Any] | None:
    """What may be written, and what it stands for; None for a type that is not a choice."""
    if get_origin(kind) is Literal:
        return {value: value for value in get_args(kind)}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {member.value: member for member in kind}
    return None


PATTERNS = {"^https?://": "begin with `http://` or `https://`"}
"""What some patterns say, in words."""


def _demands(kind: Any, metas: Iterable[msgspec.Meta]) -> str:
    unit = "characters" if kind is str else "entries"
    demands = []
    for meta in metas:
        words = {
            f"be at least {meta.ge}": meta.ge,
            f"be greater than {meta.gt}": meta.gt,
            f"be at most {meta.le}": meta.le,
            f"be less than {meta.lt}": meta.lt,
            "not be empty" if meta.min_length == 1 else f"have at least {meta.min_length} {unit}": meta.min_length,
            f"have at most {meta.max_length} {unit}": meta.max_length,
            PATTERNS.get(meta.pattern or "", f"match `{meta.pattern}`"): meta.pattern,
        }
        demands += [text for text, bound in words.items() if bound is not None]
    return " and ".join(demands).replace(" and be ", " and ")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


_TYPE_NAMES = {types.NoneType: "null", tuple: "list", dict: "mapping"}


def _type_of(value: Any) -> str:
    return "mapping" if isinstance(value, Mapping) else _TYPE_NAMES.get(type(value), type(value).__name__)


def _name_of(hint: Any) -> str:
    kind, _ = _unwrap(hint)
    if (choices := _choices(kind)) is not None:
        return "` or `".join(map(str, choices))
    kind = get_origin(kind) or kind
    if dataclasses.is_dataclass(kind) or kind is Mapping:
        return "mapping"
    if kind in _SEQUENCES:
        return "list"
    if _is_text(kind):
        return "str"
    return _TYPE_NAMES.get(kind, getattr(kind, "__name__", str(kind)))


@dataclass(frozen=True)
class Flag:
    """A flag of `llmgate serve` that a settings class declares.

    Args:
        name: as it is typed, `--name-of-flag`.
        field: the field that it sets.
        type: bool (a switch), int, float, str, Path or Secret; for `X | None` it is `X`.
        description: the text for `--help`, empty if the field has none.
    """

    name: str
    field: str
    type: Any
    description: str


def flags(cls: type[Any]) -> list[Flag]:
    """The flags that the fields of `cls` declare with `Meta(cli_flag=...)`, in the order of the fields."""
    hints = get_type_hints(cls, include_extras=True)
    fields = [(entry.name, *_unwrap(hints[entry.name])) for entry in dataclasses.fields(cls) if entry.init]
    return [
        Flag(meta.extra["cli_flag"], name, _without_none(kind), meta.description or "")
        for name, kind, metas in fields
        for meta in metas
        if meta.extra and "cli_flag" in meta.extra
    ]


def _without_none(kind: Any) -> Any:
    arms = [arm for arm in get_args(kind) if arm is not types.NoneType]
    return _unwrap(arms[0])[0] if get_origin(kind) in (Union, types.UnionType) and len(arms) == 1 else kind


def json_schema(cls: type[Any]) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of what `decode(cls, ...)` accepts, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_schema(cls)}


_JSON_TYPES: dict[Any, dict[str, Any]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    types.NoneType: {"type": "null"},
    Any: {},
}


def _schema(hint: Any) -> dict[str, Any]:
    kind, metas = _unwrap(hint)
    schema = dict(_shape(kind))
    kinds = schema.get("type")
    # Null stands for a list, mapping or section whose entries are all commented out; `decode` takes it for empty.
    first = kinds[0] if isinstance(kinds, list) else kinds
    for meta in metas:
        schema |= _keywords(meta, first)
    return schema | ({"type": first} if schema.keys() & {"minItems", "minProperties"} else {})


def _shape(kind: Any) -> dict[str, Any]:
    origin = get_origin(kind) or kind
    if dataclasses.is_dataclass(kind):
        return _object_schema(cast("type[Any]", kind))
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(arm) for arm in get_args(kind)]}
    if (choices := _choices(kind)) is not None:
        return {"enum": list(choices)}
    if origin in (dict, Mapping):
        return {"type": ["object", "null"], "additionalProperties": _schema((*get_args(kind), Any, Any)[1])}
    if origin in _SEQUENCES:
        return {"type": ["array", "null"], "items": _schema((*get_args(kind), Any)[0])}
    if _is_text(kind):
        where = {"description": "a value, env:NAME or file:PATH"} if issubclass(kind, Secret) else {}
        return {"type": "string", **where}
    return _JSON_TYPES[kind] if kind in _JSON_TYPES else msgspec.json.schema(kind)


def _object_schema(cls: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    fields = [entry for entry in dataclasses.fields(cls) if entry.init]
    required = [
        entry.name
        for entry in fields
        if entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
    ]
    return {
        "type": "object" if required else ["object", "null"],
        "properties": {entry.name: {**_schema(hints[entry.name]), **_default(entry)} for entry in fields},
        "required": required,
        "additionalProperties": False,
    }


def _default(entry: dataclasses.Field[Any]) -> dict[str, Any]:
    value = entry.default
    if entry.default_factory is not dataclasses.MISSING:
        value = entry.default_factory()
    if value is dataclasses.MISSING or isinstance(value, Secret) or dataclasses.is_dataclass(value):
        return {}  # a section's own keys carry their defaults; a secret's is nobody's business
    return {"default": msgspec.to_builtins(value, enc_hook=str)}


def _keywords(meta: msgspec.Meta, kind: str | None) -> dict[str, Any]:
    unit = {"array": "Items", "object": "Properties"}.get(kind or "", "Length")
    keywords = {
        "minimum": meta.ge,
        "exclusiveMinimum": meta.gt,
        "maximum": meta.le,
        "exclusiveMaximum": meta.lt,
        f"min{unit}": meta.min_length,
        f"max{unit}": meta.max_length,
        "pattern": meta.pattern,
        "description": meta.description,
        "examples": meta.examples,
    }
    return {name: value for name, value in keywords.items() if value is not None}
