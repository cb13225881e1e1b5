"""How a failure is told to callers of any dialect: the headers, the order of words, the words for our own mistakes."""

from __future__ import annotations

import math

from ..errors import KINDS, ConfigError, ConnectorError, PluginError, RequestError

_INTERNAL: tuple[tuple[type[BaseException], str, str], ...] = (
    (
        ConfigError,
        "configuration_error",
        "the gateway's configuration cannot be used; its log has the details",
    ),
    (PluginError, "plugin_error", "a plugin of the gateway cannot be used; its log has the details"),
    (BaseException, "internal_error", "internal error of the gateway; its log has the details"),
)


def internal(error: BaseException) -> tuple[str, str]:
    """Code and message for a failure of our own: nothing that only the operator should read."""
    return next((code, text) for sort, code, text in _INTERNAL if isinstance(error, sort))


def with_context(message: str, context: str) -> str:
    """What the gateway has to add comes after the message, as clients match on that."""
    return f"{message} [llmgate: {context}]" if context else message


def headers_of(error: BaseException, status: int) -> dict[str, str]:
    """The headers of an answer that tells a failure: what it is, when to come back, whether that can help."""
    headers = {"content-type": "application/json"}
    if isinstance(error, (RequestError, ConnectorError)) and error.retry_after is not None:
        headers |= _when_to_come_back(max(0.0, error.retry_after))
    if not _may_repeat(error, status):
        headers["x-should-retry"] = "false"
    return headers


def _when_to_come_back(seconds: float) -> dict[str, str]:
    """In whole seconds, as HTTP has it; where that rounds up, also in milliseconds, which SDKs read first."""
    whole = math.ceil(seconds)
    exact = {} if whole == seconds else {"retry-after-ms": str(math.ceil(seconds * 1000))}
    return {"retry-after": str(whole), **exact}


def _may_repeat(error: BaseException, status: int) -> bool:
    if isinstance(error, ConnectorError):
        return KINDS[error.kind].repeat
    return isinstance(error, RequestError) and (status in (408, 429) or error.retry_after is not None)
