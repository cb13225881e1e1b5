"""Two translations behind each other, for dialects that meet in a third."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import ConnectorError
from ..sse import Event, Parser
from ..wire import Body
from . import StreamTranslation, Translation


class Relayed:
    """A translation into the hub, and one from the hub to the upstream's dialect.

    Args:
        near: from the caller's dialect into the hub.
        further: makes the one from there.
    """

    def __init__(self, near: Translation, further: Callable[[Body], Translation]) -> None:
        self._near = near
        self._far = further(near.body)

    @property
    def body(self) -> Body:
        """See `Translation`."""
        return self._far.body

    @property
    def lost(self) -> tuple[str, ...]:
        """See `Translation`."""
        return tuple(dict.fromkeys((*self._near.lost, *self._far.lost)))

    def reply(self, data: bytes) -> bytes:
        """See `Translation`."""
        return self._near.reply(self._far.reply(data))

    def stream(self) -> StreamTranslation:
        """See `Translation`."""
        return RelayedStream(self._near.stream(), self._far.stream())


class RelayedStream:
    """What the further one says, said by the nearer one."""

    def __init__(self, near: StreamTranslation, far: StreamTranslation) -> None:
        self._near = near
        self._far = far
        self._hub = Parser()

    def feed(self, event: Event) -> bytes:
        """See `StreamTranslation`."""
        return self._said(self._far.feed(event))

    def end(self) -> bytes:
        """See `StreamTranslation`."""
        return self._said(self._far.end()) + self._near.end()

    def failed(self, error: Exception, *, context: str = "", request_id: str = "") -> bytes:
        """See `StreamTranslation`."""
        return self._near.failed(error, context=context, request_id=request_id)

    def _said(self, data: bytes) -> bytes:
        try:
            return b"".join([self._near.feed(event) for event in self._hub.feed(data)])
        except ValueError as error:
            raise ConnectorError("protocol", str(error)) from None
