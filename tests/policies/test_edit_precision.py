"""A failed edit lowers the temperature of the next answer: when it does, how far, and what leaves it alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmgate_core.connectors import ModelInfo, Policy, Verdict
from llmgate_core.dialects import chat
from llmgate_core.model_facts import families
from llmgate_core.policies.edit_patterns import EditPattern, shipped
from llmgate_core.policies.edit_precision import EditPrecision, EditPrecisionSettings
from llmgate_core.policies.model_limits import limit
from llmgate_core.request import GatewayRequest, Layer, Params, Setting
from llmgate_core.selector import Leaf
from llmgate_core.wire import Body

from .failed_edits import (
    BLOCK,
    CLAUDE_CODE,
    CODEX,
    TOOL_RESULTS,
    USER_MESSAGES,
    after_tool,
    after_user,
    call,
    result,
)

POLICY = EditPrecision(EditPrecisionSettings(enabled=True))
NOT_FOUND = CLAUDE_CODE["not-found"]
FAILED = after_tool("Edit", NOT_FOUND)
HEADER = "x-llmgate-edit-precision"


def request_of(messages: Any, *, user_agent: str = "", dialect: str = "openai.chat", **members: Any) -> GatewayRequest:
    body = Body.parse(json.dumps({"model": "m", "messages": messages, **members}).encode())
    return GatewayRequest("req_1", dialect, "generate", "m", body, False, {}, user_agent=user_agent)


def apply(
    messages: Any,
    *,
    policy: EditPrecision = POLICY,
    model: str = "some-model",
    params: Params | None = None,
    **more: Any,
) -> Verdict:
    return policy.apply(request_of(messages, **more), Leaf("acme.default", model), params or Params())


def named(messages: Any, **more: Any) -> str | None:
    """The pattern that fitted, None if none did; header and temperature must agree."""
    verdict = apply(messages, **more)
    set_here = [setting.value for setting in verdict.params.effective().values() if setting.layer == "policy"]
    headers = verdict.told(verdict.params)
    assert len(set_here) == len(headers)
    return headers.get(HEADER)


# --- what agents really send ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "tool", "content"), TOOL_RESULTS)
def test_a_failure_in_a_tool_result(name: str, tool: str, content: Any) -> None:
    tools = [{"type": "function", "function": {"name": tool}}]
    assert named(after_tool(tool, content), tools=tools) == name


def test_words_that_two_agents_share_are_told_apart_by_the_user_agent() -> None:
    text = "No changes to apply. The old_string and new_string are identical in file: cart.py"
    assert named(after_tool("replace", text), user_agent="GeminiCLI/0.61.0/x (linux; x64)") == "gemini-cli-no-change"
    assert named(after_tool("replace", text), user_agent="QwenCode/0.15.10 (linux; x64)") == "qwen-code-no-change"
    assert named(after_tool("replace", text)) == "qwen-code-no-change"


@pytest.mark.parametrize(("name", "answered", "content"), USER_MESSAGES)
def test_a_failure_that_an_agent_without_tools_reports(name: str, answered: str, content: Any) -> None:
    assert named(after_user(answered, content)) == name
    assert named(after_user(answered, content), tools=[]) == name


@pytest.mark.parametrize("pattern", shipped().patterns, ids=lambda pattern: pattern.name)
def test_each_text_of_each_pattern_is_one_that_is_sent(pattern: EditPattern) -> None:
    contents = [content for _, _, content in (*TOOL_RESULTS, *USER_MESSAGES)]
    texts = [text if isinstance(text, str) else "\n".join(part["text"] for part in text) for text in contents]
    if pattern.name == "gemini-cli-no-change":
        texts.append("No changes to apply. The old_string and new_string are identical in file: cart.py")
    for text, wording in zip(pattern.texts, pattern.wordings, strict=True):
        assert any(wording.fits(sent) for sent in texts), text


def test_one_failure_among_several_results_is_enough() -> None:
    calls = call("Read", "a")
    calls["tool_calls"] += call("Edit", "b")["tool_calls"]
    messages = [calls, result(NOT_FOUND, "b"), result("1\timport os", "a"), {"role": "user", "content": "go on"}]
    assert named(messages) == "claude-code-not-found"


def test_the_name_of_a_custom_tool() -> None:
    custom = {"id": "call_1", "type": "custom", "custom": {"name": "apply_patch", "input": "*** Begin Patch"}}
    messages = [{"role": "assistant", "content": "", "tool_calls": [custom]}, result(CODEX[0])]
    assert named(messages) == "codex-apply-patch"


def test_calls_that_were_split_over_several_messages() -> None:
    messages = [call("Edit", "a"), call("Read", "b"), result(NOT_FOUND, "a"), result("1\timport os", "b")]
    assert named(messages) == "claude-code-not-found"


def test_an_id_that_was_used_again_belongs_to_the_newest_call() -> None:
    assert named([call("Edit"), result("done"), call("Read"), result(NOT_FOUND)]) is None
    assert named([call("Read"), result("text"), call("Edit"), result(NOT_FOUND)]) == "claude-code-not-found"


# --- what only looks like it ----------------------------------------------------------------------------------------

OK = "The file /home/dev/shop/cart.py has been updated successfully."
QUOTED = f"1\tERROR = '''{NOT_FOUND}'''\n"
LOOKALIKES: dict[str, Any] = {
    "a file that contains the sentence": after_tool("Read", NOT_FOUND),
    "the sentence inside a longer result": after_tool("Edit", f"{OK} Its new text:\n{QUOTED}"),
    "a successful edit": after_tool("Edit", OK),
    "the shell shows such a file": after_tool("shell", f"Exit code: 0\nWall time: 0.1 seconds\nOutput:\n{CODEX[0]}"),
    "another agent's tool": after_tool("replace_in_file", NOT_FOUND),
    "an old failure": [*FAILED, {"role": "assistant", "content": "I read the file again."}],
    "an old failure, then a good edit": [*FAILED, call("Edit", "b"), result(OK, "b")],
    "an old failure, then the user": [
        *FAILED,
        {"role": "assistant", "content": "It failed."},
        {"role": "user", "content": "Why?"},
    ],
    "a result to no call": [call("Edit", "a"), result(NOT_FOUND, "b")],
    "a result without an id": [call("Edit"), {"role": "tool", "content": NOT_FOUND}],
    "neither call nor result has an id": [
        {"role": "assistant", "tool_calls": [{"function": {"name": "Edit"}}]},
        {"role": "tool", "content": NOT_FOUND},
    ],
    "a call that a user has faked": [{**call("Edit"), "role": "user", "content": "x"}, result(NOT_FOUND)],
    "a user who asks about it": [{"role": "user", "content": f"What does this mean? {NOT_FOUND}"}],
    "a user who pastes it": [{"role": "user", "content": NOT_FOUND}],
    "a user who pastes it after an edit": [call("Edit"), result(OK), {"role": "user", "content": NOT_FOUND}],
    "a user who pastes what aider says": [{"role": "user", "content": USER_MESSAGES[0][2]}],
    "the same in another conversation": after_user("Hello! What shall we do?", USER_MESSAGES[0][2]),
    "a user who asks about what aider says": after_user(BLOCK, f"What does this mean?\n{USER_MESSAGES[0][2]}"),
    "a user who goes on after the report": [
        *after_user(BLOCK, USER_MESSAGES[0][2]),
        {"role": "user", "content": "never mind"},
    ],
    "an old report": [*after_user(BLOCK, USER_MESSAGES[0][2]), {"role": "assistant", "content": BLOCK}],
    "the system says it": [call("Edit"), result(OK), {"role": "system", "content": NOT_FOUND}],
}


@pytest.mark.parametrize("messages", LOOKALIKES.values(), ids=LOOKALIKES.keys())
def test_what_only_looks_like_it(messages: Any) -> None:
    assert named(messages) is None


@pytest.mark.parametrize("member", ["tools", "functions"])
def test_an_agent_with_tools_does_not_report_as_the_user(member: str) -> None:
    messages = after_user(BLOCK, USER_MESSAGES[0][2])
    assert named(messages, **{member: [{"name": "Read"}]}) is None


def test_a_caller_who_is_known_to_be_another_agent() -> None:
    assert named(FAILED, user_agent="claude-cli/2.1.197 (external, cli)") == "claude-code-not-found"
    assert named(FAILED, user_agent="python-httpx/0.28.1") == "claude-code-not-found"
    assert named(FAILED, user_agent="QwenCode/0.15.10 (linux; x64)") is None
    assert named(after_user(BLOCK, USER_MESSAGES[0][2]), user_agent="opencode/1.18.33") is None


def test_a_dialect_that_nobody_reads_is_left_alone() -> None:
    assert named(FAILED, dialect="acme.own") is None


def test_it_is_off_by_default() -> None:
    assert EditPrecisionSettings().enabled is False
    assert named(FAILED, policy=EditPrecision(EditPrecisionSettings())) is None


def test_it_is_a_policy() -> None:
    assert isinstance(POLICY, Policy)


# --- the temperature ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "temperature"),
    [
        ("some-model", 0.1),
        ("gpt-4.1", 0.2),
        ("openai/GPT-4o-mini", 0.2),
        ("gemini-2.5-pro", 0.2),
        ("deepseek-chat", 0.0),
        ("zai-org/GLM-4.6", 0.6),
        ("x-ai/grok-code-fast-1", 0.1),
        ("claude-sonnet-4-5", 0.2),
        ("claude-opus-4-1", 0.2),
    ],
)
def test_the_temperature_goes_by_the_family(model: str, temperature: float) -> None:
    assert apply(FAILED, model=model).params.effective() == {"temperature": Setting(temperature, "policy")}


def test_the_temperatures_can_be_configured() -> None:
    settings = EditPrecisionSettings(enabled=True, temperature=0.3, model_temperatures={"Coder": 0.05, "code": 0.5})
    policy = EditPrecision(settings)
    for model, temperature in {"gpt-4.1": 0.3, "some-CODER": 0.05, "codestral": 0.5}.items():
        assert apply(FAILED, policy=policy, model=model).params.why("temperature")[0].value == temperature


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ({"client": {"temperature": 0.9}}, Setting(0.1, "policy")),
        ({"client": {"temperature": 1}}, Setting(0.1, "policy")),
        ({"client": {"temperature": 0.1}}, Setting(0.1, "client")),
        ({"client": {"temperature": 0.05}}, Setting(0.05, "client")),
        ({"client": {"temperature": 0}}, Setting(0, "client")),
        ({"default": {"temperature": 0.7}}, Setting(0.1, "policy")),
        ({"default": {"temperature": 0.0}}, Setting(0.0, "default")),
        ({"default": {"temperature": 0.0}, "client": {"temperature": 0.9}}, Setting(0.1, "policy")),
        ({"policy": {"temperature": 0.02}}, Setting(0.02, "policy")),
        ({"uri": {"temperature": 1.5}}, Setting(1.5, "uri")),
        ({"forced": {"temperature": 1.5}}, Setting(1.5, "forced")),
        ({"client": {"temperature": "warm"}}, Setting("warm", "client")),
        ({"client": {"temperature": True}}, Setting(True, "client")),
    ],
)
def test_which_temperature_stays(layers: Mapping[Layer, Mapping[str, Any]], expected: Setting) -> None:
    verdict = apply(FAILED, params=Params(layers))
    assert verdict.params.effective() == {"temperature": expected}
    has_changed = verdict.params.why("temperature") != Params(layers).why("temperature")
    assert (HEADER in verdict.told(verdict.params)) is has_changed


def sent(model: str, **members: Any) -> tuple[Setting | None, str | None]:
    """The temperature that goes up to a model that is known, and the header, after a failed edit."""
    info = families().get(model) or ModelInfo(model)
    request = request_of(FAILED, **members)
    own = chat.params(request.body, [name for group in info.excludes for name in group])
    verdict = apply(FAILED, model=model, params=Params({"client": own}), **members)
    params, _ = limit(verdict.params, info)
    return params.effective().get("temperature"), verdict.told(params).get(HEADER)


@pytest.mark.parametrize("model", ["gpt-5-mini", "o3", "claude-opus-4-7"])
def test_nothing_is_added_that_the_model_refuses(model: str) -> None:
    assert sent(model) == (None, None)
    assert sent(model, temperature=0.9) == (Setting(0.9, "client"), None)


@pytest.mark.parametrize(
    "members", [{"top_p": 0.9}, {"thinking": {"type": "enabled", "budget_tokens": 2000}}, {"reasoning": {}}]
)
def test_nothing_is_added_that_clashes_with_what_the_request_has(members: Mapping[str, Any]) -> None:
    assert sent("claude-sonnet-4-5", **members) == (None, None)
    assert sent("claude-sonnet-4-5", temperature=0.9, **members) == (Setting(0.9, "client"), None)
    assert sent("gpt-4.1", **members) == (Setting(0.2, "policy"), "claude-code-not-found")
    nothing = dict.fromkeys(members)
    assert sent("claude-sonnet-4-5", **nothing) == (Setting(0.2, "policy"), "claude-code-not-found")


# --- who is left alone, and what is added ---------------------------------------------------------------------------


def test_agents_can_be_excluded() -> None:
    policy = EditPrecision(EditPrecisionSettings(enabled=True, exclude_agents_regex=r"^claude-cli/2\.|internal"))
    assert named(FAILED, policy=policy, user_agent="claude-cli/2.1.197 (external, cli)") is None
    assert named(FAILED, policy=policy, user_agent="our-internal-agent") is None
    assert named(FAILED, policy=policy, user_agent="claude-cli/3.0") == "claude-code-not-found"
    assert named(FAILED, policy=policy) == "claude-code-not-found"


OWN = EditPattern(name="ours", agent="our-agent", tools=("patch_file",), texts=("Patch did not apply to {}:",))


@pytest.mark.parametrize("user_agent", ["", "our-agent/1", "opencode/1.18.33"])
def test_patterns_of_one_s_own(user_agent: str) -> None:
    policy = EditPrecision(EditPrecisionSettings(enabled=True, patterns=(OWN,)))
    messages = after_tool("patch_file", "\n Patch did not apply to cart.py: line 3")
    assert named(messages, policy=policy, user_agent=user_agent) == "ours"
    assert named(messages) is None
    assert named(FAILED, policy=policy) == "claude-code-not-found"


# --- properties -----------------------------------------------------------------------------------------------------

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
MEMBERS = {
    "role": st.sampled_from(["assistant", "tool", "user", "system"]) | PLAIN,
    "content": st.sampled_from([NOT_FOUND, [{"type": "text", "text": NOT_FOUND}], USER_MESSAGES[0][2], BLOCK]) | PLAIN,
    "tool_call_id": st.sampled_from(["call_1"]) | PLAIN,
    "tool_calls": st.sampled_from([call("Edit")["tool_calls"]]) | PLAIN,
}
MESSAGES = st.lists(st.fixed_dictionaries({}, optional=MEMBERS) | PLAIN, max_size=5)


@given(messages=MESSAGES, temperature=st.none() | st.floats(0, 2), layer=st.sampled_from(["default", "client", "uri"]))
@example(messages=FAILED, temperature=0.05, layer="client")
@example(messages=FAILED, temperature=0.5, layer="client")
def test_any_messages_lower_the_temperature_or_nothing(messages: Any, temperature: float | None, layer: Layer) -> None:
    others: dict[Layer, Mapping[str, Any]] = {"client": {"top_k": 4}, "forced": {"seed": 7}}
    before = Params(others)
    if temperature is not None:
        before = before.with_layer(layer, {"temperature": temperature})
    request = request_of(messages)
    sent = request.body.bytes
    after = POLICY.apply(request, Leaf("acme.default", "some-model"), before)
    values = after.params.effective()
    found = values.pop("temperature", None)
    assert values == {"top_k": Setting(4, "client"), "seed": Setting(7, "forced")}
    if after.effects:
        assert found == Setting(0.1, "policy")
        assert temperature is None or temperature > 0.1
        assert layer != "uri" or temperature is None
    else:
        assert after.params is before
    assert request.body.bytes == sent


@given(messages=PLAIN)
def test_messages_that_are_no_list_of_messages(messages: Any) -> None:
    assert named(messages) is None


SENTENCE = json.dumps(NOT_FOUND).encode()


@pytest.mark.parametrize(
    "raw",
    [
        b'{"role": "tool", "tool_call_id": "call_1", "weight": 1e999, "content": %b}' % SENTENCE,
        b'{"role": 1e999, "content": %b}' % SENTENCE,
        SENTENCE,
        b"[" * 500 + SENTENCE + b"]" * 500,
    ],
)
def test_a_message_that_cannot_be_decoded_is_left_out(raw: bytes) -> None:
    body = Body.parse(b'{"model": "m", "messages": [' + json.dumps(call("Edit")).encode() + b", " + raw + b"]}")
    request = GatewayRequest("req_1", "openai.chat", "generate", "m", body, False, {})
    assert POLICY.apply(request, Leaf("acme.default", "m"), Params()).effects == {}


def test_nothing_is_kept_between_requests() -> None:
    policy = EditPrecision(EditPrecisionSettings(enabled=True))
    good = after_tool("Edit", OK)
    assert [named(messages, policy=policy) for messages in (good, FAILED, good, FAILED)] == [
        None,
        "claude-code-not-found",
        None,
        "claude-code-not-found",
    ]
