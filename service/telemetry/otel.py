"""Spans by OpenTelemetry's SDK; see `tracing.py`. No image, prompt, answer or key is ever in one."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

__all__ = ["Span", "SpanKind", "Tracing", "http_exporter"]

_PROPAGATOR = TraceContextTextMapPropagator()


def http_exporter(endpoint: str) -> SpanExporter:
    """Sends spans by OTLP over HTTP, protobuf. The SDK reads OTEL_EXPORTER_OTLP_HEADERS and its like."""
    return OTLPSpanExporter(endpoint=endpoint)


class Tracing:
    """Makes this process's spans, and sends them in batches from a thread of its own.

    The sampler is the SDK's: the client's decision counts, without one all is traced, unless
    OTEL_TRACES_SAMPLER says otherwise.
    """

    def __init__(self, exporter: SpanExporter, service: str) -> None:
        """`service` is the process's `service.name`."""
        own = {"service.name": service, "service.version": version("infoprune")}
        self._provider = TracerProvider(
            resource=Resource.create(own), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("infoprune", version("infoprune"))

    def start(
        self,
        name: str,
        kind: SpanKind,
        attributes: Mapping[str, AttributeValue],
        *,
        carrier: Mapping[str, str] | None = None,
        start_ns: int | None = None,
    ) -> Span:
        """A span whose parent, if any, is named by W3C headers in `carrier`."""
        context = _PROPAGATOR.extract(carrier or {})
        return self._tracer.start_span(
            name, context, kind, attributes=dict(attributes), start_time=start_ns
        )

    def child(
        self,
        parent: Span,
        name: str,
        kind: SpanKind,
        attributes: Mapping[str, AttributeValue],
        *,
        start_ns: int | None = None,
    ) -> Span:
        """A span below another one of this process."""
        return self._tracer.start_span(
            name, set_span_in_context(parent), kind, attributes=dict(attributes), start_time=start_ns
        )

    def close(self) -> None:
        """Send what is left; waits for it, some seconds at the most."""
        self._provider.shutdown()


def carrier_of(span: Span) -> dict[str, str]:
    """The W3C headers that name a span as the parent of what follows."""
    found: dict[str, str] = {}
    _PROPAGATOR.inject(found, set_span_in_context(span))
    return found


def trace_id(span: Span) -> str:
    """The 32 hexadecimal digits that logs and traces share."""
    return f"{span.get_span_context().trace_id:032x}"


def fail(span: Span, reason: str) -> None:
    """Mark a span as failed; `reason` is a short code, no message that could quote a request."""
    span.set_attribute("error.type", reason)
    span.set_status(Status(StatusCode.ERROR))
