"""The sections of the configuration as values: what may be written, its bounds and its defaults.

`config.py` reads the files; nothing in here does I/O.
"""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar

from .errors import Problem
from .hybrid import Outcome
from .installed import AllowedPlugin
from .model_facts import Facts
from .policies.edit_precision import EditPrecisionSettings
from .policies.rewrites import Expansion, Rewrite
from .secret import Secret
from .selector import Names
from .settings import Fault, KeyPath, Meta, decode, key_name

T = TypeVar("T")
Texts = tuple[str, ...]


@dataclass(frozen=True)
class ServerConfig:
    """Where the gateway listens, and what it lets in."""

    host: Annotated[str, Meta(min_length=1, description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="Port to listen on; 0 takes a free one.")] = 8000
    max_body_bytes: Annotated[int, Meta(ge=1, description="Longest request body, in bytes.")] = 67108864
    shutdown_grace_seconds: Annotated[
        float, Meta(ge=0, description="How long running requests may take to end at shutdown.")
    ] = 30.0
    allowed_hosts: Annotated[
        Texts, Meta(description="Values of `Host` to accept beside loopback and the address listened on.")
    ] = ()
    allowed_origins: Annotated[
        Texts,
        Meta(description="Origins of web pages that may call the gateway, such as https://chat.example."),
    ] = ()
    status_from: Annotated[
        Literal["loopback", "anywhere"],
        Meta(description="Who may ask `/llmgate/status`: this machine, or everybody whom the gateway serves."),
    ] = "loopback"

    def __post_init__(self) -> None:
        # Browsers send origins in lower case, and CORS compares letter by letter.
        object.__setattr__(self, "allowed_origins", tuple(origin.lower() for origin in self.allowed_origins))

    def faults(self) -> list[Fault]:
        """The entries of `allowed_hosts` and `allowed_origins` that no request could ever match."""
        hosts = [
            (("allowed_hosts", index), _HOW_TO_WRITE_A_HOST)
            for index, host in enumerate(self.allowed_hosts)
            if not _is_host(host)
        ]
        origins = [
            (("allowed_origins", index), _HOW_TO_WRITE_AN_ORIGIN)
            for index, origin in enumerate(self.allowed_origins)
            if not _ORIGIN.fullmatch(origin)
        ]
        return [(path, f"`{key_name(path, 'server')}`: {told}") for path, told in (*hosts, *origins)]


