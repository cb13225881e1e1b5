"""The gateway's own HTTP client, for the `Instance` that a test builds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..connectors import HttpClient
from ..upstream import Timeouts, Upstream


@asynccontextmanager
async def http_client(seconds: float = 30.0) -> AsyncIterator[HttpClient]:
    """The client that connectors get in a gateway: `async with http_client() as http: ...`. It uses no proxy.

    Args:
        seconds: how long one request may take altogether; longer is a ConnectorError of kind `timeout`.
    """
    upstream = Upstream({})
    try:
        yield upstream.client(Timeouts(total=seconds))
    finally:
        await upstream.aclose()
