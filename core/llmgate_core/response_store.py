"""What callers of the Responses API may continue: conversations by the id of their last response, in memory.

OpenAI keeps responses for 30 days; here a gateway keeps as many as fit and forgets the rest, the least recently used
ones first. A caller who wants to be independent of that sends `store: false` and its whole input each time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from .errors import RequestError
from .wire import decode, encode

MAX_COUNT = 1000
MAX_BYTES = 64 * 1024 * 1024


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
        self._kept: OrderedDict[tuple[str | None, str], bytes] = OrderedDict()  # the most recently used last
        self._size = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size(self) -> int:
        """Bytes of all that is kept."""
        return self._size

    def put(self, id: str, caller: str | None, items: Sequence[dict[str, Any]]) -> None:
        """Keeps a conversation under the id of its last response; what does not fit any more is forgotten.

        Args:
            caller: the name of the caller's key, None where no key is asked for. Only this caller may continue.
        """
        self._forget(caller, id)
        data = encode(list(items))
        if len(data) > self._max_bytes or self._max_count < 1:
            return
        self._kept[caller, id] = data
        self._size += len(data)
        while len(self._kept) > self._max_count or self._size > self._max_bytes:
            self._size -= len(self._kept.popitem(last=False)[1])

    def get(self, id: str, caller: str | None) -> list[dict[str, Any]]:
        """The items of a conversation; the caller may do with them as it likes.

        Raises:
            RequestError: 400 `previous_response_not_found`; it is unknown, forgotten, or another caller's.
        """
        data = self._kept.get((caller, id))
        if data is None:
            raise RequestError(
                f"Previous response with id '{id[:100]}' not found. [llmgate: it keeps the latest responses only, in "
                "memory and for the caller who asked for them; send the whole conversation in `input`]",
                code="previous_response_not_found",
                param="previous_response_id",
            )
        self._kept.move_to_end((caller, id))
        items: list[dict[str, Any]] = decode(data)
        return items

    def _forget(self, caller: str | None, id: str) -> None:
        self._size -= len(self._kept.pop((caller, id), b""))
