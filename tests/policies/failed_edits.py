"""What agents send after a failed edit: whole messages, by the name of the pattern that is to know them.

The words are those of the agents' published sources (see `source` of each pattern); paths and code are made up.
"""

from __future__ import annotations

from typing import Any

FILE = "/home/dev/shop/cart.py"
CODE = 'def total(items):\n    return sum(item.price for item in items)  # "net"'

CLAUDE_CODE = {
    "not-found": f"String to replace not found in file.\nString: {CODE}",
    "several-matches": "Found 3 matches of the string to replace, but replace_all is false. To replace all "
    "occurrences, set replace_all to true. To replace only one occurrence, please provide more context to uniquely "
    f"identify the instance.\nString: {CODE}",
    "no-change": "No changes to make: old_string and new_string are exactly the same.",
    "stale": "File has been modified since read, either by the user or by a linter. Read it again before attempting "
    "to write it.",
}
CODEX = [
    f"apply_patch verification failed: Failed to find expected lines in {FILE}:\n{CODE}",
    f"apply_patch verification failed: Failed to find context 'class Cart:' in {FILE}",
    "apply_patch verification failed: invalid patch: The first line of the patch must be '*** Begin Patch'",
    "apply_patch verification failed: invalid hunk at line 4, Expected update hunk to start with a @@ context marker",
]
OPENCODE = {
    "not-found": "Could not find oldString in the file. It must match exactly, including whitespace, indentation, and "
    "line endings.",
    "several-matches": "Found multiple matches for oldString. Provide more surrounding context to make the match "
    "unique.",
    "no-change": "No changes to apply: oldString and newString are identical.",
    "apply-patch": f"apply_patch verification failed: Error: Failed to find expected lines in {FILE}:\n{CODE}",
}
CLINE_END = (
    "\n\nThis is likely because the SEARCH block content doesn't match exactly with what's in the file, or if you used "
    "multiple SEARCH/REPLACE blocks they may not have been in the order they appear in the file.\n\nThe file was "
    f'reverted to its original state:\n\n<file_content path="cart.py">\n{CODE}\n</file_content>\n</error>'
)
CLINE = [
    "The tool execution failed with the following error:\n<error>\n"
    f"The SEARCH block:\n{CODE}\n...{end} in the file.{CLINE_END}"
    for end in ("does not match anything", "matched an incorrect content")
]
ROO_CODE = [
    "<error_details>\nNo sufficiently similar match found at line: 119 (27% similar, needs 100%)\n\nDebug Info:\n"
    f"- Similarity Score: 27%\n- Required Threshold: 100%\n\nSearch Content:\n{CODE}\n</error_details>",
    f"Unable to apply diff to file: {FILE}\n\n<error_details>\nInvalid diff format\n</error_details>",
    f"But unable to apply all diff parts to file: {FILE}, silently use <read_file> tool to check newest file version "
    "and re-apply diffs\n<file_write_result>\n<path>cart.py</path>\n</file_write_result>",
]

# Pattern, tool, what the tool message holds.
TOOL_RESULTS: list[tuple[str, str, Any]] = [
    *(
        (f"claude-code-{name}", "Edit", f"<tool_use_error>{text}</tool_use_error>")
        for name, text in CLAUDE_CODE.items()
    ),
    *((f"claude-code-{name}", "MultiEdit", text) for name, text in CLAUDE_CODE.items()),
    *(
        (f"claude-code-{name}", "Edit", [{"type": "text", "text": f"Error: {text}"}])
        for name, text in CLAUDE_CODE.items()
    ),
    ("claude-code-stale", "Write", f"<tool_use_error>{CLAUDE_CODE['stale']}</tool_use_error>"),
    *(("codex-apply-patch", tool, text) for text in CODEX for tool in ("apply_patch", "shell", "exec_command")),
    (
        "qwen-code-not-found",
        "edit",
        f"Failed to edit, 0 occurrences found for old_string in {FILE}. No edits made. The exact text in old_string "
        "was not found. Ensure you're not escaping content incorrectly and check whitespace, indentation, and context. "
        "Use read_file tool to verify.",
    ),
    (
        "qwen-code-several-matches",
        "edit",
        f"Failed to edit. Found 2 occurrences for old_string in {FILE} but replace_all was not enabled.",
    ),
    (
        "qwen-code-no-change",
        "edit",
        f"No changes to apply. The old_string and new_string are identical in file: {FILE}",
    ),
    (
        "qwen-code-no-change",
        "edit",
        f"No changes to apply. The new content is identical to the current content in file: {FILE}",
    ),
    (
        "qwen-code-stale",
        "write_file",
        f"File {FILE} has been modified since you last read it (mtime or size changed). Re-read it with the read_file "
        "tool before overwriting it to ensure your changes are based on current content.",
    ),
    (
        "gemini-cli-not-found",
        "replace",
        f"Could not find an exact match for 'old_string' in '{FILE}'. If previous edits modified the file or you are "
        "modifying lines outside your recent read window, please use ReadFile to inspect the target lines before "
        "retrying with an exact 'old_string'.",
    ),
    (
        "gemini-cli-several-matches",
        "replace",
        f"Failed to edit, Expected 1 occurrence but found 3 for old_string in file: {FILE}. If you intended to replace "
        "multiple occurrences, set 'allow_multiple' to true.",
    ),
    *(
        (f"opencode-{name}", "apply_patch" if name == "apply-patch" else "edit", f"{before}{text}")
        for name, text in OPENCODE.items()
        for before in ("", "Error: ")
    ),
    ("opencode-apply-patch", "apply_patch", "apply_patch verification failed: no hunks found"),
    ("opencode-apply-patch", "apply_patch", "Error: apply_patch verification failed: no hunks found"),
    *(("cline-replace-in-file", "replace_in_file", text) for text in CLINE),
    *(("roo-code-apply-diff", "apply_diff", text) for text in ROO_CODE),
    (
        "roo-code-edit-file",
        "edit_file",
        '{"status":"error","message":"The tool execution failed","error":"No match found for the specified '
        "'old_string'. Please ensure it matches the file contents exactly, including all whitespace and "
        'indentation."}',
    ),
    (
        "roo-code-edit-file",
        "edit_file",
        '{"status":"error","message":"The tool execution failed","error":"Expected 1 occurrence(s) but found 2. Please '
        'adjust your old_string to match exactly 1 occurrence(s), or set expected_replacements to 2."}',
    ),
]

