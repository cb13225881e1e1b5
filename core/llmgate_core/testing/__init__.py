"""What a connector's author tests with: the conformance suite, servers on real loopback sockets, a whole gateway.

The names resolve lazily (PEP 562), so importing this package imports no third-party library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import http_client
    from .gateway import GatewayAnswer, GatewayFactory, GatewayInThread, GatewayOptions, LoopbackGateway
    from .loopback import LoopbackServer
    from .oauth import OAuthAnswer, OAuthRefused, OAuthRequest, OAuthRules, OAuthSimulator, OAuthTokens
    from .scripted import Exchange, ReceivedRequest, Script, ScriptedUpstream
    from .suite import ConnectorSuite
    from .suite.instruments import Speech

_HOMES = {
    "ConnectorSuite": "suite",
    "Exchange": "scripted",
    "GatewayAnswer": "gateway",
    "GatewayFactory": "gateway",
    "GatewayInThread": "gateway",
    "GatewayOptions": "gateway",
    "LoopbackGateway": "gateway",
    "LoopbackServer": "loopback",
    "OAuthAnswer": "oauth",
    "OAuthRefused": "oauth",
    "OAuthRequest": "oauth",
    "OAuthRules": "oauth",
    "OAuthSimulator": "oauth",
    "OAuthTokens": "oauth",
    "ReceivedRequest": "scripted",
    "Script": "scripted",
    "ScriptedUpstream": "scripted",
    "Speech": "suite.instruments",
    "http_client": "client",
}

__all__ = [
    "ConnectorSuite",
    "Exchange",
    "GatewayAnswer",
    "GatewayFactory",
    "GatewayInThread",
    "GatewayOptions",
    "LoopbackGateway",
    "LoopbackServer",
    "OAuthAnswer",
    "OAuthRefused",
    "OAuthRequest",
    "OAuthRules",
    "OAuthSimulator",
    "OAuthTokens",
    "ReceivedRequest",
    "Script",
    "ScriptedUpstream",
    "Speech",
    "http_client",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
