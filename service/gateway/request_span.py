"""A traced request's spans: the server's, and one below it for each worker that is asked.

Attributes follow OpenTelemetry's semantic conventions for HTTP and for generative AI (`gen_ai.*`,
still in development); ours are `infoprune.*`. Only imported objects of `service.telemetry.otel` are
used, so that without tracing none of OpenTelemetry is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from service.gateway.ask import CHAT, Ask
from service.gateway.pool import Slot
from service.routing.aliases import Choice
from service.telemetry.metrics import TokenCounts

if TYPE_CHECKING:
    from service.telemetry.otel import Span, Tracing

ENGINE = "vllm"


class RequestSpan:
    """One request's spans."""

    __slots__ = ("_attempt", "_method", "_model", "_operation", "_span", "_tracing")

    def __init__(
        self, tracing: Tracing, method: str, path: str, request: str, given: Mapping[str, str]
    ) -> None:
        """`given` are the client's W3C headers."""
        attributes = {
            "http.request.method": method, "url.path": path, "infoprune.request.id": request,
        }  # fmt: skip
        self._tracing, self._method = tracing, method
        self._span = tracing.server(method, attributes, given)
        self._attempt: Span | None = None
        self._operation = self._model = ""

    @property
    def trace_id(self) -> str:
        """For the log."""
        return self._tracing.trace_id(self._span)

    def carrier(self) -> dict[str, str]:
        """W3C headers that name the worker's attempt that is under way, else the request, as parent."""
        return self._tracing.carrier(self._attempt or self._span)

    def chosen(self, ask: Ask, choice: Choice) -> None:
        """Which model answers: only now a name that the client sent is known to be one."""
        self._operation = "chat" if ask.path == CHAT else "text_completion"
        self._model = choice.entry.name
        self._span.update_name(f"{self._operation} {ask.model}")
        self._span.set_attributes(
            {
                "http.route": ask.path,
                "gen_ai.operation.name": self._operation,
                "gen_ai.provider.name": ENGINE,
                "gen_ai.request.model": ask.model,
                "gen_ai.request.stream": ask.stream,
                "gen_ai.response.model": choice.entry.name,
                "infoprune.variant": choice.entry.variant,
            }
        )

    def attempt(self, slot: Slot) -> None:
        """A worker is asked."""
        attributes: dict[str, str | int] = {
            "gen_ai.operation.name": self._operation,
            "gen_ai.provider.name": ENGINE,
            "gen_ai.request.model": self._model,
            "server.address": slot.origin.host,
            "server.port": slot.origin.port,
            "infoprune.worker.id": slot.id,
        }
        name = f"{self._operation} {self._model}"
        self._attempt = self._tracing.client(self._span, name, attributes)

    def attempted(self, failed: str | None) -> None:
        """That is over; `failed` says why it did not answer."""
        if self._attempt is not None:
            if failed is not None:
                self._tracing.fail(self._attempt, failed)
            self._attempt.end()
            self._attempt = None

    def routed(self, route: str) -> None:
        """Which of our paths it was, as its pattern."""
        if not self._operation:
            self._span.update_name(f"{self._method} {route}")
            self._span.set_attribute("http.route", route)

    def end(
        self, status: int, usage: TokenCounts | None, error: str | None, first_token_s: float | None
    ) -> None:
        """The request is over."""
        span = self._span
        span.set_attribute("http.response.status_code", status)
        if usage is not None:
            span.set_attribute("gen_ai.usage.input_tokens", usage.prompt_tokens)
            span.set_attribute("gen_ai.usage.output_tokens", usage.completion_tokens or 0)
        if first_token_s is not None:
            span.set_attribute("gen_ai.response.time_to_first_chunk", first_token_s)
        if error is not None or status >= 500:
            self._tracing.fail(span, error or str(status))
        span.end()
