"""Rates and percentiles from two scrapes, against what was really counted."""

from __future__ import annotations

import bisect
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from service.top.scrape import Between, histogram_quantile, read

EDGES = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
LATENCIES = st.lists(st.floats(0.0001, 4.9), min_size=1, max_size=100)
SHARES = st.floats(0.01, 1.0)


class Process:
    """A gateway's process, with one counter and one histogram."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.asked = Counter("asked", "x", ("model",), registry=self.registry)
        self.took = Histogram("took", "x", ("model",), buckets=EDGES, registry=self.registry)

    def text(self) -> str:
        return generate_latest(self.registry).decode()


@given(before=LATENCIES, meanwhile=LATENCIES, q=SHARES)
def test_a_percentile_lies_in_the_bucket_of_the_true_one_and_ignores_what_was_before(
    before: list[float], meanwhile: list[float], q: float
) -> None:
    process = Process()
    for value in before:
        process.took.labels("a").observe(value)
    first = read(process.text(), 0.0)
    for value in meanwhile:
        process.took.labels("a").observe(value)
    found = Between(first, read(process.text(), 10.0)).quantile(q, "took", model="a")

    # The smallest value that at least the share q is not above.
    true = sorted(meanwhile)[math.ceil(q * len(meanwhile) - 1e-9) - 1]
    upper = bisect.bisect_left(EDGES, true)
    assert found is not None
    low = EDGES[upper - 1] if upper else 0.0
    assert low - 1e-9 <= found <= EDGES[upper] + 1e-9


@given(q=SHARES)
def test_a_uniform_distribution_gives_its_own_percentile(q: float) -> None:
    buckets = [(edge, 1000.0 * edge) for edge in (0.1, 0.25, 0.5, 1.0)] + [(math.inf, 1000.0)]
    assert histogram_quantile(q, buckets) == pytest.approx(q)


@given(LATENCIES, SHARES, SHARES)
def test_a_higher_share_has_no_smaller_percentile(
    values: list[float], one: float, other: float
) -> None:
    counts = [(edge, float(sum(v <= edge for v in values))) for edge in (*EDGES, math.inf)]
    low, high = (histogram_quantile(q, counts) for q in sorted((one, other)))
    assert low is not None
    assert high is not None
    assert low <= high + 1e-9


def test_what_lies_above_all_buckets_is_the_highest_bound_and_nothing_is_none() -> None:
    assert histogram_quantile(0.5, [(1.0, 0.0), (math.inf, 10.0)]) == 1.0
    assert histogram_quantile(0.5, [(1.0, 0.0), (math.inf, 0.0)]) is None
    assert histogram_quantile(0.5, []) is None
    assert histogram_quantile(0.5, [(math.inf, 3.0)]) is None


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=4))
def test_the_increase_is_the_sum_over_processes(counts: list[tuple[int, int]]) -> None:
    def text(part: int) -> str:
        lines = [
            f'asked_total{{model="a",replica="{number}"}} {sum(count[: part + 1])}'
            for number, count in enumerate(counts)
        ]
        return "# TYPE asked counter\n" + "\n".join(lines) + "\n"

    between = Between(read(text(0), 0.0), read(text(1), 5.0))
    expected = sum(later for _, later in counts)
    assert between.increase("asked_total", model="a") == expected
    assert between.rate("asked_total", model="a") == pytest.approx(expected / 5)
    assert between.rate("asked_total", model="b") == 0


def test_a_counter_that_began_anew_counts_from_zero_and_so_does_a_new_one() -> None:
    first = read('asked_total{model="a"} 100\n', 0.0)
    last = read('asked_total{model="a"} 7\nasked_total{model="b"} 3\n', 10.0)
    between = Between(first, last)
    assert between.increase("asked_total", model="a") == 7
    assert between.increase("asked_total", model="b") == 3


def test_without_time_there_is_no_rate() -> None:
    scrape = read("asked_total 1\n", 5.0)
    assert Between(scrape, scrape).rate("asked_total") is None


def test_series_are_chosen_by_their_labels() -> None:
    scrape = read('x{a="1",b="2"} 3\nx{a="1",b="3"} 4\nx{a="2",b="2"} 5\n', 0.0)
    assert scrape.total("x", a="1") == 7
    assert scrape.total("x", a="1", b="3") == 4
    assert scrape.total("y") == 0


def test_what_is_no_exposition_is_refused() -> None:
    with pytest.raises(ValueError, match=r".+"):
        read("<html>It works!</html>", 0.0)
