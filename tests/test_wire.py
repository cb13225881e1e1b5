"""JSON in and out: what is refused and how it is said, and that splicing touches only what changes."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmgate_core.wire import Body, JsonError, decode, encode, last_first

# --- texts written in every style that JSON allows -------------------------------------------------

SPACE = st.text(" \t\n\r", max_size=2)
NUMBERS = st.sampled_from(["0", "-0", "1e2", "1E400", "-0.0", "12345678901234567890123", "1.50", "7"])


@st.composite
def strings(draw: st.DrawFn, text: str | None = None) -> str:
    """One JSON string token, with some characters escaped that need not be."""
    text = draw(st.text(max_size=6)) if text is None else text
    ascii_only = draw(st.booleans())
    escapes = draw(st.sampled_from([{}, {"a": "\\u0061", "/": "\\/", "\n": "\\u000A"}]))
    return '"' + "".join(escapes.get(c) or json.dumps(c, ensure_ascii=ascii_only)[1:-1] for c in text) + '"'


@st.composite
def values(draw: st.DrawFn, depth: int = 2) -> str:
    """One JSON value's text."""
    flat = st.one_of(NUMBERS, strings(), st.sampled_from(["true", "false", "null", "{}", "[]", '"}"', '"],"']))
    if depth == 0 or draw(st.booleans()):
        return draw(flat)
    inner = st.lists(values(depth - 1), max_size=3)
    if draw(st.booleans()):
        return "[" + ",".join(draw(SPACE) + item + draw(SPACE) for item in draw(inner)) + "]"
    return "{" + ",".join(f"{draw(strings())}{draw(SPACE)}:{item}" for item in draw(inner)) + "}"


Member = tuple[str, str, str]  # name, `space "name" space : space`, value with its text
KEYS = st.sampled_from(["model", "a", "a/b", 'q"uote', "", "naïve", "temperature"])


@st.composite
def objects(draw: st.DrawFn) -> tuple[list[Member], bytes]:
    """An object's text, and the pieces that it is made of; keys may occur twice."""
    members: list[Member] = []
    for name in draw(st.lists(KEYS, max_size=6)):
        before = draw(SPACE) + draw(strings(name)) + draw(SPACE) + ":" + draw(SPACE)
        members.append((name, before, draw(values())))
    text = ",".join(before + value + draw(SPACE) for _, before, value in members)
    return members, (draw(SPACE) + "{" + (text or draw(SPACE)) + "}" + draw(SPACE)).encode()


def lenient(data: bytes) -> Any:
    """The stdlib's view, which keeps each number's own spelling."""
    return json.loads(data, parse_float=lambda text: ("number", text), parse_int=lambda text: ("number", text))


# --- splice ----------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    objects(),
    st.dictionaries(KEYS, st.sampled_from(["x:y", 0.5, None, [1]]), max_size=3),
    st.sets(KEYS, max_size=3),
)
def test_splice_is_the_change_of_the_dict(
    made: tuple[list[Member], bytes], changes: dict[str, Any], remove: set[str]
) -> None:
    _, data = made
    result = Body.parse(data).splice(changes, remove)
    expected = {name: value for name, value in lenient(data).items() if name not in remove}
    assert lenient(result.bytes) == expected | lenient(encode(changes))
    assert Body.parse(result.bytes) == result


@settings(max_examples=150, deadline=None)
@given(objects(), st.dictionaries(KEYS, st.sampled_from(["x:y", 0.5, {"k": []}]), min_size=1, max_size=3))
def test_replacing_keeps_every_byte_outside_the_values(
    made: tuple[list[Member], bytes], changes: dict[str, Any]
) -> None:
    members, data = made
    known = {name: value for name, value in changes.items() if any(name == member[0] for member in members)}
    expected, at = b"", 0
    for name, before, value in members:
        start = data.index((before + value).encode(), at)
        old = (before + value).encode()
        new = before.encode() + encode(known[name]) if name in known else old
        expected += data[at:start] + new
        at = start + len(old)
    assert Body.parse(data).splice(known).bytes == expected + data[at:]


@pytest.mark.parametrize(
    ("data", "changes", "remove", "expected"),
    [
        (b'{"model":"a","n":1e2}', {"model": "b"}, (), b'{"model":"b","n":1e2}'),
        (b'{\n  "model": "a"\n}\n', {"top_k": 5}, (), b'{\n  "model": "a"\n,"top_k":5}\n'),
        (b"{ }", {"a": 1, "b": 2}, (), b'{ "a":1,"b":2}'),
        (b'{"a":1, "b":2, "c":3}', {}, ("a",), b'{"b":2, "c":3}'),
        (b'{"a":1, "b":2, "c":3}', {}, ("b",), b'{"a":1, "c":3}'),
        (b'{"a":1, "b":2, "c":3 }', {}, ("c",), b'{"a":1, "b":2 }'),
        (b'{"a":1, "b":2, "c":3}', {}, ("a", "b", "c"), b"{}"),
        (b'{"a":1, "b":2, "c":3}', {"d": 4}, ("a", "b", "c"), b'{"d":4}'),
        (b'{"a":1, "b":2, "c":3}', {"b": 0, "d": 4}, ("a", "c"), b'{"b":0,"d":4}'),
        (b'{"a":1,"b":[{"a":2}],"a":"x"}', {"a": 0}, (), b'{"a":0,"b":[{"a":2}],"a":0}'),
        (b'{"a":1,"a":12,"a":1}', {"a": 0}, (), b'{"a":0,"a":0,"a":0}'),
        (b'{"a":12,"a":1}', {}, ("a",), b"{}"),
        (b'{"\\u0061":{"}":"\\"]"},"a":[ ]}', {"a": 0}, (), b'{"\\u0061":0,"a":0}'),
        (b'{"a":1}', {"a": 2}, ("a",), b'{"a":2}'),
    ],
)
def test_splice_examples(data: bytes, changes: dict[str, Any], remove: tuple[str, ...], expected: bytes) -> None:
    assert Body.parse(data).splice(changes, remove).bytes == expected


