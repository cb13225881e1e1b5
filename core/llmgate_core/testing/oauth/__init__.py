"""A strict OAuth 2.0 issuer for tests: device flow, refresh with rotation, bearer tokens, and a provider's habits.

Written from the RFCs alone. It shares no code with what talks to an issuer, here or in a plugin, so that neither can
hide the other's mistakes.
"""

from __future__ import annotations

from .issuer import OAuthTokens
from .rules import OAuthAnswer, OAuthRefused, OAuthRequest, OAuthRules
from .server import OAuthSimulator

__all__ = ["OAuthAnswer", "OAuthRefused", "OAuthRequest", "OAuthRules", "OAuthSimulator", "OAuthTokens"]
