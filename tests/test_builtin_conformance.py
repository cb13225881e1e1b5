"""The connectors that llmgate brings itself keep every promise that it asks of others."""

from __future__ import annotations

from typing import Any, ClassVar

from llmgate_core.builtin import AnthropicCompatibleConnector, OpenAICompatibleConnector
from llmgate_core.testing import ConnectorSuite


class TestWithKey(ConnectorSuite):
    connector = OpenAICompatibleConnector
    extra: ClassVar[dict[str, Any]] = {"api_key": "env:CONFORMANCE_KEY"}
    environ: ClassVar[dict[str, str]] = {"CONFORMANCE_KEY": "sk-conformance-0123456789"}


class TestWithoutKey(ConnectorSuite):
    connector = OpenAICompatibleConnector
    extra: ClassVar[dict[str, Any]] = {"models": ["conformance-model"]}


class TestWithResponses(ConnectorSuite):
    connector = OpenAICompatibleConnector
    extra: ClassVar[dict[str, Any]] = {"models": ["conformance-model"], "responses": True}


class TestMessagesWithKey(ConnectorSuite):
    connector = AnthropicCompatibleConnector
    extra: ClassVar[dict[str, Any]] = {"api_key": "env:CONFORMANCE_KEY", "headers": {"x-own": "yes"}}
    environ: ClassVar[dict[str, str]] = {"CONFORMANCE_KEY": "sk-conformance-0123456789"}


class TestMessagesWithBearer(ConnectorSuite):
    connector = AnthropicCompatibleConnector
    extra: ClassVar[dict[str, Any]] = {"api_key": "env:CONFORMANCE_KEY", "auth": "bearer", "models": ["m"]}
    environ: ClassVar[dict[str, str]] = {"CONFORMANCE_KEY": "sk-conformance-0123456789"}
