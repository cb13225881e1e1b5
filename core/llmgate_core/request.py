"""The request as the gateway sees it, the parameters in their layers, and the record of what was done."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .errors import Kind
from .wire import Body

Dialect = str
"""A wire format: `openai.chat`, `openai.responses`, `anthropic.messages`, or one that a plugin brings."""

GENERATE = "generate"

Operation = str
"""What is asked of an upstream: `generate`, `models`, ... Open, so that a new one breaks no connector."""

Layer = Literal["default", "client", "policy", "uri", "forced"]
LAYERS: tuple[Layer, ...] = ("default", "client", "policy", "uri", "forced")


@dataclass(frozen=True)
class GatewayRequest:
    """What a caller asked for, in its own dialect and its own bytes.

    Args:
        id: ours, `req_...`; echoed as `x-request-id`.
        selector: the text in `model`.
        headers: those of the caller's headers that may travel on, lower-case names.
        caller: the name of the caller's key, None where no key is asked for.
        user_agent: what the caller's program calls itself, empty if it does not; never travels on.
        lost: what a translation of this body has lost already; None where it is in the caller's own dialect.
        original: what the caller has sent, where the gateway has made another request of it.
    """

    id: str
    dialect: Dialect
    operation: Operation
    selector: str
    body: Body
    stream: bool
    headers: Mapping[str, str]
    caller: str | None = None
    user_agent: str = ""
    lost: tuple[str, ...] | None = None
    original: GatewayRequest | None = None


@dataclass(frozen=True)
class Setting:
    """One parameter's value and the layer that it comes from."""

    value: Any
    layer: Layer


class Params:
    """Parameters of one attempt in their layers: a higher layer hides a lower one and forgets nothing.

    Immutable: `with_layer` returns a new object.
    """

    def __init__(self, layers: Mapping[Layer, Mapping[str, Any]] | None = None) -> None:
        self._layers: dict[Layer, Mapping[str, Any]] = dict(layers or {})

    def with_layer(self, layer: Layer, values: Mapping[str, Any]) -> Params:
        """The same parameters with `values` added to `layer`; a later value of one name replaces the earlier."""
        return Params({**self._layers, layer: {**self._layers.get(layer, {}), **values}})

    def without(self, name: str, layers: Collection[Layer]) -> Params:
        """The same parameters without what `layers` say of `name`; what they hid comes forth."""
        return Params(
            {
                layer: {key: value for key, value in values.items() if key != name} if layer in layers else values
                for layer, values in self._layers.items()
            }
        )

    def effective(self) -> dict[str, Setting]:
        """Each parameter as it is sent, with the layer that won."""
        merged: dict[str, Setting] = {}
        for layer in LAYERS:
            for name, value in self._layers.get(layer, {}).items():
                merged[name] = Setting(value, layer)
        return merged

    def why(self, name: str) -> tuple[Setting, ...]:
        """Every setting of one parameter, the winner first."""
        found = [Setting(self._layers[layer][name], layer) for layer in LAYERS if name in self._layers.get(layer, {})]
        return tuple(reversed(found))

    def __str__(self) -> str:
        """Each effective parameter with its layer, and what it hides: `temperature=0.2 (uri, over client 0.9)`."""
        shown = []
        for name in self.effective():
            winner, *hidden = self.why(name)
            over = "".join(f", over {setting.layer} {setting.value!r}" for setting in hidden)
            shown.append(f"{name}={winner.value!r} ({winner.layer}{over})")
        return " ".join(shown)


@dataclass
class Attempt:
    """One try at one backend.

    Args:
        seconds: until its outcome was known; 0 before.
        kind: of its failure; None when it succeeded, and before its outcome was known.
    """

    backend: str
    model: str
    seconds: float = 0.0
    kind: Kind | None = None
    status: int | None = None
    message: str = ""
    upstream_request_id: str | None = None


Outcome = Literal["ok", "rejected", "failed", "cut_off", "client_closed"]


@dataclass
class RequestRecord:
    """Everything that one request left behind: for the access log and for plugins. Holds no bodies and no secrets.

    Args:
        method, path: as the caller sent them; empty where what came could not be read as a request.
        started: Unix time in seconds.
        seconds, first_byte_seconds: since `started`; the latter until our first body byte went out.
        bytes_in, bytes_out: body bytes from and to the caller.
        usage: the upstream's own `usage` object where it passed by, else None.
        status: the HTTP status that was sent; 499 when the caller hung up before there was one.
        outcome: `cut_off` is a failure after the answer had begun.
        served_by: the attempt whose answer the caller gets, None where all failed.
    """

    id: str
    method: str
    path: str
    started: float
    client: str = ""
    caller: str | None = None
    selector: str = ""
    stream: bool = False
    attempts: list[Attempt] = field(default_factory=list)
    served_by: Attempt | None = None
    status: int = 0
    outcome: Outcome = "ok"
    error: str = ""
    seconds: float = 0.0
    first_byte_seconds: float | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    usage: Mapping[str, Any] | None = None
