"""What a type checker makes of the public API: mypy reads this file in the ordinary run, and nobody executes it.

An author's annotations must go on to check when core changes; `assert_type` says what they may count on. That each
public name stands here is tested in test_public_api. A class that inherits nothing says `ClassVar` where the protocol
does.
"""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, assert_type

from llmgate_core import (
    PLUGIN_API,
    AnthropicCompatible,
    ApiKey,
    Attempt,
    BackoffRules,
    Body,
    ChatWriter,
    Connector,
    ConnectorError,
    Credential,
    CredentialProvider,
    CredentialStatus,
    DeviceFlow,
    Frontend,
    GatewayError,
    GatewayRequest,
    HttpClient,
    HttpConnector,
    HttpReply,
    Instance,
    Kind,
    Leaf,
    LoginScreen,
    Mender,
    Meta,
    MissingSecret,
    ModelFacts,
    ModelInfo,
    NoCredential,
    NoRetry,
    OpenAICompatible,
    Params,
    Policy,
    Preset,
    ProcessLock,
    RequestError,
    RequestRecord,
    RetryAfter,
    RetryPolicy,
    Secret,
    Simulator,
    SimulatorSetup,
    SlowDown,
    UpstreamCall,
    UpstreamReply,
    Verdict,
    device_login,
    hookimpl,
    json_lines,
    reported_error,
    upstream_error,
    write_private_file,
)

assert_type(PLUGIN_API, int)


# --- what authors write -----------------------------------------------------------------------------------------------


KEY = Secret("env:ACME_API_KEY")


@dataclass(frozen=True)
class Settings:
    api_key: Secret = KEY
    base_url: Annotated[str, Meta(pattern="^https?://", cli_flag="--acme", description="Where.")] = "https://a.example"


class Inheriting(OpenAICompatible):
    name = "inheriting"
    settings: Settings

    def credentials(self) -> CredentialProvider:
        return ApiKey(self.settings.api_key, self.instance.environ)

    def retry(self) -> RetryPolicy:
        return RetryAfter(max_wait=5.0)

    def backoff(self) -> BackoffRules | None:
        return None

    def headers(self, call: UpstreamCall) -> dict[str, str]:
        return super().headers(call) | {"x-acme": call.request_id}

    def classify(self, call: UpstreamCall, status: int, headers: Mapping[str, str], body: bytes) -> ConnectorError:
        return upstream_error(status, headers, body, now=self.instance.clock())

    def mender(self, call: UpstreamCall) -> Mender | None:
        return Mending()

    def facts(self, model: str) -> ModelInfo | None:
        return ModelFacts.read("").get(model)

    @classmethod
    def simulator(cls) -> Simulator:
        return Simulating()

    @classmethod
    def presets(cls) -> Sequence[Preset]:
        return [Preset("acme", "Acme", {"base_url": "https://llm.example/v1"}, variable="ACME_API_KEY")]


class Mending(Mender):
    def event(self, body: Body, name: str) -> Body:
        if body.get("error"):
            raise reported_error(body.bytes)
        return body.splice({"a": 1}, remove=["b"])


