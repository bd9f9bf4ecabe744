"""Metrics of aliases, shadows and canaries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from service.gateway.comparison_metrics import ComparisonMetrics, pairs_of, shares
from service.registry import Snapshot
from service.rollout.records import CanaryRules, Shadow
from service.routing.agreement import compare
from service.routing.canary import Comparison
from tests.support.measured import comparison, world
from tests.support.registry import alias, canary

PAIR = {"alias": "prod", "candidate": "b"}


def registry_of(snapshot: Snapshot, counted: Comparison | None = None) -> CollectorRegistry:
    registry = CollectorRegistry()
    metrics = ComparisonMetrics(registry, lambda: snapshot)
    metrics.show_comparisons({} if counted is None else {"pair": counted})
    return registry


def test_a_pair_counts_in_every_measure_of_agreement() -> None:
    registry = CollectorRegistry()
    metrics = ComparisonMetrics(registry, world)
    metrics.count_pair("prod", "b", compare("Yes.", "yes"))
    metrics.count_pair("prod", "b", compare("red", "blue"))

    def total(measure: str) -> float | None:
        name = "infoprune_compared_similarity_total"
        return registry.get_sample_value(name, {**PAIR, "measure": measure})

    assert registry.get_sample_value("infoprune_compared_pairs_total", PAIR) == 2
    assert registry.get_sample_value("infoprune_compared_agreement_total", PAIR) == 1
    assert (total("exact"), total("vqa"), total("token")) == (0, 1, 1)


def test_the_state_of_a_canary_is_one_of_four() -> None:
    registry = registry_of(world())

    def state(alias_name: str) -> dict[str, float | None]:
        labels = {"alias": alias_name, "candidate": "b"}
        return {
            name: registry.get_sample_value("infoprune_canary_state", {**labels, "state": name})
            for name in ("running", "promoted", "rolled_back", "stopped")
        }

    assert state("prod") == {"running": 1, "promoted": 0, "rolled_back": 0, "stopped": 0}
    assert state("old") == {"running": 0, "promoted": 0, "rolled_back": 1, "stopped": 0}


def test_a_canary_says_where_it_is() -> None:
    registry = registry_of(world())
    assert registry.get_sample_value("infoprune_canary_step", PAIR) == 2
    assert registry.get_sample_value("infoprune_canary_steps", PAIR) == 5
    assert registry.get_sample_value("infoprune_canary_share_ratio", PAIR) == 0.05
    started = registry.get_sample_value("infoprune_canary_step_started_timestamp_seconds", PAIR)
    assert started == 50


def test_the_agreement_comes_with_its_confidence_sequence() -> None:
    registry = registry_of(world(), comparison())
    low, value, high = (
        registry.get_sample_value("infoprune_compared_agreement_ratio", {**PAIR, "bound": bound})
        for bound in ("low", "value", "high")
    )
    assert value == pytest.approx(58 / 60)
    assert low is not None
    assert high is not None
    assert 0 <= low < 58 / 60 < high <= 1
    verdicts = [
        registry.get_sample_value(
            "infoprune_canary_criterion", {**PAIR, "criterion": "agreement", "verdict": verdict}
        )
        for verdict in ("holds", "regressed", "undecided")
    ]
    assert sorted(verdicts, key=lambda v: v or 0) == [0, 0, 1]


def test_what_nobody_counted_is_absent_and_not_zero() -> None:
    for counted in (None, Comparison()):
        registry = registry_of(world(), counted)
        labels = {**PAIR, "bound": "value"}
        assert registry.get_sample_value("infoprune_compared_agreement_ratio", labels) is None


def test_a_canary_hides_a_shadow_as_it_does_for_requests() -> None:
    rules, shadow = CanaryRules(min_agreement=0.8), Shadow(candidate="c", id="s")
    shadowed = alias("x", a=1).model_copy(update={"shadow": shadow})
    both = shadowed.model_copy(update={"canary": canary(id="k", rules=rules.model_dump())})
    assert pairs_of(Snapshot(aliases={"x": shadowed})) == {"s": (shadowed, "c", CanaryRules())}
    assert pairs_of(Snapshot(aliases={"x": both})) == {"k": (both, "b", rules)}


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=5), st.integers(-1, 4))
def test_shares_add_up_to_one(weights: list[float], step: int) -> None:
    found = alias("x", **{f"m{i}": weight for i, weight in enumerate(weights)})
    if step >= 0:
        found = found.model_copy(update={"canary": canary(step=step)})
    assert sum(shares(found).values()) == pytest.approx(1)


def test_a_canarys_share_is_taken_from_the_targets() -> None:
    found = alias("x", a=1).model_copy(update={"canary": canary(step=2)})
    assert shares(found) == {"a": 0.75, "b": 0.25}
