"""The text in `model`: its syntax, the backend that it means, and the carets under mistakes."""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgate_core.errors import SelectorError
from llmgate_core.selector import MAX_LENGTH, Branch, Leaf, Names, Operator, RoutePlan, closest, parse, resolve, single


def leaf_of(text: str) -> Leaf:
    (leaf,) = parse(text).leaves
    return leaf


def refused(call: Callable[..., Any], *args: Any) -> SelectorError:
    with pytest.raises(SelectorError) as caught:
        call(*args)
    return caught.value


def attempted(call: Callable[..., RoutePlan], *args: Any) -> RoutePlan | SelectorError:
    try:
        return call(*args)
    except SelectorError as error:
        return error


# parse: what is understood


@pytest.mark.parametrize(
    ("text", "leaf"),
    [
        ("gpt-4o", Leaf(None, "gpt-4o")),
        ("qwen-oauth:qwen3-coder-plus", Leaf("qwen-oauth", "qwen3-coder-plus")),
        ("openai-compatible.local:m", Leaf("openai-compatible.local", "m")),
        ("llama3:8b", Leaf("llama3", "8b")),
        ("a:b:c", Leaf("a", "b:c")),
        ("vendor/model:variant", Leaf(None, "vendor/model:variant")),
        ("router:vendor/model:variant", Leaf("router", "vendor/model:variant")),
        ("sonnet[1m]", Leaf(None, "sonnet[1m]")),
        ("My Model.gguf", Leaf(None, "My Model.gguf")),
        ("50%-off", Leaf(None, "50%-off")),
        ("通义:千问", Leaf("通义", "千问")),
        ("m?a=1", Leaf(None, "m", (("a", "1"),))),
        ("m?b=1&a=2", Leaf(None, "m", (("b", "1"), ("a", "2")))),
        ("m?a=", Leaf(None, "m", (("a", ""),))),
        ("m?a=x=y?z", Leaf(None, "m", (("a", "x=y?z"),))),
        ("m?a=1+1%2B%20%7c%E9%80%9A", Leaf(None, "m", (("a", "1+1+ |通"),))),
        ("m?%61=1", Leaf(None, "m", (("a", "1"),))),
        ("m?u=http://x:1", Leaf(None, "m", (("u", "http://x:1"),))),
    ],
)
def test_parse(text: str, leaf: Leaf) -> None:
    assert parse(text) == single(leaf)


# parse: what is refused, and where


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("", 0, "the selector is empty; write `BACKEND:MODEL`, or a model of the default backend"),
        (":m", 0, "the name of a backend is missing before `:`"),
        ("b:", 2, "the name of a model is missing"),
        ("?a=1", 0, "the name of a model is missing"),
        ("b:?a=1", 2, "the name of a model is missing"),
        (" m", 0, "a space is not allowed here"),
        ("m ", 1, "a space is not allowed here"),
        ("   ", 0, "a space is not allowed here"),
        ("b :m", 1, "a space is not allowed here"),
        ("b: m", 2, "a space is not allowed here"),
        ("b:m  ?a=1", 3, "a space is not allowed here"),
        ("a\nb", 1, "the character U+000A is not allowed in a selector"),
        ("\tm", 0, "the character U+0009 is not allowed in a selector"),
        ("m\u00a0", 1, "the character U+00A0 is not allowed in a selector"),
        ("m\ud800", 1, "the character U+D800 is not allowed in a selector"),
        ("m?", 2, "expected `name=value`"),
        ("m?a", 2, "expected `name=value`"),
        ("m?a=1&", 6, "expected `name=value`"),
        ("m?a=1&&b=2", 6, "expected `name=value`"),
        ("m?=1", 2, "the name of a parameter is missing before `=`"),
        ("m?a=1&b=2&a=3", 10, "the parameter `a` is given twice"),
        ("m?a=1&%61=3", 6, "the parameter `a` is given twice"),
        ("m?a=1%", 5, "`%` must be followed by two hexadecimal digits"),
        ("m?a=%20%zz", 7, "`%` must be followed by two hexadecimal digits"),
        ("m?a%4=1", 3, "`%` must be followed by two hexadecimal digits"),
        ("m?a=x%FF", 5, "the percent escapes are not UTF-8"),
        ("m?a=x%0A", 5, "the percent escapes give an unprintable character"),
    ],
)
def test_parse_refuses(text: str, column: int, reason: str) -> None:
    error = refused(parse, text)
    assert (error.reason, error.column) == (reason, column)
    assert (error.status, error.code, error.param) == (400, "invalid_selector", "model")