class Translating(HttpConnector):
    name = "translating"
    dialects = frozenset({"openai.chat"})
    paths: ClassVar[Mapping[str, str]] = {"generate": "chat"}

    def reply_headers(self, call: UpstreamCall, headers: Mapping[str, str]) -> Mapping[str, str]:
        return {**headers, "content-type": "text/event-stream"}

    async def events(self, call: UpstreamCall, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        writer = ChatWriter(call.request_id, call.model, self.instance.clock())
        async for line in json_lines(chunks):
            assert_type(line, Body)
            assert_type(line.data, dict[str, Any])
            yield assert_type(writer.delta({"content": line.get("text")}, "stop"), bytes)
        yield writer.end({"total_tokens": 1})


class ByHand:
    """A connector that inherits nothing."""

    name: ClassVar[str] = "by-hand"
    dialects = frozenset({"anthropic.messages"})
    settings: Settings

    def __init__(self, instance: Instance) -> None:
        self.instance = instance

    def check(self) -> None:
        raise ConnectorError("disabled", "switched off")

    def credentials(self) -> CredentialProvider:
        return NoCredential()

    def retry(self) -> RetryPolicy:
        return NoRetry()

    async def send(self, call: UpstreamCall) -> UpstreamReply:
        reply = await self.instance.http.send("POST", "https://a.example", headers=call.headers, content=b"")
        assert_type(reply, HttpReply)
        assert_type(await reply.read(), bytes)
        return UpstreamReply(reply.status, reply.headers, reply.chunks, reply.aclose)

    async def models(self, credential: Callable[[], Awaitable[Credential]]) -> Sequence[ModelInfo]:
        assert_type((await credential()).headers, Mapping[str, str])
        return [ModelInfo("small", context=1000, input=("text",))]

    async def aclose(self) -> None:
        """Nothing."""


class Tokens:
    """A credential provider with a login."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance

    async def get(self) -> Credential:
        return Credential({"authorization": "Bearer a"}, base_url=None, expires_at=1.0, label="a")

    async def renew(self, rejected: Credential) -> Credential:
        return rejected

    def status(self) -> CredentialStatus:
        return CredentialStatus(True, "ready", {"file": "a"})

    async def login(self, screen: LoginScreen) -> str:
        flow = DeviceFlow("https://a/d", "https://a/t", client_id="a", scope="b", slow_down=SlowDown())
        reply = await device_login(flow, self.instance, screen)
        write_private_file(Path("a"), str(reply["access_token"]).encode())
        assert_type(ProcessLock(Path("a.lock")).try_acquire(), bool)
        return "done"


class Capping:
    """A policy."""

    name: ClassVar[str] = "capping"
    settings: Settings

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def apply(self, request: GatewayRequest, leaf: Leaf, params: Params) -> Verdict:
        assert_type(request.caller, str | None)
        assert_type(leaf.model, str)
        if "a" in params.effective():
            raise RequestError("no", status=403, param="a")
        return Verdict(params.without("b", ["uri"]).with_layer("policy", {"b": 1}), headers={"x": "y"})


class Serving:
    """A front end."""

    name: ClassVar[str] = "serving"
    dialect: ClassVar[str] = "acme.chat"
    settings: Any

    def __init__(self, settings: Any) -> None:
        """Has none."""

    def routes(self, gateway: Any) -> Sequence[Any]:
        return []


class Simulating:
    async def start(self, folder: Path) -> SimulatorSetup:
        return SimulatorSetup({"base_url": "http://127.0.0.1:1"}, "small", ("a note",))

    async def aclose(self) -> None:
        """Nothing."""


# --- that it is what core takes ---------------------------------------------------------------------------------------

CONNECTORS: Sequence[type[Connector]] = [Inheriting, Translating, ByHand, AnthropicCompatible]
PROVIDERS: Sequence[Callable[[Instance], CredentialProvider]] = [Tokens]
POLICIES: Sequence[type[Policy]] = [Capping]
FRONTENDS: Sequence[type[Frontend]] = [Serving]


@hookimpl
def llmgate_register_connectors() -> Sequence[type[Connector]]:
    return CONNECTORS


@hookimpl
def llmgate_request_finished(record: RequestRecord) -> None:
    attempts: Sequence[Attempt] = record.attempts
    for attempt in attempts:
        assert_type(attempt.kind, Kind | None)


def an_instance(http: HttpClient) -> Instance:
    return Instance("a.b", Settings(), http, lambda: 0.0, random.Random(1), {}, Path("/a"), logging.getLogger("a"))


def a_secret(secret: Secret) -> str:
    try:
        return assert_type(secret.reveal({}), str)
    except MissingSecret as missing:
        error: GatewayError = ConnectorError("auth", str(missing))
        raise error from None
