"""The content of a chat message as blocks of Anthropic Messages: text, images, documents.

A `cache_control` that a caller puts on a part, as many clients do for Claude, is kept.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from ..dialects.requests import mistyped
from ..errors import RequestError
from .chat_over_messages_rules import is_set, lose_beside
from .losses import Losses, object_of, objects_in, text_in, unsupported

Block = dict[str, Any]
"""One content block."""

_DATA_URL = re.compile(r"data:([^;,]+)(?:;[^;,]+)*;base64,", re.IGNORECASE)
_WEB_URL = re.compile(r"https?://", re.IGNORECASE)
_TEXT_MEMBERS = frozenset({"type", "text", "cache_control", "prompt_cache_breakpoint"})
_IMAGE_MEMBERS = frozenset({"type", "image_url", "cache_control", "prompt_cache_breakpoint"})
_FILE_MEMBERS = frozenset({"type", "file", "cache_control", "prompt_cache_breakpoint"})
_REFUSAL_MEMBERS = frozenset({"type", "refusal"})


def blocks_of(content: Any, field: str, losses: Losses) -> list[Block]:
    """The blocks of a message's content: a text, parts, or nothing.

    Args:
        field: how the caller knows the content, such as `messages[3].content`.

    Raises:
        RequestError: it cannot be said, and must not be left out.
    """
    if isinstance(content, str):
        return text_blocks(content, losses)
    if content is not None and not isinstance(content, list):
        raise mistyped(field, "a string or an array of parts")
    blocks = []
    for place, part in enumerate(objects_in(content, field)):
        blocks += _blocks_of_part(part, f"{field}[{place}]", losses)
    return blocks


def text_blocks(text: str, losses: Losses) -> list[Block]:
    """One block, or none for a text without anything to read: Messages refuses such."""
    if text.strip():
        return [{"type": "text", "text": text}]
    losses.add_if(bool(text), "messages.blank")
    return []


def _blocks_of_part(part: Mapping[str, Any], field: str, losses: Losses) -> list[Block]:
    losses.add_if(is_set(part.get("prompt_cache_breakpoint")), "prompt_cache")
    sort = text_in(part, "type", field)
    if sort == "text":
        lose_beside(losses, part, _TEXT_MEMBERS, "messages.options")
        blocks = text_blocks(text_in(part, "text", field), losses)
    elif sort == "refusal":
        lose_beside(losses, part, _REFUSAL_MEMBERS, "messages.options")
        blocks = text_blocks(text_in(part, "refusal", field), losses)
    elif sort == "image_url":
        lose_beside(losses, part, _IMAGE_MEMBERS, "messages.options")
        blocks = [_image(part.get("image_url"), f"{field}.image_url", losses)]
    elif sort == "file":
        lose_beside(losses, part, _FILE_MEMBERS, "messages.options")
        blocks = [_file(object_of(part.get("file"), f"{field}.file"), f"{field}.file", losses)]
    else:
        raise unsupported(f"{field}.type", "must be `text`, `image_url` or `file`: this backend takes nothing else")
    return cached(blocks, part, losses)


def cached(blocks: list[Block], holder: Mapping[str, Any], losses: Losses) -> list[Block]:
    """The same blocks, the last one with the `cache_control` of the message or part that they come from."""
    wanted = holder.get("cache_control")
    if not is_set(wanted):
        return blocks
    losses.add_if(not blocks, "messages.options")
    return [*blocks[:-1], *({"cache_control": wanted, **block} for block in blocks[-1:])]


def _image(value: Any, field: str, losses: Losses) -> Block:
    image = {"url": value} if isinstance(value, str) else object_of(value, field)
    losses.add_if(image.get("detail") not in (None, "auto"), "messages.image_detail")
    lose_beside(losses, image, frozenset({"url", "detail"}), "messages.options")
    url = text_in(image, "url", field)
    if _WEB_URL.match(url):
        return {"type": "image", "source": {"type": "url", "url": url}}
    return _of_data_url(url, f"{field}.url", "must begin with `https://`, or with `data:` and be Base64")


def _file(file: Mapping[str, Any], field: str, losses: Losses) -> Block:
    if is_set(file.get("file_id")) and not is_set(file.get("file_data")):
        raise unsupported(f"{field}.file_id", "names a file at OpenAI, and this backend is another; send `file_data`")
    lose_beside(losses, file, frozenset({"file_data", "filename"}), "messages.options")
    data = text_in(file, "file_data", field)
    block = _of_data_url(data, f"{field}.file_data", "must begin with `data:`, name its type and be Base64")
    if block["type"] == "document" and is_set(file.get("filename")):
        return {**block, "title": text_in(file, "filename", field)}
    return block


def _of_data_url(url: str, field: str, otherwise: str) -> Block:
    """An image, a PDF or a plain text in a `data:` URL (RFC 2397)."""
    found = _DATA_URL.match(url)
    if found is None:
        raise RequestError(f"`{field}` {otherwise}", code="invalid_value", param=field)
    media, data = found[1].lower(), url[found.end() :]
    if media == "text/plain":
        return {"type": "document", "source": {"type": "text", "media_type": media, "data": _decoded(data, field)}}
    source = {"type": "base64", "media_type": media, "data": data}
    if media == "application/pdf":
        return {"type": "document", "source": source}
    if media.startswith("image/"):
        return {"type": "image", "source": source}
    raise unsupported(field, "must be an image, a PDF or a plain text: this backend takes nothing else")


def _decoded(data: str, field: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, ValueError):
        raise RequestError(f"`{field}` is no Base64 of UTF-8 text", code="invalid_value", param=field) from None
