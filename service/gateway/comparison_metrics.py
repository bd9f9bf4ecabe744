"""Metrics of shadows and canaries."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric

from service.registry import Snapshot

_PAIR = ("alias", "candidate")


class ComparisonMetrics:
    """This gateway's own counts, whose sums over gateways are right; and canaries' shares."""

    def __init__(self, registry: CollectorRegistry, snapshot: Callable[[], Snapshot]) -> None:
        registry.register(_Canaries(snapshot))
        self.copies = Counter(
            "infoprune_shadow_copies",
            "Copies of requests: answered, failed, full (the model had no room) or dropped.",
            (*_PAIR, "outcome"), registry=registry,
        )  # fmt: skip
        self.pairs = Counter(
            "infoprune_compared_pairs", "Greedy requests that both models answered.", _PAIR,
            registry=registry,
        )  # fmt: skip
        self.agreement = Counter(
            "infoprune_compared_agreement", "Sum of the agreement over pairs, each 0 to 1.", _PAIR,
            registry=registry,
        )  # fmt: skip


class _Canaries:
    """Made at every scrape, so that a canary that ended leaves nothing."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """What a scrape gets."""
        found = GaugeMetricFamily(
            "infoprune_canary_percent", "Of the alias's requests, to its canary.", labels=_PAIR
        )
        for alias in self._snapshot().aliases.values():
            if alias.canary is not None:
                found.add_metric((alias.name, alias.canary.candidate), alias.canary.percent)
        yield found
