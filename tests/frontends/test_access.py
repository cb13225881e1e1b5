"""Who is let in: tables of hosts, origins and keys, and how long a bad key waits."""

from __future__ import annotations

import hashlib

import pytest

from llmgate_core.errors import RequestError
from llmgate_core.frontends.access import Access, BadKeys, KnownKey, Refused, host_name, is_loopback, presented_key

PATH = "/v1/chat/completions"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def key(name: str, value: str) -> KnownKey:
    return KnownKey(name, hashlib.sha256(value.encode()).digest())


def access(
    *keys: KnownKey, hosts: tuple[str, ...] = (), origins: tuple[str, ...] = (), clock: Clock | None = None
) -> Access:
    return Access(keys, hosts, origins, BadKeys(clock or Clock()))


def refusal(gate: Access, headers: dict[str, str], path: str = PATH) -> tuple[RequestError, float]:
    with pytest.raises(Refused) as caught:
        gate.admit(path, headers, "10.0.0.9")
    return caught.value.error, caught.value.hold


# --- Host ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:8000",
        "a.localhost:8000",
        "127.0.0.1",
        "127.0.0.1:8000",
        "[::1]:8000",
        "[::1]",
        "192.168.1.7:8000",
        "llm.example.org",
        "LLM.example.org:443",
    ],
)
def test_hosts_that_are_ours(host: str) -> None:
    assert access(hosts=("llm.Example.org",)).admit(PATH, {"host": host}, "") is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "llm.example.org.evil.example",
        "x.llm.example.org",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1.evil.example:8000",
        "evil.example:80:80",
        "notlocalhost",
        "user@localhost@evil.example",
    ],
)
def test_hosts_that_are_not(host: str) -> None:
    error, hold = refusal(access(hosts=("llm.example.org",)), {"host": host})
    assert (error.status, error.code, hold) == (403, "host_not_allowed", 0.0)
    assert "`server.allowed_hosts`" in error.message
    assert f"`{host_name(host)}`" in error.message


def test_what_was_seen_is_told_printable_and_short() -> None:
    error, _ = refusal(access(), {"host": "evil\x1b[31m\n" + "x" * 500})
    assert "`evil?[31m?xxx" in error.message
    assert error.message.isprintable()
    assert len(error.message) < 300
    error, _ = refusal(access(), {"origin": "https://" + "\x07" * 500})
    assert error.message.isprintable()
    assert f"`https://{'?' * 89}...`" in error.message


@pytest.mark.parametrize(
    ("host", "name"),
    [("A.b:80", "a.b"), (" a ", "a"), ("[::1]:80", "::1"), ("[::1]", "::1"), ("::1", "::1"), ("a", "a"), ("", "")],
)
def test_the_name_in_a_host_header(host: str, name: str) -> None:
    assert host_name(host) == name


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:192.168.0.1", False),
        ("localhost", True),
        ("LOCALHOST", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.1", False),
        ("example.org", False),
        ("", False),
    ],
)
def test_addresses_that_only_this_machine_can_reach(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


# --- Origin --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://localhost:8000"},
        {"origin": "HTTP://LOCALHOST:8000"},
        {"origin": "https://localhost:8000"},
        {"origin": "https://chat.example"},
        {"origin": "https://chat.example", "sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
    ],
)
def test_origins_that_may_call(headers: dict[str, str]) -> None:
    gate = access(origins=("https://Chat.example/",))
    assert gate.admit(PATH, {"host": "localhost:8000", **headers}, "") is None


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://localhost:3000"},
        {"origin": "http://localhost"},
        {"origin": "https://chat.example.evil.example"},
        {"origin": "http://chat.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", [PATH, "/v1/models", "/"])
def test_origins_that_may_not(headers: dict[str, str], path: str) -> None:
    error, _ = refusal(access(origins=("https://chat.example",)), {"host": "localhost:8000", **headers}, path)
    assert (error.status, error.code) == (403, "origin_not_allowed")
    assert "`server.allowed_origins`" in error.message
    assert (f"`{headers['origin']}`" if "origin" in headers else "another origin") in error.message


def test_a_page_of_another_origin_needs_more_than_a_key() -> None:
    gate = access(key("a", "good"))
    error, _ = refusal(gate, {"origin": "https://evil.example", "x-api-key": "good"})
    assert error.status == 403


