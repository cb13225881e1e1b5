"""What Ollama answers, as Chat Completions: a whole reply, each object of a stream, the list of models. No I/O.

Sources, all in github.com/ollama/ollama: docs/openapi.yaml (ChatResponse, ChatStreamEvent), docs/api.md ("Generate a
chat completion", "List Local Models"), docs/api/errors.mdx (errors that occur while streaming), openai/openai.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmgate_core import Body, ChatWriter, ConnectorError, ModelInfo

from .failures import reported


class Answer:
    """One answer on its way; a connector makes one for each call.

    Args:
        id: the request's, from which the answer's and those of its tool calls are made, as Ollama gives none.
        created: Unix time in seconds.
        usage: whether a stream shall end with its usage.
    """

    def __init__(self, id: str, model: str, created: float, usage: bool) -> None:
        self._id = id
        self._writer = ChatWriter(f"chatcmpl-{id}", model, created)
        self._usage = usage
        self._created = created
        self._begun = False
        self._done = False
        self._calls = 0

    def event(self, line: Body) -> bytes:
        """What one object of a stream says; empty where it says nothing.

        Raises:
            ConnectorError: it reports a failure, or cannot be read.
        """
        if self._done:
            return b""
        told = self._read(line)
        delta = self._message(told)
        extra = _logprobs(told)
        said = b""
        if delta or extra or not self._begun:
            role = {} if self._begun else {"role": "assistant"}
            said = self._writer.delta({**role, **delta}, **extra)
            self._begun = True
        if told.get("done") is True:
            self._done = True
            said += self._writer.delta({}, self._finish(told)) + self._writer.end(_usage(told) if self._usage else None)
        return said

    def check_end(self) -> None:
        """Raises ConnectorError (kind `protocol`) unless the stream has said that it is done."""
        if not self._done:
            raise ConnectorError("protocol", "the stream ended before Ollama said `done`")

    def whole(self, body: Body) -> Body:
        """A plain answer; raises like `event`."""
        told = self._read(body)
        if told.get("done") is not True:
            raise ConnectorError("protocol", "the answer ended before Ollama said `done`")
        message = {"content": "", **self._message(told)}
        for call in message.get("tool_calls", ()):
            del call["index"]  # for streams only
        return Body(self._writer.whole(message, self._finish(told), _usage(told), **_logprobs(told)))

    def _read(self, body: Body) -> Mapping[str, Any]:
        try:
            told = body.data
        except ValueError as error:
            raise ConnectorError("protocol", f"Ollama's answer cannot be read: {error}") from None
        if told.get("error"):
            raise reported(body.bytes, self._created)
        if not isinstance(told.get("message", {}), dict):
            raise ConnectorError("protocol", "Ollama's `message` is no object")
        return told

    def _message(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """The members of a chat message that have something in them."""
        message = told.get("message", {})
        found = {
            "reasoning_content": message.get("thinking"),
            "content": message.get("content"),
            "tool_calls": [self._call(call) for call in message.get("tool_calls") or ()],
        }
        return {name: value for name, value in found.items() if value}

    def _call(self, given: Any) -> dict[str, Any]:
        try:
            name, arguments = given["function"]["name"], given["function"].get("arguments") or {}
            text = Body.of(arguments).bytes.decode()
        except (AttributeError, KeyError, TypeError):
            raise ConnectorError("protocol", "a tool call of Ollama's answer cannot be read") from None
        index, self._calls = self._calls, self._calls + 1
        id = given.get("id")
        id = id if isinstance(id, str) and id else f"call_{self._id}_{index}"
        return {"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": text}}

    def _finish(self, told: Mapping[str, Any]) -> str:
        if self._calls:
            return "tool_calls"
        return "length" if told.get("done_reason") == "length" else "stop"


def _usage(told: Mapping[str, Any]) -> dict[str, int] | None:
    """The counts; Ollama leaves out one that is zero."""
    asked, said = told.get("prompt_eval_count", 0), told.get("eval_count", 0)
    if not isinstance(asked, int) or not isinstance(said, int) or not asked + said:
        return None
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


def _logprobs(told: Mapping[str, Any]) -> dict[str, Any]:
    found = told.get("logprobs")
    return {"logprobs": {"content": found}} if found else {}


def listed(body: bytes) -> list[ModelInfo]:
    """The models in an answer to `GET /api/tags`.

    Raises:
        ConnectorError: kind `protocol`, it is no such list.
    """
    try:
        return [ModelInfo(model["name"]) for model in Body.parse(body).data["models"] or () if model["name"]]
    except (ValueError, KeyError, TypeError):
        raise ConnectorError("protocol", "Ollama's list of models cannot be read") from None
