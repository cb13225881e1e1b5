"""Finding, loading and fencing plugins: fake distributions on a path of their own, as pip would have left them."""

from __future__ import annotations

import logging
import sys
import textwrap
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.sites import CONNECTOR, Site

from llmgate_core.checks import find_problems
from llmgate_core.config import GatewayConfig
from llmgate_core.plugins import PluginSet, describe, discover, load, load_all, settings_type
from llmgate_core.request import RequestRecord

if TYPE_CHECKING:
    from tests.sites import Site

CORE = version("llmgate-core")


def problem_of(source: str, site: Site) -> str:
    """What is said of the plugin `acme` with this source; it must name the plugin and bring nothing."""
    site.plugin(source)
    plugins = load(["acme"])
    assert "acme" not in plugins.connectors
    assert list(plugins.problems) == ["acme"]
    said = plugins.problems["acme"]
    first, rest = said.split("\n", 1)
    assert first == "plugin `acme` of distribution `llmgate-acme` 1.2 (llmgate_site_acme):"
    return rest.strip()


# --- discovery -------------------------------------------------------------------------------------------------------


def test_discovery_reads_metadata_and_imports_nothing(site: Site) -> None:
    site.plugin("raise SystemExit('imported!')")
    (found,) = (one for one in discover() if one.name == "acme")
    assert (found.distribution, found.version, found.target) == ("llmgate-acme", "1.2", "llmgate_site_acme")
    assert "llmgate_site_acme" not in sys.modules


def test_a_distribution_that_is_seen_twice_counts_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.plugin(CONNECTOR)
    monkeypatch.syspath_prepend(site.folder)
    monkeypatch.syspath_prepend(f"{site.folder}/../{site.folder.name}")
    assert [one.name for one in discover()].count("acme") == 1
    assert not load(["acme"]).problems


def test_what_a_half_finished_uninstall_leaves_behind_stops_nobody(site: Site) -> None:
    info = site.distribution("llmgate-acme", {"acme": "llmgate_site_acme"})
    (info / "METADATA").unlink()
    site.plugin(CONNECTOR.replace('"acme"', '"other"'), name="other")
    assert "other" in load(["other"]).connectors
    (row,) = (row for row in describe(load_all()) if row["name"] == "acme")
    assert (row["distribution"], row["version"]) == ("unknown", "?")
    assert "No module named" in row["problem"]
    site.plugin(CONNECTOR, distribution="llmgate-acme-again")
    assert [one.distribution for one in discover() if one.name == "acme"] == ["llmgate-acme-again", "unknown"]


# --- loading ---------------------------------------------------------------------------------------------------------


def test_only_what_is_named_is_imported(site: Site) -> None:
    site.plugin(CONNECTOR)
    site.plugin("raise SystemExit('imported!')", name="other")
    plugins = load(["acme"])
    assert not plugins.problems
    assert sorted(plugins.connectors) == ["acme", "anthropic-compatible", "openai-compatible"]
    assert "llmgate_site_other" not in sys.modules


def test_the_built_in_plugin_comes_first_and_brings_a_gateway() -> None:
    plugins = load([])
    (builtin,) = plugins.loaded
    assert str(builtin.plugin) == f"plugin `builtin` of distribution `llmgate-core` {CORE} (llmgate_core.builtin)"
    assert list(plugins.connectors) == ["openai-compatible", "anthropic-compatible"]
    assert [cls.name for cls in plugins.policies] == ["uri_params", "edit_precision"]
    assert {cls.name for cls in plugins.frontends} >= {"openai-chat", "catalogue"}


def test_one_distribution_may_bring_several_plugins(site: Site) -> None:
    site.module("llmgate_site_two", CONNECTOR)
    site.module("llmgate_site_three", CONNECTOR.replace('"acme"', '"three"'))
    site.distribution("llmgate-many", {"acme": "llmgate_site_two", "three": "llmgate_site_three"})
    assert {"acme", "three"} <= set(load(["acme", "three"]).connectors)
    assert "three" not in load(["acme"]).connectors


def test_a_broken_plugin_that_nobody_names_hurts_nobody(site: Site) -> None:
    site.plugin(CONNECTOR)
    site.plugin("raise RuntimeError('broken')", name="other")
    assert not load(["acme"]).problems
    everything = load_all()
    assert "acme" in everything.connectors
    assert list(everything.problems) == ["other"]


