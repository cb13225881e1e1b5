"""Selectors in the configuration that could never route are told at start, with their places; others are left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmgate_core.config import GatewayConfig, GivenRewrites, Places, load
from llmgate_core.selector_checks import wrong_selectors

BACKENDS = "backends: {acme: {}, acme.two: {}, other.a: {}, other.b: {}, off: {type: acme, enabled: false}}\n"


def config(tmp_path: Path, text: str, *flags: str) -> GatewayConfig:
    path = tmp_path / "config.yaml"
    path.write_text(BACKENDS + text, encoding="utf-8")
    return load(Places(path), rewrites=GivenRewrites(flags)).checked()


def told(tmp_path: Path, text: str, *flags: str) -> list[str]:
    return [str(problem) for problem in wrong_selectors(config(tmp_path, text, *flags))]


# --- rewrites --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flag",
    [
        r"gpt-(.*)=acme:openai/gpt-\1",
        r"gpt-(.*)=acme.two:\1?temperature=0.5",
        r"(\w+)/(.*)=\1:\2",  # the group may bring a backend's name
        r"my-(.*)=\1",
        r"my-(.*)=vendor/\1:free",
        r"(.*)-hot(.)=acme:\1?temperature=\2",
        r"(.*)-(\w+)(.)=acme:\1?\2=\3",
        r"(GROUP)=acme:GROUP\1",
        "gpt=coder",
    ],
)
def test_rules_that_can_work(tmp_path: Path, flag: str) -> None:
    assert told(tmp_path, "failover_routes: {coder: 'acme:m'}\n", flag) == []


@pytest.mark.parametrize(
    ("flag", "where", "reason"),
    [
        ("(=acme:m", "pattern", "is not a regular expression of RE2: missing )"),
        (r"(a)\1=acme:m", "pattern", "backreferences are not supported"),
        (r"a=acme:\1", "replacement", "refers to group 1, and the pattern has no groups"),
        ("a=acme:", "replacement", "the name of a model is missing"),
        ("a=acme: m", "replacement", "a space is not allowed here"),
        (r"a(.*)=acme:\1?seed", "replacement", "expected `name=value`"),
        (r"a(.*)=amce:\1", "replacement", "there is no backend `amce` (did you mean `acme`?); write `BACKEND:GROUP`"),
        ("a=other:m", "replacement", "`other` has several instances"),
        ("a=off:m", "replacement", "the backend `off` is switched off"),
        ("a=m", "replacement", "no backend is named and there is no default backend"),
        (r"a(.)=m?seed=\1", "replacement", "no backend is named and there is no default backend"),
        (r"a(.)=GROUP:\1", "replacement", "there is no backend `GROUP`"),
        ("a=acme:m?temperature=9", "replacement", "`temperature` must be a number from 0 to 2"),
    ],
)
def test_rules_that_cannot_work(tmp_path: Path, flag: str, where: str, reason: str) -> None:
    found = told(tmp_path, "", "fine=acme:m", flag)
    assert len(found) == 1
    assert found[0].startswith(f"--model-alias: `model_aliases[1].{where}`: {reason}")


def test_a_rule_of_the_file_is_told_with_its_line(tmp_path: Path) -> None:
    text = "model_aliases:\n  - {pattern: a, replacement: 'acme:m'}\n  - pattern: b\n    replacement: 'acme:m?x=1'\n"
    (found,) = told(tmp_path, text)
    assert found.startswith("config.yaml:5: `model_aliases[1].replacement`: unknown parameter `x`; ")


def test_all_wrong_rules_are_told(tmp_path: Path) -> None:
    assert len(told(tmp_path, "force_model: 'nope:m'\nfailover_routes: {a: 'nope:m'}\n", "(=acme:m", "a=nope:m")) == 4


# --- routes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["coder", "team/coder", "coder-1.5_b", "default", "1"])
def test_names_of_routes(tmp_path: Path, name: str) -> None:
    assert told(tmp_path, f"failover_routes: {{'{name}': 'acme:m?seed=1'}}\n") == []


@pytest.mark.parametrize("name", ["a b", "acme:x", "a|b", "a?b", "模型", "a~"])
def test_names_that_a_route_cannot_have(tmp_path: Path, name: str) -> None:
    (found,) = told(tmp_path, f"failover_routes:\n  '{name}': 'acme:m'\n")
    assert found.startswith("config.yaml:3: `failover_routes.")
    assert found.endswith("a route's name is made of letters, digits, `-`, `_`, `.` and `/`")


def test_a_route_that_names_a_route(tmp_path: Path) -> None:
    found = told(tmp_path, "failover_routes:\n  a: 'acme:m'\n  b: a\n  c: c\n  d: acme:m|a\n")
    assert found == [
        f"config.yaml:{line}: `failover_routes.{name}`: `{other}` is a route (`failover_routes`), which stands alone, "
        "without a query and other branches; write out what it stands for, or "
        f"`BACKEND:{other}` for a model of that name"
        for line, name, other in ((4, "b", "a"), (5, "c", "c"), (6, "d", "a"))
    ]


@pytest.mark.parametrize(
    ("selector", "reason"),
    [
        ("amce:m", "there is no backend `amce` (did you mean `acme`?)"),
        ("acme:m?temperature=9", "`temperature` must be a number from 0 to 2"),
        ("acme:", "the name of a model is missing"),
    ],
)
def test_a_route_that_leads_nowhere(tmp_path: Path, selector: str, reason: str) -> None:
    (found,) = told(tmp_path, f"failover_routes:\n  coder: '{selector}'\n")
    assert found.startswith(f"config.yaml:3: `failover_routes.coder`: {reason}")


def test_force_model_may_name_a_route(tmp_path: Path) -> None:
    assert told(tmp_path, "force_model: coder\nfailover_routes: {coder: 'acme:m'}\n") == []
    (found,) = told(tmp_path, "force_model: codre\nfailover_routes: {coder: 'acme:m'}\n")
    assert found.startswith("config.yaml:2: `force_model`: no backend is named and there is no default backend")
