"""The credential file: whatever stands in it is read or refused in words, and a write leaves it whole."""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgate_qwen_oauth import store
from llmgate_qwen_oauth.store import Stored, Unusable

ACCESS, REFRESH = "access-SECRET-1", "refresh-SECRET-1"
GOOD = {
    "access_token": ACCESS,
    "refresh_token": REFRESH,
    "token_type": "Bearer",
    "resource_url": "portal.qwen.ai",
    "expiry_date": 1_700_000_000_500,
}

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
huge = st.integers(min_value=10**300, max_value=10**320)
members = st.fixed_dictionaries(
    {
        "access_token": st.just(ACCESS) | st.text(max_size=20) | values,
        "expiry_date": st.integers() | st.floats() | huge | values,
    },
    optional={
        "refresh_token": st.text(max_size=20) | values,
        "resource_url": st.text(max_size=20) | values,
        "scope": values,
        "不认识": values,
    },
)
finite = st.floats(allow_nan=False, allow_infinity=False)
unknown = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


def written(folder: Path, content: Any) -> Path:
    path = folder / "oauth_creds.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def read_content(content: Any) -> Stored | Unusable:
    """What reading gives; anything raised but Unusable fails the test."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return store.read(written(Path(folder), content))
        except Unusable as reason:
            return reason


# --- reading --------------------------------------------------------------------------------------------------------


def test_a_good_file_is_read_with_its_milliseconds_as_seconds(tmp_path: Path) -> None:
    found = store.read(written(tmp_path, GOOD))
    assert (found.access_token, found.refresh_token) == (ACCESS, REFRESH)
    assert (found.expires_at, found.resource_url) == (1_700_000_000.5, "portal.qwen.ai")


@given(st.binary(max_size=80) | (values | members | members).map(json.dumps).map(str.encode))
@settings(deadline=None, max_examples=200)
def test_any_content_is_read_or_refused_in_words(content: bytes) -> None:
    found = read_content(content)
    if isinstance(found, Stored):
        assert found.access_token
        assert abs(found.expires_at) < float("inf")
        assert found.refresh_token != ""
    else:
        assert str(found)


@given(st.integers(min_value=0, max_value=len(json.dumps(GOOD)) - 1))
@settings(deadline=None)
def test_half_a_file_is_refused_and_its_content_is_not_repeated(length: int) -> None:
    found = read_content(json.dumps(GOOD).encode()[:length])
    assert isinstance(found, Unusable)
    assert str(found) == "it is not JSON, or only half of it"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"access_token": None}, "it holds no `access_token`"),
        ({"access_token": ""}, "it holds no `access_token`"),
        ({"access_token": 7}, "it holds no `access_token`"),
        ({"access_token": "one\r\ntwo: three"}, "it holds no `access_token`"),
        ({"access_token": "令牌"}, "it holds no `access_token`"),
        ({"expiry_date": None}, "its `expiry_date` is not a number"),
        ({"expiry_date": True}, "its `expiry_date` is not a number"),
        ({"expiry_date": "1700000000500"}, "its `expiry_date` is not a number"),
        ({"expiry_date": float("nan")}, "its `expiry_date` is not a number"),
        ({"expiry_date": float("inf")}, "its `expiry_date` is not a number"),
        ({"expiry_date": 10**400}, "its `expiry_date` is not a number"),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_member_is_said(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unusable) as refused:
        store.read(written(tmp_path, {**GOOD, **change}))
    assert str(refused.value) == reason


@pytest.mark.parametrize("content", [b"[]", b"null", b'"text"', b"7"])
def test_json_that_is_no_object(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(Unusable, match=r"^it is not a JSON object$"):
        store.read(written(tmp_path, content))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[" * 200_000, b'{"expiry_date": ' + b"9" * 5000 + b"}"])
def test_what_is_no_json(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(Unusable, match=r"^it is not JSON, or only half of it$"):
        store.read(written(tmp_path, content))


def test_a_missing_file_and_a_folder_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match=r"^there is no such file$"):
        store.read(tmp_path / "oauth_creds.json")
    with pytest.raises(Unusable, match=r"^it cannot be read \(is a directory\)$"):
        store.read(tmp_path)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(Unusable, match=r"^it cannot be read \(permission denied\)$"):
        store.read(tmp_path / "oauth_creds.json")


@pytest.mark.parametrize("refresh", [None, "", 7, "\ud800"])
def test_a_file_without_a_usable_refresh_token_is_good_until_it_expires(tmp_path: Path, refresh: Any) -> None:
    assert store.read(written(tmp_path, {**GOOD, "refresh_token": refresh})).refresh_token is None


def test_no_token_in_its_repr(tmp_path: Path) -> None:
    assert "SECRET" not in repr(store.read(written(tmp_path, GOOD)))


# --- what a refresh brings ------------------------------------------------------------------------------------------


@given(st.dictionaries(st.text(max_size=8), unknown, max_size=4), unknown)
@settings(deadline=None)
def test_unknown_fields_survive_a_refresh_and_the_disk(extra: dict[str, Any], last: Any) -> None:
    content = {**extra, "last": last, **GOOD}
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), content)
        refreshed = store.read(path).refreshed({"access_token": "new", "expires_in": 60}, now=1000.0)
        store.write(path, refreshed)
        after = json.loads(path.read_bytes())
        assert store.read(path) == refreshed
    assert after == {**content, "access_token": "new", "expiry_date": 1_060_000}


def test_a_lone_surrogate_in_an_unknown_field_does_not_keep_a_refreshed_token_off_the_disk(tmp_path: Path) -> None:
    path = written(tmp_path, {**GOOD, "name": "\ud83d"})
    store.write(path, store.read(path).refreshed({"access_token": "new"}, now=0.0))
    assert store.read(path).fields["name"] == "\ud83d"


@pytest.mark.parametrize("left_out", [{}, {"refresh_token": None, "resource_url": ""}, {"resource_url": 7}])
def test_a_reply_that_leaves_something_out_keeps_the_old(tmp_path: Path, left_out: dict[str, Any]) -> None:
    old = store.read(written(tmp_path, GOOD))
    new = old.refreshed({"access_token": "new", "expires_in": 60, **left_out}, now=0.0)
    assert (new.refresh_token, new.resource_url) == (REFRESH, "portal.qwen.ai")
    assert (new.fields["refresh_token"], new.fields["resource_url"]) == (REFRESH, "portal.qwen.ai")


def test_a_reply_rotates_what_it_names(tmp_path: Path) -> None:
    reply = {"access_token": "a2", "refresh_token": "r2", "resource_url": "other.example", "expires_in": 3600}
    new = store.read(written(tmp_path, GOOD)).refreshed({**reply, "surprise": "x"}, now=1000.25)
    assert (new.access_token, new.refresh_token, new.resource_url) == ("a2", "r2", "other.example")
    assert new.fields["expiry_date"] == 4_600_250
    assert "surprise" not in new.fields


@pytest.mark.parametrize(
    "lifetime", [None, "60", True, float("nan"), float("inf"), 10**400, 1e308, -1e308, 0, -1, 0.5], ids=repr
)
def test_a_lifetime_that_is_no_credible_number_counts_as_an_hour(tmp_path: Path, lifetime: Any) -> None:
    old = store.read(written(tmp_path, GOOD))
    assert old.refreshed({"access_token": "new", "expires_in": lifetime}, now=1000.0).expires_at == 4600.0


@pytest.mark.parametrize("reply", [{}, {"access_token": ""}, {"access_token": None}, {"access_token": 7}])
def test_a_reply_without_an_access_token_is_unusable(tmp_path: Path, reply: dict[str, Any]) -> None:
    with pytest.raises(Unusable, match=r"^it holds no `access_token`$"):
        store.read(written(tmp_path, GOOD)).refreshed(reply, now=0.0)


# --- writing --------------------------------------------------------------------------------------------------------


def test_it_is_written_as_the_cli_writes_it_and_private(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    path.chmod(0o644)
    store.write(path, store.read(path))
    assert path.read_text() == json.dumps(GOOD, indent=2)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = written(tmp_path, GOOD)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="space"):
        store.write(path, store.read(path).refreshed({"access_token": "new"}, now=0.0))
    assert store.read(path).access_token == ACCESS
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


# --- where it is ----------------------------------------------------------------------------------------------------

HOME = Path("/home/someone")


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({}, HOME / ".qwen" / "oauth_creds.json"),
        ({"QWEN_HOME": ""}, HOME / ".qwen" / "oauth_creds.json"),
        ({"QWEN_HOME": "/srv/qwen"}, Path("/srv/qwen/oauth_creds.json")),
        ({"QWEN_HOME": "~"}, HOME / "oauth_creds.json"),
        ({"QWEN_HOME": "~/q"}, HOME / "q" / "oauth_creds.json"),
        ({"QWEN_HOME": "~other/q"}, Path.cwd() / "~other" / "q" / "oauth_creds.json"),
        ({"QWEN_HOME": "here/q"}, Path.cwd() / "here" / "q" / "oauth_creds.json"),
        ({"QWEN_RUNTIME_DIR": "/run/qwen"}, HOME / ".qwen" / "oauth_creds.json"),
    ],
)
def test_the_default_path_follows_qwen_home(environ: dict[str, str], path: Path) -> None:
    assert store.default_path(environ, HOME) == path
