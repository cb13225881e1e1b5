"""What the conformance suite must know of this connector; `llmgate plugin test qwen-oauth` finds it here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from llmgate_core.testing import ConnectorSuite

from . import QwenOAuth

TOKEN = "conformance-access-token-0123456789"


class TestQwenOAuth(ConnectorSuite):
    """It wants its switch, and a credential file with a token that lasts."""

    connector = QwenOAuth
    extra: ClassVar[dict[str, Any]] = {"enable_qwen_oauth_backend_debugging_override": True}

    def settings_for(self, url: str, folder: Path) -> Mapping[str, Any]:
        stored = {
            "access_token": TOKEN,
            "refresh_token": "conformance-refresh-token-0123456789",
            "expiry_date": int((self.now + 3600) * 1000),
        }
        path = folder / "oauth_creds.json"
        path.write_text(json.dumps(stored), encoding="utf-8")
        return {**self.extra, "base_url": url, "oauth_base_url": url, "credentials_path": str(path)}
