"""A policy: no answer is longer than its caller may have, whatever the request says. An example, and of use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from llmgate_core import GatewayRequest, Leaf, Meta, Params, Policy, Verdict, hookimpl

LLMGATE_PLUGIN_API = 1

Tokens = Annotated[int, Meta(ge=1)]


@dataclass(frozen=True)
class CapTokensSettings:
    """How long an answer may be."""

    limit: Annotated[int, Meta(ge=1, description="Tokens of an answer, for callers without a limit of their own.")]
    callers: Annotated[
        dict[str, Tokens], Meta(description="Tokens by the name of a caller's key (`auth.api_keys`).")
    ] = field(default_factory=dict)


class CapTokens:
    """Sets `max_tokens` where the request asks for more, or does not say."""

    name: ClassVar[str] = "cap-tokens"
    settings: CapTokensSettings

    def __init__(self, settings: CapTokensSettings) -> None:
        self.settings = settings

    def apply(self, request: GatewayRequest, leaf: Leaf, params: Params) -> Verdict:
        """The parameters, capped; what the operator forces is left as it is."""
        limits: Mapping[str, int] = self.settings.callers
        limit = limits.get(request.caller or "", self.settings.limit)
        asked = params.effective().get("max_tokens")
        # Some upstreams take 0 or -1 for no limit at all.
        if asked and (asked.layer == "forced" or (type(asked.value) is int and 1 <= asked.value <= limit)):
            return Verdict(params)
        # The selector's query outranks policies, so that it must not say more either.
        capped = params.without("max_tokens", ["uri"]).with_layer("policy", {"max_tokens": limit})
        return Verdict(capped, effects={"max_tokens": {"x-llmgate-capped": f"max_tokens={limit}"}})


@hookimpl
def llmgate_register_policies() -> type[Policy]:
    """One policy."""
    return CapTokens
