"""Where a secret is: a value that can be passed about, compared and printed without showing the secret."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path

from .errors import GatewayError

STRUCK = "[secret]"
SHORTEST_SECRET = 8
"""A shorter text (`none`, `dummy`) is no credible secret, and striking it out would garble ordinary words."""


def strike(data: bytes, secrets: Iterable[str]) -> bytes:
    """`data` without these secrets; the longest first, so that none survives as the rest of another."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= SHORTEST_SECRET:
            data = data.replace(secret.encode(), STRUCK.encode())
    return data


class Striker:
    """Strikes secrets out of bytes that pass in pieces, cut anywhere.

    What may turn out to be the beginning of a secret is held back until the next piece has come. Secrets hold no line
    break, so that nothing is held back that ends with one: no event of a stream is late.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        known = {secret.encode() for secret in secrets if len(secret) >= SHORTEST_SECRET}
        self._secrets = sorted(known, key=len, reverse=True)
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        """What can go on."""
        data, self._held = self._held + piece, b""
        for secret in self._secrets:
            if secret in data:
                data = data.replace(secret, STRUCK.encode())
        if data.endswith(b"\n"):
            return data
        size = max((self._overlap(data, secret) for secret in self._secrets), default=0)
        data, self._held = (data[:-size], data[-size:]) if size else (data, b"")
        return data

    def end(self) -> bytes:
        """What was held back, once no more is expected: it is no secret, but may be most of one."""
        held, self._held = self._held, b""
        return held if len(held) < SHORTEST_SECRET else STRUCK.encode()

    @staticmethod
    def _overlap(data: bytes, secret: bytes) -> int:
        """How many bytes at the end of `data` are the beginning of `secret`."""
        longest = min(len(data), len(secret) - 1)
        return next((size for size in range(longest, 0, -1) if data.endswith(secret[:size])), 0)


class MissingSecret(GatewayError):  # noqa: N818 - it reads as what it is
    """A secret is not where the configuration says. The message says where, and what to do next."""


_MISSPELT_REFERENCE = re.compile(r"\$[A-Z_][A-Z0-9_]*|\$\{[A-Za-z_][A-Za-z0-9_]*\}|env:.*|file:.*", re.IGNORECASE)


class Secret:
    """Where a secret is: `env:NAME`, `file:PATH`, or the value itself. It never shows a value by accident.

    Raises:
        ValueError: nothing usable follows `env:` or `file:`. The text is not repeated.
    """

    __slots__ = ("_place", "_scheme")

    def __init__(self, text: str) -> None:
        scheme, colon, place = text.partition(":")
        self._scheme, self._place = (scheme, place) if colon and scheme in ("env", "file") else ("", text)
        # A key pasted behind `env:` must not be shown as if it were a name.
        if self._scheme == "env" and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", place):
            raise ValueError("what follows `env:` must be the name of an environment variable")
        if self._scheme == "file" and (not place.strip() or not place.isprintable()):
            raise ValueError("what follows `file:` must be a path")

    @property
    def is_plain(self) -> bool:
        """Whether the value itself stands in the configuration."""
        return not self._scheme

    @property
    def variable(self) -> str | None:
        """The environment variable that it is in, None where it is in none."""
        return self._place if self._scheme == "env" else None

    @property
    def label(self) -> str:
        """Words for logs and messages that say where the secret is."""
        names = {"env": f"environment variable `{self._place}`", "file": f"file `{self._place}`"}
        return names.get(self._scheme, "the configuration")

    def path(self, environ: Mapping[str, str]) -> Path | None:
        """The file that it is in, None where it is in none.

        Raises:
            MissingSecret: the path begins with `~/`, and there is no home folder.
        """
        return _expand(self._place, environ) if self._scheme == "file" else None

    def reveal(self, environ: Mapping[str, str]) -> str:
        """The value as it is now; files are read anew each time, without the newline at their end.

        Args:
            environ: where `env:` is looked up, and `HOME` for a path that begins with `~/`.

        Raises:
            MissingSecret: it is not set, not readable or empty.
        """
        if self._scheme == "env":
            return self._from_environment(environ)
        if self._scheme == "file":
            return self._from_file(environ)
        if not self._place:
            raise MissingSecret("the secret in the configuration is empty; write it, or `env:NAME` or `file:PATH`")
        return self._place

    @property
    def looks_like_reference(self) -> bool:
        """Whether a value that stands in the configuration itself was probably meant to say where one is."""
        return self.is_plain and bool(_MISSPELT_REFERENCE.fullmatch(self._place))

    def _from_environment(self, environ: Mapping[str, str]) -> str:
        value = environ.get(self._place)
        if value and (value := value.strip()):  # a line end from a file of variables is no part of it
            return value
        state = "is not set" if value is None else "is empty"
        raise MissingSecret(f"environment variable `{self._place}` {state}; set it, then restart")

    def _from_file(self, environ: Mapping[str, str]) -> str:
        try:
            value = _expand(self._place, environ).read_text(encoding="utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise MissingSecret(f"cannot read `{self._place}`: it is not UTF-8 text") from None
        except OSError as error:
            raise MissingSecret(f"cannot read `{self._place}`: {error.strerror or 'it failed'}") from None
        if not value:
            raise MissingSecret(f"file `{self._place}` is empty; write the secret into it")
        return value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and (self._scheme, self._place) == (other._scheme, other._place)

    def __hash__(self) -> int:
        return hash((self._scheme, self._place))

    def __repr__(self) -> str:
        return f"<Secret from {self.label}>"


def configured(settings: object) -> Iterator[Secret]:
    """Every Secret in decoded settings, however deep in dataclasses, sequences and mappings."""
    if isinstance(settings, Secret):
        yield settings
    elif is_dataclass(settings) and not isinstance(settings, type):
        yield from configured([getattr(settings, entry.name) for entry in fields(settings)])
    elif isinstance(settings, Mapping):
        yield from configured(list(settings.values()))
    elif isinstance(settings, list | tuple | set | frozenset):
        for one in settings:
            yield from configured(one)


def _expand(place: str, environ: Mapping[str, str]) -> Path:
    if not place.startswith("~/"):
        return Path(place)
    home = environ.get("HOME") or environ.get("USERPROFILE")
    if not home:
        raise MissingSecret(f"cannot read `{place}`: environment variable `HOME` is not set")
    return Path(home, place[2:])
