"""From files, flags and environment to one configuration: what is read, and what is told of mistakes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmgate_core.config import (
    GatewayConfig,
    Loaded,
    Override,
    Places,
    TimeoutsConfig,
    advise,
    decode_extra,
    find_places,
    load,
)
from llmgate_core.editor_schemas import config_schema, instance_schema
from llmgate_core.errors import ConfigError
from llmgate_core.model_facts import Facts
from llmgate_core.settings import Meta, Secret

ROOT = Path(__file__).parent.parent
MARKER = "s3cret-MARKER"

Overrides = dict[tuple[str | int, ...], Override]


@dataclass(frozen=True)
class Acme:
    base_url: str = "http://acme"
    max_wait: Annotated[float, Meta(ge=0)] = 1
    api_key: Secret | None = None


class Files:
    """A folder with a main file and instance files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.instances = folder / "backends" / "backend-instances"

    def load(
        self,
        main: str | None = None,
        instances: dict[str, str] | None = None,
        overrides: Overrides | None = None,
    ) -> Loaded:
        path = self.folder / "config.yaml"
        if main is not None:
            path.write_text(main, encoding="utf-8")
        self.instances.mkdir(parents=True, exist_ok=True)
        for name, text in (instances or {}).items():
            (self.instances / name).write_text(text, encoding="utf-8")
        return load(Places(path if main is not None else None, self.instances), overrides)

    def problems(self, *args: Any, **kwargs: Any) -> list[str]:
        return [str(problem) for problem in self.load(*args, **kwargs).problems]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


# --- sections ---


def test_nothing_at_all_is_all_defaults() -> None:
    loaded = load(Places())
    assert loaded.checked() == GatewayConfig()
    assert loaded.config.server.host == "127.0.0.1"
    assert loaded.config.server.port == 8000
    assert loaded.config.timeouts == TimeoutsConfig(10, 600, 300, None)


def test_a_whole_file_is_read(files: Files) -> None:
    config = files.load(
        "server: {host: 0.0.0.0, port: 0, allowed_hosts: [a.example]}\n"
        "timeouts: {total_seconds: 9, idle_seconds: null}\n"
        "parameters: {on_error: warn}\n"
        "plugins: {load: [x]}\n"
        "backends:\n"
        "  acme:\n"
        "  beta: {enabled: false}\n"
    ).checked()
    assert config.server.allowed_hosts == ("a.example",)
    assert config.timeouts == TimeoutsConfig(10, 600, None, 9)
    assert config.parameters.on_error == "warn"
    assert config.plugin_names() == ("acme", "x")
    assert [backend.name for backend in config.enabled_backends()] == ["acme.default"]
    assert config.names().disabled == ("beta.default",)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("server:\n  prot: 1", "config.yaml:2: unknown key `server.prot`; did you mean `port`?"),
        ("bakends: {}", "config.yaml:1: unknown key `bakends`; did you mean `backends`?"),
        ("server:\n  port: 70000", "config.yaml:2: `server.port`: must be at least 0 and at most 65535."),
        ("server:\n  port: '80'", "config.yaml:2: `server.port`: expected `int`, got `str`."),
        ("server: 1", "config.yaml:1: `server`: expected `mapping`, got `int`."),
        ("backends: [acme]", "config.yaml:1: `backends`: expected `mapping`, got `list`."),
        (
            "failure_handling: {max_attempts: 0}",
            "config.yaml:1: `failure_handling.max_attempts`: must be at least 1.",
        ),
        (
            "logging:\n  level: loud",
            "config.yaml:2: `logging.level`: expected one of `debug`, `info`, `warning`, `error`.",
        ),
        (
            "auth:\n  api_keys:\n    - env:A\n    - 5",
            "config.yaml:4: `auth.api_keys[1]`: expected `str` or `mapping`, got `int`.",
        ),
        ("auth:\n  api_keys:\n    - {name: a}", "config.yaml:3: missing key `auth.api_keys[0].key`"),
        ("default_backend: ''", "config.yaml:1: `default_backend`: must not be empty."),
    ],
)
def test_a_mistake_is_told_with_its_line(files: Files, text: str, problem: str) -> None:
    assert files.problems(text) == [problem]


