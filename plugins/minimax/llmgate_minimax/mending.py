"""What MiniMax answers over chat, as clients understand it: one clean stream of reasoning, apart from the text.

Reasoning arrives in up to four places at once, whole or in pieces or as ever longer snapshots; clients get it once,
as increments of `reasoning_content`. What needs no mending keeps its bytes. Pure, no I/O.
"""

from __future__ import annotations

from typing import Any

from llmgate_core import Body, Mender

from . import failures
from .reasoning import OPEN, REASONING, Content, Pieces, Reasoning, words


class Choice:
    """One choice of an answer, from its first delta to its last, or its one message.

    Args:
        split: whether `<think>` in the content is reasoning, and leaves it.
    """

    def __init__(self, split: bool) -> None:
        self._split = split
        self._raw = Pieces()
        self._content = Content()
        self._reasoning = Reasoning()
        self._has_role = False
        self._calls: list[Any] = []  # ids of the calls so far

    def mended(self, delta: dict[str, Any], last: bool) -> dict[str, Any]:
        """The delta as the client should have it; equal to the given one if nothing is wrong with it."""
        reasoning = "".join(self._reasoning.add(name, words(delta.get(name))) for name in REASONING)
        ends = last or bool(delta.get("tool_calls"))
        new = self._raw.add(words(delta.get("content")), sure=self._reasoning.in_snapshots)
        return self._told(delta, reasoning, new + self._raw.settle() if ends else new, ends, last)

    def closed(self, message: dict[str, Any]) -> dict[str, Any]:
        """What of the whole message at the end of a stream, as old models send it, has not been told: as a delta."""
        reasoning = self._reasoning.close(next((text for name in REASONING if (text := words(message.get(name)))), ""))
        new = self._raw.close(words(message.get("content")))
        repeated = ("tool_calls",) if self._calls else ()
        delta = {name: value for name, value in message.items() if name not in repeated}
        return self._told(self.numbered(delta), reasoning, new, ends=True, last=True)

    def numbered(self, delta: dict[str, Any]) -> dict[str, Any]:
        """The delta with an `index` for each call of a tool: old models leave it out."""
        calls = delta.get("tool_calls")
        if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
            return delta
        self._calls += [call["id"] for call in calls if call.get("id") and call["id"] not in self._calls]
        if all("index" in call for call in calls):
            return delta
        return {**delta, "tool_calls": [{"index": self._place(call.get("id")), **call} for call in calls]}

    def _place(self, call_id: Any) -> int:
        """The place of a call among all; what comes without an id belongs to the last."""
        return self._calls.index(call_id) if call_id in self._calls else max(len(self._calls) - 1, 0)

    def _told(self, delta: dict[str, Any], reasoning: str, new: str, ends: bool, last: bool) -> dict[str, Any]:
        thought, text = self._content.add(new) if self._split else ("", new)
        if last and self._split:
            more_thought, more_text = self._content.end()
            thought, text = thought + more_thought, text + more_text
        reasoning += self._reasoning.add("think", thought)
        if ends or text:
            reasoning += self._reasoning.end()
        if not self._split and self._raw.text.lstrip().startswith(OPEN):
            reasoning = ""  # it is in the content, where it was asked for
        wanted = {name: value for name, value in delta.items() if name not in REASONING}
        if "role" in wanted and (self._has_role or not wanted["role"]):
            del wanted["role"]  # openai-python would make "assistantassistant" of two
        self._has_role = self._has_role or "role" in wanted
        if text or isinstance(delta.get("content"), str):
            wanted["content"] = text
        if reasoning or delta.get("reasoning_content", ...) in ("", None):
            wanted["reasoning_content"] = reasoning or delta["reasoning_content"]
        return wanted


class Answer(Mender):
    """One answer, streamed or plain, from its first choice to its last.

    Args:
        split: whether reasoning shall be told apart from the content.
        now: Unix time in seconds, for failures that name the time of their end.
    """

    def __init__(self, split: bool, now: float) -> None:
        self._split = split
        self._now = now
        self._choices: dict[Any, Choice] = {}
        self._latest: Body | None = None

    def event(self, body: Body, name: str) -> Body:
        """One event: each delta mended."""
        if body.data.get("choices"):
            self._latest = body
        return self._mended(body, "delta")

    def whole(self, body: Body) -> Body:
        """A plain answer: each message mended, as if it were a first and last delta."""
        return self._mended(body, "message")

    def last(self) -> Body | None:
        """What a stream without `finish_reason` still owes; nothing after an orderly one."""
        owed = [
            {"index": index, "delta": delta, "finish_reason": None}
            for index, state in self._choices.items()
            if (delta := state.mended({}, last=True))
        ]
        return self._latest.splice({"choices": owed}) if owed and self._latest else None

    def _mended(self, body: Body, said: str) -> Body:
        told = body.data
        if failure := failures.reported(told, self._now):
            raise failure
        choices = told.get("choices")
        wanted = [self._of(choice, said) for choice in choices] if isinstance(choices, list) else choices
        changes = {} if wanted == choices else {"choices": wanted}
        if said == "message":
            return body.splice(changes)
        if told.get("object") == "chat.completion":
            changes["object"] = "chat.completion.chunk"
        return body.splice(changes, remove=() if _has_numbers(told) else ("usage",))

    def _of(self, choice: Any, said: str) -> Any:
        if not isinstance(choice, dict):
            return choice
        whole, given = said == "message", choice.get(said)
        index = choice.get("index")
        key = None if isinstance(index, list | dict) else index  # those cannot be looked up
        state = self._choices.setdefault(key, Choice(self._split))
        if not whole and not isinstance(given, dict) and isinstance(message := choice.get("message"), dict):
            kept = {name: value for name, value in choice.items() if name != "message"}
            return {**kept, "delta": state.closed(message)}
        if not isinstance(given, dict):
            if whole:
                return choice
            given = {}
        mended = state.mended(given if whole else state.numbered(given), whole or bool(choice.get("finish_reason")))
        if whole and "role" not in mended:
            mended = {"role": "assistant", **mended}
        return choice if mended == given else {**choice, said: mended}


def _has_numbers(chunk: dict[str, Any]) -> bool:
    """Whether `usage` in a chunk tells one: where it does not, it is null or has totals of 0 alone."""
    usage = chunk.get("usage")
    return isinstance(usage, dict) and ("prompt_tokens" in usage or any(usage.values()))
