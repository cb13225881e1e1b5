"""One dialect said in another: the caller's over the upstream's, request there, answer and stream back.

Modules are called `messages_over_chat`: the caller's dialect over the upstream's. All pure: values in, values out.
Where neither is OpenAI chat, two of them are put behind each other.
"""

from __future__ import annotations

from typing import Protocol

from ..sse import Event
from ..wire import Body

LOST_HEADER = "x-llmgate-lost"
"""The response header that names what a translation could not carry."""


class StreamTranslation(Protocol):
    """One stream on its way to the caller: the upstream's events in, bytes of the caller's events out.

    A state machine without I/O. What it keeps is bounded by what the caller has to be told again at the end.
    """

    def feed(self, event: Event) -> bytes:
        """What the caller is told of an event; often nothing.

        Raises:
            ConnectorError: it reports a failure, or is none of this dialect; `failed` says the rest.
        """

    def end(self) -> bytes:
        """What remains to be said when the upstream's stream has come to its end.

        Raises:
            ConnectorError: kind `protocol`, the answer was not complete; `failed` says the rest.
        """

    def failed(self, error: Exception, *, context: str = "", request_id: str = "") -> bytes:
        """The end of a stream that broke off: the error in the caller's dialect, and whatever is open closed.

        Args:
            error: as in `error_event` of the caller's dialect.
            context: what the gateway adds to its message.
            request_id: ours, `req_...`, for a dialect that tells it in the body.
        """


class Translation(Protocol):
    """One request in the upstream's dialect, and the way back for its answer; made for each request.

    Attributes:
        body: the request as the upstream's dialect has it.
        lost: what the request holds and that dialect cannot say, by the names in the module's `LOSSES`, each once.
    """

    @property
    def body(self) -> Body:
        """See the class."""

    @property
    def lost(self) -> tuple[str, ...]:
        """See the class."""

    def reply(self, data: bytes) -> bytes:
        """A whole plain answer of the upstream's as the caller's dialect has it.

        Raises:
            ConnectorError: kind `protocol`, it is no such answer; or the failure that it reports.
        """

    def stream(self) -> StreamTranslation:
        """The way back for a stream."""
