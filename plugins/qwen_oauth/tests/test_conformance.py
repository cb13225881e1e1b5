"""The connector keeps every promise of the contract, before the suite's own upstream."""

from __future__ import annotations

from llmgate_qwen_oauth.conformance import TestQwenOAuth

__all__ = ["TestQwenOAuth"]
