"""A strict stand-in for the Qwen portal and its OAuth issuer, for `llmgate serve --demo` and for tests.

Written from the published protocol alone, sharing no code with the connector, so that neither can hide the
other's mistakes. The issuer is the test kit's, with the provider's rules.
"""

from __future__ import annotations

from .server import QwenSimulator

__all__ = ["QwenSimulator"]
