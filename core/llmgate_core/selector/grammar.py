"""Reads a selector's syntax; every mistake is told with its column.

    selector = branch { "|" branch }  |  branch { "^" branch }  |  branch { "!" branch }
    branch   = { "[" note { "," note } "]" } target         note = name "=" value
    target   = "hybrid:[" leaf "," leaf "]"  |  leaf        who thinks, and who answers
    leaf     = [ backend ":" ] model [ "?" name "=" value { "&" name "=" value } ]

An operator inside a query is percent-encoded; inside `hybrid:[...]`, so is a comma.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple, cast
from urllib.parse import quote, unquote

from ..errors import SelectorError
from .naming import closest
from .plan import Branch, Leaf, Operator, RoutePlan

MAX_LENGTH = 4096
"""The longest selector that is read, in characters."""

MAX_BRANCHES = 16

_HYBRID = "hybrid:["
_OPERATOR = re.compile(r"[|^!]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")
_WHOLE = re.compile(r"[0-9]{1,9}")


class _Note(NamedTuple):
    """A note's value in words, the operator whose branches alone may have it, and whether 0 is allowed."""

    demand: str
    operator: Operator | None = None
    zero: bool = False
    whole: bool = False


NOTES = {
    "weight": _Note("a number above 0", operator="^"),
    "handicap": _Note("a number of seconds", operator="!", zero=True),
    "ttft_timeout": _Note("a number of seconds above 0"),
    "max_context": _Note("a whole number of tokens above 0", whole=True),
}


def parse(text: str) -> RoutePlan:
    """Reads a selector without asking whether its backends exist.

    Raises:
        SelectorError: 400; `0 <= column <= len(error.text)`. In `error.text` unprintable characters are
            replaced one for one, and a selector that is too long is cut.
    """
    _check_characters(text)
    operators = list(_OPERATOR.finditer(text))
    joined = cast("Operator", operators[0][0]) if operators else "|"
    for other in operators:
        if other[0] != joined:
            message = f"`{other[0]}` and `{joined}` cannot be mixed: one selector joins its branches in one way"
            raise _refusal(f"{message} (inside a query, write it as `{quote(other[0])}`)", text, other.start())
    if len(operators) >= MAX_BRANCHES:
        column = operators[MAX_BRANCHES - 1].start()
        raise _refusal(f"a selector has {MAX_BRANCHES} branches at most", text, column)
    starts = [0, *(operator.end() for operator in operators)]
    ends = [*(operator.start() for operator in operators), len(text)]
    branches: dict[tuple[Leaf, ...], Branch] = {}
    for start, end in zip(starts, ends, strict=True):
        branch = _branch(text, start, end, joined if operators else None)
        if branches.setdefault(branch.leaves, branch) is not branch:
            raise _refusal("this branch repeats an earlier one", text, start)
    return RoutePlan(tuple(branches.values()), joined)


def _check_characters(text: str) -> None:
    if len(text) > MAX_LENGTH:
        shown = f"{text[:60]}..."
        raise _refusal(f"the selector is longer than {MAX_LENGTH} characters", shown, len(shown))
    if not text:
        raise _refusal("the selector is empty; write `BACKEND:MODEL`, or a model of the default backend", text, 0)
    if not text.isprintable():
        column = next(i for i, char in enumerate(text) if not char.isprintable())
        raise _refusal(f"the character U+{ord(text[column]):04X} is not allowed in a selector", text, column)


# --- a branch -------------------------------------------------------------------------------------------------


def _branch(text: str, start: int, end: int, operator: Operator | None) -> Branch:
    """`text[start:end]`; `operator` joins it to others, None where it is alone."""
    notes: dict[str, Any] = {}
    while text.startswith("[", start, end):
        close = text.find("]", start, end)
        if close < 0:
            raise _refusal("the `]` that ends the notes is missing", text, start)
        for name, value, column in _notes(text, start + 1, close, operator):
            if name in notes:
                raise _refusal(f"the note `{name}` is given twice", text, column)
            notes[name] = value
        start = close + 1
    if text.startswith(_HYBRID, start, end):
        reasoning, leaf = _hybrid(text, start, end)
        return Branch(leaf, reasoning, **notes)
    return Branch(_leaf(text, start, end), **notes)


