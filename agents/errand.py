"""What the scripted model does in every test: it creates a file, edits it, and says so; in Chinese, as bytes count.

It takes what tools the agent offers. Their names and arguments are each agent's own, so a table says who has which.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

FILE = "hello.txt"
CREATED = "你好，世界\n第二行：学习\n"
OLD, NEW = "第二行：学习", "第二行：编辑成功✅"
EDITED = CREATED.replace(OLD, NEW)
PROMPT = f"Create {FILE}, then edit its second line."
DONE = f"完成：{FILE} 已写入并修改。"
CALLS = 2
"""Tool calls until the errand is done."""

Arguments = Mapping[str, Any]
Call = tuple[str, Arguments]

_WRITES: Sequence[tuple[str, Callable[[str], Arguments]]] = (
    ("Write", lambda path: {"file_path": path, "content": CREATED}),
    ("write_file", lambda path: {"file_path": path, "content": CREATED}),
    ("write", lambda path: {"filePath": path, "content": CREATED}),
    ("exec_command", lambda path: {"cmd": f"printf %s {shlex.quote(CREATED)} > {shlex.quote(path)}"}),
)
"""Of Claude Code, Qwen Code, opencode and Codex, which has a shell alone."""

_EDITS: Sequence[tuple[str, Callable[[str], Arguments]]] = (
    ("Edit", lambda path: {"file_path": path, "old_string": OLD, "new_string": NEW}),
    ("edit", lambda path: {"file_path": path, "old_string": OLD, "new_string": NEW}),
    ("edit", lambda path: {"filePath": path, "oldString": OLD, "newString": NEW}),
    ("exec_command", lambda path: {"cmd": f"sed -i s/{OLD}/{NEW}/ {shlex.quote(path)}"}),
)


def next_call(done: int, offered: Mapping[str, Iterable[str]], path: str) -> Call | None:
    """The next tool call, None where nothing is left to do or no tool is offered at all.

    Args:
        done: how many calls have results.
        offered: the tools, and the names of each one's arguments.
        path: of the file.

    Raises:
        LookupError: among the tools is none that the table knows.
    """
    if done >= CALLS or not offered:
        return None
    for name, arguments_for in (_WRITES, _EDITS)[done]:
        arguments = arguments_for(path)
        if name in offered and arguments.keys() <= set(offered[name]):
            return name, arguments
    raise LookupError(f"no tool to do step {done + 1} with among {', '.join(sorted(offered))}")
