"""Confidence sequences: intervals that hold at every moment at once. Pure.

A classical 95 % interval is right 95 % of the times that it is computed once. Looked at after every
request, it will be wrong sooner or later. The intervals here are wrong at any of infinitely many
looks with probability at most alpha.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_LOG_PI = math.log(math.pi)


@dataclass(frozen=True)
class Bounds:
    """A confidence sequence at one moment."""

    value: float
    """The mean, or the quantile, of what was seen; nan where nothing was."""
    low: float
    high: float
    n: int


def log_evidence(total: float, n: int, mean: float) -> float:
    """Log of the evidence of n observations in [0, 1] with this total against `mean`.

    A mixture of likelihood ratios of Bernoulli variables over Beta(1/2, 1/2),

        M_n = B(1/2 + S, 1/2 + n - S) / B(1/2, 1/2) / (mean^S (1 - mean)^(n - S)),

    is a martingale under the mean, so P(exists n: M_n >= 1/alpha) <= alpha (Ville). For
    observations between 0 and 1 it is a supermartingale, as r^x is convex: E r^X <= 1 - mean + mean
    r ("sub-Bernoulli").

    Sources: H. Robbins, "Statistical methods related to the law of the iterated logarithm", Ann. Math.
    Stat. 41 (1970); the beta-binomial conjugate mixture of S. R. Howard, A. Ramdas, J. McAuliffe,
    J. Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences", Ann. Stat. 49 (2021).

    Args:
        total: sum of the observations, S.
        n: how many.
        mean: in [0, 1].
    """
    mixture = math.lgamma(total + 0.5) + math.lgamma(n - total + 0.5) - math.lgamma(n + 1.0)
    return mixture - _LOG_PI - _log_power(mean, total) - _log_power(1.0 - mean, n - total)


def mean_bounds(total: float, n: int, alpha: float) -> Bounds:
    """The means that n observations in [0, 1] leave possible, at every n at once.

    The evidence is convex in the mean with its minimum at S / n, so the means with less than 1 /
    alpha are an interval. Either bound alone also holds where the mean drifts: the lower one while
    every mean, given the past, is at most some value, and the upper one while it is at least some
    value, because the evidence falls in S below n * mean and grows above.

    Args:
        total: sum of the observations.
        n: how many.
        alpha: probability that the true mean is ever outside, both sides together.
    """
    if n == 0:
        return Bounds(math.nan, 0.0, 1.0, 0)
    total = min(max(total, 0.0), float(n))
    centre, limit = total / n, -math.log(alpha)

    def edge(inside: float, outside: float) -> float:
        if log_evidence(total, n, outside) < limit:
            return outside
        while (middle := (inside + outside) / 2) not in (inside, outside):
            if log_evidence(total, n, middle) < limit:
                inside = middle
            else:
                outside = middle
        return outside

    return Bounds(centre, edge(centre, 0.0), edge(centre, 1.0), n)


def quantile_bounds(
    counts: Sequence[int], edges: Sequence[float], quantile: float, alpha: float
) -> Bounds:
    """A quantile's confidence sequence from a histogram.

    Whether an observation is at most the quantile q is a Bernoulli variable of mean `quantile`. An
    edge e with so few observations at or below it that their mean is shown to be under `quantile`
    is below q: at q itself there would be at least as many, so the error is that of the one test at
    q, at all edges and times together.

    Source: S. R. Howard, A. Ramdas, "Sequential estimation of quantiles with applications to A/B
    testing and best-arm identification", Bernoulli 28 (2022), section 3, with the beta-binomial
    mixture.

    Args:
        counts: observations in each bin; one more than edges, the last bin is open.
        edges: upper edges of the bins, ascending.
        quantile: such as 0.95.
        alpha: probability that the true quantile is ever outside, both sides together.

    Returns:
        Bounds on edges; 0 and infinity where nothing is shown. The value is the upper edge of the
        bin that holds the empirical quantile.
    """
    n, limit = sum(counts), -math.log(alpha)
    low, high, value = 0.0, math.inf, math.nan
    if n == 0:
        return Bounds(value, low, high, 0)
    below = 0
    for count, edge in zip(counts, (*edges, math.inf), strict=True):
        below += count
        if math.isnan(value) and below >= quantile * n:
            value = edge
        if log_evidence(below, n, quantile) < limit:
            continue
        if below < quantile * n:
            low = edge
        else:
            high = edge
            break
    return Bounds(value, low, high, n)


def _log_power(base: float, exponent: float) -> float:
    """exponent * log(base), with 0^0 = 1."""
    if exponent == 0:
        return 0.0
    return exponent * math.log(base) if base > 0 else -math.inf
