"""Plugins that stand in the way of a gateway's end, or that would end it: real processes, real signals."""

from __future__ import annotations

import json
import signal
import textwrap
import threading
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import OpenUpstream, Process, Shell

    from llmgate_core.testing import Exchange

PLUGIN = """
import asyncio, sys, threading, time
from dataclasses import dataclass
from llmgate_core import OpenAICompatible, hookimpl

LLMGATE_PLUGIN_API = 1


@dataclass(frozen=True)
class Settings:
    base_url: str


class Bad(OpenAICompatible):
    name = "bad"
    settings: Settings

    async def send(self, call):
        {line}
        return await super().send(call)


@hookimpl
def llmgate_register_connectors():
    return Bad
"""


async def fine(exchange: Exchange) -> None:
    message = {"role": "assistant", "content": "hi"}
    await exchange.reply(200, {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})


def serve(shell: Shell, url: str, line: str) -> Process:
    file = shell.write("bad.py", textwrap.dedent(PLUGIN).replace("{line}", line))
    extra = {"base_url": f"{url}/v1"}
    backends = {"bad": {"extra": extra}, "good": {"type": "openai-compatible", "extra": extra}}
    config = shell.config(server={"shutdown_grace_seconds": 0}, backends=backends)
    return shell.serve("--config", config, "--plugin", str(file))


def ask(process: Process, model: str, seconds: float = 10) -> Any:
    """The answer; None where there is none that can be read."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]}).encode()
    request = urllib.request.Request(
        f"{process.url}/v1/chat/completions", body, {"content-type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=seconds) as reply:
            return json.loads(reply.read())
    except (OSError, ValueError):
        return None


def ask_aside(process: Process, model: str) -> None:
    threading.Thread(target=ask, args=(process, model, 60), daemon=True).start()


def test_what_ends_the_loop_all_the_same_is_told_with_its_place(shell: Shell, upstream: OpenUpstream) -> None:
    process = serve(shell, upstream(fine).url, "asyncio.get_running_loop().call_soon(lambda: sys.exit(3))")
    ask(process, "bad:m")
    assert process.wait() == 1
    assert "llmgate: the event loop was ended by `SystemExit`" in process.output
    assert "bad.py:" in process.output


def test_a_second_signal_is_heeded_while_the_loop_is_blocked(shell: Shell, upstream: OpenUpstream) -> None:
    process = serve(shell, upstream(fine).url, "time.sleep(100)")
    ask_aside(process, "bad:m")
    process.wait_for("the event loop is blocked by connector `bad`")
    process.signal(signal.SIGTERM)
    time.sleep(0.3)  # or the two would be one
    process.signal(signal.SIGTERM)
    assert process.wait(3) == 1
    assert "llmgate: stopped at once" in process.output


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("await asyncio.to_thread(time.sleep, 100)", "from its end: thread "),
        ("threading.Thread(target=lambda: time.sleep(100)).start()", "bad.py:19 in `<lambda>`"),
    ],
    ids=["to_thread", "thread"],
)
def test_a_thread_that_does_not_come_back_is_left(shell: Shell, upstream: OpenUpstream, line: str, told: str) -> None:
    process = serve(shell, upstream(fine).url, line)
    ask_aside(process, "bad:m")
    assert ask(process, "good:m")["choices"]
    process.signal(signal.SIGTERM)
    assert process.wait(20) == 1
    assert told in process.output
