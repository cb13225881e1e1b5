"""MiniMax's connector keeps what every connector promises."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from llmgate_core.testing import ConnectorSuite
from llmgate_minimax import MiniMax


class TestMiniMax(ConnectorSuite):
    connector = MiniMax
    environ: ClassVar[dict[str, str]] = {"MINIMAX_API_KEY": "a-key-for-the-suite"}
    model = "MiniMax-M3"

    def settings_for(self, url: str, folder: Path) -> Mapping[str, Any]:
        """Both APIs are at the suite's upstream."""
        return {"base_url": url, "messages_base_url": url}


class TestMiniMaxAtOneAddress(ConnectorSuite):
    connector = MiniMax
    environ: ClassVar[dict[str, str]] = {"MINIMAX_API_KEY": "a-key-for-the-suite"}
    model = "MiniMax-M2.7"
