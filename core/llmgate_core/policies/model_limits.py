"""What llmgate adds is added only where the model takes it. What the caller sent, and what is forced, always passes.

Unlike a policy it needs no settings and no configuration: the facts about the model are all that it looks at, and what
the upstream's dialect can say.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ..connectors import ModelInfo
from ..dialects.chat import is_refused
from ..request import LAYERS, Layer, Params, Setting
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


def limit(params: Params, info: ModelInfo, unsayable: Collection[str] = ()) -> tuple[Params, tuple[LeftOut, ...]]:
    """The parameters that the model takes, and what was left out, one entry for each layer that had it.

    Of a group that excludes each other, what the caller sent and what is forced comes first, then the highest layer,
    then the order of the group.

    Args:
        unsayable: names that the upstream's dialect has no place for; not even what is forced can be sent there.
    """
    left: list[LeftOut] = []
    model = quote(info.id)[:80]  # as it stands in a selector: the text goes into a header, which is short ASCII
    for name in params.effective():
        if name in unsayable:
            params = _drop(params, name, "the upstream's dialect cannot say it", left, (*OURS, "forced"))
        elif is_refused(name, info.refuses):
            params = _drop(params, name, f"model `{model}` does not take it", left)
    for group in info.excludes:
        # Again and again: a budget that is dropped may have hidden another way to think.
        while loses := _losers(present := _present(params, group)):
            others = ", ".join(f"`{name}`" for name in present if name not in loses)
            for name in loses:
                params = _drop(params, name, f"model `{model}` does not take it together with {others}", left)
    return params, tuple(left)


def _drop(params: Params, name: str, reason: str, left: list[LeftOut], layers: Collection[Layer] = OURS) -> Params:
    """Takes a parameter out of these layers, and notes it."""
    left += [LeftOut(name, one.value, one.layer, reason) for one in params.why(name) if one.layer in layers]
    return params.without(name, layers)


def _losers(present: Mapping[str, tuple[Setting, ...]]) -> list[str]:
    """Of the names in a group, those that our layers must give up, so that no two are sent because of us."""
    fixed = [name for name, settings in present.items() if any(one.layer not in OURS for one in settings)]
    if not fixed and present:
        fixed = [max(present, key=lambda name: LAYERS.index(present[name][0].layer))]  # the first of equals
    return [
        name
        for name, settings in present.items()
        if any(one.layer in OURS for one in settings) and any(other != name for other in fixed)
    ]


# --- thinking ---------------------------------------------------------------------------------------------------------
#
# Facts say `thinking`, as Anthropic does. What switches it on or off may as well be a budget or an effort; and beside
# thinking, the usual temperature is as good as none.

_THINKING = "thinking"
_USUAL = {"temperature": 1}


def _present(params: Params, group: Iterable[str]) -> dict[str, tuple[Setting, ...]]:
    """The names of a group that would be sent, with all their settings, the winner first."""
    present: dict[str, tuple[Setting, ...]] = {}
    for name in group:
        sent = _name_of_thinking(params) if name == _THINKING else name
        if sent is not None and (settings := params.why(sent)):
            present[sent] = settings
    thinks = _THINKING in group and any(name in present for name in (_THINKING, "thinking_budget"))
    usual = [name for name, value in _USUAL.items() if thinks and name in present and present[name][0].value == value]
    return {name: settings for name, settings in present.items() if name not in usual}


def _name_of_thinking(params: Params) -> str | None:
    """The parameter by which the model thinks, None where it is told not to."""
    budget, effort = (params.why(name)[:1] for name in ("thinking_budget", "reasoning_effort"))
    if effort and effort[0].value == "none" and _rank(effort) > _rank(budget):
        return None
    if budget:
        return "thinking_budget" if budget[0].value else None
    told = params.effective().get(_THINKING)
    return None if told is None or told.value == {"type": "disabled"} else _THINKING


def _rank(settings: tuple[Setting, ...]) -> int:
    return LAYERS.index(settings[0].layer) if settings else -1


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