def test_all_problems_of_all_files_come_at_once_in_order(files: Files) -> None:
    loaded = files.load(
        "server:\n  port: x\nlogging: {levl: info}\nbackends:\n  a/b: {}\n  acme: {extra: 5}\n",
        {"acme.two.yaml": "\nenabled: perhaps\n", "beta.yaml": "", "gamma.x.yaml": "a: [\n"},
    )
    expected = [
        "acme.two.yaml:2: `enabled`: expected `bool`, got `str`; write `true` or `false`.",
        "beta.yaml: an instance file is named `<type>.<instance>.yaml`, such as `acme.default.yaml`",
        "config.yaml:2: `server.port`: expected `int`, got `str`.",
        "config.yaml:3: unknown key `logging.levl`; did you mean `level`?",
        "config.yaml:5: `backends.a/b`: a backend is named `type` or `type.instance`, of letters, digits, `-` and `_`",
        "config.yaml:6: `backends.acme.extra`: expected `mapping`, got `int`.",
        "gamma.x.yaml:2: not valid YAML",
    ]
    assert [str(problem) for problem in loaded.problems] == expected
    with pytest.raises(ConfigError) as caught:
        loaded.checked()
    assert str(caught.value) == "\n".join(expected)


def test_keys_of_later_features_are_unknown_now(files: Files) -> None:
    problems = files.problems("hybird: {}\n")
    assert [problem.partition(";")[0] for problem in problems] == ["config.yaml:1: unknown key `hybird`"]


# --- edit precision ---


def test_edit_precision_as_it_is_written(files: Files) -> None:
    config = files.load("""
        edit_precision:
          enabled: true
          temperature: 0.2
          exclude_agents_regex: "^(aider|our-agent)/"
          model_temperatures: {coder: 0}
          patterns:
            - {name: ours, agent: our-agent, tools: [patch], texts: ["Patch did not apply to {}"]}
    """).checked()
    found = config.edit_precision
    assert (found.enabled, found.temperature, found.model_temperatures) == (True, 0.2, {"coder": 0.0})
    assert found.exclude_agents_regex == "^(aider|our-agent)/"
    (pattern,) = found.patterns
    assert (pattern.name, pattern.role, pattern.texts) == ("ours", "tool", ("Patch did not apply to {}",))


def test_each_mistake_in_edit_precision_has_its_line(files: Files) -> None:
    text = """edit_precision:
  enabled: perhaps
  temperature: 3
  exclude_agents_regex: "(a+)+"
  model_temperatures: {coder: -1}
  patterns:
    - name: "Not A Name"
      agent: our-agent
      tools: []
      texts: ["Patch did not apply"]
      tool: patch
    - {name: b, agent: a, tools: [t], texts: ["{} failed"]}
    - {name: c, agent: a, tools: [t], texts: ["no {} match"], role: system}
"""
    assert files.problems(text) == [
        "config.yaml:2: `edit_precision.enabled`: expected `bool`, got `str`; write `true` or `false`.",
        "config.yaml:3: `edit_precision.temperature`: must be at least 0 and at most 2.",
        "config.yaml:5: `edit_precision.model_temperatures.coder`: must be at least 0 and at most 2.",
        "config.yaml:7: `edit_precision.patterns[0].name`: must match `^[a-z0-9][a-z0-9.-]*$`.",
        "config.yaml:9: `edit_precision.patterns[0].tools`: must not be empty.",
        "config.yaml:11: unknown key `edit_precision.patterns[0].tool`; did you mean `tools`?",
        "config.yaml:12: `edit_precision.patterns[1]`: a text must begin with words, not with `{}` or a space",
        "config.yaml:13: `edit_precision.patterns[2].role`: expected one of `tool`, `user`.",
    ]
    assert files.problems('edit_precision:\n  exclude_agents_regex: "(a+"\n') == [
        "config.yaml:2: `edit_precision.exclude_agents_regex`: is not a regular expression of RE2: missing )"
    ]


