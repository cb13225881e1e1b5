"""The simulator's Messages API: a whole message, and the events of a streamed one, in every shape that was met."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .said import Answer, event, pieces, signature_of


def message(answer: Answer) -> dict[str, Any]:
    """The body of a plain answer."""
    told = {**_envelope(answer), "content": _blocks(answer), "stop_reason": _stop(answer), "usage": _usage(answer)}
    if _leaks(answer):
        told["reasoning_content"] = answer.thought
    if answer.shape == "null_usage":
        told["usage"] = None
    return {**told, "base_resp": {"status_code": 0, "status_msg": ""}}


def events(answer: Answer) -> Iterator[bytes]:
    """The events of a streamed answer."""
    usage = None if answer.shape == "null_usage" else _usage(answer)
    started = {**_envelope(answer), "content": [], "stop_reason": None, "usage": usage}
    yield _named("message_start", message=started)
    yield _named("ping")
    if answer.shape in ("leaked_chunks", "leaked_ahead", "leaked_tag"):
        yield from _leaked_chunks(answer)
    for index, block in enumerate(_blocks(answer)):
        yield from _block(answer, index, block)
    yield _named("message_delta", delta={"stop_reason": _stop(answer), "stop_sequence": None}, usage=usage)
    yield _named("message_stop")


def _envelope(answer: Answer) -> dict[str, Any]:
    return {"id": answer.id, "type": "message", "role": "assistant", "model": answer.model, "stop_sequence": None}


def _stop(answer: Answer) -> str:
    return "tool_use" if answer.calls else "end_turn"


def _usage(answer: Answer) -> dict[str, int]:
    return {"input_tokens": 9, "output_tokens": len(answer.thought + answer.text) // 2 + 1}


def _leaks(answer: Answer) -> bool:
    return answer.shape.startswith("leaked")


def _blocks(answer: Answer) -> list[dict[str, Any]]:
    """The content of the whole message; reasoning that leaks has no block, but where it comes twice."""
    has_block = not _leaks(answer) or answer.shape in ("leaked_twice", "leaked_ahead")
    found: list[dict[str, Any]] = []
    if answer.thought and has_block:
        found.append({"type": "thinking", "thinking": answer.thought, "signature": signature_of(answer.thought)})
    if answer.text:
        found.append({"type": "text", "text": answer.text})
    for call in answer.calls:
        called = call["function"]
        found.append(
            {"type": "tool_use", "id": call["id"], "name": called["name"], "input": json.loads(called["arguments"])}
        )
    return found


def _block(answer: Answer, index: int, block: dict[str, Any]) -> Iterator[bytes]:
    empty: dict[str, dict[str, Any]] = {
        "thinking": {"thinking": "", "signature": ""},
        "text": {"text": ""},
        "tool_use": {"input": {}},
    }
    yield _named("content_block_start", index=index, content_block={**block, **empty[block["type"]]})
    if index == 0 and answer.shape == "leaked":
        for piece in pieces(answer.thought, answer.piece):
            yield _delta(index, {"reasoning_content": piece})
    if block["type"] == "thinking":
        for piece in pieces(block["thinking"], answer.piece):
            yield _delta(index, {"type": "thinking_delta", "thinking": piece})
            if answer.shape == "leaked_twice":
                yield _chunk(piece)
        yield _delta(index, {"type": "signature_delta", "signature": block["signature"]})
    elif block["type"] == "text":
        for piece in pieces(block["text"], answer.piece):
            yield _delta(index, {"type": "text_delta", "text": piece})
    else:
        for piece in pieces(json.dumps(block["input"], ensure_ascii=False), answer.piece):
            yield _delta(index, {"type": "input_json_delta", "partial_json": piece})
    yield _named("content_block_stop", index=index)


def _leaked_chunks(answer: Answer) -> Iterator[bytes]:
    for piece in pieces(answer.thought, answer.piece):
        yield _chunk(piece)
    if answer.shape == "leaked_tag":
        yield _chunk("</th")
        yield _chunk("ink>")


def _chunk(thought: str) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": "", "reasoning_content": thought}}]})


def _delta(index: int, delta: dict[str, Any]) -> bytes:
    return _named("content_block_delta", index=index, delta=delta)


def _named(sort: str, **members: Any) -> bytes:
    return event({"type": sort, **members}, sort)