A, B = Leaf("a", "m"), Leaf("b", "m")


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        ("a:m|b:m", RoutePlan((Branch(A), Branch(B)))),
        ("a:m^b:m", RoutePlan((Branch(A), Branch(B)), "^")),
        ("a:m!b:m", RoutePlan((Branch(A), Branch(B)), "!")),
        ("[weight=3]a:m^b:m", RoutePlan((Branch(A, weight=3.0), Branch(B)), "^")),
        ("[weight=0.5]a:m^[weight=2]b:m", RoutePlan((Branch(A, weight=0.5), Branch(B, weight=2.0)), "^")),
        ("[handicap=5]a:m!b:m", RoutePlan((Branch(A, handicap=5.0), Branch(B)), "!")),
        ("[handicap=0]a:m!b:m", RoutePlan((Branch(A, handicap=0.0), Branch(B)), "!")),
        ("[ttft_timeout=2.5]a:m", RoutePlan((Branch(A, ttft_timeout=2.5),))),
        (
            "[max_context=8000][ttft_timeout=1]a:m|b:m",
            RoutePlan((Branch(A, max_context=8000, ttft_timeout=1.0), Branch(B))),
        ),
        ("[max_context=8000,ttft_timeout=1]a:m", RoutePlan((Branch(A, max_context=8000, ttft_timeout=1.0),))),
        ("a:m?x=%7C|b:m", RoutePlan((Branch(Leaf("a", "m", (("x", "|"),))), Branch(B)))),
        ("m|sonnet[1m]", RoutePlan((Branch(Leaf(None, "m")), Branch(Leaf(None, "sonnet[1m]"))))),
        ("a:m|b:m|c:m", RoutePlan((Branch(A), Branch(B), Branch(Leaf("c", "m"))))),
        ("hybrid:[a:m,b:m]", RoutePlan((Branch(B, A),))),
        ("hybrid:[m,sonnet[1m]]", RoutePlan((Branch(Leaf(None, "sonnet[1m]"), Leaf(None, "m")),))),
        ("[ttft_timeout=2]hybrid:[a:m,b:m]|a:m", RoutePlan((Branch(B, A, ttft_timeout=2.0), Branch(A)))),
        ("hybrid:[a:m,b:m]!hybrid:[b:m,a:m]", RoutePlan((Branch(B, A), Branch(A, B)), "!")),
        (
            "hybrid:[a:m?x=%2C,b:m?y=%5D]",
            RoutePlan((Branch(Leaf("b", "m", (("y", "]"),)), Leaf("a", "m", (("x", ","),))),)),
        ),
        ("hybrid:m", RoutePlan((Branch(Leaf("hybrid", "m")),))),
    ],
)
def test_parse_several_branches(text: str, plan: RoutePlan) -> None:
    assert parse(text) == plan
    assert parse(str(plan)) == plan