# --- overrides ---


def test_overrides_win_over_the_file(files: Files) -> None:
    config = files.load(
        "server: {port: 1, host: localhost}\nauth: {api_keys: [env:A]}\n",
        overrides={
            ("server", "port"): Override(2, "--port"),
            ("auth", "api_keys"): Override(["k"], "LLMGATE_API_KEYS"),
            ("force_model",): Override("acme:m", "LLMGATE_FORCE_MODEL"),
        },
    ).checked()
    assert (config.server.port, config.server.host) == (2, "localhost")
    assert config.auth.api_keys == (config.auth.callers()[0].key,)
    assert config.auth.callers()[0].key.reveal({}) == "k"
    assert config.force_model == "acme:m"


def test_a_bad_override_is_told_with_its_flag(files: Files) -> None:
    overrides: Overrides = {
        ("server", "port"): Override(-1, "--port"),
        ("auth", "api_keys"): Override([""], "LLMGATE_API_KEYS"),
    }
    assert files.problems("server:\n  port: 1\n", overrides=overrides) == [
        "--port: `server.port`: must be at least 0 and at most 65535.",
        "LLMGATE_API_KEYS: `auth.api_keys[0]`: must not be empty.",
    ]


def test_an_override_does_not_hide_a_wrong_section(files: Files) -> None:
    assert files.problems("server: 5\n", overrides={("server", "port"): Override(1, "--port")}) == [
        "config.yaml:1: `server`: expected `mapping`, got `int`."
    ]


def test_a_later_problem_knows_file_or_flag(files: Files) -> None:
    config = files.load(
        "auth:\n  api_keys:\n    - env:A\n",
        overrides={("force_model",): Override("x", "--force-model")},
    ).checked()
    assert str(config.problem(("auth", "api_keys", 0), "no")) == "config.yaml:3: no"
    assert str(config.problem(("auth", "other"), "no")) == "config.yaml:1: no"
    assert str(config.problem(("force_model",), "no")) == "--force-model: no"
    assert str(config.problem(("server",), "no")) == "config.yaml: no"


# --- callers' keys ---


def test_callers_have_names_and_digests(files: Files) -> None:
    digest = hashlib.sha256(b"hashed").hexdigest()
    callers = (
        files.load(f"auth: {{api_keys: [env:A, {{name: bob, key: 'sha256:{digest}'}}, plain]}}\n")
        .checked()
        .auth.callers()
    )
    assert [caller.name for caller in callers] == ["key-1", "bob", "key-3"]
    environ = {"A": "from-environment"}
    expected = [hashlib.sha256(key).digest() for key in (b"from-environment", b"hashed", b"plain")]
    assert [caller.key.digest(environ) for caller in callers] == expected
    assert "plain" not in repr(callers)


def test_a_hash_must_be_one(files: Files) -> None:
    assert files.problems("auth: {api_keys: [{name: a, key: 'sha256:12'}]}") == [
        "config.yaml:1: `auth.api_keys[0].key`: what follows `sha256:` must be 64 hexadecimal digits."
    ]
    assert files.problems("auth: {api_keys: ['sha256:12']}") == [
        "config.yaml:1: `auth.api_keys[0]`: what follows `sha256:` must be 64 hexadecimal digits."
    ]


def test_plain_keys_get_advice_where_others_may_read_them(files: Files) -> None:
    digest = "sha256:" + "0" * 64
    keys = f"auth:\n  api_keys:\n    - env:A\n    - {digest}\n    - {MARKER}\n    - {{name: a, key: {MARKER}}}\n"
    sentence = "the secret itself stands here; better say where it is, `env:NAME` or `file:PATH`"
    assert [str(advice) for advice in files.load(keys).advice] == [
        f"config.yaml:5: `auth.api_keys[2]`: {sentence}, or its hash as `sha256:HEX`",
        f"config.yaml:6: `auth.api_keys[3]`: {sentence}, or its hash as `sha256:HEX`",
    ]
    path = ("auth", "api_keys")
    assert files.load("", overrides={path: Override([MARKER], "LLMGATE_API_KEYS")}).advice == ()
    assert len(files.load("", overrides={path: Override([MARKER], "--api-key")}).advice) == 1


