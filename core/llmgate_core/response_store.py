"""What callers of the Responses API may continue: conversations by the id of their last response, in memory.

OpenAI keeps responses for 30 days; here a gateway keeps as many as fit and forgets the rest, the least recently used
ones first. Their items may be referred to, too. A caller who wants to be independent of that sends `store: false` and
its whole input each time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .errors import RequestError
from .wire import decode, encode

MAX_COUNT = 1000
MAX_BYTES = 64 * 1024 * 1024


class _Kept(NamedTuple):
    """The JSON of a conversation and of its last response, and the ids of its items."""

    data: bytes
    response: bytes
    ids: tuple[str, ...]

    @property
    def size(self) -> int:
        return len(self.data) + len(self.response)


_NOTHING = _Kept(b"", b"", ())


class ResponseStore:
    """Conversations, bounded by their number and by the bytes of their JSON.

    A conversation is the items of a response's whole input and of its output. Its `instructions` are none of them:
    they are not carried over to the next response (OpenAI's API reference, `previous_response_id`).

    Args:
        max_count: conversations that are kept; 0 keeps none.
        max_bytes: what they may take together; one that is larger alone is not kept.
    """

    def __init__(self, max_count: int = MAX_COUNT, max_bytes: int = MAX_BYTES) -> None:
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._kept: OrderedDict[tuple[str | None, str], _Kept] = OrderedDict()  # the most recently used last
        self._homes: dict[tuple[str | None, str], str] = {}  # an item's caller and id: the response that has it
        self._size = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size(self) -> int:
        """Bytes of all that is kept."""
        return self._size

    def put(self, response: Mapping[str, Any], caller: str | None, given: Sequence[dict[str, Any]]) -> None:
        """Keeps a conversation under the id of its last response; what does not fit any more is forgotten.

        Args:
            response: with its `id` and its `output`.
            caller: the name of the caller's key, None where no key is asked for. Only this caller may continue.
            given: the items of its whole input.
        """
        id = response["id"]
        self.forget(id, caller)
        items = [*given, *response["output"]]
        kept = _Kept(encode(items), encode(dict(response)), tuple(_ids(items)))
        if kept.size > self._max_bytes or self._max_count < 1:
            return
        self._kept[caller, id] = kept
        self._size += kept.size
        self._homes.update({(caller, item): id for item in kept.ids})
        while len(self._kept) > self._max_count or self._size > self._max_bytes:
            caller, id = next(iter(self._kept))
            self.forget(id, caller)

    def get(self, id: str, caller: str | None) -> list[dict[str, Any]]:
        """The items of a conversation; the caller may do with them as it likes.

        Raises:
            RequestError: 400 `previous_response_not_found`; it is unknown, forgotten, or another caller's.
        """
        kept = self._used(id, caller)
        if kept is None:
            raise RequestError(
                f"Previous response with id '{id[:100]}' not found. [llmgate: it keeps the latest responses only, in "
                "memory and for the caller who asked for them; send the whole conversation in `input`]",
                code="previous_response_not_found",
                param="previous_response_id",
            )
        items: list[dict[str, Any]] = decode(kept.data)
        return items

    def response(self, id: str, caller: str | None) -> bytes | None:
        """The JSON of a response as its caller has got it; None where `get` would raise."""
        kept = self._used(id, caller)
        return kept.response if kept is not None else None

    def _used(self, id: str, caller: str | None) -> _Kept | None:
        kept = self._kept.get((caller, id))
        if kept is not None:
            self._kept.move_to_end((caller, id))
        return kept

    def resolved(self, items: Sequence[dict[str, Any]], caller: str | None) -> list[dict[str, Any]]:
        """The items, with each `item_reference` replaced by the item that it names; one that is unknown stays.

        Clients that trust in `store: true` refer to earlier items instead of sending them: Vercel's AI SDK does by
        default (@ai-sdk/openai 4.0.118).
        """
        asked = {(caller, item["id"]) for item in items if _is_reference(item)}
        homes = {self._homes[name] for name in asked if name in self._homes}
        named = {item["id"]: item for home in sorted(homes) for item in self.get(home, caller) if _has_name(item)}
        return [named.get(item["id"], item) if _is_reference(item) else item for item in items]

    def forget(self, id: str, caller: str | None) -> bool:
        """Whether it was there; now it is not."""
        kept = self._kept.pop((caller, id), _NOTHING)
        self._size -= kept.size
        for item in kept.ids:
            if self._homes.get((caller, item)) == id:
                del self._homes[caller, item]
        return kept is not _NOTHING


def _ids(items: Sequence[Mapping[str, Any]]) -> list[str]:
    return [item["id"] for item in items if _has_name(item)]


def _has_name(item: Mapping[str, Any]) -> bool:
    return isinstance(item.get("id"), str) and not _is_reference(item)


def _is_reference(item: Mapping[str, Any]) -> bool:
    """Whether an item only names another one; its type may be left out (OpenAI's API reference)."""
    is_one = item.get("type") == "item_reference" or (item.get("type") is None and "role" not in item)
    return is_one and isinstance(item.get("id"), str)
