"""The Qwen CLI's credential file: read, checked, and written so that a crash leaves a whole file, old or new."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmgate_core import write_private_file

FILE_NAME = "oauth_creds.json"


class Unusable(Exception):  # noqa: N818 - it says what the file is
    """The file holds no credentials that can be used; the text says why, without its content."""


class HalfWritten(Unusable):
    """The file is no JSON: damaged, or somebody is writing it at this moment, in place."""


@dataclass(frozen=True)
class Stored:
    """What the file says. `expires_at` is Unix time in seconds; the file itself has milliseconds.

    `fields` are all of its members, those that we do not know too.
    """

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    expires_at: float
    resource_url: str | None
    fields: Mapping[str, Any] = field(repr=False)

    def refreshed(self, reply: Mapping[str, Any], now: float) -> Stored:
        """The same with what a token reply brought; what the reply leaves out stays as it was.

        Raises:
            Unusable: the reply holds no access token.
        """
        brought = {name: value for name in TAKEN if isinstance(value := reply.get(name), str) and value}
        told = _number(reply.get("expires_in"))
        lifetime = told if told is not None and 1 <= told < CREDIBLE_SECONDS else UNKNOWN_SECONDS
        expiry = {"expiry_date": int((now + lifetime) * 1000)}
        if "access_token" not in brought:
            raise Unusable("it holds no `access_token`")
        return stored({**self.fields, **brought, **expiry})


TAKEN = ("access_token", "refresh_token", "token_type", "resource_url")
CREDIBLE_SECONDS = 1e9
"""Some thirty years; no token lives longer. None that is issued has ended within its first second either."""

UNKNOWN_SECONDS = 3600.0
"""The lifetime of a token whose reply does not tell a credible one."""


def default_path(environ: Mapping[str, str], home: Path) -> Path:
    """`$QWEN_HOME/oauth_creds.json`, else `~/.qwen/oauth_creds.json`."""
    folder = environ.get("QWEN_HOME")
    return (expanded(folder, home) if folder else home / ".qwen") / FILE_NAME


def expanded(path: str | Path, home: Path) -> Path:
    """`~` and relative paths made absolute."""
    text = str(path)
    if text == "~" or text.startswith(("~/", "~\\")):
        return home / text[2:]
    return Path(text).absolute()


def fingerprint(path: Path) -> tuple[int, ...] | None:
    """What changes when the file is replaced or written (time, size, inode); None where it cannot be looked at."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def read(path: Path) -> Stored:
    """The credentials in `path`.

    Raises:
        HalfWritten: it is not JSON.
        Unusable: missing, unreadable or incomplete.
    """
    try:
        fields = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise Unusable("there is no such file") from None
    except OSError as error:
        raise Unusable(f"it cannot be read ({(error.strerror or 'it failed').lower()})") from None
    except (ValueError, RecursionError):
        raise HalfWritten("it is not JSON, or only half of it") from None
    return stored(fields)


def stored(fields: Any) -> Stored:
    """The members of the file as credentials; raises Unusable."""
    if not isinstance(fields, dict):
        raise Unusable("it is not a JSON object")
    access, refresh = (_token(fields.get(name)) for name in ("access_token", "refresh_token"))
    expiry, resource = _number(fields.get("expiry_date")), fields.get("resource_url")
    if access is None:
        raise Unusable("it holds no `access_token`")
    if expiry is None:
        raise Unusable("its `expiry_date` is not a number")
    return Stored(
        access,
        refresh,
        expiry / 1000,
        resource if isinstance(resource, str) and resource.strip() else None,
        fields,
    )


def _token(value: Any) -> str | None:
    """A text that can travel in a header."""
    return value if isinstance(value, str) and value and value.isascii() and value.isprintable() else None


def _number(value: Any) -> float | None:
    """A finite number as a float; Python's JSON reader also lets through what no float holds, and infinities."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def write(path: Path, credentials: Stored) -> None:
    """Replaces the file in one step, mode 0600. Waits for the disk.

    Raises:
        OSError: it could not be written; the old file is untouched.
    """
    write_private_file(path, json.dumps(dict(credentials.fields), indent=2).encode())
