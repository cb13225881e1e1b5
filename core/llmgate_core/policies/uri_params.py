"""The selector's query becomes the layer `uri`: `acme:some-model?temperature=0.2`.

PARAMETERS is the one place that knows which names a query may hold and which values they take.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal
from urllib.parse import quote

from ..connectors import Verdict
from ..errors import RequestError
from ..request import GatewayRequest, Params
from ..selector import Leaf, closest
from . import WARNING_HEADER

Value = float | int | str

_NUMBER = re.compile(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_INTEGER = re.compile(r"-?[0-9]{1,19}")

_MAX_PROBLEMS = 5
"""How many problems one answer tells: enough to help, few enough for a response header and for a busy gateway."""


@dataclass(frozen=True)
class Parameter:
    """One parameter that a query may set.

    Args:
        minimum, maximum: bounds of a number, both inclusive; None where there is none.
        choices: the words that a `choice` takes.
    """

    name: str
    kind: Literal["number", "integer", "choice"]
    minimum: int | None = None
    maximum: int | None = None
    choices: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """The values that it takes, in words."""
        if self.kind == "choice":
            return f"one of {_quoted(self.choices)}"
        kind = "a number" if self.kind == "number" else "a 64-bit whole number"
        if self.maximum is not None:
            return f"{kind} from {self.minimum} to {self.maximum}"
        return kind if self.minimum is None else f"{kind} of at least {self.minimum}"

    def read(self, text: str) -> Value | None:
        """The value that `text` says, None if it is not an allowed one."""
        if self.kind == "choice":
            return text if text in self.choices else None
        value = _number(text) if self.kind == "number" else _integer(text)
        return value if value is not None and self._in_bounds(value) else None

    def _in_bounds(self, value: float) -> bool:
        return (self.minimum is None or value >= self.minimum) and (self.maximum is None or value <= self.maximum)


def _number(text: str) -> float | None:
    """A finite number; `nan`, `inf`, `1_0` and spaces, which `float()` reads, are none."""
    value = float(text) if _NUMBER.fullmatch(text) else math.inf
    # Adding zero turns -0.0, which some upstreams refuse as negative, into 0.0.
    return value + 0.0 if math.isfinite(value) else None


def _integer(text: str) -> int | None:
    """A whole number that fits in 64 bits: not every JSON library can write or read a longer one."""
    value = int(text) if _INTEGER.fullmatch(text) else None
    return value if value is not None and -(2**63) <= value < 2**63 else None


PARAMETERS = {
    parameter.name: parameter
    for parameter in (
        Parameter("temperature", "number", 0, 2),
        Parameter("top_p", "number", 0, 1),
        Parameter("top_k", "integer", 1),
        Parameter("max_tokens", "integer", 1),
        Parameter(
            "reasoning_effort",
            "choice",
            choices=("none", "minimal", "low", "medium", "high", "xhigh", "max"),
        ),
        Parameter("thinking_budget", "integer", 0),
        Parameter("verbosity", "choice", choices=("low", "medium", "high")),
        Parameter("seed", "integer"),
        Parameter("presence_penalty", "number", -2, 2),
        Parameter("frequency_penalty", "number", -2, 2),
    )
}
"""Each parameter by its name in a query; the dialects know how it is spelt on the wire."""


@dataclass(frozen=True)
class UriParamsSettings:
    """What happens to a parameter that is unknown or has a wrong value.

    Args:
        on_error: `reject` refuses the request; `warn` leaves the parameter out and tells it in a response
            header.
    """

    on_error: Literal["reject", "warn"] = "reject"


class UriParams:
    """Sets the parameters of the leaf's query in the layer `uri`."""

    name: ClassVar[str] = "uri_params"
    settings: UriParamsSettings

    def __init__(self, settings: UriParamsSettings) -> None:
        self.settings = settings

    def apply(self, request: GatewayRequest, leaf: Leaf, params: Params) -> Verdict:
        """The parameters with the query's added.

        Raises:
            RequestError: 400 `invalid_parameter`, with `on_error: reject`; tells what is allowed.
        """
        if not leaf.query:
            return Verdict(params)
        values, wrong = read_query(leaf.query)
        if wrong and self.settings.on_error == "reject":
            raise _refusal(wrong)
        headers = {WARNING_HEADER: f"left out: {_told(wrong)}"} if wrong else {}
        return Verdict(params.with_layer("uri", values), headers)


def refuse_wrong(leaves: Iterable[Leaf]) -> None:
    """Looks at all branches of a plan before any of them is asked: a slip must not wait for the day of an outage.

    Raises:
        RequestError: as `UriParams.apply`.
    """
    for leaf in leaves:
        if leaf.query and (wrong := read_query(leaf.query)[1]):
            raise _refusal(wrong)


def _refusal(wrong: list[str]) -> RequestError:
    return RequestError(_told(wrong), code="invalid_parameter", param="model")


def read_query(query: Iterable[tuple[str, str]]) -> tuple[dict[str, Value], list[str]]:
    """The values of a query, and the names in it that are unknown or have a wrong value."""
    values: dict[str, Value] = {}
    wrong: list[str] = []
    for name, text in query:
        parameter = PARAMETERS.get(name)
        value = parameter.read(text) if parameter else None
        if value is None:
            wrong.append(name)
        else:
            values[name] = value
    return values, wrong


def _told(wrong: list[str]) -> str:
    hidden = len(wrong) - _MAX_PROBLEMS
    problems = [_problem(name) for name in wrong[:_MAX_PROBLEMS]]
    more = [f"and {hidden} more"] if hidden > 0 else []
    return f"{'; '.join([*problems, *more])}. Known parameters: {_quoted(PARAMETERS)}"


def _problem(name: str) -> str:
    if name in PARAMETERS:
        return f"`{name}` must be {PARAMETERS[name].allowed}"
    near = closest(name, PARAMETERS)
    # Quoted as it stands in a selector: the text goes into a response header, which must be short ASCII.
    return f"unknown parameter `{quote(name)[:40]}`" + (f" (did you mean `{near}`?)" if near else "")


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
