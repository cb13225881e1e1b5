"""What may stand under `extra:`, from both places, and that the shipped file and the README say the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from llmgate_core.config import GatewayConfig, Places, decode_extra, load
from llmgate_core.settings import decode, flags
from llmgate_qwen_oauth.settings import MODELS, OVERRIDE_FLAG, QwenSettings

PLUGIN = Path(__file__).parents[1]
SHIPPED = PLUGIN.parents[1] / "config" / "backends" / "backend-instances" / "qwen-oauth.default.yaml"

KEYS = {
    "enable_qwen_oauth_backend_debugging_override": False,
    "enable_qwen_oauth_initial_rate_limit_retry": True,
    "qwen_oauth_initial_rate_limit_retry_max_wait_seconds": 10.0,
    "qwen_oauth_initial_rate_limit_retry_random_min_seconds": 3.0,
    "qwen_oauth_initial_rate_limit_retry_random_max_seconds": 10.0,
    "credentials_path": None,
    "base_url": None,
    "oauth_base_url": "https://chat.qwen.ai",
    "models": MODELS,
}
EVERYTHING = """
  enable_qwen_oauth_backend_debugging_override: true
  enable_qwen_oauth_initial_rate_limit_retry: false
  qwen_oauth_initial_rate_limit_retry_max_wait_seconds: 5
  qwen_oauth_initial_rate_limit_retry_random_min_seconds: 0.25
  qwen_oauth_initial_rate_limit_retry_random_max_seconds: 0.5
  credentials_path: ~/qwen/creds.json
  base_url: http://127.0.0.1:9000/v1
  oauth_base_url: http://127.0.0.1:9001
  models: [coder-model]
