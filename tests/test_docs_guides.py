"""The tutorial and the guides, followed from top to bottom: files are written, commands are run, in their order."""

from __future__ import annotations

import io
import re
import shlex
import shutil
import sys
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.test_docs import (
    DOCUMENTED_URL,
    GUIDES,
    Block,
    Running,
    Step,
    agrees,
    blocks,
    run,
    run_llmgate,
    served,
    session,
)

from llmgate_core.plugins import discover

FILES = ("python", "yaml")
"""Blocks that are files, each with its name in a comment on the first line."""


def in_order(page: Path) -> list[Block]:
    """All blocks of a page that do something."""
    return sorted((one for sort in (*FILES, "console") for one in blocks(sort, [page])), key=lambda one: one.line)


def pytest_here(folder: Path, arguments: list[str]) -> tuple[int, str]:
    """`python -m pytest ARGUMENTS` in this process, as its imports would take most of the time."""
    options = ["--rootdir", str(folder), "-p", "no:cacheprovider", "-W", "error"]
    out, before = io.StringIO(), set(sys.modules)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out):
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        try:
            status = pytest.main([*arguments, *options])
        finally:
            for name in {"acme", "test_acme"} & set(sys.modules) - before:
                del sys.modules[name]
    return int(status), out.getvalue()


@dataclass
class Reader:
    """Somebody who does what a page says, in a folder of their own; a gateway runs until the next one does."""

    folder: Path
    stack: ExitStack = field(default_factory=ExitStack)
    url: str = ""
    promised: tuple[Step, Running] | None = None

    def write(self, block: Block) -> None:
        name = block.text.partition("\n")[0].removeprefix("# ")
        assert re.fullmatch(r"\w+\.(py|yaml)", name), f"{block}: its first line names no file"
        (self.folder / name).write_text(block.text, encoding="utf-8")

    def follow(self, step: Step) -> None:
        words = shlex.split(step.command)
        if "serve" in words:
            self.serve(step, words)
            return
        status, said = self.done(step, words)
        assert status == step.status, f"{step.command}\n{said}"
        assert agrees(step.output, said), f"{step.command}\n{said}"

    def done(self, step: Step, words: list[str]) -> tuple[int, str]:
        if words[0] == "curl":
            assert self.url, "no gateway has been started"
            return run(self.folder, step.command.replace(DOCUMENTED_URL, self.url))
        if words[0] == "python":
            assert words[1:3] == ["-m", "pytest"]
            return pytest_here(self.folder, words[3:])
        return run_llmgate(self.folder, step)

    def serve(self, step: Step, words: list[str]) -> None:
        self.stop()
        assert words[:2] == ["llmgate", "serve"]
        # A demo starts the simulator of every plugin that is installed; these pages are about one.
        others = {"LLMGATE_BLOCK_PLUGINS": ",".join(one.name for one in discover())}
        running = self.stack.enter_context(served(self.folder, words[2:], others))
        self.url = running.url
        self.promised = (step, running)

    def stop(self) -> None:
        """Ends the gateway; what it said is complete then."""
        self.stack.close()
        if self.promised is not None:
            step, running = self.promised
            self.promised = None
            assert agrees(step.output, running.output), f"{step.command}\n{running.output}"


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_the_guide_works(page: Path, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl on this machine")
    reader = Reader(tmp_path)
    with reader.stack:
        for block in in_order(page):
            if block.sort in FILES:
                reader.write(block)
                continue
            for step in session(block.text):
                reader.follow(step)
        reader.stop()


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_a_command_follows_every_file(page: Path) -> None:
    """What no command runs is not tried here."""
    sorts = [block.sort for block in in_order(page)]
    assert sorts[-1] == "console"
    for index, sort in enumerate(sorts):
        assert sort != "yaml" or sorts[index + 1] == "console"
    assert {"python", "console"} <= set(sorts)
