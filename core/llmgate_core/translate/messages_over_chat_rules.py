"""What a Messages request can say and Chat Completions cannot: by which name a caller is told of each loss.

What is not lost is mapped or refused. Refused is what would make the answer wrong: a picture or a file that nobody here
can read, a format that nobody here can demand, a region that nobody here can promise.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..dialects.messages import SIGNATURE

__all__ = ["LOSSES", "SIGNATURE"]

LOSSES: Mapping[str, str] = {
    "cache_control": "Marks for Anthropic's prompt cache are left out; other backends cache as they do.",
    "citations": "Citations are neither asked for nor repeated; the texts they belong to stay.",
    "container": "There is no container: the tools that run in it belong to Anthropic.",
    "content.compaction": "A conversation that only Anthropic can read, compacted and encrypted, is left out.",
    "content.hosted": "Calls and results of tools that Anthropic runs itself (such as web search) are left out of the "
    "history.",
    "content.misplaced": "Blocks that chat does not let this role say, such as the assistant's images, are left out.",
    "content.options": "Members of messages and blocks that chat has no place for are left out.",
    "content.unknown": "Blocks of a type that nobody here knows are left out, unless they hold a text.",
    "context_management": "Nobody clears or compacts the conversation on the way; it is sent as it is.",
    "diagnostics": "The answer holds no diagnostics of Anthropic's prompt cache.",
    "mcp_servers": "Nobody calls MCP servers on the way; the client has to.",
    "members": "Members of the request that nobody here knows are left out.",
    "messages.orphaned_result": "Chat demands a call for each result; where there is none, the result is told as the "
    "user's text.",
    "messages.system": "A system message after the beginning is told at its place as the user's, in "
    "`<system-reminder>` tags: many models take one in the first place only.",
    "messages.unanswered_call": "Chat demands a result for each call; where there is none, the model is told that.",
    "metadata": "Who the client's user is stays with the gateway.",
    "output_config.options": "Of `output_config`, only `effort` and `format` have a counterpart.",
    "prefill": "An answer that the request has begun is sent along; not every backend goes on from there.",
    "service_tier": "Anthropic's tiers mean nothing to other backends.",
    "speed": "Anthropic's fast mode means nothing to other backends.",
    "system.attribution": "The line in which Claude Code tells Anthropic its version is left out; it changes, and so "
    "would spoil other backends' caches.",
    "thinking.budget": "A budget is told as a `reasoning_effort`: up to 4096 tokens `low`, up to 16384 `medium`, above "
    "`high`; where `output_config.effort` is given, that counts.",
    "thinking.disabled": "A model that always thinks goes on to; chat has no word for it that every backend takes.",
    "thinking.earlier": "Thinking of earlier turns, or that no answer follows, is left out; this turn's is sent back "
    "as `reasoning_content`.",
    "thinking.options": "Thinking is shown as the backend gives it; when and where it happens is up to the model.",
    "thinking.redacted": "Encrypted thinking is left out; only who encrypted it can read it.",
    "thinking.signature": "Thinking that another provider has signed is left out; it is never sent to anybody else.",
    "tool_choice": "A tool that is not offered cannot be demanded; the model chooses.",
    "tools.hosted": "Tools that Anthropic runs itself (web search, web fetch, code execution, tool search, MCP "
    "servers) are not offered to the model.",
    "tools.options": "Of a tool, its name, description, schema and `strict` are told.",
    "tools.trained": "Tools whose schema only Anthropic's models know (bash, text editor, memory, computer, browser) "
    "are not offered to the model.",
    "tools.unknown": "Tools of a type that nobody here knows are not offered to the model.",
}
"""What gets lost, by the names of `x-llmgate-lost`."""
