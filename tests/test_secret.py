"""Where a secret may be, how it is revealed, and that nothing shows it by accident."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmgate_core.secret import MissingSecret, Secret

PLAIN = "sk-do-not-show"


def test_a_plain_value_is_the_secret_itself() -> None:
    secret = Secret(PLAIN)
    assert secret.is_plain
    assert secret.label == "the configuration"
    assert secret.reveal({}) == PLAIN


def test_a_value_with_a_colon_is_plain() -> None:
    assert Secret("user:password").reveal({}) == "user:password"


def test_a_variable_is_looked_up_when_it_is_needed() -> None:
    environ: dict[str, str] = {}
    secret = Secret("env:ACME_KEY")
    assert not secret.is_plain
    assert secret.label == "environment variable `ACME_KEY`"
    environ["ACME_KEY"] = PLAIN
    assert secret.reveal(environ) == PLAIN


@pytest.mark.parametrize("value", [f"{PLAIN}\n", f" {PLAIN} ", f"{PLAIN}\r\n"])
def test_space_around_a_variable_is_not_part_of_the_secret(value: str) -> None:
    assert Secret("env:ACME_KEY").reveal({"ACME_KEY": value}) == PLAIN


def test_a_variable_that_holds_only_space_is_empty() -> None:
    with pytest.raises(MissingSecret, match="is empty"):
        Secret("env:ACME_KEY").reveal({"ACME_KEY": " \n"})


@pytest.mark.parametrize(
    ("written", "looks"),
    [
        ("$KEY", True),
        ("${KEY}", True),
        ("ENV:KEY", True),
        ("File:/key", True),
        ("env:KEY", False),
        ("file:/key", False),
        (PLAIN, False),
        ("$2b$12$abc", False),
        ("$", False),
        ("environment", False),
    ],
)
def test_a_reference_that_is_misspelt_is_noticed(written: str, looks: bool) -> None:
    assert Secret(written).looks_like_reference is looks


def test_a_file_is_read_anew_and_loses_its_last_newline(tmp_path: Path) -> None:
    path = tmp_path / "key"
    secret = Secret(f"file:{path}")
    assert secret.label == f"file `{path}`"
    path.write_bytes(b"one\r\n")
    assert secret.reveal({}) == "one"
    path.write_bytes(b" two \n")
    assert secret.reveal({}) == " two "


def test_a_tilde_is_the_home_of_the_given_environment(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(PLAIN)
    assert Secret("file:~/key").reveal({"HOME": str(tmp_path)}) == PLAIN


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("env:NO_KEY", "environment variable `NO_KEY` is not set; set it, then restart"),
        ("env:EMPTY", "environment variable `EMPTY` is empty; set it, then restart"),
        ("file:/no/such/file", "cannot read `/no/such/file`: No such file or directory"),
        ("file:~/key", "cannot read `~/key`: environment variable `HOME` is not set"),
        ("file:/dev/null", "file `/dev/null` is empty; write the secret into it"),
        ("", "the secret in the configuration is empty; write it, or `env:NAME` or `file:PATH`"),
    ],
)
def test_what_is_missing_is_told_with_the_next_step(written: str, message: str) -> None:
    with pytest.raises(MissingSecret) as caught:
        Secret(written).reveal({"EMPTY": ""})
    assert str(caught.value) == message


def test_a_file_that_is_no_text_is_missing_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"\xff\xfe" + PLAIN.encode())
    with pytest.raises(MissingSecret, match=r"cannot read `.*key`: it is not UTF-8 text"):
        Secret(f"file:{path}").reveal({})


@pytest.mark.parametrize("written", [f"env:{PLAIN}", "env:", "file:", "file: ", "file:a\0b"])
def test_a_key_pasted_behind_a_scheme_is_refused_and_not_repeated(written: str) -> None:
    with pytest.raises(ValueError, match="what follows") as caught:
        Secret(written)
    assert PLAIN not in str(caught.value)


def test_no_way_of_printing_shows_the_value() -> None:
    secret = Secret(PLAIN)
    for text in (repr(secret), str(secret), f"{secret}", f"{[secret]}"):
        assert PLAIN not in text
        assert text
    with pytest.raises(TypeError):
        list(secret)  # type: ignore[call-overload]


def test_equal_secrets_are_equal() -> None:
    assert Secret("env:A") == Secret("env:A")
    assert len({Secret("env:A"), Secret("env:A"), Secret("env:B"), Secret("file:A")}) == 3
    assert Secret("x") != "x"
