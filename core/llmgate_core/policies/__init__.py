"""Policies decide about the parameters of one attempt; this is the chain that asks them in order."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from ..connectors import Policy, Verdict
from ..errors import PLUGIN_FAULTS, ConnectorError, RequestError
from ..handed_over import named, refusal, why
from ..handed_over import verdict as looked_at
from ..ownership import contained
from ..request import GatewayRequest, Params
from ..selector import Leaf

WARNING_HEADER = "x-llmgate-warning"
"""The response header in which a policy says what it left out; the chain logs it too."""

logger = logging.getLogger("llmgate.policies")


def apply_all(policies: Iterable[Policy], request: GatewayRequest, leaf: Leaf, params: Params) -> Verdict:
    """What the policies make of one attempt: each sees the parameters that those before it have left.

    A header that several policies set keeps all values, joined by `, `.

    Raises:
        RequestError: from the first policy that rejects the request.
        ConnectorError: of kind `bug`, a policy failed; its story is in the log.
    """
    headers: dict[str, str] = {}
    effects: dict[str, Mapping[str, str]] = {}
    for policy in policies:
        verdict = _asked(policy, request, leaf, params)
        params = verdict.params
        effects |= verdict.effects
        for name, value in verdict.headers.items():
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        if warning := verdict.headers.get(WARNING_HEADER):
            logger.warning("%s: policy `%s`: %s", request.id, policy.name, warning)
    return Verdict(params, headers, effects)


def _asked(policy: Policy, request: GatewayRequest, leaf: Leaf, params: Params) -> Verdict:
    try:
        with contained():
            return looked_at(policy.apply(request, leaf, params), params)
    except RequestError as error:
        refused, wrong = refusal(error)
        if not wrong:
            raise
        logger.exception("%s: policy `%s` raised a refusal with a wrong %s", request.id, policy.name, named(wrong))
        raise refused from None
    except PLUGIN_FAULTS as error:
        logger.exception("%s: policy `%s` raised", request.id, policy.name)
        told = f"policy `{policy.name}` failed{why(error)}"
        raise ConnectorError("bug", f"{told}; the gateway's log has the details under {request.id}") from None
