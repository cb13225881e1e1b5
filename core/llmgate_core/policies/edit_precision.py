"""After a failed edit the next answer is sampled more strictly: long agent sessions fail at edits that must be exact.

Nothing is kept between requests. What the newest tool results say decides, so it ends by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from ..connectors import Verdict
from ..dialects import chat, chat_turn, messages, messages_turn, responses, responses_turn
from ..dialects.turns import Reader, Turn
from ..regexes import compile_pattern
from ..request import Dialect, GatewayRequest, Params
from ..selector import Leaf
from ..settings import Fault, Meta
from .edit_patterns import EditPattern, ShippedPatterns, shipped, words_of

HEADER = "x-llmgate-edit-precision"
"""The response header that names the pattern which fitted."""

MAX_USER_AGENT = 200
"""So many characters of a User-Agent are looked at."""

READERS: Mapping[Dialect, Reader] = {
    chat.DIALECT: chat_turn.read_turn,
    messages.DIALECT: messages_turn.read_turn,
    responses.DIALECT: responses_turn.read_turn,
}
"""Who reads the news in a request of each dialect."""

MODEL_TEMPERATURES = {
    "gpt": 0.2,
    "gemini": 0.2,
    "deepseek": 0.0,
    "glm": 0.6,
    "grok": 0.1,
    "sonnet": 0.2,
    "opus": 0.2,
}

Temperature = Annotated[float, Meta(ge=0, le=2)]


@dataclass(frozen=True)
class EditPrecisionSettings:
    """The section `edit_precision`."""

    enabled: Annotated[bool, Meta(description="Whether a failed edit lowers the temperature of the next answer.")] = (
        False
    )
    temperature: Annotated[Temperature, Meta(description="The temperature after a failed edit.")] = 0.1
    exclude_agents_regex: Annotated[
        str | None,
        Meta(min_length=1, description="Callers with such a User-Agent are left alone; searched in it, case counts."),
    ] = None
    model_temperatures: Annotated[
        dict[str, Temperature],
        Meta(description="Other temperatures, by a word in the model's name; the first that is in it counts."),
    ] = field(default_factory=MODEL_TEMPERATURES.copy)
    patterns: Annotated[
        tuple[EditPattern, ...], Meta(description="More patterns of failed edits, beside those of llmgate.")
    ] = ()

    def faults(self) -> list[Fault]:
        """What is wrong with it beyond types and bounds."""
        pattern = self.exclude_agents_regex
        try:
            if pattern is not None:
                compile_pattern(pattern)
        except ValueError as error:
            return [(("exclude_agents_regex",), f"`edit_precision.exclude_agents_regex`: {error}")]
        return []

    def temperature_for(self, model: str) -> float:
        """The temperature for a model, by the first word of `model_temperatures` that is in its name."""
        name = model.lower()
        fitting = (value for word, value in self.model_temperatures.items() if word.lower() in name)
        return next(fitting, self.temperature)


class EditPrecision:
    """Sets a low temperature in the layer `policy` when the newest tool results say that an edit failed."""

    name: ClassVar[str] = "edit_precision"
    settings: EditPrecisionSettings

    def __init__(self, settings: EditPrecisionSettings) -> None:
        self.settings = settings
        self._shipped = shipped() if settings.enabled else ShippedPatterns((), {})
        self._patterns = (*settings.patterns, *self._shipped.patterns) if settings.enabled else ()
        self._words = words_of(self._patterns)
        self._excluded = compile_pattern(settings.exclude_agents_regex) if settings.exclude_agents_regex else None

    def apply(self, request: GatewayRequest, leaf: Leaf, params: Params) -> Verdict:
        """The parameters, with a temperature added where an edit has failed and the request's own is not as low."""
        temperature = self.settings.temperature_for(leaf.model)
        if not self._patterns or self._is_excluded(request) or not _may_set(temperature, params):
            return Verdict(params)
        pattern = self._failure(request)
        if pattern is None:
            return Verdict(params)
        return Verdict(
            params.with_layer("policy", {"temperature": temperature}),
            effects={"temperature": {HEADER: pattern.name}},
        )

    def _is_excluded(self, request: GatewayRequest) -> bool:
        return bool(self._excluded and self._excluded.search(request.user_agent[:MAX_USER_AGENT]))

    def _failure(self, request: GatewayRequest) -> EditPattern | None:
        """The first pattern that fits the news in the request."""
        read = READERS.get(request.dialect)
        turn = read(request.body, self._may_fit) if read else None
        if turn is None:
            return None
        fitting = (pattern for pattern in self._of_agent(request.user_agent) if _fits(pattern, turn))
        return next(fitting, None)

    def _may_fit(self, message: bytes) -> bool:
        return any(words in message for words in self._words)

    def _of_agent(self, user_agent: str) -> list[EditPattern]:
        """Without those of agents that the caller is known not to be."""
        caller = self._shipped.agent_of(user_agent)
        others = self._shipped.agents() - {caller} if caller else ()
        return [pattern for pattern in self._patterns if pattern.agent not in others]


def _fits(pattern: EditPattern, turn: Turn) -> bool:
    if pattern.role == "tool":
        return any(result.tool in pattern.tools and pattern.fits(result.text) for result in turn.results)
    is_its_edit = any(mark in turn.answered for mark in pattern.tools)
    return turn.user is not None and is_its_edit and pattern.fits(turn.user)


def _may_set(temperature: float, params: Params) -> bool:
    """Whether the temperature that the request has is higher, and of a lower layer."""
    given = params.effective().get("temperature")
    return given is None or (given.layer not in ("uri", "forced") and _is_higher(given.value, temperature))


def _is_higher(value: Any, temperature: float) -> bool:
    """Not so for what is no number: the upstream shall see it, and say so."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value > temperature
