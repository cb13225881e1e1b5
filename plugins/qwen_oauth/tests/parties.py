"""Processes that share one credential file, for `test_processes`: llmgates, a Qwen CLI, and one that only looks.

Run as a script it loads everything once, then forks one party for each order, a JSON object in a line of its input.
A party connects to `control`, says its process id, and answers each line that it gets with a line.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import signal
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

from llmgate_core import ConnectorError, HttpClient, HttpReply, Instance
from llmgate_core.credentials import SingleFlight
from llmgate_core.upstream import Timeouts, Upstream
from llmgate_qwen_oauth.credentials import QwenCredentials
from llmgate_qwen_oauth.settings import QwenSettings

CLI_STEP_SECONDS = 0.001
"""Between two steps of the CLI there is at most this: its file operations are asynchronous."""


class Marked:
    """An HTTP client whose requests say which process they come from."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, content: bytes = b""
    ) -> HttpReply:
        marked = {**(headers or {}), "x-party": str(os.getpid())}
        return await self._client.send(method, url, headers=marked, content=content)


SLOW_SECONDS = 0.003


def slow_down(source: random.Random) -> None:
    """Makes the moments long in which two processes can get in each other's way, and in which one can be killed."""
    for name in ("rename", "link"):
        setattr(os, name, slowed(getattr(os, name), source))


def slowed(call: Callable[..., Any], source: random.Random) -> Callable[..., Any]:
    def slow(*args: Any, **options: Any) -> Any:
        time.sleep(source.uniform(0, SLOW_SECONDS))
        result = call(*args, **options)
        if str(args[1]).endswith(".taken"):
            leave_evidence(Path(args[1]))
        time.sleep(source.uniform(0, SLOW_SECONDS))
        return result

    return slow


def leave_evidence(taken: Path) -> None:
    """A second name for a lock that an llmgate has in its hands: it may be killed before it has put it back."""
    evidence = taken.with_name(f"oauth_creds.lock.taken.{uuid.uuid4()}")
    evidence.write_bytes(taken.read_bytes())


class Llmgate:
    """The plugin's own provider as the gateway runs it: three requests at once share one call."""

    def __init__(self, order: Mapping[str, Any], http: HttpClient) -> None:
        slow_down(random.Random(order["seed"]))
        path = Path(order["path"])
        settings = QwenSettings(credentials_path=path, oauth_base_url=order["issuer"])
        instance = Instance(
            name="qwen-oauth.default",
            settings=settings,
            http=http,
            clock=time.time,
            random=random.Random(order["seed"]),
            environ={},
            home=path.parent,
            logger=logging.getLogger("party"),
            sleep=self._wait,
        )
        self._waited = 0.0
        provider = QwenCredentials(instance, settings, stale_seconds=order["stale"])
        self._flight = SingleFlight(provider)

    async def _wait(self, seconds: float) -> None:
        self._waited += seconds
        await asyncio.sleep(seconds)

    async def get(self) -> dict[str, Any]:
        self._waited = 0.0
        try:
            first, *others = await asyncio.gather(*(self._flight.get() for _ in range(3)))
        except ConnectorError as error:
            return {"error": error.kind, "message": error.message, "waited": self._waited}
        assert all(other == first for other in others)
        return {"token": first.headers["authorization"].removeprefix("Bearer "), "waited": self._waited}


