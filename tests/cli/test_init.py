"""`llmgate init`: what it finds, what it asks, what it never overwrites, and that the result serves."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from llmgate_core.cli import init
from llmgate_core.config import find_places, load
from llmgate_core.plugins import load_all
from llmgate_core.presets import offered

if TYPE_CHECKING:
    from tests.cli.conftest import Run

KEY = "sk-MARKER-init"
OFFERS = offered(load_all().connectors)[0]
OLLAMA = "http://127.0.0.1:11434/v1/models"
INSTANCES = Path("config", "backends", "backend-instances")

Answer = Callable[[str], None]


@pytest.fixture(autouse=True)
def servers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Sequence[str]]:
    """The servers that are found on this machine, none at first; and no key of the developer's own."""
    found: dict[str, Sequence[str]] = {}

    def here(offers: Sequence[object]) -> Mapping[str, Sequence[str]]:
        return found

    monkeypatch.setattr(init, "servers_here", here)
    for preset in [offer.preset for offer in OFFERS]:
        for name in (preset.variable, *preset.elsewhere):
            monkeypatch.delenv(name or "", raising=False)
    return found


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Puts answers into the pipe."""
    return lambda text: monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# --- found ------------------------------------------------------------------------------------------------------------


def test_a_key_in_the_environment_needs_no_question(run: Run, folder: Path) -> None:
    ended = run("init", GROQ_API_KEY=KEY)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "wrote config/config.yaml",
        "wrote config/backends/backend-instances/openai-compatible.groq.yaml   Groq, key in GROQ_API_KEY",
        "next:",
        "  llmgate serve",
        "  llmgate connect claude-code   # in a second terminal; or another agent",
    ]
    assert all(KEY not in path.read_text(encoding="utf-8") for path in folder.rglob("*.yaml"))
    checked = run("check", GROQ_API_KEY=KEY)
    assert checked.status == 0
    assert "\nready: openai-compatible.groq" in f"\n{checked.out}"
    assert "advice" not in checked.out


def test_several_keys_and_a_server_become_backends_and_the_first_the_default(
    run: Run, folder: Path, servers: dict[str, Sequence[str]]
) -> None:
    servers[OLLAMA] = ["qwen2.5-coder:7b"]
    ended = run("init", MINIMAX_API_KEY=KEY, DEEPSEEK_API_KEY=KEY)
    assert ended.status == 0
    places = find_places(folder, folder)
    config = load(places).checked()
    assert config.default_backend == "openai-compatible.deepseek:deepseek-v4-flash"
    names = {backend.name for backend in config.backends}
    assert names == {"openai-compatible.deepseek", "minimax.default", "openai-compatible.ollama"}
    assert "# For MiniMax, China, write" in (folder / INSTANCES / "minimax.default.yaml").read_text(encoding="utf-8")


def test_a_server_alone_lends_the_default_model(run: Run, folder: Path, servers: dict[str, Sequence[str]]) -> None:
    servers[OLLAMA] = ["qwen2.5-coder:7b"]
    assert run("init").status == 0
    explained = run("explain", "default")
    assert "openai-compatible.ollama:qwen2.5-coder:7b" in explained.out
    assert "openai-compatible.ollama:other" in run("explain", "other").out


def test_a_key_that_goes_with_another_address_is_left_alone(run: Run, folder: Path) -> None:
    ended = run("init", "--yes", OPENAI_API_KEY=KEY, OPENAI_BASE_URL="http://127.0.0.1:8000/v1")
    assert ended.status == 2
    assert "OPENAI_BASE_URL says that it is not OpenAI's" in ended.err
    assert files_in(folder) == []


# --- asked ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "line", "default"),
    [
        ("\n\n\n", "api_key: env:OPENAI_API_KEY", "openai-compatible.openai:gpt-5-mini"),
        ("mistral\nMY_MISTRAL_KEY\nsmall\n", "api_key: env:MY_MISTRAL_KEY", "openai-compatible.mistral:small"),
        ("9999\n3\n~/key\nnone\n", 'api_key: "file:~/key"', "openai-compatible.openrouter"),
        ("deepseek\nfile:a\nb c\nchat\n", "api_key: file:a", "openai-compatible.deepseek:chat"),
        ("ollama\nllama3:8b\n", "base_url: http://127.0.0.1:11434/v1", "openai-compatible.ollama:llama3:8b"),
    ],
)
def test_three_answers_make_a_configuration(
    run: Run, folder: Path, answer: Answer, answers: str, line: str, default: str
) -> None:
    answer(answers)
    assert run("init").status == 0
    (instance,) = (folder / INSTANCES).iterdir()
    assert f"\n  {line}\n" in instance.read_text(encoding="utf-8")
    config = load(find_places(folder, folder)).checked()
    assert config.default_backend == default
    assert run("check").status == 0


def test_a_key_that_is_pasted_is_refused_and_not_repeated(run: Run, folder: Path, answer: Answer) -> None:
    answer(f"openai\n{KEY}\nenv:{KEY}\nenv:MINE_KEY\n\n")
    ended = run("init")
    assert ended.status == 0
    assert "never the key itself" in ended.err
    assert "export MINE_KEY=..." in ended.out
    assert all(KEY not in path.read_text(encoding="utf-8") for path in folder.rglob("*.yaml"))
    refused = run("init", "--provider", "openai", "--force", "--key", KEY)
    assert refused.status == 2


@pytest.mark.parametrize("answers", ["", "openai\n", "nonsense\n"])
def test_where_nobody_answers_the_flags_are_named(run: Run, folder: Path, answer: Answer, answers: str) -> None:
    answer(answers)
    ended = run("init")
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.splitlines()[-1].startswith("llmgate: nothing was found")
    assert all(flag in ended.err for flag in ("--provider", "--key", "--model", "--list"))
    assert files_in(folder) == []
