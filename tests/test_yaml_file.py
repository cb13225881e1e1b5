"""The YAML that is read: values, lines of keys, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgate_core.yaml_file import MAX_NODES, read_yaml

MARKER = "s3cretMARKER"


def read(text: str) -> tuple[Any, list[str]]:
    document = read_yaml(text.encode(), "f.yaml")
    return document.data, [str(problem) for problem in document.problems]


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "~", "\ufeff"])
def test_an_empty_file_is_fine(text: str) -> None:
    assert read(text) == ({}, [])


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("true", True),
        ("FALSE", False),
        ("yes", "yes"),
        ("no", "no"),
        ("12", 12),
        ("-1", -1),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        (".inf", ".inf"),
        ("2001-01-01", "2001-01-01"),
        ("", None),
        ("~", None),
        ("null", None),
        ("''", ""),
        ("'12'", "12"),
        ("!!str 12", "12"),
        ("!!int '12'", 12),
        ("env:NAME", "env:NAME"),
        ("中文", "中文"),
    ],
)
def test_plain_values_are_those_of_yaml_1_2(written: str, value: object) -> None:
    data, problems = read(f"a: {written}\n")
    assert problems == []
    assert data == {"a": value}
    assert type(data["a"]) is type(value)


def test_the_line_of_every_key_and_item_is_known() -> None:
    text = "# comment\na: 1\nb:\n  c: {d: 2}\n  e:\n    - x\n    - f:\n        3\n"
    document = read_yaml(text.encode(), "f.yaml")
    assert document.data == {"a": 1, "b": {"c": {"d": 2}, "e": ["x", {"f": 3}]}}
    assert document.origin.lines == {
        ("a",): 2,
        ("b",): 3,
        ("b", "c"): 4,
        ("b", "c", "d"): 4,
        ("b", "e"): 5,
        ("b", "e", 0): 6,
        ("b", "e", 1): 7,
        ("b", "e", 1, "f"): 7,
    }


def test_anchors_and_aliases_work() -> None:
    assert read("a: &x {k: [1]}\nb: *x\n") == ({"a": {"k": [1]}, "b": {"k": [1]}}, [])


def test_keys_are_texts_whatever_they_look_like() -> None:
    assert read("50256: -100\ntrue: 1\n") == ({"50256": -100, "true": 1}, [])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb:\n\tc: 1", "f.yaml:3: not valid YAML: a tab cannot indent YAML; use spaces"),
        (
            "a: b: c",
            "f.yaml:1: not valid YAML: a `:` where none is expected; check the indentation, or use quotes",
        ),
        ("a: 1\nb\nc: 1", "f.yaml:3: not valid YAML: a key without `:`"),
        ("a: *x", "f.yaml:1: not valid YAML: an alias (`*name`) without its anchor (`&name`)"),
        ("a: &x 1\nb: &x 2", "f.yaml:2: not valid YAML: an anchor (`&name`) that is already taken"),
        (
            "a: [1\n",
            "f.yaml:2: not valid YAML: a list or mapping in brackets is not closed, or lacks a comma",
        ),
        ("a: '1\n", "f.yaml:2: not valid YAML: the file ends inside a quoted text"),
        (
            "a: 1\n---\nb: 1",
            "f.yaml:2: not valid YAML: more than one document in the file; `---` may stand only at the top",
        ),
        ("a:\n  b: 1\n c: 1", "f.yaml:3: not valid YAML: not at the indentation of the lines around it"),
        ("%YAML 9.9\n---\na: 1", "f.yaml:1: not valid YAML"),
        ("just text", "f.yaml:1: the file must be a mapping: `key: value` lines"),
        ("- a\n- b", "f.yaml:1: the file must be a mapping: `key: value` lines"),
        ("a: \x01", "f.yaml:1: holds a control character that YAML does not allow"),
        ('a: "\\UFFFFFFFF"', "f.yaml: holds an escape or number that cannot be read"),
        ("{" * 2000, "f.yaml: nested too deeply"),
        ("a: &a [*a]", "f.yaml: nested too deeply"),
    ],
)
def test_a_text_that_cannot_be_read_is_one_problem(text: str, problem: str) -> None:
    assert read(text) == ({}, [problem])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a:\n  b: 1\n  b: 2", "f.yaml:3: duplicate key `a.b`; it is also on line 2"),
        ("a: 1\n? [x]\n: 1", "f.yaml:2: a key must be a plain text"),
        (
            "a: &x {b: 1}\nc: {<<: *x}",
            "f.yaml:2: merge keys (`<<`) are not part of YAML 1.2; write the keys out",
        ),
        (
            "a: !env KEY",
            "f.yaml:1: tags (`!name`) are not supported; a secret is written `env:NAME` or `file:PATH`",
        ),
        (
            "a: !!python/object:os.system {}",
            "f.yaml:1: tags (`!name`) are not supported; a secret is written `env:NAME` or `file:PATH`",
        ),
        ("a: 1e999", "f.yaml:1: `a`: must be a finite number."),
        ("a:\n - " + "9" * 5000, "f.yaml:2: `a[0]`: cannot be read as `int`."),
        ("a: !!bool maybe", "f.yaml:1: `a`: cannot be read as `bool`."),
        ('a: "\\ud800"', "f.yaml:1: `a`: holds half of a character (a lone surrogate)."),
    ],
)
def test_a_value_that_cannot_be_read_leaves_the_others(text: str, problem: str) -> None:
    data, problems = read(f"{text}\nz: 1\n")
    assert problems == [problem]
    assert data["z"] == 1


def test_a_file_in_another_encoding_is_told_with_its_line() -> None:
    document = read_yaml("a: 1\nb: é\n".encode("latin-1"), "f.yaml")
    assert [str(p) for p in document.problems] == ["f.yaml:2: not UTF-8; save the file in that encoding"]


def test_aliases_cannot_expand_without_end() -> None:
    bomb = "a0: &a0 [1, 1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
    _, problems = read(bomb)
    assert len(problems) == 1
    assert problems[0].endswith(f"more than {MAX_NODES} values in one file")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_content_raises(content: bytes) -> None:
    read_yaml(content, "f.yaml")


PIECES = st.lists(
    st.sampled_from([*"{}[]:,-?&*!|>'\"%@`#\n\t \\a", ": ", "\n  ", "<<", "---\n", MARKER]),
    max_size=25,
)


@settings(max_examples=500, deadline=None)
@given(PIECES.map("".join))
def test_no_syntax_error_quotes_the_file(text: str) -> None:
    document = read_yaml(f"key: {text}".encode(), "f.yaml")
    # A duplicate key is named; keys are no secrets.
    told = [p.message for p in document.problems if not p.message.startswith(("duplicate", "`"))]
    assert not any(MARKER in message for message in told)
