"""The package that a plugin's author begins with: `llmgate plugin new`.

What it holds is in `templates/`, one file each; names in them are replaced, nothing else is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

from ..connectors import PLUGIN_API
from ..errors import PluginError

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST_NAME = 40


@dataclass(frozen=True)
class NewPlugin:
    """Everything that is made of a connector's name.

    Raises:
        PluginError: nobody could install or import something of this name; says what to write instead.
    """

    name: str

    def __post_init__(self) -> None:
        """Refuses names that are not the same word for pip, for Python and in a configuration."""
        bare = self.name.removeprefix("llmgate-")
        if bare != self.name:
            raise PluginError(f"NAME is the connector's, without `llmgate-`: write `{bare}`")
        if not _NAME.fullmatch(self.name) or len(self.name) > _LONGEST_NAME:
            raise PluginError(
                f"NAME must be small letters and digits, in words that `-` joins, beginning with a letter, "
                f"{_LONGEST_NAME} signs at most: `acme`, `acme-cloud`"
            )
        if self.name == "core":
            raise PluginError("`llmgate-core` is llmgate itself; choose another NAME")

    @property
    def distribution(self) -> str:
        """What one installs."""
        return f"llmgate-{self.name}"

    @property
    def package(self) -> str:
        """What one imports."""
        return self.distribution.replace("-", "_")

    @property
    def variable(self) -> str:
        """The environment variable with the key."""
        return f"{self.name.replace('-', '_').upper()}_API_KEY"

    def texts(self, core_version: str) -> Mapping[str, str]:
        """The files of the package, by their paths in its folder."""
        words = [word.capitalize() for word in self.name.split("-")]
        stem = "".join(words)
        names = {
            "name": self.name,
            "distribution": self.distribution,
            "package": self.package,
            "variable": self.variable,
            "title": " ".join(words),
            # pytest takes every class whose name begins with `Test` for tests, and warns of those that are none.
            "stem": f"Llmgate{stem}" if stem.startswith("Test") else stem,
            "api": str(PLUGIN_API),
            "core": fitting(core_version),
        }
        templates = {
            "pyproject.toml": "pyproject.toml",
            "README.md": "README.md",
            f"{self.package}/__init__.py": "connector.py",
            "tests/test_conformance.py": "test_conformance.py",
            "tests/test_connector.py": "test_connector.py",
            ".github/workflows/ci.yml": "ci.yml",
        }
        texts = {path: _template(file).substitute(names) for path, file in templates.items()}
        return {**texts, f"{self.package}/py.typed": ""}


def fitting(core_version: str) -> str:
    """The range of versions that keep the promises of this one: before 1.0 a minor version may break them."""
    major, minor = (int(part) for part in re.findall(r"\d+", core_version)[:2])
    return f">={major}.{minor},<{major}.{minor + 1}" if major == 0 else f">={major}.{minor},<{major + 1}"


def _template(file: str) -> Template:
    return Template(files(__name__).joinpath("templates", f"{file}.template").read_text(encoding="utf-8"))


def write(texts: Mapping[str, str], folder: Path) -> None:
    """Writes a package into a folder that is not there yet.

    Raises:
        PluginError: something is there, or it cannot be written. Nothing that was there is changed.
    """
    try:
        folder.mkdir(parents=True)
        for path, text in texts.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    except FileExistsError:
        raise PluginError(
            f"`{folder}` is there already, and is left as it is; say another place with `--dir`"
        ) from None
    except OSError as error:
        raise PluginError(f"cannot write `{error.filename}`: {error.strerror}") from None
