"""Metrics of shadows and canaries."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

_PAIR = ("alias", "candidate")


class ComparisonMetrics:
    """This gateway's own counts; sums over gateways are right."""

    def __init__(self, registry: CollectorRegistry) -> None:
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
