"""JSON in and out: strict, with the line and column of a mistake, and spliced where only a little changes.

The only module besides `settings` that knows the JSON library.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from itertools import zip_longest
from typing import Any, NamedTuple, NoReturn

import msgspec

_decode_any = msgspec.json.Decoder().decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class JsonError(ValueError):
    """A text is not the JSON that was asked for, and where.

    Args:
        message: what is wrong, without the place and without the text's own content.
        line, column: the place, both counted from 1; columns count characters.
    """

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(f"{message}, line {line}, column {column}")
        self.message = message
        self.line = line
        self.column = column


def encode(value: Any) -> bytes:
    """`value` as compact UTF-8 JSON; not-a-number and the infinities, unknown to JSON, become `null`."""
    return _encode(value)


def decode(data: bytes) -> Any:
    """The value that a strict JSON text (RFC 8259) stands for; of duplicate keys the last counts.

    Raises:
        JsonError: also for bad UTF-8, a lone surrogate, a number that no float holds, and too deep nesting.
    """
    try:
        return _decode_any(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        _refuse(data, error)


def last_first(data: bytes) -> Iterator[bytes]:
    """The JSON texts of an array's elements, the last one first; what is inside of them is not decoded.

    Raises:
        JsonError: at once; it is no array, or not JSON.
    """
    try:
        found = _decode_elements(data)
    except msgspec.ValidationError:
        raise _problem(data, _end(_WHITESPACE, data, 0), "expected a JSON array") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        _refuse(data, error)
    return map(bytes, reversed(found))


class Body:
    """An immutable JSON object: its original bytes, and what its top-level members are.

    Nothing below the top level is decoded before somebody asks for it. Use `Body.parse` for bytes from
    outside; `Body(data)` trusts them, and raises JsonError only when it is first asked for a member.
    """

    __slots__ = ("_bytes", "_data", "_members", "_spans")

    def __init__(self, data: bytes) -> None:
        self._bytes = data
        self._members: dict[str, msgspec.Raw] | None = None
        self._spans: tuple[_Span, ...] | None = None
        self._data: dict[str, Any] | None = None

    @classmethod
    def parse(cls, data: bytes) -> Body:
        """The body, once it is known to be one JSON object in valid UTF-8.

        Raises:
            JsonError: it is something else.
        """
        body = cls(data)
        body._index()
        if not data.isascii():
            _check_utf8(data)
        return body

    @classmethod
    def of(cls, members: Mapping[str, Any]) -> Body:
        """A new body with these members, in compact UTF-8; not-a-number and the infinities become `null`."""
        return cls(encode(members))

    @property
    def data(self) -> dict[str, Any]:
        """The whole object, decoded once. Read it, never change it.

        Raises:
            JsonError: a number in it is too large for a float; `parse` lets such pass.
        """
        if self._data is None:
            self._index()
            value: dict[str, Any] = decode(self._bytes)
            self._data = value
        return self._data

    def names(self) -> tuple[str, ...]:
        """The members' names in their order, each once."""
        return tuple(self._index())

    def __contains__(self, name: object) -> bool:
        return name in self._index()

    def raw(self, name: str) -> bytes | None:
        """The JSON text of one member's value as it was written, None where there is no such member."""
        found = self._index().get(name)
        return None if found is None else bytes(found)

    def get(self, name: str, default: Any = None) -> Any:
        """One member's value; nothing else is decoded.

        Raises:
            JsonError: like `data`; the place is one in the member's value.
        """
        found = self._index().get(name)
        return default if found is None else decode(bytes(found))

    def first_non_object(self, name: str) -> int | None:
        """The index of the first element of the array `name` that is no object; None if all are objects."""
        try:
            _decode_objects(self._index()[name])
        except msgspec.ValidationError as error:
            place = _ELEMENT.search(str(error))
            return int(place[1]) if place else None
        return None

    def splice(self, changes: Mapping[str, Any], remove: Collection[str] = ()) -> Body:
        """This body with some members' values replaced, added at the end, or taken out; all other bytes stay.

        A duplicate key is replaced or removed wherever it occurs. A name in both is replaced.
        """
        names = self._index()
        drop = {name for name in remove if name in names and name not in changes}
        if not changes and not drop:
            return self
        values = {name: encode(value) for name, value in changes.items()}
        if self._spans is None:
            self._spans = tuple(_spans(self._bytes, names))
        return Body(_spliced(self._bytes, self._spans, values, drop))

    def _index(self) -> dict[str, msgspec.Raw]:
        if self._members is None:
            try:
                self._members = _decode_members(self._bytes)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                _refuse(self._bytes, error)
        return self._members

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Body) and self._bytes == other._bytes

    def __hash__(self) -> int:
        return hash(self._bytes)

    def __repr__(self) -> str:
        return f"Body({len(self._bytes)} bytes)"

    # Last in the class: above, `bytes` still has to mean the type.
    @property
    def bytes(self) -> bytes:
        """The object as it came, or as `splice` left it."""
        return self._bytes