_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_ORIGIN = re.compile(r"https?://([a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_HOW_TO_WRITE_A_HOST = "write the name alone, such as `llm.example`: no scheme, no port, no slash, no `*`"
_HOW_TO_WRITE_AN_ORIGIN = (
    "write scheme and name, and the port if it is not the usual one, such as `https://chat.example` or "
    "`http://chat.example:3000`: no slash at the end, no path, no `*`"
)


def _is_host(text: str) -> bool:
    if _HOST.fullmatch(text):
        return True
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


class CallerSecret(Secret):
    """A caller's key: a secret, or the SHA-256 hash of one (`sha256:HEX`), from which no key can be had.

    Raises:
        ValueError: empty, or what follows `sha256:` is not a hash.
    """

    __slots__ = ("_hash",)

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._hash: bytes | None = None
        if not text:
            raise ValueError("must not be empty")
        if text.startswith("sha256:"):
            if not re.fullmatch(r"[0-9a-fA-F]{64}", text[7:]):
                raise ValueError("what follows `sha256:` must be 64 hexadecimal digits")
            self._hash = bytes.fromhex(text[7:])

    @property
    def is_plain(self) -> bool:
        """Whether the key itself stands in the configuration; a hash is not the key."""
        return super().is_plain and self._hash is None

    @property
    def is_hash(self) -> bool:
        """Whether nobody can have the key from it."""
        return self._hash is not None

    def digest(self, environ: Mapping[str, str]) -> bytes:
        """The SHA-256 of the key, 32 bytes: what a caller's key is compared with.

        Raises:
            MissingSecret: the key is not where the configuration says.
        """
        return self._hash or hashlib.sha256(self.reveal(environ).encode()).digest()


@dataclass(frozen=True)
class CallerKey:
    """A key that callers may use, with a name for the logs."""

    name: Annotated[str, Meta(min_length=1, description="Who uses the key; shown in logs.")]
    key: Annotated[CallerSecret, Meta(description="env:NAME, file:PATH, sha256:HEX, or the key itself.")]


@dataclass(frozen=True)
class AuthConfig:
    """Who may call the gateway. Without keys: everybody who can reach it, which is loopback only."""

    api_keys: Annotated[
        tuple[CallerSecret | CallerKey, ...], Meta(description="Keys of callers, each plain or with a name.")
    ] = ()

    def callers(self) -> tuple[CallerKey, ...]:
        """All keys; those without a name are called `key-1`, `key-2` by their place in the list."""
        return tuple(
            entry if isinstance(entry, CallerKey) else CallerKey(f"key-{number}", entry)
            for number, entry in enumerate(self.api_keys, start=1)
        )


Seconds = Annotated[float | None, Meta(gt=0)]


@dataclass(frozen=True)
class TimeoutsConfig:
    """How long an upstream may take, in seconds; null means for ever."""

    connect_seconds: Annotated[Seconds, Meta(description="Until the connection stands, TLS included.")] = 10.0
    first_byte_seconds: Annotated[Seconds, Meta(description="Until the answer's first body byte.")] = 600.0
    idle_seconds: Annotated[Seconds, Meta(description="Between two chunks of the answer.")] = 300.0
    total_seconds: Annotated[Seconds, Meta(description="For one whole attempt.")] = None


@dataclass(frozen=True)
class FailureHandlingConfig:
    """What one request may cost, and how long it may wait where an upstream limits the rate."""

    enabled: Annotated[
        bool, Meta(description="Whether anything is tried again or waited for; without, each branch is asked once.")
    ] = True
    max_attempts: Annotated[int, Meta(ge=1, description="Attempts per request, retries included.")] = 5
    total_timeout_seconds: Annotated[
        float, Meta(gt=0, description="No new attempt and no wait begins after this many seconds.")
    ] = 90.0
    max_silent_wait_seconds: Annotated[
        float, Meta(ge=0, description="The longest wait for the end of a rate limit; else the caller is told of it.")
    ] = 30.0
    min_retry_wait_seconds: Annotated[
        float, Meta(ge=0, description="How long a rate limit is believed in whose upstream names no time.")
    ] = 1.0
    max_cooldown_seconds: Annotated[
        float, Meta(ge=0, description="How long an upstream's own time is believed in; then one request tries.")
    ] = 1800.0


@dataclass(frozen=True)
class StreamingConfig:
    """What a streaming request gets while its answer is awaited."""

    keepalive: Annotated[
        Literal["never", "early"],
        Meta(
            description="`never` keeps the status honest; `early` sends comments meanwhile, and what fails after the "
            "first is told in the stream."
        ),
    ] = "never"
    keepalive_interval_seconds: Annotated[float, Meta(gt=0, description="Seconds before each comment.")] = 8.0


@dataclass(frozen=True)
class HybridConfig:
    """What `hybrid:[REASONING,EXECUTION]` does."""

    enabled: Annotated[
        bool, Meta(description="Whether the first model is asked at all; without it the second one answers alone.")
    ] = True
    reasoning_timeout_seconds: Annotated[
        float, Meta(gt=0, description="How long the first model may think; then the second one answers alone.")
    ] = 60.0
    reasoning_probability: Annotated[
        float, Meta(ge=0, le=1, description="In how many of all cases the first model is asked, 1 being always.")
    ] = 1.0

    def drawn(self, chance: random.Random) -> Outcome:
        """What becomes of the reasoning of one request before anybody is asked."""
        if not self.enabled:
            return "off"
        return "used" if chance.random() < self.reasoning_probability else "reasoning-skipped"


@dataclass(frozen=True)
class ParametersConfig:
    """What happens to a parameter in a selector's query that is unknown or out of range."""

    on_error: Annotated[
        Literal["reject", "warn"],
        Meta(description="`reject` answers 400; `warn` leaves the parameter out and says so."),
    ] = "reject"


@dataclass(frozen=True)
class LoggingConfig:
    """What is logged, to standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="The least level.")] = "info"
    format: Annotated[Literal["text", "json"], Meta(description="For people or for machines.")] = "text"


@dataclass(frozen=True)
class PluginsConfig:
    """Which installed plugins are loaded beside those that backends name, which may be, and what policies are told."""

    load: Annotated[Texts, Meta(description="Plugins to load although no backend names them.")] = ()
    block: Annotated[Texts, Meta(description="Plugins never to load.")] = ()
    settings: Annotated[
        dict[str, dict[str, Any]], Meta(description="Settings of policies that plugins bring, by the policy's name.")
    ] = field(default_factory=dict)
    allow: Annotated[
        tuple[AllowedPlugin | str, ...] | None,
        Meta(description="Distributions whose plugins may be loaded; all others are refused. All, if left out."),
    ] = None


@dataclass(frozen=True)
class Origin:
    """Where a mapping was written, so that what is found wrong later can still be told with its line.

    Args:
        source: the name of a file, flag or environment variable.
        line: of the mapping itself, from 1; None where there are no lines.
        lines: of the keys and list items in it.
        overrides: keys whose value came from elsewhere, with the flag or variable that it came from.
    """

    source: str
    line: int | None = None
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    overrides: Mapping[KeyPath, str] = field(default_factory=dict)

    def problem(self, path: KeyPath, message: str) -> Problem:
        """A problem at `path`, or at what encloses it where `path` itself was not written."""
        ways = [path[:length] for length in range(len(path), 0, -1)]
        for way in ways:
            if way in self.overrides:
                return Problem(self.overrides[way], None, message)
        line = next((self.lines[way] for way in ways if way in self.lines), self.line)
        return Problem(self.source, line, message)

    def below(self, path: KeyPath) -> Origin:
        """The origin of the mapping at `path`."""
        size = len(path)
        return Origin(
            self.source,
            self.lines.get(path, self.line),
            {way[size:]: line for way, line in self.lines.items() if way[:size] == path and way != path},
        )


@dataclass(frozen=True)
class BackendConfig:
    """One backend instance as configured. Its `extra` is not decoded: only the connector knows its type.

    Args:
        type: the connector's name.
        instance: the instance's own name, `default` unless it has another.
        alias: a name of its own that the operator gave it, None if none.
        extra: the connector's settings as written; may hold secrets.
        default_params, forced_params: parameters of the layers `default` and `forced`.
        model_facts: what the operator says of models, by id or pattern; it comes before what the connector knows.
        timeouts: the keys of `TimeoutsConfig` that differ for this backend, in seconds.
        origin: where it was written.
    """

    type: str
    instance: str = "default"
    alias: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)
    default_params: Mapping[str, Any] = field(default_factory=dict)
    forced_params: Mapping[str, Any] = field(default_factory=dict)
    timeouts: Mapping[str, float | None] = field(default_factory=dict)
    enabled: bool = True
    model_facts: Mapping[str, Facts] = field(default_factory=dict)
    origin: Origin = field(default=Origin("the configuration"), repr=False, compare=False)

    @property
    def name(self) -> str:
        """The full name, `<type>.<instance>`."""
        return f"{self.type}.{self.instance}"

    def merged_timeouts(self, common: TimeoutsConfig) -> TimeoutsConfig:
        """The timeouts of this backend: its own where it has them, else the common ones."""
        return dataclasses.replace(common, **self.timeouts)

    def override_extra(self, values: Mapping[str, Any], source: str) -> BackendConfig:
        """The same backend with some settings from a flag or environment variable called `source`."""
        overrides: dict[KeyPath, str] = {
            **self.origin.overrides,
            **{("extra", key): source for key in values},
        }
        origin = dataclasses.replace(self.origin, overrides=overrides)
        return dataclasses.replace(self, extra={**self.extra, **values}, origin=origin)


@dataclass(frozen=True)
class CommonSections:
    """Everything that the operator can say, backends excepted, with every default filled in."""

    server: ServerConfig = ServerConfig()
    auth: AuthConfig = AuthConfig()
    default_backend: Annotated[
        str | None, Meta(min_length=1, description="BACKEND[:MODEL] for selectors that name no backend.")
    ] = None
    force_model: Annotated[
        str | None, Meta(min_length=1, description="A selector that replaces whatever callers ask for.")
    ] = None
    model_aliases: Annotated[
        tuple[Rewrite, ...], Meta(description="Rewrites of what callers ask for; the first that matches wins.")
    ] = ()
    failover_routes: Annotated[
        dict[str, Annotated[str, Meta(min_length=1)]],
        Meta(description="Selectors by a name that can be asked for like a model."),
    ] = field(default_factory=dict)
    timeouts: TimeoutsConfig = TimeoutsConfig()
    failure_handling: FailureHandlingConfig = FailureHandlingConfig()
    streaming: StreamingConfig = StreamingConfig()
    hybrid: HybridConfig = HybridConfig()
    parameters: ParametersConfig = ParametersConfig()
    edit_precision: EditPrecisionSettings = field(default_factory=EditPrecisionSettings)
    logging: LoggingConfig = LoggingConfig()
    plugins: PluginsConfig = PluginsConfig()


@dataclass(frozen=True)
class MainFile(CommonSections):
    """The main file as written. Its backends are decoded one by one, so that one mistake hides no other."""

    backends: Annotated[dict[str, Any], Meta(description="Backends by name.")] = field(default_factory=dict)


@dataclass(frozen=True)
class GatewayConfig(CommonSections):
    """The whole configuration: the sections of the main file, and the backends of all files."""

    backends: tuple[BackendConfig, ...] = ()
    origin: Origin = field(default=Origin("the configuration"), repr=False, compare=False)

    def enabled_backends(self) -> tuple[BackendConfig, ...]:
        """The backends that requests may reach, in the order of the configuration."""
        return tuple(backend for backend in self.backends if backend.enabled)

    def plugin_names(self) -> tuple[str, ...]:
        """The plugins that must be loaded: the types of enabled backends, and `plugins.load`; each once."""
        types = [backend.type for backend in self.enabled_backends()]
        return tuple(dict.fromkeys([*types, *self.plugins.load]))

    def problem(self, path: KeyPath, message: str) -> Problem:
        """A problem with the main file's value at `path`, or with the flag or variable that replaced it."""
        return self.origin.problem(path, message)

    def names(self) -> Names:
        """What a selector can name."""
        return Names(
            enabled=tuple(backend.name for backend in self.backends if backend.enabled),
            disabled=tuple(backend.name for backend in self.backends if not backend.enabled),
            aliases={backend.alias: backend.name for backend in self.backends if backend.alias},
            default=self.default_backend,
            routes=self.failover_routes.keys(),
        )

    @cached_property
    def expansion(self) -> Expansion:
        """What becomes of the texts that callers send as `model`, before they are read as selectors."""
        return Expansion(self.force_model, self.model_aliases, self.failover_routes)

    def override_extra(self, connector: str, values: Mapping[str, Any], source: str) -> GatewayConfig:
        """The same configuration with some settings of every instance of `connector` from elsewhere."""
        backends = tuple(
            backend.override_extra(values, source) if backend.type == connector else backend
            for backend in self.backends
        )
        return dataclasses.replace(self, backends=backends)


@dataclass(frozen=True)
class BackendSection:
    """What may be written for one backend, in the main file or in a file of its own."""

    type: Annotated[str | None, Meta(min_length=1, description="The connector's name.")] = None
    connector: Annotated[str | None, Meta(min_length=1, description="Another spelling of `type`.")] = None
    extra: Annotated[dict[str, Any], Meta(description="The connector's own settings.")] = field(default_factory=dict)
    default_params: Annotated[dict[str, Any], Meta(description="Parameters for requests that do not set them.")] = (
        field(default_factory=dict)
    )
    forced_params: Annotated[dict[str, Any], Meta(description="Parameters that replace whatever the request says.")] = (
        field(default_factory=dict)
    )
    model_facts: Annotated[
        dict[str, Facts],
        Meta(description="What is known of models, by id or pattern; it comes before what the connector knows."),
    ] = field(default_factory=dict)
    timeouts: Annotated[
        TimeoutsConfig, Meta(description="Timeouts of this backend, where they differ from the common ones.")
    ] = TimeoutsConfig()
    enabled: Annotated[bool, Meta(description="Whether requests may reach it.")] = True


def decode_section(cls: type[T], data: Mapping[str, Any], origin: Origin, prefix: str, problems: list[Problem]) -> T:
    """Decodes what is right of `data` and tells the rest, so that one mistake hides no other."""
    section, faults = decode(cls, data, prefix=prefix)
    if section is not None:
        return section
    problems += [origin.problem(*fault) for fault in faults]
    wrong = {path[0] for path, _ in faults if path}
    return decode(cls, {key: value for key, value in data.items() if key not in wrong})[0] or cls()
