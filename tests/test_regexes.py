"""Patterns that are configured: which are refused, and that no text is slow."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgate_core.regexes import Pattern, compile_pattern

HOSTILE = ["(a+)+b", "(a|a)*b", "(a|aa)+b", "(.*)*b", r"(\w+\s?)*b"]


def seconds(pattern: Pattern, length: int) -> float:
    """The least time of some matches that fail at the end of the text."""
    text, times = "a" * length + "c", []
    for _ in range(5):
        begun = time.perf_counter()
        assert pattern.fullmatch(text) is None
        times.append(time.perf_counter() - begun)
    return min(times)


@pytest.mark.parametrize("pattern", HOSTILE)
def test_a_hostile_pattern_takes_time_in_proportion_to_the_text(pattern: str) -> None:
    """From small to large, so that an engine that backtracks fails at the first steps instead of running for ever."""
    compiled = compile_pattern(pattern)
    seconds(compiled, 8)  # the first match builds what later ones use
    # Below a thousand letters a match costs next to nothing; backtracking would take four thousand times as long.
    assert seconds(compiled, 24) < 100 * seconds(compiled, 12)
    assert seconds(compiled, 256_000) < 16 * 4 * seconds(compiled, 16_000)


def test_a_pattern_can_be_searched_for() -> None:
    pattern = compile_pattern("cli/(?P<major>[0-9]+)")
    assert pattern.search("claude-cli/2.1") is not None
    assert pattern.search("claude-cli/x") is None
    assert (pattern.groups, dict(pattern.groupindex)) == (1, {"major": 1})


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("(?=sk-x)a", "lookaheads are not supported"),
        ("(?!sk-x)a", "lookaheads are not supported"),
        ("(?<=sk-x)a", "lookbehinds are not supported"),
        ("(?<!sk-x)a", "lookbehinds are not supported"),
        (r"(sk-x)\1", "backreferences are not supported"),
        ("(?P<n>sk-x)(?P=n)", "backreferences are not supported"),
        ("(?P<n>sk-x", "is not a regular expression of RE2: missing )"),
        ("[sk-x", "is not a regular expression of RE2: missing ]"),
        (r"sk-x\Z", "is not a regular expression of RE2: invalid escape sequence"),
        ("(?>sk-x)", "is not a regular expression of RE2: invalid perl operator"),
        ("sk-x**", "is not a regular expression of RE2: bad repetition operator"),
        ("sk-x\ud800", "holds half of a character"),
    ],
)
def test_a_pattern_that_the_engine_refuses(pattern: str, told: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        compile_pattern(pattern)
    assert str(caught.value).startswith(told)
    assert "sk-x" not in str(caught.value)
    assert capfd.readouterr() == ("", "")  # RE2 writes to standard error unless told not to


@given(st.text(max_size=30))
def test_a_pattern_is_compiled_or_refused(text: str) -> None:
    """Nothing but a ValueError leaves it."""
    try:
        compiled = compile_pattern(text)
    except ValueError:
        return
    assert compiled.groups >= len(compiled.groupindex)
