"""Confidence sequences: never wrong more often than they say, however often one looks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.routing.sequential import log_evidence, mean_bounds, quantile_bounds

ALPHA = 0.05
RUNS, LOOKS = 2000, 2000
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# log Gamma(k + 1/2) and log Gamma(k + 1), so that millions of looks take a second.
_HALVES = np.array([math.lgamma(k + 0.5) for k in range(LOOKS + 1)])
_WHOLES = np.array([math.lgamma(k + 1.0) for k in range(LOOKS + 1)])


def evidence_at_every_look(hits: NDArray[np.bool_], mean: float) -> Floats:
    """(RUNS, LOOKS) `log_evidence` after each observation of each run."""
    total: Integers = np.cumsum(hits, axis=1)
    n = np.arange(1, hits.shape[1] + 1)
    mixture = _HALVES[total] + _HALVES[n - total] - _WHOLES[n] - math.log(math.pi)
    found: Floats = mixture - total * math.log(mean) - (n - total) * math.log(1 - mean)
    return found


def test_the_fast_form_is_the_function() -> None:
    hits = np.random.default_rng(0).random((1, 50)) < 0.3
    fast = evidence_at_every_look(hits, 0.4)[0]
    slow = [log_evidence(float(hits[0, : i + 1].sum()), i + 1, 0.4) for i in range(50)]
    assert fast == pytest.approx(slow)


@pytest.mark.parametrize("mean", [0.02, 0.5, 0.9, 0.95])
def test_looking_after_every_observation_is_wrong_no_more_often_than_alpha(mean: float) -> None:
    hits = np.random.default_rng(1).random((RUNS, LOOKS)) < mean
    evidence = evidence_at_every_look(hits, mean)
    wrong = (evidence >= -math.log(ALPHA)).any(axis=1).mean()
    # The error of the simulation itself: three standard deviations.
    assert wrong <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / RUNS)


def test_a_classical_interval_is_wrong_many_times_more_often() -> None:
    """Why all this: the same looks with a 95 % normal interval."""
    mean = 0.9
    hits = np.random.default_rng(2).random((RUNS, LOOKS)) < mean
    n = np.arange(1, LOOKS + 1)
    seen = np.cumsum(hits, axis=1) / n
    outside = np.abs(seen - mean) > 1.96 * np.sqrt(mean * (1 - mean) / n)
    assert outside[:, 100:].any(axis=1).mean() > 5 * ALPHA


@pytest.mark.parametrize(("mean", "true", "within"), [(0.9, 0.8, 500), (0.95, 0.85, 400)])
def test_a_real_difference_is_found_soon(mean: float, true: float, within: int) -> None:
    hits = np.random.default_rng(3).random((500, within)) < true
    found = (evidence_at_every_look(hits, mean) >= -math.log(ALPHA)).any(axis=1).mean()
    assert found > 0.9


def test_a_mean_that_drifts_on_the_good_side_raises_no_alarm() -> None:
    """ "At least 0.9" where agreement wanders between 0.9 and 1: only its fall may be declared."""
    rng = np.random.default_rng(4)
    means = 0.9 + 0.1 * np.abs(np.sin(np.arange(LOOKS) / 100))
    hits = rng.random((RUNS, LOOKS)) < means
    below = np.cumsum(hits, axis=1) < 0.9 * np.arange(1, LOOKS + 1)
    alarms = (evidence_at_every_look(hits, 0.9) >= -math.log(ALPHA)) & below
    assert alarms.any(axis=1).mean() <= ALPHA


@given(st.integers(1, 5000), st.floats(0, 1), st.floats(0.001, 0.2))
def test_bounds_hold_the_mean_and_are_where_the_evidence_is_one_in_alpha(
    n: int, share: float, alpha: float
) -> None:
    total = share * n
    found = mean_bounds(total, n, alpha)
    assert 0 <= found.low <= found.value <= found.high <= 1
    for edge in (found.low, found.high):
        if 0 < edge < 1:
            assert log_evidence(total, n, edge) == pytest.approx(-math.log(alpha), abs=1e-3)


@given(st.integers(1, 300), st.floats(0.01, 0.99))
def test_more_data_of_the_same_kind_narrow_the_bounds(n: int, share: float) -> None:
    few, many = mean_bounds(share * n, n, 0.05), mean_bounds(share * n * 4, n * 4, 0.05)
    assert many.high - many.low < few.high - few.low


def test_nothing_seen_excludes_nothing() -> None:
    found = mean_bounds(0, 0, 0.05)
    assert (found.low, found.high, found.n) == (0.0, 1.0, 0)
    quantile = quantile_bounds([0, 0], [1.0], 0.95, 0.05)
    assert (quantile.low, quantile.high) == (0.0, math.inf)


EDGES = [0.05 * 1.1**i for i in range(60)]


def test_a_quantile_is_ever_outside_its_bounds_no_more_often_than_alpha() -> None:
    """Latencies like log-normal ones, 100 looks at each of 300 runs."""
    rng, runs = np.random.default_rng(5), 300
    true = math.exp(0.4 * 1.6448536)
    wrong = 0
    for _ in range(runs):
        bins = np.searchsorted(EDGES, rng.lognormal(0.0, 0.4, 2000))
        counts = np.zeros(len(EDGES) + 1, dtype=int)
        for start in range(0, 2000, 100):
            counts += np.bincount(bins[start : start + 100], minlength=len(counts))
            found = quantile_bounds(counts.tolist(), EDGES, 0.95, ALPHA)
            if not found.low <= true <= found.high:
                wrong += 1
                break
    assert wrong / runs <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / runs)


def test_a_quantiles_bounds_close_in_on_it() -> None:
    rng = np.random.default_rng(6)
    counts = np.bincount(
        np.searchsorted(EDGES, rng.lognormal(0.0, 0.4, 20_000)), minlength=len(EDGES) + 1
    )
    found = quantile_bounds(counts.tolist(), EDGES, 0.95, ALPHA)
    true = math.exp(0.4 * 1.6448536)
    assert true / 1.25 < found.low <= true <= found.high < true * 1.25
