"""How many tokens a request has, roughly: an estimate from its bytes, which costs next to nothing and asks nobody.

Every model counts in its own way; a tokenizer would be right for one, and is never downloaded. It is for questions
such as whether a request may fit into a window at all, not for bills.
"""

from __future__ import annotations

import math
import re

from .wire import Body

ASCII_PER_TOKEN = 4.0
"""Characters of English, code and JSON. OpenAI, "What are tokens": 1 token is about 4 characters in English."""

SMALL_PER_TOKEN = 3.0
"""Characters of two bytes in UTF-8: Cyrillic, Greek, Hebrew, Arabic, letters with accents."""

WIDE_PER_TOKEN = 1.5
"""Characters of three and four bytes: Chinese, Japanese, Korean, emoji; and each escape `\\uXXXX`."""

TOKENS_PER_ATTACHMENT = 1000
"""An image, a sound or a file, however large. 1024 x 1024 pixels are 765 tokens at OpenAI, 1398 at Anthropic."""

_ATTACHMENT = re.compile(
    rb'"type"\s*:\s*"(?:image_url|input_image|image|input_audio|audio|video_url|input_video|video|input_file|file|document)"'
)
_DATA_URL = rb'data:[^"\\,]{0,100};base64,'
_BASE64 = re.compile(
    rb'"(?:(?:data|file_data)"\s*:\s*"(?:%b)?|%b)(?:[A-Za-z0-9+/=_-]++|\\/)++' % (_DATA_URL, _DATA_URL)
)
"""The content of an attachment: a data URL, or a member `data`. A text that quotes one has `\\"` before it."""

_ASCII = bytes(range(0x80))
_CONTINUATION = bytes(range(0x80, 0xC0))
_TWO_BYTES = bytes(range(0xC0, 0xE0))


def estimate_tokens(body: Body) -> int:
    """An estimate of the tokens of a request: of its messages, tools and all else that it holds, as JSON.

    The content of attachments does not count; each counts as `TOKENS_PER_ATTACHMENT`. It leans towards too much: for
    the samples of its test it is between four fifths and one and a half of what OpenAI's `o200k_base` counts.
    """
    data = body.bytes
    attachments = sum(1 for _ in _ATTACHMENT.finditer(data))
    if attachments:
        data = _BASE64.sub(b"", data)
    beyond = b"" if data.isascii() else data.translate(None, _ASCII)
    leads = beyond.translate(None, _CONTINUATION)  # one byte for each character that is not ASCII
    wide = len(leads.translate(None, _TWO_BYTES))
    escapes = data.count(b"\\u")
    plain = max(len(data) - len(beyond) - 6 * escapes, 0)
    text = plain / ASCII_PER_TOKEN + (len(leads) - wide) / SMALL_PER_TOKEN + (wide + escapes) / WIDE_PER_TOKEN
    return math.ceil(text) + attachments * TOKENS_PER_ATTACHMENT
