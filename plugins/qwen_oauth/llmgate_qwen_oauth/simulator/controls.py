"""Attributes of the simulator that are really its issuer's, so that there is one of each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

from llmgate_core.testing import OAuthSimulator

T = TypeVar("T")


class _Simulator(Protocol):
    @property
    def issuer(self) -> OAuthSimulator: ...


class IssuerAttribute(Generic[T]):
    """The issuer's attribute of the same name."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, simulator: _Simulator, owner: type) -> T:
        value: T = getattr(simulator.issuer, self._name)
        return value

    def __set__(self, simulator: _Simulator, value: T) -> None:
        setattr(simulator.issuer, self._name, value)


class IssuerSeconds:
    """The issuer's rule of the same name, a time in seconds."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, simulator: _Simulator, owner: type) -> float:
        seconds: float = getattr(simulator.issuer.rules, self._name)
        return seconds

    def __set__(self, simulator: _Simulator, value: float) -> None:
        changed: dict[str, Any] = {self._name: value}
        simulator.issuer.rules = replace(simulator.issuer.rules, **changed)
