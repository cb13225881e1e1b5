"""What an Anthropic Messages body means: a request, its parameters, a reply, an error, the first event of a stream.

Streams that pass by are watched by `StreamWatch`, which lives next door in `messages_stream`.
Source: Anthropic's API reference, the types of anthropic-python 2.14, and what Claude Code demands of a server.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ..errors import ConnectorError, RequestError
from ..sse import Parser, join
from ..wire import Body, JsonError, encode
from . import chat
from .answers import headers_of, internal, with_context
from .failures import answer_status, reported_error, retry_after, upstream_error
from .messages_stream import MEANINGFUL, StreamWatch, is_error
from .requests import check_objects, is_stream, parsed, selector_in
from .spoken import ErrorAnswer, ReadRequest

__all__ = [
    "DIALECT",
    "PARAMETERS",
    "ErrorAnswer",
    "ReadRequest",
    "StreamWatch",
    "error_answer",
    "error_event",
    "first_event_error",
    "has_no_place",
    "params",
    "passed",
    "placed",
    "read_reply",
    "read_request",
    "reported_error",
    "retry_after",
    "upstream_error",
]

DIALECT = "anthropic.messages"

# --- the request --------------------------------------------------------------------------------------------


def read_request(data: bytes, *, counts: bool = False) -> ReadRequest:
    """The request that a body holds. What is inside its messages is the upstream's to judge.

    Args:
        counts: its tokens are to be counted only; such a request has no `max_tokens`.

    Raises:
        RequestError: 400; says what is wrong and where, `param` names the member at fault.
    """
    body = parsed(data)
    selector = selector_in(body)
    check_objects(body, "messages")
    if not counts:
        _check_max_tokens(body)
    return ReadRequest(body, selector, is_stream(body))


_INTEGER = re.compile(rb"-?[0-9]+")


def _check_max_tokens(body: Body) -> None:
    """In Anthropic's own words, as clients may know them."""
    raw = body.raw("max_tokens")
    if raw is None:
        message, code = "max_tokens: Field required", "missing_required_parameter"
    elif not _INTEGER.fullmatch(raw):
        message, code = "max_tokens: Input should be a valid integer", "invalid_type"
    else:
        return
    raise RequestError(message, code=code, param="max_tokens")


# --- its parameters -----------------------------------------------------------------------------------------

has_no_place = frozenset({"seed", "presence_penalty", "frequency_penalty", "verbosity"})
"""Sampling parameters that this dialect cannot say."""

PARAMETERS = tuple(name for name in chat.PARAMETERS if name not in has_no_place)
"""The sampling parameters by the names that selectors use."""

_SPELT = {"max_completion_tokens": "max_tokens"}
"""What is called otherwise in here. The two kinds of thinking have places of their own, below."""


def params(body: Body, also: Iterable[str] = ()) -> dict[str, Any]:
    """The parameters that the caller set, by the names that selectors use; `null` counts as not set.

    Thinking that is disabled is told as `thinking_budget` 0; adaptive thinking has no budget.

    Args:
        also: more names to look for, such as those that the configuration sets.

    Raises:
        RequestError: a number that is out of range.
    """
    found: dict[str, Any] = {}
    for name in dict.fromkeys((*PARAMETERS, *also)):
        value = None if name in has_no_place else _value(name, body)
        if value is not None:
            found[name] = value
    return found


def _value(name: str, body: Body) -> Any:
    if name == "thinking_budget":
        thinking = _object(body, "thinking")
        return 0 if thinking.get("type") == "disabled" else thinking.get("budget_tokens")
    if name == "reasoning_effort":
        return _object(body, "output_config").get("effort")
    return _member(body, _SPELT.get(name, name))


def _object(body: Body, name: str) -> dict[str, Any]:
    value = _member(body, name)
    return value if isinstance(value, dict) else {}


def _member(body: Body, name: str) -> Any:
    try:
        return body.get(name)
    except JsonError as error:
        raise RequestError(f"`{name}`: {error.message}", code="invalid_value", param=name) from None


def placed(values: Mapping[str, Any], body: Body, refused: Collection[str] = ()) -> dict[str, Any]:
    """The members that this body must have for its parameters to be `values`, by the names that selectors use.

    A `thinking_budget` of 0 disables thinking, and so does a `reasoning_effort` of `none` where no budget is given.
    What else the caller's `thinking` and `output_config` hold is kept, but for thinking that is disabled: that takes
    no options. What has no place in this dialect is left out.

    Args:
        refused: names that the model does not take; each thing has one name only here, so there is nothing to choose.
    """
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name == "thinking_budget":
            changes["thinking"] = _thinking(value, _object(body, "thinking"))
        elif name == "reasoning_effort" and value == "none":
            changes.setdefault("thinking", _thinking(values.get("thinking_budget", 0), _object(body, "thinking")))
        elif name == "reasoning_effort":
            effort = _EFFORTS.get(value, value)
            changes["output_config"] = {**_object(body, "output_config"), "effort": effort}
        elif name not in has_no_place:
            changes[_SPELT.get(name, name)] = value
    return changes


