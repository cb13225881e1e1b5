"""Many processes, one credential file: real processes, killed at random, and an issuer that spends each token once.

Never two refreshes of one token, never a lost rotation, never a torn file, no wait as long as the stale time. What a
murder between the issuer's grant and the write costs, and what the Qwen CLI's own protocol allows, has a name, is
counted, and nothing else goes wrong. The seed is in every failure.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from llmgate_core import write_private_file
from llmgate_core.testing import LoopbackServer
from llmgate_qwen_oauth.simulator import QwenSimulator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="parties are forked")

PARTIES = Path(__file__).with_name("parties.py")
SEED = int(os.environ.get("LLMGATE_TEST_SEED", "20261128"))
ROUNDS = int(os.environ.get("LLMGATE_TEST_ROUNDS", "40"))
"""In forty, each sort of murder comes about several times; more look further, and take longer."""

PATIENCE = 60.0
"""Seconds after which a test that waits for a party gives up."""

SLACK_SECONDS = 1.0
"""What a busy machine may add to a wait."""

REFRESH_SECONDS = 0.004
LIVE_LOCK, DELETED = "took a live lock", "deleted the file"
IN_HANDS = "had its live lock taken by an llmgate, to be put back"

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


# --- what reaches the issuer ----------------------------------------------------------------------------------------


@dataclass
class Asked:
    """One question for new tokens. `brought` is the refresh token that was granted, None where it was refused."""

    token: str
    pid: int
    when: float
    brought: str | None = None


def nothing(asked: Asked) -> None:
    """Nobody is killed."""


class Ledger:
    """Stands before the issuer and writes down who asks what, and what is granted.

    Hooks: `lost` may kill the asker, and says whether his question gets lost on its way; `granted` may kill him before
    he hears the answer; `refused` is for the user, who logs in anew.
    """

    def __init__(self, issuer: str) -> None:
        self.asked: list[Asked] = []
        self.under_way = 0
        self.quiet = asyncio.Event()
        self.rank: dict[str, int] = {}
        self.lost: Callable[[Asked], bool] = lambda asked: False
        self.granted: Callable[[Asked], None] = nothing
        self.refused: Callable[[Asked], None] = nothing
        self._http = httpx.AsyncClient(base_url=issuer)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.under_way += 1
        self.quiet.clear()
        try:
            headers = dict(scope["headers"])
            body = (await receive())["body"]
            status, answer = await self._ask(int(headers[b"x-party"]), body)
            start_headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
            await send({"type": "http.response.start", "status": status, "headers": start_headers})
            await send({"type": "http.response.body", "body": answer})
        finally:
            self.under_way -= 1
            if self.under_way == 0:
                self.quiet.set()

    async def _ask(self, pid: int, body: bytes) -> tuple[int, bytes]:
        asked = Asked(parse_qs(body.decode())["refresh_token"][0], pid, time.monotonic())
        if self.lost(asked):
            return 503, b""
        self.asked.append(asked)
        form = {"content-type": "application/x-www-form-urlencoded"}
        reply = await self._http.post("/api/v1/oauth2/token", content=body, headers=form)
        if reply.status_code == 200:
            asked.brought = reply.json()["refresh_token"]
            self.enter(asked.brought)
            self.granted(asked)
        else:
            self.refused(asked)
        return reply.status_code, reply.content

    def enter(self, token: str) -> None:
        """A refresh token that is newer than all before."""
        self.rank[token] = len(self.rank)

    def spent(self, token: str) -> bool:
        return any(asked.token == token and asked.brought for asked in self.asked)

    async def aclose(self) -> None:
        await self._http.aclose()


# --- the parties ----------------------------------------------------------------------------------------------------


@dataclass
class Party:
    """One process. `killed` is when it was, by the monotonic clock."""

    role: str
    pid: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    killed: float | None = None

    async def get(self) -> dict[str, Any] | None:
        """Its answer; None where it has died over it."""
        try:
            self.writer.write(b"get\n")
            line = await asyncio.wait_for(self.reader.readline(), PATIENCE)
        except ConnectionError:
            line = b""
        if not line:
            assert self.killed, f"{self.role} {self.pid} has died by itself"
            return None
        answer: dict[str, Any] = json.loads(line)
        return answer

    def kill(self) -> None:
        """Its end, at once, wherever it is; afterwards it does nothing any more."""
        if self.killed is None:
            self.killed = time.monotonic()
            os.kill(self.pid, signal.SIGKILL)
            with suppress(ProcessLookupError):  # whoever forked it has no use for its remains
                while True:
                    os.kill(self.pid, 0)


@dataclass
class Town:
    """A credential file, its issuer, and all who use it."""

    simulator: QwenSimulator
    ledger: Ledger
    path: Path
    stale: float
    random: random.Random
    orders: Mapping[str, Any]
    zygote: asyncio.subprocess.Process
    arrivals: dict[int, asyncio.Future[Party]]
    all: dict[int, Party] = field(default_factory=dict)
    llmgates: list[Party] = field(default_factory=list)
    present: list[Party] = field(default_factory=list)
    cases: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0

    async def settle(self, role: str, count: int) -> list[Party]:
        """New processes, once they are ready."""
        return list(await asyncio.gather(*(self._one(role) for _ in range(count))))

    async def _one(self, role: str) -> Party:
        number = len(self.arrivals)
        self.arrivals[number] = asyncio.get_running_loop().create_future()
        order = {**self.orders, "role": role, "number": number, "seed": self.random.random(), "stale": self.stale}
        assert self.zygote.stdin is not None
        self.zygote.stdin.write(json.dumps(order).encode() + b"\n")
        party = await asyncio.wait_for(self.arrivals[number], PATIENCE)
        party.role = role
        self.all[party.pid] = party
        return party

    # --- the file ------------------------------------------------------------------------------------------------

    def token(self) -> str | None:
        """The file's refresh token, None where there is no file."""
        try:
            return str(json.loads(self.path.read_bytes())["refresh_token"])
        except FileNotFoundError:
            return None

    def expire(self) -> None:
        """Makes the file's access token one that has ended. Everybody is quiet."""
        if self.token() is None or self.ledger.spent(str(self.token())):
            self.log_in(expired=True)
        else:
            fields = json.loads(self.path.read_bytes())
            write_private_file(self.path, json.dumps({**fields, "expiry_date": 0}).encode())

    def log_in(self, *, expired: bool = False) -> None:
        self.simulator.write_credentials(self.path, expired=expired)
        self.ledger.enter(str(self.token()))

    def heal(self, asked: Asked) -> None:
        """What the user does when the file's token has been lost with its process: logs in."""
        lost = any(self.all[one.pid].killed for one in self.ledger.asked if one.brought and one.token == asked.token)
        if lost and asked.token == self.token():
            self.log_in()

    def kill(self, party: Party) -> None:
        """Kills it; the stale time of a dead CLI's lock passes at once, as it would be long with eight waiting."""
        party.kill()
        if party.role == "cli":
            try:
                with self.cli_lock.open() as lock:
                    if lock.read(8) in ("", f"{party.pid:08x}"):
                        os.utime(lock.fileno(), (time.time() - self.stale - 1,) * 2)
            except FileNotFoundError:
                pass

    def orphaned(self) -> list[str]:
        """A CLI's lock that lies there when everybody is quiet and its owner alive: it was put back a moment too late.

        Whoever waited has had his token from that owner; until the next refresh it is stale, so that it is no harm.
        """
        living = tuple(f"{party.pid:08x}" for party in self.all.values() if party.role == "cli" and not party.killed)
        if not self.cli_lock.exists() or not self.cli_lock.read_text().startswith(living):
            return []
        self.cli_lock.unlink()
        return ["a lock was put back when its owner had just finished"]

    def leftovers(self) -> list[str]:
        """What belongs to locks, when all are quiet and nobody holds one."""
        names = {entry.name for entry in self.path.parent.iterdir() if ".lock" in entry.name}
        return sorted(names - {"oauth_creds.llmgate.lock"})

    def left_aside(self) -> list[list[str]]:
        """What was done with live locks, also by those who were killed over it."""
        events = []
        clis = [party for party in self.all.values() if party.role == "cli"]
        dead, living = (
            tuple(f"{one.pid:08x}" for one in clis if bool(one.killed) is killed) for killed in (True, False)
        )
        for aside in self.path.parent.glob("oauth_creds.lock.*.*"):
            holder = aside.read_text()
            if ".taken." in aside.name:
                events += [[IN_HANDS, holder]] * holder.startswith(living)
            elif ".live." in aside.name or not holder.startswith(dead):
                events.append([LIVE_LOCK, holder])
            aside.unlink()
        return events

    @property
    def cli_lock(self) -> Path:
        return self.path.with_name("oauth_creds.lock")


