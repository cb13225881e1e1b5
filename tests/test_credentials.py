"""Credentials: what they tell, how a key is found again, and that many callers cause one renewal."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from llmgate_core.credentials import (
    ApiKey,
    Credential,
    CredentialProvider,
    CredentialStatus,
    NoCredential,
    SingleFlight,
)
from llmgate_core.errors import ConnectorError
from llmgate_core.settings import Secret

KEY = "sk-12345678"


def header(credential: Credential) -> str:
    return credential.headers["authorization"]


# --- one credential ------------------------------------------------------------------------------------------


def test_repr_shows_no_secret() -> None:
    assert KEY not in repr(Credential({"authorization": f"Bearer {KEY}"}, label="the configuration"))


def test_secrets_are_whole_values_and_what_follows_a_scheme() -> None:
    credential = Credential({"authorization": f"Bearer {KEY}", "x-api-key": "other", "x-empty": ""})
    assert set(credential.secrets()) == {f"Bearer {KEY}", KEY, "other"}


# --- none, and a key -----------------------------------------------------------------------------------------


def test_no_credential_is_ready_and_cannot_be_renewed() -> None:
    provider: CredentialProvider = NoCredential()
    credential = asyncio.run(provider.get())
    assert credential.headers == {}
    assert provider.status().ready
    with pytest.raises(ConnectorError) as caught:
        asyncio.run(provider.renew(credential))
    assert caught.value.kind == "auth"


@pytest.mark.parametrize(
    ("provider", "headers"),
    [
        (ApiKey(Secret(KEY), {}), {"authorization": f"Bearer {KEY}"}),
        (ApiKey(Secret("env:ACME_KEY"), {"ACME_KEY": KEY}), {"authorization": f"Bearer {KEY}"}),
        (ApiKey(Secret(KEY), {}, header="x-api-key", scheme=""), {"x-api-key": KEY}),
    ],
)
def test_a_key_goes_into_its_header(provider: ApiKey, headers: dict[str, str]) -> None:
    credential = asyncio.run(provider.get())
    assert credential.headers == headers
    assert KEY not in credential.label
    assert provider.status().ready
    assert KEY not in provider.status().detail


def test_a_missing_key_says_where_it_should_be() -> None:
    provider = ApiKey(Secret("env:ACME_KEY"), {})
    with pytest.raises(ConnectorError) as caught:
        asyncio.run(provider.get())
    assert caught.value.kind == "auth"
    assert "`ACME_KEY`" in caught.value.message
    assert provider.status() == CredentialStatus(False, caught.value.message)


def test_a_changed_file_is_found_without_a_restart(tmp_path: Path) -> None:
    place = tmp_path / "key"
    place.write_text("old-key-1234\n")
    provider = ApiKey(Secret(f"file:{place}"), {})
    old = asyncio.run(provider.get())
    with pytest.raises(ConnectorError) as caught:
        asyncio.run(provider.renew(old))
    assert caught.value.kind == "auth"
    assert "old-key-1234" not in caught.value.message
    place.write_text("new-key-1234\n")
    assert header(asyncio.run(provider.renew(old))) == "Bearer new-key-1234"


# --- single flight -------------------------------------------------------------------------------------------


class Tokens:
    """Hands out token-1, token-2, ...; each call takes until `gate` is open."""

    def __init__(self) -> None:
        self.number = 1
        self.gets = 0
        self.renewals = 0
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def get(self) -> Credential:
        self.gets += 1
        return await self._current()

    async def renew(self, rejected: Credential) -> Credential:
        self.renewals += 1
        self.number += 1
        return await self._current()

    async def _current(self) -> Credential:
        number = self.number
        await self.gate.wait()
        if self.failure:
            raise self.failure
        return Credential({"authorization": f"Bearer token-{number}"})

    def status(self) -> CredentialStatus:
        return CredentialStatus(True, "")


def test_concurrent_gets_share_one_call() -> None:
    async def run() -> None:
        tokens = Tokens()
        shared = SingleFlight(tokens)
        assert {header(one) for one in await asyncio.gather(*(shared.get() for _ in range(50)))} == {"Bearer token-1"}
        assert tokens.gets == 1
        await shared.get()
        assert tokens.gets == 2  # per attempt: nothing is cached here

    asyncio.run(run())


def test_fifty_rejections_of_one_token_cause_one_renewal() -> None:
    async def run() -> None:
        tokens = Tokens()
        shared = SingleFlight(tokens)
        rejected = await shared.get()
        renewed = await asyncio.gather(*(shared.renew(rejected) for _ in range(50)))
        assert {header(one) for one in renewed} == {"Bearer token-2"}
        assert tokens.renewals == 1

    asyncio.run(run())


def test_a_late_rejection_of_an_old_token_gets_the_new_one() -> None:
    async def run() -> None:
        tokens = Tokens()
        shared = SingleFlight(tokens)
        old = await shared.get()
        new = await shared.renew(old)
        assert header(await shared.renew(old)) == header(new)
        assert tokens.renewals == 1
        assert header(await shared.renew(new)) == "Bearer token-3"

    asyncio.run(run())


def test_a_get_during_a_renewal_waits_for_it() -> None:
    async def run() -> None:
        tokens = Tokens()
        shared = SingleFlight(tokens)
        old = await shared.get()
        tokens.gate.clear()
        renewing = asyncio.create_task(shared.renew(old))
        await asyncio.sleep(0)
        getting = asyncio.create_task(shared.get())
        await asyncio.sleep(0)
        tokens.gate.set()
        assert header(await getting) == header(await renewing) == "Bearer token-2"
        assert (tokens.gets, tokens.renewals) == (1, 1)

    asyncio.run(run())


def test_a_caller_who_leaves_takes_nobodys_renewal_down() -> None:
    async def run() -> None:
        tokens = Tokens()
        shared = SingleFlight(tokens)
        old = await shared.get()
        tokens.gate.clear()
        leaving = asyncio.create_task(shared.renew(old))
        await asyncio.sleep(0)
        staying = asyncio.create_task(shared.renew(old))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        tokens.gate.set()
        assert header(await staying) == "Bearer token-2"
        assert tokens.renewals == 1

    asyncio.run(run())


def test_a_failure_is_shared_and_not_kept() -> None:
    async def run() -> None:
        tokens = Tokens()
        tokens.failure = ConnectorError("auth", "log in again")
        shared = SingleFlight(tokens)
        failed = await asyncio.gather(*(shared.get() for _ in range(3)), return_exceptions=True)
        assert [str(one) for one in failed] == ["log in again"] * 3
        assert tokens.gets == 1
        tokens.failure = None
        assert header(await shared.get()) == "Bearer token-1"

    asyncio.run(run())


def test_closing_waits_for_what_is_under_way() -> None:
    async def run() -> None:
        tokens = Tokens()
        shared = SingleFlight(tokens)
        tokens.gate.clear()
        getting = asyncio.create_task(shared.get())
        await asyncio.sleep(0)
        closing = asyncio.create_task(shared.aclose())
        await asyncio.sleep(0)
        assert not closing.done()
        tokens.gate.set()
        await closing
        assert header(await getting) == "Bearer token-1"

    asyncio.run(run())


def test_a_renewal_is_not_kept_waiting_by_others_who_get() -> None:
    class Slow:
        async def get(self) -> Credential:
            await asyncio.sleep(0)
            return Credential({"authorization": "old"})

        async def renew(self, rejected: Credential) -> Credential:
            return Credential({"authorization": "new"})

        def status(self) -> CredentialStatus:
            return CredentialStatus(True, "")

    async def run() -> None:
        flight = SingleFlight(Slow())

        async def greedy() -> None:
            while True:
                await flight.get()

        others = [asyncio.create_task(greedy()) for _ in range(3)]
        await asyncio.sleep(0.01)
        async with asyncio.timeout(2):
            renewed = await flight.renew(Credential({"authorization": "old"}))
        assert renewed.headers == {"authorization": "new"}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    asyncio.run(run())
