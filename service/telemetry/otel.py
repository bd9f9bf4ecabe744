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

__all__ = ["Span", "Tracing", "http_exporter"]

_PROPAGATOR = TraceContextTextMapPropagator()
Attributes = Mapping[str, AttributeValue]


def http_exporter(endpoint: str) -> SpanExporter:
    """Sends spans by OTLP over HTTP, protobuf; the SDK reads OTEL_EXPORTER_OTLP_HEADERS."""
    return OTLPSpanExporter(endpoint=endpoint)


class Tracing:
    """Makes this process's spans, and sends them in batches from a thread of its own.

    The sampler is the SDK's: the client's decision counts, without one all is traced, unless
    OTEL_TRACES_SAMPLER says otherwise.
    """

    def __init__(self, exporter: SpanExporter, service: str) -> None:
        """`service` is the process's `service.name`."""
        own = {"service.name": service, "service.version": version("infoprune")}
        self._provider = TracerProvider(resource=Resource.create(own), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("infoprune", version("infoprune"))

    def server(self, name: str, attributes: Attributes, carrier: Mapping[str, str]) -> Span:
        """A request that came in; W3C headers in `carrier` may name its parent."""
        context = _PROPAGATOR.extract(carrier)
        return self._tracer.start_span(name, context, SpanKind.SERVER, dict(attributes))

    def client(self, parent: Span, name: str, attributes: Attributes) -> Span:
        """A request that goes out on behalf of `parent`."""
        context = set_span_in_context(parent)
        return self._tracer.start_span(name, context, SpanKind.CLIENT, dict(attributes))

    def consumer(self, name: str, attributes: Attributes, carrier: Mapping[str, str]) -> Span:
        """A job that was taken from a queue; `carrier` names who put it there."""
        context = _PROPAGATOR.extract(carrier)
        return self._tracer.start_span(name, context, SpanKind.CONSUMER, dict(attributes))

    def part(self, parent: Span, name: str, start_ns: int) -> Span:
        """A part of what `parent` does, begun at a time in nanoseconds since 1970."""
        context = set_span_in_context(parent)
        return self._tracer.start_span(name, context, start_time=start_ns)

    @staticmethod
    def carrier(span: Span) -> dict[str, str]:
        """The W3C headers that name a span as the parent of what follows."""
        found: dict[str, str] = {}
        _PROPAGATOR.inject(found, set_span_in_context(span))
        return found

    @staticmethod
    def trace_id(span: Span) -> str:
        """The 32 hexadecimal digits that logs and traces share."""
        return f"{span.get_span_context().trace_id:032x}"

    @staticmethod
    def fail(span: Span, reason: str) -> None:
        """Mark a span as failed; `reason` is a short code, no message that could quote a request."""
        span.set_attribute("error.type", reason)
        span.set_status(Status(StatusCode.ERROR))

    def close(self) -> None:
        """Send what is left; waits for it, some seconds at the most."""
        self._provider.shutdown()