class _Object(msgspec.Struct, gc=False):
    """Matches any JSON object and keeps nothing of it."""


_decode_objects = msgspec.json.Decoder(list[_Object]).decode
_ELEMENT = re.compile(r"\$\[(\d+)\]")


# --- where the members are ----------------------------------------------------------------------------------


class _Span(NamedTuple):
    """One member's place: `data[start:value]` is its key and colon, `data[value:end]` its value."""

    name: str
    start: int
    value: int
    end: int


_WHITESPACE = re.compile(rb"[ \t\n\r]*+")
_KEY = re.compile(rb'("(?:[^"\\]++|\\.)*+")[ \t\n\r]*+:[ \t\n\r]*+')
_SEPARATOR = re.compile(rb"[ \t\n\r]*+[,}][ \t\n\r]*+")
_SCALAR = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[^][{}",: \t\n\r]++')
# A string that never ends matches as well: tried again from each of its quotes, it would cost its length squared.
_BRACKET = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[][{}]', re.DOTALL)


def _spans(data: bytes, members: Mapping[str, msgspec.Raw]) -> Iterator[_Span]:
    """Walks the top level of a valid object, jumping over each value by the length that decoding found."""
    texts = {name: bytes(raw) for name, raw in members.items()}
    at = _end(_WHITESPACE, data, data.index(b"{") + 1)
    while key := _KEY.match(data, at):
        name: str = decode(key[1])
        value = key.end()
        end = value + len(texts[name])
        after = _SEPARATOR.match(data, end) if data.startswith(texts[name], value) else None
        if after is None:  # an earlier one of duplicate keys, with another value
            end = value_end(data, value)
            after = _SEPARATOR.match(data, end)
        yield _Span(name, at, value, end)
        at = after.end() if after else len(data)


def _end(pattern: re.Pattern[bytes], data: bytes, at: int) -> int:
    found = pattern.match(data, at)
    return found.end() if found else at


def value_end(data: bytes, at: int) -> int:
    """Where the valid JSON value that begins at `at` ends, found token by token; slow, but nothing is decoded."""
    if data[at : at + 1] not in (b"{", b"["):
        return _end(_SCALAR, data, at)
    depth = 0
    for token in _BRACKET.finditer(data, at):
        depth += _DEPTH.get(token[0], 0)
        if depth == 0:
            return token.end()
    return len(data)


_DEPTH = {b"{": 1, b"[": 1, b"}": -1, b"]": -1}


# --- changing them ------------------------------------------------------------------------------------------


def _spliced(data: bytes, spans: tuple[_Span, ...], values: Mapping[str, bytes], drop: Collection[str]) -> bytes:
    parts: list[bytes] = []
    done = 0  # all before it is in `parts`, or left out
    last_kept: int | None = None
    for span, following in zip_longest(spans, spans[1:]):
        if span.name in drop:
            # A comma goes along: the one before, or where nothing is left before, the one after.
            start = span.start if last_kept is None else last_kept
            parts.append(data[done : max(done, start)])
            done = following.start if last_kept is None and following else span.end
            continue
        if span.name in values:
            parts += (data[done : span.value], values[span.name])
            done = span.end
        last_kept = span.end
    if added := values.keys() - {span.name for span in spans}:
        close = data.rindex(b"}")
        new = [b"%b:%b" % (encode(name), text) for name, text in values.items() if name in added]
        parts += (data[done:close], b"" if last_kept is None else b",", b",".join(new))
        done = close
    parts.append(data[done:])
    return b"".join(parts)


# --- what is wrong with a text, in words --------------------------------------------------------------------

_AT_BYTE = re.compile(r"^(?:JSON is malformed: )?(.*) \(byte (\d+)\)$")
_WORDS = {
    "trailing characters": "unexpected text after the end of the JSON value",
    "trailing comma in object": "unexpected `}` after a comma",
    "trailing comma in array": "unexpected `]` after a comma",
    "object keys must be strings": "expected a name in double quotes",
    "invalid number": "malformed number",
    "invalid escaped character": "unknown escape in a string",
    "invalid escape character in string": "unknown escape in a string",
    "invalid character in unicode escape": "`\\u` needs four hexadecimal digits",
    "expected ':'": "expected `:`",
    "expected ',' or ']'": "expected `,` or `]`",
    "expected ',' or '}'": "expected `,` or `}`",
}
_ONE_PAST = (
    "trailing characters",
    "invalid character in unicode escape",
    "invalid escape character in string",
)
_PAIRED = re.compile(
    rb"(?:[^\\]++|\\[^u]|\\u(?![dD][89a-fA-F])|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F])*+", re.DOTALL
)
_NUMBER = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[-0-9][-+.eE0-9]*+', re.DOTALL)
_MAX_INT_DIGITS = 4300


def _refuse(data: bytes, error: Exception) -> NoReturn:
    """Raises the JsonError that says in our words what the library refused; need not be fast."""
    _check_utf8(data)
    if isinstance(error, RecursionError):
        raise _problem(data, _deepest(data), "nested too deeply") from None
    if isinstance(error, msgspec.ValidationError):
        if str(error).startswith("Expected `object`"):
            raise _problem(data, _end(_WHITESPACE, data, 0), "expected a JSON object") from None
        raise _problem(data, _unholdable(data), "number out of range") from None
    found = _AT_BYTE.match(str(error))
    reason, offset = (found[1], int(found[2])) if found else ("", len(data))
    offset -= reason in _ONE_PAST
    lone = _end(_PAIRED, data, 0)
    if lone < offset and data.startswith(b"\\u", lone):
        raise _problem(data, lone, "lone surrogate in a `\\u` escape") from None
    raise _problem(data, offset, _in_words(data, reason, offset)) from None


def _in_words(data: bytes, reason: str, offset: int) -> str:
    if data.startswith(b"\xef\xbb\xbf"):
        return "unexpected byte order mark"
    if offset >= len(data):
        return "unexpected end of the text" if data.strip() else "expected a JSON value, found nothing"
    if reason == "invalid character":
        return "raw control character in a string" if data[offset] < 0x20 else "unexpected character"
    return _WORDS.get(reason, reason)


def _check_utf8(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise _problem(data, error.start, "not valid UTF-8") from None


def _problem(data: bytes, offset: int, message: str) -> JsonError:
    before = data[:offset]
    newline = before.rfind(b"\n")
    column = len(before[newline + 1 :].decode(errors="ignore")) + 1
    return JsonError(message, before.count(b"\n") + 1, column)


def _deepest(data: bytes) -> int:
    depth = deepest = place = 0
    for token in _BRACKET.finditer(data):
        depth += _DEPTH.get(token[0], 0)
        if depth > deepest:
            deepest, place = depth, token.start()
    return place


def _unholdable(data: bytes) -> int:
    """Where the first number stands that neither an int nor a float of ours can hold."""
    for token in _NUMBER.finditer(data):
        if not token[0].startswith(b'"') and _is_unholdable(token[0]):
            return token.start()
    return 0


def _is_unholdable(number: bytes) -> bool:
    try:
        return len(number) > _MAX_INT_DIGITS or math.isinf(float(number))
    except ValueError:
        return True
