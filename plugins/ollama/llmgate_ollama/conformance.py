"""What the conformance suite must know of Ollama's connector; `llmgate plugin test ollama` finds it here."""

from __future__ import annotations

import json

from llmgate_core.testing import ConnectorSuite, Speech

from . import Ollama

ID = "chatcmpl-req_conformance"
COMMON = f'"id":"{ID}","created":1800000000,"model":"conformance-model","object":"chat.completion'
TEXT = "Grüße, 世界 🙂"

SPEECH = Speech(
    reply=(
        f'{{ "model":"m", "message":{{"role":"assistant","content":"{TEXT}","thinking":"想"}},\n "done":true, '
        '"done_reason":"stop", "prompt_eval_count":26, "eval_count": 1 }\n'
    ).encode(),
    events=tuple(
        f"{json.dumps(event, ensure_ascii=False)}\n".encode()
        for event in (
            {"model": "m", "message": {"role": "assistant", "content": "", "thinking": "想"}, "done": False},
            {"model": "m", "message": {"role": "assistant", "content": TEXT}, "done": False},
            {"model": "m", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"},
        )
    ),
    models={"models": [{"name": "conformance-model", "model": "conformance-model"}]},
)

WHOLE = (
    f'{{{COMMON}","choices":[{{"index":0,"message":{{"role":"assistant","content":"{TEXT}","reasoning_content":"想"}},'
    '"finish_reason":"stop"}],"usage":{"prompt_tokens":26,"completion_tokens":1,"total_tokens":27}}'
)
STREAM = "".join(
    f'data: {{{COMMON}.chunk","choices":[{{"index":0,"delta":{delta},"finish_reason":{reason}}}]}}\n\n'
    for delta, reason in (
        ('{"role":"assistant","reasoning_content":"想"}', "null"),
        (f'{{"content":"{TEXT}"}}', "null"),
        ("{}", '"stop"'),
    )
)


class TestOllama(ConnectorSuite):
    """The upstream speaks another language than the caller."""

    connector = Ollama

    def speech(self) -> Speech:
        return SPEECH

    def mended(self, sent: bytes, *, stream: bool) -> bytes:
        return f"{STREAM}data: [DONE]\n\n".encode() if stream else WHOLE.encode()
