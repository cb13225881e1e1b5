"""Logging in on another screen: the OAuth device flow (RFC 8628) with PKCE (RFC 7636), for any provider that has it.

What an answer of the issuer means is decided by pure functions; `device_login` asks, waits and asks again.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from .connectors import HttpClient, Instance
from .credentials import LoginScreen
from .errors import ConnectorError, Kind
from .wire import JsonError, decode

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
REQUEST_SECONDS = 30.0
"""How long one question to the issuer may take."""

LONGEST_SECONDS, LONGEST_INTERVAL = 3600.0, 60.0
"""What is believed of an issuer at most: how long a code lives, and how far apart polls have to be."""

KNOWN_ERRORS = frozenset(
    {
        *("invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type"),
        *("invalid_scope", "server_error", "temporarily_unavailable"),
        *("authorization_pending", "slow_down", "access_denied", "expired_token"),
    }
)
"""The codes of RFC 6749 and RFC 8628: others are not repeated to the user, as they may echo what was sent."""


@dataclass(frozen=True)
class SlowDown:
    """How much longer to wait between polls once the issuer has said `slow_down`.

    The new interval is `interval * factor + seconds`, at most `cap`, all in seconds. The defaults are those of
    RFC 8628, section 3.5: five seconds more each time.
    """

    factor: float = 1.0
    seconds: float = 5.0
    cap: float = math.inf

    def after(self, interval: float) -> float:
        """The interval that follows `interval`: never a shorter one, never beyond the cap."""
        return max(interval, min(interval * self.factor + self.seconds, self.cap))


@dataclass(frozen=True)
class DeviceFlow:
    """What one provider's device flow needs to know.

    Args:
        device_url, token_url: where a device code is asked for, and where it is exchanged for tokens.
        client_id: the public one; a device flow has no client secret.
        scope: as the issuer expects it, names separated by spaces.
        interval: seconds between polls at first; an issuer that names a longer one is obeyed.
        slow_down: how the interval grows.
        headers: sent with the device-code request only.
        outlasts_errors: whether polling goes on after an `error` that is not known to be final, as some issuers send
            them in passing. RFC 8628, section 3.5, wants any but `authorization_pending` and `slow_down` to end it.
    """

    device_url: str
    token_url: str
    client_id: str
    scope: str
    interval: float = 5.0
    slow_down: SlowDown = SlowDown()
    headers: Mapping[str, str] = field(default_factory=dict)
    outlasts_errors: bool = False


async def device_login(
    flow: DeviceFlow,
    instance: Instance,
    screen: LoginScreen,
    *,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> Mapping[str, Any]:
    """The issuer's token reply once the user has confirmed; ends with the code's life at the latest.

    Until then failures on the way are waited out: each sort of them is told on the screen, once.

    Args:
        random_bytes: makes the PKCE verifier; must be unpredictable.

    Returns:
        All members of the reply, with a non-empty `access_token` (RFC 6749, section 5.1).

    Raises:
        ConnectorError: `denied` when the user or the issuer said no, `auth` when the code has expired, `rate_limited`
            when the issuer wants no more questions; as HttpClient, or `protocol`, when the login could not even begin.
    """
    verifier = pkce_verifier(random_bytes)
    code = await _begin(flow, instance.http, pkce_challenge(verifier))
    screen.show_code(code.link, code.user_code, code.seconds)
    form = {"grant_type": GRANT, "client_id": flow.client_id, "device_code": code.device_code}
    form["code_verifier"] = verifier
    return await _poll(flow, instance, screen, code, form)


def pkce_verifier(random_bytes: Callable[[int], bytes]) -> str:
    """A fresh code verifier: 32 random bytes, base64url without padding, 43 characters (RFC 7636, section 4.1)."""
    return _base64url(random_bytes(32))


def pkce_challenge(verifier: str) -> str:
    """The S256 challenge of a verifier (RFC 7636, section 4.2)."""
    return _base64url(hashlib.sha256(verifier.encode()).digest())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


# --- what the issuer's answers mean ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class DeviceCode:
    """What the issuer gave us to log in with: a link and a code for the user, a secret one for us, and its life."""

    device_code: str = field(repr=False)
    user_code: str
    link: str
    seconds: float
    interval: float


@dataclass(frozen=True)
class AskAgain:
    """The user has not decided, or the answer tells nothing: ask again after `interval` seconds.

    `trouble` says what was wrong with the answer, without its content; empty when nothing was.
    """

    interval: float
    trouble: str = ""


@dataclass(frozen=True)
class Granted:
    """The user has confirmed; `fields` are the members of the token reply."""

    fields: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class GiveUp:
    """Asking again cannot help; `reason` says why, and what can be done."""

    kind: Kind
    reason: str


EXPIRED = GiveUp("auth", "the code has expired and nobody had confirmed it; log in again")
UNHEARD = "the code has expired, and the issuer gave no usable answer ({}); log in again later"
DENIED = GiveUp("denied", "access was denied in the browser; log in again if that was a mistake")
LIMITED = GiveUp("rate_limited", "the issuer limits how often it may be asked; log in again in some minutes")


def read_device_code(status: int, fields: Mapping[str, Any], flow: DeviceFlow) -> DeviceCode:
    """The answer to a device-code request (RFC 8628, section 3.2).

    Raises:
        ConnectorError: the issuer refused, or its answer lacks something. Its content is not repeated.
    """
    if not 200 <= status < 300 or fields.get("error"):
        kind: Kind = "rate_limited" if status == 429 else "unavailable" if status >= 500 else "denied"
        told = f"the issuer does not let a login begin: {_in_words(status, fields)}"
        then = "see whether the plugin has a newer version" if kind == "denied" else "try again in some minutes"
        raise ConnectorError(kind, f"{told}; {then}", status=status)
    device_code, user_code = (_shown(fields.get(name)) for name in ("device_code", "user_code"))
    link = _link(fields.get("verification_uri_complete")) or _link(fields.get("verification_uri"))
    seconds = _positive(fields.get("expires_in"))
    wanted = {"device_code": device_code, "user_code": user_code, "verification_uri": link, "expires_in": seconds}
    if lacking := [name for name, found in wanted.items() if not found]:
        told = f"the issuer's answer cannot be used: it has no usable `{lacking[0]}`"
        raise ConnectorError("protocol", f"{told}; try again later", status=status)
    interval = max(flow.interval, min(_positive(fields.get("interval")), LONGEST_INTERVAL))
    return DeviceCode(device_code, user_code, link, min(seconds, LONGEST_SECONDS), interval)


def read_poll(
    status: int, fields: Mapping[str, Any], interval: float, slow_down: SlowDown, *, outlasts_errors: bool = False
) -> AskAgain | Granted | GiveUp:
    """What to do after one poll: the word in `error` decides, and only without a known one the status.

    RFC 8628, section 3.5, and what providers do beside it: `slow_down` with status 429, `status: "pending"` in a
    success, 401 for a code that has ended. What holds no `error` and cannot be understood is no refusal: it is asked
    again.

    Args:
        fields: the members of the reply, none when it is no JSON object.
        interval: seconds since the poll before.
        outlasts_errors: see DeviceFlow.
    """
    error = fields.get("error")
    if error == "authorization_pending":
        return AskAgain(interval)
    if error == "slow_down":
        return AskAgain(slow_down.after(interval))
    if error == "access_denied":
        return DENIED
    if error == "expired_token" or status == 401:
        return EXPIRED
    if status == 429:
        return LIMITED
    if 200 <= status < 300 and not error:
        if fields.get("access_token") and isinstance(fields["access_token"], str):
            return Granted(fields)
        if fields.get("status") == "pending":
            return AskAgain(interval)
    if error and isinstance(error, str) and not outlasts_errors:
        return _refused(status, fields)
    return AskAgain(interval, _in_words(status, fields))


def _refused(status: int, fields: Mapping[str, Any]) -> GiveUp:
    error = fields.get("error")
    told = f"HTTP {status}, `{error}`" if error in KNOWN_ERRORS else f"HTTP {status} with an unknown error"
    reason = f"the issuer ends the login: {told}; log in again, perhaps in some minutes"
    return GiveUp("unavailable" if status >= 500 else "denied", reason)


def _in_words(status: int, fields: Mapping[str, Any]) -> str:
    error = fields.get("error")
    if isinstance(error, str) and error in KNOWN_ERRORS:
        return f"HTTP {status}, `{error}`"
    return f"HTTP {status}" if status >= 300 else f"HTTP {status} without a token"


def _shown(value: Any) -> str:
    """A text that can be shown or sent; empty for anything else."""
    return value if isinstance(value, str) and value.isprintable() and len(value) <= 4096 else ""


def _link(value: Any) -> str:
    """An address that a browser can open, and that does nothing to the terminal; empty for anything else."""
    text = _shown(value)
    return text if text.startswith(("https://", "http://")) and " " not in text else ""


def _positive(value: Any) -> float:
    """A number of seconds; 0 for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    return float(min(max(value, 0), 10**9)) if value == value else 0.0