TWO_MODELS = (
    "`hybrid:[REASONING,EXECUTION]` takes two models, with one comma between them (inside a query, write it as `%2C`)"
)
KNOWN_NOTES = "notes are `weight`, `handicap`, `ttft_timeout`, `max_context`"


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("a:m|", 4, "the name of a model is missing"),
        ("|a:m", 0, "the name of a model is missing"),
        ("a:m||b:m", 4, "the name of a model is missing"),
        ("a:m| b:m", 4, "a space is not allowed here"),
        ("a:m |b:m", 3, "a space is not allowed here"),
        ("a:m|b:m^c:m", 7, "`^` and `|` cannot be mixed: one selector joins its branches in one way (inside a query, "
         "write it as `%5E`)"),
        ("a:m|b:m|a:m", 8, "this branch repeats an earlier one"),
        ("[ttft_timeout=1]a:m|a:m", 20, "this branch repeats an earlier one"),
        ("|".join(f"m{number}" for number in range(17)), 53, "a selector has 16 branches at most"),
        ("[weight=2]a:m", 1, "`weight` is for branches that are joined by `^`"),
        ("[weight=2]a:m|b:m", 1, "`weight` is for branches that are joined by `^`"),
        ("a:m^[handicap=2]b:m", 5, "`handicap` is for branches that are joined by `!`"),
        ("[weight=0]a:m^b:m", 7, "`weight` must be a number above 0: `weight=N`"),
        ("[weight=nan]a:m^b:m", 7, "`weight` must be a number above 0: `weight=N`"),
        ("[weight=1e9]a:m^b:m", 7, "`weight` must be a number above 0: `weight=N`"),
        ("[weight]a:m^b:m", 7, "`weight` must be a number above 0: `weight=N`"),
        ("[handicap=-1]a:m!b:m", 9, "`handicap` must be a number of seconds: `handicap=N`"),
        ("[max_context=1.5]a:m", 12, "`max_context` must be a whole number of tokens above 0: `max_context=N`"),
        ("[ttft_timeout=0]a:m", 13, "`ttft_timeout` must be a number of seconds above 0: `ttft_timeout=N`"),
        ("[wieght=2]a:m^b:m", 1, "unknown note `wieght`; did you mean `weight`?"),
        ("[colour=2]a:m", 1, f"unknown note `colour`; {KNOWN_NOTES}"),
        ("[]a:m", 1, f"expected a note; {KNOWN_NOTES}"),
        ("[ttft_timeout=1,]a:m", 16, f"expected a note; {KNOWN_NOTES}"),
        ("[ttft_timeout=1,ttft_timeout=2]a:m", 16, "the note `ttft_timeout` is given twice"),
        ("[ttft_timeout=1a:m|b:m]", 0, "the `]` that ends the notes is missing"),
        ("a:[ttft_timeout=1]m", 2, "`[` cannot begin a model's name; notes stand at the beginning of a branch"),
        ("hybrid:[a:m,b:m", 15, "the `]` that ends `hybrid:[` is missing"),
        ("hybrid:[", 8, "the `]` that ends `hybrid:[` is missing"),
        ("a:m|hybrid:[a:m]", 12, TWO_MODELS),
        ("hybrid:[a:m,b:m,c:m]", 8, TWO_MODELS),
        ("hybrid:[]", 8, TWO_MODELS),
        ("hybrid:[,]", 8, "the name of a model is missing"),
        ("hybrid:[a:m,hybrid:[b:m,c:m]]", 8, TWO_MODELS),
        ("hybrid:[a:m,[weight=1]b:m]", 12, "`[` cannot begin a model's name; notes stand at the beginning of a branch"),
        ("hybrid:[a:m,b:m]|hybrid:[a:m,b:m]", 17, "this branch repeats an earlier one"),
        ("[a]", 1, f"unknown note `a`; {KNOWN_NOTES}"),
    ],
)  # fmt: skip
def test_parse_refuses_branches_and_notes(text: str, column: int, reason: str) -> None:
    error = refused(parse, text)
    assert (error.reason, error.column) == (reason, column)
    assert (error.status, error.code, error.param) == (400, "invalid_selector", "model")


def test_the_caret_stands_under_the_column() -> None:
    assert str(refused(parse, "m?top_p=1&x")) == "expected `name=value`\n  m?top_p=1&x\n            ^"


def test_what_cannot_be_printed_is_not_echoed() -> None:
    error = refused(parse, "a\x1b[2J\nb")
    assert error.text == "a\ufffd[2J\ufffdb"
    assert error.column == 1


def test_length_limit() -> None:
    assert leaf_of("m" * MAX_LENGTH).model == "m" * MAX_LENGTH
    error = refused(parse, "m" * (MAX_LENGTH + 1))
    assert error.reason == "the selector is longer than 4096 characters"
    assert error.text == "m" * 60 + "..."
    assert error.column == len(error.text)


# parse: properties

near_misses = st.text(alphabet=string.ascii_letters + ":/?&=%+.|^![],{} \n\x00\u00a0通\ud800" + string.digits)
pieces = st.sampled_from(
    [
        "a:m",
        "b:",
        "m",
        "hybrid:[",
        "hybrid:[a:m,b:m?x=1]",
        ",",
        "[weight=2]",
        "[handicap=1.5,max_context=9]",
        "[ttft_timeout=",
        "]",
        "|",
        "^",
        "!",
        "?x=1",
        "=",
    ]
)


