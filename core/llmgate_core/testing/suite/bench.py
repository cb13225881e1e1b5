"""The bench on which the conformance suite tries a connector: it stands before a scripted upstream on a real socket.

Nothing in here judges a connector, except that `answered` and `failure` say so when `send` does neither.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ...connectors import Connector, Instance, UpstreamCall, UpstreamReply
from ...credentials import Credential
from ...errors import ConnectorError
from ...upstream import Timeouts, Upstream
from ...wire import Body, encode
from ..scripted import Exchange, Script, ScriptedUpstream
from . import limits
from .instruments import CuttingClient, LogWatch
from .limits import CLOSING_SECONDS, Hung, in_time
from .subject import Subject, described, promise, request_in

CREDENTIAL_SECRET = "conformance-credential-5dd1c0a7"  # noqa: S105 - no secret, but what must be treated as one
WORDS = "Conformance says no."
CHECK_SECONDS = 60.0
"""How long one check may take altogether: what no limit of a single call has caught does not stop the test run."""
SEND = "`send()`"
READ = "reading `UpstreamReply.chunks`"
CLOSE = "`aclose()`"
CLOSE_REPLY = "`UpstreamReply.aclose()`"
"""What the messages about a call that hung name it."""

S = TypeVar("S", bound=Subject)


def on_a_bench(check: Callable[[S, Bench], Awaitable[None]]) -> Callable[[S, Path], None]:
    """Makes a test of a coroutine that wants a bench: it gets one whose upstream answers well."""

    def test(self: S, tmp_path: Path) -> None:
        __tracebackhide__ = True

        async def run() -> None:
            limit = asyncio.timeout(CHECK_SECONDS)
            try:
                async with limit, bench_for(self, tmp_path) as bench:
                    await check(self, bench)
            except TimeoutError:
                promise(
                    not limit.expired(),
                    f"calls must come to their end: those of this check have not within {CHECK_SECONDS:g} s, because "
                    "one hangs, or each takes too long",
                )
                raise

        limits.run(run())

    functools.update_wrapper(test, check)
    del test.__wrapped__  # type: ignore[attr-defined]  # pytest would look there for the names of fixtures
    return test


@dataclass
class Bench:
    """A connector, the upstream before it, and the pen to write calls with.

    Args:
        credential: the one that calls carry unless they say otherwise; made by the suite.
        records: everything that was logged since the bench stands.
    """

    subject: Subject
    instance: Instance
    upstream: ScriptedUpstream
    connector: Connector
    credential: Credential
    wire: CuttingClient
    records: list[logging.LogRecord]

    def call(
        self,
        *,
        stream: bool = False,
        credential: Credential | None = None,
        headers: Mapping[str, str] | None = None,
        added: Mapping[str, Any] | None = None,
        dialect: str | None = None,
    ) -> UpstreamCall:
        """One attempt, in the subject's dialect or another; `added` are members of the body beside the usual ones."""
        spoken = dialect or self.subject.dialect()
        usual = spoken == self.subject.dialect()
        said = self.subject.request(stream=stream) if usual else request_in(spoken, self.subject.model, stream=stream)
        body = Body.parse(encode({**said, **(added or {})}))
        return UpstreamCall(
            "generate",
            spoken,
            self.subject.model,
            stream,
            body,
            credential or self.credential,
            headers or {},
            request_id="req_conformance",
        )

    async def answered(self, call: UpstreamCall) -> UpstreamReply:
        """The reply to a call that the upstream answers 200."""
        __tracebackhide__ = True
        try:
            reply: object = await in_time(self.connector.send(call), SEND)
        except Exception as error:
            raise AssertionError(
                f"`send()` must return when the upstream answers 2xx, and raised {described(error)}"
            ) from error
        if not isinstance(reply, UpstreamReply):
            raise AssertionError(f"`send()` must return an `UpstreamReply`, and returned a `{type(reply).__name__}`")
        _has_a_head(reply)
        return reply

    async def read(self, call: UpstreamCall) -> bytes:
        """The whole answer to a call that the upstream answers 200."""
        reply = await self.answered(call)
        try:
            return await in_time(read_whole(reply), READ)
        finally:
            await in_time(reply.aclose(), CLOSE_REPLY)

    async def failure(self, script: Script, what: str, *, stream: bool = False) -> ConnectorError:
        """How `send` fails; `what` finishes the sentence `... where the upstream`."""
        __tracebackhide__ = True
        self.upstream.script = script
        try:
            reply = await in_time(self.connector.send(self.call(stream=stream)), SEND)
        except ConnectorError as error:
            return error
        except Exception as error:
            raise AssertionError(
                f"`send()` must raise `ConnectorError` and nothing else, "
                f"and raised {described(error)} where the upstream {what}"
            ) from error
        await in_time(reply.aclose(), CLOSE_REPLY)
        raise AssertionError(f"`send()` must raise `ConnectorError`, and returned where the upstream {what}")

    async def left_open(self, allowed: int) -> int:
        """How many connections are open, once they are no more than allowed, or the subject's patience has ended."""
        now = asyncio.get_running_loop().time
        end = now() + self.subject.patience
        while self.upstream.open > allowed and now() < end:  # noqa: ASYNC110 - see below
            await asyncio.sleep(0.01)  # the upstream counts, and tells only when none is open
        return self.upstream.open


