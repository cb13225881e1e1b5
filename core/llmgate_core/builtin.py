"""What llmgate brings itself, through the same hooks as any plugin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from .connectors import Connector, Frontend, Policy
from .credentials import ApiKey, CredentialProvider, NoCredential
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

    def __post_init__(self) -> None:
        """Raises ValueError for an address that could only lead to a wrong one, or that holds a secret."""
        address = urlsplit(self.base_url)
        if "@" in address.netloc:
            raise ValueError("`base_url` holds a user or a password; write the key as `api_key`")
        if address.query or address.fragment or self.base_url.endswith(("?", "#")):
            raise ValueError("`base_url` ends in a query; write the address alone, up to and including `/v1`")
        if address.path.rstrip("/").endswith("/chat/completions"):
            raise ValueError("`base_url` ends in `/chat/completions`, which llmgate adds itself; leave it out")


class OpenAICompatibleConnector(OpenAICompatible):
    """Any upstream that speaks OpenAI Chat Completions, with a key or without."""

    name: ClassVar[str] = "openai-compatible"
    settings: OpenAICompatibleSettings

    def credentials(self) -> CredentialProvider:
        """The configured key, or none."""
        if self.settings.api_key is None:
            return NoCredential()
        return ApiKey(self.settings.api_key, self.instance.environ)


@hookimpl
def llmgate_register_connectors() -> type[Connector]:
    """One connector."""
    return OpenAICompatibleConnector


@hookimpl
def llmgate_register_policies() -> Sequence[type[Policy]]:
    """Parameters in a selector's query, and a lower temperature after a failed edit, which looks at those before."""
    from .policies.edit_precision import EditPrecision
    from .policies.uri_params import UriParams

    return [UriParams, EditPrecision]


@hookimpl
def llmgate_register_frontends() -> Sequence[type[Frontend]]:
    """The HTTP rims; imported late, because a command that does not serve needs none."""
    from .frontends.catalogue import Catalogue
    from .frontends.openai_chat import OpenAIChat
    from .frontends.status import Status

    return [OpenAIChat, Catalogue, Status]


@hookimpl
def llmgate_request_finished(record: RequestRecord) -> None:
    """The access log."""
    log_access(record)
