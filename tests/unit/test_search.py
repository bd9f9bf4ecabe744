from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.errors import BudgetError
from compressor.evaluate.metrics import Interval, mean_difference
from compressor.search import TRIES, bisect


def falling(start: float) -> Interval:
    return Interval(start, start - 0.001, start + 0.001, 100)


@given(st.floats(0.05, 0.95))
def test_bisection_ends_near_the_smallest_share_that_holds(truth: float) -> None:
    """Below `truth` a model loses ten points, above it nothing."""
    share, tried = bisect(lambda s: falling(0.0 if s >= truth else -0.1), 0.005, tries=12)
    assert truth <= share <= truth + 0.5**11
    assert all(t.accepted is (t.share >= truth) for t in tried)


def test_the_bound_is_held_against_the_lower_end_of_the_interval() -> None:
    """A drop of 0.4 points with an interval down to 0.6 does not keep a bound of 0.5."""
    with pytest.raises(BudgetError, match=r"max_accuracy_drop: 0\.005"):
        bisect(lambda _: Interval(-0.004, -0.006, -0.002, 100), 0.005)


def test_shares_that_cannot_be_met_are_passed_by() -> None:
    def measure(share: float) -> Interval:
        if share < 0.4:
            raise BudgetError("too small")
        return falling(0.0)

    share, tried = bisect(measure, 0.01)
    assert 0.4 <= share < 0.45
    assert len(tried) == TRIES
    assert any(t.difference is None for t in tried)


def test_each_dataset_counts_alike_in_the_mean_difference() -> None:
    before = {"large": [1.0] * 400, "small": [1.0] * 4}
    after = {"large": [1.0] * 400, "small": [0.0] * 4}
    assert mean_difference(before, after) == Interval(-0.5, -0.5, -0.5, 404)


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=2, max_size=60))
def test_the_interval_holds_the_mean(gaps: list[float]) -> None:
    found = mean_difference({"a": [0.0] * len(gaps)}, {"a": gaps})
    assert found.low - 1e-9 <= found.value <= found.high + 1e-9
