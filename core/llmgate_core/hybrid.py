"""`hybrid:[REASONING,EXECUTION]`: one model thinks, another one answers with what the first has thought. Pure, no I/O.

Both are asked in Chat Completions, the hub; a caller of another dialect is translated there and back. What reaches the
caller is one answer: the reasoning as `reasoning_content`, then what the second model says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from .dialects.failures import reported_error
from .mending import Mender
from .sse import join
from .translate.chat_answers import calls_of, finish_of, first_choice, reasoning_of, text_of
from .wire import Body, encode

MAX_REASONING = 200_000
"""Characters of reasoning that are collected; the rest is cut off, and the second model goes to work."""

Outcome = Literal["used", "reasoning-failed", "reasoning-skipped", "reasoning-unused", "off"]
"""What became of the reasoning, as the caller is told; unused is that of a pair whose second model has failed."""

_SYSTEM = ("system", "developer")
_TAGS = {"<think>": "</think>", "<thinking>": "</thinking>"}
_OF_THE_ANSWER = (
    *("n", "stop", "max_tokens", "max_completion_tokens", "response_format", "logprobs", "top_logprobs"),
    *("store", "prediction", "modalities", "audio", "verbosity"),
)
_EFFORT = ("reasoning_effort", "thinking_budget", "reasoning", "thinking", "enable_thinking")
_PREFACE = "Another model has thought about this before you. Use what helps, and do not repeat it:"


# --- the two requests -------------------------------------------------------------------------------------------------


def thinking_request(body: Body, *, wants_effort: bool = False) -> Body:
    """What the first model is asked: the same, streamed, and to call no tool. The tools stay: it shall know of them.

    What the caller demands of the answer, such as its length, is no matter of the first model's.

    Args:
        wants_effort: it is known to think by effort, and shall do its best, whatever the caller has said.
    """
    changes: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    removed = {*_OF_THE_ANSWER, "tool_choice", "function_call"}
    if body.get("tools"):
        changes["tool_choice"] = "none"
    if body.get("functions"):
        changes["function_call"] = "none"
    if wants_effort:
        removed |= {*_EFFORT}
        changes["reasoning_effort"] = "high"
    return body.splice(changes, remove=removed)


def execution_request(body: Body, reasoning: str, *, can_rest: bool = False) -> Body:
    """What the second model is asked: the same, with the reasoning behind all else, so that caches keep their prefix.

    How much the caller wants to be thought is not its affair.

    Args:
        can_rest: it is known that it need not think.
    """
    bare = body.splice({"reasoning_effort": "none"} if can_rest else {}, remove=_EFFORT)
    if not reasoning:
        return bare
    text = f"{_PREFACE}\n<reasoning>\n{reasoning}\n</reasoning>"
    return bare.splice({"messages": _informed(body.get("messages"), text)})


def _informed(messages: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """The messages with a text at the end of what the user says last; it never gets into a tool's result."""
    place = len(messages) - 1
    if messages[place].get("role") == "assistant":  # an answer that the request has begun stays the last word
        leading = next((at for at, one in enumerate(messages) if one.get("role") not in _SYSTEM), 0)
        place = max((at for at, one in enumerate(messages) if one.get("role") == "user"), default=leading - 1)
    last = messages[place] if place >= 0 else {}
    if last.get("role") != "user":
        return [*messages[: place + 1], {"role": "user", "content": text}, *messages[place + 1 :]]
    content = last.get("content")
    if isinstance(content, list):
        informed: Any = [*content, {"type": "text", "text": text}]
    else:
        informed = f"{content}\n\n{text}" if content else text
    return [*messages[:place], {**last, "content": informed}, *messages[place + 1 :]]


# --- the reasoning ----------------------------------------------------------------------------------------------------


class ReasoningReader:
    """Takes the chunks of the first model's stream, and keeps what it thinks.

    Attributes:
        complete: nothing more is wanted: the model has begun to answer or to call a tool, has ended, or says too much.
        usage: the upstream's own object, None as long as it has not come.
    """

    def __init__(self) -> None:
        self.complete = False
        self.usage: dict[str, Any] | None = None
        self._pieces: list[str] = []
        self._size = 0
        self._content = ""  # of which it is not known yet what it is
        self._close: str | None = None  # the tag that ends the reasoning in the content

    @property
    def text(self) -> str:
        """All that was thought, without blanks around it."""
        return "".join(self._pieces).strip()

    def feed(self, chunk: Mapping[str, Any]) -> str:
        """The reasoning in the next chunk.

        Raises:
            ConnectorError: kind `protocol`, the answer has ended with an error.
        """
        usage = chunk.get("usage")
        self.usage = usage if isinstance(usage, dict) else self.usage
        choice = first_choice(chunk)
        if choice is None or self.complete:
            return ""
        found = choice.get("delta")
        delta = found if isinstance(found, dict) else {}
        said = reasoning_of(delta)
        if content := text_of(delta.get("content")):
            said += self._in_content(content)
        if calls_of(delta) or finish_of(choice):
            self.complete = True
        return self._kept(said)

    def _kept(self, said: str) -> str:
        said = said[: MAX_REASONING - self._size]
        self._size += len(said)
        self._pieces.append(said)
        self.complete = self.complete or self._size >= MAX_REASONING
        return said

    def _in_content(self, content: str) -> str:
        """The reasoning between tags with which a content may begin; any other content ends it all."""
        self._content += content
        if self._close is None:
            begun = self._content.lstrip()
            opened = next((tag for tag in _TAGS if begun.startswith(tag)), None)
            if opened is None:
                self.complete = bool(begun) and not any(tag.startswith(begun) for tag in _TAGS)
                return ""
            self._close, self._content = _TAGS[opened], begun[len(opened) :]
        said, closed, _ = self._content.partition(self._close)
        if closed:
            self.complete = True
            return said
        held = next(size for size in range(len(self._close), -1, -1) if self._content.endswith(self._close[:size]))
        said, self._content = self._content[: len(self._content) - held], self._close[:held]
        return said