def test_nothing_global_is_left_behind(site: Site) -> None:
    site.plugin(CONNECTOR)
    first, second = load(["acme"]), load(["acme"])
    assert first.loaded is not second.loaded
    assert "acme" not in load([]).connectors
    assert first.connectors["acme"] is second.connectors["acme"]


# --- each kind of fault ----------------------------------------------------------------------------------------------


def test_a_missing_dependency(site: Site) -> None:
    said = problem_of("import frobnicate_sdk", site)
    assert said == (
        "cannot be imported: No module named 'frobnicate_sdk'. "
        "Its distribution should install `frobnicate_sdk`: reinstall it, or tell its author"
    )


def test_a_name_that_this_core_does_not_have(site: Site) -> None:
    said = problem_of("from llmgate_core import Teleporter", site)
    assert said.startswith("cannot be imported: cannot import name 'Teleporter' from 'llmgate_core'")
    assert said.endswith("Install versions of it and of llmgate-core that fit each other")


def test_an_exception_at_import(site: Site) -> None:
    said = problem_of("\n\nraise RuntimeError('no licence')\n", site)
    assert said.startswith("RuntimeError while loading: no licence (")
    assert said.endswith("llmgate_site_acme.py:3)")


def test_a_plugin_that_ends_the_process(site: Site) -> None:
    assert problem_of("import sys\nsys.exit('bye')\n", site).startswith("SystemExit while loading: bye (")


def test_a_syntax_error(site: Site) -> None:
    said = problem_of("x = 1\ndef broken(:\n    pass\n", site)
    assert said == "SyntaxError while loading: invalid syntax (llmgate_site_acme.py, line 2)"


def test_no_api_version(site: Site) -> None:
    source = CONNECTOR.replace("LLMGATE_PLUGIN_API = 1", "")
    assert problem_of(source, site) == "declares no plugin API version; its module needs `LLMGATE_PLUGIN_API = 1`"


@pytest.mark.parametrize(("number", "words"), [("2", "a newer plugin API (2)"), ("0", "an older plugin API (0)")])
def test_another_api_version(site: Site, number: str, words: str) -> None:
    said = problem_of(CONNECTOR.replace("API = 1", f"API = {number}"), site)
    assert said == (f"is written for {words}; this llmgate-core has 1. Install versions of the two that fit each other")


def test_an_api_version_that_is_no_number(site: Site) -> None:
    said = problem_of(CONNECTOR.replace("API = 1", "API = '1'"), site)
    assert said == "its `LLMGATE_PLUGIN_API` must be a whole number, such as 1"


def test_a_misspelt_hook(site: Site) -> None:
    said = problem_of(CONNECTOR.replace("llmgate_register_connectors", "llmgate_register_conectors"), site)
    assert said == "has an unknown hook `llmgate_register_conectors`; did you mean `llmgate_register_connectors`?"


def test_an_unmarked_hook(site: Site) -> None:
    said = problem_of(CONNECTOR.replace("@hookimpl\n", "\n"), site)
    assert said == "`llmgate_register_connectors` is not marked with `@hookimpl`, so it would never be called"


def test_a_marked_function_that_is_no_hook(site: Site) -> None:
    said = problem_of(CONNECTOR.replace("def llmgate_register_connectors", "def register"), site)
    assert said.startswith("`register` is marked with `@hookimpl`, but there is no such hook; the hooks are `llmgate_")


def test_a_marked_function_that_is_nearly_a_hook(site: Site) -> None:
    said = problem_of(CONNECTOR.replace("def llmgate_register_connectors", "def register_connectors"), site)
    assert said.endswith("but there is no such hook; did you mean `llmgate_register_connectors`?")


def test_a_hook_with_an_argument_that_does_not_exist(site: Site) -> None:
    said = problem_of(CONNECTOR.replace("connectors()", "connectors(app)"), site)
    assert said == "hook `llmgate_register_connectors` takes no arguments, but this one wants `app`"


def test_a_listener_with_an_argument_that_does_not_exist(site: Site) -> None:
    listener = "\n    @hookimpl\n    def llmgate_request_finished(record, gateway):\n        pass\n"
    said = problem_of(CONNECTOR + listener, site)
    assert said == "hook `llmgate_request_finished` takes `record`, but this one wants `gateway`"


