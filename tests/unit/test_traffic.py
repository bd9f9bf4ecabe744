"""What models did between two readings of the metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from service.telemetry import Metrics
from service.traffic import Counts, Reading, counts_of, increase, last_span, total, window, windows
from tests.support.registry import model


class Tokens:
    """Token counts of an answer."""

    prompt_tokens, completion_tokens = 90, 4


def answered(metrics: Metrics, name: str, latency_s: float, times: int = 1) -> None:
    series = metrics.of(model(name))
    for _ in range(times):
        series.count_success(Tokens())
        series.latency.observe(latency_s)
        series.first_token.observe(latency_s / 2)


def reading(at: float, **processes: CollectorRegistry) -> Reading:
    return Reading(at, {name: counts_of(each.collect()) for name, each in processes.items()})


def test_rates_and_quantiles_are_those_of_the_span() -> None:
    metrics = Metrics()
    answered(metrics, "a", 100.0, times=50)
    before = reading(0.0, x=metrics.registry)
    answered(metrics, "a", 0.04, times=20)

    found = window(before, reading(10.0, x=metrics.registry), "a")

    assert (found.answered, found.requests_per_s, found.tokens_per_s) == (20, 2.0, 8.0)
    assert found.p50_s is not None
    assert 0.03 < found.p50_s < 0.05, "what was slow before is not in the span"
    assert found.first_token_p95_s is not None
    assert 0.01 < found.first_token_p95_s <= 0.03
    assert found.tokens_per_request_s is not None
    assert abs(found.tokens_per_request_s - 100.0) < 1e-6


def test_where_nothing_happened_nothing_is_said() -> None:
    metrics = Metrics()
    answered(metrics, "a", 0.1)
    same = reading(0.0, x=metrics.registry)
    found = window(same, reading(5.0, x=metrics.registry), "a")
    assert (found.answered, found.p50_s, found.tokens_per_request_s) == (0, None, None)
    assert window(same, reading(5.0, x=metrics.registry), "none").answered == 0


def test_failures_are_the_models_own() -> None:
    metrics = Metrics()
    series = metrics.of(model("a"))
    for status in (400, 429, 502, 503):
        series.count_rejection(status)
    series.count_departure()
    assert total(reading(0.0, x=metrics.registry), "a").failed == 3, "400 is the client's own"


def test_processes_add_up_and_one_that_began_anew_counts_from_zero() -> None:
    first, second, again = Metrics(), Metrics(), Metrics()
    answered(first, "a", 0.1, times=5)
    answered(second, "a", 0.1, times=7)
    before = reading(0.0, x=first.registry, y=second.registry)
    answered(first, "a", 0.1, times=2)
    answered(again, "a", 0.1, times=3)

    after = reading(1.0, x=first.registry, y=again.registry)

    assert increase(before, after, "a").answered == 2 + 3
    assert increase(before, after, "a").latency[float("inf")] == 5


def test_the_text_of_another_process_reads_as_its_registry() -> None:
    metrics = Metrics()
    answered(metrics, "a", 0.1, times=3)
    text = generate_latest(metrics.registry).decode()
    read = counts_of(text_string_to_metric_families(text))
    assert read["a"] == counts_of(metrics.registry.collect())["a"]


def test_a_span_begins_at_the_last_reading_before_it() -> None:
    readings = [Reading(float(at), {"x": {"a": Counts(answered=at)}}) for at in range(0, 60, 5)]
    assert last_span(readings, 11, 20.0).at == 35.0
    assert last_span(readings, 1, 20.0).at == 0.0, "no longer ago than the first"
    curve = windows(readings, "a", 20.0)
    assert len(curve) == 11
    assert {round(each.requests_per_s or 0, 6) for each in curve} == {1.0}
