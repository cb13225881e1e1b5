"""Any chat stream becomes a stream that OpenAI's own SDK accepts and sums up to what the upstream said.

Any request becomes a chat request in chat's order, or a 400; and whatever is not in it has a name.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx2
import openai
from hypothesis import given, settings
from hypothesis import strategies as st
from openai._models import construct_type
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from llmgate_core.dialects import chat, responses
from llmgate_core.errors import ConnectorError, RequestError
from llmgate_core.sse import Event, Parser
from llmgate_core.translate.responses_over_chat import LOSSES, ResponsesOverChat, translate
from llmgate_core.wire import Body

EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "name": "f", "parameters": {"type": "object"}},
    {"type": "custom", "name": "patch"},
    {"type": "namespace", "name": "crm", "description": "", "tools": [{"type": "function", "name": "f"}]},
]
NAMES = {"f": ("f", None), "patch": ("patch", None), "crm__f": ("f", "crm"), "unknown": ("unknown", None)}


def way(**members: Any) -> ResponsesOverChat:
    numbers = itertools.count(1)
    body = {"model": "m", "input": "hi", "tools": TOOLS, "stream": True, **members}
    return translate(Body(json.dumps(body).encode()), new_id=lambda: f"{next(numbers)}", clock=lambda: 1.0)


# --- what an upstream may say ----------------------------------------------------------------------

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
SAYS = st.tuples(st.sampled_from(["reasoning_content", "reasoning", "content", "refusal"]), TEXT)
CALLS = st.tuples(st.integers(0, 3), st.sampled_from(["", "{", '"a":', "1}", '{"input":"好"}']))
SCRIPT = st.lists(SAYS | CALLS, max_size=14)
FINISH = st.sampled_from(["stop", "length", "tool_calls", "content_filter", "eos", None])
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
STYLE = st.sampled_from(["index", "id each time", "name each time", "all zero, id each time", "no index, id each time"])
PLACES = st.lists(st.integers(0, 5000), max_size=5)


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    data = json.dumps({"id": "c", "model": "served", "choices": [choice], **more}, ensure_ascii=False)
    return f"data: {data}\n\n".encode()


class Said:
    """What a script says: its bytes, and what they sum up to."""

    def __init__(self, script: list[Any], names: list[str], style: str) -> None:
        self.frames: list[bytes] = [chunk({"role": "assistant", "content": ""})]
        self.texts = {"reasoning": "", "output_text": "", "refusal": ""}
        self.calls: dict[str, tuple[str, str]] = {}
        for name, value in script:
            if isinstance(name, int):
                self._call(name, value, names[name], style)
            else:
                self.frames.append(chunk({name: value}))
                self.texts[{"content": "output_text", "refusal": "refusal"}.get(name, "reasoning")] += value

    def _call(self, number: int, arguments: str, name: str, style: str) -> None:
        id = f"call_{number}"
        is_first = id not in self.calls
        piece: dict[str, Any] = {"function": {"arguments": arguments}}
        if not style.startswith("no index"):
            piece["index"] = 0 if style.startswith("all zero") else list({**self.calls, id: 0}).index(id)
        if is_first or "id each" in style:
            piece["id"] = id
        if is_first or style == "name each time":
            piece["function"]["name"] = name
        self.frames.append(chunk({"tool_calls": [piece]}))
        self.calls[id] = (name, self.calls.get(id, ("", ""))[1] + arguments)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(at)]


def passed(stream: Any, data: bytes, places: list[int]) -> Iterator[bytes]:
    parser = Parser()
    for piece in cut(data, places):
        for event in parser.feed(piece):
            yield stream.feed(event)


# --- what the caller is told -----------------------------------------------------------------------


def checked(data: bytes) -> list[dict[str, Any]]:
    """The events, once each of them is what the SDK's types say, and they stand in a possible order."""
    events = [json.loads(event.data) for event in named(data)]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    state: ResponseStreamState[Any] = ResponseStreamState(input_tools=openai.omit, text_format=openai.omit)
    for event in events:
        EVENTS.validate_json(json.dumps(with_a_known_code(event)), strict=True)
        state.handle_event(construct_type(type_=ResponseStreamEvent, value=event))  # type: ignore[arg-type]
    check_order(events[2:-1])
    return events


