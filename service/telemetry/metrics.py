"""The gateway's metrics, in a registry of their own, and what counts a model's requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry

from service.errors import ServiceError
from service.jobs.records import JobRecord
from service.registry import ModelEntry, Snapshot
from service.telemetry import catalogue as c
from service.telemetry.collectors import BuildCollector, JobsCollector, ModelsCollector


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
        self.per_token = metrics.per_token.labels(*self.labels)
        self.queue_time = metrics.queue_time.labels(*self.labels)
        # There from the start: the first event of a series that begins with it is in no rate.
        metrics.ejections.labels(*self.labels)
        metrics.breaker_openings.labels(*self.labels)
        for reason in c.RETRY_REASONS:
            metrics.retries.labels(*self.labels, reason)

    def count_success(self, usage: TokenCounts | None) -> None:
        """Count an answered request and its tokens."""
        self._answered.inc()
        if usage is not None:
            self._prompt.inc(max(0, usage.prompt_tokens))
            self._completion.inc(max(0, usage.completion_tokens or 0))

    def count_stream(self, usage: TokenCounts | None, decoding_s: float) -> None:
        """Take the mean time between the tokens of one streamed answer.

        Args:
            usage: what the engine counted; without it nothing is known.
            decoding_s: from the first token to the last byte.
        """
        later = (usage.completion_tokens or 0) - 1 if usage is not None else 0
        if later > 0:
            self.per_token.observe(decoding_s / later)

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

    def count_retry(self, reason: c.RetryReason) -> None:
        """Count an attempt at a worker that another had to make good."""
        self._metrics.retries.labels(*self.labels, reason).inc()


class Metrics:
    """All of them, as `catalogue.py` describes them; those of pairs are `ComparisonMetrics`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.requests, self.errors = c.REQUESTS.counter(r), c.ERRORS.counter(r)
        self.refused, self.tokens = c.REFUSED.counter(r), c.TOKENS.counter(r)
        self.latency, self.first_token = c.LATENCY.histogram(r), c.FIRST_TOKEN.histogram(r)
        self.per_token, self.queue_time = c.PER_TOKEN.histogram(r), c.QUEUE_TIME.histogram(r)
        self.in_flight, self.bytes_in_flight = c.IN_FLIGHT.gauge(r), c.BYTES.gauge(r)
        self.retries, self.ejections = c.RETRIES.counter(r), c.EJECTIONS.counter(r)
        self.trusted, self.waiting = c.TRUSTED.gauge(r), c.WAITING.gauge(r)
        self.breaker_openings = c.BREAKER_OPENINGS.counter(r)
        self.open_breakers = c.OPEN_BREAKERS.gauge(r)
        self.store = c.STORE.gauge(r)
        self._series: dict[tuple[str, str], Series] = {}
        self._models, self._jobs = ModelsCollector(), JobsCollector()
        for collector in (self._models, self._jobs, BuildCollector()):
            r.register(collector)

    def of(self, entry: ModelEntry) -> Series:
        """The series of a model."""
        found = self._series.get((entry.name, entry.variant))
        if found is None:
            found = self._series[entry.name, entry.variant] = Series(self, entry)
        return found

    def show_snapshot(self, snapshot: Snapshot) -> None:
        """Remember the registry for the next scrape."""
        self._models.snapshot = snapshot

    def show_jobs(self, jobs: Sequence[JobRecord]) -> None:
        """Remember the jobs for the next scrape."""
        self._jobs.jobs = jobs
