"""Tries a package's connectors in a process of its own, for `llmgate plugin test`.

What plugin code writes to standard output must not get into a report, code that blocks cannot be ended, and
`os._exit()` ends whatever it is in. So the child does what plugin code can spoil, and says what came of it, a line of
JSON each, by what was its standard output; plugin code finds standard error there instead.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from ..errors import GatewayError, PluginError

if TYPE_CHECKING:
    from ..testing.suite.outcomes import Outcome

Row = Mapping[str, Any]

PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.readline()); "
    "from llmgate_core.cli.plugin_trial import main; main()"
)
"""What the child runs; it finds modules where its parent does."""
ENDED_ADVICE = "raise an exception instead; only who started the gateway may end it"


class Trial:
    """The parent's side: `with Trial(job) as trial: for suite, rows in trial.suites(): ...`.

    Args:
        job: `package`, `extra`, `environ` and `model`, as the command line says them.

    Attributes:
        origin: where the package comes from, in words; known as soon as there is a suite.
    """

    def __init__(self, job: Mapping[str, Any]) -> None:
        self.origin = ""
        self._job = job
        self._trying: Row = {}

    def __enter__(self) -> Self:
        call = [sys.executable, "-P", "-c", PROGRAM]
        pipe = subprocess.PIPE
        # A child that ends in the middle leaves its folders behind; all of them are in this one.
        self._folder = tempfile.TemporaryDirectory(prefix="llmgate-plugin-test-", ignore_cleanup_errors=True)
        environ = {**os.environ, "TMPDIR": self._folder.name, "TEMP": self._folder.name, "TMP": self._folder.name}
        self._child = subprocess.Popen(  # noqa: S603 - a list, ours
            call, stdin=pipe, stdout=pipe, encoding="utf-8", env=environ
        )
        self._said = self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        with self._child:  # closes the pipes, and waits
            pass
        self._folder.cleanup()

    def suites(self) -> Iterator[tuple[Mapping[str, Any], Iterator[Row]]]:
        """Connector and suite, with one row a promise as soon as it was tried; read the rows before the next suite.

        Raises:
            PluginError: nothing can be tried.
        """
        for said in self._said:
            self.origin = said.get("origin", self.origin)
            if "refused" in said:
                raise PluginError(said["refused"])
            if "suite" in said:
                yield said["suite"], self._rows()
            if "end" in said:
                return
        if not self._trying:
            raise PluginError(f"`{self._job['package']}` has ended the process, with {self._how()}, as it was loaded")

    def _rows(self) -> Iterator[Row]:
        for said in self._said:
            if "tried" in said:
                return
            self._trying = said.get("trying", self._trying)
            if "row" in said:
                yield said["row"]
        if self._trying:
            told = f"a connector must not end the process, and it has ended with {self._how()} while this was tried. "
            told += "The promises after this one were not tried"
            yield {**self._trying, "broken": told, "advice": ENDED_ADVICE, "verdict": "broken"}

    def _listen(self) -> Iterator[dict[str, Any]]:
        assert self._child.stdin and self._child.stdout  # noqa: S101, PT018 - both are pipes
        with contextlib.suppress(BrokenPipeError):  # how it has ended is told below
            self._child.stdin.write(f"{json.dumps(sys.path)}\n{json.dumps(self._job)}\n")
            self._child.stdin.close()
        for line in self._child.stdout:
            if line.endswith("\n"):  # else it ended in the middle of it
                yield json.loads(line)

    def _how(self) -> str:
        status = self._child.wait()
        return f"status {status}" if status >= 0 else f"signal {-status}"


def main() -> None:
    """The child's side; it ends here, whatever plugin code has left running."""
    job, kept = json.loads(sys.stdin.readline()), os.dup(1)
    os.dup2(2, 1)

    def say(**told: Any) -> None:
        text = f"{json.dumps(told, default=str)}\n".encode()
        while text:
            text = text[os.write(kept, text) :]

    status = 0
    try:
        _try(job, say)
    except GatewayError as error:
        say(refused=str(error))
    except KeyboardInterrupt:
        status = 130
    finally:
        if sys.exc_info()[0] is None:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            os._exit(status)


def _try(job: Mapping[str, Any], say: Callable[..., None]) -> None:
    from ..testing.suite.outcomes import Setup, outcomes, set_up
    from .plugin_target import find

    with find(job["package"]) as target:
        say(origin=target.origin)
        for suite in (*target.own, *target.bare):
            named = None if suite in target.bare else suite.__name__
            say(suite={"connector": suite.connector.name, "suite": named})
            tried = set_up(suite, Setup(job["extra"], job["environ"], job["model"]))
            for outcome in outcomes(tried, begun=lambda begun: say(trying=row_of(begun))):
                say(row=row_of(outcome))
            say(tried=True)
        say(end=True)


def row_of(outcome: Outcome) -> Row:
    """One promise, as the report has it."""
    return {**dataclasses.asdict(outcome), "verdict": "broken" if outcome.broken else "kept"}
