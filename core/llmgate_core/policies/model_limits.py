"""Which models refuse a temperature: what llmgate adds of its own must not turn a good request into a 400.

What a caller sends is passed on in any case; the upstream judges it.
"""

from __future__ import annotations

import re
from collections.abc import Container

# OpenAI, "Using reasoning models": the o series and GPT-5 take the default only, their chat variants take any.
# Anthropic, "What's new in Claude 4.7": from Opus 4.7 on there are no sampling parameters.
# A generation that nobody has seen yet is taken to refuse: leaving a parameter out harms nobody.
_NO_TEMPERATURE = re.compile(
    r"(^|[/:._-])o[1-9]([._:-]|$)"
    r"|gpt-?[5-9](?!.*chat)"
    r"|(opus|sonnet|haiku)-?(4[.-][7-9]([^0-9]|$)|[5-9])",
    re.IGNORECASE,
)

# Anthropic, "Messages": Opus 4.1 and what came after it take one of both; older ones are advised to.
# Anthropic, "Extended thinking": thinking cannot be combined with another temperature than 1.
_ONE_OF_BOTH = re.compile(r"opus|sonnet|haiku|claude", re.IGNORECASE)
_CLASHING = ("top_p", "thinking", "reasoning", "reasoning_effort", "thinking_budget")


def takes_temperature(model: str, beside: Container[str]) -> bool:
    """Whether a model, going by its name, takes a temperature.

    Args:
        beside: names of other parameters and members that the request will have.
    """
    if _NO_TEMPERATURE.search(model):
        return False
    return not (_ONE_OF_BOTH.search(model) and any(name in beside for name in _CLASHING))
