"""What an OpenAI Chat Completions body means: a request, a reply, an error, the first event of a stream.

Streams that pass by are watched by `StreamWatch`, which lives next door in `chat_stream`.
Source: OpenAI's API reference, and what strict clients demand of it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ..errors import KINDS, ConnectorError, RequestError
from ..sse import Parser, join
from ..wire import Body, JsonError, decode, encode
from .answers import headers_of, internal, with_context
from .chat_stream import MEANINGFUL, StreamWatch, is_error
from .failures import answer_status, reported_error, retry_after, upstream_error
from .requests import EMPTY_LIST, check_objects, is_stream, parsed, selector_in
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
    "is_refused",
    "params",
    "passed",
    "placed",
    "read_other",
    "read_reply",
    "read_request",
    "reported_error",
    "retry_after",
    "upstream_error",
]

DIALECT = "openai.chat"

# --- the request --------------------------------------------------------------------------------------------

PARAMETERS = (
    "temperature",
    "top_p",
    "top_k",
    "max_tokens",
    "reasoning_effort",
    "thinking_budget",
    "verbosity",
    "seed",
    "presence_penalty",
    "frequency_penalty",
)
"""The sampling parameters by the names that selectors use."""

has_no_place: frozenset[str] = frozenset()
"""Sampling parameters that this dialect cannot say: none, as backends look on top for what OpenAI does not know."""

_SAME = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
"""One parameter with two names; a body has the one that its model wants."""

_BLANK = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")


def read_request(data: bytes) -> ReadRequest:
    """The request that a body holds. What is inside its messages is the upstream's to judge.

    Raises:
        RequestError: 400; says what is wrong and where, `param` names the member at fault.
    """
    body = parsed(data)
    selector = selector_in(body)
    check_objects(body, "messages")
    return ReadRequest(body, selector, is_stream(body))


def read_other(data: bytes) -> ReadRequest:
    """A request that is no conversation: an embedding, a completion of a prompt. Only its way is looked for.

    Raises:
        RequestError: as `read_request`.
    """
    body = parsed(data)
    return ReadRequest(body, selector_in(body), is_stream(body))


def params(body: Body, also: Iterable[str] = ()) -> dict[str, Any]:
    """The parameters that the caller set, by the names that selectors use; `null` counts as not set.

    A caller's `max_completion_tokens` is told as `max_tokens`.

    Args:
        also: more names to look for, such as those that the configuration sets.

    Raises:
        RequestError: a number that is out of range.
    """
    found: dict[str, Any] = {}
    for name in dict.fromkeys((*PARAMETERS, *also)):
        spelt = _spell(name, body)
        if body.raw(spelt) in (None, b"null"):
            continue
        try:
            found[name] = body.get(spelt)
        except JsonError as error:
            raise RequestError(f"`{spelt}`: {error.message}", code="invalid_value", param=spelt) from None
    return found


def placed(values: Mapping[str, Any], body: Body, refused: Collection[str] = ()) -> dict[str, Any]:
    """The members that this body must have for its parameters to be `values`, by the names that selectors use.

    Args:
        refused: names that the model does not take; of two names for one parameter the other one is chosen then.
    """
    return {_spell(name, body, refused): value for name, value in values.items()}


def _spell(name: str, body: Body, refused: Collection[str] = ()) -> str:
    """The member that holds parameter `name` in this body: of two names for one thing, the one in use.

    Args:
        refused: names that the model does not take; where neither name is in use, the other one is chosen.
    """
    same = _SAME.get(name)
    if same is None or (name in body and same not in body):
        return name
    if same in body:
        return same if name == "max_tokens" or name not in body else name
    return same if name in refused and same not in refused else name


def is_refused(name: str, refused: Collection[str]) -> bool:
    """Whether parameter `name` is refused under each name that it has."""
    return name in refused and _SAME.get(name, name) in refused


def passed(body: Body) -> Body:
    """A caller's own body, as it is: nothing of the gateway's can be in it."""
    return body


# --- the reply ----------------------------------------------------------------------------------------------


def read_reply(data: bytes) -> dict[str, Any] | None:
    """The `usage` of a plain 200 answer, None where it has none.

    Raises:
        ConnectorError: it is no answer: an error in disguise (that error's kind), or empty, not JSON or
            without `choices` (kind `protocol`).
    """
    if not data.strip():
        raise ConnectorError("protocol", "the upstream answered with an empty body")
    try:
        body = Body(data)
        if "error" in body and body.get("error"):
            raise reported_error(data)
        choices = body.raw("choices") or b""
        if not choices.startswith(b"[") or EMPTY_LIST.fullmatch(choices):
            raise ConnectorError("protocol", "the upstream answered without `choices`")
        usage = body.get("usage")
    except JsonError as error:
        raise ConnectorError("protocol", f"the upstream's answer is not usable JSON: {error}") from None
    return usage if isinstance(usage, dict) else None


def first_event_error(data: bytes) -> ConnectorError | None:
    """The failure with which a 200 stream begins, None if it begins well or too little of it has come.

    Args:
        data: the stream's first bytes. Whole events up to the first meaningful one are looked at.
    """
    if data.lstrip().startswith(b"{"):
        return reported_error(data) if is_error(data) else None
    for event in Parser(limit=len(data) + 2).feed(_to_first_meaningful(data)):
        if event.event == "error" or is_error(event.data):
            return reported_error(event.data)
        if event.event == "message" and not _is_readable(event.data):
            return ConnectorError("protocol", "the upstream's stream begins with an event that is not usable JSON")
    return None


def _to_first_meaningful(data: bytes) -> bytes:
    """The beginning of a stream, up to the end of the first event that a caller would miss."""
    found = MEANINGFUL.search(data)
    end = _BLANK.search(data, found.end()) if found else None
    return data[: end.end()] if end else data


def _is_readable(data: bytes) -> bool:
    if data.strip() in (b"", b"[DONE]"):
        return True
    try:
        decode(data)
    except JsonError:
        return False
    return True


# --- errors for the caller ----------------------------------------------------------------------------------


_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    429: "rate_limit_error",
}

_OWN_CODES = ("auth", "context_length")
"""Kinds whose code is always ours: the credential is not the caller's, and clients match the overflow's."""


def error_answer(error: BaseException, *, context: str = "", request_id: str = "") -> ErrorAnswer:
    """How a failure is told to a caller who has received nothing yet.

    Args:
        error: anything; only of a RequestError and a ConnectorError the text is shown.
        context: what the gateway has to add; it comes after the message, as clients match on that.
        request_id: ours; this dialect tells it in headers only.
    """
    status, fields = _told(error, context)
    return ErrorAnswer(status, headers_of(error, status), encode({"error": fields}))


def error_event(error: BaseException, *, context: str = "", request_id: str = "", sequence_number: int = 0) -> bytes:
    """The same for a stream that has begun: one event, after which nothing may follow."""
    return join(encode({"error": _told(error, context)[1]}))


def _told(error: BaseException, context: str) -> tuple[int, dict[str, str | None]]:
    if isinstance(error, ConnectorError):
        status = answer_status(error)
        kept = None if error.kind in _OWN_CODES or _is_status(error.code) else error.code
        code, kind, param, message = kept or KINDS[error.kind].code, _type(error), error.param, error.message
    elif isinstance(error, RequestError):
        status, code, param, message = error.status, error.code, error.param, error.message
        kind = _TYPES.get(status, "invalid_request_error")
    else:
        code, message = internal(error)
        status, kind, param = 500, "server_error", None
    message = with_context(message, context)
    return status, {"message": message, "type": kind, "param": param, "code": code}


def _is_status(code: str | None) -> bool:
    """Whether an upstream has written the HTTP status where clients look for a word."""
    return code is not None and re.fullmatch("[45][0-9][0-9]", code) is not None


def _type(error: ConnectorError) -> str:
    """OpenAI's word for it; the upstream's own while our status is the upstream's too."""
    status = answer_status(error)
    if error.type and error.status == status:
        return error.type
    if error.kind == "quota":
        return "insufficient_quota"
    return "server_error" if status >= 500 else _TYPES.get(status, "invalid_request_error")
