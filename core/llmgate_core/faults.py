"""What is wrong with a request that cannot be read as HTTP/1.1, in words for its sender; bytes in, RequestError out.

What an HTTP parser says is no prose, and repeats the line at fault, which may hold a key. So its text only chooses
here among texts of our own. None of them shows a byte of what was sent, the protocol's version excepted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from urllib.parse import unquote

from .errors import RequestError

FAULT = "llmgate.fault"
"""Key of the RequestError in an ASGI `http.disconnect` that means: the caller is there, its body cannot be read."""

Refused = Callable[[RequestError, str, str, str], tuple[Mapping[str, str], bytes]]
"""Makes the answer to a request that did not become one, and notes it: the error, the client's address, method, path.

The latter two are empty where they could not be read. Returns headers and body.
"""

MALFORMED = "malformed_request"
REQUEST_LINE = "`METHOD /path HTTP/1.1`"
TLS_HANDSHAKE = 0x16
"""The first byte of whatever begins to speak TLS (RFC 8446, section 5.1)."""

_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+) HTTP/([0-9]\.[0-9])\r?")
_ABSOLUTE = re.compile(r"https?://([^/?#]*)(.*)", re.IGNORECASE)
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAD_IN_VALUE = re.compile(rb"[\x00\r\v\f]")

# What the parser's text begins with, and ours.
_HEADS = {
    "no request line": f"the request begins with an empty line; its first line must be {REQUEST_LINE}",
    "illegal request line": f"line 1 of the request is not {REQUEST_LINE}",
    "conflicting Content-Length": "`Content-Length` is given more than once, with different numbers",
    "bad Content-Length": "`Content-Length` is not a number of bytes",
    "multiple Transfer-Encoding": "`Transfer-Encoding` is given more than once; send `chunked`, or `Content-Length`",
    "Only Transfer-Encoding": "`Transfer-Encoding` is not `chunked`; send `chunked`, or `Content-Length` instead",
    "both lengths": "both `Content-Length` and `Transfer-Encoding` are given; send one of them",
    "illegal target": f"the address in line 1 of the request has no host; the line must be {REQUEST_LINE}",
    "Missing mandatory Host": "the header `Host` is missing",
    "Found multiple Host": "the header `Host` is given more than once",
    "peer unexpectedly closed": "the request breaks off before the empty line that ends its head",
}
_BODIES = {
    "illegal chunk header": "a chunk does not begin with a line that is its size in hexadecimal digits",
    "malformed chunk footer": "a chunk is longer than its size says, or lacks the line break behind it",
    "Receive buffer too long": "the line before a chunk, or what follows the last chunk, is too long",
    "illegal header line": "a header after the last chunk is not `name: value`",
}


def head_fault(said: str, head: bytes, limit: int) -> RequestError:
    """Why a request's head is refused, status 400, 414 or 431.

    Always a 4xx, also for an unknown transfer coding, where RFC 9112, section 6.1, suggests 501: the request is at
    fault, and clients send a request again after a 5xx.

    Args:
        said: the parser's text.
        head: what has arrived of the head, perhaps with bytes of the body behind it.
        limit: bytes that a head may have.
    """
    if said.startswith("Receive buffer too long"):
        return _too_long(head, limit)
    if head[:1] and head[0] == TLS_HANDSHAKE:
        text = "this port speaks HTTP, and the client began with TLS; write `http://` in its base URL"
    elif said.startswith(("illegal header line", "continuation line")):
        text = _header_fault(head)
    else:
        text = _ours(said, _HEADS, "the request cannot be read as HTTP/1.1")
    return RequestError(text, code=MALFORMED)


def body_fault(said: str) -> RequestError:
    """Why a body's framing is refused, status 400; `said` is the parser's text."""
    return RequestError(f"the body cannot be read: {_ours(said, _BODIES, 'its chunks are malformed')}", code=MALFORMED)


def version_fault(version: str) -> RequestError:
    """Another major version of HTTP than ours, status 400.

    RFC 9110, section 2.5, allows 505; clients send a request again after a 5xx.
    """
    text = f"the request is HTTP/{version}, and this server speaks HTTP/1.1; switch the client to that"
    return RequestError(text, code="http_version_not_supported")


def request_line(head: bytes) -> tuple[str, str]:
    """The method, and the path without its query, of a head's first line; empty where that is no request line."""
    found = _LINE.fullmatch(head.partition(b"\n")[0])
    if not found:
        return "", ""
    method, target, _ = (part.decode("ascii") for part in found.groups())
    return method, unquote(origin_form(target)[1].partition("?")[0])


def origin_form(target: str) -> tuple[str | None, str]:
    """Host and path of a target that is a whole address (RFC 9112, section 3.2.2); of any other, None and itself."""
    found = _ABSOLUTE.fullmatch(target)
    if not found:
        return None, target
    host, rest = found.groups()
    return host, rest if rest.startswith("/") else f"/{rest}"


def _too_long(head: bytes, limit: int) -> RequestError:
    size = f"{limit // 1024} kB"
    if b"\n" not in head:  # RFC 9112, section 3: a target that is too long is a 414
        return RequestError(f"line 1 of the request is longer than {size}", status=414, code="uri_too_long")
    return RequestError(f"the request's head is larger than {size}", status=431, code="request_head_too_large")


def _header_fault(head: bytes) -> str:
    lines = head.split(b"\n")
    for number, line in enumerate(lines[1:], 2):
        line = line.removesuffix(b"\r")
        if not line:
            break
        if wrong := _wrong_with(line, first=number == 2):
            return f"line {number} of the request's head is not a header: {wrong}"
    return "a header of the request is not `name: value`"


def _wrong_with(line: bytes, *, first: bool) -> str | None:
    """What keeps a line from being a header (RFC 9112, section 5), or None."""
    name, colon, value = line.partition(b":")
    if line[:1] in (b" ", b"\t"):  # goes on with the line before it, as old HTTP allowed
        name, colon, value = b"continued", b"" if first else b":", line
    if not colon:
        return "it begins with a space" if first and line[:1].isspace() else "it has no colon"
    if not name.strip():
        return "there is no name before its colon"
    if name != name.rstrip():
        return "there is a space before its colon"
    if not _NAME.fullmatch(name):
        return "its name has a character that names may not have"
    if bad := _BAD_IN_VALUE.search(value):
        return f"its value has the byte 0x{bad[0].hex()}"
    return None


def _ours(said: str, texts: Mapping[str, str], otherwise: str) -> str:
    return next((text for begin, text in texts.items() if said.startswith(begin)), otherwise)
