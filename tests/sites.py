"""Fake distributions on a path of their own, as pip would have left them."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CONNECTOR = """
    from llmgate_core import OpenAICompatible, hookimpl

    LLMGATE_PLUGIN_API = 1

    class Acme(OpenAICompatible):
        name = "acme"
        settings: None

    @hookimpl
    def llmgate_register_connectors():
        return Acme
"""


class Site:
    """A folder like `site-packages`, in front of the path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def module(self, name: str, source: str) -> Path:
        path = self.folder / f"{name}.py"
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        return path

    def distribution(self, distribution: str, entries: dict[str, str], number: str = "1.2") -> Path:
        info = self.folder / f"{distribution.replace('-', '_')}-{number}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {number}\n")
        lines = [f"{name} = {target}" for name, target in entries.items()]
        (info / "entry_points.txt").write_text("\n".join(["[llmgate]", *lines, ""]))
        return info

    def plugin(self, source: str, name: str = "acme", distribution: str = "") -> None:
        """A distribution with one module and one entry point."""
        module = f"llmgate_site_{name}"
        self.module(module, source)
        self.distribution(distribution or f"llmgate-{name}", {name: module})

    def wheel_like(self, name: str = "acme", source: str = CONNECTOR, **more: str) -> Path:
        """A plugin with the list of its files that an installer leaves; `more` are further files of the metadata."""
        self.plugin(source, name)
        info = self.folder / f"llmgate_{name}-1.2.dist-info"
        for file, text in {"INSTALLER": "pip\n", **more}.items():
            (info / file).write_text(text)
        own = sorted(path.name for path in info.iterdir())
        listed = [f"llmgate_site_{name}.py", *(f"{info.name}/{file}" for file in own)]
        lines = [f"{file},," for file in [*listed, f"__pycache__/llmgate_site_{name}.cpython-311.pyc", "../bin/acme"]]
        (info / "RECORD").write_text("\n".join([*lines, f"{info.name}/RECORD,,", ""]))
        return info


@contextmanager
def installed(folder: Path) -> Iterator[Site]:
    """A new site in `folder`; what was imported from it is forgotten at the end."""
    folder.mkdir()
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield Site(folder)
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(folder.parent)):
            del sys.modules[name]
