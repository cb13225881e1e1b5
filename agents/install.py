"""Installs the agents that package.json names, from npm, beside it: `python -m agents.install`.

There is no lock file: it would hold the address of whoever's registry wrote it. The versions of the agents are exact.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
BIN = MODULES / ".bin"
NODE = 20
"""The lowest major version of Node.js that serves."""

SECONDS = 900.0


def wanted() -> dict[str, str]:
    """The packages and their versions."""
    versions: dict[str, str] = json.loads((HERE / "package.json").read_text())["dependencies"]
    return versions


def missing() -> list[str]:
    """What is not there in the version that is wanted, as `NAME@VERSION`."""
    return [f"{name}@{version}" for name, version in wanted().items() if _installed(name) != version]


def _installed(name: str) -> str | None:
    try:
        return str(json.loads((MODULES / name / "package.json").read_text())["version"])
    except FileNotFoundError:
        return None


def node_fault() -> str | None:
    """Why nothing can be installed or run here, None where it can."""
    for command in ("node", "npm"):
        if shutil.which(command) is None:
            return f"`{command}` is not on the PATH; install Node.js {NODE} or newer, with npm"
    told = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.match(r"v(\d+)\.", told)
    if found is None or int(found[1]) < NODE:
        return f"Node.js is {told.strip()}; install {NODE} or newer, with npm"
    return None


def main() -> int:
    """Installs what is missing; the exit status."""
    if (fault := node_fault()) is not None:
        print(f"agents: {fault}", file=sys.stderr)
        return 1
    if not (lacking := missing()):
        return 0
    print(f"agents: npm installs {', '.join(lacking)}")
    npm = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--no-update-notifier"]
    status = subprocess.run(npm, cwd=HERE, timeout=SECONDS, check=False).returncode
    if status == 0 and (lacking := missing()):
        print(f"agents: npm has not installed {', '.join(lacking)}", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
