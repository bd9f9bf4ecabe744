"""A request in the gateway's hands, and how those hear of it who compare models: shadow, canary."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from service.errors import UpstreamError
from service.gateway.ask import Ask
from service.gateway.call import Call
from service.gateway.sse import Usage
from service.gateway.trail import Trail
from service.routing.aliases import Choice
from service.telemetry import Series

log = structlog.get_logger()


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
    image: bytes | None = None
    """Key of the request's image, as the pool's affinity goes by it."""
    headers: bytes = b""
    """For a copy: the request's id, and its trace."""


Observer = Callable[[Answered], None]
"""Hears of every answered request, on the event loop; must return at once and never raise."""


@dataclass(slots=True)
class Exchange:
    """One admitted request."""

    call: Call
    ask: Ask
    choice: Choice
    series: Series
    parts: list[bytes]
    trail: Trail
    started: float
    first_token_s: float | None = None

    def count_stream(self, usage: Usage | None) -> None:
        """Count a streamed answer that is complete."""
        self.trail.usage, self.trail.first_token_s = usage, self.first_token_s
        self.series.count_success(usage)
        if self.first_token_s is not None and self.ask.choices == 1:
            self.series.count_stream(usage, seconds_since(self.started) - self.first_token_s)

    def broken(self) -> UpstreamError:
        """The error of a worker that did not answer as it should."""
        return UpstreamError(self.choice.entry.name)


def observe(
    observers: Sequence[Observer], exchange: Exchange, status: int, text: str | None
) -> None:
    """Count the time of an answer, and tell those who compare models."""
    latency = seconds_since(exchange.started)
    exchange.series.latency.observe(latency)
    tell(observers, exchange, status, text, latency)


def tell(
    observers: Sequence[Observer],
    exchange: Exchange,
    status: int,
    text: str | None,
    latency_s: float,
) -> None:
    """Tell those who compare models how a request ended, our own errors included."""
    if not observers:
        return
    answered = Answered(
        choice=exchange.choice,
        path=exchange.ask.path,
        body=b"".join(exchange.parts),
        stream=exchange.ask.stream,
        status=status,
        text=text,
        first_token_s=exchange.first_token_s,
        latency_s=latency_s,
        image=exchange.ask.image,
        headers=exchange.trail.worker_headers if exchange.choice.shadow is not None else b"",
    )
    for observer in observers:
        try:
            observer(answered)
        except Exception:  # the client has its answer; a comparison must not cost it
            log.exception("an observer failed")


def seconds_since(started: float) -> float:
    """On the clock that requests are timed by."""
    return time.perf_counter() - started