def test_an_argument_with_a_default_is_no_demand(site: Site) -> None:
    site.plugin(CONNECTOR.replace("connectors()", "connectors(app=None)"))
    assert not load(["acme"]).problems


def test_a_hook_that_raises(site: Site) -> None:
    said = problem_of(CONNECTOR.replace("return Acme", "raise KeyError('x')"), site)
    assert said.startswith("KeyError while loading: 'x' (")
    assert "llmgate_site_acme.py:" in said


@pytest.mark.parametrize("returned", ["None", "[]"])
def test_a_plugin_that_brings_nothing(site: Site, returned: str) -> None:
    said = problem_of(CONNECTOR.replace("return Acme", f"return {returned}"), site)
    assert said == "brings nothing: none of its functions is a hook of llmgate, or its hooks return nothing"


@pytest.mark.parametrize(
    ("returned", "sort"), [("'acme'", "str"), ("[Acme, 1]", "int"), ("object()", "object"), ("{'acme': Acme}", "dict")]
)
def test_an_object_where_a_class_belongs(site: Site, returned: str, sort: str) -> None:
    said = problem_of(CONNECTOR.replace("return Acme", f"return {returned}"), site)
    assert said == (
        f"`llmgate_register_connectors` returns an object (`{sort}`) where a connector class is expected; "
        "return the class itself, or a list of classes"
    )


def test_a_connector_without_a_name(site: Site) -> None:
    assert problem_of(CONNECTOR.replace('name = "acme"', ""), site) == "connector class `Acme` has no `name`"


@pytest.mark.parametrize("name", ["a cme", "acme.one", "acme:x", "", "-acme"])
def test_a_connector_whose_name_no_configuration_could_write(site: Site, name: str) -> None:
    said = problem_of(CONNECTOR.replace('"acme"', f'"{name}"'), site)
    assert said == "connector class `Acme`: its `name` may hold letters, digits, `-` and `_` only"


def test_a_connector_without_its_methods(site: Site) -> None:
    said = problem_of(CONNECTOR.replace("Acme(OpenAICompatible)", "Acme"), site)
    assert said == "connector class `Acme` has no method `send`"


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        ("llmgate_register_policies", "policy class `Acme` has no method `apply`"),
        ("llmgate_register_frontends", "front end class `Acme` has no method `routes`"),
    ],
)
def test_a_class_of_another_sort(site: Site, hook: str, words: str) -> None:
    assert problem_of(CONNECTOR.replace("llmgate_register_connectors", hook), site) == words


ASYNC = "is an `async def`, and would never run: it is called without `await`, so write an ordinary `def`"


@pytest.mark.parametrize("method", ["check", "credentials", "retry", "facts", "backoff", "headers", "classify"])
def test_a_method_of_a_connector_that_would_never_run(site: Site, method: str) -> None:
    said = problem_of(CONNECTOR.replace("settings: None", f"async def {method}(self, *_): pass"), site)
    assert said == f"connector class `Acme`: its method `{method}` {ASYNC}"


def test_an_asynchronous_generator_would_not_run_either(site: Site) -> None:
    source = CONNECTOR.replace("settings: None", "async def check(self): yield")
    assert problem_of(source, site) == f"connector class `Acme`: its method `check` {ASYNC}"


def test_methods_that_are_awaited_may_be(site: Site) -> None:
    methods = "\n        ".join(f"async def {name}(self, *_): pass" for name in ("send", "models", "aclose"))
    methods += "\n        async def events(self, *_): yield b''"
    site.plugin(CONNECTOR.replace("settings: None", methods))
    assert not load(["acme"]).problems


@pytest.mark.parametrize(
    ("hook", "sort", "method"),
    [("llmgate_register_policies", "policy", "apply"), ("llmgate_register_frontends", "front end", "routes")],
)
def test_a_method_of_a_policy_or_front_end_that_would_never_run(site: Site, hook: str, sort: str, method: str) -> None:
    source = f"""
        from llmgate_core import hookimpl
        LLMGATE_PLUGIN_API = 1
        class Acme:
            name = "acme"
            async def {method}(self, *_): pass
        @hookimpl
        def {hook}():
            return Acme
    """
    assert problem_of(source, site) == f"{sort} class `Acme`: its method `{method}` {ASYNC}"


