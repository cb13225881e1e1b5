"""The pytest plugin of llmgate-core: the fixture `llmgate_gateway`.

It is loaded in every environment that has llmgate-core, so it imports nothing but pytest until the fixture is asked
for, and everything that it defines for pytest is called `llmgate_...`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import pytest

if TYPE_CHECKING:
    from ..connectors import Connector
    from .gateway import GatewayFactory, GatewayInThread, GatewayOptions
    from .scripted import Script


@pytest.fixture
def llmgate_gateway(tmp_path: Path) -> Iterator[GatewayFactory]:
    """Starts gateways around a connector: `llmgate_gateway(Acme, script)`; see `llmgate_core.testing.LoopbackGateway`.

    Each has a thread of its own, so that it serves a test that blocks as well as one with a loop. When the test ends
    they are closed, and what a script raised is raised.
    """
    from .gateway import LoopbackGateway

    with ExitStack() as running:

        def start(
            connector: type[Connector] | str,
            upstream: Script | str | None = None,
            **options: Unpack[GatewayOptions],
        ) -> GatewayInThread:
            chosen: GatewayOptions = {"home": tmp_path, **options}
            return running.enter_context(LoopbackGateway.in_thread(connector, upstream, **chosen))

        yield start