@asynccontextmanager
async def town(folder: Path, *, stale: float, llmgates: int = 8) -> AsyncIterator[Town]:
    """Everything running, the llmgates and the watcher ready."""
    simulator = QwenSimulator()
    simulator.refresh_delay = REFRESH_SECONDS
    await simulator.start(folder)
    ledger = Ledger(simulator.url)
    issuer = LoopbackServer(ledger)
    arrivals: dict[int, asyncio.Future[Party]] = {}

    async def arrive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told = json.loads(await reader.readline())
        arrivals[told["order"]].set_result(Party("", told["pid"], reader, writer))

    control = await asyncio.start_server(arrive, "127.0.0.1", 0)
    zygote = await asyncio.create_subprocess_exec(sys.executable, str(PARTIES), stdin=asyncio.subprocess.PIPE)
    path = folder / "oauth_creds.json"
    orders = {"control": control.sockets[0].getsockname()[1], "path": str(path), "issuer": await issuer.start()}
    here = Town(simulator, ledger, path, stale, random.Random(SEED), orders, zygote, arrivals)
    ledger.enter(str(here.token()))
    ledger.refused = here.heal
    try:
        here.llmgates = await here.settle("llmgate", llmgates)
        yield here
    finally:
        for party in here.all.values():
            party.kill()
            party.writer.close()
        control.close()
        zygote.kill()
        await zygote.wait()
        await issuer.aclose()
        await ledger.aclose()
        await simulator.aclose()