@settings(deadline=None, max_examples=300)
@given(near_misses | st.text() | st.lists(pieces, max_size=9).map("".join))
def test_any_text_parses_or_says_where_it_is_wrong(text: str) -> None:
    plan = attempted(parse, text)
    if isinstance(plan, SelectorError):
        assert 0 <= plan.column <= len(plan.text) == len(text)
    else:
        assert parse(str(plan)) == plan


names = st.text(alphabet=string.ascii_letters + "-._", min_size=1)
models = st.text(alphabet=string.ascii_letters + "-._:/[]%=&+", min_size=1).filter(lambda m: m[0] != "[")
printable = st.text().filter(str.isprintable)
queries = st.dictionaries(printable.filter(bool), printable, max_size=4).map(lambda pairs: tuple(pairs.items()))


@settings(deadline=None, max_examples=200)
@given(names, models, queries)
def test_every_plan_with_a_backend_survives_its_text(
    backend: str, model: str, query: tuple[tuple[str, str], ...]
) -> None:
    plan = single(Leaf(backend, model, query))
    if len(str(plan)) <= MAX_LENGTH:
        assert parse(str(plan)) == plan


@settings(deadline=None, max_examples=100)
@given(names, models, queries, names, models)
def test_every_hybrid_survives_its_text(
    backend: str, model: str, query: tuple[tuple[str, str], ...], thinker: str, other: str
) -> None:
    plan = RoutePlan((Branch(Leaf(backend, model, query), Leaf(thinker, other, query)),))
    if len(str(plan)) <= MAX_LENGTH:
        assert parse(str(plan)) == plan


numbers = st.integers(1, 10**6).map(lambda number: number / 1000)
notes = st.fixed_dictionaries(
    {},
    optional={
        "ttft_timeout": numbers,
        "max_context": st.integers(1, 10**9 - 1),
        "weight": numbers,
        "handicap": numbers,
    },
)


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(["|", "^", "!"]),
    st.lists(st.tuples(names, models, queries, notes), min_size=2, max_size=5, unique_by=lambda one: one[:3]),
)
def test_every_plan_with_several_branches_survives_its_text(
    operator: Operator, parts: list[tuple[str, str, tuple[tuple[str, str], ...], dict[str, Any]]]
) -> None:
    belongs = {"weight": "^", "handicap": "!"}
    branches = [
        Branch(
            Leaf(backend, model, query),
            **{name: value for name, value in given.items() if belongs.get(name, operator) == operator},
        )
        for backend, model, query, given in parts
    ]
    plan = RoutePlan(tuple(branches), operator)
    if len(str(plan)) <= MAX_LENGTH:
        assert parse(str(plan)) == plan


# resolve

SEVERAL = Names(
    enabled=(
        "qwen-oauth.default",
        "minimax.default",
        "minimax.china",
        "openai-compatible.local",
        "openai-compatible.router",
        "anthropic.work",
    ),
    disabled=("gemini.default",),
    aliases={"router": "openai-compatible.router"},
)
WITH_DEFAULT = replace(SEVERAL, default="qwen-oauth:qwen3-coder-plus")
ONE = Names(enabled=("openai-compatible.ollama",), aliases={"ollama": "openai-compatible.ollama"})
LISTED = "`anthropic.work`, `minimax`, `minimax.china`, `openai-compatible.local`, `qwen-oauth`, `router`"


def resolved(text: str, names: Names) -> Leaf:
    (leaf,) = resolve(parse(text), names).leaves
    return leaf


