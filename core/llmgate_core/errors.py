"""Everything that llmgate raises on purpose.

    GatewayError
    ├── ConfigError        the operator's files, flags or environment; carries every Problem at once
    ├── PluginError        a plugin that was asked for cannot be used
    ├── RequestError       the caller's request cannot be served as it stands (4xx)
    │   └── SelectorError  ... because of the text in `model`; knows the column
    └── ConnectorError     one attempt at an upstream failed; its `kind` decides what happens next

Nothing in here knows HTTP libraries or wire formats: `dialects/` turns these into answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal[
    "disabled",
    "denied",
    "auth",
    "rate_limited",
    "quota",
    "bad_request",
    "context_length",
    "not_found",
    "unavailable",
    "timeout",
    "protocol",
    "bug",
]

PLUGIN_FAULTS = (Exception, SystemExit, KeyboardInterrupt)
"""What plugin code may raise without harm to others: `sys.exit()` is no reason to end the gateway.

Nor is a KeyboardInterrupt: while a gateway serves, a real Ctrl-C comes by another way. What else is no Exception,
`ownership.contained` makes one of.
"""


def words_of(error: BaseException) -> str:
    """The text of what plugin code raised, which may fail to tell it."""
    try:
        return str(error)
    except Exception:
        return "(it cannot be told)"


@dataclass(frozen=True)
class KindFacts:
    """What a kind of failure means for the caller.

    `status` is the HTTP status of the answer (None: the upstream's own), `code` the machine-readable
    code used when the upstream gave none, `repeat` whether the same request may succeed if it is
    simply sent again, `failover` whether another branch of the plan may be tried.
    """

    status: int | None
    code: str
    repeat: bool
    failover: bool = True


KINDS: dict[Kind, KindFacts] = {
    "disabled": KindFacts(403, "backend_disabled", repeat=False),
    "denied": KindFacts(403, "access_denied", repeat=False),
    "auth": KindFacts(502, "upstream_auth", repeat=False),
    "rate_limited": KindFacts(429, "rate_limit_exceeded", repeat=True),
    "quota": KindFacts(429, "insufficient_quota", repeat=False),
    "bad_request": KindFacts(None, "bad_request", repeat=False, failover=False),
    "context_length": KindFacts(400, "context_length_exceeded", repeat=False),
    "not_found": KindFacts(404, "model_not_found", repeat=False),
    "unavailable": KindFacts(502, "upstream_unavailable", repeat=True),
    "timeout": KindFacts(504, "upstream_timeout", repeat=True),
    "protocol": KindFacts(502, "upstream_protocol_error", repeat=True),
    "bug": KindFacts(502, "connector_bug", repeat=False),
}
assert set(KINDS) == set(get_args(Kind))  # noqa: S101 - the two lists above are one list


class GatewayError(Exception):
    """Base of every error that llmgate raises on purpose."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the configuration, and where.

    `source` is a file, or the name of a flag or environment variable; `line` counts from 1 and is None
    where there are no lines. `message` never contains a configured value: it might be a key.
    """

    source: str
    line: int | None
    message: str

    @property
    def where(self) -> str:
        """The source, and the line in it if there is one: `config.yaml:3`."""
        return f"{self.source}:{self.line}" if self.line else self.source

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class ConfigError(GatewayError):
    """The configuration cannot be used. Carries every problem, sorted by file and line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.source, problem.line or 0)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class PluginError(GatewayError):
    """A plugin cannot be imported, registered or used. The message names its distribution."""


class RequestError(GatewayError):
    """The caller's request cannot be served as it stands.

    `status` is a 4xx; `code` is the machine-readable reason; `param` is the field at fault, if one is.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str = "invalid_request",
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.param = param
        self.retry_after = retry_after


CARET_WINDOW = 60
"""Characters of a selector that are shown on either side of a mistake."""


class SelectorError(RequestError):
    """The selector in `model` is wrong. `column` counts from 0 inside `text`."""

    def __init__(self, message: str, text: str, column: int, *, status: int = 400, code: str = "") -> None:
        self.text = text
        self.column = column
        begin = max(0, column - CARET_WINDOW)
        shown = text[begin : column + CARET_WINDOW]
        super().__init__(
            f"{message}\n  {shown}\n  {' ' * (column - begin)}^",
            status=status,
            code=code or "invalid_selector",
            param="model",
        )
        self.reason = message


class ConnectorError(GatewayError):
    """One attempt at an upstream failed.

    Connectors raise it, the executor decides by `kind` what to do. `message` is shown to the caller:
    an upstream's own words stay word for word at its beginning.

    Args:
        kind: one of `Kind`.
        message: what happened and what to do next; must not hold a secret.
        status: the upstream's HTTP status, None when there was no answer.
        retry_after: seconds that the upstream asked to wait, None when it did not say.
        code, type, param: the fields of that name in the upstream's error object.
        upstream_request_id: the upstream's own id of the request.
    """

    def __init__(
        self,
        kind: Kind,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        code: str | None = None,
        type: str | None = None,
        param: str | None = None,
        upstream_request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.kind: Kind = kind
        self.message = message
        self.status = status
        self.retry_after = retry_after
        self.code = code
        self.type = type
        self.param = param
        self.upstream_request_id = upstream_request_id
