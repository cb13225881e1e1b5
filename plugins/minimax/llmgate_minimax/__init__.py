"""MiniMax with an API key: a real provider with quirks, each of them met in one place.

What its requests need is in `asking`, what its answers need in `mending`, what its refusals mean in `failures`.
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

from . import asking, failures, mending

LLMGATE_PLUGIN_API = 1

REGIONS = {"global": "https://api.minimax.io/v1", "china": "https://api.minimax.cn/v1"}
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
            description="Takes the place of the region's address, with its `/v1`. Must be https, loopback excepted.",
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
            "caller's own `reasoning_split` comes first."
        ),
    ] = "split"

    def __post_init__(self) -> None:
        """Raises ValueError for an address that no key may be sent to."""
        if self.base_url is not None and not _ADDRESS.fullmatch(self.base_url):
            raise ValueError(
                "`base_url` must be an https address (http on this machine only) without user, query or fragment"
            )


class MiniMax(OpenAICompatible):
    """Chat completions; reasoning comes as one clean stream, and goes back in the form that MiniMax wants."""

    name: ClassVar[str] = "minimax"
    settings: MiniMaxSettings
    request_id_headers = ("trace-id", "minimax-request-id", "x-mm-request-id")

    def credentials(self) -> CredentialProvider:
        """The key."""
        return ApiKey(self.settings.api_key, self.instance.environ)

    def base_url(self, credential: Credential) -> str:
        """The credential's own, else the configured one, else the region's."""
        return (credential.base_url or self.settings.base_url or REGIONS[self.settings.region]).rstrip("/")

    def body(self, call: UpstreamCall) -> bytes:
        """The caller's request, with what MiniMax wants besides."""
        return asking.asked(call.body, self._splits(call)).bytes

    def classify(self, call: UpstreamCall, status: int, headers: Mapping[str, str], body: bytes) -> ConnectorError:
        """By MiniMax's own codes."""
        return failures.classify(status, headers, body, self.instance.clock())

    def mender(self, call: UpstreamCall) -> Mender:
        """One clean stream of reasoning; a failure inside a success is one."""
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
