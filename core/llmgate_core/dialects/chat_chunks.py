"""Chat Completions written rather than passed: for a connector whose upstream answers in a form of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..sse import join
from ..wire import encode


class ChatWriter:
    """Writes one answer as OpenAI Chat Completions has it: the events of a stream, or one whole reply.

    Args:
        id: the answer's, such as `chatcmpl-1`.
        model: the model that answers.
        created: Unix time in seconds.
    """

    def __init__(self, id: str, model: str, created: float) -> None:
        self._common = {"id": id, "created": int(created), "model": model}

    def delta(self, delta: Mapping[str, Any], finish_reason: str | None = None, **members: Any) -> bytes:
        """One event of a stream: what is added to the message, and at its end why it ends.

        Args:
            members: further members of the choice, such as `logprobs`.
        """
        return self._chunk([{"index": 0, "delta": delta, "finish_reason": finish_reason, **members}])

    def end(self, usage: Mapping[str, Any] | None = None) -> bytes:
        """What follows the last delta: the usage, where the caller has asked for it, and `[DONE]`."""
        return (b"" if usage is None else self._chunk([], usage=usage)) + b"data: [DONE]\n\n"

    def whole(
        self, message: Mapping[str, Any], finish_reason: str, usage: Mapping[str, Any] | None = None, **members: Any
    ) -> bytes:
        """A plain reply with one choice; `members` as in `delta`."""
        choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish_reason, **members}
        told = {**self._common, "object": "chat.completion", "choices": [choice]}
        return encode(told if usage is None else {**told, "usage": usage})

    def _chunk(self, choices: list[Any], **members: Any) -> bytes:
        return join(encode({**self._common, "object": "chat.completion.chunk", "choices": choices, **members}))
