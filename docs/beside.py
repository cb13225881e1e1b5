"""For mkdocs: pages that stand beside docs/ are in the site too, and links to and from them lead on.

On disk README.md and the plugins' pages stay where people look for them, and every link is right there. Here each is
given a place in the site. What is no page, such as a program, is named where it is linked, as a site holds no programs.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
NAMES = {"README.md": "start.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}

_FENCED = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[([^\]\[]*)\]\((?!\w+:)([^)\s#]+)(#[^)\s]*)?\)")


def places() -> dict[str, str]:
    """Where in the site a page is that stands beside docs/: both paths with `/`, the first from the root."""
    plugins = {path.parent.name: path.relative_to(ROOT).as_posix() for path in ROOT.glob("plugins/*/README.md")}
    return {**NAMES, **{path: f"plugins/{name}.md" for name, path in plugins.items()}}


def moved(text: str, source: str, place: str, known: Mapping[str, str]) -> str:
    """A page as it reads at its place in the site.

    Args:
        source: where it stands, from the root.
        place: where it will be, from the root of the site.
        known: places of the pages beside docs/, as `places` has them.
    """

    def link(found: re.Match[str]) -> str:
        label, path, anchor = found[1], found[2], found[3] or ""
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        to = known.get(target, target.removeprefix("docs/") if target.startswith("docs/") else None)
        if to is None:
            return label if label.strip("`") == target else f"{label} (`{target}`)"
        return f"[{label}]({posixpath.relpath(to, posixpath.dirname(place) or '.')}{anchor})"

    parts, at = [], 0
    for block in _FENCED.finditer(text):
        parts += [_LINK.sub(link, text[at : block.start()]), block[0]]
        at = block.end()
    return "".join([*parts, _LINK.sub(link, text[at:])])


def slug(heading: str, separator: str) -> str:
    """A heading's anchor, as code hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", separator)


def on_config(config: Any) -> Any:
    """Anchors are those that the links on disk name."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = slug
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages from beside docs/."""
    for source, place in places().items():
        files.append(File.generated(config, place, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turns the page's links."""
    known = places()
    sources = {place: source for source, place in known.items()}
    place = page.file.src_uri
    return moved(markdown, sources.get(place, f"docs/{place}"), place, known)