# --- one round ------------------------------------------------------------------------------------------------------


Murder = Callable[[list[Party]], Awaitable[None]]


@dataclass
class Round:
    """What has happened in one round, once everybody is quiet."""

    asked: list[Asked]
    answers: list[tuple[Party, dict[str, Any]]]
    after: str | None
    seen: list[str]
    events: list[list[str]]


async def play(town: Town, parties: list[Party], watcher: Party, murder: Murder) -> Round:
    """Everybody wants a token, the file's has ended, and somebody may be killed over it."""
    town.present = parties
    town.expire()
    await watcher.get()
    start = len(town.ledger.asked)
    asks = [asyncio.create_task(party.get()) for party in parties]
    await murder(parties)
    answers = list(zip(parties, await asyncio.gather(*asks), strict=True))
    if town.ledger.under_way:
        await asyncio.wait_for(town.ledger.quiet.wait(), PATIENCE)
    seen = await watcher.get()
    assert seen is not None
    told = [(party, answer) for party, answer in answers if answer is not None]
    events = [event for _, answer in told for event in answer.get("events", [])] + town.left_aside()
    town.cases.update(town.orphaned())
    return Round(town.ledger.asked[start:], told, town.token(), seen["seen"], events)


def judge(town: Town, round: Round) -> list[str]:
    """What went wrong and may not; what may is counted in the town's cases."""
    wrong = [*file_faults(town, round), *refresh_faults(town, round), *answer_faults(town, round)]
    town.cases.update(f"the Qwen CLI {event[0]}" for event in round.events)
    town.longest = max([town.longest, *(answer.get("waited", 0.0) for _, answer in round.answers)])
    return wrong


