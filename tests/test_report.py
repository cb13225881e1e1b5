"""What the terminal shows to somebody who has just started the gateway."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from llmgate_core.config import GatewayConfig
from llmgate_core.observe import Redactor
from llmgate_core.report import print_banner


@pytest.mark.parametrize(
    ("address", "told"),
    [
        (("127.0.0.1", 8000), "listens on http://127.0.0.1:8000 "),
        (("::1", 8000, 0, 0), "listens on http://[::1]:8000 "),
        (("0.0.0.0", 8000), "listens on all interfaces, port 8000; on this machine: http://127.0.0.1:8000 "),
        (("::", 8000, 0, 0), "listens on all interfaces, port 8000; on this machine: http://[::1]:8000 "),
    ],
)
def test_the_banner_says_who_can_reach_the_gateway(
    address: tuple[Any, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway = SimpleNamespace(backends=(), config=GatewayConfig(), redactor=Redactor())
    print_banner(cast("Any", gateway), address, ["curl {base}/v1/models"])
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"llmgate {told}")
    url = told.split()[-1]
    assert first.endswith(f"(OpenAI clients: base URL {url}/v1)")
    assert last == f"curl {url}/v1/models"
