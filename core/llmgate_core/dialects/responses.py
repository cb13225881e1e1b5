"""What an OpenAI Responses body means: a request, its parameters, a reply, an error, the first event of a stream.

Streams that pass by are watched by `StreamWatch`, which lives next door in `responses_stream`.
Source: OpenAI's API reference, the types of openai-python 3.54, and what Codex demands of a server.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ..errors import ConnectorError, RequestError
from ..sse import Parser, join
from ..wire import Body, JsonError, decode, encode
from .chat import PARAMETERS, error_answer
from .failures import reported_error, retry_after, upstream_error
from .requests import is_stream, mistyped, parsed, required, selector_in
from .responses_stream import MEANINGFUL, StreamWatch, failure_in, reported
from .spoken import ReadRequest

__all__ = [
    "DIALECT",
    "PARAMETERS",
    "ReadRequest",
    "StreamWatch",
    "error_answer",
    "error_event",
    "first_event_error",
    "has_no_place",
    "input_items",
    "params",
    "passed",
    "placed",
    "read_reply",
    "read_request",
    "reported_error",
    "retry_after",
    "upstream_error",
]

DIALECT = "openai.responses"

# --- the request --------------------------------------------------------------------------------------------


def read_request(data: bytes) -> ReadRequest:
    """The request that a body holds. What is inside its items is the upstream's to judge.

    An empty list of items passes: with `previous_response_id` it asks for another answer.

    Raises:
        RequestError: 400; says what is wrong and where, `param` names the member at fault.
    """
    body = parsed(data)
    selector = selector_in(body)
    _check_input(body)
    return ReadRequest(body, selector, is_stream(body))


_ELSEWHERE = ("previous_response_id", "conversation", "prompt")
"""Where else a request's input may come from."""


def _check_input(body: Body) -> None:
    if "input" not in body and any(body.raw(name) not in (None, b"null") for name in _ELSEWHERE):
        return
    raw = required(body, "input")
    if raw.startswith(b'"'):
        return
    if not raw.startswith(b"["):
        raise mistyped("input", "a string or an array of objects")
    wrong = body.first_non_object("input")
    if wrong is not None:
        raise mistyped(f"input[{wrong}]", "an object")


def input_items(value: Any) -> list[dict[str, Any]]:
    """A request's `input` as a list of items: a text alone is a message of the user's."""
    if isinstance(value, str):
        return [{"type": "message", "role": "user", "content": value}]
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


# --- its parameters -----------------------------------------------------------------------------------------

_PLACES: Mapping[str, tuple[str, ...]] = {
    "max_tokens": ("max_output_tokens",),
    "max_completion_tokens": ("max_output_tokens",),
    "reasoning_effort": ("reasoning", "effort"),
    "verbosity": ("text", "verbosity"),
}
"""Where a parameter stands in a body; one that is not in here stands on top under its own name."""

has_no_place = frozenset({"seed", "presence_penalty", "frequency_penalty", "top_k", "thinking_budget"})
"""Sampling parameters that this dialect cannot say."""


def params(body: Body, also: Iterable[str] = ()) -> dict[str, Any]:
    """The parameters that the caller set, by the names that selectors use; `null` counts as not set.

    Args:
        also: more names to look for, such as those that the configuration sets.

    Raises:
        RequestError: a number that is out of range.
    """
    found: dict[str, Any] = {}
    for name in dict.fromkeys((*PARAMETERS, *also)):
        value = None if name in has_no_place else _at(body, _PLACES.get(name, (name,)))
        if value is not None:
            found[name] = value
    return found


def _at(body: Body, place: tuple[str, ...]) -> Any:
    top, *below = place
    if body.raw(top) in (None, b"null"):
        return None
    try:
        value = body.get(top)
    except JsonError as error:
        raise RequestError(f"`{top}`: {error.message}", code="invalid_value", param=top) from None
    for name in below:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def placed(values: Mapping[str, Any], body: Body, refused: Collection[str] = ()) -> dict[str, Any]:
    """The members that this body must have for its parameters to be `values`, by the names that selectors use.

    What else the caller's `reasoning` and `text` hold is kept. What has no place in this dialect is left out.

    Args:
        refused: names that the model does not take; each thing has one name only here, so there is nothing to choose.
    """
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name in has_no_place:
            continue
        top, *below = _PLACES.get(name, (name,))
        if below:
            around = changes.get(top) or body.get(top)
            changes[top] = {**(around if isinstance(around, dict) else {}), below[0]: value}
        else:
            changes[top] = value
    return changes


def passed(body: Body) -> Body:
    """A caller's own body, as it is: nothing of the gateway's can be in it."""
    return body


# --- the reply ----------------------------------------------------------------------------------------------


def read_reply(data: bytes) -> dict[str, Any] | None:
    """The `usage` of a plain 200 answer, None where it has none.

    Raises:
        ConnectorError: it is no answer: a failed response or an error in disguise (that error's kind), or empty,
            not JSON or without `output` (kind `protocol`).
    """
    if not data.strip():
        raise ConnectorError("protocol", "the upstream answered with an empty body")
    try:
        body = Body(data)
        if body.raw("status") == b'"failed"' or body.get("error"):
            raise reported(body.get("error"))
        if not (body.raw("output") or b"").startswith(b"["):
            raise ConnectorError("protocol", "the upstream answered without `output`")
        usage = body.get("usage")
    except JsonError as error:
        raise ConnectorError("protocol", f"the upstream's answer is not usable JSON: {error}") from None
    return usage if isinstance(usage, dict) else None


_SUSPICIOUS = re.compile(rb'"error"|event: ?error|"response\.failed"')


def first_event_error(data: bytes) -> ConnectorError | None:
    """The failure with which a 200 stream begins, None if it begins well or too little of it has come.

    Args:
        data: the stream's first bytes. Whole events before the first meaningful one are looked at.
    """
    if not _SUSPICIOUS.search(data):
        return None
    if data.lstrip().startswith(b"{"):
        return failure_in("message", data)
    for event in Parser(limit=len(data) + 2).feed(data):
        if failure := failure_in(event.event, event.data):
            return failure
        if MEANINGFUL.search(event.data):
            return None
    return None


# --- errors for the caller ----------------------------------------------------------------------------------


def error_event(error: BaseException, *, context: str = "", request_id: str = "", sequence_number: int = 0) -> bytes:
    """A failure of a stream that has begun and is passed on: one flat event, after which nothing may follow.

    Streams that are translated end with `response.failed` instead; here nobody has kept the response that failed.
    Source: openai-python, types/responses/response_error_event.py.

    Args:
        error, context, request_id: as in `error_answer`.
        sequence_number: one more than that of the last event, where somebody has counted.
    """
    told = decode(error_answer(error, context=context).body)["error"]
    fields = {"code": told["code"], "message": told["message"], "param": told["param"]}
    return join(encode({"type": "error", **fields, "sequence_number": sequence_number}), "error")