def file_faults(town: Town, round: Round) -> list[str]:
    """A torn file, an older token in the place of a newer one, or a granted one that a living party did not write."""
    deleted = deleted_by_cli(town, round)
    wrong = ["a torn file"] if "TORN" in round.seen else []
    if "MISSING" in round.seen and not deleted:
        wrong.append("a missing file")
    ranks = [town.ledger.rank[token] for token in round.seen if token in town.ledger.rank]
    if ranks != sorted(ranks):
        wrong.append(f"an older token in the place of a newer one: {ranks}")
    granted = [asked for asked in round.asked if asked.brought]
    if all(party.killed is None for party in town.present):
        wrong += [f"`{name}` was left behind" for name in town.leftovers()]
    if granted and town.all[granted[-1].pid].killed is None and not deleted and round.after != granted[-1].brought:
        wrong.append("a lost rotation")
    return wrong


def deleted_by_cli(town: Town, round: Round) -> bool:
    """Whether one has said so, or was killed before it could."""
    refused = [town.all[asked.pid] for asked in round.asked if not asked.brought]
    killed = any(party.role == "cli" and party.killed is not None for party in refused)
    return killed or any(event[0] == DELETED for event in round.events)


def refresh_faults(town: Town, round: Round) -> list[str]:
    """Every question with a token that had been asked before, unless it has one of the allowed reasons."""
    wrong, first = [], dict[str, Asked]()
    for asked in round.asked:
        earlier = first.setdefault(asked.token, asked)
        if earlier is asked:
            continue
        reason = reason_for(town, round, earlier, asked)
        if reason is None:
            wrong.append(f"two refreshes of one token, by {town.all[earlier.pid].role} and {town.all[asked.pid].role}")
        else:
            town.cases[reason] += 1
    return wrong


def reason_for(town: Town, round: Round, earlier: Asked, later: Asked) -> str | None:
    one, other = (town.all[asked.pid].killed for asked in (earlier, later))
    if other is not None and other < later.when:
        return "the last question of a killed process came late"
    if one is not None and one < later.when:
        if earlier.brought is None:
            return None
        written = earlier.brought in round.seen or round.after == earlier.brought
        return None if written else "killed between grant and write: the file still held the spent token"
    if any(event[0] == LIVE_LOCK for event in round.events):
        return "the Qwen CLI took a live lock"
    among_clis = {town.all[asked.pid].role for asked in (earlier, later)} == {"cli"}
    if among_clis and any(event[0] == IN_HANDS for event in round.events):
        return "another Qwen CLI came before a lock was put back"
    return None


def answer_faults(town: Town, round: Round) -> list[str]:
    """Errors where nobody was killed over a grant, and waits that are too long."""
    lost = any(asked.brought and town.all[asked.pid].killed is not None for asked in round.asked)
    excused = lost or any(event[0] in (LIVE_LOCK, IN_HANDS) for event in round.events)
    wrong = []
    for party, answer in round.answers:
        if answer.get("message") == "LOCK_TIMEOUT" and party.role == "cli":
            town.cases["the Qwen CLI gave up on a lock that was not stale"] += 1
        elif "token" not in answer and not excused:
            wrong.append(f"{party.role}: {answer['error']}: {answer['message']}")
        # What it chose to wait; how long the machine took for the rest is not its doing.
        if party.role == "llmgate" and answer["waited"] >= town.stale:
            wrong.append(f"a wait of {answer['waited']:.2f} s")
    return wrong


# --- murders --------------------------------------------------------------------------------------------------------


def murder_of(town: Town) -> Murder:
    """Somebody's end in this round: at any moment, or at one of the two that matter most; or nobody's."""
    choice = town.random.random()
    struck: list[Asked] = []

    def strike(asked: Asked) -> bool:
        """Kills the round's first asker."""
        if not struck:
            town.kill(town.all[asked.pid])
        struck.append(asked)
        return len(struck) == 1

    def strike_after_grant(asked: Asked) -> None:
        strike(asked)

    async def at_any_moment(parties: list[Party]) -> None:
        for victim in town.random.sample(parties, town.random.randint(1, 3)):
            await asyncio.sleep(town.random.uniform(0, 0.02))
            town.kill(victim)

    async def nobody(parties: list[Party]) -> None:
        """Or the one who asks, by the ledger's hand."""

    town.ledger.lost = strike if choice < 0.25 else lambda asked: False
    town.ledger.granted = strike_after_grant if 0.25 <= choice < 0.35 else nothing
    return at_any_moment if choice >= 0.5 else nobody


