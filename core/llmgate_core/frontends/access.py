"""Who may use the gateway: callers' keys, the `Host` a request names, and the web page that it comes from."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import RequestError

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""Answered to everybody: load balancers ask them by whatever name they know. They tell no secrets."""

PROBES = ("/", "/api/hello")
"""Claude Code asks `HEAD /`, later versions `HEAD /api/hello`, without a key; the status is all that counts."""


@dataclass(frozen=True)
class KnownKey:
    """One caller's key: a name for logs, and the SHA-256 of the key, which is all that is kept of it."""

    name: str
    digest: bytes


class BadKeys:
    """How often each address has shown a bad key lately, and how long its next bad one is held.

    The first `free` are answered at once. The holds of one address queue up, so that guessing side by side is no
    faster than one after the other. A correct key is never held, whatever came before from its address.

    Args:
        clock: seconds.
        longest: what one bad key adds to the queue at most, in seconds.
        cap: the longest hold, in seconds, however long the queue is.
        most: addresses that are remembered.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        free: int = 3,
        longest: float = 4.0,
        cap: float = 30.0,
        most: int = 4096,
    ) -> None:
        self._seen: OrderedDict[str, tuple[int, float, float]] = OrderedDict()
        self._clock, self._free, self._longest, self._cap, self._most = clock, free, longest, cap, most

    def penalty(self, address: str) -> float:
        """Counts one more bad key from `address`; seconds to hold its refusal."""
        now = self._clock()
        count, last, free_at = self._seen.pop(address, (0, now, now))
        count = count + 1 if now - last < 60 else 1
        free_at = min(max(free_at, now) + self._own_share(count), now + self._cap)
        self._seen[address] = (count, now, free_at)
        if len(self._seen) > self._most:
            self._seen.popitem(last=False)
        return free_at - now

    def _own_share(self, count: int) -> float:
        over = count - self._free
        # The exponent is bounded, because a patient guesser would drive the float out of its range.
        return min(self._longest, 0.25 * 2.0 ** min(over, 32)) if over > 0 else 0.0


class Refused(Exception):  # noqa: N818 - it carries a refusal
    """A request is refused; a bad key's refusal is first held for `hold` seconds."""

    def __init__(self, error: RequestError, hold: float = 0.0) -> None:
        super().__init__()
        self.error = error
        self.hold = hold


class Access:
    """Decides about each request from its headers alone.

    Args:
        keys: accepted keys; with none, no key is asked for (start-up allows that on loopback only).
        hosts: names beside `localhost` and IP addresses that `Host` may hold.
        origins: web origins that may call across.
    """

    def __init__(
        self, keys: Sequence[KnownKey], hosts: Sequence[str], origins: Sequence[str], bad_keys: BadKeys
    ) -> None:
        self._keys = tuple(keys)
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origin.lower().rstrip("/") for origin in origins)
        self._bad_keys = bad_keys

    def admit(self, path: str, headers: Mapping[str, str], address: str) -> str | None:
        """The name of the caller's key, None where no key is asked for.

        Raises:
            Refused: 403 for a foreign host or origin, 401 for a missing or bad key.
        """
        if path in OPEN_PATHS:
            return None
        self._check_host(headers.get("host"))
        self._check_origin(headers)
        return self._check_key(headers, address) if self._keys and path not in PROBES else None

    def _check_host(self, host: str | None) -> None:
        # DNS rebinding needs a name: a page's own name that suddenly means 127.0.0.1. An address cannot be one.
        name = host_name(host or "localhost")
        if name in self._hosts or name == "localhost" or name.endswith(".localhost") or _is_address(name):
            return
        raise Refused(
            RequestError(
                f"the `Host` of this request, `{_shown(name)}`, is not one of this gateway's; "
                "if it is meant to be, add it to `server.allowed_hosts`",
                status=403,
                code="host_not_allowed",
            )
        )

    def _check_origin(self, headers: Mapping[str, str]) -> None:
        origin = headers.get("origin")
        if origin is None:
            foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        else:
            own = origin.lower() in (
                f"http://{headers.get('host')}".lower(),
                f"https://{headers.get('host')}".lower(),
            )
            foreign = not own and origin.lower() not in self._origins
        if foreign:
            seen = "another origin" if origin is None else f"the origin `{_shown(origin)}`"
            raise Refused(
                RequestError(
                    f"a web page of {seen} may not use this gateway; "
                    "if it is meant to, add its origin to `server.allowed_origins`",
                    status=403,
                    code="origin_not_allowed",
                )
            )

    def _check_key(self, headers: Mapping[str, str], address: str) -> str:
        key = presented_key(headers)
        if key is None:
            raise Refused(_unauthorized("no key: send the gateway's key as `Authorization: Bearer` or `x-api-key`"))
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        # All are compared, so that the time taken does not tell which one was nearly right.
        matches = [known.name for known in self._keys if hmac.compare_digest(known.digest, digest)]
        if not matches:
            raise Refused(
                _unauthorized("this key is not one of the gateway's; check the key that your client is set up with"),
                hold=self._bad_keys.penalty(address),
            )
        return matches[0]


def presented_key(headers: Mapping[str, str]) -> str | None:
    """The key that a caller shows, in any of the headers that SDKs use. Never from the URL: URLs end up in logs."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    return headers.get("x-api-key") or headers.get("x-goog-api-key") or None


def host_name(host: str) -> str:
    """The name in a `Host` header, lower case, without port and brackets."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine only; of a peer, whether it is this machine."""
    if host.lower() == "localhost":
        return True
    if not _is_address(host):
        return False
    address = ipaddress.ip_address(host)
    # A socket for both versions shows a peer of IPv4 as `::ffff:127.0.0.1`; Python before 3.13 sees no loopback in it.
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _shown(seen: str) -> str:
    """What a caller sent, fit for a message: printable, at most 100 characters."""
    printable = "".join(char if char.isprintable() else "?" for char in seen)
    return printable if len(printable) <= 100 else printable[:97] + "..."


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _unauthorized(message: str) -> RequestError:
    return RequestError(message, status=401, code="invalid_api_key")