def named(data: bytes) -> list[Event]:
    events = Parser().feed(data)
    assert all(json.loads(event.data)["type"] == event.event for event in events)
    return events


def with_a_known_code(event: dict[str, Any]) -> dict[str, Any]:
    """The SDK's type does not know all codes that Codex knows; its client does not check them."""
    if event["type"] != "response.failed":
        return event
    return {**event, "response": {**event["response"], "error": {"code": "server_error", "message": "x"}}}


def check_order(events: list[dict[str, Any]]) -> None:
    """Each item is added once, with the next index; its deltas come while it is open, and sum up to what is done."""
    opened: dict[int, dict[str, Any]] = {}
    parts: dict[tuple[int, str], str] = {}
    done: set[int] = set()
    for event in events:
        index, sort = event["output_index"], event["type"]
        if sort == "response.output_item.added":
            assert index == len(opened)
            opened[index] = event["item"]
            continue
        assert index in opened
        assert index not in done
        if sort == "response.output_item.done":
            assert event["item"]["id"] == opened[index]["id"]
            done.add(index)
            continue
        assert event["item_id"] == opened[index]["id"]
        place = f"{sort.split('.')[1]} {event.get('content_index', event.get('summary_index', 0))}"
        if sort.endswith(".delta"):
            parts[index, place] = parts.get((index, place), "") + event["delta"]
        elif sort.endswith(("text.done", "refusal.done", "arguments.done", "input.done")):
            whole = next(event[name] for name in ("text", "refusal", "arguments", "input") if name in event)
            assert parts.get((index, place), "") == whole


def summed_up(output: list[dict[str, Any]]) -> tuple[dict[str, str], dict[str, tuple[Any, ...]]]:
    texts = {"reasoning": "", "output_text": "", "refusal": ""}
    calls: dict[str, tuple[Any, ...]] = {}
    for item in output:
        if item["type"] == "reasoning":
            texts["reasoning"] += "".join(part["text"] for part in item["summary"])
        elif item["type"] == "message":
            for part in item["content"]:
                texts[part["type"]] += part.get("text", part.get("refusal"))
        else:
            said = item["arguments"] if item["type"] == "function_call" else item["input"]
            calls[item["call_id"]] = (item["type"], item["name"], item.get("namespace"), said)
    return texts, calls


def expected_call(name: str, arguments: str, is_cut: bool) -> tuple[Any, ...]:
    if name == "patch":
        try:
            value = json.loads(arguments)["input"]
        except (ValueError, TypeError, KeyError):
            value = arguments
        return ("custom_tool_call", "patch", None, value)
    return ("function_call", *NAMES[name], arguments or ("" if is_cut else "{}"))


@settings(max_examples=125, deadline=None)
@given(
    SCRIPT,
    st.lists(st.sampled_from(list(NAMES)), min_size=4, max_size=4),
    STYLE,
    FINISH,
    st.booleans(),
    st.booleans(),
    PLACES,
)
def test_any_stream_sums_up_to_what_was_said(
    script: list[Any], names: list[str], style: str, finish: str | None, usage: bool, done: bool, places: list[int]
) -> None:
    said = Said(script, names, style)
    sent = b"".join(said.frames) + (chunk(finish=finish) if finish else b"")
    sent += chunk(choices=[], usage=USAGE) if usage else b": ping\n\n"
    sent += b"data: [DONE]\n\n" if done or not finish else b""
    translation = way()
    stream = translation.stream()
    data = b"".join(passed(stream, sent, places)) + stream.end()
    last = checked(data)[-1]
    response = last["response"]
    is_cut = finish in ("length", "content_filter")
    assert (
        last["type"] == f"response.{response['status']}" == ("response.incomplete" if is_cut else "response.completed")
    )
    assert (response["model"], response["id"]) == ("served", translation.response_id)
    texts, calls = summed_up(response["output"])
    assert texts == said.texts
    assert calls == {id: expected_call(*call, is_cut) for id, call in said.calls.items()}
    assert response["output"] == [
        event["item"] for event in sorted(dones(data), key=lambda event: event["output_index"])
    ]
    assert response["output"] == list(translation.output)
    watch = responses.StreamWatch()
    watch.feed(data)
    assert (watch.finished, watch.error, watch.usage) == (True, False, response["usage"])
    assert (response["usage"] or {}).get("total_tokens") == (5 if usage else None)
    assert stream.end() == stream.failed(ValueError()) == b""


