"""MiniMax with an API key: a real provider with quirks, each of them met in one place.

It speaks chat and Messages. What its requests need is in `asking`, what its answers need in `mending` (chat) and
`messages_mending`, what its refusals mean in `failures`, and `reasoning` makes one text of many pieces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Annotated, ClassVar, Literal

from llmgate_core import (
    ApiKey,
    Connector,
    ConnectorError,
    Credential,
    CredentialProvider,
    Instance,
    Mender,
    Meta,
    ModelFacts,
    ModelInfo,
    OpenAICompatible,
    Preset,
    Secret,
    Simulator,
    UpstreamCall,
    hookimpl,
)

from . import asking, failures, mending, messages_mending

LLMGATE_PLUGIN_API = 1

REGIONS = {"global": "https://api.minimax.io", "china": "https://api.minimax.cn"}
CHAT, MESSAGES = "openai.chat", "anthropic.messages"
MESSAGES_PATHS = {"generate": "messages", "count_tokens": "messages/count_tokens"}
COUNTED = re.compile(r"minimax-m3\b", re.IGNORECASE)
"""Models whose tokens MiniMax is documented to count; for the others the gateway's estimate stands in."""

FACTS = ModelFacts.read(files(__name__).joinpath("models.toml").read_text(encoding="utf-8"))

_ADDRESS = re.compile(r"https://[^\s?#@\\]+|http://(localhost|127\.0\.0\.1|\[::1\])([:/][^\s?#@\\]*)?")
_KEY = Secret("env:MINIMAX_API_KEY")


@dataclass(frozen=True)
class MiniMaxSettings:
    """Settings of one instance."""

    api_key: Annotated[
        Secret,
        Meta(description="The key: `env:NAME`, `file:PATH` or the key itself; by default `env:MINIMAX_API_KEY`."),
    ] = _KEY
    region: Annotated[
        Literal["global", "china"],
        Meta(description="Where the account is: `api.minimax.io` or `api.minimax.cn`. A key works only in its own."),
    ] = "global"
    base_url: Annotated[
        str | None,
        Meta(
            pattern="^https?://",
            description="Takes the place of the region's address for chat, with its `/v1`. Must be https, loopback "
            "excepted. Without `messages_base_url` only chat is spoken then: the key goes nowhere else.",
        ),
    ] = None
    messages_base_url: Annotated[
        str | None,
        Meta(
            pattern="^https?://",
            description="The same for Messages, without `/v1`, such as `https://api.minimax.io/anthropic`. Without "
            "`base_url` only Messages is spoken then.",
        ),
    ] = None
    models: Annotated[
        tuple[str, ...],
        Meta(description="What `/v1/models` lists. Other ids may be asked for all the same."),
    ] = FACTS.ids
    reasoning: Annotated[
        Literal["split", "inline"],
        Meta(
            description="Deliver reasoning in `reasoning_content`, or leave it as `<think>` in the content. A "
            "caller's own `reasoning_split` comes first. Over Messages it is always in thinking blocks."
        ),
    ] = "split"

    def __post_init__(self) -> None:
        """Raises ValueError for an address that no key may be sent to."""
        for name in ("base_url", "messages_base_url"):
            address = getattr(self, name)
            if address is not None and not _ADDRESS.fullmatch(address):
                raise ValueError(
                    f"`{name}` must be an https address (http on this machine only) without user, query or fragment"
                )

    @property
    def dialects(self) -> frozenset[str]:
        """Those that have an address: both, unless only one was given; no region's address goes with one that was."""
        given = {CHAT: self.base_url, MESSAGES: self.messages_base_url}
        return frozenset(name for name, address in given.items() if address) or frozenset(given)


