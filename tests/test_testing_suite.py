"""The conformance suite: each check catches the connector that breaks its promise, says so, and catches no other."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import re
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest

from llmgate_core import (
    ApiKey,
    BackoffRules,
    ConnectorError,
    Credential,
    CredentialProvider,
    CredentialStatus,
    Instance,
    ModelInfo,
    OpenAICompatible,
    Preset,
    RetryPolicy,
    Secret,
    UpstreamCall,
    UpstreamReply,
)
from llmgate_core.testing import ConnectorSuite, Speech
from llmgate_core.testing.suite import bench as suite_bench
from llmgate_core.testing.suite import limits as suite_limits
from llmgate_core.testing.suite.instruments import CHAT

ROOT = Path(__file__).parent.parent
KEY = "sk-acme-0123456789abcdef"


@dataclass(frozen=True)
class AcmeSettings:
    base_url: str = "https://api.acme.example/v1"
    api_key: Secret = Secret("env:ACME_KEY")  # noqa: RUF009 - it cannot be changed


class Acme(OpenAICompatible):
    name: ClassVar[str] = "acme"
    settings: AcmeSettings

    def credentials(self) -> CredentialProvider:
        return ApiKey(self.settings.api_key, self.instance.environ)


def suite_for(broken: type[Any]) -> type[ConnectorSuite]:
    class Suite(ConnectorSuite):
        connector = broken
        environ: ClassVar[Mapping[str, str]] = {"ACME_KEY": KEY}
        patience = 0.2

    return Suite


def checks_of(suite: type[ConnectorSuite]) -> list[str]:
    return sorted(name for name in dir(suite) if name.startswith("test_"))


def broken_promises(suite: type[ConnectorSuite], folder: Path) -> dict[str, str]:
    """The checks that fail, with what they say."""
    found = {}
    for name in checks_of(suite):
        check = getattr(suite(), name)
        place = folder / name
        place.mkdir()
        try:
            check(**({"tmp_path": place} if "tmp_path" in inspect.signature(check).parameters else {}))
        except AssertionError as error:
            found[name] = str(error)
    return found


# --- one broken connector for each check ------------------------------------------------------------------------------


class NameWithSpace(Acme):
    name = "acme example"


class DialectAsText(Acme):
    dialects: Any = "openai.chat"


class NoCheck(Acme):
    check: ClassVar[Any] = None


class CheckRaises(Acme):
    def check(self) -> None:
        raise ConnectorError("disabled", "the switch is off")


@dataclass
class Loose:
    base_url: str = ""
    api_key: Secret = Secret("env:ACME_KEY")  # noqa: RUF009


class LooseSettings(Acme):
    settings: Loose  # type: ignore[assignment]


@dataclass(frozen=True)
class Odd(AcmeSettings):
    weight: complex = 0j


class OddSettings(Acme):
    settings: Odd


@dataclass(frozen=True)
class Chatty(AcmeSettings):
    def __post_init__(self) -> None:
        if "@" in self.base_url:
            raise ValueError(f"`{self.base_url}` holds a user")


class ChattySettings(Acme):
    settings: Chatty


class ReadsAtOnce(Acme):
    def __init__(self, instance: Instance) -> None:
        super().__init__(instance)
        path = instance.home / "acme.json"
        self.stored = path.read_text() if path.exists() else ""
        (instance.home / "acme.log").write_text("started")


class WritesElsewhere(Acme):
    def __init__(self, instance: Instance) -> None:
        super().__init__(instance)
        with open(os.devnull, "w") as file:
            file.write("started")


class ConnectsAtOnce(Acme):
    def retry(self) -> RetryPolicy:
        socket.socket().close()
        return super().retry()


class CannotClose(Acme):
    session: Any

    async def send(self, call: UpstreamCall) -> UpstreamReply:
        self.session = []
        return await super().send(call)

    async def aclose(self) -> None:
        self.session.clear()  # only there once something was sent


class CannotCloseAfterUse(CannotClose):
    async def aclose(self) -> None:
        if hasattr(self, "session"):
            self.session.remove("nothing")


class ClosesItselfOnce(Acme):
    closed = False

    async def aclose(self) -> None:
        if self.closed:
            raise RuntimeError("closed already")
        self.closed = True


class Forgetful:
    """A provider that forgets to say what is missing."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ

    async def get(self) -> Credential:
        return Credential({"authorization": f"Bearer {self.environ['ACME_KEY']}"})

    async def renew(self, rejected: Credential) -> Credential:
        return await self.get()

    def status(self) -> CredentialStatus:
        return CredentialStatus(True, "")


class RaisesKeyError(Acme):
    def credentials(self) -> CredentialProvider:
        return Forgetful(self.instance.environ)


class StatusAsBool(Acme):
    def credentials(self) -> CredentialProvider:
        class Provider(ApiKey):
            def status(self) -> Any:
                return True

        return Provider(self.settings.api_key, self.instance.environ)


class GivesText(Acme):
    def credentials(self) -> CredentialProvider:
        class Provider(ApiKey):
            async def get(self) -> Any:
                return (await super().get()).headers["authorization"]

        return Provider(self.settings.api_key, self.instance.environ)