@pytest.mark.parametrize(
    ("names", "text", "leaf"),
    [
        # a name that the configuration knows
        (SEVERAL, "qwen-oauth:m", Leaf("qwen-oauth.default", "m")),
        (SEVERAL, "qwen-oauth.default:m:1", Leaf("qwen-oauth.default", "m:1")),
        (SEVERAL, "router:vendor/m:free", Leaf("openai-compatible.router", "vendor/m:free")),
        (SEVERAL, "openai-compatible.router:m", Leaf("openai-compatible.router", "m")),
        # a connector: its instance `default`, or its only one
        (SEVERAL, "minimax:m", Leaf("minimax.default", "m")),
        (SEVERAL, "anthropic:m", Leaf("anthropic.work", "m")),
        (Names(("x.a",), disabled=("x.b",)), "x:m", Leaf("x.a", "m")),
        # an alias outranks a connector, a full name outranks an alias
        (Names(("a.default", "b.a"), aliases={"a": "b.a"}), "a:m", Leaf("b.a", "m")),
        (Names(("a.default", "b.a"), aliases={"a.default": "b.a"}), "a.default:m", Leaf("a.default", "m")),
        # no backend, or a prefix that is none: the default backend, with all of the text
        (WITH_DEFAULT, "gpt-4o", Leaf("qwen-oauth.default", "gpt-4o")),
        (WITH_DEFAULT, "llama3:8b?seed=1", Leaf("qwen-oauth.default", "llama3:8b", (("seed", "1"),))),
        (WITH_DEFAULT, "vendor/m:free", Leaf("qwen-oauth.default", "vendor/m:free")),
        (WITH_DEFAULT, "minimax/m:free", Leaf("qwen-oauth.default", "minimax/m:free")),
        # the default's model answers to the word `default` alone
        (WITH_DEFAULT, "default?seed=1", Leaf("qwen-oauth.default", "qwen3-coder-plus", (("seed", "1"),))),
        (WITH_DEFAULT, "minimax:default", Leaf("minimax.default", "default")),
        (Names(("a.b", "c.d"), default="a.b"), "default", Leaf("a.b", "default")),
        (Names(("a.b", "c.d"), default="a.b:x:y"), "default", Leaf("a.b", "x:y")),
        # the only enabled backend need not be called the default
        (ONE, "gpt-4o", Leaf("openai-compatible.ollama", "gpt-4o")),
        (ONE, "vendor/m:free", Leaf("openai-compatible.ollama", "vendor/m:free")),
        # a version number makes a model, although `llama3` and `ollama` are two letters apart
        (ONE, "llama3:8b", Leaf("openai-compatible.ollama", "llama3:8b")),
        # two edits would leave nothing of a name so short
        (Names(("hf.default",)), "phi:2b", Leaf("hf.default", "phi:2b")),
    ],
)
def test_resolve(names: Names, text: str, leaf: Leaf) -> None:
    assert resolved(text, names) == leaf


@pytest.mark.parametrize(
    ("names", "text", "reason"),
    [
        (
            WITH_DEFAULT,
            "qwen-oath:x",
            "there is no backend `qwen-oath` (did you mean `qwen-oauth`?); write `BACKEND:x` with one of the "
            f"backends {LISTED}, or `qwen-oauth.default:qwen-oath:x` for the model `qwen-oath:x` of the default "
            "backend",
        ),
        (
            SEVERAL,
            "Minmax:x",
            "there is no backend `Minmax` (did you mean `minimax`?); "
            f"write `BACKEND:x` with one of the backends {LISTED}",
        ),
        (
            SEVERAL,
            "llama3:8b",
            f"there is no backend `llama3`; write `BACKEND:8b` with one of the backends {LISTED}",
        ),
        (
            SEVERAL,
            "gpt-4o?seed=1",
            "no backend is named and there is no default backend; "
            f"write `BACKEND:gpt-4o` with one of the backends {LISTED}",
        ),
        (
            SEVERAL,
            "gemini:x",
            "the backend `gemini` is switched off (`enabled: false`); "
            f"write `BACKEND:x` with one of the backends {LISTED}",
        ),
        (
            Names(("a.default",), default="b:m"),
            "x",
            "the default backend `b` is not configured; write `BACKEND:x` with one of the backends `a`",
        ),
        (
            Names(("a.default",), disabled=("b.x", "b.y"), default="b"),
            "m",
            "the backend `b` is switched off (`enabled: false`); write `BACKEND:m` with one of the backends `a`",
        ),
        (
            Names(()),
            "x",
            "no backend is named and there is no default backend; no backend is enabled: add one to the configuration",
        ),
    ],
)
def test_resolve_refuses(names: Names, text: str, reason: str) -> None:
    error = refused(resolve, parse(text), names)
    assert error.reason == reason
    assert (error.status, error.code, error.param) == (404, "backend_not_found", "model")
    assert (error.text, error.column) == (text, 0)


def test_resolve_refuses_to_choose_between_instances() -> None:
    error = refused(resolve, parse("openai-compatible:m"), SEVERAL)
    assert error.reason == (
        "`openai-compatible` has several instances and none is called `default`; "
        "write one of `openai-compatible.local`, `openai-compatible.router`"
    )
    assert (error.status, error.code) == (400, "invalid_selector")


