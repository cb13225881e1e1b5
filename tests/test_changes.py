"""What differs between two configurations: names, never values; and what goes on in spite of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from llmgate_core.changes import changes, needs_restart, same_upstreams, with_address
from llmgate_core.plugins import Installed, Loaded, PluginSet
from llmgate_core.sections import (
    AuthConfig,
    BackendConfig,
    CallerSecret,
    FailureHandlingConfig,
    GatewayConfig,
    LoggingConfig,
    Origin,
    ServerConfig,
    TimeoutsConfig,
)

NOTHING = PluginSet(())


def backend(instance: str, **members: Any) -> BackendConfig:
    return BackendConfig("acme", instance, **members)


OLD = GatewayConfig(
    server=ServerConfig(host="127.0.0.1", port=8000),
    backends=(backend("same"), backend("gone"), backend("other", extra={"key": "sk-old"}), backend("off")),
)


@pytest.mark.parametrize(
    ("new", "told"),
    [
        (OLD, "no setting has changed"),
        ({"origin": Origin("elsewhere", 7)}, "no setting has changed"),
        ({"backends": (*OLD.backends, backend("new"))}, "backends added acme.new"),
        ({"backends": OLD.backends[:1]}, "backends removed acme.gone, acme.other, acme.off"),
        (
            {
                "backends": (
                    backend("new"),
                    backend("same", origin=Origin("elsewhere", 7)),
                    backend("other", extra={"key": "sk-new"}),
                    backend("off", enabled=False),
                ),
                "default_backend": "acme.new",
            },
            "backends added acme.new, removed acme.gone, acme.off, changed acme.other; "
            "settings changed default_backend",
        ),
        (
            {
                "auth": AuthConfig((CallerSecret("sk-secret"),)),
                "timeouts": TimeoutsConfig(idle_seconds=1, total_seconds=2),
                "logging": LoggingConfig("debug"),
            },
            "settings changed auth.api_keys, timeouts.idle_seconds, timeouts.total_seconds, logging.level",
        ),
    ],
)
def test_what_has_changed_is_told_in_names(new: Any, told: str) -> None:
    assert str(changes(OLD, new if new is OLD else dataclasses.replace(OLD, **new))) == told


def test_keys_that_are_other_ones_under_the_same_name_have_changed() -> None:
    assert str(changes(OLD, OLD, keys_differ=True)) == "settings changed auth.api_keys"
    locked = dataclasses.replace(OLD, auth=AuthConfig((CallerSecret("env:KEY"),)))
    assert changes(OLD, locked, keys_differ=True).settings == ("auth.api_keys",)


def test_a_backend_keeps_its_upstream_as_long_as_its_name_and_its_extra_are_the_same() -> None:
    new = dataclasses.replace(
        OLD,
        failure_handling=FailureHandlingConfig(max_attempts=1),
        backends=(
            backend("same", default_params={"temperature": 1}),
            backend("other", extra={"key": "sk-new"}),
            backend("off", enabled=False),
            backend("new"),
        ),
    )
    assert same_upstreams(OLD, new) == ("acme.same",)


def test_the_address_stays_and_the_rest_of_the_server_does_not() -> None:
    new = dataclasses.replace(OLD, server=ServerConfig(host="0.0.0.0", port=1, max_body_bytes=7))
    kept = with_address(new, OLD)
    assert (kept.server.host, kept.server.port, kept.server.max_body_bytes) == ("127.0.0.1", 8000, 7)
    assert len(needs_restart(OLD, NOTHING, new, NOTHING)) == 2
    assert needs_restart(OLD, NOTHING, kept, NOTHING) == ()


def test_a_plugin_that_was_upgraded_on_disk_needs_a_restart() -> None:
    def loaded(version: str, name: str = "acme", *, is_file: bool = False) -> PluginSet:
        return PluginSet((Loaded(Installed(name, "llmgate-acme", version, "llmgate_acme", is_file=is_file)),))

    (told,) = needs_restart(OLD, loaded("1.0"), OLD, loaded("1.1"))
    assert "`llmgate-acme` 1.1" in told
    assert "1.0 runs" in told
    assert needs_restart(OLD, loaded("1.0"), OLD, loaded("1.0")) == ()
    assert needs_restart(OLD, loaded("1.0"), OLD, loaded("1.1", "other")) == ()
    assert needs_restart(OLD, loaded("1.0"), OLD, loaded("2", is_file=True)) == (), "files are read anew"
