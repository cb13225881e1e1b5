"""A look that fails is a finding, and tells nothing that may be secret."""

from __future__ import annotations

import pytest

from llmgate_core.diagnosis.findings import fail, fenced, ok
from llmgate_core.errors import ConfigError, PluginError, Problem


def test_a_look_that_raises_is_a_finding_without_the_texts_of_the_error() -> None:
    def look() -> list[object]:
        raise ValueError("sk-MARKER")

    [found] = fenced("the moon", look)  # type: ignore[arg-type]
    assert (found.level, found.where) == ("fail", "the moon")
    assert found.what.startswith("could not be looked at: ValueError (")
    assert "test_findings.py:" in found.what
    assert "MARKER" not in repr(found)


@pytest.mark.parametrize("error", [ConfigError([Problem("a.yaml", 3, "is wrong")]), PluginError("is wrong")])
def test_what_llmgate_raises_on_purpose_keeps_its_words(error: Exception) -> None:
    def look() -> list[object]:
        raise error

    [found] = fenced("a.yaml:3", look)  # type: ignore[arg-type]
    assert found == fail("is wrong", "a.yaml:3")


def test_what_the_system_refuses_is_no_mistake_of_ours() -> None:
    def look() -> list[object]:
        raise PermissionError(13, "Permission denied", "/sk-MARKER")

    [found] = fenced("a folder", look)  # type: ignore[arg-type]
    assert found == fail("could not be looked at: Permission denied", "a folder")


def test_all_texts_can_be_changed() -> None:
    assert ok("a", "b", "c").mapped(str.upper) == ok("A", "B", "C")
