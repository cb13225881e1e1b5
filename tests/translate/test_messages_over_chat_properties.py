"""Properties of Messages over chat: Anthropic's own SDK reads any stream of it, and nothing is lost in silence."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.types import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgate_core.dialects import chat, messages
from llmgate_core.errors import ConnectorError, RequestError
from llmgate_core.sse import Parser
from llmgate_core.translate.messages_over_chat import LOSSES, SIGNATURE, MessagesOverChat, translate
from llmgate_core.wire import Body

# --- a chat stream, and what it says ------------------------------------------------------------------------


@dataclass
class Said:
    """What a chat stream says, gathered while it is drawn."""

    chunks: list[dict[str, Any]] = field(default_factory=list)
    text: str = ""
    thinking: str = ""
    calls: dict[str, tuple[str, Any]] = field(default_factory=dict)
    finish: str = "stop"
    usage: dict[str, int] | None = None


WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6).map(lambda text: f"{text}x")
"""Never blank: what is blank may be left out."""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab{}"\\[,', max_size=3), inner, max_size=3),
    max_leaves=6,
)
INPUTS = st.dictionaries(st.text('ab{}"\\[,', max_size=3), JSON, max_size=3)


@st.composite
def call_pieces(draw: st.DrawFn, number: int, style: str, said: Said) -> list[dict[str, Any]]:
    """A call in pieces: whole JSON, cut anywhere; or none at all, which is an empty object."""
    given_input = draw(INPUTS)
    arguments = json.dumps(given_input, indent=draw(st.sampled_from([None, 1])), ensure_ascii=draw(st.booleans()))
    if not given_input and draw(st.booleans()):
        arguments = ""
    cuts = sorted(draw(st.lists(st.integers(0, len(arguments)), max_size=4)))
    texts = [arguments[start:end] for start, end in pairwise([0, *cuts, len(arguments)])]
    id, name = f"call_{number}", draw(st.sampled_from(["f", "g", "read_file"]))
    said.calls[id] = (name, given_input)
    pieces = []
    for place, text in enumerate(texts):
        function = {"arguments": text, **({"name": name} if place == 0 or style == "all" else {})}
        identity = {"id": id, "type": "function"} if place == 0 or style in ("all", "id") else {}
        index = {} if style == "id" else {"index": 0 if style == "one index" else number}
        pieces.append({**index, **identity, "function": function})
    return pieces


@st.composite
def chat_streams(draw: st.DrawFn) -> Said:
    """A stream in which texts, reasoning and calls come mixed, with or without usage."""
    said = Said()
    style = draw(st.sampled_from(["index", "index", "all", "id", "one index"]))
    queues = [draw(call_pieces(number, style, said)) for number in range(draw(st.integers(0, 3)))]
    if style == "one index":  # such calls can only come one after the other
        queues = [list(itertools.chain(*queues))]
    for _ in range(draw(st.integers(0, 12)) + sum(map(len, queues))):
        delta: dict[str, Any] = {"role": "assistant"} if draw(st.booleans()) else {}
        waiting = [queue for queue in queues if queue]
        sort = draw(st.sampled_from(["text", "thinking", "blank", "call", "call", "both"]))
        if sort in ("text", "both"):
            delta["content"] = draw(WORDS)
            said.text += delta["content"]
        if sort in ("thinking", "both"):
            delta[draw(st.sampled_from(["reasoning_content", "reasoning"]))] = text = draw(WORDS)
            said.thinking += text
        if sort == "blank":
            delta["content"] = draw(st.sampled_from(["", None]))
        if sort == "call" and waiting:
            delta["tool_calls"] = [draw(st.sampled_from(waiting)).pop(0)]
        said.chunks.append(chunk(delta))
    said.chunks += [chunk({"tool_calls": [piece]}) for queue in queues for piece in queue]
    end(draw, said)
    return said


def end(draw: st.DrawFn, said: Said) -> None:
    said.finish = draw(st.sampled_from(["stop", "tool_calls", "length", "content_filter", "eos"]))
    said.chunks.append(chunk({}, said.finish))
    place = draw(st.sampled_from(["none", "with the end", "behind", "everywhere"]))
    if place == "none":
        return
    cached = draw(st.integers(0, 50))
    said.usage = {"prompt_tokens": 50 + cached, "completion_tokens": draw(st.integers(0, 99)), "cached": cached}
    usage = {**said.usage, "prompt_tokens_details": {"cached_tokens": cached}}
    if place in ("with the end", "everywhere"):
        said.chunks[-1]["usage"] = usage
    if place in ("behind", "everywhere"):
        said.chunks.append({"choices": [], "usage": usage})


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "model": "m-2026", "choices": [choice], "usage": None}


PLACES = st.lists(st.integers(0, 5000), max_size=8)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(at)]


def sse(chunks: list[dict[str, Any]], *, done: bool = True) -> bytes:
    data = b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in chunks)
    return data + (b"data: [DONE]\n\n" if done else b"")


def way(**members: Any) -> MessagesOverChat:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], **members}
    return translate(Body(json.dumps(body).encode()))


def told(pieces: list[bytes]) -> bytes:
    """What the caller is told, whatever happens."""
    stream, parser, said = way().stream(), Parser(), []
    try:
        for piece in pieces:
            for event in parser.feed(piece):
                said.append(stream.feed(event))  # noqa: PERF401 - what came before a failure stays
        said.append(stream.end())
    except ConnectorError as error:
        said.append(stream.failed(error))
    return b"".join(said)


# --- what a client makes of it ------------------------------------------------------------------------------


class Reader:
    """Anthropic's SDK, fed with bytes instead of a connection."""

    def __init__(self) -> None:
        self._body = b""
        transport = httpx2.MockTransport(self._answer)
        client = httpx2.Client(transport=transport)
        self._client = anthropic.Anthropic(api_key="k", base_url="http://x", http_client=client, max_retries=0)

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=self._body)

    def read(self, body: bytes) -> Message:
        self._body = body
        with self._client.messages.stream(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}]
        ) as stream:
            return stream.get_final_message()


