"""The port on which the gateway is expected: whether one answers there, which, and whether it takes our key."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConnectorError
from ..upstream import Timeouts, Trouble, Upstream, trouble
from ..wire import JsonError, decode
from .findings import Finding, advice, fail, ok

SECONDS = 4.0
"""How long each answer may take."""

ELSEWHERE = "stop what runs there, or let the gateway listen elsewhere (`--port`, LLMGATE_PORT, `server.port`)"


@dataclass(frozen=True)
class Heard:
    """What the port answered.

    Args:
        trouble, reason: why there was no answer.
        status: HTTP status of the answer to /healthz, None where there was none.
        is_ours: whether that is how llmgate answers.
        server: what the other program calls itself.
        told_status, told: HTTP status and content of the answer to the question for the gateway's status.
    """

    trouble: Trouble | None = None
    reason: str = ""
    status: int | None = None
    is_ours: bool = False
    server: str = ""
    told_status: int | None = None
    told: Any = None


async def listen_to(url: str, path: str, key: str | None) -> Heard:
    """Asks the port at `url`; only what answers as llmgate does is shown the key."""
    # Directly: a proxy of the environment has no business with the gateway's key.
    upstream = Upstream({})
    client = upstream.client(Timeouts(connect=SECONDS, first_byte=SECONDS, total=SECONDS))
    try:
        async with asyncio.timeout(3 * SECONDS):
            reply = await client.send("GET", f"{url}/healthz")
            body = await reply.read(1024)
            ours = reply.headers.get("x-request-id", "").startswith("req_") and body == b'{"status":"ok"}'
            heard = Heard(status=reply.status, is_ours=ours, server=reply.headers.get("server", "")[:60])
            if not ours:
                return heard
            headers = {"authorization": f"Bearer {key}"} if key else {}
            reply = await client.send("GET", url + path, headers=headers)
            return Heard(None, "", heard.status, True, "", reply.status, _decoded(await reply.read()))
    except TimeoutError:
        return Heard("timeout", f"no answer within {3 * SECONDS:g} s")
    except ConnectorError as error:
        return Heard(trouble(error), error.message)
    finally:
        await upstream.aclose()


def _decoded(data: bytes) -> Any:
    try:
        return decode(data)
    except JsonError:
        return None


# --- what it means ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Expected:
    """The gateway that the configuration means.

    Args:
        key: where the key comes from that it was asked with, None without one.
        ready: whether each enabled backend is ready here, by its full name.
    """

    url: str
    version: str
    key: str | None
    ready: Mapping[str, bool]


def look_at(heard: Heard, expected: Expected) -> list[Finding]:
    """Whether a gateway runs, is the one that is expected, and lets us in. That none runs is no failure."""
    url = expected.url
    if heard.trouble == "refused":
        return [ok("no gateway runs there", url, "`llmgate serve` starts one")]
    if heard.trouble in ("closed", "not HTTP"):
        return [fail("another program has the port, and does not speak HTTP", url, ELSEWHERE)]
    if heard.trouble == "timeout":
        return [fail("what has the port does not answer", url, ELSEWHERE)]
    if heard.trouble is not None:
        return [
            fail(f"the address cannot be asked: {heard.reason}", url, "mend `server.host`, `--host` or LLMGATE_HOST")
        ]
    if not heard.is_ours:
        name = f", which calls itself `{heard.server}`" if heard.server else ""
        return [fail(f"another program has the port (HTTP {heard.status}){name}", url, ELSEWHERE)]
    if heard.told_status == 401:
        return [_wrong_key(expected)]
    if heard.told_status != 200 or not isinstance(heard.told, dict):
        what = f"a gateway runs there, and does not tell its state (HTTP {heard.told_status})"
        return [advice(what, url, "`llmgate status` says why")]
    try:
        return _running(heard.told, expected)
    except (KeyError, TypeError, AttributeError):
        return [advice("a gateway of another version runs there", url, "restart it with this one")]


def _wrong_key(expected: Expected) -> Finding:
    way_out = "give one of its keys with `--api-key` or LLMGATE_API_KEYS"
    if expected.key is None:
        return fail("the gateway wants a key, and none was found for it", expected.url, way_out)
    return fail(f"the gateway does not take the key from {expected.key}", expected.url, way_out)


def _running(told: Mapping[str, Any], expected: Expected) -> list[Finding]:
    url = expected.url
    found = [ok(f"llmgate {told['version']} answers" + (" and takes the key" if expected.key else ""), url)]
    if told["version"] != expected.version:
        what = f"it is of version {told['version']}, this command of {expected.version}"
        found.append(advice(what, url, "restart it"))
    ready = {str(one["name"]): bool(one["ready"]) for one in told["backends"]}
    found += _other_backends(ready.keys(), expected)
    if not any(ready.values()):
        found.append(fail("none of its backends can be used", url, "`llmgate status` says why"))
    for one in told["backends"]:
        if not one["ready"] and expected.ready.get(one["name"]):
            what = f"is ready here, and not in the gateway that runs: {one['detail']}"
            found.append(fail(what, one["name"], "restart the gateway from this shell"))
        failing = [str(model["model"]) for model in one["models"] if model["circuit"] != "closed"]
        if failing:
            what = f"keeps failing in the gateway that runs: {', '.join(failing[:5])}"
            found.append(advice(what, one["name"], "`llmgate status` and the gateway's log say more"))
    return found


def _other_backends(running: Collection[str], expected: Expected) -> list[Finding]:
    more = sorted(set(running) - expected.ready.keys())
    less = sorted(expected.ready.keys() - set(running))
    if not more and not less:
        return []
    parts = [f"{word} {', '.join(names)}" for word, names in (("has", more), ("lacks", less)) if names]
    way_out = "restart it, or `kill -HUP` makes it read its own files again"
    return [
        advice(f"it runs with another configuration than this one: it {' and '.join(parts)}", expected.url, way_out)
    ]
