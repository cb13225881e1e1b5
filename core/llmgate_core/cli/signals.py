"""What signals tell a gateway that serves, and its end, which comes also where code of plugins stands in the way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import click

from . import EXIT_FAILED

CLOSING_SECONDS = 40.0
"""What may come after running requests: a refresh that is under way, connectors that close."""


class Told:
    """What signals tell the gateway; to be made in the running loop.

    Attributes:
        stop: SIGTERM or SIGINT has come; the second one ends the process.
        reload: SIGHUP has come, where there is one, and nobody has heeded it yet.
        grace: seconds that running requests may take to end.
    """

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.reload = asyncio.Event()
        self.grace: Callable[[], float] = lambda: 0.0
        self._loop = asyncio.get_running_loop()
        self._is_ending = False

    def heed_stop(self) -> None:
        """From now on SIGTERM and SIGINT do not end the process by themselves.

        They are heeded at once, and not by the loop: code that blocks it must not keep a second one from its work.
        """
        signal.signal(signal.SIGTERM, self._signalled)
        signal.signal(signal.SIGINT, self._signalled)

    def heed_hang_up(self) -> None:
        """From now on SIGHUP does not end the process by itself. Does nothing where there is no such signal."""
        if sys.platform != "win32":
            # Who ignores it (`nohup`) means to outlive the terminal.
            had_terminal = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and has_terminal()
            self._loop.add_signal_handler(signal.SIGHUP, self._hung_up, had_terminal)

    def _signalled(self, *_: Any) -> None:
        if self._is_ending:
            say_last("stopped at once")
        self._begin_to_end()
        self._loop.call_soon_threadsafe(self._stop)

    def _begin_to_end(self) -> None:
        self._is_ending = True
        end_within(self.grace() + CLOSING_SECONDS)

    def _stop(self) -> None:
        self.stop.set()
        say("finishing running requests; again to stop at once")

    def _hung_up(self, had_terminal: bool) -> None:
        # It is also what the kernel sends to those whose terminal has been closed: nobody asks for a reload then, and
        # a gateway that nobody sees any more must not keep the port.
        if had_terminal and not has_terminal():
            self._begin_to_end()
            self.stop.set()
        else:
            self.reload.set()


def has_terminal() -> bool:
    """Whether this process has a controlling terminal that is still open."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def say(words: str) -> None:
    """A line on standard error, if somebody reads it."""
    with contextlib.suppress(OSError):
        click.echo(f"llmgate: {words}", err=True)


def say_last(words: str) -> None:
    """The same, and the end of the process. Past Python's own streams, which whoever was interrupted may be using."""
    with contextlib.suppress(OSError):
        os.write(2, f"llmgate: {words}\n".encode(errors="replace"))
    os._exit(EXIT_FAILED)


def end_within(seconds: float) -> None:
    """Ends the process if it has not ended by itself then: code of plugins may hold it, which nothing else ends."""

    def end() -> None:
        say_last(f"ended at once, as code of a plugin keeps the process from its end: {'; '.join(holders())}")

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def holders() -> list[str]:
    """What the interpreter waits for, as far as that can be seen from outside."""
    from ..stalls import look_at, standing

    main = threading.main_thread()
    seen = look_at(sys._current_frames().get(main.ident or 0))
    others = [one for one in threading.enumerate() if not one.daemon and one is not main]
    others = [one for one in others if "_do_shutdown" not in one.name]  # the loop's own, which waits for the others
    told = [str(seen)] * (seen is not None)
    for one in others:
        seen_there = standing(one.ident or 0, "")
        told.append(f"thread {one.name}" + (f" at {seen_there.where}" if seen_there else ""))
    return told or ["a task that goes on although it was cancelled"]