# --- the answer -------------------------------------------------------------------------------------------------------


class Told(Mender):
    """The stream that the caller gets: chunks of reasoning, then the second model's, mended into the same answer.

    Args:
        id, created, model: of every chunk, `created` in Unix seconds.

    Attributes:
        has_answered: text, a tool call or the end of the second model's answer has passed; reasoning is no answer yet.
    """

    def __init__(self, id: str, created: int, model: str) -> None:
        self.outcome: Outcome = "used"
        self.has_answered = False
        self.thought: Mapping[str, Any] | None = None  # the usage of the reasoning, where it is known
        self._head = {"id": id, "object": "chat.completion.chunk", "created": created, "model": model}
        self._has_role = False

    def reasoning(self, text: str) -> bytes:
        """A chunk of reasoning; the first one brings the role."""
        delta = {"reasoning_content": text} if self._has_role else {"role": "assistant", "reasoning_content": text}
        self._has_role = True
        return join(encode({**self._head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}))

    def event(self, body: Body, name: str) -> Body:
        """A chunk of the second model's."""
        chunk = body.data
        if chunk.get("error") and not self.has_answered:
            raise reported_error(body.bytes)
        changes = dict(self._head)
        choice = first_choice(chunk)
        if choice is not None:
            delta = choice.get("delta")
            self._look(delta if isinstance(delta, dict) else {}, choice)
            if self._has_role and isinstance(delta, dict) and "role" in delta:
                bare = {**choice, "delta": {key: value for key, value in delta.items() if key != "role"}}
                changes["choices"] = [bare if one is choice else one for one in chunk["choices"]]
            if choice.get("finish_reason"):
                changes["llmgate"] = {"hybrid": self.outcome}
        if isinstance(chunk.get("usage"), dict):
            changes |= usage_told(self.thought, chunk["usage"], self.outcome)
        return body.splice(changes) if "choices" in chunk else body

    def _look(self, delta: Mapping[str, Any], choice: Mapping[str, Any]) -> None:
        said = text_of(delta.get("content")) + text_of(delta.get("refusal"))
        is_over = finish_of(choice) is not None
        self.has_answered = self.has_answered or is_over or bool(said.strip() or calls_of(delta))


def whole(data: bytes, reader: ReasoningReader, outcome: Outcome) -> bytes:
    """A plain answer of the second model's with the reasoning of the first."""
    body = Body(data)
    changes: dict[str, Any] = {"llmgate": {"hybrid": outcome}}
    choices = body.get("choices")
    if reader.text:
        choices = [_with_reasoning(choice, reader.text) for choice in choices]
        changes["choices"] = choices
    if isinstance(usage := body.get("usage"), dict):
        changes |= usage_told(reader.usage, usage, outcome)
    return body.splice(changes).bytes


def _with_reasoning(choice: Any, text: str) -> Any:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        return choice
    own = reasoning_of(message)
    return {**choice, "message": {**message, "reasoning_content": f"{text}\n\n{own}" if own else text}}


def usage_told(thought: Mapping[str, Any] | None, executed: Mapping[str, Any], outcome: Outcome) -> dict[str, Any]:
    """The members `usage`, which is the sum, and `llmgate`, which has its parts; what was cut off has told none."""
    # Not called `usage`: who watches a stream takes the last member of that name for the answer's.
    parts = {"reasoning": thought, "execution": executed}
    return {"usage": _sum(thought or {}, executed), "llmgate": {"hybrid": outcome, "usage_of": parts}}


def _sum(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    told = dict(other)
    for name, value in one.items():
        own = told.get(name)
        if isinstance(value, dict):
            told[name] = _sum(value, own if isinstance(own, dict) else {})
        elif isinstance(value, int | float) and not isinstance(value, bool):
            told[name] = value + (own if isinstance(own, int | float) else 0)
    return told
