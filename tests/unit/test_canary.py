"""When a canary climbs and falls: by hand-made counts, and by simulated traffic."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.rollout import changes
from service.rollout.records import Alias, CanaryRules
from service.routing.aliases import choose_model
from service.routing.canary import (
    EDGES_S,
    Comparison,
    SideCounts,
    decide,
    judge,
    latency_bin,
)
from tests.support.registry import alias, canary, snapshot

RULES = {"min_samples": 100, "hold_s": 10.0}


def side(n: int, *, errors: int = 0, latency_s: float = 0.1) -> SideCounts:
    return SideCounts(served=n, errors=errors, latency={latency_bin(latency_s): n})


def good(n: int = 2000) -> Comparison:
    return Comparison(reference=side(n), candidate=side(n), pairs=n, agreement=0.98 * n)


@given(st.floats(1e-5, 5000.0))
def test_a_latency_is_in_the_bin_whose_edges_hold_it(latency_s: float) -> None:
    number = latency_bin(latency_s)
    slack = 1 + 1e-9
    if number < len(EDGES_S):
        assert latency_s <= EDGES_S[number] * slack
    if number > 0:
        assert latency_s >= EDGES_S[number - 1] / slack


def test_a_canary_waits_for_samples_and_for_time() -> None:
    few = decide(canary(rules=RULES), replace(good(), candidate=side(99)), now=99.0)
    assert (few.action, few.reason) == ("wait", "99 of 100 answers at 1 %.")
    early = decide(canary(rules=RULES), good(), now=4.0)
    assert (early.action, early.reason) == ("wait", "6 s left at 1 %.")


def test_a_canary_that_holds_climbs_and_at_the_end_is_promoted() -> None:
    climbs = decide(canary(rules=RULES), good(), now=11.0)
    assert climbs.action == "climb"
    top = decide(canary(rules=RULES, step=4, step_base=100), good(), now=11.0)
    assert top.action == "promote"
    assert "no measurable difference" in top.reason


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (replace(good(), agreement=1600.0), "outside the least, 0.9"),
        (replace(good(), candidate=side(2000, errors=200)), "outside the tolerance of 0.02"),
        (replace(good(), candidate=side(2000, latency_s=0.2)), "outside 1.2 times the reference's"),
    ],
)
def test_one_broken_criterion_rolls_back_and_is_the_reason(broken: Comparison, reason: str) -> None:
    decision = decide(canary(rules=RULES), broken, now=0.0)
    assert decision.action == "roll_back"
    assert reason in decision.reason


def test_what_is_not_shown_yet_waits_and_says_so() -> None:
    close = replace(good(), agreement=0.905 * 2000)
    decision = decide(canary(rules=RULES), close, now=99.0)
    assert decision.action == "wait"
    assert decision.reason.startswith("Not shown yet: Agreement 0.905 [")


def test_latency_must_be_shown_at_the_last_step_only() -> None:
    unknown = replace(good(), reference=SideCounts(served=2000))
    assert decide(canary(rules=RULES), unknown, now=99.0).action == "climb"
    assert decide(canary(rules=RULES, step=4), unknown, now=99.0).action == "wait"


def test_nothing_counted_is_three_times_undecided() -> None:
    assert [c.verdict for c in judge(CanaryRules(), Comparison())] == ["undecided"] * 3


@dataclass
class Traffic:
    """Requests to an alias, answered by two models with these properties."""

    agreement: float = 0.97
    errors: float = 0.002
    slower: float = 1.0
    seed: int = 0
    counts: dict[str, Counter[str]] = field(
        default_factory=lambda: {"a": Counter(), "b": Counter()}
    )
    bins: dict[str, Counter[int]] = field(default_factory=lambda: {"a": Counter(), "b": Counter()})
    pairs: int = 0
    agreed: int = 0

    def run(self, found: Alias, rng: random.Random, requests: int) -> None:
        known = snapshot("a", "b", aliases=(found,))
        for _ in range(requests):
            choice = choose_model(known, found.name, session=None, draw=rng.random())
            self.answer(choice.entry.name, rng, "served")
            if choice.shadow is not None:
                self.answer(choice.shadow.name, rng, "mirrored")
                self.pairs += 1
                self.agreed += rng.random() < self.agreement

    def answer(self, model: str, rng: random.Random, kind: str) -> None:
        self.counts[model][kind] += 1
        if rng.random() < (self.errors if model == "b" else 0.002):
            self.counts[model]["errors"] += 1
        elif kind == "served":
            factor = self.slower if model == "b" else 1.0
            self.bins[model][latency_bin(factor * rng.lognormvariate(-2.0, 0.2))] += 1

    @property
    def comparison(self) -> Comparison:
        reference, candidate = (
            SideCounts(c["served"], c["mirrored"], c["errors"], self.bins[m])
            for m, c in self.counts.items()
        )
        return Comparison(reference, candidate, self.pairs, float(self.agreed))


def roll_out(traffic: Traffic, *, looks: int, requests: int) -> Alias:
    """A canary under traffic, looked at after every few requests, until it ends."""
    rng = random.Random(traffic.seed)
    rules = CanaryRules(hold_s=0, min_samples=200, mirror=0.5)
    found = changes.start_canary(alias("prod", a=1), "b", rules, now=0.0)
    for look in range(looks):
        traffic.run(found, rng, requests)
        assert found.canary is not None
        decision = decide(found.canary, traffic.comparison, now=float(look))
        if decision.action == "climb":
            answers = traffic.comparison.candidate.answers
            found = changes.climb(found, answers=answers, now=float(look))
        elif decision.action == "promote":
            return changes.finish_canary(found, decision.reason, now=float(look))
        elif decision.action == "roll_back":
            return changes.end_canary(found, "rolled_back", decision.reason, now=float(look))
    return found


def test_good_candidates_are_promoted_and_not_rolled_back() -> None:
    """Twenty canaries, each looked at up to 60 times; at alpha = 0.05 five failures have p = 0.003."""
    ended = [roll_out(Traffic(seed=i), looks=60, requests=200) for i in range(20)]
    outcomes = Counter(a.last_canary.outcome if a.last_canary else "running" for a in ended)
    assert outcomes["rolled_back"] <= 4
    assert outcomes["promoted"] >= 14


@pytest.mark.parametrize(
    ("traffic", "reason"),
    [
        (Traffic(agreement=0.7, seed=1), "Agreement 0."),
        (Traffic(errors=0.15, seed=2), "Error rate 0."),
        (Traffic(slower=1.8, seed=3), "p95 "),
    ],
)
def test_a_bad_candidate_is_caught_before_it_answers_everything(
    traffic: Traffic, reason: str
) -> None:
    found = roll_out(traffic, looks=60, requests=200)
    assert found.last_canary is not None
    assert found.last_canary.outcome == "rolled_back"
    assert found.last_canary.reason.startswith(reason)
    assert found.last_canary.percent < 100
    assert [t.model for t in found.targets] == ["a"]
