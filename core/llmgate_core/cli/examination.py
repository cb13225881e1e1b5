"""What `llmgate doctor` does: collects what there is, asks whoever can be asked, and has it all looked at."""

from __future__ import annotations

import asyncio
import os
import platform
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import configuration, running
from .agents import KEY_VARIABLE
from .plugin_flags import apply_plugin_flags, environment_variable, plugin_flags

if TYPE_CHECKING:
    from ..config import BackendConfig, GatewayConfig, Places
    from ..diagnosis.asking import Asked
    from ..diagnosis.findings import Finding, Section
    from ..diagnosis.gateway import Heard
    from ..errors import Problem
    from ..observe import Redactor
    from ..plugins import PluginSet

OTHER_VARIABLES = ("LLMGATE_MODEL_ALIASES", "LLMGATE_BLOCK_PLUGINS", KEY_VARIABLE)
"""Variables of ours that belong to no flag."""


@dataclass(frozen=True)
class Read:
    """The configuration as far as it can be read, with its plugins."""

    config: GatewayConfig
    plugins: PluginSet
    places: Places
    problems: Sequence[Problem]
    advice: Sequence[Problem]

    @property
    def knows_address(self) -> bool:
        """Whether it can be said where the gateway listens: not with port 0, nor with a mistake in that section."""
        is_unread = self.places.main is not None and not self.config.origin.lines
        return bool(self.config.server.port) and not any(
            "`server" in one.message or (is_unread and one.line) for one in self.problems
        )


@dataclass
class Answers:
    """What was answered, by whoever was asked.

    Args:
        broken: what is to be told of backends that could not be asked.
        with_key: what the gateway says to the key that agents of this shell use; None without such a key.
    """

    backends: list[Asked] = field(default_factory=list)
    broken: list[Finding] = field(default_factory=list)
    heard: Heard | None = None
    with_key: Heard | None = None


def examine(ctx: click.Context, flags: Mapping[str, Any], *, offline: bool) -> list[Section]:
    """Looks at everything, each subject behind its fence; what it finds holds no secrets.

    Raises:
        UsageError: a flag that nobody offers.
    """
    from ..diagnosis.findings import Section, failed
    from ..observe import Redactor

    redactor = Redactor()
    found: Read | None = None
    sections: list[Section] = []
    try:
        found = read(ctx, flags)
    except click.ClickException:
        raise
    except Exception as error:
        sections = [Section("Configuration", failed("the configuration", error))]
    sections.insert(0, Section("Installation", _installation(flags, found)))
    if found is not None:
        sections += _of_configuration(ctx, flags, found, redactor, offline=offline)
    return [Section(one.title, [_clean(finding, redactor) for finding in one.findings]) for one in sections]


def _clean(finding: Finding, redactor: Redactor) -> Finding:
    from ..report import printable

    return finding.mapped(lambda text: printable(redactor.strike(text)))


def read(ctx: click.Context, flags: Mapping[str, Any]) -> Read:
    """What `configuration.prepare` reads, without an end at the first problem."""
    from ..checks import find_problems
    from ..config import advise_allowed, load
    from ..diagnosis.configuration import advise_all
    from ..plugins import load as load_plugins

    places = configuration.find(flags)
    loaded = load(places, configuration.overrides(ctx, flags), configuration.given_rewrites(flags))
    admitted = configuration.admitted(loaded.config)
    plugins = load_plugins(loaded.config.plugin_names(), files=flags["plugin_files"], **admitted)
    config = apply_plugin_flags(loaded.config, plugins, ctx)
    problems = [*loaded.problems, *find_problems(config, plugins)]
    advice = [*loaded.advice, *advise_allowed(config), *advise_all(config, plugins)]
    return Read(config, plugins, places, problems, advice)


# --- each subject -----------------------------------------------------------------------------------------------------


def _installation(flags: Mapping[str, Any], found: Read | None) -> list[Finding]:
    from ..diagnosis import installation
    from ..diagnosis.findings import fenced
    from ..plugins import describe, discover, load_all

    def look() -> list[Finding]:
        core, on_path = version("llmgate-core"), installation.commands_on(os.environ.get("PATH", ""))
        own, foreign = own_command(), installation.foreign_version()
        return installation.look_at(
            installation.Installation(platform.python_version(), core, own, on_path, foreign),
        )

    def look_at_plugins() -> list[Finding]:
        config = found.config if found else None
        admitted = configuration.admitted(config, flags)
        left = discover(admitted["block"])
        rows = describe(load_all(flags["plugin_files"], **admitted))
        blocked = [one for one in discover() if one not in left]
        return installation.look_at_plugins(rows, config.plugin_names() if config else (), blocked)

    return [*fenced("the installation", look), *fenced("the plugins", look_at_plugins)]


