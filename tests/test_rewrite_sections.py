"""Rewrites from the command line, the environment and the file: their order, their places, and advice about them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmgate_core.config import GivenRewrites, Loaded, Places, load
from llmgate_core.policies.rewrites import Rewrite
from llmgate_core.rewrite_sections import rule_name

FILE = """\
model_aliases:
  - {pattern: file-1, replacement: m}
  - pattern: file-2
    replacement: m
"""


def read(tmp_path: Path, main: str = "", flags: tuple[str, ...] = (), variable: str = "") -> Loaded:
    path = tmp_path / "config.yaml"
    path.write_text(main, encoding="utf-8")
    return load(Places(path), rewrites=GivenRewrites(flags, variable))


def rules(loaded: Loaded) -> list[tuple[str, str]]:
    return [(rule.pattern, rule.replacement) for rule in loaded.checked().model_aliases]


def test_all_sources_count_in_their_order(tmp_path: Path) -> None:
    variable = json.dumps([{"pattern": "variable", "replacement": "m"}])
    loaded = read(tmp_path, FILE, ("flag-1=m", "flag-2=m"), variable)
    assert [pattern for pattern, _ in rules(loaded)] == ["flag-1", "flag-2", "variable", "file-1", "file-2"]


def test_each_rule_keeps_its_place(tmp_path: Path) -> None:
    variable = json.dumps([{"pattern": "variable", "replacement": "m"}])
    config = read(tmp_path, FILE, ("flag-1=m", "flag-2=m"), variable).checked()
    told = [
        (config.problem(("model_aliases", index, "replacement"), "").where, rule_name(config, index))
        for index in range(5)
    ]
    assert told == [
        ("--model-alias", "model_aliases[0]"),
        ("--model-alias", "model_aliases[1]"),
        ("LLMGATE_MODEL_ALIASES", "model_aliases[0]"),
        ("config.yaml:2", "model_aliases[0]"),
        ("config.yaml:4", "model_aliases[1]"),
    ]


def test_without_any_there_are_none(tmp_path: Path) -> None:
    assert rules(read(tmp_path)) == []
    assert rules(read(tmp_path, "model_aliases:\n", (), "[]")) == []


@pytest.mark.parametrize(
    ("flag", "rule"),
    [
        ("a=b", ("a", "b")),
        ("a=b=c", ("a", "b=c")),
        (r"a\=b=c?seed=1", (r"a\=b", "c?seed=1")),
        (r"a\\=b", (r"a\\", "b")),
        (r"a\\\=b=c", (r"a\\\=b", "c")),
        ("a\n=b\n", ("a\n", "b\n")),
    ],
)
def test_a_flag_is_split_at_the_first_sign_that_is_not_escaped(
    tmp_path: Path, flag: str, rule: tuple[str, str]
) -> None:
    assert rules(read(tmp_path, flags=(flag,))) == [rule]


EXPECTED = "expected `PATTERN=REPLACEMENT`; an `=` in the pattern is written `\\=`"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("sk-x",), [EXPECTED]),
        ((r"sk-x\=b",), [EXPECTED]),
        (("a=b", "sk-x", "c"), [EXPECTED]),
        (("=sk-x",), ["`model_aliases[0].pattern`: must not be empty."]),
        (("a=b", "sk-x="), ["`model_aliases[1].replacement`: must not be empty."]),
    ],
)
def test_flags_that_are_no_rules(tmp_path: Path, flags: tuple[str, ...], told: list[str]) -> None:
    loaded = read(tmp_path, FILE, flags)
    assert [str(problem) for problem in loaded.problems] == [f"--model-alias: {text}" for text in told]
    assert [rule.pattern for rule in loaded.config.model_aliases] == ["file-1", "file-2"]


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        ("gpt=sk-x", "expected a JSON array, such as "),
        ("[" * 100_000, "expected a JSON array, such as "),
        ('{"pattern": "sk-x"}', "`model_aliases`: expected `list`, got `mapping`."),
        ('["sk-x"]', "`model_aliases[0]`: expected `mapping`, got `str`."),
        ('[{"pattern": "sk-x"}]', "missing key `model_aliases[0].replacement`"),
        ('[{"pattern": "a", "replacment": "sk-x"}]', "unknown key `model_aliases[0].replacment`; did you mean"),
        ('[{"pattern": "a", "replacement": 7}]', "`model_aliases[0].replacement`: expected `str`, got `int`."),
    ],
)
def test_a_variable_that_is_no_list_of_rules(tmp_path: Path, variable: str, told: str) -> None:
    problems = [str(problem) for problem in read(tmp_path, FILE, ("a=b",), variable).problems]
    assert problems[0].startswith(f"LLMGATE_MODEL_ALIASES: {told}")
    assert "sk-x" not in "".join(problems)


def test_the_example_in_the_message_can_be_used(tmp_path: Path) -> None:
    (problem,) = read(tmp_path, variable="{").problems
    example = problem.message.split("`")[1]
    assert read(tmp_path, variable=example).checked().model_aliases == (Rewrite("gpt-(.*)", r"acme:\1"),)


def test_mistakes_in_the_file_have_their_lines(tmp_path: Path) -> None:
    loaded = read(tmp_path, FILE + "  - {pattern: '', replacement: m}\n  - {pattern: m}\n")
    assert [str(problem) for problem in loaded.problems] == [
        "config.yaml:5: `model_aliases[2].pattern`: must not be empty.",
        "config.yaml:6: missing key `model_aliases[3].replacement`",
    ]


def test_advice_about_rules_that_are_never_reached(tmp_path: Path) -> None:
    loaded = read(tmp_path, FILE + "  - {pattern: .*, replacement: m}\n", ("file-2=m",), "")
    assert [str(advice) for advice in loaded.advice] == [
        "config.yaml:3: `model_aliases[1]`: can never be reached: `model_aliases[0]` (--model-alias) has the same "
        "pattern, and the first match wins",
    ]
    loaded = read(tmp_path, FILE, (), json.dumps([{"pattern": "(.*)", "replacement": "m"}]))
    assert [str(advice) for advice in loaded.advice] == [
        f"config.yaml:{line}: `model_aliases[{index}]`: can never be reached: `model_aliases[0]` "
        "(LLMGATE_MODEL_ALIASES) matches everything, and the first match wins"
        for index, line in enumerate((2, 3))
    ]