@pytest.fixture(scope="module")
def sdk() -> Reader:
    return Reader()


def events(said: bytes) -> list[dict[str, Any]]:
    """The data of all events; each has its name in its `event:` line."""
    found = []
    for event in Parser().feed(said):
        data = json.loads(event.data)
        assert data["type"] == event.event
        found.append(data)
    return found


DELTAS = {"text": {"text_delta"}, "thinking": {"thinking_delta", "signature_delta"}, "tool_use": {"input_json_delta"}}


def check_sequence(found: list[dict[str, Any]]) -> None:
    """What the documentation promises of the order of events, and what strict clients demand."""
    if found[0]["type"] == "error":
        assert len(found) == 1
        return
    assert [data["type"] for data in found].count("error") <= 1
    rest: Iterator[dict[str, Any]] = (data for data in found if data["type"] != "error")
    assert next(rest)["type"] == "message_start"
    index, sort = -1, None
    for data in rest:
        if data["type"] == "content_block_start":
            assert sort is None, "two blocks are open"
            assert data["index"] == (index := index + 1)
            sort = data["content_block"]["type"]
        elif data["type"] == "content_block_delta":
            assert sort is not None, "a delta outside of a block"
            assert data["index"] == index
            assert data["delta"]["type"] in DELTAS[sort]
        elif data["type"] == "content_block_stop":
            assert sort is not None, "nothing is open"
            assert data["index"] == index
            sort = None
        else:
            break
    assert sort is None, "a block stays open"
    assert data["type"] == "message_delta"
    assert data["delta"]["stop_reason"]
    assert isinstance(data["usage"]["output_tokens"], int)
    assert [data["type"] for data in rest] == ["message_stop"]


STOP_REASONS = {"length": "max_tokens", "content_filter": "refusal"}


