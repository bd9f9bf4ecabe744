"""Structured logs and Prometheus metrics. Every metric's name starts with `infoprune_`."""

from __future__ import annotations

import logging
import sys
from collections import Counter as Count
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric

from service.errors import ServiceError
from service.jobs.records import FINAL, JobRecord
from service.registry import ModelEntry, Snapshot
from service.routing.policy import workers_of

# Finer than vLLM's, whose smallest step hides a small model's gain.
LATENCY_BUCKETS_S = (
    0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75,
    1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 120.0,
)  # fmt: skip
JOB_BUCKETS_S = (10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0, 43200.0)
JOB_STATUSES = ("queued", "running", *FINAL)
_LABELS = ("model", "variant")


def configure_logging(file: Path | None = None) -> None:
    """JSON lines, to standard output or appended to a file."""
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    output = sys.stdout if file is None else file.open("a", buffering=1)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(output),
    )


class TokenCounts(Protocol):
    """Token counts of a completion."""

    @property
    def prompt_tokens(self) -> int:
        """Of the prompt, image included."""

    @property
    def completion_tokens(self) -> int | None:
        """Of the answer."""


class Series:
    """One model's series, looked up once: a label look-up costs more than the counting."""

    def __init__(self, metrics: Metrics, entry: ModelEntry) -> None:
        self._metrics = metrics
        self.labels = (entry.name, entry.variant)
        self._answered = metrics.requests.labels(*self.labels, "200")
        self._prompt = metrics.tokens.labels(*self.labels, "prompt")
        self._completion = metrics.tokens.labels(*self.labels, "completion")
        self.in_flight = metrics.in_flight.labels(*self.labels)
        self.latency = metrics.latency.labels(*self.labels)
        self.first_token = metrics.first_token.labels(*self.labels)

    def count_success(self, usage: TokenCounts | None) -> None:
        """Count an answered request and its tokens."""
        self._answered.inc()
        if usage is not None:
            self._prompt.inc(max(0, usage.prompt_tokens))
            self._completion.inc(max(0, usage.completion_tokens or 0))

    def count_rejection(self, status: int) -> None:
        """Count a request that the engine refused."""
        self._metrics.requests.labels(*self.labels, str(status)).inc()
        self._metrics.errors.labels(*self.labels, "engine").inc()

    def count_failure(self, error: ServiceError) -> None:
        """Count a request that the gateway refused or lost."""
        self._metrics.requests.labels(*self.labels, str(error.status)).inc()
        self._metrics.errors.labels(*self.labels, error.code).inc()

    def count_departure(self) -> None:
        """Count a client that left before its answer."""
        self._metrics.requests.labels(*self.labels, "499").inc()

    def count_retry(self, reason: str) -> None:
        """Count an attempt at a worker that another had to make good."""
        self._metrics.retries.labels(*self.labels, reason).inc()


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
            "infoprune_accuracy_ratio", "Accuracy as last measured, 0 to 1; bounds at 95 %.",
            (*_LABELS, "dataset", "bound"), registry=r,
        )  # fmt: skip
        self.workers = Gauge(
            "infoprune_ready_workers", "Workers that can answer.", _LABELS, registry=r
        )
        self.retries = Counter(
            "infoprune_retries", "Attempts at a worker that another had to make good, by reason.",
            (*_LABELS, "reason"), registry=r,
        )  # fmt: skip
        self.ejections = Counter(
            "infoprune_worker_ejections", "Workers taken out because they did not answer probes.",
            ("model",), registry=r,
        )  # fmt: skip
        self.trusted = Gauge(
            "infoprune_trusted_workers", "Workers that answer probes and requests.",
            ("model",), registry=r,
        )  # fmt: skip
        self.waiting = Gauge(
            "infoprune_waiting_requests", "Requests that wait for a worker.",
            ("model",), registry=r,
        )  # fmt: skip
        self.refused = Counter(
            "infoprune_refused_requests", "Requests refused before a model was known, by reason.",
            ("reason",), registry=r,
        )  # fmt: skip
        self.bytes_in_flight = Gauge(
            "infoprune_in_flight_bytes", "Bytes of requests and fetched images in hand.", registry=r
        )
        self._series: dict[tuple[str, str], Series] = {}
        self._jobs = _JobsCollector()
        r.register(self._jobs)

    def of(self, entry: ModelEntry) -> Series:
        """The series of a model."""
        found = self._series.get((entry.name, entry.variant))
        if found is None:
            found = self._series[entry.name, entry.variant] = Series(self, entry)
        return found

    def show_snapshot(self, snapshot: Snapshot) -> None:
        """Set the gauges that mirror the registry."""
        self.accuracy.clear()
        self.workers.clear()
        for entry in snapshot.models.values():
            labels = (entry.name, entry.variant)
            ready = [w for w in workers_of(snapshot, entry.name) if w.status == "ready"]
            self.workers.labels(*labels).set(len(ready))
            for dataset, interval in entry.accuracy.items():
                for bound in ("value", "low", "high"):
                    value = getattr(interval, bound)
                    self.accuracy.labels(*labels, dataset, bound).set(value)

    def show_jobs(self, jobs: Sequence[JobRecord]) -> None:
        """Remember the jobs for the next scrape."""
        self._jobs.jobs = jobs


class _JobsCollector:
    """Counts and durations of jobs, made from their records, so that a restart loses nothing."""

    def __init__(self) -> None:
        self.jobs: Sequence[JobRecord] = ()

    def collect(self) -> Iterator[Metric]:
        """What a scrape gets."""
        counts = Count(job.status for job in self.jobs)
        gauge = GaugeMetricFamily("infoprune_jobs", "Compression jobs.", labels=("status",))
        duration = HistogramMetricFamily(
            "infoprune_job_duration_seconds", "Duration of finished jobs.", labels=("status",)
        )
        for status in JOB_STATUSES:
            gauge.add_metric((status,), counts[status])
        for status in FINAL:
            seconds = [
                job.ended - job.started
                for job in self.jobs
                if job.status == status and job.started and job.ended
            ]
            buckets = [(str(b), sum(s <= b for s in seconds)) for b in JOB_BUCKETS_S]
            duration.add_metric((status,), [*buckets, ("+Inf", len(seconds))], sum(seconds))
        yield gauge
        yield duration