@pytest.mark.parametrize("hook", ["llmgate_request_finished", "llmgate_register_policies"])
def test_a_hook_that_would_never_run(site: Site, hook: str) -> None:
    said = problem_of(f"{CONNECTOR}\n    @hookimpl\n    async def {hook}(): pass\n", site)
    assert said == f"hook `{hook}` {ASYNC}"


@pytest.mark.parametrize(
    ("hook", "sort", "method"),
    [
        ("llmgate_register_connectors", "connector", "send"),
        ("llmgate_register_policies", "policy", "apply"),
        ("llmgate_register_frontends", "front end", "routes"),
    ],
)
def test_one_plugin_with_two_of_one_name(site: Site, hook: str, sort: str, method: str) -> None:
    source = f"""
        from llmgate_core import hookimpl
        LLMGATE_PLUGIN_API = 1
        class Acme:
            name = "acme"
            def {method}(self, *_): pass
            def credentials(self): pass
        class Again(Acme):
            pass
        @hookimpl
        def {hook}():
            return [Acme, Again]
    """
    said = problem_of(source, site)
    assert said == f"{sort} `acme` is brought by two of its classes, `Acme` and `Again`; each needs a name of its own"


@pytest.mark.parametrize(
    ("hook", "sort", "method"),
    [("llmgate_register_policies", "policy", "apply"), ("llmgate_register_frontends", "front end", "routes")],
)
def test_two_plugins_that_bring_one_policy_or_front_end(site: Site, hook: str, sort: str, method: str) -> None:
    source = f"""
        from llmgate_core import hookimpl
        LLMGATE_PLUGIN_API = 1
        class Acme:
            name = "same"
            def {method}(self, *_): pass
        @hookimpl
        def {hook}():
            return Acme
    """
    site.plugin(source, name="one")
    site.plugin(source, name="two")
    plugins = load(["one", "two"])
    assert sorted(plugins.problems) == ["one", "two"]
    told = plugins.problems["one"]
    assert told.startswith(f"{sort} `same` is brought by plugin `one` ")
    assert " and by plugin `two` " in told
    assert told.endswith("; uninstall or block one of them")


def test_two_files_that_bring_one_policy_are_told_of_once(tmp_path: Path) -> None:
    source = CONNECTOR.replace("connectors", "policies").replace("settings: None", "def apply(self, *_): pass")
    files = [tmp_path / "one.py", tmp_path / "two.py"]
    for file in files:
        file.write_text(textwrap.dedent(source))
    (problem,) = find_problems(GatewayConfig(), load([], files=files))
    assert problem.message.startswith("policy `acme` is brought by plugin file ")


def test_a_rival_of_a_policy_that_llmgate_brings_itself_loses(site: Site) -> None:
    policy = next(cls.name for cls in load([]).policies)
    site.plugin(f"""
        from llmgate_core import hookimpl
        LLMGATE_PLUGIN_API = 1
        class Acme:
            name = "{policy}"
            def apply(self, *_): pass
        @hookimpl
        def llmgate_register_policies():
            return Acme
    """)
    plugins = load(["acme"])
    assert list(plugins.problems) == ["acme"]
    assert plugins.problems["acme"].endswith("; uninstall or block the latter")


def test_settings_whose_type_is_there_for_type_checkers_only(site: Site) -> None:
    source = "    from __future__ import annotations\n" + CONNECTOR.replace("settings: None", "settings: AcmeSettings")
    assert problem_of(source, site) == (
        "connector class `Acme`: its annotation `settings` names `AcmeSettings`, "
        "which its module does not define at run time"
    )


def test_settings_that_are_no_dataclass(site: Site) -> None:
    said = problem_of(CONNECTOR.replace("settings: None", "settings: int"), site)
    assert said == "connector class `Acme`: its annotation `settings` must be a dataclass"


