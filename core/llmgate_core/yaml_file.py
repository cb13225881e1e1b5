"""One YAML file as plain values, with the line of every key. What cannot be read becomes a Problem."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import yaml

from .errors import Problem
from .sections import Origin
from .settings import KeyPath, key_name


@dataclass(frozen=True)
class Document:
    """One YAML file as plain values, the line of each key and list item, and what is wrong with its text."""

    data: Mapping[str, Any]
    origin: Origin
    problems: tuple[Problem, ...] = ()


def read_yaml(content: bytes, source: str) -> Document:
    """Reads one YAML 1.2 mapping (core schema). Never raises: what cannot be read becomes a Problem.

    Args:
        content: the file's bytes.
        source: what problems call the file.
    """
    reader = _Reader(source)
    try:
        data = reader.read(content)
    except _UnreadableError as error:
        data = {}
        reader.problems.append(Problem(source, error.line, str(error)))
    return Document(data, Origin(source, None, reader.lines), tuple(reader.problems))


class _UnreadableError(Exception):
    def __init__(self, line: int | None, message: str) -> None:
        super().__init__(message)
        self.line = line


class _Loader(yaml.SafeLoader):
    """Plain scalars as YAML 1.2 reads them: `no` and `12:30` are texts, there are no dates."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]


_TAG = "tag:yaml.org,2002:"
_PLAIN = {
    "null": (r"~|null|Null|NULL|", "~nN\0"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
}
for _name, (_pattern, _first) in _PLAIN.items():
    _Loader.add_implicit_resolver(
        _TAG + _name, re.compile(f"^(?:{_pattern})$"), [char.replace("\0", "") for char in _first]
    )

_WRONG: Any = object()  # stands for a value whose problem has been told

MAX_NODES = 100_000
"""More values than this in one file are refused: aliases can make a short text expand without end."""


@dataclass
class _Reader:
    """Walks the node tree of one file."""

    source: str
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    nodes: int = 0

    def read(self, content: bytes) -> dict[str, Any]:
        root = _compose(content)
        if root is None:
            return {}
        try:
            data = self.value(root, ())
        except RecursionError:
            raise _UnreadableError(None, "nested too deeply") from None
        if data is None or data is _WRONG:
            return {}
        if not isinstance(data, dict):
            raise _UnreadableError(_line(root), "the file must be a mapping: `key: value` lines")
        return data

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise _UnreadableError(_line(node), f"more than {MAX_NODES} values in one file")
        kind = node.tag.removeprefix(_TAG)
        if isinstance(node, yaml.MappingNode) and kind == "map":
            items = [(key, self.value(child, (*path, key))) for key, child in self.entries(node, path)]
            return {key: value for key, value in items if value is not _WRONG}
        if isinstance(node, yaml.SequenceNode) and kind == "seq":
            self.lines |= {(*path, index): _line(child) for index, child in enumerate(node.value)}
            values = [self.value(child, (*path, index)) for index, child in enumerate(node.value)]
            return [value for value in values if value is not _WRONG]
        if isinstance(node, yaml.ScalarNode) and kind in _SCALARS:
            return self.scalar(node, kind, path)
        tags = "tags (`!name`) are not supported; a secret is written `env:NAME` or `file:PATH`"
        return self.problem(node, tags)

    def entries(self, node: yaml.MappingNode, path: KeyPath) -> Iterator[tuple[str, yaml.Node]]:
        seen: dict[str, int] = {}
        for key_node, child in node.value:
            key = key_node.value
            if not isinstance(key, str) or not _is_text(key):
                self.problem(key_node, "a key must be a plain text")
            elif key == "<<":
                self.problem(key_node, "merge keys (`<<`) are not part of YAML 1.2; write the keys out")
            elif key in seen:
                name = key_name((*path, key))
                self.problem(key_node, f"duplicate key `{name}`; it is also on line {seen[key]}")
            else:
                self.lines[(*path, key)] = seen[key] = _line(key_node)
                yield key, child

    def scalar(self, node: yaml.ScalarNode, kind: str, path: KeyPath) -> Any:
        try:
            value = _SCALARS[kind](node.value)
        except (ValueError, KeyError):
            return self.problem(node, f"`{key_name(path)}`: cannot be read as `{kind}`.")
        if isinstance(value, float) and not math.isfinite(value):
            return self.problem(node, f"`{key_name(path)}`: must be a finite number.")
        if isinstance(value, str) and not _is_text(value):
            return self.problem(node, f"`{key_name(path)}`: holds half of a character (a lone surrogate).")
        return value

    def problem(self, node: yaml.Node, message: str) -> Any:
        self.problems.append(Problem(self.source, _line(node), message))
        return _WRONG


def _integer(text: str) -> int:
    return int(text, 0) if text[:2] in ("0x", "0o") else int(text)


_SCALARS: dict[str, Any] = {
    "str": str,
    "null": lambda text: None,
    "bool": lambda text: {"true": True, "false": False}[text.lower()],
    "int": _integer,
    "float": float,
}


def _compose(content: bytes) -> yaml.Node | None:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _UnreadableError(line, "not UTF-8; save the file in that encoding") from None
    try:
        return yaml.compose(text, Loader=_Loader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _UnreadableError(line, "holds a control character that YAML does not allow") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _UnreadableError(mark.line + 1 if mark else None, _explain(error)) from None
    except RecursionError:
        raise _UnreadableError(None, "nested too deeply") from None
    except (ValueError, OverflowError):  # PyYAML's own slips, such as "\UFFFFFFFF"
        raise _UnreadableError(None, "holds an escape or number that cannot be read") from None


_SYNTAX = {
    "found character '\\t'": "a tab cannot indent YAML; use spaces",
    "mapping values are not allowed": "a `:` where none is expected; check the indentation, or use quotes",
    "could not find expected ':'": "a key without `:`",
    "found undefined alias": "an alias (`*name`) without its anchor (`&name`)",
    "found duplicate anchor": "an anchor (`&name`) that is already taken",
    "found unexpected end of stream": "the file ends inside a quoted text",
    "but found another document": "more than one document in the file; `---` may stand only at the top",
    "expected ',' or": "a list or mapping in brackets is not closed, or lacks a comma",
    "expected <block end>": "not at the indentation of the lines around it",
}


def _explain(error: yaml.MarkedYAMLError) -> str:
    """Our own words: PyYAML's quote the text of the file, where a secret may stand."""
    told = f"{error.context}: {error.problem}"
    words = next((words for theirs, words in _SYNTAX.items() if theirs in told), None)
    return f"not valid YAML: {words}" if words else "not valid YAML"


def _line(node: yaml.Node) -> int:
    return cast("int", node.start_mark.line) + 1


def _is_text(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)