def check_message(message: Message, said: Said) -> None:
    assert message.model == "m"  # as the caller asked, whatever the upstream calls it
    assert "".join(block.text for block in message.content if block.type == "text") == said.text
    thoughts = [block for block in message.content if block.type == "thinking"]
    assert "".join(block.thinking for block in thoughts) == said.thinking
    assert {block.signature for block in thoughts} <= {SIGNATURE}
    calls = {block.id: (block.name, block.input) for block in message.content if block.type == "tool_use"}
    assert calls == said.calls
    assert message.stop_reason == STOP_REASONS.get(said.finish, "tool_use" if said.calls else "end_turn")
    usage = said.usage or {"prompt_tokens": 0, "completion_tokens": 0, "cached": 0}
    assert message.usage.input_tokens == usage["prompt_tokens"] - usage["cached"]
    assert message.usage.cache_read_input_tokens == usage["cached"]
    assert message.usage.output_tokens == usage["completion_tokens"]


@settings(max_examples=125, deadline=None)
@given(said=chat_streams(), places=PLACES, done=st.booleans())
def test_any_chat_stream_is_a_message_to_the_sdk(sdk: Reader, said: Said, places: list[int], done: bool) -> None:
    answer = told(cut(sse(said.chunks, done=done), places))
    check_sequence(events(answer))
    watch = messages.StreamWatch()
    for piece in cut(answer, places):
        watch.feed(piece)
    assert (watch.finished, watch.done, watch.error, watch.at_boundary) == (True, True, False, True)
    check_message(sdk.read(answer), said)


@settings(max_examples=75, deadline=None)
@given(said=chat_streams(), places=PLACES, until=st.integers(0, 10_000), fault=st.sampled_from([b"", b"error", b"{"]))
def test_any_broken_stream_is_told_as_a_failure(
    sdk: Reader, said: Said, places: list[int], until: int, fault: bytes
) -> None:
    """Cut anywhere before its end, with an error frame, garbage or nothing behind."""
    finishes = [bool(one["choices"]) and one["choices"][0]["finish_reason"] for one in said.chunks]
    whole = sse(said.chunks[: finishes.index(said.finish)], done=False)
    frame = {b"error": b'\n\ndata: {"error":{"message":"busy","code":503}}\n\n', b"{": b"\n\ndata: {\n\n", b"": b""}
    answer = told(cut(whole[: until % (len(whole) + 1)] + frame[fault], places))
    check_sequence(events(answer))
    assert b"event: error\n" in answer
    with pytest.raises(anthropic.APIStatusError):
        sdk.read(answer)


@settings(max_examples=50, deadline=None)
@given(said=chat_streams())
def test_a_plain_answer_says_what_the_stream_says(said: Said) -> None:
    calls = [
        {"id": id, "type": "function", "function": {"name": name, "arguments": json.dumps(given_input)}}
        for id, (name, given_input) in said.calls.items()
    ]
    message = {"role": "assistant", "content": said.text, "reasoning_content": said.thinking, "tool_calls": calls}
    usage: dict[str, Any] | None = None
    if said.usage:
        usage = {**said.usage, "prompt_tokens_details": {"cached_tokens": said.usage["cached"]}}
    choice = {"index": 0, "message": message, "finish_reason": said.finish}
    answer = json.dumps({"model": "m-2026", "choices": [choice], "usage": usage}).encode()
    check_message(Message.model_validate_json(way().reply(answer), strict=True), said)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.binary(max_size=30) | JSON.map(lambda value: b"data: %b\n\n" % json.dumps(value).encode()), max_size=5)
)
def test_any_bytes_end_in_a_sequence_or_an_error(pieces: list[bytes]) -> None:
    check_sequence(events(told(pieces)))


# --- nothing is lost in silence -----------------------------------------------------------------------------

# Every value is a mark with the names of the losses that may explain its absence: `<7:citations>`.
MARK = re.compile(r"<(\d+):([a-z_., ]*)>")
NUMBERS = itertools.count()


