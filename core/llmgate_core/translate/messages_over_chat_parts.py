"""Content blocks as the parts of a chat message: text, images, documents, search results.

A block that chat has no part for is refused where the model would answer something else without it: an image or a
document that lies at Anthropic, or that somebody would have to fetch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..dialects.requests import mistyped
from .losses import Losses, is_set, object_in, objects_in, text_in, unsupported

Part = dict[str, Any]

_SAYS_NOTHING: Mapping[str, tuple[Any, ...]] = {
    "caller": ({"type": "direct"},),
    "citations": ({"enabled": False},),
}
"""Values that ask for what happens anyway."""

_OWN_LOSSES = {"cache_control": "cache_control", "citations": "citations"}


def blocks_of(content: Any, field: str) -> list[tuple[str, dict[str, Any]]]:
    """The blocks of a content, each with how the caller knows it; a text alone is one block.

    Raises:
        RequestError: it is no content.
    """
    if isinstance(content, str):
        return [(field, {"type": "text", "text": content})]
    if not isinstance(content, list):
        raise mistyped(field, "a string or an array of objects")
    return [(f"{field}[{place}]", block) for place, block in enumerate(objects_in(content, field))]


def parts_of(content: Any, field: str, losses: Losses) -> list[Part]:
    """The parts of a content; raises like `part_of`."""
    return [part for place, block in blocks_of(content, field) for part in part_of(block, place, losses)]


def part_of(block: dict[str, Any], field: str, losses: Losses) -> list[Part]:
    """The parts that say what a block says, none if it is lost.

    Raises:
        RequestError: it is not as Anthropic's API reference has it, or cannot be said and the model would miss it.
    """
    read = _READERS.get(str(block.get("type")))
    if read is not None:
        return read(block, field, losses)
    return _unknown(block, losses)


def lose_options(block: Mapping[str, Any], told: tuple[str, ...], losses: Losses) -> None:
    """Takes note of what a block says besides the members `told`."""
    for name, value in block.items():
        if name in ("type", *told) or not is_set(value) or value in _SAYS_NOTHING.get(name, ()):
            continue
        losses.add(_OWN_LOSSES.get(name, "content.options"))


def collapsed(parts: list[Part]) -> Any:
    """A content as simply as it can be said: one text alone is a string, which every backend takes."""
    if not parts:
        return ""
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


def split(parts: list[Part]) -> tuple[list[str], list[Part]]:
    """The texts, and what is no text."""
    texts = [part["text"] for part in parts if part["type"] == "text"]
    return texts, [part for part in parts if part["type"] != "text"]


def text_part(text: str) -> Part:
    """A part that is a text."""
    return {"type": "text", "text": text}


# --- each type of block -------------------------------------------------------------------------------------


def _text(block: dict[str, Any], field: str, losses: Losses) -> list[Part]:
    lose_options(block, ("text",), losses)
    return [text_part(text_in(block, "text", field))]


def _image(block: dict[str, Any], field: str, losses: Losses) -> list[Part]:
    lose_options(block, ("source",), losses)
    source, place = object_in(block, "source", field), f"{field}.source"
    if source.get("type") == "base64":
        lose_options(source, ("media_type", "data"), losses)
        url = _data_url(source, place)
    elif source.get("type") == "url":
        lose_options(source, ("url",), losses)
        url = text_in(source, "url", place)
    else:
        raise unsupported(f"{place}.type", "must be `base64` or `url`: this backend cannot read files kept elsewhere")
    return [{"type": "image_url", "image_url": {"url": url}}]


def _data_url(source: Mapping[str, Any], field: str) -> str:
    return f"data:{text_in(source, 'media_type', field)};base64,{text_in(source, 'data', field)}"


def _document(block: dict[str, Any], field: str, losses: Losses) -> list[Part]:
    """A document; its title and its context are told before it, but the title of a file is the file's name."""
    lose_options(block, ("source", "title", "context"), losses)
    source, place = object_in(block, "source", field), f"{field}.source"
    title, context = ([text_in(block, name, field)] if is_set(block.get(name)) else [] for name in ("title", "context"))
    sort = source.get("type")
    if sort == "base64":
        lose_options(source, ("media_type", "data"), losses)
        file = {"filename": title[0] if title else "document.pdf", "file_data": _data_url(source, place)}
        return [*map(text_part, context), {"type": "file", "file": file}]
    if sort == "text":
        lose_options(source, ("media_type", "data"), losses)
        return [text_part("\n".join([*title, *context, text_in(source, "data", place)]))]
    if sort == "content":
        lose_options(source, ("content",), losses)
        content = parts_of(source.get("content"), f"{place}.content", losses)
        return [*map(text_part, [*title, *context]), *content]
    raise unsupported(f"{place}.type", "must be `base64`, `text` or `content`: this backend cannot fetch the document")


def _search_result(block: dict[str, Any], field: str, losses: Losses) -> list[Part]:
    lose_options(block, ("source", "title", "content"), losses)
    texts, others = split(parts_of(block.get("content"), f"{field}.content", losses))
    head = [text_in(block, name, field) for name in ("title", "source")]
    return [text_part("\n".join([*head, *texts])), *others]


def _tool_reference(block: dict[str, Any], field: str, losses: Losses) -> list[Part]:
    """A tool that a search has found: all tools are offered from the beginning, so its name is all there is to say."""
    lose_options(block, ("tool_name",), losses)
    return [text_part(text_in(block, "tool_name", field))]


def _compaction(block: dict[str, Any], field: str, losses: Losses) -> list[Part]:
    """What a conversation was compacted to, where that is a text."""
    if not isinstance(block.get("content"), str):
        losses.add("content.compaction")
        return []
    lose_options(block, ("content",), losses)
    return [text_part(block["content"])]


def _unknown(block: dict[str, Any], losses: Losses) -> list[Part]:
    sort = str(block.get("type"))
    if is_hosted(sort):
        losses.add("content.hosted")
        return []
    if isinstance(block.get("text"), str):
        lose_options(block, ("text",), losses)
        return [text_part(block["text"])]
    losses.add("content.unknown")
    return []


def is_hosted(sort: str) -> bool:
    """Whether blocks of this type are about tools that Anthropic runs itself."""
    return sort.endswith(("_tool_result", "_tool_use")) or sort in ("server_tool_use", "container_upload")


_READERS: Mapping[str, Callable[[dict[str, Any], str, Losses], list[Part]]] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "search_result": _search_result,
    "tool_reference": _tool_reference,
    "compaction": _compaction,
}