class KnownFieldsOnly(Acme):
    def body(self, call: UpstreamCall) -> bytes:
        known = ("model", "messages", "max_tokens", "stream")
        return call.body.splice({}, remove=[name for name in call.body.names() if name not in known]).bytes


class DropsTheMessages(Acme):
    def body(self, call: UpstreamCall) -> bytes:
        return call.body.splice({"messages": []}).bytes


class DropsTheSystemMessage(Acme):
    def body(self, call: UpstreamCall) -> bytes:
        kept = [message for message in call.body.get("messages") if message["role"] != "system"]
        return call.body.splice({"messages": kept}).bytes


class DropsTheInput(Acme):
    dialects = frozenset({"openai.chat", "openai.responses"})

    def body(self, call: UpstreamCall) -> bytes:
        return call.body.splice({}, remove=["input"]).bytes


class ChangesTheBody(Acme):
    def body(self, call: UpstreamCall) -> bytes:
        call.body.data["user"] = "acme"
        return super().body(call)


class ChangesTheCallersHeaders(Acme):
    def headers(self, call: UpstreamCall) -> dict[str, str]:
        call.headers["x-acme"] = "1"  # type: ignore[index]
        return super().headers(call)


class ChangesTheCredentialsHeaders(Acme):
    def headers(self, call: UpstreamCall) -> dict[str, str]:
        call.credential.headers["x-acme"] = "changed-by-acme"  # type: ignore[index]
        return super().headers(call)


class OneHeaderOnly(Acme):
    def headers(self, call: UpstreamCall) -> dict[str, str]:
        return {"authorization": call.credential.headers.get("authorization", "")}


class OnlyItsOwnPlace(Acme):
    def base_url(self, credential: Credential) -> str:
        return self.settings.base_url


class OnlyTheCredentialsPlace(Acme):
    def base_url(self, credential: Credential) -> str:
        return credential.base_url or "http://127.0.0.1:9/v1"


class CallersHeadersLast(Acme):
    def headers(self, call: UpstreamCall) -> dict[str, str]:
        return {**super().headers(call), **call.headers}


class RetriesItself(Acme):
    async def send(self, call: UpstreamCall) -> UpstreamReply:
        try:
            return await super().send(call)
        except ConnectorError:
            return await super().send(call)


class RetriesRateLimits(Acme):
    async def send(self, call: UpstreamCall) -> UpstreamReply:
        try:
            return await super().send(call)
        except ConnectorError as error:
            if error.kind != "rate_limited":
                raise
            return await super().send(call)


class RetriesResets(Acme):
    async def send(self, call: UpstreamCall) -> UpstreamReply:
        try:
            return await super().send(call)
        except ConnectorError as error:
            if error.kind != "unavailable" or error.status is not None:
                raise
            return await super().send(call)


