"""`[max_context=N]`: which branches of a plan a request is too large for, by an estimate that costs next to nothing.

Only the selector's own word leaves a branch out. What is known of a model does not: an estimate may be wrong, and the
upstream counts better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .errors import RequestError
from .selector import Branch, RoutePlan
from .token_estimate import estimate_tokens
from .wire import Body


@dataclass(frozen=True)
class Fit:
    """How a request fits into the branches of a plan.

    Args:
        tokens: the estimate of its size; None where no branch has a `max_context`, and nobody has counted.
        branches: those that are left, in their order; at least one.
        left_out: those that it is too large for.
    """

    tokens: int | None
    branches: Sequence[Branch]
    left_out: Sequence[Branch] = ()


def fit(plan: RoutePlan, body: Body) -> Fit:
    """The branches of a plan that a request may fit into.

    Raises:
        RequestError: 400 `context_length_exceeded`: it is estimated larger than each of them allows.
    """
    if all(branch.max_context is None for branch in plan.branches):
        return Fit(None, plan.branches)
    tokens = estimate_tokens(body)
    small = [branch for branch in plan.branches if branch.max_context is not None and branch.max_context < tokens]
    left = [branch for branch in plan.branches if branch not in small]
    if not left:
        raise _too_large(tokens, max(branch.max_context or 0 for branch in small))
    return Fit(tokens, left, small)


def _too_large(tokens: int, allowed: int) -> RequestError:
    return RequestError(
        f"the request is estimated at {tokens} tokens, and `max_context` in the selector allows {allowed}; the gateway "
        "estimates from the request's bytes, and has sent nothing. Shorten the request, or use a selector that has a "
        "branch with a larger `max_context`, or with none",
        code="context_length_exceeded",
        param="messages",
    )
