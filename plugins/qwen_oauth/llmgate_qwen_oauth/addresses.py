"""Where tokens may be sent: to a server over https, or to this machine."""

from __future__ import annotations

from urllib.parse import urlsplit

from .store import Unusable

DEFAULT_RESOURCE = "portal.qwen.ai"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
MISLEADING = frozenset("?#@\\ ")
"""A query, a fragment, a user: a path cannot be appended to the first two, and the third hides the host."""


def api_base(resource_url: str | None) -> str:
    """Where a token is valid: the file's `resource_url` with a scheme and exactly one `/v1`.

    Raises:
        Unusable: it is no address, or would send the token unencrypted to another machine.
    """
    text = (resource_url or DEFAULT_RESOURCE).strip()
    if "://" not in text:
        text = f"https://{text}"
    text = text.rstrip("/")
    if fault := fault_of(text):
        raise Unusable(f"its `resource_url` {fault}")
    return text if text.endswith("/v1") else f"{text}/v1"


def fault_of(url: str) -> str | None:
    """Why no token is sent to `url`, as the end of a sentence that begins with its name; None where one is."""
    scheme, host = _scheme_and_host(url)
    if not host or scheme not in ("http", "https") or not url.isprintable():
        return "is not the address of a server"
    if MISLEADING & set(url):
        return "is not an address alone: it has a user, a query, a fragment, a backslash or a space"
    if scheme == "http" and host not in LOOPBACK:
        return "is not https, so the token is not sent there"
    return None


def is_loopback(url: str) -> bool:
    """Whether `url` leads to this machine."""
    return _scheme_and_host(url)[1] in LOOPBACK


def _scheme_and_host(url: str) -> tuple[str, str]:
    """In lower case; empty where `url` cannot be taken apart. The standard library's error would repeat it."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # checked only when it is asked for
    except ValueError:
        return "", ""
    return parts.scheme, parts.hostname or ""
