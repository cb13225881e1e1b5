"""What is said of a request that cannot be read, from bytes alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgate_core.faults import body_fault, head_fault, request_line

LIMIT = 64 * 1024


@given(st.text(), st.binary())
def test_a_head_of_any_bytes_is_a_4xx_in_printable_words(said: str, head: bytes) -> None:
    error = head_fault(said, head, LIMIT)
    assert 400 <= error.status < 500
    assert error.message.isprintable()
    assert error.code


@given(st.binary())
def test_a_request_line_is_read_or_left(head: bytes) -> None:
    method, path = request_line(head)
    assert bool(method) == bool(path)
    assert request_line(b"GET /a%20b?key=x HTTP/1.1\r\n" + head) == ("GET", "/a b")


@pytest.mark.parametrize("head", [b"", b"GET", b"GET /", b"GET / HTTP/1.1 x", b"GET / HTTP/11", b"G T / HTTP/1.1"])
def test_what_is_no_request_line_has_no_method_and_no_path(head: bytes) -> None:
    assert request_line(head) == ("", "")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (b"a: b\r\nx", "line 3 of the request's head is not a header: it has no colon"),
        (b"a: b\n: x", "line 3 of the request's head is not a header: there is no name before its colon"),
        (b"a: b\r\n continued: \x00", "line 3 of the request's head is not a header: its value has the byte 0x00"),
        (b"\tx", "line 2 of the request's head is not a header: it begins with a space"),
        (b"a: b\r\n\r\nnot the head's", "a header of the request is not `name: value`"),
    ],
)
def test_the_line_at_fault_is_named(lines: bytes, says: str) -> None:
    head = b"GET / HTTP/1.1\r\n" + lines + b"\r\n\r\n"
    assert head_fault("illegal header line: ...", head, LIMIT).message == says


def test_what_a_parser_says_that_nobody_foresaw_is_not_repeated() -> None:
    assert head_fault("sk-MARKER", b"", LIMIT).message == "the request cannot be read as HTTP/1.1"
    assert body_fault("sk-MARKER").message == "the body cannot be read: its chunks are malformed"
