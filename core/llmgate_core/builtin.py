"""What llmgate brings itself, through the same hooks as any plugin."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from .anthropic_compatible import VERSION, AnthropicCompatible
from .connectors import Connector, Frontend, Instance, Policy, Preset
from .credentials import ApiKey, CredentialProvider, NoCredential
from .dialects import responses
from .hookspecs import hookimpl
from .observe import log_access
from .openai_compatible import OpenAICompatible
from .request import RequestRecord
from .settings import Meta, Secret

LLMGATE_PLUGIN_API = 1


@dataclass(frozen=True)
class OpenAICompatibleSettings:
    """Settings of the connector `openai-compatible`."""

    base_url: Annotated[
        str,
        Meta(
            pattern="^https?://",
            description="Where the API is, up to and including `/v1` where the upstream has one.",
            examples=["http://127.0.0.1:11434/v1"],
        ),
    ]
    api_key: Annotated[
        Secret | None, Meta(description="The upstream's key: `env:NAME`, `file:PATH` or the key itself.")
    ] = None
    models: Annotated[
        tuple[str, ...] | None,
        Meta(description="The models that `/v1/models` lists; when left out, the upstream is asked."),
    ] = None
    responses: Annotated[
        bool, Meta(description="Whether the upstream has `/responses` too, so that such requests need no translation.")
    ] = False

    def __post_init__(self) -> None:
        """Raises ValueError for an address that could only lead to a wrong one, or that holds a secret."""
        _check_address(self.base_url, "/chat/completions")


@dataclass(frozen=True)
class AnthropicCompatibleSettings:
    """Settings of the connector `anthropic-compatible`."""

    base_url: Annotated[
        str,
        Meta(
            pattern="^https?://",
            description="Where the API is, with its `/v1` or without.",
            examples=["https://api.anthropic.com"],
        ),
    ]
    api_key: Annotated[
        Secret | None, Meta(description="The upstream's key: `env:NAME`, `file:PATH` or the key itself.")
    ] = None
    auth: Annotated[
        Literal["x-api-key", "bearer"],
        Meta(description="How the key is sent: in the header `x-api-key`, or in `Authorization` as `Bearer`."),
    ] = "x-api-key"
    anthropic_version: Annotated[
        str,
        Meta(pattern="^[!-~]+$", description="The header `anthropic-version` for callers who do not send it."),
    ] = VERSION
    models: Annotated[
        tuple[str, ...] | None,
        Meta(description="The models that `/v1/models` lists; when left out, the upstream is asked."),
    ] = None
    headers: Annotated[
        dict[str, str], Meta(description="More headers for every request; no keys, as these values are not secret.")
    ] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ValueError for an address or a header that could only be wrong, or that holds a secret."""
        _check_address(self.base_url, "/messages")
        for name, value in self.headers.items():
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
                raise ValueError("`headers` holds a name or a value that no HTTP header can have")


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"(?:[!-~](?:[ -~]*[!-~])?)?")
"""Source: RFC 9110, section 5, without what lies beyond ASCII."""


def _check_address(base_url: str, added: str) -> None:
    """Raises ValueError for an address that could only lead to a wrong one, or that holds a secret.

    Args:
        added: the end of the addresses that are asked.
    """
    address = urlsplit(base_url)
    if "@" in address.netloc:
        raise ValueError("`base_url` holds a user or a password; write the key as `api_key`")
    if address.query or address.fragment or base_url.endswith(("?", "#")):
        raise ValueError("`base_url` ends in a query; write the address alone, up to and including `/v1`")
    if address.path.rstrip("/").endswith(added):
        raise ValueError(f"`base_url` ends in `{added}`, which llmgate adds itself; leave it out")


class OpenAICompatibleConnector(OpenAICompatible):
    """Any upstream that speaks OpenAI Chat Completions, with a key or without."""

    name: ClassVar[str] = "openai-compatible"
    settings: OpenAICompatibleSettings

    def __init__(self, instance: Instance) -> None:
        super().__init__(instance)
        if self.settings.responses:
            self.dialects = self.dialects | {responses.DIALECT}

    def credentials(self) -> CredentialProvider:
        """The configured key, or none."""
        if self.settings.api_key is None:
            return NoCredential()
        return ApiKey(self.settings.api_key, self.instance.environ)

    @classmethod
    def presets(cls) -> Sequence[Preset]:
        """Providers with that API, from core's own file."""
        from .presets import own

        return own(cls.name)


class AnthropicCompatibleConnector(AnthropicCompatible):
    """Any upstream that speaks Anthropic Messages, with a key or without."""

    name: ClassVar[str] = "anthropic-compatible"
    settings: AnthropicCompatibleSettings

    def credentials(self) -> CredentialProvider:
        """The configured key, or none."""
        settings = self.settings
        if settings.api_key is None:
            return NoCredential()
        if settings.auth == "bearer":
            return ApiKey(settings.api_key, self.instance.environ)
        return ApiKey(settings.api_key, self.instance.environ, header="x-api-key", scheme="")

    def own_headers(self) -> Mapping[str, str]:
        """The configured ones."""
        return {name.lower(): value for name, value in self.settings.headers.items()}

    @classmethod
    def presets(cls) -> Sequence[Preset]:
        """Providers with that API, from core's own file."""
        from .presets import own

        return own(cls.name)


@hookimpl
def llmgate_register_connectors() -> Sequence[type[Connector]]:
    """Any upstream of one of the two APIs that most have."""
    return [OpenAICompatibleConnector, AnthropicCompatibleConnector]


@hookimpl
def llmgate_register_policies() -> Sequence[type[Policy]]:
    """Parameters in a selector's query, and a lower temperature after a failed edit, which looks at those before."""
    from .policies.edit_precision import EditPrecision
    from .policies.uri_params import UriParams

    return [UriParams, EditPrecision]


@hookimpl
def llmgate_register_frontends() -> Sequence[type[Frontend]]:
    """The HTTP rims; imported late, because a command that does not serve needs none."""
    from .frontends.anthropic_messages import AnthropicMessages
    from .frontends.catalogue import Catalogue
    from .frontends.openai_chat import OpenAIChat
    from .frontends.openai_others import OpenAIOthers
    from .frontends.openai_responses import OpenAIResponses
    from .frontends.status import Status

    return [OpenAIChat, OpenAIResponses, AnthropicMessages, OpenAIOthers, Catalogue, Status]


@hookimpl
def llmgate_request_finished(record: RequestRecord) -> None:
    """The access log."""
    log_access(record)