class MiniMax(OpenAICompatible):
    """Chat and Messages; reasoning comes as one clean stream, and goes back in the form that MiniMax wants."""

    name: ClassVar[str] = "minimax"
    dialects = frozenset({CHAT, MESSAGES})
    settings: MiniMaxSettings
    request_id_headers = ("trace-id", "minimax-request-id", "x-mm-request-id")

    def __init__(self, instance: Instance) -> None:
        super().__init__(instance)
        self.dialects = self.settings.dialects

    def credentials(self) -> CredentialProvider:
        """The key."""
        return ApiKey(self.settings.api_key, self.instance.environ)

    def base_url(self, credential: Credential) -> str:
        """Where chat is: the credential's own place, else the configured one, else the region's."""
        return (credential.base_url or self.settings.base_url or f"{self._region()}/v1").rstrip("/")

    def messages_url(self, credential: Credential) -> str:
        """Where Messages is, with its `/v1`."""
        found = credential.base_url or self.settings.messages_base_url or f"{self._region()}/anthropic"
        return f"{found.rstrip('/').removesuffix('/v1')}/v1"

    def url(self, call: UpstreamCall) -> str:
        """By dialect; raises ConnectorError (kind `not_found`) for what has no address."""
        if call.dialect not in self.dialects:
            raise ConnectorError("not_found", f"no address for `{call.dialect}` is configured")
        if call.dialect != MESSAGES:
            return super().url(call)
        if call.operation == "count_tokens" and not COUNTED.match(call.model):
            raise ConnectorError("not_found", f"MiniMax does not count tokens for model `{call.model}`")
        if call.operation not in MESSAGES_PATHS:
            raise ConnectorError("not_found", f"the upstream has no operation `{call.operation}`")
        return f"{self.messages_url(call.credential)}/{MESSAGES_PATHS[call.operation]}"

    def headers(self, call: UpstreamCall) -> dict[str, str]:
        """With the version of Messages that MiniMax's page names, for callers who name none."""
        version = {"anthropic-version": "2023-06-01"} if call.dialect == MESSAGES else {}
        return {**version, **super().headers(call)}

    def body(self, call: UpstreamCall) -> bytes:
        """The caller's request, with what MiniMax wants besides."""
        if call.dialect == MESSAGES:
            return asking.asked_in_messages(call.body).bytes
        return asking.asked_in_chat(call.body, self._splits(call)).bytes

    def classify(self, call: UpstreamCall, status: int, headers: Mapping[str, str], body: bytes) -> ConnectorError:
        """By MiniMax's own codes."""
        return failures.classify(status, headers, body, self.instance.clock())

    def mender(self, call: UpstreamCall) -> Mender:
        """One clean stream of reasoning; a failure inside a success is one."""
        if call.dialect == MESSAGES:
            return messages_mending.Message(self.instance.clock())
        return mending.Answer(self._splits(call), self.instance.clock())

    def facts(self, model: str) -> ModelInfo | None:
        """What MiniMax's pages say of it."""
        return FACTS.get(model)

    @classmethod
    def simulator(cls) -> Simulator:
        """The provider's stand-in."""
        from .simulator import MiniMaxSimulator

        return MiniMaxSimulator()

    @classmethod
    def presets(cls) -> Sequence[Preset]:
        """One for each region, as a key works only in its own."""
        china = Preset("minimax-china", "MiniMax, China", {"region": "china"}, link="https://platform.minimax.cn")
        either = [Preset("minimax", "MiniMax", link="https://platform.minimax.io"), china]
        return [replace(one, variable="MINIMAX_API_KEY", model=FACTS.ids[0]) for one in either]

    def _region(self) -> str:
        return REGIONS[self.settings.region]

    def _splits(self, call: UpstreamCall) -> bool:
        """Whether reasoning is told apart from the content: as the caller asks, else as configured."""
        try:
            asked = call.body.get("reasoning_split")
        except ValueError:  # a number that no float holds: the API's to judge
            asked = None
        return asked if isinstance(asked, bool) else self.settings.reasoning == "split"


@hookimpl
def llmgate_register_connectors() -> type[Connector]:
    """One connector."""
    return MiniMax
