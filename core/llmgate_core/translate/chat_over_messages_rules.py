"""What a Chat Completions request can say and Anthropic Messages cannot: by which name a caller is told of each loss.

What is not lost is mapped or refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .losses import Losses
from .losses import is_set as says_something

LOSSES: Mapping[str, str] = {
    "audio": "How an answer should sound is left out; answers are text.",
    "frequency_penalty": "Messages has no penalties.",
    "logit_bias": "Messages cannot prefer or forbid tokens.",
    "logprobs": "The answer holds no log probabilities.",
    "members": "Members of the request that nobody here knows are left out.",
    "messages.arguments": "Arguments of a call that are no JSON object are sent as `{arguments: TEXT}`.",
    "messages.audio": "An earlier answer that was audio is left out, as only OpenAI can look it up.",
    "messages.begin": "Where the conversation does not begin with the user, as Messages wants it, a user's "
    "`(conversation begins)` is put in front.",
    "messages.blank": "Text of white space alone, and white space at the end of a last assistant message, is left "
    "out: Messages refuses it.",
    "messages.image_detail": "How closely to look at an image is for the backend to say.",
    "messages.name": "Messages has no names of participants.",
    "messages.options": "Members of messages, parts and calls that Messages has no place for are left out.",
    "messages.reasoning": "Reasoning of earlier answers is left out: Messages takes only what its backend has signed, "
    "and chat carries no signatures.",
    "messages.system": "A system or developer message after the beginning is told at its place as the user's, in "
    "`<system-reminder>` tags; where there is no other message, as the user's.",
    "messages.unanswered_call": "Messages demands an answer to each call; where there is none, the model is told so.",
    "metadata": "What is to be stored with an answer stays with the gateway; nothing is stored.",
    "moderation": "Nothing is moderated on the way.",
    "prediction": "The backend is not told what the answer will probably be.",
    "presence_penalty": "Messages has no penalties.",
    "prompt_cache": "Hints for OpenAI's prompt cache are left out; `cache_control` on parts and tools is kept.",
    "reasoning_effort": "Where a tool has to be called, the model does not think: Messages refuses both together.",
    "response_format.json_object": "The model is told in the system prompt to answer with a JSON object; nobody "
    "enforces it.",
    "response_format.options": "Of a JSON schema, only the schema itself is told; it is enforced, `strict` or not.",
    "seed": "Answers cannot be repeated.",
    "service_tier": "Messages knows `auto` and `default` alone.",
    "stop": "A text of white space alone does not end the answer; Messages refuses it.",
    "store": "Nothing is stored.",
    "stream_options": "The stream is sent as it is, without obfuscation.",
    "temperature": "Above 1 it is sent as 1, the highest that Messages takes; where the model thinks, it is left out "
    "unless it is 1.",
    "thinking_budget": "Messages takes at least 1024 tokens, and fewer than `max_tokens`: a smaller or larger budget "
    "is moved there. There is no thinking where that cannot be, where a tool has to be called, or after a tool's "
    "result, as Messages then wants back what was thought before.",
    "tool_choice": "A tool that is not offered cannot be demanded; the model chooses.",
    "tools.options": "Of a tool, its name, description and parameters are told.",
    "tools.strict": "Arguments that keep to the tool's schema are likely, and nobody enforces it.",
    "tools.unknown": "Tools of a type that nobody here knows, such as those that OpenAI runs itself, are not offered.",
    "top_k": "Where the model thinks, it is left out.",
    "top_p": "Where the model thinks, it is left out below 0.95.",
    "user": "Where `safety_identifier` is another, that one is sent.",
    "verbosity": "Messages cannot be told how long an answer should be.",
    "web_search_options": "Nobody searches the web.",
}
"""What gets lost, by the names of `x-llmgate-lost`."""


def is_set(value: Any) -> bool:
    """Whether a member's value says something; here `false` does not, as it is what chat does anyway."""
    return value is not False and says_something(value)


def lose_beside(losses: Losses, holder: Mapping[str, Any], known: frozenset[str], name: str) -> None:
    """Takes note of one loss if `holder` says anything beside what is `known`."""
    losses.add_if(any(is_set(value) for key, value in holder.items() if key not in known), name)
