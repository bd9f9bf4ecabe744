"""Whether a canary waits, climbs, is promoted or rolled back. Pure.

Three criteria, each by confidence sequences (`sequential.py`), so that looking after every request
is allowed: agreement with the reference on the same requests, errors, and the 95th percentile of
the latency of the requests that clients sent. The canary's alpha is shared: a third for each
criterion, and half of that for each of two models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from service.rollout.records import Canary, CanaryRules
from service.routing.sequential import Bounds, mean_bounds, quantile_bounds

# Latency bins: 0.1 ms to 20 minutes, each 5 % wider than the one before.
BIN_FACTOR = 1.05
EDGES_S = tuple(0.0001 * BIN_FACTOR**i for i in range(335))
P95 = 0.95

Side = Literal["reference", "candidate"]
Verdict = Literal["holds", "regressed", "undecided"]
Action = Literal["wait", "climb", "promote", "roll_back"]


def latency_bin(latency_s: float) -> int:
    """The number of the bin that a latency falls into."""
    if latency_s <= EDGES_S[0]:
        return 0
    return min(len(EDGES_S), math.ceil(math.log(latency_s / EDGES_S[0]) / math.log(BIN_FACTOR)))


@dataclass(frozen=True)
class SideCounts:
    """One model's answers."""

    served: int = 0
    """To clients."""
    mirrored: int = 0
    """To copies."""
    errors: int = 0
    """Of both: status 400 and above, or no answer. What had no room (429, 503) or was given up (499) is
    no answer at all and counts nowhere; `service/failures.py` says why others count otherwise."""
    latency: Mapping[int, int] = field(default_factory=dict)
    """Of answers to clients, by bin."""
    copied: Mapping[int, int] = field(default_factory=dict)
    """Of the requests that both models got, by bin."""

    @property
    def answers(self) -> int:
        """To clients and copies, failures included."""
        return self.served + self.mirrored


@dataclass(frozen=True)
class Comparison:
    """Everything that was counted of a pair."""

    reference: SideCounts = SideCounts()
    candidate: SideCounts = SideCounts()
    pairs: int = 0
    """Requests that both answered greedily."""
    agreement: float = 0.0
    """Sums over pairs of what counts, and of the three measures of it."""
    exact: float = 0.0
    vqa: float = 0.0
    token: float = 0.0
    sampled: int = 0
    """Copies whose request was not greedy, so that different answers say nothing."""
    dropped: int = 0
    """Requests that were not copied because too many copies were under way."""


@dataclass(frozen=True)
class Criterion:
    """One criterion's state."""

    name: str
    verdict: Verdict
    sentence: str


@dataclass(frozen=True)
class Decision:
    """What to do, and why."""

    action: Action
    reason: str
    criteria: tuple[Criterion, ...]


def decide(canary: Canary, counted: Comparison, now: float) -> Decision:
    """What becomes of a canary.

    It is rolled back as soon as one criterion is shown to be broken. It climbs once it had its
    least time and answers at this step and agreement and errors are shown to hold; at the last step
    the latency must be shown to hold as well. What is not shown yet waits.
    """
    criteria = judge(canary.rules, counted)
    broken = [c for c in criteria if c.verdict == "regressed"]
    if broken:
        return Decision("roll_back", " ".join(c.sentence for c in broken), criteria)
    answers = counted.candidate.answers - canary.step_base
    if answers < canary.rules.min_samples:
        reason = f"{answers} of {canary.rules.min_samples} answers at {canary.percent:g} %."
        return Decision("wait", reason, criteria)
    if now - canary.step_started < canary.rules.hold_s:
        left = canary.rules.hold_s - (now - canary.step_started)
        return Decision("wait", f"{left:.0f} s left at {canary.percent:g} %.", criteria)
    needed = criteria if canary.is_last_step else criteria[:2]
    open_ = [c for c in needed if c.verdict == "undecided"]
    if open_:
        return Decision("wait", "Not shown yet: " + " ".join(c.sentence for c in open_), criteria)
    reason = " ".join(c.sentence for c in criteria)
    return Decision("promote" if canary.is_last_step else "climb", reason, criteria)