class QwenCli:
    """The Qwen CLI's steps as they are documented, its weaknesses included.

    It breaks a stale lock by renaming whatever lies there, gives a lock back without looking whose it is, and deletes
    the credential file when its refresh token is refused. What it did is in the answer, under `events`.
    """

    def __init__(self, order: Mapping[str, Any], http: HttpClient) -> None:
        self._http = http
        self._issuer = order["issuer"]
        self._path = Path(order["path"])
        self._lock = self._path.with_name("oauth_creds.lock")
        self._stale = float(order["stale"])
        self._random = random.Random(order["seed"])
        self._events: list[list[str]] = []

    async def get(self) -> dict[str, Any]:
        self._events = []
        try:
            return {"token": await self._token(), "events": self._events}
        except (OSError, ValueError, ConnectorError) as error:
            return {"error": type(error).__name__, "message": str(error), "events": self._events}

    async def _token(self) -> str:
        found = self._valid()
        if found is not None:
            return found
        mine = await self._acquire()
        try:
            await self._step()
            return self._valid() or await self._refresh()
        finally:
            await self._step()
            self._release(mine)

    def _read(self) -> dict[str, Any]:
        fields: dict[str, Any] = json.loads(self._path.read_bytes())
        return fields

    def _valid(self) -> str | None:
        fields = self._read()
        return str(fields["access_token"]) if time.time() * 1000 < fields["expiry_date"] - 30_000 else None

    async def _acquire(self) -> str:
        mine, wait = lock_id(os.getpid(), self._random), 0.002  # a fiftieth of its own, as is the longest
        for _ in range(20):
            try:
                with os.fdopen(os.open(self._lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "w") as file:
                    file.write(mine)
                return mine
            except FileExistsError:
                if not await self._break_stale():
                    await asyncio.sleep(wait)
                    wait = min(wait * 1.5, 0.04)
        raise ValueError("LOCK_TIMEOUT")

    async def _break_stale(self) -> bool:
        """Renames what lies there, without a second look; the looks here are for the report alone.

        A lock that may have been somebody's stays, as evidence: who took it may be killed before he can say so.
        """
        try:
            judged, modified = self._lock.read_text(), self._lock.stat().st_mtime
            if time.time() - modified <= self._stale:
                return False
            await self._step()
            aside = self._lock.with_name(f"oauth_creds.lock.stale.{uuid.uuid4()}")
            self._lock.rename(aside)
        except FileNotFoundError:
            return True
        if judged and aside.read_text() == judged:
            aside.unlink()
        else:  # another's, or one whose owner had not come to write his name
            aside.rename(self._lock.with_name(f"oauth_creds.lock.live.{uuid.uuid4()}"))
        return True

    def _release(self, mine: str) -> None:
        try:
            if (there := self._lock.read_text()) != mine:
                self._events.append(["released the lock of another", there])
            self._lock.unlink()
        except FileNotFoundError:
            self._events.append(["had lost its lock", mine])

    async def _refresh(self) -> str:
        fields = self._read()
        form = {"grant_type": "refresh_token", "refresh_token": fields["refresh_token"], "client_id": CLIENT_ID}
        headers = {"content-type": "application/x-www-form-urlencoded"}
        url = f"{self._issuer}/api/v1/oauth2/token"
        reply = await self._http.send("POST", url, headers=headers, content=urlencode(form).encode())
        body = await reply.read()
        if reply.status in (400, 401):
            self._events.append(["deleted the file", self._read()["refresh_token"]])
            self._path.unlink()
            raise ValueError("REFRESH_FAILED")
        brought = json.loads(body)
        kept = {name: brought[name] for name in ("access_token", "refresh_token", "token_type", "resource_url")}
        await self._write({**kept, "expiry_date": int((time.time() + brought["expires_in"]) * 1000)})
        return str(brought["access_token"])

    async def _write(self, fields: Mapping[str, Any]) -> None:
        temporary = self._path.with_name(f"oauth_creds.json.tmp.{uuid.uuid4()}")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(fields, file, indent=2)
        await self._step()
        temporary.rename(self._path)

    async def _step(self) -> None:
        await asyncio.sleep(self._random.uniform(0, CLI_STEP_SECONDS))


CLIENT_ID = "f0304373b74a44d2b584a3fb70ca9e56"


def lock_id(pid: int, source: random.Random) -> str:
    """A UUID that tells a test whose it is: the process id in front, the rest random."""
    return str(uuid.UUID(int=(pid << 96) | source.getrandbits(96)))


class Watcher:
    """Reads the file all the time; answers what stood in it since the last time it was asked, in order."""

    def __init__(self, order: Mapping[str, Any], http: HttpClient) -> None:
        self._path = Path(order["path"])
        self._seen: list[str] = []
        self._task = asyncio.create_task(self._watch())

    async def get(self) -> dict[str, Any]:
        self._look()
        seen, self._seen = self._seen, []
        return {"seen": seen}

    async def _watch(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(0.0005)

    def _look(self) -> None:
        try:
            found = json.loads(self._path.read_bytes())["refresh_token"]
        except FileNotFoundError:
            found = "MISSING"
        except (ValueError, KeyError):
            found = "TORN"
        if self._seen[-1:] != [found]:
            self._seen.append(found)


class Role(Protocol):
    async def get(self) -> dict[str, Any]: ...


Make = Callable[[Mapping[str, Any], HttpClient], Role]
ROLES: dict[str, Make] = {
    "llmgate": Llmgate,
    "cli": QwenCli,
    "watcher": Watcher,
}


async def serve(order: Mapping[str, Any]) -> None:
    """One party's life: until the other end hangs up, or the process is killed."""
    upstream = Upstream({})
    reader, writer = await asyncio.open_connection("127.0.0.1", order["control"])
    party = ROLES[order["role"]](order, Marked(upstream.client(Timeouts())))
    writer.write(json.dumps({"pid": os.getpid(), "order": order["number"]}).encode() + b"\n")
    while await reader.readline():
        began = time.monotonic()
        answer = await party.get()
        answer["seconds"] = time.monotonic() - began
        writer.write(json.dumps(answer).encode() + b"\n")
    await upstream.aclose()


def main() -> None:
    """Forks a party for each order; the kernel buries the dead ones."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        if os.fork() == 0:
            asyncio.run(serve(json.loads(line)))
            os._exit(0)


if __name__ == "__main__":
    main()
