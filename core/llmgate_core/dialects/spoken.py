"""What a dialect's module has to say, so that core can treat all of them alike; and which module speaks which."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import ConnectorError
from ..wire import Body


@dataclass(frozen=True)
class ReadRequest:
    """A body that is fit to be routed. `selector` is the text in `model`."""

    body: Body
    selector: str
    stream: bool


@dataclass(frozen=True)
class ErrorAnswer:
    """A whole HTTP answer: header names in lower case, `body` as it is sent."""

    status: int
    headers: dict[str, str]
    body: bytes


class Watch(Protocol):
    """Watches a stream that passes; `feed` it every chunk, cut anywhere. Everything is as of the last complete line.

    Attributes:
        finished: the answer has come to its end.
        done: the stream's last word has passed, after which nothing counts.
        error: an error frame has passed.
        meaningful: content, reasoning, a tool call or the end has passed.
        at_boundary: the last event is complete, so that another one may be appended.
        usage: the upstream's own object, None if there was none.
        next_sequence_number: of the event that would follow, 0 where events have none.
    """

    finished: bool
    done: bool
    error: bool
    meaningful: bool

    @property
    def at_boundary(self) -> bool:
        """See the class."""

    @property
    def next_sequence_number(self) -> int:
        """See the class."""

    @property
    def usage(self) -> dict[str, Any] | None:
        """See the class."""

    def feed(self, chunk: bytes) -> None:
        """Takes note of one chunk."""


class Spoken(Protocol):
    """A dialect: pure functions about its bodies. The docstrings of `chat` say more."""

    @property
    def DIALECT(self) -> str:  # noqa: N802 - a module's constant
        """Its name."""

    @property
    def StreamWatch(self) -> Callable[[], Watch]:  # noqa: N802 - a module's class
        """Watches one stream."""

    @property
    def has_no_place(self) -> Collection[str]:
        """Names of parameters that no body of this dialect can hold."""

    @property
    def params(self) -> Callable[[Body, Iterable[str]], dict[str, Any]]:
        """The parameters that the caller set, by the names that selectors use; besides, those that are named."""

    @property
    def placed(self) -> Callable[[Mapping[str, Any], Body, Collection[str]], dict[str, Any]]:
        """The members to change, so that a body has these parameters; without the names that the model refuses."""

    @property
    def passed(self) -> Callable[[Body], Body]:
        """A caller's own body without what only the gateway can have put there; mostly the same."""

    @property
    def read_reply(self) -> Callable[[bytes], dict[str, Any] | None]:
        """The usage of a plain answer; raises ConnectorError for what is no answer."""

    @property
    def first_event_error(self) -> Callable[[bytes], ConnectorError | None]:
        """The failure with which a stream begins, None where it does not."""

    def error_answer(self, error: BaseException, *, context: str = "", request_id: str = "") -> ErrorAnswer:
        """How a failure is told to a caller who has received nothing yet."""

    def error_event(
        self, error: BaseException, *, context: str = "", request_id: str = "", sequence_number: int = 0
    ) -> bytes:
        """The same for a stream that has begun: its end. A dialect whose events have no numbers passes over theirs."""
