"""`llmgate connect AGENT`: the lines that point a coding agent at the running gateway, and one tool call as a test."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import click

from . import EXIT_FAILED, StartRefused, running
from .agents import AGENTS, KEY_VARIABLE, Agent, Piece, Target
from .trial import TRIALS, Seen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..connectors import HttpClient, HttpReply
    from .running import Asked

SECONDS = 30.0
"""How long the list of models may take; the gateway may have to ask its upstreams for theirs."""

TEST_SECONDS = 120.0
"""How long the test may take; a model on this machine may have to be loaded first."""

SHOWN = 200
"""Signs of a model's answer that are shown."""


@dataclass(frozen=True)
class Result:
    """What a test that came to its end saw."""

    tool: str | None
    arguments: Any
    text: str
    seconds: float
    lost: str | None


def agent_named(ctx: click.Context, param: click.Parameter, value: str) -> Agent:
    """The agent of this name, or a word about the one that was probably meant."""
    from ..settings import did_you_mean

    if value in AGENTS:
        return AGENTS[value]
    close = did_you_mean(value, AGENTS)
    way_out = f"did you mean `{close}`?" if close else f"there are {', '.join(AGENTS)}"
    raise click.UsageError(f"no agent `{value}` is known here; {way_out}", ctx)


def selector(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """What goes into files and shells has to be one line of text; the gateway judges the rest."""
    if value is not None and not (value and value.isprintable()):
        raise click.UsageError("`--model` takes a selector: one line of printable text", ctx)
    return value


@click.command("connect")
@click.argument("agent", callback=agent_named, metavar=f"[{'|'.join(AGENTS)}]")
@running.options
@click.option(
    "--model",
    callback=selector,
    metavar="SELECTOR",
    help="What the agent shall ask for (default: the first that the gateway lists).",
)
@click.option("--no-test", is_flag=True, help="Print the lines only.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object: the lines, and what the test saw.")
@click.pass_context
def command(
    ctx: click.Context, /, agent: Agent, url: str | None, model: str | None, no_test: bool, as_json: bool, **flags: Any
) -> None:
    """Print the lines that point a coding agent at the running gateway, then try one tool call as it would.

    The gateway is found as `llmgate status` finds it. Its key is never printed: the lines name the shell variable
    LLMGATE_KEY instead. Lines that begin with `#` are not for copying.
    """
    from .serve import run

    asked = running.find(ctx, flags, url)
    told: dict[str, Any] = {}

    async def ask() -> None:
        listed = await models(asked)
        target = target_of(asked, model, listed)
        pieces = agent.pieces(target)
        told.update(agent=agent.name, url=target.url, model=target.model, context=target.context)
        told.update(lines=[asdict(piece) for piece in pieces], test=None)
        if not as_json:
            print_lines(agent, target, pieces, chosen=model is None)
        if not no_test:
            await test()

    async def test() -> None:
        try:
            result = await tried(asked, agent, told["model"])
        except StartRefused as refusal:
            told["test"] = {"error": refusal.message}
            raise
        told["test"] = asdict(result)
        if not as_json:
            click.echo(f"\n# test: {in_a_line(result)}")
        if result.tool is None and agent.uses_tools:
            click.echo(f"llmgate: {agent.name} needs a model that calls tools; try another with `--model`", err=True)

    try:
        run(ask())
    finally:
        if as_json and told:
            click.echo(json.dumps(told, indent=2, ensure_ascii=False))


# --- the lines --------------------------------------------------------------------------------------------------------


async def models(asked: Asked) -> dict[str, Mapping[str, Any]]:
    """What the gateway lists, by id; raises StartRefused where it does not."""
    from ..wire import JsonError, decode

    status, data = await running.get(asked, "/v1/models", SECONDS)
    try:
        content = decode(data)
    except JsonError:
        content = None
    running.check_key(status, asked)
    try:
        if status == 200 and isinstance(content, dict):
            return {one["id"]: one for one in content["data"] if one["id"].isprintable()}
    except (KeyError, TypeError, AttributeError):
        pass
    message = running.message_of(content)
    if status not in (200, 404) and message is not None:
        raise StartRefused(f"the gateway at {asked.url} refuses (HTTP {status}): {struck(asked, message)}", EXIT_FAILED)
    who = f"what answers at {asked.url} lists no models (HTTP {status}): another program, perhaps"
    raise StartRefused(f"{who}; {running.OTHER_PLACES}", EXIT_FAILED)


_OF_ANOTHER_SORT = re.compile(r"embed|rerank|whisper|tts|transcri|moderation|dall-e|diffusion", re.IGNORECASE)
"""Names of models that no agent can talk to, as servers on one's own machine list them beside the others."""


def target_of(asked: Asked, model: str | None, listed: Mapping[str, Mapping[str, Any]]) -> Target:
    """What the agent is pointed at: of several branches the smallest window counts, as any may serve a request."""
    from ..errors import SelectorError
    from ..selector import parse

    chosen = model or next((id for id in listed if not _OF_ANOTHER_SORT.search(id)), next(iter(listed), None))
    if chosen is None:
        told = f"the gateway at {asked.url} lists no models; name one with `--model`"
        raise StartRefused(f"{told}, or see `llmgate status`", EXIT_FAILED)
    try:
        plain = [f"{leaf.backend}:{leaf.model}" if leaf.backend else leaf.model for leaf in parse(chosen).leaves]
    except SelectorError:  # an alias may make something of it
        plain = [chosen]
    facts = [listed.get(one, {}) for one in plain]
    outputs = [(one.get("top_provider") or {}).get("max_completion_tokens") for one in facts]
    context = smallest([one.get("context_length") for one in facts])
    return Target(asked.url, asked.key is not None, chosen, context, smallest(outputs))


def smallest(sizes: Sequence[Any]) -> int | None:
    """The smallest, where all are known."""
    known = [size for size in sizes if isinstance(size, int)]
    return min(known) if known and len(known) == len(sizes) else None


def print_lines(agent: Agent, target: Target, pieces: Sequence[Piece], *, chosen: bool) -> None:
    """What to copy, each piece below the line that says where it goes."""
    how = " (the first that the gateway lists; `--model` takes another)" if chosen else ""
    click.echo(f"# {agent.name} (as of {agent.version}) at {target.url}, model {target.model}{how}")
    if target.needs_key:
        click.echo(f"# {KEY_VARIABLE} has to hold one of the gateway's keys; this asks for it, and shows nothing:")
        click.echo(f"#   printf 'key: '; read -rs {KEY_VARIABLE}; export {KEY_VARIABLE}")
    for piece in pieces:
        click.echo(f"\n# {piece.where}:\n{piece.text}")


# --- the test ---------------------------------------------------------------------------------------------------------


async def tried(asked: Asked, agent: Agent, model: str) -> Result:
    """One streamed request with one tool; raises StartRefused where no whole answer came."""
    from ..errors import ConnectorError
    from ..upstream import Timeouts, Upstream
    from ..wire import JsonError, decode

    upstream = Upstream({})  # directly, as in `running.get`
    began = time.monotonic()
    try:
        async with asyncio.timeout(TEST_SECONDS):
            seen, lost = await _sent(upstream.client(Timeouts()), asked, agent, model)
    except TimeoutError:
        fail(asked, f"no whole answer within {TEST_SECONDS:g} s; `llmgate status` shows how the backends are")
    except ConnectorError as error:
        fail(asked, f"{error.message}; the gateway's log may say more")
    finally:
        await upstream.aclose()
    seconds = round(time.monotonic() - began, 1)
    seen.text = struck(asked, seen.text)
    seen.calls = {at: [struck(asked, part) for part in call] for at, call in seen.calls.items()}
    if seen.error is not None:
        fail(asked, f"{seen.error}; `llmgate status` shows how the backends are")
    if not seen.ended:
        fail(asked, "the answer has no proper end; the gateway's log may say more")
    if not seen.calls:
        if not seen.text.strip():
            fail(asked, "the answer is empty, without a tool call and without text; try another model with `--model`")
        return Result(None, None, seen.text, seconds, lost)
    name, arguments = next(iter(seen.calls.values()))
    try:
        return Result(name, decode((arguments or "{}").encode()), seen.text, seconds, lost)
    except JsonError:
        fail(asked, f"a tool call {name} whose arguments are no JSON: {arguments[:SHOWN]}; try another model")


async def _sent(client: HttpClient, asked: Asked, agent: Agent, model: str) -> tuple[Seen, str | None]:
    from ..translate import LOST_HEADER

    trial = TRIALS[agent.dialect]
    headers = {"content-type": "application/json", **trial.headers, **asked.headers}
    content = json.dumps({"model": model, **trial.body}).encode()
    reply = await client.send("POST", asked.url + trial.path, headers=headers, content=content)
    try:
        if reply.status != 200:
            await _refused(reply, asked)
        return await _read(reply, agent), reply.headers.get(LOST_HEADER)
    finally:
        await reply.aclose()


async def _refused(reply: HttpReply, asked: Asked) -> NoReturn:
    from ..wire import JsonError, decode

    try:
        content = decode(await reply.read())
    except JsonError:
        content = None
    running.check_key(reply.status, asked)
    message = running.message_of(content) or "an error without a message"
    if reply.status >= 500 or reply.status == 429:
        way_out = "`llmgate status` shows how the backends are"
    else:
        way_out = "`llmgate models` lists what `--model` can take"
    fail(asked, f"HTTP {reply.status}: {message}; {way_out}")


async def _read(reply: HttpReply, agent: Agent) -> Seen:
    """The answer's events, until one is not as its dialect has it."""
    from ..sse import Parser
    from ..wire import JsonError, decode

    seen, parser = Seen(), Parser()
    read = TRIALS[agent.dialect].read
    try:
        async for chunk in reply.chunks:
            for event in parser.feed(chunk):
                if event.data != b"[DONE]":
                    read(seen, decode(event.data))
    except (JsonError, ValueError, KeyError, TypeError, AttributeError):
        seen.error = f"the answer has an event that no {agent.dialect} client can read"
    return seen


def fail(asked: Asked, told: str) -> NoReturn:
    """Ends the command; what comes from elsewhere may neither hold the key nor command the terminal."""
    from ..report import printable

    text = printable(struck(asked, told)[:1000]).replace("\n", " ")
    raise StartRefused(f"the test failed: {text}", EXIT_FAILED)


def struck(asked: Asked, text: str) -> str:
    """The text without the gateway's key."""
    return text.replace(asked.key, "***") if asked.key else text


def in_a_line(result: Result) -> str:
    """What came back, on one line."""
    from ..report import printable

    if result.tool is None:
        shown = " ".join(result.text[:SHOWN].split())
        told = f'no tool call but text "{shown}"'
    else:
        told = f"tool call {result.tool} {json.dumps(result.arguments, ensure_ascii=False)[:SHOWN]}"
    lost = f"; lost in translation: {result.lost}" if result.lost else ""
    return printable(f"{told} after {result.seconds:.1f} s{lost}")
