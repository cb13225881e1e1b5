"""What the command line, the environment and the main file say about rewrites becomes one list, in that order.

Unlike other values they add up: a rule for one run goes before the file's rules, and does not make them disappear.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import Problem
from .policies.rewrites import Rewrite, unreachable
from .sections import GatewayConfig, Origin
from .settings import KeyPath, decode

KEY = "model_aliases"
FLAG = "--model-alias"
VARIABLE = "LLMGATE_MODEL_ALIASES"

# The first `=` that no backslash escapes. RE2 reads `\=` as `=`, so a pattern can hold one.
_FLAG = re.compile(r"((?:[^\\=]|\\.)*)=(.*)", re.DOTALL)


@dataclass(frozen=True)
class GivenRewrites:
    """Rewrites from above the files, as they were written.

    Args:
        flags: values of `--model-alias`, each `PATTERN=REPLACEMENT`.
        variable: `LLMGATE_MODEL_ALIASES`, a JSON array of objects with `pattern` and `replacement`; empty for none.
    """

    flags: tuple[str, ...] = ()
    variable: str = ""


def with_given(config: GatewayConfig, given: GivenRewrites, problems: list[Problem]) -> GatewayConfig:
    """The same configuration with the given rewrites before those of the file; what is wrong goes to `problems`."""
    flags = _decoded(_from_flags(given.flags, problems), FLAG, problems)
    variable = _decoded(_from_variable(given.variable, problems), VARIABLE, problems)
    if not flags and not variable:
        return config
    origin = _shifted(config.origin, [FLAG] * len(flags) + [VARIABLE] * len(variable))
    return dataclasses.replace(config, model_aliases=(*flags, *variable, *config.model_aliases), origin=origin)


def _from_flags(flags: Sequence[str], problems: list[Problem]) -> list[Mapping[str, str]]:
    split = [found for flag in flags if (found := _FLAG.fullmatch(flag))]
    if len(split) < len(flags):
        # Without the others, whose places would be counted wrongly.
        problems.append(Problem(FLAG, None, "expected `PATTERN=REPLACEMENT`; an `=` in the pattern is written `\\=`"))
        return []
    return [{"pattern": found[1], "replacement": found[2]} for found in split]


def _from_variable(text: str, problems: list[Problem]) -> Any:
    try:
        return json.loads(text) if text else []
    except (ValueError, RecursionError):
        told = 'expected a JSON array, such as `[{"pattern": "gpt-(.*)", "replacement": "acme:\\\\1"}]`'
        problems.append(Problem(VARIABLE, None, told))
        return []


@dataclass(frozen=True)
class _Section:
    model_aliases: tuple[Rewrite, ...] = ()


def _decoded(entries: Any, source: str, problems: list[Problem]) -> tuple[Rewrite, ...]:
    section, faults = decode(_Section, {KEY: entries}, prefix="")
    problems += [Problem(source, None, message) for _, message in faults]
    return section.model_aliases if section else ()


def _shifted(origin: Origin, sources: Sequence[str]) -> Origin:
    """The origin of a list that begins with one rule from each of `sources`, and goes on with the file's."""

    def moved(path: KeyPath) -> KeyPath:
        match path:
            case (str(key), int(index), *rest) if key == KEY:
                return (key, index + len(sources), *rest)
        return path

    lines = {moved(path): line for path, line in origin.lines.items()}
    added: dict[KeyPath, str] = {(KEY, index): source for index, source in enumerate(sources)}
    return dataclasses.replace(origin, lines=lines, overrides={**origin.overrides, **added})


def rule_name(config: GatewayConfig, index: int) -> str:
    """What messages call a rule: its place among those of its own source, `model_aliases[0]`."""
    sources = [config.origin.overrides.get((KEY, earlier)) for earlier in range(index + 1)]
    return f"{KEY}[{sources[:-1].count(sources[-1])}]"


def advise_rewrites(config: GatewayConfig) -> list[Problem]:
    """The rules that can never be reached."""
    return [
        config.problem((KEY, index), f"`{rule_name(config, index)}`: {_why_unreachable(config, index, earlier)}")
        for index, earlier in unreachable(config.model_aliases).items()
    ]


def _why_unreachable(config: GatewayConfig, index: int, earlier: int) -> str:
    same = config.model_aliases[index].pattern == config.model_aliases[earlier].pattern
    matches = "has the same pattern" if same else "matches everything"
    place = config.problem((KEY, earlier), "").where
    return f"can never be reached: `{rule_name(config, earlier)}` ({place}) {matches}, and the first match wins"
