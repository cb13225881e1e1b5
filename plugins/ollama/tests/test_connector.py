"""What the connector adds: the address, what it knows of a model, and a simulator as strict as the published API."""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import Any

import pytest

from llmgate_core import Credential, Instance
from llmgate_ollama import Ollama, OllamaSettings
from llmgate_ollama.simulator import Refused, check_request

USER = {"role": "user", "content": "Hi"}


def ollama(settings: OllamaSettings) -> Ollama:
    none: Any = None
    logger = logging.getLogger("test")
    return Ollama(Instance("ollama.test", settings, none, lambda: 0.0, random.Random(1), {}, Path("/nowhere"), logger))


@pytest.mark.parametrize(
    "address", ["http://box:11434", "http://box:11434/", "http://box:11434/v1", "http://box:11434/v1/"]
)
def test_the_other_apis_path_is_taken_off(address: str) -> None:
    assert ollama(OllamaSettings(base_url=address)).base_url(Credential({})) == "http://box:11434"


def test_the_context_is_the_configured_one() -> None:
    known = ollama(OllamaSettings()).facts("gpt-4.1")
    limited = ollama(OllamaSettings(num_ctx=8192)).facts("gpt-4.1")
    assert known is not None
    assert limited is not None
    assert known.context != 8192
    assert (limited.context, limited.input) == (8192, known.input)
    unknown = ollama(OllamaSettings(num_ctx=8192)).facts("nobody-knows")
    assert unknown is not None
    assert (unknown.id, unknown.context) == ("nobody-knows", 8192)
    assert ollama(OllamaSettings()).facts("nobody-knows") is None


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"model": ""}, "model is required"),
        ({"messages": "Hi"}, "messages is required"),
        ({"messages": [{"role": "developer", "content": ""}]}, "unknown role"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}, "content must be a string"),
        ({"messages": [{**USER, "images": ["data:image/png;base64,QQ=="]}]}, "illegal base64"),
        ({"messages": [{"role": "tool", "content": ""}]}, "tool_name"),
        (
            {"messages": [{**USER, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]},
            "arguments must be an object",
        ),
        ({"options": {"stop": "x"}}, "of type array"),
        ({"options": {"num_ctx": "8k"}}, "of type integer"),
        ({"options": {"temperature": "hot"}}, "of type float32"),
        ({"format": "xml"}, "invalid format"),
        ({"think": 1}, "think must be"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "no parameters"),
        ({"stream": "yes"}, "stream must be"),
    ],
)
def test_what_the_simulator_refuses(members: dict[str, Any], words: str) -> None:
    check_request({"model": "qwen3:8b", "messages": [USER]})
    with pytest.raises(Refused, match=words):
        check_request({"model": "qwen3:8b", "messages": [USER], **members})
