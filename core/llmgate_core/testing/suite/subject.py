"""What the conformance suite tries, and how an author sets it up: attributes, hooks, the connector's world."""

from __future__ import annotations

import logging
import random
import tempfile
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar

from ...connectors import Connector, HttpClient, Instance
from ...errors import ConnectorError, words_of
from ...plugins import place, settings_type
from ...secret import MissingSecret, Secret
from ...settings import Fault, decode
from .instruments import CHAT, LOGGER, SPEECHES, Speech, Untouchable

SYSTEM, SAID = "Be brief.", "Grüße, 世界 🙂"
"""What the suite's requests say."""
NOWHERE = "http://127.0.0.1:9/v1"
"""An address for connectors that are never asked to send."""


def promise(kept: bool, words: str) -> None:
    """Raises AssertionError with `words`, which say what a connector must do, unless the promise was kept."""
    __tracebackhide__ = True
    if not kept:
        raise AssertionError(words)


def described(error: BaseException, package: str = "") -> str:
    """An exception in a sentence, with the place of one that nobody raises on purpose, in `package` if it can be."""
    if isinstance(error, ConnectorError):
        return f"`{type(error).__name__}` of kind `{error.kind}` ({error})"
    return f"`{type(error).__name__}` ({words_of(error)}){place(error, package)}"


def package_of(connector: type[Connector]) -> str:
    """The package that a connector is in: where something stands or is raised, its lines are told."""
    return connector.__module__.partition(".")[0]


class Subject:
    """What is tried, and how it is set up. ConnectorSuite explains the attributes to authors."""

    connector: ClassVar[type[Connector]]
    extra: ClassVar[Mapping[str, Any]] = {}
    environ: ClassVar[Mapping[str, str]] = {}
    model: ClassVar[str] = "conformance-model"
    now: ClassVar[float] = 1_800_000_000.0
    patience: ClassVar[float] = 5.0

    def settings_for(self, url: str, folder: Path) -> Mapping[str, Any]:
        """The `extra:` with which the connector talks to the upstream at `url`, which ends in `/v1`.

        By default `extra`, with `base_url` where the settings have such a field. Override it for other names, and
        for files that the connector needs: they go into `folder`, which is also the connector's home folder.
        """
        return {**self.extra, "base_url": url} if self.has_setting("base_url") else self.extra

    def dialect(self) -> str:
        """The dialect of the suite's requests: OpenAI chat where the connector speaks it, else its first."""
        spoken: Any = self._spoken() or ()
        return "openai.chat" if "openai.chat" in spoken or not spoken else min(spoken)

    def _spoken(self) -> object:
        """The connector's `dialects`: the class says, else an instance, as settings may decide."""
        found = getattr(self.connector, "dialects", None)
        if isinstance(found, frozenset):
            return found
        if "_seen" not in vars(self):
            with tempfile.TemporaryDirectory(prefix="llmgate-conformance-") as folder:
                made = self.connector(self.instance(Untouchable(), Path(folder)))
                self._seen: object = getattr(made, "dialects", None)
        return self._seen

    def speech(self) -> Speech:
        """What the upstream answers, by default in the dialect of the requests.

        Override it for an upstream that answers in a form of its own, which the connector translates; then `mended`
        says what the caller gets of it.
        """
        return SPEECHES.get(self.dialect(), CHAT)

    def request(self, *, stream: bool) -> Mapping[str, Any]:
        """The body of a request that the connector can send; override it for another dialect than the suite knows.

        It knows OpenAI chat, OpenAI Responses and Anthropic Messages.
        """
        return request_in(self.dialect(), self.model, stream=stream)

    def mended(self, sent: bytes, *, stream: bool) -> bytes:
        """What the caller gets where the upstream has sent `sent`: the same, unless the connector mends it."""
        return sent

    def has_setting(self, name: str) -> bool:
        """Whether the connector's settings have a field of this name."""
        kind = settings_type(self.connector)
        return is_dataclass(kind) and name in {entry.name for entry in fields(kind)}

    def decoded(self, url: str, folder: Path) -> tuple[Any, list[Fault]]:
        """The settings for `url`, or what is wrong with them."""
        kind = settings_type(self.connector)
        return (None, []) if kind is None else decode(kind, self.settings_for(url, folder))

    def instance(self, http: HttpClient, folder: Path, url: str = NOWHERE) -> Instance:
        """The world for one connector. Raises AssertionError when the settings cannot be decoded."""
        settings, faults = self.decoded(url, folder)
        promise(not faults, f"the suite's settings do not decode ({told(faults)}); set `extra` or `settings_for`")
        return Instance(
            name=f"{self.connector.name}.conformance",
            settings=settings,
            http=http,
            clock=lambda: self.now,
            random=random.Random(1),  # noqa: S311 - the same in every run
            environ=self.environ,
            home=folder,
            logger=logging.getLogger(LOGGER),
        )


def request_in(dialect: str, model: str, *, stream: bool) -> Mapping[str, Any]:
    """The body of a request in a dialect; like chat where the suite does not know it."""
    system, said = SYSTEM, [{"role": "user", "content": SAID}]
    flag = {"stream": True} if stream else {}
    if dialect == "openai.responses":
        return {"model": model, "instructions": system, "input": said, "max_output_tokens": 16, **flag}
    told: Mapping[str, Any] = {"messages": [{"role": "system", "content": system}, *said]}
    if dialect == "anthropic.messages":
        told = {"system": system, "messages": said}
    return {"model": model, **told, "max_tokens": 16, **flag}


def told(faults: list[Fault]) -> str:
    """Faults of settings in one line."""
    return "; ".join(message for _, message in faults)


def configured_secrets(settings: Any, environ: Mapping[str, str]) -> list[str]:
    """The values behind the `Secret` fields of decoded settings, as far as they can be found."""
    if not is_dataclass(settings):
        return []
    values = [getattr(settings, entry.name) for entry in fields(settings)]
    found = []
    for value in values:
        try:
            found += [value.reveal(environ)] if isinstance(value, Secret) else configured_secrets(value, environ)
        except MissingSecret:
            continue
    return found
