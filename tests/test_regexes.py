"""Which regular expressions may be configured: none that a caller's text could keep busy."""

from __future__ import annotations

import re
import time

import pytest

from llmgate_core.regexes import regex_problem


@pytest.mark.parametrize(
    "pattern",
    [
        "aider",
        "^(aider|opencode)/",
        r"(?i)^our-agent/[0-9]+\.",
        r"^a.*b.*$",
        r"[*+{}()\]]+",
        r"[]()*]+",
        r"\*\+\(\)\{2\}",
        "(?:a|b)?c??d{2}",
        "x{,3}y{2,}",
        "a{b}",
        "(?P<name>x)",
    ],
)
def test_may_be_used(pattern: str) -> None:
    assert regex_problem(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("(", "is not a regular expression: see its character 1"),
        ("ab[", "is not a regular expression: see its character 3"),
        ("*a", "is not a regular expression: see its character 1"),
        ("(a+)+$", "must not repeat a group"),
        ("(a|a)*$", "must not repeat a group"),
        ("(a|aa){2,}$", "must not repeat a group"),
        ("(?:a?){20}", "must not repeat a group"),
        (r"(a*)\1", "refer back"),
        (r"(?P<x>a*)(?P=x)", "refer back"),
        (r"(a)?(?(1)b|c)", "refer back"),
        (".*.*.*x", "at most 2 of"),
        ("a{1,9}a{1,9}a+?", "at most 2 of"),
        ("a?" * 30 + "a" * 30, "4 of `?`"),
        ("a" * 501, "at most 500 characters"),
    ],
)
def test_is_refused(pattern: str, told: str) -> None:
    problem = regex_problem(pattern)
    assert problem is not None
    assert told in problem


def seconds(pattern: str, text: str) -> float:
    started = time.process_time()
    assert not re.search(pattern, text)
    return time.process_time() - started


def test_the_worst_that_may_be_used_ends() -> None:
    """About n^3 / 6 steps for 200 characters: a bound that a machine would have to be 100 times slower to miss."""
    pattern = ".*.*[^a]"
    assert regex_problem(pattern) is None
    assert seconds(pattern, "a" * 200) < 5