@pytest.mark.parametrize(
    ("frozen", "entry", "fault"),
    [
        ("", "wait: float = 1.0", "must be frozen: write `@dataclass(frozen=True)`"),
        ("(frozen=True)", "hook: object = None", "the type of field `hook` is none that a configuration can hold"),
        ("(frozen=True)", "wait: float = 'x'", "the default of field `wait` is a `str`, which is not of its type"),
        ("(frozen=True)", "key: Secret = 'env:A'", "the default of field `key` is a `str`, which is not of its type"),
        ("(frozen=True)", "url: str = None", "the default of field `url` is a `NoneType`, which is not of its type"),
        (
            "(frozen=True)",
            "models: list[str] = None",
            "the default of field `models` is a `NoneType`, which is not of its type",
        ),
    ],
)
def test_settings_that_could_never_be_right(site: Site, frozen: str, entry: str, fault: str) -> None:
    assert problem_of(with_settings(frozen, entry), site) == (
        f"settings class `AcmeSettings` of connector class `Acme`: {fault}"
    )


@pytest.mark.parametrize(
    "entry",
    [
        "wait: float = 1",
        "wait: Annotated[int, Meta(ge=1)] = 0",
        "key: Secret | None = None",
        "key: Secret = Secret('env:A')",
        "models: tuple[str, ...] = ()",
        "word: Literal['a', 'b'] = 'a'",
        "anything: Any = None",
        "wait: int | str = 'long'",
    ],
)
def test_settings_that_are_right(site: Site, entry: str) -> None:
    site.plugin(with_settings("(frozen=True)", entry))
    assert not load(["acme"]).problems


def with_settings(frozen: str, entry: str) -> str:
    return CONNECTOR.replace("settings: None", "settings: AcmeSettings").replace(
        "    class Acme(",
        f"""    from dataclasses import dataclass
    from typing import Annotated, Any, Literal
    from llmgate_core import Meta, Secret

    @dataclass{frozen}
    class AcmeSettings:
        {entry}

    class Acme(""",
    )


def test_a_connector_without_settings_of_its_own(site: Site) -> None:
    """`OpenAICompatible` annotates `Any`, which is not a schema."""
    site.plugin(CONNECTOR.replace("settings: None", ""))
    plugins = load(["acme"])
    assert not plugins.problems
    assert settings_type(plugins.connectors["acme"]) is None


def test_an_entry_point_that_does_not_name_a_module(site: Site) -> None:
    site.module("llmgate_site_acme", CONNECTOR)
    site.distribution("llmgate-acme", {"acme": "llmgate_site_acme:Acme"})
    assert "the entry point must name a module, such as `llmgate_acme`" in load(["acme"]).problems["acme"]


def test_an_entry_point_that_names_nothing(site: Site) -> None:
    site.distribution("llmgate-acme", {"acme": "llmgate_site_acme"})
    said = load(["acme"]).problems["acme"]
    assert "`llmgate-acme` 1.2" in said
    assert "No module named 'llmgate_site_acme'" in said


def test_an_entry_point_with_another_name_than_its_connector(site: Site) -> None:
    said = problem_of(CONNECTOR.replace('"acme"', '"acme-chat"'), site)
    assert said == "its entry point is called `acme`, but it brings `acme-chat`; the two names must agree"


# --- rivals ----------------------------------------------------------------------------------------------------------


def test_two_distributions_with_one_name(site: Site) -> None:
    site.plugin(CONNECTOR)
    site.distribution("llmgate-acme-fork", {"acme": "llmgate_site_fork"}, "9")
    site.module("llmgate_site_fork", CONNECTOR)
    said = load(["acme"]).problems["acme"]
    assert said == (
        "plugin `acme` is claimed by `llmgate-acme` 1.2 and `llmgate-acme-fork` 9; "
        "uninstall one, or block it by its distribution's name"
    )
    chosen = load(["acme"], block=["llmgate-acme"])
    assert not chosen.problems
    assert chosen.connectors["acme"].__module__ == "llmgate_site_fork"


def test_two_plugins_that_bring_one_connector(site: Site) -> None:
    both = CONNECTOR.replace("return Acme", "return [Acme, Other]").replace(
        "    @hookimpl", '    class Other(Acme):\n        name = "other"\n\n    @hookimpl'
    )
    site.plugin(both)
    site.plugin(CONNECTOR.replace('"acme"', '"other"'), name="other")
    plugins = load_all()
    assert set(plugins.problems) == {"acme", "other"}
    assert not {"acme", "other"} & set(plugins.connectors)
    for said in plugins.problems.values():
        assert "`llmgate-acme` 1.2" in said
        assert "`llmgate-other` 1.2" in said
        assert said.endswith("; uninstall or block one of them")


