"""Ollama's connector keeps what every connector promises, although its upstream speaks another language."""

from __future__ import annotations

from llmgate_ollama.conformance import TestOllama

__all__ = ["TestOllama"]
