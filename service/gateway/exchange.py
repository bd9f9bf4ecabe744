"""A request that was answered, as those hear of it who compare models: shadow, canary, evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from service.routing.aliases import Choice


@dataclass(frozen=True)
class Answered:
    """One finished exchange with a client."""

    choice: Choice
    path: str
    """Of the endpoint: `/v1/chat/completions` or `/v1/completions`."""
    body: bytes
    """The request as it was sent to the worker."""
    stream: bool
    status: int
    text: str | None
    """What the model said; only read where `choice.shadow` is set, else None."""
    first_token_s: float | None
    """From request to first token, of a stream."""
    latency_s: float
    """From request to the last byte."""


Observer = Callable[[Answered], None]
"""Hears of every answered request, on the event loop; must return at once and never raise."""