def test_a_rival_of_what_llmgate_brings_itself_loses(site: Site) -> None:
    site.plugin(
        CONNECTOR.replace("return Acme", "return [Acme, Rival]").replace(
            "    @hookimpl", '    class Rival(Acme):\n        name = "openai-compatible"\n\n    @hookimpl'
        )
    )
    plugins = load_all()
    assert list(plugins.problems) == ["acme"]
    assert plugins.connectors["openai-compatible"].__module__ == "llmgate_core.builtin"
    assert plugins.frontends


# --- names that lead nowhere -----------------------------------------------------------------------------------------


def test_an_unknown_name_with_and_without_a_guess(site: Site) -> None:
    site.plugin(CONNECTOR)
    block = [one.name for one in discover() if one.name != "acme"]
    plugins = load(["acmee", "zzz"], block=block)
    tail = "(installed plugins: acme, anthropic-compatible, openai-compatible); see `llmgate plugins`"
    assert plugins.problems["acmee"] == (f"no installed plugin provides connector `acmee`; did you mean `acme`? {tail}")
    assert plugins.problems["zzz"] == f"no installed plugin provides connector `zzz` {tail}"


@pytest.mark.parametrize("block", ["acme", "llmgate-acme"])
def test_a_blocked_plugin_is_not_imported(site: Site, block: str) -> None:
    site.plugin("raise SystemExit('imported!')")
    said = load(["acme"], block=[block]).problems["acme"]
    assert said == "plugin `acme` is blocked (`plugins.block` or `LLMGATE_BLOCK_PLUGINS`)"
    assert "acme" not in {one.plugin.name for one in load_all(block=[block]).loaded}


# --- a plugin in one file --------------------------------------------------------------------------------------------


