"""What MiniMax answers, as clients understand it: one clean stream of reasoning, apart from the text. Pure, no I/O.

Reasoning arrives in up to four places at once, whole or in pieces or as ever longer snapshots; clients get it once,
as increments of `reasoning_content`. What needs no mending keeps its bytes.
"""

from __future__ import annotations

from typing import Any

from llmgate_core import Body, Mender

from . import failures

OPEN, CLOSE = "<think>", "</think>"
REASONING = ("reasoning_content", "reasoning", "reasoning_details")
LEAST_PROOF = 16
"""Characters that must come again before pieces count as snapshots: a short piece may well repeat the one before."""


# --- one text out of many pieces ------------------------------------------------------------------------------------


class Pieces:
    """A text that arrives as increments, or as snapshots of all that there is so far.

    What starts with all that came before and is longer may be either. It is held until enough has come again to know,
    or until a piece does not fit, or nothing more comes: then they were increments. Text that is told twice can be
    read; text that is taken for a copy is lost.

    Args:
        snapshots: None where it is not known.
    """

    def __init__(self, snapshots: bool | None = None) -> None:
        self.text = ""
        self._snapshots = snapshots
        self._doubtful: list[str] = []
        self._again = 0  # characters that have come again

    @property
    def in_snapshots(self) -> bool:
        """Whether these are snapshots beyond doubt."""
        return self._snapshots is True

    def add(self, value: str, *, sure: bool = False) -> str:
        """What is new in `value`; `sure` says that what may be a snapshot is one."""
        before = self._doubtful[-1] if self._doubtful else self.text
        if not value or not before or self._snapshots is False:
            self.text += value
            return value
        if not value.startswith(before) or (value == before == self.text and not self._snapshots):
            self._snapshots = self._snapshots or False
            held = self.settle()
            self.text += value
            return held + value
        self._doubtful.append(value)
        self._again += len(before)
        if not (self._snapshots or sure or self._again >= LEAST_PROOF):
            return ""
        new = value[len(self.text) :]
        self._snapshots, self.text, self._doubtful = True, value, []
        return new

    def settle(self) -> str:
        """What is held: it is told as increments."""
        new = "".join(self._doubtful)
        self._doubtful = []
        self.text += new
        return new


class Reasoning:
    """One stream of reasoning, whichever fields carry it; a copy in another field adds nothing."""

    def __init__(self) -> None:
        self._fields: dict[str, Pieces] = {"think": Pieces(snapshots=False)}
        self._told = ""
        self._held = ""  # may turn out to be a closing tag at the very end, which is not part of the text

    @property
    def in_snapshots(self) -> bool:
        """Whether some field of it has been shown to hold snapshots."""
        return any(field.in_snapshots for field in self._fields.values())

    def add(self, name: str, value: str) -> str:
        """What of `value`, found in field `name`, has to be told."""
        if not value:
            return ""
        field = self._fields.setdefault(name, Pieces())
        return self._told_of(name, field, field.add(value))

    def end(self) -> str:
        """What was held back, once no more is expected."""
        settled = [(name, field, new) for name, field in self._fields.items() if (new := field.settle())]
        told = "".join(self._told_of(*one) for one in settled)
        held, self._held = self._held, ""
        return told if held.rstrip() == CLOSE else told + held

    def _told_of(self, name: str, field: Pieces, new: str) -> str:
        told, text = self._told.lstrip(), field.text.lstrip()
        if not told:
            new = new.lstrip() if name == "think" else new
        elif text.startswith(told):
            new = text[len(told) :]
        elif told.startswith(text):
            new = ""
        self._told += new
        return self._without_tail(new)

    def _without_tail(self, new: str) -> str:
        text = self._held + new
        at = _tail(text)
        self._held = text[at:]
        return text[:at]


class Content:
    """The text of an answer, parted from the reasoning in `<think>` with which it may begin."""

    def __init__(self) -> None:
        self._state = "start"
        self._held = ""

    def add(self, text: str) -> tuple[str, str]:
        """Reasoning and content in the next piece."""
        text, self._held = self._held + text, ""
        if self._state == "start":
            begun = text.lstrip()
            if begun.startswith(OPEN):
                self._state, text = "inside", begun[len(OPEN) :]
            elif OPEN.startswith(begun):
                self._held = text
                return "", ""
            else:
                self._state = "after"
        if self._state == "inside":
            return self._inside(text)
        if self._state == "closed":
            text = text.lstrip()
            self._state = "after" if text else "closed"
        return "", text

    def _inside(self, text: str) -> tuple[str, str]:
        thought, close, rest = text.partition(CLOSE)
        if close:
            self._state = "closed"
            return thought, self.add(rest)[1]
        at = _tail(text)
        self._held = text[at:]
        return text[:at], ""

    def end(self) -> tuple[str, str]:
        """Reasoning and content that were held back, once no more is expected."""
        held, self._held = self._held, ""
        return (held, "") if self._state == "inside" else ("", held)


def _tail(text: str) -> int:
    """Where a closing tag begins with which `text` ends, or may be about to end; its length if there is none."""
    at = text.rfind("<")
    return at if at >= 0 and (CLOSE.startswith(text[at:]) or text[at:].rstrip() == CLOSE) else len(text)


# --- answers --------------------------------------------------------------------------------------------------------


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

    def mended(self, delta: dict[str, Any], last: bool) -> dict[str, Any]:
        """The delta as the client should have it; equal to the given one if nothing is wrong with it."""
        reasoning = "".join(self._reasoning.add(name, words(delta.get(name))) for name in REASONING)
        ends = last or bool(delta.get("tool_calls"))
        thought, text = self._read(words(delta.get("content")), ends, last)
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

    def _read(self, content: str, ends: bool, last: bool) -> tuple[str, str]:
        new = self._raw.add(content, sure=self._reasoning.in_snapshots)
        if ends:
            new += self._raw.settle()
        if not self._split:
            return "", new
        thought, text = self._content.add(new)
        if last:
            more_thought, more_text = self._content.end()
            return thought + more_thought, text + more_text
        return thought, text


def words(value: Any) -> str:
    """The text in a field, also in a list of `reasoning_details`."""
    if isinstance(value, list):
        texts = (part.get("text") for part in value if isinstance(part, dict))
        return "".join(text for text in texts if isinstance(text, str))
    return value if isinstance(value, str) else ""


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
        return body if wanted == choices else body.splice({"choices": wanted})

    def _of(self, choice: Any, said: str) -> Any:
        if not isinstance(choice, dict):
            return choice
        whole, given = said == "message", choice.get(said)
        if not isinstance(given, dict):
            if whole:
                return choice
            given = {}
        index = choice.get("index")
        key = None if isinstance(index, list | dict) else index  # those cannot be looked up
        state = self._choices.setdefault(key, Choice(self._split))
        mended = state.mended(given, last=whole or bool(choice.get("finish_reason")))
        if whole and "role" not in mended:
            mended = {"role": "assistant", **mended}
        return choice if mended == given else {**choice, said: mended}
