"""The connector that llmgate brings itself keeps every promise that it asks of others."""

from __future__ import annotations

from typing import Any, ClassVar

from llmgate_core.builtin import OpenAICompatibleConnector
from llmgate_core.testing import ConnectorSuite


class TestWithKey(ConnectorSuite):
    connector = OpenAICompatibleConnector
    extra: ClassVar[dict[str, Any]] = {"api_key": "env:CONFORMANCE_KEY"}
    environ: ClassVar[dict[str, str]] = {"CONFORMANCE_KEY": "sk-conformance-0123456789"}


class TestWithoutKey(ConnectorSuite):
    connector = OpenAICompatibleConnector
    extra: ClassVar[dict[str, Any]] = {"models": ["conformance-model"]}
