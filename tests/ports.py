"""Ports for tests of what nobody answers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def closed_port() -> Iterator[int]:
    """A port of the loopback interface that refuses connections as long as the block lasts.

    It is bound, and not listened on: one that is only free may be somebody else's before the test comes to it.
    """
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]