def test_a_file_brings_what_a_distribution_would(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "my_plugin.py"
    path.write_text(textwrap.dedent(CONNECTOR))
    plugins = load(["acme"], files=[path])
    assert not plugins.problems
    assert plugins.connectors["acme"].name == "acme"


def test_a_file_comes_before_an_installed_plugin(site: Site, tmp_path: Path) -> None:
    site.plugin("raise SystemExit('imported!')")
    path = tmp_path / "acme.py"
    path.write_text(textwrap.dedent(CONNECTOR))
    assert not load(["acme"], files=[path]).problems


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise RuntimeError('broken')", "RuntimeError: broken ("),
        ("def broken(:", "SyntaxError: invalid syntax (bad.py, line 1)"),
        ("import frobnicate_sdk", "ModuleNotFoundError: No module named 'frobnicate_sdk' ("),
        ("raise SystemExit('bye')", "SystemExit: bye ("),
        ("x = 1", "declares no plugin API version"),
        (CONNECTOR.replace("connectors()", "conectors()"), "has an unknown hook"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, source: str, words: str) -> None:
    path = tmp_path / "bad.py"
    path.write_text(textwrap.dedent(source))
    plugins = load([], files=[path])
    assert words in plugins.problems["bad"]
    assert str(path) in plugins.problems["bad"]


@pytest.mark.parametrize("line", ["from llmgate_core import Teleporter", "import llmgate_core.teleporter"])
def test_a_file_for_a_core_that_has_more(tmp_path: Path, line: str) -> None:
    path = tmp_path / "early.py"
    path.write_text(f"LLMGATE_PLUGIN_API = 2\n{line}\n")
    assert (
        load([], files=[path])
        .problems["early"]
        .endswith(f" ({path}:2). Use versions of the file and of llmgate-core (here {CORE}) that fit each other")
    )


def test_the_line_of_a_file_is_told_rather_than_that_of_what_it_calls(tmp_path: Path) -> None:
    path = tmp_path / "reader.py"
    path.write_text("import json\njson.loads('{')\n")
    assert load([], files=[path]).problems["reader"].endswith(f" ({path}:2)")


def test_a_file_that_breaks_later_does_not_harm_what_it_brought_before(tmp_path: Path) -> None:
    """A gateway may be using it: only a new configuration is refused."""
    path = tmp_path / "acme_that_breaks.py"
    path.write_text(textwrap.dedent(CONNECTOR))
    before = load([], files=[path]).connectors["acme"]
    module = sys.modules[before.__module__]
    path.write_text("raise RuntimeError('broken')")
    assert load([], files=[path]).problems
    assert sys.modules[before.__module__] is module


@pytest.mark.parametrize("name", ["missing.py", "folder", "text.txt"])
def test_a_file_that_is_none(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.txt").touch()
    path = tmp_path / name
    assert load([], files=[path]).problems == {path.stem: f"`--plugin {path}`: no such Python file"}


# --- listeners -------------------------------------------------------------------------------------------------------

LISTENER = """
    from llmgate_core import hookimpl

    LLMGATE_PLUGIN_API = 1
    heard = []

    @hookimpl
    def llmgate_request_finished(record):
        heard.append(record.id)
        {then}
"""


def record() -> RequestRecord:
    return RequestRecord(id="req_1", method="POST", path="/v1/chat/completions", started=0.0, client="127.0.0.1")


def heard(plugins: PluginSet, name: str) -> list[str]:
    assert name in {one.plugin.name for one in plugins.loaded}
    found: list[str] = sys.modules[f"llmgate_site_{name}"].heard
    return found


def test_a_listener_that_raises_is_logged_and_the_others_are_told(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.plugin(LISTENER.format(then="raise ValueError('oops')"), name="first")
    site.plugin(LISTENER.format(then="pass"), name="second")
    plugins = load(["first", "second"])
    assert not plugins.problems
    with caplog.at_level(logging.ERROR, logger="llmgate.plugins"):
        plugins.request_finished(record())
    assert heard(plugins, "first") == heard(plugins, "second") == ["req_1"]
    (said,) = (one for one in caplog.records if one.name == "llmgate.plugins")
    assert said.getMessage() == (
        "plugin `first` of distribution `llmgate-first` 1.2 (llmgate_site_first) "
        "raised in llmgate_request_finished (request req_1)"
    )
    assert said.exc_info is not None


def test_a_listener_may_leave_out_the_argument(site: Site) -> None:
    """pluggy lets an implementation take fewer arguments than its specification."""
    site.plugin(LISTENER.replace("(record)", "()").replace("record.id", '"told"').format(then="pass"), name="first")
    plugins = load(["first"])
    plugins.request_finished(record())
    assert heard(plugins, "first") == ["told"]


# --- the listing -----------------------------------------------------------------------------------------------------


def test_the_listing_tells_three_facts(site: Site) -> None:
    site.plugin(CONNECTOR)
    site.plugin("raise RuntimeError('broken')", name="other")
    rows = {row["name"]: row for row in describe(load_all())}
    acme, other = rows["acme"], rows["other"]
    assert (acme["distribution"], acme["version"], acme["module"]) == ("llmgate-acme", "1.2", "llmgate_site_acme")
    assert acme["brings"] == {"connectors": ["acme"]}
    assert acme["problem"] is None
    assert acme["import_milliseconds"] >= 0
    assert other["brings"] == {}
    assert "RuntimeError while loading: broken" in other["problem"]


def test_a_field_whose_type_is_for_type_checkers_only_is_named(site: Site) -> None:
    site.plugin(
        """
        from __future__ import annotations
        from dataclasses import dataclass
        from llmgate_core import OpenAICompatible, hookimpl
        LLMGATE_PLUGIN_API = 1

        @dataclass(frozen=True)
        class Settings:
            where: Path

        class Acme(OpenAICompatible):
            name = "acme"
            settings: Settings

        @hookimpl
        def llmgate_register_connectors():
            return Acme
        """
    )
    told = load(["acme"]).problems["acme"]
    assert "settings class `Settings` of connector class `Acme`: a field's annotation names `Path`, " in told


def test_an_import_that_takes_long_is_told_while_it_lasts(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmgate_core.plugins.SLOW_IMPORT_SECONDS", 0.05)
    site.plugin("import time\ntime.sleep(0.3)\n" + textwrap.dedent(CONNECTOR))
    assert "acme" in load(["acme"]).connectors
    assert [record.getMessage() for record in caplog.records] == [
        "plugin `acme` of distribution `llmgate-acme` 1.2 (llmgate_site_acme) is still being imported after 0.05 s; "
        "if it hangs, uninstall or block it"
    ]
