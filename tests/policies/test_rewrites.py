"""Rewrites and routes: which rule wins, what it gives, which patterns are refused, and that no text is slow."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgate_core.policies.rewrites import (
    Expanded,
    Expansion,
    Rewrite,
    Step,
    compile_replacement,
    unreachable,
)
from llmgate_core.regexes import compile_pattern
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


def test_the_exact_names_that_rules_are_written_for() -> None:
    rules = [
        ("gpt-4.1", "a:m"),
        (r"^o3\.5$", "a:m"),
        ("gpt-(.*)", "a:m"),
        ("gpt-4o", "a:m"),
        ("x|y", "a:m"),
        ("v/m:free", "a:m"),
    ]
    found = Expansion(rewrites=tuple(Rewrite(*rule) for rule in rules)).exact_names()
    assert found == ("gpt-4.1", "o3.5", "v/m:free"), "gpt-4o never comes to its own rule"


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
