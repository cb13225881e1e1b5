"""Ollama's native API: one server on a machine of one's own, models by name, a stream that has one object a line.

What a request becomes is in `asking`, what an answer becomes in `answering`, what a refusal means in `failures`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from llmgate_core import (
    Body,
    Connector,
    ConnectorError,
    Credential,
    HttpConnector,
    Mender,
    Meta,
    ModelInfo,
    Simulator,
    UpstreamCall,
    hookimpl,
    json_lines,
)

from . import answering, asking, failures

LLMGATE_PLUGIN_API = 1


@dataclass(frozen=True)
class OllamaSettings:
    """Settings of one instance."""

    base_url: Annotated[
        str,
        Meta(pattern="^https?://", description="Where Ollama listens; a `/v1` at the end is taken off."),
    ] = "http://127.0.0.1:11434"
    num_ctx: Annotated[
        int | None,
        Meta(
            ge=1,
            description="Context length, in tokens, with which models are loaded; null leaves it to Ollama. A caller's "
            "own `num_ctx` comes first.",
        ),
    ] = None
    keep_alive: Annotated[
        str | None,
        Meta(
            min_length=1,
            description="How long a model stays in memory after a request, such as `30m`; null leaves it to Ollama.",
        ),
    ] = None
    models: Annotated[
        tuple[str, ...] | None,
        Meta(description="What `/v1/models` lists; null asks Ollama what it has."),
    ] = None


class Ollama(HttpConnector):
    """Chat completions, said to `/api/chat` and heard from it."""

    name: ClassVar[str] = "ollama"
    dialects = frozenset({"openai.chat"})
    paths: ClassVar[Mapping[str, str]] = {"generate": "api/chat"}
    address_hint: ClassVar[str] = "is `base_url` the address of an Ollama?"
    settings: OllamaSettings

    def base_url(self, credential: Credential) -> str:
        """The address without the `/v1` of Ollama's other API, which many copy along."""
        return super().base_url(credential).removesuffix("/v1")

    def headers(self, call: UpstreamCall) -> dict[str, str]:
        """Says that the stream has one object a line."""
        return {**super().headers(call), "accept": "application/x-ndjson" if call.stream else "application/json"}

    def body(self, call: UpstreamCall) -> bytes:
        """The request in Ollama's words."""
        return asking.asked(
            call.body, stream=call.stream, num_ctx=self.settings.num_ctx, keep_alive=self.settings.keep_alive
        ).bytes

    def lost(self, call: UpstreamCall) -> list[str]:
        """What Ollama has no place for."""
        return asking.lost(call.body)

    def classify(self, call: UpstreamCall, status: int, headers: Mapping[str, str], body: bytes) -> ConnectorError:
        """A model that is not there is told with what to do."""
        return failures.classify(call.model, status, headers, body, self.instance.clock())

    def reply_headers(self, call: UpstreamCall, headers: Mapping[str, str]) -> Mapping[str, str]:
        """What the answer has become."""
        return {**headers, "content-type": "text/event-stream" if call.stream else "application/json"}

    def mender(self, call: UpstreamCall) -> Mender:
        """Translates a plain answer."""
        return _Whole(self._answer(call))

    def events(self, call: UpstreamCall, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """Translates a stream; a plain answer goes to the mender."""
        return _streamed(self._answer(call), chunks) if call.stream else super().events(call, chunks)

    def facts(self, model: str) -> ModelInfo | None:
        """What core knows of the model's family; the context is the configured one, whatever the model could hold."""
        known = super().facts(model)
        if self.settings.num_ctx is None:
            return known
        source = "the setting `num_ctx`" if known is None else f"the setting `num_ctx`; {known.source}"
        return replace(known or ModelInfo(model), context=self.settings.num_ctx, source=source)

    async def list_models(self, credential: Credential) -> list[ModelInfo]:
        """What Ollama has on its disk."""
        return answering.listed(await self.get(f"{self.base_url(credential)}/api/tags", credential))

    @classmethod
    def simulator(cls) -> Simulator:
        """A stand-in for an Ollama."""
        from .simulator import OllamaSimulator

        return OllamaSimulator()

    def _answer(self, call: UpstreamCall) -> answering.Answer:
        return answering.Answer(call.request_id, call.model, self.instance.clock(), asking.wants_usage(call.body))


class _Whole(Mender):
    def __init__(self, answer: answering.Answer) -> None:
        self._answer = answer

    def whole(self, body: Body) -> Body:
        return self._answer.whole(body)


async def _streamed(answer: answering.Answer, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    lines = json_lines(chunks)
    try:
        async for line in lines:
            if said := answer.event(line):
                yield said
    finally:
        await lines.aclose()
    answer.check_end()


@hookimpl
def llmgate_register_connectors() -> type[Connector]:
    """One connector."""
    return Ollama
