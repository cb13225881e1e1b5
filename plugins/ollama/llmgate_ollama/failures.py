"""What Ollama's refusals mean, before an answer and inside of it. Pure functions.

Sources: docs/api/errors.mdx in github.com/ollama/ollama; `model 'NAME' not found` and, in older versions,
`model "NAME" not found, try pulling it first` with 404, as its users have published them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from llmgate_core import ConnectorError, upstream_error

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}")


def classify(model: str, status: int, headers: Mapping[str, str], body: bytes, now: float) -> ConnectorError:
    """An answer other than 2xx; a model that is not there is told with the command that gets it."""
    error = upstream_error(status, headers, body, now)
    if error.kind == "not_found" and "model" in error.message.lower():
        # Only what is a model's name: somebody may copy the command into a shell.
        name = model if _NAME.fullmatch(model) else "MODEL"
        error.code = "model_not_found"
        error.message += f"; get it with `ollama pull {name}`, or see what is there with `ollama list`"
    return error


def reported(body: bytes, now: float) -> ConnectorError:
    """A failure inside a success, where Ollama cannot change the status any more."""
    error = upstream_error(500, {}, body, now)
    error.status = None  # nobody has answered with it
    return error