@dataclass(frozen=True)
class Keyed:
    key: Secret


@pytest.mark.parametrize("written", ["$HOSTED_KEY", "${HOSTED_KEY}", "ENV:HOSTED_KEY", "Env:HOSTED_KEY", "File:/key"])
def test_what_looks_like_a_reference_gets_advice_without_being_shown(files: Files, written: str) -> None:
    sentence = "this looks like a reference, but is taken as the secret itself; write `env:NAME` or `file:PATH`"
    found = files.load(f"auth: {{api_keys: ['{written}']}}\nbackends:\n  acme:\n    extra: {{key: '{written}'}}\n")
    assert [str(advice) for advice in found.advice] == [f"config.yaml:1: `auth.api_keys[0]`: {sentence}"]
    (backend,) = found.checked().backends
    settings, _ = decode_extra(backend, Keyed)
    assert [str(advice) for advice in advise(backend, settings)] == [f"config.yaml:4: `extra.key`: {sentence}"]
    (from_environment,) = files.load(
        "", overrides={("auth", "api_keys"): Override([written], "LLMGATE_API_KEYS")}
    ).advice
    assert from_environment.source == "LLMGATE_API_KEYS"


# --- server ---


@pytest.mark.parametrize(
    "host", ["https://llm.example", "llm.example:443", "llm.example/", "*", "*.example", "", "a b", "-x", "::1]"]
)
def test_a_host_that_no_request_could_name_is_told(files: Files, host: str) -> None:
    assert files.problems(f"server:\n  allowed_hosts:\n    - ok.example\n    - '{host}'\n") == [
        "config.yaml:4: `server.allowed_hosts[1]`: write the name alone, such as `llm.example`: "
        "no scheme, no port, no slash, no `*`"
    ]


@pytest.mark.parametrize(
    "origin",
    [
        "chat.example",
        "https://chat.example/",
        "https://chat.example/x",
        "*",
        "https://*.example",
        "null",
        "https://",
        "ftp://chat.example",
        "https://chat.example:",
        "https://user@chat.example",
        "https://chat.example?x",
    ],
)
def test_an_origin_that_no_browser_sends_is_told(files: Files, origin: str) -> None:
    (said,) = files.problems(f"server:\n  allowed_origins:\n    - '{origin}'\n")
    assert said.startswith("config.yaml:3: `server.allowed_origins[0]`: write scheme and name, ")


def test_hosts_and_origins_as_they_should_be(files: Files) -> None:
    hosts = ["llm.example", "LLM_1.example.", "localhost", "10.0.0.1", "::1"]
    origins = ["https://Chat.Example", "HTTP://localhost:3000", "http://[::1]:80"]
    server = files.load(f"server: {{allowed_hosts: {hosts}, allowed_origins: {origins}}}").checked().server
    assert server.allowed_hosts == tuple(hosts)
    assert server.allowed_origins == ("https://chat.example", "http://localhost:3000", "http://[::1]:80")


# --- backends ---


def test_a_key_is_a_type_an_instance_or_an_alias(files: Files) -> None:
    config = files.load(
        "backends:\n"
        "  acme: {}\n"
        "  acme.two: {type: acme}\n"
        "  coder: {type: acme}\n"
        "  beta: {connector: beta}\n"
        "  acme.v4.1: {connector: acme, type: acme}\n"
    ).checked()
    assert [(backend.name, backend.alias) for backend in config.backends] == [
        ("acme.default", None),
        ("acme.two", None),
        ("acme.coder", "coder"),
        ("beta.default", None),
        ("acme.v4.1", None),
    ]
    assert config.names().aliases == {"coder": "acme.coder"}


