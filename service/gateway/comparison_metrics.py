"""Metrics of aliases, shadows and canaries."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import get_args

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric

from service.registry import Snapshot
from service.rollout.records import Alias, CanaryRules
from service.rollout.summary import Estimate, PairSummary, summarise
from service.routing.agreement import Agreement
from service.routing.canary import Comparison, Verdict
from service.telemetry import catalogue as c

MEASURES = ("exact", "vqa", "token")
STATES = ("running", "promoted", "rolled_back", "stopped")


class ComparisonMetrics:
    """This gateway's own counts, whose sums over gateways are right, and what the store knows."""

    def __init__(self, registry: CollectorRegistry, snapshot: Callable[[], Snapshot]) -> None:
        self._store = _Rollouts(snapshot)
        registry.register(self._store)
        self.copies, self._pairs = c.COPIES.counter(registry), c.PAIRS.counter(registry)
        self._agreement = c.AGREEMENT.counter(registry)
        self._similarity = c.SIMILARITY.counter(registry)

    def count_pair(self, alias: str, candidate: str, found: Agreement) -> None:
        """Count a request that both models answered greedily."""
        self._pairs.labels(alias, candidate).inc()
        self._agreement.labels(alias, candidate).inc(found.judged)
        for measure in MEASURES:
            self._similarity.labels(alias, candidate, measure).inc(getattr(found, measure))

    def show_comparisons(self, counted: Mapping[str, Comparison]) -> None:
        """Remember, for the next scrape, what all gateways counted, by pair; see `pairs_of`."""
        self._store.counted = counted


def pairs_of(snapshot: Snapshot) -> dict[str, tuple[Alias, str, CanaryRules]]:
    """The pairs that are compared now: alias, candidate and rules by the pair's id. Pure."""
    found = {}
    for alias in snapshot.aliases.values():
        if alias.canary is not None:
            found[alias.canary.id] = (alias, alias.canary.candidate, alias.canary.rules)
        elif alias.shadow is not None:
            found[alias.shadow.id] = (alias, alias.shadow.candidate, CanaryRules())
    return found


class _Rollouts:
    """Made at every scrape, so that a canary that ended leaves nothing but how it ended."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot
        self.counted: Mapping[str, Comparison] = {}

    def collect(self) -> Iterator[Metric]:
        """What a scrape gets."""
        snapshot, counted = self._snapshot(), self.counted
        yield _shares(snapshot)
        yield from _canaries(snapshot)
        yield _states(snapshot)
        yield from _compared(snapshot, counted)


def _shares(snapshot: Snapshot) -> Metric:
    found = c.ALIAS_SHARE.gauges()
    for alias in snapshot.aliases.values():
        for model, share in shares(alias).items():
            entry = snapshot.models.get(model)
            if entry is not None:
                found.add_metric((alias.name, model, entry.variant), share)
    return found


def shares(alias: Alias) -> dict[str, float]:
    """Which share of an alias's requests each model shall answer, 0 to 1. Pure."""
    total = sum(target.weight for target in alias.targets)
    canary = alias.canary
    left = 1.0 if canary is None else 1.0 - canary.percent / 100
    found = {target.model: left * target.weight / total for target in alias.targets}
    if canary is not None:
        found[canary.candidate] = found.get(canary.candidate, 0.0) + canary.percent / 100
    return found


def _canaries(snapshot: Snapshot) -> Iterator[Metric]:
    share, step = c.CANARY_SHARE.gauges(), c.CANARY_STEP.gauges()
    steps, started = c.CANARY_STEPS.gauges(), c.CANARY_STEP_STARTED.gauges()
    for alias in snapshot.aliases.values():
        if (canary := alias.canary) is not None:
            pair = (alias.name, canary.candidate)
            share.add_metric(pair, canary.percent / 100)
            step.add_metric(pair, canary.step + 1)
            steps.add_metric(pair, len(canary.rules.steps))
            started.add_metric(pair, canary.step_started)
    yield from (share, step, steps, started)


def _states(snapshot: Snapshot) -> Metric:
    found = c.CANARY_STATE.gauges()
    for alias in snapshot.aliases.values():
        if alias.canary is not None:
            candidate, now = alias.canary.candidate, "running"
        elif alias.last_canary is not None:
            candidate, now = alias.last_canary.candidate, alias.last_canary.outcome
        else:
            continue
        for state in STATES:
            found.add_metric((alias.name, candidate, state), state == now)
    return found


def _compared(snapshot: Snapshot, counted: Mapping[str, Comparison]) -> Iterator[Metric]:
    agreement, errors = c.PAIR_AGREEMENT.gauges(), c.PAIR_ERRORS.gauges()
    latency, criteria = c.PAIR_LATENCY.gauges(), c.CRITERION.gauges()
    for pair, (alias, candidate, rules) in pairs_of(snapshot).items():
        if pair not in counted:
            continue
        found = summarise(counted[pair], rules, canary=alias.canary, now=time.time())
        labels = (alias.name, candidate)
        _bounds(agreement, labels, found.agreement)
        _sides(errors, latency, labels, found)
        for criterion in found.criteria:
            for verdict in get_args(Verdict):
                held = criterion.verdict == verdict
                criteria.add_metric((*labels, criterion.name, verdict), held)
    yield from (agreement, errors, latency, criteria)


def _sides(
    errors: GaugeMetricFamily,
    latency: GaugeMetricFamily,
    labels: tuple[str, ...],
    found: PairSummary,
) -> None:
    for name, side in (("reference", found.reference), ("candidate", found.candidate)):
        _bounds(errors, (*labels, name), side.errors)
        _bounds(latency, (*labels, name, "0.5"), side.copied_p50_s)
        _bounds(latency, (*labels, name, "0.95"), side.copied_p95_s)


def _bounds(family: GaugeMetricFamily, labels: tuple[str, ...], found: Estimate) -> None:
    """Nothing where nothing was counted; a bound that is infinite is left out."""
    if found.n == 0:
        return
    for bound in ("value", "low", "high"):
        value = getattr(found, bound)
        if value is not None:
            family.add_metric((*labels, bound), value)