def mark(*losses: str) -> str:
    return f"<{next(NUMBERS)}:{','.join(losses)}>"


@st.composite
def with_options(draw: st.DrawFn, block: dict[str, Any], unknown: str = "content.options") -> dict[str, Any]:
    """A block with members that chat has no place for."""
    if draw(st.booleans()):
        block["cache_control"] = {"type": "ephemeral", "ttl": mark("cache_control", "content.misplaced")}
    if draw(st.booleans()):
        block["novel"] = mark(unknown, "content.misplaced")
    return block


@st.composite
def plain_blocks(draw: st.DrawFn, *misplaced: str) -> dict[str, Any]:
    """A text, an image, a document ...; `misplaced` is what may be said of it where it does not belong."""
    sort = draw(st.sampled_from(["text", "image", "pdf", "document", "result", "reference", "unknown", "hosted"]))
    m = misplaced
    if sort == "text":
        block: dict[str, Any] = {"type": "text", "text": mark()}
        if draw(st.booleans()):
            block["citations"] = [mark("citations", *m)]
    elif sort == "image":
        source: dict[str, Any] = {"type": "url", "url": mark(*m)}
        if draw(st.booleans()):
            source = {"type": "base64", "media_type": mark(*m), "data": mark(*m)}
        block = {"type": "image", "source": source}
    elif sort == "pdf":
        source = {"type": "base64", "media_type": mark(*m), "data": mark(*m)}
        block = {"type": "document", "source": source, "title": mark(*m), "context": mark(*m)}
    elif sort == "document":
        source = {"type": "content", "content": [{"type": "text", "text": mark(*m)}]}
        block = {"type": "document", "source": source, "title": mark(*m), "context": mark(*m)}
    elif sort == "result":
        text = {"type": "text", "text": mark(*m)}
        block = {"type": "search_result", "title": mark(*m), "source": mark(*m), "content": [text]}
    elif sort == "reference":
        block = {"type": "tool_reference", "tool_name": mark()}
    elif sort == "unknown":
        return {"type": "novel", "x": mark("content.unknown", *m)}
    else:
        return {"type": "server_tool_use", "id": mark("content.hosted"), "input": {"q": mark("content.hosted")}}
    return draw(with_options(block))


@st.composite
def assistant_blocks(draw: st.DrawFn) -> dict[str, Any]:
    sort = draw(st.sampled_from(["plain", "use", "use", "thinking", "signed", "redacted"]))
    if sort == "plain":
        return draw(plain_blocks("content.misplaced"))
    if sort == "use":
        used = {"type": "tool_use", "id": f"id{draw(st.integers(0, 9))}", "name": mark(), "input": {"a": mark()}}
        return draw(with_options(used))
    if sort == "thinking":
        own = draw(st.sampled_from([None, "", SIGNATURE]))
        return {"type": "thinking", "thinking": mark("thinking.earlier"), "signature": own}
    if sort == "signed":
        return {"type": "thinking", "thinking": mark("thinking.signature"), "signature": mark("thinking.signature")}
    return {"type": "redacted_thinking", "data": mark("thinking.redacted")}


@st.composite
def user_blocks(draw: st.DrawFn) -> dict[str, Any]:
    if draw(st.booleans()):
        return draw(plain_blocks())
    content: Any = mark() if draw(st.booleans()) else draw(st.lists(plain_blocks(), max_size=3))
    result = {"type": "tool_result", "tool_use_id": f"id{draw(st.integers(0, 9))}", "content": content}
    return draw(with_options({**result, "is_error": draw(st.booleans())}))


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    found = []
    for _ in range(draw(st.integers(1, 6))):
        role = draw(st.sampled_from(["user", "assistant", "assistant", "system"]))
        if draw(st.integers(0, 4)) == 0:
            content: Any = mark()
        elif role == "system":
            content = draw(st.lists(plain_blocks("content.misplaced"), max_size=2))
        else:
            content = draw(st.lists(user_blocks() if role == "user" else assistant_blocks(), max_size=4))
        found.append({"role": role, "content": content})
    return found