_EFFORTS = {"minimal": "low"}
"""Efforts that Anthropic has another word for."""


def _thinking(budget: Any, before: Mapping[str, Any]) -> dict[str, Any]:
    if budget == 0:
        return {"type": "disabled"}
    return {**before, "type": "enabled", "budget_tokens": budget}


SIGNATURE = "llmgate"
"""Stands where a thinking block that we have made of a backend's reasoning needs a signature.

The types of the SDKs demand one, and some clients send back only thinking that is signed. It claims nothing: it says
that the text was never signed. Blocks with it, or with none, may go to another backend; all others may not.
"""


def passed(body: Body) -> Body:
    """A caller's own body without thinking that nobody has signed, which Anthropic would refuse."""
    if b'"%b"' % SIGNATURE.encode() not in body.bytes:
        return body
    try:
        given = body.get("messages")
    except JsonError:
        return body
    kept = [_signed(message) for message in given]
    kept = [message for message in kept if message.get("content") != []]
    return body if kept == given else body.splice({"messages": kept})


def _signed(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    kept = [block for block in content if not (isinstance(block, dict) and block.get("signature") == SIGNATURE)]
    return {**message, "content": kept}


# --- the reply ----------------------------------------------------------------------------------------------


def read_reply(data: bytes) -> dict[str, Any] | None:
    """The `usage` of a plain 200 answer, None where it has none.

    Raises:
        ConnectorError: it is no message: an error in disguise (that error's kind), or empty, not JSON or
            without `content` (kind `protocol`).
    """
    if not data.strip():
        raise ConnectorError("protocol", "the upstream answered with an empty body")
    try:
        body = Body(data)
        if is_error(data):
            raise reported_error(data)
        if body.get("type", "message") != "message" or not (body.raw("content") or b"").startswith(b"["):
            raise ConnectorError("protocol", "the upstream answered with something else than a message")
        usage = body.get("usage")
    except JsonError as error:
        raise ConnectorError("protocol", f"the upstream's answer is not usable JSON: {error}") from None
    return usage if isinstance(usage, dict) else None


def first_event_error(data: bytes) -> ConnectorError | None:
    """The failure with which a 200 stream begins, None if it begins well or too little of it has come.

    Args:
        data: the stream's first bytes. Whole events before the first meaningful one are looked at.
    """
    if b"error" not in data:
        return None
    if data.lstrip().startswith(b"{"):
        return reported_error(data) if is_error(data) else None
    for event in Parser(limit=len(data) + 2).feed(data):
        if event.event == "error" or is_error(event.data):
            return reported_error(event.data)
        if MEANINGFUL.search(event.data):
            return None
    return None


# --- errors for the caller ----------------------------------------------------------------------------------

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Anthropic's words for statuses; besides `invalid_request_error` and `api_error`."""

_WORDS = frozenset({"invalid_request_error", "api_error", *_TYPES.values()})

_OVERLOADED = 529

TOO_LONG = "prompt is too long"
"""Clients of this dialect know by these words that a conversation has to be compacted."""


def error_answer(error: BaseException, *, context: str = "", request_id: str = "") -> ErrorAnswer:
    """How a failure is told to a caller who has received nothing yet.

    Args:
        error: anything; only of a RequestError and a ConnectorError the text is shown.
        context: what the gateway has to add; it comes after the message, as clients match on that.
        request_id: ours, `req_...`.
    """
    status, told = _told(error, context, request_id)
    return ErrorAnswer(status, headers_of(error, status), encode(told))


def error_event(error: BaseException, *, context: str = "", request_id: str = "", sequence_number: int = 0) -> bytes:
    """The same for a stream that has begun: one event, after which nothing may follow."""
    return join(encode(_told(error, context, request_id)[1]), "error")


def _told(error: BaseException, context: str, request_id: str) -> tuple[int, dict[str, Any]]:
    if isinstance(error, ConnectorError):
        status = _status(error)
        sort = error.type if error.type in _WORDS and error.status == status else _type(status)
        message = _message(error)
    elif isinstance(error, RequestError):
        status, sort, message = error.status, _type(error.status), error.message
    else:
        status, sort, message = 500, "api_error", internal(error)[1]
    fields = {"type": sort, "message": with_context(message, context)}
    return status, {"type": "error", "error": fields, "request_id": request_id or None}


def _status(error: ConnectorError) -> int:
    """Anthropic has a status of its own for an upstream that has too much to do; its clients repeat that."""
    overloaded = error.kind == "unavailable" and error.status == _OVERLOADED
    return _OVERLOADED if overloaded else answer_status(error)


def _type(status: int) -> str:
    return _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")


def _message(error: ConnectorError) -> str:
    """The upstream's own words, and behind them those that clients wait for."""
    if error.kind == "context_length" and TOO_LONG not in error.message.lower():
        return f"{error.message} ({TOO_LONG})"
    return error.message
