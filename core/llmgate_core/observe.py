"""What the gateway tells about itself: log format, one access line per request, secrets struck out of all of it."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from typing import IO, Any

from .request import RequestRecord
from .secret import SHORTEST_SECRET, STRUCK

access_logger = logging.getLogger("llmgate.access")

# Characters of a caller's or an upstream's text that one log line may hold.
MOST_SHOWN = 500


class Redactor:
    """Knows the secrets that are alive, and strikes them out of texts.

    The newest `keep` are remembered: tokens rotate, and a gateway runs for months. Several threads may use it.
    """

    def __init__(self, keep: int = 1024) -> None:
        self._secrets: dict[str, None] = {}
        self._keep = keep
        self._lock = threading.Lock()

    def learn(self, secrets: Iterable[str]) -> None:
        """From now on these are struck out."""
        with self._lock:
            for secret in secrets:
                if len(secret) >= SHORTEST_SECRET and secret not in self._secrets:
                    self._secrets[secret] = None
                    if len(self._secrets) > self._keep:
                        del self._secrets[next(iter(self._secrets))]

    def strike(self, text: str) -> str:
        """`text` without any secret that was learned."""
        with self._lock:
            known = tuple(self._secrets)
        # Longest first: `Bearer abc...` before `abc...`, and no secret survives as the rest of another.
        for secret in sorted((s for s in known if s in text), key=len, reverse=True):
            text = text.replace(secret, STRUCK)
        return text


class TextFormatter(logging.Formatter):
    """`2026-11-22 10:00:00.123 INFO access ...`, for people."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__("%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S")
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """One line, or several where there is a traceback."""
        return self._redactor.strike(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """The line without its traceback. What an upstream or a caller wrote must not be able to forge another."""
        if not record.message.isprintable():
            signs = (sign if sign.isprintable() else ascii(sign)[1:-1] for sign in record.message)
            record.message = "".join(signs)
        return super().formatMessage(record)


class JsonFormatter(logging.Formatter):
    """One JSON object a line, for machines. The access line brings its parts as members."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        shown: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        parts = getattr(record, "parts", None)
        shown.update(parts if parts else {"message": record.getMessage()})
        if record.exc_info:
            shown["traceback"] = self.formatException(record.exc_info)
        # Struck out before it is JSON: a quotation mark in a secret looks different in there.
        return _json({name: v if isinstance(v, int) else self._redactor.strike(str(v)) for name, v in shown.items()})


class Handler(logging.StreamHandler[IO[str]]):
    """Writes lines, until nobody reads them any more."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        """To complain of a stream that is closed, on the same stream, for every line, helps nobody."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def configure(level: str, style: str, redactor: Redactor, stream: IO[str] | None = None) -> None:
    """Sends the log of `llmgate.*` at `level` (debug, info, warning, error) to `stream`, standard error by default."""
    handler = Handler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(redactor) if style == "json" else TextFormatter(redactor))
    root = logging.getLogger("llmgate")
    root.handlers = [handler]
    root.propagate = False
    root.setLevel(level.upper())
    # What libraries say is worth hearing only when it is bad, and passes through the same redaction.
    others = logging.getLogger()
    others.handlers = [handler]
    others.setLevel(logging.WARNING)


def access_parts(record: RequestRecord) -> dict[str, Any]:
    """What the access line says of one request, in order; empty parts left out."""
    last = record.served_by or (record.attempts[-1] if record.attempts else None)
    prompt, completion = counted(record.usage or {})
    parts: dict[str, Any] = {
        "client": record.client,
        "method": record.method,
        "path": record.path,
        "status": record.status,
        "outcome": record.outcome,
        "ms": round(record.seconds * 1000),
        "ttfb_ms": round(record.first_byte_seconds * 1000) if record.first_byte_seconds is not None else None,
        "in": record.bytes_in,
        "out": record.bytes_out,
        "caller": record.caller,
        "model": record.selector[:MOST_SHOWN],
        "stream": record.stream or None,
        "backend": last.backend if last else None,
        "attempts": len(record.attempts) or None,
        "upstream_id": last.upstream_request_id if last else None,
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "error": record.error[:MOST_SHOWN],
        "id": record.id,
    }
    return {name: value for name, value in parts.items() if value is not None and value != ""}


_CACHED = ("cache_read_input_tokens", "cache_creation_input_tokens")


def counted(usage: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Tokens of the prompt, cached ones included, and of the answer, by the `usage` of any dialect.

    Anthropic counts cached tokens apart from `input_tokens`; OpenAI includes them in it, and names them differently.
    """
    prompt = usage.get("prompt_tokens", usage.get("input_tokens"))
    if isinstance(prompt, int):
        prompt += sum(count for name in _CACHED if isinstance(count := usage.get(name), int))
    return prompt, usage.get("completion_tokens", usage.get("output_tokens"))


def log_access(record: RequestRecord) -> None:
    """One line for one request, whatever became of it."""
    if not access_logger.isEnabledFor(logging.INFO):
        return
    parts = access_parts(record)
    access_logger.info(" ".join(f"{name}={_shown(value)}" for name, value in parts.items()), extra={"parts": parts})


def _shown(value: Any) -> str:
    """A value on one line: what a caller wrote must not be able to forge a line or a field."""
    text = str(value)
    if text and text.isprintable() and not any(sign in text for sign in ' "=\\'):
        return text
    return _json(text)


def _json(value: Any) -> str:
    """JSON on one line, readable where that is harmless; escaped where it holds what a terminal would act upon."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if text.isprintable() else json.dumps(value, default=str)