"""
DECODED = QwenSettings(
    enable_qwen_oauth_backend_debugging_override=True,
    enable_qwen_oauth_initial_rate_limit_retry=False,
    qwen_oauth_initial_rate_limit_retry_max_wait_seconds=5.0,
    qwen_oauth_initial_rate_limit_retry_random_min_seconds=0.25,
    qwen_oauth_initial_rate_limit_retry_random_max_seconds=0.5,
    credentials_path=Path("~/qwen/creds.json"),
    base_url="http://127.0.0.1:9000/v1",
    oauth_base_url="http://127.0.0.1:9001",
    models=("coder-model",),
)


def of_instance_file(folder: Path, text: str) -> GatewayConfig:
    (folder / "qwen-oauth.default.yaml").write_text(text, encoding="utf-8")
    return load(Places(instances=folder)).checked()


def only(config: GatewayConfig) -> QwenSettings:
    """The settings of the one backend; it has no problems."""
    [backend] = config.backends
    settings, problems = decode_extra(backend, QwenSettings)
    assert (backend.name, problems) == ("qwen-oauth.default", [])
    assert isinstance(settings, QwenSettings)
    return settings


# --- the keys -------------------------------------------------------------------------------------------------------


def test_the_keys_and_their_defaults() -> None:
    assert decode(QwenSettings, {}) == (QwenSettings(), [])
    assert vars(QwenSettings()) == KEYS
    assert MODELS[:3] == ("qwen3-coder-plus", "qwen3-coder-flash", "coder-model")


def test_all_keys_load_from_an_instance_file(tmp_path: Path) -> None:
    assert only(of_instance_file(tmp_path, f"type: qwen-oauth\nextra:{EVERYTHING}")) == DECODED


def test_all_keys_load_from_the_main_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("backends:\n  qwen-oauth:\n    extra:" + EVERYTHING.replace("\n  ", "\n      "), encoding="utf-8")
    assert only(load(Places(main=path)).checked()) == DECODED


def test_the_shipped_instance_file_loads_and_has_the_switch_off() -> None:
    config = load(Places(instances=SHIPPED.parent)).checked()
    [backend] = [backend for backend in config.backends if backend.name == "qwen-oauth.default"]
    assert decode_extra(backend, QwenSettings) == (QwenSettings(), [])
    assert set(backend.extra) == {key for key in KEYS if "enable" in key or "initial_rate_limit" in key}


def test_the_switch_is_a_flag_of_serve() -> None:
    [flag] = flags(QwenSettings)
    assert (flag.name, flag.field, flag.type) == (
        "--enable-qwen-oauth-backend-debugging-override",
        "enable_qwen_oauth_backend_debugging_override",
        bool,
    )
    assert flag.name == OVERRIDE_FLAG
    assert "developers, contributors and maintainers" in flag.description


# --- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (
            {"enable_qwen_oauth_backend_debuging_override": True},
            "unknown key `extra.enable_qwen_oauth_backend_debuging_override`; "
            "did you mean `enable_qwen_oauth_backend_debugging_override`?",
        ),
        (
            {"enable_qwen_oauth_backend_debugging_override": "SECRET"},
            "`extra.enable_qwen_oauth_backend_debugging_override`: expected `bool`, got `str`; write `true` or `false`",
        ),
        (
            {"qwen_oauth_initial_rate_limit_retry_max_wait_seconds": -1},
            "`extra.qwen_oauth_initial_rate_limit_retry_max_wait_seconds`: must be at least 0",
        ),
        (
            {"qwen_oauth_initial_rate_limit_retry_random_min_seconds": 4, "models": ["SECRET", 7]},
            "`extra.models[1]`: expected `str`, got `int`",
        ),
        (
            {
                "qwen_oauth_initial_rate_limit_retry_random_min_seconds": 4,
                "qwen_oauth_initial_rate_limit_retry_random_max_seconds": 3,
            },
            "`extra`: `qwen_oauth_initial_rate_limit_retry_random_max_seconds` must not be below "
            "`qwen_oauth_initial_rate_limit_retry_random_min_seconds`",
        ),
        ({"base_url": "SECRET.example"}, "`extra.base_url`: must begin with `http://` or `https://`"),
        (
            {"base_url": "http://SECRET.example/v1"},
            "`extra`: `base_url` is not https, so the token is not sent there",
        ),
        (
            {"oauth_base_url": "http://127.0.0.1.SECRET.example", "base_url": "https://[SECRET]/v1"},
            "`extra`: `base_url` is not the address of a server; "
            "`oauth_base_url` is not https, so the token is not sent there",
        ),
        (
            {"base_url": "https://user:SECRET@gateway.example/v1"},
            "`extra`: `base_url` is not an address alone: it has a user, a query, a fragment, a backslash or a space",
        ),
        ({"oauth_base_url": None}, "`extra.oauth_base_url`: expected `str`, got `null`"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_mistake_is_told_by_its_key_and_never_with_its_value(extra: dict[str, Any], message: str) -> None:
    settings, [(_, told)] = decode(QwenSettings, extra)
    assert settings is None
    assert told.rstrip(".") == message
    assert "SECRET" not in told


@pytest.mark.parametrize(
    "url", ["https://gateway.example", "https://gateway.example/v2/", "http://localhost:1", "http://[::1]:2/v1"]
)
def test_addresses_that_are_safe_stay_as_they_are_written(url: str) -> None:
    settings, faults = decode(QwenSettings, {"base_url": url, "oauth_base_url": url})
    assert faults == []
    assert settings is not None
    assert (settings.base_url, settings.oauth_base_url) == (url, url)


def test_equal_bounds_and_zero_are_no_mistake() -> None:
    prefix = "qwen_oauth_initial_rate_limit_retry_"
    waits = {f"{prefix}{name}_seconds": 0 for name in ("max_wait", "random_min", "random_max")}
    settings, faults = decode(QwenSettings, waits)
    assert faults == []
    assert settings == QwenSettings(**dict.fromkeys(waits, 0.0))  # type: ignore[arg-type]


# --- the README -----------------------------------------------------------------------------------------------------


def test_the_standing_comes_before_anything_else_in_the_readme() -> None:
    text = (PLUGIN / "README.md").read_text(encoding="utf-8")
    title, *sections = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    assert title == "llmgate-qwen-oauth"
    assert sections[0] == "Standing of this connector"
    assert not text.partition("## Standing")[0].removeprefix("# llmgate-qwen-oauth").strip()


def test_the_readme_names_the_flag_that_exists() -> None:
    text = (PLUGIN / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"--enable[\w-]+", text)) == {OVERRIDE_FLAG}
