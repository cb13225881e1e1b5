"""What requests of all dialects have in common: JSON, a `model`, a list of objects, `stream`; how each is refused."""

from __future__ import annotations

import re

from ..errors import RequestError
from ..wire import Body, JsonError

EMPTY_LIST = re.compile(rb"\[\s*+\]")


def parsed(data: bytes) -> Body:
    """The body that these bytes are.

    Raises:
        RequestError: they are not one JSON object; says where.
    """
    try:
        return Body.parse(data)
    except JsonError as error:
        raise RequestError(f"the request's body is not usable JSON: {error}", code="invalid_json") from None


def selector_in(body: Body) -> str:
    """The text in `model`.

    Raises:
        RequestError: there is none.
    """
    raw = required(body, "model")
    if not raw.startswith(b'"'):
        raise mistyped("model", "a string")
    selector: str = body.get("model")
    if not selector.strip():
        raise RequestError("`model` is empty; name a model", code="invalid_value", param="model")
    return selector


def check_objects(body: Body, name: str) -> None:
    """Passes if the member `name` is an array of objects that is not empty.

    Raises:
        RequestError: it is something else.
    """
    raw = required(body, name)
    if not raw.startswith(b"["):
        raise mistyped(name, "an array of objects")
    if EMPTY_LIST.fullmatch(raw):
        raise RequestError(f"`{name}` is empty; send at least one", code="invalid_value", param=name)
    wrong = body.first_non_object(name)
    if wrong is not None:
        raise mistyped(f"{name}[{wrong}]", "an object")


def is_stream(body: Body) -> bool:
    """Whether a stream is asked for; `null` counts as no.

    Raises:
        RequestError: `stream` is neither yes nor no.
    """
    raw = body.raw("stream")
    if raw not in (b"true", b"false", b"null", None):
        raise mistyped("stream", "`true` or `false`")
    return raw == b"true"


def required(body: Body, name: str) -> bytes:
    """The JSON text of a member.

    Raises:
        RequestError: it is missing.
    """
    raw = body.raw(name)
    if raw is None:
        raise RequestError(f"`{name}` is missing", code="missing_required_parameter", param=name)
    return raw


def mistyped(name: str, wanted: str) -> RequestError:
    """The refusal of a value of another type."""
    return RequestError(f"`{name}` must be {wanted}", code="invalid_type", param=name)
