"""The contract between the gateway and what plugins bring: connectors, policies, front ends, simulators.

These are protocols, so a plugin inherits only if it wants to. `llmgate_core.testing` checks what prose cannot.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from .credentials import Credential, CredentialProvider
from .request import Dialect, GatewayRequest, Operation, Params
from .retry import RetryPolicy
from .selector import Leaf
from .wire import Body

PLUGIN_API = 1
"""The version of this contract. A plugin's module declares the one that it was written for (`LLMGATE_PLUGIN_API`)."""


@dataclass
class HttpReply:
    """An answer whose body is still on its way.

    Args:
        headers: lower-case names; of a repeated header the values are joined by `, `.
        chunks: the body as it arrives, decompressed; raises ConnectorError when it is cut off or stalls.
        aclose: releases the connection, hanging up if the body has not ended; may be called twice.
    """

    status: int
    headers: Mapping[str, str]
    chunks: AsyncGenerator[bytes, None]
    aclose: Callable[[], Awaitable[None]]

    async def read(self, limit: int = 16 * 1024 * 1024) -> bytes:
        """The whole body, at most `limit` bytes of it; closes the reply."""
        parts: list[bytes] = []
        size = 0
        try:
            async for chunk in self.chunks:
                parts.append(chunk)
                size += len(chunk)
                if size >= limit:
                    break
        finally:
            await self.aclose()
        return b"".join(parts)[:limit]


class HttpClient(Protocol):
    """The gateway's HTTP client, as connectors see it: no cookies, no redirects, timeouts of the backend."""

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, content: bytes = b""
    ) -> HttpReply:
        """Sends one request and returns at the response headers, whatever their status.

        Raises:
            ConnectorError: kind `unavailable` (refused, no such host, TLS, closed without an answer) or
                `timeout` (connect, first byte).
        """


@dataclass(frozen=True)
class Instance:
    """What a connector is given: all that it may touch of the world, so that tests can give it another one.

    Args:
        name: `<connector>.<instance>`, as configuration and logs say it.
        settings: the decoded `extra:`, of the type that the connector annotates.
        http: see HttpClient.
        clock: Unix time in seconds.
        environ, home: the process's environment and the user's home folder.
        sleep: waits that many seconds; for credential providers, which may have to wait for another process.
    """

    name: str
    settings: Any
    http: HttpClient
    clock: Callable[[], float]
    random: random.Random
    environ: Mapping[str, str]
    home: Path
    logger: logging.Logger
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(frozen=True)
class UpstreamCall:
    """One attempt, fully decided: nothing is left to route, merge or rewrite.

    `body` holds the caller's bytes with the changed spans spliced; `headers` are the caller's that may travel on.
    """

    operation: Operation
    dialect: Dialect
    model: str
    stream: bool
    body: Body
    credential: Credential
    headers: Mapping[str, str]
    request_id: str


@dataclass
class UpstreamReply:
    """A success (2xx) whose first body byte may still be on its way.

    `chunks` may raise ConnectorError at any point: before the first content that fails the attempt, afterwards it
    is told in the stream. `aclose` is a field of its own because a generator that was never started does not run
    its `finally`; it must be safe to call twice.

    Args:
        lost: what of the caller's request was left out because the upstream cannot say it; the caller is told.
    """

    status: int
    headers: Mapping[str, str]
    chunks: AsyncGenerator[bytes, None]
    aclose: Callable[[], Awaitable[None]]
    lost: Sequence[str] = ()


Modality = Literal["text", "image", "audio", "video", "file"]
Thinking = Literal["none", "optional", "always"]


@dataclass(frozen=True)
class ModelInfo:
    """One model that a backend offers, and what is known of it; None or empty where nothing is.

    Args:
        context: how many tokens request and answer may have together.
        max_output: how many tokens the answer may have.
        input: what a message may hold.
        thinking: whether the model thinks before it answers, and whether that is for the caller to say.
        refuses: parameters, by their names in a request, that the upstream refuses or ignores for this model.
        excludes: groups of parameters of which a request may have one.
        source: where all this is known from.
    """

    id: str
    context: int | None = None
    max_output: int | None = None
    input: tuple[Modality, ...] = ()
    thinking: Thinking | None = None
    refuses: tuple[str, ...] = ()
    excludes: tuple[tuple[str, ...], ...] = ()
    source: str = ""


