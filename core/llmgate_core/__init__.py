"""llmgate: one endpoint for language models, where every provider is a plugin.

The names in `__all__` are what plugin authors use; nothing else is public. They are imported when first asked for
(PEP 562), so that `import llmgate_core` costs nothing and imports no third-party library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .anthropic_compatible import AnthropicCompatible
    from .backoff import BackoffRules
    from .connectors import (
        PLUGIN_API,
        Connector,
        Frontend,
        HttpClient,
        HttpReply,
        Instance,
        ModelInfo,
        Policy,
        Preset,
        Simulator,
        SimulatorSetup,
        UpstreamCall,
        UpstreamReply,
        Verdict,
    )
    from .credential_files import ProcessLock, write_private_file
    from .credentials import ApiKey, Credential, CredentialProvider, CredentialStatus, LoginScreen, NoCredential
    from .device_flow import DeviceFlow, SlowDown, device_login
    from .dialects.chat import reported_error, upstream_error
    from .dialects.chat_chunks import ChatWriter
    from .errors import ConnectorError, GatewayError, Kind, RequestError
    from .hookspecs import hookimpl
    from .http_connector import HttpConnector
    from .mending import Mender
    from .model_facts import ModelFacts
    from .ndjson import json_lines
    from .openai_compatible import OpenAICompatible
    from .request import Attempt, GatewayRequest, Params, RequestRecord
    from .retry import NoRetry, RetryAfter, RetryPolicy
    from .selector import Leaf
    from .settings import Meta, MissingSecret, Secret
    from .wire import Body

_HOMES = {
    "PLUGIN_API": "connectors",
    "AnthropicCompatible": "anthropic_compatible",
    "ApiKey": "credentials",
    "Attempt": "request",
    "BackoffRules": "backoff",
    "Body": "wire",
    "ChatWriter": "dialects.chat_chunks",
    "Connector": "connectors",
    "ConnectorError": "errors",
    "Credential": "credentials",
    "CredentialProvider": "credentials",
    "CredentialStatus": "credentials",
    "DeviceFlow": "device_flow",
    "Frontend": "connectors",
    "GatewayError": "errors",
    "GatewayRequest": "request",
    "HttpClient": "connectors",
    "HttpConnector": "http_connector",
    "HttpReply": "connectors",
    "Instance": "connectors",
    "Kind": "errors",
    "Leaf": "selector",
    "LoginScreen": "credentials",
    "Mender": "mending",
    "Meta": "settings",
    "MissingSecret": "settings",
    "ModelFacts": "model_facts",
    "ModelInfo": "connectors",
    "NoCredential": "credentials",
    "NoRetry": "retry",
    "OpenAICompatible": "openai_compatible",
    "Params": "request",
    "Policy": "connectors",
    "Preset": "connectors",
    "ProcessLock": "credential_files",
    "RequestError": "errors",
    "RequestRecord": "request",
    "RetryAfter": "retry",
    "RetryPolicy": "retry",
    "Secret": "settings",
    "Simulator": "connectors",
    "SimulatorSetup": "connectors",
    "SlowDown": "device_flow",
    "UpstreamCall": "connectors",
    "UpstreamReply": "connectors",
    "Verdict": "connectors",
    "device_login": "device_flow",
    "hookimpl": "hookspecs",
    "json_lines": "ndjson",
    "reported_error": "dialects.chat",
    "upstream_error": "dialects.chat",
    "write_private_file": "credential_files",
}

__all__ = [
    "PLUGIN_API",
    "AnthropicCompatible",
    "ApiKey",
    "Attempt",
    "BackoffRules",
    "Body",
    "ChatWriter",
    "Connector",
    "ConnectorError",
    "Credential",
    "CredentialProvider",
    "CredentialStatus",
    "DeviceFlow",
    "Frontend",
    "GatewayError",
    "GatewayRequest",
    "HttpClient",
    "HttpConnector",
    "HttpReply",
    "Instance",
    "Kind",
    "Leaf",
    "LoginScreen",
    "Mender",
    "Meta",
    "MissingSecret",
    "ModelFacts",
    "ModelInfo",
    "NoCredential",
    "NoRetry",
    "OpenAICompatible",
    "Params",
    "Policy",
    "Preset",
    "ProcessLock",
    "RequestError",
    "RequestRecord",
    "RetryAfter",
    "RetryPolicy",
    "Secret",
    "Simulator",
    "SimulatorSetup",
    "SlowDown",
    "UpstreamCall",
    "UpstreamReply",
    "Verdict",
    "device_login",
    "hookimpl",
    "json_lines",
    "reported_error",
    "upstream_error",
    "write_private_file",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module `llmgate_core` has no attribute `{name}`")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
