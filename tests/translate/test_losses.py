"""The page about translations has a table of what each of them loses, made from the translations' own data.

To renew it: LLMGATE_UPDATE_REFERENCE=1 pytest tests/translate/test_losses.py; then read the difference.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from llmgate_core.translate import chat_over_messages, messages_over_chat, responses_over_chat

PAGE = Path(__file__).parents[2] / "docs" / "translations.md"
LOSSES = {
    "messages_over_chat": messages_over_chat.LOSSES,
    "responses_over_chat": responses_over_chat.LOSSES,
    "chat_over_messages": chat_over_messages.LOSSES,
}


def table(losses: Mapping[str, str]) -> str:
    rows = [f"| `{name}` | {text} |" for name, text in losses.items()]
    return "\n".join(["| in `x-llmgate-lost` | what is lost |", "|---|---|", *rows]) + "\n"


@pytest.mark.parametrize("name", LOSSES)
def test_the_page_has_every_loss(name: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    found = re.search(rf"(?<=<!-- {name} -->\n).*?(?=<!-- end of {name} -->)", page, re.DOTALL)
    assert found is not None
    now = table(LOSSES[name])
    if os.environ.get("LLMGATE_UPDATE_REFERENCE"):
        PAGE.write_text(page[: found.start()] + now + page[found.end() :], encoding="utf-8")
    else:
        assert found[0] == now


@pytest.mark.parametrize("losses", LOSSES.values(), ids=LOSSES)
def test_names_fit_into_a_header_and_sentences_into_a_table(losses: Mapping[str, str]) -> None:
    for name, text in losses.items():
        assert re.fullmatch(r"[a-z0-9_.*<>-]+", name), name
        assert "|" not in text
        assert "\n" not in text
