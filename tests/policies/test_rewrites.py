"""Rewrites and routes: which rule wins, what it gives, which patterns are refused, and that no text is slow."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgate_core.policies.rewrites import (
    Expanded,
    Expansion,
    Pattern,
    Rewrite,
    Step,
    compile_pattern,
    compile_replacement,
    unreachable,
)
from llmgate_core.selector import MAX_LENGTH


def expand(text: str, *rules: tuple[str, str], **others: str) -> str:
    """The text after these rules; `others` are routes."""
    return Expansion(None, tuple(Rewrite(*rule) for rule in rules), others).expand(text).text


# --- which rule wins -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["gpt-4", "xgpt-4", "gpt-4o-mini", "GPT-4o", "gpt-4o\n", ""])
def test_a_pattern_must_match_the_whole_text(text: str) -> None:
    assert expand(text, ("gpt-4o", "acme:m")) == text


@pytest.mark.parametrize("pattern", ["gpt-4o", "^gpt-4o$", "gpt|gpt-4o", "gpt-4.?", "(?i)GPT-4O"])
def test_anchors_are_not_needed_and_alternatives_are_all_tried(pattern: str) -> None:
    assert expand("gpt-4o", (pattern, "acme:m")) == "acme:m"


def test_the_first_rule_that_matches_wins_and_its_index_is_told() -> None:
    rules = (Rewrite("claude-.*", "acme:c"), Rewrite("gpt-.*", "acme:first"), Rewrite("gpt-4o", "acme:second"))
    assert Expansion(rewrites=rules).expand("gpt-4o") == Expanded(
        "acme:first", (Step("rewrite", "acme:first", rule=1),)
    )


def test_what_a_rule_gives_is_not_rewritten_again() -> None:
    assert expand("a", ("a", "b"), ("b", "a")) == "b"
    assert expand("loop", ("(.*)", r"x\1")) == "xloop"


def test_a_text_that_no_rule_matches_has_no_steps() -> None:
    assert Expansion(rewrites=(Rewrite("a", "b"),), routes={"r": "s"}).expand("c") == Expanded("c")


@pytest.mark.parametrize(
    ("pattern", "replacement", "text", "given_back"),
    [
        (r"gpt-(.*)", r"acme:openai/gpt-\1", "gpt-4o?seed=1", "acme:openai/gpt-4o?seed=1"),
        (r"(?P<who>\w+)-(?P<what>\w+)", r"\g<what>:\g<who>", "a-b", "b:a"),
        (r"(?P<名>\w+)", r"\g<名>!", "a", "a!"),
        (r"(a)(b)?", r"[\1\2]", "a", "[a]"),
        (r"(.*)", r"\g<1>0", "m", "m0"),
        (r".*", r"acme:\0", "m", "acme:m"),
        (r".*", r"acme:\g<0>", "m", "acme:m"),
        (r"(.*)", r"a\\1\\\1", "m", r"a\1\m"),
        (r"(.)(.)(.)(.)(.)(.)(.)(.)(.)(.)", r"\10\1", "abcdefghij", "ja"),
        (r"(模型)-.*", r"acme:\1", "模型-é", "acme:模型"),
        (r"a\=b", "acme:m", "a=b", "acme:m"),
    ],
)
def test_groups_in_a_replacement(pattern: str, replacement: str, text: str, given_back: str) -> None:
    assert expand(text, (pattern, replacement)) == given_back


# --- force_model and routes ------------------------------------------------------------------------------------------


def test_force_model_skips_rewrites_and_may_name_a_route() -> None:
    expansion = Expansion("coder", (Rewrite(".*", "acme:rewritten"),), {"coder": "acme:m"})
    assert expansion.expand("anything") == Expanded(
        "acme:m", (Step("force_model", "coder"), Step("route", "acme:m", name="coder"))
    )


def test_a_rewrite_may_give_the_name_of_a_route() -> None:
    assert expand("gpt-4o", ("gpt-(.*)", "coder"), coder="acme:m") == "acme:m"


def test_a_route_is_followed_once_and_by_its_whole_name_only() -> None:
    assert expand("coder", coder="other", other="acme:m") == "other"
    assert expand("coder?seed=1", coder="acme:m") == "coder?seed=1"
    assert expand("Coder", coder="acme:m") == "Coder"


def test_a_rule_that_matches_a_routes_name_outranks_it() -> None:
    assert expand("coder", ("coder", "acme:rewritten"), coder="acme:m") == "acme:rewritten"


# --- texts of callers ------------------------------------------------------------------------------------------------


@given(st.text(st.characters(), max_size=60))
def test_any_text_is_expanded_and_one_that_cannot_be_a_selector_stays(text: str) -> None:
    assert expand(text, ("(?s)(.*)", r"x\1")) == (f"x{text}" if text.isprintable() else text)


def test_a_text_that_is_too_long_is_left_to_be_refused() -> None:
    assert expand("a" * MAX_LENGTH, ("a+", "acme:m")) == "acme:m"
    assert expand("a" * (MAX_LENGTH + 1), ("a+", "acme:m")) == "a" * (MAX_LENGTH + 1)


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


def test_the_engine_is_imported_for_rules_only() -> None:
    program = (
        "import sys; from llmgate_core.policies.rewrites import Expansion, Rewrite\n"
        "Expansion('acme:m', (), {'r': 'acme:m'}).expand('r'); Expansion().expand('m'); print('re2' in sys.modules)\n"
        "Expansion(rewrites=(Rewrite('a', 'b'),)).expand('a'); print('re2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


# --- rules that are refused ------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("pattern", "replacement", "told"),
    [
        ("a", r"\1", "refers to group 1, and the pattern has no groups"),
        ("(a)", r"\2", "refers to group 2, and the pattern has 1 group"),
        ("(a)(b)", r"\g<3>", "refers to group 3, and the pattern has 2 groups"),
        ("(a)", r"\10", "refers to group 10, and the pattern has 1 group"),
        ("(a)", rf"\g<{'9' * 5000}>", "refers to group 9999, and the pattern has 1 group"),
        ("(?P<x>a)(?P<y>b)", r"\g<z>", "a name that the pattern does not have; names in it: `x`, `y`"),
        ("(a)", r"\g<z>", "names in it: none"),
        ("(a)", r"\g<>", "a backslash must begin"),
        ("(a)", r"\g<1", "a backslash must begin"),
        ("(a)", r"\d", "a backslash must begin"),
        ("(a)", "m\\", "a backslash must begin"),
    ],
)
def test_a_replacement_that_means_nothing(pattern: str, replacement: str, told: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        compile_replacement(replacement, compile_pattern(pattern))
    assert told in str(caught.value)


@given(st.text(max_size=30))
def test_a_pattern_is_compiled_or_refused(text: str) -> None:
    """Nothing but a ValueError leaves it."""
    try:
        compiled = compile_pattern(text)
    except ValueError:
        return
    assert compiled.groups >= len(compiled.groupindex)


# --- rules that cannot be reached ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern", [".*", ".+", "^.*$", "^.+$", "(.*)", "^(.+)$", "(?P<all>.*)", "(?<all>.*)", "(?:.*)", ".*$"]
)
def test_nothing_is_reached_behind_a_rule_that_matches_everything(pattern: str) -> None:
    rules = [Rewrite(text, "x") for text in ("a", pattern, "a", "b")]
    assert unreachable(rules) == {2: 0, 3: 1}
    assert all(compile_pattern(pattern).fullmatch(text) for text in ("m", "acme:m?seed=1", "模型"))


@pytest.mark.parametrize("pattern", [".", ".*a", r"\.*", "(.*)x", ".*|a(", "..*", "[.*]", "(.*", ".*)", "x(.*)$"])
def test_other_patterns_leave_something(pattern: str) -> None:
    assert unreachable([Rewrite(text, "x") for text in (pattern, "b", "c")]) == {}


def test_a_pattern_that_stands_there_twice() -> None:
    assert unreachable([Rewrite(text, "x") for text in ("a", "b", "a", "c", "a")]) == {2: 0, 4: 0}