def test_splice_without_a_change_is_the_same_object() -> None:
    body = Body.parse(b'{"a": 1}')
    assert body.splice({}) is body
    assert body.splice({}, remove=("b",)) is body


# --- reading members -------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(objects())
def test_members_are_those_of_the_stdlib(made: tuple[list[Member], bytes]) -> None:
    members, data = made
    body = Body.parse(data)
    expected = lenient(data)
    assert body.names() == tuple(expected)
    assert {name: body.raw(name) for name in body.names()} == {name: value.encode() for name, _, value in members}


def test_a_member_is_decoded_alone() -> None:
    body = Body.parse(b'{"huge": 1e999, "temperature": 0.5, "none": null}')
    assert body.get("temperature") == 0.5
    assert body.get("none", 7) is None
    assert body.get("absent", 7) == 7
    assert "none" in body
    assert "absent" not in body
    assert body.raw("huge") == b"1e999"
    assert body.raw("absent") is None
    with pytest.raises(JsonError):
        body.get("huge")


def test_data_is_the_whole_object_decoded_once() -> None:
    body = Body.parse(b'{"a": [1, {"b": null}]}')
    assert body.data == {"a": [1, {"b": None}]}
    assert body.data is body.data


def test_a_body_can_be_made_of_members() -> None:
    assert Body.of({"a": "世界", "b": [1e2, math.inf]}).bytes == '{"a":"世界","b":[100.0,null]}'.encode()
    assert Body.of({}).splice({"a": 1}).data == {"a": 1}


def test_a_body_shows_its_size_and_not_its_content() -> None:
    body = Body.parse(b'{"secret": 1}')
    assert repr(body) == "Body(13 bytes)"
    assert body == Body(b'{"secret": 1}')
    assert hash(body) == hash(Body(b'{"secret": 1}'))
    assert body != Body(b"{}")
    assert body != b'{"secret": 1}'


@pytest.mark.parametrize(
    ("messages", "expected"),
    [(b"[]", None), (b'[{"a":"[1]"}, {}]', None), (b'[{}, "x"]', 1), (b"[[]]", 0), (b"[{},{},null]", 2)],
)
def test_first_non_object(messages: bytes, expected: int | None) -> None:
    assert Body.parse(b'{"messages": %b}' % messages).first_non_object("messages") == expected