# --- keys ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({"authorization": "Bearer good"}, "anna"),
        ({"authorization": "bearer  good "}, "anna"),
        ({"x-api-key": "good"}, "anna"),
        ({"x-goog-api-key": "good"}, "anna"),
        ({"x-api-key": "other"}, "ben"),
        ({"authorization": "Basic Z29vZA==", "x-api-key": "other"}, "ben"),
    ],
)
def test_a_key_in_any_of_three_headers_names_its_caller(headers: dict[str, str], name: str) -> None:
    gate = access(key("anna", "good"), key("ben", "other"))
    assert gate.admit(PATH, headers, "10.0.0.9") == name


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "good"}, {"authorization": "Basic good"}, {"authorization": "Bearer "}, {"x-api-key": ""}],
)
def test_no_key_is_a_401_at_once(headers: dict[str, str]) -> None:
    gate = access(key("anna", "good"))
    for _ in range(20):
        error, hold = refusal(gate, headers)
        assert (error.status, error.code, hold) == (401, "invalid_api_key", 0.0)
        assert "`Authorization: Bearer`" in error.message


@pytest.mark.parametrize("shown", ["bad", "goo", "good ", "GOOD", "goodd", "g\xf6\xf6d", "\udcff"])
def test_a_bad_key_is_a_401_that_does_not_repeat_it(shown: str) -> None:
    error, _ = refusal(access(key("anna", "good")), {"x-api-key": shown})
    assert (error.status, error.code) == (401, "invalid_api_key")
    assert shown not in error.message


def test_without_keys_a_placeholder_is_accepted() -> None:
    assert access().admit(PATH, {"authorization": "Bearer sk-placeholder"}, "") is None


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_load_balancers_need_no_key_and_no_name(path: str) -> None:
    headers = {"host": "10-0-0-7.cluster.example", "origin": "https://evil.example"}
    assert access(key("anna", "good")).admit(path, headers, "10.0.0.9") is None


@pytest.mark.parametrize("path", ["/", "/api/hello"])
def test_a_probe_needs_no_key_but_may_not_come_from_elsewhere(path: str) -> None:
    guarded = access(key("anna", "good"))
    assert guarded.admit(path, {"host": "localhost"}, "10.0.0.9") is None
    assert refusal(guarded, {"host": "evil.example"}, path)[0].code == "host_not_allowed"


@pytest.mark.parametrize("path", ["/v1/models", "//", "/healthz/", "/healthz/x", "//healthz", "/HEALTHZ"])
def test_no_other_path_is_open(path: str) -> None:
    error, _ = refusal(access(key("anna", "good")), {}, path)
    assert error.status == 401


def test_a_key_is_never_taken_from_a_header_that_is_not_meant_for_it() -> None:
    assert presented_key({"cookie": "key=good", "x-key": "good", "proxy-authorization": "Bearer good"}) is None


# --- bad keys, again and again -------------------------------------------------------------------------------


def test_bad_keys_wait_longer_and_longer_up_to_a_bound() -> None:
    clock = Clock()
    gate = access(key("anna", "good"), clock=clock)
    holds = []
    for _ in range(3000):
        holds.append(refusal(gate, {"x-api-key": "bad"})[1])
        clock.now += holds[-1]
    assert holds[:8] == [0, 0, 0, 0.5, 1, 2, 4, 4]
    assert set(holds[8:]) == {4}


def test_bad_keys_side_by_side_queue_up_to_a_bound() -> None:
    clock = Clock()
    gate = access(key("anna", "good"), clock=clock)
    holds = [refusal(gate, {"x-api-key": "bad"})[1] for _ in range(3000)]
    assert holds[:8] == [0, 0, 0, 0.5, 1.5, 3.5, 7.5, 11.5]
    assert set(holds[13:]) == {30}
    assert gate.admit(PATH, {"x-api-key": "good"}, "10.0.0.9") == "anna"
    clock.now += 30
    assert refusal(gate, {"x-api-key": "bad"})[1] == 4


def test_a_correct_key_is_never_held() -> None:
    gate = access(key("anna", "good"))
    for _ in range(50):
        refusal(gate, {"x-api-key": "bad"})
        assert gate.admit(PATH, {"x-api-key": "good"}, "10.0.0.9") == "anna"


def test_after_a_quiet_minute_all_is_forgiven() -> None:
    clock = Clock()
    bad = BadKeys(clock)
    for _ in range(10):
        bad.penalty("a")
    clock.now += 59
    assert bad.penalty("a") == 4
    clock.now += 61
    assert bad.penalty("a") == 0


def test_addresses_are_counted_apart_and_not_without_end() -> None:
    bad = BadKeys(Clock(), most=10)
    for _ in range(10):
        bad.penalty("a")
    assert bad.penalty("b") == 0
    assert bad.penalty("a") > 4
    for number in range(10):
        bad.penalty(f"other {number}")
    assert bad.penalty("a") == 0  # forgotten: memory is bounded
