"""Which plugins are installed, where they came from, and whether the operator allows them. Imports none of them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from importlib.metadata import Distribution, EntryPoint, PackagePath, entry_points
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from .settings import Meta, did_you_mean

GROUP = "llmgate"


@dataclass(frozen=True)
class Installed:
    """A plugin that could be loaded: what its distribution's metadata says, nothing imported."""

    name: str
    distribution: str
    version: str
    target: str
    entry_point: EntryPoint | None = field(repr=False, default=None)
    is_file: bool = False

    def __str__(self) -> str:
        if self.is_file:
            return f"plugin file `{self.distribution}`"
        return f"plugin `{self.name}` of distribution `{self.distribution}` {self.version} ({self.target})"

    @property
    def metadata(self) -> Distribution | None:
        """Of the distribution that it came with; None for a file, and for what llmgate brings itself."""
        return self.entry_point.dist if self.entry_point else None


def discover(block: Collection[str] = ()) -> list[Installed]:
    """All installed plugins by metadata alone, those in `block` (names or distributions) left out."""
    found: dict[tuple[str, str, str], Installed] = {}
    for entry in entry_points(group=GROUP):
        distribution, version = _distribution(entry)
        if entry.name in block or normal(distribution) in map(normal, block):
            continue
        # One distribution can be seen twice, through two entries of sys.path.
        found.setdefault(
            (entry.name, distribution, entry.value),
            Installed(entry.name, distribution, version, entry.value, entry),
        )
    return sorted(found.values(), key=lambda one: (one.name, one.distribution))


def normal(distribution: str) -> str:
    """A distribution's name as pip compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _distribution(entry: EntryPoint) -> tuple[str, str]:
    """Name and version. A half-finished uninstall leaves entry points without a METADATA file behind."""
    found = entry.dist
    if found is None or not (found.read_text("METADATA") or found.read_text("PKG-INFO")):
        return "unknown", "?"
    return found.name, found.version


# --- where it came from -----------------------------------------------------------------------------------------------


def origin(found: Distribution | None) -> str:
    """Where pip or uv took a distribution from, in a few words; empty where it noted nothing, as for an index."""
    told = _direct_url(found)
    url = told.get("url")
    if not isinstance(url, str):
        return ""
    if isinstance(told.get("dir_info"), dict):
        return f"folder {_path(url)}" + (" (editable)" if _is_editable(told) else "")
    if isinstance(vcs := told.get("vcs_info"), dict):
        return f"{vcs.get('vcs')} {_without_user(url)} at {str(vcs.get('commit_id'))[:12]}"
    return f"file {_path(url)}" if url.startswith("file:") else f"address {_without_user(url)}"


def _direct_url(found: Distribution | None) -> dict[str, Any]:
    """What PEP 610 has the installer write; it may be anything, as anybody can write there."""
    try:
        told = json.loads(found.read_text("direct_url.json") or "{}") if found else {}
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _is_editable(told: dict[str, Any]) -> bool:
    info = told.get("dir_info")
    return isinstance(info, dict) and info.get("editable") is True


def editable_folder(found: Distribution | None) -> Path | None:
    """The folder of a project that is installed so that its changes take effect at once; None for any other."""
    told = _direct_url(found)
    url = told.get("url")
    return Path(_path(url)) if _is_editable(told) and isinstance(url, str) else None


def _path(url: str) -> str:
    return url2pathname(url.removeprefix("file://"))


def _without_user(url: str) -> str:
    """Who installs with a token in the address does not want to read it in a list of plugins."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


# --- whether it is allowed --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AllowedPlugin:
    """A distribution whose plugins may be imported."""

    name: Annotated[str, Meta(min_length=1, description="The distribution's name.")]
    sha256: Annotated[
        str | None,
        Meta(
            pattern="^[0-9a-f]{64}$", description="Of its files, told by `llmgate plugins --hashes`; any if left out."
        ),
    ] = None


Allowed = Sequence[AllowedPlugin | str]
"""Distributions whose plugins may be imported; a name alone allows any version of it."""


def is_listed(distribution: str, allowed: Allowed | None) -> bool:
    """Whether plugins of a distribution may be imported, if its files are those that are meant."""
    return allowed is None or any(normal(one.name) == normal(distribution) for one in _entries(allowed))


def _entries(allowed: Allowed) -> list[AllowedPlugin]:
    return [AllowedPlugin(one) if isinstance(one, str) else one for one in allowed]


def refusal(plugin: Installed, allowed: Allowed | None) -> str:
    """Why a plugin may not be imported; empty when it may. None allows everything that is installed."""
    if allowed is None:
        return ""
    if not is_listed(plugin.distribution, allowed):
        meant = f", which has `{plugin.name}` where that belongs" if is_listed(plugin.name, allowed) else ""
        return f"is not imported: its distribution is not in `plugins.allow`{meant}. Allow it there, or uninstall it"
    hashes = [one.sha256 for one in _entries(allowed) if normal(one.name) == normal(plugin.distribution)]
    if None in hashes:
        return ""
    found = content_hash(plugin.metadata)
    if found is None:
        return (
            "is not imported: `plugins.allow` has a hash for its distribution, and this one can have none: it is "
            "editable, or has no list of its files. Install it from a wheel, or allow it by name alone"
        )
    if found not in hashes:
        return (
            "is not imported: its files are not those whose hash is in `plugins.allow`. If the change is meant, "
            "`llmgate plugins --hashes` tells the new hash"
        )
    return ""


def misfit(name: str, here: Sequence[Installed]) -> str:
    """Why an entry of the list fits none of these plugins, and what was probably meant; empty where it fits one."""
    distributions = {one.name: one.distribution for one in here}
    if normal(name) in map(normal, distributions.values()):
        return ""
    meant = distributions.get(name) or did_you_mean(name, distributions.values())
    return f"no plugin of a distribution `{name}` is installed" + (f"; did you mean `{meant}`?" if meant else "")


INSTALLERS_OWN = ("INSTALLER", "RECORD", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json")
"""What installers write into the folder of metadata, and differs from one installation of a wheel to the next."""


def content_hash(found: Distribution | None) -> str | None:
    """The SHA-256 of what a distribution brought: of lines as `sha256sum` prints them, sorted, one a file.

    The files are read, not only the list of them, so that one that was changed after the installation is noticed. The
    same wheel has the same hash wherever it is installed. None where it cannot be told.
    """
    if found is None or _is_editable(_direct_url(found)):
        return None
    lines = [f"{_digest(found, file)}  {file.as_posix()}\n" for file in found.files or () if _came_along(file)]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest() if lines else None


def _came_along(file: PackagePath) -> bool:
    """Whether a file is from the wheel, and the same on every machine: scripts hold the path of their Python."""
    is_compiled = file.suffix == ".pyc" or "__pycache__" in file.parts
    is_outside = file.is_absolute() or ".." in file.parts
    is_installers = file.parent.suffix == ".dist-info" and file.name in INSTALLERS_OWN
    return not (is_compiled or is_outside or is_installers)


def _digest(found: Distribution, file: PackagePath) -> str:
    try:
        return hashlib.sha256(Path(str(found.locate_file(file))).read_bytes()).hexdigest()
    except OSError:
        return "missing"
