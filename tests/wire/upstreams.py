"""One answer with thinking, text and a call, as an upstream of each dialect tells it, whole and streamed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llmgate_core.builtin import AnthropicCompatibleConnector

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmgate_core.testing import Exchange, Script

CITY = '{"city":"杭州"}'

# --- Chat Completions -------------------------------------------------------------------------------------------------


def delta(members: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": members, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def named(**function: str) -> dict[str, Any]:
    first = {"id": "call_1", "type": "function"} if "name" in function else {}
    return {"tool_calls": [{"index": 0, **first, "function": function}]}


USAGE = {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}
CHAT = [
    delta({"role": "assistant", "content": ""}),
    delta({"reasoning_content": "想一想"}),
    delta({"content": "我查"}),
    delta({"content": "一下"}),
    delta(named(name="weather", arguments="")),
    delta(named(arguments=CITY[:6])),
    delta(named(arguments=CITY[6:])),
    delta({}, "tool_calls"),
    {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": USAGE},
    "[DONE]",
]
MESSAGE = {
    "role": "assistant",
    "content": "我查一下",
    "reasoning_content": "想一想",
    "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": CITY}}],
}
COMPLETION = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "tool_calls"}],
    "usage": USAGE,
}


async def chat_upstream(exchange: Exchange) -> None:
    assert exchange.request.path == "/v1/chat/completions"
    if exchange.request.json().get("stream"):
        await exchange.sse(*CHAT)
    else:
        await exchange.reply(200, COMPLETION)


# --- Messages ---------------------------------------------------------------------------------------------------------


def event(sort: str, **members: Any) -> bytes:
    return f"event: {sort}\ndata: {json.dumps({'type': sort, **members}, ensure_ascii=False)}\n\n".encode()


def block(index: int, start: Mapping[str, Any], *deltas: Mapping[str, Any]) -> list[bytes]:
    return [
        event("content_block_start", index=index, content_block=start),
        *(event("content_block_delta", index=index, delta=one) for one in deltas),
        event("content_block_stop", index=index),
    ]


HEAD: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None}
START: dict[str, Any] = {**HEAD, "content": [], "stop_reason": None, "usage": {"input_tokens": 9, "output_tokens": 1}}
SAID: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "想一想", "signature": "sig"},
    {"type": "text", "text": "我查一下"},
    {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "杭州"}},
]
MESSAGES = [
    event("message_start", message=START),
    *block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "想一想"},
        {"type": "signature_delta", "signature": "sig"},
    ),
    *block(
        1, {"type": "text", "text": ""}, {"type": "text_delta", "text": "我查"}, {"type": "text_delta", "text": "一下"}
    ),
    *block(2, {**SAID[2], "input": {}}, {"type": "input_json_delta", "partial_json": CITY}),
    event("message_delta", delta={"stop_reason": "tool_use", "stop_sequence": None}, usage={"output_tokens": 7}),
    event("message_stop"),
]
WHOLE = {**HEAD, "content": SAID, "stop_reason": "tool_use", "usage": {"input_tokens": 9, "output_tokens": 7}}


async def messages_upstream(exchange: Exchange) -> None:
    assert exchange.request.path == "/v1/messages"
    assert exchange.request.headers["anthropic-version"]
    if exchange.request.json().get("stream"):
        await exchange.sse(*MESSAGES)
    else:
        await exchange.reply(200, WHOLE)


# --- Responses --------------------------------------------------------------------------------------------------------

REASONING: dict[str, Any] = {"id": "rs_1", "type": "reasoning", "summary": []}
SUMMARY = {"type": "summary_text", "text": "想一想"}
SPOKEN: dict[str, Any] = {"id": "m_1", "type": "message", "role": "assistant", "status": "completed"}
OUTPUT_TEXT: dict[str, Any] = {"type": "output_text", "text": "我查一下", "annotations": []}
FUNCTION_CALL: dict[str, Any] = {
    **{"id": "fc_1", "type": "function_call", "status": "completed", "call_id": "call_1", "name": "weather"},
    "arguments": CITY,
}
OUTPUT = [{**REASONING, "summary": [SUMMARY]}, {**SPOKEN, "content": [OUTPUT_TEXT]}, FUNCTION_CALL]
RESPONSE: dict[str, Any] = {
    **{"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "completed", "output": OUTPUT},
    **{"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "error": None, "incomplete_details": None},
    "usage": {
        **{"input_tokens": 9, "output_tokens": 7, "total_tokens": 16},
        **{"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}},
    },
}
BEGUN = {**RESPONSE, "status": "in_progress", "output": [], "usage": None}


def item(
    index: int, empty: Mapping[str, Any], place: Mapping[str, Any], *between: tuple[str, Mapping[str, Any]]
) -> Any:
    """The events of one item: each of those between begins with where they belong."""
    at = {"item_id": empty["id"], "output_index": index, **place}
    yield "output_item.added", {"output_index": index, "item": empty}
    yield from ((sort, {**at, **members}) for sort, members in between)
    yield "output_item.done", {"output_index": index, "item": OUTPUT[index]}


NO_TEXT: dict[str, Any] = {**OUTPUT_TEXT, "text": ""}
RESPONSES = [
    event(f"response.{sort}", sequence_number=number, **members)
    for number, (sort, members) in enumerate(
        [
            ("created", {"response": BEGUN}),
            *item(
                0,
                REASONING,
                {"summary_index": 0},
                ("reasoning_summary_part.added", {"part": {**SUMMARY, "text": ""}}),
                ("reasoning_summary_text.delta", {"delta": "想一想"}),
                ("reasoning_summary_text.done", {"text": "想一想"}),
                ("reasoning_summary_part.done", {"part": SUMMARY}),
            ),
            *item(
                1,
                {**SPOKEN, "status": "in_progress", "content": []},
                {"content_index": 0},
                ("content_part.added", {"part": NO_TEXT}),
                ("output_text.delta", {"delta": "我查", "logprobs": []}),
                ("output_text.delta", {"delta": "一下", "logprobs": []}),
                ("output_text.done", {"text": "我查一下", "logprobs": []}),
                ("content_part.done", {"part": OUTPUT_TEXT}),
            ),
            *item(
                2,
                {**FUNCTION_CALL, "status": "in_progress", "arguments": ""},
                {},
                ("function_call_arguments.delta", {"delta": CITY}),
                ("function_call_arguments.done", {"arguments": CITY, "name": "weather"}),
            ),
            ("completed", {"response": RESPONSE}),
        ]
    )
]


async def responses_upstream(exchange: Exchange) -> None:
    assert exchange.request.path == "/v1/responses"
    if exchange.request.json().get("stream"):
        await exchange.sse(*RESPONSES)
    else:
        await exchange.reply(200, RESPONSE)


# --- all of them ------------------------------------------------------------------------------------------------------

SCRIPTS: dict[str, Script] = {
    "chat": chat_upstream,
    "messages": messages_upstream,
    "responses": responses_upstream,
}
STREAMS: dict[str, list[Any]] = {"chat": CHAT, "messages": MESSAGES, "responses": RESPONSES}
BACKENDS: dict[str, dict[str, Any]] = {
    "chat": {},
    "messages": {"connector": AnthropicCompatibleConnector},
    "responses": {"extra": {"responses": True}},
}
"""How a gateway is told of such an upstream."""
