"""Whether the provider refuses even new tokens, as it does since its free tier ended: pure, told what happens."""

from __future__ import annotations

import math
from collections.abc import Callable

JUST_ISSUED_SECONDS = 60.0


class Tier:
    """Tells a token that was revoked, where a refresh helps, from a tier that is dead, where none does.

    A token that the API has never accepted and that is refused a moment after its issue is the sign. It then holds for
    all tokens for a while: with other gateways on the same file, each would else refresh what another has just brought.

    Args:
        clock: Unix time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._newest, self._issued_at = "", -math.inf
        self._accepted = False
        self._dead_until = -math.inf

    def issued(self, token: str, when: float) -> None:
        """A token that was not known before was issued at `when`, Unix time in seconds, to us or to others."""
        if token != self._newest:
            self._newest, self._issued_at, self._accepted = token, when, False

    def accepted(self, token: str) -> None:
        """The API has answered a request with this token."""
        self._dead_until = -math.inf
        self._accepted = self._accepted or token == self._newest

    def is_dead(self, refused: str, expires_at: float | None) -> bool:
        """Whether the 401 to the token `refused` is one that no other token would cure.

        Args:
            expires_at: that token's end, Unix time in seconds; one that has ended says nothing of the tier.
        """
        now = self._clock()
        if expires_at is not None and now >= expires_at:
            return False
        # A file's time may lie ahead of our clock, as on a network drive.
        if refused == self._newest and not self._accepted and abs(now - self._issued_at) < JUST_ISSUED_SECONDS:
            self._dead_until = now + JUST_ISSUED_SECONDS
        return now < self._dead_until
