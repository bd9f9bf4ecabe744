"""Quantiles of a histogram, against what Prometheus's own estimates and a sorted list say."""

from __future__ import annotations

import math
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.quantiles import histogram_quantile

INF = math.inf


@pytest.mark.parametrize(
    ("q", "expected"),
    [(0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (0.75, 1.5), (1.0, 2.0)],
)
def test_it_is_linear_within_a_bucket(q: float, expected: float) -> None:
    assert histogram_quantile(q, [1, 2, INF], [2, 4, 4]) == pytest.approx(expected)


def test_in_the_open_bucket_it_is_the_largest_bound() -> None:
    assert histogram_quantile(0.99, [1, 2, INF], [0, 1, 10]) == 2


def test_nothing_observed_has_no_quantile() -> None:
    assert histogram_quantile(0.5, [1, INF], [0, 0]) is None
    assert histogram_quantile(0.5, [INF], [3]) is None, "no bound is known"


@pytest.mark.parametrize(("edges", "counts"), [([1.0, 2.0], [1, 1]), ([1.0, INF], [1]), ([], [])])
def test_what_is_no_histogram_is_refused(edges: list[float], counts: list[float]) -> None:
    with pytest.raises(ValueError, match="last bound is infinite"):
        histogram_quantile(0.5, edges, counts)


@given(
    counts=st.lists(st.integers(0, 50), min_size=2, max_size=12).filter(lambda c: sum(c) > 0),
    q=st.floats(0, 1),
)
def test_it_lies_in_the_bucket_of_the_observation_of_that_rank(counts: list[int], q: float) -> None:
    edges = [*map(float, range(1, len(counts))), INF]
    found = histogram_quantile(q, edges, list(accumulate(counts)))
    assert found is not None
    rank = max(1, math.ceil(q * sum(counts)))
    bucket = next(i for i, total in enumerate(accumulate(counts)) if total >= rank)
    if bucket == len(counts) - 1:
        assert found == edges[-2]
    elif q * sum(counts) > 0:
        assert bucket <= found <= bucket + 1