class Connector(Protocol):
    """One way of talking to one kind of upstream; one object per backend instance.

    `settings` is annotated with a frozen dataclass: that is the schema of `extra:`, of the editor's completion and
    of the flags that `llmgate serve` offers for it.
    """

    name: ClassVar[str]
    settings: Any

    def __init__(self, instance: Instance) -> None:
        """Keeps the instance. Does no I/O."""

    @property
    def dialects(self) -> frozenset[Dialect]:
        """What the upstream speaks. An attribute of the class does, unless settings decide."""

    def check(self) -> None:
        """Raises ConnectorError (kind `disabled`) when the configuration forbids use; called before each attempt."""

    def credentials(self) -> CredentialProvider:
        """The provider; called once per backend."""

    def retry(self) -> RetryPolicy:
        """The policy; called once per backend."""

    async def send(self, call: UpstreamCall) -> UpstreamReply:
        """Sends one attempt and returns when the upstream has answered 2xx.

        Never retries, never sleeps, never logs a secret, never buffers a stream.

        Raises:
            RequestError: this upstream has no words for the request; another branch is asked, if there is one.
            ConnectorError: for everything else.
        """

    async def models(self, credential: Callable[[], Awaitable[Credential]]) -> Sequence[ModelInfo]:
        """What can be asked for; raises ConnectorError when that cannot be found out.

        Awaiting `credential()` may refresh a token, so it is for connectors that have to ask their upstream.
        """

    async def aclose(self) -> None:
        """Releases what the connector itself holds, also after a failed start; a second call does nothing."""


@dataclass(frozen=True)
class Verdict:
    """What a policy says of one attempt: parameters to add, to which layer, and what the response headers tell.

    Args:
        headers: told whatever becomes of the parameters.
        effects: headers by parameter, told only where it is sent as layer `policy` has it: the model may not take it.
    """

    params: Params
    headers: Mapping[str, str] = field(default_factory=dict)
    effects: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def told(self, sent: Params) -> Mapping[str, str]:
        """The headers, once it is known what is sent."""
        settings = sent.effective()
        is_policy = [name for name in self.effects if name in settings and settings[name].layer == "policy"]
        return {**self.headers, **{key: text for name in is_policy for key, text in self.effects[name].items()}}


@runtime_checkable
class Policy(Protocol):
    """Decides about the parameters of one attempt: pure, synchronous, told everything, remembering nothing."""

    name: ClassVar[str]
    settings: Any

    def __init__(self, settings: Any) -> None:
        """Keeps its settings."""

    def apply(self, request: GatewayRequest, leaf: Leaf, params: Params) -> Verdict:
        """The parameters that this attempt shall have.

        Args:
            request: as the caller sent it, also where it will be translated.
            leaf: who is asked for what.
            params: as the policies before have left them; in layer `client`, what the request's translation says.

        Raises:
            RequestError: the request must not be sent like this.
        """


class Frontend(Protocol):
    """One rim of the gateway: the paths of one API, in its own dialect."""

    name: ClassVar[str]
    dialect: ClassVar[Dialect]
    settings: Any

    def __init__(self, settings: Any) -> None:
        """Keeps its settings."""

    def routes(self, gateway: Any) -> Sequence[Any]:
        """Starlette routes whose endpoints call `gateway`."""


@dataclass(frozen=True)
class SimulatorSetup:
    """How to reach a running simulator.

    Args:
        extra: settings with which the real connector talks to it.
        model: a model that it serves.
        notes: sentences for somebody who watches `llmgate serve --demo`.
    """

    extra: Mapping[str, Any]
    model: str
    notes: tuple[str, ...] = ()


class Simulator(Protocol):
    """A provider's strict stand-in, shipped in its plugin. A connector offers it as class method `simulator()`."""

    async def start(self, folder: Path) -> SimulatorSetup:
        """Listens on a loopback port; writes what the connector needs (a credential file, say) into `folder`."""

    async def aclose(self) -> None:
        """Stops."""


@dataclass(frozen=True)
class Preset:
    """A provider that `llmgate init` can set up: one instance file, decided beforehand.

    A connector offers some as class method `presets()`. The conformance suite says what is wrong with one.

    Args:
        name: what `--provider` takes; of letters, digits, `-` and `_`.
        title: the provider, and where its address is if it has several.
        extra: what stands under `extra:`, without the key.
        variable: the environment variable that usually holds the key; None for a server that asks for none.
        key: the setting that says where the key is.
        elsewhere: variables that, when set to another address than `base_url`, say that the key is another provider's.
        model: what requests ask for that leave the choice to the gateway; None where nobody can know.
        link: a page where one gets a key, or the program.
        probe: the list of models of a server on this machine, an address on loopback; asked to see whether it runs.
        owner: what that list must name as `owned_by`, where the port is anybody's.
    """

    name: str
    title: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    variable: str | None = None
    key: str = "api_key"
    elsewhere: tuple[str, ...] = ()
    model: str | None = None
    link: str = ""
    probe: str | None = None
    owner: str | None = None