def test_an_instance_file_needs_no_main_file(files: Files) -> None:
    config = files.load(
        None,
        {
            "acme.default.yaml": "extra: {a: 1}\ndefault_params: {temperature: 0.2}\n",
            "acme.two.yml": "connector: acme\nforced_params: {seed: 1}\nenabled: false\n",
            "beta.default.yaml": "",
            ".acme.three.yaml": "not: read",
            "notes.txt": "not: read",
        },
    ).checked()
    assert [backend.name for backend in config.backends] == ["acme.default", "acme.two", "beta.default"]
    first, second, third = config.backends
    assert (first.extra, first.default_params) == ({"a": 1}, {"temperature": 0.2})
    assert (second.forced_params, second.enabled) == ({"seed": 1}, False)
    assert third.enabled


def test_facts_of_models_are_read(files: Files) -> None:
    config = files.load(
        "backends:\n"
        "  acme:\n"
        "    model_facts:\n"
        "      acme-large: {context: 1000, input: [text, image], thinking: optional, refuses: [temperature]}\n"
        "      acme-*: {max_output: 5, excludes: [[temperature, top_p]], refuses: []}\n"
    ).checked()
    assert config.backends[0].model_facts == {
        "acme-large": Facts(context=1000, input=("text", "image"), thinking="optional", refuses=("temperature",)),
        "acme-*": Facts(max_output=5, excludes=(("temperature", "top_p"),), refuses=()),
    }


def test_mistakes_in_facts_are_told_with_their_lines(files: Files) -> None:
    assert files.problems(
        "backends:\n"
        "  acme:\n"
        "    model_facts:\n"
        "      a: {contxt: 1000}\n"
        "      b:\n"
        "        context: many\n"
        "        input: [text, smell]\n"
        "        thinking: sometimes\n"
        "      c:\n"
        "        refuses: temperature\n"
        "      d: {refuses: [temprature]}\n"
        "      e: {excludes: [[top_p]]}\n",
        {"acme.two.yaml": "model_facts:\n  a:\n    max_output: 0\n"},
    ) == [
        "acme.two.yaml:3: `model_facts.a.max_output`: must be at least 1.",
        "config.yaml:4: unknown key `backends.acme.model_facts.a.contxt`; did you mean `context`?",
        "config.yaml:6: `backends.acme.model_facts.b.context`: expected `int`, got `str`.",
        "config.yaml:7: `backends.acme.model_facts.b.input[1]`: expected one of `text`, `image`, `audio`, `video`, "
        "`file`.",
        "config.yaml:8: `backends.acme.model_facts.b.thinking`: expected one of `none`, `optional`, `always`.",
        "config.yaml:10: `backends.acme.model_facts.c.refuses`: expected `list`, got `str`; write a list, such as "
        "`[a, b]`.",
        "config.yaml:11: `backends.acme.model_facts.d`: a parameter's name looks like a misspelt `temperature`; write "
        "that, or leave it out",
        "config.yaml:12: `backends.acme.model_facts.e`: a group of `excludes` names at least two parameters, such as "
        "`[temperature, top_p]`",
    ]


def test_a_backend_keeps_only_the_timeouts_that_it_has(files: Files) -> None:
    config = files.load(
        "timeouts: {connect_seconds: 1, total_seconds: 99}\n"
        "backends: {acme: {timeouts: {total_seconds: null, idle_seconds: 5}}}\n"
    ).checked()
    assert config.backends[0].timeouts == {"total_seconds": None, "idle_seconds": 5.0}
    assert config.backends[0].merged_timeouts(config.timeouts) == TimeoutsConfig(1, 600, 5, None)


