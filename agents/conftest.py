"""A gateway as an operator starts it, an upstream behind it, and an agent set up with what `llmgate connect` prints."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import Process, Shell, open_shell

from llmgate_core.testing import Script, ScriptedUpstream

from . import errand, headless, install
from .headless import Ended
from .upstreams import MODEL

KEY = "sk-e2e-of-the-agent"
CONTEXT, OUTPUT = 131_072, 8_192
"""What is known of the model, so that `connect` prints each agent's setting for it."""


@pytest.fixture(scope="session", autouse=True)
def _installed() -> None:
    """Skips everything where the agents are not there."""
    if (fault := install.node_fault()) is not None:
        pytest.skip(fault)
    if lacking := install.missing():
        pytest.skip(f"{', '.join(lacking)} not installed; `make agents` does it")


@dataclass
class Desk:
    """One test's folders and processes.

    Attributes:
        file: what the agent is asked to create.
        process: the gateway, once it runs.
    """

    shell: Shell
    project: Path
    upstreams: ExitStack
    process: Process | None = None

    @property
    def file(self) -> Path:
        return self.project / errand.FILE

    def start(self, connector: str, script: Script) -> None:
        """Starts an upstream, and a gateway with two backends that reach it, `local` and `spare`."""
        upstream = self.upstreams.enter_context(ScriptedUpstream.in_thread(script))
        base = f"{upstream.url}/v1" if connector == "openai-compatible" else upstream.url
        extra = {"base_url": base, "api_key": None, "models": [MODEL]}
        facts = {MODEL: {"context": CONTEXT, "max_output": OUTPUT}}
        backend = {"type": connector, "extra": extra, "model_facts": facts}
        self.serve(backends={"local": backend, "spare": backend}, auth={"api_keys": ["env:GATE_KEY"]})

    def serve(self, **sections: Any) -> None:
        """Starts a gateway; the variable GATE_KEY holds its key."""
        self.process = self.shell.serve("--config", self.shell.config(**sections), GATE_KEY=KEY)

    def printed(self, agent: str, *options: str) -> list[Mapping[str, str]]:
        """What `llmgate connect` prints."""
        assert self.process
        command = ("connect", agent, "--url", self.process.url, "--no-test", "--json", *options)
        asked = self.shell.run(*command, LLMGATE_API_KEYS=KEY)
        assert asked.returncode == 0, asked.stderr
        lines: list[Mapping[str, str]] = json.loads(asked.stdout)["lines"]
        return lines

    def run(self, agent: str, *options: str, key: str = KEY) -> Ended:
        """The agent does its errand, set up with what `llmgate connect` prints with these options."""
        return headless.run(agent, self.printed(agent, *options), self.project, key, errand.PROMPT)

    def statuses(self) -> list[int]:
        """What the gateway has answered to requests of a conversation, in order."""
        assert self.process
        return [int(status) for status in re.findall(r"method=POST .*? status=(\d+)", self.process.output)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with open_shell(tmp_path) as shell, ExitStack() as upstreams:
        yield Desk(shell, tmp_path / "project", upstreams)
