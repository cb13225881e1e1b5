"""What the provider's OAuth issuer demands, and where it strays from the RFCs."""

from __future__ import annotations

from typing import Any

from llmgate_core.testing import OAuthAnswer, OAuthRequest, OAuthRules


def _with_client_name(reply: dict[str, Any], asked: OAuthRequest) -> dict[str, Any]:
    return {**reply, "verification_uri_complete": f"{reply['verification_uri_complete']}&client=qwen-code"}


def _with_api_address(reply: dict[str, Any], asked: OAuthRequest) -> dict[str, Any]:
    return {**reply, "resource_url": asked.url}


RULES = OAuthRules(
    client_id="f0304373b74a44d2b584a3fb70ca9e56",
    scope="openid profile email model.completion",
    device_path="/api/v1/oauth2/device/code",
    token_path="/api/v1/oauth2/token",  # noqa: S106 - an address
    page_path="/authorize",
    tell_interval=False,
    poll_seconds=0.0,  # the provider publishes none
    slow_down_seconds=0.0,
    # A dead refresh token is not `invalid_grant`, and cannot be told from a wrong client.
    dead_refresh=OAuthAnswer(400, "invalid_request", "Invalid refresh token or client_id"),
    wrong_client_on_refresh=OAuthAnswer(400, "invalid_request", "Invalid refresh token or client_id"),
    wrong_verifier=OAuthAnswer(400, "invalid_request"),
    unknown_device=OAuthAnswer(401, "invalid_request"),
    expired_device=OAuthAnswer(401, "expired_token"),
    slow_down=OAuthAnswer(429, "slow_down"),
    device_reply=_with_client_name,
    token_reply=_with_api_address,
)
