"""What to do where a promise is broken, a line for each check of the conformance suite."""

from __future__ import annotations

_SEAMS = "leave `send()` to the base class, and change what differs in its seams"
_EVENTS = "let `events()` and `mender()` pass on every byte at once, and in the order in which it came"
_STRIKE = "run what comes from outside through `Credential.strike()`; raise `from None` where a cause may hold it"
_CLASSIFY = "begin `classify()` with `super().classify(...)`, and change only what your upstream's own codes refine"
_SETTINGS = "give the suite settings that work: `extra` or `settings_for` in a test, `--extra KEY=VALUE` here"

BLOCKED_ADVICE = "await what takes time; hand what blocks, such as `requests` or a driver, to `asyncio.to_thread()`"
RAISED_ADVICE = "see to what raises there; whether this promise is kept can be tried then"

ADVICE = {
    "test_name": 'write `name = "acme"` in the class',
    "test_dialects": 'write `dialects = frozenset({"openai.chat"})` in the class',
    "test_methods": "derive from `OpenAICompatible` or `AnthropicCompatible`, and set none of their methods to None",
    "test_use_is_allowed": "throw the switch in the suite's settings: `extra` in a test, `--extra KEY=VALUE` here",
    "test_settings_are_a_frozen_dataclass": "write `@dataclass(frozen=True)` above the settings",
    "test_settings_decode": _SETTINGS,
    "test_settings_have_a_json_schema": "use texts, numbers, booleans, lists, `Secret`, or dataclasses of these",
    "test_settings_refuse_a_wrong_value_without_showing_it": "in `__post_init__` raise `ValueError`, and name the key "
    "instead of its value",
    "test_presets_can_be_set_up": "write `@classmethod` above `presets()`, and give presets settings that decode",
    "test_construction_does_no_io": "keep the instance in the constructor; read, connect and start in `send()` or "
    "`credentials().get()`",
    "test_closing_without_use": "let `aclose()` close only what is there",
    "test_closing_twice": "let `aclose()` do nothing the second time",
    "test_credentials_are_got": "give the suite the key: `environ` in a test, `--env NAME=VALUE` here, files by "
    "`settings_for`",
    "test_credentials_tell_their_status": "return `CredentialStatus(ready, detail)` from what is known already",
    "test_missing_credential_is_told": 'raise `ConnectorError("auth", ...)` that says where the key belongs; `ApiKey` '
    "does",
    "test_request_carries_model_and_unknown_fields": "send `call.body` with changes spliced in; where the "
    "upstream has no place for what it does not know, leave this check out: set it to None in your suite",
    "test_request_leaves_the_callers_body_alone": "change a copy: `call.body.splice({...})`",
    "test_request_uses_the_credentials_headers": "begin `headers()` with `super().headers(call)`",
    "test_request_goes_to_the_credentials_base_url": "in `base_url()` try `credential.base_url` first",
    "test_request_goes_to_the_settings_base_url": "in `base_url()` end with `self.settings.base_url`",
    "test_request_keeps_the_callers_credential_out": "let the credential's headers win over those of `call.headers`",
    "test_request_is_sent_once": "raise at once, and say in `retry()` whether core asks again",
    "test_calls_do_not_mix": "keep what belongs to one call in its own variables, not in the connector",
    "test_plain_answer_passes_untouched": _EVENTS,
    "test_stream_passes_untouched_for_any_cut": f"{_EVENTS}; decode text only where an event is whole",
    "test_stream_begins_before_it_ends": _EVENTS,
    "test_aclose_hangs_up": "let `aclose` of the reply close the HTTP reply, whether `chunks` was read or not",
    "test_aclose_may_be_called_twice": "let `aclose` do nothing the second time",
    "test_cancelled_send_hangs_up": "do not shield the request, let `CancelledError` pass, and close what you opened",
    "test_event_loop_goes_on": BLOCKED_ADVICE,
    "test_declared_dialects_are_spoken": "declare only what the upstream speaks, and say in `url()` where each is",
    "test_failure_kinds": _CLASSIFY,
    "test_any_failure_is_told": "look into an error's body only where it has the form that you know, and close the "
    "reply: `await reply.read(limit)` does",
    "test_failure_begins_with_the_upstreams_words": "put your own words behind the upstream's",
    "test_retry_after_in_seconds": _CLASSIFY,
    "test_retry_after_as_a_date": f"{_CLASSIFY}; dates count from `instance.clock()`",
    "test_dead_host": f"send through `instance.http`, which tells it; {_SEAMS}",
    "test_cut_off_plain_answer_raises": "let errors out of `chunks` pass",
    "test_cut_off_stream_raises": "let errors out of `chunks` pass; an end without the mark of its dialect is one",
    "test_errors_hold_no_secret": _STRIKE,
    "test_reprs_hold_no_secret": "keep keys as `Secret`, and leave them out of `__repr__`: `field(repr=False)`",
    "test_log_records_hold_no_secret": "log names of headers, not their values",
    "test_retry_ends": "answer None after a number of attempts; `RetryAfter` and `NoRetry` do",
    "test_retry_waits_are_finite_and_not_negative": "bound the wait: `min(max(wait, 0), longest)`",
    "test_backoff_is_rules_or_nothing": "return `BackoffRules(...)` with finite numbers, or leave `backoff()` out",
    "test_models": "return `[ModelInfo(id), ...]`, or raise `ConnectorError` where there is no list",
    "test_facts_are_model_info_or_nothing": "look the model up with `.get(model)`; `ModelFacts` does",
}
