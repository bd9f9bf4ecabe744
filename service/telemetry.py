"""Structured logs and Prometheus metrics. Every metric's name starts with `infoprune_`."""

from __future__ import annotations

import logging

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

# Finer than vLLM's, whose smallest step hides a small model's gain.
LATENCY_BUCKETS_S = (
    0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75,
    1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 120.0,
)  # fmt: skip
_LABELS = ("model", "variant")


def configure_logging() -> None:
    """JSON lines on standard error."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(),
    )


class Metrics:
    """The gateway's metrics, in a registry of their own. `variant` is original or compressed."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.requests = Counter(
            "infoprune_requests", "Chat completions answered, by HTTP status.",
            (*_LABELS, "status"), registry=r,
        )  # fmt: skip
        self.errors = Counter(
            "infoprune_errors", "Chat completions that failed, by reason.",
            (*_LABELS, "reason"), registry=r,
        )  # fmt: skip
        self.first_token = Histogram(
            "infoprune_time_to_first_token_seconds",
            "From request to the first streamed token.",
            _LABELS, buckets=LATENCY_BUCKETS_S, registry=r,
        )  # fmt: skip
        self.latency = Histogram(
            "infoprune_request_latency_seconds", "From request to the last byte of the answer.",
            _LABELS, buckets=LATENCY_BUCKETS_S, registry=r,
        )  # fmt: skip
        self.tokens = Counter(
            "infoprune_tokens", "Tokens, by kind: prompt or completion.",
            (*_LABELS, "kind"), registry=r,
        )  # fmt: skip
        self.in_flight = Gauge(
            "infoprune_in_flight_requests", "Chat completions being answered.", _LABELS, registry=r
        )
        self.accuracy = Gauge(
            "infoprune_accuracy_ratio", "Accuracy as last measured, 0 to 1.",
            (*_LABELS, "dataset", "bound"), registry=r,
        )  # fmt: skip
        self.workers = Gauge(
            "infoprune_ready_workers", "Workers that can answer.", _LABELS, registry=r
        )
