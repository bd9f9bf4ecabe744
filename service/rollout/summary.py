"""How a pair of models compares, for people: numbers with intervals that hold at every look. Pure."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict

from service.rollout.records import Canary, CanaryRules
from service.routing.canary import (
    EDGES_S,
    P95,
    Action,
    Comparison,
    SideCounts,
    Verdict,
    decide,
    error_bounds,
    judge,
    p95_bounds,
)
from service.routing.sequential import Bounds, mean_bounds, quantile_bounds


class _View(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class Estimate(_View):
    """A value with its confidence sequence; None where nothing is known, or the bound is infinite."""

    value: float | None
    low: float
    high: float | None
    n: int


class SideSummary(_View):
    """One of the two models."""

    served: int
    """Answers to clients."""
    mirrored: int
    """Answers to copies."""
    errors: Estimate
    p95_s: Estimate
    """Of answers to clients, seconds."""
    copied_p50_s: Estimate
    copied_p95_s: Estimate
    """Of the requests that both models got, seconds; copies run beside the clients' requests."""


class CriterionView(_View):
    """One criterion."""

    name: str
    verdict: Verdict
    sentence: str


class PairSummary(_View):
    """Reference and candidate, side by side."""

    reference: SideSummary
    candidate: SideSummary
    agreement: Estimate
    """VQA match for short answers, word F1 for longer ones."""
    exact: float | None
    vqa: float | None
    token: float | None
    """Means of the three measures over the same pairs."""
    sampled: int
    """Copies of requests that were not greedy: they say nothing of agreement."""
    dropped: int
    criteria: list[CriterionView]
    percent: float | None = None
    """Of the requests, to the candidate, where a canary is running."""
    next: Action | None = None
    """What the canary does next."""
    reason: str | None = None


def summarise(
    counted: Comparison, rules: CanaryRules, *, canary: Canary | None = None, now: float = 0.0
) -> PairSummary:
    """Everything that is shown of a pair; each interval holds as the canary's rules share alpha."""
    each = rules.alpha / 3
    found = PairSummary(
        reference=_side(counted.reference, each / 2),
        candidate=_side(counted.candidate, each / 2),
        agreement=_estimate(mean_bounds(counted.agreement, counted.pairs, each)),
        exact=_mean(counted.exact, counted.pairs),
        vqa=_mean(counted.vqa, counted.pairs),
        token=_mean(counted.token, counted.pairs),
        sampled=counted.sampled,
        dropped=counted.dropped,
        criteria=[CriterionView(**vars(c)) for c in judge(rules, counted)],
    )
    if canary is None:
        return found
    decision = decide(canary, counted, now)
    return found.model_copy(
        update={"percent": canary.percent, "next": decision.action, "reason": decision.reason}
    )


def _side(side: SideCounts, alpha: float) -> SideSummary:
    copied = [side.copied.get(i, 0) for i in range(len(EDGES_S) + 1)]
    return SideSummary(
        served=side.served,
        mirrored=side.mirrored,
        errors=_estimate(error_bounds(side, alpha)),
        p95_s=_estimate(p95_bounds(side, alpha)),
        copied_p50_s=_estimate(quantile_bounds(copied, EDGES_S, 0.5, alpha)),
        copied_p95_s=_estimate(quantile_bounds(copied, EDGES_S, P95, alpha)),
    )


def _estimate(bounds: Bounds) -> Estimate:
    return Estimate(
        value=_finite(bounds.value), low=bounds.low, high=_finite(bounds.high), n=bounds.n
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _mean(total: float, n: int) -> float | None:
    return total / n if n else None