def dones(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(event.data) for event in Parser().feed(data) if event.event == "response.output_item.done"]


@settings(max_examples=75, deadline=None)
@given(SCRIPT, st.integers(0, 20), st.sampled_from(["frame", "cut off", "nonsense"]), PLACES)
def test_any_stream_that_fails_says_so_and_runs_no_half_call(
    script: list[Any], after: int, how: str, places: list[int]
) -> None:
    said = Said(script, ["f", "patch", "crm__f", "unknown"], "index")
    broken = {"frame": b'data: {"error":{"message":"busy","code":503}}\n\n', "cut off": b"", "nonsense": b"data: <\n\n"}
    stream = way().stream()
    data, failure = b"", None
    try:
        for told in passed(stream, b"".join(said.frames[:after]) + broken[how], places):
            data += told
        data += stream.end()
    except ConnectorError as error:
        failure = error
        data += stream.failed(error)
    assert failure is not None
    events = checked(data)
    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"]["error"]["message"] == failure.message
    assert all("call" not in event["item"]["type"] for event in dones(data))
    assert stream.failed(failure) == b""


@settings(max_examples=50, deadline=None)
@given(
    st.fixed_dictionaries({}, optional={"reasoning_content": TEXT, "content": TEXT, "refusal": TEXT}),
    st.lists(st.sampled_from(list(NAMES)), max_size=3),
    FINISH,
)
def test_a_plain_answer_is_what_the_same_stream_sums_up_to(
    message: dict[str, Any], names: list[str], finish: str | None
) -> None:
    pieces = [
        {"index": place, "id": f"call_{place}", "type": "function", "function": {"name": name, "arguments": "{}"}}
        for place, name in enumerate(names)
    ]
    message = {name: message[name] for name in ("reasoning_content", "content", "refusal") if name in message}
    whole = {**message, **({"tool_calls": pieces} if pieces else {})}
    choice = {"index": 0, "message": whole, "finish_reason": finish}
    plain = json.loads(way().reply(json.dumps({"model": "served", "choices": [choice], "usage": USAGE}).encode()))
    Response.model_validate_json(json.dumps(plain), strict=True)
    stream = way().stream()
    frames = [chunk({name: text}) for name, text in message.items()] + [
        chunk({"tool_calls": [piece]}) for piece in pieces
    ]
    sent = b"".join(frames) + (chunk(finish=finish) if finish else b"") + chunk(choices=[], usage=USAGE)
    data = b"".join(passed(stream, sent + b"data: [DONE]\n\n", []))
    streamed = json.loads(Parser().feed(data)[-1].data)["response"]
    cut_off = finish in ("length", "content_filter") and not names and "reasoning_content" in message
    assert streamed == plain or cut_off


def test_openais_client_reads_a_translated_stream() -> None:
    sent = chunk({"reasoning_content": "hm"}) + chunk({"content": "hello"})
    sent += chunk({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "crm__f", "arguments": "{}"}}]})
    sent += chunk(finish="tool_calls") + chunk(choices=[], usage=USAGE) + b"data: [DONE]\n\n"

    def serve(request: httpx2.Request) -> httpx2.Response:
        stream = translate(Body(request.content)).stream()
        data = b"".join(passed(stream, sent, [7, 99]))
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=data)

    http = openai.DefaultHttpxClient(transport=httpx2.MockTransport(serve))
    with openai.OpenAI(api_key="k", base_url="http://x.example/v1", http_client=http) as client:  # noqa: SIM117
        with client.responses.stream(model="m", input="hi", tools=TOOLS) as stream:  # type: ignore[arg-type]
            texts = [event.delta for event in stream if event.type == "response.output_text.delta"]
            final = stream.get_final_response()
    assert texts == [final.output_text] == ["hello"]
    assert [item.type for item in final.output] == ["reasoning", "message", "function_call"]
    assert final.usage is not None
    assert final.usage.total_tokens == 5


