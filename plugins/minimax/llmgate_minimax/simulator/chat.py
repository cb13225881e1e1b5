"""The simulator's chat API: a whole completion, and the chunks of a streamed one, in every shape that was met."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .said import Answer, event, pieces


def reply(answer: Answer) -> dict[str, Any]:
    """The body of a plain answer."""
    thought = answer.thought + ("</think>" if answer.shape == "closing_tag" else "")
    message: dict[str, Any] = {"role": answer.role, "name": "MiniMax AI", "content": answer.text}
    if answer.shape in ("think", "doubled"):
        message["content"] = f"<think>\n{answer.thought}</think>\n\n{answer.text}"
    if answer.shape in ("split", "doubled", "alternating", "closing_tag", "old"):
        message["reasoning_content"] = thought
    if answer.shape == "alternating":
        message["reasoning"] = thought
    if answer.shape in ("split", "snapshots", "details"):
        message["reasoning_details"] = [_segment(thought)]
    if answer.calls:
        message["tool_calls"] = answer.calls
    choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
    ok = {"status_code": 0, "status_msg": ""}
    return {**_envelope(answer, "chat.completion"), "choices": [choice], "usage": _usage(answer), "base_resp": ok}


def stream(answer: Answer, include_usage: bool) -> Iterator[bytes]:
    """The events of a streamed answer."""
    envelope = _envelope(answer, "chat.completion.chunk")
    usage = {"total_tokens": 0, "total_characters": 0} if answer.shape == "old" else None
    for delta in _deltas(answer):
        choice = {"index": 0, "delta": {"role": answer.role, **delta}}
        yield event({**envelope, "choices": [choice], "usage": usage, "input_sensitive": False})
    if answer.shape == "old":
        yield event({**reply(answer), "usage": _usage(answer) if include_usage else usage})
        yield b"data: [DONE]\n\n"
        return
    last = {"index": 0, "delta": {"role": answer.role}, "finish_reason": answer.finish_reason}
    yield event({**envelope, "choices": [last], "usage": None, "base_resp": {"status_code": 0, "status_msg": ""}})
    if include_usage:
        yield event({**envelope, "choices": [], "usage": _usage(answer)})
    yield b"data: [DONE]\n\n"


def _deltas(answer: Answer) -> Iterator[dict[str, Any]]:
    yield from _thoughts(answer)
    if answer.shape == "doubled":
        tagged = pieces(f"</think>\n\n{answer.text}", answer.piece)
    elif answer.shape == "think":
        tagged = pieces(f"<think>\n{answer.thought}</think>\n\n{answer.text}", answer.piece)
    else:
        tagged = pieces(answer.text, answer.piece)
    said = ""
    for piece in tagged:
        said += piece
        yield {"content": said if answer.shape == "snapshots" else piece}
    for index, call in enumerate(answer.calls):
        yield {"tool_calls": [call if answer.shape == "old" else {"index": index, **call}]}


def _thoughts(answer: Answer) -> Iterator[dict[str, Any]]:
    told = ""
    for number, piece in enumerate(pieces(answer.thought, answer.piece)):
        told += piece
        if answer.shape == "split":
            yield {"content": "", "reasoning_content": piece, "reasoning_details": [_segment(piece)]}
        elif answer.shape == "doubled":
            yield {"content": piece if number else f"<think>{piece}", "reasoning_content": piece}
        elif answer.shape == "alternating":
            yield {"reasoning_content": piece}
            yield {"reasoning": piece}
        elif answer.shape == "snapshots":
            yield {"reasoning_details": [_segment(told)]}
        elif answer.shape == "details":
            yield {"reasoning_details": [_segment(piece)]}
        elif answer.shape in ("closing_tag", "old"):
            yield {"reasoning_content": piece}
    if answer.shape == "closing_tag":
        yield {"reasoning_content": "</th"}
        yield {"reasoning_content": "ink>"}


def _segment(text: str) -> dict[str, Any]:
    place = {"type": "reasoning.text", "id": "reasoning-text-1", "format": "MiniMax-response-v1", "index": 0}
    return {**place, "text": text}


def _envelope(answer: Answer, kind: str) -> dict[str, Any]:
    return {"id": answer.id, "object": kind, "created": 1_780_000_000, "model": answer.model}


def _usage(answer: Answer) -> dict[str, int]:
    said = len(answer.thought + answer.text) // 2 + 1
    return {"prompt_tokens": 9, "completion_tokens": said, "total_tokens": 9 + said, "total_characters": 0}
