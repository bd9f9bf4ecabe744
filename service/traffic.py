"""What models did between two readings of the gateways' metrics. Pure.

A reading has the counters of every gateway process by itself: one that was restarted begins anew at 0,
which shows only where the processes are kept apart.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

from service.failures import is_answered, is_failed
from service.quantiles import histogram_quantile

LATENCY = "infoprune_request_latency_seconds"
FIRST_TOKEN = "infoprune_time_to_first_token_seconds"  # noqa: S105


@dataclass(frozen=True)
class Counts:
    """One model's counters; buckets are cumulative, by upper bound in seconds."""

    answered: float = 0.0
    failed: float = 0.0
    """As `service/failures.py` defines it."""
    completion_tokens: float = 0.0
    busy_s: float = 0.0
    """The sum of all latencies."""
    latency: Mapping[float, float] = field(default_factory=dict)
    first_token: Mapping[float, float] = field(default_factory=dict)


Process = Mapping[str, Counts]
"""Of one gateway process, by model."""


@dataclass(frozen=True)
class Reading:
    """All processes' counters at one moment."""

    at: float
    """Seconds since the epoch."""
    processes: Mapping[str, Process]


@dataclass(frozen=True)
class Window:
    """What a model did in a span of time; None where nothing happened that would tell."""

    span_s: float
    answered: int
    failed: int
    """By status 5xx or 429; clients' own mistakes are in neither count."""
    requests_per_s: float | None
    tokens_per_s: float | None
    """Of all answers together."""
    tokens_per_request_s: float | None
    """Of one answer: tokens by the seconds that their requests took."""
    p50_s: float | None
    p95_s: float | None
    first_token_p50_s: float | None
    first_token_p95_s: float | None


def counts_of(families: Iterable[Metric]) -> Process:
    """The counters of every model in an exposition; labels that are not known here are summed over."""
    found: defaultdict[str, _Sums] = defaultdict(_Sums)
    for family in families:
        for sample in family.samples:
            if "model" in sample.labels:
                found[sample.labels["model"]].add(sample)
    return {model: sums.counts() for model, sums in found.items()}


class _Sums:
    """One model's counters while they are gathered."""

    def __init__(self) -> None:
        self._values: defaultdict[str, float] = defaultdict(float)
        self._buckets: dict[str, defaultdict[float, float]] = {
            LATENCY: defaultdict(float), FIRST_TOKEN: defaultdict(float),
        }  # fmt: skip

    def add(self, sample: Sample) -> None:
        name, labels = sample.name, sample.labels
        if name == "infoprune_requests_total":
            self._add_requests(labels.get("status", ""), sample.value)
        elif name == "infoprune_tokens_total" and labels.get("kind") == "completion":
            self._values["tokens"] += sample.value
        elif name == f"{LATENCY}_sum":
            self._values["busy"] += sample.value
        elif name.endswith("_bucket") and name.removesuffix("_bucket") in self._buckets:
            self._buckets[name.removesuffix("_bucket")][float(labels["le"])] += sample.value

    def _add_requests(self, status: str, value: float) -> None:
        if is_answered(status):
            self._values["answered"] += value
        elif is_failed(status):
            self._values["failed"] += value

    def counts(self) -> Counts:
        return Counts(
            answered=self._values["answered"],
            failed=self._values["failed"],
            completion_tokens=self._values["tokens"],
            busy_s=self._values["busy"],
            latency=dict(self._buckets[LATENCY]),
            first_token=dict(self._buckets[FIRST_TOKEN]),
        )


def total(reading: Reading, model: str) -> Counts:
    """What a model did since its gateways began."""
    return _sum([process[model] for process in reading.processes.values() if model in process])


def increase(before: Reading, after: Reading, model: str) -> Counts:
    """What a model did between two readings, over all processes.

    A counter that fell belongs to a process that began anew, and counts from 0; what a process did
    after the first reading and before it ended is lost with it.
    """
    grown = []
    for name, process in after.processes.items():
        now = process.get(model)
        if now is not None:
            then = before.processes.get(name, {}).get(model, Counts())
            grown.append(now if now.answered < then.answered else _difference(then, now))
    return _sum(grown)


def window(before: Reading, after: Reading, model: str) -> Window:
    """Rates and quantiles between two readings."""
    done, span = increase(before, after, model), after.at - before.at
    return Window(
        span_s=span,
        answered=round(done.answered),
        failed=round(done.failed),
        requests_per_s=_ratio(done.answered, span),
        tokens_per_s=_ratio(done.completion_tokens, span),
        tokens_per_request_s=_ratio(done.completion_tokens, done.busy_s) or None,
        p50_s=_quantile(0.5, done.latency),
        p95_s=_quantile(0.95, done.latency),
        first_token_p50_s=_quantile(0.5, done.first_token),
        first_token_p95_s=_quantile(0.95, done.first_token),
    )


def last_span(readings: Sequence[Reading], end: int, span_s: float) -> Reading:
    """The reading `span_s` before that with the index `end`, or the first there is."""
    wanted = readings[end].at - span_s
    before = [reading for reading in readings[:end] if reading.at <= wanted + 1e-6]
    return before[-1] if before else readings[0]


def windows(readings: Sequence[Reading], model: str, span_s: float) -> list[Window]:
    """A window of `span_s` that ends at every reading but the first."""
    return [
        window(last_span(readings, end, span_s), readings[end], model)
        for end in range(1, len(readings))
    ]


def _quantile(q: float, buckets: Mapping[float, float]) -> float | None:
    edges = sorted(buckets)
    if not edges or not math.isinf(edges[-1]):
        return None
    return histogram_quantile(q, edges, [buckets[edge] for edge in edges])


def _ratio(value: float, by: float) -> float | None:
    return value / by if by > 0 else None


def _difference(then: Counts, now: Counts) -> Counts:
    return Counts(
        answered=now.answered - then.answered,
        failed=max(0.0, now.failed - then.failed),
        completion_tokens=max(0.0, now.completion_tokens - then.completion_tokens),
        busy_s=max(0.0, now.busy_s - then.busy_s),
        latency={le: max(0.0, n - then.latency.get(le, 0.0)) for le, n in now.latency.items()},
        first_token={
            le: max(0.0, n - then.first_token.get(le, 0.0)) for le, n in now.first_token.items()
        },
    )


def _sum(parts: Sequence[Counts]) -> Counts:
    return Counts(
        answered=sum(part.answered for part in parts),
        failed=sum(part.failed for part in parts),
        completion_tokens=sum(part.completion_tokens for part in parts),
        busy_s=sum(part.busy_s for part in parts),
        latency=_sum_buckets([part.latency for part in parts]),
        first_token=_sum_buckets([part.first_token for part in parts]),
    )


def _sum_buckets(parts: Sequence[Mapping[float, float]]) -> dict[float, float]:
    found: defaultdict[float, float] = defaultdict(float)
    for part in parts:
        for edge, count in part.items():
            found[edge] += count
    return dict(found)
