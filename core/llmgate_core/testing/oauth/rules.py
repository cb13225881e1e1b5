"""What one OAuth provider demands of its clients and how it answers them, as a value; the defaults are the RFCs'.

Sources: RFC 6749 (OAuth 2.0), RFC 6750 (bearer tokens), RFC 7636 (PKCE), RFC 8628 (device flow), RFC 9700 (best
practice).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
"""RFC 8628, section 3.4."""


@dataclass(frozen=True)
class OAuthAnswer:
    """How a refusal is answered: `OAuthAnswer(429, "slow_down")`.

    Args:
        status: the HTTP status.
        error: the member `error` of the body (RFC 6749, section 5.2).
        description: the member `error_description`; None tells the client what the simulator knows, in words.
    """

    status: int
    error: str
    description: str | None = None

    def body(self, reason: str) -> dict[str, Any]:
        """The JSON object that is answered, for a reason in words."""
        return {"error": self.error, "error_description": reason if self.description is None else self.description}


class OAuthRefused(Exception):  # noqa: N818 - it is an answer, not a fault
    """The provider would refuse this.

    Args:
        answer: what the client is told.
        reason: why, in words, for whoever debugs a test; the provider itself is often less helpful.
    """

    def __init__(self, answer: OAuthAnswer, reason: str) -> None:
        super().__init__(f"{answer.error}: {reason}")
        self.answer = answer
        self.reason = reason


@dataclass(frozen=True)
class OAuthRequest:
    """What a client asked for, for rules that shape the answer to it.

    Args:
        form: the fields of its body; none where the body was no form.
        url: the simulator's own base URL.
    """

    form: Mapping[str, str]
    url: str


Reshape = Callable[[dict[str, Any], OAuthRequest], dict[str, Any]]
"""Makes the provider's reply of the RFCs' one; it may change what it is given."""


def _as_it_is(reply: dict[str, Any], asked: OAuthRequest) -> dict[str, Any]:
    return reply


@dataclass(frozen=True)
class OAuthRules:
    """One provider: `OAuthRules("acme-cli", slow_down=OAuthAnswer(429, "slow_down"))`.

    Of the RFCs' optional demands the strict side is the default, so that a client has to be told to be lax.

    Args:
        client_id: the only client that is known; it is a public one, there is no secret to it.
        scope: the scopes that there are, with spaces between. A device must ask for some of them and for nothing
            else; None takes any scope, or none.
        pkce: whether a device must send a challenge (S256). Where it need not and does, its verifier is checked.

        device_path, token_path, page_path: where the endpoints and the page behind the login link are.
        device_grant: the `grant_type` of a poll.
        poll_field: which of the two codes a poll presents, and in which field.

        tell_interval: whether the device reply has `interval`.
        poll_seconds: a device that polls sooner than this after its last poll is told to slow down.
        slow_down_seconds: how much longer a device has to wait each time that it was told so (RFC 8628, 3.5).
        device_seconds, token_seconds: how long device codes and access tokens live that are issued from now on.
        reuse_ends_grant: whether a spent refresh token that comes again ends its successor too (RFC 9700, 4.14.2).

        malformed: no form, a repeated field, a challenge that is missing or not S256.
        wrong_client, wrong_client_on_refresh: `client_id` is missing or another.
        wrong_scope: see `scope`; also a refresh that asks for more than was granted.
        wrong_grant: `grant_type` is missing or unknown.
        wrong_verifier: `code_verifier` is missing, or does not fit the challenge. Told while the user is still
            thinking, too, so that this mistake shows at once.
        unknown_device: no such device code, or one that has been used.
        expired_device, slow_down, denied, pending: a device code in one of these states, the first that holds.
        dead_refresh: a refresh token that is unknown, spent or revoked.
        dead_access: an access token that is unknown, expired or revoked; from the API (RFC 6750, 3.1).

        device_reply, token_reply, refusal_reply: what the provider's replies look like: gets the RFCs' reply and
            the request, returns the provider's. For further fields (`resource_url`), other names and other units.

    Raises:
        ValueError: the three paths are not three paths, or `scope` names none.
    """

    client_id: str
    scope: str | None = None
    pkce: bool = True

    device_path: str = "/device_authorization"
    token_path: str = "/token"  # noqa: S105 - an address
    page_path: str = "/device"
    device_grant: str = DEVICE_GRANT
    poll_field: Literal["device_code", "user_code"] = "device_code"

    tell_interval: bool = True
    poll_seconds: float = 5.0
    slow_down_seconds: float = 5.0
    device_seconds: float = 900.0
    token_seconds: float = 3600.0
    reuse_ends_grant: bool = False

    malformed: OAuthAnswer = OAuthAnswer(400, "invalid_request")
    wrong_client: OAuthAnswer = OAuthAnswer(400, "invalid_client")
    wrong_client_on_refresh: OAuthAnswer = OAuthAnswer(400, "invalid_client")
    wrong_scope: OAuthAnswer = OAuthAnswer(400, "invalid_scope")
    wrong_grant: OAuthAnswer = OAuthAnswer(400, "unsupported_grant_type")
    wrong_verifier: OAuthAnswer = OAuthAnswer(400, "invalid_grant")
    unknown_device: OAuthAnswer = OAuthAnswer(400, "invalid_grant")
    expired_device: OAuthAnswer = OAuthAnswer(400, "expired_token")
    slow_down: OAuthAnswer = OAuthAnswer(400, "slow_down")
    denied: OAuthAnswer = OAuthAnswer(400, "access_denied")
    pending: OAuthAnswer = OAuthAnswer(400, "authorization_pending")
    dead_refresh: OAuthAnswer = OAuthAnswer(400, "invalid_grant")
    dead_access: OAuthAnswer = OAuthAnswer(401, "invalid_token")

    device_reply: Reshape = _as_it_is
    token_reply: Reshape = _as_it_is
    refusal_reply: Reshape = _as_it_is

    def __post_init__(self) -> None:
        paths = {self.device_path, self.token_path, self.page_path}
        if len(paths) != 3 or not all(path.startswith("/") for path in paths):
            raise ValueError("`device_path`, `token_path` and `page_path` must be three paths that begin with `/`")
        if self.scope is not None and not self.scope.split():
            raise ValueError("`scope` must name a scope; write None where a device need not ask for any")
