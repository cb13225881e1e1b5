"""What a policy of a plugin is told, and what is said of mistakes: all of them, at their lines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest

from llmgate_core import GatewayRequest, Leaf, Meta, Params, Policy, Verdict
from llmgate_core.app import make_policies
from llmgate_core.checks import find_problems
from llmgate_core.config import GatewayConfig, Places, load
from llmgate_core.errors import ConfigError
from llmgate_core.plugins import Installed, Loaded, PluginSet
from llmgate_core.plugins import load as load_plugins
from llmgate_core.policy_settings import decode_policies


@dataclass(frozen=True)
class LimitSettings:
    limit: Annotated[int, Meta(ge=1)] = 5
    word: str = "a"


class Bare:
    """A policy without settings."""

    name: ClassVar[str] = "bare"
    settings: Any

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def apply(self, request: GatewayRequest, leaf: Leaf, params: Params) -> Verdict:
        return Verdict(params)


class Limit(Bare):
    name: ClassVar[str] = "limit"
    settings: LimitSettings


def plugins(*policies: type[Policy]) -> PluginSet:
    return PluginSet((*load_plugins(()).loaded, Loaded(Installed("t", "t", "1", "t"), policies=policies)))


def config(folder: Path, settings: str) -> GatewayConfig:
    path = folder / "config.yaml"
    path.write_text(f"plugins:\n  load: []\n  settings:\n{settings}", encoding="utf-8")
    return load(Places(path)).checked()


def test_policies_are_constructed_with_their_settings(tmp_path: Path) -> None:
    given = config(tmp_path, "    limit:\n      limit: 7\n")
    made = {policy.name: policy.settings for policy in make_policies(given, plugins(Limit, Bare))}
    assert (made["limit"], made["bare"]) == (LimitSettings(7), None)
    assert made.keys() >= {"uri_params", "edit_precision"}


def test_defaults_need_no_configuration() -> None:
    decoded, problems = decode_policies(GatewayConfig(), plugins(Limit))
    assert decoded == {Limit: LimitSettings()}
    assert problems == []


def test_mistakes_are_told_at_their_lines(tmp_path: Path) -> None:
    wrong = config(tmp_path, "    limit:\n      limit: 0\n      wrod: b\n    bare:\n      a: 1\n    limti: {}\n")
    told = [str(problem).removeprefix(f"{tmp_path}/") for problem in find_problems(wrong, plugins(Limit, Bare))]
    assert sorted(told) == [
        "config.yaml:5: `plugins.settings.limit.limit`: must be at least 1.",
        "config.yaml:6: unknown key `plugins.settings.limit.wrod`; did you mean `word`?",
        "config.yaml:8: unknown key `plugins.settings.bare.a`; known here: nothing",
        "config.yaml:9: `plugins.settings.limti`: no loaded plugin brings a policy of this name; "
        "did you mean `limit`? (loaded: bare, limit)",
    ]
    with pytest.raises(ConfigError):
        make_policies(wrong, plugins(Limit, Bare))


def test_settings_without_the_plugin_say_how_to_load_it(tmp_path: Path) -> None:
    [problem] = find_problems(config(tmp_path, "    limit: {}\n"), plugins())
    assert problem.message.endswith("is the plugin named under `plugins.load`?")


def test_a_broken_plugin_is_told_alone(tmp_path: Path) -> None:
    broken = PluginSet((*load_plugins(()).loaded, Loaded(Installed("t", "t", "1", "t"), problem="t is broken")))
    assert [one.message for one in find_problems(config(tmp_path, "    limit: {}\n"), broken)] == ["t is broken"]
