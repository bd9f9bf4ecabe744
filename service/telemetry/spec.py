"""What a metric is: its name, type, labels and meaning. All are made from their `Spec`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

Kind = Literal["counter", "gauge", "histogram"]
_UNITS = ("seconds", "bytes", "ratio")
"""Base units, as Prometheus asks for: a share is a ratio, 0 to 1, and no percent."""


@dataclass(frozen=True)
class Spec:
    """One metric."""

    name: str
    """Of the family: a counter's without `_total`."""
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    shared: bool = False
    """Whether it mirrors the store, and is the same in every process of the gateway."""

    @property
    def exposed_name(self) -> str:
        """As Prometheus knows it."""
        return f"{self.name}_total" if self.kind == "counter" else self.name

    @property
    def unit(self) -> str:
        """The base unit that its name ends with; empty for a plain number."""
        return next((unit for unit in _UNITS if self.name.endswith(f"_{unit}")), "")

    def counter(self, registry: CollectorRegistry) -> Counter:
        """A counter that the gateway's code counts on."""
        return Counter(self.name, self.help, self.labels, registry=registry)

    def gauge(self, registry: CollectorRegistry) -> Gauge:
        """A gauge that the gateway's code sets."""
        return Gauge(self.name, self.help, self.labels, registry=registry)

    def histogram(self, registry: CollectorRegistry) -> Histogram:
        """A histogram that the gateway's code observes with."""
        return Histogram(self.name, self.help, self.labels, buckets=self.buckets, registry=registry)

    def gauges(self) -> GaugeMetricFamily:
        """An empty family, for what is made at a scrape."""
        return GaugeMetricFamily(self.name, self.help, labels=self.labels)

    def counters(self) -> CounterMetricFamily:
        """An empty family, for what is made at a scrape."""
        return CounterMetricFamily(self.name, self.help, labels=self.labels)

    def histograms(self) -> HistogramMetricFamily:
        """An empty family, for what is made at a scrape; `add_values` fills it."""
        return HistogramMetricFamily(self.name, self.help, labels=self.labels)

    def add_values(
        self, family: HistogramMetricFamily, labels: Sequence[str], values: Sequence[float]
    ) -> None:
        """Add the histogram of all `values` to a family that `histograms` made."""
        counts = [(str(edge), sum(v <= edge for v in values)) for edge in self.buckets]
        family.add_metric(labels, [*counts, ("+Inf", len(values))], sum(values))
