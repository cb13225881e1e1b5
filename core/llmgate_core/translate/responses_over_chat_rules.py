"""What a Responses request can say and Chat Completions cannot: by which name a caller is told of each loss.

What is not lost is mapped or refused. Three things are neither, because they are the gateway's own business: `store`,
`previous_response_id` (both: `response_store`), and the ids and states of items, which mean nothing to a model.
"""

from __future__ import annotations

from collections.abc import Mapping

LOSSES: Mapping[str, str] = {
    "client_metadata": "What a client tells OpenAI about itself stays with the gateway.",
    "context_management": "Nobody compacts the conversation on the way; the client has to.",
    "include": "The answer holds nothing more than usual: no encrypted reasoning, no log probabilities, no sources.",
    "input.annotations": "Citations in earlier answers are left out; their text stays.",
    "input.compaction": "A compacted conversation can be read only by who encrypted it, and nothing is compacted here.",
    "input.content": "Parts of a message of a type that chat does not have are left out.",
    "input.hosted_call": "Calls of tools that OpenAI runs itself (such as web search) are left out of the history.",
    "input.item_reference": "An item that is only named is left out; send the item itself.",
    "input.options": "Members of items and parts that chat has no place for, such as `phase`, are left out.",
    "input.reasoning": "Reasoning of earlier turns, or that no answer follows, is left out; this turn's is sent back "
    "as `reasoning_content`.",
    "input.system": "A system or developer message after the beginning is told at its place as the user's, in "
    "`<system-reminder>` tags: many models take one in the first place only.",
    "input.unanswered_call": "Chat demands an answer to each call; where there is none, the model is told just that.",
    "input.unknown": "Items of a type that nobody here knows are left out.",
    "max_tool_calls": "The number of calls is not limited; it concerns tools that OpenAI runs itself.",
    "members": "Members of the request that nobody here knows are left out.",
    "metadata": "It comes back in the answer, and goes no further.",
    "moderation": "Nothing is moderated on the way.",
    "prompt_cache": "Hints for OpenAI's prompt cache are left out; other backends cache as they do.",
    "reasoning.encrypted_content": "Only who encrypted it can read it.",
    "reasoning.options": "Of `reasoning`, only `effort` has a counterpart.",
    "reasoning.summary": "Reasoning comes as the backend gives it, whether a summary was asked for or not.",
    "safety_identifier": "Who the client's user is stays with the gateway.",
    "stream_options": "The stream is sent as it is, without obfuscation.",
    "text.options": "Of `text`, only `format` and `verbosity` have a counterpart.",
    "tool_choice": "A tool that is not offered cannot be demanded; the model chooses.",
    "tools.custom.format": "A grammar is told to the model in the tool's description; nobody enforces it.",
    "tools.hosted": "Tools that OpenAI runs itself (web search, file search, code interpreter, image generation, MCP "
    "servers, computer use) and the newer `shell` and `apply_patch` are not offered to the model.",
    "tools.options": "Of a tool, its name, description, parameters and `strict` are told.",
    "tools.unknown": "Tools of a type that nobody here knows are not offered to the model.",
    "top_logprobs": "The answer holds no log probabilities.",
    "truncation": "Nothing is cut off a conversation that is too long; it is refused by the backend.",
}
"""What gets lost, by the names of `x-llmgate-lost`."""
