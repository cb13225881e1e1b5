"""The `sh` blocks of the documentation, which show no output: what they call of llmgate runs, before the simulators.

What changes an environment (`pip`, `llmgate install`, `make`) is run by tests/test_packaging.py and by CI, and the
coding agents by `make agents`; such lines are only parsed, in tests/test_docs.py.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.test_docs import DOCUMENTED_URL, Block, blocks, run, run_here, served

ELSEWHERE = ("make ", "python -m pip ", "llmgate install ", "llmgate uninstall ", "qwen ", "claude", "aider ")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of what `make demo` runs."""
    with served(tmp_path_factory.mktemp("demo"), ["--demo"]) as running:
        yield running.url


def lines(block: Block) -> list[str]:
    return [line for line in re.sub(r"\\\n *", "", block.text).splitlines() if line]


def is_run_here(block: Block) -> bool:
    return not all(line.startswith((*ELSEWHERE, "export ")) for line in lines(block))


def instance_files(page: Path, folder: Path) -> None:
    """Writes what the page says to write before; of two blocks about one file the first."""
    for block in blocks("yaml", [page]):
        named = re.match(r"# (config/backends/backend-instances/\S+)\n", block.text)
        if named and not (folder / named[1]).exists():
            (folder / named[1]).parent.mkdir(parents=True, exist_ok=True)
            (folder / named[1]).write_text(block.text, encoding="utf-8")


@pytest.mark.parametrize("block", [block for block in blocks("sh") if is_run_here(block)], ids=str)
def test_what_a_page_calls_runs(block: Block, demo: str, tmp_path: Path) -> None:
    instance_files(block.page, tmp_path)
    exported = {"MINIMAX_API_KEY": "not-a-real-key"}
    for line in lines(block):
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            exported[name] = value.replace("...", "not-a-real-key")
        elif line.startswith("curl "):
            the_answer_is_whole(tmp_path, line.replace(DOCUMENTED_URL, demo))
        elif not line.startswith(ELSEWHERE):
            llmgate(tmp_path, line, exported, port=demo.rpartition(":")[2])


def the_answer_is_whole(folder: Path, command: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl on this machine")
    status, said = run(folder, command)
    assert (status, '"error"' in said) == (0, False), said
    assert re.search(r'"(finish|stop)_reason":\s*"', said), said


def llmgate(folder: Path, line: str, exported: dict[str, str], *, port: str) -> None:
    words = shlex.split(line, comments=True)
    start = words.index("llmgate") + 1
    if words[start] == "serve":
        with served(folder, words[start + 1 :], exported):
            return
    extra = {**exported, "LLMGATE_PORT": port}
    status, said = run_here(folder, words[start:], extra)
    assert status == 0, f"{line}\n{said}"


def test_every_page_that_calls_llmgate_is_here() -> None:
    run_pages = {block.page.parent.name for block in blocks("sh") if is_run_here(block)}
    assert run_pages >= {"minimax", "ollama", "qwen_oauth"}
