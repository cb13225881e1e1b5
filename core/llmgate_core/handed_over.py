"""What plugins hand over, looked at before core makes use of it: a wrong value is told as the fault of whose it is.

Types are promises of a type checker, which a plugin's author need not have used. What is let in here would fail later,
far from its author: where an answer is written, or a parameter is merged. Values are never shown; they might be secret.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, TypeVar, get_args

from .connectors import Modality, ModelInfo, Thinking, UpstreamReply, Verdict
from .credentials import CredentialStatus
from .errors import KINDS, ConnectorError, RequestError, words_of
from .request import Dialect, Params
from .wire import encode

T = TypeVar("T")

NO_BODY = (204, 205)
"""Statuses of an answer that has none (RFC 9110, section 15.3.5)."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""The name of a header (RFC 9110, section 5.6.2)."""


class Misfit(TypeError):  # noqa: N818 - it reads as what it is
    """A value is not what it should be. The words hold types and names only, so that everybody may read them."""


def why(error: BaseException) -> str:
    """The end of `... failed`: the words of a Misfit, else the type of the exception, as its words may be secret."""
    return f": {error}" if isinstance(error, Misfit) else f" ({type(error).__name__})"


def sort_of(found: object) -> str:
    """The name of a value's type; a coroutine, which nobody is going to await, is closed."""
    if inspect.iscoroutine(found):
        found.close()
        return "coroutine"
    return type(found).__name__


def _must(is_right: bool, words: str) -> None:
    if not is_right:
        raise Misfit(words)


def _a(sort: type[T], found: object, words: str) -> T:
    """The value itself, if it is of this type."""
    if not isinstance(found, sort):
        article = "an" if sort.__name__.startswith(("A", "E", "I", "O", "U")) else "a"
        raise Misfit(f"{words} `{sort_of(found)}`, not {article} `{sort.__name__}`")
    return found


def _texts(found: Any) -> bool:
    return isinstance(found, Sequence) and not isinstance(found, str) and all(isinstance(one, str) for one in found)


# --- what a connector says of itself ----------------------------------------------------------------------------------


def dialects(found: Any) -> frozenset[Dialect]:
    """What a connector speaks."""
    is_right = isinstance(found, Set) and bool(found) and all(isinstance(one, str) for one in found)
    _must(is_right, f"its `dialects` must be a frozenset of names, such as `openai.chat`, not a `{sort_of(found)}`")
    return frozenset(found)


def model_info(found: object, method: str) -> ModelInfo:
    """What a connector knows of a model."""
    info = _a(ModelInfo, found, f"`{method}()` returned a")
    right = {
        "id": isinstance(info.id, str),
        "context": _is_count(info.context),
        "max_output": _is_count(info.max_output),
        "input": _texts(info.input) and set(info.input) <= _MODALITIES,
        "thinking": info.thinking in _THINKING,
        "refuses": _texts(info.refuses),
        "excludes": _are_groups(info.excludes),
        "source": isinstance(info.source, str),
    }
    for name in (name for name, is_right in right.items() if not is_right):
        raise Misfit(f"`{name}` of a `ModelInfo` is a `{type(getattr(info, name)).__name__}` that it may not be")
    return info


_MODALITIES = frozenset(get_args(Modality))
_THINKING = (None, *get_args(Thinking))


def _is_count(found: Any) -> bool:
    return found is None or (isinstance(found, int) and not isinstance(found, bool))


def _are_groups(found: Any) -> bool:
    return isinstance(found, Sequence) and not isinstance(found, str) and all(map(_texts, found))


def status(found: object) -> CredentialStatus:
    """What a credential provider says of itself."""
    said = _a(CredentialStatus, found, "`status()` returned a")
    _must(isinstance(said.detail, str), "`detail` of its `CredentialStatus` is no text")
    _must(isinstance(said.facts, Mapping), "`facts` of its `CredentialStatus` is no mapping")
    return said


def delay(found: object) -> float | None:
    """Seconds that a retry policy would wait, or None."""
    seconds = _seconds(found)
    _must(seconds is found, f"`delay()` returned neither None nor finite seconds (`{sort_of(found)}`)")
    return seconds


# --- what a connector says of an attempt ------------------------------------------------------------------------------


def awaitable(found: Any, method: str) -> Any:
    """Itself, if it can be awaited: what an `async def` returns when it is called."""
    words = f"`{method}()` returned a `{type(found).__name__}`, which cannot be awaited; it must be an `async def`"
    _must(inspect.isawaitable(found), words)
    return found


def reply(found: object) -> UpstreamReply:
    """A success, of which the caller may get status, headers and bytes."""
    got = _a(UpstreamReply, found, "`send()` returned a")
    _must(is_status(got.status, 200, 299), "`status` of its `UpstreamReply` is not that of a success (200 to 299)")
    _must(got.status not in NO_BODY, f"`status` of its `UpstreamReply` is {got.status}, which has no body")
    _headers(got.headers, "its `UpstreamReply`")
    _must(hasattr(got.chunks, "__anext__"), "`chunks` of its `UpstreamReply` is no asynchronous generator")
    _must(callable(got.aclose), "`aclose` of its `UpstreamReply` cannot be called")
    are_words = _texts(got.lost) and all(one.isascii() and one.isprintable() for one in got.lost)
    _must(are_words, "`lost` of its `UpstreamReply` is no sequence of names in printable ASCII")
    return got