NAMED = "a backend is named `type` or `type.instance`, of letters, digits, `-` and `_`"


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("a/b: {}", f"`backends.a/b`: {NAMED}"),
        ("'a:b': {}", f"`backends.a:b`: {NAMED}"),
        ("'a b': {}", f"`backends.a b`: {NAMED}"),
        ("'': {}", f"`backends.`: {NAMED}"),
        ("acme.: {}", f"`backends.acme.`: {NAMED}"),
        ("'a|b': {type: acme}", "`backends.a|b`: a backend's name is made of letters, digits, `-` and `_`"),
        (
            "coder: {type: a/b}",
            "`backends.coder.type`: a connector's name is made of letters, digits, `-` and `_`",
        ),
        ("acme.x: {type: beta}", "`backends.acme.x.type`: must be `acme`, as in the name of the backend."),
        (
            "acme: {type: acme, connector: beta}",
            "`backends.acme.type` and `backends.acme.connector` differ; keep one of them",
        ),
        ("acme: {tpye: acme}", "unknown key `backends.acme.tpye`; did you mean `type`?"),
        ("acme: 5", "`backends.acme`: expected `mapping`, such as `extra:` with settings below it."),
        (
            "acme: {timeouts: {idle_seconds: 0}}",
            "`backends.acme.timeouts.idle_seconds`: must be greater than 0.",
        ),
    ],
)
def test_a_wrong_backend_is_told(files: Files, section: str, problem: str) -> None:
    assert files.problems(f"backends:\n  {section}\n") == [f"config.yaml:2: {problem}"]


def test_an_instance_file_must_agree_with_its_name(files: Files) -> None:
    assert files.problems(None, {"acme.x.yaml": "\ntype: beta\n", "a b.x.yaml": ""}) == [
        f"a b.x.yaml:1: the name of this file: {NAMED}",
        "acme.x.yaml:2: `type`: must be `acme`, as in the name of the backend.",
    ]


def test_one_instance_in_two_places_names_both(files: Files) -> None:
    main = "backends:\n  acme: {}\n  acme.default: {}\n  coder: {type: acme}\n"
    assert files.problems(main, {"acme.coder.yaml": "type: acme\n"}) == [
        "acme.coder.yaml:1: backend `acme.coder` is configured twice; it is also in config.yaml:4",
        "config.yaml:3: backend `acme.default` is configured twice; it is also in config.yaml:2",
    ]


def test_an_alias_may_not_be_the_type_of_another(files: Files) -> None:
    assert files.problems("backends:\n  beta: {type: acme}\n  beta.two: {}\n") == [
        "config.yaml:2: `beta` is also the type of the backend in config.yaml:3; choose another name"
    ]


# --- default_backend ---


def test_a_default_backend_without_any_file_is_made(files: Files) -> None:
    override: Overrides = {("default_backend",): Override("acme:some-model", "--default-backend")}
    config = load(Places(), override).checked()
    (backend,) = config.backends
    assert (backend.name, backend.extra) == ("acme.default", {})
    settings, problems = decode_extra(backend.override_extra({"max_wait": -1}, "--acme-max-wait"), Acme)
    assert settings is None
    assert [str(p) for p in problems] == ["--acme-max-wait: `extra.max_wait`: must be at least 0."]
    assert [str(p) for p in decode_extra(backend, Needy)[1]] == ["--default-backend: missing key `extra.key`"]


@dataclass(frozen=True)
class Needy:
    key: Secret


@pytest.mark.parametrize("name", ["acme", "acme.one", "coder", "acme:m", "coder:m"])
def test_a_default_backend_that_is_configured_makes_nothing(files: Files, name: str) -> None:
    config = files.load(
        f"default_backend: '{name}'\nbackends:\n  acme:\n  acme.one:\n  coder: {{type: acme}}\n"
    ).checked()
    assert len(config.backends) == 3
    assert config.names().default == name


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "acme.three",
            "names no backend that is configured; to use a connector's defaults, write the connector's name",
        ),
        ("acme", "`acme` has several instances and none called `default`; write one of `acme.one`, `acme.two`"),
        ("beta", "names a backend that is switched off (`enabled: false`)"),
        ("'acme.one:'", "the name of a model is missing after `:`; write `BACKEND` or `BACKEND:MODEL`"),
        ("acme.noe", "names no backend that is configured; did you mean `acme.one`?"),
        ("one.", "names no backend that is configured; to use a connector's defaults, write the connector's name"),
    ],
)
def test_a_default_backend_that_cannot_serve_is_told(files: Files, name: str, told: str) -> None:
    text = f"default_backend: {name}\nbackends: {{acme.one: , acme.two: , beta: {{enabled: false}}}}\n"
    assert files.problems(text) == [f"config.yaml:1: `default_backend`: {told}"]


