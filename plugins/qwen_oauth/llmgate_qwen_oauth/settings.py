"""What may stand under `extra:` of a qwen-oauth backend."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from llmgate_core import Meta

from .addresses import fault_of

MODELS = ("qwen3-coder-plus", "qwen3-coder-flash", "coder-model", "qwen-turbo", "qwen-plus", "qwen-max")
OVERRIDE_FLAG = "--enable-qwen-oauth-backend-debugging-override"

Seconds = Annotated[float, Meta(ge=0)]


@dataclass(frozen=True)
class QwenSettings:
    """Settings of one instance. Waits are in seconds."""

    enable_qwen_oauth_backend_debugging_override: Annotated[
        bool,
        Meta(
            cli_flag=OVERRIDE_FLAG,
            description="Lets requests reach this backend. For llmgate's own developers, contributors and "
            "maintainers, to debug and maintain compatibility; read the plugin's page first.",
        ),
    ] = False
    enable_qwen_oauth_initial_rate_limit_retry: Annotated[
        bool, Meta(description="Hold and retry the first recoverable rate limit.")
    ] = True
    qwen_oauth_initial_rate_limit_retry_max_wait_seconds: Annotated[
        Seconds, Meta(description="Upper bound of any such wait.")
    ] = 10.0
    qwen_oauth_initial_rate_limit_retry_random_min_seconds: Annotated[
        Seconds, Meta(description="Lower bound of the random wait, used where the provider names no time.")
    ] = 3.0
    qwen_oauth_initial_rate_limit_retry_random_max_seconds: Annotated[
        Seconds, Meta(description="Upper bound of the random wait.")
    ] = 10.0
    credentials_path: Annotated[
        Path | None,
        Meta(description="The credential file; by default `$QWEN_HOME/oauth_creds.json`, else in `~/.qwen`."),
    ] = None
    base_url: Annotated[
        str | None,
        Meta(pattern="^https?://", description="Takes the place of the credential file's `resource_url`."),
    ] = None
    oauth_base_url: Annotated[str, Meta(pattern="^https?://", description="Who logs in and refreshes tokens.")] = (
        "https://chat.qwen.ai"
    )
    models: Annotated[tuple[str, ...], Meta(description="What `/v1/models` lists.")] = MODELS

    def __post_init__(self) -> None:
        """Raises ValueError for crossed bounds of the random wait, and for addresses that no token may be sent to."""
        prefix = "qwen_oauth_initial_rate_limit_retry_random"
        addresses = {"base_url": self.base_url, "oauth_base_url": self.oauth_base_url}
        faults = [f"`{key}` {fault}" for key, url in addresses.items() if url is not None and (fault := fault_of(url))]
        if (
            self.qwen_oauth_initial_rate_limit_retry_random_max_seconds
            < self.qwen_oauth_initial_rate_limit_retry_random_min_seconds
        ):
            faults.append(f"`{prefix}_max_seconds` must not be below `{prefix}_min_seconds`")
        if faults:
            raise ValueError("; ".join(faults))
