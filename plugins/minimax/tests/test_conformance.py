"""MiniMax's connector keeps what every connector promises."""

from __future__ import annotations

from typing import ClassVar

from llmgate_core.testing import ConnectorSuite
from llmgate_minimax import MiniMax


class TestMiniMax(ConnectorSuite):
    connector = MiniMax
    environ: ClassVar[dict[str, str]] = {"MINIMAX_API_KEY": "a-key-for-the-suite"}
    model = "MiniMax-M3"
