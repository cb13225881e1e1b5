"""Selectors in the configuration that could never route: `force_model`, named routes, replacements of rewrites."""

from __future__ import annotations

import re
from urllib.parse import quote

from . import selector
from .config import GatewayConfig
from .errors import Problem, SelectorError
from .policies.rewrites import Rule, compile_replacement
from .policies.uri_params import PARAMETERS, read_query
from .regexes import compile_pattern
from .rewrite_sections import KEY, rule_name
from .selector import Leaf, single
from .settings import key_name

_ROUTE = re.compile(r"[A-Za-z0-9._/-]+")

_HOLE = "GROUP"
"""Stands where a group of the pattern will be, whose text only a request brings."""


def wrong_selectors(config: GatewayConfig) -> list[Problem]:
    """Every selector in the configuration that cannot be read, or that names what does not exist."""
    return [
        *_wrong_force_model(config),
        *(problem for name in config.failover_routes for problem in _wrong_route(name, config)),
        *(problem for index in range(len(config.model_aliases)) for problem in _wrong_rewrite(index, config)),
    ]


def _wrong_force_model(config: GatewayConfig) -> list[Problem]:
    reasons = _reasons(config.force_model, config) if config.force_model is not None else []
    return [config.problem(("force_model",), f"`force_model`: {reason}") for reason in reasons]


def _wrong_route(name: str, config: GatewayConfig) -> list[Problem]:
    reasons = _wrong_plan(config.failover_routes[name], config)
    if not _ROUTE.fullmatch(name):
        reasons = ["a route's name is made of letters, digits, `-`, `_`, `.` and `/`", *reasons]
    path = ("failover_routes", name)
    return [config.problem(path, f"`{key_name(path)}`: {reason}") for reason in reasons]


def _wrong_rewrite(index: int, config: GatewayConfig) -> list[Problem]:
    rewrite = config.model_aliases[index]
    wrong, reasons = "pattern", []
    try:
        pattern = compile_pattern(rewrite.pattern)
        wrong = "replacement"
        rule = Rule(pattern, compile_replacement(rewrite.replacement, pattern))
    except ValueError as error:
        reasons = [str(error)]
    else:
        hole = _HOLE
        while hole in rewrite.replacement:
            hole += "_"
        reasons = _reasons(rule.filled_with(hole), config, hole)
    name = f"{rule_name(config, index)}.{wrong}"
    return [config.problem((KEY, index, wrong), f"`{name}`: {reason}") for reason in reasons]


def _reasons(text: str, config: GatewayConfig, hole: str = "") -> list[str]:
    """What is wrong with what stands for a route or is a selector."""
    return [] if text in config.failover_routes else _wrong_plan(text, config, hole)


def _wrong_plan(text: str, config: GatewayConfig, hole: str = "") -> list[str]:
    """What is wrong with a selector; nothing about what depends on a `hole` in it, if there is one."""
    try:
        leaves = selector.parse(text).leaves
    except SelectorError as error:
        return [error.reason]
    return [reason for leaf in leaves for reason in _wrong_leaf(leaf, config, hole)]


def _wrong_leaf(leaf: Leaf, config: GatewayConfig, hole: str) -> list[str]:
    try:
        selector.resolve(single(leaf), config.names())
    except SelectorError as error:
        # In the part that names the backend, a group may bring the name of one, or of a route.
        return [] if hole and hole in (leaf.backend or leaf.model) else [error.reason]
    pairs = [pair for pair in leaf.query if not hole or hole not in "=".join(pair)]
    return [_wrong_parameter(name) for name in read_query(pairs)[1]]


def _wrong_parameter(name: str) -> str:
    if name in PARAMETERS:
        return f"`{name}` must be {PARAMETERS[name].allowed}"
    near = selector.closest(name, PARAMETERS)
    hint = f"did you mean `{near}`?" if near else f"known parameters: `{'`, `'.join(PARAMETERS)}`"
    return f"unknown parameter `{quote(name)[:40]}`; {hint}"
