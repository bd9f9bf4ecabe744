"""OpenTelemetry traces, where they are wanted: nothing of it is imported otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from service.settings import Settings

if TYPE_CHECKING:
    from service.telemetry.otel import Tracing

log = structlog.get_logger()
PATH = "/v1/traces"


def open_tracing(settings: Settings, service: str) -> Tracing | None:
    """What makes spans in this process; None where no collector is named.

    Where one is named but OpenTelemetry is not installed, the log says so, and nothing is traced.
    """
    endpoint = traces_endpoint(settings)
    if endpoint is None:
        return None
    try:
        from service.telemetry.otel import Tracing, http_exporter
    except ImportError:
        log.warning("nothing is traced", reason="OpenTelemetry is missing: infoprune[otel]")
        return None
    return Tracing(http_exporter(endpoint), service)


def traces_endpoint(settings: Settings) -> str | None:
    """Where spans are sent, by OTLP over HTTP; None where no collector is named.

    An empty variable names none, as OpenTelemetry has it: Compose cannot leave one out.
    """
    if not settings.otlp_endpoint:
        return None
    return settings.otlp_endpoint.rstrip("/") + PATH