def judge(rules: CanaryRules, counted: Comparison) -> tuple[Criterion, Criterion, Criterion]:
    """The criteria's states: agreement, errors, latency."""
    each = rules.alpha / 3
    sides = (counted.reference, counted.candidate)
    errors = [error_bounds(side, each / 2) for side in sides]
    latency = [p95_bounds(side, each / 2) for side in sides]
    return (
        _agreement(mean_bounds(counted.agreement, counted.pairs, each), rules),
        _errors(errors[0], errors[1], rules),
        _latency(latency[0], latency[1], rules),
    )


def error_bounds(side: SideCounts, alpha: float) -> Bounds:
    """The rate of failed answers."""
    return mean_bounds(side.errors, side.answers, alpha)


def p95_bounds(side: SideCounts, alpha: float) -> Bounds:
    """The 95th percentile of the latency, seconds."""
    counts = [side.latency.get(i, 0) for i in range(len(EDGES_S) + 1)]
    return quantile_bounds(counts, EDGES_S, P95, alpha)


def _agreement(found: Bounds, rules: CanaryRules) -> Criterion:
    least = rules.min_agreement
    verdict = _verdict(holds=found.low >= least, regressed=found.high < least)
    if found.n == 0:
        return Criterion("agreement", verdict, "No pair of answers was compared yet.")
    sentence = (
        f"Agreement {found.value:.3f} [{found.low:.3f}, {found.high:.3f}] over {found.n} pairs, "
        f"{_WORDS[verdict]} the least, {least:g}."
    )
    return Criterion("agreement", verdict, sentence)


def _errors(reference: Bounds, candidate: Bounds, rules: CanaryRules) -> Criterion:
    most = rules.max_error_increase
    verdict = _verdict(
        holds=candidate.high - reference.low <= most,
        regressed=candidate.low - reference.high > most,
    )
    if candidate.n == 0 or reference.n == 0:
        return Criterion("errors", verdict, "One of the models has not answered yet.")
    sentence = (
        f"Error rate {candidate.value:.4f} [{candidate.low:.4f}, {candidate.high:.4f}] against "
        f"{reference.value:.4f} [{reference.low:.4f}, {reference.high:.4f}]: "
        f"{_difference(reference, candidate)}, {_WORDS[verdict]} the tolerance of {most:g}."
    )
    return Criterion("errors", verdict, sentence)


def _latency(reference: Bounds, candidate: Bounds, rules: CanaryRules) -> Criterion:
    factor = 1 + rules.max_p95_increase
    verdict = _verdict(
        holds=candidate.high <= factor * reference.low,
        regressed=candidate.low > factor * reference.high,
    )
    if candidate.n == 0 or reference.n == 0:
        return Criterion("latency", verdict, "The latency of one of the models is not known yet.")
    sentence = (
        f"p95 {_ms(candidate)} against {_ms(reference)}: {_difference(reference, candidate)}, "
        f"{_WORDS[verdict]} {factor:g} times the reference's."
    )
    return Criterion("latency", verdict, sentence)


_WORDS: Mapping[Verdict, str] = {
    "holds": "within", "regressed": "outside", "undecided": "not yet shown to be within",
}  # fmt: skip


def _verdict(*, holds: bool, regressed: bool) -> Verdict:
    if regressed:
        return "regressed"
    return "holds" if holds else "undecided"


def _difference(reference: Bounds, candidate: Bounds) -> str:
    if candidate.high < reference.low:
        return "lower"
    if candidate.low > reference.high:
        return "higher"
    return "no measurable difference"


def _ms(bounds: Bounds) -> str:
    high = "unbounded" if math.isinf(bounds.high) else f"{1000 * bounds.high:.0f}"
    return f"{1000 * bounds.value:.0f} ms [{1000 * bounds.low:.0f}, {high}]"