# --- extra ---


def test_extra_is_told_at_its_line_in_either_file(files: Files) -> None:
    text = "extra:\n\n  base_url: 3\n  max_wiat: 1\n"
    main = "backends:\n  acme.main:\n    extra:\n      base_url: 3\n"
    config = files.load(main, {"acme.default.yaml": f"type: acme\n{text}"}).checked()
    problems = [str(p) for backend in config.backends for p in decode_extra(backend, Acme)[1]]
    assert sorted(problems) == [
        "acme.default.yaml:4: `extra.base_url`: expected `str`, got `int`.",
        "acme.default.yaml:5: unknown key `extra.max_wiat`; did you mean `max_wait`?",
        "config.yaml:4: `extra.base_url`: expected `str`, got `int`.",
    ]


def test_a_missing_key_is_told_where_extra_is(files: Files) -> None:
    config = files.load("backends:\n  acme:\n    extra: {}\n  acme.two:\n").checked()
    problems = [str(p) for backend in config.backends for p in decode_extra(backend, Needy)[1]]
    assert problems == ["config.yaml:3: missing key `extra.key`", "config.yaml:4: missing key `extra.key`"]


def test_extra_becomes_settings(files: Files) -> None:
    config = files.load("backends: {acme: {extra: {api_key: secret, max_wait: 2}}}").checked()
    backend = config.backends[0]
    settings, problems = decode_extra(backend, Acme)
    assert (settings, problems) == (Acme(max_wait=2.0, api_key=Secret("secret")), [])
    assert [str(advice) for advice in advise(backend, settings)] == [
        "config.yaml:1: `extra.api_key`: the secret itself stands here; "
        "better say where it is, `env:NAME` or `file:PATH`"
    ]
    assert advise(backend, Acme(api_key=Secret("env:A"))) == []
    assert "secret" not in repr(config).replace("api_key", "")


def test_a_connector_without_settings_takes_none(files: Files) -> None:
    config = files.load("backends: {acme: {extra: {a: 1}}, beta: {}}").checked()
    first, second = config.backends
    assert [str(p) for p in decode_extra(first, None)[1]] == [
        "config.yaml:1: unknown key `extra.a`; known here: nothing"
    ]
    assert decode_extra(second, None) == (None, [])


def test_a_flag_sets_every_instance_of_its_connector(files: Files) -> None:
    config = files.load("backends: {acme: {extra: {max_wait: 1}}, acme.two: , beta: }").checked()
    changed = config.override_extra("acme", {"max_wait": 9.0}, "--acme-max-wait")
    assert [backend.extra for backend in changed.backends] == [{"max_wait": 9.0}, {"max_wait": 9.0}, {}]
    assert config.backends[0].extra == {"max_wait": 1}


# --- where the files are ---


def test_files_are_looked_for_here_and_then_at_home(tmp_path: Path) -> None:
    cwd, home = tmp_path / "cwd", tmp_path / "home"
    here, at_home = cwd / "config", home / ".config" / "llmgate"
    assert find_places(cwd, home) == Places()
    at_home.mkdir(parents=True)
    (at_home / "config.yaml").touch()
    assert find_places(cwd, home) == Places(at_home / "config.yaml")
    instances = here / "backends" / "backend-instances"
    instances.mkdir(parents=True)
    assert find_places(cwd, home) == Places(None, instances)
    (here / "config.yaml").touch()
    assert find_places(cwd, home) == Places(here / "config.yaml", instances)


