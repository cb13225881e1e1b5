"""What llmgate adds is added only where the model takes it. What the caller sent, and what is forced, always passes.

Unlike a policy it needs no settings and no configuration: the facts about the model are all that it looks at.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ..connectors import ModelInfo
from ..dialects.chat import is_refused
from ..request import LAYERS, Layer, Params
from . import WARNING_HEADER

logger = logging.getLogger("llmgate.policies")

OURS: tuple[Layer, ...] = ("default", "policy", "uri")
"""The layers that may lose a parameter."""


@dataclass(frozen=True)
class LeftOut:
    """One parameter that is not sent: what would have been sent for which layer, and why not."""

    name: str
    value: Any
    layer: Layer
    reason: str

    def __str__(self) -> str:
        """One line about it."""
        return f"`{self.name}`: {self.reason}"


def limit(params: Params, info: ModelInfo) -> tuple[Params, tuple[LeftOut, ...]]:
    """The parameters that the model takes, and what was left out, one entry for each layer that had it.

    Of a group that excludes each other, what the caller sent and what is forced comes first, then the highest layer,
    then the order of the group.
    """
    left: list[LeftOut] = []
    model = quote(info.id)[:80]  # as it stands in a selector: the text goes into a header, which is short ASCII
    for name in params.effective():
        if is_refused(name, info.refuses):
            params = _drop(params, name, f"model `{model}` does not take it", left)
    for group in info.excludes:
        if loses := _losers(params, group):
            others = ", ".join(f"`{name}`" for name in group if name not in loses)
            for name in loses:
                params = _drop(params, name, f"model `{model}` does not take it together with {others}", left)
    return params, tuple(left)


def _drop(params: Params, name: str, reason: str, left: list[LeftOut]) -> Params:
    """Takes a parameter out of our layers, and notes it."""
    left += [LeftOut(name, one.value, one.layer, reason) for one in params.why(name) if one.layer in OURS]
    return params.without(name, OURS)


def _losers(params: Params, group: Iterable[str]) -> list[str]:
    """Of the names in `group`, those that our layers must give up, so that no two are sent because of us."""
    present = {name: params.why(name) for name in group if params.why(name)}
    fixed = [name for name, settings in present.items() if any(one.layer not in OURS for one in settings)]
    if not fixed and present:
        fixed = [max(present, key=lambda name: LAYERS.index(present[name][0].layer))]  # the first of equals
    return [
        name
        for name, settings in present.items()
        if any(one.layer in OURS for one in settings) and any(other != name for other in fixed)
    ]


def told(request_id: str, headers: Mapping[str, str], left: Iterable[LeftOut]) -> Mapping[str, str]:
    """The response headers with a warning about what a selector's query asked for; the log gets that and the rest."""
    warned = []
    for one in left:
        if one.layer == "uri":
            warned.append(str(one))
        else:
            logger.debug("%s left out, from layer %s: %s", request_id, one.layer, one)
    if not warned:
        return headers
    warning = f"left out: {'; '.join(warned)}"
    logger.warning("%s: %s", request_id, warning)
    before = headers.get(WARNING_HEADER)
    return {**headers, WARNING_HEADER: f"{before}, {warning}" if before else warning}
