"""How many runners KEDA starts: deploy/kubernetes/base/runner.yaml beside what RQ keeps in Redis."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import pytest
from rq import Queue
from rq.registry import StartedJobRegistry

from service.jobs.queue import QUEUES
from service.jobs.records import Priority
from tests.integration.test_kubernetes import FILES


def scaled_runner() -> dict[str, Any]:
    (spec,) = [
        o["spec"] for _, o in FILES
        if o["kind"] == "ScaledObject" and o["metadata"]["name"] == "runner"
    ]  # fmt: skip
    return dict(spec)


def lists() -> dict[str, str]:
    """What each trigger counts, by the trigger's name."""
    return {t["name"]: t["metadata"]["listName"] for t in scaled_runner()["triggers"]}


def terms() -> list[str]:
    """What the formula adds up; anything but a sum of names would fail the tests below."""
    formula = scaled_runner()["advanced"]["scalingModifiers"]["formula"]
    return [term.strip() for term in formula.split("+")]


def wanted_runners(lengths: dict[str, int]) -> int:
    """What KEDA and the autoscaler that it makes come to, by the lengths of RQ's keys.

    KEDA: above the activation target there is one at least, else none. The autoscaler: the value
    by its target, rounded up.
    """
    spec, modifiers = scaled_runner(), scaled_runner()["advanced"]["scalingModifiers"]
    assert modifiers["metricType"] == "AverageValue"
    value = sum(lengths.get(lists()[term], 0) for term in terms())
    if value <= float(modifiers["activationTarget"]):
        return int(spec["minReplicaCount"])
    wanted = math.ceil(value / float(modifiers["target"]))
    return min(max(wanted, 1), int(spec["maxReplicaCount"]))


def waiting_key(priority: Priority) -> str:
    return Queue.redis_queue_namespace_prefix + QUEUES[priority]


def running_key(priority: Priority) -> str:
    return StartedJobRegistry.key_template.format(QUEUES[priority])


def test_runners_are_scaled_by_the_queues_that_rq_fills() -> None:
    keys = {key(priority) for key in (waiting_key, running_key) for priority in QUEUES}
    assert set(lists().values()) == keys
    assert len(scaled_runner()["triggers"]) == len(keys), "every name is a trigger's own"


def test_the_formula_adds_up_every_trigger_once() -> None:
    assert all(name.isidentifier() for name in lists()), "others are no variable of a formula"
    assert sorted(terms()) == sorted(lists())


def test_no_triggers_name_begins_anothers() -> None:
    """KEDA up to 2.12 takes such a trigger for a second metric of the other, and numbers it."""
    assert not [pair for pair in permutations(lists(), 2) if pair[0].startswith(pair[1])]


@pytest.mark.parametrize("priority", QUEUES)
@pytest.mark.parametrize(
    ("running", "waiting", "runners"),
    [(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2), (2, 1, 3), (0, 3, 3), (3, 9, 4), (4, 0, 4)],
)
def test_each_job_that_runs_or_waits_has_a_runner_until_there_are_four(
    running: int, waiting: int, runners: int, priority: Priority
) -> None:
    lengths = {running_key("normal"): running, waiting_key(priority): waiting}
    assert wanted_runners(lengths) == runners


def test_jobs_of_all_priorities_count_together() -> None:
    assert wanted_runners(dict.fromkeys(lists().values(), 1)) == 4
    assert wanted_runners({running_key("low"): 1, waiting_key("high"): 1}) == 2