@pytest.mark.parametrize("text", ["coder", "coder?seed=1", "acme:m|coder", "[weight=2]coder^acme:m"])
def test_a_route_is_no_part_of_a_selector(text: str) -> None:
    error = refused(resolve, parse(text), Names(("acme.default",), routes=["coder"]))
    assert error.reason.startswith("`coder` is a route (`failover_routes`), which stands alone")
    assert (error.status, error.column) == (400, 0)
    assert error.text.startswith("coder")
    assert resolved("acme:coder", Names(("acme.default",), routes=["coder"])) == Leaf("acme.default", "coder")


@pytest.mark.parametrize(("prefix", "near"), [("fake2", True), ("fake", True), ("fake12x", True), ("fakes2xy", False)])
def test_a_number_in_the_name_of_a_backend_may_be_misspelt(prefix: str, near: bool) -> None:
    assert near == (closest(prefix, ["fake1"]) is not None)
    names = Names(("fake1.default", "other.default"), default="other")
    if near:
        assert "did you mean `fake1`?" in refused(resolve, parse(f"{prefix}:m"), names).reason
    else:
        assert resolved(f"{prefix}:m", names) == Leaf("other.default", f"{prefix}:m")


@pytest.mark.parametrize("prefix", ["home", "HOME", "llama3", "old"])
def test_an_instance_without_its_connector_is_not_sent_to_the_default(prefix: str) -> None:
    names = Names(("acme.home", "acme.llama3", "other.default"), disabled=("acme.old",), default="other")
    error = refused(resolve, parse(f"{prefix}:m1"), names)
    assert error.status == 404
    assert f"there is no backend `{prefix}` (did you mean `acme.{prefix.lower()}`?)" in error.reason
    assert f"`other.default:{prefix}:m1` for the model" in error.reason


def test_an_alias_comes_before_the_instance_of_that_name() -> None:
    names = Names(("acme.home", "other.home"), aliases={"home": "other.home"}, default="acme")
    assert resolved("home:m1", names) == Leaf("other.home", "m1")


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from([SEVERAL, WITH_DEFAULT, ONE]),
    st.none() | names | st.sampled_from(["qwen-oauth", "qwen-oath", "minimax.china", "gemini", "router"]),
    models,
    queries,
)
def test_resolve_ends_at_an_enabled_backend_and_changes_nothing_twice(
    known: Names, backend: str | None, model: str, query: tuple[tuple[str, str], ...]
) -> None:
    plan = attempted(resolve, single(Leaf(backend, model, query)), known)
    if isinstance(plan, SelectorError):
        assert 0 <= plan.column <= len(plan.text)
    else:
        assert plan.leaves[0].backend in known.enabled
        assert plan.leaves[0].query == query
        assert resolve(plan, known) == plan


# closest


@pytest.mark.parametrize(
    ("word", "names", "near"),
    [
        ("qwen-oath", ["minimax", "qwen-oauth"], "qwen-oauth"),
        ("qwn-oath", ["qwen-oauth"], "qwen-oauth"),
        ("qwn-oth", ["qwen-oauth"], None),
        ("QWEN-OAUTH", ["qwen-oauth"], "qwen-oauth"),
        ("amce", ["acme"], "acme"),
        ("acmeee", ["acme"], "acme"),
        ("acmeeee", ["acme"], None),
        ("b", ["a"], None),
        ("xy", ["ab"], None),
        ("cart", ["card", "carts", "cat"], "card"),
        ("anything", [], None),
    ],
)
def test_closest(word: str, names: list[str], near: str | None) -> None:
    assert closest(word, names) == near


@settings(deadline=None, max_examples=200)
@given(st.text(alphabet="abc", min_size=5, max_size=9), st.data())
def test_two_edits_are_found_and_the_exact_name_always_wins(name: str, data: st.DataObject) -> None:
    word = name
    for _ in range(2):
        at = data.draw(st.integers(0, len(word) - 1))
        new = data.draw(st.sampled_from(["", "x", word[at] + "x"]))
        word = word[:at] + new + word[at + 1 :]
    assert closest(word, [name]) == name
    assert closest(name, [word, name]) == name
