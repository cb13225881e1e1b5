"""What a translated body may keep: its caller never saw the model's own dialect, and cannot know what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from ..wire import Body


def fit(
    body: Body,
    refused: Collection[str],
    params: Callable[[Body, Iterable[str]], Mapping[str, Any]],
    placed: Callable[[Mapping[str, Any], Body, Collection[str]], Mapping[str, Any]],
) -> tuple[Body, Sequence[str]]:
    """The body without the members that the model refuses; what has another name there gets that.

    Args:
        refused: names of parameters.
        params, placed: the dialect's.

    Returns:
        The body, and the names of what is lost.
    """
    values = {name: value for name, value in params(body, ()).items() if name in refused and name in body}
    bare = body.splice({}, remove=values)
    said = {name: value for name, value in placed(values, bare, refused).items() if name not in refused}
    lost = [name for name in values if not any(value is values[name] for value in said.values())]
    return bare.splice(said), lost