def test_named_places_are_taken_as_they_are(tmp_path: Path) -> None:
    main, folder = tmp_path / "my.yaml", tmp_path / "folder"
    assert find_places(tmp_path, tmp_path, main, folder) == Places(main, folder)
    assert [str(problem) for problem in load(Places(main, folder)).problems] == [
        f"{folder}: cannot be read: No such file or directory",
        f"{main}: cannot be read: No such file or directory",
    ]


# --- the shipped example and the page ---


def blocks_of_page() -> Iterator[str]:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    yield from re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)


def keys_of(schema: dict[str, Any], prefix: str = "") -> set[str]:
    found = set()
    for name, below in schema.get("properties", {}).items():
        found |= {f"{prefix}{name}"} | keys_of(below, f"{prefix}{name}.")
    return found


@pytest.mark.parametrize("which", ["page", "example"])
def test_every_key_is_shown_once_with_its_default(files: Files, which: str) -> None:
    example = (ROOT / "config" / "config.example.yaml").read_text(encoding="utf-8")
    text = next(blocks_of_page()) if which == "page" else example
    loaded = files.load(text)
    config = loaded.checked()
    assert loaded.advice == ()
    defaults = GatewayConfig(backends=config.backends)
    assert config == defaults
    free = (("backends",), ("edit_precision", "model_temperatures"))
    written = {
        ".".join(str(part) for part in path)
        for path in config.origin.lines
        if not any(path[: len(above)] == above and path != above for above in free)
    }
    schema = config_schema({})
    del schema["properties"]["backends"]["properties"]
    assert written == keys_of(schema)
    (backend,) = config.backends
    below = {path[0] for path in backend.origin.lines}
    assert below == set(instance_schema("x", {})["properties"]) - {"connector"}
    assert not backend.enabled


# --- properties ---

PLACES_OF_VALUES = [
    "server: {{host: {}, port: {}, allowed_hosts: {}}}",
    "auth: {}",
    "auth: {{api_keys: {}}}",
    "auth: {{api_keys: [{{name: {}, key: [{}]}}]}}",
    "default_backend: [{}]",
    "timeouts: {{idle_seconds: {}}}",
    "failure_handling: {}",
    "logging: {{level: {}, format: {}}}",
    "plugins: {{load: [{}, 1], block: {}}}",
    "parameters: {{on_error: {}}}",
    "backends: {}",
    "backends: {{acme: {}}}",
    "backends: {{acme: {{extra: {}, enabled: {}, timeouts: {}, type: [{}]}}}}",
    "backends: {{acme.x: {{type: {}, default_params: {}}}}}",
    "backends: {{acme: {{extra: {{base_url: [{}], max_wait: {}, api_key: [{}]}}}}}}",
]


@pytest.mark.parametrize("place", PLACES_OF_VALUES)
@pytest.mark.parametrize("value", [MARKER, f"[{MARKER}]", f"[[{MARKER}]]", f"!tag {MARKER}", f"env:{MARKER}"])
def test_no_value_is_ever_told(files: Files, place: str, value: str) -> None:
    loaded = files.load(place.format(*[value] * place.count("{}")))
    problems = [*loaded.problems, *loaded.advice]
    for backend in loaded.config.backends:
        problems += decode_extra(backend, Acme)[1]
    assert problems
    assert not any(MARKER in str(problem) for problem in problems)


LINES = st.lists(
    st.sampled_from(
        [
            "server:",
            "  port: 1",
            "auth: {api_keys: [a]}",
            "backends:",
            "  acme:",
            "  acme.two: {type: x}",
            "    extra: &a {b: 1}",
            "    extra: *a",
            "default_backend: acme",
            "- x",
            "'",
            "\t",
            "a: !b",
            "? {}",
            "timeouts: {idle_seconds: .nan}",
            "\x00",
        ]
    )
    | st.text(max_size=10),
    max_size=8,
).map("\n".join)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LINES)
def test_any_text_loads_or_is_a_config_error(files: Files, text: str) -> None:
    (files.folder / "config.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    loaded = load(Places(files.folder / "config.yaml"))
    if loaded.problems:
        with pytest.raises(ConfigError):
            loaded.checked()
    else:
        assert loaded.checked() is loaded.config