BLOCK = f"cart.py\n```python\n<<<<<<< SEARCH\n{CODE}\n=======\npass\n>>>>>>> REPLACE\n```\n"
UDIFF = f"```diff\n--- cart.py\n+++ cart.py\n@@ @@\n-{CODE}\n+pass\n```\n"
PATCH = f"*** Begin Patch\n*** Update File: cart.py\n@@\n-{CODE}\n+pass\n*** End Patch\n"

# Pattern, what the model had answered, what the user's message holds.
USER_MESSAGES: list[tuple[str, str, Any]] = [
    *(
        (
            "aider-search-replace",
            BLOCK,
            f"# {count} failed to match!\n\n## SearchReplaceNoExactMatch: This SEARCH block failed to exactly match "
            f"lines in cart.py\n<<<<<<< SEARCH\n{CODE}\n=======\npass\n>>>>>>> REPLACE\n\nThe SEARCH section must "
            "exactly match an existing block of lines including all white space, comments, indentation, docstrings, "
            "etc\n",
        )
        for count in ("1 SEARCH/REPLACE block", "2 SEARCH/REPLACE blocks")
    ),
    (
        "aider-unified-diff",
        UDIFF,
        "UnifiedDiffNoMatch: hunk failed to apply!\n\ncart.py does not contain lines that match the diff you "
        f"provided!\nTry again.\n```\n{CODE}```\n",
    ),
    (
        "aider-unified-diff",
        UDIFF,
        "UnifiedDiffNotUnique: hunk failed to apply!\n\ncart.py contains multiple sets of lines that match the "
        f"diff you provided!\nTry again.\n```\n{CODE}```\n",
    ),
    (
        "aider-patch",
        PATCH,
        f"Error parsing patch content: Could not find patch context  starting near line 12:\n{CODE}",
    ),
    ("aider-patch", PATCH, "Error parsing patch content: Could not find scope context:\nclass Cart:"),
    (
        "aider-patch",
        PATCH,
        "Error applying action 'Update' to cart.py: cart.py: Mismatch applying patch near line 3.\nExpected lines to "
        f"remove:\n- {CODE}",
    ),
    *(
        (
            "cline-replace-in-file-as-text",
            f"<replace_in_file>\n<path>cart.py</path>\n<diff>\n{CODE}\n</diff>\n</replace_in_file>",
            [
                {"type": "text", "text": "[replace_in_file for 'cart.py'] Result:"},
                {"type": "text", "text": text},
                {"type": "text", "text": "<environment_details>\n# Current Mode\nACT MODE\n</environment_details>"},
            ],
        )
        for text in CLINE
    ),
    *(
        (
            "roo-code-apply-diff-as-text",
            f"<apply_diff>\n<path>cart.py</path>\n<diff>\n{CODE}\n</diff>\n</apply_diff>",
            [{"type": "text", "text": "[apply_diff for 'cart.py'] Result:"}, {"type": "text", "text": text}],
        )
        for text in ROO_CODE
    ),
]


def call(tool: str, name: str = "call_1") -> dict[str, Any]:
    """The model's message that calls a tool."""
    function = {"name": tool, "arguments": '{"path": "cart.py"}'}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": name, "type": "function", "function": function}],
    }


def result(content: Any, name: str = "call_1") -> dict[str, Any]:
    """A tool's answer."""
    return {"role": "tool", "tool_call_id": name, "content": content}


def after_tool(tool: str, content: Any) -> list[dict[str, Any]]:
    """A conversation whose newest message is a tool's answer."""
    asked = {"role": "user", "content": "Make the total include tax."}
    return [{"role": "system", "content": "You are a coding agent."}, asked, call(tool), result(content)]


def after_user(answered: str, content: Any) -> list[dict[str, Any]]:
    """A conversation whose newest message is the user's."""
    asked = {"role": "user", "content": "Make the total include tax."}
    return [asked, {"role": "assistant", "content": answered}, {"role": "user", "content": content}]
