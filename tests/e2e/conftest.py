"""A shell to run `llmgate` in, the simulated provider, and scripted upstreams: all real processes and sockets."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sysconfig
import threading
import time
import urllib.request
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from llmgate_core.testing import Script, ScriptedUpstream
from llmgate_minimax.simulator import MiniMaxSimulator
from llmgate_qwen_oauth.simulator import QwenSimulator

T = TypeVar("T")

LLMGATE = str(Path(sysconfig.get_path("scripts")) / "llmgate")
ADDRESS = re.compile(r"llmgate listens on (?:all interfaces, .* )?(http://\S+) ")
PATIENCE = 20.0
"""Seconds after which an event that was waited for is taken for one that will never come."""

SECRET_MARKS = ("simulated-access-", "simulated-refresh-", "simulated-device-", "sk-e2e-")
"""Every token and key of these tests holds one of these, so that a leak is found wherever it is printed."""

MISHAPS = ("Traceback (most recent call last)", "was never awaited", "was never retrieved", "Task was destroyed")


class Process:
    """A running `llmgate`, with everything that it has printed so far, both streams in one.

    Attributes:
        started: `time.monotonic()` just before it was spawned.
    """

    def __init__(self, arguments: tuple[str, ...], folder: Path, environ: Mapping[str, str]) -> None:
        self.started = time.monotonic()
        self._process = subprocess.Popen(
            [LLMGATE, *arguments],
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._output = ""
        self._ended = False
        self._deaf = threading.Event()
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                with self._news:
                    self._output += line.decode()
                    self._news.notify_all()
                if self._deaf.is_set():
                    break
        with self._news:
            self._ended = True
            self._news.notify_all()

    @property
    def output(self) -> str:
        with self._news:
            return self._output

    @property
    def url(self) -> str:
        """Where it listens; waits until it does."""
        return self.wait_for(ADDRESS)[1]

    def wait_for(self, pattern: str | re.Pattern[str], count: int = 1) -> re.Match[str]:
        """The `count`th match of `pattern` in what it prints."""
        compiled = re.compile(pattern)

        def found() -> list[re.Match[str]]:
            return list(compiled.finditer(self._output))

        with self._news:
            self._news.wait_for(lambda: len(found()) >= count or self._ended, PATIENCE)
            matches = found()
            assert len(matches) >= count, f"no `{compiled.pattern}` in:\n{self._output}"
        return matches[count - 1]

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def deafen(self) -> None:
        """Closes the reading end of its streams, once another line has come: that of one request."""
        self._deaf.set()
        urllib.request.urlopen(f"{self.url}/healthz", timeout=PATIENCE).close()
        urllib.request.urlopen(f"{self.url}/v1/models", timeout=PATIENCE).close()
        self._reader.join(PATIENCE)
        assert not self._reader.is_alive()

    def wait(self, seconds: float = PATIENCE) -> int:
        """Its exit status; fails when it has not ended within `seconds`."""
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {seconds} s:\n{self.output}")
        self._reader.join(PATIENCE)
        return status

    def kill(self) -> None:
        """Ends it at once, if it still runs."""
        self._process.kill()
        self.wait()


class Shell:
    """A folder, an environment without surprises, and the command `llmgate` in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("home", "tmp"):
            (folder / name).mkdir()
        self.environ = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "LANG": "C.UTF-8",
        }
        self._processes: list[Process] = []
        self._ended: list[subprocess.CompletedProcess[str]] = []

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def config(self, **sections: Any) -> str:
        """Writes a main file (JSON is YAML, too) that takes a free port; returns its path."""
        sections["server"] = {"port": 0, **sections.get("server", {})}
        return str(self.write("gateway.yaml", json.dumps(sections, indent=2)))

    def serve(self, *arguments: str, **environ: str) -> Process:
        """Spawns `llmgate serve`; `environ` comes on top of the shell's."""
        return self.spawn("serve", *arguments, **environ)

    def spawn(self, *arguments: str, **environ: str) -> Process:
        """Spawns any `llmgate` that has to be talked to while it runs."""
        process = Process(arguments, self.folder, {**self.environ, **environ})
        self._processes.append(process)
        return process

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Runs `llmgate` to its end."""
        ended = subprocess.run(
            [LLMGATE, *arguments],
            cwd=self.folder,
            env={**self.environ, **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        self._ended.append(ended)
        return ended

    def close(self) -> None:
        """Ends what still runs. Nothing that was printed holds a secret or tells of a mishap."""
        for process in self._processes:
            process.kill()
        printed = [process.output for process in self._processes]
        printed += [ended.stdout + ended.stderr for ended in self._ended]
        for output in printed:
            for mark in SECRET_MARKS:
                assert mark not in output, f"a secret was printed:\n{output}"
            for mishap in MISHAPS:
                assert mishap not in output, output


class Portal:
    """The simulated Qwen portal, running in a thread of its own, and a credential file.

    Attributes:
        path: the credential file.
        extra: settings with which qwen-oauth reaches it, the switch thrown.
    """

    def __init__(self, simulator: QwenSimulator, path: Path, extra: Mapping[str, Any]) -> None:
        self.simulator = simulator
        self.path = path
        self.extra = dict(extra)

    def log_in(self, *, expired: bool = False) -> None:
        """A new login, as the Qwen CLI would leave it behind."""
        self.simulator.write_credentials(self.path, expired=expired)

    def stored(self) -> dict[str, Any]:
        """What the credential file holds."""
        content: dict[str, Any] = json.loads(self.path.read_text())
        return content

    def edit(self, **fields: Any) -> None:
        """Changes members of the credential file in one step."""
        new = self.path.with_name("edited")
        new.touch(mode=0o600)
        new.write_text(json.dumps(self.stored() | fields))
        new.replace(self.path)

    def reset(self) -> None:
        """As good as new, with a token that is alive and an hour old: a new one that is refused means a dead tier."""
        self.simulator.token_seconds = 3600.0
        self.simulator.refresh_delay = self.simulator.chunk_pause = 0.0
        self.simulator.dead_tier = False
        self.log_in()
        an_hour_ago = time.time() - 3600
        os.utime(self.path, (an_hour_ago, an_hour_ago))

    @contextmanager
    def counted(self, *, refreshes: int) -> Iterator[None]:
        """The block makes the gateway call the token endpoint exactly `refreshes` times."""
        before = self.simulator.token_requests
        yield
        assert self.simulator.token_requests - before == refreshes


@contextmanager
def open_shell(folder: Path) -> Iterator[Shell]:
    opened = Shell(folder)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def open_portal(folder: Path) -> Iterator[Portal]:
    simulator = QwenSimulator()
    with loop_in_thread() as run:
        setup = run(simulator.start(folder))
        opened = Portal(simulator, folder / "oauth_creds.json", setup.extra)
        opened.reset()
        yield opened
        run(simulator.aclose())


@contextmanager
def loop_in_thread() -> Iterator[Callable[[Coroutine[Any, Any, T]], T]]:
    """Runs coroutines on a loop in a thread of its own."""
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        try:
            yield lambda job: asyncio.run_coroutine_threadsafe(job, loop).result(PATIENCE)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(PATIENCE)


@contextmanager
def open_minimax(folder: Path) -> Iterator[tuple[MiniMaxSimulator, dict[str, Any]]]:
    """MiniMax's simulator, and the settings with which the plugin reaches it."""
    simulator = MiniMaxSimulator()
    with loop_in_thread() as run:
        setup = run(simulator.start(folder))
        yield simulator, dict(setup.extra)
        run(simulator.aclose())


OpenUpstream = Callable[[Script], ScriptedUpstream]


@pytest.fixture(autouse=True, scope="module")
def _direct() -> Iterator[None]:
    """Clients in this process go straight to loopback, whatever the developer's environment says."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            patch.delenv(name, raising=False)
            patch.delenv(name.upper(), raising=False)
        yield


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with open_shell(tmp_path) as opened:
        yield opened


@pytest.fixture(scope="module")
def module_shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """For a module whose tests share one gateway."""
    with open_shell(tmp_path_factory.mktemp("shell")) as opened:
        yield opened


@pytest.fixture(scope="module")
def module_portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    with open_portal(tmp_path_factory.mktemp("portal")) as opened:
        yield opened


@pytest.fixture
def portal(module_portal: Portal) -> Portal:
    """The module's portal, as good as new."""
    module_portal.reset()
    return module_portal


@pytest.fixture
def upstream() -> Iterator[OpenUpstream]:
    """Opens scripted upstreams that last until the end of the test."""
    with ExitStack() as stack:
        yield lambda script: stack.enter_context(ScriptedUpstream.in_thread(script))