# --- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected a JSON value, found nothing, line 1, column 1"),
        (b"  \n", "expected a JSON value, found nothing, line 2, column 1"),
        (b'{"a": 1', "unexpected end of the text, line 1, column 8"),
        (b'{"a": "x', "unexpected end of the text, line 1, column 9"),
        (b"[1]", "expected a JSON object, line 1, column 1"),
        (b'\n "x"', "expected a JSON object, line 2, column 2"),
        (b'{"a": 1} x', "unexpected text after the end of the JSON value, line 1, column 10"),
        (b'{"a": 1,}', "unexpected `}` after a comma, line 1, column 9"),
        (b'{"a": [1,]}', "unexpected `]` after a comma, line 1, column 10"),
        (b"{'a': 1}", "expected a name in double quotes, line 1, column 2"),
        (b'{"a" 1}', "expected `:`, line 1, column 6"),
        (b'{"a": 1 "b": 2}', "expected `,` or `}`, line 1, column 9"),
        ('{\n"ä": [1 2]}'.encode(), "expected `,` or `]`, line 2, column 9"),
        (b'{"a": 01}', "malformed number, line 1, column 8"),
        (b'{"a": NaN}', "unexpected character, line 1, column 7"),
        (b'{"a": "x\ny"}', "raw control character in a string, line 1, column 9"),
        (b'{"a": "\\q"}', "unknown escape in a string, line 1, column 9"),
        (b'{"a": "\\u12g4"}', "`\\u` needs four hexadecimal digits, line 1, column 12"),
        (b'\xef\xbb\xbf{"a": 1}', "unexpected byte order mark, line 1, column 1"),
        (b'{"a": "\xc3\xa4\xff"}', "not valid UTF-8, line 1, column 9"),
        (b'{"\xff": 1}', "not valid UTF-8, line 1, column 3"),
        (b'{"a": "\xed\xa0\x80"}', "not valid UTF-8, line 1, column 8"),
        (b'{"a": "\\ud800"}', "lone surrogate in a `\\u` escape, line 1, column 8"),
        (b'{"a": "\\ud83d and more text"}', "lone surrogate in a `\\u` escape, line 1, column 8"),
        (b'{"a": ["\\ude00\\ud83d"]}', "lone surrogate in a `\\u` escape, line 1, column 9"),
        (
            b'{"a": "\\\\ud83d\\ud83d\\ude00", "b": "\\udfff"}',
            "lone surrogate in a `\\u` escape, line 1, column 36",
        ),
        (b'{"a": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", "nested too deeply, line 1, column 50006"),
    ],
)
def test_parse_says_what_is_wrong_and_where(data: bytes, message: str) -> None:
    with pytest.raises(JsonError) as caught:
        Body.parse(data)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'["1e999", 1e999]', "number out of range, line 1, column 11"),
        (b"[0.1,\n" + b"9" * 5000 + b"]", "number out of range, line 2, column 1"),
        (b'["\xff"]', "not valid UTF-8, line 1, column 3"),
        (b"[" * 50_000, "nested too deeply, line 1, column 50000"),
        (b'["\\ud800"]', "lone surrogate in a `\\u` escape, line 1, column 3"),
    ],
)
def test_decode_says_what_is_wrong_and_where(data: bytes, message: str) -> None:
    with pytest.raises(JsonError) as caught:
        decode(data)
    assert str(caught.value) == message


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(["\\ud83d", "\\ude00", "\\\\", "\\n", "u", "d8", "x", "\\uD800", "\\u0041", "é"])))
@example(["\\ud83d", "\\\\", "\\ude00"])
def test_lone_surrogates_are_refused_and_nothing_else(pieces: list[str]) -> None:
    data = ('{"a": "' + "".join(pieces) + '"}').encode()
    try:
        json.loads(data)["a"].encode()
    except UnicodeEncodeError:
        with pytest.raises(JsonError, match="lone surrogate"):
            Body.parse(data)
    else:
        assert Body.parse(data).data == json.loads(data)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=30), st.text('{}[]",:\\u dabe019.-+\n', max_size=30).map(str.encode)))
def test_any_bytes_are_a_body_or_a_json_error_inside_the_text(data: bytes) -> None:
    problem: JsonError | None = None
    try:
        assert Body.parse(data).splice({"model": "m"}).get("model") == "m"
    except JsonError as error:
        problem = error
    if problem is None:
        assert isinstance(json.loads(data), dict)
    else:
        lines = data.decode(errors="replace").split("\n")
        assert 1 <= problem.line <= len(lines)
        assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1


def test_many_duplicates_of_one_long_value_are_walked_quickly() -> None:
    long = b'"' + b"x" * 100_000
    data = b"{" + b",".join(b'"a":%by"' % long[: 20 + n] for n in range(3_000)) + b',"a":%b"}' % long
    assert Body.parse(data).splice({"a": 0}).bytes == b"{" + b",".join([b'"a":0'] * 3_001) + b"}"


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":' + b"[" * 5000 + b'"' + b'\\"' * 500_000,
        b'{"a":' + b"[" * 5000 + b'"' + b'\\"' * 500_000 + b"\\",
        b'{"a": "' + b"\\n" * 500_000,
        b'{"a": ' + b"\\" * 1_000_000,
        b'{"a": "\\ud800" ' + b'"' * 500_000,
        b'{"' + b"\\u0061" * 200_000,
        b'{"a": 1e999, "b": "' + b'\\"' * 500_000,
    ],
    ids=["deep", "deep, cut escape", "escapes", "backslashes", "quotes", "long key", "huge number"],
)
def test_hostile_texts_are_refused_in_linear_time(data: bytes) -> None:
    started = time.perf_counter()
    for read in (Body.parse, decode):
        with pytest.raises(JsonError):
            read(data)
    assert time.perf_counter() - started < 5


def test_encode_is_compact_utf8() -> None:
    assert encode({"a": ["ä", 1.5, None, True]}) == '{"a":["ä",1.5,null,true]}'.encode()
    assert decode(b'{"a":1,"a":2}') == {"a": 2}


# --- the elements of an array ----------------------------------------------------------------------------------------


@given(items=st.lists(values(), max_size=5), space=SPACE)
def test_the_elements_of_an_array_the_last_first(items: list[str], space: str) -> None:
    text = f"{space}[{space}" + f"{space},{space}".join(items) + f"{space}]{space}"
    assert list(last_first(text.encode())) == [item.encode() for item in reversed(items)]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "expected a JSON value, found nothing, line 1, column 1"),
        (b' {"a": 1}', "expected a JSON array, line 1, column 2"),
        (b"null", "expected a JSON array, line 1, column 1"),
        (b"[1,]", "unexpected `]` after a comma, line 1, column 4"),
        (b"[1", "unexpected end of the text, line 1, column 3"),
    ],
)
def test_what_is_no_array_is_refused_at_once(data: bytes, told: str) -> None:
    with pytest.raises(JsonError) as caught:
        last_first(data)
    assert str(caught.value) == told
