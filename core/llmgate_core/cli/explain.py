"""`llmgate explain SELECTOR`: how a request would be routed, and what would be sent, without sending it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import configuration

if TYPE_CHECKING:
    from ..app import Gateway
    from ..config import GatewayConfig
    from ..policies.rewrites import Step
    from ..request import GatewayRequest
    from ..selector import Branch, Leaf
    from ..settings import KeyPath
    from ..wire import Body

EMPTY_BODY = b'{"model":"","messages":[{"role":"user","content":"..."}]}'


@click.command("explain")
@click.argument("selector")
@configuration.options
@click.option("--body", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="A chat request as JSON.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
@click.pass_context
def command(ctx: click.Context, /, selector: str, body: Path | None, as_json: bool, **flags: Any) -> None:
    """Show how a request would be routed, step by step."""
    from ..app import create_app
    from ..errors import ConnectorError, RequestError
    from . import EXIT_FAILED, StartRefused

    prepared = configuration.prepare(ctx, flags)
    gateway = create_app(prepared.config, plugins=prepared.plugins)
    try:
        steps = explain(gateway, selector, body.read_bytes() if body else None)
    except (RequestError, ConnectorError) as error:
        raise StartRefused(f"this request would be answered with an error:\n{error.message}", EXIT_FAILED) from None
    if as_json:
        click.echo(json.dumps(steps, indent=2, ensure_ascii=False, default=str))
        return
    for line in told(steps):
        click.echo(line)


def explain(gateway: Gateway, text: str, data: bytes | None) -> dict[str, Any]:
    """The steps of one request as plain values; raises RequestError or ConnectorError where it would end.

    Args:
        data: the request's body; None where only the selector is asked about, so that its size is not either.
    """
    from ..dialects import chat
    from ..errors import RequestError
    from ..max_context import Fit, fit
    from ..request import GatewayRequest
    from ..wire import Body, JsonError

    try:
        body = Body.parse(EMPTY_BODY if data is None else data).splice({"model": text})
    except JsonError as error:
        raise RequestError(f"the request's body is not usable JSON: {error}") from None
    read = chat.read_request(body.bytes)
    request = GatewayRequest("req_explain", chat.DIALECT, "generate", text, read.body, read.stream, {})
    plan = gateway.route(text)
    fitting = Fit(None, plan.branches) if data is None else fit(plan, read.body)
    return {
        "asked": text,
        "steps": [_step(step, gateway.config) for step in gateway.config.expansion.expand(text).steps],
        "plan": str(plan),
        "strategy": STRATEGIES[plan.operator],
        "estimated_tokens": fitting.tokens,
        "branches": [
            {**branch_steps(gateway, request, branch), "too_large": branch in fitting.left_out}
            for branch in plan.branches
        ],
    }


STRATEGIES = {"|": "failover", "^": "weighted", "!": "parallel"}
IN_WORDS = {
    "failover": "from left to right, until one answers",
    "weighted": "one is drawn by weight; where it fails, another one of the rest",
    "parallel": "the highest handicap begins; the first that says something wins",
}


def branch_steps(gateway: Gateway, request: GatewayRequest, branch: Branch) -> dict[str, Any]:
    """What one branch would be sent; raises RequestError or ConnectorError where it cannot be."""
    from .. import hybrid

    skipped = ("leaf", "reasoning")
    notes = {name: value for name, value in vars(branch).items() if name not in skipped and value is not None}
    if branch.reasoning is None:
        return {"notes": notes, **leaf_steps(gateway, request, request.body, branch.leaf)}
    thinks = gateway.executor.thinks
    thinking = hybrid.thinking_request(request.body, wants_effort=thinks(branch.reasoning, "optional", "always"))
    execution = hybrid.execution_request(request.body, "...", can_rest=thinks(branch.leaf, "optional"))
    return {
        "notes": notes,
        "reasoning": leaf_steps(gateway, request, thinking, branch.reasoning),
        **leaf_steps(gateway, request, execution, branch.leaf),
    }


def leaf_steps(gateway: Gateway, request: GatewayRequest, body: Body, leaf: Leaf) -> dict[str, Any]:
    """What one model would be sent, given what is asked of it; raises like `branch_steps`."""
    backend = gateway.executor.backend_of(leaf)
    prepared = gateway.executor.prepare(replace(request, body=body), leaf)
    state = backend.readiness()
    changed = [name for name in prepared.body.names() if prepared.body.raw(name) != request.body.raw(name)]
    return {
        "backend": {
            "name": backend.name,
            "ready": state.ready,
            "detail": gateway.redactor.strike(state.detail),
        },
        "model": leaf.model,
        "parameters": {
            name: [{"value": setting.value, "layer": setting.layer} for setting in prepared.params.why(name)]
            for name in prepared.params.effective()
        },
        "left_out": [
            {"name": one.name, "value": one.value, "layer": one.layer, "reason": one.reason}
            for one in prepared.left_out
        ],
        "headers": dict(prepared.headers),
        "dialect": prepared.dialect,
        "is_translated": prepared.translation is not None,
        "changed_in_body": changed,
    }


def _step(step: Step, config: GatewayConfig) -> dict[str, Any]:
    """What replaced the selector, where that is configured, and with what."""
    path: KeyPath = (step.kind,)
    shown: dict[str, Any] = {}
    if step.rule is not None:
        path, shown = ("model_aliases", step.rule), {"pattern": config.model_aliases[step.rule].pattern}
    elif step.name is not None:
        path, shown = ("failover_routes", step.name), {"name": step.name}
    return {"step": step.kind, "where": config.problem(path, "").where, **shown, "selector": step.text}


def told(steps: dict[str, Any]) -> list[str]:
    """The same for people: one line a step."""
    lines = [f"asked for     {steps['asked']}"]
    for step in steps["steps"]:
        why = f"`{step['pattern']}`, " if "pattern" in step else ""
        lines.append(f"{step['step']:<13} {step['selector']}  ({why}{step['where']})")
    lines.append(f"plan          {steps['plan']}")
    branches = steps["branches"]
    if len(branches) > 1:
        lines.append(f"strategy      {steps['strategy']}: {IN_WORDS[steps['strategy']]}")
    if steps["estimated_tokens"] is not None:
        lines.append(f"estimate      the request has some {steps['estimated_tokens']} tokens")
    for number, branch in enumerate(branches, 1):
        if len(branches) > 1:
            lines.append(f"branch {number}")
        lines += told_branch(branch)
    return lines


def told_branch(steps: dict[str, Any]) -> list[str]:
    """The lines of one branch."""
    notes = [f"note          {name} = {value:g}" for name, value in steps["notes"].items()]
    if steps["too_large"]:
        notes.append("left out      the whole branch: the request is estimated larger than its `max_context`")
    if "reasoning" not in steps:
        return told_leaf(steps, notes)
    return [*notes, "reasoning", *told_leaf(steps["reasoning"]), "execution", *told_leaf(steps)]


def told_leaf(steps: dict[str, Any], notes: Sequence[str] = ()) -> list[str]:
    """The lines of one model."""
    backend = steps["backend"]
    lines = [
        f"backend       {backend['name']} ({'ready' if backend['ready'] else 'not ready'}: {backend['detail']})",
        f"model         {steps['model']}",
        *notes,
    ]
    for name, settings in steps["parameters"].items():
        winner, *hidden = settings
        over = "".join(f", over {setting['layer']} {setting['value']!r}" for setting in hidden)
        lines.append(f"parameter     {name} = {winner['value']!r}  ({winner['layer']}{over})")
    lines += [
        f"left out      {left['name']} = {left['value']!r}  ({left['layer']}): {left['reason']}"
        for left in steps["left_out"]
    ]
    lines += [f"header        {name}: {value}" for name, value in steps["headers"].items()]
    if steps["is_translated"]:
        lines.append(f"body          translated into {steps['dialect']}")
    else:
        changed = ", ".join(steps["changed_in_body"]) or "nothing"
        lines.append(f"body          {changed} changed; all other bytes as sent")
    return lines
