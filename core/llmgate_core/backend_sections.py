"""What the files say about backends becomes `BackendConfig` values: names, aliases, doubles, the default.

Each function tells what is wrong by adding to `problems`, and goes on with the rest.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import Problem
from .sections import BackendConfig, BackendSection, GatewayConfig, MainFile, Origin, decode_section
from .selector import nearest_backend
from .settings import key_name
from .yaml_file import Document

TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""How a connector may be called."""

INSTANCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
"""How an instance may be called."""

_LETTERS = "letters, digits, `-` and `_`"


def from_main_file(main: MainFile, origin: Origin, problems: list[Problem]) -> list[BackendConfig]:
    """The backends under `backends:`. A key is `type`, `type.instance`, or an alias with `type:` inside."""
    found = []
    for name, value in main.backends.items():
        path = ("backends", name)
        entry = _Entry(name, {} if value is None else value, origin.below(path), key_name(path), problems)
        found += entry.read()
    return found


def from_files(files: Iterable[tuple[str, Document]], problems: list[Problem]) -> list[BackendConfig]:
    """The backends of instance files, each given with its file's name without the suffix."""
    found = []
    for name, document in files:
        origin = dataclasses.replace(document.origin, line=1)
        if "." not in name:
            told = "an instance file is named `<type>.<instance>.yaml`, such as `acme.default.yaml`"
            problems.append(Problem(origin.source, None, told))
            continue
        found += _Entry(name, document.data, origin, "", problems).read()
    return found


@dataclasses.dataclass(frozen=True)
class _Entry:
    """One backend as written: under its name in the main file, or in a file that carries its name."""

    name: str
    value: Any
    origin: Origin
    prefix: str
    problems: list[Problem]

    def read(self) -> list[BackendConfig]:
        """The backend, or nothing if it has no usable name."""
        data = self.value
        if not isinstance(data, Mapping):
            self.tell((), f"`{self.prefix}`: expected `mapping`, such as `extra:` with settings below it.")
            data = {}
        section = decode_section(BackendSection, data, self.origin, self.prefix, self.problems)
        names = self.names(section)
        if names is None:
            return []
        backend = BackendConfig(
            *names,
            extra=section.extra,
            default_params=section.default_params,
            forced_params=section.forced_params,
            timeouts=_own_timeouts(section, data),
            enabled=section.enabled,
            model_facts=section.model_facts,
            origin=self.origin,
        )
        return [backend]

    def tell(self, path: tuple[str, ...], message: str) -> None:
        self.problems.append(self.origin.problem(path, message))

    def names(self, section: BackendSection) -> tuple[str, str, str | None] | None:
        """Type, instance and alias; None, with a problem, where there is no usable name."""
        if section.type and section.connector and section.type != section.connector:
            told = f"`{self.key('type')}` and `{self.key('connector')}` differ; keep one of them"
            self.tell(("connector",), told)
        spelling = "type" if section.type else "connector"
        written = section.type or section.connector
        prefix, dot, instance = self.name.partition(".")
        if written and not dot and written != self.name:
            return self.alias(written, spelling)
        if not TYPE.fullmatch(prefix) or not INSTANCE.fullmatch(instance if dot else "default"):
            self.tell((), f"{self.place()}: a backend is named `type` or `type.instance`, of {_LETTERS}")
            return None
        if written and written != prefix:
            self.tell((spelling,), f"`{self.key(spelling)}`: must be `{prefix}`, as in the name of the backend.")
        return prefix, instance if dot else "default", None

    def alias(self, written: str, spelling: str) -> tuple[str, str, str | None] | None:
        """A name that the operator made up: the alias of an instance of that name."""
        if not TYPE.fullmatch(self.name):
            self.tell((), f"{self.place()}: a backend's name is made of {_LETTERS}")
        elif not TYPE.fullmatch(written):
            self.tell((spelling,), f"`{self.key(spelling)}`: a connector's name is made of {_LETTERS}")
        else:
            return written, self.name, self.name
        return None

    def key(self, name: str) -> str:
        return f"{self.prefix}.{name}" if self.prefix else name

    def place(self) -> str:
        return f"`{self.prefix}`" if self.prefix else "the name of this file"


