"""Patterns of failed edits as data: what is shipped, what may be configured, and that no text can make them slow."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgate_core.policies.edit_patterns import MIN_WORDS, EditPattern, Wording, shipped, words_of

PATTERNS = shipped().patterns


def pattern(**members: Any) -> EditPattern:
    plain = {"name": "ours", "agent": "our-agent", "tools": ("patch",), "texts": ("Patch did not apply to {}",)}
    return EditPattern(**{**plain, **members})


def test_each_shipped_pattern_is_told_apart_and_says_where_it_is_from() -> None:
    names = [one.name for one in PATTERNS]
    assert len(names) == len(set(names)) >= 20
    for one in PATTERNS:
        assert one.name.startswith(f"{one.agent}-")
        assert re.match(r"(npm|PyPI|github) \S+", one.source), one.name
        assert "/" in one.source or "line" in one.source, one.name


def test_agents_are_known_by_their_user_agent() -> None:
    assert shipped().agents() == {
        "aider",
        "claude-code",
        "cline",
        "codex",
        "gemini-cli",
        "opencode",
        "qwen-code",
        "roo-code",
    }
    assert shipped().agent_of("codex_cli_rs/0.169.0 (Debian 12; x86_64) xterm") == "codex"
    assert shipped().agent_of("RooCode/3.28.2") == "roo-code"
    assert shipped().agent_of("OpenAI/Python 3.54.0") is None
    assert shipped().agent_of("") is None


@pytest.mark.parametrize(
    ("text", "fitting", "others"),
    [
        (
            "Patch did not apply",
            ["Patch did not apply", "Patch did not apply: x"],
            ["patch did not apply", "A Patch did"],
        ),
        (
            "Patch {} did not apply to {}.",
            [
                "Patch 1 did not apply to a.py.",
                "Patch  did not apply to .",
                "Patch did not apply to x did not apply to y.",
            ],
            ["Patch 1 did not apply to a_py", "Patch did not apply", "Patch "],
        ),
        ("Patch of {} did not apply{}", ["Patch of x did not apply"], ["Patch of x did not appl"]),
    ],
)
def test_how_a_text_fits(text: str, fitting: list[str], others: list[str]) -> None:
    wording = Wording.parse(text)
    assert [sent for sent in fitting if not wording.fits(sent)] == []
    assert [sent for sent in others if wording.fits(sent)] == []


TEXTS = st.text("ab {}", max_size=12)


@given(text=TEXTS, sent=st.text("Patch did not apply:ab {}", max_size=40) | TEXTS)
def test_it_fits_as_a_regular_expression_would(text: str, sent: str) -> None:
    text = f"Patch did not apply:{text}"
    expected = re.match(".*?".join(map(re.escape, text.split("{}"))), f"Patch did not apply:{sent}", re.DOTALL)
    assert Wording.parse(text).fits(f"Patch did not apply:{sent}") is bool(expected)


@pytest.mark.parametrize("one", PATTERNS, ids=lambda one: one.name)
def test_the_words_are_in_the_json_of_every_text_that_fits(one: EditPattern) -> None:
    """Else the search in the bytes would hide it; also where the JSON library escapes all that it may."""
    for text in one.texts:
        sent = text.replace("{}", 'src/ü "x"\n')
        assert one.fits(sent)
        escaped = re.sub(r"[^A-Za-z0-9 .,:_-]", lambda found: f"\\u{ord(found[0]):04x}", sent)
        assert json.loads(f'"{escaped}"') == sent
        for data in (json.dumps(sent).encode(), json.dumps(sent, ensure_ascii=False).encode(), escaped.encode()):
            assert any(words in data for words in words_of([one]))


def test_no_words_are_searched_for_that_hold_others() -> None:
    texts = ("Error: Patch did not apply", "Patch did not apply", "Patch of {} was refused")
    assert words_of([pattern(texts=texts)]) == (b" was refused", b"Patch did not apply")


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"texts": ("",)}, "a text must begin with words"),
        ({"texts": ("{} did not apply at all",)}, "a text must begin with words"),
        ({"texts": (" {} did not apply at all",)}, "a text must begin with words"),
        ({"texts": ("Patch did not apply", "no {} match")}, f"at least {MIN_WORDS} plain letters"),
        ({"texts": ("补丁无法应用到文件 cart.py",)}, f"at least {MIN_WORDS} plain letters"),
        ({"name": "ours\n"}, "`name` must be one line"),
    ],
)
def test_what_may_not_be_configured(members: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        pattern(**members)


def hostile(size: int) -> list[str]:
    """Texts that begin well and go on as unpleasantly as they can for these patterns."""
    found = []
    for one in PATTERNS:
        for wording in one.wordings:
            first, *rest = wording.pieces
            found.append(first + "".join(piece[:-1] or "x" for piece in rest) * (size // 20))
            found.append(first + "".join(piece + piece[:-1] for piece in rest[:-1]) * (size // 20) + "x" * size)
    return found


def seconds(texts: list[str]) -> float:
    """Of the processor, the best of three, so that a busy machine counts less."""
    taken = []
    for _ in range(3):
        started = time.process_time()
        for text in texts:
            for one in PATTERNS:
                one.fits(text)
        taken.append(time.process_time() - started)
    return min(taken)


def test_time_grows_with_the_text_and_not_faster() -> None:
    small, large = seconds(hostile(4_000)), seconds(hostile(64_000))
    assert large < 16 * 8 * small, f"16 times the text took {large / small:.0f} times as long"
