"""The variables of this shell: those that nobody reads, those that send an agent astray, and the proxy's."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

from ..settings import did_you_mean
from .findings import Finding, advice, fail

PREFIX = "LLMGATE_"
WITH_V1 = ("OPENAI_BASE_URL", "OPENAI_API_BASE")
WITHOUT_V1 = "ANTHROPIC_BASE_URL"
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def unread(environ: Iterable[str], known: Collection[str]) -> list[Finding]:
    """Variables that look like ours and are read by nobody."""
    found = []
    ends = [name.removeprefix(PREFIX) for name in known if name.startswith(PREFIX)]  # what all have in common misleads
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known:
            close = did_you_mean(name.removeprefix(PREFIX), ends)
            way_out = f"did you mean {PREFIX}{close}?" if close else "`llmgate serve --help` names those that are read"
            found.append(advice("nobody reads this variable", name, way_out))
    return found


def variables_named(value: Any) -> Iterator[str]:
    """The variables that a configuration's values name (`env:NAME`), however deep they stand."""
    if isinstance(value, str) and value.startswith("env:"):
        yield value.removeprefix("env:")
    elif isinstance(value, Mapping):
        yield from (name for one in value.values() for name in variables_named(one))
    elif isinstance(value, list | tuple):
        yield from (name for one in value for name in variables_named(one))


# --- agents -----------------------------------------------------------------------------------------------------------


def base_urls(environ: Mapping[str, str], gateway: str) -> list[Finding]:
    """What agents of this shell would ask the gateway at `gateway` (`http://host:port`) for, where it is wrong."""
    found: list[Finding] = []
    for name in (*WITH_V1, WITHOUT_V1):
        parts = _split(environ.get(name, ""))
        if parts is not None and _leads_to(parts, gateway):
            found += _base_url(name, parts, gateway)
    anthropic = _split(environ.get(WITHOUT_V1, ""))
    both = environ.get("ANTHROPIC_API_KEY") and environ.get("ANTHROPIC_AUTH_TOKEN")
    if both and anthropic is not None and _leads_to(anthropic, gateway):
        what = "set beside ANTHROPIC_AUTH_TOKEN: a client that sends both is known by the latter only"
        found.append(advice(what, "ANTHROPIC_API_KEY", "`unset ANTHROPIC_API_KEY` in this shell"))
    return found


def _base_url(name: str, parts: SplitResult, gateway: str) -> list[Finding]:
    path = parts.path.rstrip("/")
    right = gateway if name == WITHOUT_V1 else f"{gateway}/v1"
    way_out = f"`export {name}={right}`"
    if parts.scheme == "https":
        return [fail("asks the gateway for TLS, which it does not speak", name, way_out)]
    if path.startswith("/v1/v1"):
        return [fail("has `/v1` twice", name, way_out)]
    if name == WITHOUT_V1 and path == "/v1":
        return [advice("ends in `/v1`, which Claude Code and Anthropic's SDKs add themselves", name, way_out)]
    if name != WITHOUT_V1 and path == "":
        return [fail("has no `/v1` at its end", name, way_out)]
    return []


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for one that is no number
    except ValueError:
        return None
    return parts if parts.hostname else None


def _leads_to(parts: SplitResult, gateway: str) -> bool:
    mine = urlsplit(gateway)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    same_host = parts.hostname == mine.hostname or (parts.hostname in LOOPBACK and mine.hostname in LOOPBACK)
    return same_host and port == mine.port


# --- proxies ----------------------------------------------------------------------------------------------------------


def proxies(environ: Mapping[str, str], gateway: str) -> list[Finding]:
    """Whether agents of this shell would send what is for the gateway to a proxy. llmgate itself never does."""
    names = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
    proxy = next((name for name in names if environ.get(name)), None)
    host = urlsplit(gateway).hostname or ""
    exceptions = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    entries = {entry.strip().lower().lstrip(".") for entry in exceptions.split(",")}
    if proxy is None or host in entries or "*" in entries:
        return []
    what = f"agents that heed {proxy} send requests for {host} to the proxy, as NO_PROXY does not name it"
    return [advice(what, proxy, "`export NO_PROXY=localhost,127.0.0.1` and whatever it names already")]