def _headers(found: Any, owner: str, *, are_sent: bool = False) -> None:
    """Raises Misfit for what are no headers; those that are sent as they are hold nothing that breaks a line."""
    _must(isinstance(found, Mapping), f"`headers` of {owner} is a `{type(found).__name__}`, not a mapping")
    for name, value in found.items():
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            raise Misfit(f"the name of a header of {owner} is no text that HTTP allows there")
        if not isinstance(value, str) or (are_sent and not value.isprintable()):
            raise Misfit(f"the value of header `{name}` of {owner} is no printable text")


def is_status(found: Any, least: int, most: int) -> bool:
    """Whether this is an HTTP status between these two."""
    return isinstance(found, int) and not isinstance(found, bool) and least <= found <= most


# --- what is raised ---------------------------------------------------------------------------------------------------


def _kind(found: Any) -> Any:
    return found if isinstance(found, str) and found in KINDS else "bug"


def _message(found: Any) -> str:
    text = found if isinstance(found, str) else "(without a message)" if found is None else words_of(found)
    return text if text.isascii() or not _SURROGATE.search(text) else text.encode(errors="replace").decode()


_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half a sign, which no answer can hold."""


def _label(found: Any) -> str | None:
    """A short name; a number is one in other words."""
    if found is None or not isinstance(found, str | int) or isinstance(found, bool):
        return None
    return _message(found)


def _printable(found: Any) -> str | None:
    """A text that goes into a header."""
    return found if isinstance(found, str) and found.isprintable() else None


def _seconds(found: Any) -> float | None:
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    return found if is_number and 0 <= found < math.inf else None


def _answered(found: Any) -> int | None:
    return found if is_status(found, 100, 599) else None


_FAILURE: dict[str, Callable[[Any], Any]] = {
    "kind": _kind,
    "message": _message,
    "status": _answered,
    "retry_after": _seconds,
    "code": _label,
    "type": _label,
    "param": _label,
    "upstream_request_id": _printable,
}
_REFUSAL: dict[str, Callable[[Any], Any]] = {
    "message": _message,
    "code": lambda found: _label(found) or "invalid_request",
    "param": _label,
    "retry_after": _seconds,
}


def failure(error: ConnectorError) -> tuple[ConnectorError, Sequence[str]]:
    """The failure with fields as they are declared, and the names of those that were not.

    It is the same object where nothing is wrong: a retry policy of the same plugin may know its class. Of an unknown
    kind, it is one of kind `bug`.
    """
    right, wrong = _mended(error, _FAILURE)
    return (ConnectorError(**right), wrong) if wrong else (error, ())


def refusal(error: RequestError, *, most: int = 499) -> tuple[RequestError, Sequence[str]]:
    """The same for a refusal: one whose status is not between 400 and `most` becomes a 400."""
    status = {"status": lambda found: found if is_status(found, 400, most) else 400}
    right, wrong = _mended(error, {**_REFUSAL, **status})
    return (RequestError(**right), wrong) if wrong else (error, ())


def _mended(error: Exception, fields: Mapping[str, Callable[[Any], Any]]) -> tuple[dict[str, Any], list[str]]:
    said = {name: getattr(error, name, None) for name in fields}  # a class of its own may have forgotten some
    right = {name: mend(said[name]) for name, mend in fields.items()}
    return right, [name for name in fields if right[name] is not said[name]]


def named(fields: Iterable[str]) -> str:
    """These fields, in words."""
    return ", ".join(f"`{name}`" for name in fields)


# --- what a policy says -----------------------------------------------------------------------------------------------


def verdict(found: object, before: Params) -> Verdict:
    """What a policy makes of the parameters `before`."""
    said = _a(Verdict, found, "`apply()` returned a")
    _headers(said.headers, "its `Verdict`", are_sent=True)
    _must(isinstance(said.effects, Mapping), "`effects` of its `Verdict` is no mapping")
    for headers in said.effects.values():
        _must(isinstance(headers, Mapping), "`effects` of its `Verdict` holds something else than headers")
        _headers(headers, "`effects` of its `Verdict`", are_sent=True)
    params = _a(Params, said.params, "`params` of its `Verdict` is a")
    if params is not before:
        _params(params, before)
    return said


def _params(found: Params, before: Params) -> None:
    """Raises Misfit for new parameters that could not be sent; those from before have been looked at, or are JSON."""
    try:
        settings = {name: found.why(name) for name in found.effective()}
    except Exception:
        raise Misfit("`params` of its `Verdict` has a layer that is no mapping of names to values") from None
    for name, values in settings.items():
        _must(isinstance(name, str), "the name of a parameter in its `Verdict` is no text")
        known = [setting.value for setting in before.why(name)]
        new = [setting.value for setting in values if not any(setting.value is value for value in known)]
        _must(all(map(_is_json, new)), f"parameter `{name}` in its `Verdict` has a value that JSON cannot say")


def _is_json(value: Any) -> bool:
    try:
        encode(value)
    except Exception:  # whatever is in there: msgspec has several, and a value may have methods of its own
        return False
    return True