# --- requests --------------------------------------------------------------------------------------

ANY: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "a", "user", "assistant", "auto", "f"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "name", "text", "role", "tools", "id", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
PARTS = st.one_of(
    st.fixed_dictionaries({"type": st.sampled_from(["input_text", "output_text"]), "text": TEXT}),
    st.fixed_dictionaries({"type": st.just("refusal"), "refusal": TEXT}),
    st.just({"type": "input_image", "image_url": "data:x"}),
    st.just({"type": "input_file", "file_data": "eA==", "detail": "high"}),
    st.just({"type": "novel", "novel": 1}),
)
CONTENT = TEXT | st.lists(PARTS, max_size=3)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "user", "assistant", "system", "developer"]), "content": CONTENT},
    optional={"type": st.just("message"), "phase": st.just("commentary")},
)
THOUGHT = st.builds(lambda text: {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}]}, TEXT)
CALL = st.sampled_from(
    [
        {"type": "function_call", "name": "f", "arguments": "{}"},
        {"type": "function_call", "name": "f", "namespace": "crm", "arguments": "{}"},
        {"type": "custom_tool_call", "name": "patch", "input": "x"},
        {"type": "local_shell_call", "action": {"command": ["ls"]}},
        {"type": "shell_call", "action": {"commands": ["ls"]}},
        {"type": "novel_call", "novel": 1},
    ]
)
WITHOUT_A_WORD = st.sampled_from(
    [
        {"type": "item_reference", "id": "msg_1"},
        {"type": "compaction", "encrypted_content": "x"},
        {"type": "web_search_call", "id": "ws_1"},
        {"type": "mcp_list_tools"},
        {"type": "novel"},
    ]
)
ITEM: st.SearchStrategy[dict[str, Any]] = st.one_of(MESSAGE, THOUGHT, CALL, WITHOUT_A_WORD)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Items in any order; most calls have an output, somewhere behind them."""
    items: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]
    for number, item in enumerate(draw(st.lists(ITEM, max_size=8))):
        items.append({**item, "call_id": f"call_{number}"} if is_call(item) and "id" not in item else item)
    for call in [item for item in items if "call_id" in item]:
        if draw(st.integers(0, 4)):
            answer = {"type": f"{call['type']}_output", "call_id": call["call_id"], "output": draw(CONTENT)}
            items.insert(draw(st.integers(items.index(call) + 1, len(items))), answer)
    return items


VALID: dict[str, list[Any]] = {
    "instructions": ["Be brief."],
    "tools": [TOOLS, [{"type": "web_search"}], [{"type": "local_shell"}]],
    "tool_choice": ["auto", "required", {"type": "function", "name": "f"}, {"type": "mcp"}],
    "text": [{"format": {"type": "json_object"}}, {"verbosity": "low"}],
    "reasoning": [{"effort": "low", "summary": "auto"}],
    "include": [["reasoning.encrypted_content"]],
    "metadata": [{"a": "b"}],
    "stream": [True, False],
    "novel": [1],
    "background": [False],
    "truncation": ["auto", "disabled"],
    "stream_options": [{"include_obfuscation": True}],
    "service_tier": ["auto", "flex"],
    "max_output_tokens": [5],
    "top_logprobs": [0, 2],
}
MEMBERS = st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in VALID.items()})
WILD_MEMBERS = st.dictionaries(st.sampled_from([*VALID, "conversation", "prompt"]), ANY, max_size=1)
WILD_TYPES = st.sampled_from(
    [
        *("message", "reasoning", "function_call", "novel_call", "novel_call_output", "local_shell_call"),
        *("tool_search_call", "tool_search_output", "additional_tools", "item_reference"),
    ]
)
WILD_TOOLS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["function", "custom", "namespace", "mcp", "tool_search"])},
        optional={"name": st.just("n") | ANY, "tools": st.just(TOOLS[:2]) | ANY, "execution": st.just("client")},
    ),
    max_size=2,
)
WILD_ITEMS = st.lists(
    st.fixed_dictionaries(
        {"type": WILD_TYPES | ANY},
        optional={
            **dict.fromkeys(("role", "content", "output", "name", "arguments", "action", "summary"), ANY),
            "call_id": st.just("wild") | ANY,
            "tools": WILD_TOOLS | ANY,
        },
    ),
    max_size=2,
)


@settings(max_examples=200, deadline=None)
@given(MEMBERS, WILD_MEMBERS, conversations(), WILD_ITEMS)
def test_any_request_is_translated_or_a_400(
    members: dict[str, Any], wild: dict[str, Any], items: list[dict[str, Any]], more: list[dict[str, Any]]
) -> None:
    body = {"model": "m", "input": [*items, *more], **members, **wild}
    try:
        translation = translate(Body(json.dumps(body).encode()))
    except RequestError as error:
        assert (error.status, bool(error.param)) == (400, True)  # noqa: PT017 - either is right
        return
    assert set(translation.lost) <= LOSSES.keys()
    read = chat.read_request(translation.body.bytes)
    assert read.stream is (body.get("stream") is True)
    check_chats_order(read.body.data["messages"])
    assert json.loads(translation.reply(b'{"choices":[{"message":{"content":"x"}}]}'))["status"] == "completed"
    assert b"response.failed" in translation.stream().failed(ValueError())


@settings(max_examples=150, deadline=None)
@given(conversations())
def test_any_conversation_comes_in_chats_order_and_nothing_goes_without_a_word(items: list[dict[str, Any]]) -> None:
    translation = way(input=items)
    messages, lost = translation.body.data["messages"], set(translation.lost)
    check_chats_order(messages)
    calls = [call["id"] for message in messages for call in message.get("tool_calls", ())]
    assert calls == [item["call_id"] for item in items if "call_id" in item and is_call(item)]
    told = list(strings(messages))
    for item in items:
        if item.get("type") == "reasoning":
            text = item["summary"][0]["text"]
            assert any(text in one for one in told) or "input.reasoning" in lost
        elif item.get("type") in WORDS:
            assert WORDS[item["type"]] in lost
        for text in texts_of(item):
            assert any(text in one for one in told)
    answered = {item["call_id"] for item in items if not is_call(item) and "call_id" in item}
    assert ("input.unanswered_call" in lost) is bool(set(calls) - answered)
    assert ("input.options" in lost) is any("phase" in item or has_part(item, "detail", "novel") for item in items)


WORDS = {
    "item_reference": "input.item_reference",
    "compaction": "input.compaction",
    "web_search_call": "input.hosted_call",
    "mcp_list_tools": "input.hosted_call",
    "novel": "input.unknown",
}


def has_part(item: dict[str, Any], *names: str) -> bool:
    content = item.get("content", item.get("output"))
    return isinstance(content, list) and any(name in part for part in content for name in names)


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def is_call(item: dict[str, Any]) -> bool:
    return str(item.get("type")).endswith("_call")


def texts_of(item: dict[str, Any]) -> list[str]:
    """What a message or an output says; pieces of the assistant's text are put together."""
    content = item.get("content", item.get("output"))
    if isinstance(content, str):
        return [content]
    return [part.get("text", part.get("refusal")) for part in content or () if {"text", "refusal"} & part.keys()]


def check_chats_order(messages: list[dict[str, Any]]) -> None:
    """Each call is answered right behind the message that holds it, in any order, and nothing else is answered.

    And the system speaks first or not at all: many chat templates refuse anything else.
    """
    assert all(message["role"] != "system" for message in messages[1:])
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] in waiting
            waiting.remove(message["tool_call_id"])
            continue
        assert waiting == []
        waiting = [call["id"] for call in message.get("tool_calls", ())]
    assert waiting == []
