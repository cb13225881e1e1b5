"""What connectors have in common whose upstream is asked by one POST, in a dialect of ours or in one of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar

from .backoff import BackoffRules
from .connectors import HttpReply, Instance, ModelInfo, UpstreamCall, UpstreamReply
from .credentials import Credential, CredentialProvider, NoCredential
from .dialects.failures import upstream_error
from .errors import ConnectorError
from .mending import Mender, mended
from .model_facts import families
from .request import Dialect, Operation
from .retry import NoRetry, RetryPolicy
from .wire import JsonError, decode

MAX_ERROR_BYTES = 256 * 1024


class HttpConnector:
    """Posts each call as it is; bytes pass through both ways. The subclasses speak one dialect each.

    For an upstream in a form of its own, `body` translates the request, `mender` a plain answer, `events` a stream, and
    `reply_headers` says what the answer has become.

    Attributes:
        dialects: what the upstream speaks; an instance whose settings say so may have others than its class.
        paths: where each operation goes, below the base URL.
        request_id_headers: in which of its headers the upstream names the request, lower case; the first that is there.
        address_hint: what a 404 that names no model asks about the base URL.
    """

    name: ClassVar[str]
    dialects: frozenset[Dialect]
    paths: ClassVar[Mapping[Operation, str]]
    request_id_headers: ClassVar[Sequence[str]] = ("x-request-id", "request-id")
    address_hint: ClassVar[str] = "is the base URL right, with its `/v1`?"
    settings: Any

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.settings = instance.settings

    def check(self) -> None:
        """Nothing stands against use."""

    def credentials(self) -> CredentialProvider:
        """None needed."""
        return NoCredential()

    def retry(self) -> RetryPolicy:
        """The caller sees the first failure."""
        return NoRetry()

    def backoff(self) -> BackoffRules | None:
        """None: a rate limit is the matter of the request that met it."""
        return None

    def facts(self, model: str) -> ModelInfo | None:
        """What is known of a model without asking anybody: what core knows of its family, None where nothing is."""
        return families().get(model)

    # --- seams ---------------------------------------------------------------------------------------------------

    def base_url(self, credential: Credential) -> str:
        """Where the API is: the credential's own place, else the settings'."""
        return str(credential.base_url or self.settings.base_url).rstrip("/")

    def url(self, call: UpstreamCall) -> str:
        """Where this call goes; raises ConnectorError (kind `not_found`) for an operation that the API has not."""
        path = self.paths.get(call.operation)
        if path is None:
            raise ConnectorError("not_found", f"the upstream has no operation `{call.operation}`")
        return f"{self.base_url(call.credential)}/{path}"

    def own_headers(self) -> Mapping[str, str]:
        """Headers that go with whatever is asked of the upstream, lower case: none."""
        return {}

    def headers(self, call: UpstreamCall) -> dict[str, str]:
        """Request headers; the caller's first, so that none of them can take the place of ours."""
        accept = "text/event-stream" if call.stream else "application/json"
        return {
            **call.headers,
            **self.own_headers(),
            "content-type": "application/json",
            "accept": accept,
            **call.credential.headers,
        }

    def body(self, call: UpstreamCall) -> bytes:
        """The bytes that go up; raises RequestError for what this upstream has no words for."""
        return call.body.bytes

    def lost(self, call: UpstreamCall) -> Sequence[str]:
        """What of the caller's request `body` has to leave out, by names that the caller is told: nothing."""
        return ()

    def classify(self, call: UpstreamCall, status: int, headers: Mapping[str, str], body: bytes) -> ConnectorError:
        """What a reply other than 2xx means; the status decides, the body may only refine."""
        return upstream_error(status, headers, body, now=self.instance.clock())

    def mender(self, call: UpstreamCall) -> Mender | None:
        """What looks at each event of this answer, and mends or refuses it; with None the bytes pass untouched."""
        return None

    def events(self, call: UpstreamCall, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """The reply's body on its way to the caller; override it for an upstream whose stream is another one."""
        mender = self.mender(call)
        return chunks if mender is None else mended(chunks, mender, stream=call.stream)

    def reply_headers(self, call: UpstreamCall, headers: Mapping[str, str]) -> Mapping[str, str]:
        """The reply's headers; override it where `events` makes another content type of the body."""
        return headers

    async def list_models(self, credential: Credential) -> list[ModelInfo]:
        """What the upstream lists; raises ConnectorError when it does not."""
        return listed_models(await self.get(f"{self.base_url(credential)}/models", credential))

    # --- the contract --------------------------------------------------------------------------------------------

    async def send(self, call: UpstreamCall) -> UpstreamReply:
        """Posts one call; see Connector."""
        reply = await self.instance.http.send(
            "POST", self.url(call), headers=self.headers(call), content=self.body(call)
        )
        headers = self._naming_the_request(reply.headers)
        if not 200 <= reply.status < 300:
            # Struck out before anything is made of it: a secret that is cut in two would not be recognised.
            body = call.credential.strike(await error_body(reply))
            error = self.classify(call, reply.status, headers, body)
            if error.kind == "not_found" and "model" not in error.message.lower():
                error.code = error.code or "not_found"
                error.message += f" (at {self.url(call)}; {self.address_hint})"
            raise error
        try:
            told = self.reply_headers(call, headers)
            return UpstreamReply(reply.status, told, self.events(call, reply.chunks), reply.aclose, self.lost(call))
        except BaseException:
            await reply.aclose()
            raise

    def _naming_the_request(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """The same headers, with the upstream's id of the request under the name that everybody knows."""
        found = next((headers[name] for name in self.request_id_headers if headers.get(name)), None)
        return headers if found is None else {**headers, "x-request-id": found}

    async def models(self, credential: Callable[[], Awaitable[Credential]]) -> Sequence[ModelInfo]:
        """The configured models, else those that the upstream lists."""
        configured = getattr(self.settings, "models", None)
        if configured is not None:
            return [self.facts(id) or ModelInfo(id) for id in configured]
        return [self.facts(listed.id) or listed for listed in await self.list_models(await credential())]

    async def aclose(self) -> None:
        """Holds nothing of its own."""

    async def get(self, url: str, credential: Credential, headers: Mapping[str, str] | None = None) -> bytes:
        """What the upstream answers to a question by GET.

        Raises:
            ConnectorError: it answers anything but 200.
        """
        sent = {"accept": "application/json", **(headers or {}), **self.own_headers(), **credential.headers}
        reply = await self.instance.http.send("GET", url, headers=sent)
        body = await reply.read()
        if reply.status != 200:
            raise upstream_error(reply.status, reply.headers, credential.strike(body), now=self.instance.clock())
        return body


async def error_body(reply: HttpReply) -> bytes:
    """What an error says, as far as it arrives: a body that is cut off must not hide the status."""
    try:
        return await reply.read(MAX_ERROR_BYTES)
    except ConnectorError:
        return b""


def listed_models(body: bytes) -> list[ModelInfo]:
    """The ids in an answer to `GET /models`.

    Raises:
        ConnectorError: kind `protocol`, it is no such list.
    """
    try:
        data = decode(body)["data"]
        return [ModelInfo(item["id"]) for item in data if isinstance(item["id"], str)]
    except (JsonError, KeyError, TypeError):
        raise ConnectorError("protocol", "the upstream's list of models cannot be read") from None
