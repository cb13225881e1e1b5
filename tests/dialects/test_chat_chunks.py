"""What a connector writes is Chat Completions, as the watch that reads streams sees it."""

from __future__ import annotations

import json

from llmgate_core import ChatWriter
from llmgate_core.dialects.chat import StreamWatch

USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def test_a_stream_that_is_written_is_one_that_ends() -> None:
    writer, watch = ChatWriter("chatcmpl-1", "m", 7.9), StreamWatch()
    seen = []
    for event in (
        writer.delta({"role": "assistant"}),
        writer.delta({"content": "你好"}, logprobs=None),
        writer.delta({}, "stop"),
        writer.end(USAGE),
    ):
        watch.feed(event)
        seen.append((watch.meaningful, watch.finished, watch.done, watch.error))
    assert seen == [
        (False, False, False, False),
        (True, False, False, False),
        (True, True, False, False),
        (True, True, True, False),
    ]


def test_the_events() -> None:
    writer = ChatWriter("chatcmpl-1", "m", 7.9)
    event = writer.delta({"content": "a\nb"}, logprobs={"content": []})
    assert json.loads(event.removeprefix(b"data: ")) == {
        "id": "chatcmpl-1",
        "created": 7,
        "model": "m",
        "object": "chat.completion.chunk",
        "choices": [
            {"index": 0, "delta": {"content": "a\nb"}, "finish_reason": None, "logprobs": {"content": []}},
        ],
    }
    assert writer.end() == b"data: [DONE]\n\n"
    usage, done, rest = writer.end(USAGE).split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    assert json.loads(usage.removeprefix(b"data: "))["usage"] == USAGE


def test_a_plain_reply() -> None:
    reply = json.loads(ChatWriter("chatcmpl-1", "m", 7.9).whole({"content": "a"}, "length", USAGE))
    assert reply["object"] == "chat.completion"
    message = {"role": "assistant", "content": "a"}
    assert reply["choices"] == [{"index": 0, "message": message, "finish_reason": "length"}]
    assert reply["usage"] == USAGE
    assert "usage" not in json.loads(ChatWriter("chatcmpl-1", "m", 0).whole({"content": "a"}, "stop"))