def _has_a_head(reply: UpstreamReply) -> None:
    __tracebackhide__ = True
    status: object = reply.status
    promise(
        isinstance(status, int) and 200 <= status <= 299,
        "`UpstreamReply.status` must be the upstream's, from 200 to 299",
    )
    headers: object = reply.headers
    promise(
        isinstance(headers, Mapping) and all(isinstance(text, str) for pair in headers.items() for text in pair),
        "`UpstreamReply.headers` must be a mapping of texts to texts",
    )


async def read_whole(reply: UpstreamReply) -> bytes:
    """All chunks of an answer."""
    return b"".join([chunk async for chunk in reply.chunks])


def refusal(status: int, message: str = WORDS, **headers: str) -> Script:
    """Answers `status` with an error of OpenAI's shape; underscores in names of headers stand for `-`."""

    async def script(exchange: Exchange) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        await exchange.reply(status, {"error": {"message": message, "type": None, "code": None}}, named)

    return script


def base_url(upstream: ScriptedUpstream) -> str:
    """Where a connector finds the API of this upstream."""
    return f"{upstream.url}/v1"


@asynccontextmanager
async def bench_for(subject: Subject, folder: Path) -> AsyncIterator[Bench]:
    """A bench with the connector of `subject`; everything is closed at the end, also what the connector leaves open."""
    upstreams = Upstream({})
    wire = CuttingClient(upstreams.client(Timeouts()))
    with LogWatch() as records:
        async with ScriptedUpstream(subject.speech().script) as upstream:
            url = base_url(upstream)
            instance = subject.instance(wire, folder, url)
            connector = subject.connector(instance)
            credential = suite_credential(url)
            try:
                yield Bench(subject, instance, upstream, connector, credential, wire, records)
            finally:
                await close_quietly(connector)
                await wire.aclose()
                await upstreams.aclose()


def suite_credential(url: str | None) -> Credential:
    """A credential whose every header is to arrive, and to be seen nowhere else."""
    headers = {"authorization": f"Bearer {CREDENTIAL_SECRET}", "x-conformance-account": f"{CREDENTIAL_SECRET}-account"}
    return Credential(headers, base_url=url, label="the suite's own")


async def close_quietly(connector: Connector) -> None:
    """Closes a connector; whether it can be closed is for one check to say, not for all."""
    try:
        await in_time(connector.aclose(), CLOSE, CLOSING_SECONDS)
    except (Exception, SystemExit, Hung):
        logging.getLogger("llmgate.testing").debug("closing a connector", exc_info=True)