def own_command() -> str | None:
    """The command that was installed with this Python's llmgate-core, None where there is none."""
    from ..diagnosis.installation import commands_on

    schemes = (sysconfig.get_default_scheme(), sysconfig.get_preferred_scheme("user"))
    folders = os.pathsep.join(sysconfig.get_path("scripts", scheme) for scheme in schemes)
    return next(iter(commands_on(folders)), None)


def _of_configuration(
    ctx: click.Context, flags: Mapping[str, Any], found: Read, redactor: Redactor, *, offline: bool
) -> list[Section]:
    """Everything that is to be said of a configuration."""
    from ..diagnosis import configuration as files
    from ..diagnosis.findings import Section, fenced
    from ..report import base_url

    config = found.config
    url = base_url((config.server.host, config.server.port))
    kept = files.kept_secrets(config, found.plugins)
    secrets = fenced("the secrets", lambda: files.look_at_secrets(kept, os.environ))
    _learn(kept, redactor)
    answers = Answers()
    try:
        _run(found, url, answers, redactor, offline=offline)
    except Exception as error:
        from ..diagnosis.findings import failed

        answers.broken += failed("asking", error)
    secrets += fenced("credential files", lambda: _credential_files(answers.backends, secrets))
    backends = fenced("the backends", lambda: _backends(found, answers, secrets))
    sections = [
        Section("Configuration", fenced("the configuration", lambda: _files(flags, found))),
        Section("Secrets", secrets),
        Section("Backends", backends),
    ]
    if not offline:
        sections.append(Section("Gateway", fenced("the gateway", lambda: _gateway(config, url, answers))))
    sections.append(Section("This shell", fenced("the variables of this shell", lambda: _shell(ctx, found, url))))
    return [section for section in sections if section.findings]


def _files(flags: Mapping[str, Any], found: Read) -> list[Finding]:
    from ..diagnosis import configuration as files
    from ..diagnosis.findings import fail, ok, told
    from .serve import is_unsafe

    config = found.config
    usual = files.usual_places(Path.cwd(), Path.home())
    shown = files.look_at_files(
        found.places, () if flags["config"] else usual, enough=config.default_backend is not None
    )
    shown += told("fail", found.problems) + told("advice", found.advice)
    if is_unsafe(config):
        what = f"`serve` refuses to listen on {config.server.host} without callers' keys"
        shown.append(fail(what, config.problem(("server", "host"), "").where, "set `auth.api_keys`, or host 127.0.0.1"))
    has_files = found.places.main or found.places.instances
    if has_files and not found.problems and not config.enabled_backends():
        way_out = "`llmgate init` adds one; `llmgate plugins` shows which connectors there are"
        shown.append(fail("no backend is enabled: every request will be refused", next=way_out))
    if has_files and not found.problems:
        shown.append(ok("what stands there has no mistakes"))
    return shown


def _learn(kept: Sequence[Any], redactor: Redactor) -> None:
    from ..secret import MissingSecret

    for one in kept:
        try:
            redactor.learn([one.secret.reveal(os.environ)])
        except MissingSecret:
            continue
    redactor.learn([os.environ[name] for name in (KEY_VARIABLE,) if name in os.environ])


def _credential_files(asked: Sequence[Asked], told: Sequence[Finding]) -> list[Finding]:
    from ..diagnosis import configuration as files

    known = {finding.where for finding in told}
    paths = dict.fromkeys(path for one in asked for path in files.files_in(one.facts))
    return [finding for path in paths if str(path) not in known for finding in files.look_at_mode(path)]