# --- asking ----------------------------------------------------------------------------------------------------------


async def _begin(flow: DeviceFlow, http: HttpClient, challenge: str) -> DeviceCode:
    form = {"client_id": flow.client_id, "scope": flow.scope}
    form |= {"code_challenge": challenge, "code_challenge_method": "S256"}
    status, fields = await _ask(http, flow.device_url, form, REQUEST_SECONDS, flow.headers)
    return read_device_code(status, fields, flow)


async def _poll(
    flow: DeviceFlow, instance: Instance, screen: LoginScreen, code: DeviceCode, form: Mapping[str, str]
) -> Mapping[str, Any]:
    ends, waited, step = instance.clock() + code.seconds, 0.0, AskAgain(code.interval)
    told = {""}
    # Time is counted twice, so that a clock that is set back cannot make this endless.
    while (left := min(ends - instance.clock(), code.seconds - waited) - step.interval) > 0:
        await instance.sleep(step.interval)
        waited += step.interval
        answer = await _poll_once(flow, instance.http, form, min(left, REQUEST_SECONDS), step.interval)
        if isinstance(answer, Granted):
            return answer.fields
        if isinstance(answer, GiveUp):
            raise ConnectorError(answer.kind, answer.reason)
        step = answer
        if step.trouble not in told:
            told.add(step.trouble)
            screen.say(f"No usable answer yet ({step.trouble}); asking again until the code expires.")
    raise ConnectorError(EXPIRED.kind, UNHEARD.format(step.trouble) if step.trouble else EXPIRED.reason)


async def _poll_once(
    flow: DeviceFlow, http: HttpClient, form: Mapping[str, str], seconds: float, interval: float
) -> AskAgain | Granted | GiveUp:
    try:
        status, fields = await _ask(http, flow.token_url, form, seconds)
    except ConnectorError as error:
        return AskAgain(interval, error.message)
    return read_poll(status, fields, interval, flow.slow_down, outlasts_errors=flow.outlasts_errors)


async def _ask(
    http: HttpClient, url: str, form: Mapping[str, str], seconds: float, headers: Mapping[str, str] | None = None
) -> tuple[int, Mapping[str, Any]]:
    """Posts a form; the status, and the members of a JSON object (none when the answer is something else)."""
    sent = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json", **(headers or {})}
    try:
        async with asyncio.timeout(seconds):
            reply = await http.send("POST", url, headers=sent, content=urlencode(form).encode())
            body = await reply.read(64 * 1024)
    except TimeoutError:
        raise ConnectorError("timeout", f"no answer of the issuer within {seconds:.3g} s") from None
    try:
        fields = decode(body)
    except JsonError:
        fields = {}
    return reply.status, fields if isinstance(fields, dict) else {}
