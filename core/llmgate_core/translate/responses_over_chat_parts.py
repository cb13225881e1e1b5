"""The parts of a message: text, images, files, audio and refusals of a Responses item as Chat Completions has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..dialects.requests import mistyped
from .losses import Losses, is_set, objects_in, text_in, unsupported

IMAGE_URL = "image_url"

_TEXTS = frozenset({"input_text", "output_text", "text", "summary_text", "reasoning_text"})
_TOLD = frozenset({"type", "text", "refusal", IMAGE_URL, "file_id", "file_data", "file_url", "filename", "input_audio"})


def parts_of(content: Any, field: str, losses: Losses) -> list[dict[str, Any]]:
    """The parts of a content, as chat has them.

    Raises:
        RequestError: it is no content, or a part cannot be said and the model would miss it.
    """
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if content is not None and not isinstance(content, list):
        raise mistyped(field, "a string or an array of objects")
    found = []
    for place, part in enumerate(objects_in(content, field)):
        _lose_options(part, losses)
        if (told := _part(part, f"{field}[{place}]")) is not None:
            found.append(told)
        else:
            losses.add("input.content")
    return found


def _part(part: Mapping[str, Any], field: str) -> dict[str, Any] | None:
    sort = str(part.get("type"))
    if sort in _TEXTS:
        return {"type": "text", "text": text_in(part, "text", field)}
    if sort == "refusal":
        return {"type": "refusal", "refusal": text_in(part, "refusal", field)}
    if sort == "input_image":
        return _image(part, field)
    if sort == "input_file":
        return _file(part, field)
    if sort == "input_audio" and isinstance(part.get("input_audio"), dict):
        return {"type": "input_audio", "input_audio": part["input_audio"]}
    text = part.get("text")
    return {"type": "text", "text": text} if isinstance(text, str) else None


def _image(part: Mapping[str, Any], field: str) -> dict[str, Any]:
    if part.get(IMAGE_URL) is None and part.get("file_id") is not None:
        raise unsupported(f"{field}.file_id", "names an image that this backend cannot read; send it as `image_url`")
    url = {"url": text_in(part, IMAGE_URL, field)}
    detail = part.get("detail")
    return {"type": IMAGE_URL, IMAGE_URL: {**url, "detail": detail} if isinstance(detail, str) else url}


def _file(part: Mapping[str, Any], field: str) -> dict[str, Any]:
    told = {name: part[name] for name in ("file_id", "file_data", "filename") if part.get(name) is not None}
    if not told.keys() & {"file_id", "file_data"}:
        if part.get("file_url") is not None:
            raise unsupported(f"{field}.file_url", "cannot be fetched on the way; send the file as `file_data`")
        raise mistyped(f"{field}.file_data", "a string")
    return {"type": "file", "file": told}


def _lose_options(part: Mapping[str, Any], losses: Losses) -> None:
    if is_set(part.get("annotations")):
        losses.add("input.annotations")
    is_image = part.get("type") == "input_image"
    told = _TOLD | {"annotations", "logprobs"} | ({"detail"} if is_image else set())
    if any(is_set(value) for key, value in part.items() if key not in told):
        losses.add("input.options")


def collapsed(parts: list[dict[str, Any]], separator: str | None = None) -> Any:
    """A content as simply as it can be said: one text alone is a string, which every backend takes.

    Args:
        separator: stands between several texts that become one; without it they stay apart.
    """
    parts = [_as_input(part) for part in parts]
    is_text = all(part["type"] == "text" for part in parts)
    if is_text and (separator is not None or len(parts) < 2):
        return (separator or "").join(part["text"] for part in parts)
    return parts


def _as_input(part: dict[str, Any]) -> dict[str, Any]:
    """Only the assistant refuses; said by somebody else it is a text."""
    return {"type": "text", "text": part["refusal"]} if part["type"] == "refusal" else part


def text_of_parts(parts: list[dict[str, Any]]) -> str:
    """All text together: the answer of a model, which may have been given in pieces."""
    return "".join(part["text"] for part in parts if part["type"] == "text")


def split(parts: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """A tool's output in two: its text, and what is no text."""
    plain = [_as_input(part) for part in parts]
    return "\n".join(part["text"] for part in plain if part["type"] == "text"), [
        part for part in plain if part["type"] != "text"
    ]
