"""Reasoning that arrives in many ways at once, made one text that grows. Pure, no I/O.

Nothing in here knows an API: pieces of text go in by the name of the field that held them, and what is new comes out.
"""

from __future__ import annotations

from typing import Any

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

    def close(self, whole: str) -> str:
        """What is new in `whole`, the text in full, after which nothing comes."""
        before = self._doubtful[-1] if self._doubtful else self.text
        held = "" if whole.startswith(before) else self.settle()
        new = whole[len(self.text) :] if whole.startswith(self.text) else ""
        self.text, self._doubtful = self.text + new, []
        return held + new

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

    def was_told(self, name: str, value: str) -> None:
        """Notes what has reached the client without us, so that a copy of it in another field adds nothing."""
        self._fields.setdefault(name, Pieces(snapshots=False)).add(value)
        self._told += value

    def close(self, whole: str) -> str:
        """What is new in `whole`, the reasoning in full, after which nothing comes."""
        return self.end() + self.add("whole", whole) + self.end()

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


def words(value: Any) -> str:
    """The text in a field, also in a list of `reasoning_details`."""
    if isinstance(value, list):
        texts = (part.get("text") for part in value if isinstance(part, dict))
        return "".join(text for text in texts if isinstance(text, str))
    return value if isinstance(value, str) else ""
