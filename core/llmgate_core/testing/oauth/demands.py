"""What is demanded of a client's form, whoever the provider is. Pure: a form passes, or OAuthRefused is raised."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection, Mapping
from urllib.parse import parse_qsl

from .rules import OAuthAnswer, OAuthRefused, OAuthRules

FORM = "application/x-www-form-urlencoded"

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")  # base64url of a SHA-256, without padding
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")  # RFC 7636, section 4.1


def read_form(content_type: str, raw: bytes, rules: OAuthRules) -> dict[str, str]:
    """The fields of a form body (RFC 6749, appendix B).

    Raises:
        OAuthRefused: another content type, JSON above all; not a form; a field that is repeated (section 3.2).
    """
    if content_type.partition(";")[0].strip().lower() != FORM:
        raise OAuthRefused(rules.malformed, f"The body must be {FORM}.")
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, strict_parsing=True)
    except ValueError:
        raise OAuthRefused(rules.malformed, "The form is malformed.") from None
    if len(dict(pairs)) != len(pairs):
        raise OAuthRefused(rules.malformed, "A form field is repeated.")
    return {name: value for name, value in pairs if value}  # a field without a value counts as left out (section 3.2)


def check_client(form: Mapping[str, str], rules: OAuthRules, answer: OAuthAnswer) -> None:
    """Raises OAuthRefused with this answer unless the form names the client."""
    if form.get("client_id") != rules.client_id:
        raise OAuthRefused(answer, "The client_id is missing or unknown.")


def granted_scope(asked: str, rules: OAuthRules) -> frozenset[str] | None:
    """What a device gets that asks for these scopes; None is everything, where it asks for none and need not.

    Raises:
        OAuthRefused: it must ask and does not, or asks for a scope that there is not.
    """
    scopes = frozenset(asked.split())
    if rules.scope is not None and not (scopes and scopes <= set(rules.scope.split())):
        raise OAuthRefused(rules.wrong_scope, "The scope is missing or unknown.")
    return scopes or None


def check_narrower(asked: str, granted: Collection[str] | None, rules: OAuthRules) -> None:
    """RFC 6749, section 6: a refresh may ask for no scope that was not granted. Raises OAuthRefused."""
    if granted is not None and not set(asked.split()) <= set(granted):
        raise OAuthRefused(rules.wrong_scope, "The scope is wider than what was granted.")


def challenge_of(form: Mapping[str, str], rules: OAuthRules) -> str | None:
    """The challenge of a device, None where it needs none and sends none (RFC 7636, section 4.3).

    Raises:
        OAuthRefused: none where one is demanded; another method than S256, or none (which means `plain`).
    """
    if not rules.pkce and not {"code_challenge", "code_challenge_method"} & set(form):
        return None
    if form.get("code_challenge_method") != "S256":
        raise OAuthRefused(rules.malformed, "code_challenge_method must be S256.")
    if not _CHALLENGE.fullmatch(form.get("code_challenge", "")):
        raise OAuthRefused(rules.malformed, "code_challenge is missing or malformed.")
    return form["code_challenge"]


def check_verifier(form: Mapping[str, str], challenge: str | None, rules: OAuthRules) -> None:
    """RFC 7636, section 4.6; a verifier without a challenge is refused too (RFC 9700, section 2.1.1)."""
    verifier = form.get("code_verifier", "")
    if challenge is None and not verifier:
        return
    if not _VERIFIER.fullmatch(verifier) or _s256(verifier) != challenge:
        raise OAuthRefused(rules.wrong_verifier, "code_verifier is missing or does not match.")


def _s256(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