def _hybrid(text: str, start: int, end: int) -> tuple[Leaf, Leaf]:
    """Who thinks and who answers, in `text[start:end]`."""
    if text[end - 1] != "]":
        raise _refusal("the `]` that ends `hybrid:[` is missing", text, end)
    begin, commas = start + len(_HYBRID), text.count(",", start, end)
    if commas != 1:
        message = "`hybrid:[REASONING,EXECUTION]` takes two models, with one comma between them"
        raise _refusal(f"{message} (inside a query, write it as `{quote(',')}`)", text, begin)
    comma = text.index(",", begin)
    return _leaf(text, begin, comma), _leaf(text, comma + 1, end - 1)


def _notes(text: str, start: int, end: int, operator: Operator | None) -> Iterator[tuple[str, float, int]]:
    """Name, value and column of each note in `text[start:end]`."""
    for note in text[start:end].split(","):
        name, equals, value = note.partition("=")
        if name not in NOTES:
            near = closest(name, NOTES) if name else None
            hint = f"did you mean `{near}`?" if near else f"notes are `{'`, `'.join(NOTES)}`"
            raise _refusal(f"unknown note `{name}`; {hint}" if name else f"expected a note; {hint}", text, start)
        wanted = NOTES[name]
        if wanted.operator and wanted.operator != operator:
            raise _refusal(f"`{name}` is for branches that are joined by `{wanted.operator}`", text, start)
        if not equals or (number := _value(value, wanted)) is None:
            raise _refusal(f"`{name}` must be {wanted.demand}: `{name}=N`", text, start + len(name))
        yield name, number, start
        start += len(note) + 1


def _value(text: str, wanted: _Note) -> float | None:
    if not (_WHOLE if wanted.whole else _NUMBER).fullmatch(text):
        return None
    number = int(text) if wanted.whole else float(text)
    return number if number > 0 or wanted.zero else None


def _leaf(text: str, start: int, end: int) -> Leaf:
    target, mark, _ = text[start:end].partition("?")
    backend, model = _split(target)
    at_model = start + len(target) - len(model)
    if target.startswith("["):
        at_model, model = start, target
    if model.startswith("["):
        raise _refusal("`[` cannot begin a model's name; notes stand at the beginning of a branch", text, at_model)
    if backend == "":
        raise _refusal("the name of a backend is missing before `:`", text, start)
    if not model:
        raise _refusal("the name of a model is missing", text, at_model)
    _check_spaces(text, start, backend or "")
    _check_spaces(text, at_model, model)
    return Leaf(backend, model, _query(text, start + len(target) + 1, end) if mark else ())


def _check_spaces(text: str, start: int, part: str) -> None:
    """Other kinds of whitespace are unprintable, so they have been refused before."""
    if part.startswith(" "):
        raise _refusal("a space is not allowed here", text, start)
    if part.endswith(" "):
        raise _refusal("a space is not allowed here", text, start + len(part.rstrip(" ")))


def _split(target: str) -> tuple[str | None, str]:
    """A backend's name has no slash, so `vendor/model:variant` is all model."""
    prefix, colon, rest = target.partition(":")
    return (prefix, rest) if colon and "/" not in prefix else (None, target)


# --- its query ------------------------------------------------------------------------------------------------


def _query(text: str, start: int, end: int) -> tuple[tuple[str, str], ...]:
    pairs: dict[str, str] = {}
    for pair in text[start:end].split("&"):
        name, equals, value = pair.partition("=")
        if not equals:
            raise _refusal("expected `name=value`", text, start)
        if not name:
            raise _refusal("the name of a parameter is missing before `=`", text, start)
        name = _decode(text, start, name)
        if name in pairs:
            raise _refusal(f"the parameter `{name}` is given twice", text, start)
        pairs[name] = _decode(text, start + pair.index("=") + 1, value)
        start += len(pair) + 1
    return tuple(pairs.items())


def _decode(text: str, start: int, part: str) -> str:
    """Percent-decoding as in RFC 3986, so `+` stays a plus."""
    if "%" not in part:
        return part
    if bad := _BAD_ESCAPE.search(part):
        raise _refusal("`%` must be followed by two hexadecimal digits", text, start + bad.start())
    try:
        decoded = unquote(part, errors="strict")
    except UnicodeDecodeError:
        raise _refusal("the percent escapes are not UTF-8", text, start + part.index("%")) from None
    if not decoded.isprintable():
        raise _refusal("the percent escapes give an unprintable character", text, start + part.index("%"))
    return decoded


def _refusal(message: str, text: str, column: int) -> SelectorError:
    # An escape sequence or a line break in the text would break the caret, or the terminal that shows it.
    shown = text if text.isprintable() else "".join(char if char.isprintable() else "\ufffd" for char in text)
    return SelectorError(message, shown, column)
