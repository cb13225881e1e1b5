"""What a request loses on its way into another dialect, and how what cannot be said at all is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..dialects.requests import mistyped
from ..errors import RequestError


class Losses:
    """What one request loses: each name once, in the order in which it was met.

    Args:
        known: a sentence for each name that there is.
    """

    def __init__(self, known: Mapping[str, str]) -> None:
        self._known = known
        self._names: dict[str, None] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """What was lost so far."""
        return tuple(self._names)

    def add(self, name: str) -> None:
        """Takes note of one loss.

        Raises:
            KeyError: nobody has written a sentence about it.
        """
        _ = self._known[name]
        self._names[name] = None

    def add_if(self, is_lost: bool, name: str) -> None:
        """Takes note of one loss if there is one."""
        if is_lost:
            self.add(name)


def is_set(value: Any) -> bool:
    """Whether a member's value says something: `null`, `{}`, `[]` and `""` do not, `false` and `0` do."""
    return value is not None and value not in ({}, [], "")


def unsupported(field: str, why: str) -> RequestError:
    """The refusal of what has no counterpart and would change the answer's meaning if it were left out."""
    return RequestError(f"`{field}` {why}", code="unsupported_parameter", param=field)


def text_in(holder: Mapping[str, Any], name: str, field: str) -> str:
    """The text that a member must hold.

    Args:
        field: how the caller knows `holder`, such as `messages[3]`.

    Raises:
        RequestError: it is missing or something else.
    """
    value = holder.get(name)
    if not isinstance(value, str):
        raise mistyped(f"{field}.{name}", "a string")
    return value


def object_of(value: Any, field: str) -> dict[str, Any]:
    """The object that a value must be; `null` counts as an empty one.

    Raises:
        RequestError: it is something else.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise mistyped(field, "an object")
    return value


def object_in(holder: Mapping[str, Any], name: str, field: str) -> dict[str, Any]:
    """The object that a member holds, an empty one where it is missing or `null`; else like `text_in`."""
    return object_of(holder.get(name), f"{field}.{name}" if field else name)


def objects_in(value: Any, field: str) -> list[dict[str, Any]]:
    """The objects of an array; `null` counts as none.

    Raises:
        RequestError: it is something else.
    """
    if value is None:
        return []
    if not isinstance(value, list):
        raise mistyped(field, "an array of objects")
    for place, element in enumerate(value):
        if not isinstance(element, dict):
            raise mistyped(f"{field}[{place}]", "an object")
    return value
