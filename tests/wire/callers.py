"""Callers of the three dialects: the official SDKs, which gather an answer with thinking, text and a call."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anthropic
import openai

if TYPE_CHECKING:
    from tests.conftest import RunningGateway

WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ASKED: Any = [{"role": "user", "content": "杭州天气如何？"}]

Heard = tuple[str, str, str, Any, int, int]
"""Reasoning, text, the tool's name and input, tokens in and out."""
TOLD: Heard = ("想一想", "我查一下", "weather", {"city": "杭州"}, 9, 7)


OPTIONS: dict[str, Any] = {"api_key": "any", "max_retries": 0}


def to_messages(running: RunningGateway, **options: Any) -> anthropic.AsyncAnthropic:
    """Anthropic's SDK. Authorities are not loaded: that takes longer than all else, and nothing is encrypted here."""
    http = anthropic.DefaultAsyncHttpxClient(verify=False)
    return anthropic.AsyncAnthropic(base_url=running.url, http_client=http, **{**OPTIONS, **options})


def to_openai(running: RunningGateway, **options: Any) -> openai.AsyncOpenAI:
    """OpenAI's SDK, likewise."""
    http = openai.DefaultAsyncHttpxClient(verify=False)
    return openai.AsyncOpenAI(base_url=f"{running.url}/v1", http_client=http, **{**OPTIONS, **options})


async def by_messages(running: RunningGateway, *, stream: bool, **client_options: Any) -> Heard:
    tools: Any = [{"name": "weather", "input_schema": WEATHER}]
    async with to_messages(running, **client_options) as client:
        if stream:
            async with client.messages.stream(model="m", max_tokens=99, messages=ASKED, tools=tools) as events:
                said: Any = await events.get_final_message()
        else:
            said = await client.messages.create(model="m", max_tokens=99, messages=ASKED, tools=tools)
    assert said.stop_reason == "tool_use"
    thinking, text, call = said.content
    assert (thinking.type, text.type, call.type) == ("thinking", "text", "tool_use")
    tokens = (said.usage.input_tokens, said.usage.output_tokens)
    return (thinking.thinking, text.text, call.name, call.input, *tokens)


async def by_responses(running: RunningGateway, *, stream: bool, **client_options: Any) -> Heard:
    tools: Any = [{"type": "function", "name": "weather", "parameters": WEATHER, "strict": False}]
    async with to_openai(running, **client_options) as client:
        if stream:
            async with client.responses.stream(model="m", input=ASKED, tools=tools) as events:
                said: Any = await events.get_final_response()
        else:
            said = await client.responses.create(model="m", input=ASKED, tools=tools)
    reasoning, message, call = said.output
    assert (reasoning.type, message.type, call.type) == ("reasoning", "message", "function_call")
    assert said.usage is not None
    thought = "".join(part.text for part in reasoning.summary)
    tokens = (said.usage.input_tokens, said.usage.output_tokens)
    return (thought, said.output_text, call.name, json.loads(call.arguments), *tokens)


async def by_chat(running: RunningGateway, *, stream: bool, **client_options: Any) -> Heard:
    tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]
    async with to_openai(running, **client_options) as client:
        if stream:
            options: Any = {"include_usage": True}
            asked = client.chat.completions.stream(model="m", messages=ASKED, tools=tools, stream_options=options)
            async with asked as events:
                said: Any = await events.get_final_completion()
        else:
            said = await client.chat.completions.create(model="m", messages=ASKED, tools=tools)
    message = said.choices[0].message
    assert said.choices[0].finish_reason == "tool_calls"
    call = message.tool_calls[0].function
    tokens = (said.usage.prompt_tokens, said.usage.completion_tokens)
    return (message.reasoning_content, message.content, call.name, json.loads(call.arguments), *tokens)


CALLERS = {"messages": by_messages, "responses": by_responses, "chat": by_chat}
