"""llmgate's reference OAuth connector: Qwen through the credential file of the Qwen CLI.

It exists for debugging and interoperability, and refuses all requests unless its operator says otherwise; see README.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import ClassVar

from llmgate_core import (
    BackoffRules,
    Connector,
    ConnectorError,
    CredentialProvider,
    Instance,
    Mender,
    ModelFacts,
    ModelInfo,
    OpenAICompatible,
    RetryPolicy,
    Simulator,
    UpstreamCall,
    UpstreamReply,
    hookimpl,
)

from . import failures
from .addresses import is_loopback
from .credentials import QwenCredentials
from .messages import shaped
from .settings import OVERRIDE_FLAG, QwenSettings

LLMGATE_PLUGIN_API = 1
LLMGATE_PLUGIN_ASKS_FOR = ("file `~/.qwen/oauth_creds.json`, or the one in `$QWEN_HOME`, which it reads and writes",)

FACTS = ModelFacts.read(files(__name__).joinpath("models.toml").read_text(encoding="utf-8"))

DISABLED = (
    "Forbidden: the backend `{name}` is for llmgate's own development and debugging, and is switched off. "
    f"The switch is `{OVERRIDE_FLAG}`, or `enable_qwen_oauth_backend_debugging_override: true` in its `extra`; "
    "read the plugin's page before you use it."
)
STANDING = (
    "this backend is for llmgate's developers, contributors and maintainers, to debug and maintain compatibility; "
    "others must not use it. llmgate is independent: not affiliated with, endorsed or authorised by Alibaba Cloud, the "
    "Qwen team or their affiliates; names are their owners' trademarks. You answer for your own compliance with the "
    "provider's terms and the law, authors and contributors carry no liability, and you indemnify them. Whoever does "
    "not agree does not use it. The provider ended its free OAuth tier on 2026-04-15."
)


class QwenOAuth(OpenAICompatible):
    """Chat completions with an OAuth token; the provider's demands on messages are met here."""

    name: ClassVar[str] = "qwen-oauth"
    settings: QwenSettings

    def __init__(self, instance: Instance) -> None:
        super().__init__(instance)
        self._credentials = QwenCredentials(instance, self.settings)
        if not self.settings.enable_qwen_oauth_backend_debugging_override:
            instance.logger.warning("%s", DISABLED.format(name=instance.name))
        elif not is_loopback(self.settings.oauth_base_url):  # a simulator's users need no warning
            instance.logger.warning("%s", STANDING)

    def check(self) -> None:
        """Refuses unless the operator has thrown the switch."""
        if not self.settings.enable_qwen_oauth_backend_debugging_override:
            raise ConnectorError("disabled", DISABLED.format(name=self.instance.name))

    def credentials(self) -> CredentialProvider:
        """The file's."""
        return self._credentials

    def retry(self) -> RetryPolicy:
        """The first rate limit is held."""
        return failures.InitialRateLimitRetry(self.settings, self.instance.random)

    def backoff(self) -> BackoffRules:
        """One deadline for the whole backend, as the provider counts; where nothing is held, nobody waits."""
        settings = self.settings
        held = settings.enable_qwen_oauth_initial_rate_limit_retry
        longest = settings.qwen_oauth_initial_rate_limit_retry_max_wait_seconds if held else 0.0
        return BackoffRules(
            max_wait=longest,
            name="Qwen OAuth connector-wide rate-limit backoff",
            unhinted=settings.qwen_oauth_initial_rate_limit_retry_random_max_seconds,
        )

    def facts(self, model: str) -> ModelInfo | None:
        """What is known of the models that were served with OAuth tokens."""
        return FACTS.get(model)

    def headers(self, call: UpstreamCall) -> dict[str, str]:
        """What tells the API that this is an OAuth token and that cache markers count."""
        own = {"x-dashscope-authtype": "qwen-oauth", "x-dashscope-cachecontrol": "enable"}
        return super().headers(call) | own

    def body(self, call: UpstreamCall) -> bytes:
        """The conversation in the shape that the API demands."""
        return shaped(call.body).bytes

    async def send(self, call: UpstreamCall) -> UpstreamReply:
        """As any OpenAI-compatible connector; that the token was accepted is noted."""
        reply = await super().send(call)
        self._credentials.accepted(call.credential)
        return reply

    def classify(self, call: UpstreamCall, status: int, headers: Mapping[str, str], body: bytes) -> ConnectorError:
        """By the provider's own rules."""
        is_dead = status == 401 and self._credentials.is_tier_dead(call.credential)
        return failures.classify(status, headers, body, self.instance.clock(), is_tier_dead=is_dead)

    def mender(self, call: UpstreamCall) -> Mender:
        """Failures come inside a 200, too."""
        return failures.Judge()

    @classmethod
    def simulator(cls) -> Simulator:
        """The provider's stand-in."""
        from .simulator import QwenSimulator

        return QwenSimulator()


@hookimpl
def llmgate_register_connectors() -> type[Connector]:
    """One connector."""
    return QwenOAuth