class KeepsAnswers(Acme):
    kept = b""

    async def send(self, call: UpstreamCall) -> UpstreamReply:
        if self.kept and not call.stream:
            return UpstreamReply(200, {}, self.again(), never_mind)
        return await super().send(call)

    async def events(self, call: UpstreamCall, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        seen = b""
        async for chunk in chunks:
            seen += chunk
            yield chunk
        self.kept = b"" if call.stream else seen

    async def again(self) -> AsyncGenerator[bytes, None]:
        yield self.kept


async def never_mind() -> None:
    pass


class SharesItsCall(Acme):
    async def send(self, call: UpstreamCall) -> UpstreamReply:
        self.call = call
        await asyncio.sleep(0)
        return await super().send(self.call)


class KeepsTheCredential(Acme):
    def headers(self, call: UpstreamCall) -> dict[str, str]:
        self.kept: Mapping[str, str] = getattr(self, "kept", call.credential.headers)
        return {**super().headers(call), **self.kept}


class EncodesAnew(Acme):
    async def events(self, call: UpstreamCall, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for chunk in chunks:
            yield chunk if call.stream else chunk.replace(b'{ "', b'{"')


class DecodesEachChunk(Acme):
    async def events(self, call: UpstreamCall, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for chunk in chunks:
            yield chunk.decode(errors="replace").encode() if call.stream else chunk


class DecodesEachChunkOfPlainAnswers(Acme):
    async def events(self, call: UpstreamCall, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for chunk in chunks:
            yield chunk if call.stream else chunk.decode(errors="replace").encode()


class HoldsBack(Acme):
    async def events(self, call: UpstreamCall, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        yield b"".join([chunk async for chunk in chunks])


class HoldsBackAfterTheFirst(Acme):
    async def events(self, call: UpstreamCall, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        yield await anext(chunks, b"")
        yield b"".join([chunk async for chunk in chunks])


class NeverHangsUp(Acme):
    async def send(self, call: UpstreamCall) -> UpstreamReply:
        async def nothing() -> None:
            pass

        return replace(await super().send(call), aclose=nothing)


class HangsUpIfUnread(Acme):
    async def events(self, call: UpstreamCall, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        self.read = True
        async for chunk in chunks:
            yield chunk

    async def send(self, call: UpstreamCall) -> UpstreamReply:
        self.read = False
        reply = await super().send(call)

        async def aclose() -> None:
            if not self.read:
                await reply.aclose()

        return replace(reply, aclose=aclose)


class ClosesOnce(Acme):
    async def send(self, call: UpstreamCall) -> UpstreamReply:
        reply = await super().send(call)
        left = [reply.aclose]

        async def once() -> None:
            await left.pop()()

        return replace(reply, aclose=once)


class CannotCloseWhatWasRead(Acme):
    async def send(self, call: UpstreamCall) -> UpstreamReply:
        reply = await super().send(call)
        ends = []

        async def chunks() -> AsyncGenerator[bytes, None]:
            async for chunk in reply.chunks:
                yield chunk
            ends.append("read")

        async def aclose() -> None:
            if ends == ["read", "closed"]:
                raise RuntimeError("closed already")
            ends.append("closed")
            await reply.aclose()

        return replace(reply, chunks=chunks(), aclose=aclose)


class ShieldsItsRequest(Acme):
    async def send(self, call: UpstreamCall) -> UpstreamReply:
        return await asyncio.shield(asyncio.create_task(super().send(call)))


class SwallowsTheCancellation(Acme):
    async def send(self, call: UpstreamCall) -> UpstreamReply:
        try:
            return await super().send(call)
        except asyncio.CancelledError:
            raise ConnectorError("unavailable", "gone") from None


class BlocksALittle(Acme):
    async def send(self, call: UpstreamCall) -> UpstreamReply:
        if call.stream:
            time.sleep(0.2)  # noqa: ASYNC251 - that is the mistake
        return await super().send(call)


class WrongKind(Acme):
    def classify(self, call: UpstreamCall, status: int, headers: Mapping[str, str], body: bytes) -> ConnectorError:
        error = super().classify(call, status, headers, body)
        if status == 529:
            error.kind = "bug"
        return error


class AnswersErrorsInTheStream(Acme):
    async def send(self, call: UpstreamCall) -> UpstreamReply:
        try:
            return await super().send(call)
        except ConnectorError as error:
            if not call.stream:
                raise
            words = f"data: {error}\n\n".encode()

        async def chunks() -> AsyncGenerator[bytes, None]:
            yield words

        async def aclose() -> None:
            pass

        return UpstreamReply(200, {}, chunks(), aclose)


class ReadsJsonOnly(Acme):
    def classify(self, call: UpstreamCall, status: int, headers: Mapping[str, str], body: bytes) -> ConnectorError:
        json.loads(body)
        return super().classify(call, status, headers, body)


class KnowsItsStatusesOnly(Acme):
    def classify(self, call: UpstreamCall, status: int, headers: Mapping[str, str], body: bytes) -> ConnectorError:
        error = super().classify(call, status, headers, body)
        error.status = status if status != 520 else None
        return error


class LeavesErrorsOpen(Acme):
    async def send(self, call: UpstreamCall) -> UpstreamReply:
        reply = await self.instance.http.send(
            "POST", self.url(call), headers=self.headers(call), content=self.body(call)
        )
        if not 200 <= reply.status < 300:
            said = b""
            async for chunk in reply.chunks:
                said += chunk
                if len(said) > 10_000:
                    break
            raise self.classify(call, reply.status, reply.headers, call.credential.strike(said))
        return UpstreamReply(reply.status, reply.headers, self.events(call, reply.chunks), reply.aclose)


class OwnWordsFirst(Acme):
    def classify(self, call: UpstreamCall, status: int, headers: Mapping[str, str], body: bytes) -> ConnectorError:
        error = super().classify(call, status, headers, body)
        return ConnectorError(error.kind, f"Acme: {error.message}", status=status, retry_after=error.retry_after)


class NoSeconds(Acme):
    def classify(self, call: UpstreamCall, status: int, headers: Mapping[str, str], body: bytes) -> ConnectorError:
        error = super().classify(call, status, headers, body)
        if headers.get("retry-after", "").isdigit():
            error.retry_after = None
        return error


class NoDates(Acme):
    def classify(self, call: UpstreamCall, status: int, headers: Mapping[str, str], body: bytes) -> ConnectorError:
        error = super().classify(call, status, headers, body)
        if not headers.get("retry-after", "").isdigit():
            error.retry_after = None
        return error


class DatesByAnotherClock(Acme):
    def classify(self, call: UpstreamCall, status: int, headers: Mapping[str, str], body: bytes) -> ConnectorError:
        error = super().classify(call, status, headers, body)
        if "GMT" in headers.get("retry-after", ""):
            error.retry_after = parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time()
        return error


class DatesByLocalTime(Acme):
    def classify(self, call: UpstreamCall, status: int, headers: Mapping[str, str], body: bytes) -> ConnectorError:
        error = super().classify(call, status, headers, body)
        if (told := headers.get("retry-after", "")).endswith("GMT"):
            date = datetime.strptime(told, "%a, %d %b %Y %H:%M:%S GMT")
            error.retry_after = date.timestamp() - self.instance.clock()
        return error


class HintsOfRateLimitsOnly(Acme):
    def classify(self, call: UpstreamCall, status: int, headers: Mapping[str, str], body: bytes) -> ConnectorError:
        error = super().classify(call, status, headers, body)
        if status != 429 and headers.get("retry-after", "").isdigit():
            error.retry_after = None
        return error


class RaisesOSError(Acme):
    async def send(self, call: UpstreamCall) -> UpstreamReply:
        try:
            return await super().send(call)
        except ConnectorError as error:
            if error.status is None:
                raise OSError("acme is down") from error
            raise


class SwallowsTheCut(Acme):
    async def events(self, call: UpstreamCall, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        try:
            async for chunk in chunks:
                yield chunk
        except ConnectorError:
            if not call.stream:
                raise


class SwallowsTheCutOfPlainAnswers(Acme):
    async def events(self, call: UpstreamCall, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        try:
            async for chunk in chunks:
                yield chunk
        except ConnectorError:
            if call.stream:
                raise


class TellsTheHeaders(Acme):
    def classify(self, call: UpstreamCall, status: int, headers: Mapping[str, str], body: bytes) -> ConnectorError:
        error = super().classify(call, status, headers, body)
        error.message += f" (sent: {dict(call.credential.headers)})"
        return error


class TellsTheHeadersOfADeadHost(Acme):
    async def send(self, call: UpstreamCall) -> UpstreamReply:
        try:
            return await super().send(call)
        except ConnectorError as error:
            if error.status is None:
                error.message += f" (sent: {dict(call.credential.headers)})"
            raise


class TellsTheHeadersOfACutStream(Acme):
    async def events(self, call: UpstreamCall, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        try:
            async for chunk in chunks:
                yield chunk
        except ConnectorError as error:
            raise ConnectorError(error.kind, f"cut off: {call.credential.headers}") from None


class StatusWithKey(Acme):
    def credentials(self) -> CredentialProvider:
        connector = self

        class Provider(ApiKey):
            def status(self) -> CredentialStatus:
                key = connector.settings.api_key.reveal(connector.instance.environ)
                return CredentialStatus(True, "ready", {"key": key})

        return Provider(self.settings.api_key, self.instance.environ)


class CauseWithSecret(Acme):
    async def send(self, call: UpstreamCall) -> UpstreamReply:
        try:
            return await super().send(call)
        except ConnectorError as error:
            raise error from ValueError(call.credential.headers["authorization"])


class ReprWithKey(Acme):
    def __repr__(self) -> str:
        return f"Acme({self.settings.api_key.reveal(self.instance.environ)})"


class LogsHeaders(Acme):
    def headers(self, call: UpstreamCall) -> dict[str, str]:
        found = super().headers(call)
        self.instance.logger.debug("sending %s", found)
        return found


class LogsTheCallElsewhere(Acme):
    async def send(self, call: UpstreamCall) -> UpstreamReply:
        logging.getLogger("acme.wire").info("sending %(headers)s", {"headers": dict(call.credential.headers)})
        return await super().send(call)


class LogsWithoutPropagation(Acme):
    async def send(self, call: UpstreamCall) -> UpstreamReply:
        logger = logging.getLogger("acme.alone")
        logger.propagate = False
        logger.addHandler(logging.NullHandler())
        logger.info("sending %s", call.credential.headers)
        return await super().send(call)


class LogsExtra(Acme):
    async def send(self, call: UpstreamCall) -> UpstreamReply:
        self.instance.logger.info("sending", extra={"sent": dict(call.credential.headers)})
        return await super().send(call)


class LogsWhenItCloses(Acme):
    last = ""

    async def send(self, call: UpstreamCall) -> UpstreamReply:
        self.last = call.credential.headers["authorization"]
        return await super().send(call)

    async def aclose(self) -> None:
        self.instance.logger.info("the last was %s", self.last)


class LogsItsModels(Acme):
    async def models(self, credential: Callable[[], Awaitable[Credential]]) -> Sequence[ModelInfo]:
        self.instance.logger.info("asking with %s", (await credential()).headers)
        return await super().models(credential)


class Warns(Acme):
    async def send(self, call: UpstreamCall) -> UpstreamReply:
        warnings.warn(f"sending {call.credential.headers}", stacklevel=2)
        return await super().send(call)


class LogsTheTraceback(Acme):
    async def send(self, call: UpstreamCall) -> UpstreamReply:
        try:
            return await super().send(call)
        except ConnectorError:
            try:
                raise ValueError(f"sent {call.credential.headers}") from None
            except ValueError:
                self.instance.logger.exception("acme failed")
            raise


class Policy:
    def __init__(self, decide: Callable[[ConnectorError, int], float | None]) -> None:
        self.decide = decide

    def delay(self, error: ConnectorError, attempt: int) -> float | None:
        return self.decide(error, attempt)


class RetriesForEver(Acme):
    def retry(self) -> RetryPolicy:
        return Policy(lambda error, attempt: 1.0 if error.kind == "timeout" else None)


class WaitsBackwards(Acme):
    def retry(self) -> RetryPolicy:
        return Policy(lambda error, attempt: (error.retry_after or 0.0) - 1 if attempt == 1 else None)


class BackoffAsNumber(Acme):
    def backoff(self) -> Any:
        return 10.0


class BackoffForEver(Acme):
    def backoff(self) -> BackoffRules:
        return BackoffRules(max_wait=float("inf"))


class ModelsAsTexts(Acme):
    async def models(self, credential: Callable[[], Awaitable[Credential]]) -> Sequence[ModelInfo]:
        return [model.id for model in await super().models(credential)]  # type: ignore[misc]


class ModelsTellTheSecret(Acme):
    async def models(self, credential: Callable[[], Awaitable[Credential]]) -> Sequence[ModelInfo]:
        found = await credential()
        try:
            return await super().models(credential)
        except ConnectorError as error:
            raise ConnectorError(error.kind, f"refused: {found.headers}") from None


class FactsAsMapping(Acme):
    def facts(self, model: str) -> Any:
        return {"context": 8192} if model.startswith("conformance/") else None


class FactsOfAnother(Acme):
    def facts(self, model: str) -> ModelInfo:
        return ModelInfo("acme-large", context=8192)


class FactsOfKnownModelsOnly(Acme):
    def facts(self, model: str) -> ModelInfo:
        return {"conformance-model": ModelInfo("conformance-model")}[model]


class HandsTheHttpReplyOut(Acme):
    async def send(self, call: UpstreamCall) -> Any:
        return await self.instance.http.send(
            "POST", self.url(call), headers=self.headers(call), content=self.body(call)
        )


class DeclaresMore(Acme):
    dialects = frozenset({"openai.chat", "anthropic.messages"})


class SwallowsTheCutOfOne(Acme):
    dialects = frozenset({"openai.chat", "openai.responses"})

    async def events(self, call: UpstreamCall, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        try:
            async for chunk in chunks:
                yield chunk
        except ConnectorError:
            if call.dialect == "openai.chat":
                raise


class PresetOfAnotherShape(Acme):
    @classmethod
    def presets(cls) -> list[Preset]:
        wrong = Preset("acme", "Acme", {"base_urls": KEY}, probe="https://api.acme.example/v1/models")
        return [Preset("acme-here", "Acme here"), wrong]


class PresetsOfAnInstance(Acme):
    def presets(self) -> list[Preset]:
        return []


BROKEN: list[tuple[type[Any], str, str]] = [
    (NameWithSpace, "test_name", "`name` must be"),
    (DialectAsText, "test_dialects", "must be a frozenset"),
    (NoCheck, "test_methods", "it lacks `check`"),
    (
        CheckRaises,
        "test_use_is_allowed",
        "must let requests pass .* it raised `ConnectorError` of kind `disabled` \\(the switch is off",
    ),
    (LooseSettings, "test_settings_are_a_frozen_dataclass", "frozen=True"),
    (OddSettings, "test_settings_have_a_json_schema", "field `weight`"),
    (ChattySettings, "test_settings_refuse_a_wrong_value_without_showing_it", "value of a wrong `base_url`"),
    (
        PresetOfAnotherShape,
        "test_presets_can_be_set_up",
        "`acme`: its `probe` .*; `acme`: .* `extra.base_urls`; did you",
    ),
    (PresetsOfAnInstance, "test_presets_can_be_set_up", "must be a class method .* raised `TypeError`"),
    (ReadsAtOnce, "test_construction_does_no_io", "must do no I/O, and did: `open`"),
    (WritesElsewhere, "test_construction_does_no_io", "must do no I/O, and did: `open`"),
    (ConnectsAtOnce, "test_construction_does_no_io", "must do no I/O, and did: `socket"),
    (CannotClose, "test_closing_without_use", "never used, and raised `AttributeError`"),
    (ClosesItselfOnce, "test_closing_twice", "`aclose\\(\\)` must be safe to call twice, and raised `RuntimeError`"),
    (CannotCloseAfterUse, "test_closing_twice", "a connector that was used, and raised `ValueError`"),
    (RaisesKeyError, "test_missing_credential_is_told", "kind `auth`, and raised `KeyError`"),
    (StatusAsBool, "test_credentials_tell_their_status", "must return a `CredentialStatus`"),
    (GivesText, "test_credentials_are_got", "must return a `Credential`"),
    (KnownFieldsOnly, "test_request_carries_model_and_unknown_fields", "lost: `x_conformance`, `x_flag`"),
    (DropsTheMessages, "test_request_carries_model_and_unknown_fields", "lost: `Be brief.`, `Grüße"),
    (DropsTheSystemMessage, "test_request_carries_model_and_unknown_fields", "lost: `Be brief.`$"),
    (DropsTheInput, "test_declared_dialects_are_spoken", "lost: `Grüße"),
    (ChangesTheCallersHeaders, "test_request_leaves_the_callers_body_alone", "must not change `call.headers`"),
    (ChangesTheCredentialsHeaders, "test_request_leaves_the_callers_body_alone", "or `call.credential.headers`"),
    (ChangesTheBody, "test_request_leaves_the_callers_body_alone", "must not change `call.body`"),
    (OneHeaderOnly, "test_request_uses_the_credentials_headers", "lost: `x-conformance-account`"),
    (OnlyItsOwnPlace, "test_request_goes_to_the_credentials_base_url", "must come before that of the settings"),
    (
        OnlyTheCredentialsPlace,
        "test_request_goes_to_the_settings_base_url",
        "`send\\(\\)` must return|`base_url` must be",
    ),
    (CallersHeadersLast, "test_request_keeps_the_callers_credential_out", "the caller's own credential went up"),
    (RetriesItself, "test_request_is_sent_once", "must never retry, and sent 2 requests"),
    (RetriesRateLimits, "test_request_is_sent_once", "must never retry, and sent 2 requests"),
    (RetriesResets, "test_request_is_sent_once", "must never retry, and sent 2 requests"),
    (KeepsAnswers, "test_request_is_sent_once", "also where the same was asked before; one was 0"),
    (SharesItsCall, "test_calls_do_not_mix", "3 were sent, and they arrived 0, 0, 3 times"),
    (KeepsTheCredential, "test_calls_do_not_mix", "one carried the credential of another"),
    (EncodesAnew, "test_plain_answer_passes_untouched", "bytes of a plain answer"),
    (DecodesEachChunk, "test_stream_passes_untouched_for_any_cut", "they did not in pieces of 1 bytes"),
    (DecodesEachChunkOfPlainAnswers, "test_plain_answer_passes_untouched", "they did not in pieces of 1 bytes"),
    (HoldsBack, "test_stream_begins_before_it_ends", "the first was held back"),
    (HoldsBackAfterTheFirst, "test_stream_begins_before_it_ends", "a later one was held back"),
    (NeverHangsUp, "test_aclose_hangs_up", "must hang up on the upstream, also where no chunk was read"),
    (HangsUpIfUnread, "test_aclose_hangs_up", "must hang up on the upstream, in the middle"),
    (ClosesOnce, "test_aclose_may_be_called_twice", "safe to call twice, and raised `IndexError`"),
    (CannotCloseWhatWasRead, "test_aclose_may_be_called_twice", "raised `RuntimeError` .* after all was read"),
    (ShieldsItsRequest, "test_cancelled_send_hangs_up", "must hang up on the upstream"),
    (SwallowsTheCancellation, "test_cancelled_send_hangs_up", "must let the `CancelledError` out"),
    (BlocksALittle, "test_event_loop_goes_on", "in each of 3 tries .* at \\S*test_testing_suite.py:\\d+ in `send`"),
    (
        DeclaresMore,
        "test_declared_dialects_are_spoken",
        "`dialects` has `anthropic.messages`, so such a request must go",
    ),
    (SwallowsTheCutOfOne, "test_declared_dialects_are_spoken", "of `openai.responses` that is cut off must raise"),
    (WrongKind, "test_failure_kinds", "529 is `unavailable`, not `bug`"),
    (AnswersErrorsInTheStream, "test_failure_kinds", "returned where the upstream answered 400 to a streamed call"),
    (ReadsJsonOnly, "test_any_failure_is_told", "raised `JSONDecodeError` .* answered 418 with no body"),
    (KnowsItsStatusesOnly, "test_any_failure_is_told", "it is None for 520 with no body"),
    (LeavesErrorsOpen, "test_any_failure_is_told", "3 connections are left open after 15 errors|4 connections"),
    (OwnWordsFirst, "test_failure_begins_with_the_upstreams_words", "word for word"),
    (NoSeconds, "test_retry_after_in_seconds", "`Retry-After: 90` must become retry_after=90 seconds, not None"),
    (NoDates, "test_retry_after_as_a_date", "with a date 90 seconds ahead"),
    (DatesByAnotherClock, "test_retry_after_as_a_date", "ahead of `instance.clock` must become"),
    (DatesByLocalTime, "test_retry_after_as_a_date", "in any time zone, not -28710"),
    (HintsOfRateLimitsOnly, "test_retry_after_in_seconds", "not None, where the status is 503"),
    (RaisesOSError, "test_dead_host", "kind `unavailable`, and raised `OSError`"),
    (SwallowsTheCut, "test_cut_off_stream_raises", "ended as if it were whole"),
    (SwallowsTheCutOfPlainAnswers, "test_cut_off_plain_answer_raises", "ended as if it were whole"),
    (TellsTheHeadersOfADeadHost, "test_errors_hold_no_secret", "that for a dead host does"),
    (TellsTheHeadersOfACutStream, "test_errors_hold_no_secret", "that for a stream that is cut off does"),
    (TellsTheHeaders, "test_errors_hold_no_secret", "the one for 400 does"),
    (CauseWithSecret, "test_errors_hold_no_secret", "the one for 400 does"),
    (ModelsTellTheSecret, "test_errors_hold_no_secret", "that of `models\\(\\)` does"),
    (ReprWithKey, "test_reprs_hold_no_secret", "that of the connector does"),
    (LogsHeaders, "test_log_records_hold_no_secret", "one of logger llmgate.conformance does"),
    (LogsTheCallElsewhere, "test_log_records_hold_no_secret", "one of logger acme.wire does"),
    (StatusWithKey, "test_reprs_hold_no_secret", "that of its credential's status does"),
    (LogsWithoutPropagation, "test_log_records_hold_no_secret", "one of logger acme.alone does"),
    (LogsExtra, "test_log_records_hold_no_secret", "one of logger llmgate.conformance does"),
    (LogsWhenItCloses, "test_log_records_hold_no_secret", "one of logger llmgate.conformance does"),
    (LogsItsModels, "test_log_records_hold_no_secret", "one of logger llmgate.conformance does"),
    (Warns, "test_log_records_hold_no_secret", "one of the warnings does"),
    (LogsTheTraceback, "test_log_records_hold_no_secret", "one of logger llmgate.conformance does"),
    (RetriesForEver, "test_retry_ends", "after 100 attempts it still waits for `timeout`"),
    (WaitsBackwards, "test_retry_waits_are_finite_and_not_negative", "it answered -1.0 for `disabled`"),
    (BackoffAsNumber, "test_backoff_is_rules_or_nothing", "returned a `float`"),
    (BackoffForEver, "test_backoff_is_rules_or_nothing", "raised `ValueError` \\(`max_wait` must be finite"),
    (ModelsAsTexts, "test_models", "sequence of `ModelInfo`"),
    (FactsAsMapping, "test_facts_are_model_info_or_nothing", "with the id that was asked for, or None"),
    (FactsOfAnother, "test_facts_are_model_info_or_nothing", "with the id that was asked for, or None"),
    (FactsOfKnownModelsOnly, "test_facts_are_model_info_or_nothing", "for any model, .* and raised `KeyError`"),
]


def test_a_good_connector_keeps_every_promise(tmp_path: Path) -> None:
    assert broken_promises(suite_for(Acme), tmp_path) == {}


@pytest.mark.parametrize(("connector", "check", "words"), BROKEN, ids=[broken[0].__name__ for broken in BROKEN])
@pytest.mark.filterwarnings("ignore:sending")
def test_a_broken_promise_fails_its_own_check_only(
    connector: type[Any], check: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = suite_for(connector)
    if connector is BlocksALittle:
        monkeypatch.setattr(suite_limits, "TURN_SECONDS", 0.1)
        suite.patience = 2.0
    found = broken_promises(suite, tmp_path)
    assert list(found) == [check], found
    assert re.search(words, found[check]), found[check]
    assert KEY not in found[check]


def test_every_check_has_its_broken_connector() -> None:
    # Settings that do not decode leave nothing to try: every other check says the same then, see below.
    assert {check for _, check, _ in BROKEN} == set(checks_of(ConnectorSuite)) - {"test_settings_decode"}


def test_settings_that_do_not_decode_are_told(tmp_path: Path) -> None:
    suite = type("Suite", (suite_for(Acme),), {"extra": {"api_kee": "x"}})
    found = broken_promises(suite, tmp_path)
    assert "unknown key `extra.api_kee`; did you mean `api_key`?" in found["test_settings_decode"]
    others = [words for check, words in found.items() if check != "test_settings_decode"]
    assert others
    assert all("set `extra` or `settings_for`" in words for words in others)


def test_a_reply_of_another_type_is_told(tmp_path: Path) -> None:
    found = broken_promises(suite_for(HandsTheHttpReplyOut), tmp_path)
    words = "`send()` must return an `UpstreamReply`, and returned a `HttpReply`"
    assert found["test_plain_answer_passes_untouched"] == words


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"status": "200"}, "`UpstreamReply.status` must be the upstream's, from 200 to 299"),
        ({"headers": {b"a": b"b"}}, "`UpstreamReply.headers` must be a mapping of texts to texts"),
        ({"headers": None}, "`UpstreamReply.headers` must be a mapping of texts to texts"),
    ],
)
def test_a_reply_with_another_head_is_told(wrong: Mapping[str, Any], words: str, tmp_path: Path) -> None:
    class WrongHead(Acme):
        async def send(self, call: UpstreamCall) -> UpstreamReply:
            return replace(await super().send(call), **wrong)

    with pytest.raises(AssertionError, match=f"^{words}$"):
        suite_for(WrongHead)().test_plain_answer_passes_untouched(tmp_path)


async def never() -> Any:
    await asyncio.Event().wait()


class SendHangs(Acme):
    async def send(self, call: UpstreamCall) -> UpstreamReply:
        return await never()  # type: ignore[no-any-return]


class StreamHangs(Acme):
    async def events(self, call: UpstreamCall, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for chunk in chunks:
            yield chunk
            await never()


class ReplyNeverCloses(Acme):
    async def send(self, call: UpstreamCall) -> UpstreamReply:
        return replace(await super().send(call), aclose=never)


class ModelsHang(Acme):
    async def models(self, credential: Callable[[], Awaitable[Credential]]) -> Sequence[ModelInfo]:
        return await never()  # type: ignore[no-any-return]


class NeverCloses(Acme):
    async def aclose(self) -> None:
        await never()


class NeverGives(Acme):
    def credentials(self) -> CredentialProvider:
        class Provider(Forgetful):
            get = staticmethod(never)

        return Provider({})


@pytest.mark.parametrize(
    ("connector", "checks", "what"),
    [
        (SendHangs, ["plain_answer_passes_untouched", "failure_kinds", "dead_host", "closing_twice"], "`send()`"),
        (StreamHangs, ["plain_answer_passes_untouched", "cut_off_stream_raises"], "reading `UpstreamReply.chunks`"),
        (ReplyNeverCloses, ["aclose_hangs_up", "plain_answer_passes_untouched"], "`UpstreamReply.aclose()`"),
        (ModelsHang, ["models", "errors_hold_no_secret"], "`models()`"),
        (NeverCloses, ["closing_twice", "closing_without_use"], "`aclose()`"),
        (NeverGives, ["credentials_are_got", "missing_credential_is_told", "reprs_hold_no_secret"], "`credentials()"),
    ],
)
def test_a_call_that_hangs_is_told_by_name(
    connector: type[Any], checks: Sequence[str], what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite_limits, "CALL_SECONDS", 0.2)
    monkeypatch.setattr(suite_bench, "CLOSING_SECONDS", 0.1)
    for check in checks:
        with pytest.raises(AssertionError, match=f"^{re.escape(what)}.* must come to its end, and hung for 0.2 s$"):
            getattr(suite_for(connector)(), f"test_{check}")(tmp_path)


def test_a_connector_that_does_not_close_fails_the_checks_of_closing_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite_bench, "CLOSING_SECONDS", 0.05)
    monkeypatch.setattr(suite_limits, "CALL_SECONDS", 2.0)
    assert list(broken_promises(suite_for(NeverCloses), tmp_path)) == ["test_closing_twice", "test_closing_without_use"]


def test_a_check_that_does_not_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite_bench, "CHECK_SECONDS", 0.2)
    with pytest.raises(AssertionError, match=r"calls must come to their end: .* have not within 0\.2 s"):
        suite_for(SendHangs)().test_plain_answer_passes_untouched(tmp_path)


def test_what_a_connector_mends_can_be_said(tmp_path: Path) -> None:
    class Ends(Acme):
        async def events(self, call: UpstreamCall, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
            async for chunk in chunks:
                yield chunk
            if call.stream:
                yield b"\n\n"

    class Suite(suite_for(Ends)):  # type: ignore[misc]
        def mended(self, sent: bytes, *, stream: bool) -> bytes:
            return sent + b"\n\n" if stream else sent

    assert broken_promises(Suite, tmp_path) == {}


def test_other_settings_and_another_dialect_can_be_said(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Place:
        address: str

    class Elsewhere(OpenAICompatible):
        name = "elsewhere"
        dialects = frozenset({"acme.talk"})

        def base_url(self, credential: Credential) -> str:
            return str(credential.base_url or self.settings.address)

        async def send(self, call: UpstreamCall) -> UpstreamReply:
            assert (call.dialect, call.body.get("said")) == ("acme.talk", "hello")
            return await super().send(call)

    Elsewhere.__annotations__["settings"] = Place

    class Suite(suite_for(Elsewhere)):  # type: ignore[misc]
        def settings_for(self, url: str, folder: Path) -> Mapping[str, Any]:
            return {"address": url}

        def request(self, *, stream: bool) -> Mapping[str, Any]:
            return {"model": self.model, "said": "hello", "stream": stream}

    assert broken_promises(Suite, tmp_path) == {}


# --- as an author meets it --------------------------------------------------------------------------------------------


def pytest_run(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "-o", "addopts="]
    return subprocess.run(
        [*command, "--rootdir", str(folder), "test_conformance.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_the_suite_of_the_plugin_page_passes(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    section = page.partition("## Run the conformance suite\n")[2].partition("\n## ")[0]
    [example] = re.findall(r"^```py\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    [acme] = re.findall(r"^```python\n(# acme\.py\n.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "acme.py").write_text(acme, encoding="utf-8")
    (tmp_path / "test_conformance.py").write_text(example, encoding="utf-8")
    done = pytest_run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(checks_of(ConnectorSuite))} passed" in done.stdout


def test_a_failure_is_told_in_words_and_not_in_the_suites_code(tmp_path: Path) -> None:
    (tmp_path / "test_conformance.py").write_text(
        "from llmgate_core import OpenAICompatible\n"
        "from llmgate_core.testing import ConnectorSuite\n\n\n"
        "class Nameless(OpenAICompatible):\n    name = 'no name'\n    settings: None\n"
        "    def base_url(self, credential: object) -> str:\n        return credential.base_url\n\n\n"
        "class TestNameless(ConnectorSuite):\n    connector = Nameless\n",
        encoding="utf-8",
    )
    done = pytest_run(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"1 failed, {len(checks_of(ConnectorSuite)) - 1} passed" in done.stdout, done.stdout
    assert "AssertionError: `name` must be a text of letters, digits, `-` and `_`" in done.stdout


def test_the_suite_imports_no_plugin_of_pytest() -> None:
    program = (
        "import sys, llmgate_core.testing.suite; print([m for m in sys.modules if m.startswith(('pytest', '_pytest'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_how_an_upstream_is_asked_for_a_stream_can_be_said(tmp_path: Path) -> None:
    class Drips(Acme):
        def url(self, call: UpstreamCall) -> str:
            return super().url(call) + ("?drip" if call.stream else "")

        def body(self, call: UpstreamCall) -> bytes:
            return call.body.splice({}, remove=["stream"]).bytes

    class Suite(suite_for(Drips)):  # type: ignore[misc]
        def speech(self) -> Speech:
            return replace(CHAT, streams=lambda request: request.query == "drip")

    assert broken_promises(Suite, tmp_path) == {}
