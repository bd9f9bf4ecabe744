"""What `/metrics` said at one moment, and what two such moments tell. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from service import quantiles

Labels = frozenset[tuple[str, str]]
Series = Mapping[Labels, float]
"""The values of one metric by their labels."""
_NONE: Series = {}


@dataclass(frozen=True)
class Scrape:
    """All samples of one exposition."""

    at_s: float
    """On a clock that only goes forward."""
    metrics: Mapping[str, Series] = field(default_factory=dict)
    """By the samples' names: a counter's ends with `_total`, a histogram's parts with `_bucket`..."""

    def series(self, name: str, **labels: str) -> Series:
        """The series of a metric that have these labels."""
        wanted = labels.items()
        found = self.metrics.get(name, _NONE)
        return {key: value for key, value in found.items() if wanted <= dict(key).items()}

    def total(self, name: str, **labels: str) -> float:
        """Their sum, over gateway processes and whatever else is not named; 0 where there is none."""
        return math.fsum(self.series(name, **labels).values())


def read(text: str, at_s: float) -> Scrape:
    """Parse an exposition.

    Raises:
        ValueError: it is none.
    """
    metrics: dict[str, dict[Labels, float]] = defaultdict(dict)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            metrics[sample.name][frozenset(sample.labels.items())] = float(sample.value)
    return Scrape(at_s, metrics)


@dataclass(frozen=True)
class Between:
    """Two scrapes, the first the earlier one."""

    first: Scrape
    last: Scrape

    @property
    def seconds(self) -> float:
        """That lie between the two."""
        return self.last.at_s - self.first.at_s

    def increase(self, name: str, **labels: str) -> float:
        """By how much counters grew, all that have these labels together.

        A counter that became smaller began again at 0, as Prometheus assumes too. One that was not
        there before began at 0 since: the gateway's counters appear with their first count.
        """
        return math.fsum(self._increases(name, **labels).values())

    def rate(self, name: str, **labels: str) -> float | None:
        """The increase a second; None where no time has passed."""
        return self.increase(name, **labels) / self.seconds if self.seconds > 0 else None

    def quantile(self, q: float, histogram: str, **labels: str) -> float | None:
        """A quantile of what a histogram counted meanwhile; None where that is nothing."""
        counts: dict[float, float] = defaultdict(float)
        for key, count in self._increases(f"{histogram}_bucket", **labels).items():
            counts[float(dict(key)["le"])] += count
        return histogram_quantile(q, sorted(counts.items()))

    def _increases(self, name: str, **labels: str) -> dict[Labels, float]:
        before = self.first.series(name, **labels)
        return {
            key: value - before.get(key, 0.0) if value >= before.get(key, 0.0) else value
            for key, value in self.last.series(name, **labels).items()
        }


def histogram_quantile(q: float, buckets: Sequence[tuple[float, float]]) -> float | None:
    """`service.quantiles.histogram_quantile` of (upper bound, cumulative count) pairs, ascending.

    Returns:
        The quantile; None without buckets or without a count.
    """
    edges, counts = [edge for edge, _ in buckets], [count for _, count in buckets]
    return quantiles.histogram_quantile(q, edges, counts) if buckets else None