def told(town: Town, number: int, wrong: list[str]) -> str:
    return f"round {number}, LLMGATE_TEST_SEED={SEED}: {wrong}; so far {dict(town.cases)}, longest {town.longest:.2f} s"


# --- the tests ------------------------------------------------------------------------------------------------------


async def rounds(here: Town, number: int, clis: int = 0) -> None:
    """So many rounds; whoever was killed is replaced."""
    (watcher,) = await here.settle("watcher", 1)
    others = await here.settle("cli", clis)
    many = len(here.llmgates)
    for at in range(number):
        done = await play(here, here.llmgates + others, watcher, murder_of(here))
        wrong = judge(here, done)
        assert not wrong, told(here, at, wrong)
        here.llmgates = [party for party in here.llmgates if party.killed is None]
        here.llmgates += await here.settle("llmgate", many - len(here.llmgates))
        others = [party for party in others if party.killed is None]
        others += await here.settle("cli", clis - len(others))
    killed = [party.role for party in here.all.values() if party.killed is not None]
    assert set(killed) == ({"llmgate", "cli"} if clis else {"llmgate"})
    assert len(killed) > number / 4
    print(f"{len(killed)} killed;", told(here, number, []))  # `pytest -rP` shows it


def test_eight_llmgates_killed_at_random(tmp_path: Path) -> None:
    async def test() -> None:
        async with town(tmp_path, stale=4.0) as here:
            await rounds(here, ROUNDS)
            assert not [case for case in here.cases if "CLI" in case]

    asyncio.run(test())


def test_llmgates_and_the_qwen_cli_killed_at_random(tmp_path: Path) -> None:
    async def test() -> None:
        async with town(tmp_path, stale=4.0, llmgates=4) as here:
            await rounds(here, ROUNDS, clis=2)

    asyncio.run(test())


def test_the_lock_of_a_dead_cli_is_waited_for_as_long_as_the_stale_time_and_no_longer(tmp_path: Path) -> None:
    here: Town

    def killed_over_it(asked: Asked) -> bool:
        here.all[asked.pid].kill()
        return True

    async def test() -> None:
        nonlocal here
        async with town(tmp_path, stale=0.5) as here:
            (cli,) = await here.settle("cli", 1)
            here.expire()
            here.ledger.lost = killed_over_it
            assert await cli.get() is None
            here.ledger.lost = lambda asked: False
            made = here.cli_lock.stat().st_mtime - time.time() + time.monotonic()
            answers = await asyncio.gather(*(party.get() for party in here.llmgates))
            (asked,) = here.ledger.asked
            assert here.token() == asked.brought
            assert asked.when - made >= here.stale
            assert all(answer is not None and "token" in answer for answer in answers), answers
            assert max(answer["seconds"] for answer in answers if answer) < here.stale + SLACK_SECONDS

    asyncio.run(test())


def test_a_refresh_by_a_living_cli_is_waited_for_and_used(tmp_path: Path) -> None:
    async def test() -> None:
        async with town(tmp_path, stale=PATIENCE, llmgates=4) as here:
            (cli,) = await here.settle("cli", 1)
            here.simulator.refresh_delay = 0.1
            here.expire()
            asking = asyncio.Event()

            def on_its_way(asked: Asked) -> bool:
                asking.set()
                return False

            here.ledger.lost = on_its_way
            under_way = asyncio.create_task(cli.get())
            await asyncio.wait_for(asking.wait(), PATIENCE)
            answers = await asyncio.gather(under_way, *(party.get() for party in here.llmgates))
            assert len({answer["token"] for answer in answers if answer}) == 1
            assert [asked.pid for asked in here.ledger.asked] == [cli.pid]

    asyncio.run(test())