TOP: Mapping[str, st.SearchStrategy[Any]] = {
    "system": st.builds(lambda: [{"type": "text", "text": mark()}]),
    "temperature": st.floats(0, 1),
    "stop_sequences": st.builds(lambda: [mark()]),
    "cache_control": st.builds(lambda: {"type": mark("cache_control")}),
    "context_management": st.builds(lambda: {"edits": [mark("context_management")]}),
    "metadata": st.builds(lambda: {"user_id": mark("metadata")}),
    "service_tier": st.builds(lambda: mark("service_tier")),
    "container": st.builds(lambda: mark("container")),
    "novel": st.builds(lambda: {"x": mark("members")}),
    "output_config": st.builds(lambda: {"effort": mark(), "x": mark("output_config.options")}),
    "thinking": st.builds(lambda: {"type": "adaptive", "display": mark("thinking.options")}),
    "tools": st.builds(
        lambda: [
            {"name": mark(), "description": mark(), "input_schema": {"x": mark()}, "novel": mark("tools.options")},
            {"type": "web_search_20250305", "name": mark("tools.hosted")},
            {"type": "bash_20250124", "name": mark("tools.trained")},
        ]
    ),
    "tool_choice": st.builds(lambda: {"type": "tool", "name": mark("tool_choice"), "x": mark("members")}),
}


@settings(max_examples=200, deadline=None)
@given(conversations(), st.fixed_dictionaries({}, optional=TOP))
def test_nothing_is_lost_in_silence(conversation: list[dict[str, Any]], top: dict[str, Any]) -> None:
    request = {"model": "m", "max_tokens": 9, "messages": conversation, **top}
    translation = translation_of(request)
    if translation is None:
        return
    sent = translation.body.bytes.decode()
    marks_sent = {number for number, _ in MARK.findall(sent)}
    for number, losses in MARK.findall(json.dumps(request)):
        assert number in marks_sent or set(losses.split(",")) & set(translation.lost), (number, losses)
    assert set(translation.lost) <= set(LOSSES)
    chat.read_request(translation.body.bytes)
    check_order(translation.body.data["messages"])


def translation_of(request: dict[str, Any]) -> MessagesOverChat | None:
    """None where it is refused, which is a 400 that names the member at fault."""
    try:
        return translate(Body(json.dumps(request).encode()))
    except RequestError as error:
        if error.status == 400 and error.param:
            return None
        raise


def check_order(found: list[dict[str, Any]]) -> None:
    """Each call is answered right behind the message that makes it, once; nothing is answered that was not called.

    And the system speaks first or not at all: many chat templates refuse anything else.
    """
    assert all(message["role"] != "system" for message in found[1:])
    unanswered: list[str] = []
    for message in found:
        if message["role"] == "tool":
            unanswered.remove(message["tool_call_id"])
            assert isinstance(message["content"], str)
            continue
        assert not unanswered, "something stands between a call and its result"
        calls = message.get("tool_calls", [])
        unanswered = [call["id"] for call in calls]
        assert calls or message["content"] is not None
        assert all(isinstance(json.loads(call["function"]["arguments"]), dict) for call in calls)
    assert not unanswered


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "x", "text", "user", "tool", "enabled"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "role", "content", "source", "text", "id", "input", "name", "budget_tokens"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)
NAMES = ("system", "messages", "tools", "tool_choice", "thinking", "output_config", "output_format", "stop_sequences")


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), JUNK, max_size=5))
def test_any_junk_is_translated_or_a_400(members: dict[str, Any]) -> None:
    request = {"model": "m", "messages": [{"role": "user", "content": "x"}], **members}
    if (translation := translation_of(request)) is not None:
        check_order(translation.body.data["messages"])