def _own_timeouts(section: BackendSection, data: Mapping[str, Any]) -> dict[str, float | None]:
    """The timeouts that were written, decoded: null is a value, absence is not."""
    written = data.get("timeouts")
    known = vars(section.timeouts)
    return {key: known[key] for key in written if key in known} if isinstance(written, Mapping) else {}


def without_doubles(backends: Iterable[BackendConfig], problems: list[Problem]) -> tuple[BackendConfig, ...]:
    """Each instance once, in order; a second one, or an alias that is a type's name too, is a problem."""
    found: dict[str, BackendConfig] = {}
    for backend in backends:
        first = found.setdefault(backend.name, backend)
        if first is not backend:
            told = f"backend `{backend.name}` is configured twice; it is also in {_place(first)}"
            problems.append(backend.origin.problem((), told))
    types = {backend.type: backend for backend in reversed(found.values())}
    for backend in found.values():
        if backend.alias in types:
            told = f"`{backend.alias}` is also the type of the backend in {_place(types[backend.alias])}"
            problems.append(backend.origin.problem((), f"{told}; choose another name"))
    return tuple(found.values())


def _place(backend: BackendConfig) -> str:
    return f"{backend.origin.source}:{backend.origin.line}"


def with_default_backend(config: GatewayConfig, problems: list[Problem]) -> GatewayConfig:
    """The configuration with the instance that `default_backend` names, made from defaults if it must be."""
    if config.default_backend is None:
        return config
    name, colon, model = config.default_backend.partition(":")
    meant = config.names().candidates.get(name)
    if colon and not model:
        told = "the name of a model is missing after `:`; write `BACKEND` or `BACKEND:MODEL`"
    elif meant is None and TYPE.fullmatch(name):
        made = BackendConfig(name, origin=_origin_of_default(config))
        return dataclasses.replace(config, backends=(*config.backends, made))
    elif meant is None:
        told = no_such_default(name, config)
    elif len(meant) > 1:
        told = f"`{name}` has several instances and none called `default`; write one of `{'`, `'.join(meant)}`"
    elif meant[0] in config.names().disabled:
        told = "names a backend that is switched off (`enabled: false`)"
    else:
        return config
    problems.append(config.problem(("default_backend",), f"`default_backend`: {told}"))
    return config


def with_backend(config: GatewayConfig, name: str, source: str) -> GatewayConfig:
    """The configuration with the backend `name`, made from its connector's defaults if it has none of that name.

    Args:
        name: as somebody wrote it; one that can be no connector's, `.default` apart, is left to who looks it up.
        source: where it was written, for what turns out to be wrong with it.
    """
    connector = name.removesuffix(".default")
    if name in config.names().candidates or not TYPE.fullmatch(connector):
        return config
    return dataclasses.replace(config, backends=(*config.backends, BackendConfig(connector, origin=Origin(source))))


def _origin_of_default(config: GatewayConfig) -> Origin:
    where = config.problem(("default_backend",), "")
    return Origin(where.source, where.line)


def is_made_from_default(backend: BackendConfig, config: GatewayConfig) -> bool:
    """Whether nothing but `default_backend` names this backend."""
    named = (config.default_backend or "").partition(":")[0]
    return backend.name == f"{named}.default" and backend.origin == _origin_of_default(config)


def no_such_default(name: str, config: GatewayConfig) -> str:
    """What to say of a `default_backend` that is neither a configured backend nor a connector."""
    written = tuple(backend for backend in config.backends if not is_made_from_default(backend, config))
    near = nearest_backend(name, dataclasses.replace(config, backends=written).names())
    told = "names no backend that is configured"
    if near:
        return f"{told}; did you mean `{near}`?"
    return f"{told}; to use a connector's defaults, write the connector's name"