def _backends(found: Read, answers: Answers, secrets: Sequence[Finding]) -> list[Finding]:
    from ..diagnosis import configuration as files
    from ..diagnosis import upstreams
    from ..diagnosis.findings import fail

    told = [finding.what for finding in secrets if finding.level == "fail"]
    names = [backend.name for backend in found.config.enabled_backends()]
    asked = sorted(answers.backends, key=lambda one: names.index(one.name))
    shown = [finding for one in asked for finding in upstreams.look_at(one, told)]
    shown += answers.broken
    shown += upstreams.look_at_clock(asked)
    shown += upstreams.look_at_models(files.named_models(found.config), asked)
    if names and not any(one.ready and one.off is None for one in asked):
        shown.append(fail("no backend can be used: every request will be refused", next="see above, or `llmgate init`"))
    return shown


def _gateway(config: GatewayConfig, url: str, answers: Answers) -> list[Finding]:
    from ..diagnosis import gateway
    from ..diagnosis.findings import fail, ok

    if answers.heard is None:
        return [ok("not looked for, as its address is not known", next="`llmgate doctor --port` looks where you say")]
    key = config.problem(("auth", "api_keys"), "").where if running.first_key(config) else None
    ready = {backend.name: False for backend in config.enabled_backends()}
    ready |= {one.name: one.ready for one in answers.backends}
    found = gateway.look_at(answers.heard, gateway.Expected(url, version("llmgate-core"), key, ready))
    if answers.with_key is not None and answers.with_key.told_status == 401:
        way_out = "set it to one of the gateway's keys: agents use it as `llmgate connect` says"
        found.append(fail("the gateway does not take the key in this variable", KEY_VARIABLE, way_out))
    return found


def _shell(ctx: click.Context, found: Read, url: str) -> list[Finding]:
    from ..diagnosis import shell
    from ..diagnosis.findings import ok

    shown = shell.unread(os.environ, known_variables(ctx, found))
    if found.knows_address:
        shown += [*shell.base_urls(os.environ, url), *shell.proxies(os.environ, url)]
    return shown or [ok("no variable contradicts")]


def known_variables(ctx: click.Context, found: Read) -> set[str]:
    """Every `LLMGATE_*` variable that somebody reads: commands, plugins' flags, and what the configuration names."""
    from ..diagnosis.shell import variables_named
    from ..plugins import load_all

    names = {*OTHER_VARIABLES, *_of_command(ctx.find_root().command, ctx)}
    flags = plugin_flags(load_all(**configuration.admitted(found.config)))
    names |= {environment_variable(flag) for several in flags.values() for flag in several}
    for backend in found.config.backends:
        names |= set(variables_named(backend.extra))
    labels = (caller.key.label for caller in found.config.auth.callers())
    return names | {label.split("`")[1] for label in labels if label.startswith("environment variable `")}


def _of_command(command: click.Command, ctx: click.Context) -> set[str]:
    given = [option.envvar for option in command.params if option.envvar]
    names = {name for one in given for name in ([one] if isinstance(one, str) else one)}
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            if (inner := command.get_command(ctx, name)) is not None:
                names |= _of_command(inner, ctx)
    return names


# --- asking -----------------------------------------------------------------------------------------------------------


def _run(found: Read, url: str, answers: Answers, redactor: Redactor, *, offline: bool) -> None:
    """Asks all backends and the gateway at once, and puts down what they answer."""
    from ..app import real_world
    from ..diagnosis.asking import ask
    from ..diagnosis.findings import failed
    from ..diagnosis.gateway import listen_to
    from ..errors import ConfigError
    from ..frontends.status import PATH
    from .serve import run

    async def one(backend: BackendConfig) -> None:
        try:
            asked = await ask(found.config, backend, found.plugins, real_world(), redactor.learn, offline=offline)
            answers.backends.append(asked)
        except ConfigError:  # told with the other problems
            pass
        except Exception as error:
            answers.broken += failed(backend.name, error)

    async def gateway() -> None:
        key = running.first_key(found.config)
        answers.heard = await listen_to(url, PATH, key)
        of_shell = os.environ.get(KEY_VARIABLE)
        if answers.heard.is_ours and of_shell and of_shell != key and of_shell.isascii() and of_shell.isprintable():
            answers.with_key = await listen_to(url, PATH, of_shell)

    async def everybody() -> None:
        backends = [backend for backend in found.config.enabled_backends() if backend.type in found.plugins.connectors]
        asking = [one(backend) for backend in backends]
        if not offline and found.knows_address:
            asking.append(gateway())
        await asyncio.gather(*asking)

    run(everybody())
